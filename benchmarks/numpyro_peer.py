"""The Gaussian-mixture VAE in NumPyro, for the speed benchmark where NumPyro is installed."""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import torch
from jax.example_libraries import stax
from numpyro.distributions import constraints
from numpyro.infer import SVI, Trace_ELBO
from peers import PIXELS, HandWritten
from torch import Tensor

from pyro_gmmvae.distributions.likelihoods import SMALLEST_SCALE
from pyro_gmmvae.errors import GMMVAEError


class Concrete(dist.Distribution):
    """The relaxed one-hot categorical, which NumPyro does not have."""

    support = constraints.simplex
    reparametrized_params: ClassVar = ["logits"]

    def __init__(self, temperature: float, logits: Any) -> None:
        self.temperature, self.logits = temperature, logits
        super().__init__(logits.shape[:-1], logits.shape[-1:])

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Any:
        gumbel = jax.random.gumbel(key, sample_shape + self.logits.shape)
        return jax.nn.softmax((self.logits + gumbel) / self.temperature, -1)

    def log_prob(self, value: Any) -> Any:
        K, t = self.logits.shape[-1], self.temperature
        log_s = jnp.log(jnp.clip(value, 1e-30))
        scores = self.logits - t * log_s
        constant = math.lgamma(K) + (K - 1) * math.log(t)
        total = (scores - jax.nn.logsumexp(scores, -1, keepdims=True)).sum(-1)
        return constant + total - log_s.sum(-1)


def network(*sizes: int) -> Any:
    layers: list[Any] = []
    for width in sizes:
        layers += [stax.Dense(width), stax.Relu]
    return stax.serial(*layers[:-1])


def positive(raw: Any) -> Any:
    """As ``pyro_gmmvae.distributions.positive_scale``."""
    return jax.nn.softplus(raw + math.log(math.e - 1)) + SMALLEST_SCALE


class NumPyro:
    """The model, guide and jitted step in NumPyro, from the weights of the hand-written module."""

    def __init__(self, raw: HandWritten, hidden: tuple[int, ...], x: Tensor, rate: float) -> None:
        self.K, self.d, self.t = raw.K, raw.d, raw.temperature
        self.decoder = network(*hidden, PIXELS)
        self.encoder = network(*hidden, self.K * (1 + 2 * self.d))
        self.svi = SVI(self.model, self.guide, numpyro.optim.Adam(rate), Trace_ELBO())
        weights = {
            "loc": _array(raw.loc),
            "raw_scale": _array(raw.raw_scale),
            "decoder$params": _layers(raw.decoder),
            "encoder$params": _layers(raw.encoder),
        }
        self.x = jnp.asarray(x.numpy())
        self.state = self.svi.init(jax.random.PRNGKey(0), self.x[:2], init_params=weights)
        self.update = jax.jit(lambda state, rows: self.svi.update(state, self.x[rows]))

    def model(self, x: Any) -> None:
        decoder = numpyro.module("decoder", self.decoder, (len(x), self.d + self.K))
        loc = numpyro.param("loc", jnp.zeros((self.K, self.d)))
        raw = numpyro.param("raw_scale", jnp.zeros((self.K, self.d)))
        with numpyro.plate("data", len(x)):
            logits = jnp.full((len(x), self.K), -math.log(self.K))
            s = numpyro.sample("s", Concrete(self.t, logits))
            precisions = 1 / positive(raw) ** 2
            precision = s @ precisions
            mean = (s @ (precisions * loc)) / precision
            z = numpyro.sample("z", dist.Normal(mean, precision**-0.5).to_event(1))
            image = decoder(jnp.concatenate([z, s], -1))
            # its Bernoulli refuses gray values between 0 and 1, which Pyro's takes
            numpyro.factor("x", (x * image - jax.nn.softplus(image)).sum(-1))

    def guide(self, x: Any) -> None:
        encoder = numpyro.module("encoder", self.encoder, (len(x), PIXELS))
        K, d = self.K, self.d
        logits, loc, raw = jnp.split(encoder(x), [K, K + K * d], -1)
        loc, scale = loc.reshape(-1, K, d), positive(raw.reshape(-1, K, d))
        with numpyro.plate("data", len(x)):
            s = numpyro.sample("s", Concrete(self.t, jax.nn.log_softmax(logits, -1)))
            precisions = s[..., None] / scale**2
            precision = precisions.sum(1)
            mean = (precisions * loc).sum(1) / precision
            numpyro.sample("z", dist.Normal(mean, precision**-0.5).to_event(1))

    def loss(self, rows: Any) -> float:
        """Minus the ELBO per row, of one draw."""
        loss = self.svi.loss.loss(
            self.state.rng_key,
            self.svi.get_params(self.state),
            self.model,
            self.guide,
            self.x[rows],
        )
        return float(loss) / len(rows)

    def step(self, rows: Any) -> None:
        """Take one update, and wait for it."""
        self.state, loss = self.update(self.state, rows)
        loss.block_until_ready()

    def batches(self, size: int) -> Any:
        """Endless row numbers."""
        random = np.random.default_rng(0)
        while True:
            order = random.permutation(len(self.x))
            yield from ((order[i : i + size],) for i in range(0, len(order) - size + 1, size))


def check(peer: NumPyro, loss: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """Check that the loss equals the hand-written one up to noise, from other generators."""
    wanted = float(torch.stack([loss(x[:1000]).detach() for _ in range(20)]).mean())
    found = peer.loss(np.arange(len(x[:1000])))
    if abs(found - wanted) > 0.005 * wanted:
        raise GMMVAEError(f"NumPyro's loss is {found:.2f}, the hand-written one {wanted:.2f}")


def _array(tensor: Tensor) -> Any:
    return jnp.asarray(tensor.detach().numpy())


def _layers(module: Any) -> list[Any]:
    """A Sequential's weights as stax keeps them."""
    return [(_array(m.weight).T, _array(m.bias)) if len([*m.parameters()]) else () for m in module]
