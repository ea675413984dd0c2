"""What a run remembers of the data it was trained on."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_gmmvae.data import Dataset, Transform
from pyro_gmmvae.data.dataset import Floats
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.skeletons import SkeletonFeatures


@dataclass(frozen=True)
class Schema:
    """What a run must remember of the data it was trained on.

    Attributes:
        x_shape: shape of one observation.
        classes: names of the classes, in the order of the model's components.
        columns: names of the features of a table, or None.
        likelihood: the likelihood that suits the rows.
        transform: from the file's units to the model's.
        fingerprint: of rows and labels, to notice that the data changed.
        missing: whether rows may hold NaN, for entries that are not known.
        features: what rows of skeletons are described by; None: rows are what they are.
        dimensions: coordinates of a joint, for skeletons.
        factors: further classes, a name and the classes' names for each.
    """

    x_shape: tuple[int, ...]
    classes: tuple[str, ...]
    columns: tuple[str, ...] | None
    likelihood: str
    transform: Transform
    fingerprint: str
    missing: bool = False
    features: SkeletonFeatures | None = None
    dimensions: int | None = None
    factors: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def to_json(self) -> dict[str, Any]:
        features = None if self.features is None else self.features.to_json()
        return {**vars(self), "transform": self.transform.to_json(), "features": features}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Schema":
        columns, shape = content["columns"], content["x_shape"]
        features = content.get("features")
        transform = Transform.from_json(content["transform"])
        if not all(isinstance(n, int) and n > 0 for n in shape):
            raise ValueError(f"x_shape {shape!r}")
        for values in (transform.shift, transform.scale):
            np.broadcast_to(values, shape)
        if not (np.isfinite(transform.shift).all() and (transform.scale > 0).all()):
            raise ValueError("transform out of range")
        return cls(
            x_shape=tuple(content["x_shape"]),
            classes=tuple(content["classes"]),
            columns=None if columns is None else tuple(columns),
            likelihood=content["likelihood"],
            transform=transform,
            fingerprint=content["fingerprint"],
            missing=bool(content.get("missing", False)),
            features=None if features is None else SkeletonFeatures.from_json(features),
            dimensions=content.get("dimensions"),
            factors=tuple((name, tuple(names)) for name, names in content.get("factors", ())),
        )

    def described(self, rows: Any) -> Floats:
        """Rows as a data set holds them -> as the model takes them."""
        if self.features is not None:
            rows = self.features.of_arrays(rows)
        return self.transform(rows)

    def describe_on(self, device: torch.device, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        """:meth:`described` for tensors on a device."""
        features, transform = self.features, self.transform
        assert features is not None
        shift = torch.as_tensor(transform.shift, device=device).to(dtype)
        scale = torch.as_tensor(transform.scale, device=device).to(dtype)
        return functools.partial(_describe, features, shift, scale, transform.limit)

    def rows_for_model(self, dataset: Dataset, source: str) -> Floats:
        """A file's rows in the model's units, columns matched by name.

        Raises:
            GMMVAEError: if they are not the rows this run was trained on in kind.
        """
        x, columns = dataset.x, dataset.columns
        if self.columns is not None and columns is not None:
            missing = [name for name in self.columns if name not in columns]
            if missing:
                raise GMMVAEError(f"{source} lacks the columns {', '.join(missing[:5])}")
            x = x[:, [columns.index(name) for name in self.columns]]
        if int(np.prod(x.shape[1:])) == int(np.prod(self.x_shape)) and (
            x.ndim == 2 or len(self.x_shape) == 1
        ):
            x = x.reshape(-1, *self.x_shape)
        if x.shape[1:] != self.x_shape:
            raise GMMVAEError(
                f"{source} holds rows of shape {x.shape[1:]}; the model was trained on "
                f"{self.x_shape}"
            )
        return self.in_range(self.transform(x), source)

    def in_range(self, x: Floats, source: str) -> Floats:
        """The rows, if the likelihood has a density there.

        Raises:
            GMMVAEError: for a Bernoulli likelihood of rows outside [0, 1].
        """
        low, high = float(np.nanmin(x, initial=0)), float(np.nanmax(x, initial=0))
        if self.likelihood == "bernoulli" and not -1e-6 <= low <= high <= 1 + 1e-6:
            raise GMMVAEError(
                f"{source}: the bernoulli likelihood needs rows in [0, 1]; in the model's units "
                f"these go from {low:.3g} to {high:.3g} (another unit, or likelihood=normal?)"
            )
        return x


def _describe(
    features: SkeletonFeatures, shift: Tensor, scale: Tensor, limit: float | None, x: Tensor
) -> Tensor:
    x = (features(x) - shift) / scale
    return x if limit is None else x.clamp(-limit, limit)
