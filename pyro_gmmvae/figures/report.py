"""A run as one HTML file: its numbers, pictures, configuration and origin."""

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyro_gmmvae
from pyro_gmmvae.config import Config
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.figures.all import PICTURES, draw_all
from pyro_gmmvae.figures.film import Film
from pyro_gmmvae.figures.report_page import POLICY, STYLE, TEMPLATE
from pyro_gmmvae.figures.run_view import View
from pyro_gmmvae.figures.saving import figure_bytes
from pyro_gmmvae.files import read_json
from pyro_gmmvae.runs.build import resolve
from pyro_gmmvae.runs.keys import default_config

DPI = 110
MOST_BYTES = 2_800_000  # of the page; films are left out where they don't fit
BASE64 = 4 / 3
BROAD = 700  # pixels
SIZES = {
    "nll_samples": "importance samples per row",
    "nll_rows": "test rows that nll is of",
    "test_rows": "how many there are",
    "labels": "that the fit saw",
}
Line = tuple[str, str, str]


@dataclass(frozen=True)
class Shot:
    """A picture on the page, its images as ``data:`` addresses."""

    name: str
    about: str
    still: str
    width: int
    height: int
    moving: str = ""
    note: str = ""

    @property
    def is_broad(self) -> bool:
        """Whether it is scrolled on a small screen, where it could not be read whole."""
        return self.width > BROAD


def report(view: View, meaning: Mapping[str, str], *, measure: bool = False) -> str:
    """The page of a run, which asks no network for anything.

    Args:
        view: of the run.
        meaning: one phrase for each number that ``evaluate`` gives.
        measure: measure anew, even where ``metrics.json`` has numbers.

    Raises:
        GMMVAEError: a ``metrics.json`` that is damaged or can't be written.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    numbers, no_numbers = _numbers(view, meaning, measure)
    shots, skipped = _pictures(view)
    changed, same = _keys(view.run.config)
    command, environment, no_environment = _environment(view.run.path)
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(TEMPLATE)
    return page.render(
        name=view.name,
        summary=_summary(view),
        policy=POLICY,
        style=Markup(STYLE),  # our own, and hashed as it stands
        weights=view.run.weights,
        numbers=numbers,
        no_numbers=no_numbers,
        shots=shots,
        skipped=skipped,
        preset=_preset(view.run.config),
        changed=changed,
        same=same,
        command=command,
        environment=environment,
        no_environment=no_environment,
        version=pyro_gmmvae.__version__,
    )


def _summary(view: View) -> str:
    config, schema = view.run.config, view.run.schema
    shape = "x".join(str(n) for n in schema.kind.x_shape)
    labels = "all labels" if config.labels is None else f"{config.labels} labels"
    return (
        f"The model {config.model} on {config.data}: rows of {shape}, "
        f"{len(schema.classes) or 'no'} classes, {labels}."
    )


def _numbers(view: View, meaning: Mapping[str, str], measure: bool) -> tuple[list[Line], str]:
    """Those of the test rows with what they mean, or why there are none."""
    file = view.run.path / "metrics.json"
    content = read_json(file) if file.exists() else {}
    found = content.get("test") if isinstance(content, dict) else None
    if measure or not isinstance(found, dict):
        try:
            found = view.run.evaluate(data=view.data)
        except GMMVAEError as reason:
            if measure:
                raise
            return [], str(reason)
    known = {**SIZES, **meaning}
    lines = []
    for key, value in found.items():
        # tables are pictures here, and what the configuration says stands there
        is_key = key in Config.model_fields and key not in SIZES
        if not (value is None or isinstance(value, list | dict) or is_key):
            lines.append((key, _number(value), known.get(key, "")))
    return lines, ""


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _pictures(view: View) -> tuple[list[Shot], list[tuple[str, str]]]:
    """All that the run has, films where they fit, and why the others are not there."""
    shots: list[Shot] = []
    films: dict[str, bytes] = {}
    skipped = []
    for name, drawn in draw_all(view):
        if isinstance(drawn, str):
            skipped.append((name, drawn))
            continue
        figure = drawn.sheet if isinstance(drawn, Film) else drawn
        if isinstance(drawn, Film):
            films[name] = drawn.gif
        still = _address("png", _smaller(figure_bytes(figure, dpi=DPI)))
        width, height = (round(DPI * side) for side in figure.get_size_inches())
        shots.append(Shot(name, PICTURES[name].about, still, width, height))
    room = MOST_BYTES - sum(len(shot.still) for shot in shots)
    fitting = {}
    for name, gif in sorted(films.items(), key=lambda item: len(item[1])):
        if len(gif) * BASE64 <= room:
            fitting[name] = _address("gif", gif)
            room -= len(fitting[name])
    for number, shot in enumerate(shots):
        if shot.name in fitting:
            shots[number] = replace(shot, moving=fitting[shot.name])
        elif shot.name in films:
            note = "The film is too large for this page; 'gmmvae figures' writes it."
            shots[number] = replace(shot, note=note)
    return shots, skipped


def _smaller(png: bytes) -> bytes:
    """The picture in 256 colors, which are enough for lines and grays."""
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as picture:
        few = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    few.save(buffer, "PNG", optimize=True)
    return min(buffer.getvalue(), png, key=len)


def _address(ending: str, content: bytes) -> str:
    return f"data:image/{ending};base64,{base64.b64encode(content).decode()}"


def _keys(config: Config) -> tuple[list[Line], list[Line]]:
    """Keys with values and defaults where these differ, and all others with what they are."""
    plain = resolve(default_config(config.data))
    changed, same = [], []
    for key, field in type(config).model_fields.items():
        value, usual = getattr(config, key), plain.get(key, field.default)
        if value != usual:
            changed.append((key, _value(value), _value(usual)))
        else:
            same.append((key, _value(value), field.description or ""))
    return changed, same


def _preset(config: Config) -> str:
    preset = default_config(config.data).preset
    return Path(config.data).name + (f" (preset {preset})" if preset else "")


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _environment(path: Path) -> tuple[str, list[tuple[str, str]], str]:
    """The command, what else ``environment.json`` holds, or why that is not known."""
    try:
        content = read_json(path / "environment.json")
    except GMMVAEError as reason:
        return "", [], str(reason)
    if not isinstance(content, dict):
        return "", [], f"{path / 'environment.json'} is damaged"
    lines = []
    for key, value in content.items():
        if key == "command":
            continue
        if isinstance(value, dict):
            shown = ", ".join(f"{name} {one}" for name, one in value.items())
        elif isinstance(value, list):
            shown = f"{len(value)} times, the last time by " + _last_command(value)
        else:
            shown = value if isinstance(value, str) else json.dumps(value)
        lines.append((key.replace("_", " "), shown))
    return str(content.get("command", "")), lines, ""


def _last_command(resumed: list[Any]) -> str:
    last = resumed[-1] if resumed else {}
    return str(last.get("command", "an unknown command")) if isinstance(last, dict) else str(last)
