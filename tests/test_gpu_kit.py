"""The measurements on a GPU: their stages and checks, without a GPU and on a pretended one."""

import importlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch

from pyro_gmmvae.guides import GUIDES
from pyro_gmmvae.models import MODELS

ROOT = Path(__file__).parents[1]
PRETEND = Path(__file__).with_name("pretend_gpu")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("gpu")


@pytest.fixture
def gpu_smoke(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    smoke = importlib.import_module("gpu_smoke")
    monkeypatch.setattr(smoke, "DEVICE", torch.device("cpu"))
    return smoke


def test_every_task_calls_a_command_that_exists(gpu: Any, gpu_smoke: Any) -> None:
    tasks = [task for tasks in gpu.STAGES.values() for task in tasks]
    assert len({task.name for task in tasks}) == len(tasks)
    called = set()
    for task in tasks:
        for command in task.command.split("&&"):
            python, *words = shlex.split(command.split(";")[0])
            if python != "{python}" or words[0] == "-m":
                continue
            assert (ROOT / words[0]).is_file()
            called.add(Path(words[0]).stem)
            if words[0].endswith("gpu_smoke.py"):
                assert words[1] in gpu_smoke.MODES
                continue
            script = importlib.import_module(Path(words[0]).stem)
            options = {name for option in script.main.params for name in option.opts}
            options |= {name for o in script.main.params for name in o.secondary_opts}
            assert {word for word in words if word.startswith("--")} <= options
        for folder in (word for word in task.command.split() if word.startswith("tests/")):
            assert (ROOT / folder).is_dir()
    assert called == {"accuracy", "gpu_smoke", "speed"}


def test_a_dry_stage_prints_its_commands(
    gpu: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu.main(["first", "--dry", "--out", str(tmp_path / "out")])
    assert len(capsys.readouterr().out.splitlines()) == len(gpu.STAGES["first"])
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit):
        gpu.main(["frist", "--out", str(tmp_path)])


def test_a_stage_keeps_the_results_of_all_its_tasks(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a task that fails, and of a task that is stopped because it takes too long."""
    monkeypatch.setattr(gpu, "KILL_AFTER", 1)
    tasks = [
        gpu.Task("good", "echo 1 > {work}/good.json; touch {work}/weights.pt; echo done", 30),
        gpu.Task("bad", "echo wrong; exit 3", 30),
        gpu.Task("alone", "{python} -c 'print(2)'", 30, alone=True),
        gpu.Task("long", "echo began; sleep 60", 1),
    ]
    out = tmp_path / "out"
    out.mkdir()
    gpu.run(tasks, out, 60, 5)
    summary = (out / "summary.txt").read_text()
    for line in ("good: exit 0", "bad: exit 3", "alone: exit 0", "long: stopped", "wrong"):
        assert line in summary
    with tarfile.open(out / "results.tar.gz") as archive:
        names = set(archive.getnames())
    assert names == {"good.json", "good.log", "bad.log", "alone.log", "long.log"}


def test_the_checks_cover_every_model_and_guide(gpu_smoke: Any) -> None:
    cases = gpu_smoke.cases()
    assert {case.get("model", "gmmvae") for case in cases.values()} == set(MODELS)
    assert {case["guide"] for case in cases.values() if "guide" in case} == set(GUIDES)
    assert set(gpu_smoke.COMPILED) <= set(cases)


def test_the_checks_run_without_a_gpu(
    gpu_smoke: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("gmmvae-factors/trace", "regularizers, pairs", "normal, missing", "f64")
    found = gpu_smoke.smoke("svi", names)
    assert set(found) == set(names)
    for case in found.values():
        assert (case["outcome"], case["engine"], case["finite"]) == ("complete", "svi", True)
    captured = gpu_smoke.smoke("captured", ("gmmvae/analytic",))["gmmvae/analytic"]
    assert (captured["engine"], captured["graphs"]) == ("captured", 0)
    assert gpu_smoke.resume(("svi",))["svi"] == {"twice": 0.0, "resumed": 0.0}
    monkeypatch.setitem(gpu_smoke.MODES, "svi", lambda: {"one": {"error": "wrong"}})
    assert gpu_smoke.main(["svi", str(tmp_path / "found.json")]) == 1
    assert json.loads((tmp_path / "found.json").read_text()) == {"one": {"error": "wrong"}}
    assert gpu_smoke.main(["slow"]) == 2


ON_A_PRETENDED_GPU = """
import pretend_guard, torch, pretend
pretend.install()
import gpu_smoke
found = gpu_smoke.smoke("captured", ("gmmvae/trace", "pseudo-labels, affine"))
assert all(case["graphs"] == 2 and not case["why"] and case["finite"] for case in found.values())
assert gpu_smoke.resume(("captured",))["captured"] == {"twice": 0, "resumed": 0}
"""


@pytest.mark.slow
@pytest.mark.skipif(torch.version.cuda is not None, reason="this build of torch has CUDA")
@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ builds the pretended device")
def test_steps_are_recorded_and_resumed_on_a_pretended_gpu(tmp_path: Path) -> None:
    from torch.utils.cpp_extension import include_paths

    include = [f"-I{path}" for path in include_paths()]
    guard = ["-o", str(tmp_path / "pretend_guard.so"), str(PRETEND / "pretend_guard.cpp")]
    subprocess.run(["g++", "-w", "-O1", "-shared", "-fPIC", *include, *guard], check=True)
    path = os.pathsep.join(map(str, (PRETEND, ROOT / "benchmarks", ROOT)))
    environment = os.environ | {"PRETEND_GUARD": str(tmp_path), "PYTHONPATH": path}
    command = [sys.executable, "-c", ON_A_PRETENDED_GPU]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
