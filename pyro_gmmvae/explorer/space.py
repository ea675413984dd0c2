"""Latent-space geometry: points relative to p(z|s), their decoding, and the plane of the map."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from pyro_gmmvae.models import LatentModel

Array = np.ndarray[Any, Any]
MAX_ENTRIES = 12  # with a slider each; for a larger z the sliders follow principal directions
DIRECTIONS = 8
ELLIPSE_POINTS = 48


@dataclass(frozen=True)
class LatentPoint:
    """A point of latent space, relative to p(z|s).

    Attributes:
        weights: class weights s on the simplex, (K,), followed by those of further factors; (0,)
            for a model without classes.
        offset: (d,) z minus the mean of p(z|s), each entry in its standard deviations.
    """

    weights: Array
    offset: Array


@dataclass(frozen=True)
class Decoded:
    """A latent point and the row that it decodes to.

    Attributes:
        point: the latent point.
        z: (d,).
        along: (m,) distance of z from the mean of p(z|s) along each direction, in s.d.
        values: (m,) coordinate of z along each direction.
        row: (*x_shape) mean of p(x|z,s), in the model's units.
    """

    point: LatentPoint
    z: Array
    along: Array
    values: Array
    row: Array


class LatentSpace:
    """Prior and decoder of a model. Nothing in it changes, so that sessions can share it.

    Args:
        model: a trained model in evaluation mode.
        codes: (N, d) posterior means of the data.

    Attributes:
        size: d.
        factors: number of values of each s, by factor; "" is the class.
        has_prior: False for an autoencoder; the distribution of ``codes`` is used instead.
        by_entry: whether the directions are the entries of z; otherwise they are the leading
            principal directions of ``codes``.
        directions: (m, d) unit rows.
        names: (m,) of the directions.
    """

    def __init__(self, model: LatentModel, codes: Array) -> None:
        self.model = model
        self.size = codes.shape[1]
        self._like = next(model.parameters())
        self.factors = model.factors
        self.has_prior = bool(model.latents)
        covariance = np.atleast_2d(np.cov(codes.T)) if len(codes) > 1 else np.eye(self.size)
        self._of_codes = codes.mean(0), covariance
        self.by_entry = self.size <= MAX_ENTRIES
        if self.by_entry:
            self.directions = np.eye(self.size)
            self.names = [f"z{entry}" for entry in range(self.size)]
        else:
            self.directions, shares = principal_directions(codes, DIRECTIONS)
            self.names = [f"PC {i + 1} ({share:.0%})" for i, share in enumerate(shares)]

    @property
    def prior_depends_on_class(self) -> bool:
        """Whether p(z|s) depends on s."""
        return bool(self.model.mixture_priors)

    def start(self) -> LatentPoint:
        """The mean of p(z|s), with all weight on the first class and further factors uniform."""
        weights = np.concatenate([np.zeros(0), *(np.full(K, 1 / K) for K in self.factors.values())])
        point = LatentPoint(weights, np.zeros(self.size))
        return self.with_weights(point, "", np.eye(self.factors[""])[0]) if self.factors else point

    def weights_of(self, point: LatentPoint, factor: str) -> Array:
        """The weights (K,) of one factor."""
        return np.asarray(point.weights[self._slice(factor)])

    def with_weights(self, point: LatentPoint, factor: str, weights: Array) -> LatentPoint:
        """The point with other weights (K,) of one factor, and the same offset."""
        changed = point.weights.copy()
        changed[self._slice(factor)] = weights
        return LatentPoint(changed, point.offset)

    def prior(self, weights: Array) -> tuple[Array, Array]:
        """Mean (d,) and covariance (d, d) of p(z|s)."""
        if not self.has_prior:
            return self._of_codes
        if not self.model.mixture_priors:
            return np.zeros(self.size), np.eye(self.size)
        with torch.inference_mode():
            s = self._tensor(weights)
            products = [
                mixture(s[None, self._slice(factor)])
                for factor, mixture in self.model.mixture_priors.items()
            ]
            loc = torch.cat([product.mean[0] for product in products])
            covariance = torch.block_diag(*(product.covariance_matrix[0] for product in products))
        return _array(loc), _array(covariance)

    def decode(self, point: LatentPoint) -> Decoded:
        """Compute z and the mean of p(x|z,s) at a point."""
        loc, covariance = self.prior(point.weights)
        z = loc + point.offset * _scales(covariance)
        along = self.directions @ (z - loc) / self._units(covariance)
        with torch.inference_mode():
            s = self._tensor(point.weights[None])
            row = _array(self.model.decode(self._tensor(z[None]), s))[0]
        return Decoded(point, z, along, self.directions @ z, row)

    def shifted(self, point: LatentPoint, direction: int, along: float) -> LatentPoint:
        """The point with its coordinate along one direction set, in s.d. of p(z|s)."""
        covariance = self.prior(point.weights)[1]
        scales, unit = _scales(covariance), self._units(covariance)[direction]
        axis = self.directions[direction]
        current = axis @ (point.offset * scales) / unit
        step = (along - current) * unit * axis / scales
        return LatentPoint(point.weights, point.offset + step)

    def at(self, z: Array, weights: Array) -> LatentPoint:
        """The point with a given z (d,)."""
        loc, covariance = self.prior(weights)
        return LatentPoint(weights, (z - loc) / _scales(covariance))

    def sample(self, weights: Array, noise: Array) -> LatentPoint:
        """A draw from p(z|s), made from standard normal noise (d,)."""
        covariance = self.prior(weights)[1]
        values, vectors = np.linalg.eigh(covariance)
        step = vectors @ (np.sqrt(values.clip(0)) * noise)
        return LatentPoint(weights, step / _scales(covariance))

    def _slice(self, factor: str) -> slice:
        names = list(self.factors)
        start = sum(self.factors[name] for name in names[: names.index(factor)])
        return slice(start, start + self.factors[factor])

    def _units(self, covariance: Array) -> Array:
        """(m,) standard deviations of p(z|s) along the directions."""
        variances = ((self.directions @ covariance) * self.directions).sum(1)
        return np.asarray(np.sqrt(variances.clip(1e-12)))

    def _tensor(self, values: Array) -> Tensor:
        return torch.from_numpy(np.asarray(values, np.float64)).to(self._like)


@dataclass(frozen=True)
class Projection:
    """The plane of the map: two principal directions of z, or z itself where d <= 2.

    Attributes:
        center: (d,) the z at (0, 0).
        axes: (2, d) orthonormal rows; the second is zero where d == 1.
        names: of the two coordinates; "" marks one without meaning.
        share: of the variance of z that the plane shows, 0 to 1; None: all.
    """

    center: Array
    axes: Array
    names: tuple[str, str]
    share: float | None

    def transform(self, z: Array) -> Array:
        """(..., d) -> (..., 2)."""
        return np.asarray((z - self.center) @ self.axes.T)

    def inverse_transform(self, points: Array) -> Array:
        """The z (..., d) on the plane at points (..., 2)."""
        return np.asarray(self.center + points @ self.axes)

    def ellipse(self, loc: Array, covariance: Array) -> Array:
        """(48 + 1, 2) closed outline of one standard deviation of N(loc, covariance)."""
        return ellipse(self.transform(loc), self.axes @ covariance @ self.axes.T)


def fit_projection(z: Array) -> Projection:
    """The plane that shows most of the variance of z (N, d)."""
    d = z.shape[1]
    if d <= 2:
        return Projection(np.zeros(d), np.eye(2, d), ("z0", "z1" if d == 2 else ""), None)
    directions, shares = principal_directions(z, 2)
    axes, shares = np.zeros((2, d)), np.append(shares, 0.0)[:2]  # one row has one direction
    axes[: len(directions)] = directions
    one, two = (f"PC {i + 1} ({share:.0%})" for i, share in enumerate(shares))
    return Projection(z.mean(0), axes, (one, two), float(shares.sum()))


def principal_directions(z: Array, count: int) -> tuple[Array, Array]:
    """Leading principal directions (n, d) of z (N, d), unit rows, and their shares of variance.

    n is ``count``, or less where N or d are smaller. Each direction's largest entry is positive.
    """
    with np.errstate(divide="ignore", invalid="ignore"):  # rows that are all the same
        pca = PCA(min(count, *z.shape), svd_solver="full").fit(z)
    return pca.components_, np.nan_to_num(pca.explained_variance_ratio_)


def ellipse(center: Array, covariance: Array) -> Array:
    """(48 + 1, 2) closed outline of one standard deviation.

    Args:
        center: (2,).
        covariance: (2, 2); a singular one gives a segment.
    """
    values, vectors = np.linalg.eigh(covariance)
    angle = np.linspace(0, 2 * np.pi, ELLIPSE_POINTS + 1)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    return np.asarray(center + (vectors @ (np.sqrt(values.clip(0))[:, None] * circle)).T)


def nearest(points: Array, to: Array, count: int) -> Array:
    """Indices of the ``count`` points (N, n) closest to one (n,), the closest first."""
    return np.argsort(np.square(points - to).sum(1), kind="stable")[:count]


def with_weight(weights: Array, k: int, value: float) -> Array:
    """Weights (K,) with ``value`` (clipped to 0..1) on class k and the rest renormalized.

    The others keep their proportions; if all of them are zero, they share equally. A single
    class keeps all.
    """
    if len(weights) == 1:
        return np.ones(1)
    value = float(np.clip(np.nan_to_num(value), 0, 1))
    others = np.delete(weights, k)
    others = others / others.sum() if others.sum() > 0 else np.full(len(others), 1 / len(others))
    changed = np.insert(others * (1 - value), k, value)
    return np.asarray(changed / changed.sum())


def _scales(covariance: Array) -> Array:
    return np.asarray(np.sqrt(np.diag(covariance).clip(1e-12)))


def _array(values: Tensor) -> Array:
    return np.asarray(values.double().cpu().numpy())
