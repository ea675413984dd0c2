"""The measurements on a GPU: their stages and checks, without a GPU and on a pretended one."""

import gzip
import importlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from pyro_gmmvae.cli import cli
from pyro_gmmvae.data.digits import IMAGES, LABELS
from pyro_gmmvae.guides import GUIDES
from pyro_gmmvae.models import MODELS

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
SCRIPTS = ("gpu_smoke", "gpu_speed", "gpu_runs")
STAGES = ("first", "speed", "tables", "published", "scaling")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Imports a script of benchmarks/."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


@pytest.fixture
def gpu(script: Callable[[str], Any]) -> Any:
    return script("gpu")


def idx(magic: int, values: np.ndarray[Any, Any]) -> bytes:
    """A gzipped IDX file."""
    numbers = (magic, *values.shape)
    head = b"".join(number.to_bytes(4, "big") for number in numbers)
    return gzip.compress(head + values.astype(np.uint8).tobytes())


@pytest.fixture(scope="session")
def small_mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files as MNIST's, with 360 digits of scikit-learn in images of 28 x 28."""
    folder = tmp_path_factory.mktemp("mnist")
    x, y = load_digits(return_X_y=True)
    images = np.kron(15 * x.reshape(-1, 8, 8), np.ones((3, 3)))
    images = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    for name, rows in (("train", slice(0, 300)), ("t10k", slice(300, 360))):
        for kind, magic, values in (("images-idx3", IMAGES, images), ("labels-idx1", LABELS, y)):
            (folder / f"{name}-{kind}-ubyte.gz").write_bytes(idx(magic, values[rows]))
    return folder


# ---------------------------------------------------------------------------------- stages


def test_the_options_of_every_task_exist(gpu: Any, script: Callable[[str], Any]) -> None:
    """At full size and at toy size: all words are read by the command that gets them."""
    assert set(gpu.STAGES) == set(STAGES)
    tasks = {task for tasks in gpu.STAGES.values() for task in tasks}
    assert len({task.name for task in tasks}) == len(tasks)
    read = set()
    for task in tasks:
        for quick in (False, True):
            text = task.filled(Path("work"), "cpu", quick)
            assert "{" not in text.replace("${", "")
            for command in text.split("&&"):
                python, *words = shlex.split(command.split(";")[0])
                if python != sys.executable:
                    continue
                if words[:2] == ["-m", "pytest"]:
                    assert all((ROOT / w).is_dir() for w in words if w.startswith("tests/"))
                    continue
                command, *words = words[1:] if words[0] == "-m" else words
                program = cli if command == "pyro_gmmvae" else script(Path(command).stem).main
                if isinstance(program, click.Group):
                    program = program.commands[words.pop(0)]
                program.make_context(task.name, words)
                read.add(Path(command).stem)
    assert read == {"accuracy", *SCRIPTS, "side_by_side", "speed", "pyro_gmmvae"}


