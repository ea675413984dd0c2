"""A whole training step as one CUDA graph.

At the batch sizes of these models a GPU computes a step's kernels faster than the host launches
them. A CUDA graph launches all of them at once: relabelling, augmentation, loss, gradients,
clipping and Adam, on buffers that keep their addresses.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.training.capture_errors import explained
from pyro_gmmvae.training.devices import rng_state, set_rng_state

WARM_UP = 3
"""Steps of a kind before it is recorded: in them libraries and Adam allocate their memory."""

Launch = Callable[[], None]

State = Mapping[str, Sequence[Tensor]]


class ReplayError(GMMVAEError):
    """A recorded step that does something else than the step it was recorded from."""


class CUDAGraphStep:
    """Takes steps by replaying a recorded one, after a few of the same kind were taken directly.

    Where a step can't be recorded, or its replay does something else, steps are taken directly
    from then on, and the reason is logged.

    Args:
        update: takes a step on (x, y): changes tensors in place, and reads none of their values.
            Whatever varies between steps of one kind is in tensors too.
        tensors: gives every tensor that it changes, in groups by name.
        log: called with a line if recording fails, once.
        recorder: makes a function that records steps: called with a step, it gives a function
            that launches the recording. A new one is made when all recordings are dropped.
        verify: compare the first replay of each kind with the step itself.
        evaluate: evaluates the objective on (x, y) without a graph, to find the line that can't be
            recorded.
        rng: functions that read and restore the states of the generators that steps use.
    """

    def __init__(
        self,
        update: Callable[[Tensor, Tensor], None],
        tensors: Callable[[], State],
        log: Callable[[str], None],
        recorder: Callable[[], Callable[[Launch], Launch]],
        *,
        verify: bool = True,
        evaluate: Callable[[Tensor, Tensor], Any] = lambda x, y: None,  # noqa: ARG005
        rng: tuple[Callable[..., Any], Callable[..., None]] = (rng_state, set_rng_state),
    ) -> None:
        self.rng_state, self.set_rng_state = rng
        self.update, self.tensors, self.log, self.verify = update, tensors, log, verify
        self.evaluate = evaluate
        self.recorder, self.record = recorder, recorder()
        self.failed = False
        self._stream: torch.cuda.Stream | None = None
        self._taken: dict[Hashable, int] = {}
        self._batches: dict[Hashable, tuple[Tensor, Tensor]] = {}
        self._launches: dict[Hashable, Launch] = {}
        self._recorded: list[tuple[int, bool]] = []

    def refresh(self) -> None:
        """Drop the recordings if a tensor was replaced since: a graph holds addresses."""
        if self._launches and self._identities() != self._recorded:
            self._launches.clear()
            self._taken.clear()
            # the memory that the dropped graphs shared can't be used by another one
            self.record = self.recorder()

    def _identities(self) -> list[tuple[int, bool]]:
        """The address of each tensor, and whether it is fitted."""
        tensors = (tensor for group in self.tensors().values() for tensor in group)
        return [(tensor.data_ptr(), tensor.requires_grad) for tensor in tensors]

    def __call__(self, x: Tensor, y: Tensor, kind: Hashable = None) -> None:
        """Take a step.

        Args:
            x, y: the batch.
            kind: key that distinguishes steps with different kernels but one batch shape.
        """
        key = (x.shape, kind)
        if self.failed:
            self.update(x, y)
            return
        if key not in self._batches:
            self._batches[key] = torch.empty_like(x), torch.empty_like(y)
        batch = self._batches[key]
        for buffer, value in zip(batch, (x, y), strict=True):
            buffer.copy_(value)
        launch = self._launches.get(key)
        if launch is not None:
            launch()
        elif self._taken.get(key, 0) < WARM_UP:
            self._taken[key] = self._taken.get(key, 0) + 1
            self._on_own_stream(lambda: self.update(*batch))
        else:
            self._first_replay(key, lambda: self.update(*batch), x.device)

    def _first_replay(self, key: Hashable, step: Launch, device: torch.device) -> None:
        """Record a kind of step, and take one; optionally in both ways, to compare them."""
        expected, expected_rng = {}, {}
        before, start = _copies(self.tensors()), self.rng_state(device)
        if self.verify:
            self._on_own_stream(step)
            expected, expected_rng = _copies(self.tensors()), self.rng_state(device)
            _restore(self.tensors(), before)
            self.set_rng_state(device, start)
        try:
            launch = self.record(step)
            if device.type == "cuda" and not torch.equal(torch.get_rng_state(), start["cpu"]):
                raise ReplayError("it draws from the CPU's generator, once for all replays")
            launch()
            if self.verify:
                _compare(expected, self.tensors(), before)
                if any(
                    not torch.equal(expected_rng[k], v) for k, v in self.rng_state(device).items()
                ):
                    raise ReplayError("other random numbers are drawn")
        except (RuntimeError, ReplayError) as error:
            self.failed = True
            self._launches.clear()
            why = explained(error, lambda: self.evaluate(*self._batches[key]))
            self.log(f"steps are not replayed as a CUDA graph: {why}")
            self._take_directly(key, before, start)
        else:
            self._launches[key], self._recorded = launch, self._identities()

    def _take_directly(self, key: Hashable, before: State, start: Mapping[str, Tensor]) -> None:
        """Take the step that could not be recorded."""
        try:
            _restore(self.tensors(), before)
            self.set_rng_state(before["parameters"][0].device, start)
            self.update(*self._batches[key])
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            # torch does not always recover from a failed recording
            raise ReplayError(
                f"a step that can't be recorded left CUDA unusable ({explained(error)}); fit with "
                "--engine svi"
            ) from error

    def _on_own_stream(self, step: Launch) -> None:
        """Take a step on a separate stream: memory allocated there belongs to no graph."""
        if next(iter(self._batches.values()))[0].device.type != "cuda":
            step()
            return
        if self._stream is None:
            self._stream = torch.cuda.Stream()
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            step()
        current.wait_stream(self._stream)


class CUDAGraphRecorder:
    """Records on CUDA; all graphs share memory, as one replay ends before another begins.

    Args:
        generators: that steps draw from, beside the default one.
    """

    def __init__(self, generators: Sequence[torch.Generator] = ()) -> None:
        self.generators = generators
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, step: Launch) -> Launch:
        graph = torch.cuda.CUDAGraph()
        for generator in self.generators:
            graph.register_generator_state(generator)
        # torch leaves the stream of a failed recording the current one
        current = torch.cuda.stream(torch.cuda.current_stream())
        # in the default mode another thread, such as a logger's, may not allocate memory meanwhile
        mode = "thread_local"
        with current, torch.cuda.graph(graph, pool=self.pool, capture_error_mode=mode):
            step()
        return graph.replay


def _copies(tensors: State) -> dict[str, list[Tensor]]:
    return {kind: [t.detach().clone() for t in group] for kind, group in tensors.items()}


def _restore(tensors: State, values: State) -> None:
    with torch.no_grad():
        for kind, group in values.items():
            for tensor, value in zip(tensors[kind], group, strict=True):
                tensor.copy_(value)


def _compare(expected: State, actual: State, before: State) -> None:
    """Check that a replay moved each group of tensors to where the step moves it.

    The order of a GPU's sums varies, and Adam follows the sign of a gradient that is all rounding,
    so that single entries may differ: the distance of the whole group counts.
    """
    for kind, values in expected.items():
        moved, error = _distance(values, before[kind]), _distance(values, actual[kind])
        size = _distance(values, [torch.zeros_like(t) for t in values])
        # non-finite values are reported by the training loop
        if not math.isfinite(moved):
            continue
        triples = zip(values, actual[kind], before[kind], strict=True)
        unmoved = any(_is_unmoved(*three) for three in triples)
        if unmoved or not error <= 0.1 * moved + 1e-6 * size:
            raise ReplayError(
                f"a replay moves {kind} elsewhere than the step itself does ({error:.2g} apart "
                f"after {moved:.2g})"
            )


def _is_unmoved(expected: Tensor, actual: Tensor, before: Tensor) -> bool:
    """Whether a tensor that the step moves stays, or nearly, at its value before."""
    moved, size = (
        _distance([expected], [before]),
        _distance([expected], [torch.zeros_like(expected)]),
    )
    return moved > 1e-6 * size and _distance([actual], [before]) < 0.5 * moved


def _distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    squares = [(x.double() - y.double()).square().sum() for x, y in zip(a, b, strict=True)]
    return math.sqrt(sum(square.item() for square in squares))
