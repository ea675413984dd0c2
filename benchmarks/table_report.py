"""The summary of the table benchmark: table.md and labels.png of a folder of results."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from figures.label_curves import label_curves
from scipy.stats import binom
from table_data import TEST_SHARE
from table_references import REFERENCES

from pyro_gmmvae.errors import GMMVAEError, unknown_name
from pyro_gmmvae.files import atomic_write, read_json
from pyro_gmmvae.sweeps.tables import markdown

CELL = ["table", "labels", "draw"]
NUMBERS = ("accuracy", "log_loss", "seconds", "coverage", "set_size", "auroc")
ASKED = 0.9  # the coverage of the sets


def read_measured(out: Path) -> pd.DataFrame:
    """All results of a folder: a row for each table, labels, draw and method.

    Raises:
        GMMVAEError: a folder without results.
    """
    rows = [
        {"table": file["table"], "labels": file["labels"], "draw": int(seed), "method": method}
        | {"test_rows": round(TEST_SHARE * file["rows"]), "error": ""}
        | dict.fromkeys(NUMBERS, np.nan)
        | measured
        for file in map(read_json, sorted(out.glob("*-*.json")))
        for method, draws in file["measured"].items()
        for seed, measured in draws.items()
    ]
    if not rows:
        raise GMMVAEError(f"{out} has no results; measure some first")
    return pd.DataFrame(rows)


def report(found: pd.DataFrame, out: Path, methods: Sequence[str] | None = None) -> None:
    """Write OUT/table.md; OUT/labels.png and OUT/answers.md where there are numbers for them."""
    atomic_write(out / "table.md", page(found, methods).encode())
    if (found["coverage"].notna() | found["auroc"].notna()).any():
        atomic_write(out / "answers.md", answers_page(found).encode())
    shown = pd.concat([shared(part, methods) for _, part in found.groupby("labels")])
    if len(shown):
        label_curves(shown, set(REFERENCES)).savefig(out / "labels.png", dpi=110)


def page(found: pd.DataFrame, methods: Sequence[str] | None = None) -> str:
    """The tables of each number of labels, in Markdown."""
    parts = []
    for labels, of_labels in found.groupby("labels"):
        part = shared(of_labels, methods)
        if not len(part):
            parts += of_errors(of_labels)
            continue
        cells = part[["table", "draw"]].drop_duplicates()
        parts += [
            f"### {labels} labels a class: {cells['table'].nunique()} tables, "
            f"{cells['draw'].nunique()} draws",
            markdown(summary_text(summarize(part))),
            f"Accuracy by table, {labels} labels a class; the last line is the best reference:",
            markdown(by_table_text(part)),
            *of_others(part),
            *of_partly_measured(of_labels, part),
            *of_errors(of_labels),
        ]
    return "\n\n".join([part.strip() for part in parts]) + "\n"


def shared(found: pd.DataFrame, methods: Sequence[str] | None = None) -> pd.DataFrame:
    """The results of methods on the tables and draws that all of them have.

    Args:
        found: results of one number of labels.
        methods: of the comparison; None: those that were measured on as many tables as any other.

    Raises:
        GMMVAEError: an unknown method.
    """
    valid = comparable(found)
    counts = valid.groupby("method")["table"].nunique()
    if methods is None:
        methods = list(counts[counts == counts.max()].index)
    for name in methods:
        if name not in counts.index:
            raise unknown_name("method", name, list(counts.index))
    valid = valid[valid["method"].isin(methods)]
    complete = valid.groupby(CELL)["method"].transform("nunique") == len(set(methods))
    return valid[complete]


def comparable(found: pd.DataFrame) -> pd.DataFrame:
    """The results of whole fits without cross-validation, which were not refused."""
    return found[found["accuracy"].notna() & found["coverage"].isna() & found["auroc"].isna()]


def mean_accuracies(found: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy over draws: a line for each table, a column for each method."""
    return found.pivot_table(index="table", columns="method", values="accuracy")


