"""Rows in the plane of z, with the components of p(z|s) as ellipses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from pyro_gmmvae.errors import missing_extra, unknown_name
from pyro_gmmvae.figures.run_view import RunView
from pyro_gmmvae.figures.style import (
    COLORS,
    GRAY,
    MARKERS,
    SMALL,
    TEXT,
    TITLE,
    cut,
    new_figure,
    plain,
    tidy,
)
from pyro_gmmvae.models.mixture import Mixture

MAX_COMPONENTS = 100
MAX_POINTS = 4000
MAX_IN_LEGEND = 30
MAX_LETTERS = 16
UNKNOWN = "#999999"
INK = "#111111"
BINS = 60
PROJECTIONS = ("pca", "umap")
HALO = withStroke(linewidth=2.2, foreground="white")
# of a name, relative to its mean, in the order in which they are tried
CORNERS = (("left", "bottom"), ("left", "top"), ("right", "bottom"), ("right", "top"))


def draw_latent(view: RunView) -> Figure:
    """Posterior means of z of test rows in two dimensions, with the components as ellipses.

    Rows have the colors of their classes where these are known, and else of their most probable
    components. Of several factors it is the z of the class.
    """
    mixture = view.model.mixture_priors.get("")  # None: p(z) is standard normal
    z = view.z if mixture is None else view.z[:, : view.model.latent_dim]
    groups, names, by = np.full(len(view.z), -1), [], ""
    if (view.y >= 0).any():
        groups, names, by = view.y, list(view.run.schema.classes), "class"
    elif view.model.components:
        groups, names, by = view.log_probs.argmax(1), view.class_names, "most probable component"
    is_shared = by != "class" or view.run.config.labels != 0  # component k is group k
    gaussians = _gaussians(view, mixture, len(names) if is_shared else 0)
    return latent_scatter(
        z, groups, names, gaussians, projection=view.projection, by=by, unit=view.unit
    )


@torch.no_grad()
def _gaussians(view: RunView, mixture: Mixture | None, shared: int) -> "Gaussians | None":
    """The components to show; the first ``shared`` have the colors of the groups of rows."""
    model = view.model
    if "z" not in model.latents and "z2" not in model.latents:
        return None  # the z of an autoencoder has no prior
    if mixture is None:
        d = view.z.shape[1]
        return Gaussians(["p(z)"], np.zeros((1, d)), np.eye(d)[None], np.array([-1]))
    numbers = view.components(MAX_COMPONENTS)[0]
    product = mixture(torch.eye(model.components).to(next(model.parameters()))[numbers])
    return Gaussians(
        [view.class_names[k] for k in numbers],
        product.mean.double().cpu().numpy(),
        product.covariance_matrix.double().cpu().numpy(),
        np.array([k if k < shared else -1 for k in numbers]),
    )


@dataclass(frozen=True)
class Gaussians:
    """Components of p(z|s), or the one p(z).

    Attributes:
        names: of the K components.
        loc: (K, d) means.
        covariance: (K, d, d).
        groups: (K,) the group of rows with the same color; -1: no group.
    """

    names: Sequence[str]
    loc: NDArray[Any]
    covariance: NDArray[Any]
    groups: NDArray[np.int64]

    @property
    def symbol(self) -> str:
        """The formula of their densities."""
        return "p(z|s)" if len(self.names) > 1 else "p(z)"

    @property
    def deviations(self) -> tuple[int, ...]:
        """Standard deviations of the ellipses; many outer ones would hide the rows."""
        return (1, 2) if len(self.names) <= MAX_IN_LEGEND else (1,)


def project(
    loc: NDArray[Any], covariance: NDArray[Any], axes: NDArray[Any], origin: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Gaussians in the plane: A (loc - origin) and A covariance A^T.

    Args:
        loc: (K, d).
        covariance: (K, d, d).
        axes: A (2, d).
        origin: (d,).

    Returns:
        Means (K, 2) and covariances (K, 2, 2).
    """
    return (loc - origin) @ axes.T, axes @ covariance @ axes.T


