"""The training loop: stochastic variational inference for any model and objective."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from signal import Signals
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from pyro_gmmvae.key_types import Schedule
from pyro_gmmvae.training.batches import Batches, Preprocessing, class_labels
from pyro_gmmvae.training.callbacks import Callback, checked
from pyro_gmmvae.training.capture import BF16_TOLERANCE
from pyro_gmmvae.training.cuda_graphs import CUDAGraphRecorder, CUDAGraphStep
from pyro_gmmvae.training.devices import rng_state, set_rng_state, uses_tf32
from pyro_gmmvae.training.engines import build_engine
from pyro_gmmvae.training.fit_state import FitState, by_themselves
from pyro_gmmvae.training.optimizer import EpochMeans, NonFiniteError, Optimizer
from pyro_gmmvae.training.out_of_memory import batch_size_advice, out_of_memory_advice
from pyro_gmmvae.training.precision import (
    bf16_products,
    check_precision,
    process_switches,
    tf32_products,
    why_not_deterministic,
)
from pyro_gmmvae.training.pseudo_labels import PseudoLabeler
from pyro_gmmvae.training.settings import FitSettings, LossTerms, Record
from pyro_gmmvae.training.signals import StopRequest, stop_on_signal

STEPS_AHEAD = 50
"""The number of steps that the host queues up on a GPU before it waits and checks the numbers."""


class Fit:
    """Fits an objective with one fused Adam; can be stopped and resumed at any step.

    Args:
        objective: called with a batch (x, y), or (x, y, original) if ``preprocessing.paired``;
            gives :class:`LossTerms`.
        module: owns every parameter and buffer that is fitted and saved; those that the objective
            owns beside it, of discriminators, are fitted and stay in checkpoints.
        batches: the training rows, and the processes that share them.
        settings: budget, rate, clipping, patience.
        schedules: for each scheduled scalar, the 0-dimensional tensor to fill and its schedule.
        preprocessing: augmentation and features of a batch's rows.
        pseudo_labeler: fills in confident labels of unlabelled rows, or None; it sees the rows
            without augmentation.
        validate: gives held-out numbers after each epoch; ``val_accuracy``, or else
            ``val_elbo``, decides which weights are the best.
        callbacks: called at each epoch and step.
        labelled_weight: 0-dimensional tensor that multiplies the objective's mean over labelled
            rows; several processes fill it so that their means add up to one.
        state: to resume from; None: a new fit.

    Raises:
        GMMVAEError: a precision that the device does not support, or an object that is not a
            callback.
        KeyError, RuntimeError, TypeError, ValueError, AttributeError: a state of other parts.
    """

    def __init__(
        self,
        objective: Callable[..., LossTerms],
        module: nn.Module,
        batches: Batches,
        settings: FitSettings,
        *,
        schedules: Sequence[tuple[Tensor, Schedule]] = (),
        preprocessing: Preprocessing | None = None,
        pseudo_labeler: PseudoLabeler | None = None,
        validate: Callable[[], Record] = dict,
        callbacks: Sequence[Callback] = (),
        labelled_weight: Tensor | None = None,
        state: FitState | None = None,
    ) -> None:
        self.objective, self.module, self.batches = objective, module, batches
        self.settings, self.schedules, self.validate = settings, schedules, validate
        self.preprocessing = preprocessing or Preprocessing()
        self.pseudo_labeler, self.labelled_weight = pseudo_labeler, labelled_weight
        self.callbacks, self.world = checked(callbacks), batches.world
        own = {n: p for n, p in module.named_parameters() if p.requires_grad}
        # an objective owns those of its discriminators
        others = dict(objective.named_parameters()) if isinstance(objective, nn.Module) else {}
        known = {id(p) for p in module.parameters()}
        discriminators = {n: p for n, p in others.items() if id(p) not in known}
        self.parameters = [*own.values(), *discriminators.values()]
        self.device = self.parameters[0].device
        check_precision(settings.precision, self.device)
        self.means = EpochMeans()
        self.optimizer = Optimizer(
            module,
            settings.learning_rate,
            settings.clip_norm,
            self._step_name,
            weight_decay=settings.weight_decay,
            discriminators=discriminators,
            discriminator_rate=settings.discriminator_rate,
        )
        self.cuda_graph_step: CUDAGraphStep | None = None
        self._stopping: Signals | None = None
        self.restore(state or FitState())

    # -- the loop ---------------------------------------------------------------------------

    def run(self, save: Callable[["Fit"], None] = lambda fit: None) -> str:  # noqa: ARG005
        """Fit until the budget is spent, validation stalls, or a stop signal arrives.

        Args:
            save: called with this fit when a checkpoint is due, in the first process; it writes
                :meth:`snapshot`.

        Returns:
            "complete", "early-stopped", or the name of the signal ("SIGINT", "SIGTERM"). The
            last checkpoint has been saved in each case.

        Raises:
            NonFiniteError: at the first NaN or infinity; such a state is not saved.
            OutOfMemoryError: with the largest batch size that fits.
        """
        if self.settings.deterministic:
            self.log(why_not_deterministic(self.device))
        with self.switches(), out_of_memory_advice(self.device, self._advice):
            # before signals are caught: Ctrl-C ends half a minute of compilation
            with self.world.raise_together():
                line = self.prepare()
            self.log(line)
            # again: other processes may have prepared for longer
            self.clock = time.monotonic() - self.state.seconds
            self._saved_at, self._stopping = self.state.seconds, None
            with stop_on_signal() as stop:
                outcome = self._run_epochs(stop, save)
                self.checkpoint(stop, save)
        for callback in self.callbacks:
            callback.on_end(outcome)
        return outcome

    def run_epoch(self) -> None:
        """Take one pass over the batches, whatever the budget; no checkpoint is saved."""
        with self.switches():
            self.prepare()
            for x, y in self.batches.epoch():
                self.step(x, y)
            self.close_epoch()

    def log(self, line: str) -> None:
        """Call ``on_start`` of the callbacks with a line on the fit."""
        for callback in self.callbacks if line else ():
            callback.on_start(line)

    @contextmanager
    def switches(self) -> Iterator[None]:
        """Set the process-wide switches of a fit, and restore them."""
        deterministic = self.settings.deterministic
        with ExitStack() as switches:
            if self.device.type == "cuda":
                # streams and graphs belong to the current GPU, which may be another one
                switches.enter_context(torch.cuda.device(self.device))
                switches.enter_context(tf32_products(uses_tf32(self.settings, self.device)))
            switches.enter_context(process_switches(deterministic))
            switches.enter_context(pyro.validation_enabled(False))
            yield

    def prepare(self) -> str:
        """Build the engine (within :meth:`switches`), and return a line that names it.

        This time does not count towards ``minutes``. A resumed fit uses the engine it had, so
        that it computes the same bits.
        """
        settings, state = self.settings, self.state
        name = state.engine if settings.engine == "auto" and state.engine else settings.engine
        self.module.train()
        self._move_schedules()
        with self.products():
            self.engine, state.engine, reason = build_engine(
                name,
                self.objective,
                self.module,
                self._examples(),
                steps=settings.total_steps(len(self.batches)),
                minutes=settings.minutes,
                verify=settings.verify,
                compiled_tolerance=BF16_TOLERANCE if settings.precision == "bf16" else None,
                fall_back=settings.engine == "auto",
                log=self.log,
            )
        self.cuda_graph_step = None
        # a graph can't wait for other processes
        if state.engine != "svi" and self.device.type == "cuda" and self.world.size == 1:
            self.cuda_graph_step = CUDAGraphStep(
                self._update,
                self.changed_tensors,
                self.log,
                CUDAGraphRecorder,
                verify=settings.verify,
                evaluate=lambda x, y: self.objective(*self.objective_inputs(x, y)),
            )
        self.clock = time.monotonic() - state.seconds
        return f"engine: {state.engine}" + (f" ({reason})" if reason else "")

    def products(self) -> AbstractContextManager[Any]:
        """Compute matrix products of the objective in the precision of the settings."""
        return bf16_products(self.device) if self.settings.precision == "bf16" else nullcontext()

    def _advice(self) -> str:
        self.cuda_graph_step = None  # its memory counts too
        with self.products():
            return batch_size_advice(
                self.objective,
                self.parameters,
                self._examples()[0],
                moments=not self.optimizer.adam.state,
            )

    def _move_schedules(self) -> None:
        for buffer, schedule in self.schedules:
            buffer.fill_(schedule(self.state.step, self.fraction()))

    def _run_epochs(self, stop: StopRequest, save: Callable[["Fit"], None]) -> str:
        while (outcome := self.outcome()) is None:
            self.module.train()
            self.engine.refresh()
            if self.cuda_graph_step is not None:
                self.cuda_graph_step.refresh()
            self._run_batches(stop)
            if self.state.batch == len(self.batches) or self.fraction() >= 1:
                self.close_epoch()
            if self._stopping is not None:
                return self.outcome() or self._stopping.name
            if self.state.seconds - self._saved_at >= self.settings.checkpoint_seconds:
                self.checkpoint(stop, save)
        return outcome

    def outcome(self) -> str | None:
        """ "complete" or "early-stopped" if nothing is left to do, else None."""
        state, patience = self.state, self.settings.patience
        if state.batch == 0 and self.fraction() >= 1:
            return "complete"
        if patience and state.epoch - state.best_epoch >= patience:
            return "early-stopped"
        return None

    def fraction(self) -> float:
        """The part of the budget that is spent, 0 to 1."""
        return self.settings.fraction(self.state.step, self.state.seconds, len(self.batches))

    def _run_batches(self, stop: StopRequest) -> None:
        for x, y in self.batches.epoch(self.state.batch):
            self.step(x, y, stop.signal)
            for callback in self.callbacks:
                callback.on_step(self.fraction())
            if self.world.size == 1:
                self._stopping = stop.signal
            if self._stopping or (self.settings.minutes is not None and self.fraction() >= 1):
                break

    # -- a step -----------------------------------------------------------------------------

    def step(self, x: Tensor, y: Tensor, stopping: Signals | None = None) -> None:
        """Take one optimizer step on a batch, after :meth:`prepare` and within :meth:`switches`.

        Args:
            x, y: this process's rows.
            stopping: a stop signal; it reaches all processes with this step.
        """
        labeling = self.begin_step()
        if self.cuda_graph_step is not None:
            self.cuda_graph_step(x, y, labeling)
        else:
            self._update(x, y, stopping)
        self.end_step(self._seconds if self.world.size > 1 else time.monotonic() - self.clock)

    def begin_step(self) -> bool:
        """Move schedules and rate; returns whether pseudo-labels are used."""
        self._move_schedules()
        self.optimizer.set_learning_rate(self.settings.rate(self.fraction()))
        if self.pseudo_labeler is None:
            return False
        self.pseudo_labeler.begin(self.state.step)
        return self.pseudo_labeler.active

    def end_step(self, seconds: float) -> None:
        """Count a step, after so many seconds of the fit."""
        state = self.state
        state.seconds = seconds
        state.batch += 1
        state.step += 1
        if state.step % STEPS_AHEAD == 0:
            self.optimizer.check()

    def _update(self, x: Tensor, y: Tensor, stopping: Signals | None = None) -> None:
        """Do the device's part of a step: change tensors in place, and read no value.

        (But for several processes, and on a CPU, where reading a value costs nothing.)
        """
        seen, y, *original = self.objective_inputs(x, y)
        if self.labelled_weight is not None and self.world.size > 1:
            self.labelled_weight.fill_(self.world.labelled_weight(class_labels(y)))
        with self.products():
            terms = self.engine(seen, y, *original)
        parts = {"loss": terms.loss.detach()} | terms.parts
        if self.world.size > 1:
            self._seconds, self._stopping = self.world.average_step(
                self.parameters, parts, len(x), time.monotonic() - self.clock, stopping
            )
        self.apply(parts)

    def objective_inputs(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        """Rows with pseudo-labels and augmentation: the objective's arguments."""
        if self.pseudo_labeler is not None:
            y = self.pseudo_labeler.relabel(self.preprocessing.featurize(x), y)
        seen, *original = self.preprocessing(x)
        return seen, y, *original

    def apply(self, parts: Mapping[str, Tensor]) -> None:
        """Apply the gradients that an evaluation left, and count its parts."""
        self.optimizer.step(parts)
        if self.pseudo_labeler is not None:
            self.pseudo_labeler.update(self.module)
        self.means.add(parts)

    def _examples(self) -> list[tuple[Tensor, ...]]:
        """The objective's arguments for a batch of each shape; draws no random numbers."""
        return [self.preprocessing.example(x, y) for x, y in self.batches.examples()]

    def changed_tensors(self) -> dict[str, list[Tensor]]:
        """The tensors that a step changes, in groups by name."""
        buffers = list(self.module.buffers())
        if isinstance(self.objective, nn.Module):
            buffers += self.objective.buffers()
        tensors = self.optimizer.tensors() | {"buffers": buffers, "sums": self.means.tensors()}
        if self.pseudo_labeler is not None:
            labeler = self.pseudo_labeler
            tensors["pseudo-labeler"] = [*labeler.parameters(), *labeler.buffers()]
        return tensors

    def _step_name(self, ago: int) -> str:
        """Return the name of the current step, or of an earlier step."""
        return f"step {self.state.step + 1 - ago} (epoch {self.state.epoch + 1})"

    # -- epochs and checkpoints -------------------------------------------------------------

    def close_epoch(self) -> None:
        """Validate, and add a row to the history."""
        state = self.state
        self.optimizer.check()
        record: Record = {"epoch": state.epoch + 1, "step": state.step}
        record |= self.means.take(state.batch)
        self.module.eval()
        self._share_buffers()
        # one process validates, so that all decide by the same numbers
        numbers = self.validate() if self.world.is_first else {}
        numbers, state.seconds = self.world.gather((numbers, time.monotonic() - self.clock))[0]
        record |= numbers
        rate = self.settings.rate(self.fraction())
        record |= {"learning_rate": rate, "seconds": state.seconds}
        state.history.append(record)
        state.epoch += 1
        state.batch = 0
        state.order = self.batches.generator.get_state()
        value = record.get("val_accuracy", record.get("val_elbo"))
        if value is not None and value > state.best_value:
            state.best_value, state.best_epoch = value, state.epoch
            state.best = {k: v.detach().clone() for k, v in self.module.state_dict().items()}
        for callback in self.callbacks:
            callback.on_epoch(record)

    def checkpoint(self, stop: StopRequest, save: Callable[["Fit"], None]) -> None:
        """Save, unless a weight is not finite: the last good checkpoint then stays."""
        self.optimizer.check()
        self._share_buffers()
        for name, tensor in self.module.state_dict().items():
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                raise NonFiniteError(
                    f"{name} became non-finite by step {self.state.step}; try a smaller "
                    "learning_rate"
                )
        with stop.held_back():
            self.state.rng = self.world.gather(rng_state(self.device))
            if self.world.is_first:
                save(self)
        self._saved_at = self.world.gather(time.monotonic() - self.clock)[0]

    def _share_buffers(self) -> None:
        """Average the running means that each process kept of its own rows."""
        for module in filter(None, (self.module, self.pseudo_labeler)):
            self.world.average_buffers(module)

    def snapshot(self) -> FitState:
        """The complete state. Its tensors are those of the fit: write or copy them before it goes
        on.
        """
        labeler = self.pseudo_labeler
        return replace(
            self.state,
            history=list(self.state.history),
            module=by_themselves(self.module.state_dict()),
            optimizer=self.optimizer.state_dict(),
            sums=self.means.state_dict(),
            pseudo_labeler=None if labeler is None else by_themselves(labeler.state_dict()),
            rng=[rng_state(self.device), *self.state.rng[1:]],
        )

    def restore(self, state: FitState) -> None:
        """Bring the parts to a state, and torch's global generators, which a fit uses.

        On another kind of device the fit goes on with other noise.

        Raises:
            KeyError, RuntimeError, TypeError, ValueError, AttributeError: a state of other parts.
        """
        if state.module is not None:
            self.module.load_state_dict(state.module)
        if state.sums is not None:
            self.means.load_state_dict(state.sums, self.device)
        if state.optimizer is not None:
            self.optimizer.load_state_dict(state.optimizer)
        if self.pseudo_labeler is not None and state.pseudo_labeler is not None:
            self.pseudo_labeler.load_state_dict(state.pseudo_labeler)
        if state.order is None:
            state.order = self.batches.generator.get_state()
        self.batches.generator.set_state(state.order.cpu())
        if self.world.rank < len(state.rng):
            set_rng_state(self.device, state.rng[self.world.rank])
        self.state = replace(
            state,
            history=list(state.history),
            module=None,
            optimizer=None,
            sums=None,
            pseudo_labeler=None,
        )