def test_every_check_and_time_is_in_a_stage(gpu: Any, script: Callable[[str], Any]) -> None:
    names = {task.name for tasks in gpu.STAGES.values() for task in tasks}
    assert {mode for name in SCRIPTS for mode in script(name).MODES} <= names


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_every_task_of_a_stage_runs_at_toy_size(
    stage: str, small_mnist: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "benchmarks/gpu.py", stage, "--quick", "--device", "cpu"]
    command += ["--out", str(tmp_path / "out"), "--side-by-side", "2", "--seconds", "1200"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYRO_GMMVAE_DATA": str(small_mnist)}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_dry_stage_prints_its_commands(
    gpu: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu.main(["first", "--dry", "--out", str(tmp_path / "out")])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(gpu.STAGES["first"])
    assert all(" s " in line and "--quick" not in line for line in lines)
    assert not (tmp_path / "out").exists()
    gpu.main(["captured", "--dry", "--quick", "--device", "cpu", "--out", str(tmp_path / "out")])
    assert "captured --device cpu" in (line := capsys.readouterr().out)
    assert line.rstrip().endswith("--quick")
    with pytest.raises(SystemExit):
        gpu.main(["frist", "--out", str(tmp_path)])


def test_a_stage_keeps_the_results_of_all_its_tasks(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a task that fails, and of a task that is stopped because it takes too long."""
    monkeypatch.setattr(gpu, "KILL_AFTER", 1)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    tasks = [
        gpu.Task("good", "echo 1 > {work}/good.json; touch {work}/weights.pt; echo done", 30),
        gpu.Task("bad", "echo wrong; exit 3", 30),
        gpu.Task("alone", "{python} -c 'print(2)'", 30, alone=True),
        gpu.Task("long", "echo began; sleep 60", 1),
    ]
    out = tmp_path / "out"
    out.mkdir()
    assert sorted(gpu.run(tasks, out, 60, 5)) == ["bad", "long"]
    summary = (out / "summary.txt").read_text()
    for line in ("good: exit 0", "bad: exit 3", "alone: exit 0", "long: stopped", "wrong"):
        assert line in summary
    with tarfile.open(out / "results.tar.gz") as archive:
        names = set(archive.getnames())
    assert names == {"good.json", "good.log", "bad.log", "alone.log", "long.log"}


A_LONG_STAGE = """
import pathlib, sys, gpu
gpu.PACK_EVERY = 0.3
tasks = [gpu.Task("short", "echo 1 > {work}/short.json", 30, alone=True),
         gpu.Task("long", "echo 2 > {work}/half.json; sleep 30; echo 3 > {work}/end.json", 60)]
gpu.run(tasks, pathlib.Path(sys.argv[1]), 60, 5)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_a_stage_that_is_cut_off_leaves_whole_results(tmp_path: Path, how: signal.Signals) -> None:
    """Also those that a task had written before it was cut off."""
    out = tmp_path / "out"
    out.mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT / "benchmarks")}
    command = [sys.executable, "-c", A_LONG_STAGE, str(out)]
    stage = subprocess.Popen(command, env=environment)

    def packed() -> set[str]:
        if not (out / "results.tar.gz").exists():
            return set()
        with tarfile.open(out / "results.tar.gz") as archive:
            for member in archive:
                assert not member.isfile() or len(archive.extractfile(member).read()) == member.size
            return set(archive.getnames())

    deadline = time.monotonic() + 60
    while "half.json" not in packed():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(stage.pid, how)
    stage.wait(timeout=20)
    assert packed() == {"short.json", "short.log", "half.json", "long.log"}
    lines = (out / "summary.txt").read_text()
    assert lines.endswith("\n")
    assert "short: exit 0" in lines
    assert ("long: cut off" in lines) == (how == signal.SIGTERM)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--data-dir", "."], "no MNIST in '.'; use --data-dir DIR, a folder of its four files"),
        (["--data", "x"], "unknown option --data; use --data-dir DIR"),
        (["--data-dir"], "--data-dir needs a folder"),
    ],
)
def test_wrong_words_of_pack_are_refused_in_a_line(words: list[str], text: str) -> None:
    command = [str(ROOT / "scripts" / "gpu"), "pack", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1
    assert done.stderr.rstrip().endswith(text)


def stage_with(out: Path, device: str, **entries: Any) -> None:
    """The results of a stage with one file of measurements."""
    out.mkdir()
    file = out / "steps.json"
    file.write_text(json.dumps({"machine": {"device": device}, **entries}))
    with tarfile.open(out / "results.tar.gz", "w:gz") as archive:
        archive.add(file, "steps.json")
        archive.add(file, "best/config.json")  # a run's own file stays behind


def test_results_are_kept_by_the_name_of_the_device(gpu: Any, tmp_path: Path) -> None:
    stage_with(tmp_path / "out", "NVIDIA H200", found={"a": {"ms": 1.0}})
    (kept,) = gpu.keep(tmp_path / "out", tmp_path / "results")
    assert kept == tmp_path / "results" / "nvidia-h200" / "steps.json"
    assert json.loads(kept.read_text())["found"] == {"a": {"ms": 1.0}}


def test_results_of_a_trial_are_not_kept(gpu: Any, tmp_path: Path) -> None:
    stage_with(tmp_path / "out", "NVIDIA H200", quick=True)
    stage_with(tmp_path / "cpu", "cpu")
    for folder in ("out", "cpu"):
        with pytest.raises(SystemExit, match="trial"):
            gpu.keep(tmp_path / folder, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_the_pages_show_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs" / "_ext")
    pages = importlib.import_module("made_from_results")
    monkeypatch.setattr(pages, "RESULTS", tmp_path)
    assert "no CUDA device" in pages.gpu()
    folder = tmp_path / "gpu" / "some-gpu"
    folder.mkdir(parents=True)
    machine = {"device": "Some GPU", "packages": {"torch": "2.11.0"}}
    times = {"a": {"ms": 0.51234, "longest": {}}, "b": {"error": "no", "where": []}}
    for mode, script, found, bad in (
        ("steps", "gpu_speed", times, ["b"]),
        ("svi", "gpu_smoke", {"c": {}, "d": {"error": "no"}}, ["d"]),
    ):
        content = {"mode": mode, "script": script, "machine": machine}
        content |= {"found": found, "complaints": bad}
        (folder / f"{mode}.json").write_text(json.dumps(content))
    (folder / "speed-quick.json").write_text(json.dumps({"ms": {}, "machine": machine}))
    lines = pages.gpu().splitlines()
    assert "|  | ms |" in lines
    assert "| a | 0.5123 |" in lines
    assert "| b (failed) |  |" in lines
    assert "**Some GPU, torch 2.11.0: svi**: 1 of 2 checks passed; not: d." in lines


# ---------------------------------------------------------------------------------- tasks


def found_by(script: Any, mode: str, file: Path | None = None) -> dict[str, Any]:
    """The results of a mode of a script, at toy size on the CPU."""
    gpu_fits = importlib.import_module("gpu_fits")
    bench = gpu_fits.Bench(CPU, quick=True, file=file)
    script.MODES[mode](bench)
    assert bench.complaints() == []
    return bench.found


def test_the_checks_cover_every_model_and_guide(script: Callable[[str], Any]) -> None:
    smoke = script("gpu_smoke")
    cases = smoke.cases()
    assert {case.get("model", "gmmvae") for case in cases.values()} == set(MODELS)
    assert {case["guide"] for case in cases.values() if "guide" in case} == set(GUIDES)
    assert {*smoke.COMPILED, *smoke.TOY} <= set(cases)


def test_fits_run_without_a_gpu(script: Callable[[str], Any]) -> None:
    found = found_by(script("gpu_smoke"), "svi")
    for case in found.values():
        assert (case["outcome"], case["engine"]) == ("complete", "svi")


@pytest.mark.slow
def test_a_run_is_stopped_and_resumed(script: Callable[[str], Any]) -> None:
    found = found_by(script("gpu_smoke"), "moved")
    assert found["svi, cpu to cpu"]["epochs"] == 4


def test_losses_are_compared_with_the_cpu(
    script: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    smoke = script("gpu_smoke")
    bench = script("gpu_fits").Bench(CPU)
    case = smoke.cases()["gmmvae/analytic"]
    assert smoke._difference(bench, case, "f64")["difference"] == 0
    real = smoke._loss_and_gradients
    numbers = iter([1.0, 1 + 1e-6])
    monkeypatch.setattr(
        smoke,
        "_loss_and_gradients",
        lambda device, case: {"loss": real(device, case)["loss"] * next(numbers)},
    )
    found = smoke._difference(bench, case, "f64")
    assert found["difference"] == pytest.approx(1e-6, rel=1e-3)
    assert found["error"]


def test_equal_noise_has_the_draws_of_the_cpu(script: Callable[[str], Any]) -> None:
    def draws() -> list[torch.Tensor]:
        torch.manual_seed(0)
        x = torch.zeros(3)
        return [torch.rand(2), torch.randn_like(x), x.clone().exponential_(), torch.randperm(4)]

    expected = draws()
    with script("gpu_smoke").HostNoise():
        found = draws()
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


@pytest.mark.slow
def test_a_device_out_of_memory_leaves_a_run_to_resume(script: Callable[[str], Any]) -> None:
    found = found_by(script("gpu_smoke"), "out-of-memory")["in the middle of a run"]
    assert found["text"].startswith("out of memory on cpu")
    assert found["outcome"] == "complete"


@pytest.mark.parametrize("mode", ["ceilings", pytest.param("memory", marks=pytest.mark.slow)])
def test_times_are_measured_without_a_gpu(
    script: Callable[[str], Any], mode: str, tmp_path: Path
) -> None:
    found = found_by(script("gpu_speed"), mode, tmp_path / "found.json")
    assert found == json.loads((tmp_path / "found.json").read_text())["found"]
    words = {"ceilings": "small kernels, in a graph", "memory": "each component"}
    assert words[mode] in found


def test_a_step_is_compared_with_stock_pyro_and_its_ceiling(script: Callable[[str], Any]) -> None:
    speed, bench = script("gpu_speed"), script("gpu_fits").Bench(CPU, quick=True)
    speed.compare(bench, {"m2": speed.mnist_like(bench, model="m2")})
    assert bench.complaints() == []
    assert list(bench.found) == ["m2: ceiling", "m2: stock", "m2: fused Adam", "m2: captured"]
    ms = {name: found["ms"] for name, found in bench.found.items()}
    captured = bench.found["m2: captured"]
    assert captured["times stock"] == pytest.approx(ms["m2: stock"] / ms["m2: captured"], 0.01)
    assert captured["times ceiling"] == pytest.approx(ms["m2: ceiling"] / ms["m2: captured"], 0.01)


@pytest.mark.slow
def test_the_time_to_an_accuracy_and_rows_a_second(
    script: Callable[[str], Any], small_mnist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYRO_GMMVAE_DATA", str(small_mnist))
    (reached,) = found_by(script("gpu_runs"), "target").values()
    assert 0 < reached["s to .985 of validation"] < reached["s with reading and capture"]
    assert found_by(script("gpu_runs"), "answers")["evaluate, cpu"]["rows/s"] > 0


def test_the_goal_is_the_first_epoch_that_is_as_accurate(script: Callable[[str], Any]) -> None:
    reached = script("gpu_runs").Reached(0.9)
    for seconds, accuracy in enumerate((0.5, 0.89, 0.9, 0.95)):
        reached.on_epoch({"seconds": float(seconds), "val_accuracy": accuracy})
    assert reached.seconds == 2


def test_an_error_is_a_result_and_the_exit_code(
    script: Callable[[str], Any], tmp_path: Path
) -> None:
    """Of later results too: each one is in the file at once."""
    fits = script("gpu_fits")

    def wrong(bench: Any) -> None:
        bench.measure("first", lambda: 1 / 0)
        content = json.loads((tmp_path / "found.json").read_text())
        assert content["found"]["first"]["error"].startswith("ZeroDivisionError")
        bench.measure("second", lambda: {"ms": 1.0})

    main = fits.bench_command({"wrong": wrong}, "")
    words = ["wrong", "--device", "cpu", "--out", str(tmp_path / "found.json")]
    assert main.main(words, standalone_mode=False) == 1
    content = json.loads((tmp_path / "found.json").read_text())
    assert (content["mode"], content["complaints"]) == ("wrong", ["first"])
    assert content["found"]["second"] == {"ms": 1.0}
    assert content["machine"]["device"] == "cpu"


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="scripts/test --pretend-cuda runs it")
def test_steps_are_recorded_and_resumed(
    script: Callable[[str], Any], device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    smoke, bench = script("gpu_smoke"), script("gpu_fits").Bench(device, quick=True)
    monkeypatch.setattr(smoke, "TOY", ("gmmvae/trace", "pseudo-labels, affine"))
    smoke.smoke(bench, "captured")
    assert all(case["graphs"] == 2 for case in bench.found.values())
    smoke.resume(bench)
    smoke.agree(bench)
    assert bench.complaints() == [], bench.found
