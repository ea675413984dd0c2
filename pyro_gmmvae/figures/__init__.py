"""Figures: one file per picture; each function returns a matplotlib figure, drawn headless."""

from pyro_gmmvae.figures.error_curves import error_curves
from pyro_gmmvae.figures.grid import sample_grid

__all__ = ["error_curves", "sample_grid"]
