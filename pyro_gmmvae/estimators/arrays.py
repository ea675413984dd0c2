"""From arrays as scikit-learn takes them to rows and labels as a fit takes them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets

from pyro_gmmvae.data import Dataset, Transform
from pyro_gmmvae.data.transform import Labels
from pyro_gmmvae.errors import GMMVAEError

Array = NDArray[Any]


def shape_of_rows(features: int, image_shape: Any) -> tuple[int, ...]:
    """(D,), or (channels, height, width) where rows are images.

    Raises:
        GMMVAEError: an image_shape that is none, or that holds another number of pixels.
    """
    if image_shape is None:
        return (features,)
    shape = tuple(image_shape) if isinstance(image_shape, Sequence | np.ndarray) else ()
    if len(shape) not in (2, 3) or not all(isinstance(n, int | np.integer) for n in shape):
        raise GMMVAEError(
            f"image_shape must be (height, width) or (channels, height, width), not {image_shape!r}"
        )
    if min(shape) < 1 or int(np.prod(shape)) != features:
        raise GMMVAEError(
            f"image_shape {shape} is of {int(np.prod(shape))} pixels, and X has {features} features"
        )
    return tuple(int(n) for n in (1, *shape)[-3:])


def range_of_pixels(
    x: Array, x_range: Any, *, image: bool, likelihood: str | None
) -> tuple[float, float] | None:
    """Lowest and highest value a feature can have, or None: rows are then standardized.

    As it was given; else that of bytes or of [0, 1], where rows are images or the likelihood is
    Bernoulli.

    Raises:
        GMMVAEError: a range that is none or that X leaves, or a Bernoulli likelihood of rows whose
            range is unknown.
    """
    if x_range is not None:
        try:
            low, high = (float(value) for value in x_range)
        except (TypeError, ValueError):
            low = high = np.nan
        if not (np.isfinite([low, high]).all() and low < high):
            raise GMMVAEError(f"x_range must be (lowest, highest) of all X, not {x_range!r}")
        if likelihood != "normal" and not low <= x.min() <= x.max() <= high:
            raise GMMVAEError(
                f"x_range is {x_range}, and X goes from {x.min():.3g} to {x.max():.3g}; give the "
                "range of all X, or likelihood='normal'"
            )
        return low, high
    if likelihood == "normal" or not (image or likelihood == "bernoulli"):
        return None
    if x.dtype == np.uint8:
        return 0.0, 255.0
    low, high = float(x.min()), float(x.max())
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    if likelihood == "bernoulli":
        raise GMMVAEError(
            f"likelihood='bernoulli': X goes from {low:.3g} to {high:.3g}; say from where to where "
            "it can go, x_range=(0, 255) for bytes"
        )
    return None


def transform_of(x: Array, pixels: tuple[float, float] | None) -> Transform:
    """To the model's units, [0, 1] or zero mean and unit variance.

    Raises:
        GMMVAEError: numbers too large to have a variance.
    """
    if pixels is not None:
        low, high = pixels
        return Transform(np.full((), low), np.full((), high - low))
    with np.errstate(over="ignore", invalid="ignore"):
        found = Transform.standardizing(x)
    if not (np.isfinite(found.shift).all() and np.isfinite(found.scale).all()):
        raise GMMVAEError(f"X goes up to {np.abs(x).max():.3g}: too large to be standardized")
    return found


ADVICE = "unlabelled rows are -1, in an array of dtype object where labels are text"


def has_label(y: Array) -> NDArray[np.bool_]:
    """(N,) which rows have a label.

    Raises:
        GMMVAEError: text that may stand for no label.
    """
    if y.dtype.kind in "US":
        # -1 beside text becomes the text "-1" in such an array
        if (y.astype(str) == "-1").any():
            raise GMMVAEError(f"y is of text and holds '-1': {ADVICE}")
        return np.ones(len(y), bool)
    if y.dtype.kind == "O" and any(v is None or v != v for v in y.tolist()):
        raise GMMVAEError(f"Input y contains NaN or None: {ADVICE}")
    return np.asarray(y != -1, bool)


def encoded_by(y: Array, classes: Array) -> Labels:
    """Class numbers with -1 where unknown, of classes that are known.

    Raises:
        GMMVAEError: a label that is no class.
    """
    known = has_label(y)
    number = {label: k for k, label in enumerate(classes.tolist())}
    strangers = [label for label in y[known].tolist() if label not in number]
    if strangers:
        raise GMMVAEError(f"y holds {strangers[0]!r}, which is none of classes {classes.tolist()}")
    codes = np.full(len(y), -1, np.int64)
    codes[known] = [number[label] for label in y[known].tolist()]
    return codes


def encoded(y: Array) -> tuple[Labels, Array]:
    """Class numbers with -1 where unknown, and the sorted classes.

    Raises:
        GMMVAEError: labels of which none is known, or all are of one class.
        ValueError: labels that are no classes.
    """
    known = has_label(y)
    if not known.any():
        raise GMMVAEError(
            "y holds no label (every row is -1): give some, or take GMMVAECluster, which needs none"
        )
    try:
        check_classification_targets(y[known])
        classes, numbers = np.unique(y[known], return_inverse=True)
    except TypeError as error:
        raise GMMVAEError(f"y holds labels of several types ({error}): {ADVICE}") from error
    if len(classes) == 1:
        besides = " besides -1, which marks rows without a label" if not known.all() else ""
        write = "; write two classes -1/+1 as 0/1" if str(classes[0]) in ("1", "1.0") else ""
        raise GMMVAEError(
            f"y holds 1 class, {classes.tolist()[0]!r}{besides}: a classifier needs two{write}"
        )
    codes = np.full(len(y), -1, np.int64)
    codes[known] = numbers
    return codes, classes


def dataset_of(
    x: Array, shape: tuple[int, ...], y: Labels, classes: Array, columns: Any
) -> Dataset:
    """Rows (N, D) and their labels as a fit takes them."""
    names = None if columns is None else tuple(map(str, columns))
    return Dataset.of_arrays(
        x.reshape(-1, *shape), y, tuple(map(str, classes.tolist())), columns=names
    )
