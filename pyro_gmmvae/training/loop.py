"""Stochastic variational inference: a loop that knows no model."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from signal import Signals
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from pyro_gmmvae.config import Schedule
from pyro_gmmvae.training.batches import Batches, class_labels
from pyro_gmmvae.training.callbacks import Callback, StepCallback, checked
from pyro_gmmvae.training.capture import BF16_TOLERANCE
from pyro_gmmvae.training.cuda_graphs import CudaGraphs, Replay
from pyro_gmmvae.training.devices import rng_state, set_rng_state
from pyro_gmmvae.training.distributed import ALONE, World
from pyro_gmmvae.training.engines import build_engine
from pyro_gmmvae.training.nonfinite import NonFiniteError
from pyro_gmmvae.training.optimizer import Descent
from pyro_gmmvae.training.out_of_memory import fitting_batch, told_of_memory
from pyro_gmmvae.training.precision import bf16_products, check_precision, fit_switches
from pyro_gmmvae.training.progress import Progress
from pyro_gmmvae.training.pseudo_labels import Teacher
from pyro_gmmvae.training.settings import FitSettings, LossTerms, Record
from pyro_gmmvae.training.signals import StopRequest, stop_on_signal
from pyro_gmmvae.training.totals import Totals

STEPS_AHEAD = 50
"""How many steps the host may queue up on a GPU before it waits and looks at the numbers."""


class Fit:
    """Fits an objective by one fused Adam, and can be stopped and resumed at any step.

    Args:
        objective: called with a batch (x, y), or (x, y, clean) with ``twins``, gives
            :class:`LossTerms`.
        module: owns every parameter and buffer that is fitted and saved.
        batches: the training rows.
        settings: budget, rate, clipping, patience.
        schedules: for each scalar that moves, the 0-dimensional tensor to fill and its schedule.
        validate: gives held-out numbers after each epoch; ``val_accuracy``, or else
            ``val_elbo``, decides which weights are the best.
        teacher: fills in confident labels of unlabelled rows, or None.
        augment: changes a batch's rows before the step; the teacher sees them unchanged.
        twins: give the objective the rows as they were, too, beside the augmented ones.
        describe: from a batch's rows to what objective and teacher see, after augmentation;
            None: the rows themselves.
        callbacks: told of each epoch, and of each step where they want to be.
        about: a line on the data for them.
        save: called with this fit when a checkpoint is due, in the first process.
        labelled_weight: 0-dimensional tensor that multiplies the objective's mean over labelled
            rows; several processes fill it so that their means add up to one.
        world: the processes that fit together; every one of them makes the same fit, with
            its share of the batches.
    """

    def __init__(
        self,
        objective: Callable[..., LossTerms],
        module: nn.Module,
        batches: Batches,
        settings: FitSettings,
        *,
        schedules: Sequence[tuple[Tensor, Schedule]] = (),
        validate: Callable[[], Record] = dict,
        teacher: Teacher | None = None,
        augment: Callable[[Tensor], Tensor] | None = None,
        twins: bool = False,
        describe: Callable[[Tensor], Tensor] | None = None,
        callbacks: Sequence[Callback] = (),
        about: str = "",
        save: Callable[["Fit"], None] = lambda fit: None,  # noqa: ARG005
        labelled_weight: Tensor | None = None,
        world: World = ALONE,
    ) -> None:
        self.module, self.batches, self.labelled_weight = module, batches, labelled_weight
        self.engine_name: str | None = None
        self.settings, self.schedules, self.validate = settings, schedules, validate
        self.teacher, self.callbacks, self.save = teacher, checked(callbacks), save
        self.augment, self.about, self.world = augment, about, world
        self.twins = twins and augment is not None
        self.describe = describe or _as_they_are
        self.progress, self.totals = Progress(), Totals()
        self.best: dict[str, Tensor] = {}
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.device, self.objective = self.parameters[0].device, objective
        check_precision(settings.precision, self.device)
        self.descent = Descent(
            module,
            settings.learning_rate,
            settings.clip_norm,
            self._where,
            weight_decay=settings.weight_decay,
        )
        self.replay: Replay | None = None
        self._epoch_start = batches.generator.get_state()
        self._stopping: Signals | None = None
        self._rng: list[dict[str, Tensor]] = []

    # -- the loop ---------------------------------------------------------------------------

    def run(self) -> str:
        """Fit until the budget is spent, validation stalls, or a signal asks to stop.

        Returns:
            "complete", "early-stopped", or the name of the signal ("SIGINT", "SIGTERM"). The
            last checkpoint has been saved in each case.

        Raises:
            NonFiniteError: at the first NaN or infinity; no checkpoint is made of that state.
        """
        self._tell(self.about)
        with self.switches(), told_of_memory(self.device, self._batch_that_fits):
            # before signals are caught: Ctrl-C in half a minute of compilation should end it
            with self.world.together():
                line = self.prepare()
            self._tell(line)
            # again: other processes may have prepared for longer
            self._clock = time.monotonic() - self.progress.seconds
            self._saved_at, self._stopping = self.progress.seconds, None
            with stop_on_signal() as stop:
                outcome = self._epochs(stop)
                self._checkpoint(stop)
        for callback in self.callbacks:
            callback.on_end(outcome)
        return outcome

    def run_epoch(self) -> None:
        """Take one pass over the batches, whatever the budget; no checkpoint is saved."""
        with self.switches():
            self.prepare()
            for x, y in self.batches.epoch():
                self.step(x, y)
            self._close_epoch()

    def _tell(self, line: str) -> None:
        for callback in self.callbacks if line else ():
            callback.on_start(line)

    @contextmanager
    def switches(self) -> Iterator[None]:
        """What a fit changes of the process, put back after."""
        # streams and graphs belong to the current GPU, which need not be the one named
        gpu = torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()
        with gpu, fit_switches(self.settings.deterministic), pyro.validation_enabled(False):
            yield

    def prepare(self) -> str:
        """Make the engine ready (within :meth:`switches`), and say which one it is.

        That time is outside the budget of ``minutes``. A fit that goes on takes the engine
        it had, so that it computes the same bits.
        """
        settings, steps = self.settings, None
        if settings.epochs is not None:
            steps = settings.epochs * len(self.batches)
        name, had = settings.engine, self.engine_name
        self.module.train()
        self._move_schedules()
        with self._products():
            self.engine, self.engine_name, reason = build_engine(
                had if name == "auto" and had else name,
                self.objective,
                self.module,
                self._examples(),
                steps=steps,
                minutes=settings.minutes,
                verify=settings.verify,
                compiled_tolerance=BF16_TOLERANCE if settings.precision == "bf16" else None,
                fall_back=name == "auto",
                say=self._tell,
            )
        self.replay = None
        # what processes tell each other has to be waited for
        if self.engine_name != "svi" and self.device.type == "cuda" and self.world.size == 1:
            self.replay = Replay(
                self._update, self._changing, self._tell, CudaGraphs, verify=settings.verify
            )
        self._clock = time.monotonic() - self.progress.seconds
        return f"engine: {self.engine_name}" + (f" ({reason})" if reason else "")

    def _products(self) -> AbstractContextManager[Any]:
        """Matrix products of the objective in the precision asked for."""
        return bf16_products(self.device) if self.settings.precision == "bf16" else nullcontext()

    def _batch_that_fits(self) -> str:
        """Advice for a fit whose step the device's memory does not hold."""
        self.replay = None
        batch = self._examples()[0]
        x = batch[0]
        with self._products():
            rows = fitting_batch(
                self.objective, self.parameters, batch, moments=not self.descent.optimizer.state
            )
        if not rows:
            return f"the model does not fit, whatever the batch (now {len(x)} rows)"
        if rows == len(x):
            return f"a step on {len(x)} rows fits, but what is done beside it does not (batch_size)"
        return f"a batch of {len(x)} rows does not fit, one of {rows} does (batch_size)"

    def _move_schedules(self) -> None:
        for buffer, schedule in self.schedules:
            buffer.fill_(schedule(self.progress.step))

    def _epochs(self, stop: StopRequest) -> str:
        while (outcome := self.outcome()) is None:
            self.module.train()
            self.engine.refresh()
            if self.replay is not None:
                self.replay.refresh()
            self._one_epoch(stop)
            if self.progress.batch == len(self.batches) or self.fraction() >= 1:
                self._close_epoch()
            if self._stopping is not None:
                return self.outcome() or self._stopping.name
            if self.progress.seconds - self._saved_at >= self.settings.checkpoint_seconds:
                self._checkpoint(stop)
        return outcome

    def outcome(self) -> str | None:
        """ "complete" or "early-stopped" where nothing is left to do, else None."""
        progress, patience = self.progress, self.settings.patience
        if progress.batch == 0 and self.fraction() >= 1:
            return "complete"
        if patience and progress.epoch - progress.best_epoch >= patience:
            return "early-stopped"
        return None

    def _checkpoint(self, stop: StopRequest) -> None:
        """Save, unless the weights are no longer numbers: the last good checkpoint then stays."""
        self.descent.check()
        self._share_buffers()
        for name, tensor in self.module.state_dict().items():
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                raise NonFiniteError(
                    f"{name} became non-finite by step {self.progress.step}; the last checkpoint "
                    "is kept; try a smaller learning_rate"
                )
        with stop.held_back():
            self._rng = self.world.everyones(rng_state(self.device))
            if self.world.is_first:
                self.save(self)
        self._saved_at = self.world.everyones(time.monotonic() - self._clock)[0]

    def _share_buffers(self) -> None:
        """Running means that each process kept of its own rows become those of all rows."""
        for module in filter(None, (self.module, self.teacher)):
            self.world.average_buffers(module)

    def _one_epoch(self, stop: StopRequest) -> None:
        listeners = [c for c in self.callbacks if isinstance(c, StepCallback)]
        for x, y in self.batches.epoch(self.progress.batch):
            self.step(x, y, stop.signal)
            for callback in listeners:
                callback.on_step(self.fraction())
            if self.world.size == 1:
                self._stopping = stop.signal
            if self._stopping or (self.settings.minutes is not None and self.fraction() >= 1):
                break

    def step(self, x: Tensor, y: Tensor, stopping: Signals | None = None) -> None:
        """One optimiser step on a batch, after :meth:`prepare` and within :meth:`switches`.

        Args:
            x, y: this process's rows.
            stopping: a signal that asks to stop; it reaches all processes with this step.
        """
        progress, teaching = self.progress, False
        self._move_schedules()
        self.descent.set_learning_rate(self.learning_rate())
        if self.teacher is not None:
            self.teacher.begin(progress.step)
            teaching = self.teacher.active
        if self.replay is not None:
            self.replay(x, y, teaching)
        else:
            self._update(x, y, stopping)
        progress.seconds = self._seconds if self.world.size > 1 else time.monotonic() - self._clock
        progress.batch += 1
        progress.step += 1
        if progress.step % STEPS_AHEAD == 0:
            self.descent.check()

    def _update(self, x: Tensor, y: Tensor, stopping: Signals | None = None) -> None:
        """All that a step does on the device: in place, and with no look at a value.

        (But of processes that talk to each other, and on a CPU, where a look costs nothing.)
        """
        if self.teacher is not None:
            y = self.teacher.relabel(self.describe(x), y)
        seen = self.describe(x if self.augment is None else self.augment(x))
        batch = (seen, y, self.describe(x)) if self.twins else (seen, y)
        if self.labelled_weight is not None and self.world.size > 1:
            self.labelled_weight.fill_(self.world.weight_of_labelled(class_labels(y)))
        with self._products():
            terms = self.engine(*batch)
        parts = {"loss": terms.loss.detach()} | terms.parts
        if self.world.size > 1:
            self._seconds, self._stopping = self.world.average_step(
                self.parameters, parts, len(x), time.monotonic() - self._clock, stopping
            )
        self.descent.step(parts)
        if self.teacher is not None:
            self.teacher.update(self.module)
        self.totals.add(parts)

    def _examples(self) -> list[tuple[Tensor, ...]]:
        """What the objective is given, for a batch of each shape; draws nothing."""
        examples = [(self.describe(x), y) for x, y in self.batches.examples()]
        # other rows stand for the augmented ones: one tensor given twice is one input to a tracer
        return [(x.roll(1, 0), y, x) if self.twins else (x, y) for x, y in examples]

    def _changing(self) -> dict[str, list[Tensor]]:
        """The tensors that a step changes, in groups by name."""
        sums = [] if self.totals.sums is None else [self.totals.sums]
        buffers = list(self.module.buffers())
        if isinstance(self.objective, nn.Module):
            buffers += self.objective.buffers()
        found = self.descent.tensors() | {"buffers": buffers, "sums": sums}
        if self.teacher is not None:
            found["teacher"] = [*self.teacher.parameters(), *self.teacher.buffers()]
        return found

    def _where(self, ago: int) -> str:
        """The step that is being taken, or the one that was so many steps ago."""
        return f"step {self.progress.step + 1 - ago} (epoch {self.progress.epoch + 1})"

    # -- budget and rate --------------------------------------------------------------------

    def fraction(self) -> float:
        """How much of the budget is spent, 0 to 1 (the larger of epochs' and minutes')."""
        settings, spent = self.settings, 0.0
        if settings.epochs is not None:
            spent = self.progress.step / max(1, settings.epochs * len(self.batches))
        if settings.minutes is not None:
            spent = max(spent, self.progress.seconds / (60 * settings.minutes))
        return min(spent, 1.0)

    def learning_rate(self) -> float:
        """Adam's rate at this moment."""
        rate = self.settings.learning_rate
        if self.settings.decay == "constant":
            return rate
        return rate * 0.5 * (1 + math.cos(math.pi * self.fraction()))

    # -- the history ------------------------------------------------------------------------

    def _close_epoch(self) -> None:
        progress = self.progress
        self.descent.check()
        record: Record = {"epoch": progress.epoch + 1, "step": progress.step}
        record |= self.totals.means(progress.batch)
        self.module.eval()
        self._share_buffers()
        # one process validates, so that all decide by the same numbers
        known = self.validate() if self.world.is_first else {}
        known, progress.seconds = self.world.everyones((known, time.monotonic() - self._clock))[0]
        record |= known
        record |= {"learning_rate": self.learning_rate(), "seconds": progress.seconds}
        progress.history.append(record)
        progress.epoch += 1
        progress.batch = 0
        self.totals.reset()
        self._epoch_start = self.batches.generator.get_state()
        self._keep_if_best(record)
        for callback in self.callbacks:
            callback.on_epoch(record)

    def _keep_if_best(self, record: Record) -> None:
        value = record.get("val_accuracy", record.get("val_elbo"))
        if value is not None and value > self.progress.best_value:
            self.progress.best_value, self.progress.best_epoch = value, self.progress.epoch
            self.best = {k: v.detach().clone() for k, v in self.module.state_dict().items()}

    # -- checkpoints ------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything a later fit needs to go on bit for bit: tensors and plain values."""
        return {
            "progress": asdict(self.progress),
            "module": self.module.state_dict(),
            "best": self.best,
            "sums": self.totals.state_dict(),
            "teacher": {} if self.teacher is None else self.teacher.state_dict(),
            "optimizer": self.descent.state_dict(),
            "engine": self.engine_name,
            "order": self._epoch_start,
            "rng": rng_state(self.device),
            "rng_of_others": self._rng[1:],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state_dict`; sets torch's global generators, as a fit uses them.

        On another kind of device the fit goes on, with other noise.
        """
        self.progress = Progress(**state["progress"])
        self.module.load_state_dict(state["module"])
        self.best = dict(state["best"])
        self.totals.load_state_dict(state["sums"], self.device)
        self.descent.load_state_dict(state["optimizer"])
        if self.teacher is not None:
            self.teacher.load_state_dict(state["teacher"])
        self.engine_name = state.get("engine", "svi")  # what there was before there was a choice
        self._epoch_start = state["order"].cpu()
        self.batches.generator.set_state(self._epoch_start)
        states = [state["rng"], *state.get("rng_of_others", ())]
        if self.world.rank < len(states):
            set_rng_state(self.device, states[self.world.rank])


def _as_they_are(x: Tensor) -> Tensor:
    return x
