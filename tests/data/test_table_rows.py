"""Tests of rows and labels of tables in files, and of remarks on them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pyro_gmmvae.data import ColumnTable, DataOptions, Table, load_array
from pyro_gmmvae.data.column_kinds import infer_columns
from pyro_gmmvae.data.frames import frame_of
from pyro_gmmvae.data.table_oddities import duplicate_notes
from pyro_gmmvae.datasets import load_data
from pyro_gmmvae.errors import GMMVAEError

RNG = np.random.default_rng(0)
N = 60
Y = np.arange(N) % 3
FRAME = pd.DataFrame(
    {
        "a": RNG.normal(size=N).round(3),
        "n": RNG.negative_binomial(1, 0.2, N),
        "site": RNG.choice(["A", "B"], N),
        "row": np.arange(N),
        "label": np.array(["NA", "EU", "AS"])[Y],
    }
)


def write(folder: Path, frame: pd.DataFrame, name: str = "rows.csv") -> Path:
    file = folder / name
    frame.to_parquet(file) if name.endswith("parquet") else frame.to_csv(file, index=False)
    return file


@pytest.mark.parametrize("name", ["rows.csv", "ROWS.CSV", "rows.parquet", "rows.csv.gz"])
def test_a_table_has_a_kind_for_each_column_and_labels_of_text(tmp_path: Path, name: str) -> None:
    frame = FRAME.copy()
    frame.loc[3, ["a", "site", "label"]] = None
    frame.loc[4, "label"] = "-1"
    data = load_data(str(write(tmp_path, frame, name)))
    assert isinstance(data.kind, ColumnTable)
    assert [(c.name, c.kind, c.values) for c in data.kind.specs] == [
        ("a", "real", ()),
        ("n", "count", ()),
        ("site", "binary", ("A", "B")),
    ]
    assert data.classes == ("AS", "EU", "NA")
    assert data.y[:6].tolist() == [2, 1, 0, -1, -1, 0]
    np.testing.assert_array_equal(data.x[:, 1], FRAME["n"])
    assert np.isnan(data.x[3]).tolist() == [True, False, True]
    assert "left out: 'row' (whole numbers that count or name the rows)" in data.notes


def test_names_and_labels_are_stripped_and_a_header_may_be_of_numbers(tmp_path: Path) -> None:
    rows = "\n".join(f"{a}, {n}, {y} " for a, n, y in zip(FRAME.a, FRAME.n, Y, strict=True))
    (tmp_path / "spaced.csv").write_text("0, 1, label\n" + rows)
    data = load_array(tmp_path / "spaced.csv")
    assert data.kind.columns == ("0", "1")
    assert data.classes == ("0", "1", "2")
    assert data.y.tolist() == Y.tolist()


def test_labels_of_numbers_are_in_the_order_of_their_size(tmp_path: Path) -> None:
    labels = np.array([10, 9, 2])[Y]
    files = [
        write(tmp_path, FRAME.assign(label=labels.astype(kind)), name)
        for kind in (int, float)
        for name in ("rows.csv", "rows.parquet")
    ]
    for file in files:
        assert load_array(file).classes == ("2", "9", "10")
    padded = write(tmp_path, FRAME.assign(label=np.array(["01", "1", "02"])[Y]))
    assert load_array(padded).classes == ("01", "1", "02")


def test_a_label_that_is_missing_or_misspelled(tmp_path: Path) -> None:
    file = write(tmp_path, FRAME.rename(columns={"label": "Class"}))
    data = load_array(file)
    assert data.classes == ()
    assert "column 'Class' looks like the label: if it is, give --label-column Class" in data.notes
    with pytest.raises(GMMVAEError, match="has no column 'class'; did you mean 'Class'"):
        load_array(file, DataOptions(label_column="class"))
    assert load_array(file, DataOptions(label_column="class"), read_labels=False).classes == ()


def test_remarks_on_labels(tmp_path: Path) -> None:
    labels = FRAME["label"].replace({"EU": "eu"}).where(FRAME.index > 2, "EU")
    frame = FRAME.assign(label=labels)
    frame.loc[9, "label"] = "once"
    notes = " ".join(load_array(write(tmp_path, frame)).notes)
    assert "of the labels, 'EU' and 'eu' differ in case or blanks only" in notes
    assert "labels that occur once: 'once'" in notes
    frame = FRAME.assign(copy=FRAME["label"].str.lower(), number=7.5 * Y)
    notes = " ".join(load_array(write(tmp_path, frame)).notes)
    assert "columns that equal the label: 'copy', 'number'; leave" in notes
    assert "--column copy=skip" in notes


def test_kinds_are_given_by_name(tmp_path: Path) -> None:
    options = DataOptions(column=("n=category", "site=skip", "row=real"), covariates=("n",))
    data = load_data(str(write(tmp_path, FRAME)), options)
    assert [(c.name, c.kind, c.given) for c in data.kind.specs] == [
        ("a", "real", False),
        ("n", "category", True),
        ("row", "real", False),
    ]
    with pytest.raises(GMMVAEError, match="has no column 'sites'; did you mean 'site'"):
        load_data(str(write(tmp_path, FRAME)), replace(options, column=("sites=skip",)))


def test_another_likelihood_gives_plain_numbers(tmp_path: Path) -> None:
    options = DataOptions(likelihood="normal")
    file = write(tmp_path, FRAME.drop(columns="site"))
    data = load_data(str(file), options)
    assert data.kind == Table((3,), "normal", ("a", "n", "row"))
    for frame, message in (
        (FRAME, "columns 'site' are text, and this likelihood is of numbers"),
        (FRAME[["label"]], "no column beside the labels"),
    ):
        with pytest.raises(GMMVAEError, match=message):
            load_data(str(write(tmp_path, frame)), options)
    file = write(tmp_path, FRAME)
    with pytest.raises(GMMVAEError, match="are for likelihood=columns, not for normal"):
        load_data(str(file), replace(options, column=("a=real",)))


def test_missing_and_infinite_cells(tmp_path: Path) -> None:
    frame = FRAME.drop(columns="row")
    frame.loc[5, ["a", "n", "site"]] = None
    file = write(tmp_path, frame)
    data = load_array(file)
    assert len(data.x) == N
    assert "1 rows have no cell (the first is row 5)" in data.notes
    with pytest.raises(GMMVAEError, match=r"1 of 60 rows have missing cells.*row 5"):
        load_array(file, DataOptions(missing="refuse"))
    dropped = load_array(file, DataOptions(drop_nonfinite=True))
    assert len(dropped.x) == len(dropped.y) == N - 1
    assert 5 not in dropped.row_numbers
    frame.loc[7, "a"] = np.inf
    with pytest.raises(GMMVAEError, match=r"1 of 60 rows hold infinite values.*row 7"):
        load_array(write(tmp_path, frame))


def test_a_run_reads_its_own_columns(tmp_path: Path) -> None:
    kind = load_array(write(tmp_path, FRAME)).kind
    new = FRAME[["site", "n", "a"]].assign(more="x", site=["C", *FRAME["site"][1:]])
    data = load_array(write(tmp_path, new), kind=kind, read_labels=False)
    assert data.kind == kind
    assert np.isnan(data.x[0, 2])
    np.testing.assert_array_equal(data.x[:, 1], FRAME["n"])
    note = "column 'site': 'C' not among the training values 'A', 'B'; taken as missing"
    assert data.notes == (note,)
    plain = load_array(write(tmp_path, new), kind=Table((2,), "normal", ("n", "a")))
    np.testing.assert_array_equal(plain.x[:, 0], FRAME["n"])
    with pytest.raises(GMMVAEError, match="lacks the column 'a'"):
        load_array(write(tmp_path, new.drop(columns="a")), kind=kind)


def test_columns_and_rows_that_are_repeated() -> None:
    frame = FRAME.drop(columns=["row", "label"])
    twice = pd.concat([frame, frame[:2]]).assign(b=lambda t: t["a"], s=lambda t: t["site"])
    frame = frame_of(twice)
    columns = [one.column for one in infer_columns(frame) if one.column is not None]
    notes = duplicate_notes(frame, columns)
    assert notes[:2] == ["column 'b' has the values of 'a'", "column 's' has the values of 'site'"]
    assert notes[2].endswith("rows occur before (duplicates)")
    assert int(notes[2].split()[0]) >= 2
