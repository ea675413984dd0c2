"""What a sweep runs: cells, planned from names."""

import hashlib
import itertools
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

from pyro_gmmvae.config import Config
from pyro_gmmvae.errors import GMMVAEError, UnknownNameError
from pyro_gmmvae.runs.assembly import build
from pyro_gmmvae.runs.build import resolve
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.runs.keys import default_config, takes_guide, usual_values
from pyro_gmmvae.training.devices import seeded

Say = Callable[[str], None]


@dataclass(frozen=True)
class Cell:
    """One run of a sweep; equal cells are the same row of the table.

    Attributes:
        data, model, guide, objective, preset, labels, seed: as in the configuration.
        settings: keys that differ from the preset's, "key=value key=value".
        config: short hash of all settings, so that a preset that changed is run anew.
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
        """The same text for equal cells, also for those read from a table."""
        return key_of(tuple(asdict(self).values()))

    @property
    def title(self) -> str:
        """For a line of progress."""
        words = [self.model, self.guide, self.objective, self.preset, self.settings]
        return f"{' '.join(w for w in words if w)}, {self.labels} labels, seed {self.seed}"

    @property
    def folder(self) -> str:
        """A name for its run folder."""
        digest = hashlib.sha256(self.key.encode()).hexdigest()[:8]
        return f"{self.model}-{self.labels}-{self.seed}-{digest}"


VARIED = ("guide", "labels", "model", "objective", "preset", "seed")
OF_DATA = ("data", "data_dir", "label_column")
KEY = [field.name for field in fields(Cell)]


def key_of(values: Sequence[Any]) -> str:
    """A cell's key from the values of ``KEY``."""
    return json.dumps([str(value) for value in values])


def plan(
    common: Mapping[str, Any],
    *,
    models: Sequence[str],
    guides: Sequence[str | None] = (None,),
    objectives: Sequence[str | None] = (None,),
    presets: Sequence[str | None] = (None,),
    variants: Sequence[Mapping[str, Any]] = ({},),
    labels: Sequence[int | str | None] = (None,),
    seeds: Sequence[int] = (0,),
    say: Say = print,
) -> dict[Cell, Config]:
    """Every combination, first names first; those that do not fit are named and left out.

    A model without a choice of guides gets one cell in the place of one per guide. Cells of
    the same settings on the same rows are the same, wherever the data lies.

    Args:
        common: keys of every configuration; "data" among them.
        models, guides, objectives, presets, labels, seeds: what varies; None: the default.
        variants: further keys, one cell for each set of them.
        say: hears of combinations that are left out.

    Raises:
        GMMVAEError: an unknown name or a value out of range, or nothing that fits.
    """
    for keys, apart in ((common, VARIED), *((v, (*VARIED, *OF_DATA)) for v in variants)):
        for key in sorted(set(apart) & set(keys)):
            plural = "" if key in OF_DATA or key == "labels" else "s"
            option = f"--{key.replace('_', '-')}{plural}"
            raise GMMVAEError(f"{key} is no plain setting of a sweep: give it with {option}")
    deaf = [model for model in models if not takes_guide(model)]
    if deaf and any(guides):
        say(f"without a choice of guides: {', '.join(deaf)}")
    cells: dict[Cell, Config] = {}
    rows: dict[Any, TrainingData] = {}
    misfits: dict[str, None] = {}
    columns = itertools.product(models, guides, objectives, presets, variants)
    for label, (model, guide, objective, preset, variant) in itertools.product(labels, columns):
        if label not in rows:
            layer = {} if label is None else {"labels": label}
            rows[label] = TrainingData.from_config(
                default_config(str(common["data"]), common, layer)
            )
        changes = {
            "model": model,
            "guide": guide if takes_guide(model) else None,
            "objective": objective,
            "preset": preset,
            "labels": label,
        }
        given = {key: value for key, value in changes.items() if value is not None}
        layers = (common, given, variant)
        what = [model, guide, objective, *(f"{k}={v}" for k, v in variant.items())]
        try:
            config = resolve(default_config(str(common["data"]), *layers))
            words = _changes(config, {**common, **variant})
            what = [model, config.guide, config.objective, words]
            with seeded(0, torch.device("cpu")):
                build(config, rows[label]).dry_run()
        except UnknownNameError:  # a misspelled name is refused; what can't go together is left out
            raise
        except GMMVAEError as error:
            misfits[f"{', '.join(str(w) for w in what if w)}: {error}"] = None
            continue
        for seed in seeds:
            one = config.replace(seed=seed)
            cells[_cell(one, words, rows[label].schema.fingerprint)] = one
    for misfit in misfits if cells else ():
        say(f"left out: {misfit}")
    if not cells:
        raise GMMVAEError(f"no combination fits: {next(iter(misfits), 'no names were given')}")
    return cells


def _changes(config: Config, given: Mapping[str, Any]) -> str:
    """The keys that were given and differ from the preset's, as "key=value key=value"."""
    base, values = usual_values(config), config.model_dump()
    shown = [k for k in given if k not in (*KEY, "data_dir", "device", "log")]
    changed = {k: values[k] for k in shown if values[k] != base[k]}
    return " ".join(f"{key}={_as_text(value)}" for key, value in changed.items())


def _as_text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _cell(config: Config, settings: str, fingerprint: str) -> Cell:
    # where data lies, is computed and is logged change no result; what it holds does
    apart = {"seed", "data_dir", "device", "log"}
    content = config.model_dump_json(exclude_defaults=True, exclude=apart) + fingerprint
    return Cell(
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


def command_of(config: Config) -> str:
    """What a user types to train the cell; the data's folder is theirs."""
    base = usual_values(config)
    options = ["gmmvae", "train", "--data", config.data, "--preset", str(config.preset)]
    for key, value in config.model_dump().items():
        if key in ("data", "data_dir", "preset", "device") or value == base[key]:
            continue
        options.append(f"--set={key}={_as_text(value)}")
    return shlex.join(options)
