"""The latent explorer: a page in the browser, served to this machine alone."""

from collections.abc import Callable
from pathlib import Path

from pyro_gmmvae.errors import missing_extra
from pyro_gmmvae.runs import Run


def explore(
    path: Path | str,
    *,
    port: int = 5006,
    data: str | None = None,
    weights: str | None = None,
    device: str = "auto",
    ready: Callable[[str], None] = print,
) -> None:
    """Serve the explorer of a run on 127.0.0.1 until SIGINT or SIGTERM.

    Args:
        path: the run folder.
        port: where to listen; 0 for a free one.
        data: where the run's data is now, if it has moved.
        weights: "last" or "best", as for :meth:`Run.load`.
        device: where to compute.
        ready: called with the page's address once it can be opened.

    Raises:
        GMMVAEError: Bokeh is not installed, a run or data that can't be used, or a port that
            can't be had.
    """
    try:
        from pyro_gmmvae.explorer.server import listen, serve
    except ImportError as error:
        if (error.name or "").split(".")[0] not in ("bokeh", "tornado", "jinja2"):
            raise
        raise missing_extra("gmmvae explore", "Bokeh", "explore") from error
    from pyro_gmmvae.explorer.view import load_view

    with listen(port) as listening:
        view = load_view(Run.load(path, device=device, weights=weights), data)
        serve(view, listening, ready)


__all__ = ["explore"]
