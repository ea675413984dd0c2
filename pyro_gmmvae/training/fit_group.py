"""Fits of one program, side by side: their losses and gradients are one batched program."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from pyro_gmmvae.training.batched_step import BatchedStep
from pyro_gmmvae.training.capture import BF16_TOLERANCE, CaptureError
from pyro_gmmvae.training.cuda_graphs import CUDAGraphRecorder, CUDAGraphStep
from pyro_gmmvae.training.devices import rng_state, set_rng_state, uses_tf32
from pyro_gmmvae.training.loop import Fit
from pyro_gmmvae.training.optimizer import NonFiniteError
from pyro_gmmvae.training.precision import why_not_deterministic
from pyro_gmmvae.training.signals import StopRequest, stop_on_signal

Save = Callable[[Fit], None]
Result = TypeVar("Result")


class FitGroup:
    """Runs fits of one program together, each to the end that it has alone.

    They may differ in seeds, rows, labels, and in the values of numbers that are tensors or belong
    to the optimizer: learning rates, weights of terms, schedules, budgets. A step is one batched
    evaluation and then each fit's own update: batches, random numbers, clipping, Adam, validation
    and checkpoints are those of the fit alone, up to the rounding of batched products.

    Args:
        fits: at their first step, or all at the same batch of an epoch.
        noise: the states of torch's generators for each fit, from :func:`rng_state`.
        one_program: the fits differ in nothing but seeds, rows and labels.

    Raises:
        CaptureError: fits that can't be one program, with the reason.
    """

    def __init__(
        self,
        fits: Sequence[Fit],
        noise: Sequence[Mapping[str, Tensor]],
        *,
        one_program: bool = False,
    ) -> None:
        self.fits, self.one_program = list(fits), one_program
        self.streams = RandomStreams(noise, fits[0].device)
        self.errors: dict[int, NonFiniteError] = {}
        self.running = list(range(len(self.fits)))
        self.step: BatchedStep
        self.cuda_graph_step: CUDAGraphStep | None = None
        self._labeling, self._now, self._saved_at = False, 0.0, 0.0
        for fit in self.fits:
            check_for_group(fit, self.fits[0])

    def run(self, saves: Sequence[Save]) -> list[str | NonFiniteError]:
        """Run all fits to their ends.

        Args:
            saves: of each fit, as for :meth:`Fit.run`.

        Returns:
            As :meth:`Fit.run` for each fit; the error of a fit with a NaN, without which the others
            go on.

        Raises:
            CaptureError: before the first step.
        """
        first = self.fits[0]
        if first.settings.deterministic:
            first.log(why_not_deterministic(first.device))
        with first.switches():
            self.begin()  # before signals are caught: Ctrl-C ends it
            with stop_on_signal() as stop:
                self._saved_at = time.monotonic()
                outcomes = self._run_epochs(stop, saves)
        for number, outcome in outcomes.items():
            for callback in self.fits[number].callbacks:
                callback.on_end(outcome)
        return [self.errors.get(number) or outcomes[number] for number in range(len(self.fits))]

    def _run_epochs(self, stop: StopRequest, saves: Sequence[Save]) -> dict[int, str]:
        outcomes: dict[int, str] = {}
        while self.running:
            self.run_batches(stop)
            due = time.monotonic() - self._saved_at >= self.fits[0].settings.checkpoint_seconds
            for number in self.running:
                ended = self._of(number, self._end_epoch, number, due, stop, saves[number])
                if ended is not None:
                    outcomes[number] = ended
            self._saved_at = time.monotonic() if due else self._saved_at
            before = self.running
            self.running = [n for n in before if n not in outcomes and n not in self.errors]
            if self.running and self.running != before:
                for place, number in enumerate(before):
                    if number not in self.running:
                        self.step.release(place)
                self.begin()
        return outcomes

    def begin(self) -> None:
        """Build the program of the fits that are running, within the switches of a fit."""
        running = list(self.running)
        fits = [self.fits[number] for number in running]
        for fit in fits:
            fit.module.train()
            fit.state.engine = "batched"

        def streams(place: int | None) -> Any:
            return self.streams(None if place is None else running[place])

        verify = fits[0].settings.verify
        self.step = BatchedStep(
            [_WholeStep(fit) for fit in fits],
            streams,
            one_program=self.one_program,
            verify=verify,
            tolerance=_tolerance(fits[0]),
        )
        self.cuda_graph_step = None
        if fits[0].device.type == "cuda":
            self.cuda_graph_step = CUDAGraphStep(
                self._update,
                self._changed_tensors,
                fits[0].log,
                lambda: CUDAGraphRecorder(self.streams.generators),
                verify=verify,
                rng=(self.streams.state, self.streams.restore),
                evaluate=lambda x, y: self.step.evaluations[0](x[0], y[0]),
            )
        labelers = [fit.pseudo_labeler for fit in fits if fit.pseudo_labeler is not None]
        for labeling in (False, True) if labelers else (False,):
            for labeler in labelers:
                labeler.active = labeling
            for batches in zip(*(fit.batches.examples() for fit in fits), strict=True):
                x, y = (torch.stack(same) for same in zip(*batches, strict=True))
                with fits[0].products():
                    self.step.prepare(x, y, kind=labeling)
        self._now = time.monotonic()  # a fit's time is that of its steps

    def run_batches(self, stop: StopRequest) -> None:
        """Take steps to the end of the epoch, or to a signal."""
        fits = [self.fits[number] for number in self.running]
        for fit in fits:
            fit.module.train()
        if self.cuda_graph_step is not None:
            self.cuda_graph_step.refresh()
        for batches in zip(*(fit.batches.epoch(fit.state.batch) for fit in fits), strict=True):
            labeling = [self._of(n, self.fits[n].begin_step) for n in self.running]
            x, y = (torch.stack(same) for same in zip(*batches, strict=True))
            self._labeling = any(labeling)  # None: of a fit with an error
            if self.cuda_graph_step is None:
                self._update(x, y)
            else:
                self.cuda_graph_step(x, y, self._labeling)
            now = time.monotonic()
            share, self._now = (now - self._now) / len(fits), now
            for number in self.running:
                self._of(number, self._end_step, self.fits[number], share)
            if stop.signal:
                break

    def _update(self, x: Tensor, y: Tensor) -> None:
        """Do the device's part of a step, as that of a fit."""
        with self.fits[0].products():
            terms = self.step(x, y, kind=self._labeling)
        for number, one in zip(self.running, terms, strict=True):
            self._of(number, self.fits[number].apply, {"loss": one.loss} | one.parts)

    def _changed_tensors(self) -> dict[str, list[Tensor]]:
        """The tensors that a step changes, in groups by name."""
        groups: dict[str, list[Tensor]] = {}
        for number in self.running:
            for name, tensors in self.fits[number].changed_tensors().items():
                groups.setdefault(name, []).extend(tensors)
        return groups

    def _end_step(self, fit: Fit, seconds: float) -> None:
        fit.end_step(fit.state.seconds + seconds)
        for callback in fit.callbacks:
            callback.on_step(fit.fraction())

    def _end_epoch(self, number: int, due: bool, stop: StopRequest, save: Save) -> str | None:
        """Close the epoch and save where it is due; returns the outcome of a fit that ended."""
        fit = self.fits[number]
        fit.clock = time.monotonic() - fit.state.seconds
        if fit.state.batch == len(fit.batches):
            fit.close_epoch()
        ended = fit.outcome() or (stop.signal.name if stop.signal else None)
        if due or ended is not None:
            fit.checkpoint(stop, save)
        self._now = time.monotonic()
        return ended

    def _of(self, number: int, function: Callable[..., Result], *args: Any) -> Result | None:
        """Call a function with the random numbers of a fit; keep its error."""
        if number in self.errors:
            return None
        try:
            with self.streams(number):
                return function(*args)
        except NonFiniteError as error:
            self.errors[number] = error
            return None


