"""gmmvae export, and the Pareto k of gmmvae evaluate."""

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from pyro_gmmvae.runs import Run, default_config, train
from tests.cli.conftest import Gmmvae

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # ArviZ announces its refactoring when imported
    import arviz as az

FEW = ("--rows", 5, "--draws", 10)


def test_arviz_reads_an_exported_run(gmmvae: Gmmvae, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "run.nc"
    result = gmmvae("export", trained, "--out", out, *FEW)
    assert result.code == 0
    assert f"draws per row: 4 x 10, of 5 test rows -> {out}" in result.err
    read = az.from_netcdf(out)
    assert dict(read["posterior"].sizes) == {
        "chain": 4,
        "draw": 10,
        "row": 5,
        "component": 10,
        "latent": 4,
    }
    k = read["sample_stats"]["pareto_k"].values
    assert f"bad in {(k > 0.7).sum()}" in result.err
    assert f"Pareto k of the proposal: median {np.median(k):.2f}" in result.err
    assert {"x", "x_mean", "y"} == set(read["posterior_predictive"].data_vars)


def test_export_of_another_part_and_source(gmmvae: Gmmvae, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "run.nc"
    options = ("--part", "validation", "--source", "guide", "--no-predictive", "--chains", 1)
    result = gmmvae("export", trained, "--out", out, *FEW, *options)
    assert "of 5 validation rows" in result.err
    assert "too few draws" in result.err
    read = az.from_netcdf(out)
    assert read.attrs["part"] == "validation"
    assert read.attrs["source"] == "guide"
    assert not hasattr(read, "posterior_predictive")
    assert not hasattr(read, "log_likelihood")


def test_export_keeps_an_existing_file(gmmvae: Gmmvae, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "run.nc"
    out.write_text("mine")
    refused = gmmvae("export", trained, "--out", out, *FEW)
    assert (refused.code, out.read_text()) == (2, "mine")
    assert "--force" in refused.err
    assert gmmvae("export", trained, "--out", out, *FEW, "--force").code == 0
    assert az.from_netcdf(out).attrs["model"] == "gmmvae"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--out", "run.csv"), "must end in .nc"),
        (("--out", "no/run.nc"), "is not a folder"),
        (("--out", "run.nc", "--draws", 0), "--draws"),
        (("--out", "run.nc", "--rows", -1), "--rows"),
        (("--out", "run.nc", "--part", "tests"), "--part"),
        (("--out", "run.nc", "--draws", 10**7), "GiB"),
        (("--out", "run.nc", "--data", "no.csv"), "no.csv"),
        (("--out", "run.nc", "--device", "tpu"), "unknown device"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(
    gmmvae: Gmmvae,
    clustered: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[object, ...],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = gmmvae("export", clustered.path, *options)
    assert result.code == 2
    assert words in result.err
    assert result.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_runs_without_latents_or_without_rows(gmmvae: Gmmvae, tmp_path: Path) -> None:
    out = tmp_path / "run.nc"
    keys = {"epochs": 1, "hidden": "8", "latent_dim": 2, "test": 0, "validation": 0}
    train(default_config("digits", keys | {"model": "ae"}), tmp_path / "ae")
    assert "no latents" in gmmvae("export", tmp_path / "ae", "--part", "train", "--out", out).err
    assert "without test rows" in gmmvae("export", tmp_path / "ae", "--out", out).err
    assert not out.exists()


def test_moved_data_is_found_with_an_option(gmmvae: Gmmvae, clustered: Run, tmp_path: Path) -> None:
    path: Path = clustered.path
    shutil.copy(path.parent / "rows.csv", tmp_path / "moved.csv")
    moved = ("--data", tmp_path / "moved.csv", *FEW)
    assert gmmvae("export", path, "--out", tmp_path / "a.nc", *moved).code == 0
    (tmp_path / "moved.csv").write_text("a,b,c,d,label\n" + "0,0,0,0,ann\n1,1,1,1,bob\n" * 80)
    result = gmmvae("export", path, "--out", tmp_path / "b.nc", *moved)
    assert result.code == 2
    assert "has changed" in result.err


def test_evaluate_reports_pareto_k(gmmvae: Gmmvae, clustered: Run) -> None:
    run: Path = clustered.path
    numbers = json.loads(gmmvae("evaluate", run, "--samples", 50, "--json").out)
    assert 0 <= numbers["pareto_k_bad"] <= 1
    assert (numbers["pareto_k"] > 0.7) == (numbers["pareto_k_bad"] > 0.5)
    few = json.loads(gmmvae("evaluate", run, "--samples", 24, "--json").out)
    assert few["pareto_k"] is few["pareto_k_bad"] is None
    assert "median Pareto k of its rows: < 0.5" in gmmvae("evaluate", run).out
