"""The configuration keys of a fit."""

import math
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch
from pyro.distributions import Normal
from torch import Tensor, nn

from pyro_gmmvae.config import Config
from pyro_gmmvae.datasets import DATA, FILE_PRESETS
from pyro_gmmvae.distributions import Concrete, positive_scale
from pyro_gmmvae.errors import GMMVAEError, UnknownNameError
from pyro_gmmvae.key_types import Schedule
from pyro_gmmvae.models import MODELS, LatentModel
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.param_store import register
from pyro_gmmvae.runs import Run, default_config, train
from pyro_gmmvae.runs.build import resolve
from pyro_gmmvae.runs.keys import all_keys, configure, own_keys

SMALL: dict[str, Any] = {"epochs": 1, "hidden": "16", "latent_dim": 3, "engine": "svi"}


class TwoLatents(LatentModel):
    """A Concrete c beside a Gaussian z.

    Args:
        x_shape, components, latent_dim, network, likelihood, options: as for another model.
        temperature: of q(c|x).
        ballast: weight of nothing.
    """

    latents = ("c", "z")
    class_site = "c"
    class_conditional = True

    def __init__(
        self,
        x_shape: tuple[int, ...],
        components: int,
        latent_dim: int,
        *,
        network: str = "mlp",
        likelihood: str = "bernoulli",
        temperature: float = 0.67,
        ballast: float = 1.0,
        options: NetworkOptions | None = None,
    ) -> None:
        super().__init__(
            x_shape, components=components, latent_dim=latent_dim, network=network, options=options
        )
        self.ballast = ballast
        self.register_buffer("temperature", torch.tensor(temperature))
        self.encoder: nn.Module = self.build_encoder(components + 2 * latent_dim)
        self.observation = self.build_observation(components + latent_dim, likelihood)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:  # noqa: ARG002
        register(observation=self.observation)
        with pyro.plate("rows", len(x)):
            c = pyro.sample("c", Concrete(self.temperature, logits=x.new_zeros(len(x), 10)))
            z = pyro.sample("z", self.prior_of_z(c))
            pyro.sample("x", self.observation(z, c), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:  # noqa: ARG002
        register(encoder=self.encoder)
        logits, loc, scale = self.heads(x)
        with pyro.plate("rows", len(x)):
            pyro.sample("c", Concrete(self.temperature, logits=logits))
            pyro.sample("z", Normal(loc, positive_scale(scale)).to_event(1))

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        d = self.latent_dim
        logits, loc, scale = self.encoder(x).split([self.components, d, d], -1)
        return logits, loc, scale

    def classify(self, x: Tensor) -> Tensor:
        return self.heads(x)[0].log_softmax(-1)

    def embed(self, x: Tensor) -> Tensor:
        return self.heads(x)[1]


@pytest.fixture
def own_model(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(MODELS, "two-latents", TwoLatents)
    return "two-latents"


def test_a_models_own_default_is_the_default(own_model: str, tmp_path: Path) -> None:
    keys = SMALL | {"model": own_model, "kl_c": "0:1:100", "ballast": "25"}
    run = train(default_config("digits", keys), tmp_path / "run")
    loaded = Run.load(run.path)
    assert loaded.config.get("temperature") == pytest.approx(0.67)
    assert loaded.model.temperature.item() == pytest.approx(0.67)
    assert loaded.model.ballast == 25
    assert loaded.config.get("kl_c") == Schedule(0, 1, 100)
    assert loaded.config.get("kl_s") is None


def test_a_schedule_moves_a_buffer_and_nothing_else(own_model: str, tmp_path: Path) -> None:
    config = default_config("digits", SMALL, {"model": own_model, "temperature": "1:0.5:4"})
    assert config.get("temperature") == Schedule(1, 0.5, 4)
    assert train(config, tmp_path / "run").model.temperature.item() == 0.5
    config = default_config("digits", SMALL, {"model": own_model, "ballast": "1:5:4"})
    with pytest.raises(GMMVAEError, match="ballast can't change during training"):
        train(config, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            {"balast": 1},
            "unknown key 'balast'; did you mean 'ballast'.* has .*kl_c.*temperature",
        ),
        ({"kl_s": 1}, r"kl_s is not a key of the model 'two-latents'.*\(gmmvae, "),
        ({"auxiliary_dim": 3}, r"auxiliary_dim is not a key .*\(adgm, sdgm\)"),
        ({"rank": 3}, r"rank is not a key of the model .*guide that has it \(low-rank\)"),
        ({"ballast": "x"}, "ballast: Input should be a valid number"),
        ({"ballast": "inf"}, "ballast: Input should be a finite number"),
    ],
)
def test_the_error_of_a_key_names_the_keys_of_the_model(
    own_model: str, keys: dict[str, Any], words: str
) -> None:
    with pytest.raises(GMMVAEError, match=words):
        default_config("digits", {"model": own_model}, keys)


def test_a_guide_has_keys_of_its_own() -> None:
    config = default_config("digits", {"guide": "low-rank", "rank": 2})
    assert config.get("rank") == 2
    with pytest.raises(GMMVAEError, match="rank is not a key of the guide 'tilted'"):
        default_config("digits", {"rank": 2})
    assert config.replace(rank=3).get("rank") == 3
    assert "rank" not in own_keys("m2")


def test_a_misspelled_name_is_told_apart_from_a_key_of_another_model() -> None:
    with pytest.raises(UnknownNameError):
        default_config("digits", {"temprature": 1})
    with pytest.raises(GMMVAEError) as caught:
        default_config("digits", {"model": "m2", "temperature": 1})
    assert not isinstance(caught.value, UnknownNameError)


@pytest.mark.parametrize("model", MODELS)
def test_defaults_are_finite_and_survive_their_text(model: str) -> None:
    config = resolve(default_config("digits", {"model": model, "preset": "best"}))
    assert configure(config.model_dump()) == config
    for key, value in config:
        assert not isinstance(value, float) or math.isfinite(value), key


def test_every_key_has_a_meaning_and_every_preset_has_keys() -> None:
    keys = all_keys()
    assert {key for key in Config.model_fields if key in keys} == set(Config.model_fields)
    own = keys.keys() - Config.model_fields.keys()
    assert all(keys[key].description for key in own), own
    for presets in (FILE_PRESETS, *(source.presets for source in DATA.values())):
        for preset in presets.values():
            assert preset.keys() <= keys.keys()


def test_a_ballast_of_none_leaves_the_other_one() -> None:
    config = default_config("digits", {"minutes": 1}, {"epochs": None})
    assert (config.epochs, config.minutes) == (None, 1)
    config = default_config("digits", {"minutes": 1}, {"epochs": 3})
    assert (config.epochs, config.minutes) == (3, None)


@pytest.mark.parametrize("model", [name for name in MODELS if MODELS[name].key_defaults])
def test_a_preset_leaves_the_terms_that_make_a_model(model: str) -> None:
    defaults = MODELS[model].key_defaults
    for name, source in DATA.items():
        for preset in source.presets:
            config = default_config(name, {"preset": preset, "model": model})
            for key, value in defaults.items():
                own = getattr(config, key)
                known = Schedule.parse(value) if isinstance(own, Schedule) else value
                assert own == known, (name, preset, key)
    given = default_config("digits", {"model": model, next(iter(defaults)): 7})
    assert getattr(given, next(iter(defaults))) == Schedule.constant(7)
