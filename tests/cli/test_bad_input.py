"""Bad input: one clear line, exit status 2, nothing lost."""

import json
import pickle
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import pytest
import torch

from pyro_gmmvae.cli import run as run_command
from pyro_gmmvae.errors import GMMVAEWarning

from .conftest import SMALL, Gmmvae


def refused(result: object, *words: str, after: str | None = None) -> None:
    """One line of error; where the fit had begun, ``after`` it the line that begins so."""
    assert result.code == 2, result  # type: ignore[attr-defined]
    lines = result.err.strip().split("\n")  # type: ignore[attr-defined]
    if after is not None:
        assert lines.pop(0).startswith(after)
        assert lines.pop(0).startswith("engine: ")
    assert len(lines) == 1, lines
    assert lines[0].startswith("gmmvae: ")
    for word in words:
        assert word in lines[0], lines[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "gmvae"), ["unknown model", "did you mean 'gmmvae'"]),
        (("--guide", "prodct"), ["unknown guide", "product"]),
        (("--objective", "elbo"), ["unknown objective"]),
        (("--network", "cnv"), ["unknown network", "conv"]),
        (("--data", "minst"), ["unknown data set", "did you mean 'mnist'"]),
        (("--data", "absent.csv"), ["does not exist"]),
        (("--set", "latent_dims=4"), ["unknown key", "did you mean 'latent_dim'"]),
        (("--set", "latent_dim"), ["key=value"]),
        (("--cv", "1"), ["2 folds or more", "0 for none"]),
        (("--set", ""), ["'': write key=value"]),
        (("--set", "=8"), ["'=8': write key=value"]),
        (("--data", ""), ["data", "a name is needed"]),
        # a run whose config.json could not be read again
        (("--set", f"batch_size={10**22}"), ["batch_size", "at most 18446744073709551615"]),
        (("--set", "window=4"), ["window is for data of skeletons or series"]),
        (("--guide", "flow", "--set", "flows=1000000000"), ["flows must be between 0 and 100"]),
        (("--guide", "low-rank", "--set", "rank=0"), ["rank must be at least 1"]),
        (
            ("--set", "prior_temperature=1e-300"),
            ["can't be evaluated on the first rows", "temperature"],
        ),
        (("--set", "alpha=1e39"), ["alpha: a schedule's values must be finite, and below 3e38"]),
        (("--protocol", "x"), ["protocol is for data of skeletons or series"]),
        (("--set", "latent_dim=x"), ["latent_dim", "integer"]),
        (("--set", "alpha=1:2:"), ["schedule"]),
        (("--set", "prior_temperature=0.5:-1:3"), ["temperature must stay positive"]),
        (("--set", "hidden="), ["hidden", "at least 1"]),
        (("--network", "conv", "--set", "channels="), ["channels", "at least 1"]),
        (("--seed", str(2**64)), ["seed"]),
        (("--engine", "jit"), ["engine", "'compiled'"]),
        (("--precision", "f16"), ["precision", "'bf16'"]),
        (("--model", "vae", "--set", "alpha=5"), ["does not use alpha"]),
        (("--model", "vae", "--set", "pseudo_from=7"), ["does not use pseudo_from"]),
        (("--label-column", "x", "--data", "absent.csv"), ["does not exist"]),
        (("--set", "activation=rleu"), ["unknown activation", "relu"]),
        (("--set", "vat=1", "--set", "vat_radius=1:2"), ["vat_radius can't change"]),
        (("--set", "vat=1", "--set", "vat_radius=1e39"), ["vat_radius", "below 3e38"]),
        (("--set", "elbo_weight=1e300"), ["elbo_weight"]),
        (("--set", "elbo_weight=0", "--set", "alpha=0"), ["leave nothing to fit"]),
        (("--labels", "0", "--set", "teacher_share=0.5"), ["at least two classes"]),
        (("--labels", "0", "--set", "elbo_weight=0"), ["leaves nothing to fit without labels"]),
        (
            ("--model", "vae", "--set", "prior=vamp", "--set", f"prior_components={10**11}"),
            ["prior_components must be from 1 to 1,000,000"],
        ),
        (("--model", "m1m2", "--set", "vat=1"), ["no gradient with respect to x", "set vat=0"]),
        (("--set", "likelihood=gauss"), ["unknown likelihood"]),
        (("--set", "labelled_per_batch=500"), ["labelled_per_batch"]),
        (("--labels", "9"), ["9 labels for 10 classes"]),
        (("--labels", "all", "--set", "labelled_elbo=0"), ["leaves no row to the ELBO"]),
        (("--labels", "99999"), ["99999 labels are more than the"]),
        (("--labels", "-3"), ["labels"]),
        (("--labels", "few"), ["labels", "valid integer"]),
        (("--components", "4"), ["at least one per class"]),
        (("--epochs", "0"), ["epochs"]),
        (("--learning-rate", "-1"), ["learning_rate"]),
        (("--device", "tpu"), ["unknown device"]),
        (("--model", "vae", "--guide", "product"), ["the model 'vae' does not use guide"]),
        (("--model", "vae", "--set", "kl_s=0.5"), ["kl_s is not a key of"]),
        (("--preset", "bset"), ["unknown preset", "did you mean 'best'"]),
        (("--set", "augment=affin"), ["augment=affin:", "affine"]),
        (("--guide", "flow", "--objective", "analytic"), ["use the objective 'trace'"]),
        (("--model", "adgm", "--objective", "analytic"), ["use the objective 'trace'"]),
        (("--guide", "flow", "--latent-dim", "1"), ["at least 2"]),
        (("--model", "gmvae-discrete", "--guide", "straight-through"), ["with the model gmmvae"]),
        (("--model", "m2", "--guide", "bayes"), ["the model 'm2' does not use guide"]),
        (("--model", "m1", "--labels", "0"), ["'m1' needs labels"]),
        (("--model", "cvae", "--labels", "0"), ["'cvae' needs labels"]),
        (("--model", "m2", "--components", "4"), ["at least one per class"]),
        (("--set", "particles=0"), ["particles"]),
        (("--model", "m2", "--set", "auxiliary_dim=3"), ["auxiliary_dim is not a key of"]),
        (("--config", "absent.toml"), ["absent.toml"]),
        (("--frobnicate",), ["No such option"]),
        (("--minutes", "inf"), ["minutes", "finite"]),
        (("--set", "test=inf"), ["test"]),
        (("--latent-dim", str(2**63 - 1)), ["latent_dim", "less than or equal to 100000"]),
        (("--set", "hidden=1e19"), ["hidden", "valid integer"]),
        (("--set", "particles=1000000"), ["particles", "less than or equal to 10000"]),
        (("--set", f"hidden={','.join(50 * ['100000'])}"), ["not enough memory", "hidden smaller"]),
        (("--set", "covariance=full", "--latent-dim", "100000"), ["not enough memory"]),
    ],
)
def test_train(
    gmmvae: Gmmvae, tmp_path: Path, arguments: tuple[str, ...], words: list[str]
) -> None:
    refused(gmmvae("train", *arguments, "--out", tmp_path / "r"), *words)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("out", "word"), [(".", "can't be the current folder"), ("", "the path is empty")]
)
def test_a_run_folder_is_not_the_current_folder(
    gmmvae: Gmmvae, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, word: str
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(gmmvae("train", *SMALL, "--out", out), word, "--out")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_without_one(gmmvae: Gmmvae, tmp_path: Path) -> None:
    refused(gmmvae("train", "--device", "cuda", "--out", tmp_path / "r"), "0 CUDA devices")


def test_a_toml_file_with_a_typo_or_of_another_kind(gmmvae: Gmmvae, tmp_path: Path) -> None:
    toml = tmp_path / "run.toml"
    toml.write_text("epoch = 3\n")
    refused(gmmvae("train", "--config", toml), "did you mean 'epochs'")
    toml.write_text("not toml at all")
    refused(gmmvae("train", "--config", toml), "is not TOML")


def test_non_finite_rows(gmmvae: Gmmvae, tmp_path: Path) -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)), columns=[*"abc"])
    frame.loc[5, "b"] = np.inf
    frame.to_csv(tmp_path / "f.csv", index=False)
    arguments = ("--data", tmp_path / "f.csv", *SMALL, "--epochs", 1, "--out", tmp_path / "r")
    refused(gmmvae("train", *arguments), "1 of 60 rows", "--drop-nonfinite")
    assert gmmvae("train", *arguments, "--drop-nonfinite").code == 0


