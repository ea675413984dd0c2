"""Tests of MNIST: IDX files, gzipped or not, and errors of bad ones."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from pyro_gmmvae.data.digits import IMAGES, LABELS, load_mnist, read_idx
from pyro_gmmvae.datasets import load_data
from pyro_gmmvae.errors import GMMVAEError


def idx(magic: int, array: np.ndarray) -> bytes:
    header = magic.to_bytes(4, "big") + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_set(folder: Path, *, compress: bool = True, labels: int = 10) -> None:
    generator = np.random.default_rng(0)
    for name, n in (("train", 30), ("t10k", 12)):
        parts = {
            f"{name}-images-idx3-ubyte": idx(IMAGES, generator.integers(0, 256, (n, 5, 4))),
            f"{name}-labels-idx1-ubyte": idx(LABELS, np.arange(n) % labels),
        }
        for file, content in parts.items():
            if compress:
                (folder / f"{file}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / file).write_bytes(content)


@pytest.mark.parametrize("compress", [True, False])
def test_mnist_is_read_with_its_published_split(tmp_path: Path, compress: bool) -> None:
    write_set(tmp_path, compress=compress)
    data = load_mnist(tmp_path)
    assert data.x.shape == (42, 1, 5, 4)
    assert data.test is not None
    assert data.test.tolist() == list(range(30, 42))
    assert data.y[:3].tolist() == [0, 1, 2]
    assert data.unit == 255


@pytest.mark.parametrize("compress", [True, False])
def test_mnist_may_have_a_dot_in_its_names(tmp_path: Path, compress: bool) -> None:
    """As in archives of the set that went round."""
    write_set(tmp_path, compress=compress)
    wanted = load_mnist(tmp_path).x
    for file in list(tmp_path.iterdir()):
        other = file.name.replace("-idx", ".idx")
        file.rename(tmp_path / (other.upper() if "labels" in other else other))
    np.testing.assert_array_equal(load_mnist(tmp_path).x, wanted)
    np.save(tmp_path / "train-images.idx3-ubyte.npy", wanted)  # another file
    np.testing.assert_array_equal(load_mnist(tmp_path).x, wanted)


def test_the_folder_can_be_given_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mnist").mkdir()
    write_set(tmp_path / "mnist")
    monkeypatch.setenv("PYRO_GMMVAE_DATA", str(tmp_path))
    assert len(load_data("mnist").x) == 42


GOOD = gzip.compress(idx(IMAGES, np.zeros((30, 5, 4))))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no train-images"),
        (b"", "empty or too short"),
        (GOOD[: len(GOOD) // 2], "damaged gzip"),
        (b"not gzip at all", "is not a gzip file"),
        (gzip.compress(idx(IMAGES, np.zeros((30, 5, 4)))[:-7]), "truncated"),
        (gzip.compress(idx(IMAGES, np.zeros((30, 5, 4)))[:9]), "truncated"),
        (gzip.compress(idx(LABELS, np.zeros(30))), "not with 0x803"),
        (gzip.compress(b"\x89PNG rest of a picture"), "is not such an IDX file"),
        (gzip.compress(idx(IMAGES, np.zeros((29, 5, 4)))), "30 labels for 29 images"),
        (gzip.compress(idx(IMAGES, np.zeros((30, 6, 4)))), r"images of \(6, 4\)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_errors_name_the_bad_file(tmp_path: Path, content: bytes | None, message: str) -> None:
    write_set(tmp_path)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(GMMVAEError, match=message):
        load_mnist(tmp_path)


def test_a_label_out_of_range_is_refused(tmp_path: Path) -> None:
    write_set(tmp_path, labels=11)
    with pytest.raises(GMMVAEError, match="the label 10"):
        load_mnist(tmp_path)


def test_the_error_without_a_network_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYRO_GMMVAE_DATA", raising=False)
    monkeypatch.setattr("pooch.os_cache", lambda _: tmp_path)
    monkeypatch.setattr("pyro_gmmvae.data.digits.MIRROR", "http://127.0.0.1:9/")
    with pytest.raises(GMMVAEError, match=r"can't be downloaded .* --data-dir"):
        load_mnist()


def test_real_files(mnist_dir: Path) -> None:
    data = load_mnist(mnist_dir)
    assert data.x.shape == (70_000, 1, 28, 28)
    assert np.bincount(data.y[:60_000]).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip
    assert read_idx(next(mnist_dir.glob("t10k-labels*")), LABELS)[:4].tolist() == [7, 2, 1, 0]
