"""The likelihood of a data set's rows, the unit that it needs, and the values that it accepts."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.config import Config
from pyro_gmmvae.data.column_table import ColumnTable
from pyro_gmmvae.data.dataset import Dataset
from pyro_gmmvae.data.kinds import RowKind
from pyro_gmmvae.data.shards import ROWS_AT_ONCE, Shards
from pyro_gmmvae.data.transform import Floats, Labels, Transform
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.likelihood_spec import LikelihoodSpec, parse_likelihood

# whole numbers up to 65,535 are rounded to less than this by single precision
ROUNDING = 0.01


def in_model_units(
    dataset: Dataset, config: Config, rows: Labels, transform: Transform | None = None
) -> tuple[RowKind, Transform]:
    """The kind of a data set's rows with their full likelihood, and the transform to its units.

    Args:
        dataset: the rows, all of which are checked.
        config: names the likelihood, or leaves it to the data.
        rows: numbers of the rows to fit.
        transform: None: what suits the likelihood, fitted on ``rows``.

    Raises:
        GMMVAEError: a likelihood that does not suit the data, or a value that it does not accept.
    """
    likelihood = likelihood_of(dataset, config)
    if isinstance(dataset.kind, ColumnTable):
        return dataset.kind.fitted_on(dataset.x, rows)
    transform = transform or transform_for(dataset, likelihood, rows)
    transform = replace(transform, binarize=config.binarize)
    check_rows(dataset, likelihood, transform, config.data)
    kind: RowKind = replace(dataset.kind, likelihood=str(likelihood))  # type: ignore[type-var]
    return kind, transform


def likelihood_of(dataset: Dataset, config: Config) -> LikelihoodSpec:
    """The likelihood that a configuration names, or the one that suits the data, with its number.

    Raises:
        GMMVAEError: a number is needed and not known, or ``binarize`` beside another likelihood
            than Bernoulli.
    """
    named = parse_likelihood(config.likelihood or dataset.kind.likelihood)
    found = named.completed(dataset.unit, config.data)
    if config.binarize is None:
        return found
    if found.family != "bernoulli":
        raise GMMVAEError(
            f"binarize={config.binarize} is for likelihood=bernoulli, and the likelihood is "
            f"{found}; leave binarize out, or give likelihood=bernoulli"
        )
    return found


def transform_for(dataset: Dataset, likelihood: LikelihoodSpec, rows: Labels) -> Transform:
    """The transform of a data set's rows to the units of a likelihood.

    Whole numbers are divided by the largest one, other bounded rows by the data's unit (1 where
    none is known); rows of unknown unit are standardized by the moments of ``rows``.
    """
    if likelihood.bounded:
        return Transform.dividing_by(float(likelihood.largest or dataset.unit or 1))
    return dataset.fit_transform_on(rows)


def check_values(
    x: Floats, likelihood: LikelihoodSpec, transform: Transform, source: str, advice: str = ""
) -> None:
    """Refuse rows in the model's units where the likelihood has no density or probability.

    Args:
        x: rows, NaN where an entry is missing.
        likelihood: with its number.
        transform: by which the rows came to the model's units.
        source: of the rows, for the message.
        advice: in the message, for rows that are not whole numbers in range.

    Raises:
        GMMVAEError: a value out of range, or not a whole number where the likelihood needs one.
    """
    if not likelihood.bounded:
        return
    low, high = float(np.nanmin(x, initial=0)), float(np.nanmax(x, initial=0))
    outside = not -1e-6 <= low <= high <= 1 + 1e-6
    largest = likelihood.largest
    if largest is None:
        if outside:
            raise GMMVAEError(
                f"{source}: the {likelihood} likelihood needs rows in [0, 1]; in the model's units "
                f"these go from {low:.3g} to {high:.3g} (another unit, or likelihood=normal?)"
            )
        return
    numbers = x * largest
    between = np.abs(numbers - np.round(numbers)) > ROUNDING  # false where NaN
    if not (outside or between.any()):
        return
    bad = float(x[between].flat[0]) if between.any() else high if high > 1 else low
    ends = transform.invert(np.asarray([0, 1, bad], np.float32))
    raise GMMVAEError(
        f"{source} holds {ends[2]:.6g}, and likelihood {likelihood} is of whole numbers from "
        f"{ends[0]:g} to {ends[1]:g}; "
        + (advice or "give rows as they were counted, or take another count or likelihood")
    )


def check_rows(
    dataset: Dataset, likelihood: LikelihoodSpec, transform: Transform, source: str
) -> None:
    """:func:`check_values` of all rows of a data set, in the file's units, read in blocks.

    Raises:
        GMMVAEError: as :func:`check_values`.
    """
    bytes_fit = dataset.x.dtype == np.uint8 and bool((transform.scale >= 255).all())
    if not likelihood.bounded or (bytes_fit and not transform.shift.any()):
        return
    for rows in _blocks(dataset.x):
        scaled = transform.scaled(dataset.kind.featurize_array(rows))
        check_values(scaled, likelihood, transform, source)


def _blocks(x: Any) -> Iterator[NDArray[Any]]:
    if isinstance(x, Shards):
        yield from x.chunks(np.arange(len(x)))
        return
    for start in range(0, len(x), ROWS_AT_ONCE):
        yield x[start : start + ROWS_AT_ONCE]
