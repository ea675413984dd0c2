"""A configuration resolved, and its parts: model, objective, schedules."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pyro_gmmvae.config import INITS, Config
from pyro_gmmvae.datasets import DATA, presets_of
from pyro_gmmvae.errors import GMMVAEError, unknown_name
from pyro_gmmvae.guides import GUIDES
from pyro_gmmvae.key_types import Schedule
from pyro_gmmvae.likelihood_spec import parse_likelihood
from pyro_gmmvae.models import MODELS
from pyro_gmmvae.networks import ACTIVATIONS, NETWORKS
from pyro_gmmvae.objectives import LATENT_TERMS, OBJECTIVES, REGULARIZERS
from pyro_gmmvae.runs.data import POSE_KEYS, TrainingData
from pyro_gmmvae.runs.keys import LABEL_KEYS
from pyro_gmmvae.runs.schema import Schema

if TYPE_CHECKING:
    from torch import Tensor

    from pyro_gmmvae.models import LatentModel
    from pyro_gmmvae.objectives import Objective

ZERO = Schedule.constant(0)
BYTES_PER_WEIGHT = 4 * 4  # the weight, its gradient and Adam's two moments
SMALL_MEMORY = 2**30  # bytes, which any device has


def resolve(config: Config) -> Config:
    """Check the names and keys of a configuration, and fill in guide and objective.

    The guide and the objective are those of the model where none is named.

    Raises:
        GMMVAEError: an unknown name, with its nearest match, or a key that was given and that the
            model or the data does not have.
    """
    _check_names(config)
    _check_keys(config)
    noisy = config.augment is not None or config.input_noise > 0
    separate = noisy and config.class_site is not None
    reconstruct = config.reconstruct or ("separate" if separate else "augmented")
    if "class_rows" in config.given and reconstruct != "separate":
        raise GMMVAEError(
            f"class_rows is for reconstruct=separate, and this fit has reconstruct={reconstruct}; "
            "leave it out, or set reconstruct=separate"
        )
    if {"teacher", "graph_neighbors"} & config.given and not config.teacher_share:
        raise GMMVAEError(
            "teacher_share is 0, so there is no teacher; set teacher_share, such as 0.8, or leave "
            "teacher and graph_neighbors out"
        )
    return config.with_defaults(
        guide=config.guide or config.own_guide,
        objective=config.objective or _own_objective(config),
        reconstruct=reconstruct,
    )


def _own_objective(config: Config) -> str:
    """That of the guide or the model, where the KL terms have a closed form."""
    closed = config.get("prior", "normal") == "normal" and config.get("top_down", True)
    return config.own_objective if closed else "trace"


def _check_names(config: Config) -> None:
    for kind, name, table in (
        ("objective", config.objective, OBJECTIVES),
        ("network", config.network, NETWORKS),
        ("activation", config.activation, ACTIVATIONS),
    ):
        if name is not None and name not in table:
            raise unknown_name(kind, name, list(table))
    if config.likelihood is not None:
        parse_likelihood(config.likelihood)
    check_init(config)


def check_init(config: Config) -> None:
    """Refuse a start that is neither a name nor looks like a folder.

    Raises:
        GMMVAEError: with the nearest name.
    """
    start = config.init_run
    if start is not None and not start.is_dir() and len(start.parts) == 1:
        raise unknown_name("init", config.init, [*INITS, "RUN (a run folder)"])


def _check_keys(config: Config) -> None:
    """Refuse a key that was given and that the model or the data does not have."""
    for key in ("tracks", "labels_file", "layout"):
        if getattr(config, key) is not None and config.data != "skeleton":
            raise GMMVAEError(f"{key} is for --data skeleton; {config.data!r} does not use it")
    for key in ("shapes_rows", "shapes_size"):
        if getattr(config, key) != Config.model_fields[key].default and config.data != "shapes":
            raise GMMVAEError(f"{key} is for --data shapes; {config.data!r} does not use it")
    for key in ("weight_column", "group_column"):
        if getattr(config, key) is not None and config.data in DATA:
            raise GMMVAEError(f"{key} is for files; the data set {config.data!r} has no columns")
    if not (config.data in DATA and DATA[config.data].kind.reads_tracks):
        for key in sorted(config.given & {"protocol", *POSE_KEYS}):
            raise GMMVAEError(
                f"{key} is for data of skeletons or series; {config.data!r} does not use it"
            )
    of_classes = config.class_site is not None
    if not of_classes:
        preset = presets_of(config.data)[0].get(str(config.preset), {})
        if preset.keys() & {"init", *REGULARIZERS}:
            raise GMMVAEError(
                f"the preset {config.preset!r} is for models with classes, and {config.model!r} "
                "has none; take another preset, or gmmvae"
            )
    if not of_classes and config.init != "random" and config.init_run is None:
        raise GMMVAEError(
            f"init {config.init}: {config.model!r} has no classes; give the folder of a run"
        )
    unused = set() if of_classes else LABEL_KEYS - {"init"}
    unused |= set() if config.own_guide else {"guide"}
    for key in sorted(config.given & unused):
        if getattr(config, key) is not None:
            raise GMMVAEError(f"the model {config.model!r} does not use {key}; leave it out")
    if config.reconstruct == "separate" and not of_classes:
        raise GMMVAEError(
            f"reconstruct=separate gives augmented rows to the class, and the model "
            f"{config.model!r} has no latent class; take augmented or original"
        )
    if getattr(config, "sparsity", ZERO) != ZERO and not config.get("learn_prior"):
        raise GMMVAEError(
            "sparsity is a prior on a learned pi, and pi is fixed; set learn_prior=true, or leave "
            "sparsity out"
        )


def build_model(config: Config, schema: Schema) -> "LatentModel":
    """The model of a config, its weights drawn from torch's global generator.

    Raises:
        GMMVAEError: an unknown name, or K below the number of classes.
    """
    model_class: Any = MODELS[config.model]
    if not schema.classes and model_class.needs_labels:
        raise _needs_labels(config)

    _check_widths(config.hidden, "hidden")
    values = _shared_values(config, schema)
    values |= {key: _at_start(getattr(config, key)) for key in config.model_keys}
    if config.guide_keys:
        options = {key: _at_start(getattr(config, key)) for key in config.guide_keys}
        values["guide"] = functools.partial(values["guide"], **options)
    model: LatentModel = model_class(**values)
    return model


def _check_widths(widths: Sequence[int], key: str) -> None:
    """Refuse hidden layers that need more memory than there is, before they are made."""
    needed = BYTES_PER_WEIGHT * sum(rows * columns for rows, columns in pairwise(widths))
    if needed > SMALL_MEMORY:
        from pyro_gmmvae.training.out_of_memory import check_memory  # imports torch

        check_memory(needed, "cpu", "hidden layers of these widths", key)


def _at_start(value: Any) -> Any:
    """The value of a key at the first step."""
    return value(0) if isinstance(value, Schedule) else value


def _needs_labels(config: Config) -> GMMVAEError:
    return GMMVAEError(
        f"the model {config.model!r} needs labels and is given none; give --labels, or train "
        "gmmvae or vae, which need none"
    )


def require_labels(config: Config, model: "LatentModel", rows: TrainingData) -> None:
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


def _shared_values(config: Config, schema: Schema) -> dict[str, Any]:
    """The parameters of a constructor that are built from several keys and from the data."""
    from pyro_gmmvae.networks import NetworkOptions

    wanted = config.shared_parameters
    values: dict[str, Any] = {
        "x_shape": schema.kind.x_shape,
        "latent_dim": config.latent_dim,
        "network": config.network,
        "likelihood": schema.kind.likelihood,
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
            columns=schema.kind.specs,
        ),
    }
    if "components" in wanted:
        values["components"] = _components(config, len(schema.classes))
    if "factors" in wanted:
        values["factors"] = _factors(config, schema)
    if "guide" in wanted:
        values["guide"] = GUIDES[str(config.guide or config.own_guide)]
    return {key: value for key, value in values.items() if key in wanted}


def _components(config: Config, classes: int) -> int:
    """K: as the configuration says, or one per class and further ones."""
    keys = dict(config)
    components: int = keys["components"] or (classes or 10) + keys["extra_components"]
    # without a label components are no classes, and K may be any
    if components < classes and config.labels != 0:
        raise GMMVAEError(f"components {components}: at least one per class is needed ({classes})")
    return components


def _factors(config: Config, schema: Schema) -> dict[str, int]:
    """Components of each further factor: those asked for, or its classes in the data.

    Raises:
        GMMVAEError: a name that is none, taken or given twice, a number that is none, or no number
            for a factor the data doesn't know.
    """
    known = {name: len(classes) for name, classes in schema.factors}
    found: dict[str, int] = {}
    for text in config.get("factors"):
        name, _, number = text.partition("=")
        if number and not number.isdecimal():
            raise GMMVAEError(f"factors: write name or name=K, not {text!r}")
        if not name or name == "class" or name in found:
            why = "has no name" if not name else "is listed twice" if name in found else ""
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


def build_objective(config: Config, model: "LatentModel", rows: int) -> "Objective":
    """The objective of a resolved config for a model, on the model's device and of its type.

    Args:
        config: resolved.
        model: on its device.
        rows: the number of rows to fit.
    """
    covariates = model.observation.covariates
    groups_of, groups = (covariates.groups, len(covariates.codes)) if covariates else (None, 0)
    of_data: dict[str, Any] = {"rows": rows, "covariates": covariates, "groups_of": groups_of}
    of_data["sizes"] = {"z": model.latent_dim, "class": model.components, "groups": groups}
    of_data["sizes"]["x"], of_data["draws"] = math.prod(model.x_shape), _draws_of(model)
    regularizers, latent_terms = _terms(config, of_data)
    of_rows = latent_terms.keys() & {"pair_adversary", "x_adversary"}
    if getattr(config, "x_weight", 1) == 0 and not of_rows:
        raise GMMVAEError(
            "with x_weight=0 the decoder has no term; set pair_adversary or x_adversary, or "
            "x_weight=1"
        )
    objective = OBJECTIVES[str(config.objective)](
        model.model,
        model.guide,
        latents=model.latents,
        regularizers=regularizers,
        latent_terms=latent_terms,
        label_sites=model.label_sites,
        particles=config.particles,
        reconstruct=str(config.reconstruct),
        networks=model,
        elbo_scale=config.elbo_weight * model.observation.spec.elbo_scale,
        labelled_elbo=config.labelled_elbo,
        class_rows=config.class_rows,
    )
    return objective.to(next(model.parameters()))


def _draws_of(model: "LatentModel") -> "Callable[[Tensor], tuple[Tensor, Tensor]] | None":
    """From rows x (B, ...) to z (B, d) of p(z) and the flat means of p(x|z), for terms on rows.

    None: rows with missing entries or mixed columns, or a decoder that draws one pixel at a time.
    """
    observation, options = model.observation, model.options
    if options.columns or options.missing or observation.draws_pixels:
        return None
    from pyro_gmmvae.networks.mlp import without_statistics

    def draws(x: "Tensor") -> "tuple[Tensor, Tensor]":
        s = model.draw_class(len(x))
        p = model.prior_of_z(s)
        z = p.rsample() if p.has_rsample else p.sample()
        with without_statistics(model):
            return z, model.observe(z, s, x).mean.flatten(1)

    return draws


def _terms(config: Config, of_data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The regularizers, and the terms on z, whose weight is not 0, each with its parameters."""
    tables: tuple[Any, ...] = (REGULARIZERS, LATENT_TERMS)
    found: list[dict[str, Any]] = [{}, {}]
    for terms, table, names in zip(found, tables, [[*one] for one in tables], strict=True):
        for name in names:
            if getattr(config, name, ZERO) == ZERO:
                continue
            own = {}
            for key in table.declaration(name).parameters:
                own[key] = of_data[key] if key in of_data else _fixed(config, f"{name}_{key}")
            _check_widths(own.get("hidden", ()), f"{name}_hidden")
            terms[name] = table[name](**own)
    return found