class RandomStreams:
    """The states of torch's generators of several fits.

    On CUDA each fit has a generator of its own, whose state takes the place of that of the default
    one: a recorded step can change places, but can't read or set a state.

    Args:
        states: of each fit, from :func:`rng_state`.
        device: of the fits.
    """

    def __init__(self, states: Sequence[Mapping[str, Tensor]], device: torch.device) -> None:
        self.states, self.device = [dict(state) for state in states], device
        self.generators: list[torch.Generator] = []
        if device.type == "cuda":
            for state in self.states:
                self.generators.append(torch.Generator(device))
                self.generators[-1].set_state(state.pop("cuda").cpu())

    @contextmanager
    def __call__(self, number: int | None) -> Iterator[None]:
        """Within the block the generators are those of a fit; None: draws are not counted."""
        if number is None:
            before = rng_state(self.device)
            try:
                yield
            finally:
                set_rng_state(self.device, before)
            return
        own = self._in_place_of_default(self.generators[number]) if self.generators else None
        with own or nullcontext(), self._of_host(number):
            yield

    @contextmanager
    def _of_host(self, number: int) -> Iterator[None]:
        """Use a fit's states of the generators that are no device's."""
        if self.generators and torch.cuda.is_current_stream_capturing():
            yield
            return
        kinds = self.states[number]
        before = rng_state(self.device)
        set_rng_state(self.device, kinds)
        try:
            yield
        finally:
            now = rng_state(self.device)
            self.states[number] = {kind: now[kind] for kind in kinds}
            set_rng_state(self.device, {kind: before[kind] for kind in kinds})

    @contextmanager
    def _in_place_of_default(self, generator: torch.Generator) -> Iterator[None]:
        index = self.device.index
        default = torch.cuda.default_generators[
            torch.cuda.current_device() if index is None else index
        ]
        kept = default.graphsafe_get_state()
        default.graphsafe_set_state(generator)
        try:
            yield
        finally:
            default.graphsafe_set_state(kept)

    def state(self, device: torch.device) -> dict[str, Tensor]:
        """The states of all generators, by name."""
        fits = {f"cuda {n}": g.get_state() for n, g in enumerate(self.generators)}
        return rng_state(device) | fits

    def restore(self, device: torch.device, state: Mapping[str, Tensor]) -> None:
        """Restore :meth:`state`."""
        set_rng_state(device, state)
        for number, generator in enumerate(self.generators):
            generator.set_state(state[f"cuda {number}"])


