"""The benchmark of tables: draws, measured methods, and the summary of made numbers."""

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pyro_gmmvae.errors import GMMVAEError

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


@pytest.fixture
def strangers(tmp_path: Path) -> Path:
    """A folder with a table of numbers, texts and missing cells; the last column is the label."""
    generator = np.random.default_rng(0)
    label = generator.integers(0, 2, 120)
    frame = pd.DataFrame({"size": label * 3 + generator.normal(size=120)})
    frame["color"] = np.where(generator.random(120) < 0.8, label, 1 - label)
    frame["color"] = frame["color"].map({0: "red", 1: "blue"})
    frame.loc[::7, "color"] = None
    frame.loc[::5, "size"] = np.nan
    frame["kind"] = np.where(label == 1, "b", "a")
    (tmp_path / "data").mkdir()
    frame.to_csv(tmp_path / "data" / "made.csv", index=False)
    return tmp_path / "data"


def test_labels_of_a_draw_are_balanced_nested_and_of_training_rows(strangers: Path) -> None:
    data = importlib.import_module("table_data")
    table = data.read_labelled("made", strangers)
    assert table.classes == ["a", "b"]
    assert list(table.x) == ["size", "color"]
    few, more = data.draw(table, 3, 1), data.draw(table, 10, 1)
    assert np.bincount(few.visible + 1).tolist() == [78, 3, 3]
    seen = few.visible >= 0
    assert (more.visible[seen] == few.visible[seen]).all()
    assert (table.y[more.train][more.visible >= 0] == more.visible[more.visible >= 0]).all()
    assert sorted([*few.train, *few.test]) == list(range(120))
    assert not np.array_equal(few.test, data.draw(table, 3, 2).test)


def test_validation_rows_are_training_rows(strangers: Path) -> None:
    data = importlib.import_module("table_data")
    table = data.read_labelled("iris", strangers)
    usual, one = (data.draw(table, 3, seed=1, validation=v) for v in (False, True))
    assert np.isin(one.test, usual.train).all()
    assert not np.isin(one.test, one.train).any()
    assert np.isin(one.train, usual.train).all()
    assert len(one.test) == 32  # 30 % of 105 training rows
    assert np.bincount(one.visible[one.visible >= 0]).tolist() == [3, 3, 3]


def test_methods_are_measured_once_and_refused_tables_are_said(
    strangers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = importlib.import_module("tables")
    out = tmp_path / "out"
    given = ["--data-dir", str(strangers), "--tables", "made", "--draws", "2"]
    given += ["--labels", "10", "--out", str(out)]
    methods = ["--methods", "logistic,1-NN,self-training,label spreading"]
    tables.main([*given, *methods], standalone_mode=False)
    file = out / "made-10.json"
    found = json.loads(file.read_text())
    assert found["classes"] == 2
    for draws in found["measured"].values():
        assert list(draws) == ["0", "1"]
        assert draws["0"]["accuracy"] > 0.75
    assert found["measured"]["logistic"]["0"]["log_loss"] < 0.6
    assert "log_loss" not in found["measured"]["1-NN"]["0"]
    written = file.read_bytes()
    tables.main([*given, *methods], standalone_mode=False)
    assert file.read_bytes() == written

    def refuse(*_: Any, **__: Any) -> None:
        raise GMMVAEError("column size is odd")

    monkeypatch.setattr(tables.table_runs, "predict", refuse)
    tables.main([*given, "--methods", "gmmvae"], standalone_mode=False)
    text = (out / "table.md").read_text()
    assert "gmmvae on made, 2 draws: column size is odd" in text
    assert "| logistic |" in text
    assert (out / "labels.png").stat().st_size > 10_000


def test_gmmvae_is_a_method_and_its_settings_have_a_name(tmp_path: Path) -> None:
    tables = importlib.import_module("tables")
    given = ["--tables", "iris", "--draws", "1", "--labels", "10", "--out", str(tmp_path)]
    settings = ["epochs=30", "hidden=32", "batch_size=60", "members=1", "teacher_share=0"]
    quick = [word for text in settings for word in ("--set", text)]
    tables.main([*given, "--variant", "small", *quick], standalone_mode=False)
    found = json.loads((tmp_path / "iris-10.json").read_text())["measured"]
    assert list(found) == ["gmmvae:small"]
    assert found["gmmvae:small"]["0"]["accuracy"] > 0.8
    assert found["gmmvae:small"]["0"]["log_loss"] < 1


def test_sets_and_new_classes_are_measured_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = importlib.import_module("tables")
    seen: list[set[int]] = []

    def predict(draw: Any, _: Any, **__: Any) -> Any:
        """Sets of the true class and another, but none for each third row."""
        seen.append(set(draw.table.y[draw.train]))
        true = draw.table.labels[draw.test]
        y = draw.table.y[draw.test]
        sets = ["" if i % 3 == 0 else f"{name}|other" for i, name in enumerate(true)]
        new = np.where(y == draw.seed % 3, 0.9, 0.1)
        return y, np.eye(3)[y], pd.DataFrame({"set": sets, "new": new})

    monkeypatch.setattr(tables.table_runs, "predict", predict)
    given = ["--tables", "iris,breast_cancer", "--draws", "2", "--labels", "3"]
    given += ["--out", str(tmp_path)]
    tables.main([*given, "--tables", "iris", "--coverage", "0.9"], standalone_mode=False)
    tables.main([*given, "--methods", "gmmvae,logistic", "--leave-out"], standalone_mode=False)
    assert seen == [{0, 1, 2}, {0, 1, 2}, {1, 2}, {0, 2}]  # and none of two classes
    found = json.loads((tmp_path / "iris-3.json").read_text())["measured"]
    assert list(found) == ["gmmvae:new", "gmmvae:sets", "logistic:new"]
    sets = found["gmmvae:sets"]["0"]
    assert (sets["coverage"], sets["set_size"]) == (0.6667, 1.333)
    assert found["gmmvae:new"]["1"]["auroc"] == 1
    # versicolor lies between the others, and setosa far behind one of them
    assert found["logistic:new"]["1"]["auroc"] > 0.8 > found["logistic:new"]["0"]["auroc"]
    text = (tmp_path / "answers.md").read_text()
    assert "coverage 0.667, size 1.33; 0 of 1 tables inside" in text
    assert "| gmmvae:new | 1.000 | 1.000 |" in text
    report = importlib.import_module("table_report")
    assert not len(report.shared(report.read_measured(tmp_path)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--tables", "irs"], "did you mean 'iris'"),
        (["--methods", "logistics"], "did you mean 'logistic'"),
        (["--data-dir", "nowhere"], "nowhere is not a folder"),
        (["--summary"], "has no results"),
    ],
)
def test_what_is_not_there_is_named(tmp_path: Path, given: list[str], message: str) -> None:
    tables = importlib.import_module("tables")
    with pytest.raises(GMMVAEError, match=message):
        tables.main([*given, "--out", str(tmp_path)], standalone_mode=False)


# accuracy by table and method
MADE = {
    "one": {"logistic": 0.8, "1-NN": 0.6, "gmmvae": 0.9, "gmmvae:b": 0.5},
    "two": {"logistic": 0.7, "1-NN": 0.9, "gmmvae": 0.8, "gmmvae:b": 0.95},
    "three": {"logistic": 0.7, "1-NN": 0.6, "gmmvae": 0.7, "gmmvae:b": 0.6},
}


@pytest.fixture
def measured() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "table": table,
            "labels": 10,
            "draw": draw,
            "method": method,
            "accuracy": accuracy + 0.01 * draw - 0.005,
            "log_loss": 1.0,
            "seconds": 2.0,
            "coverage": np.nan,
            "auroc": np.nan,
            "error": "",
        }
        for table, methods in MADE.items()
        for method, accuracy in methods.items()
        for draw in range(2)
    )


