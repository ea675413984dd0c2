"""MNIST from IDX files, gzipped or not: 60,000 training and 10,000 test images."""

import gzip
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.data.dataset import Dataset
from pyro_gmmvae.data.presets import CLUSTER
from pyro_gmmvae.errors import GMMVAEError

ROWS = {"labels": 100, "validation": 5000}
PSEUDO = {
    "pseudo_threshold": 0.95,
    "pseudo_balance": True,
    "pseudo_from": 300,
    "pseudo_decay": 0.999,
}
PRESETS: dict[str, Mapping[str, Any]] = {
    "paper": {
        **ROWS,
        "hidden": (500, 500),
        "latent_dim": 50,
        "alpha": 0,
        "labelled_per_batch": 0,
        "epochs": 10,
    },
    # chosen on validation rows, and small enough for models that sum a class out on a CPU
    "permutation-invariant": {
        **ROWS,
        "hidden": (256, 256),
        "latent_dim": 32,
        "batch_norm": True,
        "input_noise": 0.3,
        "batch_size": 50,
        "labelled_per_batch": 10,
        "alpha": 100,
        **PSEUDO,
        "epochs": 5,
    },
    "best": {
        **ROWS,
        "network": "conv-mlp",
        "channels": (16, 32),
        "batch_norm": True,
        "labelled_per_batch": 20,
        "augment": "affine",
        "kl_s": "0:1:500",
        "kl_y": "0:1:500",
        **PSEUDO,
        "epochs": 30,
    },
    "cluster": CLUSTER | {"validation": 5000, "hidden": (500, 500), "epochs": 25},
}

MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"
# SHA-256 of the gzipped files as the mirror serves them
FILES = {
    "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
IMAGES, LABELS = 0x803, 0x801


def load_mnist(data_dir: Path | None = None) -> Dataset:
    """All 70,000 rows, x (70000, 1, 28, 28) uint8; the last 10,000 are the published test set.

    Looks in ``data_dir``, else in $PYRO_GMMVAE_DATA, else in the user's cache, where the files
    are downloaded (and checked) if they are missing.

    Raises:
        GMMVAEError: a file is missing, empty, truncated, no IDX file, or can't be downloaded.
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
    found = int.from_bytes(content[:4], "big")
    if found != magic:
        raise GMMVAEError(f"{path} starts with {found:#x}, not with {magic:#x}: no such IDX file")
    start = 4 + 4 * (found & 0xFF)
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4))
    if len(content) < start or len(content) - start != int(np.prod(shape, dtype=np.int64)):
        raise GMMVAEError(
            f"{path} is truncated or damaged: {len(content)} bytes for an array of shape {shape}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            return gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise GMMVAEError(f"{path} is a damaged gzip file ({error}); fetch it again") from error
    except OSError as error:
        raise GMMVAEError(f"{path} can't be read: {error.strerror or error}") from error
    if path.suffix == ".gz" and content:
        raise GMMVAEError(f"{path} is named .gz and is not a gzip file; fetch it again")
    return content


def _find(name: str, data_dir: Path | None) -> Path:
    environment = os.environ.get("PYRO_GMMVAE_DATA")
    folder = data_dir or (Path(environment) if environment else None)
    if folder is None:
        return _download(name)
    for place in (folder, folder / "mnist"):
        for path in (place / f"{name}.gz", place / name):
            if path.exists():
                return path
    raise GMMVAEError(f"no {name}(.gz) in {folder}; --data-dir must hold MNIST's four IDX files")


def _download(name: str) -> Path:
    import pooch

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")
    try:
        found = pooch.retrieve(
            f"{MIRROR}{name}.gz",
            known_hash=f"sha256:{FILES[name]}",
            fname=f"{name}.gz",
            path=pooch.os_cache("pyro-gmmvae") / "mnist",
        )
    except (OSError, ValueError) as error:
        raise GMMVAEError(
            f"MNIST can't be downloaded ({type(error).__name__}); give --data-dir a folder with "
            "its four IDX files, or set PYRO_GMMVAE_DATA"
        ) from error
    finally:
        logger.setLevel(level)
    return Path(found)
