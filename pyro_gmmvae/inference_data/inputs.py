"""A run or a plain model with rows: what is asked of either, and what its numbers are called."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pyro_gmmvae.data import Dataset
from pyro_gmmvae.errors import GMMVAEError, unknown_name
from pyro_gmmvae.evaluation import one_draw
from pyro_gmmvae.models import LatentModel, labels_or_predictions
from pyro_gmmvae.runs import Run
from pyro_gmmvae.runs.data import TrainingData, some_of
from pyro_gmmvae.runs.folder import fitted_names
from pyro_gmmvae.runs.run import with_data_at
from pyro_gmmvae.training import dtype_of

Array = np.ndarray[Any, Any]
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Input:
    """A model and rows.

    Attributes:
        model: a module with ``model`` and ``guide``.
        x: (N, *x_shape), in the model's units, on its device.
        y: (N,) class numbers, -1 where unknown, or None.
        has_classes: whether the model's first components are the classes of y.
        ids: (N,) the rows' numbers.
        invert: from the model's units to those that are written.
        attrs: what is written beside the numbers.
        components: their names, or None for numbers.
        factors: names of the components of each further factor.
        columns: names of the entries of x, or None.
        sequences: (N,) names of the sequences that rows are windows of, or None.
    """

    model: Any
    x: Tensor
    y: Array | None
    has_classes: bool
    ids: Array
    invert: Callable[[Array], Array]
    attrs: dict[str, str | int]
    components: list[str] | None = None
    factors: dict[str, list[str]] = field(default_factory=dict)
    columns: tuple[str, ...] | None = None
    sequences: Array | None = None

    @property
    def told(self) -> Tensor | None:
        """(N,) labels that model and guide are told: of a model that is given the class."""
        if not (isinstance(self.model, LatentModel) and self.model.given_class):
            return None
        y = None if self.y is None else torch.from_numpy(self.y).to(self.x.device)
        return labels_or_predictions(self.model, self.x, y)

    @contextmanager
    def in_evaluation_mode(self) -> Iterator[None]:
        """No dropout and no batch statistics within; each part's own mode after."""
        modes = {part: part.training for part in self.model.modules()}
        self.model.eval()
        try:
            yield
        finally:
            for part, mode in modes.items():
                part.training = mode

    @torch.no_grad()
    def latent_entries(self) -> int:
        """How many numbers the latents of a row hold.

        Raises:
            GMMVAEError: none at all.
        """
        told = None if self.told is None else self.told[:1]
        latents = one_draw(self.model.model, self.model.guide, self.x[:1], told)[2]
        if not latents:
            name = self.attrs["model"]
            raise GMMVAEError(f"the model {name!r} has no latents to draw; vae has, and gmmvae")
        return sum(value.numel() for value in latents.values())


def read_input(source: Any, x: Any, y: Any, rows: int, data: str | None) -> Input:
    """What :func:`pyro_gmmvae.inference_data.to_inference_data` is told, checked.

    Raises:
        GMMVAEError: rows or labels that do not fit the model, or data that can't be read.
    """
    if isinstance(source, Run):
        if isinstance(x, str):
            if y is not None:
                raise GMMVAEError(f"the {x} rows have the labels of the run's data: leave y out")
            return _part_of_run(source, x, rows, data)
        return _rows_for_run(source, x, y)
    if not (
        isinstance(source, nn.Module) and hasattr(source, "model") and hasattr(source, "guide")
    ):
        raise GMMVAEError(
            f"a Run, or a module with model and guide, is needed, and not {type(source).__name__}"
        )
    return _rows_for_model(source, x, y)


def _part_of_run(run: Run, part: str, rows: int, data: str | None) -> Input:
    if part not in PARTS:
        raise unknown_name("part", part, list(PARTS))
    found = TrainingData.from_config(with_data_at(run.config, data), run.schema)
    numbers = getattr(found.split, part)
    if not len(numbers):
        raise GMMVAEError(f"{run.path} was trained without {part} rows; name another part")
    numbers = numbers[some_of(len(numbers), rows)]
    x, y = found.tensors(numbers, run.device)
    groups = found.groups
    names = groups.names[groups.of_row[numbers]] if groups.merges else None
    ids = found.dataset.row_numbers[numbers]
    return _of_run(run, x, y.cpu().numpy(), ids, {"part": part}, names)


