"""Search spaces of studies: the model's own dimensions, without given keys, with extra ones."""

from collections.abc import Collection, Mapping
from typing import Any, get_args

from pyro_gmmvae.config import Config
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.key_types import Schedule
from pyro_gmmvae.models import MODELS
from pyro_gmmvae.ranges import Choice, Dimension, Real, SearchSpace, Whole, label
from pyro_gmmvae.runs.keys import unknown_key

# keys without effect if the fit sees no labels
LABEL_KEYS = {"alpha", "label_eps"}
# keys that decide how sequences become rows
SEQUENCE_KEYS = {
    *("window", "stride", "max_gap", "scale", "features", "statistics", "joint_dropout"),
}
# keys that decide on which rows a metric is measured, what it means, or what a trial costs
FIXED_KEYS = {
    *("model", "preset", "seed", "device", "likelihood", "epochs", "minutes", "patience"),
    *("data", "data_dir", "label_column", "labels", "label_seed", "split_seed", "test"),
    *("leave_out", "validation", "transductive", "drop_nonfinite", "tracks", "labels_file"),
    *("layout", "protocol", "checkpoint_seconds", "deterministic"),
    *("engine", "precision", "verify", "log"),
}
Params = Mapping[str, Any]


def space_of(
    config: Config,
    given: Collection[str] = (),
    search: Mapping[str, Dimension | str] | None = None,
    *,
    labelled: bool = True,
    sequences: bool = True,
) -> dict[str, Dimension]:
    """Choose the dimensions to search.

    Args:
        config: the configuration of every trial; its model declares a search space.
        given: keys with a value from the user, which are not searched.
        search: dimensions, or their text, that replace the model's or are added to them.
        labelled: whether the fit sees labels.
        sequences: whether rows are windows of sequences.

    Raises:
        GMMVAEError: a key that is unknown or can't be searched, a text that is not a dimension,
            or nothing left to search.
    """
    declared: SearchSpace = MODELS[config.model].search_space
    space = {
        key: dimension
        for key, dimension in declared.items()
        if key in type(config).model_fields
        and key not in given
        and (labelled or key not in LABEL_KEYS)
    }
    for key, dimension in (search or {}).items():
        if isinstance(dimension, str):
            dimension = read_dimension(config, key, dimension)
        _check_dimension(config, key, dimension)
        space[key] = dimension
        if key in SEQUENCE_KEYS and not sequences:
            raise GMMVAEError(f"{key} needs sequences, and {config.data} has none; leave it out")
    if not space:
        raise GMMVAEError(
            "nothing is left to search: every key has a value; leave some out, or make them "
            "dimensions (--search)"
        )
    return space


def check_comparable(metric: str, space: SearchSpace) -> None:
    """Refuse a metric whose values can't be compared between trials.

    Raises:
        GMMVAEError: val_elbo with a key that changes x, or with an objective without a bound.
    """
    if metric != "val_elbo":
        return
    objective = space.get("objective")
    if isinstance(objective, Choice) and "categorical" in objective.options:
        raise GMMVAEError(
            "val_elbo of the objective 'categorical' is not a bound of the relaxed model and can't "
            "be compared with other objectives; use val_accuracy or val_log_loss, or leave it out"
        )
    changing = sorted(space.keys() & SEQUENCE_KEYS - {"joint_dropout"})
    if changing:
        raise GMMVAEError(
            f"val_elbo is a density of x, and {changing[0]} changes what x is: values would not be "
            "comparable; use val_accuracy or val_log_loss, or give one value for all trials"
        )


