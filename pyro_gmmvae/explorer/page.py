"""One browser tab: its layout, its state, and the effects of its controls."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from bokeh.core.templates import get_env
from bokeh.document import Document
from bokeh.events import DocumentReady
from bokeh.layouts import column

from pyro_gmmvae.explorer.controls import Controls
from pyro_gmmvae.explorer.drawing import NearestRows, row_plot
from pyro_gmmvae.explorer.map import LatentMap
from pyro_gmmvae.explorer.space import Decoded, LatentPoint
from pyro_gmmvae.explorer.view import ExplorerView
from pyro_gmmvae.explorer.widgets import name_sliders, short_name

Array = np.ndarray[Any, Any]
HOSTS = ("127.0.0.1", "localhost", "[::1]")
TEMPLATE = Path(__file__).with_name("page.html")

Request = TypeVar("Request")
Result = TypeVar("Result")
Move = tuple[LatentPoint, object]


class LatestOnly(Generic[Request, Result]):
    """A worker for requests that arrive faster than they can be computed.

    It computes one request at a time; of those that wait meanwhile, only the latest.

    Args:
        pool: the threads to compute in.
        compute: called in a thread.
        show: called with each result on the event loop.
        failed: called on the event loop with an error of ``compute``.
    """

    def __init__(
        self,
        pool: Executor,
        compute: Callable[[Request], Result],
        show: Callable[[Result], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._pool, self._compute, self._show, self._failed = pool, compute, show, failed
        self._latest: Request | None = None
        self._task: asyncio.Task[None] | None = None

    def submit(self, request: Request) -> None:
        """Compute a request in place of those that wait; call it on the event loop."""
        self._latest = request
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while (request := self._latest) is not None:
            self._latest = None
            try:
                result = await loop.run_in_executor(self._pool, self._compute, request)
            except Exception as error:  # any error is shown, and the page keeps working
                self._failed(error)
            else:
                self._show(result)


class Session:
    """The state of one tab.

    Args:
        doc: an empty document.
        view: the run and its data, shared by all sessions.
        decoding: the threads that decode.
    """

    def __init__(self, doc: Document, view: ExplorerView, decoding: Executor) -> None:
        self.doc, self.view = doc, view
        self.open = True
        self.controls = Controls(view, self.go)
        self.plot = row_plot(view.run.schema, view.scale_rows)
        self.map = LatentMap(view, self.clicked)
        self.nearest = NearestRows(self.plot)
        self.decoder: LatestOnly[Move, tuple[Move, Decoded, Array]] = LatestOnly(
            decoding,
            self._compute,
            lambda result: self._later(partial(self._show, *result)),
            lambda error: self._later(partial(self.controls.show_error, error)),
        )
        self._requested: Move = (self.controls.point, None)
        self._show(*self._compute(self._requested))
        picture = column(self.plot.model, name="picture", sizing_mode="stretch_width")
        parts = (self.controls.weights, self.controls.latent, picture, self.map.model)
        for part in (*parts, self.nearest.model):
            doc.add_root(part)
        for script in (*self.plot.scripts, name_sliders()):
            doc.js_on_event(DocumentReady, script)
        doc.on_session_destroyed(self._close)

    def go(self, point: LatentPoint, mover: object = None) -> None:
        """Decode a point and show it; ``mover`` is the control that the user moved."""
        self.controls.point = point
        self._requested = (point, mover)
        self.decoder.submit(self._requested)

    def clicked(self, at: Array, weights_of_row: bool) -> None:
        """Decode a point (2,) of the map, and show the rows near it."""
        points, space = self.view.points, self.view.space
        rows = self.view.nearest_points(at, self.nearest.count)
        weights = self.controls.point.weights
        if weights_of_row and space.factors:
            weights = points.weights[rows[0]]
        self.go(space.at(self.view.projection.inverse_transform(at), weights))
        captions = []
        for row in rows:
            labels = [points.truth[row] or "?"] if any(points.truth) else []
            labels += [f"→ {short_name(points.predicted[row])}"] if points.predicted else []
            lines = [" ".join(labels)] if len(" ".join(labels)) < 11 else labels
            captions.append("\n".join([points.captions[row], *lines]))
        legend = ["true label"] * any(points.truth) + ["→ predicted"] * bool(points.predicted)
        title = f"Nearest to the click: {' '.join(legend)}"
        self.nearest.show(title, self.view.rows_of(rows), captions)

    def _compute(self, request: Move) -> tuple[Move, Decoded, Array]:
        decoded = self.view.space.decode(request[0])
        return request, decoded, self.plot.cells(decoded.row[None])[0]

    def _show(self, request: Move, decoded: Decoded, cell: Array) -> None:
        self.plot.show(cell)
        self.controls.show(decoded, request[1], settled=request is self._requested)
        self.map.show_position(self.view.projection.transform(decoded.z))

    def _later(self, callback: Any) -> None:
        if self.open:
            self.doc.add_next_tick_callback(callback)

    def _close(self, context: Any) -> None:  # noqa: ARG002 - Bokeh's signature
        self.open = False


def build_page(doc: Document, *, view: ExplorerView, decoding: Executor, port: int) -> None:
    """Fill the document of a new session.

    Args:
        doc: an empty document.
        view: the run and its data, shared by all sessions.
        decoding: the threads that decode.
        port: of the server.
    """
    session = Session(doc, view, decoding)
    doc.title = f"{view.title} - gmmvae explore"
    doc.template = get_env().from_string(TEMPLATE.read_text(encoding="utf-8"))
    doc.template_variables.update(
        heading=view.title,
        about=view.about,
        noun=session.plot.noun,
        help=help_texts(view) | {"picture": session.plot.help},
        sockets=" ".join(f"ws://{host}:{port}" for host in HOSTS[:2]),
    )


def help_texts(view: ExplorerView) -> dict[str, str]:
    """A sentence or two for each part of the page."""
    return {
        "weights": _weights_help(view),
        "latent": _latent_help(view),
        "map": _map_help(view),
    }


def _weights_help(view: ExplorerView) -> str:
    if not view.space.factors:
        return f"The model {view.run.config.model} has no class: its decoder depends only on z."
    if view.space.prior_depends_on_class:
        return (
            "Moving one renormalizes the others. p(z|s) is the product of the classes' Gaussians, "
            "raised to these weights."
        )
    return "Moving one renormalizes the others. p(z) is N(0, 1) for every class."


def _latent_help(view: ExplorerView) -> str:
    space = view.space
    unit = "p(z|s)" if space.prior_depends_on_class else "p(z)"
    if not space.has_prior:
        unit = "the data's codes (an autoencoder has no prior)"
    along = "" if space.by_entry else f" Principal directions of the data's {space.size}-entry z."
    return f"Standard deviations of {unit} from its mean, and the value of z.{along}"


def _map_help(view: ExplorerView) -> str:
    shown = f"{len(view.points.numbers)} of {len(view.data.dataset.x)} rows"
    plane, sentences = view.projection, []
    if plane.share is not None:
        sentences.append(f"Principal components of the posterior means of {shown}.")
    elif not plane.names[1]:
        sentences.append(f"Posterior means of {shown}; the height has no meaning.")
    else:
        sentences.append(f"Posterior means of {shown}.")
    if view.components:
        density = "p(z|class)" if view.space.prior_depends_on_class else "p(z)"
        sentences.append(f"Ellipses: one standard deviation of {density}.")
    sentences.append("Click to decode a point of the plane; the ring marks the sliders' z.")
    if view.space.factors:
        sentences.append("Class weights of a click: q(s|x) of the nearest row, or the sliders'.")
    return " ".join(sentences)
