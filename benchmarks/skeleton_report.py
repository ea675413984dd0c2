"""Tables and plots of the skeleton benchmark."""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from table_notes import public_command

from pyro_gmmvae.files import atomic_write

# at least, aim: sequences right, as set before anything was measured
TARGETS = {
    ("main", "ucalgary-gait", "repeat", "all"): ".975 (.99)",
    ("few labels", "ucalgary-gait", "repeat", "27"): ".93 (.96)",
    ("main", "utd-mhad", "trials", "all"): ".98 (.99)",
    ("main", "utd-mhad", "actions", "all"): ".55 (.65)",
    ("main", "japanese-vowels", "fixed", "all"): ".99 (.997)",
}
TITLES = {
    "main": "All training sequences labelled",
    "few labels": "27 or 54 of 81 training sequences labelled (one or two a person)",
    "family": "The family of models, one labelled sequence a person",
    "networks": "Networks on windows of 12 frames, frame by frame, 10 epochs, all labelled",
    "joints": "Joints lost over whole test sequences",
    "strangers": "Five people without labels; stranger_*: detecting and clustering their sequences",
}
GROUP = ["table", "data", "split", "labels", "model", "variant"]


def report(table: pd.DataFrame, out: Path) -> None:
    """Write table.md, and joints.png if its curve was measured."""
    lines = []
    for name, title in TITLES.items():
        rows = table[table["table"] == name]
        if len(rows):
            lines += [f"## {title}", "", _markdown(_summary(rows)), ""]
    command = public_command("skeletons.py", _of_all_tables(sys.argv[1:]))
    about = table.iloc[-1]
    lines += [
        "accuracy: share of test sequences right, windows pooled; window_accuracy: of windows. "
        "Mean and standard deviation over seeds (weights, batches, label draw); with all labels "
        "scikit-learn's references draw nothing. The data sets' presets were chosen on validation "
        "sequences; these fits then use all training sequences. transductive: the fit sees the "
        "test sequences too, without their labels.",
        "",
        f"{about['device']} ({about['processor']}), {int(about['threads'])} thread(s). "
        f"pyro_gmmvae={about['version']} {about['versions']}.",
        "",
        f"Made by `{command}`.",
    ]
    atomic_write(out / "table.md", "\n".join(lines).encode())
    if (table["table"] == "joints").any():
        _plot_joints(table[table["table"] == "joints"], out / "joints.png")
    if (table["table"] == "few labels").any():
        _plot_few_labels(table, out / "few-labels.png")


def _summary(rows: pd.DataFrame) -> pd.DataFrame:
    numbers = ["accuracy", "window_accuracy", "elbo", "seconds"]
    numbers += [c for c in rows.columns if c.startswith("stranger_")]
    lines = []
    for key, part in rows.groupby(GROUP, sort=False, dropna=False):
        line = dict(zip(GROUP, key, strict=True))
        for name in numbers:
            values = part[name].dropna().astype(float) if name in part else pd.Series(dtype=float)
            line[name] = _with_spread(values)
        line["n"] = str(len(part))
        target = TARGETS.get((line["table"], line["data"], line["split"], line["labels"]), "")
        line["at least (aim)"] = target if line["model"] == "gmmvae" and not line["variant"] else ""
        lines.append(line)
    summary = pd.DataFrame(lines).drop(columns="table")
    empty = [c for c in summary.columns if (summary[c] == "").all()]
    return summary.drop(columns=empty)


def _with_spread(values: pd.Series) -> str:
    if not len(values):
        return ""
    digits = 4 if abs(values.mean()) < 2 else 1
    spread = f" ± {values.std():.{digits}f}" if len(values) > 1 and digits == 4 else ""
    return f"{values.mean():.{digits}f}{spread}"


def _markdown(table: pd.DataFrame) -> str:
    lines = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _plot_few_labels(table: pd.DataFrame, file: Path) -> None:
    """Plot accuracy against the labelled sequences per person, of three."""
    rows = table[(table["data"] == "ucalgary-gait") & table["table"].isin(["main", "few labels"])]
    rows = rows.assign(sequences=rows["labels"].map({"27": 1, "54": 2, "all": 3}))
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for model, variant, name in (
        ("gmmvae", "", "GMM-VAE"),
        ("gmmvae", "no pseudo-labels", "without pseudo-labels"),
        ("gmmvae", "labelled sequences only", "labelled sequences only"),
        ("LDA", "windows, pooled", "LDA on windows, pooled"),
        ("1-NN", "windows, pooled", "1-NN on windows, pooled"),
    ):
        mine = rows[(rows["model"] == model) & (rows["variant"] == variant)]
        _draw(axes, mine, "sequences", name)
    axes.set(
        xlabel="labelled sequences a person (of three)",
        ylabel="test sequences right",
        xticks=[1, 2, 3],
        title="UCalgary gait, runs 1, 3, 5 -> 2, 4, 6",
    )
    axes.legend(frameon=False)
    figure.savefig(file, dpi=150)
    plt.close(figure)


def _plot_joints(rows: pd.DataFrame, file: Path) -> None:
    """Plot accuracy against the share of lost joints."""
    parts = rows["variant"].str.rsplit(", ", n=1, expand=True)
    curves = rows.assign(way=parts[0], share=parts[1].str.rstrip("%").astype(float))
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for way, curve in curves.groupby("way"):
        _draw(axes, curve, "share", str(way))
    axes.set(
        xlabel="joints lost over whole test sequences (%)",
        ylabel="test sequences right",
        ylim=(0, 1.02),
        title="UCalgary gait, runs 1, 3, 5 -> 2, 4, 6",
    )
    axes.legend(frameon=False, loc="upper right", bbox_to_anchor=(1, 0.86))
    figure.savefig(file, dpi=150)
    plt.close(figure)


def _draw(axes: Axes, rows: pd.DataFrame, along: str, name: str) -> None:
    """Mean and standard deviation of the accuracy along a column."""
    grouped = rows.groupby(along)["accuracy"]
    mean, spread = grouped.mean(), grouped.std().fillna(0)
    axes.errorbar(mean.index, mean, spread, marker="o", capsize=3, label=name)


def _of_all_tables(arguments: list[str]) -> list[str]:
    """The arguments that make all tables."""
    shown = list(arguments)
    if "--tables" in shown:
        at = shown.index("--tables")
        del shown[at : at + 2]
    return shown
