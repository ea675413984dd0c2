"""A fit on rows that are arrays. It writes nothing; what came of it can become a run folder."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pyro_gmmvae.config import Config
from pyro_gmmvae.data import Dataset, Split, Transform
from pyro_gmmvae.datasets import IN_MEMORY
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import atomic_write, save_weights, write_json
from pyro_gmmvae.runs.assembly import assemble
from pyro_gmmvae.runs.build import resolve
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.runs.folder import environment, write_config
from pyro_gmmvae.runs.run import Run
from pyro_gmmvae.runs.trainer import begin, metrics_of
from pyro_gmmvae.runs.validation import Watch
from pyro_gmmvae.training import Callback, Fit, resolve_device
from pyro_gmmvae.training.devices import seeded
from pyro_gmmvae.training.distributed import ALONE, joined
from pyro_gmmvae.training.settings import Record
from pyro_gmmvae.training.signals import raise_signal


@dataclass(frozen=True)
class Fitted:
    """What came of a fit in memory.

    Attributes:
        run: the model put to use; its path is a name, and no folder.
        metrics: what ``metrics.json`` of a folder holds.
        history: a line per epoch.
        optimizer: Adam's moments, where the fit is to go on with other rows.
    """

    run: Run
    metrics: dict[str, Any]
    history: pd.DataFrame
    optimizer: dict[str, Any] | None = None

    def save(self, out: Path) -> None:
        """Write the files of a run into a folder that is there; ``config.json`` comes last.

        Without it a folder is no run, so that half of one is never read.
        """
        save_weights(out / "weights.safetensors", self.run.model.state_dict())
        atomic_write(out / "history.csv", self.history.to_csv(index=False).encode())
        write_json(out / "metrics.json", self.metrics)
        write_json(out / "environment.json", environment(self.run.config, None))
        write_config(out, self.run.config, self.run.schema)


def fit_in_memory(
    config: Config,
    dataset: Dataset,
    split: Split,
    *,
    transform: Transform | None = None,
    callbacks: Sequence[Callback] = (),
) -> Fitted:
    """Fit rows that are arrays, as :func:`pyro_gmmvae.runs.train` fits those of files.

    Same rows, split and config give the same weights. Torch's generators are as before afterwards.

    Args:
        config: what to train; where its data is does not matter.
        dataset: the rows.
        split: who is in which part.
        transform: to the model's units; None: what suits the data.
        callbacks: told of each epoch, and of each step where they want to be.

    Raises:
        GMMVAEError: anything in the config or data that can't be used.
        KeyboardInterrupt: when told to stop. Other signals take their way once the fit has ended.
    """
    if config.epochs is None and config.minutes is None:
        raise GMMVAEError("give the fit an end: epochs or minutes")
    config = resolve(config.with_defaults(data=IN_MEMORY))
    with joined(config.device) as (world, device), seeded(config.seed, device):
        with world.together():
            rows = TrainingData.from_arrays(config, dataset, split, transform=transform)
            fit = assemble(config, rows, device, callbacks, world)
        begin(fit, config, rows, callbacks)
        fit.save = _fit_classifier
        outcome = fit.run()
        if not outcome.startswith("SIG"):
            if config.patience and fit.best:
                fit.module.load_state_dict(fit.best)
            fit.module.zero_grad(set_to_none=True)
            run = Run(Path(IN_MEMORY), config, rows.schema, fit.module.eval(), device, "last")
            metrics = metrics_of(fit, outcome, run, rows)
            return Fitted(run, metrics, pd.DataFrame(fit.progress.history))
    raise_signal(outcome)
    raise KeyboardInterrupt


def fit_once_more(
    config: Config,
    dataset: Dataset,
    split: Split,
    *,
    transform: Transform,
    before: Fitted | None = None,
    callbacks: Sequence[Callback] = (),
) -> Fitted:
    """One pass over some rows, going on from a fit of others, which stays as it is.

    Adam's moments and the schedules' steps go on. Where the end will be nobody knows: the rate is
    constant, and there is no patience and no pseudo-label.

    Args:
        config: what to train.
        dataset, split: the rows of this pass.
        transform: to the model's units, that of the first pass.
        before: what to go on from; one that kept no moments begins them anew.
        callbacks: told of each epoch.

    Raises:
        GMMVAEError: anything in the config or data that can't be used.
    """
    passes = 0 if before is None else int(before.metrics["epochs"])
    config = resolve(config).with_defaults(
        data=IN_MEMORY,
        epochs=1,
        minutes=None,
        decay="constant",
        patience=0,
        init="random",
        pseudo_threshold=None,
        preset=None,
    )
    device = resolve_device(config.device)
    # other noise and another order for each pass
    seed = (config.seed + passes) % 2**32
    with seeded(seed, device):
        rows = TrainingData.from_arrays(config, dataset, split, transform=transform)
        fit = assemble(config.replace(seed=seed), rows, device, callbacks, ALONE)
        if before is not None:
            fit.module.load_state_dict(before.run.model.state_dict())
            fit.progress.step = int(before.metrics["steps"])
        if before is not None and before.optimizer is not None:
            fit.descent.load_state_dict(copy.deepcopy(before.optimizer))
        with fit.switches():
            fit.prepare()
            for x, y in fit.batches.epoch():
                fit.step(x, y)
            fit.descent.check()
        model = fit.module.eval()
        fit.progress.epoch = passes + 1
        record: Record = {"epoch": passes + 1, "step": fit.progress.step}
        record |= fit.totals.means(fit.progress.batch) | fit.validate()
        fit.module.zero_grad(set_to_none=True)
        run = Run(Path(IN_MEMORY), config, rows.schema, model, device, "last")
        metrics = metrics_of(fit, "partial", run, rows)
    history = pd.DataFrame([record])
    if before is not None:
        history = pd.concat([before.history, history], ignore_index=True)
    for callback in callbacks:
        callback.on_epoch(record | {"seconds": fit.progress.seconds})
    return Fitted(run, metrics, history, fit.descent.state_dict())


def _fit_classifier(fit: Fit) -> None:
    if isinstance(fit.validate, Watch):
        fit.validate.fit_classifier()
