"""What a study searches: the model's own space, less what is given, with what was asked for."""

from collections.abc import Collection, Mapping
from typing import Any, get_args

from pyro_gmmvae.config import (
    Choice,
    Config,
    Dimension,
    Real,
    Schedule,
    SearchSpace,
    Whole,
    label,
)
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.models import MODELS
from pyro_gmmvae.runs.keys import unknown_key

# of a label, and of nothing where none is seen
OF_LABELS = {"alpha", "label_eps"}
# of how sequences become rows
OF_SEQUENCES = {
    *("window", "stride", "max_gap", "scale", "features", "statistics", "joint_dropout"),
}
# what decides which rows a metric is of, what it means, or what a trial may cost
FIXED = {
    *("model", "preset", "seed", "device", "likelihood", "epochs", "minutes", "patience"),
    *("data", "data_dir", "label_column", "labels", "label_seed", "split_seed", "test"),
    *("validation", "transductive", "drop_nonfinite", "tracks", "labels_file", "layout"),
    *("protocol", "checkpoint_seconds", "deterministic", "engine", "precision", "verify", "log"),
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
    """The dimensions to search.

    Args:
        config: of every trial; its model declares a space.
        given: keys that a user gave a value: they keep it.
        search: dimensions, or their text, that replace or join the model's.
        labelled: whether the fit sees labels.
        sequences: whether rows are windows of sequences.

    Raises:
        GMMVAEError: a key that is unknown or can't be searched, text that is no dimension, or
            nothing left to search.
    """
    declared: SearchSpace = MODELS[config.model].search_space
    space = {
        key: dimension
        for key, dimension in declared.items()
        if key not in given and (labelled or key not in OF_LABELS)
    }
    for key, wanted in (search or {}).items():
        space[key] = read_dimension(config, key, wanted) if isinstance(wanted, str) else wanted
        _check_dimension(config, key, space[key])
        if key in OF_SEQUENCES and not sequences:
            raise GMMVAEError(f"{key} is of sequences, and {config.data} has none; leave it out")
    if not space:
        raise GMMVAEError(
            "every key is given a value and nothing is left to search; leave some out, or name "
            "them as dimensions (--search)"
        )
    return space


def check_comparable(metric: str, space: SearchSpace) -> None:
    """Refuse a metric whose values are of different numbers in different trials.

    Raises:
        GMMVAEError: ELBOs, and a key that decides what x is, or an objective that reports none.
    """
    if metric != "val_elbo":
        return
    objective = space.get("objective")
    if isinstance(objective, Choice) and "categorical" in objective.options:
        raise GMMVAEError(
            "val_elbo of the objective 'categorical' is no bound of the relaxed model and can't be "
            "compared with that of others; take val_accuracy or val_log_loss, or leave it out"
        )
    changing = sorted(space.keys() & OF_SEQUENCES - {"joint_dropout"})
    if changing:
        raise GMMVAEError(
            f"val_elbo is a density of x, and {changing[0]} changes what x is: values would not be "
            "comparable; take val_accuracy or val_log_loss, or give one value for all trials"
        )


def read_dimension(config: Config, key: str, text: str) -> Dimension:
    """A dimension of a key from "LOW:HIGH", "LOW:HIGH:log" or "a,b,c" (widths: "64,128x64").

    Raises:
        GMMVAEError: an unknown key, or text that is none of these.
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
    raise GMMVAEError(f"{key}={text}: {key} is no number; write values A,B,C")


def configured(base: Config, space: SearchSpace, params: Params) -> Config:
    """The configuration of a trial.

    Where the base has a schedule start:end:steps, a number that is searched moves its end.
    """
    changes = {}
    for key, dimension in space.items():
        value = params[key]
        if isinstance(dimension, Choice):
            value = dimension.options[dimension.labels.index(value)]
        elif isinstance(ramp := getattr(base, key), Schedule) and ramp.steps:
            value = Schedule(ramp.start, value, ramp.steps)
        changes[key] = value
    return base.replace(**changes)


def start_of(base: Config, space: SearchSpace) -> dict[str, Any]:
    """The point where a configuration stands, or the nearest; keys without a place are left out."""
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


def ends_of(space: SearchSpace) -> list[dict[str, Any]]:
    """Two corners: every dimension at its low end (first option), and at its high one (last)."""
    return [
        {
            key: dimension.labels[place]
            if isinstance(dimension, Choice)
            else (dimension.low, dimension.high)[place]
            for key, dimension in space.items()
        }
        for place in (0, -1)
    ]


def distributions(space: SearchSpace) -> dict[str, Any]:
    """The space in Optuna's words."""
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    found: dict[str, Any] = {}
    for key, dimension in space.items():
        if isinstance(dimension, Choice):
            found[key] = CategoricalDistribution(dimension.labels)
        else:
            kind = IntDistribution if isinstance(dimension, Whole) else FloatDistribution
            found[key] = kind(dimension.low, dimension.high, log=dimension.log)
    return found


def _check_key(config: Config, key: str) -> None:
    if key not in type(config).model_fields:
        raise unknown_key(key, config.model, config.guide)
    if key in FIXED:
        raise GMMVAEError(f"{key} can't be searched: give one value for all trials")


def _check_dimension(config: Config, key: str, dimension: Dimension) -> None:
    """Every value that the configuration checks by itself must be in its range."""
    _check_key(config, key)
    if not isinstance(dimension, Real | Whole | Choice):
        raise GMMVAEError(f"{key}: a dimension is Real, Whole or Choice, not {dimension!r}")
    ends = dimension.options if isinstance(dimension, Choice) else (dimension.low, dimension.high)
    for value in ends:
        config.replace(**{key: value})


def _option(config: Config, key: str, text: str) -> Any:
    """One option, as the configuration has it."""
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
