"""Figures: one file per picture; each function returns a matplotlib figure, drawn headless."""

from pyro_gmmvae.figures.cluster_curves import cluster_dots, cluster_tradeoff
from pyro_gmmvae.figures.component_curves import component_curves
from pyro_gmmvae.figures.dot_plot import dot_plot
from pyro_gmmvae.figures.error_curves import error_curves
from pyro_gmmvae.figures.grid import sample_grid

__all__ = [
    "cluster_dots",
    "cluster_tradeoff",
    "component_curves",
    "dot_plot",
    "error_curves",
    "sample_grid",
]
