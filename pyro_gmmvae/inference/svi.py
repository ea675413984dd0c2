"""Stochastic variational inference: a loop that knows no model."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import pyro
import torch
from torch import Tensor, nn

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.inference.batches import Batches
from pyro_gmmvae.inference.devices import fit_switches, rng_state, set_rng_state
from pyro_gmmvae.inference.interrupt import StopRequest, stop_on_signal
from pyro_gmmvae.inference.schedules import Schedule
from pyro_gmmvae.inference.teacher import Teacher

Record = dict[str, float]
StateDict = dict[str, Tensor]


class LossTerms(Protocol):
    """What an objective returns: a scalar to minimise and detached scalars to report."""

    loss: Tensor
    parts: dict[str, Tensor]


class Callback(Protocol):
    """Hears of a fit's progress; exceptions it raises end the fit."""

    def on_start(self, about: str) -> None:
        """Once, with a line on the data."""

    def on_step(self, progress: float) -> None:
        """After each step; progress goes from 0 to 1 over the whole fit."""

    def on_epoch(self, record: Record) -> None:
        """After each epoch, with its row of the history."""

    def on_end(self, outcome: str) -> None:
        """Once, with "complete", "early-stopped" or the name of the signal that stopped it."""


class NonFiniteError(GMMVAEError):
    """The loss or a gradient became NaN or infinite; says at which step and site."""


@dataclass(frozen=True)
class FitSettings:
    """How to fit, whatever the model.

    Attributes:
        epochs: passes over the rows; None where ``minutes`` bounds the fit.
        minutes: wall-clock minutes, resumed ones included; the rate then decays over time.
        learning_rate: of Adam, at the start.
        decay: "cosine" (to 0 at the end) or "constant".
        clip_norm: largest gradient norm; 0 leaves gradients alone.
        patience: stop after this many epochs without a better validation; 0 never stops.
        checkpoint_seconds: least time between two checkpoints.
        deterministic: demand deterministic kernels.
    """

    epochs: int | None = None
    minutes: float | None = None
    learning_rate: float = 2e-3
    decay: str = "cosine"
    clip_norm: float = 200.0
    patience: int = 0
    checkpoint_seconds: float = 30.0
    deterministic: bool = False


