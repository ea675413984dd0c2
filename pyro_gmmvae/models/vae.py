"""AE, DAE, VAE and M1: one encoder and one decoder, in M1 with a classifier on z."""

from typing import Literal

import pyro
import torch
from pyro.distributions import Normal, TorchDistribution
from torch import Tensor

from pyro_gmmvae.distributions import positive_scale
from pyro_gmmvae.errors import GMMVAEError, check_range
from pyro_gmmvae.models.base import LatentModel
from pyro_gmmvae.models.priors import build_prior
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.param_store import register


class AE(LatentModel):
    """Autoencoder, the reference without a density::

        z = encoder(x)                     z (B, d), not a random variable
        p(x|z)  likelihood of decoder(z)   x (B, *x_shape)

    It maximizes log p(x | z = encoder(x)), which is not a bound on log p(x), because x is on
    both sides of the bar: ``evaluate`` reports no bound, and the ELBO shown while training is
    this number. It has no latent sites: the guide is empty. With input noise it is the denoising
    autoencoder.

    Args:
        x_shape, latent_dim, network, likelihood, options: as for :class:`GMMVAE`.

    Reference:
        Hinton, Salakhutdinov 2006, doi:10.1126/science.1127647.
    """

    def __init__(
        self,
        x_shape: tuple[int, ...],
        latent_dim: int,
        *,
        network: str = "mlp",
        likelihood: str = "bernoulli",
        options: NetworkOptions | None = None,
    ) -> None:
        super().__init__(x_shape, latent_dim=latent_dim, network=network, options=options)
        self.encoder = self.build_encoder(latent_dim)
        self.observation = self.build_observation(latent_dim, likelihood)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        """p(x | encoder(x)) for rows x (B, *x_shape)."""
        register(encoder=self.encoder, observation=self.observation)
        z = self.encoder(self.corrupted(x) if self.training else x)
        with pyro.plate("rows", len(x)):
            pyro.sample("x", self.observation(z, given=x), obs=x)

    def corrupted(self, x: Tensor) -> Tensor:
        """The rows that the encoder gets while training: x."""
        return x

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """Sample nothing."""

    def embed(self, x: Tensor) -> Tensor:
        """z, (B, d)."""
        return self.encoder(x)


class DAE(AE):
    """Denoising autoencoder, of rows that are corrupted while training::

        z = encoder(x')                    z (B, d), x' (B, *x_shape) a corrupted row
        p(x|z)  likelihood of decoder(z)   x (B, *x_shape)

    Otherwise it is an :class:`AE`.

    Args:
        x_shape, latent_dim, network, likelihood, options: as for :class:`GMMVAE`.
        corruption: gaussian: noise is added to each entry; mask: entries are set to 0, those of
            the columns of a table to missing.
        corruption_level: the standard deviation of the noise, in units of x, or the probability
            of an entry to be set.

    Reference:
        Vincent et al. 2010, jmlr.org/papers/v11/vincent10a.html.
    """

    def __init__(
        self,
        x_shape: tuple[int, ...],
        latent_dim: int,
        *,
        network: str = "mlp",
        likelihood: str = "bernoulli",
        corruption: Literal["gaussian", "mask"] = "mask",
        corruption_level: float = 0.25,
        options: NetworkOptions | None = None,
    ) -> None:
        super().__init__(
            x_shape, latent_dim, network=network, likelihood=likelihood, options=options
        )
        is_share = corruption == "mask"
        highest, wanted = (1.0, "from 0 to below 1") if is_share else (1e6, "from 0 to 1000000")
        fits = 0 <= corruption_level < highest
        check_range("corruption_level", corruption_level, fits, wanted)
        if self.options.columns and not is_share:
            raise GMMVAEError(
                "noise is for rows of numbers; columns of a table take corruption=mask"
            )
        self.corruption, self.corruption_level = corruption, corruption_level

    def corrupted(self, x: Tensor) -> Tensor:
        """x with noise, or without some entries; a missing entry stays missing."""
        if self.corruption == "gaussian":
            return x + self.corruption_level * torch.randn_like(x)
        hidden = torch.rand_like(x) < self.corruption_level
        return torch.where(hidden & ~x.isnan(), torch.nan if self.options.columns else 0.0, x)


