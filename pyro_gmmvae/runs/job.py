"""A fit with the parts that it was built from."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from pyro_gmmvae.config import Config
from pyro_gmmvae.datasets import IN_MEMORY
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import write_json
from pyro_gmmvae.runs.assembly import Parts, build
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.runs.folder import METRICS, has_checkpoint, save_checkpoint
from pyro_gmmvae.runs.initialize import initialize
from pyro_gmmvae.runs.out_of_fold import save_validation_scores
from pyro_gmmvae.runs.run import Run
from pyro_gmmvae.runs.trained import Trained
from pyro_gmmvae.training import Callback, Fit, NonFiniteError, check_precision
from pyro_gmmvae.training.batches import check_batch_size
from pyro_gmmvae.training.devices import seeded
from pyro_gmmvae.training.distributed import process_group
from pyro_gmmvae.training.loggers import build_loggers
from pyro_gmmvae.training.out_of_memory import OutOfMemoryError
from pyro_gmmvae.training.precision import set_cublas_workspace

NO_ERROR, CHANCE, WORSE = 0.05, 0.692, 0.8
"""Losses of a discriminator, in nats; without any information it is log 2 = 0.693."""

Failure = TypeVar("Failure", bound=GMMVAEError)


@dataclass(frozen=True)
class Job:
    """A fit, and the parts that it was built from."""

    parts: Parts
    fit: Fit
    loggers: Sequence[Callback]

    def start(self) -> None:
        """Go to the first step of a new fit, from a clustering where ``init`` names one."""
        config, fit = self.parts.config, self.fit
        fit.state.seconds = self.parts.data.teacher_seconds
        if config.init != "random":
            if fit.world.size > 1:
                raise GMMVAEError(f"init={config.init} is for one process")
            # part of a budget in minutes
            fit.state.seconds += initialize(self.parts, fit.callbacks)

    def run(self, save: Callable[[Fit], None] = lambda fit: None) -> str:  # noqa: ARG005
        """Run the fit; ``save`` is called when a checkpoint is due. Returns the outcome."""
        saving = self.saving(save)
        self.fit.log(self.parts.about())
        outcome = self.fit.run(saving)
        self.report_discriminators()
        return outcome

    def report_discriminators(self) -> None:
        """Report each discriminator of an ended fit that has no error, or learned nothing."""
        config, history = self.parts.config, self.fit.state.history
        for name, loss in history[-1].items() if history else ():
            term = name.removesuffix("_discriminator")
            # by chance one of covariates has a loss that depends on the shares of their values
            by_halves = term != name and config.get(f"{term}_of") != "covariates"
            if by_halves and not name.startswith("val_"):
                self.fit.log(one_sided(term, loss))

    def saving(self, save: Callable[[Fit], None]) -> Callable[[Fit], None]:
        """The function that the fit calls for its checkpoints."""

        def checkpoint(fit: Fit) -> None:
            self.parts.validation.fit_classifier()
            save(fit)

        return checkpoint

    def run_into(self, out: Path) -> Run:
        """Run the fit with checkpoints in a run folder, and give the run with the saved weights."""
        try:
            outcome = self.run(partial(save_checkpoint, out))
        except (NonFiniteError, OutOfMemoryError) as error:
            raise with_checkpoint(error, out) from error
        return self.finish(out, outcome)

    def finish(self, out: Path, outcome: str) -> Run:
        """Write the results of a fit that ended, and give the run with the saved weights."""
        world = self.fit.world
        if world.is_first:
            run = Run.restored(out, self.parts.model, self.parts.device)
            save_validation_scores(run, self.parts.data, out)
            write_json(out / METRICS, self.result(outcome, run).metrics)
        world.gather(None)  # the others wait until the first process has written everything
        return run if world.is_first else Run.restored(out, self.parts.model, self.parts.device)

    def run_in_memory(self) -> Run:
        """The run of a fit that ended, with its best weights where it could stop early."""
        parts, fit = self.parts, self.fit
        if parts.config.patience and fit.state.best:
            parts.model.load_state_dict(fit.state.best)
        parts.model.zero_grad(set_to_none=True)
        model = parts.model.eval()
        return Run(Path(IN_MEMORY), parts.config, parts.data.schema, model, parts.device, "last")

    def report_processes(self, environments: Sequence[Mapping[str, Any]]) -> None:
        """Report a number of processes that differs from the last one's."""
        now = self.fit.world.size
        before = environments[-1].get("processes", now) if environments else now
        for callback in self.fit.callbacks if before != now else ():
            callback.on_start(f"processes: {now}, before: {before}; from here on the noise differs")

    def result(self, outcome: str, run: Run) -> Trained:
        """The fit with its metrics, history and run."""
        state = self.fit.state
        metrics = {
            "outcome": outcome,
            "epochs": state.epoch,
            "steps": state.step,
            "seconds": state.seconds,
            "engine": state.engine,
            "best_epoch": state.best_epoch,
            "weights": run.weights,
            "training": state.history[-1] if state.history else {},
            "elbo_quantiles": run.measure_reference(self.parts.data).tolist(),
        }
        return Trained(run, metrics, pd.DataFrame(state.history))


def one_sided(term: str, loss: float) -> str:
    """A line on a discriminator of two halves of rows that has no error, or learned nothing.

    Args:
        term: of the discriminator.
        loss: its loss at the end, in nats.

    Returns:
        The line; "" for any other loss.
    """
    about = f"{term}: at the end the discriminator has a loss of {loss:.3f} nats"
    if loss < NO_ERROR:
        return (
            f"{about}: it makes almost no error, and the term has little effect; lower "
            f"discriminator_rate, or raise {term}"
        )
    if loss > WORSE:
        return f"{about}, worse than chance (0.69): it diverges; lower discriminator_rate"
    if loss > CHANCE:
        return (
            f"{about}, which is chance: its rows are alike, or it learns too little; compare with "
            "a higher discriminator_rate"
        )
    return ""


def with_checkpoint(error: Failure, out: Path) -> Failure:
    """The error of a fit, with the run folder that keeps its last checkpoint, if there is one."""
    kept = f"; the last checkpoint is in {out}" if has_checkpoint(out) else ""
    return type(error)(f"{error}{kept}")


@contextmanager
def prepared(
    config: Config,
    load: Callable[[], TrainingData],
    callbacks: Sequence[Callback],
    out: Path | None = None,
) -> Iterator[Job]:
    """Join the processes, seed, load the data and build all parts, for the length of a block.

    Whatever does not fit together is refused here, before anything is written. The global
    generators are as before at the end of the block.
    """
    if config.deterministic and config.device != "cpu":
        set_cublas_workspace()
    loggers = build_loggers(config.log, out, config.model_dump()) if out and config.log else []
    with process_group(config.device) as (world, device), seeded(config.seed, device):
        with world.raise_together():
            check_precision(config.precision, device)
            check_batch_size(config.batch_size, config.labelled_per_batch)
            parts = build(config, load(), device)
            parts.dry_run(world.size)
            fit = parts.fit([*callbacks, *loggers] if world.is_first else callbacks, world)
        world.reseed(config.seed)
        yield Job(parts, fit, loggers)
