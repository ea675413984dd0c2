"""Atomic writing and bounded reading of files.

A file is written whole or not at all, under a temporary name that starts with ``.part-``. Files of
users are read with limits: only regular files (a pipe or device would block), of a bounded size,
nesting depth and number range. torch and pandas are imported by the functions that need them, so
that a command can read its configuration before it loads either.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import stat
import tempfile
import tomllib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pyro_gmmvae.errors import GMMVAEError, missing_extra

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from torch import Tensor

Content = TypeVar("Content")

MAX_JSON_BYTES = 256 * 2**20
MAX_TOML_BYTES = 2**20
MAX_DEPTH = 100
MAX_INTEGER = 2**64 - 1  # the largest seed
_TEMPORARY = ".part-"

# ---------------------------------------------------------------------------------- writing


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a temporary path in the same folder, with the same ending, that replaces ``path``.

    A reader, or a crash at any moment, finds the old file or the new one. If the block raises,
    the old file stays.

    Raises:
        GMMVAEError: the disk is full or the place can't be written.
    """
    temporary = None
    try:
        prefix = f"{_TEMPORARY}{path.stem}-"
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        kept = "; the previous file is kept" if os.path.lexists(path) else ""
        raise GMMVAEError(f"can't write {path}: {error.strerror or error}{kept}") from error


def atomic_write(path: Path, content: bytes) -> None:
    """Write bytes, whole or not at all.

    Raises:
        GMMVAEError: the disk is full or the place can't be written; the old file stays.
    """
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files that a killed process left in a folder."""
    for leftover in folder.glob(f"{_TEMPORARY}*"):
        leftover.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON atomically."""
    atomic_write(path, (json.dumps(content, indent=2) + "\n").encode())


# ---------------------------------------------------------------------------------- reading


def require_file(path: Path) -> None:
    """Check that a path is a regular file with content.

    Raises:
        GMMVAEError: it does not exist, is empty, a folder, or a pipe, device or socket.
    """
    try:
        state = path.stat()
    except FileNotFoundError:
        raise GMMVAEError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        raise GMMVAEError(f"{path} can't be read: {_reason(error)}") from error
    if found := _not_regular(state) or ("" if state.st_size else "empty"):
        raise GMMVAEError(f"{path} is {found}")


def ending(path: Path) -> str:
    """The ending of a file's name in small letters, such as ".npz"."""
    return path.suffix.lower()


