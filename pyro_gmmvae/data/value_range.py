"""The lowest and highest value that rows can hold, and the likelihood that follows from it.

One rule for files, shards and arrays in memory. Units are not read from the type alone: bytes that
are 0 and 1 only are not divided by 255.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.data.shards import Shards, blocks
from pyro_gmmvae.data.transform import Floats, Transform
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.likelihood_spec import LikelihoodSpec, parse_likelihood

Range = tuple[float, float]
BYTES: Range = (0.0, 255.0)
UNIT: Range = (0.0, 1.0)
HALF = 128  # bytes of an image go beyond it


def likelihood_and_range(
    x: NDArray[Any] | Shards,
    *,
    x_range: Range | None = None,
    image: bool = False,
    likelihood: str | None = None,
    source: str = "X",
) -> tuple[LikelihoodSpec, Range | None]:
    """The likelihood with its number, and the lowest and highest value that x can hold.

    Without a range rows are standardized. A range is

    - ``x_range``, where it is given;
    - that of counts or levels, where the likelihood has a number;
    - (0, 1) of booleans, and of bytes that are 0 and 1 only;
    - (0, 255) of other bytes, where some of them are above 127;
    - (0, 1) of images without a value outside, and of all such rows where the likelihood is of
      rows in [0, 1].

    Args:
        x: rows (N, ...), NaN where a cell is missing.
        x_range: as it was given.
        image: whether rows are images.
        likelihood: as it was given; None: Bernoulli for rows with a range, else Normal.
        source: of the rows, for messages.

    Raises:
        GMMVAEError: a range that x leaves; bytes of an image that end below 128;
            a likelihood of rows in [0, 1], or one with a number, for rows of unknown range.
    """
    spec = None if likelihood is None else parse_likelihood(likelihood)
    if spec is not None and spec.number_name is not None:
        return _of_number(x, x_range, spec, source)
    if x_range is None:
        found = _range_of(x, image, spec, source)
    else:
        found = x_range
        low, high = extremes(x)
        if (spec is None or spec.bounded) and not x_range[0] <= low <= high <= x_range[1]:
            raise GMMVAEError(
                f"x_range is {_text(x_range)}, and {source} goes from {low:.6g} to {high:.6g}; "
                "give the range of all values, or likelihood=normal"
            )
    spec = spec or parse_likelihood("normal" if found is None else "bernoulli")
    return spec, found


def _of_number(
    x: NDArray[Any] | Shards, x_range: Range | None, spec: LikelihoodSpec, source: str
) -> tuple[LikelihoodSpec, Range]:
    """The likelihood with its number, and the range of the counts or levels."""
    if x_range is None:
        spec = spec.completed(BYTES[1] if x.dtype == np.uint8 else None, source)
        return spec, (0.0, float(spec.largest or 0))
    low, high = x_range
    spec = spec.completed(high - low, source)
    if spec.largest != high - low:
        raise GMMVAEError(
            f"x_range is {_text(x_range)}, and likelihood {spec} is of whole numbers from 0 to "
            f"{spec.largest}; give x_range=0,{spec.largest}, or leave one of the two out"
        )
    return spec, x_range


def _range_of(
    x: NDArray[Any] | Shards, image: bool, spec: LikelihoodSpec | None, source: str
) -> Range | None:
    """The range of rows of which none was given, or None."""
    if x.dtype == bool:
        return UNIT
    bounded = spec is not None and spec.bounded
    is_normal = spec is not None and not bounded
    if x.dtype != np.uint8 and (is_normal or not (image or bounded)):
        return None
    low, high = extremes(x)
    if low >= 0 and high <= 1:
        return UNIT
    if x.dtype == np.uint8 and (high >= HALF or is_normal):
        return BYTES
    if x.dtype == np.uint8 and image:
        raise GMMVAEError(
            f"{source} holds images of bytes that go up to {high:.0f} only: of 255, or of "
            f"{high:.0f}? give x_range=0,255 or x_range=0,{high:.0f}"
        )
    if bounded:
        raise GMMVAEError(
            f"{source}: the {spec} likelihood needs rows in [0, 1], and these go from {low:.6g} to "
            f"{high:.6g}; give the range of all values, such as x_range=0,255, or likelihood=normal"
        )
    return None


def extremes(x: NDArray[Any] | Shards) -> Range:
    """The lowest and highest value of rows, missing ones (NaN) left out; rows are read in blocks.

    (0, 0) where no value is there.
    """
    found = [(np.fmin.reduce(b, axis=None), np.fmax.reduce(b, axis=None)) for b in blocks(x)]
    low, high = np.fmin.reduce([a for a, _ in found]), np.fmax.reduce([b for _, b in found])
    return float(np.nan_to_num(low)), float(np.nan_to_num(high))


# -- rows in another unit than those of training ------------------------------------------------

FAR, ALIKE, LOW = 20.0, 0.02, 0.1
FEW = 10  # rows; as many may well be alike


def standardized_otherwise(rows: Floats) -> str | None:
    """Why standardized rows (N, D) look as if they were in another unit, or None.

    A unit that is much smaller puts most cells far from the training rows' mean; one that is much
    larger makes all rows alike.
    """
    known = np.abs(rows[~np.isnan(rows)])
    if not len(known):
        return None
    if np.median(known) > FAR:
        return f"most cells are more than {FAR:g} standard deviations from the training rows' mean"
    if len(rows) <= FEW:
        return None
    spread = np.nanmax(rows, 0, initial=-np.inf) - np.nanmin(rows, 0, initial=np.inf)
    spread = spread[np.isfinite(spread) & (spread > 0)]
    if len(spread) and np.median(spread) < ALIKE:
        return f"in most columns they differ by less than {ALIKE:g} of a standard deviation"
    return None


def low_in_range(rows: Floats, transform: Transform) -> str | None:
    """Why rows in [0, 1] look as if they were in another unit, or None; cells may be NaN."""
    high = float(np.nan_to_num(np.fmax.reduce(rows, axis=None)))
    if not 0 < high < LOW:
        return None
    low, found, top = transform.invert(np.asarray([0, high, 1], np.float32))
    return f"they go up to {found:.4g}, and the range is {low:g} to {top:g}"


def _text(x_range: Range) -> str:
    return f"{x_range[0]:g},{x_range[1]:g}"
