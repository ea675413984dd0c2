"""DRAW: an image that is drawn in steps, each with a part of z."""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import pyro
import torch
from pyro.distributions import Independent, Normal, TorchDistribution
from torch import Size, Tensor, nn
from torch.distributions import kl_divergence, register_kl

from pyro_gmmvae.distributions import parse_likelihood, positive_scale
from pyro_gmmvae.errors import GMMVAEError, check_range
from pyro_gmmvae.models.base import COMMON, Observation
from pyro_gmmvae.models.vae import VAE
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.param_store import register
from pyro_gmmvae.ranges import SearchSpace, Whole

MOST_STEPS = 64
USUAL_STEPS = 8
"""By default, at most."""


class DRAW(VAE):
    """VAE of images that are drawn in T steps, each with a part z_t of z::

        p(x, z) = p(x|z) p(z)

        p(z)    N(0, I), or another prior       z = (z_1, ..., z_T), d / T entries each
        p(x|z)  likelihood of canvas c_T        x (B, *x_shape)
                h_t = lstm(z_t, h_(t-1)), c_t = c_(t-1) + write(h_t)

        q(z|x)  prod_t N(z_t; loc_t, scale_t^2), of e_t
                e_t = lstm(read(x, x - mean of p(x|c_(t-1)), h_(t-1)), h_(t-1), e_(t-1))

    With ``attention`` N a step reads and writes a patch of N x N points, at a place, of a size and
    with a blur that h gives; with 0 it reads and writes the whole image.

    q(z_t|x) depends on a draw of the steps before it. The KL term is the sum over steps of that of
    z_t given this draw. The width of both LSTMs is the last one of ``hidden``; other keys of
    networks (``network``, ``channels``, ``activation``, ``batch_norm``, ``dropout``, ``skip``,
    ``input_noise``) have no effect. Importance weights take draws of q(z|x) itself, without heavier
    tails. The components of ``prior=vamp`` are Gaussians along the means of the steps.

    It departs from Gregor et al. in h and e that start at 0, and in likelihoods other than
    Bernoulli.

    Args:
        x_shape, latent_dim, network, likelihood, options: as for :class:`GMMVAE`.
        prior, prior_components: as for :class:`VAE`.
        draw_steps: T, the number of steps, a divisor of the size of z; none: the largest one up
            to 8.
        attention: the side N of the patch that a step reads and writes; 0: the whole image.

    Raises:
        GMMVAEError: rows that are not images, or that have missing entries.

    Reference:
        Gregor et al. 2015, arXiv:1502.04623.
    """

    search_space: ClassVar[SearchSpace] = {
        **{k: COMMON[k] for k in ("latent_dim", "hidden", "learning_rate", "batch_size")},
        "attention": Whole(0, 5),
    }

    def __init__(
        self,
        x_shape: tuple[int, ...],
        latent_dim: int,
        *,
        network: str = "mlp",
        likelihood: str = "bernoulli",
        prior: str = "normal",
        prior_components: int = 100,
        draw_steps: int | None = None,
        attention: int = 0,
        options: NetworkOptions | None = None,
    ) -> None:
        if len(x_shape) != 3:
            raise GMMVAEError(
                f"draw needs images (channels, height, width), not rows of shape {x_shape}"
            )
        if options is not None and options.missing:
            raise GMMVAEError("draw needs all pixels, and rows of this data have missing ones")
        if draw_steps is None:
            draw_steps = max(n for n in range(1, USUAL_STEPS + 1) if latent_dim % n == 0)
        fits = 1 <= draw_steps <= min(latent_dim, MOST_STEPS) and latent_dim % draw_steps == 0
        wanted = f"a divisor of latent_dim {latent_dim}, at most {MOST_STEPS}"
        check_range("draw_steps", draw_steps, fits, wanted)
        side = min(x_shape[1:])
        check_range("attention", attention, 0 <= attention <= side, f"from 0 to {side}")
        self.steps, self.attention = draw_steps, attention
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
        """Build the LSTMs that read and write."""
        own, width = self.latent_dim // self.steps, self.options.hidden[-1]
        spec, (channels, *sides) = parse_likelihood(likelihood), self.x_shape
        shape = (spec.outputs * channels, *sides)
        canvas = _Canvas(own, width, shape, self.steps, self.attention)
        self.observation = Observation(canvas, self.x_shape, spec)
        self.encoder = _Reader(self.x_shape, width, own, self.attention)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """q(z|x)."""
        register(encoder=self.encoder, observation=self.observation)
        with pyro.plate("rows", len(x)):
            pyro.sample("z", Recurrent(self.unroll, x, self.latent_dim))

    def unroll(
        self, x: Tensor, next_z: Callable[[int, Tensor, Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """z, loc and scale of all steps, (B, d) each, for rows x (B, *x_shape).

        Args:
            x: the rows.
            next_z: from the number of a step, and its loc and scale, (B, d / T), to its z.
        """
        canvas: Any = self.observation.decoder
        reader: Any = self.encoder
        state, memory = canvas.start(len(x)), reader.start(len(x), x)
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        for t in range(self.steps):
            error = x - self._likelihood(state[2]).mean
            loc, raw_scale, memory = reader(x, error, state[0], memory)
            scale = positive_scale(raw_scale)
            z = next_z(t, loc, scale)
            found.append((z, loc, scale))
            state = canvas.step(z, state)
        z, loc, scale = (torch.cat([*parts], -1) for parts in zip(*found, strict=True))
        return z, loc, scale

    def _likelihood(self, canvas: Tensor) -> TorchDistribution:
        outputs = self.observation.spec.outputs
        if outputs > 1:
            canvas = canvas.unflatten(1, (outputs, -1))
        return self.observation.likelihood(canvas)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """loc and scale of q(z|x), each (B, d), where each step takes the mean of those before."""
        return self.unroll(x, lambda t, loc, scale: loc)[1:]  # noqa: ARG005


class Recurrent(TorchDistribution):
    """q(z|x) in steps, each of which depends on the draw of the steps before it.

    The density of the last draw is kept, and so is its KL divergence, given the draw.

    Args:
        unroll: as :meth:`DRAW.unroll`.
        x: rows, batch shape + x_shape.
        size: d.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(self, unroll: Callable[..., Any], x: Tensor, size: int) -> None:
        self.unroll, self.x = unroll, x
        self._drawn: tuple[Tensor, Tensor, Tensor] | None = None
        super().__init__(x.shape[:-3], Size((size,)), validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Recurrent":
        x = self.x.expand(*batch_shape, *self.x.shape[-3:])
        return Recurrent(self.unroll, x, self.event_shape[0])

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = (*sample_shape, *self.batch_shape)
        self._drawn = self._steps(shape, lambda t, loc, scale: loc + scale * torch.randn_like(loc))  # noqa: ARG005
        return self._drawn[0]

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density in nats, batch shape."""
        return self.along(value).log_prob(value)

    def along(self, value: Tensor | None = None) -> TorchDistribution:
        """The Gaussians of all entries, where the steps are those of a value; None: of the draw."""
        drawn = self._drawn
        if drawn is None or (value is not None and value is not drawn[0]):
            if value is None:
                raise GMMVAEError("a KL divergence of q(z|x) in steps needs a draw of it")
            own = self.event_shape[0]

            def given(t: int, loc: Tensor, scale: Tensor) -> Tensor:  # noqa: ARG001
                size = loc.shape[-1]
                return value.reshape(-1, own)[:, t * size : (t + 1) * size]

            drawn = self._steps(value.shape[:-1], given)
        return Normal(*drawn[1:]).to_event(1)

    def _steps(self, shape: Any, next_z: Callable[..., Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        image = self.x.shape[-3:]
        x = self.x.expand(*shape, *image).reshape(-1, *image)
        z, loc, scale = (part.reshape(*shape, -1) for part in self.unroll(x, next_z))
        return z, loc, scale

    @property
    def mean(self) -> Tensor:
        """loc of each step, where each takes the mean of those before it."""
        return self._steps(self.batch_shape, lambda t, loc, scale: loc)[1]  # noqa: ARG005


@register_kl(Recurrent, Independent)
def _kl_of_steps(q: Recurrent, p: Independent) -> Tensor:
    kl: Tensor = kl_divergence(q.along(), p)
    return kl


class _LSTM(nn.Module):
    """A step of an LSTM: inputs (B, in_size) and memory -> memory, (B, width) twice."""

    def __init__(self, in_size: int, width: int) -> None:
        super().__init__()
        self.gates = nn.Linear(in_size + width, 4 * width)

    def forward(self, inputs: Tensor, h: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        gates = self.gates(torch.cat([inputs, h], -1)).chunk(4, -1)
        # + 1: cells are kept at first
        cell = (gates[0] + 1).sigmoid() * cell + gates[1].sigmoid() * gates[2].tanh()
        return gates[3].sigmoid() * cell.tanh(), cell


State = tuple[Tensor, Tensor, Tensor]


class _Canvas(nn.Module):
    """From z (B, T d) to the parameters of a likelihood, (B, *shape), in T steps."""

    def __init__(
        self, d: int, width: int, shape: tuple[int, ...], steps: int, attention: int
    ) -> None:
        super().__init__()
        self.steps, self.width, self.shape = steps, width, shape
        self.lstm = _LSTM(d, width)
        patch = (attention, attention) if attention else shape[1:]
        self.patch = nn.Linear(width, shape[0] * math.prod(patch))
        self.filters = _Filters(width, shape[1:], attention) if attention else None
        self.canvas = nn.Parameter(torch.zeros(shape))

    def start(self, rows: int) -> State:
        """h, cell and canvas before the first step."""
        h = self.canvas.new_zeros(rows, self.width)
        return h, h, self.canvas.expand(rows, *self.shape)

    def step(self, z: Tensor, state: State) -> State:
        """One step, with z (B, d)."""
        h, cell = self.lstm(z, *state[:2])
        patch = self.patch(h)
        if self.filters is None:
            return h, cell, state[2] + patch.unflatten(-1, self.shape)
        down, right, strength = self.filters(h)
        n = down.shape[-2]
        patch = patch.unflatten(-1, (self.shape[0], n, n)) / strength
        return h, cell, state[2] + down.mT @ patch @ right

    def forward(self, z: Tensor) -> Tensor:
        state = self.start(len(z))
        for part in z.chunk(self.steps, -1):
            state = self.step(part, state)
        return state[2]


class _Reader(nn.Module):
    """From rows, what the canvas lacks, and h of the canvas to loc and raw scale of a step."""

    def __init__(self, x_shape: tuple[int, ...], width: int, d: int, attention: int) -> None:
        super().__init__()
        self.width = width
        self.filters = _Filters(width, x_shape[1:], attention) if attention else None
        patch = (attention, attention) if attention else x_shape[1:]
        self.lstm = _LSTM(2 * x_shape[0] * math.prod(patch) + width, width)
        self.head = nn.Linear(width, 2 * d)

    def start(self, rows: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """h and cell before the first step."""
        h = like.new_zeros(rows, self.width)
        return h, h

    def forward(
        self, x: Tensor, error: Tensor, h: Tensor, memory: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        seen = torch.cat([x, error], 1)
        if self.filters is not None:
            down, right, strength = self.filters(h)
            seen = strength * (down @ seen @ right.mT)
        memory = self.lstm(torch.cat([seen.flatten(1), h], -1), *memory)
        loc, raw_scale = self.head(memory[0]).chunk(2, -1)
        return loc, raw_scale, memory


class _Filters(nn.Module):
    """From h (B, width) to N x N Gaussian filters of an image, and their strength.

    Returns:
        The filters down the rows (B, 1, N, H) and along the columns (B, 1, N, W), each summing
        to 1, and the strength (B, 1, 1, 1).
    """

    def __init__(self, width: int, sides: tuple[int, ...], n: int) -> None:
        super().__init__()
        self.sides, self.n = tuple(sides), n
        self.numbers = nn.Linear(width, 5)

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        row, column, log_blur, log_stride, log_strength = self.numbers(h)[..., None].unbind(1)
        # as in the paper: the points of a stride of 1 cover the longer side
        stride = (max(self.sides) - 1) / max(self.n - 1, 1) * log_stride.exp()
        offsets = torch.arange(self.n, device=h.device, dtype=h.dtype) - (self.n - 1) / 2
        filters = []
        for center, side in zip((row, column), self.sides, strict=True):
            points = (side + 1) * (center + 1) / 2 - 1 + offsets * stride  # the first place is 0
            places = torch.arange(side, device=h.device, dtype=h.dtype)
            squares = (places - points.unsqueeze(-1)).square()
            # beyond the image all weights are small: softmax keeps their sum at 1
            weights = (-0.5 * squares / log_blur.exp().unsqueeze(-1)).softmax(-1)
            filters.append(weights.unsqueeze(1))
        return filters[0], filters[1], log_strength.exp()[..., None, None]
