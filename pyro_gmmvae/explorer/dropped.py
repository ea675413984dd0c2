"""The place to drop a file on."""

import base64
import binascii
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any

import numpy as np
from bokeh.document import Document
from bokeh.layouts import column
from bokeh.models import Column, CustomJS, Div, FileInput

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.explorer.newest import Newest
from pyro_gmmvae.explorer.texts import markup
from pyro_gmmvae.explorer.upload import MOST_BYTES, Classified, classify, shown_name
from pyro_gmmvae.explorer.view import View

Array = np.ndarray[Any, Any]
MOST_LINES = 200

ZONE = """
    input[type=file] { width: 100%; box-sizing: border-box; height: 64px;
      padding: 19px 12px !important;
      border: 1.5px dashed #9aa5ad; border-radius: 6px; background: #fafbfc; font-size: 12.5px;
      cursor: pointer; line-height: 22px; }
    input[type=file]::file-selector-button { font: inherit; line-height: 20px; padding: 0 10px;
      margin: 0 10px 0 0; border: 1px solid #9aa5ad; border-radius: 4px; background: #fff; }
    input[type=file]:hover, input[type=file]:focus { border-color: #0072B2; background: #f0f7fb; }
    """
RESULT = """
    :host { font-size: 12.5px; }
    div.refused { color: #b3261e; }
    div.scroll { max-height: 168px; overflow: auto; margin-top: 4px; }
    table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
    th { position: sticky; top: 0; background: #fff; text-align: left; font-weight: 600; }
    th, td { padding: 1px 8px 1px 0; white-space: nowrap; border-bottom: 1px solid #eef0f2; }
    """

Files = tuple[str, str]


class Dropped:
    """A file input, and what was said of the file.

    Args:
        view: the run and its data.
        doc: the session's document.
        reading: where files are read.
        classified: hears of a title, rows in the model's units, captions and z of a file's rows.
    """

    def __init__(
        self,
        view: View,
        doc: Document,
        reading: Executor,
        classified: Callable[[str, Array, list[str], Array], None],
    ) -> None:
        self.view, self.doc, self._classified = view, doc, classified
        self.input = FileInput(
            sizing_mode="stretch_width", stylesheets=[ZONE], name="a file to classify", margin=0
        )
        self.result = Div(
            text="Drop a file here, or choose one.",
            stylesheets=[RESULT],
            disable_math=True,
            sizing_mode="stretch_width",
            margin=(6, 0, 0, 0),
            name="result",
        )
        self._newest: Newest[Files, tuple[str, Classified]] = Newest(
            reading,
            self._read,
            lambda found: self._later(partial(self._tell, *found)),
            lambda error: self._later(partial(self._refuse, error)),
        )
        self.input.on_change("value", self._arrived)
        self.model: Column = column(
            self.input, self.result, name="upload", sizing_mode="stretch_width"
        )
        # a larger file would end the connection; the browser says so instead of sending it
        self.start = CustomJS(
            args={"input": self.input, "result": self.result, "most": MOST_BYTES},
            code="""
            const view = Bokeh.index.find_one(input)
            view.shadow_el.addEventListener("change", (event) => {
              const file = event.target.files[0]
              if (file === undefined || file.size <= most) return
              event.stopImmediatePropagation()
              event.target.value = ""
              const line = document.createElement("div")
              line.className = "refused"
              const size = (file.size / 1e6).toFixed(1)
              line.textContent = `${file.name} has ${size} MB; this page takes up to ` +
                `${most / 1e6} MB, and 'gmmvae predict' takes more`
              result.text = line.outerHTML
            }, {capture: true})
            """,
        )

    def _arrived(self, attr: str, old: str, new: str) -> None:  # noqa: ARG002
        if new:
            # the name comes after the content
            self.doc.add_timeout_callback(partial(self._take, new), 20)

    def _take(self, content: str) -> None:
        name = shown_name(str(self.input.filename or "file"))
        self.input.clear()
        self.result.text = f"Reading {markup(name)} ..."
        self._newest.ask((name, content))

    def _read(self, file: Files) -> tuple[str, Classified]:
        name, encoded = file
        try:
            content = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError) as error:
            raise GMMVAEError(f"{name} did not arrive whole; drop it again") from error
        return name, classify(self.view.run, name, content)

    def _refuse(self, error: Exception) -> None:
        told = str(error) if isinstance(error, GMMVAEError) else "this file can't be classified"
        self.result.text = f'<div class="refused">{markup(" ".join(told.split()))}</div>'

    def _tell(self, name: str, found: Classified) -> None:
        self.result.text = _report(name, found)
        if found.x is not None and found.z is not None:
            table = found.table
            labels = table["label"] if "label" in table else [""] * len(table)
            captions = [
                f"row {n}\n→ {label}" if label else f"row {n}"
                for n, label in zip(table["row"][:8], labels[:8], strict=True)
            ]
            self._classified(f"First rows of {name}", found.x[:8], captions, found.z)

    def _later(self, callback: Any) -> None:
        if self.doc.session_context is None or not self.doc.session_context.destroyed:
            self.doc.add_next_tick_callback(callback)


def _report(name: str, found: Classified) -> str:
    """What is said of a file's rows, as HTML."""
    table, unit = found.table, "rows" if found.x is not None else "sequences"
    part = f"the first {len(table)} of " if found.total > len(table) else ""
    words = [f"<b>{markup(name)}</b>: {part}{found.total} {unit}"]
    said = next((c for c in ("label", "person") if c in table), None)
    if said is not None:
        counts = table[said].value_counts()
        listed = ", ".join(f"{markup(str(k) or '-')} {n}" for k, n in counts.head(12).items())
        words.append(f"{said}: {listed}{' ...' if len(counts) > 12 else ''}")
    lines = table.head(MOST_LINES)
    cells: dict[str, list[str]] = {table.columns[0]: [str(v) for v in lines[table.columns[0]]]}
    if said is not None:
        cells[said] = [str(value) for value in lines[said]]
        shares = lines[[c for c in table.columns if c.startswith("p_")]].max(axis=1)
        cells["probability"] = [f"{p:.3f}" for p in shares]
    for column_name in ("elbo", "log_px", "unusual"):
        if column_name in table:
            cells[column_name] = [f"{value:.2f}" for value in lines[column_name]]
    head = "".join(f"<th>{markup(str(title))}</th>" for title in cells)
    body = "".join(
        "<tr>" + "".join(f"<td>{markup(cell)}</td>" for cell in line) + "</tr>"
        for line in zip(*cells.values(), strict=True)
    )
    rest = f"{len(table) - len(lines)} more" if len(table) > len(lines) else ""
    return f"{'; '.join(words)}<div class='scroll'><table><tr>{head}</tr>{body}</table>{rest}</div>"
