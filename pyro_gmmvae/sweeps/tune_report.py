"""What a study found: the best settings, a table of trials, and what mattered."""

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pyro_gmmvae.config import Config, Whole
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import atomic_write
from pyro_gmmvae.runs.keys import usual_values
from pyro_gmmvae.sweeps.plan import Say
from pyro_gmmvae.sweeps.search_space import configured
from pyro_gmmvae.sweeps.study import Plan, finished, open_study, quiet
from pyro_gmmvae.sweeps.tune_pictures import write_pictures

FEWEST_FOR_IMPORTANCE = 10


@dataclass(frozen=True)
class Tuned:
    """The outcome of a study.

    Attributes:
        config: the best trial's configuration.
        metric: what was optimised, of validation rows.
        value: the best trial's.
        number: which trial that is.
        first: the value of the first trial, which has the settings without tuning, or None.
        trials: a line per trial, as in trials.csv.
        importance: a line per key, most important first; empty where trials were too few.
    """

    config: Config
    metric: str
    value: float
    number: int
    first: float | None
    trials: pd.DataFrame
    importance: pd.DataFrame


def tuned(plan: Plan, say: Say, *, pictures: bool = True) -> Tuned:
    """Read a study and write its files: tables, ``best.toml`` and, if asked for, pictures.

    Raises:
        GMMVAEError: no trial was completed.
    """
    table, best = write_tables(plan)
    if best is None:
        raise _nothing(plan, table)
    with quiet():
        study = open_study(plan)
        started = [t for t in _ended(study.trials) if t.user_attrs.get("start")]
        first = started[0].value if started else None
        importance = _importance(study)
        if importance.empty:
            say(
                f"importances and their picture need {FEWEST_FOR_IMPORTANCE} trials with a value, "
                "of more than one value"
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


def write_tables(plan: Plan) -> tuple[pd.DataFrame, Any]:
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


def best_of(trials: list[Any], plan: Plan) -> Any:
    """The best trial that was run to its end, or None.

    Of equal ones, as small validation sets give, the one that is surest of what is right:
    by log-loss, then by ELBO.
    """
    sign = 1 if plan.direction == "maximize" else -1

    def rank(trial: Any) -> tuple[float, ...]:
        numbers = trial.user_attrs["about"]["numbers"]
        loss, elbo = numbers.get("val_log_loss", math.inf), numbers.get("val_elbo", -math.inf)
        return (sign * trial.value, -loss, elbo, -trial.number)

    return max(_ended(trials), key=rank, default=None)


def _ended(trials: list[Any]) -> list[Any]:
    """The trials that were run to their end."""
    ended = [t for t in trials if t.user_attrs.get("about", {}).get("state") == "complete"]
    return [trial for trial in ended if trial.value is not None]


def table_of(trials: list[Any], plan: Plan) -> pd.DataFrame:
    """A line per trial: number, state, value, held-out numbers, seconds, epochs, keys, reason."""
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
    """The configuration as a file that ``--config`` takes.

    Written are the keys that differ from the plain defaults or from the preset's, so that the
    file means the same under a later version's preset, and those of ``space``.
    """
    base = usual_values(config)
    plain = type(config).model_construct().model_dump()
    lines = []
    for key, value in config.model_dump().items():
        usual = value == base[key] == plain[key]
        if usual and key not in ("data", "model", *space):
            continue
        # a budget that is absent is the other one's
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
    """Share of the value's variance that each key explains alone (fANOVA, Hutter et al. 2014)."""
    import optuna

    values = [t.value for t in study.get_trials(deepcopy=False) if t.value is not None]
    if len(values) < FEWEST_FOR_IMPORTANCE or len(set(values)) < 2:
        return pd.DataFrame(columns=["key", "importance"])
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    found: Mapping[str, float] = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return pd.DataFrame({"key": list(found), "importance": list(found.values())})


def _write_importance(plan: Plan, importance: pd.DataFrame) -> None:
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
        "(fANOVA: a forest of 64 trees on the finished trials). With few trials it is rough.",
    ]
    atomic_write(plan.out / "importance.md", ("\n".join(lines) + "\n").encode())


def _nothing(plan: Plan, table: pd.DataFrame) -> GMMVAEError:
    """The error of a study without a completed trial."""
    failed = table[table["state"] == "failed"] if len(table) else table
    if len(failed):
        return GMMVAEError(
            f"none of {len(table)} trials in {plan.out} was completed; the first: "
            f"{failed['reason'].iloc[0]}"
        )
    return GMMVAEError(f"no trial in {plan.out} was completed in this time; give it more --minutes")
