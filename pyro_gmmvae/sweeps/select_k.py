"""How many components: held-out ELBO, stability over seeds, and components in use for each K."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pyro_gmmvae.config import Config
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.evaluation import components_used
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.runs.run import Run
from pyro_gmmvae.sweeps.execute import sweep
from pyro_gmmvae.sweeps.plan import Cell, Say, plan

MOST_ROWS = 5000


def candidates(low: int, high: int, count: int) -> list[int]:
    """Up to ``count`` numbers of components from ``low`` to ``high``, evenly spaced.

    Raises:
        GMMVAEError: an empty range, or one that begins below 1.
    """
    if not 1 <= low <= high:
        raise GMMVAEError(f"components go up from at least 1, not from {low} to {high}")
    return sorted({round(k) for k in np.linspace(low, high, min(count, high - low + 1))})


def compare_components(
    common: Mapping[str, Any],
    numbers: Sequence[int],
    out: Path,
    *,
    seeds: int,
    jobs: int = 1,
    say: Say = print,
) -> tuple[pd.DataFrame, list[str]]:
    """Train every K with every seed (those that are in OUT are not trained again) and compare.

    Args:
        common: keys of every configuration; "data" among them.
        numbers: the K to compare.
        out: folder of the runs and their table.
        seeds: 0, 1, ... of each.
        jobs: runs at once.
        say: hears of each run's end.

    Returns:
        A line per K with, on validation rows (training ones where none are held out): ``elbo``
        and ``elbo_std`` over seeds (nats per row), ``stability`` (mean adjusted Rand index of
        two seeds' clusters), ``used`` and ``used_std`` (components in use), ``n``; and a line for
        each run that failed.

    Raises:
        GMMVAEError: nothing fits, or every run failed.
    """
    cells = plan(
        {key: value for key, value in common.items() if key not in ("model", "preset")},
        presets=[common.get("preset")],
        models=[str(common.get("model", "gmmvae"))],
        variants=[{"components": K} for K in numbers],
        seeds=range(seeds),
        say=say,
    )
    _, failures = sweep(cells, out, jobs=jobs, keep_runs=True, say=say)
    lines = []
    for K in numbers:
        of_k = [(c, config) for c, config in cells.items() if config.get("components") == K]
        runs = [_assigned(c, config, out) for c, config in of_k]
        found = [one for one in runs if one is not None]
        if found:
            lines.append({"components": K} | _compared(found))
    if not lines:
        raise GMMVAEError(f"every run failed; the first: {failures[0]}")
    return pd.DataFrame(lines), failures


def _assigned(cell: Cell, config: Config, out: Path) -> dict[str, Any] | None:
    """ELBO and likeliest components of held-out rows; None for a run that failed."""
    folder = out / "runs" / cell.folder
    if not (folder / "metrics.json").exists():
        return None
    run = Run.load(folder, device=config.device)
    rows = TrainingData.from_config(run.config.replace(data_dir=config.data_dir), run.schema)
    x, _ = rows.tensors(rows.validation_rows(MOST_ROWS), run.device)
    log_probs = run.log_probs(x)
    if log_probs is None:
        raise GMMVAEError(f"the model {config.model!r} has no components to compare")
    return {"elbo": float(run.elbo(x).mean()), "clusters": log_probs.argmax(1)}


def _compared(found: list[dict[str, Any]]) -> dict[str, Any]:
    from sklearn.metrics import adjusted_rand_score

    elbo = pd.Series([one["elbo"] for one in found])
    used = pd.Series([components_used(one["clusters"]) for one in found])
    clusters = [one["clusters"] for one in found]
    pairs = [adjusted_rand_score(a, b) for a, b in itertools.combinations(clusters, 2)]
    return {
        "elbo": elbo.mean(),
        "elbo_std": elbo.std(),
        "stability": float(np.mean(pairs)) if pairs else None,
        "used": used.mean(),
        "used_std": used.std(),
        "n": len(found),
    }
