"""Samplers: how the next trial's settings are chosen, each by a word."""

import hashlib
from collections.abc import Callable
from typing import Any

from pyro_gmmvae.errors import unknown_name


def _gp(seed: int) -> Any:
    """A Gaussian process and its expected improvement, after ten random trials."""
    from optuna.samplers import GPSampler

    return GPSampler(seed=seed)


def _tpe(seed: int) -> Any:
    """Densities of good and of other trials (tree-structured Parzen estimator), after ten."""
    from optuna.samplers import TPESampler

    # trials under way count as poor ones, so that processes do not all ask for one place
    return TPESampler(seed=seed, constant_liar=True)


def _random(seed: int) -> Any:
    """Independent draws: what the others have to beat."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


SAMPLERS: dict[str, Callable[[int], Any]] = {"gp": _gp, "tpe": _tpe, "random": _random}


def check_sampler(name: str) -> None:
    """Refuse an unknown name."""
    if name not in SAMPLERS:
        raise unknown_name("sampler", name, list(SAMPLERS))


def sampler_of(name: str, seed: int, asked: int) -> Any:
    """A sampler for one trial alone, so that a study that is resumed goes on as if it had not been.

    Args:
        name: a key of ``SAMPLERS``.
        seed: of the study.
        asked: how many trials were asked for before.
    """
    digest = hashlib.sha256(f"{seed} {asked}".encode()).digest()
    return SAMPLERS[name](int.from_bytes(digest[:4], "little"))
