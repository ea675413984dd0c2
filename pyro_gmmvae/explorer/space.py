"""A run's latent space, as sliders walk through it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_gmmvae.explorer.plane import principal_directions
from pyro_gmmvae.runs import Run

Array = np.ndarray[Any, Any]
MOST_ENTRIES = 12  # beyond, sliders go along principal directions
DIRECTIONS = 8


@dataclass(frozen=True)
class Position:
    """Where the sliders stand.

    Attributes:
        weights: class weights s, (K,) on the simplex, those of further factors after them; (0,)
            for a model without classes.
        offset: (d,) of z from the mean of p(z|s), each entry in its standard deviations.
    """

    weights: Array
    offset: Array


@dataclass(frozen=True)
class Place:
    """What a position is worked out to.

    Attributes:
        position: where the sliders stand.
        z: (d,).
        along: (m,) how far z is from the mean of p(z|s) along each direction, in s.d.
        values: (m,) the coordinate of z along each.
        row: (*x_shape) decoded, in the model's units.
    """

    position: Position
    z: Array
    along: Array
    values: Array
    row: Array


class Space:
    """p(z|s), or what stands for it, and the decoder; read only, so that sessions share it.

    Args:
        run: a trained run.
        codes: (N, d) posterior means of the data.
    """

    def __init__(self, run: Run, codes: Array) -> None:
        self.run = run
        self.model = run.model
        self.size = codes.shape[1]
        self._like = next(run.model.parameters())
        self.sizes: dict[str, int] = {}
        if hasattr(self.model, "z_prior"):
            self.sizes = dict(getattr(self.model, "sizes", {"": self.model.components}))
        # an autoencoder has no prior: its codes on the data say what is usual
        self.has_prior = bool(self.model.latents)
        self._usual = codes.mean(0), np.atleast_2d(np.cov(codes.T)) if len(codes) > 1 else None
        self.by_entry = self.size <= MOST_ENTRIES
        if self.by_entry:
            self.directions = np.eye(self.size)
            self.names = [f"z{entry}" for entry in range(self.size)]
        else:
            self.directions, shares = principal_directions(codes, DIRECTIONS)
            self.names = [f"PC {i + 1} ({share:.0%})" for i, share in enumerate(shares)]

    @property
    def mixes(self) -> bool:
        """Whether p(z|s) depends on s."""
        return hasattr(self.model, "mixture") or hasattr(self.model, "mixtures")

    def start(self) -> Position:
        """All weight on the first class, further factors undecided, z at its mean."""
        weights = [np.full(K, 1 / K) for K in self.sizes.values()]
        if weights:
            weights[0] = np.eye(len(weights[0]))[0]
        return Position(np.concatenate([*weights, np.zeros(0)]), np.zeros(self.size))

    def prior(self, weights: Array) -> tuple[Array, Array]:
        """Mean (d,) and covariance (d, d) of p(z|s)."""
        if not self.has_prior:
            loc, covariance = self._usual
            return loc, np.eye(self.size) if covariance is None else covariance
        if not self.sizes:
            return np.zeros(self.size), np.eye(self.size)
        with torch.inference_mode():
            s = self._tensor(weights[None])
            loc, scale = self.model.z_prior(s)
            blocks = torch.diag_embed(scale[0].square())
            at, start = 0, 0
            for mixture, K in zip(self._mixtures(), self.sizes.values(), strict=False):
                product = mixture(s[:, at : at + K])
                if hasattr(product, "precision_matrix"):
                    block = slice(start, start + product.event_shape[0])
                    blocks[block, block] = torch.linalg.inv(product.precision_matrix[0])
                at, start = at + K, start + product.event_shape[0]
        return _array(loc[0]), _array(blocks)

    def work_out(self, position: Position) -> Place:
        """Prior, z and its picture at a position."""
        loc, covariance = self.prior(position.weights)
        z = loc + position.offset * _spread(covariance)
        along = self.directions @ (z - loc) / self._units(covariance)
        row = self.decode(z[None], position.weights[None])[0]
        return Place(position, z, along, self.directions @ z, row)

    def decode(self, z: Array, weights: Array) -> Array:
        """Means of p(x|z,s) at z (B, d) and s (B, K), in the model's units."""
        with torch.inference_mode():
            given = (self._tensor(weights),) if self.sizes else ()
            return _array(self.model.decode(self._tensor(z), *given))

    def moved(self, position: Position, direction: int, along: float) -> Position:
        """The position with its coordinate along one direction set, in s.d. of p(z|s)."""
        covariance = self.prior(position.weights)[1]
        scale, unit = _spread(covariance), self._units(covariance)[direction]
        axis = self.directions[direction]
        now = axis @ (position.offset * scale) / unit
        return Position(position.weights, position.offset + (along - now) * unit * axis / scale)

    def at(self, z: Array, weights: Array) -> Position:
        """The position that stands at z (d,)."""
        loc, covariance = self.prior(weights)
        return Position(weights, (z - loc) / _spread(covariance))

    def drawn(self, weights: Array, noise: Array) -> Position:
        """The position of the draw of p(z|s) that standard normal noise (d,) makes."""
        covariance = self.prior(weights)[1]
        values, vectors = np.linalg.eigh(covariance)
        step = vectors @ (np.sqrt(values.clip(0)) * noise)
        return Position(weights, step / _spread(covariance))

    def _units(self, covariance: Array) -> Array:
        """(m,) standard deviations of p(z|s) along the directions."""
        variances = ((self.directions @ covariance) * self.directions).sum(1)
        return np.asarray(np.sqrt(variances.clip(1e-12)))

    def _mixtures(self) -> list[Any]:
        if hasattr(self.model, "mixture"):
            return [self.model.mixture]
        return list(getattr(self.model, "mixtures", ()))

    def _tensor(self, values: Array) -> Tensor:
        return torch.from_numpy(np.asarray(values, np.float64)).to(self._like)


def _spread(covariance: Array) -> Array:
    return np.asarray(np.sqrt(np.diag(covariance).clip(1e-12)))


def _array(values: Tensor) -> Array:
    return np.asarray(values.double().cpu().numpy())
