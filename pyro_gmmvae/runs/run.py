"""Trained runs: read from a folder, used on new rows."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pyro_gmmvae.config import Config
from pyro_gmmvae.datasets import is_file_name
from pyro_gmmvae.errors import GMMVAEError, GMMVAEWarning, unknown_name
from pyro_gmmvae.evaluation import PROPOSALS, Bounds, log_weights
from pyro_gmmvae.files import write_json
from pyro_gmmvae.models import LatentModel, labels_or_predictions
from pyro_gmmvae.runs.answer_metrics import measure_answers, measure_out_of_fold
from pyro_gmmvae.runs.build import build_model
from pyro_gmmvae.runs.component_names import component_names, fitted_names, names_given
from pyro_gmmvae.runs.data import TrainingData, dtype_of
from pyro_gmmvae.runs.densities import ELBO_SAMPLES, USUAL
from pyro_gmmvae.runs.evaluate import measure
from pyro_gmmvae.runs.folder import (
    MEMBERS,
    METRICS,
    WEIGHTS,
    read_config,
    read_metrics,
    read_weights,
)
from pyro_gmmvae.runs.generator import check_draws, measure_generation
from pyro_gmmvae.runs.imputation import impute_file
from pyro_gmmvae.runs.predictions import predict_columns
from pyro_gmmvae.runs.row_scores import bounds_of_rows, by_blocks
from pyro_gmmvae.runs.schema import Schema
from pyro_gmmvae.training import check_precision, resolve_device
from pyro_gmmvae.training.devices import seeded

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class Run:
    """A trained model with everything that new rows need.

    Attributes:
        path: the run folder.
        config: of the training.
        schema: of the training data.
        model: in evaluation mode, on ``device``.
        device: of the model.
        weights: "last" or "best".
        names: K names given to components after a fit without labels, or None.
        others: further members of an ensemble. Class probabilities and ELBOs are means over all;
            z, draws and figures are those of this one, the first.
    """

    path: Path
    config: Config
    schema: Schema
    model: LatentModel
    device: torch.device
    weights: str
    names: tuple[str, ...] | None = None
    others: tuple["Run", ...] = ()

    @classmethod
    def load(cls, path: Path | str, *, device: str = "auto", weights: str | None = None) -> "Run":
        """Read a run folder; nothing is unpickled.

        Args:
            path: the folder.
            device: where to compute.
            weights: "last" or "best" (on validation rows); default: "best" where the fit could
                stop early, else "last".

        Raises:
            GMMVAEError: a folder that is missing, half-written, of another version, or whose
                weights were altered, or whose names.json is damaged or of another run.
        """
        path = Path(path)
        config, schema = read_config(path)
        if (path / MEMBERS).is_dir():
            return cls._ensemble(path, config, device, weights)
        which = weights or _default_weights(path, config)
        state, where = read_weights(path, which), resolve_device(device)
        check_precision(config.precision if config.precision == "f64" else "f32", where)
        with seeded(0, where):
            model = build_model(config, schema).to(where, dtype_of(config.precision))
        return cls._filled(path, config, schema, model, where, which, state)

    @classmethod
    def _ensemble(cls, path: Path, config: Config, device: str, weights: str | None) -> "Run":
        """The members that have weights; a stopped training may lack the last ones."""
        folders = [path / MEMBERS / str(number) for number in range(config.members)]
        started = [f for f in folders if any((f / file).exists() for file in WEIGHTS.values())]
        # where there is none the error says so
        members = [cls.load(f, device=device, weights=weights) for f in started or folders[:1]]
        first, *others = members
        names = names_given(path, config, first.schema, first.model)
        return replace(first, path=path, config=config, names=names, others=tuple(others))

    @classmethod
    def restored(cls, path: Path, model: LatentModel, device: torch.device) -> "Run":
        """:meth:`load` for the model that was just trained: its weights become the saved ones."""
        config, schema = read_config(path)
        which = _default_weights(path, config)
        return cls._filled(path, config, schema, model, device, which, read_weights(path, which))

    @classmethod
    def _filled(
        cls,
        path: Path,
        config: Config,
        schema: Schema,
        model: LatentModel,
        device: torch.device,
        which: str,
        state: dict[str, Tensor],
    ) -> "Run":
        own = model.state_dict()
        try:
            if any(
                tensor.is_floating_point() != own[name].is_floating_point()
                for name, tensor in state.items()
                if name in own
            ):
                raise RuntimeError("a tensor of another type")
            model.load_state_dict(state)
        except RuntimeError as error:
            raise GMMVAEError(
                f"{path / WEIGHTS[which]} does not fit the model in config.json: one of the two is "
                "of another run"
            ) from error
        model.zero_grad(set_to_none=True)
        names = names_given(path, config, schema, model)
        return cls(path, config, schema, model.eval(), device, which, names)

    def bounds(
        self,
        x: Tensor,
        samples: int,
        *,
        y: Tensor | None = None,
        seed: int = 0,
        proposal: str = "guide",
    ) -> Bounds:
        """Bounds on log p(x) of rows in the model's units, from ``samples`` draws each.

        The draws are from a proposal, a key of ``evaluation.PROPOSALS``. With "guide" their
        ``elbo`` is the model's; the importance-weighted bound of the others is tighter.

        For a model that is given the class they bound log p(x|y), at y (N,) or, where that
        is None or -1, at the most probable class.
        """
        x = x.to(self.device)
        labels = self.labels_of_programs(x, y)
        if proposal not in PROPOSALS:
            raise unknown_name("proposal", proposal, list(PROPOSALS))
        # these two split their own work, and share what they find of a row among its draws
        at_once = samples * 128 if proposal in ("laplace", "ais") else 4096
        programs = self.model.model, self.model.guide
        with seeded(seed, self.device):
            return log_weights(
                *programs, x, samples, y=labels, rows_at_once=at_once, proposal=PROPOSALS[proposal]
            )

    def labels_of_programs(self, x: Tensor, y: Tensor | None) -> Tensor | None:
        """Labels (N,) for model and guide: None, but for a model that is given the class."""
        if not self.model.given_class:
            return None
        y = None if y is None else y.to(self.device)
        return labels_or_predictions(self.model, x.to(self.device), y)

    @property
    def dtype(self) -> torch.dtype:
        """The type of parameters and rows."""
        return next(self.model.parameters()).dtype

    @property
    def has_bound(self) -> bool:
        """Whether the model has latents and so a bound on log p(x); an autoencoder has neither."""
        return bool(self.model.latents)

    @torch.no_grad()
    def embed(self, x: Tensor) -> np.ndarray[Any, Any]:
        """(N, d) posterior means of z of rows in the model's units."""
        return by_blocks(self.model.embed, x.to(self.device)).cpu().numpy()

    @torch.no_grad()
    def log_probs(self, x: Tensor) -> np.ndarray[Any, Any] | None:
        """(N, K) log q(y|x), or None where the model has no classes."""
        if not self.model.components:
            return None
        x, members = x.to(self.device), [self.model, *(other.model for other in self.others)]
        parts = torch.stack([by_blocks(member.classify, x) for member in members])
        return (parts.logsumexp(0) - math.log(len(members))).cpu().numpy()

    @torch.no_grad()
    def factor_log_probs(self, x: Tensor) -> dict[str, np.ndarray[Any, Any]]:
        """(N, K_f) log q(y_f|x) of each further factor by name; empty for most models."""
        parts = [self.model.classify_factors(rows) for rows in x.to(self.device).split(4096)]
        return {name: torch.cat([p[name] for p in parts]).cpu().numpy() for name in parts[0]}

    def elbo(self, x: Tensor) -> np.ndarray[Any, Any]:
        """(N,) ELBO of rows in the model's units, in nats.

        The noise is the same for every row, so that a row's ELBO does not depend on the others.
        """
        x = x.to(self.device)
        labels = self.labels_of_programs(x, None)
        own = bounds_of_rows(self.model, x, ELBO_SAMPLES, labels).elbo.cpu().numpy()
        return np.mean([own, *(other.elbo(x) for other in self.others)], axis=0)

    def evaluate(
        self,
        *,
        samples: int | None = None,
        nll_rows: int | None = None,
        proposal: str = "tilted",
        draws: int = 1000,
        data: str | None = None,
        coverage: float | None = None,
    ) -> dict[str, Any]:
        """Compute metrics on the test rows, and write them to ``metrics.json`` under "test".

        A folder that can't be written to is warned of.

        A run that has no test rows, and was cross-validated, is measured on its labelled rows,
        each by the model that was trained without its fold.

        Args:
            samples: importance samples per row for ``nll`` (at least 2); None: 200, for "laplace"
                100 and for "ais" 16.
            nll_rows: the number of test rows for ``nll``, drawn with a fixed seed; 0: none, and
                ``nll``, ``ess`` and ``pareto_k`` are None. None: 1000, for "laplace" 100 and for
                "ais" 50.
            proposal: the distribution of these samples, a key of ``evaluation.PROPOSALS``.
            draws: the number of draws to measure the generator on, at most as many as test rows;
                0: none, and the measures of :func:`pyro_gmmvae.runs.generator.measure_generation`
                are None.
            data: the new path of the data, if it was moved: the file, or the set's folder.
            coverage: of sets of classes (see :meth:`predict`); None: 0.9, where enough labelled
                rows were held out for it.

        Returns:
            The metrics of :func:`pyro_gmmvae.runs.evaluate.measure`,
            :func:`pyro_gmmvae.runs.generator.measure_generation` and
            :func:`pyro_gmmvae.runs.answer_metrics.measure_answers`, or without test rows those of
            :func:`pyro_gmmvae.runs.answer_metrics.measure_out_of_fold`; and the run's seed, model,
            guide, objective, preset and data.

        Raises:
            GMMVAEError: neither test rows nor a cross-validation, an unknown proposal or one of
                other models, fewer draws than the measures need, data that changed, or a damaged
                ``metrics.json``; a coverage without test rows, or one for which too few labelled
                rows were held out.
        """
        check_draws(draws)
        metrics = read_metrics(self.path)  # first: a damaged file is found before the work
        rows = TrainingData.from_config(with_data_at(self.config, data), self.schema)
        if not len(rows.split.test):
            result = measure_out_of_fold(self, rows, coverage)
        else:
            usual_samples, usual_rows = USUAL.get(proposal, USUAL["tilted"])
            samples = usual_samples if samples is None else samples
            nll_rows = usual_rows if nll_rows is None else nll_rows
            result = measure(self, rows, samples, nll_rows, proposal)
            result |= measure_answers(self, rows, coverage) | measure_generation(self, rows, draws)
        keys = {"seed", "model", "guide", "objective", "preset", "data"}
        result |= self.config.model_dump(include=keys)
        try:
            write_json(self.path / METRICS, metrics | {"test": result})
        except GMMVAEError as error:  # the folder may be another user's
            text = f"these numbers are not kept with the run: {error}"
            warnings.warn(text, GMMVAEWarning, stacklevel=2)
        return result

    def predict(
        self,
        file: Path | str,
        *,
        drop_nonfinite: bool = False,
        given: Mapping[str, Any] | None = None,
        raw: bool = False,
        coverage: float | None = None,
    ) -> "pd.DataFrame":
        """Predict the rows of a file: label, class probabilities, ELBO, and how usual a row is.

        Where labelled rows were held out (by cross-validation, or as validation rows), a
        temperature fitted on them calibrates the probabilities, and there are the columns ``new``
        and, on request, ``set``. For a fit without labels the probabilities are those of the names
        that were given to components later, or of the components.

        ``elbo_quantile`` is the share of held-out rows whose ELBO is lower: near 0 for a row
        that is unlike the training rows. ``new`` is near 1 for a row of no known class, and at
        least 0.95 for about 5 % of the rows of known classes (see
        :func:`pyro_gmmvae.evaluation.new_class_shares`). ``set`` holds the names of classes, joined
        by "|", that cover the true one (see :func:`pyro_gmmvae.evaluation.conformal_sets`); it is
        empty where no class is as probable as the true one usually is. Rows keep the order and the
        numbers they have in the file, from 0.

        For a run on skeletons the file is a table of tracks, and the result has a row per
        sequence: log-probabilities are averaged over its windows, and ``elbo_quantile`` compares
        mean ELBOs.

        Args:
            file: the rows.
            drop_nonfinite: leave out rows with missing cells or infinite values.
            given: values of covariates by name, in the place of each row's own.
            raw: leave the probabilities as the model gives them.
            coverage: the probability that ``set`` holds the true class, such as 0.9; None: no sets.

        Raises:
            GMMVAEError: a file that can't be read or whose rows are of another kind, a covariate
                or a value of it that the run does not have, or a coverage that needs more labelled
                rows outside training.
        """
        import pandas as pd

        asked: dict[str, Any] = {"given": given, "raw": raw, "coverage": coverage}
        columns = predict_columns(self, Path(file), drop_nonfinite=drop_nonfinite, **asked)
        return pd.DataFrame(columns)

    def impute(self, file: Path | str, **options: Any) -> "pd.DataFrame":
        """A table with its missing cells filled; options of :func:`.imputation.impute_file`."""
        return impute_file(self, Path(file), **options)[0].cells

    def elbo_quantile(self, elbo: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Share of held-out rows (or sequences) whose ELBO is not higher."""
        reference = self.reference()
        quantile = np.searchsorted(reference, elbo, "right") / len(reference)
        # the density of a row that is far out can underflow
        return np.where(np.isfinite(elbo), quantile, 0.0)

    def generate(
        self,
        n: int,
        *,
        label: str | None = None,
        seed: int = 0,
        sample: bool = False,
        given: Mapping[str, Any] | None = None,
    ) -> np.ndarray[Any, Any]:
        """Decode draws from the prior: means in the file's units, (classes, n, *x_shape).

        There is a block for each class (for each component after a fit without labels; one block
        for a model without classes), or only for the components with the name ``label``.

        Args:
            n: the number of draws in a block.
            label: the class; None: all.
            seed: of the draws.
            sample: draw x ~ p(x|z,s) instead of taking its mean.
            given: values of covariates by name; the others are drawn from the training rows'.
                With one seed, z is the same for all values.

        Raises:
            GMMVAEError: ``label`` is not a class of this run, the model has no prior, or a
                covariate or a value of it that the run does not have.
        """
        if not self.model.latents:
            raise GMMVAEError(
                f"the model {self.config.model!r} has no prior to draw from; it only reconstructs"
            )
        row = None
        if given:
            row = torch.from_numpy(self.schema.covariates(given)).to(self.device, self.dtype)
        generate = partial(self.model.generate, n, mean=not sample, given=row)
        with torch.no_grad(), seeded(seed, self.device):
            if not self.model.draws_of_class:
                if label is not None:
                    raise GMMVAEError(
                        f"the model {self.config.model!r} can't draw from one class; leave the "
                        "class out"
                    )
                blocks = [generate()]
            else:
                components = self.components_of(label)
                blocks = [generate(label=k) for k in components]
        return self.schema.transform.invert(torch.stack(blocks).cpu().numpy())

    def components_of(self, label: str | None) -> list[int]:
        """Numbers of the components of a class; None: of all classes, or all there are.

        Raises:
            GMMVAEError: ``label`` is not a class of this run.
        """
        names = self.class_names()
        if label is None:
            return list(range(len(fitted_names(self.config, self.schema)) or len(names)))
        if label not in names:
            raise unknown_name("class", label, list(dict.fromkeys(names)))
        return [k for k, name in enumerate(names) if name == label]

    def block_names(self, label: str | None = None) -> list[str]:
        """The names of the blocks of :meth:`generate`."""
        if not self.model.draws_of_class:
            return ["draws"]
        return [self.class_names()[k] for k in self.components_of(label)]

    def class_names(self) -> list[str]:
        """A name per component: its class in the fit, a name given later, or "component_k"."""
        given = self.names or fitted_names(self.config, self.schema)
        return component_names(given, self.model.components)

    def reference(self) -> np.ndarray[Any, Any]:
        """(201,) sorted quantiles of the validation rows' ELBO, for ``elbo_quantile``."""
        metrics = read_metrics(self.path)
        quantiles = metrics.get("elbo_quantiles")
        if metrics.get("weights") == self.weights and quantiles:
            return np.asarray(quantiles)
        return self.measure_reference(TrainingData.from_config(self.config, self.schema))

    def measure_reference(self, rows: TrainingData) -> np.ndarray[Any, Any]:
        """Compute :meth:`reference` from validation rows (training rows if there are none)."""
        numbers = rows.validation_rows(1000)
        elbo = self.elbo(rows.tensors(numbers, self.device)[0])
        return elbo_quantiles(rows.groups.mean(elbo, numbers))


def elbo_quantiles(elbo: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(201,) sorted quantiles of the ELBOs of rows."""
    with np.errstate(invalid="ignore"):  # between infinite values
        return np.asarray(np.quantile(elbo, np.linspace(0, 1, 201)))


def _default_weights(path: Path, config: Config) -> str:
    return "best" if config.patience and (path / WEIGHTS["best"]).exists() else "last"


def with_data_at(config: Config, data: str | None) -> Config:
    """The configuration with its data at another place: a file, or the folder of a data set.

    For tracks it is their file; a missing table of people is looked for beside it.
    """
    if data is None:
        return config
    if config.tracks is not None:
        labels = config.labels_file
        if labels is not None and not Path(labels).exists():
            labels = str(Path(data).parent / Path(labels).name)
        return config.replace(tracks=data, labels_file=labels)
    return config.replace(**{"data" if is_file_name(config.data) else "data_dir": data})
