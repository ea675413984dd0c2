"""The parts of a fit, each built once: model, objective, schedules, augmentation, batches."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_gmmvae.config import Config
from pyro_gmmvae.data import Shards, StreamedRows
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.key_types import Schedule
from pyro_gmmvae.models import LatentModel
from pyro_gmmvae.objectives import Objective
from pyro_gmmvae.runs.build import (
    BYTES_PER_WEIGHT,
    SMALL_MEMORY,
    ZERO,
    build_model,
    build_objective,
    build_schedules,
    require_labels,
)
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.runs.validation import Validation
from pyro_gmmvae.training import (
    Batches,
    Callback,
    Fit,
    FitSettings,
    Preprocessing,
    PseudoLabeler,
    SequencePseudoLabeler,
    check_precision,
)
from pyro_gmmvae.training.batches import binary_draws, check_batch_size, class_labels
from pyro_gmmvae.training.devices import seeded
from pyro_gmmvae.training.distributed import SINGLE_PROCESS, World
from pyro_gmmvae.training.out_of_memory import check_memory, counted_activations

# A rough number of activations, of a draw and a class, for each unit of the widest layer. It only
# decides whether a step is measured.
ACTIVATIONS = 100
FEW_PARTICLES = 10  # in a measurement; the memory grows in proportion to their number
MOST_STEPS = 3000  # of a preset's budget
STEPS_OF_EPOCH = 20  # about, where a budget in steps does not depend on the number of rows


@dataclass(frozen=True)
class Parts:
    """The parts of a fit, built from a configuration and its data.

    Attributes:
        config: resolved.
        data: the rows, and which part each is in.
        device: of the model.
        model, objective: on the device.
        schedules: the buffers that change while training, each with its schedule.
        validation: metrics of the model on validation rows.
        preprocessing: augmentation and features of each batch.
        raw: whether batches hold rows in the file's units, which get their features after
            augmentation; else rows are augmented in the model's units.
    """

    config: Config
    data: TrainingData
    device: torch.device
    model: LatentModel
    objective: Objective
    schedules: Sequence[tuple[Tensor, Schedule]]
    validation: Validation
    preprocessing: Preprocessing
    raw: bool

    def dry_run(self, processes: int = 1) -> None:
        """Evaluate the objective once, on two rows, and estimate the memory of a step.

        Args:
            processes: that share a batch.

        Raises:
            GMMVAEError: model, guide, objective, augmentation and data that don't fit each other,
                or a step on a whole batch that needs more memory than the device has.
        """
        x, y = self.validation.x[:2], self.validation.y_true[:2]
        if self.config.labels == 0:  # components may be fewer than classes
            y = torch.full_like(y, -1)
        rows = math.ceil(min(self.config.batch_size, len(self.data.training_rows)) / processes)
        is_large = self._is_large(rows)
        self.model.eval()
        with torch.no_grad():
            self._evaluate(x, y)
        if is_large:
            self._check_memory(x, y, rows)

    def _evaluate(self, x: Tensor, y: Tensor) -> None:
        """Evaluate the objective with few particles; the generators stay as they are."""
        augment, objective = self.preprocessing.augment, self.objective
        particles = objective.particles
        with seeded(0, self.device):
            x = x if augment is None or self.raw else augment(x)
            objective.particles = min(particles, FEW_PARTICLES)
            try:
                objective(x, y)
            except ValueError as error:  # of a distribution, for its parameters
                if isinstance(error, GMMVAEError):
                    raise
                raise GMMVAEError(
                    f"the model can't be evaluated on the first rows ({str(error).splitlines()[0]})"
                    "; look for a temperature or another number that is very small or large"
                ) from error
            finally:
                objective.particles = particles

    def _is_large(self, rows: int) -> bool:
        """Whether a step on so many rows of this device may need a gigabyte, roughly."""
        config = self.config
        if config.device.split(":")[0] not in ("auto", self.device.type):
            return False  # the fit is on another device
        width = max(*config.hidden, self.validation.x[:1].numel())
        draws = rows * self.objective.particles * max(1, self.model.components)
        return 4 * ACTIVATIONS * draws * width > SMALL_MEMORY

    def _check_memory(self, x: Tensor, y: Tensor, rows: int) -> None:
        """Refuse a step that needs more memory than the device has."""
        pair, labels = (torch.cat([one, one])[:2] for one in (x, y))
        counts = []
        for n in (1, 2):  # some tensors do not grow with the rows
            with counted_activations(self.model) as activations:
                self._evaluate(pair[:n], labels[:n])
            counts.append(sum(activations.values()))
        one, two = counts
        particles = self.objective.particles
        of_row = (two - one) * particles / min(particles, FEW_PARTICLES)
        weights = sum(parameter.numel() for parameter in self.model.parameters())
        check_memory(
            one + (rows - 1) * of_row + BYTES_PER_WEIGHT * weights,
            self.device,
            f"{weights} weights and a step on {rows} rows",
            "particles, batch_size, hidden, latent_dim or components",
        )

    @cached_property
    def training(self) -> tuple[Tensor | StreamedRows, Tensor]:
        """x and y of the rows to fit, on the device."""
        data, raw = self.data, self.raw
        tensors = data.raw_training_tensors if raw else data.training_tensors
        x, y = tensors(self.device)
        if data.dataset.soft_labels is not None:
            places, _ = data.soft_labels()
            soft = torch.arange(len(places), device=y.device) + self.model.components
            class_labels(y)[torch.from_numpy(places).to(y.device)] = soft
        return x, y

    @torch.no_grad()
    def by_blocks(self, function: Callable[[Tensor], Tensor]) -> NDArray[Any]:
        """A function of the rows to fit, in the model's units, applied to blocks of them."""
        data, rows = self.data, self.data.training_rows
        blocks = np.array_split(rows, 1 + len(rows) // 4096)
        results = [function(data.tensors(block, self.device)[0]) for block in blocks]
        return torch.cat(results).cpu().numpy()

    def _batches(
        self, labelled: int, world: World = SINGLE_PROCESS, y: Tensor | None = None
    ) -> Batches:
        """Batches of the rows to fit, with other labels y if they are given.

        They are balanced by the most probable class.
        """
        config, weights, classes = self.config, self.data.training_weights, None
        if labelled and self.data.dataset.soft_labels is not None:
            classes = self.data.visible_labels()
        x, own = self.training
        return Batches(
            x,
            own if y is None else y,
            config.batch_size,
            labelled,
            config.seed,
            world,
            weights=weights,
            classes=classes,
            least_steps=1 if config.steps is None else STEPS_OF_EPOCH,
        )

    def fit(self, callbacks: Sequence[Callback] = (), world: World = SINGLE_PROCESS) -> Fit:
        """A fit that is ready to run.

        Args:
            callbacks: called after each epoch, and after each step where they have ``on_step``.
            world: the processes that fit together.
        """
        grouped, labeler, settings = (
            self.data.groups.merges,
            self._pseudo_labeler(),
            self._settings(),
        )
        batches = self._batches(self.config.labelled_per_batch, world)
        if labeler is not None:
            labeler = labeler(y=batches.y) if grouped else labeler()
            labeler.to(next(self.model.parameters()))
        return Fit(
            self.objective,
            self.model,
            batches,
            settings,
            schedules=self.schedules,
            preprocessing=self.preprocessing,
            pseudo_labeler=labeler,
            validate=self.validation,
            callbacks=callbacks,
            labelled_weight=self.objective.labelled_weight,
        )

    def _settings(self) -> FitSettings:
        """The settings of the fit; a preset's budget in steps grows with the labels."""
        config = self.config
        values = config.model_dump(include=set(FitSettings.__dataclass_fields__))
        if config.steps is not None and "steps" not in config.given:
            values["steps"] = min(config.steps + len(self.data.split.labelled), MOST_STEPS)
        return FitSettings(**values)

    def about(self) -> str:
        """A line on the data and the rows of the ELBO, with warnings on settings."""
        share, cautions = self._labelled_share(), self._cautions()
        rows = [f"labelled rows are {share:.0%} of the ELBO"] if share else []
        return "; ".join((self.data.describe(), *rows, *cautions))

    def _labelled_share(self) -> float:
        """Weight of labelled rows in the mean of the ELBO over a batch, 0 to 1."""
        config, labelled = self.config, len(self.data.split.labelled)
        if not labelled or self.model.class_site is None:
            return 0.0
        added = config.labelled_per_batch / config.batch_size
        rows = added + (1 - added) * labelled / len(self.data.training_rows)
        weight = config.labelled_elbo * rows
        # in this order: a weight of 1e-300 is lost beside 1
        return weight / (weight + (1 - rows)) if weight else 0.0

    def pretrain(self, y: Tensor | None, steps: int) -> None:
        """Fit the same model for at least ``steps`` steps (of whole epochs), with other labels.

        Args:
            y: (N,) a label for each row to fit; None: no labels.
            steps: the least number of steps.

        Raises:
            KeyboardInterrupt: a signal stopped it; nothing has been saved.
        """
        config, (_, hidden) = self.config, self.training
        y = torch.full_like(class_labels(hidden), -1) if y is None else y.to(self.device)
        batches = self._batches(0, y=y)
        settings = FitSettings(
            epochs=math.ceil(steps / len(batches)),
            learning_rate=config.learning_rate,
            clip_norm=config.clip_norm,
            engine="svi" if config.engine == "svi" else "auto",
            precision=config.precision,
        )
        fit = Fit(
            self.objective,
            self.model,
            batches,
            settings,
            schedules=self.schedules,
            preprocessing=self.preprocessing,
        )
        if fit.run().startswith("SIG"):
            raise KeyboardInterrupt

    def _cautions(self) -> list[str]:
        """Settings that are allowed, and that hardly anyone wants."""
        cautions, regularizers = [], self.objective.regularizers
        if regularizers and self.model.components == 1:
            cautions.append("components=1 puts every row into one cluster")
        if "consistency" in regularizers and self.preprocessing.augment is None:
            cautions.append(
                "augment is none: consistency then compares each row with itself, and clusters "
                "follow the largest variation"
            )
        if self.config.labels == 0 and self.data.dataset.classes:
            cautions.append("labels are used for evaluation only")
        return cautions

    def _pseudo_labeler(self) -> Any:
        """A constructor of pseudo-labels, where the config asks for them, else None.

        Where rows are windows of sequences, it still needs the labels y.
        """
        config, data = self.config, self.data
        threshold, start = config.pseudo_threshold, config.pseudo_from
        if threshold is None or self.model.class_site is None or not len(data.split.labelled):
            return None
        options: dict[str, Any] = {"decay": config.pseudo_decay}
        if config.pseudo_balance:
            options["balanced_over"] = len(data.schema.classes)
        if not data.groups.merges:
            return partial(PseudoLabeler, self.model, threshold, start, **options)
        options |= {
            "x": data.tensors(data.training_rows, self.device)[0],
            "sequences": torch.from_numpy(data.groups.of_row[data.training_rows]).to(self.device),
            "every": config.pseudo_every,
        }
        return partial(SequencePseudoLabeler, self.model, threshold, start, **options)


def build(config: Config, data: TrainingData, device: torch.device | str = "cpu") -> Parts:
    """Build the parts of a fit. Weights are drawn from torch's global generator.

    Args:
        config: resolved.
        data: the rows.
        device: of the model.

    Raises:
        GMMVAEError: sizes, labels, schedules or an augmentation that don't fit model or data.
    """
    device = torch.device(device)
    model = build_model(config, data.schema).to(device, data.dtype)
    require_labels(config, model, data)
    for term in ("mmd", "adversary"):
        is_used = getattr(config, term, ZERO) != ZERO
        if is_used and getattr(config, f"{term}_of") == "covariates":
            _check_categories(data, term)
    objective = build_objective(config, model, len(data.training_rows))
    schedules = build_schedules(config, model, objective)
    if data.dataset.soft_labels is not None:
        _set_soft_labels(model, objective, data)
    _check_components(config, model, data)
    _check_terms(config, data, objective)
    if "vat" in objective.regularizers:
        _check_real_rows(data)
    validation, kind = Validation(model, objective, data, device), data.schema.kind
    augment = kind.augmentation(config.augment)
    raw = augment is not None and kind.augments_raw_rows
    paired = config.reconstruct != "augmented" or bool(objective.regularizers)
    preprocessing = Preprocessing(augment, paired=paired)
    if raw:
        preprocessing = replace(preprocessing, featurize=data.schema.featurizer(device, data.dtype))
    if data.schema.transform.binarize == "dynamic":
        preprocessing = replace(preprocessing, featurize=binary_draws)
    return Parts(config, data, device, model, objective, schedules, validation, preprocessing, raw)


def _set_soft_labels(model: LatentModel, objective: Objective, data: TrainingData) -> None:
    """Give model and objective the distributions of the rows whose label is soft."""
    _, pi = data.soft_labels()
    if not len(pi) or not model.components:
        return
    beyond = max(0, model.components - pi.shape[1])  # components that are no classes
    padded = torch.from_numpy(np.pad(pi, ((0, 0), (0, beyond))))
    model.set_soft_labels(padded)
    objective.set_soft_labels(padded)


def checked_parts(config: Config, data: TrainingData) -> Parts:
    """Build the parts of a fit on the CPU and evaluate them once, without a fit.

    Raises:
        GMMVAEError: anything that ``train`` would refuse before its first step.
    """
    cpu = torch.device("cpu")
    check_precision(config.precision, cpu)
    check_batch_size(config.batch_size, config.labelled_per_batch)
    with seeded(0, cpu):
        parts = build(config, data, cpu)
        parts.dry_run()
    return parts


def _check_terms(config: Config, data: TrainingData, objective: Objective) -> None:
    """Refuse weights that leave no row to the ELBO, or no term to the loss."""
    if config.labelled_elbo == 0 and len(data.split.labelled) >= len(data.training_rows):
        raise GMMVAEError(
            "labelled_elbo=0 leaves no row to the ELBO: all training rows have a label; give it a "
            "positive number, or fewer labels"
        )
    terms = list(objective.latent_terms)
    if objective.elbo_scale == 0 and terms:
        raise GMMVAEError(f"{terms[0]} is a term of the ELBO, which elbo_weight=0 leaves out")
    if config.discriminator_rate != 1 and not [*objective.parameters()]:
        raise GMMVAEError(
            "discriminator_rate is of terms with a discriminator, and this fit has none; set "
            "adversary, tc_adversary or class_adversary, or leave it out"
        )
    of_kl = [name for name in ("capacity", "class_capacity", "free_bits") if name in terms]
    if of_kl and config.objective == "iwae":
        raise GMMVAEError(f"{of_kl[0]} is of the KL term, which iwae does not have; take analytic")
    if {"capacity", "free_bits"} <= set(terms):
        raise GMMVAEError("capacity replaces the KL term, of which free_bits is; leave one out")
    if config.model == "vq-vae" and objective.particles > 1:
        raise GMMVAEError("vq-vae has nothing to draw: particles is 1, and the objective analytic")
    for name, site in (("capacity", "z"), ("class_capacity", config.class_site)):
        if name in terms and f"kl_{site}" in config.given:
            raise GMMVAEError(
                f"{name} replaces the KL term of {site}; leave kl_{site} out, or {name}"
            )
    if objective.elbo_scale == 0 and not objective.regularizers:
        if not len(data.split.labelled):
            raise GMMVAEError("elbo_weight=0 leaves nothing to fit without labels; give --labels")
        if config.alpha == ZERO and config.pseudo_alpha in (None, ZERO):
            raise GMMVAEError("elbo_weight=0 and alpha=0 leave nothing to fit")


def _check_real_rows(data: TrainingData) -> None:
    """Refuse rows that can't be moved by a small step."""
    discrete = [c for c in data.kind.specs if c.is_discrete or c.kind == "count"]
    if discrete:
        why = f"the column {discrete[0].name!r} is of the kind {discrete[0].kind}"
    elif (how := data.schema.transform.binarize) is not None:
        why = f"binarize={how} makes rows binary"
    else:
        return
    raise GMMVAEError(f"vat moves rows by small steps, and {why}; leave vat out")


def _check_categories(data: TrainingData, term: str) -> None:
    """Refuse covariates that do not divide rows into groups."""
    for column in data.kind.specs:
        if column.given and not column.is_discrete:
            raise GMMVAEError(
                f"{term}_of=covariates compares groups of rows, and {column.name!r} is of the kind "
                f"{column.kind}; take hsic_of=covariates, or other covariates"
            )


def _check_components(config: Config, model: LatentModel, data: TrainingData) -> None:
    """Refuse rows and settings that can't be clustered."""
    K, N = model.components, len(data.training_rows)
    if K > N:
        raise GMMVAEError(f"components {K}: there are only {N} training rows")
    x = data.dataset.x
    if K > 1 and not len(data.split.labelled) and not isinstance(x, Shards):
        first, rows = x[data.training_rows[0]], data.training_rows
        if all((x[part] == first).all() for part in np.array_split(rows, 1 + N // 4096)):
            raise GMMVAEError("all training rows are equal: there is nothing to cluster")
    named = config.init != "random" and config.init_run is None
    if named and config.labels != 0 and len(data.split.labelled):
        raise GMMVAEError(
            f"init={config.init} names components by itself and is for fits without labels; give "
            "--labels 0, or --init random"
        )
