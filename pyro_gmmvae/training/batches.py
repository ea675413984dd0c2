"""Minibatches with class-balanced labelled rows, and the augmentation of their rows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.training.devices import seeded
from pyro_gmmvae.training.distributed import SINGLE_PROCESS, World


def _identity(x: Tensor) -> Tensor:
    return x


def binary_draws(x: Tensor) -> Tensor:
    """x' ~ Bernoulli(x), elementwise, for rows in [0, 1] that training draws anew in each batch.

    A missing entry (NaN) stays missing.
    """
    return torch.where(x.isnan(), x, (torch.rand_like(x) < x).to(x.dtype))


class Featurizer(nn.Module):
    """Turns rows into the inputs of a model: features, in the model's units.

    The units are buffers, so that a recorded step takes them as inputs.

    Args:
        features: of rows (B, *shape), in the file's units.
        shift, scale: of the features.
        limit: the largest magnitude of an input; None: there is none.
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        features: Callable[[Tensor], Tensor],
        shift: Tensor,
        scale: Tensor,
        limit: float | None = None,
    ) -> None:
        super().__init__()
        self.features, self.limit = features, limit
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (B, *x_shape) of rows."""
        x = (self.features(x) - self.shift) / self.scale
        return x if self.limit is None else x.clamp(-self.limit, self.limit)


@dataclass(frozen=True)
class Preprocessing:
    """Augmentation and features of a batch's rows.

    Attributes:
        augment: changes rows (B, *x_shape) at random, or None.
        featurize: turns rows into the inputs of objective and pseudo-labeler, after augmentation.
        paired: give the objective the inputs of the original rows, too.
    """

    augment: Callable[[Tensor], Tensor] | None = None
    featurize: Callable[[Tensor], Tensor] = _identity
    paired: bool = False

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        """The inputs of the augmented rows and, if paired, those of the original rows."""
        if self.augment is None:
            return (self.featurize(x),)
        inputs = self.featurize(self.augment(x))
        return (inputs, self.featurize(x)) if self.paired else (inputs,)

    def example(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        """The objective's arguments for rows and labels; the global generators stay as they are."""
        with seeded(0, x.device):
            inputs = self.featurize(x)
        if self.augment is None or not self.paired:
            return inputs, y
        # other rows stand for the augmented ones: a tracer takes one tensor for one input
        return inputs.roll(1, 0), y, inputs


class IndexedRows(Protocol):
    """Rows that are indexed by their numbers, and the device they come out on."""

    @property
    def device(self) -> torch.device: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Tensor, /) -> Tensor: ...


