"""An estimator as a run folder, and back: JSON, CSV and safetensors, never a pickle."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator

from pyro_gmmvae.data import RowKind
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import (
    load_weights,
    read_json,
    remove_leftovers,
    save_weights,
    write_json,
)
from pyro_gmmvae.runs.folder import new_folder, read_config, remove_replaced
from pyro_gmmvae.runs.trained import Trained

FILE, LABELS = "estimator.json", "labels.safetensors"
PLAIN = ("n_features_in_", "constants_")
ARRAYS = {"classes_": None, "feature_names_in_": object}


@dataclass(frozen=True)
class SavedEstimator:
    """An estimator as a folder holds it.

    Attributes:
        params: of its constructor.
        attributes: other attributes that a fit sets, by name.
        fitted: its model.
    """

    params: dict[str, Any]
    attributes: dict[str, Any]
    fitted: Trained


def write_folder(estimator: BaseEstimator, fitted: Trained, out: Path, force: bool) -> None:
    """Write a fitted estimator; a folder that can't be finished is removed again.

    Raises:
        GMMVAEError: a folder that is there, an argument that JSON has no place for, a full disk.
    """
    content = _content(estimator, fitted)
    if out.is_dir() and any(out.iterdir()) and not force:
        raise GMMVAEError(f"{out} exists and is kept; name another folder, or give force=True")
    with new_folder(out, force):
        write_json(out / FILE, content)
        if hasattr(estimator, "labels_"):
            save_weights(out / LABELS, {"labels": torch.from_numpy(estimator.labels_)})
        fitted.save(out)
    remove_leftovers(out)
    remove_replaced(out)


def _content(estimator: BaseEstimator, fitted: Trained) -> dict[str, Any]:
    params = {k: _plain(k, v) for k, v in estimator.get_params(deep=False).items()}
    if not isinstance(params["random_state"], int | None):
        params["random_state"] = fitted.run.config.seed
    attributes = {name: getattr(estimator, name) for name in PLAIN if hasattr(estimator, name)}
    arrays = {}
    for name in ARRAYS:
        value = getattr(estimator, name, None)
        if value is not None:
            if value.dtype.kind not in "biufUO" or not all(map(_is_plain, value.tolist())):
                raise GMMVAEError(f"{name} of type {value.dtype} can't be saved; give text or ints")
            arrays[name] = {"type": value.dtype.str, "values": value.tolist()}
    return {
        "class": type(estimator).__name__,
        "params": params,
        "attributes": attributes,
        "arrays": arrays,
    }


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)


def _plain(name: str, value: Any) -> Any:
    """An argument as JSON has it.

    Raises:
        GMMVAEError: one that it has no place for.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or _is_plain(value):
        return value
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(name, one) for one in value]
    if isinstance(value, dict):
        return {str(key): _plain(name, one) for key, one in value.items()}
    if name == "random_state":
        return value  # the seed that it gave is kept instead
    raise GMMVAEError(f"the argument {name} of type {type(value).__name__} can't be saved")


def _check_features(attributes: dict[str, Any], kind: RowKind) -> None:
    """Check the number and the names of the features against the rows of the run.

    Raises:
        KeyError, ValueError: they are of other rows.
    """
    features, names = attributes["n_features_in_"], attributes.get("feature_names_in_")
    if not kind.specs and features != int(np.prod(kind.x_shape)):
        raise ValueError("n_features_in_ is not that of config.json")
    if kind.specs and not len(kind.specs) <= features == (
        features if names is None else len(names)
    ):
        raise ValueError("n_features_in_ is not that of config.json or feature_names_in_")


def read_folder(kind: str, path: Path, device: str) -> SavedEstimator:
    """Read the folder that :func:`write_folder` wrote.

    Args:
        kind: the estimator's class.
        path: the folder.
        device: where to compute.

    Raises:
        GMMVAEError: a folder that is missing, damaged, or of another estimator or a run.
    """
    read_config(path)  # first: a folder that is no run has an error of its own
    file = path / FILE
    if not file.exists():
        raise GMMVAEError(
            f"{path} is a run of 'gmmvae train', and holds no estimator: Run.load reads it"
        )
    content = read_json(file)
    found = content.get("class") if isinstance(content, dict) else None
    if isinstance(found, str) and found != kind:
        raise GMMVAEError(f"{path} holds a {found}: read it with {found}.load")
    try:
        if found != kind:
            raise ValueError(f"class {found!r}")
        fitted = Trained.load(path, device)
        run = fitted.run
        params = {k: tuple(v) if isinstance(v, list) else v for k, v in content["params"].items()}
        attributes = dict(content["attributes"])
        for name, array in content["arrays"].items():
            attributes[name] = np.array(array["values"], np.dtype(array["type"]))
        if not {*attributes} <= {*PLAIN, *ARRAYS}:
            raise ValueError(f"attributes {', '.join(attributes)}")
        classes = attributes.get("classes_", np.array([]))
        if classes.shape != (len(run.schema.classes),):
            raise ValueError("classes_ are not those of config.json")
        _check_features(attributes, run.schema.kind)
        if (path / LABELS).exists():
            attributes["labels_"] = load_weights(path / LABELS)["labels"].numpy()
        return SavedEstimator(params, attributes, fitted)
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        if isinstance(error, GMMVAEError):
            raise
        what = f"{type(error).__name__}: {error}"
        raise GMMVAEError(f"{path} is damaged ({what}): save the estimator again") from error
