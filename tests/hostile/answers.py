"""One call of the command line, and the rules that its answer must keep."""

import contextlib
import hashlib
import os
import resource
import shutil
import signal
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from pyro_gmmvae.cli import main

SECONDS = 60  # a call takes below one on an idle machine
MEMORY = 4 * 2**30  # beyond what the process has
PAGE = 4096
# what a run folder may gain or change, by command
OUTPUTS = {
    "evaluate": ("run/metrics.json",),
    "figures": ("run/figures",),
    "report": ("run/report.html", "run/metrics.json"),
    "name": ("run/names.json",),
    "resume": ("run/",),
}


@dataclass(frozen=True)
class Answer:
    """The exit status and what was printed."""

    code: int
    out: str
    err: str


Call = Callable[..., Answer]


def examples(count: int) -> settings:
    """So many examples of hypothesis, the same ones each time."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


class HangError(BaseException):
    """A call took longer than it may; not an Exception, which the call could catch."""


def call_in(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Call:
    """A function that runs a command in a folder, within bounds of time and memory."""
    monkeypatch.chdir(folder)

    def call(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["gmmvae", *map(str, arguments)])
        capsys.readouterr()
        with bounded(), pytest.raises(SystemExit) as caught:
            main()
        captured = capsys.readouterr()
        return Answer(int(caught.value.code or 0), captured.out, captured.err)

    return call


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Stop a block that takes too long, and fail its allocations that are too large."""

    def stop(*_: Any) -> None:
        raise HangError(f"no answer in {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * PAGE
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, limits[1]))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGALRM, before)


def check(folder: Path, call: Call, arguments: Sequence[object], *may_change: str) -> Answer:
    """Run a command and check the rules.

    It ends with a result, or with status 2 and one line. A command that is refused changes nothing,
    but for a fit that had begun: its checkpoint, and the description of a run that was resumed.
    Another changes its own outputs only.

    Args:
        folder: that the command works in.
        call: of :func:`call_in`.
        arguments: of the command.
        may_change: beginnings of the paths of its outputs.
    """
    before = contents(folder)
    answer = call(*arguments)
    after = contents(folder)
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    said = [line for line in answer.err.splitlines() if not line.startswith("gmmvae: warning: ")]
    assert answer.code in (0, 2), answer
    assert "Traceback" not in answer.err, answer
    if answer.code == 2:
        assert said, answer
        assert said[-1].startswith("gmmvae: "), answer
        assert len(said[-1]) < 1000, answer
        begun = [line for line in said[:-1] if line.startswith(("engine: ", "epoch "))]
        assert begun or len(said) == 1, answer
        kept = {out for out in may_change if f"{out.rstrip('/')}/training.pt" in changed}
        if begun and arguments[0] == "resume":  # it may fail before its first checkpoint
            kept |= {f"{arguments[1]}/{name}" for name in ("config.json", "environment.json")}
        outside = {one for one in changed if not any(one.startswith(out) for out in kept)}
        assert not outside, (answer, outside)
        return answer
    outputs = (*may_change, *OUTPUTS.get(str(arguments[0]), ()))
    outside = {one for one in changed if not one.startswith(outputs)} if outputs else changed
    assert not outside, (answer, outside)
    return answer


def contents(folder: Path) -> dict[str, str]:
    """Every path in a folder, with its kind and, of a regular file, a digest of its bytes."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place) / name
            mode = path.lstat().st_mode
            digest = str(stat.S_IFMT(mode))
            if stat.S_ISREG(mode):
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
            elif stat.S_ISLNK(mode):
                digest = f"link to {path.readlink()}"
            found[str(path.relative_to(folder))] = digest
    return found


def replace_by(path: Path, make: Callable[[Path], object]) -> None:
    """Put something else in the place of a file."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    make(path)
