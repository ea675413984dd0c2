"""A run and its data, made ready to be explored; without any of the page."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.evaluation import log_probs_of_names
from pyro_gmmvae.explorer.pictures import AnyPictures, pictures_of
from pyro_gmmvae.explorer.plane import Plane, ellipse, nearest, plane_of
from pyro_gmmvae.explorer.space import Space
from pyro_gmmvae.runs import Run
from pyro_gmmvae.runs.data import Rows, load_rows, some_of
from pyro_gmmvae.runs.run import moved

Array = np.ndarray[Any, Any]
MOST_POINTS = 2000
MOST_ELLIPSES = 60
ROWS_AT_ONCE = 500
STRIP = 0.35  # half the height of the strip that a one-dimensional z is drawn in


@dataclass(frozen=True)
class Points:
    """The rows that the scatter shows.

    Attributes:
        numbers: (n,) row numbers of the data.
        captions: (n,) what they are called: the row number in the file, or the sequence.
        at: (n, 2) in the plane.
        truth: (n,) their labels, "" where unknown.
        predicted: (n,) the likeliest classes, "" for a model without.
        weights: (n, K + ...) q(s|x); (n, 0) for a model without s.
    """

    numbers: Array
    captions: tuple[str, ...]
    at: Array
    truth: tuple[str, ...]
    predicted: tuple[str, ...]
    weights: Array


@dataclass(frozen=True)
class Ellipse:
    """One component: its name, and where p(z|s) has its mean and one standard deviation."""

    name: str
    center: Array
    outline: Array


@dataclass(frozen=True)
class View:
    """All that the sessions of the page share, and never change."""

    run: Run
    rows: Rows
    space: Space
    plane: Plane
    points: Points
    pictures: AnyPictures
    ellipses: tuple[Ellipse, ...]

    @property
    def title(self) -> str:
        return self.run.path.resolve().name

    @property
    def about(self) -> str:
        """The run in one line."""
        config = self.run.config
        weights = "" if self.run.weights == "last" else f", {self.run.weights} weights"
        return f"model {config.model}{weights}; data {config.data}: {self.rows.describe()}"

    def names(self) -> dict[str, list[str]]:
        """Names of the values of each s, by factor; "" is the class."""
        found = {}
        for factor, K in self.space.sizes.items():
            if factor:
                known = list(dict(self.run.schema.factors).get(factor, ()))
                found[factor] = known + [f"component_{k}" for k in range(len(known), K)]
            else:
                found[factor] = self.run.class_names()
        return found

    def near(self, point: Array, count: int) -> Array:
        """Places in ``points`` of the closest to a point (2,) of the plane, the closest first."""
        meant = 2 if self.plane.names[1] else 1  # a strip's height means nothing
        return nearest(self.points.at[:, :meant], point[:meant], count)

    def part(self, places: Array) -> Array:
        """Rows at places in ``points``, in the model's units."""
        return self.rows.part(self.points.numbers[places])[0].double().numpy()


def load_view(run: Run, data: str | None = None) -> View:
    """Read the data of a run and see where its rows are.

    Args:
        run: the trained run.
        data: where the data is now, if not where it was: the file, or the set's folder.

    Raises:
        GMMVAEError: data that can't be read or has changed.
    """
    run = replace(run, config=moved(run.config, data))
    try:
        rows = load_rows(run.config, run.schema)
    except GMMVAEError as error:
        if data is not None:
            raise
        raise GMMVAEError(f"{error}; if the data has moved, say where it is with --data") from error
    numbers = some_of(len(rows.dataset.x), MOST_POINTS)
    codes, log_probs, shares = [], [], []
    for some in np.split(numbers, range(ROWS_AT_ONCE, len(numbers), ROWS_AT_ONCE)):
        x = rows.part(some, run.device)[0]
        codes.append(run.embed(x))
        of_class = run.log_probs(x)
        if of_class is not None:
            log_probs.append(of_class)
            shares.append(np.concatenate([of_class, *run.factor_log_probs(x).values()], 1))
    z = np.concatenate(codes).astype(np.float64)
    if not np.isfinite(z).all():
        raise GMMVAEError(f"{run.path}: the model's z of its data is not finite: the fit diverged")
    space, plane = Space(run, z), plane_of(z)
    at = plane.project(z)
    if z.shape[1] == 1:
        at[:, 1] = np.random.default_rng(0).uniform(-STRIP, STRIP, len(at))
    points = Points(
        numbers,
        _captions(rows, numbers),
        at,
        _truth(rows, numbers),
        _predicted(run, np.concatenate(log_probs)) if log_probs else (),
        np.exp(np.concatenate(shares), dtype=np.float64) if space.sizes else np.zeros((len(z), 0)),
    )
    pictures = pictures_of(run.schema, rows.part(numbers[:200])[0].double().numpy())
    return View(run, rows, space, plane, points, pictures, _ellipses(run, space, plane))


def _captions(rows: Rows, numbers: Array) -> tuple[str, ...]:
    sequences = rows.dataset.sequences
    if sequences is None:
        return tuple(f"row {n}" for n in rows.dataset.row_numbers[numbers])
    return tuple(sequences.names[s] for s in sequences.of_row[numbers])


def _truth(rows: Rows, numbers: Array) -> tuple[str, ...]:
    classes = rows.dataset.classes
    return tuple("" if y < 0 else classes[y] for y in rows.dataset.y[numbers])


def _predicted(run: Run, log_probs: Array) -> tuple[str, ...]:
    names, of_names = log_probs_of_names(log_probs, run.class_names())
    return tuple(names[k] for k in of_names.argmax(1))


def _ellipses(run: Run, space: Space, plane: Plane) -> tuple[Ellipse, ...]:
    if not space.has_prior:
        return ()
    if not space.mixes:
        return (_ellipse("p(z)", plane, *space.prior(space.start().weights)),)
    K = space.sizes[""]
    found = []
    for k, name in enumerate(run.class_names()[:MOST_ELLIPSES]):
        weights = space.start().weights
        weights[:K] = np.eye(K)[k]
        found.append(_ellipse(name, plane, *space.prior(weights)))
    return tuple(found)


def _ellipse(name: str, plane: Plane, loc: Array, covariance: Array) -> Ellipse:
    center = plane.project(loc)
    return Ellipse(name, center, ellipse(center, plane.axes @ covariance @ plane.axes.T))
