"""Inputs of the estimators: constructor arguments to a configuration, arrays to a data set."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets

from pyro_gmmvae.config import Config
from pyro_gmmvae.data.row_labels import checked_soft_labels, unlabelled_rows
from pyro_gmmvae.data.transform import Labels
from pyro_gmmvae.datasets import IN_MEMORY, presets_of
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.estimators.frame_rows import is_frame, is_table
from pyro_gmmvae.key_types import split_list
from pyro_gmmvae.runs import default_config

Array = NDArray[Any]
# arguments that are keys of a configuration, by the key's name
KEYS = {
    **{
        name: name
        for name in (
            *("model", "guide", "objective", "components", "latent_dim", "network", "hidden"),
            *("likelihood", "x_range", "preset", "epochs", "minutes", "batch_size"),
            *("learning_rate", "device", "engine", "precision"),
        )
    },
    "n_clusters": "components",
    "columns": "column",
}
# keys of data in files and of what is written; here rows and labels are given to fit
FILE_KEYS = {
    *("data", "data_dir", "label_column", "weight_column", "group_column", "labels"),
    *("leave_out", "label_seed", "test", "transductive"),
    *("drop_nonfinite", "tracks", "labels_file", "layout", "protocol", "window", "stride"),
    *("max_gap", "scale", "features", "statistics", "joint_dropout"),
    *("cv", "fold", "checkpoint_seconds", "log"),
}
WATCHED_SHARE = 0.1


def config_of(
    arguments: Mapping[str, Any], preset: str | None, fixed: Mapping[str, Any], seed: int
) -> Config:
    """The configuration of a fit: the preset, then arguments that are not None, then settings.

    All rows are fitted, unless ``patience`` needs some to watch.

    Args:
        arguments: of the estimator's constructor.
        preset: the one that is taken where none is named.
        fixed: keys that the kind of estimator decides.
        seed: of weights, batches and noise.

    Raises:
        GMMVAEError: an unknown key, one that has another place, or a value out of range.
    """
    if arguments.get("n_clusters", 1) is None:
        raise GMMVAEError("n_clusters must be a positive whole number, not None")
    settings = arguments["settings"]
    if settings is not None and not isinstance(settings, Mapping):
        raise GMMVAEError(f"settings must be a dict of configuration keys, not {settings!r}")
    given = {str(key): _plain(value) for key, value in (settings or {}).items()}
    place_of = {key: name for name, key in KEYS.items() if name in arguments} | {
        "seed": "random_state"
    }
    for key in given:
        if key in place_of:
            raise GMMVAEError(f"settings: {key} has an argument of its own, {place_of[key]}")
        if key in FILE_KEYS:
            raise GMMVAEError(f"settings: {key} is for runs of files; rows come with fit")
        if key in fixed:
            raise GMMVAEError(f"settings: {key} is for GMMVAEClassifier; leave it out")
    named = {
        KEYS[name]: _plain(value)
        for name, value in arguments.items()
        if name in KEYS and value is not None
    }
    if arguments["columns"] is not None:
        named["column"] = tuple(f"{name}={kind}" for name, kind in arguments["columns"].items())
    default = {} if preset is None else {"preset": preset}
    config = default_config(IN_MEMORY, default, named, given, fixed, {"test": 0, "seed": seed})
    watched = given.get("validation", WATCHED_SHARE if config.patience else 0)
    return config.replace(validation=watched)


def takes_columns(rows: Any, arguments: Mapping[str, Any]) -> bool:
    """Whether rows are a frame whose columns each have a kind and a likelihood.

    Where rows are images, have a range or another likelihood, a frame is an array of numbers.

    Args:
        rows: as they were given.
        arguments: of the estimator's constructor.
    """
    preset = presets_of(IN_MEMORY)[0].get(str(arguments["preset"]), {})
    likelihood = arguments["likelihood"] or preset.get("likelihood")
    plain = arguments["image_shape"] is not None or arguments["x_range"] is not None
    wanted = not plain and likelihood in (None, "columns")
    return wanted and is_frame(rows) and is_table(rows)


def covariates_of(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the columns that ``settings`` make covariates."""
    settings = arguments["settings"]
    names = settings.get("covariates", ()) if isinstance(settings, Mapping) else ()
    return tuple(split_list(names))


