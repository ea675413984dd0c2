"""Samplers: built anew for each trial, they still learn from earlier trials."""

import pytest
from optuna.study import create_study

from pyro_gmmvae.ranges import Choice, Real
from pyro_gmmvae.sweeps import SAMPLERS
from pyro_gmmvae.sweeps.search_space import optuna_distributions
from pyro_gmmvae.sweeps.study import build_sampler, quiet

SPACE = {"x": Real(1e-4, 1.0, log=True), "kind": Choice(("good", "bad"))}


def values(name: str, trials: int) -> list[float]:
    """Values of a bowl around x = 0.01, three times as high with kind "bad"; 0 is the best."""
    with quiet():
        study = create_study(direction="maximize")
        for asked in range(trials):
            study.sampler = build_sampler(name, 0, asked)
            trial = study.ask(optuna_distributions(SPACE))
            away = abs(trial.params["x"] / 0.01 - 1) if trial.params["x"] > 0.01 else 1.0
            study.tell(trial, -away * (3 if trial.params["kind"] == "bad" else 1))
        return [trial.value for trial in study.trials]


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_same_seed_draws_the_same_trials(name: str) -> None:
    assert values(name, 12) == values(name, 12)


def test_the_gaussian_process_improves_with_trials() -> None:
    found = values("gp", 18)
    assert max(found[10:]) > max(found[:10])
    assert sum(found[10:]) / 8 > sum(found[:10]) / 10
