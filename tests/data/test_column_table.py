"""Rows of a table whose columns have kinds of their own."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from pyro_gmmvae.column_spec import Column
from pyro_gmmvae.data import ColumnTable
from pyro_gmmvae.data.augment import MOST_HIDDEN, SWAPPED, hide, swap
from pyro_gmmvae.errors import GMMVAEError

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


def test_covariates_of_texts_keep_their_shares_and_are_not_swapped() -> None:
    specs = tuple(replace(c, given=c.name in ("city", "visits")) for c in SPECS)
    x = rows()
    kind, _ = ColumnTable(specs).fitted_on(x)
    cities = np.array(kind.specs[3].knots)
    for code in range(3):
        share = (x[:, 3] == code).sum() / (~np.isnan(x[:, 3])).sum()
        assert (cities == code).mean() == pytest.approx(share, abs=0.006)
    assert ColumnTable(SPECS).fitted_on(x)[0].specs[3].knots == ()
    augment = kind.augmentation("swap")
    assert augment is not None
    before = torch.arange(200.0).unsqueeze(1).expand(-1, len(specs))
    changed = (augment(before) != before).any(0)
    assert changed.tolist() == [True, True, False, False, True]


@pytest.mark.parametrize(
    ("column", "good", "bad"),
    [
        (Column("a", "real"), {"-1.5": -1.5, 2: 2}, ["x", "inf", "nan", None]),
        (Column("a", "positive"), {"0.5": 0.5}, ["0", "-1"]),
        (Column("a", "count"), {"3": 3, 4.0: 4}, ["1.5", "-1"]),
        (Column("a", "binary", ("no", "yes")), {" yes": 1}, ["maybe", ""]),
        (Column("a", "ordinal", ("low", "high")), {"low": 0}, [0]),
    ],
)
def test_an_entry_is_made_of_a_value_or_its_text(
    column: Column, good: dict[object, float], bad: list[object]
) -> None:
    for value, entry in good.items():
        assert column.entry_of(value) == entry
    for value in bad:
        with pytest.raises(GMMVAEError, match=r"a=|of a "):
            column.entry_of(value)
