"""The Gaussian-mixture VAE with several categorical latents."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pyro
import torch
from torch import Tensor, nn

from pyro_gmmvae.config import MIXTURE, RELAXED, SearchSpace
from pyro_gmmvae.distributions import Concrete, GaussianProduct, positive_scale
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.models.checks import check_range, check_sizes
from pyro_gmmvae.models.labels import vertex
from pyro_gmmvae.models.mixture import build_mixture
from pyro_gmmvae.models.observation import Observation, network_pair
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.param_store import register


class FactorGMMVAE(nn.Module):
    """Gaussian-mixture VAE with a relaxed one-hot s and a z for each of several factors::

        p(x, z_1.., s_1..) = p(x|z_1.., s_1..) prod_f p(z_f|s_f) p(s_f)

        p(s_f)     Concrete(pi_y_f, prior_temperature)              s_f (B, K_f)
        p(z_f|s_f) prod_i N(z_f; loc_i, scale_i^2)^(s_f,i) / const  z_f (B, d)
        p(x|.)     likelihood of decoder(z_1, .., s_1, ..)          x (B, *x_shape)

        q(s_f|x)     Concrete(logits_f(x), temperature)                 s_f (B, K_f)
        q(z_f|s_f,x) prod_i N(z_f; loc_f,i(x), scale_f,i(x)^2)^(s_f,i)  z_f (B, d)

    The first factor is the class y (sites "s" and "z"); a further one (view, action, ...) has
    sites "s_NAME" and "z_NAME" and may be labelled, partly or not at all. Each has its own
    mixture, as :class:`GMMVAE` has one; with no further factor it is that model under its
    product guide.

    Labels are y (B,), of the class alone, or (B, 1 + F), a column per factor in their order;
    -1: unknown.

    Args:
        x_shape: shape of one observation.
        components: K of the class, at least the number of classes.
        latent_dim: d, the size of each z.
        factors: names of the further factors, each with its number of components.
        network, likelihood, learn_prior, covariance, options: as of :class:`GMMVAE`.
        temperature, prior_temperature, label_eps: as of :class:`GMMVAE`.

    Raises:
        GMMVAEError: sizes, temperatures or names out of range.

    Reference:
        SSII 2020 (person identification from OpenPose skeletons), where the direction of view
        is left to z; several categorical factors are its generalization.
    """

    latents: tuple[str, ...] = ("s", "z")
    label_site = "s"
    class_conditional = True
    search_space: ClassVar[SearchSpace] = {**MIXTURE, **RELAXED}
    temperature: Tensor

    def __init__(
        self,
        x_shape: tuple[int, ...],
        components: int,
        latent_dim: int,
        *,
        factors: Mapping[str, int] | None = None,
        network: str = "mlp",
        likelihood: str = "bernoulli",
        temperature: float = 0.5,
        prior_temperature: float = 0.5,
        label_eps: float = 1e-3,
        learn_prior: bool = False,
        covariance: str = "diagonal",
        options: NetworkOptions | None = None,
    ) -> None:
        super().__init__()
        self.sizes = {"": components} | dict(factors or {})
        for name, K in self.sizes.items():
            check_sizes(**{f"components_{name}".rstrip("_"): K}, latent_dim=latent_dim)
            if name and not name.isidentifier():
                raise GMMVAEError(f"factor {name!r}: a name of letters, digits and _ is needed")
        check_range("temperature", temperature, temperature > 0, "positive")
        check_range("prior_temperature", prior_temperature, prior_temperature > 0, "positive")
        check_range("label_eps", label_eps, 0 < label_eps < 1, "between 0 and 1")
        self.x_shape, self.components, self.latent_dim = tuple(x_shape), components, latent_dim
        options = options or NetworkOptions()
        self.mixtures = nn.ModuleList(
            build_mixture(
                covariance,
                K,
                latent_dim,
                learn_prior=learn_prior,
                label_eps=label_eps,
                prior_temperature=prior_temperature,
            )
            for K in self.sizes.values()
        )
        heads = [K * (1 + 2 * latent_dim) for K in self.sizes.values()]
        self.heads_sizes = heads
        self.encoder = network_pair(network)[0](self.x_shape, sum(heads), options)
        in_size = sum(latent_dim + K for K in self.sizes.values())
        self.observation = Observation(in_size, self.x_shape, network, likelihood, options)
        self.register_buffer("temperature", torch.tensor(temperature))
        self.label_sites = tuple(_site("s", name) for name in self.sizes)
        self.latents = tuple(_site(letter, name) for name in self.sizes for letter in "sz")

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        """p(x, z_1.., s_1..) for rows x (B, *x_shape) and labels y (B,) or (B, 1 + F)."""
        register(mixtures=self.mixtures, observation=self.observation)
        z, s = [], []
        with pyro.plate("rows", len(x)):
            for name, mixture, label in self._factors(y):
                s += [pyro.sample(_site("s", name), mixture.prior(len(x), label, relaxed=True))]
                z += [pyro.sample(_site("z", name), mixture(s[-1]))]
            pyro.sample("x", self.observation(*z, *s), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:  # noqa: ARG002
        """prod_f q(s_f|x) q(z_f|s_f,x)."""
        register(encoder=self.encoder)
        with pyro.plate("rows", len(x)):
            for name, (logits, loc, scale) in self.heads(x).items():
                s = pyro.sample(_site("s", name), Concrete(self.temperature, logits=logits))
                pyro.sample(_site("z", name), GaussianProduct(s, loc, scale))

    def _factors(self, y: Tensor | None) -> list[tuple[str, Any, Tensor | None]]:
        """Name, mixture and labels of each factor; one column of labels is the class."""
        columns: Sequence[Tensor | None] = [None] * len(self.sizes)
        if y is not None:
            given = y.unsqueeze(-1) if y.dim() == 1 else y
            columns = [*given.unbind(-1), *columns[given.shape[-1] :]]
        return list(zip(self.sizes, self.mixtures, columns, strict=True))

    def heads(self, x: Tensor) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        """logits (B, K_f), loc and scale (B, K_f, d) of each factor by name."""
        d = self.latent_dim
        found = {}
        parts = self.encoder(x).split(self.heads_sizes, -1)
        for (name, K), part in zip(self.sizes.items(), parts, strict=True):
            logits, loc, raw_scale = part.split([K, K * d, K * d], -1)
            scale = positive_scale(raw_scale.view(-1, K, d))
            found[name] = (logits, loc.view(-1, K, d), scale)
        return found

    def classify(self, x: Tensor) -> Tensor:
        """log q(y|x) of the class, (B, K), in nats."""
        return self.heads(x)[""][0].log_softmax(-1)

    def classify_factors(self, x: Tensor) -> dict[str, Tensor]:
        """log q(y_f|x) of each further factor, (B, K_f), in nats."""
        return {name: h[0].log_softmax(-1) for name, h in self.heads(x).items() if name}

    def embed(self, x: Tensor) -> Tensor:
        """Posterior means of all z_f, (B, (1 + F) d), at s_f = softmax(logits_f(x))."""
        return torch.cat(
            [GaussianProduct(h[0].softmax(-1), *h[1:]).mean for h in self.heads(x).values()], -1
        )

    def decode(self, z: Tensor, s: Tensor) -> Tensor:
        """Mean of p(x|z_1.., s_1..), (B, *x_shape).

        Args:
            z: (B, (1 + F) d), all z_f one after the other, as :meth:`embed` gives them.
            s: (B, K) of the class, further factors being undecided, or (B, K_1 + K_2 + ...).
        """
        return self.observation(z, self._all_factors(s)).mean

    def z_prior(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of p(z_1..|s_1..), both (B, (1 + F) d); s as in decode."""
        parts = self._all_factors(s).split(list(self.sizes.values()), -1)
        products = [mixture(part) for mixture, part in zip(self.mixtures, parts, strict=True)]
        return torch.cat([p.mean for p in products], -1), torch.cat(
            [p.stddev for p in products], -1
        )

    def _all_factors(self, s: Tensor) -> Tensor:
        """s (B, K) of the class alone with further factors undecided; of all as it is."""
        if s.shape[-1] > self.components or len(self.sizes) == 1:
            return s
        further = list(self.sizes.values())[1:]
        return torch.cat([s, *(s.new_full((len(s), K), 1 / K) for K in further)], -1)

    def generate(self, label: int, n: int) -> Tensor:
        """n draws of E[x|.] with s the vertex of class ``label``, all else from its prior.

        Raises:
            GMMVAEError: if ``label`` is not a component.
        """
        z, s = [], []
        for name, mixture, _ in self._factors(None):
            drawn = mixture.prior(n, None, relaxed=True).sample()
            s += [drawn if name else vertex(label, n, self.components, mixture.loc)]
            z += [mixture(s[-1]).rsample()]
        return self.decode(torch.cat(z, -1), torch.cat(s, -1))

    @property
    def knobs(self) -> dict[str, Tensor]:
        """The scalars a schedule may move while training, as 0-dimensional buffers."""
        found = {"temperature": self.temperature}
        for name, mixture, _ in self._factors(None):
            found[_site("prior_temperature", name)] = mixture.prior_temperature
        return found


def _site(text: str, factor: str) -> str:
    return f"{text}_{factor}" if factor else text