def latent_scatter(
    z: NDArray[Any],
    groups: NDArray[np.int64],
    names: Sequence[str],
    gaussians: Gaussians | None = None,
    *,
    projection: str = "pca",
    by: str = "class",
    unit: str = "row",
) -> Figure:
    """Posterior means of z in two dimensions, a color and marker per group of rows.

    For d = 1 it is a histogram with the densities of the components, for d = 2 z itself, and
    beyond that the first two principal components. A component is drawn as ellipses at 1 and 2
    standard deviations of its projected Gaussian (for more than 30 components only at 1). UMAP
    (arXiv:1802.03426) is not a linear map: its picture has no ellipses, only projected means.

    Args:
        z: (N, d) posterior means; rows that are not finite are left out and counted.
        groups: (N,) class or component of each row, -1 if it is not known.
        names: of the groups.
        gaussians: components of p(z|s); None: rows alone.
        projection: "pca" or "umap".
        by: the word for a group; "": rows have no groups.
        unit: the word for a row.

    Raises:
        GMMVAEError: an unknown projection, or UMAP without its package.
    """
    if projection not in PROJECTIONS:
        raise unknown_name("projection", projection, list(PROJECTIONS))
    z, finite = np.asarray(z, np.float64), np.isfinite(z).all(1)
    indices = np.flatnonzero(finite)
    if len(indices) > MAX_POINTS:
        indices = np.sort(np.random.default_rng(0).choice(indices, MAX_POINTS, replace=False))
    points, groups = z[indices], np.asarray(groups)[indices]
    counted = f"{len(indices)}{f' of {len(z)}' if len(indices) < len(z) else ''} {unit}s"
    lost = int((~finite).sum())
    counted += f" ({lost} without finite z left out)" if lost else ""
    figure = new_figure(8.2 if len(names) <= MAX_IN_LEGEND else 9.5, 6.4)
    axis = figure.subplots()
    tidy(axis)
    if z.shape[1] == 1:
        how = "Posterior means of z, d = 1"
        drawn = _histogram(axis, points[:, 0], groups, gaussians)
    elif projection == "umap" and len(points) > 3:
        how = "UMAP of posterior means of z"
        drawn = _mapped(axis, points, groups, names, gaussians)
    else:
        how = "Posterior means of z"
        drawn = _planar(axis, points, groups, names, gaussians)
    colored = f", colored by {by}" if by else "; no class is known"
    axis.set_title(f"{how}: {counted}{colored}{drawn}", fontsize=TITLE, loc="left")
    _legend(figure, groups, names, by)
    return figure


def color_of(group: int) -> str:
    """The color of a group of rows; gray if it is not known."""
    return UNKNOWN if group < 0 else COLORS[group % len(COLORS)]


