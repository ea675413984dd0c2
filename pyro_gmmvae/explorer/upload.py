"""A file that was dropped on the page: checked before it is read, classified, and forgotten."""

import io
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
import pandas as pd
import torch

from pyro_gmmvae.data import load_array
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.runs import Run
from pyro_gmmvae.training import dtype_of

Array = np.ndarray[Any, Any]
MOST_BYTES = 20_000_000
MOST_UNPACKED = 200_000_000  # bytes
MOST_COLUMNS = 100_000
MOST_ROWS = 2000  # classified
KINDS = ".npz, .npy, .csv and IDX images"
GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Classified:
    """What was said of a file.

    Attributes:
        table: as :meth:`Run.predict` gives it.
        total: rows in the file (sequences, of tracks).
        x: (n, *x_shape) the classified rows in the model's units; None of tracks.
        z: (n, d) their posterior means; None of tracks.
    """

    table: pd.DataFrame
    total: int
    x: Array | None = None
    z: Array | None = None


def shown_name(name: str) -> str:
    """A file's name as the page says it: no folders, no control letters, no novels."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    text = "".join(letter if letter.isprintable() else "?" for letter in last)
    return text if len(text) <= 60 else f"{text[:40]}...{text[-16:]}"


def classify(run: Run, name: str, content: bytes) -> Classified:
    """Labels for the first rows of a file's content, which is on disk only while it is read.

    Args:
        run: a trained run.
        name: the file's.
        content: its bytes.

    Raises:
        GMMVAEError: what can't be used, in one sentence.
    """
    name = shown_name(name)
    stored, content = checked(name, content)
    try:
        if run.schema.features is not None:
            with _on_disk(stored, content, name) as path:
                table = run.predict(path)
            return Classified(table, len(table))
        with _on_disk(stored, content, name) as path:
            column = run.config.label_column
            dataset = load_array(path, label_column=column, read_labels=False)
        total = len(dataset.x)
        numbers = dataset.row_numbers[:MOST_ROWS]
        dataset = replace(dataset, x=dataset.x[:MOST_ROWS], y=dataset.y[:MOST_ROWS], kept=numbers)
        table = run.predict_rows(dataset, name)
        x = run.schema.rows_for_model(dataset, name)
        tensor = torch.from_numpy(x).to(run.device, dtype_of(run.config.precision))
        return Classified(table, total, x, run.embed(tensor))
    except GMMVAEError:
        raise
    except MemoryError as error:
        raise GMMVAEError(f"{name} needs more memory than there is") from error
    except Exception as error:  # readers raise many types for a file that was made to break them
        raise GMMVAEError(f"{name} can't be read: damaged, or of another kind") from error


def checked(name: str, content: bytes) -> tuple[str, bytes]:
    """A name to store the content under, and the content, unpacked if it was a gzipped IDX file.

    Raises:
        GMMVAEError: empty, too large (packed or unpacked), of another kind, or Python objects.
    """
    if not content:
        raise GMMVAEError(f"{name} is empty")
    if len(content) > MOST_BYTES:
        raise GMMVAEError(too_large(name, len(content)))
    suffix = PurePosixPath(name).suffix.lower()
    if suffix == ".npz":
        _check_npz(name, content)
    elif suffix == ".npy":
        _check_npy(name, io.BytesIO(content), len(content))
    elif suffix == ".csv":
        _check_csv(name, content)
    elif "idx3" in name:
        return "rows-idx3-ubyte", _unpacked(name, content)
    else:
        raise GMMVAEError(
            f"{name} is of an unknown kind; this page takes {KINDS}; 'gmmvae predict' knows more"
        )
    return f"rows{suffix}", content


def too_large(name: str, size: int) -> str:
    """The sentence for a file beyond ``MOST_BYTES``."""
    return (
        f"{name} has {size / 1e6:.1f} MB; this page takes up to {MOST_BYTES / 1e6:.0f} MB, and "
        "'gmmvae predict' takes more"
    )


def _check_npz(name: str, content: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            size = sum(member.file_size for member in members)
            if size > MOST_UNPACKED:
                raise GMMVAEError(
                    f"{name} unpacks to {size / 1e6:.0f} MB; this page takes up to "
                    f"{MOST_UNPACKED / 1e6:.0f} MB"
                )
            for member in members:
                with archive.open(member) as file:
                    _check_npy(name, file, member.file_size)
    except GMMVAEError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise GMMVAEError(f"{name} is no npz file, or a damaged one") from error
    except (RuntimeError, NotImplementedError) as error:
        # zipfile's words for a password and for a compression it does not know
        raise GMMVAEError(f"{name} can't be unpacked ({error})") from error


def _check_npy(name: str, file: IO[bytes], size: int) -> None:
    """Refuse what numpy would make room for before it looks whether there is so much."""
    try:
        version = np.lib.format.read_magic(file)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        shape, _, dtype = readers[version](file)
    except (ValueError, KeyError, EOFError, OSError) as error:
        raise GMMVAEError(f"{name} holds what is no plain numpy array") from error
    if dtype.hasobject:
        raise GMMVAEError(f"{name} holds pickled Python objects, which are never read")
    count = 1
    for length in shape:
        count *= int(length)
    if count < 0 or count * dtype.itemsize > size:
        raise GMMVAEError(f"{name} is damaged: it promises more numbers than it holds")


def _check_csv(name: str, content: bytes) -> None:
    if b"\0" in content:
        raise GMMVAEError(f"{name} is no csv file: it holds zero bytes")
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise GMMVAEError(f"{name} is no csv file in UTF-8") from error
    columns = 1 + content.partition(b"\n")[0].count(b",")
    if columns > MOST_COLUMNS:
        raise GMMVAEError(f"{name} has {columns} columns; this page takes up to {MOST_COLUMNS}")


def _unpacked(name: str, content: bytes) -> bytes:
    if content[:2] != GZIP:
        return content
    try:
        stream = zlib.decompressobj(wbits=31)
        unpacked = stream.decompress(content, MOST_UNPACKED)
    except zlib.error as error:
        raise GMMVAEError(f"{name} is a damaged gzip file") from error
    if not stream.eof:
        reason = (
            "is cut off" if not stream.unconsumed_tail else "unpacks to more than this page takes"
        )
        raise GMMVAEError(f"{name} {reason}")
    return unpacked


@contextmanager
def _on_disk(stored: str, content: bytes, name: str) -> Iterator[Path]:
    """A file that only this user can read, gone at the end; errors speak of it by its own name."""
    with tempfile.TemporaryDirectory(prefix="gmmvae-") as folder:
        path = Path(folder) / stored
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        try:
            yield path
        except GMMVAEError as error:
            raise GMMVAEError(str(error).replace(str(path), name)) from error
