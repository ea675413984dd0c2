"""A run and its data, prepared for the explorer."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.evaluation import sum_by_name
from pyro_gmmvae.explorer.space import LatentSpace, Projection, fit_projection, nearest
from pyro_gmmvae.runs import Run
from pyro_gmmvae.runs.data import TrainingData, some_of
from pyro_gmmvae.runs.run import with_data_at

Array = np.ndarray[Any, Any]
MAX_POINTS = 2000
MAX_ELLIPSES = 60
ROWS_AT_ONCE = 500
SCALE_ROWS = 200
JITTER = 0.35  # half the height of the strip that shows a one-dimensional z


@dataclass(frozen=True)
class MapPoints:
    """The rows that the map shows.

    Attributes:
        numbers: (n,) row numbers of the data.
        captions: (n,) the row number in the file, or the sequence.
        at: (n, 2) in the plane of the map.
        truth: (n,) labels, "" where unknown.
        predicted: (n,) the classes with the highest probability; empty for a model without classes.
        weights: (n, K + ...) q(s|x); (n, 0) for a model without s.
    """

    numbers: Array
    captions: tuple[str, ...]
    at: Array
    truth: tuple[str, ...]
    predicted: tuple[str, ...]
    weights: Array


@dataclass(frozen=True)
class ComponentOutline:
    """A component on the map: its name, the mean of p(z|s), and its outline at one s.d."""

    name: str
    center: Array
    outline: Array


@dataclass(frozen=True)
class ExplorerView:
    """Everything that the sessions of the page share; nothing in it changes.

    Attributes:
        run, data: the run and its data.
        space, projection: its latent space, and the plane of the map.
        points, components: what the map shows.
        scale_rows: (n, *x_shape) some rows in the model's units, to set the scale of plots.
    """

    run: Run
    data: TrainingData
    space: LatentSpace
    projection: Projection
    points: MapPoints
    scale_rows: Array
    components: tuple[ComponentOutline, ...]

    @property
    def title(self) -> str:
        """The name of the run folder."""
        return self.run.path.resolve().name

    @property
    def about(self) -> str:
        """The run in one line."""
        config = self.run.config
        weights = "" if self.run.weights == "last" else f", {self.run.weights} weights"
        return f"model {config.model}{weights}; data {config.data}: {self.data.describe()}"

    def value_names(self) -> dict[str, list[str]]:
        """Names of the values of each s, by factor; "" is the class."""
        names = {}
        for factor, K in self.space.factors.items():
            if factor:
                labelled = list(dict(self.run.schema.factors).get(factor, ()))
                names[factor] = labelled + [f"component_{k}" for k in range(len(labelled), K)]
            else:
                names[factor] = self.run.class_names()
        return names

    def nearest_points(self, point: Array, count: int) -> Array:
        """Indices in ``points`` of the closest to a point (2,) of the map, the closest first."""
        axes = 2 if self.projection.names[1] else 1  # the height of a strip has no meaning
        return nearest(self.points.at[:, :axes], point[:axes], count)

    def rows_of(self, indices: Array) -> Array:
        """Rows at indices in ``points``, in the model's units."""
        return self.data.tensors(self.points.numbers[indices])[0].double().numpy()


def load_view(run: Run, path: str | None = None) -> ExplorerView:
    """Read the data of a run and place its rows on the map.

    Args:
        run: the trained run.
        path: the new path of the data, if it was moved: the file, or the set's folder.

    Raises:
        GMMVAEError: data that can't be read or has changed, or a model whose z is not finite.
    """
    run = replace(run, config=with_data_at(run.config, path))
    try:
        data = TrainingData.from_config(run.config, run.schema)
    except GMMVAEError as error:
        if path is not None:
            raise
        raise GMMVAEError(f"{error}; if the data was moved, give its path with --data") from error
    numbers = some_of(len(data.dataset.x), MAX_POINTS)
    codes, log_probs, weights = [], [], []
    for chunk in np.split(numbers, range(ROWS_AT_ONCE, len(numbers), ROWS_AT_ONCE)):
        x = data.tensors(chunk, run.device)[0]
        codes.append(run.embed(x))
        of_class = run.log_probs(x)
        if of_class is not None:
            log_probs.append(of_class)
            weights.append(np.concatenate([of_class, *run.factor_log_probs(x).values()], 1))
    z = np.concatenate(codes).astype(np.float64)
    if not np.isfinite(z).all():
        raise GMMVAEError(f"{run.path}: z of the run's data is not finite: the training diverged")
    space, projection = LatentSpace(run.model, z), fit_projection(z)
    at = projection.transform(z)
    if z.shape[1] == 1:
        at[:, 1] = np.random.default_rng(0).uniform(-JITTER, JITTER, len(at))
    classes, s = data.dataset.classes, np.zeros((len(z), 0))
    points = MapPoints(
        numbers=numbers,
        captions=tuple(data.groups.captions(numbers)),
        at=at,
        truth=tuple("" if y < 0 else classes[y] for y in data.dataset.y[numbers]),
        predicted=_predicted(run, np.concatenate(log_probs)) if log_probs else (),
        weights=np.exp(np.concatenate(weights), dtype=np.float64) if space.factors else s,
    )
    scale_rows = data.tensors(numbers[:SCALE_ROWS])[0].double().numpy()
    components = _components(run, space, projection)
    return ExplorerView(run, data, space, projection, points, scale_rows, components)


def _predicted(run: Run, log_probs: Array) -> tuple[str, ...]:
    names, of_names = sum_by_name(log_probs, run.class_names())
    return tuple(names[k] for k in of_names.argmax(1))


def _components(
    run: Run, space: LatentSpace, projection: Projection
) -> tuple[ComponentOutline, ...]:
    if not space.has_prior:
        return ()
    points = [("p(z)", space.start())]
    if space.prior_depends_on_class:
        one_hot = np.eye(space.factors[""])
        names = run.class_names()[:MAX_ELLIPSES]
        points = [
            (name, space.with_weights(space.start(), "", one_hot[k]))
            for k, name in enumerate(names)
        ]
    outlines = []
    for name, point in points:
        loc, covariance = space.prior(point.weights)
        outline = projection.ellipse(loc, covariance)
        outlines.append(ComponentOutline(name, projection.transform(loc), outline))
    return tuple(outlines)