def read_bytes(path: Path, limit: int | None = None) -> bytes:
    """Read a regular file of at most ``limit`` bytes; a pipe or device is refused, not waited for.

    Raises:
        OSError: it can't be read, or is not a regular file.
        ValueError: it is larger.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        state = os.fstat(handle)
        if reason := _not_regular(state):
            raise OSError(f"it is {reason}")
        if limit is not None and state.st_size > limit:
            raise ValueError(f"it has {state.st_size:,} bytes, more than {limit:,}")
        return file.read()


def _not_regular(state: os.stat_result) -> str | None:
    if stat.S_ISDIR(state.st_mode):
        return "a folder"
    return None if stat.S_ISREG(state.st_mode) else "not a regular file but a pipe or device"


def parse_json(content: bytes | str) -> Any:
    """Parse JSON of bounded depth and integers; NaN and infinities are read as Python writes them.

    Raises:
        ValueError: it is not JSON, or beyond the limits.
    """
    try:
        values = json.loads(content, parse_int=_integer)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    _check_depth(values)
    return values


def read_json(path: Path) -> Any:
    """Read JSON within the limits of this module.

    Raises:
        GMMVAEError: the file is missing, not a regular file, not JSON, or beyond the limits.
    """
    try:
        return parse_json(read_bytes(path, MAX_JSON_BYTES))
    except FileNotFoundError:
        raise GMMVAEError(f"{path} is missing; is {path.parent} a run folder?") from None
    except (OSError, ValueError) as error:
        raise GMMVAEError(f"{path} can't be read as JSON: {_reason(error)}") from error


def read_json_as(path: Path, schema: type[Content]) -> Content:
    """Read JSON and check it against a pydantic model, a dataclass or a type.

    Raises:
        GMMVAEError: as :func:`read_json` and :func:`validated`.
    """
    return validated(read_json(path), schema, path)


def validated(content: Any, schema: type[Content], source: object) -> Content:
    """Check plain values against a pydantic model, a dataclass or a type such as dict[str, int].

    Args:
        content: values of JSON, TOML or a training state.
        schema: the type to turn them into.
        source: the file they come from, for the error.

    Raises:
        GMMVAEError: one line with the file, the first wrong field, and the value found there.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(schema).validate_python(content)
    except RecursionError as error:
        raise GMMVAEError(f"{source} is damaged: {_TOO_DEEP}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        message = _MESSAGES.get(first["type"], first["msg"][:1].lower() + first["msg"][1:])
        found = "" if first["type"] == "missing" else f", found {first['input']!r:.60}"
        raise GMMVAEError(
            f"{source} is damaged: {field + ': ' if field else ''}{message}{found}"
        ) from error


def read_toml(path: Path) -> dict[str, Any]:
    """Read TOML within the limits of this module.

    Raises:
        GMMVAEError: the file is missing, not a regular file, not TOML, or beyond the limits.
    """
    try:
        content = read_bytes(path, MAX_TOML_BYTES)
    except (OSError, ValueError) as error:
        raise GMMVAEError(f"{path} can't be read: {_reason(error)}") from error
    try:
        text = content.decode("utf-8-sig")  # some editors begin a file with a mark
        # a key of many parts takes tomllib time that grows with their square
        keys = re.split(r"[=,\[\]{}\n]|#.*", text)
        if any(key.count(".") > MAX_DEPTH for key in keys):
            raise ValueError(_TOO_DEEP)
        values = tomllib.loads(text)
        _check_depth(values)
    except (RecursionError, ValueError) as error:
        # Python reads no integer of several thousand digits
        reason = _TOO_LARGE if "integer string conversion" in str(error) else error
        reason = _TOO_DEEP if isinstance(error, RecursionError) else reason
        raise GMMVAEError(f"{path} is not TOML: {reason}") from error
    return values


# in place of pydantic's words for Python values
_MESSAGES = {
    "model_type": "should be a JSON object",
    "dict_type": "should be a JSON object",
    "string_pattern_mismatch": "should be text that is not empty",
}
_TOO_DEEP = f"its values are nested more than {MAX_DEPTH} deep"
_TOO_LARGE = "it has an integer of more than 64 bits"


def _integer(digits: str) -> int:
    if len(digits) > 21 or abs(int(digits)) > MAX_INTEGER:
        raise ValueError(_TOO_LARGE)
    return int(digits)


def _check_depth(values: Any) -> None:
    """Walk nested lists and tables without recursion."""
    level, depth = [values], 0
    while True:
        if any(type(value) is int and abs(value) > MAX_INTEGER for value in level):
            raise ValueError(_TOO_LARGE)
        tables = [list(value.values()) for value in level if isinstance(value, dict)]
        nested = [*tables, *(value for value in level if isinstance(value, list))]
        if not nested:
            return
        if depth == MAX_DEPTH:
            raise ValueError(_TOO_DEEP)
        level, depth = [value for inner in nested for value in inner], depth + 1


def _reason(error: Exception) -> object:
    return getattr(error, "strerror", None) or error


# ---------------------------------------------------------------------------------- tables


def read_table(path: Path, **csv: Any) -> "pd.DataFrame":
    """Read a csv file with a header line, or a parquet file (by the ending ``.parquet``).

    Args:
        path: the file.
        csv: options of ``pandas.read_csv``.

    Raises:
        GMMVAEError: the file is missing, empty, not a regular file or of another kind; a csv names
            a column twice, or has a line that is longer than its header; parquet without pyarrow.
    """
    import pandas as pd

    require_file(path)
    if ending(path) == ".parquet":
        with table_errors(path, "parquet"):
            return pd.read_parquet(path)
    with table_errors(path, "csv"):
        # pandas would rename the second "a" to "a.1"
        header = pd.read_csv(path, header=None, nrows=1, dtype=str, skipinitialspace=True)
        names = header.iloc[0].dropna().str.strip()
        if len(twice := names[names.duplicated()]):
            raise GMMVAEError(f"{path} names the column {twice.iloc[0]!r} twice")
        try:
            with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):
                return pd.read_csv(path, index_col=False, **csv)
        except pd.errors.ParserWarning as error:  # else pandas would drop the last entries
            raise GMMVAEError(f"{path}: a line has more entries than the first line") from error


