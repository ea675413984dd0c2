"""Who may ask the page: browsers on this machine, from the page itself."""

from typing import Any

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerRequest,
    ResponseStartLine,
)
from tornado.routing import Router

HOSTS = ("127.0.0.1", "localhost", "[::1]")
PAGE = "/"
SOCKET = "/ws"
FILES = ("/static/js/", "/static/images/")
# what a browser says that asks because its user typed the address, or because the page did
ASKED_BY = {"", "none", "same-origin"}


class Guard(Router):
    """Stands before every route: refuses what no browser on the page's own behalf would ask.

    A request must name this server as its host (a foreign name that resolves to 127.0.0.1 does
    not), must not come from another site's page, and must be for the page, its scripts or its
    socket. Everything else gets 403, Bokeh's embedding routes among it, which any site may read.

    Args:
        port: where the server listens.
    """

    application: Router

    def __init__(self, port: int) -> None:
        self.hosts = {f"{host}:{port}" for host in HOSTS}
        if port == 80:
            self.hosts |= set(HOSTS)

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        reason = self.refusal(request.method or "", request.uri or "", request.headers)
        if reason is None:
            return self.application.find_handler(request, **kwargs)
        return _Refused(request.connection, reason)

    def refusal(self, method: str, uri: str, headers: HTTPHeaders) -> str | None:
        """Why a request is refused, or None."""
        path, _, query = uri.partition("?")
        if headers.get("Host", "").lower() not in self.hosts:
            return "this server answers under 127.0.0.1 and localhost only"
        origin = headers.get("Origin")
        if origin is not None and origin.lower().removeprefix("http://") not in self.hosts:
            return "other sites may not ask this server"
        if method not in ("GET", "HEAD"):
            return "there is nothing to send to"
        if path == PAGE:
            if "bokeh" in query.lower():
                return "who opens the page does not name the visit"
            # a link may lead here, but no frame may show the page and no script may read it
            if headers.get("Sec-Fetch-Dest", "document") != "document":
                return "the page can't be embedded"
            return None
        if path != SOCKET and not path.startswith(FILES) and path != "/favicon.ico":
            return "there is no such page"
        if headers.get("Sec-Fetch-Site", "") not in ASKED_BY:
            return "other sites may not ask this server"
        return None


class _Refused(HTTPMessageDelegate):
    """Answers 403 with a line of text."""

    def __init__(self, connection: HTTPConnection | None, reason: str) -> None:
        self._connection, self._body = connection, f"Refused: {reason}.\n".encode()

    def finish(self) -> None:
        assert self._connection is not None
        headers = HTTPHeaders(
            {
                "Content-Type": "text/plain; charset=utf-8",
                "Content-Length": str(len(self._body)),
                "Connection": "close",
            }
        )
        self._connection.write_headers(
            ResponseStartLine("HTTP/1.1", 403, "Forbidden"), headers, self._body
        )
        self._connection.finish()
