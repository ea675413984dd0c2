"""Training curves: terms of the ELBO, accuracy and schedules over the epochs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pyro_gmmvae.figures.run_view import NotApplicable, RunView
from pyro_gmmvae.figures.style import COLORS, SMALL, STYLES, TEXT, TITLE, new_figure, tidy
from pyro_gmmvae.key_types import Schedule

PANEL_INCHES = (3.5, 2.5)
MAX_ACROSS = 3
MAX_MARKED_EPOCHS = 30
BEGINNING = 0.1  # share of the epochs that may lie outside a panel if they flatten the rest
FLATTENED = 4.0  # times the range of later epochs
NOT_TERMS = ("epoch", "step", "loss", "seconds", "learning_rate", "elbo", "log_px", "accuracy")


def draw_training(view: RunView) -> Figure:
    """Every column of ``history.csv``, and the schedules that moved.

    Raises:
        NotApplicable: the run has no readable ``history.csv``.
    """
    history, config = view.history, view.run.config
    seconds = history["seconds"].max() if "seconds" in history else float("nan")
    time = f", {seconds:.0f} s" if np.isfinite(seconds) else ""
    epochs = int(history["epoch"].max())
    title = (
        f"{view.name}: {epochs} epoch{'s' if epochs > 1 else ''} of {config.model} on "
        f"{config.data}{time}"
    )
    # without validation rows Validation takes training rows, without dropout and augmentation
    rows = "validation" if view.has_validation else "training, after the epoch"
    return training_curves(history, title, _schedules(view), validation=rows)


def _schedules(view: RunView) -> dict[str, list[float]]:
    """Values at the end of each epoch of the schedules that moved, by name."""
    moved = {}
    sites = view.model.latents
    if "step" not in view.history:
        return {}
    for key, schedule in view.run.config:
        if not isinstance(schedule, Schedule):
            continue
        is_weight = key.startswith("kl_")
        if is_weight and key.removeprefix("kl_") not in sites:
            continue  # of a preset that several models share
        steps = view.history["step"].fillna(0).clip(0)
        values = [schedule(int(step), step / max(1, steps.max())) for step in steps]
        if len(set(values)) > 1:
            name = key.replace("_", " ")
            moved[f"weight of KL({key[3:]})" if is_weight else name] = values
    return moved


@dataclass
class Panel:
    """One quantity, or several of one unit."""

    title: str
    unit: str
    curves: list[tuple[str, str, int, str]] = field(default_factory=list)

    def add(self, column: str, label: str, color: int, style: str = "-") -> None:
        """Add a column of the table, with its label, number of color and line style."""
        self.curves.append((column, label, color, style))


def training_curves(
    history: pd.DataFrame,
    title: str,
    schedules: Mapping[str, Sequence[float]] | None = None,
    *,
    validation: str = "validation",
) -> Figure:
    """A panel for each: ELBO, reconstruction, KL terms, accuracy, further terms, schedules.

    Args:
        history: a line per epoch with ``epoch`` and any of ``elbo``, ``log_px``, ``kl_*``,
            ``accuracy``, further terms, ``learning_rate``, and the same of validation rows
            under names that begin with ``val_``. Columns that exist are drawn.
        title: above the panels.
        schedules: values at each epoch of the schedules that moved, by name.
        validation: the word for the rows of ``val_``.

    Raises:
        NotApplicable: none of these columns exists.
    """
    moved = {name: np.asarray(values, float) for name, values in (schedules or {}).items()}
    table = history.assign(**{f"schedule {name}": values for name, values in moved.items()})
    panels = [panel for panel in _panels(table, list(moved), validation) if panel.curves]
    if not panels:
        raise NotApplicable("history.csv has no column to draw")
    across = min(len(panels), MAX_ACROSS)
    down = -(-len(panels) // across)
    figure = new_figure(PANEL_INCHES[0] * across, PANEL_INCHES[1] * down + 0.4)
    grid = figure.subplots(down, across, squeeze=False)
    for axes, panel in zip(grid.flat, panels, strict=False):
        _draw(axes, table, panel)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    figure.suptitle(title, fontsize=TITLE, x=0.01, ha="left", parse_math=False)
    return figure


def _panels(table: pd.DataFrame, moved: Sequence[str], validation: str) -> list[Panel]:
    terms = [c for c in table.columns if not c.startswith(("val_", "schedule ")) and c != "elbo"]
    terms += [c[4:] for c in table.columns if c.startswith("val_") and c[4:] not in terms]
    kl = [term for term in terms if term.startswith("kl_")]
    others = [term for term in terms if term not in (*kl, *NOT_TERMS)]
    # a term that is not used (classification without labels) is 0 in every epoch
    others = [t for t in others if table.filter([t, f"val_{t}"]).fillna(0).any(axis=None)]
    elbo = Panel("ELBO", "nats per row")
    reconstruction = Panel("Reconstruction, E[log p(x|latents)]", "nats per row")
    divergence = Panel("KL terms", "nats per row")
    right = Panel("Accuracy", "share of rows")
    further = Panel("Further terms of the loss", "nats per row, unweighted")
    for panel, names in (
        (elbo, ["elbo"]),
        (reconstruction, ["log_px"]),
        (divergence, kl),
        (right, ["accuracy"]),
        (further, others),
    ):
        for number, name in enumerate(names):
            term = "" if len(names) == 1 else f"{_label(name)}, "
            alone = 0 if len(names) == 1 else number
            if table.get(name, pd.Series()).notna().any():
                panel.add(name, f"{term}training", alone)
            if table.get(f"val_{name}", pd.Series()).notna().any():
                color = 1 if len(names) == 1 else number
                panel.add(f"val_{name}", f"{term}{validation}", color, "--")
    if len(others) == 1:
        further.title = f"{_label(others[0])[:1].upper()}{_label(others[0])[1:]} term of the loss"
    schedules = Panel("Schedules", "value")
    if len(moved) == 1:
        schedules.title = f"Schedule: {moved[0]}"
    for number, name in enumerate(moved):
        schedules.add(f"schedule {name}", name, number, STYLES[number % len(STYLES)])
    rate = Panel("Learning rate of Adam", "per step")
    if table.get("learning_rate", pd.Series()).nunique() > 1:
        rate.add("learning_rate", "learning rate", 0)
    return [elbo, reconstruction, divergence, right, further, schedules, rate]


def _label(name: str) -> str:
    """``kl_z`` -> ``KL(z)``, ``prior_temperature`` -> ``prior temperature``."""
    if name.startswith("kl_"):
        return f"KL({name[3:]})"
    return name.replace("_", " ")


def _draw(axes: Axes, table: pd.DataFrame, panel: Panel) -> None:
    mark = "." if len(table) <= MAX_MARKED_EPOCHS else ""
    for column, label, color, style in panel.curves:
        axes.plot(
            table["epoch"],
            table[column],
            style,
            color=COLORS[color % len(COLORS)],
            linewidth=1.3,
            marker=mark,
            markersize=4,
            label=label,
        )
    axes.set_title(panel.title, fontsize=TEXT, loc="left")
    axes.set(xlabel="epoch", ylabel=panel.unit)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    tidy(axes)
    _zoom(axes, table[[column for column, *_ in panel.curves]].to_numpy(float))
    if len(panel.curves) > 1:
        axes.legend(fontsize=SMALL, frameon=False, handlelength=1.6)


def _zoom(axes: Axes, values: np.ndarray) -> None:
    """Leave the beginning out if it would flatten all later epochs into a straight line."""
    finite = values[np.isfinite(values)]
    later = values[round(BEGINNING * len(values)) :]
    later = later[np.isfinite(later)]
    if len(finite) and len(later):
        low, high = later.min(), later.max()
        if np.ptp(finite) > FLATTENED * (high - low) > 0:
            margin = 0.08 * (high - low)
            axes.set_ylim(low - margin, high + margin)