def test_means_ranks_wins_and_gaps_of_made_numbers(measured: pd.DataFrame) -> None:
    report = importlib.import_module("table_report")
    line = report.summarize(measured).loc["gmmvae"]
    assert line["accuracy"] == pytest.approx(0.8)
    assert line["error"] == pytest.approx(0.005)
    assert line["difference"] == pytest.approx(0.8 - 2.2 / 3)  # above logistic
    assert line["difference_error"] == pytest.approx(0)
    assert line["rank"] == pytest.approx((1 + 3 + 1.5) / 3)
    assert (line["wins"], line["worst"]) == (2, "two")
    assert line["gap"] == pytest.approx(0.1)
    assert report.summarize(measured).loc["logistic", "gap"] == pytest.approx(0.2)


def test_a_variant_is_chosen_on_the_other_tables(measured: pd.DataFrame) -> None:
    report = importlib.import_module("table_report")
    chosen = report.leaving_one_out(measured, ["gmmvae", "gmmvae:b"])
    assert chosen["chosen"].to_dict() == {"one": "gmmvae:b", "three": "gmmvae", "two": "gmmvae"}
    assert chosen["accuracy"].to_dict() == pytest.approx({"one": 0.5, "three": 0.7, "two": 0.8})
    assert "variant of gmmvae that is the best on the others: 0.6667" in report.page(measured)


def test_methods_are_compared_on_the_draws_that_all_have(measured: pd.DataFrame) -> None:
    report = importlib.import_module("table_report")
    fewer = measured[(measured["method"] != "gmmvae:b") | (measured["table"] == "two")]
    assert "gmmvae:b" not in set(report.shared(fewer)["method"])
    both = report.shared(fewer, ["gmmvae", "gmmvae:b"])
    assert set(both["table"]) == {"two"}
    text = report.page(fewer)
    assert "gmmvae:b: 0.9500 on 1 tables, 2 draws in all; 1-NN 0.9000" in text
    with pytest.raises(GMMVAEError, match="did you mean 'gmmvae'"):
        report.shared(fewer, ["gmmva"])


def test_a_table_that_every_method_refused_has_a_line(
    measured: pd.DataFrame, tmp_path: Path
) -> None:
    report = importlib.import_module("table_report")
    report.report(measured.assign(accuracy=np.nan, error="too odd"), tmp_path)
    assert "gmmvae on one, 2 draws: too odd" in (tmp_path / "table.md").read_text()


def test_the_made_table_of_the_speed_benchmark_has_all_kinds_and_few_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speed = importlib.import_module("table_speed")
    monkeypatch.setattr(speed, "CHUNK", 100)
    speed.write_table(tmp_path / "table.csv", 250, 10)
    table = pd.read_csv(tmp_path / "table.csv", dtype={"label": str})
    assert table.shape == (250, 11)
    assert table["label"].value_counts().tolist() == [10] * 4
    assert table["label"].first_valid_index() == 0
    x = table.drop(columns="label")
    assert 0.02 < x.isna().mean().mean() < 0.09
    assert sorted(x.columns[x.dtypes.map(lambda t: t.kind) != "f"]) == ["c3", "c4", "c8", "c9"]
    assert (x["c1"].dropna() > 0).all()
    assert (x["c2"].dropna() % 1 == 0).all()
    assert x["c4"].nunique() == 5
