"""The result of a fit, and of several fits whose probabilities are averaged: saved and read."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import pandas as pd
import torch
from torch.utils._pytree import tree_map_only

from pyro_gmmvae.config import Config
from pyro_gmmvae.files import read_table, save_weights, write_json
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.runs.folder import (
    HISTORY,
    MEMBERS,
    METRICS,
    WEIGHTS,
    environment,
    read_metrics,
    write_config,
    write_history,
)
from pyro_gmmvae.runs.run import Run
from pyro_gmmvae.training.devices import machine


@dataclass(frozen=True)
class Trained:
    """A fit that ended.

    Attributes:
        run: the trained model; of a fit in memory its path is only a name.
        metrics: the content of ``metrics.json``.
        history: a row per epoch.
        optimizer: Adam's moments, where the fit can continue with other rows; else None.
        members: the fits of an ensemble, the first of which gives metrics and history; else none.
    """

    run: Run
    metrics: dict[str, Any]
    history: pd.DataFrame
    optimizer: dict[str, Any] | None = None
    members: "tuple[Trained, ...]" = ()

    @classmethod
    def of_members(cls, config: Config, data: TrainingData, members: "Sequence[Trained]") -> Self:
        """The ensemble of fits.

        Args:
            config: of the whole.
            data: of the whole.
            members: at least one.
        """
        first, *others = members
        run = replace(first.run, config=config, others=tuple(other.run for other in others))
        metrics = first.metrics | {
            "seconds": sum(member.metrics["seconds"] for member in members),
            "elbo_quantiles": run.measure_reference(data).tolist(),
        }
        return cls(run, metrics, first.history, members=tuple(members))

    def copied_to(self, device: torch.device | str) -> Self:
        """A copy whose weights, and those of all members, are on another device."""
        copied, where = copy.deepcopy(self), torch.device(device)
        fits: tuple[Trained, ...] = (copied, *copied.members)
        for fitted in fits:
            for run in (fitted.run, *fitted.run.others):
                run.model.to(where)
                run.device = where
        moments = tree_map_only(torch.Tensor, lambda one: one.to(where), copied.optimizer)
        return replace(copied, optimizer=moments)

    def save(self, out: Path) -> None:
        """Write the files of a run into a folder that exists.

        ``config.json`` comes last: a folder without one is not a run, so half of one is never
        read.
        """
        for number, member in enumerate(self.members):
            folder = out / MEMBERS / str(number)
            folder.mkdir(parents=True, exist_ok=True)
            member.save(folder)
        if not self.members:
            save_weights(out / WEIGHTS["last"], self.run.model.state_dict())
        write_history(out, self.history)
        write_json(out / METRICS, self.metrics)
        now = environment(None, machine(self.run.device, self.run.config))
        write_config(out, self.run.config, self.run.schema, [now])

    @classmethod
    def load(cls, out: Path, device: str = "auto") -> Self:
        """The fit that :meth:`save` wrote, without Adam's moments.

        Raises:
            GMMVAEError: as :meth:`Run.load`.
            KeyError, TypeError, ValueError: a history that is damaged, or of another fit.
        """
        run = Run.load(out, device=device)
        single = replace(run, others=())
        members = [
            cls._read(one, out / MEMBERS / str(number))
            for number, one in enumerate((single, *run.others) if run.others else ())
        ]
        return replace(cls._read(run, out), members=tuple(members))

    @classmethod
    def _read(cls, run: Run, out: Path) -> Self:
        metrics = {"epochs": 0, "steps": 0} | read_metrics(out)
        # as text first: pandas itself would round the last digit
        history = read_table(out / HISTORY, dtype=str).astype(float)
        history = history.astype({"epoch": int, "step": int})
        if metrics["epochs"] != len(history):
            raise ValueError("history.csv is of other epochs than metrics.json")
        return cls(run, metrics, history)