def test_predict_warns_of_another_unit(gmmvae: Gmmvae, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(60, 3))
    np.save(tmp_path / "f.npy", x)
    np.save(tmp_path / "g.npy", 1000 * x)
    arguments = ("--data", tmp_path / "f.npy", *SMALL, "--labels", 0, "--epochs", 1)
    assert gmmvae("train", *arguments, "--out", tmp_path / "r").code == 0
    with warnings.catch_warnings():
        warnings.simplefilter("default", GMMVAEWarning)
        result = gmmvae("predict", tmp_path / "r", tmp_path / "g.npy")
    assert result.code == 0
    assert result.err.count("\n") == 1
    assert result.err.startswith("gmmvae: warning: ")
    assert "g.npy may be in another unit" in result.err


def test_bernoulli_of_rows_outside_its_range(gmmvae: Gmmvae, tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", np.random.default_rng(0).normal(size=(60, 3)))
    arguments = ("--data", tmp_path / "f.npy", "--set", "likelihood=bernoulli")
    refused(gmmvae("train", *arguments, "--out", tmp_path / "r"), "needs rows in [0, 1]")


def test_labels_asked_of_a_file_without_any(gmmvae: Gmmvae, tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", np.zeros((50, 3)))
    refused(gmmvae("train", "--data", tmp_path / "f.npy", "--labels", 10), "has no labels", "label")


def test_an_existing_run_is_kept(gmmvae: Gmmvae, trained: Path) -> None:
    before = (trained / "weights.safetensors").read_bytes()
    refused(gmmvae("train", *SMALL, "--out", trained), "exists and is kept", "--force")
    assert (trained / "weights.safetensors").read_bytes() == before


def test_a_folder_of_something_else_is_never_replaced(gmmvae: Gmmvae, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    refused(gmmvae("train", *SMALL, "--out", tmp_path, "--force"), "is not a run folder")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_replacement_that_fails_early_loses_nothing(
    gmmvae: Gmmvae, trained: Path, tmp_path: Path
) -> None:
    run = tmp_path / "r"
    shutil.copytree(trained, run)
    before = (run / "weights.safetensors").read_bytes()
    blown = ("--learning-rate", "1e38", "--set", "clip_norm=0", "--set", "decay=constant")
    refused(
        gmmvae("train", *SMALL, *blown, "--out", run, "--force"), "non-finite", after="1797 rows"
    )
    assert (run / "weights.safetensors").read_bytes() == before
    assert not (tmp_path / "r.replaced").exists()
    # a kill -9 in the same place leaves the old run under its other name
    run.rename(tmp_path / "r.replaced")
    shutil.copytree(trained, run)
    refused(gmmvae("train", *SMALL, "--out", run, "--force"), "move it away first")


def test_a_run_that_fails_before_its_first_checkpoint_is_not_in_the_way(
    gmmvae: Gmmvae, tmp_path: Path
) -> None:
    run = tmp_path / "r"
    blown = ("--learning-rate", "1e38", "--set", "clip_norm=0", "--set", "decay=constant")
    refused(gmmvae("train", *SMALL, *blown, "--out", run), "non-finite", after="1797 rows")
    assert not run.exists()
    assert gmmvae("train", *SMALL, "--epochs", 1, "--out", run).code == 0


def test_a_run_has_no_shorter_budget_than_it_used(gmmvae: Gmmvae, copied: Path) -> None:
    (copied / "metrics.json").unlink()  # as of a run that was stopped
    before = (copied / "config.json").read_text()
    refused(gmmvae("resume", copied, "--epochs", 3), "has 12 epochs already")
    assert (copied / "config.json").read_text() == before


def test_a_value_with_commas_in_a_variant() -> None:
    from pyro_gmmvae.cli.ablate import variant

    assert variant("hidden=16,32,alpha=none") == {"hidden": "16,32", "alpha": None}
    assert variant("") == {}


def test_an_output_that_cannot_be_written_is_named(
    gmmvae: Gmmvae, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.random.default_rng(0).random((40, 3))
    (tmp_path / "rows").mkdir()
    pd.DataFrame(x, columns=list("abc")).to_parquet(tmp_path / "rows" / "p.parquet")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    result = gmmvae("train", "--data", tmp_path / "rows", "--labels", 0, "--out", tmp_path / "r")
    refused(result, str(tmp_path / "file"))


def test_force_replaces_a_run(gmmvae: Gmmvae, trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "r"
    shutil.copytree(trained, run)
    assert gmmvae("train", *SMALL, "--epochs", 1, "--out", run, "--force").code == 0
    assert len(pd.read_csv(run / "history.csv")) == 1
    assert not (tmp_path / "r.replaced").exists()


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    run = tmp_path / "copied"
    shutil.copytree(trained, run)
    return run


def test_a_missing_run(gmmvae: Gmmvae, tmp_path: Path, rows_file: Path) -> None:
    for command in (("evaluate",), ("resume",), ("predict", rows_file)):
        result = gmmvae(command[0], tmp_path / "no", *command[1:])
        refused(result, "is not a run folder")
    refused(gmmvae("evaluate", tmp_path), "config.json is missing")


def test_a_half_written_run_is_said_to_be_one_and_resumes(gmmvae: Gmmvae, copied: Path) -> None:
    for name in ("weights.safetensors", "best.safetensors", "training.pt", "metrics.json"):
        (copied / name).unlink()
    refused(gmmvae("evaluate", copied), "before its first checkpoint", "gmmvae resume")
    assert gmmvae("resume", copied).code == 0
    assert gmmvae("evaluate", copied, "--samples", 2).code == 0


def test_a_run_of_another_version(gmmvae: Gmmvae, copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"format": 99}))
    refused(gmmvae("evaluate", copied), "run format 99")
    (copied / "config.json").write_text("{ half")
    refused(gmmvae("evaluate", copied), "can't be read as JSON")
    (copied / "config.json").write_text(json.dumps(config | {"config": {"no_key": 1}}))
    refused(gmmvae("evaluate", copied), "no_key")
    changes: list[tuple[str, Any]] = [
        ("kind", config["data"]["kind"] | {"x_shape": "ab"}),
        ("kind", config["data"]["kind"] | {"x_shape": [-4]}),
        ("kind", config["data"]["kind"] | {"name": "images"}),
        ("transform", "tampered"),
        ("transform", {"shift": 0, "scale": 0}),
        ("transform", {"shift": [0, 1], "scale": 1}),
    ]
    for key, value in changes:
        damaged = config | {"data": config["data"] | {key: value}}
        (copied / "config.json").write_text(json.dumps(damaged))
        refused(gmmvae("evaluate", copied), "config.json is damaged")


def test_numbers_out_of_range_of_a_distribution_are_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["gmmvae"])

    @click.command()
    def command() -> None:
        torch.distributions.Normal(torch.tensor(torch.nan), torch.tensor(1.0), validate_args=True)

    with pytest.raises(SystemExit, match="2"):
        run_command(command)
    line = capsys.readouterr().err
    assert line.startswith("gmmvae: the model gives numbers out of range (Expected parameter loc")
    assert line.count("\n") == 1


def test_tampered_and_pickled_weights(gmmvae: Gmmvae, copied: Path, rows_file: Path) -> None:
    file = copied / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 255
    file.write_bytes(content)
    refused(gmmvae("predict", copied, rows_file), "was altered")
    file.write_bytes(pickle.dumps({"a": 1}))
    refused(gmmvae("predict", copied, rows_file), "not a safetensors file")
    (copied / "training.pt").write_bytes(pickle.dumps({"a": 1}))
    refused(gmmvae("resume", copied, "--epochs", 19), "training")


def test_weights_of_another_model(gmmvae: Gmmvae, copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    config["config"]["latent_dim"] = 5
    (copied / "config.json").write_text(json.dumps(config))
    refused(gmmvae("evaluate", copied), "does not fit the model")


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.zeros((3, 63)), ["(63,)", "(1, 8, 8)"]),
        (np.zeros((3, 28, 28), np.uint8), ["(1, 28, 28)", "(1, 8, 8)"]),
        (np.full((3, 64), np.nan), ["every cell is missing"]),
        (np.array([[np.nan] + 63 * [3]]), ["missing cells", "train on rows of which some"]),
        (np.full((3, 64), 255.0), ["holds 255,", "whole numbers from 0 to 16"]),
        (np.full((3, 64), 0.3), ["holds 0.3,", "whole numbers from 0 to 16"]),
    ],
)
def test_rows_of_another_size_at_predict(
    gmmvae: Gmmvae, trained: Path, tmp_path: Path, x: np.ndarray, words: list[str]
) -> None:
    np.save(tmp_path / "x.npy", x)
    refused(gmmvae("predict", trained, tmp_path / "x.npy"), *words)


