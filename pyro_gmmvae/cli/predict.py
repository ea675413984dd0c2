"""gmmvae predict and gmmvae generate"""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyro_gmmvae.cli.options import (
    PATH,
    check_output,
    device_option,
    drop_nonfinite_option,
    force_option,
    given_option,
    json_option,
    run_argument,
    seed_option,
    weights_option,
)

if TYPE_CHECKING:
    import numpy as np

    from pyro_gmmvae.runs import Run

MAX_CELLS = 1000


@click.command(short_help="Classify the rows of a file.")
@run_argument
@click.argument("file", type=PATH)
@click.option(
    "--out",
    type=PATH,
    metavar="CSV",
    help="Table to write (.csv or .parquet).  [default: print CSV]",
)
@click.option(
    "--coverage",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="P",
    help="Add the column set: classes that hold the true one with about this probability, as 0.9.",
)
@click.option("--raw", is_flag=True, help="Leave the probabilities as the model gives them.")
@drop_nonfinite_option
@given_option
@weights_option
@force_option
@device_option
@json_option
def predict(
    run: Path,
    file: Path,
    out: Path | None,
    coverage: float | None,
    raw: bool,
    drop_nonfinite: bool | None,
    given: dict[str, str],
    weights: str | None,
    force: bool,
    device: str | None,
    as_json: bool,
) -> None:
    """Label the rows of FILE (npz, npy, csv, parquet, IDX images) with RUN.

    Columns: row (number in the file, from 0), label, p_CLASS (its probability), elbo (nats),
    elbo_quantile (share of held-out rows with a lower ELBO: near 0 for a row unlike the training
    data), new and set. A label column in FILE is ignored. Where RUN was trained without labels,
    classes are the names that 'gmmvae name' gave, or else components. With --as all rows are
    predicted as if the covariate had this value.

    Where labelled rows were held out, by cross-validation or as validation rows, a temperature
    fitted on them calibrates the probabilities, and there is the column new: near 1 for a row of
    no known class. It is at least 0.95 for about 5 % of the rows of known classes. The column set
    names classes, joined by "|". It holds the true class with about the probability of --coverage;
    after cross-validation P the guarantee is 1 - 2 (1 - P) (CV+, arXiv:1905.02928). It is empty
    where no class is as probable as the true one usually is.

    For a run on skeletons FILE is a table of tracks; there is a row per sequence, and in the place
    of row and label the columns sequence, windows (how many), person and probability.
    """
    from pyro_gmmvae.errors import GMMVAEError
    from pyro_gmmvae.files import atomic_write, ending

    if not file.exists():
        raise GMMVAEError(f"{file} does not exist")
    if out is not None:
        check_output(out, force, (".csv", ".parquet"))
    # imported after the checks, since it loads torch
    from pyro_gmmvae.runs import Run
    from pyro_gmmvae.runs.answers import Answers
    from pyro_gmmvae.runs.predictions import predict_columns

    loaded = Run.load(run, device=device or "auto", weights=weights)
    options: dict[str, Any] = {"drop_nonfinite": bool(drop_nonfinite), "given": given}
    columns = predict_columns(loaded, file, **options, raw=raw, coverage=coverage)
    answers = Answers.of(loaded)
    if as_json or (out is not None and ending(out) == ".parquet"):
        import pandas as pd

        table = pd.DataFrame(columns)
    if as_json:
        rows = json.loads(table.to_json(orient="records"))
        click.echo(json.dumps({"rows": rows} | ({} if answers is None else answers.about())))
    if out is None:
        if not as_json:
            click.echo(csv_text(columns), nl=False)
        return
    is_csv = ending(out) == ".csv"
    atomic_write(out, csv_text(columns).encode() if is_csv else table.to_parquet(index=False))
    click.echo(f"{len(next(iter(columns.values())))} rows -> {out}", err=True)
    if answers is not None:
        click.echo(answers.describe(), err=True)


def csv_text(columns: "Mapping[str, np.ndarray[Any, Any]]") -> str:
    """A table as csv, as pandas writes it, without importing pandas.

    Args:
        columns: by name, arrays of one length; NaN becomes an empty entry.
    """
    texts = []
    for values in columns.values():
        text = values.astype(str).astype(object)
        if values.dtype.kind == "f":
            text[values != values] = ""
        texts.append(text)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*texts, strict=True))
    return buffer.getvalue()


@click.command(short_help="Draw new rows from a run.")
@run_argument
@click.option(
    "--out",
    type=PATH,
    required=True,
    metavar="FILE",
    help="A picture (.png), the numbers (.npz) or, for a run on a table, a table (.csv).",
)
@click.option(
    "--per-class",
    type=click.IntRange(1, 1000),
    default=10,
    show_default=True,
    help="Draws per class.",
)
@click.option(
    "--class", "label", metavar="NAME", help="Only this class, or components of this name."
)
@seed_option
@click.option("--sample", is_flag=True, help="Draw x ~ p(x|z,class) instead of taking its mean.")
@given_option
@weights_option
@force_option
@device_option
def generate(
    run: Path,
    out: Path,
    per_class: int,
    label: str | None,
    seed: int,
    sample: bool,
    given: dict[str, str],
    weights: str | None,
    force: bool,
    device: str | None,
) -> None:
    """Draw z ~ p(z|class), decode it, and show one row per class.

    The result is the mean of p(x|z,class) or, with --sample, a draw of x. Covariates without
    --as are drawn from the training rows'. Draws of one seed have the same z with all values.
    Images become a grid of pictures, other rows a grid of profiles over the features. An .npz
    holds x (the draws, in the units of the training file) and y (their class names). A .csv has
    the columns of the training table, with its texts, and the column of labels.
    """
    import numpy as np

    from pyro_gmmvae.errors import GMMVAEError
    from pyro_gmmvae.files import atomic_write, ending

    check_output(out, force, (".png", ".npz", ".csv"))
    from pyro_gmmvae.runs import Run

    loaded = Run.load(run, device=device or "auto", weights=weights)
    names = loaded.block_names(label)
    if ending(out) == ".png" and per_class * len(names) > MAX_CELLS:
        raise click.UsageError(
            f"a picture of {per_class * len(names)} draws can't be read; ask for at most "
            f"{MAX_CELLS} with --per-class or --class, or write an .npz"
        )
    columns = loaded.schema.kind.specs
    if ending(out) == ".csv" and not columns:
        raise GMMVAEError(f"{run} was not trained on a table: write .npz or .png instead of {out}")
    draws = loaded.generate(per_class, label=label, seed=seed, sample=sample, given=given)
    rows, labels = draws.reshape(-1, *draws.shape[2:]), np.repeat(names, draws.shape[1])
    buffer = io.BytesIO()
    if ending(out) == ".png":
        from pyro_gmmvae.figures import renderer_of, sample_grid
        from pyro_gmmvae.figures.saving import figure_bytes

        figure = sample_grid(renderer_of(loaded.schema.kind, draws), draws, names)
        buffer.write(figure_bytes(figure))
    elif ending(out) == ".csv":
        from pyro_gmmvae.data.column_codes import decode

        table = decode(rows, columns)
        table[loaded.config.label_column] = labels
        buffer.write(table.to_csv(index=False).encode())
    else:
        np.savez_compressed(buffer, x=rows, y=labels)
    atomic_write(out, buffer.getvalue())
    click.echo(f"{len(rows)} draws -> {out}{of_first_member(loaded)}", err=True)


def of_first_member(run: "Run") -> str:
    """A note where a result is that of one fit of several."""
    return f" (of member 0 of {1 + len(run.others)})" if run.others else ""
