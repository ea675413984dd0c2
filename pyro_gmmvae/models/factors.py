"""The Gaussian-mixture VAE with several categorical latents."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import pyro
import torch
from pyro.distributions import MultivariateNormal, Normal, TorchDistribution
from torch import Tensor, nn

from pyro_gmmvae.distributions import Concrete, GaussianProduct, Tilted, positive_scale
from pyro_gmmvae.errors import GMMVAEError, check_range
from pyro_gmmvae.models.base import MIXTURE, RELAXED, LatentModel
from pyro_gmmvae.models.mixture import FullMixture, Mixture, build_mixture
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.param_store import register
from pyro_gmmvae.ranges import SearchSpace


class FactorGMMVAE(LatentModel):
    """Gaussian-mixture VAE with a relaxed one-hot s and a z for each of several factors::

        p(x, z_1.., s_1..) = p(x|z_1.., s_1..) prod_f p(z_f|s_f) p(s_f)

        p(s_f)     Concrete(pi_y_f, prior_temperature)              s_f (B, K_f)
        p(z_f|s_f) prod_i N(z_f; loc_i, scale_i^2)^(s_f,i) / const  z_f (B, d)
        p(x|.)     likelihood of decoder(z_1, .., s_1, ..)          x (B, *x_shape)

        q(s_f|x)     Concrete(logits_f(x), temperature)                 s_f (B, K_f)
        q(z_f|s_f,x) prod_i N(z_f; loc_f,i(x), scale_f,i(x)^2)^(s_f,i)  z_f (B, d)

    The first factor is the class y (sites "s" and "z"); any other factor (view, action, ...) has
    the sites "s_NAME" and "z_NAME" and may be labelled, partly labelled or unlabelled. Each factor
    has its own mixture, as the class of :class:`GMMVAE` has; with the class as the only factor it
    is that model under its product guide.

    Labels are y (B,), of the class alone, or (B, 1 + F), a column per factor in their order;
    -1: unlabelled.

    Args:
        x_shape: shape of one observation.
        components: K of the class, at least the number of classes.
        latent_dim: d, the size of each z.
        factors: names of the other factors, each with its number of components.
        network, likelihood, learn_prior, covariance, options: as for :class:`GMMVAE`.
        temperature, prior_temperature, label_eps: as for :class:`GMMVAE`.
        tilted: q(s_f|x) of each factor is its prior with other class probabilities, as under the
            guide ``tilted``, with one class drawn; the temperature is then that of the prior.

    Raises:
        GMMVAEError: sizes, temperatures or names out of range.

    Reference:
        SSII 2020 (person identification from OpenPose skeletons), where z represents
        the direction of view; several categorical factors are its generalization.
    """

    latents: tuple[str, ...] = ("s", "z")
    class_site = "s"
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
        tilted: bool = False,
        options: NetworkOptions | None = None,
    ) -> None:
        super().__init__(
            x_shape, components=components, latent_dim=latent_dim, network=network, options=options
        )
        self.tilted = tilted
        self.factors = {"": components} | dict(factors or {})
        for name, K in self.factors.items():
            check_range(f"components_{name}".rstrip("_"), K, K >= 1, "at least 1")
            if name and not name.isidentifier():
                raise GMMVAEError(f"factor {name!r}: a name of letters, digits and _ is needed")
        check_range("temperature", temperature, temperature > 0, "positive")
        check_range("prior_temperature", prior_temperature, prior_temperature > 0, "positive")
        check_range("label_eps", label_eps, 0 < label_eps < 1, "between 0 and 1")
        self.mixtures = nn.ModuleList(
            build_mixture(
                covariance,
                K,
                latent_dim,
                learn_prior=learn_prior,
                label_eps=label_eps,
                prior_temperature=prior_temperature,
            )
            for K in self.factors.values()
        )
        self.head_sizes = [K * (1 + 2 * latent_dim) for K in self.factors.values()]
        self.encoder = self.build_encoder(sum(self.head_sizes))
        in_size = sum(latent_dim + K for K in self.factors.values())
        self.observation = self.build_observation(in_size, likelihood)
        self.register_buffer("temperature", torch.tensor(temperature))
        self.latents = tuple(_site(letter, name) for name in self.factors for letter in "sz")
        self.label_sites = tuple(_site("s", name) for name in self.factors)

    @property
    def mixture_priors(self) -> Mapping[str, Mixture]:
        return dict(zip(self.factors, self.mixtures, strict=True))  # type: ignore[arg-type]

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        """p(x, z_1.., s_1..) for rows x (B, *x_shape) and labels y (B,) or (B, 1 + F)."""
        register(mixtures=self.mixtures, observation=self.observation)
        z, s = [], []
        with pyro.plate("rows", len(x)):
            for name, mixture, label in self._labelled_mixtures(y):
                s += [pyro.sample(_site("s", name), mixture.prior(len(x), label, relaxed=True))]
                z += [pyro.sample(_site("z", name), mixture(s[-1]))]
            pyro.sample("x", self.observation(*z, *s, given=x), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """prod_f q(s_f|x) q(z_f|s_f,x)."""
        register(encoder=self.encoder)
        heads = self.heads(x)
        with pyro.plate("rows", len(x)):
            for name, mixture, label in self._labelled_mixtures(y):
                logits, loc, scale = heads[name]
                q: TorchDistribution = Concrete(self.temperature, logits=logits)
                if self.tilted:
                    q = Tilted(mixture.prior(len(x), label, relaxed=True), logits)
                s = pyro.sample(_site("s", name), q)
                pyro.sample(_site("z", name), GaussianProduct(s, loc, scale))

    def _labelled_mixtures(self, y: Tensor | None) -> list[tuple[str, Mixture, Tensor | None]]:
        """Name, mixture and labels of each factor; a single column of labels is the class."""
        columns: Sequence[Tensor | None] = [None] * len(self.factors)
        if y is not None:
            labels = y.unsqueeze(-1) if y.dim() == 1 else y
            columns = [*labels.unbind(-1), *columns[labels.shape[-1] :]]
        priors = self.mixture_priors
        return list(zip(priors, priors.values(), columns, strict=True))

    def heads(self, x: Tensor) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        """logits (B, K_f), loc and scale (B, K_f, d) of each factor by name."""
        d, heads = self.latent_dim, {}
        parts = self.encoder(x).split(self.head_sizes, -1)
        for (name, K), part in zip(self.factors.items(), parts, strict=True):
            logits, loc, raw_scale = part.split([K, K * d, K * d], -1)
            scale = positive_scale(raw_scale.view(-1, K, d))
            heads[name] = (logits, loc.view(-1, K, d), scale)
        return heads

    def classify(self, x: Tensor) -> Tensor:
        """log q(y|x) of the class, (B, K), in nats."""
        return self.heads(x)[""][0].log_softmax(-1)

    def classify_factors(self, x: Tensor) -> dict[str, Tensor]:
        """log q(s_f|x) of each factor but the class by name, (B, K_f), in nats."""
        return {name: h[0].log_softmax(-1) for name, h in self.heads(x).items() if name}

    def embed(self, x: Tensor) -> Tensor:
        """Posterior means of all z_f, (B, (1 + F) d), at s_f = softmax(logits_f(x))."""
        return torch.cat(
            [GaussianProduct(h[0].softmax(-1), *h[1:]).mean for h in self.heads(x).values()], -1
        )

    def observe(
        self, z: Tensor, s: Tensor | None = None, given: Tensor | None = None
    ) -> TorchDistribution:
        """p(x|z_1.., s_1..), batch shape (B,).

        Args:
            z: (B, (1 + F) d), all z_f in one row, as :meth:`embed` returns them.
            s: (B, K) of the class, with uniform other factors, or (B, K_1 + K_2 + ...).
            given: as for :meth:`LatentModel.observe`.
        """
        return self.observation(z, self._all_factors(self.require_class(s)), given=given)

    def prior_of_z(self, s: Tensor) -> TorchDistribution:
        """p(z_1..|s_1..), event shape ((1 + F) d,); s as for :meth:`observe`."""
        parts = self._all_factors(s).split(list(self.factors.values()), -1)
        products = [p(part) for p, part in zip(self.mixture_priors.values(), parts, strict=True)]
        loc = torch.cat([product.mean for product in products], -1)
        if not isinstance(self.mixtures[0], FullMixture):
            return Normal(loc, torch.cat([product.stddev for product in products], -1)).to_event(1)
        d, covariance = self.latent_dim, loc.new_zeros(*loc.shape, loc.shape[-1])
        for f, product in enumerate(products):
            block = slice(f * d, (f + 1) * d)
            covariance[..., block, block] = product.covariance_matrix
        return MultivariateNormal(loc, covariance)

    def _all_factors(self, s: Tensor) -> Tensor:
        """s of all factors, from s (B, K) of the class with the other factors uniform."""
        if s.shape[-1] > self.components or len(self.factors) == 1:
            return s
        others = list(self.factors.values())[1:]
        return torch.cat([s, *(s.new_full((len(s), K), 1 / K) for K in others)], -1)

    def observe_draws(
        self, n: int, label: int | None = None, given: Tensor | None = None
    ) -> TorchDistribution:
        """p(x|.) at n draws, with s one-hot of class ``label``, everything else from its prior.

        Raises:
            GMMVAEError: ``label`` is not a component.
        """
        z, s = [], []
        fixed = None if label is None else self.one_hot(label, n)[:, : self.components]
        for name, mixture in self.mixture_priors.items():
            drawn = mixture.prior(n, None, relaxed=True).sample()
            s += [drawn if name or fixed is None else fixed]
            z += [mixture(s[-1]).rsample()]
        return self.observe(torch.cat(z, -1), torch.cat(s, -1), given)

    @property
    def scheduled(self) -> dict[str, Tensor]:
        """The temperature of q, and that of each factor's prior."""
        return {"temperature": self.temperature} | {
            _site("prior_temperature", name): mixture.prior_temperature
            for name, mixture in self.mixture_priors.items()
        }


def _site(text: str, factor: str) -> str:
    return f"{text}_{factor}" if factor else text