def test_outputs_that_exist_are_kept(
    gmmvae: Gmmvae, trained: Path, rows_file: Path, tmp_path: Path
) -> None:
    for name, command in (
        ("p.csv", ("predict", trained, rows_file)),
        ("g.png", ("generate", trained)),
    ):
        out = tmp_path / name
        out.write_text("mine")
        refused(gmmvae(*command, "--out", out), "exists and is kept", "--force")
        assert out.read_text() == "mine"
        assert gmmvae(*command, "--out", out, "--force").code == 0
        assert out.read_bytes() != b"mine"


def test_outputs_of_unknown_kind_or_place(
    gmmvae: Gmmvae, trained: Path, rows_file: Path, tmp_path: Path
) -> None:
    refused(gmmvae("predict", trained, rows_file, "--out", tmp_path / "p.xlsx"), ".csv or .parquet")
    refused(gmmvae("generate", trained, "--out", tmp_path / "no" / "g.png"), "make it first")
    refused(
        gmmvae("generate", trained, "--out", tmp_path / "g.png", "--class", "x"), "unknown class"
    )


def test_data_that_changed(gmmvae: Gmmvae, tmp_path: Path) -> None:
    file, run = tmp_path / "f.csv", tmp_path / "r"
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)), columns=[*"abc"])
    frame.to_csv(file, index=False)
    gmmvae("train", "--data", file, *SMALL, "--epochs", 1, "--out", run)
    (frame + 1).to_csv(file, index=False)
    refused(gmmvae("evaluate", run), "has changed")


