"""Every command as a user types it."""

import importlib
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from pyro_gmmvae import files as checkpoint
from pyro_gmmvae.cli import cli
from pyro_gmmvae.cli import run as run_command
from pyro_gmmvae.cli.predict import csv_text
from pyro_gmmvae.datasets import DATA
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.guides import GUIDES
from pyro_gmmvae.models import MODELS
from pyro_gmmvae.objectives import OBJECTIVES
from pyro_gmmvae.runs import Run, folder

from .conftest import SMALL, Gmmvae

FILES = {
    "best.safetensors",
    "config.json",
    "environment.json",
    "history.csv",
    "metrics.json",
    "training.pt",
    "validation_scores.csv",
    "weights.safetensors",
}


def test_help_names_every_command(gmmvae: Gmmvae) -> None:
    text = gmmvae("--help").out
    for command in cli.commands:
        assert command in text
        assert gmmvae(command, "--help").code == 0


def test_list_names_every_table(gmmvae: Gmmvae) -> None:
    found = json.loads(gmmvae("list", "--json").out)
    assert found["models"] == list(MODELS)
    assert found["guides"] == list(GUIDES)
    assert found["objectives"] == list(OBJECTIVES)
    assert found["data"] == list(DATA)
    assert "learning_rate" in gmmvae("list", "keys").out
    assert gmmvae("list", "guides").out.split() == ["guides", *", ".join(GUIDES).split()]


def test_a_run_folder_holds_what_it_should(trained: Path) -> None:
    assert {p.name for p in trained.iterdir()} == FILES
    config = json.loads((trained / "config.json").read_text())
    assert config["format"] == 4
    assert config["config"]["hidden"] == [64]
    history = pd.read_csv(trained / "history.csv")
    assert list(history["epoch"]) == list(range(1, 13))
    assert {"loss", "elbo", "val_elbo", "val_accuracy", "kl_s", "kl_z"} <= set(history)
    assert {"torch", "pyro-ppl"} <= set(
        json.loads((trained / "environment.json").read_text())["packages"]
    )


def test_train_says_what_came_out(gmmvae: Gmmvae, tmp_path: Path) -> None:
    result = gmmvae("train", *SMALL, "--epochs", 2, "--out", tmp_path / "r")
    assert result.code == 0
    assert "complete after 2 epochs" in result.out
    assert "1797 rows of 1x8x8, 10 classes; 1147 train (100 labelled)" in result.err
    assert "epoch 1 " in result.err
    assert "accuracy" in result.err


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_one_word(
    gmmvae: Gmmvae, tmp_path: Path, model: str, rows_file: Path
) -> None:
    run = tmp_path / "r"
    trained = gmmvae("train", *SMALL, "--model", model, "--epochs", 1, "--json", "--out", run)
    if model in ("fader", "vfae"):
        assert "_of=covariates: name the columns with --covariates" in trained.err
        return
    assert json.loads(trained.out)["outcome"] == "complete"
    numbers = json.loads(gmmvae("evaluate", run, "--json", "--samples", 5).out)
    has_bound = model not in ("ae", "dae", "vq-vae", "vib", "information-dropout")
    has_classes = MODELS[model].has_classes()
    assert (numbers["elbo"] is not None) == has_bound
    assert (numbers["accuracy"] is not None) == has_classes
    assert 0 < numbers["probe_accuracy"] <= 1
    if has_bound:
        assert numbers["nll"] < -numbers["elbo"]
        assert numbers["elbo"] == pytest.approx(-numbers["rate"] - numbers["distortion"], rel=1e-4)
    assert gmmvae("predict", run, rows_file, "--out", tmp_path / "p.csv").code == 0
    columns = pd.read_csv(tmp_path / "p.csv").columns
    assert ("elbo" if has_bound else "log_px") in columns
    assert ("label" in columns) == has_classes
    drawn = gmmvae("generate", run, "--out", tmp_path / "g.png")
    assert drawn.code == (0 if has_bound else 2)
    one = gmmvae("generate", run, "--class", "3", "--out", tmp_path / "3.npz")
    takes_class = has_bound and Run.load(run).model.draws_of_class
    assert one.code == (0 if takes_class else 2), one.err


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_objective_is_one_word(gmmvae: Gmmvae, tmp_path: Path, objective: str) -> None:
    run = tmp_path / "r"
    result = gmmvae("train", *SMALL, "--objective", objective, "--epochs", 1, "--out", run)
    assert result.code == 0
    assert json.loads((run / "config.json").read_text())["config"]["objective"] == objective


