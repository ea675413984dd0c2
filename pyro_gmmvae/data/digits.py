"""Handwritten digits: the 8 x 8 images of scikit-learn, and MNIST from IDX files."""

import gzip
import os
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.data.dataset import Dataset
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import ending, read_bytes

MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"
# SHA-256 of the gzipped files as the mirror serves them
FILES = {
    "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
IMAGES, LABELS = 0x803, 0x801


def load_digits() -> Dataset:
    """The 1,797 digits of scikit-learn, x (1797, 1, 8, 8) with pixels 0..16; no test set.

    Source: UCI Optical Recognition of Handwritten Digits (test part), via scikit-learn.
    """
    from sklearn.datasets import load_digits as load

    images, labels = load(return_X_y=True)
    return Dataset.of_arrays(
        x=images.astype(np.float32).reshape(-1, 1, 8, 8),
        y=labels.astype(np.int64),
        classes=tuple(str(digit) for digit in range(10)),
        unit=16.0,
        likelihood="binomial(16)",  # a pixel is how many of the 16 cells of a block were set
    )


def load_mnist(data_dir: Path | None = None) -> Dataset:
    """All 70,000 rows, x (70000, 1, 28, 28) uint8; the last 10,000 are the published test set.

    The files are read from ``data_dir``, else from $PYRO_GMMVAE_DATA, else from the user's cache,
    to which they are downloaded (and checked) if they are missing.

    Raises:
        GMMVAEError: a file is missing, empty, truncated, not an IDX file, or can't be downloaded.
    """
    paths = [_find(name, data_dir) for name in FILES]
    train_x, train_y, test_x, test_y = (
        read_idx(path, IMAGES if "images" in path.name else LABELS) for path in paths
    )
    if train_x.shape[1:] != test_x.shape[1:]:
        raise GMMVAEError(
            f"{paths[0]} holds images of {train_x.shape[1:]}, {paths[2]} of {test_x.shape[1:]}"
        )
    for x, y, path in ((train_x, train_y, paths[1]), (test_x, test_y, paths[3])):
        if len(x) != len(y):
            raise GMMVAEError(f"{path} holds {len(y)} labels for {len(x)} images")
        if len(y) and y.max() > 9:
            raise GMMVAEError(f"{path} holds the label {y.max()}; digits are 0..9")
    x = np.concatenate([train_x, test_x])
    return Dataset.of_arrays(
        x=x[:, None],
        y=np.concatenate([train_y, test_y]).astype(np.int64),
        classes=tuple(str(digit) for digit in range(10)),
        unit=255.0,
        test=np.arange(len(train_x), len(x)),
    )


def read_idx(path: Path, magic: int) -> NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes, gzipped or not.

    Args:
        path: the file.
        magic: the number it must start with, ``IMAGES`` or ``LABELS``.

    Raises:
        GMMVAEError: the file is missing, empty, truncated or something else.
    """
    content = _read(path)
    if len(content) < 4:
        raise GMMVAEError(f"{path} is empty or too short for an IDX file ({len(content)} bytes)")
    if content[:4] != magic.to_bytes(4, "big"):
        raise GMMVAEError(
            f"{path} is not such an IDX file: it starts with 0x{content[:4].hex()}, "
            f"not with {magic:#x}"
        )
    start = 4 + 4 * (magic & 0xFF)
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4))
    if len(content) < start or len(content) - start != int(np.prod(shape, dtype=np.int64)):
        raise GMMVAEError(
            f"{path} is truncated or damaged: {len(content)} bytes for an array of shape {shape}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _read(path: Path) -> bytes:
    try:
        content = read_bytes(path)
        if content[:2] == b"\x1f\x8b":
            return gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise GMMVAEError(f"{path} is a damaged gzip file ({error}); fetch it again") from error
    except OSError as error:
        raise GMMVAEError(f"{path} can't be read: {error.strerror or error}") from error
    if ending(path) == ".gz" and content:
        raise GMMVAEError(
            f"{path} is not a gzip file, although its name ends in .gz; fetch it again"
        )
    return content


def _find(name: str, data_dir: Path | None) -> Path:
    environment = os.environ.get("PYRO_GMMVAE_DATA")
    folder = data_dir or (Path(environment) if environment else None)
    if folder is None:
        return _download(name)
    for place in (folder, folder / "mnist"):
        if path := _named_alike(name, place):
            return path
    raise GMMVAEError(f"{folder} has no {name}(.gz); --data-dir must hold MNIST's four IDX files")


def _named_alike(name: str, folder: Path) -> Path | None:
    """The file of a name that may have other marks, as train-images.idx3-ubyte, or end in .gz."""
    found = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        plain = path.name.lower().removesuffix(".gz").replace(".", "-").replace("_", "-")
        if plain == name and path.is_file():
            found[path.name != f"{name}.gz", path.name != name] = path
    return found[min(found)] if found else None


def _download(name: str) -> Path:
    import pooch

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")
    try:
        path = pooch.retrieve(
            f"{MIRROR}{name}.gz",
            known_hash=f"sha256:{FILES[name]}",
            fname=f"{name}.gz",
            path=pooch.os_cache("pyro-gmmvae") / "mnist",
        )
    except (OSError, ValueError) as error:
        raise GMMVAEError(
            f"MNIST can't be downloaded ({type(error).__name__}); give a folder with its "
            "four IDX files as --data-dir, or set PYRO_GMMVAE_DATA"
        ) from error
    finally:
        logger.setLevel(level)
    return Path(path)
