"""Tests of reading rows from files: values, labels, and errors of bad files."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pyro_gmmvae.data import DataOptions, Table, load_array
from pyro_gmmvae.datasets import load_data
from pyro_gmmvae.errors import GMMVAEError


def table(**columns: object) -> pd.DataFrame:
    return pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "b": [5, 6, 7, 8], **columns})


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_tables_with_text_labels_and_missing_ones(tmp_path: Path, kind: str) -> None:
    frame, file = table(person=["bo", None, "al", "bo"]), tmp_path / f"f.{kind}"
    frame.to_csv(file, index=False) if kind == "csv" else frame.to_parquet(file)
    data = load_array(file, DataOptions(label_column="person"))
    assert data.classes == ("al", "bo")
    assert data.y.tolist() == [1, -1, 0, 1]
    assert data.kind.columns == ("a", "b")
    assert data.x.tolist() == [[1, 5], [2, 6], [3, 7], [4, 8]]
    assert data.kind.likelihood == "columns"
    plain = load_data(str(file), DataOptions(label_column="person", likelihood="normal"))
    assert plain.kind == Table((2,), "normal", ("a", "b"))
    assert plain.x.tolist() == data.x.tolist()


@pytest.mark.parametrize(
    "labels",
    [[3, -1, 0, 3], [3.0, np.nan, 0.0, 3.0], ["3", "-1", "0", "3"], ["3", "-1.0", "0", "3"]],
)
def test_labels_of_any_kind_become_class_numbers(tmp_path: Path, labels: list[object]) -> None:
    file = tmp_path / "f.csv"
    table(label=labels).to_csv(file, index=False)
    data = load_array(file)
    assert data.classes == ("0", "3")
    assert data.y.tolist() == [1, -1, 0, 1]


def test_numpy_files(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(6, 4))
    np.savez(tmp_path / "f.npz", x=x, y=np.array([0, 1, -1, 0, 1, -1]))
    np.save(tmp_path / "f.npy", x)
    with_labels, without = load_array(tmp_path / "f.npz"), load_array(tmp_path / "f.npy")
    assert with_labels.y.tolist() == [0, 1, -1, 0, 1, -1]
    assert without.classes == ()
    assert (without.y == -1).all()
    assert np.array_equal(without.x, x)


def test_arrays_of_three_axes_are_images(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", x=np.full((3, 8, 6), 255, np.uint8))
    data = load_array(tmp_path / "f.npz")
    assert data.kind.name == "image"
    assert data.kind.x_shape == (1, 8, 6)


def test_images_with_channels_last_are_transposed(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 3)).astype(np.uint8)
    np.savez(tmp_path / "f.npz", x=x)
    assert np.array_equal(load_array(tmp_path / "f.npz").x, x.transpose(0, 3, 1, 2))


def test_standardizing_uses_the_given_rows_and_keeps_constants(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", np.array([[1.0, 5], [3, 5], [100, 5]]))
    data = load_array(tmp_path / "f.npy")
    transform = data.fit_transform_on(np.array([0, 1]))
    assert transform(data.x).tolist() == [[-1, 0], [1, 0], [98, 0]]
    np.testing.assert_allclose(transform.invert(transform(data.x)), data.x)


def test_large_numbers_close_to_each_other_stay_different(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", 1.7e9 + np.arange(100.0)[:, None])
    data = load_array(tmp_path / "f.npy")
    assert len(np.unique(data.fit_transform_on(np.arange(100))(data.x))) == 100


def test_a_column_that_is_constant_up_to_rounding_keeps_its_scale(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", np.full((1000, 1), 0.1))
    transform = load_array(tmp_path / "f.npy").fit_transform_on(np.arange(1000))
    assert transform(np.array([[0.2]])).item() == pytest.approx(0.1)


def test_a_column_of_half_precision_is_not_constant(tmp_path: Path) -> None:
    """Its steps are 1/1000 of its values, and all that is known of them."""
    x = (20_000 + np.random.default_rng(0).normal(0, 100, (200, 1))).astype(np.float16)
    np.save(tmp_path / "f.npy", x)
    scaled = load_array(tmp_path / "f.npy").fit_transform_on(np.arange(200))(x)
    assert scaled.std() == pytest.approx(1, rel=1e-3)
    assert abs(scaled.mean()) < 1e-3


def test_pixels_of_a_channel_share_one_unit(tmp_path: Path) -> None:
    """A pixel that hardly varies would else be far away in the row where it does."""
    x = np.random.default_rng(0).normal(5, 3, (50, 3, 5, 6))
    x[:, 0, 0, 0] = 5
    x[:, 1] *= 100
    x[:20, 1, 2] = np.nan
    np.save(tmp_path / "f.npy", x)
    scaled = load_array(tmp_path / "f.npy").fit_transform_on(np.arange(50))(x)
    channels = scaled.swapaxes(0, 1).reshape(3, -1)
    np.testing.assert_allclose(np.nanmean(channels, 1), 0, atol=1e-5)
    np.testing.assert_allclose(np.nanstd(channels, 1), 1, rtol=1e-5)
    assert (scaled[:, 0, 0, 0] == scaled[0, 0, 0, 0]).all()


def test_infinite_values_are_refused_and_nan_is_missing(tmp_path: Path) -> None:
    x = np.zeros((5, 2))
    x[1, 0], x[3, 1], x[4, 1] = np.nan, np.inf, 1e300
    np.savez(tmp_path / "f.npz", x=x, y=np.arange(5))
    with pytest.raises(GMMVAEError, match=r"2 of 5 rows hold inf.* row 3\);.*--drop-nonfinite"):
        load_array(tmp_path / "f.npz")
    data = load_array(tmp_path / "f.npz", DataOptions(drop_nonfinite=True))
    assert not data.kind.missing
    assert data.row_numbers.tolist() == [0, 2]
    assert data.y.tolist() == [0, 2]
    np.save(tmp_path / "f.npy", x[:3])
    data = load_array(tmp_path / "f.npy")
    assert data.kind.missing
    assert np.isnan(data.x[1, 0])
    with pytest.raises(GMMVAEError, match=r"1 of 3 rows have missing cells .* row 1\);"):
        load_array(tmp_path / "f.npy", DataOptions(missing="refuse"))
    np.save(tmp_path / "f.npy", np.full((3, 2), np.nan))
    with pytest.raises(GMMVAEError, match="every cell is missing"):
        load_array(tmp_path / "f.npy")


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_errors_of_bad_files_are_one_line(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "flat.npy", np.zeros(5))
    np.save(tmp_path / "none.npy", np.zeros((0, 5)))
    np.savez(tmp_path / "other.npz", images=np.zeros((2, 2)))
    np.savez(tmp_path / "labels.npz", x=np.zeros((2, 2)), y=np.zeros(3))
    np.savez(tmp_path / "huge.npz", x=np.zeros((2, 2)), y=np.array([1e300, 1]))
    np.savez(tmp_path / "half.npz", x=np.zeros((2, 2)), y=np.array([0.5, 1]))
    np.savez(tmp_path / "range.npz", x=np.zeros((2, 2)), y=np.array([0, -7]))
    np.savez(tmp_path / "pairs.npz", x=np.zeros((2, 2)), y=np.zeros(2, [("a", "i4"), ("b", "i4")]))
    good = (tmp_path / "labels.npz").read_bytes()
    entry, directory = good.index(b"PK\x03\x04"), good.index(b"PK\x01\x02")
    encrypted, compressed = bytearray(good), bytearray(good)
    for bits, offset, value in ((encrypted, 6, 1), (compressed, 8, 99)):
        bits[entry + offset] = bits[directory + offset + 2] = value
    cases = [
        (write(tmp_path / "header.csv", b"1,2\n3,4\n"), "has no header"),
        (write(tmp_path / "twice.csv", b"a,label,label\n1,0,0\n"), "column 'label' twice"),
        (write(tmp_path / "names.csv", b"a,b\n"), "no rows"),
        (write(tmp_path / "signs.csv", b"a,label\n1,-1\n2,1\n"), "-1/\\+1 as 0/1"),
        (tmp_path / "absent.csv", "does not exist"),
        (tmp_path, "a folder"),
        (write(tmp_path / "empty.csv", b""), "is empty"),
        (write(tmp_path / "cut.npz", good[: len(good) // 2]), "can't be read as npz"),
        (write(tmp_path / "encrypted.npz", bytes(encrypted)), "can't be read as npz"),
        (write(tmp_path / "compressed.npz", bytes(compressed)), "can't be read as npz"),
        (tmp_path / "pairs.npz", "whole numbers or text"),
        (write(tmp_path / "foreign.npy", b"\x89PNG...."), "can't be read as npy"),
        (write(tmp_path / "foreign.parquet", b"PAR1 no"), "can't be read as parquet"),
        (write(tmp_path / "binary.csv", bytes(range(256))), "can't be read as csv"),
        (write(tmp_path / "notes.doc", b"hello"), "unknown kind"),
        (tmp_path / "objects.npy", "can't be read as npy"),
        (tmp_path / "flat.npy", "rows must be numbers"),
        (tmp_path / "none.npy", "no rows"),
        (tmp_path / "other.npz", "must be named x"),
        (tmp_path / "labels.npz", "2 rows and labels of shape"),
        (tmp_path / "half.npz", "whole numbers or text"),
        (tmp_path / "huge.npz", "whole numbers or text"),
        (tmp_path / "range.npz", "label -7 is out of range"),
    ]
    for file, message in cases:
        with pytest.raises(GMMVAEError, match=message) as caught:
            load_array(file)
        assert "\n" not in str(caught.value)


def test_a_given_label_column_must_exist(tmp_path: Path) -> None:
    table(person=[0, 1, 0, 1]).to_csv(tmp_path / "f.csv", index=False)
    with pytest.raises(GMMVAEError, match="has no column 'persn'; did you mean 'person'"):
        load_array(tmp_path / "f.csv", DataOptions(label_column="persn"))
    np.savez(tmp_path / "f.npz", x=np.zeros((2, 2)), y=np.zeros(2))
    with pytest.raises(GMMVAEError, match="'persn'"):
        load_array(tmp_path / "f.npz", DataOptions(label_column="persn"))


def test_labels_that_are_not_needed_are_not_checked(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", x=np.zeros((2, 2)), y=np.array([0.5, 1]))
    assert load_array(tmp_path / "f.npz", read_labels=False).classes == ()


def test_an_unknown_data_set_gets_its_nearest_match() -> None:
    with pytest.raises(GMMVAEError, match="did you mean 'digits'"):
        load_data("digit")