def read_text_table(path: Path) -> "pd.DataFrame":
    """Read a csv file whose entries are text; spaces around them are dropped, missing ones are "".

    Raises:
        GMMVAEError: as :func:`read_table`.
    """
    table = read_table(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    table.columns = table.columns.str.strip()
    return table.fillna("").apply(lambda column: column.str.strip())  # a line may end early


@contextlib.contextmanager
def table_errors(path: Path, kind: str) -> Iterator[None]:
    """Turn errors of a reader into a GMMVAEError of one line."""
    try:
        yield
    except (GMMVAEError, MemoryError):
        raise
    except ImportError as error:
        needed = ("openpyxl", "excel") if kind == "xlsx" else ("pyarrow", "parquet")
        raise missing_extra(f"a {kind} file", *needed) from error
    except Exception as error:  # pandas and pyarrow raise many types for a bad file
        unknown = "its encoding is not known; save it as UTF-8"
        text = unknown if isinstance(error, UnicodeDecodeError) else str(error)
        first = text.strip().split("\n")[0]
        raise GMMVAEError(f"{path} can't be read as {kind}: {first}") from error


# ---------------------------------------------------------------------------------- tensors


def save_weights(path: Path, state: Mapping[str, "Tensor"]) -> None:
    """Write tensors as safetensors with a checksum of their content, atomically."""
    from safetensors.torch import save

    tensors = {name: t.detach().cpu().contiguous() for name, t in state.items()}
    atomic_write(path, save(tensors, metadata={"sha256": _digest(tensors)}))


def load_weights(path: Path) -> dict[str, "Tensor"]:
    """Read what :func:`save_weights` wrote; never unpickles.

    Raises:
        GMMVAEError: the file is missing, not a safetensors file, or was altered.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = read_bytes(path)
    except OSError as error:
        raise GMMVAEError(f"{path} can't be read: {error.strerror or error}") from error
    try:
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except (SafetensorError, ValueError) as error:
        raise GMMVAEError(
            f"{path} is not a safetensors file ({error}); restore or retrain"
        ) from error
    if (header.get("__metadata__") or {}).get("sha256") != _digest(tensors):
        raise GMMVAEError(f"{path} was altered after it was saved (checksum); restore or retrain")
    return tensors


def save_training(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain Python values for a later resume, atomically."""
    import torch

    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    atomic_write(path, buffer.getvalue())


def load_training(path: Path, device: "torch.device | str") -> dict[str, Any]:
    """Read what :func:`save_training` wrote, with torch's ``weights_only`` reader.

    Raises:
        GMMVAEError: the file is missing, damaged, or holds more than tensors and plain values.
    """
    import torch

    if not path.exists():
        raise GMMVAEError(f"{path} is missing: nothing to resume; train again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles, which are refused
            stored = io.BytesIO(read_bytes(path))
            content = torch.load(stored, map_location=device, weights_only=True)
        if not isinstance(content, dict):
            raise TypeError(f"it holds a {type(content).__name__}")
    except Exception as error:  # torch raises half a dozen types for a bad file
        raise GMMVAEError(
            f"{path} can't be read as a training state: damaged, or not written by this program"
        ) from error
    return content


def _digest(tensors: Mapping[str, "Tensor"]) -> str:
    """SHA-256 over names, types, shapes and bytes."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
