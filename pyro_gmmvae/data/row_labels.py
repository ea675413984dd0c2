"""What rows have beside x: labels, soft labels, weights, and groups that stay together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.data.cells import natural_key, number_of, number_text
from pyro_gmmvae.data.transform import Labels
from pyro_gmmvae.errors import GMMVAEError

SUM_TOLERANCE = 1e-3
Numbers = NDArray[np.float64]


def encode_labels(raw: Any, rows: int, path: Path) -> tuple[Labels, tuple[str, ...]]:
    """Class numbers with -1 for unknown, and the classes' names in order.

    Args:
        raw: (N,) whole numbers or texts, or a categorical of texts. An empty text, -1 or NaN is
            unknown. None: no label is known.
        rows: N.
        path: of the file, for messages.

    Raises:
        GMMVAEError: other values, or another number of them.
    """
    if raw is None:
        return np.full(rows, -1, np.int64), ()
    import pandas as pd

    if raw.shape != (rows,):
        raise GMMVAEError(f"{path}: {rows} rows and labels of shape {raw.shape}")
    if getattr(raw.dtype, "kind", "O") in "Vc":
        raise GMMVAEError(f"{path}: labels must be whole numbers or text, not {raw.dtype}")
    codes, found = pd.factorize(pd.Series(raw))
    texts = [_label_text(label, path) for label in found.tolist()]
    classes = sorted(set(texts) - {""}, key=natural_key)
    if classes == ["1"] and ((codes < 0).any() or "" in texts):
        raise GMMVAEError(
            f"{path}: the only label besides -1 (unknown) is 1; write two classes -1/+1 as 0/1"
        )
    place = {name: number for number, name in enumerate(classes)}
    table = np.array([*(place.get(text, -1) for text in texts), -1], np.int64)
    return table[codes], tuple(classes)


def _label_text(label: Any, path: Path) -> str:
    """The name of a class; "" where the class is not known."""
    text = label.strip() if isinstance(label, str) else str(label)
    number = number_of(text)
    if number is None or (np.isinf(number) and isinstance(label, str)):
        return text
    if not abs(number) <= 2**53 or number != round(number):
        raise GMMVAEError(f"{path}: labels must be whole numbers or text, not {text}")
    if number < -1:
        raise GMMVAEError(f"{path}: label {text} is out of range (-1: unknown)")
    # a text of digits stays as it is: 01 is not 1
    return "" if number == -1 else text if text.isdecimal() else number_text(number)


def is_unlabelled(label: Any) -> bool:
    """Whether a label is -1 or empty, as a number or as text.

    >>> [is_unlabelled(label) for label in (-1, "-1", "-1.0", " ", 0, "a")]
    [True, True, True, True, False, False]
    """
    if isinstance(label, bytes):
        label = label.decode(errors="replace")
    if isinstance(label, str):
        return not label.strip() or number_of(label.strip()) == -1
    return bool(label == -1)


def unlabelled_rows(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """(N,) whether each label of an array of any type is -1 or empty."""
    if labels.dtype.kind in "OUS":
        return np.fromiter(map(is_unlabelled, labels.tolist()), bool, len(labels))
    return np.asarray(labels == -1, bool)


def checked_soft_labels(p: Any, source: str) -> tuple[Labels, Numbers | None]:
    """The most probable class of each row, and its distribution where that is not certain.

    Args:
        p: (N, C) a row's probability of each class; a row of NaN alone has no label.
        source: of the rows, for messages.

    Returns:
        (N,) class numbers, -1 where unknown, and (N, C) distributions with rows of NaN where the
        class is certain or unknown; None where that are all.

    Raises:
        GMMVAEError: a row with a negative or infinite number, or whose numbers do not sum to 1
            within 0.001.
    """
    p = np.asarray(p, np.float64)
    known = ~np.isnan(p).all(1)
    filled = np.where(np.isnan(p), 0.0, p)
    total = filled.sum(1)
    for wrong, why in (
        ((filled < 0).any(1), "a negative probability"),
        (known & ~(np.abs(total - 1) <= SUM_TOLERANCE), "probabilities that do not sum to 1"),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            shown = ", ".join(f"{value:g}" for value in p[row][:6])
            raise GMMVAEError(
                f"{source}: row {row} has {why} ({shown}); correct the p_<class> of the "
                "row, or leave all of them empty where its class is not known"
            )
    filled /= np.where(known, total, 1.0)[:, None]
    y = np.where(known, filled.argmax(1), -1)
    soft = known & (filled.max(1) < 1)
    filled[~soft] = np.nan
    return y, filled if soft.any() else None


def checked_weights(weights: Any, rows: int, source: str) -> Numbers | None:
    """Weights of rows (N,); None where all are equal.

    Raises:
        GMMVAEError: another number of weights, one that is negative, missing or infinite, or all
            are 0.
    """
    try:
        values = np.asarray(weights, np.float64)
    except (TypeError, ValueError) as error:
        raise GMMVAEError(f"{source} must be numbers ({error})") from error
    if values.shape != (rows,):
        raise GMMVAEError(f"{source} must be one for each of {rows} rows, not {values.shape}")
    wrong = ~(np.isfinite(values) & (values >= 0))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise GMMVAEError(
            f"{source}: row {row} has {values[row]:g}; a weight is 0 (never drawn) or a "
            "positive number"
        )
    if not values.any():
        raise GMMVAEError(f"{source} are all zero: no row would be drawn; give some a positive one")
    return None if (values == values[0]).all() else values


def group_codes(groups: Any) -> Labels:
    """(N,) a number for each group; a row without one (None, NaN, "") is a group by itself."""
    import pandas as pd

    values = np.asarray(groups, object)
    codes, names = pd.factorize(values, use_na_sentinel=True)
    codes = np.where(values == "", -1, codes)
    alone = codes < 0
    codes[alone] = len(names) + np.arange(alone.sum())
    return codes


def soft_label_names(columns: Sequence[str], classes: Sequence[str]) -> dict[str, str]:
    """Columns p_<class> of soft labels, and the class of each; none where they are others.

    They are at least two. Where a file also has labels, every class of these has a column.
    """
    found = {name: name[2:] for name in columns if name.startswith("p_") and len(name) > 2}
    return found if len(found) > 1 and set(classes) <= set(found.values()) else {}
