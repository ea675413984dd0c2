"""What the components hold, and how certain the assignments of rows are."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from pyro_gmmvae.figures.cell_renderer import MAX_LETTERS, Array, renderer_of
from pyro_gmmvae.figures.cell_sheet import Sheet, SheetLabels
from pyro_gmmvae.figures.run_view import RunView
from pyro_gmmvae.figures.style import BLUE, SMALL, TEXT, TITLE, VERMILION, cut, new_figure

NEAREST, UNCERTAIN = 8, 5
MAX_COMPONENTS = 60
BINS = 40


def draw_components(view: RunView) -> Figure:
    """A line per component in use: its decoded mean, its nearest and its least certain rows.

    Nearest are the rows with the highest q(s|x), of equal ones those closest in z.
    """
    clusters = view.clusters
    used = clusters.used[:MAX_COMPONENTS]
    names = view.class_names
    members = [_members(view, k) for k in used]
    nearest, uncertain = (max(len(part) for part in parts) for parts in zip(*members, strict=True))
    groups = [(0, "decoded mean"), (1, "nearest")]
    groups += [(1 + nearest, "least certain")] if uncertain else []
    lines, captions, cells, numbers = [], [], [], []
    for line, (k, parts) in enumerate(zip(used, members, strict=True)):
        about = f"component {k}, " if names[k] != f"component_{k}" else ""
        lines.append(f"{names[k]}\n{about}{clusters.sizes[k] / len(clusters.ids):.1%}")
        texts = [""] * (1 + nearest + uncertain)
        for first, places in zip((1, 1 + nearest), parts, strict=True):
            numbers.append(clusters.pictured(places, k))
            for column, place in enumerate(places, first):
                cells.append((line, column))
                texts[column] = str(clusters.ids[place])
        captions.append(texts)
    dataset = clusters.rows.dataset
    means = clusters.prototypes(used)[1]
    rows = dataset.kind.featurize_array(dataset.x[np.concatenate(numbers).astype(np.int64)])
    unit, left_out = clusters.unit, len(clusters.used) - len(used)
    title = (
        f"{view.name}: {len(clusters.used)} of {len(names)} components in use, over "
        f"{len(clusters.ids)} {unit}s\nshare of {unit}s under each name, "
        f"{'row numbers' if unit == 'row' else 'sequences'} under each picture"
        f"{f'; the smallest {left_out} are left out' if left_out else ''}"
    )
    sheet = Sheet(
        renderer_of(view.run.schema.kind, means, rows),
        (len(used), 1 + nearest + uncertain),
        SheetLabels(title, lines, groups=groups, captions=captions),
    )
    corners = [sheet.corners[:, 0], sheet.corners[tuple(np.array(cells).T)]]
    sheet.draw(np.concatenate([means, rows]), np.concatenate(corners))
    return sheet.figure


def _members(view: RunView, component: int) -> tuple[Array, Array]:
    """The nearest and the least certain rows of a component, no row in both."""
    nearest, uncertain = view.clusters.members(component)
    nearest = nearest[:NEAREST]
    return nearest, uncertain[~np.isin(uncertain, nearest)][:UNCERTAIN]


def draw_entropy(view: RunView) -> Figure:
    """Entropy of q(s|x) over rows, and its mean over the rows of each component."""
    clusters = view.clusters
    return entropy_histogram(
        clusters.entropy,
        clusters.component,
        view.class_names,
        clusters.used[:MAX_COMPONENTS].tolist(),
        clusters.unit,
    )


def entropy_histogram(
    entropy: Array,
    components: Array,
    names: Sequence[str],
    numbers: Sequence[int],
    unit: str = "row",
) -> Figure:
    """Entropy of q(s|x) over rows with log K marked, and the mean of each component's rows.

    Args:
        entropy: (N,) in nats.
        components: (N,) the most probable component of each row.
        names: of the K components.
        numbers: the components to show, from the top.
        unit: the word for a row.
    """
    limit = math.log(len(names))
    figure = new_figure(9, max(3.2, 0.9 + 0.2 * len(numbers)))
    over_rows, per_component = figure.subplots(1, 2, width_ratios=[3, 2])
    highest = max(limit, float(entropy.max()), 1e-3)
    over_rows.hist(entropy, bins=BINS, range=(0, highest), color=BLUE)
    over_rows.set_yscale("log")
    over_rows.axvline(limit, color=VERMILION, linestyle="--", linewidth=1.2)
    over_rows.set_xlim(-0.03 * highest, 1.08 * highest)
    over_rows.annotate(
        f"log {len(names)}",
        (limit, 0.98),
        xycoords=("data", "axes fraction"),
        xytext=(4, 0),
        textcoords="offset points",
        rotation=90,
        va="top",
        fontsize=TEXT,
        color=VERMILION,
    )
    over_rows.set(xlabel="entropy of q(s|x), nats", ylabel=f"{unit}s")
    over_rows.set_title(
        f"Assignment entropy of {len(entropy)} {unit}s: mean {entropy.mean():.3f} nats",
        fontsize=TITLE,
    )
    means = [float(entropy[components == k].mean()) for k in numbers]
    places = range(len(numbers))
    per_component.barh(places, means, color=BLUE)
    # several components may share a name that was given
    shown = [cut(names[k], MAX_LETTERS) for k in numbers]
    shown = [
        name if name == f"component_{k}" else f"{name} ({k})"
        for name, k in zip(shown, numbers, strict=True)
    ]
    per_component.set_yticks(places, shown, fontsize=SMALL, parse_math=False)
    per_component.invert_yaxis()
    per_component.set(xlabel="mean entropy, nats")
    per_component.set_title("Mean per component, the largest first", fontsize=TITLE)
    return figure