def read_dimension(config: Config, key: str, text: str) -> Dimension:
    """Read a dimension from "LOW:HIGH", "LOW:HIGH:log" or "a,b,c" (widths: "64,128x64").

    Raises:
        GMMVAEError: an unknown key, or a text in another form.
    """
    _check_key(config, key)
    how = f"{key}={text}: write LOW:HIGH, LOW:HIGH:log, or values A,B,C"
    try:
        if "," in text:
            return Choice(tuple(_option(config, key, part.strip()) for part in text.split(",")))
        low, high, *rest = (part.strip() for part in text.split(":"))
        if rest not in ([], ["log"]):
            raise GMMVAEError(how)
        if _is_whole(config, key):
            return Whole(int(low), int(high), bool(rest))
        if _is_real(config, key):
            return Real(float(low), float(high), bool(rest))
    except GMMVAEError as error:
        raise GMMVAEError(how if str(error) == how else f"{key}={text}: {error}") from error
    except ValueError as error:
        whole = "; it takes whole numbers" if _is_whole(config, key) else ""
        raise GMMVAEError(how + whole) from error
    raise GMMVAEError(f"{key}={text}: {key} is not a number; write values A,B,C")


def configured(base: Config, space: SearchSpace, params: Params) -> Config:
    """Set the searched keys of a trial.

    If the base has a schedule start:end:steps for a key, the searched number is its new end.
    """
    changes = {}
    for key, dimension in space.items():
        value = params[key]
        if isinstance(dimension, Choice):
            value = dimension.options[dimension.labels.index(value)]
        elif isinstance(ramp := getattr(base, key), Schedule) and ramp.steps != 0:
            value = Schedule(ramp.start, value, ramp.steps)
        changes[key] = value
    return base.replace(**changes)


def initial_point(base: Config, space: SearchSpace) -> dict[str, Any]:
    """The point of the space nearest to a configuration; keys without a near value are left out."""
    point: dict[str, Any] = {}
    for key, dimension in space.items():
        value = getattr(base, key)
        if isinstance(dimension, Choice):
            if label(value) in dimension.labels:
                point[key] = label(value)
        elif value is not None:
            number = value.end if isinstance(value, Schedule) else value
            point[key] = min(max(number, dimension.low), dimension.high)
    return point


def corners(space: SearchSpace) -> list[dict[str, Any]]:
    """Two corners: all dimensions at the low end (first option), and at the high end (last)."""
    return [
        {
            key: dimension.labels[place]
            if isinstance(dimension, Choice)
            else (dimension.low, dimension.high)[place]
            for key, dimension in space.items()
        }
        for place in (0, -1)
    ]


def optuna_distributions(space: SearchSpace) -> dict[str, Any]:
    """Express the space in distributions of Optuna."""
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    distributions: dict[str, Any] = {}
    for key, dimension in space.items():
        if isinstance(dimension, Choice):
            distributions[key] = CategoricalDistribution(dimension.labels)
        else:
            kind = IntDistribution if isinstance(dimension, Whole) else FloatDistribution
            distributions[key] = kind(dimension.low, dimension.high, log=dimension.log)
    return distributions


def _check_key(config: Config, key: str) -> None:
    if key not in type(config).model_fields:
        raise unknown_key(key, config.model, config.guide)
    if key in FIXED_KEYS:
        raise GMMVAEError(f"{key} can't be searched: give one value for all trials")


def _check_dimension(config: Config, key: str, dimension: Dimension) -> None:
    """Check that the configuration takes the ends of a dimension."""
    _check_key(config, key)
    if not isinstance(dimension, Real | Whole | Choice):
        raise GMMVAEError(f"{key}: a dimension is Real, Whole or Choice, not {dimension!r}")
    ends = dimension.options if isinstance(dimension, Choice) else (dimension.low, dimension.high)
    for value in ends:
        config.replace(**{key: value})


def _option(config: Config, key: str, text: str) -> Any:
    """One option, with the type that the configuration has."""
    value: Any = None if text.lower() == "none" else text
    if value is not None and isinstance(type(config).model_fields[key].default, tuple):
        value = text.replace("+", ",") if any(c.isalpha() and c != "x" for c in text) else text
        value = value.replace("x", ",") if value == text else value
    return getattr(config.replace(**{key: value}), key)


def _kinds(config: Config, key: str) -> set[Any]:
    annotation = type(config).model_fields[key].annotation
    return {annotation, *get_args(annotation)}


def _is_whole(config: Config, key: str) -> bool:
    return int in _kinds(config, key)


def _is_real(config: Config, key: str) -> bool:
    return bool({float, Schedule} & _kinds(config, key))
