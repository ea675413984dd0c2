"""Figures of runs and of arrays: matplotlib figures, without window and without pyplot."""

from typing import TYPE_CHECKING

from pyro_gmmvae.lazy import lazy_names

if TYPE_CHECKING:
    from pyro_gmmvae.figures.all import PICTURES, draw_all
    from pyro_gmmvae.figures.cell_renderer import CellRenderer, renderer_of
    from pyro_gmmvae.figures.run_view import NotApplicable, RunView
    from pyro_gmmvae.figures.samples import sample_grid
    from pyro_gmmvae.figures.sweep_plots import (
        component_curves,
        dot_plot,
        metric_limits,
        rate_distortion_plane,
    )
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "PICTURES",
    "CellRenderer",
    "NotApplicable",
    "RunView",
    "component_curves",
    "dot_plot",
    "draw_all",
    "metric_limits",
    "rate_distortion_plane",
    "renderer_of",
    "sample_grid",
]
