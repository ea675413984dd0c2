"""From a config to its parts: model, objective, schedules."""

import inspect
import math
from typing import Any

from torch import Tensor, nn

from pyro_gmmvae.config import Config
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.guides import GUIDES
from pyro_gmmvae.models import MODELS
from pyro_gmmvae.models.labels import label_sites
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.objectives import OBJECTIVES, REGULARIZERS, Objective
from pyro_gmmvae.runs.data import Rows
from pyro_gmmvae.runs.defaults import KNOBS, check_names, with_defaults_named
from pyro_gmmvae.runs.schema import Schema
from pyro_gmmvae.training import Schedule, dtype_of


def build_model(config: Config, schema: Schema) -> nn.Module:
    """The model of a config, its weights drawn from torch's global generator.

    Raises:
        GMMVAEError: an unknown name, or K below the number of classes.
    """
    check_names(config)
    model_class: Any = MODELS[config.model]
    if not schema.classes and getattr(model_class, "needs_labels", False):
        raise _needs_labels(config)
    wanted = inspect.signature(model_class).parameters
    values = _constructor_values(config, schema)
    model = model_class(**{key: values[key] for key in wanted if key in values})
    return model.to(dtype_of(config.precision))


def _needs_labels(config: Config) -> GMMVAEError:
    return GMMVAEError(
        f"the model {config.model!r} needs labels and is given none; give --labels, or train "
        "gmmvae or vae, which need none"
    )


def require_labels(config: Config, model: Any, rows: Rows) -> None:
    """Refuse a fit without labels, or without one of the classes, where the model needs them.

    Raises:
        GMMVAEError: naming the model, or the class that has no labelled row.
    """
    if not getattr(model, "needs_labels", False):
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
        "x_shape": schema.x_shape,
        "components": components,
        "latent_dim": config.latent_dim,
        "factors": _factors(config, schema),
        "auxiliary_dim": config.auxiliary_dim,
        "network": config.network,
        "likelihood": schema.likelihood,
        "learn_prior": config.learn_prior,
        "class_prior": config.class_prior,
        "covariance": config.covariance,
        "label_eps": config.label_eps,
        "temperature": Schedule.parse(config.temperature)(0),
        "prior_temperature": Schedule.parse(config.prior_temperature)(0),
        "options": NetworkOptions(
            hidden=config.hidden,
            channels=config.channels,
            activation=config.activation,
            batch_norm=config.batch_norm,
            dropout=config.dropout,
            input_noise=config.input_noise,
            skip=config.skip,
            missing=schema.missing,
            edges=() if schema.features is None else schema.features.layout.edges,
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
    """The objective of a config for a model, on the model's device and of its type."""
    name = with_defaults_named(config).objective
    objective = OBJECTIVES[str(name)](
        model.model,
        model.guide,
        latents=model.latents,
        label_sites=label_sites(model),
        particles=config.particles,
        regularizers={
            name: term()
            for name, term in REGULARIZERS.items()
            if label_sites(model) and Schedule.parse(getattr(config, name)) != Schedule(0, 0)
        },
        explain_clean=config.reconstruct == "clean",
    )
    return objective.to(next(model.parameters()))


def build_schedules(
    config: Config, model: Any, objective: Objective
) -> list[tuple[Tensor, Schedule]]:
    """The buffers that move while training, each with its schedule.

    Raises:
        GMMVAEError: a temperature that is not positive, or a negative weight, on the way.
    """
    buffers = objective.knobs | model.knobs
    schedules = {key: Schedule.parse(getattr(config, key)) for key in KNOBS if key in buffers}
    for key, schedule in schedules.items():
        lowest = min(schedule.start, schedule.end)
        if lowest < 0 or (lowest == 0 and "temperature" in key) or math.isnan(lowest):
            raise GMMVAEError(f"{key} must stay positive, not go to {lowest:g}")
    # what holds for s holds for s_view as well
    return [
        (buffer, schedule)
        for key, schedule in schedules.items()
        for name, buffer in buffers.items()
        if name == key or name.startswith(f"{key}_")
    ]