def best_of(accuracies: pd.DataFrame) -> "pd.Series[float]":
    """The best mean of a method of scikit-learn on each table."""
    references = [name for name in accuracies if name in REFERENCES]
    return accuracies[references or list(accuracies)].max(axis=1)


def summarize(found: pd.DataFrame) -> pd.DataFrame:
    """Measures of each method, the best mean accuracy first.

    Returns:
        A line for each method: ``accuracy``, the mean over tables and draws, and ``error``, its
        standard error over draws; ``difference`` and ``difference_error``, the same for what it is
        above the best single method of scikit-learn, draw by draw; ``rank``, the mean over tables
        of its rank by mean accuracy; ``wins``, the tables where no other method is better; ``gap``,
        how far it is below the best method of scikit-learn on the table ``worst`` where that is
        the most; ``log_loss`` and ``seconds``, means.
    """
    tables = mean_accuracies(found)
    of_draws = found.pivot_table(index="draw", columns="method", values="accuracy")
    gaps = tables.rsub(best_of(tables), axis=0)
    references = [name for name in tables if name in REFERENCES]
    best = tables[references or list(tables)].mean().idxmax()
    above = of_draws.sub(of_draws[best], axis=0)
    means = found.groupby("method")[["log_loss", "seconds"]].mean()
    return pd.DataFrame(
        {
            "accuracy": tables.mean(),
            "error": of_draws.sem(),
            "difference": above.mean(),
            "difference_error": above.sem(),
            "rank": tables.rank(axis=1, ascending=False).mean(),
            "wins": tables.eq(tables.max(axis=1), axis=0).sum(),
            "gap": gaps.max(),
            "worst": gaps.idxmax(),
            "log_loss": means["log_loss"],
            "seconds": means["seconds"],
        }
    ).sort_values("accuracy", ascending=False)