def marker_of(group: int) -> str:
    """The marker of a group; with the color it distinguishes 84 groups."""
    return (
        "." if group < 0 else MARKERS[(group // len(COLORS) + group % len(COLORS)) % len(MARKERS)]
    )


def _planar(
    axis: Axes,
    points: NDArray[Any],
    groups: NDArray[np.int64],
    names: Sequence[str],
    gaussians: Gaussians | None,
) -> str:
    """Points and ellipses under one linear map; returns the end of the title."""
    d = points.shape[1]
    axes, origin, labels = np.eye(2, d), np.zeros(d), ["entry 1 of z", "entry 2 of z"]
    # two entries need no projection, and one row has no principal components
    if d > 2 and len(points) > 1:
        from sklearn.decomposition import PCA

        pca = PCA(2, random_state=0)
        # of rows that are all alike there is no variance to explain
        spread = points.var(0).sum()
        found = pca.fit(points) if spread > 0 else None
        if found is not None:
            axes, origin = found.components_, found.mean_
            labels = [
                f"principal component {n} ({share:.0%} of the variance)"
                for n, share in enumerate(found.explained_variance_ratio_, 1)
            ]
    flat = (points - origin) @ axes.T
    _scatter(axis, flat, groups)
    axis.set_aspect("equal", adjustable="datalim")
    axis.set_xlabel(labels[0], fontsize=TEXT)
    axis.set_ylabel(labels[1], fontsize=TEXT)
    if gaussians is None:
        _name_groups(axis, flat, groups, names)
        return ""
    loc, covariance = project(gaussians.loc, gaussians.covariance, axes, origin)
    for center, matrix, group in zip(loc, covariance, gaussians.groups, strict=True):
        for deviations in gaussians.deviations:
            axis.add_patch(_ellipse(center, matrix, deviations, int(group)))
    axis.autoscale_view()
    _name_means(axis, loc, gaussians)
    at = " and ".join(str(n) for n in gaussians.deviations)
    plural = "s" if len(gaussians.deviations) > 1 else ""
    return f"\nellipses: {gaussians.symbol} at {at} standard deviation{plural}{_unnamed(gaussians)}"


def _mapped(
    axis: Axes,
    points: NDArray[Any],
    groups: NDArray[np.int64],
    names: Sequence[str],
    gaussians: Gaussians | None,
) -> str:
    """Points and the components' means under UMAP; returns the end of the title."""
    try:
        from umap import UMAP
    except ImportError as error:
        raise missing_extra("--projection umap", "umap-learn", "umap") from error
    # with a seed it runs one job, and warns if another number is set
    mapping = UMAP(n_neighbors=min(15, len(points) - 1), init="pca", random_state=0, n_jobs=1)
    flat = np.asarray(mapping.fit_transform(points))
    _scatter(axis, flat, groups)
    axis.set_xlabel("UMAP 1 (no unit)", fontsize=TEXT)
    axis.set_ylabel("UMAP 2 (no unit)", fontsize=TEXT)
    if gaussians is None:
        _name_groups(axis, flat, groups, names)
        return ""
    _name_means(axis, np.asarray(mapping.transform(gaussians.loc)), gaussians)
    crosses = f"crosses: means of {gaussians.symbol}"
    return f"\n{crosses}; no ellipses, as the map is not linear{_unnamed(gaussians)}"


def _histogram(
    axis: Axes,
    values: NDArray[Any],
    groups: NDArray[np.int64],
    gaussians: Gaussians | None,
) -> str:
    """Rows per bin of a z of one dimension, and the densities of the components; returns the
    end of the title."""
    every = [values]
    if gaussians is not None:
        deviation = np.sqrt(gaussians.covariance[:, 0, 0])
        every += [gaussians.loc[:, 0] + sign * 3 * deviation for sign in (-1, 1)]
    ends = np.concatenate(every)
    low, high = (float(ends.min()), float(ends.max())) if len(ends) else (0.0, 1.0)
    high = high if high > low else low + 1.0
    present = np.unique(groups)
    if len(present):
        axis.hist(
            [values[groups == group] for group in present],
            bins=BINS,
            range=(low, high),
            stacked=True,
            color=[color_of(int(group)) for group in present],
            alpha=0.6,
        )
    axis.set_xlabel("z", fontsize=TEXT)
    axis.set_ylabel("rows per bin", fontsize=TEXT)
    if gaussians is None:
        return ""
    grid = np.linspace(low, high, 500)
    tops = []
    for k, group in enumerate(gaussians.groups):
        rows = int((groups == group).sum()) if group >= 0 else len(values)
        scaled = (grid - gaussians.loc[k, 0]) / deviation[k]
        peak = rows * (high - low) / BINS / (deviation[k] * np.sqrt(2 * np.pi))
        color = color_of(int(group)) if group >= 0 else GRAY
        axis.plot(grid, peak * np.exp(-0.5 * scaled**2), color=color, linewidth=1.3)
        tops.append((gaussians.loc[k, 0], peak))
    _name_means(axis, np.array(tops), gaussians)
    return f"\nlines: {gaussians.symbol}, the area that of the rows of its color"


def _scatter(axis: Axes, flat: NDArray[Any], groups: NDArray[np.int64]) -> None:
    size = float(np.clip(9000 / max(len(flat), 1), 5, 26))
    for group in np.unique(groups):
        mine = flat[groups == group]
        axis.scatter(
            mine[:, 0],
            mine[:, 1],
            s=size,
            marker=marker_of(int(group)),
            color=color_of(int(group)),
            alpha=0.55,
            linewidths=0,
            zorder=1 if group < 0 else 2,
            rasterized=True,  # thousands of markers make a slow PDF
        )


def _ellipse(
    center: NDArray[Any], covariance: NDArray[Any], deviations: int, group: int
) -> Ellipse:
    """All points at a Mahalanobis distance of ``deviations`` from the center."""
    variances, directions = np.linalg.eigh(covariance)
    short, long = 2 * deviations * np.sqrt(np.clip(variances, 0, None))
    return Ellipse(
        (float(center[0]), float(center[1])),
        width=float(long),
        height=float(short),
        angle=float(np.degrees(np.arctan2(directions[1, 1], directions[0, 1]))),
        fill=False,
        edgecolor=color_of(group) if group >= 0 else GRAY,
        linewidth=1.4 if deviations == 1 else 0.8,
        linestyle="-" if deviations == 1 else (0, (4, 2)),
        zorder=3,
    )


def _name_means(axis: Axes, centers: NDArray[Any], gaussians: Gaussians) -> None:
    axis.plot(*centers.T, linestyle="", marker="+", color=INK, markersize=6, zorder=4)
    _write(axis, centers, gaussians.names)


def _name_groups(
    axis: Axes, flat: NDArray[Any], groups: NDArray[np.int64], names: Sequence[str]
) -> None:
    """Write the name of each group at the median of its rows."""
    present = np.unique(groups[groups >= 0])
    centers = [np.median(flat[groups == group], axis=0) for group in present]
    _write(axis, np.array(centers).reshape(-1, 2), [names[group] for group in present])


def _unnamed(gaussians: Gaussians) -> str:
    few = len(gaussians.names) <= MAX_IN_LEGEND
    return "" if few else "; names that would cover others are left out"


def _write(axis: Axes, places: NDArray[Any], names: Sequence[str]) -> None:
    """Write names beside places, in a free corner; many names are left out if none is free."""
    size = TEXT if len(names) <= MAX_IN_LEGEND else SMALL - 1
    figure = axis.get_figure(root=True)
    assert figure is not None
    # points per unit of data, approximately: the layout is made later
    wide, high = 72 * 0.8 * figure.get_size_inches()
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    unit = np.array([wide / (right - left), high / (top - bottom)])
    taken: list[NDArray[Any]] = []
    for place, name in zip(places, names, strict=True):
        text = cut(str(name), MAX_LETTERS)
        letters = np.array([0.62 * size * len(text), 1.1 * size])
        for corner in CORNERS:
            signs = np.array([1 if corner[0] == "left" else -1, 1 if corner[1] == "bottom" else -1])
            ends = np.sort([place * unit + signs * 3, place * unit + signs * (3 + letters)], axis=0)
            if not any((ends[0] < box[1]).all() and (box[0] < ends[1]).all() for box in taken):
                break
        else:
            if len(names) > MAX_IN_LEGEND:
                continue
            corner, signs = CORNERS[0], np.ones(2)
        taken.append(ends)
        axis.annotate(
            plain(text),
            (float(place[0]), float(place[1])),
            xytext=(3 * int(signs[0]), 3 * int(signs[1])),
            textcoords="offset points",
            ha=corner[0],
            va=corner[1],
            fontsize=size,
            color=INK,
            path_effects=[HALO],
            zorder=5,
        )


def _legend(figure: Figure, groups: NDArray[np.int64], names: Sequence[str], by: str) -> None:
    present = [int(group) for group in np.unique(groups) if group >= 0]
    if not present or len(present) > MAX_IN_LEGEND:
        return
    shown = [*present, *([-1] if (groups < 0).any() else [])]
    handles = [
        Line2D([], [], linestyle="", marker=marker_of(g), color=color_of(g), markersize=5)
        for g in shown
    ]
    texts = [plain(cut(str(names[g]), MAX_LETTERS)) if g >= 0 else "not known" for g in shown]
    figure.legend(
        handles,
        texts,
        title=by,
        loc="outside right upper",
        fontsize=TEXT,
        title_fontsize=TEXT,
        labelcolor=GRAY,
        frameon=False,
    )
