"""PixelVAE: a decoder that gives each pixel the pixels before it, beside z."""

from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor

from pyro_gmmvae.distributions import parse_likelihood
from pyro_gmmvae.errors import GMMVAEError, check_range
from pyro_gmmvae.models.base import COMMON, Observation
from pyro_gmmvae.models.vae import VAE
from pyro_gmmvae.networks import NetworkOptions, apply_to_rows, joined
from pyro_gmmvae.networks.pixel_cnn import PixelCNN
from pyro_gmmvae.ranges import SearchSpace, Whole


class PixelVAE(VAE):
    """VAE of images with an autoregressive decoder::

        p(x, z) = p(x|z) p(z)

        p(z)    N(0, I), or another prior                        z (B, d)
        p(x|z)  prod_i likelihood of pixel_cnn(x_<i, decoder(z))  x (B, *x_shape)

        q(z|x)  N(loc(x), scale(x)^2)

    i goes over pixels, row by row; the channels of a pixel are independent. With a small
    ``field``, and ``prior=flow``, it is the lossy VAE of Chen et al.: z holds the structure that
    pixels within ``field`` rows and columns do not show. With ``kl_z=0`` and ``adversary=30`` it is
    the PixelGAN autoencoder of Makhzani, Frey.

    ``generate``, ``decode`` and reconstructions draw each pixel after those before it; their mean
    is that of each pixel given the draw, so that two of one z differ.

    It departs from Gulrajani et al. in one layer of z, and in masked layers without gates, which
    have a blind spot (see :class:`pyro_gmmvae.networks.pixel_cnn.PixelCNN`).

    Args:
        x_shape, latent_dim, network, likelihood, options: as for :class:`GMMVAE`; ``network`` is
            that of the encoder and of the decoder's features.
        prior, prior_components: as for :class:`VAE`.
        field: the number of masked layers: a pixel depends on those at most so many rows above and
            columns to the side.
        pixel_channels: channels of the masked layers.

    Raises:
        GMMVAEError: rows that are not images, or that have missing entries.

    References:
        Gulrajani et al. 2017, arXiv:1611.05013; Chen et al. 2017, arXiv:1611.02731; Makhzani, Frey
        2017, arXiv:1706.00531.
    """

    search_space: ClassVar[SearchSpace] = {**COMMON, "field": Whole(1, 8)}

    def __init__(
        self,
        x_shape: tuple[int, ...],
        latent_dim: int,
        *,
        network: str = "mlp",
        likelihood: str = "bernoulli",
        prior: str = "normal",
        prior_components: int = 100,
        field: int = 4,
        pixel_channels: int = 16,
        options: NetworkOptions | None = None,
    ) -> None:
        if len(x_shape) != 3:
            raise GMMVAEError(
                f"pixel-vae needs images (channels, height, width), not rows of shape {x_shape}"
            )
        if options is not None and options.missing:
            raise GMMVAEError("pixel-vae needs all pixels, and rows of this data have missing ones")
        check_range("field", field, 1 <= field <= 64, "from 1 to 64")
        fits = 1 <= pixel_channels <= 4096
        check_range("pixel_channels", pixel_channels, fits, "from 1 to 4096")
        self.field, self.pixel_channels = field, pixel_channels
        super().__init__(
            x_shape,
            latent_dim,
            network=network,
            likelihood=likelihood,
            prior=prior,
            prior_components=prior_components,
            options=options,
        )

    def build_observation(self, in_size: int, likelihood: str) -> Observation:
        """p(x|z) for z of ``in_size`` numbers a row."""
        spec, (channels, *sides) = parse_likelihood(likelihood), self.x_shape
        decoder = self._decoder_class(in_size, (self.pixel_channels, *sides), self.options)
        sizes = (channels, self.pixel_channels, spec.outputs * channels)
        observation = PixelObservation(decoder, self.x_shape, spec)
        observation.pixels = PixelCNN(*sizes, field=self.field, options=self.options)
        return observation


class PixelObservation(Observation):
    """p(x|z), a pixel after the other; see :class:`PixelVAE`."""

    draws_pixels = True
    pixels: PixelCNN

    def forward(self, *latents: Tensor, given: Tensor | None = None) -> TorchDistribution:
        """The likelihood given latents, each (..., size); leading axes broadcast."""
        del given
        h = apply_to_rows(self.decoder, joined(*latents))
        return Autoregressive(self, h)

    def given_pixels(self, x: Tensor, h: Tensor, part: Any = ...) -> TorchDistribution:
        """The likelihood of each pixel given the pixels of x before it.

        Args:
            x: (..., C, H, W), or a part of such images.
            h: features of the same pixels.
            part: the index of these pixels in an image.
        """
        shape = torch.broadcast_shapes(x.shape[:-3], h.shape[:-3])
        flat = [t.expand(*shape, *t.shape[-3:]).reshape(-1, *t.shape[-3:]) for t in (x, h)]
        flat[0] = flat[0] / (self.spec.number or 1)
        parameter = self.pixels(*flat)
        if self.spec.outputs > 1:
            parameter = parameter.unflatten(1, (self.spec.outputs, -1))
        return self.likelihood(parameter.reshape(*shape, *parameter.shape[1:]), part)


class Autoregressive(TorchDistribution):
    """p(x|h), event shape (C, H, W), a product over pixels given those before them.

    Args:
        observation: of the likelihood of a pixel.
        h: (..., F, H, W) features of the latents.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = False

    def __init__(self, observation: PixelObservation, h: Tensor) -> None:
        self.observation, self.h = observation, h
        super().__init__(h.shape[:-3], Size(observation.x_shape), validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Autoregressive":
        return Autoregressive(self.observation, self.h.expand(*batch_shape, *self.h.shape[-3:]))

    def log_prob(self, value: Tensor) -> Tensor:
        log_prob: Tensor = self.observation.given_pixels(value, self.h).log_prob(value)
        return log_prob

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = (*sample_shape, *self.batch_shape)
        x = self.h.new_zeros(*shape, *self.event_shape)
        h = self.h.expand(*shape, *self.h.shape[-3:])
        height, width = self.event_shape[1:]
        for i in range(height):
            for j in range(width):
                # the pixels that count, and zeros beyond the image as in the layers
                near = self._near(i, j, height, width)
                drawn = self.observation.given_pixels(x[near], h[near], near).sample()
                x[..., i, j] = drawn[..., i - near[1].start, j - near[2].start]
        return x

    def _near(self, i: int, j: int, height: int, width: int) -> tuple[Any, slice, slice]:
        reach = self.observation.pixels.field
        columns = slice(max(0, j - reach), min(width, j + reach + 1))
        return ..., slice(max(0, i - reach), i + 1), columns

    @property
    def mean(self) -> Tensor:
        """The mean of each pixel, given a draw of those before it."""
        mean: Tensor = self.observation.given_pixels(self.sample(), self.h).mean
        return mean
