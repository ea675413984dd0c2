"""The latent explorer: an interactive page in the browser, served only to this machine."""

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
        port: the port to listen on; 0 for a free one.
        data: the new path of the run's data, if it was moved.
        weights: "last" or "best", as for :meth:`Run.load`.
        device: the device to compute on.
        ready: called with the page's address once it can be opened.

    Raises:
        GMMVAEError: Bokeh is not installed, the run or its data can't be used, or the port is
            not available.
    """
    try:
        from pyro_gmmvae.explorer.server import bind, serve
    except ImportError as error:
        if (error.name or "").split(".")[0] not in ("bokeh", "tornado", "jinja2"):
            raise
        raise missing_extra("gmmvae explore", "Bokeh", "explore") from error
    from pyro_gmmvae.explorer.view import load_view

    with bind(port) as listening:
        view = load_view(Run.load(path, device=device, weights=weights), data)
        serve(view, listening, ready)


__all__ = ["explore"]
