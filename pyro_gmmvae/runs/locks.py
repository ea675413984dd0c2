"""Locks of files, which the system releases when their process ends.

They hold on one machine and over NFS. Without such locks (Windows, some file systems) a file is
only opened.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pyro_gmmvae.errors import GMMVAEError

TRIES = 100  # while other processes delete the file


class InUseError(GMMVAEError):
    """Another process holds a lock."""


@contextlib.contextmanager
def held_lock(file: Path) -> Iterator[None]:
    """Lock the folder of a file for the length of a block.

    The file has the number of this process, and is deleted after the block.

    Raises:
        InUseError: another process holds the lock.
        GMMVAEError: the file can't be made.
    """
    try:
        handle = try_lock(file)
    except OSError as error:
        raise GMMVAEError(f"can't write {file}: {error.strerror or error}") from error
    if handle is None:
        raise InUseError(
            f"{file.parent} is in use{_holder(file)}; wait until that process ends, or name "
            "another folder"
        )
    with handle:
        with contextlib.suppress(OSError):  # a full disk: what is written later says so
            os.write(handle.fileno(), f"{os.getpid()}\n".encode())
        try:
            yield
        finally:
            # while it is held: no other process can have locked a new file of this name
            with contextlib.suppress(OSError):  # Windows keeps files that are open
                if _is_at(handle, file):
                    file.unlink()


def _holder(file: Path) -> str:
    try:
        number = file.read_bytes()[:20].decode().strip()
    except (OSError, ValueError):
        return ""
    return f" by process {number}" if number.isdecimal() else ""


def _is_at(handle: IO[str], file: Path) -> bool:
    return os.path.samestat(os.fstat(handle.fileno()), file.stat())


def acquire_lock(file: Path) -> IO[str]:
    """Lock a file until it is closed or the process ends; wait for the process that holds it."""
    handle = file.open("a")
    with contextlib.suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


def try_lock(file: Path) -> IO[str] | None:
    """Lock a file as :func:`acquire_lock` does, or give None at once if a process holds it.

    The file is emptied. A symbolic link is not followed.

    Raises:
        OSError: the file can't be opened.
    """
    # a pipe in its place is not waited for
    flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
    for _ in range(TRIES):
        handle = os.fdopen(os.open(file, flags, 0o666), "w")
        try:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            return handle
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                handle.close()
                return None
            return handle  # a file system without locks
        with contextlib.suppress(FileNotFoundError):
            if _is_at(handle, file):
                handle.truncate(0)
                return handle
        handle.close()  # the process that held the lock has deleted the file
    return None


def is_locked(file: Path) -> bool:
    """Whether a running process has locked the file; true if it exists where locks don't."""
    try:
        import fcntl

        with file.open("a" if file.exists() else "r") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except (ImportError, OSError):
        return True
    return False
