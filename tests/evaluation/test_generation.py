"""Measures of draws: by hand-made sets, and by loops over all pairs."""

import numpy as np
import pytest
import torch
from pyro.distributions import Normal
from torch.distributions import kl_divergence

from pyro_gmmvae.distributions import positive_scale
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.evaluation import (
    active_units,
    fit_judge,
    kl_of_units,
    nearest,
    neighbor_measures,
    relative_spread,
    share_recognized,
)
from pyro_gmmvae.models import MODELS
from pyro_gmmvae.objectives.draws import draw


def rows(n: int, seed: int, size: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, size))


def by_loops(real: np.ndarray, draws: np.ndarray, k: int) -> dict[str, float]:
    """The formulas of the papers, a pair of rows at a time."""

    def radius(rows: np.ndarray, i: int) -> float:
        others = sorted(np.linalg.norm(rows[i] - other) for j, other in enumerate(rows) if j != i)
        return float(others[k - 1])

    real_radius = [radius(real, i) for i in range(len(real))]
    draw_radius = [radius(draws, j) for j in range(len(draws))]
    apart = [[np.linalg.norm(x - d) for d in draws] for x in real]
    N, M = range(len(real)), range(len(draws))
    return {
        "precision": np.mean([any(apart[i][j] <= real_radius[i] for i in N) for j in M]),
        "recall": np.mean([any(apart[i][j] <= draw_radius[j] for j in M) for i in N]),
        "density": sum(apart[i][j] <= real_radius[i] for i in N for j in M) / (k * len(draws)),
        "coverage": np.mean([any(apart[i][j] <= real_radius[i] for j in M) for i in N]),
    }


@pytest.mark.parametrize("k", [1, 3, 5])
def test_the_measures_are_those_of_loops_over_all_pairs(k: int) -> None:
    real, draws = rows(40, 0), rows(30, 1) + 0.7
    assert neighbor_measures(real, draws, k) == pytest.approx(by_loops(real, draws, k))


def test_identical_sets_have_all_of_it() -> None:
    found = neighbor_measures(rows(100, 0), rows(100, 0))
    assert found["precision"] == found["recall"] == found["coverage"] == 1
    # a draw lies in the ball of its own row, and on average in those of 5 others
    assert found["density"] == pytest.approx(6 / 5)


def test_disjoint_sets_have_nothing_of_it() -> None:
    assert set(neighbor_measures(rows(50, 0), rows(50, 1) + 100).values()) == {0.0}


def test_a_generator_of_one_mode_is_precise_and_recalls_little() -> None:
    modes = 10 * np.eye(5)[np.arange(200) % 5]
    real = rows(200, 0, 5) + modes
    found = neighbor_measures(real, rows(200, 1, 5) * 0.3 + modes[0])
    assert found["precision"] == 1
    assert found["density"] > 1
    assert found["recall"] < 0.1
    assert found["coverage"] < 0.21
    fair = neighbor_measures(real, rows(200, 1, 5) + modes)
    assert min(fair["recall"], fair["coverage"]) > 0.8


def test_draws_that_are_all_equal_recall_nothing() -> None:
    found = neighbor_measures(rows(50, 0), np.zeros((50, 3)))
    assert found["recall"] == 0
    assert found["precision"] == 1


@pytest.mark.parametrize(("real", "draws"), [(5, 50), (50, 5)])
def test_recall_needs_more_rows_than_neighbors(real: int, draws: int) -> None:
    with pytest.raises(GMMVAEError, match=f"at least 6 draws.*{draws} draws and {real} real rows"):
        neighbor_measures(rows(real, 0), rows(draws, 1))


@pytest.mark.parametrize("y", [[-1] * 6, [2] * 6, [-1, 2] * 3])
def test_a_judge_needs_two_classes(y: list[int]) -> None:
    with pytest.raises(GMMVAEError, match=r"at least 2 classes; found [01]"):
        fit_judge(rows(6, 0), np.array(y))


