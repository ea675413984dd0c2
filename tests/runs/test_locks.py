"""Locks of files and of run folders."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.runs import default_config, resume, train
from pyro_gmmvae.runs.folder import LOCK
from pyro_gmmvae.runs.locks import acquire_lock, held_lock, is_locked, try_lock

SMALL = {"epochs": 2, "hidden": "8", "latent_dim": 2, "engine": "svi"}


def test_locks_end_with_their_holder(tmp_path: Path) -> None:
    file = tmp_path / "alive"
    assert not is_locked(file)
    held = acquire_lock(file)
    assert is_locked(file)
    assert try_lock(file) is None
    held.close()
    assert not is_locked(file)
    second = try_lock(file)
    assert second is not None
    assert is_locked(file)
    second.close()


def test_a_lock_names_its_process_and_is_gone_after_it(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with held_lock(file):
        assert file.read_text() == f"{os.getpid()}\n"
        with (
            pytest.raises(GMMVAEError, match=f"{tmp_path} is in use by process {os.getpid()};"),
            held_lock(file),
        ):
            pass
        assert file.read_text() == f"{os.getpid()}\n"  # the refused one changed nothing
    assert not file.exists()


def test_a_lock_file_that_a_killed_process_left_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("999999\n")
    with held_lock(tmp_path / "lock"):
        pass


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir], ids=["pipe", "folder"])
def test_a_lock_that_is_no_file_is_one_line(tmp_path: Path, make: object) -> None:
    make(tmp_path / "lock")  # type: ignore[operator]
    with pytest.raises(GMMVAEError, match="lock"), held_lock(tmp_path / "lock"):
        pass


def test_a_lock_does_not_follow_a_link(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("kept")
    (tmp_path / "lock").symlink_to("other")
    with pytest.raises(GMMVAEError, match="can't write"), held_lock(tmp_path / "lock"):
        pass
    assert (tmp_path / "other").read_text() == "kept"


def test_without_locks_of_the_file_system_a_fit_can_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)
    with held_lock(tmp_path / "lock"):
        pass
    assert not (tmp_path / "lock").exists()


def test_one_process_at_a_time_trains_in_a_folder(tmp_path: Path) -> None:
    """Of several that begin together, each is refused or finds the run complete."""
    config = default_config("digits", SMALL | {"epochs": 1})
    run = tmp_path / "run"
    train(config, run)
    code = "from pyro_gmmvae.cli import main; import sys; sys.argv[1:] = {}; main()"
    arguments = ["resume", str(run), "--epochs", "40"]
    one, two = (
        subprocess.Popen(
            [sys.executable, "-c", code.format(arguments)], stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    )
    errors = [process.communicate(timeout=300)[1] for process in (one, two)]
    assert sorted(process.returncode for process in (one, two)) == [0, 2], errors
    refused = next(e for e, p in zip(errors, (one, two), strict=True) if p.returncode == 2)
    ended = ("is in use by process", "epochs already", "is complete")
    assert any(text in refused for text in ended), refused
    assert not (run / LOCK).exists()


def test_a_run_that_trains_is_not_replaced(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(default_config("digits", SMALL), run)
    before = (run / "metrics.json").read_bytes()
    with held_lock(run / LOCK):
        for call in (
            lambda: train(default_config("digits", SMALL), run, force=True),
            lambda: resume(run, epochs=3),
        ):
            with pytest.raises(GMMVAEError, match="in use by process"):
                call()
    assert (run / "metrics.json").read_bytes() == before
    assert resume(run, epochs=3).path == run


def test_a_killed_process_releases_its_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    keys = "".join(f"--set {key}={value} " for key, value in SMALL.items() if key != "epochs")
    command = [sys.executable, "-m", "pyro_gmmvae", "train", "--epochs", "500", *keys.split()]
    process = subprocess.Popen([*command, "--set", "checkpoint_seconds=0", "--out", str(run)])
    while not (run / "history.csv").exists():
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert resume(run, epochs=3 + len((run / "history.csv").read_text().splitlines())).path == run


def test_a_full_disk_is_no_reason_to_refuse_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", write)
    with held_lock(tmp_path / LOCK):
        assert (tmp_path / LOCK).read_bytes() == b""
    assert not (tmp_path / LOCK).exists()
