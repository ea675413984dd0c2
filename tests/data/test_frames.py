"""Tests of reading tables from files and from frames: columns of numbers and of text."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from pyro_gmmvae.data.frames import RawFrame, frame_of, read_frame
from pyro_gmmvae.errors import GMMVAEError

TEXT = "size;city;n\n1,5;Köln;3\n;Zürich;\n-2,25;;7\n"
ROWS = pd.DataFrame(
    {
        "size": [1.5, np.nan, -2.25],
        "city": pd.Categorical(["Köln", "Zürich", None]),
        "n": [3.0, np.nan, 7.0],
    }
)


def read(path: Path, content: bytes | str, text: tuple[str, ...] = ()) -> RawFrame:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_frame(path, text)


def texts(frame: RawFrame, name: str) -> list[str | None]:
    return [None if pd.isna(value) else str(value) for value in frame.table[name]]


def assert_same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(one, other, check_categorical=False, check_dtype=False)
    assert one.dtypes.map(str).tolist() == other.dtypes.map(str).tolist()


@pytest.mark.parametrize(
    ("content", "guessed"),
    [
        (TEXT.encode(), None),
        (TEXT.encode("utf-8-sig"), None),
        (TEXT.replace("\n", "\r\n").encode(), None),
        (TEXT.encode("utf-16"), None),
        (TEXT.encode("utf-16-le"), "utf-16-le"),
        (TEXT.encode("utf-16-be"), "utf-16-be"),
        (TEXT.encode("cp1252"), "cp1252"),
        (gzip.compress(TEXT.encode("cp1252"), mtime=0), "cp1252"),
        (TEXT.replace(";", "\t").encode(), None),
        (TEXT.replace(";", "|").encode(), None),
        (TEXT.replace(",", ".").replace(";", ",").encode(), None),
        (TEXT.replace(",", ".").replace(";", " , ").encode(), None),
        (b"\n\n" + TEXT.replace(";", " ; ").encode(), None),
        ("\n".join(f'"{line}"'.replace(";", '","') for line in TEXT.split()).encode(), None),
    ],
)
def test_csv_as_programs_write_it(tmp_path: Path, content: bytes, guessed: str | None) -> None:
    frame = read(tmp_path / "f.csv", content)
    assert_same(frame.table, ROWS)
    notes = [note for note in frame.notes if "decimal" not in note]
    assert [guessed in note for note in notes] == ([True] if guessed else [])  # type: ignore[operator]


def test_letters_of_other_scripts_are_recognized(tmp_path: Path) -> None:
    content = "名前,都市,値\n田中,東京,3\n鈴木,大阪,4\nカタカナ,ひらがな,5\n"
    frame = read(tmp_path / "f.csv", content.encode("cp932"))
    assert list(frame.table) == ["名前", "都市", "値"]
    assert texts(frame, "都市") == ["東京", "大阪", "ひらがな"]
    assert "cp932" in frame.notes[0]


def test_a_file_is_decoded_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyro_gmmvae.data.csv_files.BYTES_AT_ONCE", 1000)
    content = "a,b\n" + "1.5,yes\n" * 1000 + "2,Genève\n"
    for encoding in ("cp1252", "utf-8"):
        frame = read(tmp_path / "f.csv", content.encode(encoding))
        assert frame.table["b"].cat.categories.tolist() == ["yes", "Genève"]
        assert len(frame.table) == 1001
    with pytest.raises(GMMVAEError, match="its encoding is not known"):
        read(tmp_path / "f.csv", content.encode("cp1252") + b"3,\x81\x8d\n")


def test_only_empty_cells_of_text_are_missing(tmp_path: Path) -> None:
    frame = read(tmp_path / "f.csv", "a,b\n1,NA\n2,null\n3, None \n4,nan\n5,  \n6,EU\n")
    assert texts(frame, "b") == ["NA", "null", "None", "nan", None, "EU"]
    assert not frame.notes


def test_marks_in_a_column_of_numbers_are_missing_and_noted(tmp_path: Path) -> None:
    content = "a,b,c\n1,?,NA\n2,3.5,NA\n-,?,NA\nnan,0, NA\n"
    frame = read(tmp_path / "f.csv", content)
    np.testing.assert_array_equal(frame.table["a"], [1, 2, np.nan, np.nan])
    np.testing.assert_array_equal(frame.table["b"], [np.nan, 3.5, np.nan, 0])
    assert texts(frame, "c") == ["NA"] * 4  # nothing but marks: no number says that it is one
    assert any("'b'" in note and "'?' (2)" in note for note in frame.notes)


def test_a_text_far_below_makes_the_whole_column_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyro_gmmvae.data.csv_files.CELLS_AT_ONCE", 20)
    rows = [f"{number},{number}.50,{number % 2 == 0}" for number in range(3000)]
    rows[2500] = "high,-,True"
    frame = read(tmp_path / "f.csv", "a,b,c\n" + "\n".join(rows))
    assert texts(frame, "a")[2499:2502] == ["2499", "high", "2501"]
    assert frame.table["b"].isna().sum() == 1
    assert frame.table["b"].iloc[-1] == 2999.5
    assert texts(frame, "c")[:2] == ["True", "False"]


def test_a_column_that_is_wanted_as_text_keeps_its_zeros(tmp_path: Path) -> None:
    content = "zip,a,label\n01234,1,1.0\n99999,2,0\n"
    assert read(tmp_path / "f.csv", content).table["zip"].tolist() == [1234, 99999]
    frame = read(tmp_path / "f.csv", content, ("zip", "label"))
    assert texts(frame, "zip") == ["01234", "99999"]
    assert texts(frame, "label") == ["1", "0"]  # as a file that keeps types writes them


@pytest.mark.parametrize("kind", ["parquet", "feather", "xlsx", "csv"])
def test_all_formats_give_the_same_table(tmp_path: Path, kind: str) -> None:
    frame = pd.DataFrame(
        {
            " a ": [1, 2, 3, 4],
            "b": [0.5, None, 0.25, 1e9],
            "c": ["NA", "EU ", None, "AS"],
            "d": [True, False, True, True],
            "e": ["1", "?", "3", "-"],
            "f": pd.to_datetime(["2020-01-01", "2021-05-17", None, "2020-01-01"]),
        }
    )
    file = tmp_path / f"f.{kind.upper()}"
    if kind in ("xlsx", "csv"):
        getattr(frame, {"xlsx": "to_excel"}.get(kind, "to_csv"))(file, index=False)
    else:
        getattr(frame, f"to_{kind}")(file)
    wanted = pd.DataFrame(
        {
            "a": [1.0, 2, 3, 4],
            "b": [0.5, np.nan, 0.25, 1e9],
            "c": pd.Categorical(["NA", "EU", None, "AS"]),
            "d": pd.Categorical(["True", "False", "True", "True"]),
            "e": [1, np.nan, 3, np.nan],
            "f": pd.Categorical(["2020-01-01", "2021-05-17", None, "2020-01-01"]),
        }
    )
    found = read_frame(file)
    assert_same(found.table, wanted)
    assert any("'?' (1) and '-' (1)" in note for note in found.notes)


def test_frames_of_pandas_and_polars() -> None:
    columns = {
        "n": [1, None, 3],
        "f": [0.5, 1.0, None],
        "t": ["x", None, "y"],
        "b": [True, None, False],
    }
    types = {"n": "Int64", "f": "Float64", "t": "string", "b": "boolean"}
    made = [frame_of(pl.DataFrame(columns)), frame_of(pd.DataFrame(columns).astype(types))]
    made.append(frame_of(pd.DataFrame(columns, dtype=object)))
    for frame in made:
        np.testing.assert_array_equal(frame.table["n"], [1, np.nan, 3])
        np.testing.assert_array_equal(frame.table["f"], [0.5, 1, np.nan])
        assert texts(frame, "t") == ["x", None, "y"]
        assert texts(frame, "b") == ["True", None, "False"]
    sizes = ["small", "large", "small"]
    ordered = pd.Categorical(sizes, ["small", "mid", "large"], ordered=True)
    for some in (
        pd.DataFrame({"s": ordered}),
        pl.DataFrame({"s": sizes}).cast({"s": pl.Enum(["small", "mid", "large"])}),
    ):
        found = frame_of(some).table["s"].cat
        assert found.ordered
        assert found.categories.tolist() == ["small", "mid", "large"]
    codes = frame_of(pd.DataFrame({"s": pd.Categorical([3, 1, 3])}))
    assert texts(codes, "s") == ["3", "1", "3"]
    assert list(frame_of(pd.DataFrame({0: [1.0], 1: [2.0]})).table) == ["0", "1"]


def test_a_saved_index_is_left_out(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1.5, 2, 2]}, index=[3, 5, 8])
    frame.to_csv(tmp_path / "f.csv")
    found = read_frame(tmp_path / "f.csv")
    assert list(found.table) == ["a"]
    assert "column 1 has no name and is left out" in found.notes[0]
    pd.read_csv(tmp_path / "f.csv").to_parquet(tmp_path / "f.parquet")  # "Unnamed: 0"
    assert list(read_frame(tmp_path / "f.parquet").table) == ["a"]
    frame.rename_axis("day").to_parquet(tmp_path / "named.parquet")
    assert list(read_frame(tmp_path / "named.parquet").table) == ["day", "a"]
    trailing = read(tmp_path / "trailing.csv", "a,b,\n1,2,\n1,3,\n")
    assert list(trailing.table) == ["a", "b"]
    assert not trailing.notes


@pytest.mark.parametrize(
    ("header", "known"),
    [("0,1,2,3,label", True), ("0,1,2,3,4", True), ("1,2,3,4,5", False), ("1.5,0,0,2,1", False)],
)
def test_a_header_of_numbers(tmp_path: Path, header: str, known: bool) -> None:
    content = f"{header}\n" + "0.5,1,2,3,4\n" * 3
    if known:
        assert list(read(tmp_path / "f.csv", content).table) == header.split(",")
        return
    with pytest.raises(GMMVAEError, match="has no header"):
        read(tmp_path / "f.csv", content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b,a\n1,2,3\n", "names the column 'a' twice"),
        ("a, a \n1,2\n", "names the column 'a' twice"),
        ("a,b\n", "holds no rows"),
        ("\n\n", "holds no text"),
        ("a,b\n1,2\n3,4,5\n6,7\n", "line 3 has 3 cells, and the first line names 2"),
        ("a,b\n1,2,3\n3,4,5\n", "line 2 has 3 cells"),
        ("a,b\n" + "1,2\n" * 300_000 + "1,2,3\n", "line 300002 has 3 cells"),
        ("a,b\n1,2\n\n\n3,4,5\n", "line 5 has 3 cells"),
        ("a,,b\n1,2,3\n4,2,5\n", "column 2 has no name"),
        (",\n1,2\n", "has no header"),
        ('a,b\n1,2\n3,"4\n', "can't be read as csv"),
        (b"a,b\n\x00\x01,2\n", "zero bytes"),
        (bytes(range(256)), "can't be read as csv"),
        (gzip.compress(b"a,b\n" + b"1,2\n" * 99, mtime=0)[:-9], "can't be read as csv"),
    ],
)
def test_bad_tables_are_refused_in_one_line(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    with pytest.raises(GMMVAEError, match=message) as caught:
        read(tmp_path / "f.csv", content)
    assert "\n" not in str(caught.value)
    assert "f.csv" in str(caught.value)


def test_other_bad_files_and_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("f.parquet", "f.feather", "f.xlsx"):
        with pytest.raises(GMMVAEError, match=r"can't be read as \w+"):
            read(tmp_path / name, "PK no")
    with pytest.raises(GMMVAEError, match=r"unknown kind; tables are \.csv"):
        read(tmp_path / "f.doc", "a,b\n1,2\n")
    with pytest.raises(GMMVAEError, match="'a' holds lists"):
        frame_of(pd.DataFrame({"a": [[1], [2]]}))
    with pytest.raises(GMMVAEError, match="'a' holds a complex"):
        frame_of(pd.DataFrame({"a": [1j, 2]}))
    with pytest.raises(GMMVAEError, match="give a pandas or polars DataFrame"):
        frame_of({"a": [1]})
    pd.DataFrame({"a": [1]}).to_excel(tmp_path / "f.xlsx", index=False)
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    with pytest.raises(GMMVAEError, match=r"needs openpyxl: pip install 'pyro-gmmvae\[excel\]'"):
        read_frame(tmp_path / "f.xlsx")


def test_of_several_sheets_the_first_is_read_and_named(tmp_path: Path) -> None:
    with pd.ExcelWriter(tmp_path / "f.xlsx") as book:
        pd.DataFrame({"a": [1, 2]}).to_excel(book, sheet_name="one", index=False)
        pd.DataFrame({"b": [1]}).to_excel(book, sheet_name="two", index=False)
    frame = read_frame(tmp_path / "f.xlsx")
    assert frame.table["a"].tolist() == [1, 2]
    assert frame.notes == ("of 2 sheets the first, 'one', is read",)
