"""Reports of studies: the best settings, a table of trials, importances and pictures."""

import io
import json
import math
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pyro_gmmvae.config import Config
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import atomic_write
from pyro_gmmvae.ranges import Whole
from pyro_gmmvae.runs.keys import usual_values
from pyro_gmmvae.sweeps.plan import Log
from pyro_gmmvae.sweeps.search_space import configured
from pyro_gmmvae.sweeps.study import StudyPlan, finished, open_study, quiet

MIN_TRIALS_FOR_IMPORTANCE = 10
MAX_KEYS = 6  # in a picture with a column per key


@dataclass(frozen=True)
class Tuned:
    """The outcome of a study.

    Attributes:
        config: the best trial's configuration.
        metric: the metric of validation rows that was optimized.
        value: the value of the best trial.
        number: the number of the best trial.
        first: the value of the first trial, which has the settings without tuning, or None.
        trials: a line per trial, as in trials.csv.
        importance: a line per key, most important first; empty if there were too few trials.
    """

    config: Config
    metric: str
    value: float
    number: int
    first: float | None
    trials: pd.DataFrame
    importance: pd.DataFrame


def tuned(plan: StudyPlan, log: Log, *, pictures: bool = True) -> Tuned:
    """Read a study and write its files: tables, ``best.toml`` and, by ``pictures``, drawings.

    Raises:
        GMMVAEError: no trial was completed.
    """
    table, best = write_tables(plan)
    if best is None:
        raise _no_trial_error(plan, table)
    with quiet():
        study = open_study(plan)
        started = [t for t in _ended(study.trials) if t.user_attrs.get("start")]
        first = started[0].value if started else None
        importance = _importance(study)
        if importance.empty:
            log(
                f"importances and their picture need {MIN_TRIALS_FOR_IMPORTANCE} trials, with "
                "different values"
            )
        else:
            _write_importance(plan, importance)
        if pictures:
            write_pictures(study, plan, list(importance["key"]))
    return Tuned(
        config=configured(plan.base, plan.space, best.params),
        metric=plan.metric,
        value=best.value,
        number=best.number,
        first=first,
        trials=table,
        importance=importance,
    )


def write_tables(plan: StudyPlan) -> tuple[pd.DataFrame, Any]:
    """Write ``trials.csv``, and ``best.toml`` where a trial was completed.

    Returns:
        The table, and the best trial as Optuna has it, or None.
    """
    with quiet():
        trials = open_study(plan).get_trials(deepcopy=False)
    table = table_of(trials, plan)
    atomic_write(plan.out / "trials.csv", table.to_csv(index=False).encode())
    best = best_of(trials, plan)
    if best is not None:
        config = configured(plan.base, plan.space, best.params)
        about = f"# trial {best.number} of {plan.out.name}: {plan.metric} {best.value:.6g}\n"
        atomic_write(plan.out / "best.toml", (about + as_toml(config, plan.space)).encode())
    return table, best


def best_of(trials: list[Any], plan: StudyPlan) -> Any:
    """The best trial that was run to its end, or None.

    Ties, which small validation sets give, are broken by the log-loss, then by the ELBO.
    """
    sign = 1 if plan.direction == "maximize" else -1

    def rank(trial: Any) -> tuple[float, ...]:
        numbers = trial.user_attrs["about"]["numbers"]
        loss, elbo = numbers.get("val_log_loss", math.inf), numbers.get("val_elbo", -math.inf)
        return (sign * trial.value, -loss, elbo, -trial.number)

    return max(_ended(trials), key=rank, default=None)


def _ended(trials: list[Any]) -> list[Any]:
    """Select the trials that were run to their end."""
    ended = [t for t in trials if t.user_attrs.get("about", {}).get("state") == "complete"]
    return [trial for trial in ended if trial.value is not None]


def table_of(trials: list[Any], plan: StudyPlan) -> pd.DataFrame:
    """Make a line per trial: number, state, value, metrics, seconds, epochs, keys, reason."""
    reasons = {t.user_attrs.get("again"): t.user_attrs.get("because", "") for t in trials}
    counted = {trial.number for trial in finished(trials)}
    lines = []
    for trial in trials:
        about = trial.user_attrs.get("about", {})
        numbers = dict(about.get("numbers", {}))
        state, reason = about.get("state", trial.state.name.lower()), about.get("reason", "")
        if trial.state.name == "FAIL" and not about:
            back = trial.number not in counted
            state = "put back" if back else "failed"
            reason = reasons.get(trial.number, "") if back else "its process was killed each time"
        epochs = numbers.pop("epoch", None)
        lines.append(
            {"number": trial.number, "state": state, "value": trial.value}
            | numbers
            | {"seconds": about.get("seconds"), "epochs": epochs}
            | {key: trial.params.get(key) for key in plan.space}
            | {"reason": reason}
        )
    table = pd.DataFrame(lines)
    for key, dimension in plan.space.items():
        if isinstance(dimension, Whole) and len(table):
            table[key] = table[key].astype("Int64")  # also where a trial has none yet
    last = [*plan.space, "reason"]
    return table[[c for c in table.columns if c not in last] + last] if len(table) else table