class Batches:
    """Shuffled minibatches of (x, y) on one device.

    An epoch is one pass over all rows in a random order, or several. Each batch holds ``labelled``
    rows drawn class-balanced, with replacement, from those that have a label: with 100 labels
    among 50,000 rows they would otherwise be seen once in 500 rows and drown.

    Rows with weights are drawn in proportion to them: an epoch has N draws, among which a row of
    weight w occurs N w / sum(w) times, rounded up or down at random so that the mean is exact.
    Balanced rows are drawn by their weights within their class.

    Args:
        x: rows (N, *x_shape): a tensor, or an object that is indexed like one.
        y: labels (N,), int64, -1 where unknown.
        batch_size: rows per batch, the balanced ones included.
        labelled: how many of them are balanced labelled rows; taken as 0 where no row has one.
        seed: of the order and the draws.
        world: the processes that share each batch; all draw the same order.
        weights: (N,) positive weights of the rows; None: all are equal.
        classes: (N,) the class by which a row is balanced, -1 for none; None: its label.
        least_steps: an epoch has as many passes as make about this many steps, at least one; a fit
            validates after each epoch, which would take most of its time where rows are few.

    Raises:
        GMMVAEError: sizes that disagree or leave no room for the shuffled rows.
    """

    def __init__(
        self,
        x: IndexedRows,
        y: Tensor,
        batch_size: int,
        labelled: int,
        seed: int,
        world: World = SINGLE_PROCESS,
        *,
        weights: Tensor | None = None,
        classes: Tensor | None = None,
        least_steps: int = 1,
    ) -> None:
        if len(x) != len(y) or not len(x):
            raise GMMVAEError(f"{len(x)} rows and {len(y)} labels can't be batched")
        check_batch_size(batch_size, labelled)
        self.x, self.y, self.world = x, y, world
        # the order is drawn on the CPU, so that every device gets the same batches
        y = class_labels(y if classes is None else classes).cpu()
        rows = torch.nonzero(y >= 0).squeeze(-1)
        self.labelled = labelled if len(rows) else 0
        self.shuffled = min(batch_size - self.labelled, len(x))
        self.passes = max(1, least_steps // -(-len(x) // self.shuffled))
        if world.size > 1 and self.labelled // world.size + self.shuffled // world.size < 2:
            raise GMMVAEError(
                f"batch_size {batch_size} leaves less than two rows to each of the {world.size} "
                "processes"
            )
        self._by_class = rows[y[rows].argsort(stable=True)]
        self._counts = torch.bincount(y[rows]) if len(rows) else y.new_zeros(1)
        self._present = torch.nonzero(self._counts).squeeze(-1)
        self._starts = self._counts.cumsum(0) - self._counts
        self._weights = None if weights is None else weights.double().cpu()
        self.generator = torch.Generator("cpu").manual_seed(seed)

    def __len__(self) -> int:
        """Steps per epoch; the last batch may be smaller."""
        return -(-self.passes * len(self.x) // self.shuffled)

    def epoch(self, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of one epoch from step ``start`` on.

        All random numbers are drawn first, so that the generator's state at the start of an
        epoch determines its batches.
        """
        order = torch.cat([self._order() for _ in range(self.passes)])
        # the host reads rows from disk, and need not wait for a device
        where = self.x.device if isinstance(self.x, Tensor) else order.device
        order, balanced = order.to(where), self._balanced_rows().to(where)
        for step in range(start, len(self)):
            rows = order[step * self.shuffled : (step + 1) * self.shuffled]
            rows = order[-self._fewest(len(rows)) :] if step == len(self) - 1 else rows
            rows = self._shared(balanced[step], rows)
            yield self.x[rows], self.y[rows.to(self.y.device)]

    def _order(self) -> Tensor:
        """(N,) row numbers of one pass, shuffled."""
        N = len(self.x)
        order = torch.randperm(N, generator=self.generator, device="cpu")
        if self._weights is None:
            return order
        # equal steps through the sum of the weights, from a random start
        start = torch.rand(1, generator=self.generator, device="cpu", dtype=torch.float64)
        places = (torch.arange(N, device="cpu") + start) / N
        sums = self._weights.cumsum(0)
        return torch.searchsorted(sums, places * sums[-1], right=True).clamp_max(N - 1)[order]

    def _fewest(self, rows: int) -> int:
        """The number of rows in a last batch that ``rows`` are left for.

        Batch norm can't train on a single row, so each process gets two.
        """
        size = self.world.size
        while self.labelled // size + rows // size < 2 and rows < len(self.x):
            rows += 1
        return rows

    def _shared(self, labelled: Tensor, rows: Tensor) -> Tensor:
        """This process's rows of a batch."""
        if self.world.size > 1:
            labelled, rows = self.world.shard(labelled), self.world.shard(rows)
        return torch.cat([labelled, rows]) if self.labelled else rows

    def examples(self) -> list[tuple[Tensor, Tensor]]:
        """A batch of each shape an epoch has, the usual one first; draws nothing."""
        rows_of_epoch = self.passes * len(self.x)
        last = self._fewest(rows_of_epoch - (len(self) - 1) * self.shuffled)
        sizes = dict.fromkeys((self.shuffled, last) if len(self) > 1 else (last,))
        places = torch.arange(self.labelled, device="cpu") % max(1, len(self._by_class))
        labelled = self._by_class[places]
        rows = [self._shared(labelled, torch.arange(n, device="cpu")) for n in sizes]
        return [(self.x[r.to(self.x.device)], self.y[r.to(self.x.device)]) for r in rows]

    def _balanced_rows(self) -> Tensor:
        """Row numbers (steps, labelled): classes in turn, a random labelled row of each."""
        shape = (len(self), self.labelled)
        if not self.labelled:
            return torch.empty(shape, dtype=torch.int64, device="cpu")
        turn = torch.arange(len(self) * self.labelled, device="cpu").view(shape)
        label = self._present[turn % len(self._present)]
        uniform = torch.rand(shape, generator=self.generator, device="cpu")
        first, last = self._starts[label], self._starts[label] + self._counts[label] - 1
        if self._weights is None:
            within = (uniform * self._counts[label]).long().minimum(last - first)
            return self._by_class[first + within]
        sums = self._weights[self._by_class].cumsum(0)
        below = torch.cat([sums.new_zeros(1), sums])[first]
        place = below + uniform.double() * (sums[last] - below)
        found = torch.searchsorted(sums, place, right=True)
        return self._by_class[found.clamp(first, last)]


def check_batch_size(batch_size: int, labelled: int) -> None:
    """Check that the balanced labelled rows of a batch leave room for shuffled ones.

    Raises:
        GMMVAEError: with the largest possible number.
    """
    if not 0 <= labelled < batch_size:
        raise GMMVAEError(
            f"labelled_per_batch must be in 0..{batch_size - 1} for a batch size of "
            f"{batch_size}, not {labelled}"
        )


def class_labels(y: Tensor) -> Tensor:
    """(N,) labels of the class: y itself, or its first column where it has one per factor."""
    return y if y.dim() == 1 else y[:, 0]
