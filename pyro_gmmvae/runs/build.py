"""A configuration resolved, and its parts: model, objective, schedules."""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pyro_gmmvae.config import Config, Schedule, configure
from pyro_gmmvae.datasets import presets_of
from pyro_gmmvae.errors import GMMVAEError, unknown_name
from pyro_gmmvae.guides import GUIDES
from pyro_gmmvae.models import MODELS, LatentModel
from pyro_gmmvae.networks import ACTIVATIONS, NETWORKS, NetworkOptions
from pyro_gmmvae.objectives import OBJECTIVES, REGULARIZERS, Objective
from pyro_gmmvae.runs.data import Schema, TrainingData
from pyro_gmmvae.training import dtype_of

ZERO = Schedule.constant(0)
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
    *("temperature", "prior_temperature", "kl_s", "kl_z", "kl_y", "kl_a"),
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
    return configure(merged, given={"data", *(key for layer in layers for key in layer)})


def takes_guide(name: str) -> bool:
    """Whether a model has a choice of guides.

    Raises:
        GMMVAEError: an unknown name.
    """
    if name not in MODELS:
        raise unknown_name("model", name, list(MODELS))
    return "guide" in inspect.signature(MODELS[name]).parameters


def resolve(config: Config) -> Config:
    """Check the names and keys of a configuration, and fill in what depends on names.

    The guide and the objective are those of the model where none is named.

    Raises:
        GMMVAEError: an unknown name, with its nearest match, or a key that was given and that the
            model or the data does not have.
    """
    _check_names(config)
    _check_keys(config)
    defaults: dict[str, Any] = {}
    guide, model = config.guide, MODELS[config.model]
    if guide is None and takes_guide(config.model):
        default = inspect.signature(model).parameters["guide"].default
        guide = defaults["guide"] = next(name for name, value in GUIDES.items() if value is default)
    if config.objective is None:
        owner: Any = model if guide is None else GUIDES[guide]
        defaults["objective"] = owner.default_objective
    return config.with_defaults(**defaults) if defaults else config


def _check_names(config: Config) -> None:
    for kind, name, table in (
        ("model", config.model, MODELS),
        ("guide", config.guide, GUIDES),
        ("objective", config.objective, OBJECTIVES),
        ("network", config.network, NETWORKS),
        ("activation", config.activation, ACTIVATIONS),
    ):
        if name is not None and name not in table:
            raise unknown_name(kind, name, list(table))


def _check_keys(config: Config) -> None:
    """Refuse a key that was given and that the model or the data does not have."""
    for key in ("tracks", "labels_file", "layout"):
        if getattr(config, key) is not None and config.data != "skeleton":
            raise GMMVAEError(f"{key} is for --data skeleton, and means nothing to {config.data!r}")
    model_class: Any = MODELS[config.model]
    preset = presets_of(config.data)[0].get(str(config.preset), {})
    if CLUSTER_KEYS & preset.keys() and not model_class.class_site:
        raise GMMVAEError(
            f"the preset {config.preset!r} is for models with classes, and {config.model!r} has "
            "none; take another preset, or gmmvae"
        )
    parameters = inspect.signature(model_class).parameters
    taken = {*parameters, *(f"kl_{site}" for site in model_class.latents)}
    taken |= LABEL_KEYS if model_class.class_site else set()
    taken |= {"extra_components"} if "components" in parameters else set()
    for key in sorted((config.given & MODEL_KEYS) - taken):
        if getattr(config, key) not in (None, ()):
            raise GMMVAEError(f"{key} means nothing to the model {config.model!r}; leave it out")
    if config.sparsity != ZERO and not config.learn_prior:
        raise GMMVAEError(
            "sparsity is a prior on a learned pi, and means nothing to a fixed one; give "
            "learn_prior=true, or leave sparsity out"
        )


def build_model(config: Config, schema: Schema) -> LatentModel:
    """The model of a config, its weights drawn from torch's global generator.

    Raises:
        GMMVAEError: an unknown name, or K below the number of classes.
    """
    model_class: Any = MODELS[config.model]
    if not schema.classes and model_class.needs_labels:
        raise _needs_labels(config)
    wanted = inspect.signature(model_class).parameters
    values = _constructor_values(config, schema)
    model: LatentModel = model_class(**{key: values[key] for key in wanted if key in values})
    return model.to(dtype_of(config.precision))


def _needs_labels(config: Config) -> GMMVAEError:
    return GMMVAEError(
        f"the model {config.model!r} needs labels and is given none; give --labels, or train "
        "gmmvae or vae, which need none"
    )


