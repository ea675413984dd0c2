"""Figures of runs and of arrays: matplotlib figures, without window and without pyplot."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyro_gmmvae.figures.all import PICTURES, draw_all
    from pyro_gmmvae.figures.cell_renderer import CellRenderer, renderer_of
    from pyro_gmmvae.figures.run_view import NotApplicable, RunView
    from pyro_gmmvae.figures.samples import sample_grid
    from pyro_gmmvae.figures.sweep_plots import component_curves, dot_plot, metric_limits

__all__ = [
    "PICTURES",
    "CellRenderer",
    "NotApplicable",
    "RunView",
    "component_curves",
    "dot_plot",
    "draw_all",
    "metric_limits",
    "renderer_of",
    "sample_grid",
]

MODULES = {
    "PICTURES": "all",
    "CellRenderer": "cell_renderer",
    "NotApplicable": "run_view",
    "RunView": "run_view",
    "component_curves": "sweep_plots",
    "dot_plot": "sweep_plots",
    "metric_limits": "sweep_plots",
    "draw_all": "all",
    "renderer_of": "cell_renderer",
    "sample_grid": "samples",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that a command loads only what it needs."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{MODULES[name]}")
    return getattr(module, name)