def leaving_one_out(found: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Choose a method for each table by its mean accuracy on the other tables.

    Returns:
        A line for each table: the method ``chosen``, and its ``accuracy`` there.
    """
    tables = mean_accuracies(found)[list(methods)]
    chosen = {name: tables.drop(index=name).mean().idxmax() for name in tables.index}
    accuracies = [tables.loc[name, method] for name, method in chosen.items()]
    return pd.DataFrame({"chosen": chosen, "accuracy": accuracies}, index=tables.index)


def coverages(found: pd.DataFrame) -> pd.DataFrame:
    """Coverage of the sets on each table: means over draws, by labels and table.

    Returns:
        ``coverage``, ``set_size`` and ``draws``; ``low`` and ``high``, the central 95 % of the
        share of a draw's test rows, were each covered with the probability ``ASKED`` by itself;
        ``inside`` them or not.
    """
    sets = found[found["coverage"].notna()].groupby(["method", "labels", "table"])
    result = sets[["coverage", "set_size", "test_rows"]].mean()
    low, high = (binom.ppf(q, result["test_rows"], ASKED) for q in (0.025, 0.975))
    result = result.assign(low=low / result["test_rows"], high=high / result["test_rows"])
    inside = result["coverage"].between(result["low"], result["high"])
    return result.assign(draws=sets.size(), inside=inside).reset_index()


# -- as text ---------------------------------------------------------------------------------------


def summary_text(summary: pd.DataFrame) -> pd.DataFrame:
    """The cells of a summary."""
    lines = summary.reset_index().to_dict("records")
    best = next(line["method"] for line in lines if line["difference"] == 0)
    return pd.DataFrame(
        {
            "method": line["method"],
            "accuracy": f"{line['accuracy']:.4f}" + _spread(line["error"], 4),
            f"above {best}": ""
            if line["method"] == best
            else f"{line['difference']:+.4f}" + _spread(line["difference_error"], 4),
            "mean rank": f"{line['rank']:.1f}",
            "wins": str(line["wins"]),
            "below the best reference, at most": f"{line['gap']:.3f} ({line['worst']})",
            "log loss": "" if pd.isna(line["log_loss"]) else f"{line['log_loss']:.3f}",
            "seconds": f"{line['seconds']:.2f}",
        }
        for line in lines
    )


def by_table_text(found: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy and its standard error: a line for each method, a column for each table."""
    tables = mean_accuracies(found)
    groups = found.groupby(["table", "method"])["accuracy"]
    errors = groups.sem().unstack("method")
    text = tables.map("{:.3f}".format) + errors.map(_spread)
    lines = text.T.loc[tables.mean().sort_values(ascending=False).index]
    references = tables[[name for name in tables if name in REFERENCES]]
    if references.shape[1]:
        lines.loc["best"] = references.idxmax(axis=1)
    return lines.reset_index(names="method")


def answers_page(found: pd.DataFrame) -> str:
    """The tables of sets of classes, and of new classes, in Markdown."""
    parts = []
    for (method, labels), lines in coverages(found).groupby(["method", "labels"]):
        parts += [
            f"### {method}, {labels} labels a class: sets of {ASKED:.0%}",
            f"Mean over {len(lines)} tables: coverage {lines['coverage'].mean():.3f}, size "
            f"{lines['set_size'].mean():.2f}; {lines['inside'].sum()} of {len(lines)} tables "
            "inside the binomial interval of a draw's test rows.",
            markdown(
                pd.DataFrame(
                    {
                        "table": line.table,
                        "coverage": f"{line.coverage:.3f}",
                        "binomial": f"{line.low:.3f} to {line.high:.3f}",
                        "size": f"{line.set_size:.2f}",
                        "draws": str(line.draws),
                    }
                    for line in lines.itertuples()
                )
            ),
        ]
    for labels, rows in found[found["auroc"].notna()].groupby("labels"):
        tables = rows.pivot_table(index="method", columns="table", values="auroc")
        tables.insert(0, "mean", tables.mean(axis=1))
        text = tables.sort_values("mean", ascending=False).map("{:.3f}".format)
        parts += [
            f"### {labels} labels a class: AUROC for a class without training rows",
            markdown(text.replace("nan", "").reset_index()),
        ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _spread(error: float, decimals: int = 3) -> str:
    return "" if pd.isna(error) else f" ± {error:.{decimals}f}"


def of_others(found: pd.DataFrame) -> list[str]:
    """Sentences about the methods and variants that the other tables choose."""
    sentences = []
    names = sorted(found["method"].unique())
    if found["table"].nunique() < 2:
        return []
    kinds = {
        "reference": [name for name in names if name in REFERENCES],
        "variant of gmmvae": [name for name in names if name not in REFERENCES],
    }
    for kind, methods in kinds.items():
        if len(methods) > 1:
            chosen = leaving_one_out(found, methods)
            counts = chosen["chosen"].value_counts()
            words = ", ".join(f"{name} ({count})" for name, count in counts.items())
            sentences.append(
                f"Leaving one table out, the {kind} that is the best on the others: "
                f"{chosen['accuracy'].mean():.4f}; {words}."
            )
    return sentences


def of_partly_measured(found: pd.DataFrame, part: pd.DataFrame) -> list[str]:
    """Lines about methods that were measured on some of the tables and draws only."""
    valid = comparable(found)
    best = part.groupby("method")["accuracy"].mean()
    best = best[[name for name in best.index if name in REFERENCES]]
    lines = []
    for name in sorted(set(valid["method"]) - set(part["method"])):
        both = shared(valid, [name, *best.index])
        if not len(both):
            continue
        means = mean_accuracies(both).mean()
        others = means[best.index].nlargest(2)
        beside = "".join(f"; {other} {mean:.4f}" for other, mean in others.items())
        cells = both[both["method"] == name]
        lines.append(
            f"{name}: {means[name]:.4f} on {cells['table'].nunique()} tables, {len(cells)} draws "
            f"in all{beside}."
        )
    return lines


def of_errors(found: pd.DataFrame) -> list[str]:
    """Lines about tables that a method refused."""
    failed = found[found["error"] != ""].groupby(["method", "table"])["error"]
    return [
        f"{method} on {table}, {len(errors)} draws: {errors.iloc[0]}"
        for (method, table), errors in failed
    ]
