"""The benchmark of clusters: its lines, its references, and its report on made-up rows."""

import importlib
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from benchmarks.figures.cluster_curves import cluster_dots, cluster_tradeoff
from pyro_gmmvae.data import load_array
from pyro_gmmvae.key_types import Schedule
from pyro_gmmvae.runs import default_config
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.sweeps import read_results

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def clustering(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr(sys, "argv", ["clustering.py", "--data-dir", "/somebody/home"])
    return importlib.import_module("clustering")


def rows(line: str, part: str, accuracy: list[float], elbo: float | None, **more: Any) -> Any:
    return pd.DataFrame(
        {
            "data": "mnist",
            "table": part,
            "variant": line,
            "config": "c",
            "seed": range(len(accuracy)),
            "cluster_accuracy": accuracy,
            "nmi": 0.8,
            "ari": 0.7,
            "components_used": 10,
            "elbo": elbo,
            "seconds": 5.0,
            "steps": None if elbo is None else 5,
            "device": "cpu",
            "processor": "p",
            "threads": 1,
            "version": "0",
            "versions": "torch=0",
        }
        | more
    )


def test_the_report_stands_worst_and_best_seeds_and_published_figures_beside_means(
    clustering: Any, tmp_path: Path
) -> None:
    table = [
        rows("k-means", "references", [0.5, 0.6], None),
        rows("ELBO alone", "ablation", [0.3, 0.5], -100.0),
        rows("cluster", "main", [0.1, 0.2], -90.0, config="an older preset"),
        rows("cluster", "main", [0.8, 0.9], -102.0),
    ]
    clustering.report(pd.concat(table), tmp_path, sys.argv[1:])
    text = (tmp_path / "mnist" / "table.md").read_text()
    lines = text.splitlines()
    cluster = "| main | cluster | 0.8500 ± 0.0707 | 0.8000 | 0.9000 | 0.8000 | 0.7000 | 10.0 "
    assert lines[2].startswith(f"{cluster}| -102.00 | -2.00 | 5 | 2 |")
    assert [line.split(" | ")[1] for line in lines[2:5]] == ["cluster", "ELBO alone", "k-means"]
    vade = next(line for line in lines if "VaDE" in line)
    assert " |  |  | 0.9446 | " in vade
    assert "best of several runs; arXiv:1611.05148" in vade
    assert "/somebody/home" not in text
    for picture in ("lines.png", "tradeoff.png"):
        assert (tmp_path / "mnist" / picture).stat().st_size > 10_000


def test_of_sequences_their_own_accuracy_counts(clustering: Any, tmp_path: Path) -> None:
    given = rows("cluster", "main", [0.4, 0.6], -10.0, sequence_cluster_accuracy=[0.7, 0.9])
    clustering.report(given, tmp_path, [])
    lines = (tmp_path / "mnist" / "table.md").read_text().splitlines()
    assert "| cluster | 0.8000 ± 0.1414 | 0.7000 | 0.9000 | 0.5000 | 0.8000 |" in lines[2]
    assert not (tmp_path / "mnist" / "tradeoff.png").exists()


def test_what_the_preset_is_already_is_no_further_line(clustering: Any, tmp_path: Path) -> None:
    config = default_config("digits", {"preset": "cluster"})
    lines = clustering.lines_of("digits", {"data": "digits"}, ("main", "ablation"), tmp_path)
    names = [line.name for line in lines]
    assert f"init {config.init}" not in names
    assert {"cluster", "ELBO alone", "both weights / 3", "diagonal covariances"} <= set(names)
    keys = {line.name: line.keys for line in lines}
    assert float(keys["both weights / 3"]["balance"]) == pytest.approx(config.balance.end / 3)


@pytest.mark.usefixtures("clustering")
def test_a_schedule_keeps_its_steps_when_it_is_scaled() -> None:
    scaled = importlib.import_module("clustering_lines").scaled
    assert scaled(Schedule(0, 12, 500), Fraction(1, 3)) == "0:4:500"


def test_every_line_fits_its_data(clustering: Any, tmp_path: Path) -> None:
    parts = ("main", "ablation", "unequal")
    lines = clustering.lines_of("digits", {"data": "digits"}, parts, tmp_path)
    cells, names = clustering.planned(lines, None, 2)
    assert len(cells) == 2 * len(lines)
    assert {line.name for line in names.values()} == {line.name for line in lines}
    # files have a preset of their own; the long tail takes that of the digits
    preset = default_config("digits", {"preset": "cluster"})
    for cell, config in cells.items():
        if cell.data == "digits-long-tail":
            assert (config.init, config.hidden) == (preset.init, preset.hidden)
            assert config.epochs > preset.epochs


def test_a_row_that_is_there_is_not_measured_again(
    clustering: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--parts", "ablation", "--lines", "init random", "--seeds", "1", "--epochs", "1"]
    command = [*options, "--out", str(tmp_path / "out")]
    first = CliRunner().invoke(clustering.main, command, catch_exceptions=False)
    assert first.exit_code == 0, first.output
    table = read_results(tmp_path / "out" / "results.csv")
    assert table[["table", "variant"]].to_numpy().tolist() == [["ablation", "init random"]]
    assert table["cluster_accuracy"].between(0, 1).all()
    assert "init random" in (tmp_path / "out" / "digits" / "table.md").read_text()

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr("pyro_gmmvae.sweeps.execute.train_run", refuse)
    again = CliRunner().invoke(clustering.main, command, catch_exceptions=False)
    assert "1 of 1 runs are in" in again.output
    assert read_results(tmp_path / "out" / "results.csv").equals(table)


def test_names_that_nothing_has_are_refused(clustering: Any, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "out")]
    for wrong in (["--parts", "mian"], ["--lines", "the best one"]):
        result = CliRunner().invoke(clustering.main, [*wrong, *out])
        assert result.exit_code == 2
        assert wrong[1] in result.output


def test_references_are_scored_on_test_rows_once_per_seed(
    clustering: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    references = importlib.import_module("clustering_references")
    chosen = {name: references.REFERENCES[name] for name in ("k-means", "full mixture of PCA")}
    monkeypatch.setattr(references, "REFERENCES", chosen)
    config = default_config("digits", {"preset": "cluster"})
    file = tmp_path / "results.csv"
    said: list[str] = []
    clustering.add_references(config, range(2), file, said.append)
    clustering.add_references(config, range(2), file, said.append)
    assert len(said) == 4
    table = read_results(file)
    assert table["test_rows"].tolist() == [500] * 4
    assert (table["cluster_accuracy"] > 0.6).all()


@pytest.mark.usefixtures("clustering")
def test_the_autoencoder_of_a_reference_trains() -> None:
    references = importlib.import_module("clustering_references")
    config = default_config("digits", {"preset": "cluster", "epochs": 1})
    assert references.autoencoder(config, None).hidden == config.hidden
    rows = TrainingData.from_config(config)
    name = "autoencoder + augmentation, full mixture of z"
    numbers = references.scores(rows, references.REFERENCES[name].cluster(config, rows))
    assert numbers["test_rows"] == 500


@pytest.mark.usefixtures("clustering")
def test_a_long_tail_keeps_ten_rows_of_the_first_class_for_one_of_the_last(tmp_path: Path) -> None:
    lines = importlib.import_module("clustering_lines")
    digits = TrainingData.from_config(default_config("digits", {"preset": "cluster"}))
    lines.write_long_tail(digits, tmp_path / "tail.npz")
    tail = load_array(tmp_path / "tail.npz")
    assert tail.x.max() == 16  # counts, as in the set
    counts = np.bincount(tail.y) / np.bincount(digits.dataset.y)
    assert counts == pytest.approx(10 ** (-np.arange(10) / 9), abs=0.01)
    # which rows stay is drawn with a seed
    lines.write_long_tail(digits, tmp_path / "again.npz")
    assert np.array_equal(load_array(tmp_path / "again.npz").x, tail.x)


def test_published_figures_are_shares_with_a_protocol_and_a_source(clustering: Any) -> None:
    report = importlib.import_module(clustering.report.__module__)
    known = pd.read_csv(report.PUBLISHED)
    assert list(known.columns) == ["method", "data", "accuracy", "protocol", "source"]
    assert known["accuracy"].between(0, 100).all()
    assert known[["method", "protocol", "source"]].notna().all(axis=None)


def test_each_seed_is_a_point_of_both_plots() -> None:
    table = pd.DataFrame(
        {
            "part": ["main"] * 2 + ["references"],
            "line": ["a", "a", "b"],
            "accuracy": [0.5, 0.7, 0.6],
            "elbo": [-3.0, -2.0, -1.0],
            "weight": [0.0, 0.0, 1.0],
            "name": ["0", "0", "1"],
        }
    )
    dots = cluster_dots(table).axes[0]
    assert sum(len(line.get_xdata()) for line in dots.lines) == 3
    mean, *points = cluster_tradeoff(table).axes[0].lines
    assert mean.get_xdata().tolist() == [-2.5, -1.0]
    assert sum(len(line.get_xdata()) for line in points) == 3
