"""Rows of a table whose columns have kinds of their own."""

import json

import numpy as np
import pytest
import torch

from pyro_gmmvae.column_spec import Column
from pyro_gmmvae.data import ColumnTable
from pyro_gmmvae.data.augment import MOST_HIDDEN, SWAPPED, hide, swap

SPECS = (
    Column("weight", "real"),
    Column("income", "positive"),
    Column("visits", "count"),
    Column("city", "category", ("Kraków", "Osaka", "São Paulo")),
    Column("empty", "real"),
)


def rows() -> np.ndarray:
    rng = np.random.default_rng(0)
    columns = [
        rng.normal(70, 9, 400),
        rng.lognormal(10, 1, 400),
        rng.poisson(3, 400),
        rng.integers(0, 3, 400),
        np.full(400, np.nan),
    ]
    x = np.stack(columns, 1).astype(float)
    x[::7, :4] = np.nan
    return x


def test_units_follow_from_the_kinds() -> None:
    x = rows()
    kind, transform = ColumnTable(SPECS).fitted_on(x)
    scaled = transform(x)
    assert np.nanmean(scaled[:, 0]) == pytest.approx(0, abs=1e-5)
    assert np.nanstd(scaled[:, 0]) == pytest.approx(1, abs=1e-5)
    assert np.nanmean(np.log(scaled[:, 1])) == pytest.approx(0, abs=1e-5)
    np.testing.assert_array_equal(scaled[:, 2:4], x[:, 2:4].astype(np.float32))
    assert np.isnan(scaled[::7]).all()
    assert [column.unit for column in kind.specs] == pytest.approx(transform.scale.tolist())


def test_json_gives_the_kind_back() -> None:
    kind, _ = ColumnTable(SPECS).fitted_on(rows())
    assert ColumnTable.from_json(json.loads(json.dumps(kind.to_json()))) == kind


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "number"},
        {"unit": 0},
        {"kind": "binary", "values": ["a"]},
        {"knots": [2, 1]},
        {"knots": "x"},
    ],
)
def test_damaged_json_is_refused(changes: dict[str, object]) -> None:
    kind, _ = ColumnTable(SPECS).fitted_on(rows())
    content = kind.to_json()
    content["specs"][0] |= changes
    with pytest.raises(ValueError, match=r"column|kind|float"):
        ColumnTable.from_json(content)


def test_hidden_cells_are_missing_and_others_stay() -> None:
    x = torch.ones(2000, 20)
    shares = hide(x).isnan().float().mean(1)
    assert shares.mean() == pytest.approx(MOST_HIDDEN / 2, abs=0.03)
    assert shares.std() > 0.15  # another share for each row
    assert (hide(x).nan_to_num(1) == 1).all()


def test_swapped_cells_come_from_another_row_of_the_same_column() -> None:
    x = torch.arange(2000.0).unsqueeze(1) + torch.tensor([0, 0.25, 0.5])
    made = swap(x)
    assert (made != x).float().mean() == pytest.approx(SWAPPED, abs=0.03)
    assert torch.equal(made.frac(), x.frac())