@dataclass
class Progress:
    """Where a fit stands; everything here travels in a checkpoint."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    seconds: float = 0.0
    best_value: float = -math.inf
    best_epoch: int = 0
    history: list[Record] = field(default_factory=list)


class Fit:
    """Fits an objective by one fused Adam, and can be stopped and resumed at any step.

    Args:
        objective: called with a batch (x, y), gives :class:`LossTerms`.
        module: owns every parameter and buffer that is fitted and saved.
        batches: the training rows.
        settings: budget, rate, clipping, patience.
        schedules: for each scalar that moves, the 0-dimensional tensor to fill and its schedule.
        validate: gives held-out numbers after each epoch; ``val_accuracy``, or else
            ``val_elbo``, decides which weights are the best.
        teacher: fills in confident labels of unlabelled rows, or None.
        augment: changes a batch's rows before the step; the teacher sees them unchanged.
        callbacks: told of each step and epoch.
        about: a line on the data for them.
        save: called with this fit when a checkpoint is due.
    """

    def __init__(
        self,
        objective: Callable[[Tensor, Tensor], LossTerms],
        module: nn.Module,
        batches: Batches,
        settings: FitSettings,
        *,
        schedules: Sequence[tuple[Tensor, Schedule]] = (),
        validate: Callable[[], Record] = dict,
        teacher: Teacher | None = None,
        augment: Callable[[Tensor], Tensor] | None = None,
        callbacks: Sequence[Callback] = (),
        about: str = "",
        save: Callable[["Fit"], None] = lambda fit: None,  # noqa: ARG005
    ) -> None:
        self.objective, self.module, self.batches = objective, module, batches
        self.settings, self.schedules, self.validate = settings, schedules, validate
        self.teacher, self.callbacks, self.save = teacher, callbacks, save
        self.augment, self.about = augment, about
        self.progress = Progress()
        self.best: StateDict = {}
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        fused = self.parameters[0].device.type in ("cpu", "cuda", "mps")
        self.optimizer = torch.optim.Adam(self.parameters, lr=settings.learning_rate, fused=fused)
        self._epoch_start = batches.generator.get_state()
        self._sums: dict[str, Tensor] = {}

    # -- the loop ---------------------------------------------------------------------------

    def run(self) -> str:
        """Fit until the budget is spent, validation stalls, or a signal asks to stop.

        Returns:
            "complete", "early-stopped", or the name of the signal ("SIGINT", "SIGTERM"). The
            last checkpoint has been saved in each case.

        Raises:
            NonFiniteError: at the first NaN or infinity; no checkpoint is made of that state.
        """
        self._clock = time.monotonic() - self.progress.seconds
        self._saved_at = time.monotonic()
        with (
            fit_switches(self.settings.deterministic),
            pyro.validation_enabled(False),
            stop_on_signal() as stop,
        ):
            for callback in self.callbacks:
                callback.on_start(self.about)
            outcome = self._epochs(stop)
            self._checkpoint(stop)
        for callback in self.callbacks:
            callback.on_end(outcome)
        return outcome

    def _epochs(self, stop: StopRequest) -> str:
        while (outcome := self.outcome()) is None:
            self.module.train()
            self._one_epoch(stop)
            if self.progress.batch == len(self.batches) or self.fraction() >= 1:
                self._close_epoch()
            if stop.signal is not None:
                return self.outcome() or stop.signal.name
            if time.monotonic() - self._saved_at >= self.settings.checkpoint_seconds:
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
        for name, tensor in self.module.state_dict().items():
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                raise NonFiniteError(
                    f"{name} became non-finite by step {self.progress.step}; the last checkpoint "
                    "is kept; try a smaller learning_rate"
                )
        with stop.held_back():
            self.save(self)
        self._saved_at = time.monotonic()

    def _one_epoch(self, stop: StopRequest) -> None:
        for x, y in self.batches.epoch(self.progress.batch):
            self._step(x, y)
            for callback in self.callbacks:
                callback.on_step(self.fraction())
            if stop or (self.settings.minutes is not None and self.fraction() >= 1):
                break

    def _step(self, x: Tensor, y: Tensor) -> None:
        progress = self.progress
        for buffer, schedule in self.schedules:
            buffer.fill_(schedule(progress.step))
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        if self.teacher is not None:
            y = self.teacher.relabel(x, y, progress.step)
        if self.augment is not None:
            x = self.augment(x)
        terms = self.objective(x, y)
        self.optimizer.zero_grad(set_to_none=True)
        terms.loss.backward()
        norm = nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        if not bool((terms.loss.detach() + norm).isfinite()):
            raise self._non_finite(terms)
        if self.settings.clip_norm > 0:
            nn.utils.clip_grads_with_norm_(self.parameters, self.settings.clip_norm, norm)
        self.optimizer.step()
        if self.teacher is not None:
            self.teacher.update(self.module, progress.step)
        self._add({"loss": terms.loss.detach()} | terms.parts)
        progress.batch += 1
        progress.step += 1
        progress.seconds = time.monotonic() - self._clock

    def _non_finite(self, terms: LossTerms) -> NonFiniteError:
        step = self.progress.step + 1
        # the guide's sites come first: what they break, log p(x|.) only inherits
        for name in sorted(terms.parts, key=lambda part: part == "log_px"):
            value = terms.parts[name].item()
            if name != "elbo" and not math.isfinite(value):
                return NonFiniteError(
                    f"the loss became non-finite at step {step} (epoch {self.progress.epoch + 1}):"
                    f" {describe_part(name)} is {value}; the last checkpoint is kept; try a "
                    "smaller learning_rate or clip_norm, or look at the data's range"
                )
        culprits = [
            name
            for name, p in self.module.named_parameters()
            if p.grad is not None and not bool(p.grad.isfinite().all())
        ]
        return NonFiniteError(
            f"a gradient became non-finite at step {step} (epoch {self.progress.epoch + 1}): "
            f"that of {culprits[0] if culprits else 'the loss'}; the last checkpoint is kept; "
            "try a smaller learning_rate"
        )

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

    def _add(self, parts: Mapping[str, Tensor]) -> None:
        """Add one step's numbers to the epoch's sums, on the device and in double precision.

        One after the other, so that an interrupted epoch sums to the same bits.
        """
        for name, value in parts.items():
            wide = value if value.device.type == "mps" else value.double()
            self._sums[name] = self._sums[name] + wide if name in self._sums else wide

    def _close_epoch(self) -> None:
        progress = self.progress
        record: Record = {"epoch": progress.epoch + 1, "step": progress.step}
        record |= {name: total.item() / progress.batch for name, total in self._sums.items()}
        self.module.eval()
        record |= self.validate()
        progress.seconds = time.monotonic() - self._clock
        record |= {"learning_rate": self.learning_rate(), "seconds": progress.seconds}
        progress.history.append(record)
        progress.epoch += 1
        progress.batch, self._sums = 0, {}
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
        device = self.parameters[0].device
        return {
            "progress": asdict(self.progress),
            "module": self.module.state_dict(),
            "best": self.best,
            "sums": self._sums,
            "teacher": {} if self.teacher is None else self.teacher.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "order": self._epoch_start,
            "rng": rng_state(device),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state_dict`; sets torch's global generators, as a fit uses them.

        On another kind of device the fit goes on, with other noise.
        """
        self.progress = Progress(**state["progress"])
        self.module.load_state_dict(state["module"])
        self.best, self._sums = dict(state["best"]), dict(state["sums"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.teacher is not None:
            self.teacher.load_state_dict(state["teacher"])
        self._epoch_start = state["order"].cpu()
        self.batches.generator.set_state(self._epoch_start)
        set_rng_state(self.parameters[0].device, state["rng"])


def describe_part(name: str) -> str:
    """A reported term in words, for messages: "kl_z" is the KL term of site 'z'."""
    if name.startswith("kl_"):
        return f"the KL term of site {name[3:]!r}"
    return {
        "log_px": "log p of the observed site 'x'",
        "classification": "the classification term of the labelled rows",
    }.get(name, name)
