"""The table of a sweep's rows: read with care, written whole."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

import pyro_gmmvae
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import atomic_write
from pyro_gmmvae.sweeps.plan import KEY, Say, key_of

REQUIRED = [*KEY, "version", "command"]
TEXT = [name for name in REQUIRED if name != "seed"]
TEXT += ["engine", "device", "processor", "versions", "table", "split", "variant"]


def read_results(file: Path, say: Say = print) -> pd.DataFrame:
    """The rows of a results.csv; half-written ones are dropped, with a note.

    Raises:
        GMMVAEError: a file that is no results table, or rows of another version.
    """
    if not file.exists() or (file.is_file() and not file.stat().st_size):
        return pd.DataFrame(columns=REQUIRED)
    try:
        text = file.read_text()
        # we write whole lines, so a last one without an end was cut off
        whole_lines = text[: text.rfind("\n") + 1]
        table = pd.read_csv(io.StringIO(whole_lines), dtype=str, on_bad_lines="skip")
    except (OSError, ValueError) as error:
        raise GMMVAEError(
            f"{file} can't be read as a table of results ({type(error).__name__}); name another "
            "--out or move it away"
        ) from error
    if not set(REQUIRED) <= set(table.columns):
        raise GMMVAEError(
            f"{file} is no table of results of this program; name another --out or move it away"
        )
    words = [c for c in TEXT if c in table.columns]
    numbers = table.columns.difference(words)
    table[numbers] = table[numbers].apply(pd.to_numeric, errors="coerce")
    whole = table[["version", "command", "seed", "config"]].notna().all(axis=1)
    dropped = len(text.rstrip("\n").splitlines()) - 1 - int(whole.sum())
    if dropped > 0:
        say(f"{file}: {dropped} half-written row(s) dropped")
    table = table[whole].astype({"seed": int})
    table[words] = table[words].fillna("")
    table = table.drop_duplicates(KEY, keep="last")
    others = sorted(set(table["version"]) - {pyro_gmmvae.__version__})
    if others:
        raise GMMVAEError(
            f"{file} holds results of version {others[0]}, and this is "
            f"{pyro_gmmvae.__version__}: they do not mix; name another --out, or move the file away"
        )
    return table


def append(file: Path, row: Mapping[str, Any]) -> pd.DataFrame:
    """Add one row; the file is replaced whole, so it is never half-written by us."""
    before = read_results(file, lambda _: None)
    new = pd.DataFrame([row])
    table = pd.concat([before, new], ignore_index=True) if len(before) else new
    atomic_write(file, table.to_csv(index=False).encode())
    return read_results(file, lambda _: None)


def keys_of(table: pd.DataFrame) -> list[str]:
    """The key of each row's cell."""
    return [key_of(values) for values in table[KEY].itertuples(index=False)]