def test_a_judge_recognizes_classes_that_are_far_apart() -> None:
    y = np.arange(60) % 3
    x = rows(60, 0) * 0.1 + 5 * np.eye(3)[y]
    judge = fit_judge(x, np.where(np.arange(60) < 45, y, -1))
    assert share_recognized(judge, x, y) == 1
    assert share_recognized(judge, x, (y + 1) % 3) == 0
    # unknown classes are left out
    assert share_recognized(judge, x, np.where(y == 0, -1, np.where(y == 1, 1, 0))) == 0.5
    assert share_recognized(judge, x, np.full(60, -1)) is None


def test_spread_is_within_classes() -> None:
    y = np.arange(400) % 2
    real = rows(400, 0) + 50 * y[:, None]
    half = 0.5 * (real - 50 * y[:, None]) + 7 * y[:, None]
    assert relative_spread(real, y, half, y) == pytest.approx(0.5)
    assert relative_spread(real, y, np.zeros_like(real) + y[:, None], y) == 0
    # a class that is all alike, or is missing in one of the sets, has no ratio
    assert relative_spread(np.zeros((4, 3)), np.zeros(4, int), half, y) is None
    assert relative_spread(real, y, half, y + 2) is None
    assert relative_spread(real, np.full(400, -1), half, np.full(400, -1)) is None


def test_the_nearest_row() -> None:
    found, places = nearest(np.array([[0.0, 0], [3, 4]]), np.array([[3.0, 3], [0, 2]]))
    assert found.tolist() == [2, 1]
    assert places.tolist() == [1, 0]


def test_active_units_vary_over_rows() -> None:
    means = rows(1000, 0, 4) * np.array([1, 0.2, 0.05, 0]) + 10
    assert active_units(means) == 2


def build(name: str) -> torch.nn.Module:
    given = {} if name == "vae" else {"components": 3}
    return MODELS[name]((4,), latent_dim=2, likelihood="normal", **given).eval()


def test_kl_of_units_of_a_vae_is_that_of_its_two_gaussians() -> None:
    model, x = build("vae"), torch.randn(300, 4)
    found = kl_of_units(model.model, model.guide, x, model.latents)
    loc, raw_scale = model.encoder(x).chunk(2, -1)
    q = Normal(loc, positive_scale(raw_scale))
    exact = kl_divergence(q, Normal(0.0, 1.0)).mean(0)
    assert found == pytest.approx(exact.tolist(), rel=1e-4)


def test_kl_of_units_averages_a_class_that_is_summed_out() -> None:
    model, x = build("m2"), torch.randn(300, 4)
    found = kl_of_units(model.model, model.guide, x, model.latents)
    with torch.no_grad():
        weights = model.classify(x).exp()
        exact = 0
        for k in range(3):
            loc, scale = model.z_given(x, torch.eye(3)[k].expand(300, 3))
            kl = kl_divergence(Normal(loc, scale), Normal(0.0, 1.0))
            exact = exact + (weights[:, k : k + 1] * kl).mean(0)
    assert found == pytest.approx(exact.tolist(), rel=1e-4)


def test_kl_of_units_sums_to_the_kl_of_z() -> None:
    model, x = build("gmmvae"), torch.randn(20000, 4)
    found = kl_of_units(model.model, model.guide, x, model.latents)
    with torch.no_grad():
        sites = draw(model.model, model.guide, x, None, model.latents)
    exact = kl_divergence(sites.guide["z"]["fn"], sites.model["z"]["fn"]).mean().item()
    assert sum(found) == pytest.approx(exact, rel=0.03)


def test_kl_of_units_needs_independent_entries_of_z() -> None:
    model = MODELS["m1m2"]((4,), components=3, latent_dim=2, likelihood="normal").eval()
    assert kl_of_units(model.model, model.guide, torch.randn(9, 4), model.latents) is None
    model = MODELS["gmmvae"]((4,), components=3, latent_dim=2, covariance="full").eval()
    x = torch.rand(9, 4)
    assert kl_of_units(model.model, model.guide, x, model.latents) is None