def as_toml(config: Config, space: Collection[str] = ()) -> str:
    """Write a configuration as a file that ``--config`` takes.

    It has the keys that differ from the defaults or from the preset, so that the file means the
    same under a later version's preset, and the keys of ``space``.
    """
    base = usual_values(config)
    plain = type(config).model_construct().model_dump()
    lines = []
    for key, value in config.model_dump().items():
        is_default = value == base[key] == plain[key]
        if is_default and key not in ("data", "model", *space):
            continue
        # without a budget of this kind, the other kind applies
        if key in ("epochs", "minutes") and value is None:
            continue
        lines.append(f"{key} = {_toml_value(value)}")
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    if value is None:
        return '"none"'
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, float):
        return repr(value)
    # a JSON string, number or boolean is a TOML one
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _importance(study: Any) -> pd.DataFrame:
    """Share of the variance that each key explains alone (fANOVA, Hutter et al. 2014)."""
    import optuna

    values = [t.value for t in study.get_trials(deepcopy=False) if t.value is not None]
    if len(values) < MIN_TRIALS_FOR_IMPORTANCE or len(set(values)) < 2:
        return pd.DataFrame(columns=["key", "importance"])
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    shares: Mapping[str, float] = optuna.importance.get_param_importances(
        study, evaluator=evaluator
    )
    return pd.DataFrame({"key": list(shares), "importance": list(shares.values())})


def _write_importance(plan: StudyPlan, importance: pd.DataFrame) -> None:
    atomic_write(plan.out / "importance.csv", importance.to_csv(index=False).encode())
    lines = [
        "| key | searched | importance |",
        "|---|---|---|",
        *(
            f"| {key} | {plan.space[key]} | {share:.3f} |"
            for key, share in zip(importance["key"], importance["importance"], strict=True)
        ),
        "",
        f"Share of the variance of {plan.metric} over the searched space that each key explains "
        "(fANOVA: a forest of 64 trees on the finished trials). It is rough with few trials.",
    ]
    atomic_write(plan.out / "importance.md", ("\n".join(lines) + "\n").encode())


def _no_trial_error(plan: StudyPlan, table: pd.DataFrame) -> GMMVAEError:
    """Make the error of a study without a completed trial."""
    failed = table[table["state"] == "failed"] if len(table) else table
    if len(failed):
        return GMMVAEError(
            f"none of {len(table)} trials in {plan.out} was completed; the first: "
            f"{failed['reason'].iloc[0]}"
        )
    return GMMVAEError(f"no trial in {plan.out} was completed in this time; give it more --minutes")


# ---------------------------------------------------------------------------------- pictures


def write_pictures(study: Any, plan: StudyPlan, keys: Sequence[str]) -> None:
    """Write history.png, slice.png, parallel.png and, with ``keys``, importance.png, contour.png.

    Args:
        study: a study with at least one value.
        plan: the plan of the study.
        keys: the searched keys, most important first; empty if importances are not known.
    """
    with _pyplot_restored():
        from matplotlib import pyplot
        from optuna.importance import FanovaImportanceEvaluator
        from optuna.visualization import matplotlib as draw

        named: dict[str, Any] = {"target_name": plan.metric}
        ordered = (list(keys) or list(plan.space))[:MAX_KEYS]
        drawings: dict[str, Callable[[], Any]] = {
            "history": lambda: draw.plot_optimization_history(study, **named),
            "slice": lambda: draw.plot_slice(study, params=ordered, **named),
            "parallel": lambda: draw.plot_parallel_coordinate(study, params=ordered, **named),
        }
        if keys:
            drawings["importance"] = lambda: draw.plot_param_importances(
                study, evaluator=FanovaImportanceEvaluator(seed=0), **named
            )
        if len(keys) > 1:
            drawings["contour"] = lambda: draw.plot_contour(study, params=list(keys[:2]), **named)
        for name, drawing in drawings.items():
            axes = drawing()
            figure = (axes.flat[0] if hasattr(axes, "flat") else axes).figure
            _tidy(figure, name)
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=130, bbox_inches="tight")
            pyplot.close(figure)
            atomic_write(plan.out / f"{name}.png", buffer.getvalue())


def _tidy(figure: Any, name: str) -> None:
    """Remove labels that overlap, and the grids of axes that lie upon other axes."""
    from matplotlib.ticker import LogLocator, NullFormatter

    is_parallel = name == "parallel"
    if is_parallel:
        figure.set_size_inches(1.6 * len(figure.axes), 5)
    for axes in figure.axes:
        if is_parallel:
            axes.grid(visible=False)
            axes.set_facecolor("white")
        if name == "slice":
            axes.tick_params(axis="x", labelrotation=45)
        for axis in (axes.xaxis, axes.yaxis):
            if axis.get_scale() != "log":
                continue
            low, high = axis.get_view_interval()
            if high / low < 100:  # too narrow for ticks at powers of ten
                axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())


@contextmanager
def _pyplot_restored() -> Iterator[None]:
    """Restore pyplot's backend and style, which Optuna's drawings change."""
    import matplotlib
    from matplotlib import pyplot

    before = matplotlib.get_backend()
    try:
        with matplotlib.rc_context(), warnings.catch_warnings():
            # Optuna warns that its drawings are experimental, and of axes with a single value
            warnings.simplefilter("ignore")
            pyplot.switch_backend("agg")
            yield
    finally:
        pyplot.switch_backend(before)
