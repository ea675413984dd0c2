"""The benchmark of imputation: hidden cells, errors, imputers, and the summary of made numbers."""

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("imputation_cells")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made table of three kinds of columns; its last column is a label."""
    path = tmp_path_factory.mktemp("tables")
    random = np.random.default_rng(0)
    a = random.normal(size=300)
    frame = pd.DataFrame(
        {
            "a": a,
            "b": 10 + 3 * a + 0.1 * random.normal(size=300),
            "c": np.where(a > 0, "high", "low"),
            "d": np.digitize(a, [-0.5, 0.5]).astype(str),
        }
    )
    frame["d"] = frame["d"].map({"0": "x", "1": "y", "2": "z"})
    frame.assign(label="k").to_csv(path / "made.csv", index=False)
    return path


@pytest.mark.parametrize("mechanism", ["random", "rank"])
def test_cells_are_hidden_as_asked(cells: Any, folder: Path, mechanism: str) -> None:
    hidden = cells.hide("made", folder, mechanism, 0.3, 0)
    assert [column.kind for column in hidden.columns] == ["real", "real", "binary", "category"]
    shares = hidden.hidden.mean(0)
    if mechanism == "random":
        assert np.allclose(shares, 0.3, atol=0.08)
        return
    assert sorted(shares > 0) == [False, False, True, True]
    assert np.allclose(shares[shares > 0], 0.3, atol=0.08)
    other = cells.hide("made", folder, mechanism, 0.3, 0)
    assert (other.hidden == hidden.hidden).all()
    place = int(np.flatnonzero(shares)[0])
    # all columns follow one number: rows with hidden cells have other values of it
    ranks = pd.Series(hidden.x[:, 0]).rank(pct=True).to_numpy()
    assert abs(ranks[hidden.hidden[:, place]].mean() - 0.5) > 0.1


def test_errors_are_those_of_the_hidden_cells(cells: Any, folder: Path) -> None:
    hidden = cells.hide("made", folder, "random", 0.3, 0)
    assert hidden.errors(hidden.x) == {"error": 0, "nrmse": 0, "wrong": 0}
    mean = np.where(hidden.hidden, np.nanmean(hidden.x, 0), hidden.x)
    found = hidden.errors(mean)
    assert found["nrmse"] == pytest.approx(1, abs=0.15)
    assert found["error"] == pytest.approx((found["nrmse"] + found["wrong"]) / 2)


@pytest.mark.parametrize("method", ["simple", "knn", "iterative"])
def test_imputers_keep_the_known_cells(cells: Any, folder: Path, method: str) -> None:
    hidden = cells.hide("made", folder, "random", 0.3, 0)
    filled = cells.filled_by(method, hidden, 0)
    assert (filled == hidden.x)[~hidden.hidden].all()
    for place in (2, 3):
        codes = set(range(len(hidden.columns[place].values)))
        assert set(filled[:, place]) <= codes
    errors = hidden.errors(filled)
    assert (errors["nrmse"] < 0.8) == (method != "simple")
    assert errors["wrong"] < 0.7
    frame = cells.as_frame(hidden.seen, hidden.columns)
    assert set(frame["c"].dropna()) == {"high", "low"}
    assert (frame.isna().to_numpy() == hidden.hidden).all()


def test_the_page_has_wins_and_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    for table, ours in (("one", 0.4), ("two", 0.7)):
        for share in (0.1, 0.5):
            measured = {
                "iterative": {"error": 0.5},
                "gmmvae": {"error": ours},
                "knn": {"refused": "no"} if share == 0.5 else {"error": 0.6},
            }
            head = {"table": table, "share": share, "mechanism": "random", "measured": measured}
            (tmp_path / f"{table}-{share}.json").write_text(json.dumps(head))
    importlib.import_module("imputation_report").report(tmp_path)
    page = (tmp_path / "table.md").read_text()
    assert "in 2 of 4 cases of a table, a share and a mechanism" in page
    assert "| random | 10% | 2 | .550 | **.500** | .600 |" in page
    assert "| one | 50% | **.400** | .500 |  |" in page
