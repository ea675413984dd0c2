"""Comparison of numbers of components K: held-out ELBO, stability over seeds, components in use."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_gmmvae.config import Config
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.evaluation import n_components_used
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.runs.run import Run
from pyro_gmmvae.sweeps.execute import sweep
from pyro_gmmvae.sweeps.plan import Log, plan_sweep

MAX_ROWS = 5000


def candidates(low: int, high: int, count: int) -> list[int]:
    """Choose up to ``count`` evenly spaced numbers of components from ``low`` to ``high``.

    Raises:
        GMMVAEError: an empty range, or a range that begins below 1.
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
    log: Log = print,
) -> tuple[pd.DataFrame, list[str]]:
    """Train every K with every seed, and compare; finished runs in OUT are not trained again.

    Args:
        common: configuration keys of every run; "data" among them.
        numbers: the values of K.
        out: folder of the runs and their table.
        seeds: the number of seeds 0, 1, ... for each K.
        jobs: runs at once.
        log: gets a line at the end of each run.

    Returns:
        A line per K, measured on validation rows (on training rows if none are held out):
        ``elbo`` and ``elbo_std`` over seeds (nats per row), ``stability`` (mean adjusted Rand
        index of the clusters of two seeds), ``used`` and ``used_std`` (components in use),
        ``n``; and a line for each run that failed.

    Raises:
        GMMVAEError: a number of components among the keys, no combination that fits, or every
            run failed.
    """
    if "components" in common:
        raise GMMVAEError("components is what is compared: give it with --range")
    runs = plan_sweep(
        {key: value for key, value in common.items() if key not in ("model", "preset")},
        presets=[common.get("preset")],
        models=[str(common.get("model", "gmmvae"))],
        variants=[{"components": K} for K in numbers],
        seeds=range(seeds),
        log=log,
    )
    _, failures = sweep(runs, out, jobs=jobs, keep_runs=True, log=log)
    lines = []
    for K in numbers:
        configs = {run.folder: c for run, c in runs.items() if c.get("components") == K}
        folders = {out / "runs" / name: config for name, config in configs.items()}
        measured = [_measure(f, c) for f, c in folders.items() if (f / "metrics.json").exists()]
        if measured:
            elbo, clusters = zip(*measured, strict=True)
            lines.append({"components": K} | _compare(pd.Series(elbo), clusters))
    if not lines:
        raise GMMVAEError(f"every run failed; the first: {failures[0]}")
    return pd.DataFrame(lines), failures


def _measure(folder: Path, config: Config) -> tuple[float, NDArray[Any]]:
    """Mean ELBO of held-out rows (nats), and the most probable component of each."""
    run = Run.load(folder, device=config.device)
    rows = TrainingData.from_config(run.config.replace(data_dir=config.data_dir), run.schema)
    x, _ = rows.tensors(rows.validation_rows(MAX_ROWS), run.device)
    log_probs = run.log_probs(x)
    if log_probs is None:
        raise GMMVAEError(f"the model {config.model!r} has no components to compare")
    return float(run.elbo(x).mean()), log_probs.argmax(1)


def _compare(elbo: pd.Series, clusters: Sequence[NDArray[Any]]) -> dict[str, Any]:
    from sklearn.metrics import adjusted_rand_score

    used = pd.Series([n_components_used(one) for one in clusters])
    pairs = [adjusted_rand_score(a, b) for a, b in itertools.combinations(clusters, 2)]
    return {
        "elbo": elbo.mean(),
        "elbo_std": elbo.std(),
        "stability": float(np.mean(pairs)) if pairs else None,
        "used": used.mean(),
        "used_std": used.std(),
        "n": len(elbo),
    }
