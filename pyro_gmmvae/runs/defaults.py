"""A configuration made whole: presets, names and keys that must mean something."""

import inspect
from collections.abc import Mapping
from typing import Any

from pyro_gmmvae.config import Config, configure
from pyro_gmmvae.datasets import presets_of
from pyro_gmmvae.errors import GMMVAEError, unknown_name
from pyro_gmmvae.guides import GUIDES
from pyro_gmmvae.models import MODELS
from pyro_gmmvae.networks import ACTIVATIONS, NETWORKS
from pyro_gmmvae.objectives import OBJECTIVES, REGULARIZERS
from pyro_gmmvae.training import Schedule

KNOBS = (
    *("temperature", "prior_temperature", "alpha", "kl_s", "kl_z", "kl_y", "kl_a"),
    *REGULARIZERS,
)
# the keys that some model takes and another does not; only one with classes takes the first
PSEUDO_KEYS = {f"pseudo_{key}" for key in ("threshold", "balance", "from", "decay", "every")}
CLUSTER_KEYS = {"init", *REGULARIZERS}
LABEL_KEYS = {"alpha", *CLUSTER_KEYS, *PSEUDO_KEYS}
MODEL_KEYS = {
    "guide",
    "components",
    "extra_components",
    "factors",
    "auxiliary_dim",
    "learn_prior",
    "class_prior",
    "covariance",
    "label_eps",
    *KNOBS,
    *LABEL_KEYS,
}


def default_config(data: str, *layers: Mapping[str, Any]) -> Config:
    """The defaults, then the data set's preset, then layers of keys over them.

    Raises:
        GMMVAEError: an unknown key or preset, or a value out of range.
    """
    presets, default = presets_of(data)
    named = [layer["preset"] for layer in layers if layer.get("preset") is not None]
    preset = str(named[-1]) if named else default
    if preset not in presets:
        raise unknown_name("preset", preset, list(presets))
    merged: dict[str, Any] = {"data": data}
    for layer in ({"epochs": 100}, presets[preset], *layers, {"preset": preset}):
        if "minutes" in layer or "epochs" in layer:  # a new budget replaces the one before
            merged |= {"epochs": None, "minutes": None}
        merged |= layer
    return configure(merged)


def takes_guide(name: str) -> bool:
    """Whether a model has a choice of guides.

    Raises:
        GMMVAEError: an unknown name.
    """
    if name not in MODELS:
        raise unknown_name("model", name, list(MODELS))
    return "guide" in inspect.signature(MODELS[name]).parameters


def with_defaults_named(config: Config) -> Config:
    """The configuration with guide and objective named, where the model's own are taken."""
    has_choice, model = takes_guide(config.model), MODELS[config.model]
    changes: dict[str, Any] = {}
    if config.guide is None and has_choice:
        choice = inspect.signature(model).parameters["guide"]
        changes["guide"] = next(k for k, v in GUIDES.items() if v is choice.default)
    guide = changes.get("guide", config.guide)
    if config.objective is None:
        owner: Any = GUIDES.get(str(guide), model) if has_choice else model
        changes["objective"] = getattr(owner, "default_objective", "analytic")
    return config.replace(**changes) if changes else config


def check_names(config: Config) -> None:
    """Every name of a config must be in its table.

    Raises:
        GMMVAEError: with the nearest match.
    """
    for kind, name, table in (
        ("model", config.model, MODELS),
        ("guide", config.guide, GUIDES),
        ("objective", config.objective, OBJECTIVES),
        ("network", config.network, NETWORKS),
        ("activation", config.activation, ACTIVATIONS),
    ):
        if name is not None and name not in table:
            raise unknown_name(kind, name, list(table))


def check_keys(config: Config) -> None:
    """Refuse a key that was given and means nothing to the model or the data.

    Raises:
        GMMVAEError: naming the key, and the model or data.
    """
    for key in ("tracks", "labels_file", "layout"):
        if getattr(config, key) is not None and config.data != "skeleton":
            raise GMMVAEError(f"{key} is for --data skeleton, and means nothing to {config.data!r}")
    model_class: Any = MODELS[config.model]
    wanted = inspect.signature(model_class).parameters
    defaults = default_config(config.data, {"preset": config.preset})
    plain = configure()
    of_preset = any(getattr(defaults, key) != getattr(plain, key) for key in CLUSTER_KEYS)
    if of_preset and not model_class.label_site:
        raise GMMVAEError(
            f"the preset {config.preset!r} is for models with classes, and {config.model!r} has "
            "none; take another preset, or gmmvae"
        )
    taken = {*wanted, *(f"kl_{site}" for site in model_class.latents)}
    taken |= LABEL_KEYS if model_class.label_site else set()
    taken |= {"extra_components"} if "components" in wanted else set()
    for key in sorted(MODEL_KEYS):
        if key not in taken and getattr(config, key) != getattr(defaults, key):
            raise GMMVAEError(f"{key} means nothing to the model {config.model!r}; leave it out")
    if Schedule.parse(config.sparsity) != Schedule(0, 0) and not config.learn_prior:
        raise GMMVAEError(
            "sparsity is a prior on a learnt pi, and means nothing to one that is kept; give "
            "learn_prior=true, or leave sparsity out"
        )
