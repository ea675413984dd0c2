"""Locks that the system lets go of when their process dies, on one machine or over NFS."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


def hold(file: Path) -> IO[str]:
    """Lock a file until it is closed or the process ends; waits for whoever has it."""
    handle = file.open("a")
    with suppress(ImportError, OSError):  # no such locks here (Windows, some file systems)
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


@contextmanager
def held(file: Path) -> Iterator[None]:
    """Lock a file within the block."""
    with hold(file):
        yield


def is_held(file: Path) -> bool:
    """Whether a living process has locked the file; where locks can't be had, yes if it exists."""
    try:
        import fcntl

        with file.open("a" if file.exists() else "r") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except (ImportError, OSError):
        return True
    return False
