"""Measures of a run as a generator: its draws beside real rows, and what its latents carry."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.evaluation import (
    active_units,
    contingency,
    fit_judge,
    kl_of_units,
    nearest,
    neighbor_measures,
    relative_spread,
    share_recognized,
)
from pyro_gmmvae.evaluation.generation import NEIGHBORS
from pyro_gmmvae.models import labels_or_predictions
from pyro_gmmvae.runs.component_names import fitted_names
from pyro_gmmvae.runs.data import TrainingData, some_of
from pyro_gmmvae.training.devices import seeded

if TYPE_CHECKING:
    from pyro_gmmvae.runs.run import Run

Array = np.ndarray[Any, Any]
Flattener = Callable[[Tensor], Array]
TRAINING_ROWS = 10_000  # of the judge and of the majority class of a component
NEAREST_ROWS = 60_000
NEIGHBOR_KEYS = ("precision", "recall", "density", "coverage")
# each measure of draws, and the one of real test rows to compare it with
REFERENCES = {
    "recognized": "judge_accuracy",
    **{key: f"{key}_reference" for key in NEIGHBOR_KEYS},
    "nearest_training_draws": "nearest_training_test",
}
KEYS = (
    *REFERENCES,
    *REFERENCES.values(),
    *("recognized_sampled", *(f"{key}_sampled" for key in NEIGHBOR_KEYS)),
    *("spread", "active_units", "kl_units"),
)


def measure_generation(run: "Run", data: TrainingData, draws: int = 1000) -> dict[str, Any]:
    """Measure draws of a run beside its test rows; a metric that does not apply is None.

    Rows are compared in the model's units, flattened, and missing entries are set to the mean of
    the training rows. Draws have the covariates of the test rows. There are as many draws as test
    rows, at most ``draws`` of each. After a fit with labels the draws have the classes of the test
    rows; without labels, the components that these rows are assigned to, and the class of a
    component is the most frequent true class among its training rows. All choices of rows and all
    draws have fixed seeds.

    Args:
        run: the run.
        data: its data.
        draws: the number of draws; 0: none.

    Returns:
        ``recognized``: share of draws that the judge gives their class. The judge is
        scikit-learn's SVC on the true classes of the training rows (also those that the fit did
        not see), of at most 10,000 rows; ``judge_accuracy`` is its accuracy on the test rows.
        Both only where the model draws by class.
        ``precision``, ``recall``, ``density`` and ``coverage`` of
        :func:`pyro_gmmvae.evaluation.neighbor_measures`, of draws and test rows. Each has a
        ``_reference``, the value of test rows in the place of draws and as many training rows
        in the place of real ones.
        These are of means E[x|z,s], ``recognized_sampled``, ``precision_sampled``, ... of draws
        from p(x|z,s).
        ``spread``: that of draws within a class relative to that of test rows.
        ``nearest_training_draws`` and ``nearest_training_test``: median distance of draws and of
        test rows to the nearest of up to 60,000 training rows. Draws that are much closer are
        copies of training rows.
        ``active_units`` and ``kl_units``: of z, on the same test rows (see
        :func:`pyro_gmmvae.evaluation.active_units` and
        :func:`pyro_gmmvae.evaluation.kl_of_units`).

    Raises:
        GMMVAEError: ``draws`` is not 0 and at most the number of neighbors.
    """
    check_draws(draws)
    numbers: dict[str, Any] = dict.fromkeys(KEYS)
    # fewer rows have no neighbors to measure with
    if not run.model.latents or not draws or len(data.split.test) <= NEIGHBORS:
        return numbers
    real = RealRows.of(data, draws, run.device)
    numbers["active_units"] = active_units(run.embed(real.x))
    numbers["kl_units"] = _kl_units(run, real.x)
    components = components_of_rows(run, real.x, real.y)
    means, samples = (
        draw_components(run, components, len(real.x), mean=mean, given=real.x)
        for mean in (True, False)
    )
    if not (torch.isfinite(means).all() and torch.isfinite(samples).all()):
        return numbers
    if components is None:
        return numbers | measure_draws(real, real.flat(means), real.flat(samples))
    classes = classes_of_components(run, real.training, real.y_training)[components]
    numbers |= measure_draws(real, real.flat(means), real.flat(samples), classes)
    if not (real.y >= 0).any():
        spread = relative_spread(real.flat(real.x), components, real.flat(means), components)
        numbers["spread"] = spread
    return numbers


def check_draws(draws: int) -> None:
    """Refuse a number of draws that is too small to measure with, before the work.

    Raises:
        GMMVAEError: ``draws`` is not 0 and at most the number of neighbors.
    """
    if 0 < draws <= NEIGHBORS:
        raise GMMVAEError(
            f"recall with {NEIGHBORS} neighbors needs at least {NEIGHBORS + 1} draws; draws is "
            f"{draws} (use more, or 0 for no measures of draws)"
        )


@dataclass(frozen=True)
class RealRows:
    """The rows that draws are compared with.

    Attributes:
        data: their source.
        x, y: (N, *x_shape) test rows in the model's units, and (N,) true classes, -1: unknown.
        training, y_training: the same of up to 10,000 training rows.
        flat: from rows (N, *x_shape) to (N, D), missing entries set to the training rows' mean.
    """

    data: TrainingData
    x: Tensor
    y: Array
    training: Tensor
    y_training: Array
    flat: Flattener

    @classmethod
    def of(cls, data: TrainingData, most: int, device: torch.device) -> "RealRows":
        """Up to ``most`` test rows of some data, and its training rows; always the same."""
        test, train = data.split.test, data.split.train
        x, y = data.tensors(test[some_of(len(test), most)], device)
        training, y_training = data.tensors(train[some_of(len(train), TRAINING_ROWS)], device)
        flat = flattener(training)
        return cls(data, x, y.cpu().numpy(), training, y_training.cpu().numpy(), flat)


def measure_draws(
    real: RealRows, means: Array, samples: Array, classes: Array | None = None
) -> dict[str, Any]:
    """The measures of :func:`measure_generation` that depend on draws alone.

    Args:
        real: the rows to compare with.
        means, samples: (N, D) means of p(x|z,s), and draws of x, as many as test rows.
        classes: (N,) of the draws, -1: none; None: the generator does not draw by class.
    """
    x, training = real.flat(real.x), real.flat(real.training)
    numbers: dict[str, Any] = dict(neighbor_measures(x, means))
    numbers |= _with_end("_sampled", neighbor_measures(x, samples))
    if len(training) > NEIGHBORS:
        same = training[some_of(len(training), len(x))]
        numbers |= _with_end("_reference", neighbor_measures(same, x))
    for key, rows in (("draws", means), ("test", x)):
        distances, _ = nearest_training_rows(real.data, real.flat, rows)
        numbers[f"nearest_training_{key}"] = float(np.median(distances))
    if classes is None:
        return numbers
    numbers["spread"] = relative_spread(x, real.y, means, classes)
    if len(np.unique(real.y_training[real.y_training >= 0])) > 1:
        judge = fit_judge(training, real.y_training)
        numbers["recognized"] = share_recognized(judge, means, classes)
        numbers["recognized_sampled"] = share_recognized(judge, samples, classes)
        numbers["judge_accuracy"] = share_recognized(judge, x, real.y)
    return numbers


def _with_end(end: str, numbers: dict[str, float]) -> dict[str, float]:
    return {f"{key}{end}": value for key, value in numbers.items()}


def flattener(training: Tensor) -> Flattener:
    """A function from rows (N, *x_shape) to (N, D), missing entries set to those rows' mean."""
    mean = np.nan_to_num(training.flatten(1).nanmean(0).cpu().numpy())

    def flat(x: Tensor) -> Array:
        rows = x.flatten(1).cpu().numpy()
        return np.where(np.isnan(rows), mean, rows)

    return flat


