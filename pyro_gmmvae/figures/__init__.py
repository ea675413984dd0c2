"""Figures: one file per picture; each function returns a matplotlib figure, drawn headless."""

from pyro_gmmvae.figures.grid import sample_grid

__all__ = ["sample_grid"]
