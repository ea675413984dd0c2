"""The likelihood of a data set's rows, the unit that it needs, and the values that it accepts."""

from dataclasses import replace

import numpy as np

from pyro_gmmvae.config import Config
from pyro_gmmvae.data.column_table import ColumnTable
from pyro_gmmvae.data.dataset import Dataset
from pyro_gmmvae.data.kinds import Image, RowKind, Table
from pyro_gmmvae.data.shards import blocks
from pyro_gmmvae.data.transform import Floats, Labels, Transform
from pyro_gmmvae.data.value_range import Range, likelihood_and_range
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.likelihood_spec import LikelihoodSpec, parse_likelihood

# whole numbers up to 65,535 are rounded to less than this by single precision
ROUNDING = 0.01


def in_model_units(
    dataset: Dataset,
    config: Config,
    rows: Labels,
    transform: Transform | None = None,
    source: str = "X",
) -> tuple[RowKind, Transform]:
    """The kind of a data set's rows with their full likelihood, and the transform to its units.

    Args:
        dataset: the rows, all of which are checked.
        config: names the likelihood and the range of values, or leaves them to the data.
        rows: numbers of the rows to fit.
        transform: None: what suits the likelihood, fitted on ``rows``.
        source: of the rows, for messages.

    Raises:
        GMMVAEError: a likelihood that does not suit the data, or a value that it does not accept.
    """
    likelihood, found = likelihood_of(dataset, config, source, known=transform is not None)
    if isinstance(dataset.kind, ColumnTable):
        if transform is not None:
            return dataset.kind, transform
        return dataset.kind.fitted_on(dataset.x, rows)
    if transform is None and found is not None:
        transform = Transform.of_range(*found)
    transform = transform or _standardizing(dataset, rows, source)
    transform = replace(transform, binarize=config.binarize)
    check_rows(dataset, likelihood, transform, source)
    kind: RowKind = replace(dataset.kind, likelihood=str(likelihood))  # type: ignore[type-var]
    return kind, transform


def likelihood_of(
    dataset: Dataset, config: Config, source: str, *, known: bool = False
) -> tuple[LikelihoodSpec, Range | None]:
    """The likelihood that a configuration names, or the one that suits the data, and the range.

    Args:
        dataset: the rows.
        config: of the fit.
        source: of the rows, for messages.
        known: the units are known already; there is no range then.

    Raises:
        GMMVAEError: as :func:`pyro_gmmvae.data.value_range.likelihood_and_range`; ``x_range`` of
            rows that have several units; ``binarize`` beside another likelihood than Bernoulli.
    """
    kind = dataset.kind
    x_range = config.x_range or (None if dataset.unit is None else (0.0, dataset.unit))
    if known or not isinstance(kind, Image | Table):
        if x_range is not None and not known:
            raise GMMVAEError(
                f"x_range is the one range of all values, and {source} holds {kind.plural}; leave "
                "it out"
            )
        likelihood = parse_likelihood(config.likelihood or kind.likelihood)
        found, values = likelihood.completed(None, source), None
    else:
        # of plain numbers "normal" stands for no choice
        declared = None if kind.likelihood == "normal" else kind.likelihood
        found, values = likelihood_and_range(
            dataset.x,
            x_range=x_range,
            image=isinstance(kind, Image),
            likelihood=config.likelihood or declared,
            source=source,
        )
    if config.binarize is not None and found.family != "bernoulli":
        raise GMMVAEError(
            f"binarize={config.binarize} is for likelihood=bernoulli, and the likelihood is "
            f"{found}; leave binarize out, or give likelihood=bernoulli"
        )
    return found, values


def _standardizing(dataset: Dataset, rows: Labels, source: str) -> Transform:
    with np.errstate(over="ignore", invalid="ignore"):
        transform = dataset.fit_transform_on(rows)
    if not (np.isfinite(transform.shift).all() and np.isfinite(transform.scale).all()):
        raise GMMVAEError(f"{source} holds numbers that are too large to be standardized")
    return transform


def check_values(x: Floats, likelihood: LikelihoodSpec, transform: Transform, source: str) -> None:
    """Refuse rows in the model's units where the likelihood has no density or probability.

    Args:
        x: rows, NaN where an entry is missing.
        likelihood: with its number.
        transform: by which the rows came to the model's units.
        source: of the rows, for the message.

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
        f"{ends[0]:g} to {ends[1]:g}; give rows as they were counted, with their range as x_range, "
        "or take another count or likelihood"
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
    for rows in blocks(dataset.x):
        scaled = transform.scaled(dataset.kind.featurize_array(rows))
        check_values(scaled, likelihood, transform, source)
