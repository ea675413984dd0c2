"""Start of a fit from the weights of another run; its components, if any, become the classes."""

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from pyro_gmmvae.config import Config
from pyro_gmmvae.data.transform import Labels
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.models import LatentModel
from pyro_gmmvae.runs.assembly import Parts
from pyro_gmmvae.runs.build import build_model, check_init
from pyro_gmmvae.runs.component_layout import component_layouts, copy_weights
from pyro_gmmvae.runs.component_names import component_names
from pyro_gmmvae.runs.folder import read_config
from pyro_gmmvae.runs.run import Run
from pyro_gmmvae.runs.schema import Schema
from pyro_gmmvae.training.devices import seeded

# keys that names and shapes of weights depend on, and the objective that suits them
STRUCTURE = (
    *("model", "guide", "objective", "network", "hidden", "channels", "activation"),
    *("batch_norm", "skip", "latent_dim", "covariance", "learn_prior", "auxiliary_dim"),
    *("feature_size", "rank", "flows", "covariates", "prior", "prior_components"),
    *("lower_dim", "top_down", "layers", "codes", "groups", "field", "pixel_channels"),
    *("draw_steps", "attention", "class_dim"),
)
PROBED_ROWS = 256


def with_structure_of_init(config: Config) -> Config:
    """The configuration with the networks of the run that it starts from.

    Keys that were given stay.

    Raises:
        GMMVAEError: ``init`` is no run folder, or has another likelihood than the one given.
    """
    check_init(config)
    if config.init_run is None:
        return config
    base, schema = read_config(config.init_run)
    likelihood = schema.kind.likelihood
    if "likelihood" in config.given and config.likelihood not in (None, likelihood):
        raise GMMVAEError(
            f"likelihood {config.likelihood}: {config.init} has {likelihood}, and its units are "
            "those of this fit; leave likelihood out"
        )
    if config.given & {"column", "covariates"}:
        raise GMMVAEError(
            f"init {config.init}: kinds of columns and covariates are those of that run; leave "
            "column and covariates out"
        )
    values = {key: base.get(key) for key in STRUCTURE if key in dict(base)}
    if "model" in config.given and config.model != base.model:
        del values["objective"]  # it may not suit another model
    elif base.class_site is None and config.reconstruct == "separate":
        values["reconstruct"] = None  # was filled in for the default model, which has a class
    return config.with_defaults(**{k: v for k, v in values.items() if k not in config.given})


def match(log_probs: NDArray[np.floating], y: Labels, classes: int, components: int) -> Labels:
    """(components,) the cluster of each component, -1 where there is none.

    Classes get clusters by Hungarian assignment of the labelled rows; components beyond the
    classes get the clusters that are left, the largest first.

    Args:
        log_probs: (N, K) log q(s|x) of rows in K clusters.
        y: (N,) classes, -1 where unknown; without any label components keep their numbers.
        classes: number of classes.
        components: at least as many.
    """
    from scipy.optimize import linear_sum_assignment

    K, known = log_probs.shape[1], y >= 0
    found = np.full(components, -1)
    if not known.any():
        found[: min(K, components)] = np.arange(min(K, components))
        return found
    weights = np.zeros((classes, K))
    np.add.at(weights, y[known], np.exp(log_probs[known]))
    of_class, clusters = linear_sum_assignment(-weights)
    found[of_class] = clusters
    sizes = np.bincount(log_probs.argmax(1), minlength=K)
    left = [k for k in np.argsort(-sizes, kind="stable").tolist() if k not in clusters]
    further = left[: components - classes]
    found[classes : classes + len(further)] = further
    return found


def take_weights(parts: Parts) -> str:
    """Fill the model with the weights of the run that its configuration starts from.

    Tensors whose names and shapes agree are copied. If both models have a class, a tensor with
    entries for each component gets those of the component's cluster.

    Returns:
        A line on what was taken.

    Raises:
        GMMVAEError: a run of which no network fits, or a model that gives the class to a network
            where the classes of the run are others.
    """
    config, data, model = parts.config, parts.data, parts.model
    run = Run.load(config.init, device=str(parts.device))
    of_classes = run.model.class_site is not None and model.class_site is not None
    y = data.visible_labels().numpy()
    y = y if y.ndim == 1 else y[:, 0]
    if of_classes:
        log_probs = parts.by_blocks(run.model.classify)
        of_component = match(log_probs, y, len(data.schema.classes), model.components)
        random = _copy(parts, run, of_component)
    elif min(run.model.components, model.components) and run.schema.classes != data.schema.classes:
        here, there = (", ".join(one.classes) for one in (data.schema, run.schema))
        raise GMMVAEError(
            f"init {config.init}: the classes of this fit are {here}, those of that run {there}, "
            f"and {config.model} has weights of each class"
        )
    else:
        random = copy_weights(model, run.model, ({}, {}), np.empty(0, int))
    parameters = dict(model.named_parameters())
    if not any(p.dim() > 1 for name, p in parameters.items() if name not in random):
        raise GMMVAEError(
            f"init {config.init}: no network of it has the sizes of this fit; leave model, hidden, "
            "latent_dim and network as that run has them"
        )
    whole = len(parameters) - len(random)
    line = f"{whole} of {len(parameters)} parameters of {config.init}"
    if random:
        line += f" ({len(random)} are random, or in part: {', '.join(random[:4])}"
        line += ", ...)" if len(random) > 4 else ")"
    if not of_classes:
        return line
    names = component_names(data.schema.classes if (y >= 0).any() else (), model.components)
    pairs = [f"{name} {k}" for name, k in zip(names, of_component.tolist(), strict=True) if k >= 0]
    return f"{line}, whose components become {', '.join(pairs[:10])}"


def _copy(parts: Parts, run: Run, of_component: Labels) -> list[str]:
    """Copy what fits; returns the names of parameters that keep entries of their own."""
    model, device = parts.model, parts.device
    x, _ = parts.data.tensors(parts.data.training_rows[:PROBED_ROWS], device)
    with seeded(0, device):
        here, there = (
            component_layouts(partial(_new_model, one, schema, x), K, x)
            for one, schema, K in (
                (parts.config, parts.data.schema, model.components),
                (run.config, run.schema, run.model.components),
            )
        )
    return copy_weights(model, run.model, (here, there), of_component)


def _new_model(config: Config, schema: Schema, x: torch.Tensor, components: int) -> LatentModel:
    return build_model(config.with_defaults(components=components), schema).to(x)
