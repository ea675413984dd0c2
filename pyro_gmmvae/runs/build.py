"""From a config to its parts: rows, model, objective, schedules."""

import hashlib
import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pyro_gmmvae.config import Config, configure
from pyro_gmmvae.data import (
    Dataset,
    Shards,
    Split,
    StreamedRows,
    Transform,
    load_data,
    presets_of,
    split_rows,
)
from pyro_gmmvae.data.dataset import Floats, Labels
from pyro_gmmvae.errors import GMMVAEError, unknown_name
from pyro_gmmvae.guides import GUIDES
from pyro_gmmvae.inference import AUGMENTATIONS, Schedule, dtype_of
from pyro_gmmvae.models import MODELS
from pyro_gmmvae.networks import ACTIVATIONS, NETWORKS, NetworkOptions
from pyro_gmmvae.objectives import OBJECTIVES, Objective

KNOBS = ("temperature", "prior_temperature", "alpha", "kl_s", "kl_z", "kl_y", "kl_a")
# the keys that some model takes and another does not; only one with classes takes the first
LABEL_KEYS = {"alpha", "pseudo_threshold", "pseudo_balance", "pseudo_from", "pseudo_decay"}
MODEL_KEYS = {
    "guide",
    "components",
    "auxiliary_dim",
    "learn_prior",
    "label_eps",
    *KNOBS,
    *LABEL_KEYS,
}


def default_config(data: str, *layers: Mapping[str, Any]) -> Config:
    """The defaults, then the data set's preset, then layers of keys over them.

    Raises:
        GMMVAEError: an unknown key or preset, or a value out of range.
    """
    presets, default = presets_of(data)
    named = [layer["preset"] for layer in layers if layer.get("preset") is not None]
    preset = str(named[-1]) if named else default
    if preset not in presets:
        raise unknown_name("preset", preset, list(presets))
    merged: dict[str, Any] = {"data": data}
    for layer in ({"epochs": 100}, presets[preset], *layers, {"preset": preset}):
        if "minutes" in layer or "epochs" in layer:  # a new budget replaces the one before
            merged |= {"epochs": None, "minutes": None}
        merged |= layer
    return configure(merged)


@dataclass(frozen=True)
class Schema:
    """What a run must remember of the data it was trained on.

    Attributes:
        x_shape: shape of one observation.
        classes: names of the classes, in the order of the model's components.
        columns: names of the features of a table, or None.
        likelihood: the likelihood that suits the rows.
        transform: from the file's units to the model's.
        fingerprint: of rows and labels, to notice that the data changed.
    """

    x_shape: tuple[int, ...]
    classes: tuple[str, ...]
    columns: tuple[str, ...] | None
    likelihood: str
    transform: Transform
    fingerprint: str

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "transform": self.transform.to_json()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Schema":
        columns, shape = content["columns"], content["x_shape"]
        transform = Transform.from_json(content["transform"])
        if not all(isinstance(n, int) and n > 0 for n in shape):
            raise ValueError(f"x_shape {shape!r}")
        for values in (transform.shift, transform.scale):
            np.broadcast_to(values, shape)
        if not (np.isfinite(transform.shift).all() and (transform.scale > 0).all()):
            raise ValueError("transform out of range")
        return cls(
            x_shape=tuple(content["x_shape"]),
            classes=tuple(content["classes"]),
            columns=None if columns is None else tuple(columns),
            likelihood=content["likelihood"],
            transform=transform,
            fingerprint=content["fingerprint"],
        )

    def rows_for_model(self, dataset: Dataset, source: str) -> Floats:
        """A file's rows in the model's units, columns matched by name.

        Raises:
            GMMVAEError: if they are not the rows this run was trained on in kind.
        """
        x, columns = dataset.x, dataset.columns
        if self.columns is not None and columns is not None:
            missing = [name for name in self.columns if name not in columns]
            if missing:
                raise GMMVAEError(f"{source} lacks the columns {', '.join(missing[:5])}")
            x = x[:, [columns.index(name) for name in self.columns]]
        if int(np.prod(x.shape[1:])) == int(np.prod(self.x_shape)) and (
            x.ndim == 2 or len(self.x_shape) == 1
        ):
            x = x.reshape(-1, *self.x_shape)
        if x.shape[1:] != self.x_shape:
            raise GMMVAEError(
                f"{source} holds rows of shape {x.shape[1:]}; the model was trained on "
                f"{self.x_shape}"
            )
        return self.in_range(self.transform(x), source)

    def in_range(self, x: Floats, source: str) -> Floats:
        """The rows, if the likelihood has a density there.

        Raises:
            GMMVAEError: for a Bernoulli likelihood of rows outside [0, 1].
        """
        low, high = float(x.min()), float(x.max())
        if self.likelihood == "bernoulli" and not -1e-6 <= low <= high <= 1 + 1e-6:
            raise GMMVAEError(
                f"{source}: the bernoulli likelihood needs rows in [0, 1]; in the model's units "
                f"these go from {low:.3g} to {high:.3g} (another unit, or likelihood=normal?)"
            )
        return x


