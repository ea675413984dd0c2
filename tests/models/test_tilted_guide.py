"""The tilted guide: an exact KL of s, exact gradients, and no temperature of its own."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from pyro_gmmvae.config import Config
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.guides import TiltedGuide
from pyro_gmmvae.models import GMMVAE, GMVAEDiscrete
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.objectives import OBJECTIVES
from pyro_gmmvae.runs import default_config, train
from pyro_gmmvae.sweeps.search_space import space_of

K, D = 3, 2
OPTIONS = NetworkOptions(hidden=(8,), activation="softplus")


def model(guide: Any = TiltedGuide, **more: Any) -> GMMVAE:
    torch.manual_seed(0)
    made = GMMVAE((5,), K, D, guide=guide, label_eps=0.1, options=OPTIONS, **more)
    return made.double()


def one_drawn(of: Any) -> TiltedGuide:
    return TiltedGuide(of, sum_classes=False)


def rows() -> tuple[Tensor, Tensor]:
    x = torch.rand(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return x, torch.tensor([0, 2, -1, -1])


def objective(name: str, of: GMMVAE) -> Any:
    made = OBJECTIVES[name](of.model, of.guide, latents=of.latents, label_sites=of.label_sites)
    return made.double()


@pytest.mark.parametrize("guide", [TiltedGuide, one_drawn])
@pytest.mark.parametrize("name", ["analytic", "categorical", "trace"])
def test_the_kl_of_s_is_that_of_the_classes(guide: Any, name: str) -> None:
    """Exact for each label's prior; of one drawn class, the trace's is so on average."""
    of, (x, y) = model(guide), rows()
    q = Categorical(logits=of.guide.class_logits(x))
    exact = kl_divergence(q, Categorical(logits=of.prior_of_s(len(x), y).logits)).mean()
    draws = [objective(name, of)(x, y).parts["kl_s"] for _ in range(500)]
    if guide is TiltedGuide or name != "trace":
        torch.testing.assert_close(torch.stack(draws), exact.detach().expand(500))
    else:
        values = torch.stack(draws)
        assert values.std() > 0
        assert abs(values.mean() - exact) < 5 * values.std() / 500**0.5


@pytest.mark.parametrize("name", ["analytic", "trace", "iwae"])
def test_a_sum_over_classes_has_exact_gradients(name: str) -> None:
    """Every parameter against a finite difference in a random direction, with the same noise."""
    of, (x, y) = model(learn_prior=True), rows()
    built = objective(name, of)

    def loss() -> Tensor:
        torch.manual_seed(2)
        return built(x, y).loss

    loss().backward()
    for parameter in of.parameters():
        direction = torch.randn_like(parameter)
        assert parameter.grad is not None
        slope, step = (parameter.grad * direction).sum(), 1e-6
        with torch.no_grad():
            parameter += step * direction
            above = loss()
            parameter -= 2 * step * direction
            below = loss()
            parameter += step * direction
        torch.testing.assert_close(slope, (above - below) / (2 * step), rtol=1e-4, atol=1e-7)


def test_one_drawn_class_decodes_once() -> None:
    x, y = rows()
    for guide, decodings in ((TiltedGuide, K), (one_drawn, 1)):
        of, sizes = model(guide), []
        of.observation.decoder.register_forward_hook(lambda _m, _i, out, to=sizes: to.append(out))
        objective("analytic", of)(x, y)
        assert sum(out[..., 0].numel() for out in sizes) == decodings * len(x)


def test_it_has_the_temperature_of_the_prior(tmp_path: Any) -> None:
    of = model(prior_temperature=0.3)
    assert set(of.scheduled) == {"prior_temperature"}
    assert "guide.temperature" not in of.state_dict()
    with pytest.raises(GMMVAEError, match=r"'tilted' does not use temperature.* prior_temperature"):
        default_config("digits", {"guide": "tilted", "temperature": 0.4})
    config = default_config("digits", {"guide": "tilted", "prior_temperature": "1:0.5:4"})
    assert "temperature" not in config.model_fields_set
    assert "temperature" not in space_of(config)
    assert "temperature" in space_of(config.replace(guide="product"))
    small: Config = config.replace(epochs=1, hidden=(8,), latent_dim=2)
    assert train(small, tmp_path / "run").model.mixture.prior_temperature < 1  # type: ignore


def test_a_discrete_s_is_refused() -> None:
    with pytest.raises(GMMVAEError, match=r"needs a relaxed s.*GMVAEDiscrete is discrete"):
        GMVAEDiscrete((5,), K, D, guide=TiltedGuide)
