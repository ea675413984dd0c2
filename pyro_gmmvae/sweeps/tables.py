"""Summaries of sweeps: means, spreads and paired differences, as CSV, Markdown, LaTeX and dots."""

import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from pyro_gmmvae.figures import dot_plot
from pyro_gmmvae.figures.style import DPI
from pyro_gmmvae.files import atomic_write

COLUMNS = ["data", "labels", "model", "guide", "objective", "preset", "settings"]
PANEL = ["data", "labels"]
# what the axis of a metric says, where it is more than the metric's name
AXES = {
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
}
LOWER_IS_BETTER = ("ece", "log_loss", "nll", "distortion", "pareto_k_bad", "assignment_entropy")


def summarize(table: pd.DataFrame, metric: str = "accuracy") -> pd.DataFrame:
    """One line per combination, seeds pooled.

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
    found = {"difference": float(differences.mean())}
    if len(both) > 1 and differences.std() > 0:
        interval = ttest_rel(both["a"], both["b"]).confidence_interval(0.95)
        found |= {"low": float(interval.low), "high": float(interval.high)}
    elif len(both) > 1:  # equal on every seed: the interval has no width
        found |= {"low": found["difference"], "high": found["difference"]}
    return found


def shown(summary: pd.DataFrame, metric: str = "accuracy") -> pd.DataFrame:
    """The summary as text cells; columns that say the same on every line are left out."""
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
    """A table of text cells in Markdown."""
    rows = [list(text.columns), ["---"] * len(text.columns), *text.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows) + "\n"


def latex(text: pd.DataFrame) -> str:
    """The same in LaTeX (booktabs)."""
    columns = [_escape(column) for column in text.columns]
    cells = text.map(_escape).set_axis(columns, axis=1)
    table: str = cells.to_latex(index=False)
    return table


def _escape(cell: object) -> str:
    escaped = "".join(f"\\{letter}" if letter in "_%&#$" else letter for letter in str(cell))
    return escaped.replace("±", r"$\pm$")


def write_tables(text: pd.DataFrame, out: Path, notes: Sequence[str]) -> None:
    """OUT/table.md (with notes below) and OUT/table.tex."""
    below = "".join(f"\n{note}\n" for note in notes)
    atomic_write(out / "table.md", (markdown(text) + below).encode())
    atomic_write(out / "table.tex", latex(text).encode())


def dots(table: pd.DataFrame, metric: str = "accuracy", axis: str | None = None) -> Figure | None:
    """Means of a metric with 95 % t-intervals and every seed; a panel per data and label count.

    Args:
        table: rows of a sweep; the first combination is the dashed line.
        metric: the column that is compared.
        axis: what the axis says; None: what the metric is.

    Returns:
        The figure, or None where no row has a number for the metric.
    """
    if not table[metric].notna().any():
        return None
    cells = table[COLUMNS].astype(object).where(table[COLUMNS].notna(), "").astype(str)
    cells["labels"] = [f"{n} label{'' if n == '1' else 's'}" for n in cells["labels"]]
    panels = [c for c in PANEL if cells[c].nunique() > 1]
    parts = _telling(cells.drop(columns=PANEL))
    lines = [" ".join(filter(None, words)) or "as it is" for words in _words(cells[parts])]
    shared = cells.loc[:, cells.nunique() == 1].iloc[0]
    return dot_plot(
        pd.DataFrame(
            {
                "panel": [", ".join(words) for words in _words(cells[panels])],
                "line": lines,
                "value": table[metric].to_numpy(float),
            }
        ),
        axis or AXES.get(metric, metric.replace("_", " ")),
        ", ".join(
            f"preset {word}" if c == "preset" else word for c, word in shared.items() if word
        ),
        reference=lines[0] if len(set(lines)) > 1 else None,
        ascending=metric in LOWER_IS_BETTER,
    )


def _telling(cells: pd.DataFrame) -> list[str]:
    """The columns that tell lines apart; what follows from the others is left out."""
    kept = [str(c) for c in cells if cells[c].nunique() > 1] or ["model"]
    for column in ("objective", "preset", "guide", "settings", "model"):
        others = [c for c in kept if c != column]
        if others and len(cells[others].drop_duplicates()) == len(cells[kept].drop_duplicates()):
            kept = others
    return kept


def _words(cells: pd.DataFrame) -> list[tuple[str, ...]]:
    """A tuple per row, also where there are no columns."""
    return [tuple(row) for row in cells.to_numpy(str)]


def write_dots(
    table: pd.DataFrame, out: Path, metric: str = "accuracy", axis: str | None = None
) -> None:
    """OUT/table.png, as :func:`dots` draws it; none where there is nothing to draw."""
    figure = dots(table, metric, axis)
    if figure is None:
        # that of another metric does not belong to the table that stands beside it
        (out / "table.png").unlink(missing_ok=True)
        return
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    atomic_write(out / "table.png", buffer.getvalue())


def newest(table: pd.DataFrame) -> pd.DataFrame:
    """Without rows of settings that were changed since: the last configuration of each line."""
    return table[table["config"] == table.groupby(COLUMNS)["config"].transform("last")]


def notes_of(table: pd.DataFrame, command: str) -> list[str]:
    """What a reader needs below a table: what all lines share, the machine, the command."""
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
