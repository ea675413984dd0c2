"""Held-out ELBO, stability and components in use against the number of components."""

import pandas as pd
from matplotlib.figure import Figure

from pyro_gmmvae.figures.style import COLORS

PANELS = (
    ("elbo", "elbo_std", "held-out ELBO (nats per row)"),
    ("stability", None, "stability (ARI between seeds)"),
    ("used", "used_std", "components in use"),
)


def component_curves(table: pd.DataFrame, data: str) -> Figure:
    """Three panels over K, means with standard deviations over seeds.

    Args:
        table: a line per K with ``components``, ``elbo``, ``elbo_std``, ``stability``, ``used``
            and ``used_std``.
        data: name of the data, for the title.

    Returns:
        A figure that has no window and no global state (it is not pyplot's).
    """
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    for axis, (name, spread, title), color in zip(
        figure.subplots(1, 3), PANELS, COLORS[:3], strict=True
    ):
        values = table[name].astype(float)
        error = None if spread is None else table[spread].astype(float).fillna(0)
        axis.errorbar(table["components"], values, yerr=error, marker="o", color=color, capsize=3)
        axis.set(xlabel="components K", title=title)
        axis.set_xticks(table["components"])
        axis.grid(alpha=0.3)
        if name == "stability":
            axis.set_ylim(0, 1.02)
        if name == "used":
            axis.axline((0, 0), slope=1, color="#999999", linewidth=0.8, linestyle=":")
            axis.set(xlim=(0, None), ylim=(0, None))
    figure.suptitle(f"{data}: what each number of components gives")
    return figure
