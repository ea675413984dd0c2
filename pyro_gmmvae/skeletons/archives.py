"""The files of a folder, tar or zip: listed by name, read one at a time."""

import gzip
import posixpath
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import require_file

ENDINGS = (".tar", ".tar.gz", ".tgz", ".zip")
_DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError),
    # zipfile's errors for a password and for an unknown compression
    *(RuntimeError, NotImplementedError),
)

Read = Callable[[str], bytes]


@contextmanager
def open_files(source: Path) -> Iterator[tuple[list[str], Read]]:
    """Names of the files, in no order, and a function that reads one of them.

    A folder's names are those of its own files and of its sub-folders' files
    ("folder/file"); a deeper folder is one name that ends in "/". An archive's names leave
    out the folders that all its files share.

    Args:
        source: a folder, or a .tar, .tar.gz, .tgz or .zip.

    Raises:
        GMMVAEError: the source is missing, of another kind or damaged; the latter also from
            reading a file.
    """
    if not source.exists():
        raise GMMVAEError(f"{source} does not exist; name a folder or an archive of frames")
    if source.is_dir():
        yield _names_in(source), lambda name: (source / name).read_bytes()
        return
    if not source.name.lower().endswith(ENDINGS):
        raise GMMVAEError(
            f"{source} is neither a folder nor an archive ({', '.join(ENDINGS)}); name the "
            "folder that holds the files"
        )
    require_file(source)
    with ExitStack() as stack:
        with _named_damage(source):
            is_zip = source.suffix.lower() == ".zip"
            full_names, read = (_open_zip if is_zip else _open_tar)(source, stack)
        names = _without_shared_folders(full_names)

        def read_named(name: str) -> bytes:
            with _named_damage(source):
                return read(names[name])

        yield list(names), read_named


def _names_in(folder: Path) -> list[str]:
    names = []
    for path in _listed(folder):
        if path.is_dir() and not path.name.startswith("."):
            names += [f"{path.name}/{p.name}{'' if p.is_file() else '/'}" for p in _listed(path)]
        else:  # a pipe or a dangling link is as foreign as a folder of folders
            names.append(path.name if path.is_file() else f"{path.name}/")
    return names


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise GMMVAEError(f"{folder} can't be listed: {error.strerror or error}") from error


def _without_shared_folders(full_names: Iterable[str]) -> dict[str, str]:
    """From the names below the folders that all files share to the full names."""
    tidy = {posixpath.normpath(name).lstrip("/"): name for name in full_names}
    # macOS adds a folder of its own beside the packed folder
    folders = {posixpath.dirname(n) for n in tidy if not n.startswith(("__MACOSX/", "."))}
    shared = posixpath.commonpath(folders) if folders else ""
    return {n.removeprefix(f"{shared}/") if shared else n: full for n, full in tidy.items()}


def _open_zip(source: Path, stack: ExitStack) -> tuple[list[str], Read]:
    archive = stack.enter_context(zipfile.ZipFile(source))
    return [info.filename for info in archive.infolist() if not info.is_dir()], archive.read


def _open_tar(source: Path, stack: ExitStack) -> tuple[list[str], Read]:
    file: IO[bytes] = stack.enter_context(source.open("rb"))
    if file.read(2) == b"\x1f\x8b":
        # files are read in the order of their frames, and gzip can't go back
        file.seek(0)
        unpacked = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        with gzip.open(file) as stream:
            shutil.copyfileobj(stream, unpacked, 1 << 20)
        file = unpacked
    places = _places(file)

    def read(name: str) -> bytes:
        start, size = places[name]
        file.seek(start)
        return file.read(size)

    return list(places), read


def _places(file: IO[bytes]) -> dict[str, tuple[int, int]]:
    """The offset and size in bytes of each file of a tar."""
    places = {}
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:") as archive:
        while (member := archive.next()) is not None:
            if member.isreg():
                places[member.name] = (member.offset_data, member.size)
            vars(archive)["members"].clear()  # it keeps a kilobyte for each
        # tarfile takes a broken header for the end
        file.seek(archive.offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"it breaks off at byte {archive.offset}")
    return places


@contextmanager
def _named_damage(source: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        reason = str(error).strip().split("\n")[0]
        raise GMMVAEError(f"{source} is a damaged archive ({reason}); fetch it again") from error
