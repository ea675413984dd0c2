"""Kinds of rows: their shape, likelihood, features, augmentation and drawing."""

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.column_spec import Column
from pyro_gmmvae.data.augment import affine, dropout, noise
from pyro_gmmvae.errors import GMMVAEError, nearest

if TYPE_CHECKING:
    from torch import Tensor

Pairs = tuple[tuple[int, int], ...]


class RowKind(ABC):
    """The kind of the rows of a data set: shape, likelihood, features and drawing.

    A subclass is a frozen dataclass. The keyword-only parameters of its constructor are
    configuration keys of runs on such rows, and the constructor's defaults are their defaults.

    Attributes:
        name: of the kind.
        plural: what rows are called in messages.
        limit: standard deviations that standardized entries are clipped to, or None.
        rounding: the share of its mean by which rounding blurs an entry of :meth:`featurize`.
        augments_raw_rows: whether augmentation changes rows before :meth:`featurize`, in the
            file's units; otherwise it changes rows in the model's units.
        reads_tracks: whether rows are windows of tracks, which are read from tables of joints.
        group_noun: what the rows that are evaluated together are called.
        augmentations: by name, functions of rows (B, ...) that return rows of the same shape.
        default_augmentation: the names, separated by commas, that "auto" selects.
        x_shape: shape of a row as a model takes it.
        likelihood: as :func:`pyro_gmmvae.distributions.parse_likelihood` reads it.
        columns: names of the entries, or None.
        missing: whether rows may hold NaN, for entries that are not known.
        edges: pairs of joint numbers; none where a row is not a skeleton.
        specs: the columns, where each entry of a row is a cell with a kind of its own.
    """

    name: ClassVar[str]
    plural: ClassVar[str]
    limit: ClassVar[float | None] = None
    rounding: ClassVar[float] = 0.0
    augments_raw_rows: ClassVar[bool] = False
    reads_tracks: ClassVar[bool] = False
    group_noun: ClassVar[str] = "row"
    augmentations: ClassVar[Mapping[str, Callable[..., "Tensor"]]]
    default_augmentation: ClassVar[str]
    x_shape: tuple[int, ...]
    likelihood: str
    columns: tuple[str, ...] | None
    missing: bool
    edges: Pairs = ()
    specs: tuple[Column, ...] = ()

    @classmethod
    def own_keys(cls) -> dict[str, Any]:
        """Configuration keys of this kind, with their defaults."""
        return {
            name: parameter.default
            for name, parameter in inspect.signature(cls).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }

    # -- from the file to the model --------------------------------------------------------

    def featurize(self, x: "Tensor") -> "Tensor":
        """Turn rows (B, ...) of the file into model inputs (B, *x_shape), in the file's units."""
        return x

    def featurize_array(self, rows: NDArray[Any]) -> NDArray[Any]:
        """:meth:`featurize` for arrays of any length."""
        return rows

    def augmentation(self, names: str | None) -> "Callable[[Tensor], Tensor] | None":
        """The augmentations with some names, one after the other; None: no augmentation.

        Args:
            names: keys of ``augmentations`` separated by commas, or "auto": what suits the rows.

        Raises:
            GMMVAEError: a name that is not an augmentation of this kind of rows.
        """
        text = self.default_augmentation if names == "auto" else names or ""
        steps = []
        for name in filter(None, (part.strip() for part in text.split(","))):
            if name not in self.augmentations:
                near = nearest(name, self.augmentations)
                hint = f"did you mean {near!r}?" if near else "augment=auto takes what suits"
                raise GMMVAEError(
                    f"augment={name}: the rows are {self.plural}, which take "
                    f"{', '.join(self.augmentations)}; {hint}"
                )
            steps.append(self._bind(self.augmentations[name]))
        if len(steps) < 2:
            return next(iter(steps), None)
        return functools.partial(_one_after_the_other, steps)

    def _bind(self, function: "Callable[..., Tensor]") -> "Callable[[Tensor], Tensor]":
        """An augmentation with the facts that it needs of this kind."""
        return function

    # -- how a row is drawn ----------------------------------------------------------------

    @property
    @abstractmethod
    def drawing(self) -> str:
        """The drawing of a row: "image", "profile", "series" or "skeleton".

        - image: (channels, height, width);
        - profile: (D,), a line over its entries;
        - series: (T, ...), an image with the frames from left to right;
        - skeleton: the joints that :meth:`poses` gives, with ``edges`` between them.
        """

    @property
    def entry_names(self) -> tuple[str, ...]:
        """A name for each entry of a row."""
        return self.columns or tuple(str(entry) for entry in range(int(np.prod(self.x_shape))))

    @property
    def y_down(self) -> bool:
        """Whether y grows downwards in a drawing, as in an image."""
        return True

    def poses(self, rows: NDArray[Any]) -> NDArray[Any]:  # noqa: ARG002
        """(N, T, J, C) joint positions of rows (N, *x_shape) in the file's units.

        T is 1 where a row keeps only the mean pose.

        Raises:
            GMMVAEError: rows that hold no joint positions.
        """
        raise GMMVAEError(f"rows are {self.plural}: they hold no joint positions to draw")

    # -- in a run folder -------------------------------------------------------------------

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Plain values for :meth:`from_json`."""

    @classmethod
    @abstractmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The kind that :meth:`to_json` described.

        Raises:
            KeyError, TypeError, ValueError: content that does not describe a kind.
        """