class _WholeStep(nn.Module):
    """The evaluation of a batch of rows in a fit, with pseudo-labels and augmentation."""

    def __init__(self, fit: Fit) -> None:
        super().__init__()
        self.module, self.objective, self.labeler = fit.module, fit.objective, fit.pseudo_labeler
        # its tensors, too, are inputs of the program
        self.inputs, self.featurize = fit.objective_inputs, fit.preprocessing.featurize

    def forward(self, x: Tensor, y: Tensor) -> Any:
        """The terms of rows x (B, *x_shape) with labels y (B,)."""
        return self.objective(*self.inputs(x, y))


def check_for_group(fit: Fit, first: Fit) -> None:
    """Check that a fit can run beside another one.

    Raises:
        CaptureError: with the reason.
    """
    if fit.settings.minutes is not None:
        raise CaptureError("fits with a budget in minutes run one by one")
    if _switches(fit) != _switches(first):
        raise CaptureError("fits that differ in device or precision run one by one")
    if fit.world.size > 1:
        raise CaptureError("fits of several processes run one by one")
    if _steps_to_labels(fit) != _steps_to_labels(first):
        raise CaptureError("fits that use pseudo-labels from different steps on run one by one")
    sizes, others = ([x.shape for x, _ in one.batches.examples()] for one in (fit, first))
    steps, other_steps = ((len(one.batches), one.state.batch) for one in (fit, first))
    if (steps, sizes) != (other_steps, others):
        raise CaptureError("fits with batches of different sizes run one by one")


def _steps_to_labels(fit: Fit) -> int | None:
    """The number of steps until pseudo-labels are used; None: they never are."""
    labeler = fit.pseudo_labeler
    return None if labeler is None else max(0, labeler.from_step - fit.state.step)


def _switches(fit: Fit) -> tuple[Any, ...]:
    """Settings of the process, which are those of all fits."""
    settings = fit.settings
    return fit.device, settings.precision, settings.tf32, settings.deterministic


def _tolerance(fit: Fit) -> float | None:
    """Of the check of a step: single and batched products round at different places."""
    settings = fit.settings
    rounds = settings.precision == "bf16" or uses_tf32(settings, fit.device)
    return BF16_TOLERANCE if rounds else None