def _fixed(config: Config, key: str) -> Any:
    """The value of a key that is one for all steps."""
    value = getattr(config, key)
    if isinstance(value, Schedule):
        raise GMMVAEError(f"{key} can't change during training; give one number, not {value}")
    return value


def build_schedules(
    config: Config, model: "LatentModel", objective: "Objective"
) -> "list[tuple[Tensor, Schedule]]":
    """The buffers that move while training, each with its schedule.

    Raises:
        GMMVAEError: a temperature that is not positive, or a negative weight, on the way.
    """
    buffers = objective.scheduled | model.scheduled
    for key in (*config.model_keys, *config.guide_keys):
        if key not in buffers:
            _fixed(config, key)
    schedules = {
        key: value for key, value in config if isinstance(value, Schedule) and key in buffers
    }
    schedules.setdefault("pseudo_alpha", config.alpha)
    for key, schedule in schedules.items():
        lowest = min(schedule.start, schedule.end)
        if lowest < 0 or (lowest == 0 and "temperature" in key):
            raise GMMVAEError(f"{key} must stay positive, not go to {lowest:g}")
    # the schedule of s applies to s_view as well
    return [
        (buffer, schedule)
        for key, schedule in schedules.items()
        for name, buffer in buffers.items()
        if name == key or name.startswith(f"{key}_")
    ]
