"""Variational ladder autoencoder: parts of z enter the decoder at different depths."""

import torch
from torch import Tensor, nn

from pyro_gmmvae.errors import check_range
from pyro_gmmvae.models.vae import VAE
from pyro_gmmvae.networks import JointMLP, NetworkOptions

MOST_LAYERS = 100


class VLAAE(VAE):
    """Variational ladder autoencoder, a VAE whose networks give z a hierarchy::

        p(x, z) = p(x|z) p(z)

        p(z)    N(0, I), or another prior                   z = (z_1, ..., z_L), d / L entries each
        p(x|z)  likelihood of decoder(h_1)                   x (B, *x_shape)
                h_L = f_L(z_L), h_l = f_l(z_l, h_(l+1))

        q(z|x)  N(loc(x), scale(x)^2), those of z_l from features of depth l of the encoder

    z_L is computed from the deepest features, and passes the most layers of the decoder.

    It departs from Zhao et al. in fully connected layers between the parts, as wide as the last
    hidden layer, behind the configuration's network.

    Args:
        x_shape, latent_dim, network, likelihood, options: as for :class:`GMMVAE`.
        prior, prior_components: as for :class:`VAE`.
        layers: L, a divisor of d; none: 2, 3 or 5, the first that is one, else 1.

    Reference:
        Zhao, Song, Ermon 2017, arXiv:1702.08396.
    """

    def __init__(
        self,
        x_shape: tuple[int, ...],
        latent_dim: int,
        *,
        network: str = "mlp",
        likelihood: str = "bernoulli",
        prior: str = "normal",
        prior_components: int = 100,
        layers: int | None = None,
        options: NetworkOptions | None = None,
    ) -> None:
        if layers is None:
            layers = next((n for n in (2, 3, 5) if latent_dim % n == 0), 1)
        fits = 1 <= layers <= min(latent_dim, MOST_LAYERS) and latent_dim % layers == 0
        check_range("layers", layers, fits, f"a divisor of latent_dim {latent_dim}")
        self.layers = layers  # which build_networks reads
        super().__init__(
            x_shape,
            latent_dim,
            network=network,
            likelihood=likelihood,
            prior=prior,
            prior_components=prior_components,
            options=options,
        )

    def build_networks(self, likelihood: str) -> None:
        """Build the ladders of q(z|x) and p(x|z) around the configuration's networks."""
        features, width = self.build_features()
        self.encoder = _Up(features, width, self.latent_dim, self.layers, self.options)
        self.observation = self.build_observation(width, likelihood)
        down = _Down(width, self.latent_dim, self.layers, self.options)
        self.observation.decoder = nn.Sequential(down, self.observation.decoder)


class _Up(nn.Module):
    """From x to loc and raw scale of z, (B, 2 d), each part from features of its depth."""

    def __init__(
        self, features: nn.Module, width: int, d: int, layers: int, options: NetworkOptions
    ) -> None:
        super().__init__()
        self.features = features
        self.deeper = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), *options.activate(nn.BatchNorm1d(width)))
            for _ in range(layers - 1)
        )
        self.heads = nn.ModuleList(nn.Linear(width, 2 * d // layers) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        h = [self.features(x)]
        for layer in self.deeper:
            h.append(layer(h[-1]))
        parts = [head(one).chunk(2, -1) for head, one in zip(self.heads, h, strict=True)]
        return torch.cat([part[i] for i in (0, 1) for part in parts], -1)


class _Down(nn.Module):
    """From z (B, d) to h_1 (B, width); further inputs, of covariates, pass behind it."""

    def __init__(self, width: int, d: int, layers: int, options: NetworkOptions) -> None:
        super().__init__()
        self.d, own = d, d // layers
        inputs = [*([own, width] for _ in range(layers - 1)), [own]]
        self.steps = nn.ModuleList(JointMLP(sizes, [width], options) for sizes in inputs)

    def forward(self, joined: Tensor) -> Tensor:
        z, others = joined[:, : self.d], joined[:, self.d :]
        h: tuple[Tensor, ...] = ()
        for part, step in zip(
            reversed(z.chunk(len(self.steps), -1)), reversed(self.steps), strict=True
        ):
            h = step(part, *h)
        return torch.cat([*h, others], -1)
