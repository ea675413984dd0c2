"""Tests of folders of shards: the same rows as in memory, read on demand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits

from pyro_gmmvae.data import DataOptions, Dataset, Shards, StreamedRows, Transform, load_array
from pyro_gmmvae.datasets import load_data
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.runs import default_config, train

Table = Callable[..., None]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def digits(n: int = 120) -> tuple[np.ndarray, np.ndarray]:
    x, y = load_digits(return_X_y=True)
    y = y[:n].copy()
    y[::3] = -1
    return x[:n], y


def write_npy(folder: Path, x: np.ndarray, y: np.ndarray | None, cuts: tuple[int, ...]) -> None:
    folder.mkdir(exist_ok=True)
    for i, part in enumerate(np.split(x, cuts)):
        np.save(folder / f"x-{i:02d}.npy", part)
    for i, part in enumerate(np.split(y, cuts) if y is not None else ()):
        np.save(folder / f"y-{i:02d}.npy", part)


def write_parquet(folder: Path, x: np.ndarray, y: np.ndarray, cuts: tuple[int, ...]) -> None:
    folder.mkdir(exist_ok=True)
    table = pd.DataFrame(x, columns=[f"c{i}" for i in range(x.shape[1])]).assign(label=y)
    for i, part in enumerate(np.split(np.arange(len(x)), cuts)):
        table.iloc[part].to_parquet(folder / f"part-{i}.parquet")


def assert_same(shards: Dataset, whole: Dataset) -> None:
    assert isinstance(shards.x, Shards)
    assert shards.x.shape == whole.x.shape
    assert shards.classes == whole.classes
    np.testing.assert_array_equal(shards.y, whole.y)
    rows = np.random.default_rng(0).permutation(len(whole.y))
    np.testing.assert_array_equal(shards.x[rows], whole.x[rows])
    a, b = shards.fit_transform_on(rows[:90]), whole.fit_transform_on(rows[:90])
    np.testing.assert_allclose(a.shift, b.shift, rtol=1e-12)
    np.testing.assert_allclose(a.scale, b.scale, rtol=1e-12)


@pytest.mark.parametrize("kind", ["npy", "parquet", "bytes", "images"])
def test_shards_have_the_rows_of_one_file(tmp_path: Path, kind: str) -> None:
    x, y = digits()
    if kind == "parquet":
        write_parquet(tmp_path / "rows", x, y, (50, 51))
        write_parquet(tmp_path, x, y, ())
        whole = load_data(str(tmp_path / "part-0.parquet"), DataOptions(likelihood="normal"))
        assert load_data(str(tmp_path / "rows")).kind == whole.kind
    else:
        x = x.astype(np.uint8) if kind == "bytes" else x
        x = x.reshape(-1, 8, 8) if kind == "images" else x
        write_npy(tmp_path / "rows", x, y, (50, 51))
        np.savez(tmp_path / "rows.npz", x=x, y=y)
        whole = load_array(tmp_path / "rows.npz")
    assert_same(load_data(str(tmp_path / "rows")), whole)
    assert_same(load_data(str(tmp_path / "rows")), whole)  # unpacked before


def test_text_labels_of_tables_with_some_unknown(tmp_path: Path) -> None:
    x, y = digits(30)
    names = np.array(["", "anna", "berta"], object)[np.minimum(y, 1) + 1]
    names[names == ""] = None
    write_parquet(tmp_path / "rows", x, names, (10,))
    write_parquet(tmp_path, x, names, ())
    whole = load_data(str(tmp_path / "part-0.parquet"), DataOptions(likelihood="normal"))
    assert_same(load_data(str(tmp_path / "rows")), whole)


def test_a_fit_on_shards_equals_the_fit_in_memory(tmp_path: Path) -> None:
    x, y = digits(300)
    write_npy(tmp_path / "rows", x, y, (100, 220))
    np.savez(tmp_path / "rows.npz", x=x, y=y)
    keys = {"epochs": 3, "hidden": "16", "latent_dim": 4, "labels": 50}
    runs = [
        train(default_config(str(data), keys), tmp_path / f"run-{i}")
        for i, data in enumerate((tmp_path / "rows", tmp_path / "rows.npz"))
    ]
    a, b = (pd.read_csv(r.path / "history.csv").drop(columns="seconds") for r in runs)
    pd.testing.assert_frame_equal(a, b, rtol=1e-6)
    first, second = (r.evaluate(samples=2) for r in runs)
    assert first["elbo"] == pytest.approx(second["elbo"], rel=1e-6)


def test_only_indexed_rows_are_read(tmp_path: Path) -> None:
    """A shard whose end is damaged still returns the rows of its beginning."""
    x, _ = digits()
    write_npy(tmp_path, x, None, (60,))
    rows = load_data(f"{tmp_path}/").x
    asked: list[int] = []

    class Counting(np.ndarray):
        def __getitem__(self, index: object) -> object:
            asked.append(np.size(index))
            return super().__getitem__(index)

    rows.arrays[1] = rows.arrays[1].view(Counting)
    streamed = StreamedRows(
        rows, np.arange(120), Transform.of_range(0, 16), torch.device("cpu"), torch.float64
    )
    got = streamed[torch.tensor([70, 3, 119])]
    np.testing.assert_allclose(got.numpy(), x[[70, 3, 119]] / 16, rtol=1e-6)
    assert sum(asked) == 2


def bad(folder: Path, what: str) -> None:
    x, y = digits(30)
    write_npy(folder, x, y, (10, 20))
    if what == "gap":
        (folder / "x-01.npy").unlink()
    elif what == "width":
        np.save(folder / "x-01.npy", x[10:20, :5])
    elif what == "type":
        np.save(folder / "x-01.npy", x[10:20].astype(np.float32))
    elif what == "cut":
        file = folder / "x-02.npy"
        file.write_bytes(file.read_bytes()[:300])
    elif what == "labels":
        np.save(folder / "y-01.npy", y[:3])
    elif what == "fewer labels":
        (folder / "y-02.npy").unlink()
    elif what == "infinite":
        x[15] = np.inf
        np.save(folder / "x-01.npy", x[10:20])
    elif what == "too large":
        x[27] = 1e300
        np.save(folder / "x-02.npy", x[20:])
    elif what == "twice":
        np.save(folder / "x-1.npy", x[10:20])
    elif what == "date":
        (folder / "x-02.npy").rename(folder / "x-1700000000.npy")
    elif what == "text labels":
        np.save(folder / "y-01.npy", y[10:20].astype(str))
    elif what == "pickled":
        np.save(folder / "x-01.npy", np.array([{}], object), allow_pickle=True)
    elif what == "nothing":
        for file in folder.iterdir():
            file.rename(file.with_suffix(".txt"))


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("gap", "shard x-1.npy is missing"),
        ("width", r"x-01.npy holds rows of float64 \(5,\), and x-00.npy rows of float64 \(64,\)"),
        ("type", "x-01.npy holds rows of float32"),
        ("cut", "x-02.npy can't be read as npy"),
        ("labels", r"y-01.npy holds labels of shape \(3,\)"),
        ("fewer labels", "3 x shards and 2 y shards"),
        ("infinite", r"x-01.npy: 1 of 10 rows hold infinite values .* row 5\)"),
        ("too large", r"x-02.npy: 1 of 10 rows hold infinite values .* 3.4e38 .* row 7\)"),
        ("twice", "x-01.npy and x-1.npy have the same number"),
        ("date", "shard x-2.npy is missing"),
        ("text labels", "y-01.npy holds text as labels, and y-00.npy numbers"),
        ("pickled", "x-01.npy can't be read as npy"),
        ("nothing", "a folder without shards"),
    ],
)
def test_errors_name_the_bad_shard(tmp_path: Path, what: str, words: str) -> None:
    bad(tmp_path / "rows", what)
    with pytest.raises(GMMVAEError, match=words):
        train(default_config(str(tmp_path / "rows"), {"epochs": 1}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_endings_are_in_any_case(tmp_path: Path) -> None:
    x, y = digits(30)
    for folder, ending in (("small", "npy"), ("large", "NPY")):
        write_npy(tmp_path / folder, x, y, (10,))
        for file in list((tmp_path / folder).iterdir()):
            file.rename(file.with_suffix(f".{ending}"))
    small, large = (load_data(str(tmp_path / folder)) for folder in ("small", "large"))
    assert_same(large, load_array_of(tmp_path, x, y))
    assert small.classes == large.classes


def load_array_of(folder: Path, x: np.ndarray, y: np.ndarray) -> Dataset:
    np.savez(folder / "rows.npz", x=x, y=y)
    return load_data(str((folder / "rows.npz").rename(folder / "ROWS.NPZ")))


def test_numbered_shards_have_no_columns(tmp_path: Path) -> None:
    x, y = digits(30)
    write_npy(tmp_path / "rows", x, y, (10,))
    with pytest.raises(GMMVAEError, match="has no column 'person'"):
        load_data(str(tmp_path / "rows"), DataOptions(label_column="person"))