def test_a_disk_that_fills_up_keeps_the_last_checkpoint(copied: Path) -> None:
    """A file-size limit below a checkpoint's size, in a process that goes on with the run."""
    before = {p.name: p.read_bytes() for p in copied.iterdir()}
    code = """
import resource, signal, sys
from pyro_gmmvae.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
sys.argv = ["gmmvae", "resume", sys.argv[1], "--epochs", "14"]
main()
"""
    ended = subprocess.run(
        [sys.executable, "-c", code, str(copied)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2, ended.stderr
    last = ended.stderr.strip().split("\n")[-1]
    assert last.startswith("gmmvae: can't write")
    assert "is kept" in last
    for name in ("training.pt", "weights.safetensors", "best.safetensors", "history.csv"):
        assert (copied / name).read_bytes() == before[name]


def test_a_loss_that_blows_up_keeps_the_last_checkpoint(gmmvae: Gmmvae, tmp_path: Path) -> None:
    run = tmp_path / "r"
    gmmvae("train", *SMALL, "--epochs", 1, "--out", run)
    before = (run / "weights.safetensors").read_bytes()
    config = json.loads((run / "config.json").read_text())
    config["config"] |= {"learning_rate": 1e30, "clip_norm": 0.0}
    (run / "config.json").write_text(json.dumps(config))
    refused(
        gmmvae("resume", run, "--epochs", 3),
        "non-finite at step",
        f"; the last checkpoint is in {run}",
        after="1797",
    )
    assert (run / "weights.safetensors").read_bytes() == before
    assert gmmvae("evaluate", run, "--samples", 2).code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--guides", "prodct"), ["unknown guide", "product"]),
        (("--models", "m3"), ["unknown model"]),
        (("--objectives", "elbo"), ["unknown objective"]),
        (("--presets", "bset"), ["did you mean 'best'"]),
        (("--labels", "9"), ["9 labels for 10 classes"]),
        (("--labels", "ten"), ["labels"]),
        (("--guides", ","), ["at least one"]),
        (("--seeds", "0"), ["seeds"]),
        (("--metric", "f1"), ["choose from accuracy"]),
        (("--variant", "alpha"), ["key=value"]),
        (("--variant", "alpha=0,alpha=1"), ["names a key twice"]),
        (("--variant", "alpah=1"), ["did you mean 'alpha'"]),
        (("--set", "components=3"), ["at least one per class"]),
        (("--data", "absent.csv"), ["does not exist"]),
    ],
)
def test_ablate_refuses(
    gmmvae: Gmmvae, tmp_path: Path, arguments: tuple[str, ...], words: list[str]
) -> None:
    result = gmmvae("ablate", *arguments, "--out", tmp_path / "a")
    assert result.code == 2
    last = result.err.strip().splitlines()[-1]
    assert all(word in last for word in words), result.err
    assert not (tmp_path / "a").exists()


