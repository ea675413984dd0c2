"""A whole training step as one CUDA graph.

At the batch sizes of these models a GPU computes a step's kernels faster than the host launches
them. A CUDA graph launches all of them at once: relabelling, augmentation, loss, gradients,
clipping and Adam, on buffers that stay where they are.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence

import torch
from torch import Tensor

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.training.devices import rng_state, set_rng_state

WARM_UP = 3
"""Steps of a kind before it is recorded: libraries and Adam allocate what they need in these."""

Launch = Callable[[], None]

State = Mapping[str, Sequence[Tensor]]


class ReplayError(GMMVAEError):
    """A recorded step that does something else than the step it was recorded from."""


class Replay:
    """Takes steps by replaying them, once a few of the same kind were taken as they are.

    Where a step can't be recorded, or its replay does something else, steps go on to be taken as
    they are, and ``say`` hears why.

    Args:
        update: takes a step on (x, y): changes tensors in place, and looks at none of their
            values. What varies between steps of one kind lies in tensors too.
        tensors: every tensor that it changes, in groups by name.
        say: hears of a failure, once.
        recorder: makes what records the steps: called with what launches one, it gives what
            launches it again. A new one is made where all that was recorded is given up.
        verify: compare the first replay of each kind with the step itself.
    """

    def __init__(
        self,
        update: Callable[[Tensor, Tensor], None],
        tensors: Callable[[], State],
        say: Callable[[str], None],
        recorder: Callable[[], Callable[[Launch], Launch]],
        *,
        verify: bool = True,
    ) -> None:
        self.update, self.tensors, self.say, self.verify = update, tensors, say, verify
        self.recorder, self.record = recorder, recorder()
        self.failed = False
        self._stream: torch.cuda.Stream | None = None
        self._taken: dict[Hashable, int] = {}
        self._rows: dict[Hashable, tuple[Tensor, Tensor]] = {}
        self._launches: dict[Hashable, Launch] = {}
        self._recorded: list[tuple[int, bool]] = []

    def refresh(self) -> None:
        """Record anew where a tensor was replaced by another since: a graph knows addresses."""
        if self._launches and self._identities() != self._recorded:
            self._launches.clear()
            self._taken.clear()
            # the memory that the given up graphs shared can't take another one
            self.record = self.recorder()

    def _identities(self) -> list[tuple[int, bool]]:
        """Where the tensors lie, and which are fitted."""
        tensors = (tensor for group in self.tensors().values() for tensor in group)
        return [(tensor.data_ptr(), tensor.requires_grad) for tensor in tensors]

    def __call__(self, x: Tensor, y: Tensor, kind: Hashable = None) -> None:
        """Take a step.

        Args:
            x, y: the batch.
            kind: what else tells apart steps that launch other kernels.
        """
        key = (x.shape, kind)
        if self.failed:
            self.update(x, y)
            return
        if key not in self._rows:
            self._rows[key] = torch.empty_like(x), torch.empty_like(y)
        held = self._rows[key]
        for mine, given in zip(held, (x, y), strict=True):
            mine.copy_(given)
        launch = self._launches.get(key)
        if launch is not None:
            launch()
        elif self._taken.get(key, 0) < WARM_UP:
            self._taken[key] = self._taken.get(key, 0) + 1
            self._aside(lambda: self.update(*held))
        else:
            self._first(key, lambda: self.update(*held), x.device)

    def _first(self, key: Hashable, step: Launch, device: torch.device) -> None:
        """Record a kind of step, and take one; both ways, to compare them, if asked to."""
        left, drawn = {}, {}
        before, start = _copies(self.tensors()), rng_state(device)
        if self.verify:
            self._aside(step)
            left, drawn = _copies(self.tensors()), rng_state(device)
            _restore(self.tensors(), before)
            set_rng_state(device, start)
        try:
            launch = self.record(step)
            if device.type == "cuda" and not torch.equal(torch.get_rng_state(), start["cpu"]):
                raise ReplayError("it draws from the CPU's generator, once for all replays")
            launch()
            if self.verify:
                _compare(left, self.tensors(), before)
                if any(not torch.equal(drawn[k], v) for k, v in rng_state(device).items()):
                    raise ReplayError("other random numbers are drawn")
        except (RuntimeError, ReplayError) as error:
            self.failed = True
            self._launches.clear()
            self.say(f"steps are not replayed as a CUDA graph: {_cause(error)}")
            self._go_on(key, before, start)
        else:
            self._launches[key], self._recorded = launch, self._identities()

    def _go_on(self, key: Hashable, before: State, start: Mapping[str, Tensor]) -> None:
        """Take the step that could not be recorded as it is."""
        try:
            _restore(self.tensors(), before)
            set_rng_state(before["parameters"][0].device, start)
            self.update(*self._rows[key])
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            # torch does not always recover from a recording that broke off
            raise ReplayError(
                f"a step that can't be recorded left CUDA unusable ({_cause(error)}); fit with "
                "--engine svi"
            ) from error

    def _aside(self, step: Launch) -> None:
        """Take a step on a stream of its own: what is allocated there is no graph's memory."""
        if next(iter(self._rows.values()))[0].device.type != "cuda":
            step()
            return
        if self._stream is None:
            self._stream = torch.cuda.Stream()
        here = torch.cuda.current_stream()
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            step()
        here.wait_stream(self._stream)


