"""A Bokeh server on the loopback interface, for the user who started it.

The page's address has a random token, as other users of the machine reach the loopback interface,
too. The socket of a page has a session id that the server signed when it served the page.
"""

import asyncio
import gc
import secrets
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import parse_qs

import torch
from bokeh.resources import Resources
from bokeh.server.server import BaseServer
from bokeh.server.tornado import BokehTornado
from bokeh.server.views.static_handler import StaticHandler
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.ioloop import IOLoop
from tornado.web import RequestHandler

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.explorer.page import HOSTS, build_page
from pyro_gmmvae.explorer.view import ExplorerView
from pyro_gmmvae.training.signals import on_stop

ADDRESS = "127.0.0.1"
MAX_MESSAGE = 1_000_000  # bytes from a browser: values of sliders
MAX_BODY = 1000  # bytes of a request, and no page takes one
MAX_VISITS = 100  # open pages, each of which holds some memory
CLEANUP = 1000  # milliseconds between cleanups of pages that were closed, a few at a time
GRACE = 0.3  # seconds to end what is being sent
STATIC = ("/static/js/", "/static/images/")
# values of Sec-Fetch-Site if the user typed the address, or if the page itself sends the request
SAME_SITE = {"", "none", "same-origin"}


class HostCheck:
    """Protection against other users, DNS rebinding and requests of other sites.

    A request must name this server as its host (a foreign name that resolves to 127.0.0.1 does
    not), must not come from another site's page, and must be for the page (with the token), its
    scripts or its socket. Bokeh's embedding routes, which any site may read, are not among them.

    Args:
        port: of the server.
        token: that the page's address must have.
    """

    def __init__(self, port: int, token: str) -> None:
        self.token = token
        self.hosts = {f"{host}:{port}" for host in HOSTS}
        if port == 80:
            self.hosts |= set(HOSTS)

    def refusal(self, method: str, uri: str, headers: HTTPHeaders) -> str | None:
        """The reason to refuse a request, or None."""
        path, _, query = uri.partition("?")
        if headers.get("Host", "").lower() not in self.hosts:
            return "this server answers only to 127.0.0.1 and localhost"
        origin = headers.get("Origin")
        if origin is not None and origin.lower().removeprefix("http://") not in self.hosts:
            return "requests from other sites are not accepted"
        if method not in ("GET", "HEAD"):
            return f"{method} requests are not accepted"
        if path == "/":
            if "bokeh" in query.lower():
                return "session parameters are not accepted in the URL"
            given = parse_qs(query).get("token", [""])[0]
            if not secrets.compare_digest(given.encode(), self.token.encode()):
                return "open the address that gmmvae explore printed, which has a token"
            # another site may link to the page, but not show it in a frame or read it
            embedded = headers.get("Sec-Fetch-Dest", "document") != "document"
            return "the page can't be embedded" if embedded else None
        if path not in ("/ws", "/favicon.ico") and not path.startswith(STATIC):
            return "page not found"
        if headers.get("Sec-Fetch-Site", "") not in SAME_SITE:
            return "requests from other sites are not accepted"
        return None


class Refusal(RequestHandler):
    """A status and a line of text."""

    def initialize(self, reason: str, status: int = 403) -> None:
        self.reason, self.status = reason, status

    def prepare(self) -> None:
        self.set_status(self.status)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.set_header("Connection", "close")
        self.finish(f"Refused: {self.reason}.\n")


class LocalBokeh(BokehTornado):
    """Bokeh's application behind a :class:`HostCheck`; its pages load scripts only from itself."""

    def __init__(self, page: Callable[..., None], check: HostCheck) -> None:
        self.check = check
        super().__init__(
            {"/": page},
            extra_websocket_origins=sorted(check.hosts),
            use_index=False,
            # session ids can't be guessed, and a session stores nothing of its request
            sign_sessions=True,
            secret_key=secrets.token_bytes(32),
            include_headers=[],
            include_cookies=[],
            websocket_max_message_size_bytes=MAX_MESSAGE,
            check_unused_sessions_milliseconds=CLEANUP,
        )

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        reason = self.check.refusal(request.method or "", request.uri or "", request.headers)
        if reason is not None:
            return self.get_handler_delegate(request, Refusal, {"reason": reason})
        if request.path == "/" and len(self.get_sessions("/")) >= MAX_VISITS:
            busy = {"reason": f"{MAX_VISITS} pages are open; close one", "status": 503}
            return self.get_handler_delegate(request, Refusal, busy)
        return super().find_handler(request, **kwargs)

    def resources(self, absolute_url: Any = None) -> Resources:  # noqa: ARG002 - as in the base
        return Resources(mode="server", root_url="/", path_versioner=StaticHandler.append_version)


def bind(port: int) -> socket.socket:
    """A socket that listens on the loopback address.

    Raises:
        GMMVAEError: the port is not available.
    """
    try:
        listening = socket.create_server((ADDRESS, port), backlog=128)
    except OSError as error:
        raise GMMVAEError(
            f"port {port} is not available on {ADDRESS} ({error.strerror or error}); choose "
            "another with --port, or --port 0 for a free one"
        ) from error
    listening.setblocking(False)
    return listening


def serve(view: ExplorerView, listening: socket.socket, ready: Callable[[str], None]) -> None:
    """Serve pages of a view until SIGINT or SIGTERM.

    Args:
        view: a run and its data.
        listening: from :func:`bind`.
        ready: called with the page's address once it can be opened.
    """
    asyncio.run(_serve(view, listening, ready))


async def _serve(
    view: ExplorerView, listening: socket.socket, ready: Callable[[str], None]
) -> None:
    port = listening.getsockname()[1]
    decoding = ThreadPoolExecutor(1, "decode", initializer=torch.set_num_threads, initargs=(1,))
    page = partial(build_page, view=view, decoding=decoding, port=port)
    token = secrets.token_urlsafe()
    application = LocalBokeh(page, HostCheck(port, token))
    http = HTTPServer(application, max_body_size=MAX_BODY)
    server = BaseServer(IOLoop.current(), application, http)
    server.start()
    # Bokeh collects garbage after each visit; without torch's many objects that takes no time
    gc.collect()
    gc.freeze()
    http.add_socket(listening)
    stopped = asyncio.Event()
    on_stop(asyncio.get_running_loop(), stopped.set)
    ready(f"http://{ADDRESS}:{port}/?token={token}")
    try:
        await stopped.wait()
    finally:
        gc.unfreeze()
        server.stop(wait=False)
        await http.close_all_connections()
        decoding.shutdown(wait=False, cancel_futures=True)
        # tasks that still write to a browser end by themselves; cancelled, they would log errors
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        if rest:
            await asyncio.wait(rest, timeout=GRACE)
