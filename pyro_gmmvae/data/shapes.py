"""Images of shapes with known factors: made like those of dSprites, or the file of dSprites."""

import math
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.data.dataset import Dataset, Factor
from pyro_gmmvae.errors import GMMVAEError, check_range

CLASSES = ("square", "ellipse", "heart")
SIZES = {"scale": 6, "orientation": 40, "x": 32, "y": 32}
CELLS = 64  # of an image of dSprites, a side
FILE = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
BLOCK = 500  # images at once
MOST_PIXELS = 2**32

Array = NDArray[np.float32]


def load_shapes(rows: int = 10_000, size: int = 32, seed: int = 0) -> Dataset:
    """Images like those of dSprites, x (rows, 1, size, size) in [0, 1]; the class is the shape.

    The factors of each row are drawn independently and uniformly: the shape (square, ellipse,
    heart), its scale (6 values, from half to full size), orientation (40, of which the first and
    the last are equal, as in dSprites), and the x and y of its center (32 each). The shapes are
    those of the frames that dSprites shows, of which 1 pixel in 18,700 differs; dSprites itself is
    ``load_dsprites``. Orientations of squares and ellipses that look alike have different numbers.

    Args:
        rows: number of images, at least 10.
        size: of a side in pixels, 8 to 256. Below 64 a pixel is the share of its points (4 or
            more) that are in the shape; from 64 on it is 0 or 1.
        seed: of the factors.

    Raises:
        GMMVAEError: a number out of range.

    Reference:
        Matthey et al. 2017, github.com/google-deepmind/dsprites-dataset.
    """
    check_range("shapes_rows", rows, 10 <= rows <= 1_000_000, "from 10 to 1000000")
    check_range("shapes_size", size, 8 <= size <= 256, "from 8 to 256")
    most = MOST_PIXELS // size**2
    check_range("shapes_rows", rows, rows <= most, f"at most {most} of this size")
    generator = np.random.default_rng(seed)
    shape = generator.integers(len(CLASSES), size=rows)
    factors = {name: generator.integers(number, size=rows) for name, number in SIZES.items()}
    x = np.empty((rows, 1, size, size), np.float32)
    for start in range(0, rows, BLOCK):
        part = slice(start, start + BLOCK)
        own = {name: values[part] for name, values in factors.items()}
        x[part, 0] = draw_shapes(shape[part], own, size)
    return _dataset(x, shape, factors)


def draw_shapes(
    shape: NDArray[np.int64], factors: dict[str, NDArray[np.int64]], size: int
) -> Array:
    """(N, size, size) images of shapes (N,) with these numbers of their factors, (N,) each."""
    points = math.ceil(CELLS / size)  # of a pixel, a side
    cell = (np.arange(size * points, dtype=np.float32) + 0.5) * CELLS / (size * points)
    scale = (0.5 + 0.1 * factors["scale"]).astype(np.float32)[:, None, None]
    angle = (-2 * np.pi * factors["orientation"] / 39).astype(np.float32)[:, None, None]
    dx = cell[None, None, :] - (16 + 32 * factors["x"] / 31).astype(np.float32)[:, None, None]
    dy = cell[None, :, None] - (16 + 32 * factors["y"] / 31).astype(np.float32)[:, None, None]
    u = (np.cos(angle) * dx + np.sin(angle) * dy) / scale
    v = (np.cos(angle) * dy - np.sin(angle) * dx) / scale
    inside = np.empty(u.shape, bool)
    for number, is_in in enumerate((_in_square, _in_ellipse, _in_heart)):
        chosen = shape == number
        inside[chosen] = is_in(u[chosen], v[chosen])
    pixels = inside.reshape(len(shape), size, points, size, points)
    return pixels.mean((2, 4), dtype=np.float32)


def _in_square(u: Array, v: Array) -> NDArray[np.bool_]:
    return (np.abs(u) < 9.6) & (np.abs(v) < 9.6)


def _in_ellipse(u: Array, v: Array) -> NDArray[np.bool_]:
    return (u / 12.77) ** 2 + (v / 7.21) ** 2 < 1


def _in_heart(u: Array, v: Array) -> NDArray[np.bool_]:
    """Within x = 9.6 sin^3 t, y = -0.6627 (13 cos t - 5 cos 2t - 2 cos 3t - cos 4t) - 1.44."""
    third = np.cbrt(np.minimum(np.abs(u) / 9.6, 1))  # sin t
    cosine, cosine_2t = np.sqrt(1 - third**2), 1 - 2 * third**2
    even = -5 * cosine_2t - (2 * cosine_2t**2 - 1)
    odd = 13 * cosine - 2 * (4 * cosine**3 - 3 * cosine)
    low, high = (-0.6627 * (even + sign * odd) - 1.44 for sign in (1, -1))
    return (np.abs(u) < 9.6) & (low < v) & (v < high)


def load_dsprites(data_dir: Path | None) -> Dataset:
    """All 737,280 images of dSprites, x (N, 1, 64, 64) of 0 and 1, from its npz file.

    Raises:
        GMMVAEError: no folder, no file of the published name in it, or another content.
    """
    if data_dir is None:
        raise GMMVAEError(f"dsprites is not downloaded; give a folder with {FILE} as --data-dir")
    path = data_dir / FILE
    if not path.is_file():
        raise GMMVAEError(f"{data_dir} has no {FILE}")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            x, numbers = content["imgs"], content["latents_classes"]
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise GMMVAEError(f"{path} is damaged, or not the npz file of dSprites") from error
    sizes = np.array([1, len(CLASSES), *SIZES.values()])
    fits = x.shape[1:] == (CELLS, CELLS) and numbers.shape == (len(x), len(sizes))
    if not fits or numbers.dtype.kind not in "iu" or x.dtype.kind not in "iub":
        raise GMMVAEError(
            f"{path}: images {x.dtype} {x.shape} and factors {numbers.dtype} {numbers.shape} are "
            "not those of dSprites"
        )
    if ((numbers < 0) | (numbers >= sizes)).any() or ((x != 0) & (x != 1)).any():
        raise GMMVAEError(f"{path}: factors or pixels that dSprites does not have")
    columns = dict(zip(("color", "shape", *SIZES), numbers.T.astype(np.int64), strict=True))
    return _dataset(x[:, None], columns["shape"], {name: columns[name] for name in SIZES})


def _dataset(
    x: NDArray[np.generic], shape: NDArray[np.int64], factors: dict[str, NDArray[np.int64]]
) -> Dataset:
    made = Dataset.of_arrays(x=x, y=shape, classes=CLASSES, unit=1.0)
    return replace(made, factors=tuple(_factor(name, y) for name, y in factors.items()))


def _factor(name: str, y: NDArray[np.int64]) -> Factor:
    return Factor(name, tuple(str(value) for value in range(SIZES[name])), y)
