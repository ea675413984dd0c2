"""Tables of sweeps: rows that are read again, summaries with paired differences, and a dot plot."""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

import pyro_gmmvae
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import atomic_write
from pyro_gmmvae.sweeps.plan import RUN_COLUMNS, Log, run_key

if TYPE_CHECKING:  # workers of a sweep need no figures
    from matplotlib.figure import Figure

REQUIRED = [*RUN_COLUMNS, "version", "command"]
TEXT = [name for name in REQUIRED if name != "seed"]
TEXT += ["engine", "device", "processor", "versions", "table", "split", "variant"]
COLUMNS = ["data", "labels", "model", "guide", "objective", "preset", "settings"]
PANEL = ["data", "labels"]
FAMILY = ["data", "labels", "model", "guide", "objective"]
AXIS_LABELS = {
    "accuracy": "accuracy of test rows",
    "cluster_accuracy": "accuracy of test rows under the best naming of components",
    "probe_accuracy": "accuracy of a linear probe of z on test rows",
    "ece": "expected calibration error of test rows",
    "assignment_entropy": "mean entropy of q(s|x) over test rows (nats)",
    "elbo": "ELBO of test rows (nats per row)",
    "nll": "importance-weighted bound on -log p(x) (nats per test row)",
    "rate": "KL(q || p) of test rows (nats per row)",
    "distortion": "-E[log p(x|z)] of test rows (nats per row)",
    "pareto_k_bad": "share of test rows with Pareto k above 0.7",
    "recognized": "share of draws that an SVM gives their class",
    "precision": "share of draws near a test row",
    "recall": "share of test rows near a draw",
    "coverage": "share of test rows with a draw near them",
}
LOWER_IS_BETTER = ("ece", "log_loss", "nll", "distortion", "pareto_k_bad", "assignment_entropy")


# ---------------------------------------------------------------------------------- rows


def read_results(file: Path, log: Log = print) -> pd.DataFrame:
    """Read a results.csv of this version; rows that were cut off are dropped and logged.

    Raises:
        GMMVAEError: a file that is not a table of results, or rows of another version.
    """
    table = read_stored_results(file, log)
    others = sorted(set(table["version"]) - {pyro_gmmvae.__version__})
    if others:
        raise GMMVAEError(
            f"{file} holds results of version {others[0]}, and this is "
            f"{pyro_gmmvae.__version__}: they do not mix; name another --out, or move the file away"
        )
    return table


def read_stored_results(file: Path, log: Log = print) -> pd.DataFrame:
    """Read a results.csv of any version, to draw it and not to add to it.

    Raises:
        GMMVAEError: a file that is not a table of results.
    """
    if not file.exists() or (file.is_file() and not file.stat().st_size):
        return pd.DataFrame(columns=REQUIRED)
    try:
        text = file.read_text("utf-8")
        # rows are written with their line end, so a last line without one was cut off
        whole_lines = text[: text.rfind("\n") + 1]
        table = pd.read_csv(io.StringIO(whole_lines), dtype=str, on_bad_lines="skip")
    except (OSError, ValueError) as error:
        raise GMMVAEError(
            f"{file} can't be read as a table of results ({type(error).__name__}); name another "
            "--out or move it away"
        ) from error
    if not set(REQUIRED) <= set(table.columns):
        raise GMMVAEError(
            f"{file} is not a table of results of this program; name another --out or move it away"
        )
    words = [c for c in TEXT if c in table.columns]
    numbers = table.columns.difference(words)
    table[numbers] = table[numbers].apply(pd.to_numeric, errors="coerce")
    whole = table[["version", "command", "seed", "config"]].notna().all(axis=1)
    dropped = len(text.rstrip("\n").splitlines()) - 1 - int(whole.sum())
    if dropped > 0:
        log(f"{file}: {dropped} half-written row(s) dropped")
    table = table[whole].astype({"seed": int})
    table[words] = table[words].fillna("")
    return table.drop_duplicates(RUN_COLUMNS, keep="last")


def append_result(file: Path, row: Mapping[str, Any]) -> pd.DataFrame:
    """Add one row, and return the table; the file is replaced atomically."""
    before = read_results(file, lambda _: None)
    new = pd.DataFrame([row])
    table = pd.concat([before, new], ignore_index=True) if len(before) else new
    atomic_write(file, table.to_csv(index=False).encode())
    return read_results(file, lambda _: None)


def run_keys(table: pd.DataFrame) -> list[str]:
    """The key of each row's run."""
    return [run_key(values) for values in table[RUN_COLUMNS].itertuples(index=False)]