def test_ablate_into_a_file_is_refused(gmmvae: Gmmvae, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    result = gmmvae("ablate", "--seeds", 1, "--out", tmp_path / "a")
    refused(result, "is a file; name a folder")
    assert (tmp_path / "a").read_text() == "mine"


def test_a_class_without_a_labelled_row(gmmvae: Gmmvae, tmp_path: Path) -> None:
    """Its only rows are unlabelled or held out: a model that needs it says so."""
    generator = np.random.default_rng(0)
    table = pd.DataFrame(generator.normal(size=(60, 3)), columns=list("abc"))
    table["label"] = ["x", "y"] * 29 + ["z", "z"]
    table.to_csv(tmp_path / "rows.csv", index=False)
    common = ("--data", tmp_path / "rows.csv", "--set", "test=0", "--set", "validation=0")
    few = ("--labels", 2, "--epochs", 1)
    refused(
        gmmvae("train", *common, *few, "--out", tmp_path / "r"), "each class needs at least one"
    )


def test_a_class_the_fit_sees_no_label_of() -> None:
    from pyro_gmmvae.errors import GMMVAEError
    from pyro_gmmvae.models import M1
    from pyro_gmmvae.runs import default_config
    from pyro_gmmvae.runs.build import require_labels
    from pyro_gmmvae.runs.data import TrainingData

    config = default_config("digits", {"model": "m1"})
    rows = TrainingData.from_config(config)
    require_labels(config, M1, rows)
    labelled = rows.split.labelled[rows.dataset.y[rows.split.labelled] != 7]
    without = replace(rows, split=replace(rows.split, labelled=labelled))
    with pytest.raises(GMMVAEError, match=r"labelled row of every class.*none of '7'"):
        require_labels(config, M1, without)


def test_the_number_of_components_of_a_comparison_is_its_range(
    gmmvae: Gmmvae, tmp_path: Path
) -> None:
    result = gmmvae("components", "--set", "components=3", "--out", tmp_path / "new")
    refused(result, "components is what is compared: give it with --range")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("command", ["train", "tune", "ablate", "components"])
def test_an_output_that_is_empty_or_a_file_is_refused(
    gmmvae: Gmmvae, tmp_path: Path, command: str
) -> None:
    (tmp_path / "file").write_text("kept")
    refused(gmmvae(command, "--out", ""), "--out", "the path is empty")
    refused(gmmvae(command, "--out", tmp_path / "file"), "file is a file; name a folder")
    assert (tmp_path / "file").read_text() == "kept"