def _rows_for_run(run: Run, x: Any, y: Any) -> Input:
    schema = run.schema
    if schema.kind.reads_tracks:
        raise GMMVAEError(f"{run.path} is of skeletons: name a part of its data ('test')")
    dataset = (
        x if isinstance(x, Dataset) else Dataset.of_arrays(_array(x), np.empty(0, np.int64), ())
    )
    if y is None and isinstance(x, Dataset):
        number = {name: k for k, name in enumerate(schema.classes)}
        number_of = np.array([*(number.get(name, -1) for name in dataset.classes), -1])
        y = number_of[dataset.y]
    if not np.isfinite(np.asarray(dataset.x[:])).all():
        raise GMMVAEError("x has entries that are not finite; leave their rows out")
    in_units = torch.from_numpy(schema.rows_for_model(dataset, "x"))
    in_units = in_units.to(run.device, dtype_of(run.config.precision))
    labels = _labels(y, len(in_units), len(schema.classes))
    return _of_run(run, in_units, labels, dataset.row_numbers, {}, None)


def _of_run(
    run: Run, x: Tensor, y: Array | None, ids: Array, attrs: dict[str, Any], sequences: Array | None
) -> Input:
    config, model = run.config, run.model
    told = {name: getattr(config, name) for name in ("model", "guide", "objective", "seed")}
    attrs = {k: v for k, v in told.items() if v is not None} | attrs
    attrs |= {"weights": run.weights, "config": json.dumps(config.model_dump())}
    factors = {}
    for name, size in model.factors.items():
        known = list(dict(run.schema.factors).get(name, ()))
        factors[name] = known + [f"component_{k}" for k in range(len(known), size)]
    return Input(
        model,
        x,
        y,
        bool(fitted_names(config, run.schema)),
        ids,
        run.schema.transform.invert,
        attrs,
        run.class_names() if model.components else None,
        factors,
        run.schema.kind.columns,
        sequences,
    )


def _rows_for_model(model: Any, x: Any, y: Any) -> Input:
    if isinstance(x, str | Dataset):
        raise GMMVAEError("a plain model takes rows x (N, *x_shape); parts of data are a run's")
    like = next(model.parameters(), torch.zeros(()))
    values = torch.as_tensor(_array(x)).to(like)
    shape = getattr(model, "x_shape", values.shape[1:])
    if values.shape[1:] != tuple(shape):
        raise GMMVAEError(
            f"x holds rows of shape {tuple(values.shape[1:])}; the model's is {shape}"
        )
    missing = getattr(getattr(model, "observation", None), "missing", False)
    if not missing and not values.isfinite().all():
        raise GMMVAEError("x has entries that are not finite; leave their rows out")
    labels = _labels(y, len(values), getattr(model, "components", None) or None)
    guide = model.guide
    attrs: dict[str, str | int] = {"model": type(model).__name__}
    attrs |= {"guide": type(guide).__name__} if isinstance(guide, nn.Module) else {}
    return Input(model, values, labels, True, np.arange(len(values)), np.asarray, attrs)


def _array(x: Any) -> Array:
    if isinstance(x, Tensor):
        x = x.detach().cpu().numpy()
    try:
        values = np.asarray(x)
        values = values if values.dtype.kind == "f" else values.astype(np.float32)
    except (TypeError, ValueError) as error:
        raise GMMVAEError(f"x is no array of numbers: {error}") from error
    if values.ndim < 2 or not values.size:
        raise GMMVAEError(f"x needs rows (N, *x_shape), and has the shape {values.shape}")
    return values


def _labels(y: Any, rows: int, classes: int | None) -> Array | None:
    """(N,) int64 of labels as they were given."""
    if y is None:
        return None
    values = np.asarray(y.detach().cpu() if isinstance(y, Tensor) else y)
    if values.shape != (rows,):
        raise GMMVAEError(f"y has the shape {values.shape}, and x {rows} rows")
    if values.dtype.kind not in "iu":
        raise GMMVAEError(f"y needs class numbers (integers), and holds {values.dtype}")
    if classes is not None and not ((values >= -1) & (values < classes)).all():
        raise GMMVAEError(f"y needs class numbers from 0 to {classes - 1}, or -1: unknown")
    return values.astype(np.int64)
