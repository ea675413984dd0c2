"""The reference of the generation benchmark: a Gaussian mixture of pixels for each class."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from references import measured_here
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from pyro_gmmvae.config import Config
from pyro_gmmvae.runs import TrainingData
from pyro_gmmvae.runs.generator import RealRows, measure_draws
from pyro_gmmvae.sweeps import append_result, read_results

REFERENCE = "pixel mixture"
COMPONENTS = (1, 2, 5)  # of a class; the number with the best validation density is taken
ITERATIONS = 30  # of EM; scikit-learn warns where it has not converged
NOISE = 0.01  # added to the variances, or pixels that never change would have none
Array = np.ndarray[Any, Any]


def add_mixture(
    config: Config, seeds: Iterable[int], results: Path, log: Callable[[str], None]
) -> None:
    """Append a row for each seed that has none yet."""
    table = read_results(results, log)
    labels = "all" if config.labels is None else str(config.labels)
    done = set(table[(table["model"] == REFERENCE) & (table["labels"] == labels)]["seed"])
    for seed in seeds:
        if seed in done:
            continue
        row = {
            "data": config.data,
            "model": REFERENCE,
            "labels": labels,
            "seed": seed,
            "config": "reference",
            **dict.fromkeys(("guide", "objective", "preset", "settings"), ""),
            **measure_mixture(TrainingData.from_config(config.replace(seed=seed)), seed),
        }
        append_result(results, row)
        log(f"{REFERENCE}, seed {seed}: accuracy {row['accuracy']:.4f}")


def measure_mixture(data: TrainingData, seed: int) -> dict[str, Any]:
    """Fit on up to 10,000 training rows with true labels, and measure as ``evaluate`` does."""
    started = time.monotonic()
    real = RealRows.of(data, 1000, torch.device("cpu"))
    held, held_y = data.tensors(data.split.validation)
    with threadpool_limits(1):
        mixtures = [
            fit_class(
                real.flat(real.training)[real.y_training == k], real.flat(held[held_y == k]), seed
            )
            for k in range(len(data.schema.classes))
        ]
        seconds = round(time.monotonic() - started, 1)
        x, y = data.tensors(data.split.test)
        densities = [mixture.score_samples(real.flat(x)) for mixture in mixtures]
        draws = draw(mixtures, real.y)
        numbers = measure_draws(real, draws, draws, real.y)
    return {
        "accuracy": float((np.argmax(densities, 0) == y.numpy()).mean()),
        "test_rows": len(x),
        "label_seed": seed,
        **numbers,
        **measured_here(
            f"GaussianMixture, components {[m.n_components for m in mixtures]}", seconds
        ),
    }


def fit_class(x: Array, held_out: Array, seed: int) -> GaussianMixture:
    """A mixture of the rows of a class; held-out rows choose its number of components."""
    fitted = [
        GaussianMixture(n, reg_covar=NOISE, max_iter=ITERATIONS, random_state=seed).fit(x)
        for n in COMPONENTS
    ]
    return max(fitted, key=lambda mixture: mixture.score(held_out))


def draw(mixtures: list[GaussianMixture], classes: Array) -> Array:
    """A row drawn from the mixture of each of some classes (N,)."""
    draws = np.zeros((len(classes), mixtures[0].means_.shape[1]))
    for k, mixture in enumerate(mixtures):
        places = np.flatnonzero(classes == k)
        if len(places):
            draws[places] = mixture.sample(len(places))[0]
    return draws
