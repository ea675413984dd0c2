"""The page: what one session of the explorer shows, and what its controls do."""

from concurrent.futures import Executor
from functools import partial
from typing import Any

import numpy as np
from bokeh.core.templates import get_env
from bokeh.document import Document
from bokeh.events import DocumentReady
from bokeh.layouts import column

from pyro_gmmvae.explorer.controls import Controls, label_sliders
from pyro_gmmvae.explorer.drawing import Near, picture_of
from pyro_gmmvae.explorer.dropped import Dropped
from pyro_gmmvae.explorer.guard import HOSTS
from pyro_gmmvae.explorer.map import Map
from pyro_gmmvae.explorer.newest import Newest
from pyro_gmmvae.explorer.pictures import Images, Poses
from pyro_gmmvae.explorer.space import Place, Position
from pyro_gmmvae.explorer.template import PAGE
from pyro_gmmvae.explorer.texts import help_texts, short_name
from pyro_gmmvae.explorer.view import View

Array = np.ndarray[Any, Any]
Request = tuple[Position, object]


def build_page(
    doc: Document, *, view: View, decoding: Executor, reading: Executor, port: int
) -> None:
    """Fill the document of a new session.

    Args:
        doc: an empty document.
        view: what all sessions share.
        decoding, reading: where sliders' pictures and files are worked out.
        port: of the server.
    """
    Session(doc, view, decoding, reading)
    doc.title = f"{view.title} - gmmvae explore"
    doc.template = get_env().from_string(PAGE)
    kind = {Images: "image", Poses: "skeleton"}.get(type(view.pictures), "profile")
    doc.template_variables.update(
        heading=view.title,
        about=view.about,
        kind=kind,
        help=help_texts(view),
        sockets=" ".join(f"ws://{host}:{port}" for host in HOSTS[:2]),
    )


class Session:
    """The state of one tab: where its sliders stand, and what is shown there.

    Args:
        doc, view, decoding, reading: as for :func:`build_page`.
    """

    def __init__(self, doc: Document, view: View, decoding: Executor, reading: Executor) -> None:
        self.doc, self.view = doc, view
        self.open = True
        self.controls = Controls(view, self.go)
        self.picture = picture_of(view.pictures)
        self.map = Map(view, self.clicked)
        self.near = Near(view.pictures)
        self.dropped = Dropped(view, doc, reading, self.classified)
        self.newest: Newest[Request, tuple[Request, Place, Array]] = Newest(
            decoding,
            self._compute,
            lambda result: self._later(partial(self._show, *result)),
            lambda error: self._later(partial(self.controls.complain, error)),
        )
        self._asked: Request = (self.controls.position, None)
        self._show(*self._compute(self._asked))
        doc.add_root(self.controls.weights)
        doc.add_root(self.controls.latent)
        doc.add_root(column(self.picture.model, name="picture", sizing_mode="stretch_width"))
        doc.add_root(self.map.model)
        doc.add_root(self.near.model)
        doc.add_root(self.dropped.model)
        for start in (self.dropped.start, getattr(self.picture, "start", None), label_sliders()):
            if start is not None:
                doc.js_on_event(DocumentReady, start)
        doc.on_session_destroyed(self._close)

    def go(self, position: Position, mover: object = None) -> None:
        """Stand at a position; ``mover`` is the control that its user holds."""
        self.controls.position = position
        self._asked = (position, mover)
        self.newest.ask(self._asked)

    def clicked(self, point: Array, weights_of_row: bool) -> None:
        """Decode a point of the map, and show the rows near it."""
        points, space = self.view.points, self.view.space
        close = self.view.near(point, self.near.count)
        weights = self.controls.position.weights
        if weights_of_row and space.sizes:
            weights = points.weights[close[0]]
        self.go(space.at(self.view.plane.lift(point), weights))
        captions = []
        for place in close:
            told = [points.truth[place] or "?"] if any(points.truth) else []
            told += [f"→ {short_name(points.predicted[place])}"] if points.predicted else []
            lines = [" ".join(told)] if len(" ".join(told)) < 11 else told
            captions.append("\n".join([points.captions[place], *lines]))
        said = ["true label"] * any(points.truth) + ["→ predicted"] * bool(points.predicted)
        title = f"Nearest to the click: {' '.join(said)}"
        self.near.show(title, self.view.part(close), captions)

    def classified(self, title: str, rows: Array, captions: list[str], z: Array) -> None:
        """Show the rows of a file beside the data's."""
        self.near.show(title, rows, captions)
        self.map.mark(self.view.plane.project(z))

    def _compute(self, request: Request) -> tuple[Request, Place, Array]:
        place = self.view.space.work_out(request[0])
        return request, place, self.view.pictures(place.row[None])[0]

    def _show(self, request: Request, place: Place, picture: Array) -> None:
        self.picture.show(picture)
        self.controls.show(place, request[1], settled=request is self._asked)
        self.map.stand(self.view.plane.project(place.z))

    def _later(self, callback: Any) -> None:
        if self.open:
            self.doc.add_next_tick_callback(callback)

    def _close(self, context: Any) -> None:  # noqa: ARG002 - Bokeh's signature
        self.open = False
