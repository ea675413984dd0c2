"""Plans of sweeps: every combination of names, labels and seeds, as runs with a configuration."""

import hashlib
import itertools
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pyro_gmmvae.config import Config
from pyro_gmmvae.data.frames import is_table
from pyro_gmmvae.datasets import is_file_name
from pyro_gmmvae.errors import GMMVAEError, UnknownNameError
from pyro_gmmvae.runs.assembly import checked_parts
from pyro_gmmvae.runs.build import resolve
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.runs.keys import default_config, takes_guide, usual_values

Log = Callable[[str], None]


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep; equal runs share one row of the table.

    Attributes:
        data, model, guide, objective, preset, seed: as in the configuration.
        labels: the number of labels, or "all".
        settings: keys that differ from the preset's, "key=value key=value".
        config: short hash of the configuration and the rows, so that a changed preset is a new run.
    """

    data: str
    model: str
    guide: str
    objective: str
    preset: str
    labels: str
    seed: int
    settings: str
    config: str

    @property
    def key(self) -> str:
        """A text that is the same for equal runs, also for those read from a table."""
        return run_key(tuple(asdict(self).values()))

    @property
    def title(self) -> str:
        """A title for lines of progress."""
        words = [self.model, self.guide, self.objective, self.preset, self.settings]
        return f"{' '.join(w for w in words if w)}, {self.labels} labels, seed {self.seed}"

    @property
    def folder(self) -> str:
        """The name of the run folder."""
        digest = hashlib.sha256(self.key.encode()).hexdigest()[:8]
        return f"{self.model}-{self.labels}-{self.seed}-{digest}"


# configuration keys that a sweep varies by options of its own, and keys that choose the rows
SWEPT_KEYS = ("guide", "labels", "model", "objective", "preset", "seed")
DATA_KEYS = ("data", "data_dir", "label_column")
RUN_COLUMNS = [field.name for field in fields(SweepRun)]


def run_key(values: Sequence[Any]) -> str:
    """The key of a run from its values in the order of ``RUN_COLUMNS``."""
    return json.dumps([str(value) for value in values])


def single_fit(data: str) -> dict[str, Any]:
    """Configuration keys of one fit that is measured on held-out rows, where data is a table.

    By default a table with few labels has no such rows, several members and a cross-validation.
    """
    if not (is_file_name(data) and is_table(Path(data))):
        return {}
    parts = {key: Config.model_fields[key].default for key in ("test", "validation")}
    return {"members": 1, "cv": 0, **parts}


def plan_sweep(
    common: Mapping[str, Any],
    *,
    models: Sequence[str],
    guides: Sequence[str | None] = (None,),
    objectives: Sequence[str | None] = (None,),
    presets: Sequence[str | None] = (None,),
    variants: Sequence[Mapping[str, Any]] = ({},),
    labels: Sequence[int | str | None] = (None,),
    seeds: Sequence[int] = (0,),
    log: Log = print,
) -> dict[SweepRun, Config]:
    """Combine the names; combinations that do not fit are logged and left out.

    A model with a fixed guide gets one run, not one per guide. Runs with the same settings on the
    same rows are equal, wherever the files of the data are.

    Args:
        common: configuration keys of every run; "data" among them.
        models, guides, objectives, presets, labels, seeds: the values to combine, in this order;
            None is the default.
        variants: further configuration keys, one set per variant.
        log: gets a line for each combination that is left out.

    Returns:
        The runs and their configurations, labels slowest and seeds fastest.

    Raises:
        GMMVAEError: an unknown name, a value out of range, or no combination that fits.
    """
    _check_options(common, variants)
    models_without_guides = [model for model in models if not takes_guide(model)]
    if models_without_guides and any(guides):
        log(f"--guides does not apply to {', '.join(models_without_guides)}: the guide is fixed")
    runs: dict[SweepRun, Config] = {}
    rows: dict[Any, TrainingData] = {}
    misfits: dict[str, None] = {}
    data = str(common["data"])
    parts = single_fit(data)
    columns = itertools.product(models, guides, objectives, presets, variants)
    for label, (model, guide, objective, preset, variant) in itertools.product(labels, columns):
        if label not in rows:
            rows[label] = TrainingData.from_config(
                default_config(data, parts, common, _given(labels=label))
            )
        varied = _given(
            model=model,
            guide=guide if takes_guide(model) else None,
            objective=objective,
            preset=preset,
            labels=label,
        )
        combination = [model, guide, objective, *(f"{k}={v}" for k, v in variant.items())]
        try:
            config = resolve(default_config(data, parts, common, varied, variant))
            settings = _settings(config, {**common, **variant})
            combination = [model, config.guide, config.objective, settings]
            checked_parts(config, rows[label])
        except UnknownNameError:  # an error, while known names that don't fit are left out
            raise
        except GMMVAEError as error:
            misfits[f"{', '.join(str(w) for w in combination if w)}: {error}"] = None
            continue
        for seed in seeds:
            one = config.replace(seed=seed)
            runs[_sweep_run(one, settings, rows[label].schema.fingerprint)] = one
    if not runs:
        raise GMMVAEError(f"no combination fits: {next(iter(misfits), 'no names were given')}")
    for misfit in misfits:
        log(f"left out: {misfit}")
    return runs


def _check_options(common: Mapping[str, Any], variants: Sequence[Mapping[str, Any]]) -> None:
    """Refuse keys that have an option of their own."""
    reserved = (*SWEPT_KEYS, *DATA_KEYS)
    for keys, refused in ((common, SWEPT_KEYS), *((variant, reserved) for variant in variants)):
        for key in sorted(set(refused) & set(keys)):
            plural = "" if key in DATA_KEYS or key == "labels" else "s"
            option = f"--{key.replace('_', '-')}{plural}"
            raise GMMVAEError(f"{key} is not a plain key of a sweep: give it with {option}")


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _settings(config: Config, given: Mapping[str, Any]) -> str:
    """The given keys that differ from the preset's, as "key=value key=value"."""
    base, values = usual_values(config), config.model_dump()
    keys = [k for k in given if k not in (*RUN_COLUMNS, "data_dir", "device", "log")]
    return " ".join(f"{key}={_as_text(values[key])}" for key in keys if values[key] != base[key])


def _as_text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _sweep_run(config: Config, settings: str, fingerprint: str) -> SweepRun:
    # the place of the data, the device and the logs do not change results; the rows do
    apart = {"seed", "data_dir", "device", "log"}
    content = config.model_dump_json(exclude_defaults=True, exclude=apart) + fingerprint
    return SweepRun(
        data=config.data,
        model=config.model,
        guide=config.guide or "",
        objective=config.objective or "",
        preset=config.preset or "",
        labels="all" if config.labels is None else str(config.labels),
        seed=config.seed,
        settings=settings,
        config=hashlib.sha256(content.encode()).hexdigest()[:8],
    )


def train_command(config: Config) -> str:
    """The command line that trains a configuration; the folder of the data is left out."""
    base = usual_values(config)
    options = ["gmmvae", "train", "--data", config.data, "--preset", str(config.preset)]
    for key, value in config.model_dump().items():
        if key in ("data", "data_dir", "preset", "device") or value == base[key]:
            continue
        options.append(f"--set={key}={_as_text(value)}")
    return shlex.join(options)