@dataclass(frozen=True)
class Rows:
    """Data ready to fit: rows in the model's units, labels, and who is in which part."""

    dataset: Dataset
    split: Split
    schema: Schema
    dtype: torch.dtype

    def describe(self) -> str:
        """One line on what was read, so that a label mistaken for a feature is seen."""
        split, shape = self.split, "x".join(str(n) for n in self.schema.x_shape)
        classes = len(self.schema.classes)
        return (
            f"{len(self.dataset.x)} rows of {shape}, {classes or 'no'} classes; "
            f"{len(split.train)} train ({len(split.labelled)} labelled), "
            f"{len(split.validation)} validation, {len(split.test)} test"
        )

    def watched(self, most: int) -> Labels:
        """Up to ``most`` validation rows (training rows where there are none), always the same."""
        rows = self.split.validation if len(self.split.validation) else self.split.train
        return rows[some_of(len(rows), most)]

    def part(self, rows: Labels, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """x and true y of some rows, on a device."""
        x = torch.from_numpy(self.schema.transform(self.dataset.x[rows]))
        x = x.to(device, self.dtype)
        return x, torch.from_numpy(self.dataset.y[rows]).to(device)

    def training(self, device: torch.device) -> tuple[Tensor | StreamedRows, Tensor]:
        """x and y of the training rows, y = -1 where the label is not shown.

        Shards stay on disk: their rows are read as batches ask for them.
        """
        numbers, x = self.split.train, self.dataset.x
        hidden = np.isin(numbers, self.split.labelled, invert=True)
        y = torch.from_numpy(np.where(hidden, -1, self.dataset.y[numbers])).to(device)
        if isinstance(x, Shards):
            return StreamedRows(x, numbers, self.schema.transform, device, self.dtype), y
        return self.part(numbers, device)[0], y


def load_rows(config: Config, schema: Schema | None = None) -> Rows:
    """Load and split what ``config`` names.

    Args:
        config: the run's configuration.
        schema: of a run that exists; the data must still be what it was trained on.

    Raises:
        GMMVAEError: data that can't be used, or that changed.
    """
    dataset = load_data(
        config.data,
        None if config.data_dir is None else Path(config.data_dir),
        label_column=config.label_column,
        drop_nonfinite=config.drop_nonfinite,
    )
    if config.labels and not dataset.classes:
        raise GMMVAEError(
            f"{config.data} has no labels: no column or array {config.label_column!r} "
            "(name it with --label-column, or give --labels 0)"
        )
    split = split_rows(
        dataset.y,
        classes=len(dataset.classes),
        labels=config.labels,
        test=config.test if dataset.test is None else dataset.test,
        validation=config.validation,
        split_seed=config.split_seed,
        label_seed=config.seed if config.label_seed is None else config.label_seed,
    )
    fingerprint = _fingerprint(dataset)
    if schema is None:
        schema = Schema(
            x_shape=dataset.x_shape,
            classes=dataset.classes,
            columns=dataset.columns,
            likelihood=config.likelihood or dataset.likelihood,
            transform=dataset.fit_transform_on(split.train),
            fingerprint=fingerprint,
        )
    elif schema.fingerprint != fingerprint:
        raise GMMVAEError(f"{config.data} is not the data this run was trained on: it has changed")
    rows = Rows(dataset, split, schema, dtype_of(config.precision))
    schema.in_range(schema.transform(dataset.x[rows.watched(1000)]), config.data)
    return rows


def some_of(rows: int, most: int) -> Labels:
    """Up to ``most`` row numbers below ``rows`` (0: all), the same ones each time."""
    if most == 0 or rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(0).choice(rows, most, replace=False))


def _fingerprint(dataset: Dataset) -> str:
    x = dataset.x
    digest = hashlib.sha256(f"{x.dtype}{x.shape}{dataset.classes}".encode())
    # of shards some rows must do: reading all would take as long as an epoch
    digest.update(np.ascontiguousarray(x.sample() if isinstance(x, Shards) else x).tobytes())
    digest.update(np.ascontiguousarray(dataset.y).tobytes())
    return digest.hexdigest()


def build_model(config: Config, schema: Schema) -> nn.Module:
    """The model of a config, its weights drawn from torch's global generator.

    Raises:
        GMMVAEError: an unknown name, or K below the number of classes.
    """
    check_names(config)
    model_class: Any = MODELS[config.model]
    if not schema.classes and getattr(model_class, "needs_labels", False):
        raise _needs_labels(config)
    wanted = inspect.signature(model_class).parameters
    values = _constructor_values(config, schema)
    model = model_class(**{key: values[key] for key in wanted if key in values})
    return model.to(dtype_of(config.precision))


def check_names(config: Config) -> None:
    """Every name of a config must be in its table.

    Raises:
        GMMVAEError: with the nearest match.
    """
    for kind, name, table in (
        ("model", config.model, MODELS),
        ("guide", config.guide, GUIDES),
        ("objective", config.objective, OBJECTIVES),
        ("network", config.network, NETWORKS),
        ("activation", config.activation, ACTIVATIONS),
        ("augmentation", config.augment, AUGMENTATIONS),
    ):
        if name is not None and name not in table:
            raise unknown_name(kind, name, list(table))


