"""Cells of tables: those that are there stay, as text, and missing ones are filled."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pyro_gmmvae.data.cell_table import CellTable
from pyro_gmmvae.errors import GMMVAEError


def test_texts_of_a_csv_file_stay(tmp_path: Path) -> None:
    """Delimiter, decimal comma, quotes and marks; only a missing cell changes."""
    text = 'id;size;color;note\n007;1,50;red;"a;b"\n008;;;\n009;NA;blue;x\n'
    (tmp_path / "a.csv").write_text(text)
    table = CellTable.read(tmp_path / "a.csv")
    assert table.missing["size"].tolist() == [False, True, True]
    table = table.filled("size", [0.0, 1234.5678, -0.25])
    table = table.filled("color", ["no", "green", "no"])
    table.write(tmp_path / "b.csv")
    wanted = text.replace("008;;;", "008;1234,57;green;").replace("NA", "-0,25")
    assert (tmp_path / "b.csv").read_text() == wanted


def test_columns_and_tables_are_added(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,c\n1,a\n,b\n")
    table = CellTable.read(tmp_path / "a.csv")
    wide = table.extended("x_low", np.array([np.nan, 0.5])).extended("draw", np.ones(2), at=0)
    wide.write(tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_text() == "draw,x,c,x_low\n1,1,a,\n1,,b,0.5\n"
    CellTable.stacked([table, table]).write(tmp_path / "c.csv")
    assert (tmp_path / "c.csv").read_text() == "x,c\n1,a\n,b\n1,a\n,b\n"
    with pytest.raises(GMMVAEError, match="has a column 'x' already"):
        table.extended("x", np.zeros(2))


@pytest.mark.parametrize("ending", ["parquet", "feather"])
def test_types_of_a_frame_stay_where_they_can(tmp_path: Path, ending: str) -> None:
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame(
        {
            "whole": pd.array([1, None, 3], "Int64"),
            "half": pd.array([1, None, 3], "Int64"),
            "number": [0.5, np.nan, 2.5],
            "yes": pd.array([True, None, False], "boolean"),
            "color": pd.Categorical(["red", None, "blue"]),
            "text": ["a", None, "b"],
        }
    )
    file = tmp_path / f"a.{ending}"
    frame.to_parquet(file) if ending == "parquet" else frame.to_feather(file)
    table = CellTable.read(file)
    new = {"whole": 2.0, "half": 2.5, "number": 9.0, "yes": "True", "color": "green", "text": "z"}
    for name, value in new.items():
        table = table.filled(name, [value] * 3)
    table.write(tmp_path / "b.parquet")
    back = pd.read_parquet(tmp_path / "b.parquet")
    assert back.loc[1].tolist() == [2, 2.5, 9, True, "green", "z"]
    others = frame.columns.drop(["half", "color"])  # their types have changed
    pd.testing.assert_frame_equal(back.loc[[0, 2], others], frame.loc[[0, 2], others])
    assert back["color"].tolist() == ["red", "green", "blue"]
    assert back["half"].tolist() == [1, 2.5, 3]


def test_a_csv_file_becomes_a_sheet(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    (tmp_path / "a.csv").write_text("x,c\n1.5,a\n,b\n")
    table = CellTable.read(tmp_path / "a.csv", typed=True).filled("x", [0.0, 2.0])
    table.write(tmp_path / "b.xlsx")
    assert pd.read_excel(tmp_path / "b.xlsx").to_dict("list") == {"x": [1.5, 2.0], "c": ["a", "b"]}
    table = CellTable.read(tmp_path / "b.xlsx")
    assert table.cells.to_dict("list") == {"x": [1.5, 2.0], "c": ["a", "b"]}
