"""From a config and its rows to a fit that is ready to run."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pyro_gmmvae.config import Config
from pyro_gmmvae.data import Shards, StreamedRows
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.models import LatentModel
from pyro_gmmvae.objectives import Objective
from pyro_gmmvae.runs.build import build_model, build_objective, build_schedules, require_labels
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.runs.validation import Watch
from pyro_gmmvae.training import (
    Batches,
    Callback,
    Fit,
    FitSettings,
    SequenceTeacher,
    Teacher,
    check_precision,
)
from pyro_gmmvae.training.batches import class_labels
from pyro_gmmvae.training.devices import seeded
from pyro_gmmvae.training.distributed import World


def assemble(
    config: Config,
    rows: TrainingData,
    device: torch.device,
    callbacks: Sequence[Callback],
    world: World,
) -> Fit:
    """Model, objective, batches and schedules of a config, ready to run."""
    model, objective = check_fit(config, rows, device)
    views = _views(config, rows, objective, device)
    x, y = _training_tensors(rows, device, raw=views["describe"] is not None)
    return Fit(
        objective,
        model,
        Batches(x, y, config.batch_size, config.labelled_per_batch, config.seed, world),
        FitSettings(**config.model_dump(include=set(FitSettings.__dataclass_fields__))),
        schedules=build_schedules(config, model, objective),
        validate=Watch(model, objective, rows, device),
        teacher=_teacher(config, model, rows, y),
        callbacks=callbacks,
        about="; ".join((rows.describe(), *_cautions(config, rows, model, objective))),
        labelled_weight=objective.labelled_weight,
        world=world,
        **views,
    )


def pre_fit(
    config: Config,
    rows: TrainingData,
    model: nn.Module,
    objective: Objective,
    y: Tensor | None,
    steps: int,
) -> None:
    """Fit for so many steps (of whole epochs) before the fit that counts, with other labels.

    Args:
        config, rows, model, objective: of this fit.
        y: a label for each fitted row, or None.
        steps: at least so many.

    Raises:
        KeyboardInterrupt: when told to stop; there is nothing to save.
    """
    device = next(model.parameters()).device
    views = _views(config, rows, objective, device)
    x, hidden = _training_tensors(rows, device, raw=views["describe"] is not None)
    y = torch.full_like(class_labels(hidden), -1) if y is None else y.to(device)
    batches = Batches(x, y, config.batch_size, 0, config.seed)
    settings = FitSettings(
        epochs=math.ceil(steps / len(batches)),
        learning_rate=config.learning_rate,
        clip_norm=config.clip_norm,
        engine="svi" if config.engine == "svi" else "auto",
        precision=config.precision,
    )
    schedules = build_schedules(config, model, objective)
    outcome = Fit(objective, model, batches, settings, schedules=schedules, **views).run()
    if outcome.startswith("SIG"):
        raise KeyboardInterrupt


def _views(
    config: Config, rows: TrainingData, objective: Objective, device: torch.device
) -> dict[str, Any]:
    """Arguments of a fit that concern augmentation, which some rows take before featurization."""
    augment = rows.kind.augmentation(config.augment)
    is_raw = augment is not None and rows.kind.augments_raw_rows
    return {
        "augment": augment,
        "twins": config.reconstruct == "clean" or bool(objective.regularizers),
        "describe": rows.schema.featurizer(device, rows.dtype) if is_raw else None,
    }


def _training_tensors(
    rows: TrainingData, device: torch.device, *, raw: bool
) -> tuple[Tensor | StreamedRows, Tensor]:
    return rows.raw_training_tensors(device) if raw else rows.training_tensors(device)


def _cautions(config: Config, rows: TrainingData, model: Any, objective: Objective) -> list[str]:
    """What a user of the terms on assignments should know before the fit."""
    told = []
    if objective.regularizers and model.components == 1:
        told.append("components is 1: every row is of the one, and nothing is clustered")
    if "consistency" in objective.regularizers and rows.kind.augmentation(config.augment) is None:
        told.append(
            "augment is none: consistency then compares each row with itself, and clusters follow "
            "whatever varies most"
        )
    if config.labels == 0 and rows.dataset.classes:
        told.append("labels are used for evaluation only")
    return told


def check_fit(
    config: Config, rows: TrainingData, device: torch.device | str = "cpu"
) -> tuple[LatentModel, Objective]:
    """Model and objective of a config, after one evaluation on two rows.

    Raises:
        GMMVAEError: model, guide, objective, augmentation and data that don't fit each other.
    """
    check_precision(config.precision, torch.device(device))
    model = build_model(config, rows.schema).to(device).eval()
    require_labels(config, model, rows)
    objective = build_objective(config, model)
    build_schedules(config, model, objective)
    _check_components(config, model, rows)
    x, y = rows.tensors(rows.split.train[:2], device)
    if config.labels == 0:  # components may be fewer than classes
        y = torch.full_like(y, -1)
    Batches(x, y, config.batch_size, config.labelled_per_batch, config.seed)
    augment = rows.kind.augmentation(config.augment)
    with seeded(0, torch.device(device)), torch.no_grad():
        if augment is not None and not rows.kind.augments_raw_rows:
            x = augment(x)
        objective(x, y)
    return model, objective


def _check_components(config: Config, model: Any, rows: TrainingData) -> None:
    """Refuse what can't be clustered."""
    K, N = model.components, len(rows.training_rows)
    if K > N:
        raise GMMVAEError(f"components {K}: there are only {N} training rows")
    x = rows.dataset.x
    if K > 1 and not len(rows.split.labelled) and not isinstance(x, Shards):
        first = x[rows.training_rows[0]]
        if all(
            (x[part] == first).all() for part in np.array_split(rows.training_rows, 1 + N // 4096)
        ):
            raise GMMVAEError("all training rows are equal: there is nothing to cluster")
    if config.init != "random" and config.labels != 0 and len(rows.split.labelled):
        raise GMMVAEError(
            f"init={config.init} names components by itself and is for fits without labels; give "
            "--labels 0, or --init random"
        )


def _teacher(config: Config, model: Any, rows: TrainingData, y: Tensor) -> Teacher | None:
    """The averaged copy that gives pseudo-labels, where the config asks for one.

    Args:
        y: labels of the training rows, which a teacher of sequences fills in.
    """
    threshold = config.pseudo_threshold
    if threshold is None or model.class_site is None or not len(rows.split.labelled):
        return None
    settings: dict[str, Any] = {"decay": config.pseudo_decay}
    if config.pseudo_balance:
        settings["balanced_over"] = len(rows.schema.classes)
    if not rows.groups.merges:
        plain = Teacher(model, threshold, config.pseudo_from, **settings)
        return plain.to(next(model.parameters()))
    numbers = rows.training_rows
    teacher = SequenceTeacher(
        model,
        threshold,
        config.pseudo_from,
        x=rows.tensors(numbers, y.device)[0],
        y=y,
        sequences=torch.from_numpy(rows.groups.of_row[numbers]).to(y.device),
        every=config.pseudo_every,
        **settings,
    )
    return teacher.to(next(model.parameters()))