def seed_of(random_state: Any) -> int:
    """The seed of a random state: a whole number itself, or a draw from another source.

    Raises:
        ValueError: of scikit-learn, for any other value.
    """
    if isinstance(random_state, int | np.integer) and not isinstance(random_state, bool):
        check_random_state(random_state)  # refuses those out of range
        return int(random_state)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def _plain(value: Any) -> Any:
    """NumPy's numbers, of which grids of parameters are made, as Python's."""
    if isinstance(value, np.generic):
        return value.item()
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def shape_of_rows(features: int, image_shape: Any) -> tuple[int, ...]:
    """(D,), or (channels, height, width) where rows are images.

    Raises:
        GMMVAEError: an image_shape that is not a shape, or that holds another number of pixels.
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


def labels_of(y: Any) -> Any:
    """Labels in which a missing cell of a pandas or polars series is -1.

    Numbers are whole again where missing cells alone made them floats.
    """
    import pandas as pd

    series = y
    if type(y).__module__.startswith("polars") and type(y).__name__ == "Series":
        series = pd.Series(y.to_list(), dtype=object)
    if not isinstance(series, pd.Series) or not series.isna().any():
        return y
    known = series.notna().to_numpy()
    labels = series.astype(object).to_numpy()
    values = np.asarray(labels[known].tolist())
    whole = values.dtype.kind in "iub" or (
        values.dtype.kind == "f" and bool((values == np.round(values)).all())
    )
    found = np.full(len(y), -1, np.int64 if whole else object)
    found[known] = values if whole else labels[known]
    return found


ADVICE = "rows without a label are -1, or '-1' where labels are text"


def has_label(y: Array) -> NDArray[np.bool_]:
    """(N,) which rows have a label; -1, '-1' and '' stand for none.

    Raises:
        GMMVAEError: labels that are NaN or None.
    """
    if y.dtype.kind == "O" and any(v is None or v != v for v in y.tolist()):
        raise GMMVAEError(f"Input y contains NaN or None: {ADVICE}")
    return ~unlabelled_rows(y)


def encoded_by(y: Array, classes: Array) -> Labels:
    """Class numbers with -1 where unknown, of classes that are known.

    Raises:
        GMMVAEError: a label that is not a class.
    """
    known = has_label(y)
    number = {label: k for k, label in enumerate(classes.tolist())}
    unknown = [label for label in y[known].tolist() if label not in number]
    if unknown:
        raise GMMVAEError(f"y holds {unknown[0]!r}, which is not in classes {classes.tolist()}")
    codes = np.full(len(y), -1, np.int64)
    codes[known] = [number[label] for label in y[known].tolist()]
    return codes


def encoded(y: Array) -> tuple[Labels, Array]:
    """Class numbers with -1 where unknown, and the sorted classes.

    Raises:
        GMMVAEError: labels of which none is known, or all are of one class.
        ValueError: labels that are not classes.
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


def is_soft(y: Any) -> bool:
    """Whether y (N, C) holds a probability of each class."""
    shape = np.asarray(y).shape
    return len(shape) == 2 and shape[1] > 1


def soft_encoded(y: Any) -> tuple[Labels, Array, dict[str, Any]]:
    """The most probable classes, the classes, and the rows that are not certain.

    Args:
        y: (N, C) probabilities; a row of NaN has no label. The classes are the columns of a frame,
            with or without "p_" before each, or 0 to C - 1.

    Returns:
        (N,) class numbers, -1 where unknown, (C,) classes, and the field of a data set for soft
        labels.

    Raises:
        GMMVAEError: rows that are no probabilities, or no row with a label.
    """
    names = [str(name) for name in getattr(y, "columns", ())]
    if names and all(name.startswith("p_") for name in names):
        names = [name[2:] for name in names]
    try:
        probs = np.asarray(y, np.float64)
    except (TypeError, ValueError) as error:
        raise GMMVAEError(f"y (N, C) must hold probabilities ({error})") from error
    codes, soft = checked_soft_labels(probs, "y")
    if not (codes >= 0).any():
        raise GMMVAEError("y holds no label (every row is NaN): give some rows their probabilities")
    classes = np.array(names) if names else np.arange(probs.shape[1])
    return codes, classes, {"soft_labels": soft}
