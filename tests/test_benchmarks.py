"""The benchmark's report, on rows that were made up."""

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import write_json
from pyro_gmmvae.runs import default_config, resolve
from pyro_gmmvae.sweeps import latest_rows
from tests.data.test_mnist import write_set

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def accuracy(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr(sys, "argv", ["accuracy.py", "--data-dir", "/somebody/home"])
    return importlib.import_module("accuracy")


def rows(model: str, labels: str, score: float, config: str = "c") -> pd.DataFrame:
    has_classes = model not in ("ae", "vae")
    return pd.DataFrame(
        {
            "data": "mnist",
            "model": model,
            "guide": "",
            "objective": "analytic",
            "preset": "best",
            "labels": labels,
            "seed": range(3),
            "settings": "",
            "config": config,
            "accuracy": score if has_classes else None,
            "probe_accuracy": score - 0.1,
            "elbo": -1.0,
            "nll": 1.0,
            "pareto_k_bad": 0.1,
            "seconds": 1.0,
            "steps": 5,
            "device": "cpu",
            "processor": "p",
            "threads": 1,
            "version": "0",
            "versions": "torch=0",
            "command": "c",
        }
    )


def test_the_report_stands_published_figures_beside_ours(accuracy: Any, tmp_path: Path) -> None:
    table = [rows(m, n, 0.9) for m in ("m2", "vae") for n in ("all", "100")]
    accuracy.report(pd.concat(table), tmp_path)
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert "0.8803 ± 0.0171 (permutation-invariant; arXiv:1406.5298 †)" in lines[3]
    order = [line.split(" | ")[:2] for line in lines[2:6]]
    assert order == [["| 100", "vae *"], ["| 100", "m2"], ["| all", "vae *"], ["| all", "m2"]]
    assert "/somebody/home" not in "\n".join(lines)
    assert any(line.startswith("† as others quote it") for line in lines)
    assert (tmp_path / "errors.png").stat().st_size > 10_000


def test_redrawing_measures_nothing_and_writes_tables_and_pictures(
    accuracy: Any, tmp_path: Path
) -> None:
    table = pd.concat([rows("m2", "100", 0.9), rows("vae", "100", 0.8)]).assign(version="0.0.1")
    table.to_csv(tmp_path / "results.csv", index=False)
    accuracy.main(["--redraw", "--out", str(tmp_path)], standalone_mode=False)
    with pytest.raises(click.UsageError, match="has no rows"):
        accuracy.main(["--redraw", "--out", str(tmp_path / "empty")], standalone_mode=False)
    written = {"table.png", "errors.png", "table.md", "table.tex"}
    assert {file.name for file in tmp_path.iterdir()} == {"results.csv", *written}


def test_one_line_is_a_table_too(accuracy: Any, tmp_path: Path) -> None:
    accuracy.report(rows("m2", "100", 0.9), tmp_path)
    assert "0.9000 ± 0.0000" in (tmp_path / "table.md").read_text()
    accuracy.report(rows("vae", "100", 0.9), tmp_path)  # without a published figure
    assert "†" not in (tmp_path / "table.md").read_text()


def test_rows_of_changed_settings_are_left_out() -> None:
    table = pd.concat([rows("m2", "100", 0.5, "old"), rows("m2", "100", 0.9, "new")])
    assert set(latest_rows(table)["accuracy"]) == {0.9}


def test_every_published_figure_is_of_a_model_of_ours(accuracy: Any) -> None:
    known = pd.read_csv(accuracy.PUBLISHED)
    assert set(known["model"]) <= set(accuracy.MODELS)
    assert known["error"].between(0, 100).all()
    assert not known.duplicated(["data", "model", "labels"]).any()


def test_the_hand_written_elbo_is_that_of_pyro(monkeypatch: pytest.MonkeyPatch) -> None:
    """The speed benchmark compares equals; a step later too."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    speed = importlib.import_module("speed")
    x = speed.main_rows(None, 300)
    speed.check_hand_written("tiny_", x[:50])
    old = speed.svi_fused("tiny_", x, 50)
    old.run(3)
    stock = speed.stock(speed.build_model("tiny_", x.device), speed.Trace_ELBO(), x, 50)
    stock.become(old)
    for mine, theirs in zip(stock.moments(), old.moments(), strict=True):
        assert torch.equal(mine["exp_avg"], theirs["exp_avg"])


def test_a_point_of_the_scaling_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    scaling = importlib.import_module("scaling")
    point = scaling.Point("batch", pixels=16, width=8, latent=2, batch=10, rows=50)
    measured = scaling.measure(point, steps=2)
    assert measured["ms"] > 0
    assert measured["peak_mib"] > 50
    table = pd.DataFrame({"axis": "batch", "guide": "", "size": [1, 10, 100]})
    fitted = scaling.exponents(table.assign(ms=[1.0, 10, 100], peak_mib=[5.0, 5, 5]))
    assert fitted[["ms", "peak_mib"]].to_numpy().tolist() == [[1.0, 0.0]]


@pytest.fixture
def skeletons(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr(sys, "argv", ["skeletons.py", "--data-dir", "/somebody/home"])
    return importlib.import_module("skeletons")


def test_the_report_of_skeletons_means_over_seeds_beside_targets(
    skeletons: Any, tmp_path: Path
) -> None:
    given = pd.DataFrame(
        {
            "table": "few labels",
            "data": "ucalgary-gait",
            "split": "repeat",
            "model": "gmmvae",
            "variant": "",
            "labels": "27",
            "seed": [0, 1],
            "accuracy": [0.8, 0.9],
            "window_accuracy": 0.7,
            "elbo": -80.0,
            "seconds": 5.0,
            "device": "cpu",
            "processor": "p",
            "threads": 1,
            "version": "0",
            "versions": "torch=0",
        }
    )
    skeletons.report(given, tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert "| 0.8500 ± 0.0707 | 0.7000 ± 0.0000 | -80.0 | 5.0 | 2 | .93 (.96) |" in text
    assert "somebody" not in text
    assert (tmp_path / "few-labels.png").stat().st_size > 1000


def test_a_fit_that_was_stopped_makes_no_row(
    skeletons: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = importlib.import_module("skeleton_trials")

    def stopped(_: Any, folder: Path) -> None:
        folder.mkdir()
        (folder / "metrics.json").write_text('{"outcome": "SIGTERM"}')

    monkeypatch.setattr(trials, "train", stopped)
    with pytest.raises(GMMVAEError, match="SIGTERM"):
        trials.trained(None, tmp_path / "run")
    assert skeletons.trained is trials.trained


def test_generation_measures_models_and_a_mixture_and_resumes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    arguments = ["--quick", "--models", "m2,vae", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["generation.py", "--data-dir", "/somebody/home", *arguments])
    generation = importlib.import_module("generation")
    generation.main(arguments, standalone_mode=False)
    file = tmp_path / "digits" / "results.csv"
    table, written = pd.read_csv(file).set_index("model"), file.read_bytes()
    assert list(table.index) == ["pixel mixture", "m2", "vae"]
    mixture = table.loc["pixel mixture"]
    assert min(mixture.accuracy, mixture.recognized, mixture.recall_reference) > 0.9
    assert mixture.recall > 0.7 > table.loc["m2"].recall
    assert pd.isna(table.loc["vae"].recognized)
    assert table.loc["vae"].nll > 0
    text = (tmp_path / "digits" / "table.md").read_text()
    models = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    assert models == ["model", "---", "m2", "vae", "pixel mixture", "real rows"]
    assert "somebody" not in text
    generation.main(arguments, standalone_mode=False)
    assert file.read_bytes() == written


def test_a_mixture_draws_rows_of_the_classes_that_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    pixels = importlib.import_module("pixel_mixture")
    generator = np.random.default_rng(0)
    x = [generator.normal(size=(200, 2)) + 20 * k for k in range(3)]
    # two far groups need two components
    x[1][::2] -= 100
    mixtures = [pixels.fit_class(one[:150], one[150:], 0) for one in x]
    assert mixtures[1].n_components > 1
    classes = np.array([2, 0, 2])
    draws = pixels.draw(mixtures, classes)
    assert (abs(draws - 20 * classes[:, None]) < 8).all()


def test_likelihoods_are_measured_once_and_tabulated(
    tmp_path: Path,
) -> None:
    """On a small set in MNIST's files; the same command then trains nothing."""
    write_set(tmp_path)
    out = tmp_path / "out"
    options = ["--quick", "--lines", "VAE,IWAE,from", "--binarize", "threshold", "--out", str(out)]
    command = [str(BENCHMARKS / "likelihood.py"), "--data-dir", str(tmp_path), *options]
    found = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    files = {file.name for file in out.glob("*.json")}
    assert files == {
        "vae-threshold.json",
        "iwae-50-particles-threshold.json",
        "from-vae-iwae-50-particles-threshold.json",
    }
    stages = json.loads((out / "from-vae-iwae-50-particles-threshold.json").read_text("utf-8"))
    assert stages["epochs"] == [1, 1]
    assert len(stages["curve"]) == 2
    assert str(out) not in stages["command"]
    measured = json.loads((out / "vae-threshold.json").read_text("utf-8"))
    assert measured["test_rows"] == 12
    assert measured["nll"] < -measured["elbo"]  # a tighter bound
    table = (out / "table.md").read_text("utf-8")
    assert f"| VAE | - | {measured['nll']:.2f} |" in table
    assert str(tmp_path) not in table.replace(str(out), "OUT")
    before = {name: (out / name).stat().st_mtime_ns for name in files}
    again = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert before == {name: (out / name).stat().st_mtime_ns for name in files}


def test_each_model_gets_its_trials_and_its_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On digits; a second run trains nothing."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    trials = importlib.import_module("equal_trials")
    monkeypatch.setitem(trials.COMMON, "data", "digits")
    options = ["--data-dir", str(tmp_path), "--quick", "--models", "adgm"]
    for _ in range(2):
        found = CliRunner().invoke(trials.main, [*options, "--out", str(tmp_path / "out")])
        assert found.exit_code == 0, found.output
    table = pd.read_csv(tmp_path / "out" / "trials.csv")
    assert table.groupby("model").size().to_dict() == {"adgm": 2}
    results = pd.read_csv(tmp_path / "out" / "results.csv")
    assert results["model"].tolist() == ["adgm"]
    best = table.sort_values("value").groupby("model").last()
    lines = (tmp_path / "out" / "table.md").read_text("utf-8").splitlines()
    line = next(line for line in lines if line.startswith("| adgm"))
    assert f"{best.loc['adgm', 'val_accuracy']:.4f}" in line
    assert f"{results['accuracy'].iloc[0]:.4f}" in line


def test_learning_curves_of_kept_runs_are_added_and_extrapolated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    curves = importlib.import_module("learning_curves")

    def keep(model: str, seed: int, errors: "np.ndarray[Any, Any]", **keys: Any) -> None:
        folder = tmp_path / "work" / "runs" / f"{model}-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        config = resolve(default_config("mnist", {"model": model, "seed": seed, **keys}))
        write_json(folder / "config.json", {"config": config.model_dump(mode="json")})
        epochs = np.arange(1, len(errors) + 1)
        history = {"epoch": epochs, "seconds": 2.0 * epochs, "val_accuracy": 1 - errors}
        pd.DataFrame(history).to_csv(folder / "history.csv", index=False)

    def measure(*options: str) -> tuple[pd.DataFrame, str]:
        runner = CliRunner().invoke(curves.main, [*options, "--out", str(tmp_path / "out")])
        if runner.exception:
            raise runner.exception
        table = (tmp_path / "out" / "table.md").read_text("utf-8")
        return pd.read_csv(tmp_path / "out" / "curves.csv"), table

    with pytest.raises(GMMVAEError, match="no runs that were kept"):
        measure()
    falling = 0.5 * np.arange(1.0, 41) ** -0.5
    keep("m2", 0, falling, preset="authors-m2", minutes=10)
    keep("m1m2", 0, falling[:5], preset="authors-m2", alpha=7)
    found, table = measure(str(tmp_path / "work"))
    assert len(found) == 45
    # a power of the epochs goes on as such
    assert f"| 3000 | {0.5 * 3000**-0.5:.4f} |" in table
    assert "| alpha=7 | 0.2 | 5 | 0.2236 | 0.2236 | 3000 | - |" in table  # too short a curve
    keep("gmmvae", 0, falling[:3], preset="paper", guide="enumerated")
    found, _ = measure(str(tmp_path / "work"))
    assert set(found["settings"].dropna()) == {"alpha=7", "guide=enumerated"}
    shutil.rmtree(tmp_path / "work")
    keep("m2", 0, falling[:7], preset="authors-m2")  # replaces the longer one
    found, _ = measure(str(tmp_path / "work"))
    assert len(found) == 15
    again, _ = measure()
    pd.testing.assert_frame_equal(found, again)
    assert (tmp_path / "out" / "curves.png").stat().st_size > 1000


def test_a_rival_that_cannot_be_installed_is_named_and_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Scikit-learn's method is measured, and the same command then fits nothing."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    rivals = importlib.import_module("rivals")
    offline = {"NO_INDEX": "1", "FIND_LINKS": str(tmp_path), "RETRIES": "0", "DEFAULT_TIMEOUT": "2"}
    for name, value in offline.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    write_set(tmp_path)
    out = tmp_path / "out"
    options = ["--quick", "--data-dir", str(tmp_path), "--packages", str(tmp_path / "packages")]
    command = [*options, "--methods", "label spreading,DEC", "--out", str(out)]
    found = CliRunner().invoke(rivals.main, command)
    assert found.exit_code == 0, found.output
    assert "DEC is left out: pip can't install clustpy==0.0.3" in found.output
    (file,) = out.glob("*.json")
    measured = json.loads(file.read_text("utf-8"))
    assert measured["test_rows"] == 12
    assert 0 <= measured["accuracy"] <= 1
    assert f"| {measured['accuracy']:.4f} | 1 |" in (out / "table.md").read_text("utf-8")
    before = file.stat().st_mtime_ns
    again = CliRunner().invoke(rivals.main, command)
    assert again.exit_code == 0
    assert file.stat().st_mtime_ns == before
    wrong = CliRunner().invoke(rivals.main, [*options, "--methods", "GAN", "--out", str(out)])
    assert wrong.exit_code == 2
    assert "--methods GAN: choose from ssiVAE" in wrong.output