def require_labels(config: Config, model: Any, rows: TrainingData) -> None:
    """Refuse a fit without labels, or without one of the classes, where the model needs them.

    Raises:
        GMMVAEError: naming the model, or the class that has no labelled row.
    """
    if not model.needs_labels:
        return
    if not len(rows.split.labelled):
        raise _needs_labels(config)
    if len(rows.schema.classes) < 2:
        raise GMMVAEError(f"the model {config.model!r} needs labels of at least two classes")
    seen = set(rows.dataset.y[rows.split.labelled].tolist())
    missing = [name for k, name in enumerate(rows.schema.classes) if k not in seen]
    if missing:
        raise GMMVAEError(
            f"the model {config.model!r} needs a labelled row of every class; the training rows "
            f"have none of {', '.join(map(repr, missing[:5]))}"
        )


def _constructor_values(config: Config, schema: Schema) -> dict[str, Any]:
    """Every value a model's constructor may ask for, by the constructor's own names."""
    classes = len(schema.classes)
    components = config.components or (classes or 10) + config.extra_components
    # without a label components are no classes, and K may be any
    if components < classes and config.labels != 0:
        raise GMMVAEError(f"components {components}: at least one per class is needed ({classes})")
    values: dict[str, Any] = {
        "x_shape": schema.kind.x_shape,
        "components": components,
        "latent_dim": config.latent_dim,
        "factors": _factors(config, schema),
        "auxiliary_dim": config.auxiliary_dim,
        "network": config.network,
        "likelihood": schema.kind.likelihood,
        "learn_prior": config.learn_prior,
        "class_prior": config.class_prior,
        "covariance": config.covariance,
        "label_eps": config.label_eps,
        "temperature": config.temperature(0),
        "prior_temperature": config.prior_temperature(0),
        "options": NetworkOptions(
            hidden=config.hidden,
            channels=config.channels,
            activation=config.activation,
            batch_norm=config.batch_norm,
            dropout=config.dropout,
            input_noise=config.input_noise,
            skip=config.skip,
            missing=schema.kind.missing,
            edges=schema.kind.edges,
        ),
    }
    if config.guide is not None:
        values["guide"] = GUIDES[config.guide]
    return values


def _factors(config: Config, schema: Schema) -> dict[str, int]:
    """Components of each further factor: those asked for, or its classes in the data.

    Raises:
        GMMVAEError: a name that is none, taken or given twice, a number that is none, or no number
            for a factor the data doesn't know.
    """
    known = {name: len(classes) for name, classes in schema.factors}
    found: dict[str, int] = {}
    for text in config.factors:
        name, _, number = text.partition("=")
        if number and not number.isdecimal():
            raise GMMVAEError(f"factors: write name or name=K, not {text!r}")
        if not name or name == "class" or name in found:
            why = "has no name" if not name else "stands there twice" if name in found else ""
            raise GMMVAEError(f"factors {text!r}: {why or 'the class is one already'}")
        size = int(number) if number else known.get(name, 0)
        if size < max(1, known.get(name, 0)):
            if known.get(name):
                needs = f"the data has {known[name]} classes of it; write {name}, or more with"
            else:
                needs = "the data has no labels of it; say how many components it has with"
            raise GMMVAEError(f"factors {text}: {needs} {name}=K")
        found[name] = size
    return found


def build_objective(config: Config, model: Any) -> Objective:
    """The objective of a resolved config for a model, on the model's device and of its type."""
    objective = OBJECTIVES[str(config.objective)](
        model.model,
        model.guide,
        latents=model.latents,
        label_sites=model.label_sites,
        particles=config.particles,
        regularizers={
            name: term()
            for name, term in REGULARIZERS.items()
            if model.label_sites and getattr(config, name) != ZERO
        },
        reconstruct_original=config.reconstruct == "clean",
    )
    return objective.to(next(model.parameters()))


def build_schedules(
    config: Config, model: Any, objective: Objective
) -> list[tuple[Tensor, Schedule]]:
    """The buffers that move while training, each with its schedule.

    Raises:
        GMMVAEError: a temperature that is not positive, or a negative weight, on the way.
    """
    buffers = objective.scheduled | model.scheduled
    schedules = {
        key: value for key, value in config if isinstance(value, Schedule) and key in buffers
    }
    for key, schedule in schedules.items():
        lowest = min(schedule.start, schedule.end)
        if lowest < 0 or (lowest == 0 and "temperature" in key):
            raise GMMVAEError(f"{key} must stay positive, not go to {lowest:g}")
    # what holds for s holds for s_view as well
    return [
        (buffer, schedule)
        for key, schedule in schedules.items()
        for name, buffer in buffers.items()
        if name == key or name.startswith(f"{key}_")
    ]
