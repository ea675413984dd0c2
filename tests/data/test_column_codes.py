"""Tests of rows of tables as numbers and back: names, unseen values, and round trips."""

import numpy as np
import pandas as pd
import pytest

from pyro_gmmvae.column_spec import Column
from pyro_gmmvae.data.column_codes import decode, encode
from pyro_gmmvae.data.column_kinds import infer_columns
from pyro_gmmvae.data.frames import RawFrame, frame_of
from pyro_gmmvae.errors import GMMVAEError

COLUMNS = (
    Column("a", "real"),
    Column("n", "count"),
    Column("p", "positive"),
    Column("s", "category", ("A", "B", "C")),
    Column("k", "binary", ("1", "2")),
    Column("z", "category", ("01", "1")),
)
TABLE = pd.DataFrame(
    {
        "a": [0.5, np.nan, -2],
        "n": [0, 3, 12],
        "p": [0.5, 2, np.nan],
        "s": ["B", None, "C"],
        "k": [1, 2, 2],
        "z": pd.Categorical(["1", "01", "1"]),
    }
)


def raw(table: pd.DataFrame) -> RawFrame:
    return frame_of(table, ["z"], "new.csv")


def test_rows_become_codes_and_come_back() -> None:
    x, notes = encode(raw(TABLE), COLUMNS)
    nan = np.nan
    wanted = [[0.5, 0, 0.5, 1, 0, 1], [nan, 3, 2, nan, 1, 0], [-2, 12, nan, 2, 1, 1]]
    np.testing.assert_array_equal(x, wanted)
    assert not notes
    back = decode(x, COLUMNS)
    assert back.dtypes.map(lambda dtype: dtype.kind).tolist() == [*"fifOiO"]
    assert back["z"].tolist() == ["1", "01", "1"]
    pd.testing.assert_frame_equal(
        back.astype({"s": object, "z": object}),
        TABLE.astype({"s": object, "z": object}),
        check_dtype=False,
    )


def test_columns_are_matched_by_name() -> None:
    table = TABLE[[*TABLE.columns[::-1]]].assign(extra="x", id=[7, 8, 9])
    x, notes = encode(raw(table), COLUMNS)
    np.testing.assert_array_equal(x, encode(raw(TABLE), COLUMNS)[0])
    assert not notes
    with pytest.raises(GMMVAEError, match=r"new\.csv lacks the column 'n'; is 'N' meant as 'n'"):
        encode(raw(TABLE.rename(columns={"n": "N"})), COLUMNS)
    with pytest.raises(GMMVAEError, match=r"lacks the columns 'a', 'n'$"):
        encode(raw(TABLE.drop(columns=["a", "n"])), COLUMNS)


def test_values_that_were_not_seen_are_missing_and_named() -> None:
    table = TABLE.assign(s=["D", "A", "e"], k=[3, 1, 2], n=[-1, 2, 0.5], p=[0, -1, 4])
    x, notes = encode(raw(table), COLUMNS)
    assert np.isnan(x).sum(0).tolist() == [1, 2, 2, 2, 1, 0]
    text = " ".join(notes)
    for part in ("'s': 'D', 'e' not among the training values 'A', 'B', 'C'", "'k': '3'"):
        assert part in text
    for part in ("'n': '-1', '0.5' can't be count", "'p': '-1', '0' can't be positive"):
        assert part in text


def test_numbers_written_otherwise_are_the_same_value() -> None:
    table = TABLE.assign(k=["1.0", "2", "other"], a=["0.5", "low", "?"])
    x, notes = encode(raw(table), COLUMNS)
    np.testing.assert_array_equal(x[:, 4], [0, 1, np.nan])
    np.testing.assert_array_equal(x[:, 0], [0.5, np.nan, np.nan])
    assert ["'low' can't be real" in note for note in notes] == [True, False]
    with pytest.raises(GMMVAEError, match="'a' holds 'x', and the column that is needed is real"):
        encode(raw(TABLE.assign(a="x")), COLUMNS)


class CountedName(str):
    """A name of a column that counts how often it is compared."""

    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        CountedName.compared += 1
        return str.__eq__(self, other)  # type: ignore[arg-type]


def test_many_columns_are_not_compared_each_with_each() -> None:
    names = [f"ENSG{number:011d}" for number in range(1000)]
    frame = frame_of(pd.DataFrame(np.ones((2, len(names))), columns=names))
    columns = [Column(CountedName(name), "real") for name in names[::-1]]
    x, _ = encode(frame, columns)
    assert x.shape == (2, len(names))
    assert 0 < CountedName.compared < 10 * len(names)


@pytest.mark.parametrize("seed", range(3))
def test_any_table_survives(seed: int) -> None:
    generator = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "x": generator.normal(size=40),
            "count": generator.poisson(1, 40),
            "text": generator.choice(["b", "a", "c "], 40),
            "flag": generator.choice([7, 8], 40),
        }
    )
    table = table.mask(generator.random(table.shape) < 0.2)
    frame = frame_of(table)
    columns = [report.column for report in infer_columns(frame) if report.column]
    back = decode(encode(frame, columns)[0], columns)
    wanted = table.assign(text=table["text"].str.strip()).astype({"text": object})
    pd.testing.assert_frame_equal(
        back.astype({"text": object}), wanted, check_dtype=False, check_exact=True
    )