def components_of_rows(run: "Run", x: Tensor, y: Array) -> Array | None:
    """(N,) the component of each row, from which a draw of its kind comes.

    After a fit with labels it is the class y (N,) where that is known, else the most probable
    component. None where the model does not draw by class.
    """
    log_probs = run.log_probs(x) if run.model.draws_of_class else None
    if log_probs is None:
        return None
    has_labels = bool(fitted_names(run.config, run.schema))
    return np.where((y >= 0) & has_labels, y, log_probs.argmax(1))


def classes_of_components(run: "Run", x: Tensor, y: Array) -> Array:
    """(K,) the class of each component, -1: none.

    After a fit with labels it is the component's number, if there is such a class; without
    labels, the most frequent class y (N,) among the rows x (N, *x_shape) that are assigned to it.
    """
    K, names = run.model.components, fitted_names(run.config, run.schema)
    if names:
        return np.where(np.arange(K) < len(names), np.arange(K), -1)
    log_probs = run.log_probs(x)
    assert log_probs is not None
    counts = contingency(log_probs.argmax(1), y, (max(1, len(run.schema.classes)), K))
    return np.where(counts.any(0), counts.argmax(0), -1)


@torch.no_grad()
def draw_components(
    run: "Run",
    components: Array | None,
    n: int,
    *,
    mean: bool = True,
    given: Tensor | None = None,
) -> Tensor:
    """Draws of some components, (n, *x_shape), in the model's units.

    Args:
        run: whose model has a prior.
        components: (n,) numbers of components; None: n draws of the whole prior.
        n: the number of draws.
        mean: take the means of p(x|z,s), instead of draws of x.
        given: rows (n, *x_shape) whose covariates the draws have, for tables that have any.
    """
    with seeded(0, run.device):
        if components is None:
            return run.model.generate(n, mean=mean, given=given)
        made = None
        for k, count in zip(*np.unique(components, return_counts=True), strict=True):
            chosen = torch.from_numpy(components == k).to(run.device)
            rows = None if given is None else given[chosen]
            block = run.model.generate(int(count), int(k), mean=mean, given=rows)
            made = block.new_empty((n, *block.shape[1:])) if made is None else made
            made[chosen] = block
    assert made is not None
    return made


def nearest_training_rows(
    data: TrainingData, flat: Flattener, queries: Array
) -> tuple[Array, Array]:
    """Distance of each query (N, D) to the nearest training row, and the number of that row.

    Of more than 60,000 training rows that many are taken, always the same.
    """
    train = data.split.train[some_of(len(data.split.train), NEAREST_ROWS)]
    best, found = np.full(len(queries), np.inf), np.zeros(len(queries), np.int64)
    for start in range(0, len(train), TRAINING_ROWS):
        numbers = train[start : start + TRAINING_ROWS]
        distances, places = nearest(queries, flat(data.tensors(numbers)[0]))
        closer = distances < best
        best[closer], found[closer] = distances[closer], numbers[places[closer]]
    return best, found


def _kl_units(run: "Run", x: Tensor) -> list[float] | None:
    model = run.model
    y = labels_or_predictions(model, x, None) if model.given_class else None
    with seeded(0, run.device):
        return kl_of_units(model.model, model.guide, x, model.latents, y=y)
