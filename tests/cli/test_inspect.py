"""Tests of gmmvae inspect, and of kinds that are given to gmmvae train."""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pyro_gmmvae.errors import GMMVAEWarning

from .conftest import Gmmvae
from .test_bad_input import refused

RNG = np.random.default_rng(0)
N = 90


@pytest.fixture
def file(tmp_path: Path) -> Path:
    y = np.arange(N) % 3
    table = pd.DataFrame(
        {
            "id": np.arange(N),
            "age": RNG.normal(40, 9, N).round(),
            "income": np.exp(RNG.normal(y)).round(2),
            "site": np.array([*"ABC"])[RNG.integers(0, 3, N)],
            "copy": np.array(["u", "v", "w"])[y],
            "day": pd.date_range("2020-01-01", periods=N).strftime("%Y-%m-%d"),
            "person": np.array(["ann", "bob", "cy"])[y],
        }
    ).assign(again=lambda t: t["age"])
    table.loc[table.index % 10 == 3, ["age", "site"]] = None
    table.loc[5, "person"] = "Ann"
    table.loc[7, "person"] = None
    table.to_csv(tmp_path / "rows.csv", index=False, sep=";", decimal=",")
    return tmp_path / "rows.csv"


def test_columns_are_shown_with_kind_reason_and_oddities(gmmvae: Gmmvae, file: Path) -> None:
    result = gmmvae("inspect", file, "--label-column", "person")
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert lines[0] == f"{file}: 90 rows, 5 columns to model, 2 left out"
    assert (
        lines[1] == "label person: 4 classes (Ann 1, ann 30, bob 29, cy 29); 1 rows without a label"
    )
    row = {line.split()[0]: line for line in lines if line}
    assert row["age"].split()[1:3] == ["real", "10.0%"]
    assert row["income"].split()[1] == "positive"
    assert "'A', 'B', 'C'" in row["site"]
    assert row["id"].split()[1:3] == ["left", "out"]
    assert "dates such as '2020-01-01'" in row["day"]
    assert "positive   log-normal with a learned scale" in lines
    for note in (
        "numbers are read with a decimal comma",
        "of the labels, 'Ann' and 'ann' differ in case or blanks only",
        "labels that occur once: 'Ann'",
    ):
        assert f"note: {note}" in lines


def test_kinds_are_given_and_all_is_json(gmmvae: Gmmvae, file: Path) -> None:
    kinds = ("--column", "id=real", "--column", "age=skip", "--column", "id=count")
    content = json.loads(gmmvae("inspect", file, *kinds, "--json").out)
    columns = {column["name"]: column for column in content["columns"]}
    assert columns["id"]["kind"] == "count"
    assert columns["id"]["likelihood"] == "negative binomial with a learned dispersion"
    assert columns["age"]["kind"] is None
    assert columns["again"]["low"] == pd.read_csv(file, sep=";", decimal=",")["again"].min()
    assert columns["again"]["missing"] == 0
    assert content["label"] == {"column": None, "classes": {}, "unknown": N}
    again = json.loads(gmmvae("inspect", file, "--label-column", "copy", "--json").out)
    assert again["label"]["classes"] == {"u": 30, "v": 30, "w": 30}


def test_columns_that_are_left_out_are_not_compared(gmmvae: Gmmvae, file: Path) -> None:
    table = pd.read_csv(file, sep=";", decimal=",")
    code = [f"P{row:03}" for row in range(N)]
    table.assign(code=code, also=table["age"]).to_csv(file, index=False)
    result = gmmvae("inspect", file)
    assert "note: column 'also' has the values of 'age'" in result.out
    assert "'code' has the values" not in result.out
    assert "has the values of 'code'" not in result.out


def test_arrays(gmmvae: Gmmvae, tmp_path: Path) -> None:
    x = RNG.normal(size=(40, 3))
    x[0, 0] = np.nan
    x[:, 2] = np.arange(40) % 2
    np.savez(tmp_path / "f.npz", x=x, y=np.arange(40) % 2)
    lines = gmmvae("inspect", tmp_path / "f.npz").out.splitlines()
    assert lines[0].endswith("f.npz: 40 rows")
    assert "2 classes (0 20, 1 20)" in lines[1]
    assert any("rows of 3 entries (float64)" in line and "0.8% missing" in line for line in lines)
    assert any("columns that equal the label: 'x[2]'" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--label-column", "persn"), ["has no column 'persn'", "did you mean 'person'"]),
        (("--column", "ages=real"), ["no column 'ages'", "did you mean 'age'"]),
        (("--column", "age=rael"), ["did you mean 'real'"]),
        (("--column", "site=real"), ["'site' can't be real", "'A'"]),
        (("--column", "day=real"), ["dates", "(d - d.min()).dt.days"]),
        (("--column", "age"), ["'age' is not NAME=KIND"]),
        (
            ("--label-column", "copy", "--column", "copy=category"),
            ["'copy' can't have a kind", "the column of labels"],
        ),
    ],
)
def test_refusals(gmmvae: Gmmvae, file: Path, arguments: tuple[str, ...], words: list[str]) -> None:
    refused(gmmvae("inspect", file, *arguments), *words)
    refused(gmmvae("train", "--data", file, *arguments, "--out", file.parent / "r"), *words)
    assert not (file.parent / "r").exists()


def test_files_that_are_no_table(gmmvae: Gmmvae, tmp_path: Path) -> None:
    (tmp_path / "noise.csv").write_bytes(bytes(range(256)))
    refused(gmmvae("inspect", tmp_path / "noise.csv"), "can't be read as csv")
    refused(gmmvae("inspect", tmp_path / "absent.csv"), "does not exist")
    refused(gmmvae("inspect", tmp_path), "is a folder")


def test_kinds_are_kept_in_the_run_and_new_values_named(
    gmmvae: Gmmvae, file: Path, tmp_path: Path
) -> None:
    toml = tmp_path / "run.toml"
    toml.write_text('label_column = "person"\n[columns]\nage = "count"\nagain = "skip"\n')
    run = tmp_path / "r"
    small = ("--epochs", 1, "--members", 1, "--cv", 0, "--set", "hidden=8")
    given = ("--config", toml, "--column", "age=positive", "--column", "copy=skip")
    result = gmmvae("train", "--data", file, *given, *small, "--out", run)
    assert result.code == 0, result.err
    assert "left out: 'id' (whole numbers" in result.err
    content = json.loads((run / "config.json").read_text())
    specs = content["data"]["kind"]["specs"]
    assert [(s["name"], s["kind"]) for s in specs] == [
        ("age", "positive"),
        ("income", "positive"),
        ("site", "category"),
    ]
    new = pd.DataFrame({"income": [1.0, 2], "more": ["x", "y"], "site": ["Z", "A"], "age": [3, 4]})
    new.to_csv(tmp_path / "new.csv", index=False)
    with warnings.catch_warnings():
        warnings.simplefilter("default", GMMVAEWarning)
        predicted = gmmvae("predict", run, tmp_path / "new.csv")
    assert predicted.code == 0, predicted.err
    assert len(predicted.out.splitlines()) == 3
    assert "column 'site': 'Z' not among the training values 'A', 'B', 'C'" in predicted.err
    new.drop(columns="age").to_csv(tmp_path / "new.csv", index=False)
    refused(gmmvae("predict", run, tmp_path / "new.csv"), "lacks the column 'age'")
