"""The server: Bokeh's, on the loopback interface, behind a guard."""

import asyncio
import secrets
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from bokeh.resources import Resources
from bokeh.server.server import BaseServer
from bokeh.server.tornado import BokehTornado
from bokeh.server.views.static_handler import StaticHandler
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.explorer.guard import Guard
from pyro_gmmvae.explorer.page import build_page
from pyro_gmmvae.explorer.upload import MOST_BYTES
from pyro_gmmvae.explorer.view import View
from pyro_gmmvae.training.signals import on_stop

ADDRESS = "127.0.0.1"
# a file comes as base64 in one message
LARGEST_MESSAGE = MOST_BYTES * 4 // 3 + 100_000
LAST_WORDS = 0.3  # seconds
LARGEST_BODY = 1000  # no page of ours takes one


class LocalBokeh(BokehTornado):
    """Bokeh's application, whose pages take scripts from it and never from another host."""

    def resources(self, absolute_url: Any = None) -> Resources:  # noqa: ARG002 - as it was
        return Resources(mode="server", root_url="/", path_versioner=StaticHandler.append_version)


def listen(port: int) -> socket.socket:
    """A socket on this machine's loopback address.

    Raises:
        GMMVAEError: the port can't be had.
    """
    try:
        listening = socket.create_server((ADDRESS, port), backlog=128)
    except OSError as error:
        raise GMMVAEError(
            f"port {port} of {ADDRESS} can't be had ({error.strerror or error}); choose another "
            "with --port, or --port 0 for a free one"
        ) from error
    listening.setblocking(False)
    return listening


def serve(view: View, listening: socket.socket, ready: Callable[[str], None]) -> None:
    """Serve pages of a view until SIGINT or SIGTERM.

    Args:
        view: a run and its data.
        listening: of :func:`listen`.
        ready: called with the page's address once it can be opened.
    """
    asyncio.run(_serve(view, listening, ready))


async def _serve(view: View, listening: socket.socket, ready: Callable[[str], None]) -> None:
    port = listening.getsockname()[1]
    # one decodes for sliders, one reads files, which takes longer
    decoding = ThreadPoolExecutor(1, "decode", initializer=torch.set_num_threads, initargs=(1,))
    reading = ThreadPoolExecutor(1, "read")
    guard = Guard(port)
    page = partial(build_page, view=view, decoding=decoding, reading=reading, port=port)
    application = LocalBokeh(
        {"/": page},
        extra_websocket_origins=sorted(guard.hosts),
        use_index=False,
        # what a page tells of its visit must not be of use to another
        sign_sessions=True,
        secret_key=secrets.token_bytes(32),
        include_headers=[],
        include_cookies=[],
        websocket_max_message_size_bytes=LARGEST_MESSAGE,
    )
    guard.application = application
    http = HTTPServer(guard, max_body_size=LARGEST_BODY)
    server = BaseServer(IOLoop.current(), application, http)
    server.start()
    http.add_socket(listening)
    stopped = asyncio.Event()
    on_stop(asyncio.get_running_loop(), stopped.set)
    ready(f"http://{ADDRESS}:{port}/")
    try:
        await stopped.wait()
    finally:
        server.stop(wait=False)
        await http.close_all_connections()
        for pool in (decoding, reading):
            pool.shutdown(wait=False, cancel_futures=True)
        # what was being said to a browser ends by itself now; cancelled, it would complain
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        if rest:
            await asyncio.wait(rest, timeout=LAST_WORDS)