@pytest.mark.parametrize("preset", ["paper", "permutation-invariant", "best"])
def test_a_preset_is_one_word(gmmvae: Gmmvae, tmp_path: Path, preset: str) -> None:
    run = tmp_path / "r"
    gmmvae("train", *SMALL, "--preset", preset, "--epochs", 1, "--out", run)
    config = json.loads((run / "config.json").read_text())["config"]
    assert config["preset"] == preset
    assert (config["alpha"] == "0") == (preset == "paper")
    assert (config["pseudo_threshold"] is None) == (preset == "paper")


@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_is_one_word(gmmvae: Gmmvae, tmp_path: Path, guide: str) -> None:
    run = tmp_path / "r"
    gmmvae("train", *SMALL, "--guide", guide, "--epochs", 1, "--out", run)
    assert json.loads(gmmvae("evaluate", run, "--json").out)["guide"] == guide


def test_evaluate_says_why_few_test_rows_have_no_measures_of_draws(
    gmmvae: Gmmvae, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    gmmvae("train", "--data", "digits", "--set", "test=4", "--epochs", 1, "--out", run)
    printed = gmmvae("evaluate", run, "--samples", 5, "--nll-rows", 2).out
    assert "recall with 5 neighbors needs at least 6 test rows, and there are 4" in printed


def test_evaluate(gmmvae: Gmmvae, trained: Path) -> None:
    numbers = json.loads(gmmvae("evaluate", trained, "--json").out)
    assert {"accuracy", "elbo", "nll", "labels", "seed"} <= set(numbers)
    assert numbers["labels"] == 100
    assert numbers["guide"] == "tilted"
    assert 0.5 < numbers["accuracy"] <= 1
    assert json.loads(gmmvae("evaluate", trained, "--json").out) == numbers
    assert json.loads((trained / "metrics.json").read_text())["test"] == numbers
    lines = [" ".join(line.split()) for line in gmmvae("evaluate", trained).out.splitlines()]
    accuracy, low, high = (numbers[f"accuracy{end}"] for end in ("", "_low", "_high"))
    assert f"accuracy {accuracy:.3f} (95 % Wilson interval {low:.3f} to {high:.3f})" in lines
    assert not any(line.startswith(("accuracy_low", "accuracy_high")) for line in lines)
    recall, sampled, real = (numbers[f"recall{end}"] for end in ("", "_sampled", "_reference"))
    beside = f"real rows {real:.4f}; sampled {sampled:.4f}"
    assert f"recall {recall:.4f} share of test rows near a draw; {beside}" in lines
    judge = f"gives their class; real rows {numbers['judge_accuracy']:.4f}"
    assert any(line.startswith("recognized 0.") and judge in line for line in lines)
    assert not any("_reference" in line or line.startswith("judge") for line in lines)
    without = json.loads(gmmvae("evaluate", trained, "--json", "--draws", 0).out)
    assert without["recall"] is without["recognized"] is without["kl_units"] is None
    refused = gmmvae("evaluate", trained, "--draws", 4)
    assert refused.code == 2
    assert "recall with 5 neighbors needs at least 6 draws" in refused.err


def test_predict(gmmvae: Gmmvae, trained: Path, rows_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    assert gmmvae("predict", trained, rows_file, "--out", out).code == 0
    table = pd.read_csv(out)
    probabilities = table[[f"p_{k}" for k in range(10)]]
    last = ["elbo", "elbo_quantile", "new"]
    assert list(table.columns) == ["row", "label", *probabilities.columns, *last]
    assert list(table["row"]) == list(range(30))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-4)
    assert (probabilities.to_numpy().argmax(1) == table["label"]).all()
    assert table["elbo_quantile"].between(0, 1).all()
    printed = gmmvae("predict", trained, rows_file).out
    assert pd.read_csv(io.StringIO(printed)).equals(table)
    as_json = json.loads(gmmvae("predict", trained, rows_file, "--json").out)["rows"]
    assert len(as_json) == 30


def test_noise_has_a_lower_elbo_quantile_than_digits(
    gmmvae: Gmmvae, trained: Path, rows_file: Path, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 17, (30, 64)).astype(float)
    np.save(tmp_path / "noise.npy", noise)
    digits = pd.read_csv(io.StringIO(gmmvae("predict", trained, rows_file).out))
    strange = pd.read_csv(io.StringIO(gmmvae("predict", trained, tmp_path / "noise.npy").out))
    assert strange["elbo_quantile"].max() < 0.1
    assert digits["elbo_quantile"].mean() > 0.3


def test_a_row_whose_density_underflows_has_elbo_quantile_0(gmmvae: Gmmvae, tmp_path: Path) -> None:
    x, run = np.random.default_rng(0).normal(size=(60, 3)), tmp_path / "r"
    np.save(tmp_path / "x.npy", x)
    gmmvae("train", "--data", tmp_path / "x.npy", *SMALL, "--epochs", 1, "--out", run)
    x[0, 0] = 1e30
    np.save(tmp_path / "x.npy", x)
    result = gmmvae("predict", run, tmp_path / "x.npy")
    assert pd.read_csv(io.StringIO(result.out))["elbo_quantile"][0] == 0
    assert "Warning" not in result.err


def test_predict_keeps_row_numbers_of_what_it_drops(
    gmmvae: Gmmvae, trained: Path, tmp_path: Path
) -> None:
    x = np.zeros((4, 64))
    x[1, 3] = np.nan
    np.save(tmp_path / "x.npy", x)
    result = gmmvae("predict", trained, tmp_path / "x.npy", "--drop-nonfinite")
    assert list(pd.read_csv(io.StringIO(result.out))["row"]) == [0, 2, 3]


def test_generate(gmmvae: Gmmvae, trained: Path, tmp_path: Path) -> None:
    picture, numbers = tmp_path / "g.png", tmp_path / "g.npz"
    assert gmmvae("generate", trained, "--out", picture, "--per-class", 4).code == 0
    pixels = matplotlib.image.imread(picture)
    assert pixels.shape[0] > pixels.shape[1] > 100
    assert pixels.std() > 0.05
    gmmvae("generate", trained, "--out", numbers, "--per-class", 4, "--class", "7")
    with np.load(numbers) as content:
        assert content["x"].shape == (4, 1, 8, 8)
        assert set(content["y"]) == {"7"}
        assert content["x"].min() >= 0
        assert 1 < content["x"].max() <= 16  # in the file's units
        means = content["x"]
    options = ("--per-class", 4, "--class", "7", "--sample", "--force")
    assert gmmvae("generate", trained, "--out", numbers, *options).code == 0
    with np.load(numbers) as content:  # counts, at the same z
        np.testing.assert_array_equal(content["x"], content["x"].round())
        assert content["x"].max() <= 16
        assert 0 < np.abs(content["x"] - means).mean() < 4


def test_a_toml_file_the_options_and_set_come_in_that_order(gmmvae: Gmmvae, tmp_path: Path) -> None:
    toml = tmp_path / "run.toml"
    toml.write_text('epochs = 9\nlatent_dim = 5\nhidden = [16]\nkl_s = "0:1:50"\nseed = 4\n')
    run = tmp_path / "r"
    arguments = ("--config", toml, "--epochs", 8, "--seed", 5, "--set", "epochs=1")
    assert gmmvae("train", *arguments, "--out", run).code == 0
    config = json.loads((run / "config.json").read_text())["config"]
    assert [config[k] for k in ("epochs", "seed", "latent_dim", "kl_s")] == [1, 5, 5, "0:1:50"]


def test_a_table_goes_all_the_way(gmmvae: Gmmvae, tmp_path: Path) -> None:
    """Text labels, missing ones, columns in another order, a class beyond those labelled."""
    generator = np.random.default_rng(0)
    who = generator.integers(0, 3, 200)
    frame = pd.DataFrame(
        generator.normal(size=(200, 4)) * 0.3 + who[:, None] * 2, columns=[*"abcd"]
    )
    frame["person"] = np.array(["ann", "bob", "cy"])[who]
    truth = frame["person"].copy()
    frame.loc[::2, "person"] = None
    frame.to_csv(tmp_path / "rows.csv", index=False)
    run = tmp_path / "r"
    arguments = ("--data", tmp_path / "rows.csv", "--label-column", "person", "--epochs", 150)
    arguments += ("--members", 1, "--cv", 0)
    trained = gmmvae("train", *SMALL, *arguments, "--out", run)
    assert trained.code == 0, trained.err
    frame[[*"dcba", "person"]].to_csv(tmp_path / "again.csv", index=False)
    table = pd.read_csv(io.StringIO(gmmvae("predict", run, tmp_path / "again.csv").out))
    assert (table["label"] == truth).mean() > 0.95
    assert list(table.columns[2:5]) == ["p_ann", "p_bob", "p_cy"]
    assert gmmvae("generate", run, "--out", tmp_path / "g.png").code == 0


def test_a_longer_budget_goes_on(gmmvae: Gmmvae, tmp_path: Path) -> None:
    run = tmp_path / "r"
    gmmvae("train", *SMALL, "--epochs", 2, "--out", run)
    assert "is complete" in gmmvae("resume", run).err
    assert (run / "metrics.json").exists()
    assert gmmvae("resume", run, "--epochs", 4).code == 0
    assert list(pd.read_csv(run / "history.csv")["epoch"]) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "lost", ["weights.safetensors", "best.safetensors", "history.csv", "metrics.json"]
)
def test_killed_between_the_files_of_the_last_save_is_mended_by_resume(
    gmmvae: Gmmvae, tmp_path: Path, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write of one file fails after training.pt was written; the fit is not lost."""
    run, write = tmp_path / "r", checkpoint.atomic_write

    def failing(path: Path, content: bytes) -> None:
        if path.name == lost and (run / "training.pt").exists():
            raise GMMVAEError(f"can't write {path}")
        write(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "atomic_write", failing)
        patched.setattr(folder, "atomic_write", failing)
        assert gmmvae("train", *SMALL, "--epochs", 2, "--out", run).code == 2
    assert not (run / lost).exists()
    mended = gmmvae("resume", run)
    assert mended.code == 0, mended.err
    assert "complete after 2 epochs" in mended.out
    assert {p.name for p in run.iterdir()} == FILES
    assert "is complete" in gmmvae("resume", run).err


def test_a_run_that_stopped_early_stays_as_it_is(gmmvae: Gmmvae, tmp_path: Path) -> None:
    run = tmp_path / "r"
    arguments = ("--patience", 1, "--learning-rate", 1e-9, "--epochs", 50)
    assert "early-stopped" in gmmvae("train", *SMALL, *arguments, "--out", run).out
    epochs = len(history(run))
    assert epochs < 50
    assert "is early-stopped" in gmmvae("resume", run).err
    assert len(history(run)) == epochs


def test_data_that_has_moved_is_found_again(gmmvae: Gmmvae, tmp_path: Path) -> None:
    file, run = tmp_path / "f.csv", tmp_path / "r"
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)), columns=[*"abc"])
    frame.to_csv(file, index=False)
    gmmvae("train", "--data", file, *SMALL, "--epochs", 1, "--members", 1, "--out", run)
    file.rename(tmp_path / "g.csv")
    assert gmmvae("evaluate", run, "--samples", 2).code == 2
    assert gmmvae("evaluate", run, "--samples", 2, "--data", tmp_path / "g.csv").code == 0
    assert gmmvae("resume", run, "--epochs", 2, "--data", tmp_path / "g.csv").code == 0
    assert gmmvae("evaluate", run, "--samples", 2).code == 0
    resumed = json.loads((run / "environment.json").read_text())["resumed"]
    assert "--epochs 2" in resumed[0]["command"]


def test_without_labels_there_is_no_accuracy(gmmvae: Gmmvae, tmp_path: Path) -> None:
    run = tmp_path / "r"
    gmmvae("train", *SMALL, "--labels", 0, "--epochs", 1, "--out", run)
    assert json.loads(gmmvae("evaluate", run, "--json").out)["accuracy"] is None
    assert "val_accuracy" not in history(run)


def history(run: Path) -> pd.DataFrame:
    return pd.read_csv(run / "history.csv").drop(columns="seconds")


LONG = (*SMALL, "--epochs", "12", "--set", "checkpoint_seconds=0")


def start(run: Path) -> subprocess.Popen[bytes]:
    """A training process that has made at least two checkpoints."""
    command = [sys.executable, "-m", "pyro_gmmvae", "train", *LONG, "--out", str(run)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if (run / "history.csv").exists() and len(history(run)) >= 2:
            return process
        time.sleep(0.01)
    raise AssertionError(process.communicate())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_or_killed_and_resumed_is_never_stopped(
    gmmvae: Gmmvae, tmp_path: Path, number: signal.Signals
) -> None:
    whole, run = tmp_path / "whole", tmp_path / "r"
    process = start(run)
    os.kill(process.pid, number)
    _, err = process.communicate()
    if number == signal.SIGINT:
        assert process.returncode == 130, err
        assert b"go on with: gmmvae resume" in err
        assert b"Traceback" not in err
    assert len(history(run)) < 12
    assert gmmvae("resume", run).code == 0
    assert gmmvae("train", *LONG, "--out", whole).code == 0
    pd.testing.assert_frame_equal(history(run), history(whole), check_exact=True)
    assert (run / "weights.safetensors").read_bytes() == (
        whole / "weights.safetensors"
    ).read_bytes()
    assert {p.name for p in run.iterdir()} == FILES


def test_completion_offers_names() -> None:
    environment = {
        "_GMMVAE_COMPLETE": "bash_complete",
        "COMP_WORDS": "gmmvae train --guide ",
        "COMP_CWORD": "3",
    }
    result = CliRunner(env=environment).invoke(
        cli, prog_name="gmmvae", complete_var="_GMMVAE_COMPLETE"
    )
    offered = [line.split(",")[1] for line in result.output.split()]
    assert offered == list(GUIDES)


def test_ablate_writes_the_tables_and_goes_on(gmmvae: Gmmvae, tmp_path: Path) -> None:
    out = tmp_path / "ablation"
    arguments = ["ablate", "--data", "digits", "--labels", 100, "--seeds", 1, "--epochs", 1]
    arguments += ["--set", "hidden=16", "--set", "latent_dim=4", "--out", out]
    first = gmmvae(*arguments, "--guides", "product")
    assert first.code == 0, first.err
    before = pd.read_csv(out / "results.csv")
    second = gmmvae(*arguments, "--guides", "product,mean-field", "--json")
    assert "1 of 2 runs are in" in second.err
    table = pd.read_csv(out / "results.csv")
    assert table["guide"].tolist() == ["product", "mean-field"]
    assert table["fit_seconds"].iloc[0] == before["fit_seconds"].iloc[0]
    wanted = {"model", "guide", "objective", "preset", "labels", "seed", "accuracy", "elbo", "nll"}
    wanted |= {"seconds", "device", "threads", "epochs", "versions", "command", "label_seed"}
    assert wanted <= set(table.columns)
    summary = json.loads(second.out)
    assert [line["guide"] for line in summary] == ["product", "mean-field"]
    assert summary[1]["difference"] == pytest.approx(
        table["accuracy"].iloc[1] - table["accuracy"].iloc[0]
    )
    assert second.err.count("two seeds or fewer") == 1
    assert "two seeds" not in first.err  # one combination is not a comparison
    assert "| mean-field |" in (out / "table.md").read_text()
    assert (out / "table.png").read_bytes().startswith(b"\x89PNG")
    assert "mean-field" in (out / "table.tex").read_text()
    assert not (out / "runs").exists()


def test_the_plane_is_that_of_a_vae_with_each_term(
    gmmvae: Gmmvae, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyro_gmmvae.objectives import LATENT_TERMS
    from pyro_gmmvae.sweeps import plan_sweep

    ablate = importlib.import_module("pyro_gmmvae.cli.ablate")
    variants, misfits = [ablate.variant(text) for text in ablate.PLANE], list[str]()
    plan_sweep({"data": "digits"}, models=["vae"], variants=variants, log=misfits.append)
    assert not misfits
    # without the terms on classes and on rows
    others = {"class_adversary", "class_capacity", "pair_adversary", "x_adversary"}
    assert {key for one in variants for key in one} >= set(LATENT_TERMS) - others
    monkeypatch.setattr(ablate, "PLANE", ("", "kl_z=4"))
    arguments = ["ablate", "--plane", "--data", "digits", "--seeds", 1, "--epochs", 1]
    result = gmmvae(*arguments, "--set", "hidden=8", "--out", tmp_path / "a")
    assert result.code == 0, result.err
    assert " kl_z=4 |" in result.out
    assert "probe_accuracy" in result.out
    assert (tmp_path / "a" / "plane.png").read_bytes().startswith(b"\x89PNG")
    other = gmmvae(*arguments, "--models", "ae", "--out", tmp_path / "b")
    assert "plane.png: no run has a rate and probe_accuracy" in other.err


def test_a_run_of_a_sweep_can_be_trained_again_by_its_command() -> None:
    """What a row records is what was trained."""
    from pyro_gmmvae.runs import default_config
    from pyro_gmmvae.sweeps import train_command

    config = default_config("digits", {"seed": 3, "hidden": "32,16", "guide": "bayes"})
    words = shlex.split(train_command(config))
    sets = dict(w.removeprefix("--set=").split("=", 1) for w in words if w.startswith("--set"))
    assert default_config("digits", {"preset": config.preset}, sets) == config


def test_a_file_whose_rows_are_all_labelled(gmmvae: Gmmvae, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    table = pd.DataFrame(generator.normal(size=(90, 3)), columns=list("abc"))
    table["label"] = np.array(["u", "v", "w"])[np.arange(90) % 3]
    table.to_csv(tmp_path / "rows.csv", index=False)
    for model in ("cvae", "m1", "m2"):
        given = ("--data", tmp_path / "rows.csv", "--model", model, "--epochs", 1, "--members", 1)
        assert gmmvae("train", *SMALL, *given, "--out", tmp_path / model).code == 0
        result = gmmvae("evaluate", tmp_path / model)
        assert result.code == 0, result.err
        assert "true" in result.out


def test_components_beyond_the_classes_are_no_true_classes(gmmvae: Gmmvae, tmp_path: Path) -> None:
    run = tmp_path / "r"
    gmmvae("train", *SMALL, "--components", 15, "--epochs", 1, "--out", run)
    lines = gmmvae("evaluate", run).out.split("true \\")[1].splitlines()[1:]
    assert [line.split()[0] for line in lines] == [str(digit) for digit in range(10)]


def test_a_table_is_written_as_pandas_writes_it() -> None:
    columns = {
        "row": np.arange(4),
        "a, b": np.array(["x", 'say "y"', "a,b", ""]),
        "f32": np.array([0.1, np.nan, 1e-7, 12345678.0], np.float32),
        "f64": np.array([-44.783134, 1e22, -np.inf, 0.0]),
    }
    assert csv_text(columns) == pd.DataFrame(columns).to_csv(index=False)


@pytest.mark.parametrize(("encoding", "wanted"), [("ascii", "utf-8"), ("cp1252", "cp1252")])
def test_names_are_printed_where_the_locale_is_ascii(
    monkeypatch: pytest.MonkeyPatch, encoding: str, wanted: str
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    command = click.Command(
        "hello", callback=lambda: click.echo("甲" if wanted == "utf-8" else "é")
    )
    monkeypatch.setattr(sys, "argv", ["hello"])
    with pytest.raises(SystemExit):
        run_command(command)
    sys.stdout.flush()
    assert written.getvalue().decode(wanted).strip() in ("甲", "é")


def test_endings_of_outputs_are_in_any_case(gmmvae: Gmmvae, trained: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 64)))
    (tmp_path / "x.npy").rename(tmp_path / "X.NPY")
    out = tmp_path / "P.CSV"
    assert gmmvae("predict", trained, tmp_path / "X.NPY", "--out", out).code == 0
    assert len(pd.read_csv(out)) == 3