def latest_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Drop rows of earlier configurations: each combination keeps its last one."""
    return table[table["config"] == table.groupby(COLUMNS)["config"].transform("last")]


# ---------------------------------------------------------------------------------- summaries


def summarize(table: pd.DataFrame, metric: str = "accuracy") -> pd.DataFrame:
    """Pool the seeds: one line per combination.

    Args:
        table: rows of a sweep, in the order the combinations were named.
        metric: the column that is compared.

    Returns:
        ``COLUMNS``, then ``mean``, ``std``, ``n`` of the metric; ``difference``, ``low`` and
        ``high``: mean and 95 % t-interval of the paired differences, over the seeds both have,
        to the first combination with the same data and labels (missing for that one, and the
        interval below two seeds); mean ``elbo``, ``nll``, ``pareto_k_bad`` and ``seconds``.
    """
    lines = []
    first: dict[tuple[str, str], pd.Series] = {}
    for key, rows in table.groupby(COLUMNS, sort=False, dropna=False):
        values = rows.set_index("seed")[metric].astype(float)
        line = dict(zip(COLUMNS, key, strict=True))
        line |= {"mean": values.mean(), "std": values.std(), "n": int(values.notna().sum())}
        reference = first.setdefault((str(line["data"]), str(line["labels"])), values)
        if reference is not values:
            line |= _paired_difference(values, reference)
        for name in ("elbo", "nll", "pareto_k_bad", "seconds"):
            line[name] = rows[name].astype(float).mean()
        lines.append(line)
    wanted = [*COLUMNS, "mean", "std", "n", "difference", "low", "high", "elbo", "nll"]
    return pd.DataFrame(lines).reindex(columns=[*wanted, "pareto_k_bad", "seconds"])


def _paired_difference(values: pd.Series, reference: pd.Series) -> dict[str, float]:
    from scipy.stats import ttest_rel

    both = pd.concat([values, reference], axis=1, join="inner", keys=["a", "b"]).dropna()
    differences = both["a"] - both["b"]
    if not len(both):
        return {}
    numbers = {"difference": float(differences.mean())}
    if len(both) > 1 and differences.std() > 0:
        interval = ttest_rel(both["a"], both["b"]).confidence_interval(0.95)
        numbers |= {"low": float(interval.low), "high": float(interval.high)}
    elif len(both) > 1:  # equal on every seed: the interval has no width
        numbers |= {"low": numbers["difference"], "high": numbers["difference"]}
    return numbers


def format_table(summary: pd.DataFrame, metric: str = "accuracy") -> pd.DataFrame:
    """Format a summary as text; columns with one value for all lines are left out."""
    same = [c for c in COLUMNS if summary[c].nunique(dropna=False) == 1]
    text = summary[[c for c in COLUMNS if c not in same]].astype(str)
    text[metric] = [
        _with_spread(mean, std) for mean, std in zip(summary["mean"], summary["std"], strict=True)
    ]
    text["n"] = summary["n"].astype(str)
    if summary["difference"].notna().any():
        text["difference to the first (95 %)"] = [
            "" if pd.isna(d) else f"{d:+.4f}" + ("" if pd.isna(a) else f" [{a:+.4f}, {b:+.4f}]")
            for d, a, b in summary[["difference", "low", "high"]].itertuples(index=False)
        ]
    for name, digits in (("elbo", 2), ("nll", 2), ("pareto_k_bad", 2), ("seconds", 0)):
        if name == metric:
            continue
        text[name] = ["-" if pd.isna(v) else f"{v:.{digits}f}" for v in summary[name]]
    return text


def _with_spread(mean: float, std: float) -> str:
    if pd.isna(mean):
        return "-"
    return f"{mean:.4f}" + ("" if pd.isna(std) else f" ± {std:.4f}")


def markdown(text: pd.DataFrame) -> str:
    """Write a table of text in Markdown."""
    rows = [list(text.columns), ["---"] * len(text.columns), *text.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows) + "\n"


def latex(text: pd.DataFrame) -> str:
    """Write a table of text in LaTeX (booktabs)."""
    columns = [_escape(column) for column in text.columns]
    cells = text.map(_escape).set_axis(columns, axis=1)
    table: str = cells.to_latex(index=False)
    return table


def _escape(cell: object) -> str:
    escaped = "".join(f"\\{letter}" if letter in "_%&#$" else letter for letter in str(cell))
    return escaped.replace("±", r"$\pm$")


def write_tables(text: pd.DataFrame, out: Path, notes: Sequence[str]) -> None:
    """Write OUT/table.md, with notes below the table, and OUT/table.tex."""
    below = "".join(f"\n{note}\n" for note in notes)
    atomic_write(out / "table.md", (markdown(text) + below).encode())
    atomic_write(out / "table.tex", latex(text).encode())


def dot_plot(
    table: pd.DataFrame, metric: str = "accuracy", axis: str | None = None
) -> "Figure | None":
    """Draw means of a metric with 95 % t-intervals and every seed, a panel per data and labels.

    Args:
        table: rows of a sweep; the first combination is the dashed line.
        metric: the column that is compared.
        axis: the label of the axis; None: that of the metric.

    Returns:
        The figure, or None where no row has a number for the metric.
    """
    from pyro_gmmvae import figures

    if not table[metric].notna().any():
        return None
    cells = _cells(table)
    panels = [c for c in PANEL if cells[c].nunique() > 1]
    lines = _lines(cells)
    return figures.dot_plot(
        pd.DataFrame(
            {
                "panel": [", ".join(words) for words in _words(cells[panels])],
                "line": lines,
                "value": table[metric].to_numpy(float),
            }
        ),
        axis or AXIS_LABELS.get(metric, metric.replace("_", " ")),
        _title(cells),
        reference=lines[0] if len(set(lines)) > 1 else None,
        ascending=metric in LOWER_IS_BETTER,
        limits=figures.metric_limits(metric),
    )


def plane(table: pd.DataFrame, metric: str = "probe_accuracy") -> "Figure | None":
    """Draw distortion against rate with a metric as color.

    Args:
        table: rows of a sweep on one data set.
        metric: the column that is the color.

    Returns:
        The figure, or None where no row has a rate and a number for the metric.
    """
    from pyro_gmmvae import figures

    table = table[table[["rate", "distortion", metric]].notna().all(axis=1)]
    if table.empty:
        return None
    cells = _cells(table)
    # a path is one of numbers; a key with other values is a family of its own
    keys = [re.sub(r"=[-+.:\de]+(?= |$)", "", settings) for settings in cells["settings"]]
    panels = [c for c in PANEL if cells[c].nunique() > 1]
    names = [" ".join(filter(None, words)) for words in _words(cells[panels])]
    points = (
        table[["rate", "distortion"]]
        .astype(float)
        .assign(
            line=[", ".join(filter(None, pair)) for pair in zip(names, _lines(cells), strict=True)],
            family=[" ".join(words) for words in _words(cells[FAMILY].assign(keys=keys))],
            usefulness=table[metric].astype(float),
        )
    )
    label = AXIS_LABELS.get(metric, metric.replace("_", " "))
    return figures.rate_distortion_plane(points, label, _title(cells))


def _cells(table: pd.DataFrame) -> pd.DataFrame:
    """The words of each row that name its combination; settings of all rows in ``common``."""
    cells = table[COLUMNS].astype(object).where(table[COLUMNS].notna(), "").astype(str)
    words = [text.split() for text in cells["settings"]]
    common = [word for word in words[0] if all(word in others for others in words)]
    rest = [" ".join(word for word in one if word not in common) for one in words]
    labels = [f"{n} label{'' if n == '1' else 's'}" for n in cells["labels"]]
    return cells.assign(labels=labels, settings=rest, common=" ".join(common))


def _lines(cells: pd.DataFrame) -> list[str]:
    parts = _distinguishing(cells.drop(columns=PANEL))
    return [" ".join(filter(None, words)) or "as it is" for words in _words(cells[parts])]


def _title(cells: pd.DataFrame) -> str:
    """The words that all rows share."""
    shared = cells.loc[:, cells.nunique() == 1].iloc[0]
    return ", ".join(f"preset {w}" if c == "preset" else w for c, w in shared.items() if w)


def _distinguishing(cells: pd.DataFrame) -> list[str]:
    """The columns that distinguish lines, without those that follow from others; models stay."""
    kept = [str(c) for c in cells if cells[c].nunique() > 1] or ["model"]
    for column in ("objective", "preset", "guide", "settings"):
        others = [c for c in kept if c != column]
        if others and len(cells[others].drop_duplicates()) == len(cells[kept].drop_duplicates()):
            kept = others
    return kept


def _words(cells: pd.DataFrame) -> list[tuple[str, ...]]:
    """One tuple per row; empty tuples if there are no columns."""
    return [tuple(row) for row in cells.to_numpy(str)]


def write_plane(table: pd.DataFrame, out: Path, metric: str = "probe_accuracy") -> bool:
    """Write OUT/plane.png; whether there is anything to draw."""
    figure = plane(table, metric)
    if figure is None:
        return False
    from pyro_gmmvae.figures.saving import figure_bytes

    atomic_write(out / "plane.png", figure_bytes(figure))
    return True


def write_dot_plot(
    table: pd.DataFrame, out: Path, metric: str = "accuracy", axis: str | None = None
) -> None:
    """Write the dot plot to OUT/table.png; remove the file if there is nothing to draw."""
    figure = dot_plot(table, metric, axis)
    if figure is None:
        # an old plot, of another metric, does not belong to this table
        (out / "table.png").unlink(missing_ok=True)
        return
    from pyro_gmmvae.figures.saving import figure_bytes

    atomic_write(out / "table.png", figure_bytes(figure))


def footnotes(table: pd.DataFrame, command: str) -> list[str]:
    """Notes below a table: what all lines share, the machine, the versions, the command."""
    shared = [f"{c} {table[c].iloc[0]}" for c in COLUMNS if table[c].nunique() == 1]
    same = ", ".join(words for words in shared if not words.endswith(" "))
    machines = table[["device", "processor", "threads"]].drop_duplicates().dropna()
    places = [f"{d} ({p}), {int(t)} thread(s)" for d, p, t in machines.itertuples(index=False)]
    versions = table["versions"].dropna().unique()
    return [
        *([f"All lines: {same}."] if same else []),
        f"Mean and standard deviation over seeds (label draws). {'; '.join(places)}. "
        f"pyro_gmmvae={table['version'].iloc[-1]} {versions[-1] if len(versions) else ''}.",
        f"Made by `{command}`.",
    ]
