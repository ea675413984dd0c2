"""From a config to its parts: model, objective, schedules."""

import inspect
import math
from typing import Any

from torch import Tensor, nn

from pyro_gmmvae.config import Config
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.guides import GUIDES
from pyro_gmmvae.inference import Schedule, dtype_of
from pyro_gmmvae.models import MODELS
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.objectives import OBJECTIVES, Objective
from pyro_gmmvae.runs.defaults import KNOBS, check_names, with_defaults_named
from pyro_gmmvae.runs.rows import Rows, Schema


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
    if components < classes:
        raise GMMVAEError(f"components {components}: at least one per class is needed ({classes})")
    values: dict[str, Any] = {
        "x_shape": schema.x_shape,
        "components": components,
        "latent_dim": config.latent_dim,
        "auxiliary_dim": config.auxiliary_dim,
        "network": config.network,
        "likelihood": schema.likelihood,
        "learn_prior": config.learn_prior,
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


def build_objective(config: Config, model: Any) -> Objective:
    """The objective of a config for a model, on the model's device and of its type."""
    name = with_defaults_named(config).objective
    objective = OBJECTIVES[str(name)](
        model.model,
        model.guide,
        latents=model.latents,
        label_site=model.label_site,
        particles=config.particles,
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
    return [(buffers[key], schedule) for key, schedule in schedules.items()]
