"""Training of several runs of one program side by side, as one batched program."""

import gc
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from pyro_gmmvae.config import Config
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.runs.folder import environment, new_folder, save_checkpoint, undo, write_config
from pyro_gmmvae.runs.job import Job, prepared, with_checkpoint
from pyro_gmmvae.training import Callback
from pyro_gmmvae.training.capture import CaptureError
from pyro_gmmvae.training.devices import machine, resolve_device, rng_state
from pyro_gmmvae.training.fit_group import FitGroup
from pyro_gmmvae.training.loggers import closing
from pyro_gmmvae.training.out_of_memory import OutOfMemoryError, out_of_memory_advice


@dataclass(frozen=True)
class Planned:
    """A run to train.

    Attributes:
        config: resolved.
        load: gives its data.
        out: the run folder to make.
        callbacks: called after each epoch and step.
    """

    config: Config
    load: Callable[[], TrainingData]
    out: Path
    callbacks: Sequence[Callback] = ()


def runs_batched(config: Config) -> bool:
    """Whether fits that differ in their seeds are trained as one program: on CUDA, or if asked for.

    On a CPU a process for each core is faster.
    """
    if config.engine != "auto":
        return config.engine == "batched"
    return resolve_device(config.device).type == "cuda"


def train_side_by_side(
    plans: Sequence[Planned], log: Callable[[str], None]
) -> list[str | GMMVAEError | None]:
    """Train runs as one program; each has a run folder as of :func:`train` at its end.

    Args:
        plans: the runs. They may differ in seeds, rows, labels, and in learning rates, weights of
            terms and budgets.
        log: gets a line where fewer runs fit into memory, or where they can't be one program; then
            those that differ in nothing but seeds are.

    Returns:
        For each run its outcome, or the error of its fit; None: it was not trained, and can be
        trained or resumed by itself.
    """
    if len(plans) < 2:
        return [None] * len(plans)
    if any(plan.config.minutes is not None for plan in plans):
        log(f"{len(plans)} fits are trained one by one: they have a budget in minutes")
        return [None] * len(plans)
    is_cpu = resolve_device(plans[0].config.device).type == "cpu"
    advice = "; on a CPU one process for each core is faster (--jobs)" if is_cpu else ""
    log(f"engine: batched, {len(plans)} fits side by side{advice}")
    try:
        return _train(plans)
    except CaptureError as error:
        parts = _equal_programs(plans)
        if len(parts) == 1 or len(parts) == len(plans):
            log(f"{len(plans)} fits are trained one by one: {error}")
            return [None] * len(plans)
        log(f"{len(plans)} fits are trained in groups of equal settings: {error}")
    except OutOfMemoryError:
        half = len(plans) // 2
        log(f"{len(plans)} fits at once need more memory than there is: {half} at once")
        parts = [plans[:half], plans[half:]]
    gc.collect()  # the fits that failed, to which the error referred
    found: dict[Path, str | GMMVAEError | None] = {}
    for part in parts:
        new = [plan for plan in part if not plan.out.exists()]
        outcomes = train_side_by_side(new, log)
        found |= dict(zip((plan.out for plan in new), outcomes, strict=True))
    return [found.get(plan.out) for plan in plans]


def _program(plan: Planned) -> str:
    return repr(plan.config.with_defaults(seed=0, label_seed=None))


def _equal_programs(plans: Sequence[Planned]) -> list[Sequence[Planned]]:
    """Runs that differ in nothing but seeds, together."""
    groups: dict[str, list[Planned]] = {}
    for plan in plans:
        groups.setdefault(_program(plan), []).append(plan)
    return list(groups.values())


def _train(plans: Sequence[Planned]) -> list[str | GMMVAEError | None]:
    jobs, noise, rows = list[Job](), [], list[Tensor]()
    device = resolve_device(plans[0].config.device)
    with ExitStack() as stack, out_of_memory_advice(device):
        for plan in plans:
            job = stack.enter_context(prepared(plan.config, plan.load, plan.callbacks, plan.out))
            stack.enter_context(new_folder(plan.out, force=False))
            now = environment(None, machine(job.fit.device, plan.config))
            write_config(plan.out, plan.config, job.parts.data.schema, [now])
            stack.enter_context(closing(job.loggers))
            job.start()
            _share_rows(job, rows)
            job.fit.log(job.parts.about())
            jobs.append(job)
            noise.append(rng_state(job.fit.device))
        saves = [
            job.saving(partial(save_checkpoint, plan.out))
            for job, plan in zip(jobs, plans, strict=True)
        ]
        # units of rows are constants of a program
        units = {repr(job.parts.data.schema.to_json()) for job in jobs}
        one_program = len(_equal_programs(plans)) == 1 and len(units) == 1
        fits = [job.fit for job in jobs]
        outcomes = FitGroup(fits, noise, one_program=one_program).run(saves)
        for number, (job, plan) in enumerate(zip(jobs, plans, strict=True)):
            outcome = outcomes[number]
            if isinstance(outcome, str):
                job.report_discriminators()
                job.finish(plan.out, outcome)
            else:
                outcomes[number] = with_checkpoint(outcome, plan.out)
                undo(plan.out, made=True)
    return list(outcomes)


def _share_rows(job: Job, rows: list[Tensor]) -> None:
    """Let a fit use equal rows of an earlier fit, and free its own; else add its rows."""
    own = job.fit.batches.x
    if not isinstance(own, Tensor):
        return
    same = [one for one in rows if one.shape == own.shape and torch.equal(one, own)]
    if same:
        job.fit.batches.x = same[0]
    else:
        rows.append(own)
    vars(job.parts).pop("training", None)  # the cached rows, which the batches have, too
