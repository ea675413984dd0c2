"""From an estimator's arguments to the configuration of a fit."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from pyro_gmmvae.config import Config
from pyro_gmmvae.datasets import IN_MEMORY
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.runs import default_config

# arguments that are keys of a configuration, by the key's name
KEYS = {
    **{
        name: name
        for name in (
            *("model", "guide", "objective", "components", "latent_dim", "network", "hidden"),
            *("likelihood", "preset", "epochs", "minutes", "batch_size", "learning_rate"),
            *("device", "engine", "precision"),
        )
    },
    "n_clusters": "components",
}
# keys that say where rows and labels come from (here they come with fit), or what is written
OF_FILES = {
    *("data", "data_dir", "label_column", "labels", "label_seed", "test", "transductive"),
    *("drop_nonfinite", "tracks", "labels_file", "layout", "protocol", "window", "stride"),
    *("max_gap", "scale", "features", "statistics", "joint_dropout"),
    *("checkpoint_seconds", "log"),
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
        if key in OF_FILES:
            raise GMMVAEError(f"settings: {key} is for runs of files; rows come with fit")
    named = {
        KEYS[name]: _plain(value)
        for name, value in arguments.items()
        if name in KEYS and value is not None
    }
    default = {} if preset is None else {"preset": preset}
    config = default_config(IN_MEMORY, default, named, given, fixed, {"test": 0, "seed": seed})
    watched = given.get("validation", WATCHED_SHARE if config.patience else 0)
    return config.replace(validation=watched)


def seed_of(random_state: Any) -> int:
    """A whole number is the seed itself; other sources of randomness are asked for one.

    Raises:
        ValueError: what is none of them, as scikit-learn says it.
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
