"""Files that are old or new, never half, and that never run code."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import (
    atomic_write,
    load_training,
    load_weights,
    remove_leftovers,
    save_training,
    save_weights,
)

CPU = torch.device("cpu")


def test_weights_survive_a_round_trip(tmp_path: Path) -> None:
    state = {"a": torch.randn(3, 4), "b": torch.tensor(2), "c": torch.randn(4, 3).T}
    save_weights(tmp_path / "w.safetensors", state)
    loaded = load_weights(tmp_path / "w.safetensors")
    assert all(torch.equal(loaded[k], state[k].cpu()) for k in state)


def test_an_altered_byte_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_weights(file, {"a": torch.randn(30)})
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.raises(GMMVAEError, match="altered"):
        load_weights(file)


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_a_pickle_is_refused_and_not_run(tmp_path: Path, writer: str) -> None:
    file, marker = tmp_path / "f", tmp_path / "ran"
    if writer == "pickle":
        file.write_bytes(pickle.dumps({"a": Bomb(marker)}))
    else:
        torch.save({"a": Bomb(marker)}, file)
    with pytest.raises(GMMVAEError, match="safetensors"):
        load_weights(file)
    with pytest.raises(GMMVAEError, match="can't be read"):
        load_training(file, CPU)
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"x", b"\x00" * 100, b"\xff" * 8])
def test_foreign_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(GMMVAEError):
        load_weights(tmp_path / "f")
    with pytest.raises(GMMVAEError):
        load_training(tmp_path / "f", CPU)


def test_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    """A file-size limit stands in for the disk: the write fails half-way, as on a full one."""
    file = tmp_path / "weights"
    file.write_bytes(b"old")
    code = f"""
import resource, signal
from pathlib import Path
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import atomic_write
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    atomic_write(Path({str(file)!r}), b"n" * 5000)
except GMMVAEError as error:
    assert "is kept" in str(error), error
else:
    raise SystemExit("nothing was refused")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert file.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["weights"]


def test_killed_while_saving_leaves_old_or_new(tmp_path: Path) -> None:
    """kill -9 at ten moments of an endless series of saves: the file always loads."""
    file = tmp_path / "w.safetensors"
    code = f"""
import torch
from pathlib import Path
from pyro_gmmvae.files import save_training, save_weights
step = 0
while True:
    step += 1
    state = {{"a": torch.full((200_000,), float(step))}}
    save_weights(Path({str(file)!r}), state)
    save_training(Path({str(tmp_path / "t.pt")!r}), {{"step": step, **state}})
    if step == 1:
        print("saved", flush=True)
"""
    for attempt in range(5):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.05 + 0.013 * attempt)
        process.kill()
        process.wait()
        process.stdout.close()
        weights = load_weights(file)["a"]
        assert (weights == weights[0]).all()
        training = load_training(tmp_path / "t.pt", CPU)
        assert (training["a"] == training["step"]).all()
    remove_leftovers(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"w.safetensors", "t.pt"}


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(GMMVAEError, match="can't write"):
        atomic_write(tmp_path / "no" / "folder" / "f", b"")


def test_training_state_survives_a_round_trip(tmp_path: Path) -> None:
    content = {"a": torch.randn(3), "history": [{"epoch": 1, "loss": 0.1}], "none": None}
    save_training(tmp_path / "t.pt", content)
    loaded = load_training(tmp_path / "t.pt", CPU)
    assert torch.equal(loaded["a"], content["a"].cpu())
    assert loaded["history"] == content["history"]
