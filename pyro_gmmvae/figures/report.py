"""A run as one HTML file: numbers, pictures, configuration and origin."""

import base64
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyro_gmmvae
from pyro_gmmvae.config import Config
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.figures.all import PICTURES, draw_all
from pyro_gmmvae.figures.animation import Animation
from pyro_gmmvae.figures.run_view import RunView
from pyro_gmmvae.figures.saving import figure_bytes
from pyro_gmmvae.files import read_json
from pyro_gmmvae.runs.build import resolve
from pyro_gmmvae.runs.densities import loose_bound
from pyro_gmmvae.runs.folder import read_metrics
from pyro_gmmvae.runs.generator import KEYS as GENERATION_KEYS
from pyro_gmmvae.runs.generator import REFERENCES
from pyro_gmmvae.runs.keys import default_config

DPI = 110
MAX_BYTES = 2_800_000  # of the page; animations that do not fit are left out
BASE64 = 4 / 3
BROAD = 700  # pixels
SIZES = {
    "nll_samples": "importance samples per row",
    "nll_rows": "test rows of nll",
    "test_rows": "number of test rows",
    "labels": "labels of the fit",
}
Line = tuple[str, str, str]


@dataclass(frozen=True)
class EmbeddedPicture:
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
        """Whether it scrolls on a small screen, where it would be too small to read."""
        return self.width > BROAD


def report(view: RunView, meaning: Mapping[str, str], *, measure: bool = False) -> str:
    """The page of a run, which needs no other file and no network.

    Args:
        view: of the run.
        meaning: one phrase for each number of ``evaluate``.
        measure: evaluate again, even if ``metrics.json`` has numbers.

    Raises:
        GMMVAEError: a ``metrics.json`` that is damaged or can't be written.
    """
    from jinja2 import Environment, StrictUndefined

    measured, no_numbers = _measured(view, measure)
    numbers = _numbers(view, measured, meaning)
    pictures, skipped = _pictures(view)
    changed, same = _keys(view.run.config)
    command, environment, no_environment = _environment(view.run.path)
    template = template_text()
    # text of a run is escaped, so it can't become markup
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(template)
    return page.render(
        name=view.name,
        summary=_summary(view),
        policy=content_policy(template),
        weights=view.run.weights,
        numbers=numbers,
        no_numbers=no_numbers,
        loose=loose_bound(measured),
        generation=_generation(measured, meaning),
        kl_units=_of_units(measured),
        pictures=pictures,
        skipped=skipped,
        preset=_preset(view.run.config),
        changed=changed,
        same=same,
        command=command,
        environment=environment,
        no_environment=no_environment,
        version=pyro_gmmvae.__version__,
    )


def template_text() -> str:
    """The template of the page, with its style."""
    return files("pyro_gmmvae.figures").joinpath("report.html").read_text("utf-8")


def content_policy(template: str) -> str:
    """A content security policy that allows the style of the page and embedded images only."""
    style = template.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'"
    )


def _summary(view: RunView) -> str:
    config, schema = view.run.config, view.run.schema
    shape = "x".join(str(n) for n in schema.kind.x_shape)
    labels = "all labels" if config.labels is None else f"{config.labels} labels"
    return (
        f"The model {config.model} on {config.data}: rows of {shape}, "
        f"{len(schema.classes) or 'no'} classes, {labels}."
    )


def _measured(view: RunView, measure: bool) -> tuple[dict[str, Any], str]:
    """Numbers of the test rows by key, or the reason why there are none."""
    numbers = read_metrics(view.run.path).get("test")
    if measure or numbers is None:
        try:
            numbers = view.run.evaluate(data=view.data)
        except GMMVAEError as reason:
            if measure:
                raise
            return {}, str(reason)
    return numbers, ""


def _numbers(view: RunView, numbers: dict[str, Any], meaning: Mapping[str, str]) -> list[Line]:
    """Numbers of the test rows with their meaning, but those of draws."""
    phrases = {**SIZES, **meaning}
    lines = []
    for key, value in numbers.items():
        # tables are drawn, and keys of the configuration have their own section
        is_key = key in type(view.run.config).model_fields and key not in SIZES
        of_interval = key.endswith(("_low", "_high")) and key.rpartition("_")[0] in numbers
        is_left_out = is_key or of_interval or key in GENERATION_KEYS
        if value is None or isinstance(value, list | dict) or is_left_out:
            continue
        phrase = phrases.get(key, "")
        low, high = numbers.get(f"{key}_low"), numbers.get(f"{key}_high")
        if low is not None and high is not None:
            phrase += f"; 95 % Wilson interval {low:.3f} to {high:.3f}"
        lines.append((key, _number(value), phrase))
    return lines


def _generation(numbers: dict[str, Any], meaning: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Measures of draws: of means, of draws of x and of real rows, and the meaning."""
    lines = []
    for key in (*REFERENCES, "spread", "active_units"):
        values = [numbers.get(k) for k in (key, f"{key}_sampled", REFERENCES.get(key, ""))]
        if values[0] is not None:
            shown = ("" if value is None else _number(value) for value in values)
            lines.append((key, *shown, meaning.get(key, "")))
    return lines


def _of_units(numbers: dict[str, Any]) -> str:
    """KL of each entry of z, the largest first; "" if it is not known."""
    kl = numbers.get("kl_units")
    return ", ".join(f"{one:.2f}" for one in sorted(kl, reverse=True)) if kl else ""


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _pictures(view: RunView) -> tuple[list[EmbeddedPicture], list[tuple[str, str]]]:
    """All pictures of the run, animations where they fit, and reasons for missing pictures."""
    pictures: list[EmbeddedPicture] = []
    gifs: dict[str, bytes] = {}
    skipped = []
    for name, drawn in draw_all(view):
        if isinstance(drawn, str):
            skipped.append((name, drawn))
            continue
        figure = drawn.still if isinstance(drawn, Animation) else drawn
        if isinstance(drawn, Animation):
            gifs[name] = drawn.gif
        still = _address("png", _reduced(figure_bytes(figure, dpi=DPI)))
        width, height = (round(DPI * side) for side in figure.get_size_inches())
        pictures.append(EmbeddedPicture(name, PICTURES[name].about, still, width, height))
    budget = MAX_BYTES - sum(len(picture.still) for picture in pictures)
    moving = {}
    for name, gif in sorted(gifs.items(), key=lambda item: len(item[1])):
        if len(gif) * BASE64 <= budget:
            moving[name] = _address("gif", gif)
            budget -= len(moving[name])
    note = "The animation is too large for this page; 'gmmvae figures' writes it."
    for number, picture in enumerate(pictures):
        if picture.name in moving:
            pictures[number] = replace(picture, moving=moving[picture.name])
        elif picture.name in gifs:
            pictures[number] = replace(picture, note=note)
    return pictures, skipped


def _reduced(png: bytes) -> bytes:
    """The image in 256 colors, which are enough for lines and grays."""
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        few = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    few.save(buffer, "PNG", optimize=True)
    return min(buffer.getvalue(), png, key=len)


def _address(ending: str, content: bytes) -> str:
    return f"data:image/{ending};base64,{base64.b64encode(content).decode()}"


def _keys(config: Config) -> tuple[list[Line], list[Line]]:
    """Keys with value and default where these differ, and all others with their description."""
    defaults = resolve(default_config(config.data))
    changed, same = [], []
    for key, field in type(config).model_fields.items():
        value, default = getattr(config, key), defaults.get(key, field.default)
        if value != default:
            changed.append((key, _value(value), _value(default)))
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
    """The command and the rest of ``environment.json``, or the reason why they are not known."""
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
