"""Lines of the clustering benchmark: settings over the preset "cluster"."""

import io
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from pyro_gmmvae.config import INITS, Config
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import atomic_write
from pyro_gmmvae.key_types import Schedule
from pyro_gmmvae.runs import TrainingData, default_config, resolve
from pyro_gmmvae.sweeps import DATA_KEYS, SWEPT_KEYS

PRESET = {"preset": "cluster"}
Keys = Mapping[str, Any]

MAIN: dict[str, dict[str, Any]] = {
    "cluster": {},
    "Concrete KL": {"objective": "analytic"},
    "categorical KL": {"objective": "categorical"},
    "exact sum over classes": {"guide": "enumerated", "objective": "analytic"},
    "guide conditional": {"guide": "conditional"},
    "guide bayes": {"guide": "bayes"},
}
# shares of the preset's weights of both terms, by the line that has them
WEIGHTS: dict[str, Fraction] = {
    "ELBO alone": Fraction(0),
    "both weights / 6": Fraction(1, 6),
    "both weights / 3": Fraction(1, 3),
    "cluster": Fraction(1),
}
UNEQUAL = ("balance to flat pi", "balance to learnt pi", "balance to given pi", "balance to 1/10")
# the largest class has so many times the rows of the smallest
LONG_TAIL = 10
APART = {*SWEPT_KEYS, *DATA_KEYS, "device"}


@dataclass(frozen=True)
class Line:
    """A line of the table.

    Attributes:
        part, name: where and how it is named.
        data: the data's name in the table.
        keys: settings beside the preset's.
        common: settings of the data, and those that all of its lines share.
    """

    part: str
    name: str
    data: str
    keys: Keys
    common: Keys = field(default_factory=dict)


def ablations(preset: Config) -> dict[str, dict[str, Any]]:
    """Lines that remove or change one thing of a preset."""
    found: dict[str, dict[str, Any]] = {
        "without augmentation": {"augment": None},
        "without balance": {"balance": "0"},
        "without consistency": {"consistency": "0"},
        "without the ELBO": {"elbo_weight": 0.0},
        "decoder explains the augmented row": {"reconstruct": "augmented"},
        "diagonal covariances": {"covariance": "diagonal"},
        "flat pi": {"learn_prior": False},
        "learnt pi": {"learn_prior": True},
    }
    for init in INITS:
        found[f"init {init}"] = {"init": init}
    for name, share in WEIGHTS.items():
        if name not in MAIN:
            found[name] = {
                "balance": scaled(preset.balance, share),
                "consistency": scaled(preset.consistency, share),
            }
    return found


def scaled(schedule: Schedule, share: Fraction) -> str:
    """A schedule's text with its values times a share."""
    start, end = (float(f"{float(value * share):.6g}") for value in (schedule.start, schedule.end))
    return str(replace(schedule, start=start, end=end))


def lines_of(data: str, common: Keys, parts: Iterable[str], out: Path) -> list[Line]:
    """The lines of some parts for a data set; lines that equal the preset are left out.

    Args:
        data: a data set's name.
        common: keys of every line: ``data``, its folder, a budget.
        parts: of main, ablation, unequal.
        out: folder of a long-tailed copy of the data, which is made if it is missing.
    """
    preset = resolve(default_config(data, PRESET))
    values = preset.model_dump()
    tables = {"main": MAIN, "ablation": ablations(preset)}
    found = [
        Line(part, name, data, keys, common)
        for part in parts
        for name, keys in tables.get(part, {}).items()
        if not keys or any(values[key] != value for key, value in keys.items())
    ]
    return found + (unequal_lines(data, common, out) if "unequal" in parts else [])


def unequal_lines(data: str, common: Keys, out: Path) -> list[Line]:
    """Lines on a long-tailed copy of a set of images, with the settings of the set's preset."""
    preset = default_config(data, common, PRESET)
    rows = TrainingData.from_config(preset)
    if rows.dataset.unit is None:
        raise GMMVAEError(f"--parts unequal thins out classes of images, not of {data!r}")
    name = f"{data}-long-tail"
    # relative to here, so that rows are found again however --out was spelled
    file = Path(os.path.relpath(out / f"data-{name}.npz"))
    if not file.exists():
        write_long_tail(rows, file)
    y = np.load(file)["y"]
    split, total = rows.split, len(rows.dataset.x)
    base, of_file = (default_config(d, PRESET).model_dump() for d in (data, str(file)))
    # what the set's preset says, also where it says nothing and that of files does
    shared = {k: v for k, v in base.items() if v != of_file[k] and k not in APART}
    shared |= {
        # of a file shares are held out: those of the set that it was made from
        "test": round(len(split.test) / total, 4),
        "validation": round(len(split.validation) / (total - len(split.test)), 4),
    }
    # the same number of steps, or fewer rows would also mean a shorter fit
    shared["epochs"] = round(base["epochs"] * total / len(y))
    if "epochs" in common or "minutes" in common:
        del shared["epochs"]
    shared |= {k: v for k, v in common.items() if k not in DATA_KEYS}
    steps = math.ceil(len(split.train) / base["batch_size"]) * base["epochs"]
    counts = np.bincount(y)
    start = preset.balance.start
    keys: list[dict[str, Any]] = [
        {"learn_prior": False},
        {"learn_prior": True},
        # components have no order, so that this order is as good as any
        {"learn_prior": False, "class_prior": tuple(np.round(counts / len(y), 4).tolist())},
        # classes are separated while it is strong, and may differ in size afterwards
        {"balance": f"{start:g}:{start / 10:g}:{steps // 2}"},
    ]
    common = {"data": str(file), **shared}
    return [Line("unequal", n, name, k, common) for n, k in zip(UNEQUAL, keys, strict=True)]


def write_long_tail(rows: TrainingData, file: Path, seed: int = 0) -> None:
    """Write images of which class k keeps a share 10^(-k / (K - 1)) of its rows, test rows too.

    Args:
        rows: of a set of images.
        file: an npz of ``x`` (N, C, H, W), in the set's units, and ``y`` (N,).
        seed: of the rows that are kept.
    """
    dataset, generator = rows.dataset, np.random.default_rng(seed)
    K = len(dataset.classes)
    kept = []
    for k in range(K):
        mine = np.flatnonzero(dataset.y == k)
        share = LONG_TAIL ** (-k / max(K - 1, 1))
        kept.append(generator.permutation(mine)[: max(1, round(share * len(mine)))])
    chosen = np.sort(np.concatenate(kept))
    assert dataset.unit is not None
    pixels = np.asarray(dataset.x[chosen])
    if dataset.unit == 255:
        pixels = pixels.astype(np.uint8)  # else counts, whose likelihood names the largest
    content = io.BytesIO()
    np.savez_compressed(content, x=pixels, y=dataset.y[chosen])
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(file, content.getvalue())
