"""A model that is not in the package: one file, one entry in the table, and every command works."""

import importlib
import json
import warnings
from pathlib import Path

import pytest
import torch

from pyro_gmmvae.key_types import Schedule
from pyro_gmmvae.models import MODELS
from pyro_gmmvae.runs import Run
from tests.cli.conftest import Gmmvae, gmmvae  # noqa: F401 - a fixture

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # ArviZ announces its refactoring when imported
    import arviz as az

MODULE = '''
"""JointVAE: a continuous z and a relaxed one-hot c, independent of each other."""

import pyro
import torch
from pyro.distributions import Normal

from pyro_gmmvae.distributions import Concrete, positive_scale
from pyro_gmmvae.models import LatentModel
from pyro_gmmvae.param_store import register


class JointVAE(LatentModel):
    """VAE with a continuous and a relaxed discrete latent, independent a priori::

        p(x, z, c) = p(x|z,c) p(z) p(c)

        p(c)      Concrete(1 / K, prior_temperature)   c (B, K)
        p(z)      N(0, I)                              z (B, d)
        p(x|z,c)  likelihood of decoder(z, c)          x (B, *x_shape)

        q(c|x)    Concrete(logits(x), temperature)
        q(z|x)    N(loc(x), scale(x)^2)

    Args:
        x_shape, components, latent_dim, network, options: as for LatentModel.
        likelihood: "bernoulli" (x in [0, 1]) or "normal" (learned scale).
        temperature: of q(c|x).
        prior_temperature: of p(c).

    Reference:
        Dupont 2018, arXiv:1804.00104.
    """

    latents = ("c", "z")
    class_site = "c"
    class_conditional = True

    def __init__(
        self,
        x_shape,
        components,
        latent_dim,
        *,
        network="mlp",
        likelihood="bernoulli",
        temperature: float = 0.67,
        prior_temperature: float = 0.67,
        options=None,
    ):
        super().__init__(
            x_shape, latent_dim=latent_dim, components=components, network=network, options=options
        )
        self.encoder = self.build_encoder(components + 2 * latent_dim)
        self.observation = self.build_observation(latent_dim + components, likelihood)
        self.register_buffer("temperature", torch.tensor(temperature))
        self.register_buffer("prior_temperature", torch.tensor(prior_temperature))

    def model(self, x, y=None):
        register(observation=self.observation)
        flat = x.new_zeros(len(x), self.components)
        with pyro.plate("rows", len(x)):
            c = pyro.sample("c", Concrete(self.prior_temperature, logits=flat))
            z = pyro.sample("z", self.prior_of_z(c))
            pyro.sample("x", self.observation(z, c), obs=x)

    def guide(self, x, y=None):
        register(encoder=self.encoder)
        logits, loc, scale = self.heads(x)
        with pyro.plate("rows", len(x)):
            pyro.sample("c", Concrete(self.temperature, logits=logits))
            pyro.sample("z", Normal(loc, scale).to_event(1))

    def heads(self, x):
        K, d = self.components, self.latent_dim
        logits, loc, raw_scale = self.encoder(x).split([K, d, d], -1)
        return logits, loc, positive_scale(raw_scale)

    def classify(self, x):
        return self.heads(x)[0].log_softmax(-1)

    def embed(self, x):
        return self.heads(x)[1]
'''


@pytest.fixture
def joint_vae(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "joint_vae.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(MODELS, "joint-vae", importlib.import_module("joint_vae").JointVAE)


@pytest.mark.usefixtures("joint_vae")
def test_a_new_model_is_trained_evaluated_drawn_and_exported(
    gmmvae: Gmmvae,  # noqa: F811
    tmp_path: Path,
) -> None:
    assert len(MODULE.splitlines()) < 90
    folder = tmp_path / "run"
    keys = [f"--set={key}" for key in ("hidden=64", "latent_dim=4", "alpha=30", "kl_c=0:1:100")]
    options = ("--model", "joint-vae", "--data", "digits", "--labels", 200, "--epochs", 12)
    trained = gmmvae("train", *options, "--out", folder, *keys)
    assert trained.code == 0, trained.err

    run = Run.load(folder)
    keys_of_run = json.loads((folder / "config.json").read_text())
    for key in ("temperature", "prior_temperature"):  # the constructor's default is the default
        assert f'"{key}": 0.67' in json.dumps(keys_of_run)
        assert run.model.scheduled[key].item() == pytest.approx(0.67)
    assert run.config.get("kl_c") == Schedule(0, 1, 100)
    assert repr(run.model).startswith("p(x, z, c) = p(x|z,c) p(z) p(c)")

    evaluated = gmmvae("evaluate", folder, "--nll-rows", 50, "--samples", 10)
    assert evaluated.code == 0, evaluated.err
    numbers = json.loads((folder / "metrics.json").read_text())["test"]
    assert numbers["accuracy"] > 0.6
    assert -220 < numbers["elbo"] < -120

    drawn = gmmvae("figures", folder)
    assert drawn.code == 0, drawn.err
    pictures = {file.stem for file in (folder / "figures").iterdir()}
    assert pictures >= {
        *("training", "samples", "analogies", "traversal", "interpolation", "latent"),
        *("reconstructions", "confusion", "reliability", "components", "entropy"),
    }
    assert run.generate(2).shape == (10, 2, 1, 8, 8)

    exported = gmmvae("export", folder, "--out", tmp_path / "run.nc", "--rows", 5, "--draws", 10)
    assert exported.code == 0, exported.err
    posterior = az.from_netcdf(tmp_path / "run.nc")["posterior"]
    assert posterior["c"].dims == ("chain", "draw", "row", "component")
    assert posterior["z"].dims == ("chain", "draw", "row", "latent")


@pytest.mark.usefixtures("joint_vae")
def test_schedules_move_the_temperature_of_a_new_model(
    gmmvae: Gmmvae,  # noqa: F811
    tmp_path: Path,
) -> None:
    keys = [f"--set={key}" for key in ("hidden=16", "latent_dim=4", "temperature=1:0.8:4")]
    options = ("--model", "joint-vae", "--data", "digits", "--epochs", 1)
    trained = gmmvae("train", *options, "--out", tmp_path / "run", *keys)
    assert trained.code == 0, trained.err
    model = Run.load(tmp_path / "run").model
    assert model.scheduled["temperature"].item() == pytest.approx(0.8)
    unknown = gmmvae("train", *options, "--out", tmp_path / "other", "--set=kl_s=1")
    assert unknown.code == 2
    assert "kl_s" in unknown.err
    torch.testing.assert_close(model.scheduled["prior_temperature"], torch.tensor(0.67))