@dataclass(frozen=True)
class _Numbers(RowKind):
    """Rows that are modelled as they are in the file.

    Args:
        x_shape: of a row.
        likelihood: as for :class:`RowKind`.
        columns: names of the entries, or None.
        missing: as for :class:`RowKind`.
    """

    x_shape: tuple[int, ...]
    likelihood: str = "normal"
    columns: tuple[str, ...] | None = None
    missing: bool = False

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        columns, shape = content["columns"], checked_shape(content["x_shape"])
        if columns is not None:
            columns = tuple(str(name) for name in columns)
            if len(columns) != int(np.prod(shape)):
                raise ValueError(f"{len(columns)} columns for rows of shape {shape}")
        return cls(shape, str(content["likelihood"]), columns, bool(content["missing"]))


class Image(_Numbers):
    """Images (channels, height, width)."""

    name: ClassVar[str] = "image"
    plural: ClassVar[str] = "images"
    augmentations: ClassVar[Mapping[str, Callable[..., "Tensor"]]] = {"affine": affine}
    default_augmentation: ClassVar[str] = "affine"

    def _bind(self, function: "Callable[..., Tensor]") -> "Callable[[Tensor], Tensor]":
        return functools.partial(function, missing=self.missing)

    @property
    def drawing(self) -> str:
        return "image"


class Table(_Numbers):
    """Rows of plain numbers (D,), or of another shape that is not an image's."""

    name: ClassVar[str] = "table"
    plural: ClassVar[str] = "plain numbers"
    augmentations: ClassVar[Mapping[str, Callable[..., "Tensor"]]] = {
        "noise": noise,
        "dropout": dropout,
    }
    default_augmentation: ClassVar[str] = "noise,dropout"

    @property
    def drawing(self) -> str:
        return "profile" if len(self.x_shape) == 1 else "series"


def checked_shape(values: Sequence[Any]) -> tuple[int, ...]:
    """A shape that was read from a file.

    Raises:
        ValueError: numbers that are not a shape.
    """
    if not values or not all(type(n) is int and n > 0 for n in values):
        raise ValueError(f"x_shape: {values!r} is not the shape of a row")
    return tuple(values)


def _one_after_the_other(steps: "list[Callable[[Tensor], Tensor]]", x: "Tensor") -> "Tensor":
    for step in steps:
        x = step(x)
    return x