class CudaGraphs:
    """Records on CUDA; all graphs share their memory, as one replay is over when another begins."""

    def __init__(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, step: Launch) -> Launch:
        graph = torch.cuda.CUDAGraph()
        # torch leaves the stream of a recording that broke off the current one
        here = torch.cuda.stream(torch.cuda.current_stream())
        with here, torch.cuda.graph(graph, pool=self.pool):
            step()
        return graph.replay


def _cause(error: BaseException) -> str:
    """The first line of what went wrong first: ending a broken recording raises too."""
    while error.__context__ is not None:
        error = error.__context__
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _copies(tensors: State) -> dict[str, list[Tensor]]:
    return {kind: [t.detach().clone() for t in group] for kind, group in tensors.items()}


def _restore(tensors: State, values: State) -> None:
    with torch.no_grad():
        for kind, group in values.items():
            for tensor, value in zip(tensors[kind], group, strict=True):
                tensor.copy_(value)


def _compare(expected: State, found: State, before: State) -> None:
    """Refuse a replay that did not move each group of tensors to where the step moves it.

    The order of a GPU's sums varies, and Adam follows the sign of a gradient that is all rounding,
    so that single entries may differ: the distance of the whole group counts.
    """
    for kind, wanted in expected.items():
        moved, error = _distance(wanted, before[kind]), _distance(wanted, found[kind])
        size = _distance(wanted, [torch.zeros_like(t) for t in wanted])
        # what is not finite is the fit's to report
        if not math.isfinite(moved):
            continue
        triples = zip(wanted, found[kind], before[kind], strict=True)
        still = any(_stands_still(*three) for three in triples)
        if still or not error <= 0.1 * moved + 1e-6 * size:
            raise ReplayError(
                f"a replay moves {kind} elsewhere than the step itself does ({error:.2g} apart "
                f"after {moved:.2g})"
            )


def _stands_still(wanted: Tensor, found: Tensor, before: Tensor) -> bool:
    """Whether a tensor that the step moves stays, or nearly, where it was."""
    moved, size = _distance([wanted], [before]), _distance([wanted], [torch.zeros_like(wanted)])
    return moved > 1e-6 * size and _distance([found], [before]) < 0.5 * moved


def _distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    squares = [(x.double() - y.double()).square().sum() for x, y in zip(a, b, strict=True)]
    return math.sqrt(sum(square.item() for square in squares))
