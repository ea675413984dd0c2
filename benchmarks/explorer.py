"""Latency of gmmvae explore: milliseconds from a slider's move to the new picture on the screen.

python benchmarks/explorer.py --out benchmarks/results/explorer
python benchmarks/explorer.py --run RUN --out DIR               # another run

Headless Chromium opens the page of a run on digits (trained first, if no run is given) at 1280 x
800. A slider of z takes 50 steps by its arrow keys, then a slider of a class weight. The page's
own clock is read when the slider has its new value, and again at the beginning of the frame after
the one in which the new picture was drawn. "other_hosts" counts the browser's requests to any
host but 127.0.0.1.

It writes latency.json.
"""

import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from pyro_gmmvae.cli import run as run_command
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.runs import processor

STEPS, WARM_UP = 50, 5

MODELS = "[...Bokeh.documents[0]._all_models.values()]"
MEASURE = f"""(slider) => {{
  const model = {MODELS}.find((m) => m.name == slider)
  const picture = {MODELS}.find((m) => m.name == "decoded")
  window.disconnectBoth?.()
  window.moves = []
  let moved = null
  const on_move = () => {{ moved = performance.now() }}
  const on_picture = () => {{
    if (moved === null) return
    const since = moved
    moved = null
    // Bokeh draws in the next frame, so the frame after it begins with the picture on the screen
    requestAnimationFrame(() => requestAnimationFrame(() => {{
      window.moves.push(performance.now() - since)
    }}))
  }}
  model.properties.value.change.connect(on_move)
  picture.properties.data.change.connect(on_picture)
  window.disconnectBoth = () => {{
    model.properties.value.change.disconnect(on_move)
    picture.properties.data.change.disconnect(on_picture)
  }}
}}"""


def measure(page: Any, slider: str) -> list[float]:
    """Latency of each step, in milliseconds."""
    page.evaluate(MEASURE, slider)
    page.locator(f'[aria-label="{slider}"]').focus()
    for step in range(WARM_UP + STEPS):
        page.keyboard.press("ArrowRight" if step % 20 < 10 else "ArrowLeft")
        page.wait_for_function(f"window.moves.length > {step}", timeout=10_000)
        page.wait_for_timeout(20)
    return [float(ms) for ms in page.evaluate("window.moves")][WARM_UP:]


def summary(times: list[float]) -> dict[str, Any]:
    ordered = sorted(times)
    return {
        "n": len(times),
        "median_ms": round(statistics.median(times), 1),
        "p90_ms": round(ordered[int(0.9 * len(ordered))], 1),
        "max_ms": round(ordered[-1], 1),
    }


@click.command()
@click.option("--run", type=click.Path(path_type=Path), help="A run folder.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(run: Path | None, out: Path) -> None:
    """Measure the latency and write OUT/latency.json."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder:
        if run is None:
            from pyro_gmmvae.runs import default_config, train

            run = Path(folder) / "digits"
            train(default_config("digits", {"epochs": 20}), run)
        server = subprocess.Popen(
            [sys.executable, "-m", "pyro_gmmvae", "explore", str(run), "--port", "0"],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.stdout is not None
            match = re.search(r"http://\S+", server.stdout.readline())
            if match is None:
                raise GMMVAEError("the explorer did not start")
            others: list[str] = []
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"]
                )
                page = browser.new_page(viewport={"width": 1280, "height": 800})
                page.on("request", lambda r: _note(others, r.url))
                page.on("websocket", lambda w: _note(others, w.url))
                page.goto(match[0])
                page.locator("[aria-label]").first.wait_for(state="attached")
                page.wait_for_timeout(1000)
                names = page.evaluate(
                    f"{MODELS}.filter((m) => m.tags?.includes('labelled')).map((m) => m.name)"
                )
                latent = next(n for n in names if re.match(r"(z|PC )\d", n))
                # the first class already has all the weight
                weight = next(iter([n for n in names if n.startswith("weight")][1:]), None)
                result = {"z": summary(measure(page, latent))}
                if weight is not None:
                    result["s"] = summary(measure(page, weight))
                version = browser.version
                browser.close()
        finally:
            server.terminate()
            server.wait(10)
        result |= {
            "other_hosts": len(others),
            "chromium": version,
            "processor": processor(),
            "command": f"python benchmarks/{' '.join([Path(__file__).name, *sys.argv[1:]])}",
        }
    out.mkdir(parents=True, exist_ok=True)
    (out / "latency.json").write_text(json.dumps(result, indent=1) + "\n")
    click.echo(json.dumps(result, indent=1))


def _note(others: list[str], url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname != "127.0.0.1":
        others.append(url)


if __name__ == "__main__":
    run_command(main)