def check_keys(config: Config) -> None:
    """Refuse a key that was given and means nothing to the model.

    Raises:
        GMMVAEError: naming key and model.
    """
    model_class: Any = MODELS[config.model]
    wanted = inspect.signature(model_class).parameters
    defaults = default_config(config.data, {"preset": config.preset})
    taken = {*wanted, *(f"kl_{site}" for site in model_class.latents)}
    taken |= LABEL_KEYS if model_class.label_site else set()
    for key in sorted(MODEL_KEYS):
        if key not in taken and getattr(config, key) != getattr(defaults, key):
            raise GMMVAEError(f"{key} means nothing to the model {config.model!r}; leave it out")


def _needs_labels(config: Config) -> GMMVAEError:
    return GMMVAEError(
        f"the model {config.model!r} needs labels and is given none; give --labels, or train "
        "gmmvae or vae, which need none"
    )


def require_labels(config: Config, model: Any, rows: Rows) -> None:
    """Refuse a fit without labels, or without one of the classes, where the model needs them.

    Raises:
        GMMVAEError: naming the model, or the class that has no labelled row.
    """
    if not getattr(model, "needs_labels", False):
        return
    if not len(rows.split.labelled):
        raise _needs_labels(config)
    if len(rows.schema.classes) < 2:
        raise GMMVAEError(f"the model {config.model!r} needs labels of at least two classes")
    seen = set(rows.dataset.y[rows.split.labelled].tolist())
    missing = [name for k, name in enumerate(rows.schema.classes) if k not in seen]
    if missing:
        raise GMMVAEError(
            f"the model {config.model!r} needs a labelled row of every class; the training rows "
            f"have none of {', '.join(map(repr, missing[:5]))}"
        )


def takes_guide(name: str) -> bool:
    """Whether a model has a choice of guides.

    Raises:
        GMMVAEError: an unknown name.
    """
    if name not in MODELS:
        raise unknown_name("model", name, list(MODELS))
    return "guide" in inspect.signature(MODELS[name]).parameters


def with_defaults_named(config: Config) -> Config:
    """The configuration with guide and objective named, where the model's own are taken."""
    has_choice, model = takes_guide(config.model), MODELS[config.model]
    changes: dict[str, Any] = {}
    if config.guide is None and has_choice:
        choice = inspect.signature(model).parameters["guide"]
        changes["guide"] = next(k for k, v in GUIDES.items() if v is choice.default)
    guide = changes.get("guide", config.guide)
    if config.objective is None:
        owner: Any = GUIDES.get(str(guide), model) if has_choice else model
        changes["objective"] = getattr(owner, "default_objective", "analytic")
    return config.replace(**changes) if changes else config


def _constructor_values(config: Config, schema: Schema) -> dict[str, Any]:
    """Every value a model's constructor may ask for, by the constructor's own names."""
    classes = len(schema.classes)
    components = config.components or classes or 10
    if components < classes:
        raise GMMVAEError(f"components {components}: at least one per class is needed ({classes})")
    values: dict[str, Any] = {
        "x_shape": schema.x_shape,
        "components": components,
        "latent_dim": config.latent_dim,
        "auxiliary_dim": config.auxiliary_dim,
        "network": config.network,
        "likelihood": schema.likelihood,
        "learn_prior": config.learn_prior,
        "label_eps": config.label_eps,
        "temperature": Schedule.parse(config.temperature)(0),
        "prior_temperature": Schedule.parse(config.prior_temperature)(0),
        "options": NetworkOptions(
            hidden=config.hidden,
            channels=config.channels,
            activation=config.activation,
            batch_norm=config.batch_norm,
            dropout=config.dropout,
            input_noise=config.input_noise,
        ),
    }
    if config.guide is not None:
        values["guide"] = GUIDES[config.guide]
    return values


def build_objective(config: Config, model: Any) -> Objective:
    """The objective of a config for a model, on the model's device and of its type."""
    name = with_defaults_named(config).objective
    objective = OBJECTIVES[str(name)](
        model.model,
        model.guide,
        latents=model.latents,
        label_site=model.label_site,
        particles=config.particles,
    )
    return objective.to(next(model.parameters()))


def build_schedules(
    config: Config, model: Any, objective: Objective
) -> list[tuple[Tensor, Schedule]]:
    """The buffers that move while training, each with its schedule.

    Raises:
        GMMVAEError: a temperature that is not positive, or a negative weight, on the way.
    """
    buffers = objective.knobs | model.knobs
    schedules = {key: Schedule.parse(getattr(config, key)) for key in KNOBS if key in buffers}
    for key, schedule in schedules.items():
        lowest = min(schedule.start, schedule.end)
        if lowest < 0 or (lowest == 0 and "temperature" in key) or math.isnan(lowest):
            raise GMMVAEError(f"{key} must stay positive, not go to {lowest:g}")
    return [(buffers[key], schedule) for key, schedule in schedules.items()]
