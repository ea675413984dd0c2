"""What a run asks of a file and of its folder: no more than it needs."""

import errno
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pyro_gmmvae.data import Dataset, Table, Transform
from pyro_gmmvae.errors import GMMVAEWarning
from pyro_gmmvae.files import read_json
from pyro_gmmvae.runs import Run, default_config, train
from pyro_gmmvae.runs.schema import Schema

KEYS: dict[str, Any] = {
    "preset": None,
    "epochs": 2,
    "hidden": "8",
    "latent_dim": 2,
    "engine": "svi",
}
KEYS |= {"engine": "svi", "cv": 0, "members": 1, "test": 30}


def rows() -> pd.DataFrame:
    y = np.arange(120) % 3
    x = np.random.default_rng(0).normal(size=(120, 4)) + 3 * np.eye(4)[y]
    return pd.DataFrame(x, columns=[*"abcd"]).assign(sort=np.array(["u", "v"])[y % 2], label=y)


@pytest.fixture(scope="module", params=["columns", "normal"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("rows")
    table = rows() if request.param == "columns" else rows().drop(columns="sort")
    table.to_csv(folder / "rows.csv", index=False)
    keys = KEYS | {"likelihood": request.param}
    return train(default_config(str(folder / "rows.csv"), keys), folder / "run")


def predictions(run: Run, table: pd.DataFrame, file: Path) -> pd.DataFrame:
    table.to_csv(file, index=False)
    return run.predict(file).drop(columns=["row", "label"])


def test_a_prediction_does_not_depend_on_other_rows(run: Run, tmp_path: Path) -> None:
    table = rows()
    whole = predictions(run, table, tmp_path / "all.csv").to_numpy(float)
    one = predictions(run, table[7:8], tmp_path / "one.csv").to_numpy(float)
    some = predictions(run, table[50:3:-1], tmp_path / "some.csv").to_numpy(float)
    np.testing.assert_array_equal(one, whole[7:8])
    np.testing.assert_array_equal(some, whole[50:3:-1])


def test_columns_that_are_not_used_may_hold_anything(run: Run, tmp_path: Path) -> None:
    table = rows()
    wanted = predictions(run, table, tmp_path / "rows.csv")
    table.insert(0, "id", "v")
    table["taken"] = pd.NaT
    table["seen"] = "2024-01-01"
    other = predictions(run, table[table.columns[::-1]], tmp_path / "other.csv")
    pd.testing.assert_frame_equal(other, wanted)


def test_a_run_that_can_not_be_written_to_is_evaluated(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_json(run.path / "metrics.json")

    def refuse(**_: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "mkstemp", refuse)
        with pytest.warns(GMMVAEWarning, match="not kept with the run.*Read-only file system"):
            found = run.evaluate(samples=2, nll_rows=5, draws=0)
    assert found["accuracy"] is not None
    assert read_json(run.path / "metrics.json") == before


class Name(str):
    """A text that counts with how many others it is compared."""

    compared = 0
    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Name.compared += 1
        return str.__eq__(self, other)


def test_columns_are_matched_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    D = 500
    names = tuple(Name(f"gene {k}") for k in range(D))
    schema = Schema(Table((D,), columns=names), (), Transform.of_range(0, D), "fingerprint")
    x, order = np.arange(D, dtype=float)[None], np.random.default_rng(0).permutation(D)
    dataset = Dataset.of_arrays(
        x[:, order], np.empty(0, np.int64), (), columns=[Name(names[k]) for k in order]
    )
    monkeypatch.setattr(Name, "compared", 0)
    np.testing.assert_allclose(schema.rows_for_model(dataset, "f.csv"), x / D, rtol=1e-6)
    assert Name.compared < 20 * D  # not D * D / 2