class VAE(LatentModel):
    """Variational autoencoder::

        p(x, z) = p(x|z) p(z)

        p(z)    N(0, I), or another prior        z (B, d)
        p(x|z)  likelihood of decoder(z)         x (B, *x_shape)

        q(z|x)  N(loc(x), scale(x)^2)

    It has no class: labels are accepted and ignored, so that it trains on the same batches.

    Args:
        x_shape, latent_dim, network, likelihood, options: as for :class:`GMMVAE`.
        prior: p(z): normal, mixture (of Gaussians), vamp or flow. All but the first have no
            closed-form KL, so the objective is ``trace`` (or ``iwae``).
        prior_components: components of the priors mixture and vamp.

    Reference:
        Kingma, Welling 2014, arXiv:1312.6114; "M1" in Kingma et al. 2014, arXiv:1406.5298. The
        priors: see :mod:`pyro_gmmvae.models.priors`.
    """

    latents = ("z",)

    def __init__(
        self,
        x_shape: tuple[int, ...],
        latent_dim: int,
        *,
        network: str = "mlp",
        likelihood: str = "bernoulli",
        prior: str = "normal",
        prior_components: int = 100,
        options: NetworkOptions | None = None,
    ) -> None:
        super().__init__(x_shape, latent_dim=latent_dim, network=network, options=options)
        self.build_networks(likelihood)
        self.prior = build_prior(
            prior,
            prior_components,
            latent_dim,
            posterior=self.posterior,
            networks=self.encoder,
            x_shape=self.x_shape,
            options=self.options,
            bounded=self.observation.spec.bounded,
        )

    def build_networks(self, likelihood: str) -> None:
        """Build the networks of q(z|x), from x to (B, 2 d), and of p(x|z)."""
        self.encoder = self.build_encoder(2 * self.latent_dim)
        self.observation = self.build_observation(self.latent_dim, likelihood)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        """p(x, z) for rows x (B, *x_shape)."""
        register(observation=self.observation)
        if self.prior is not None:
            register(prior=self.prior)
        with pyro.plate("rows", len(x)):
            z = pyro.sample("z", self.prior_of_z(x.new_zeros(len(x), 0)))
            pyro.sample("x", self.observation(z, given=x), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """q(z|x)."""
        register(encoder=self.encoder)
        with pyro.plate("rows", len(x)):
            pyro.sample("z", Normal(*self.posterior(x)).to_event(1))

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """loc and scale of q(z|x), each (B, d)."""
        loc, raw_scale = self.encoder(x).chunk(2, -1)
        return loc, positive_scale(raw_scale)

    def prior_of_z(self, s: Tensor) -> TorchDistribution:
        """p(z), batch shape (B,), event shape (d,), for s (B, 0)."""
        if self.prior is None:
            return super().prior_of_z(s)
        prior: TorchDistribution = self.prior()
        return prior.expand(s.shape[:-1])

    def embed(self, x: Tensor) -> Tensor:
        """Posterior mean of z, (B, d)."""
        return self.posterior(x)[0]


class M1(VAE):
    """Variational autoencoder with a classifier on z of the labelled rows::

        p(x, z) = p(x|z) p(z), the VAE, which does not depend on labels

        p(y|z)  softmax(weight z + bias), scikit-learn's logistic regression

    ``fit_classifier`` fits the second line; runs call it after each epoch, and its coefficients
    are saved with the weights.

    It departs from Kingma et al., whose classifiers are a transductive SVM and 1-NN: neither
    gives probabilities.

    Args:
        x_shape, components, latent_dim, network, likelihood, options: as for :class:`GMMVAE`.
        prior, prior_components: as for :class:`VAE`.

    Reference:
        Kingma et al. 2014, arXiv:1406.5298.
    """

    needs_labels = True
    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        x_shape: tuple[int, ...],
        components: int,
        latent_dim: int,
        *,
        network: str = "mlp",
        likelihood: str = "bernoulli",
        prior: str = "normal",
        prior_components: int = 100,
        options: NetworkOptions | None = None,
    ) -> None:
        check_range("components", components, components >= 1, "at least 1")
        super().__init__(
            x_shape,
            latent_dim,
            network=network,
            likelihood=likelihood,
            prior=prior,
            prior_components=prior_components,
            options=options,
        )
        self.components = components
        self.register_buffer("weight", torch.zeros(components, latent_dim))
        self.register_buffer("bias", torch.zeros(components))

    @torch.no_grad()
    def fit_classifier(self, x: Tensor, y: Tensor) -> None:
        """Fit p(y|z) on labelled rows x (N, *x_shape) and y (N,); the VAE does not change."""
        from sklearn.linear_model import LogisticRegression

        was_training = self.training
        z = self.eval().embed(x)
        self.train(was_training)
        loc, scale = z.mean(0), z.std(0).clamp_min(1e-6)
        fitted = LogisticRegression(max_iter=1000).fit(((z - loc) / scale).cpu(), y.cpu())
        coefficients, intercepts = map(torch.from_numpy, (fitted.coef_, fitted.intercept_))
        if len(fitted.classes_) == 2:  # one score decides between two classes
            coefficients = torch.cat([-coefficients, coefficients]) / 2
            intercepts = torch.cat([-intercepts, intercepts]) / 2
        seen = torch.from_numpy(fitted.classes_)
        weight = torch.zeros_like(self.weight)
        bias = torch.full_like(self.bias, -1e3)  # a class without labelled rows: never predicted
        weight[seen] = coefficients.to(weight) / scale
        bias[seen] = intercepts.to(bias) - weight[seen] @ loc
        self.weight.copy_(weight)
        self.bias.copy_(bias)

    def classify(self, x: Tensor) -> Tensor:
        """log p(y|z), (B, K), in nats, at the posterior mean of z."""
        return torch.nn.functional.linear(self.embed(x), self.weight, self.bias).log_softmax(-1)
