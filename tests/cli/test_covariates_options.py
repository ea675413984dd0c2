"""Covariates of a table from the file to predictions, draws and pictures."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.explorer.view import load_view
from pyro_gmmvae.runs import Run, train
from pyro_gmmvae.runs.keys import default_config
from tests.cli.conftest import Gmmvae

ROWS = 120
KEYS = {
    "label_column": "group",
    "covariates": "site,age",
    "hidden": "16",
    "latent_dim": 2,
    "epochs": 40,
    "batch_size": 24,
    "labelled_per_batch": 0,
    "learning_rate": 0.01,
    "members": 1,
    "cv": 0,
    "test": 30,
    "validation": 20,
}


def write(file: Path, *, without: tuple[str, ...] = ()) -> Path:
    """Rows of two groups, measured at two sites; an age is missing."""
    rng = np.random.default_rng(0)
    site, group = rng.integers(0, 2, ROWS), rng.integers(0, 2, ROWS)
    columns: dict[str, Any] = {
        "site": np.array(["Kraków", "Osaka"])[site],
        "length": 2 * group + 5 * site + rng.normal(0, 0.3, ROWS),
        "width": 2 * group - 5 * site + rng.normal(0, 0.3, ROWS),
        "age": ["", *rng.normal(50, 9, ROWS - 1).round(1)],
        "group": np.array(["a", "b"])[group],
    }
    names = [name for name in columns if name not in without]
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(names)
        writer.writerows(zip(*(columns[name] for name in names), strict=True))
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("covariates")
    file = write(folder / "rows.csv")
    train(default_config(str(file), KEYS), folder / "run")
    return folder


def test_train_leaves_covariates_out_of_x(folder: Path) -> None:
    run = Run.load(folder / "run")
    given = {column.name: column.given for column in run.schema.kind.specs}
    assert given == {"site": True, "length": False, "width": False, "age": True}
    assert run.model.observation.covariates is not None
    assert set(run.evaluate(nll_rows=0, draws=0)["log_px_of_columns"]) == {"length", "width"}


def test_predict_as_another_site(folder: Path, gmmvae: Gmmvae) -> None:
    tables = {}
    for name, options in {"own": (), "as": ("--as", "site=Osaka", "--as", "age=40")}.items():
        done = gmmvae("predict", folder / "run", folder / "rows.csv", "--json", *options)
        assert done.code == 0, done.err
        tables[name] = pd.DataFrame(json.loads(done.out)["rows"])
    at_osaka = pd.read_csv(folder / "rows.csv")["site"] == "Osaka"
    loss = tables["own"]["elbo"] - tables["as"]["elbo"]
    assert loss[~at_osaka].mean() > loss[at_osaka].abs().mean() + 3


def test_predict_needs_no_column_of_a_covariate_that_it_sets(folder: Path, gmmvae: Gmmvae) -> None:
    file = write(folder / "new.csv", without=("site", "group"))
    done = gmmvae("predict", folder / "run", file)
    assert done.code == 2
    assert "site" in done.err
    done = gmmvae("predict", folder / "run", file, "--as", "site=Osaka")
    assert done.code == 0, done.err
    run = Run.load(folder / "run")
    given = run.predict(folder / "rows.csv", given={"site": "Osaka"})
    without = run.predict(file, given={"site": "Osaka"})
    pd.testing.assert_frame_equal(given, without)


def test_generate_at_a_site(folder: Path, gmmvae: Gmmvae) -> None:
    means = {}
    for site in ("Kraków", "Osaka"):
        out = folder / "draws.csv"
        options = ("--per-class", 40, "--as", f"site={site}", "--force")
        done = gmmvae("generate", folder / "run", "--out", out, *options)
        assert done.code == 0, done.err
        table = pd.read_csv(out)
        assert set(table["site"]) == {site}
        assert table["age"].between(20, 80).all()
        means[site] = table["width"].mean()
    assert means["Kraków"] - means["Osaka"] > 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sites=Osaka", "unknown covariate 'sites'; did you mean 'site'?"),
        ("site=osaka", "unknown value of site 'osaka'; did you mean 'Osaka'?"),
        ("site=Toronto", "unknown value of site 'Toronto'; choose from: Kraków, Osaka"),
        ("age=old", "age=old: the column is real; give a number"),
        ("site", "--as site: write --as NAME=VALUE"),
    ],
)
def test_bad_values_are_refused(folder: Path, gmmvae: Gmmvae, text: str, message: str) -> None:
    commands = (("predict", folder / "run", folder / "rows.csv"), ("generate", folder / "run"))
    for command in commands:
        more = ("--out", folder / "x.npz") if command[0] == "generate" else ()
        done = gmmvae(*command, *more, "--as", text)
        assert done.code == 2
        assert message in done.err
        assert "Traceback" not in done.err


def test_pictures_and_the_explorer_decode_with_typical_covariates(folder: Path) -> None:
    from pyro_gmmvae.figures.all import draw_all
    from pyro_gmmvae.figures.run_view import RunView

    run = Run.load(folder / "run")
    names = ("samples", "analogies", "traversal", "interpolation", "reconstructions", "components")
    drawn = dict(draw_all(RunView(run), names))
    assert not [name for name, picture in drawn.items() if isinstance(picture, str)], drawn
    space = load_view(run).space
    row = space.decode(space.start()).row
    assert np.isfinite(row).all()


def test_wrong_covariates_are_refused(folder: Path) -> None:
    for covariates, message in (
        ("sites", "no column 'sites'; did you mean 'site'"),
        ("group", "covariates group: it is the label column"),
        ("site,length,width,age", "no column to model: all columns are covariates"),
    ):
        config = default_config(str(folder / "rows.csv"), KEYS | {"covariates": covariates})
        with pytest.raises(GMMVAEError, match=message):
            train(config, folder / "refused")
    config = default_config(str(folder / "rows.csv"), KEYS | {"likelihood": "normal"})
    with pytest.raises(GMMVAEError, match="covariates are for likelihood=columns"):
        train(config, folder / "refused")
