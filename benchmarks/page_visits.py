"""A server of the explorer in a process of its own, and visits of its page without a browser.

    python benchmarks/page_visits.py --visits 200 --out benchmarks/results/page_visits.json

measures the server's resident memory over visits one after the other, and then over sixty at once,
of a run on scikit-learn's digits. Only Linux: memory is read from /proc.
"""

import asyncio
import contextlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import websocket_connect

from pyro_gmmvae.cli import run as run_command
from pyro_gmmvae.files import write_json
from pyro_gmmvae.runs import default_config, train

SECONDS = 120
AT_ONCE = 60


@contextlib.contextmanager
def served(run: Path) -> Iterator[tuple[str, int]]:
    """Serve the page of a run; gives its address and the number of the process."""
    command = [sys.executable, "-m", "pyro_gmmvae", "explore", str(run), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        yield server.stdout.readline().split(" at ")[1].split()[0], server.pid
    finally:
        server.terminate()
        server.communicate(timeout=SECONDS)


async def visit(address: str) -> Any:
    """Load the page and open its socket, as a browser does; gives the socket."""
    page = await AsyncHTTPClient().fetch(address, connect_timeout=SECONDS, request_timeout=SECONDS)
    found = re.search(r'"token":"([^"]+)"', page.body.decode())
    assert found is not None
    host = urlsplit(address).netloc
    options = {"connect_timeout": SECONDS, "request_timeout": SECONDS}
    headers = {"Origin": f"http://{host}"}
    request = HTTPRequest(f"ws://{host}/ws", headers=headers, **options)
    socket = await websocket_connect(request, subprotocols=["bokeh", found[1]])
    assert await socket.read_message() is not None
    return socket


def memory(process: int) -> float:
    """The resident memory of a process, in MiB."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


async def memory_over_visits(
    address: str, process: int, count: int, at_once: int
) -> tuple[list[float], list[float]]:
    """The memory of a server after visits, so many of them open at the same time.

    Args:
        address, process: of :func:`served`.
        count: of visits.
        at_once: open before the first of them is closed.

    Returns:
        MiB, and the seconds that it took, for each group of ``at_once`` visits.
    """
    found, seconds = [], []
    for _ in range(count // at_once):
        started = time.monotonic()
        opened = await asyncio.gather(*(visit(address) for _ in range(at_once)))
        seconds.append(time.monotonic() - started)
        found.append(memory(process))
        for socket in opened:
            socket.close()
        while any([await socket.read_message() is not None for socket in opened]):
            pass  # until all are closed
    AsyncHTTPClient().close()
    return found, seconds


@click.command()
@click.option("--visits", type=click.IntRange(1), default=200, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="JSON file.")
def main(visits: int, out: Path) -> None:
    """Visit the page so many times, and write the memory in MiB after every tenth visit."""
    with tempfile.TemporaryDirectory() as place:
        run = Path(place) / "run"
        train(default_config("digits", {"epochs": 2, "hidden": "32", "latent_dim": 4}), run)
        with served(run) as (address, process):
            before = memory(process)
            one, _ = asyncio.run(memory_over_visits(address, process, visits, 1))
            many, _ = asyncio.run(memory_over_visits(address, process, AT_ONCE, AT_ONCE))
    result = {
        "visits": visits,
        "before": round(before),
        "one_by_one": [round(found) for found in one[9::10]],
        f"{AT_ONCE} at once": round(many[0]),
    }
    click.echo(str(result))
    write_json(out, result)


if __name__ == "__main__":
    run_command(main, "page_visits.py")
