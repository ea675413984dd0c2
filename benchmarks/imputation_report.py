"""The summary of the benchmark of imputation: table.md of a folder of results."""

from pathlib import Path

import pandas as pd

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import atomic_write, read_json
from pyro_gmmvae.sweeps.tables import markdown

OURS, RIVAL = "gmmvae", "iterative"
CELL = ["table", "mechanism", "share"]
TITLES = {"random": "hidden at random", "rank": "hidden by the rank of another column"}


def read_errors(out: Path) -> pd.DataFrame:
    """A row for each table, share, mechanism and method.

    Raises:
        GMMVAEError: a folder without results.
    """
    rows = [
        {key: file[key] for key in CELL} | {"method": method} | measured
        for file in map(read_json, sorted(out.glob("*.json")))
        for method, measured in file["measured"].items()
    ]
    if not rows:
        raise GMMVAEError(f"{out} has no results; measure some first")
    return pd.DataFrame(rows)


def report(out: Path) -> None:
    """Write OUT/table.md."""
    atomic_write(out / "table.md", page(read_errors(out)).encode())


def page(found: pd.DataFrame) -> str:
    """Means over the tables that all methods have, wins, and each table, in Markdown."""
    wide = found.pivot_table(index=CELL, columns="method", values="error")
    methods = [name for name in wide.columns if not name.startswith(f"{OURS}:")]
    shared = wide[methods].dropna()
    parts = []
    if {OURS, RIVAL} <= set(methods):
        both = wide[[OURS, RIVAL]].dropna()
        wins = int((both[OURS] < both[RIVAL]).sum())
        parts.append(
            f"gmmvae has a lower error than the iterative imputer in {wins} of {len(both)} cases "
            "of a table, a share and a mechanism."
        )
    means = shared.groupby(["mechanism", "share"]).mean()
    means.insert(0, "tables", shared.groupby(["mechanism", "share"]).size())
    parts += ["Mean error over the tables:", markdown(_text(means.reset_index()))]
    for mechanism, part in wide.groupby("mechanism"):
        lines = part.droplevel("mechanism").reset_index()
        title = TITLES.get(str(mechanism), str(mechanism))
        parts += [f"Cells {title}:", markdown(_text(lines))]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _text(frame: pd.DataFrame) -> pd.DataFrame:
    """Shares in percent, errors with three digits, the lowest of a line in bold."""
    text = frame.astype(object)
    errors = [name for name in frame.columns if name not in (*CELL, "tables")]
    for row in frame.index:
        lowest = frame.loc[row, errors].min()
        for name in errors:
            value = frame.loc[row, name]
            shown = "" if pd.isna(value) else f"{value:.3f}".removeprefix("0")
            text.loc[row, name] = f"**{shown}**" if value == lowest else shown
        text.loc[row, "share"] = f"{frame.loc[row, 'share']:.0%}"
    return text
