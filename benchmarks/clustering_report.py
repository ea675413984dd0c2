"""Tables and plots of the clustering benchmark, in a folder per data set."""

from pathlib import Path
from typing import Any

import pandas as pd
from clustering_lines import MAIN, UNEQUAL, WEIGHTS, ablations
from clustering_references import REFERENCES
from figures.cluster_curves import cluster_dots, cluster_tradeoff
from table_notes import note_of_marks, public_command

from pyro_gmmvae.runs import default_config
from pyro_gmmvae.sweeps import write_tables

PUBLISHED = Path(__file__).with_name("published_clustering.csv")
PARTS = ("main", "ablation", "unequal", "references")
NUMBERS = {
    "accuracy of windows": 4,
    "NMI": 4,
    "ARI": 4,
    "used": 1,
    "ELBO": 2,
    "ELBO - alone": 2,
    "seconds": 0,
}


def report(table: pd.DataFrame, out: Path, arguments: list[str]) -> None:
    """Write OUT/DATA/table.md, table.tex, lines.png and tradeoff.png of every data set.

    Args:
        table: the rows of all data sets; ``variant`` is their line, ``table`` its part.
        out: the folder of the results.
        arguments: of the command that was given.
    """
    rows = _numbers(_newest(table))
    for data, mine in rows.groupby("data", sort=False):
        folder = out / str(data)
        folder.mkdir(parents=True, exist_ok=True)
        text = pd.concat([_text(summarize(mine)), _published(str(data))]).fillna("")
        empty = [name for name in text.columns if (text[name] == "").all()]
        notes = [*note_of_marks(text), *_notes(mine, arguments)]
        write_tables(text.drop(columns=empty), folder, notes)
        title = f"{data}, no labels"
        cluster_dots(mine, title).savefig(folder / "lines.png", dpi=150)
        weighed = mine[mine["line"].isin(list(WEIGHTS)) & mine["elbo"].notna()]
        if weighed["line"].nunique() > 1:
            weighed = weighed.assign(
                weight=weighed["line"].map({k: float(v) for k, v in WEIGHTS.items()}),
                name=weighed["line"].map({k: str(v) for k, v in WEIGHTS.items()}),
            )
            cluster_tradeoff(weighed, title).savefig(folder / "tradeoff.png", dpi=150)


def summarize(rows: pd.DataFrame) -> pd.DataFrame:
    """A line per line of settings: means over seeds, the worst and the best seed's accuracy."""
    alone = rows[rows["line"] == "ELBO alone"].set_index("seed")["elbo"]
    found = []
    for (part, line), mine in rows.groupby(["part", "line"], sort=False):
        values, elbo = mine["accuracy"], mine.set_index("seed")["elbo"]
        found.append(
            {
                "part": part,
                "line": line,
                "mean": values.mean(),
                "std": values.std(),
                "worst": values.min(),
                "best": values.max(),
                "accuracy of windows": mine["windows"].mean(),
                "NMI": mine["nmi"].mean(),
                "ARI": mine["ari"].mean(),
                "used": mine["components_used"].mean(),
                "ELBO": elbo.mean(),
                # of the seeds that both have
                "ELBO - alone": (elbo - alone).mean() if line != "ELBO alone" else None,
                "seconds": mine["seconds"].mean(),
                "n": len(mine),
            }
        )
    return pd.DataFrame(found)


def _newest(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of each line's last settings, in the order of the lines."""
    table = table[table["variant"] != ""]
    last = table.groupby(["data", "variant"])["config"].transform("last")
    names = [*MAIN, *ablations(default_config("digits", {"preset": "cluster"})), *UNEQUAL]
    places = {name: number for number, name in enumerate([*names, *REFERENCES])}
    order = {"table": {name: number for number, name in enumerate(PARTS)}, "variant": places}
    return table[table["config"] == last].sort_values(
        ["data", "table", "variant", "seed"],
        key=lambda column: column.map(order[column.name]) if column.name in order else column,
    )


def _numbers(table: pd.DataFrame) -> pd.DataFrame:
    """The numbers of tables and plots; for sequences, the accuracy of sequences."""
    wanted = ["sequence_cluster_accuracy", "cluster_accuracy", "components_used", "elbo"]
    full = table.reindex(columns=table.columns.union(wanted, sort=False))
    has_sequences = full["sequence_cluster_accuracy"].notna()
    return full.assign(
        part=full["table"],
        line=full["variant"],
        accuracy=full["sequence_cluster_accuracy"].fillna(full["cluster_accuracy"]).astype(float),
        windows=full["cluster_accuracy"].where(has_sequences),
        elbo=full["elbo"].astype(float),
    )


def _text(summary: pd.DataFrame) -> pd.DataFrame:
    """Format the summary as text."""
    text = summary[["part", "line"]].copy()
    spread = ["" if pd.isna(std) else f" ± {std:.4f}" for std in summary["std"]]
    text["accuracy"] = [f"{m:.4f}{s}" for m, s in zip(summary["mean"], spread, strict=True)]
    for name, digits in {"worst": 4, "best": 4, **NUMBERS}.items():
        text[name] = ["" if pd.isna(v) else f"{v:.{digits}f}" for v in summary[name]]
    return text.assign(n=summary["n"].astype(str))


def _published(data: str) -> pd.DataFrame:
    """Published figures as lines of the table: a mean, or the best of several runs."""
    known = pd.read_csv(PUBLISHED)
    lines: list[dict[str, Any]] = []
    for row in known[known["data"] == data].to_dict("records"):
        where = "best" if row["protocol"].startswith("best") else "accuracy"
        line = {"part": "published", "line": row["method"], where: f"{row['accuracy'] / 100:.4f}"}
        lines.append(line | {"protocol": f"{row['protocol']}; {row['source']}"})
    return pd.DataFrame(lines)


def _notes(rows: pd.DataFrame, arguments: list[str]) -> list[str]:
    """Notes below a table: the metrics, the machine, the command."""
    fits = rows[rows["steps"].notna()] if "steps" in rows else rows
    places = fits[["device", "processor", "threads"]].drop_duplicates().dropna()
    machines = [f"{d} ({p}), {int(t)} thread(s)" for d, p, t in places.itertuples(index=False)]
    versions = rows["versions"].dropna().unique()
    command = public_command("clustering.py", arguments)
    sequences = (
        "Accuracy is that of whole sequences, whose windows are pooled; NMI and ARI are those of "
        "windows. "
        if rows["windows"].notna().any()
        else ""
    )
    return [
        "Accuracy of test rows under the best one-to-one naming of components by classes; mean "
        "and standard deviation, worst and best over seeds of weights and batches. No fit saw a "
        f"label. {sequences}ELBO: nats per test row, without the terms on assignments; then the "
        'mean difference to "ELBO alone". used: components that rows are assigned to. Seconds: '
        "training (what init takes is a part of it) and evaluation.",
        f"{'; '.join(machines)}. pyro_gmmvae={rows['version'].iloc[-1]} "
        f"{' '.join(sorted({word for text in versions for word in text.split()}))}.",
        f"Made by `{command}`.",
    ]
