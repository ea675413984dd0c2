"""Atomic writing, limits of reading, and locks; a file never runs code."""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from pydantic import BaseModel

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import (
    atomic_file,
    atomic_write,
    load_training,
    load_weights,
    parse_json,
    read_json,
    read_json_as,
    read_table,
    read_text_table,
    read_toml,
    remove_leftovers,
    save_training,
    save_weights,
    write_json,
)

CPU = torch.device("cpu")


def test_weights_survive_a_round_trip(tmp_path: Path) -> None:
    state = {"a": torch.randn(3, 4), "b": torch.tensor(2), "c": torch.randn(4, 3).T}
    save_weights(tmp_path / "w.safetensors", state)
    loaded = load_weights(tmp_path / "w.safetensors")
    assert all(torch.equal(loaded[k], state[k].cpu()) for k in state)


def test_an_altered_byte_is_refused(tmp_path: Path) -> None:
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
    """A limit on the file size makes the write fail half-way, as a full disk does."""
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


def test_killing_a_process_while_saving_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    """kill -9 at five moments of an endless series of saves: the file always loads."""
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


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(GMMVAEError, match="can't write"):
        atomic_write(tmp_path / "no" / "folder" / "f", b"")


def test_training_state_survives_a_round_trip(tmp_path: Path) -> None:
    content = {"a": torch.randn(3), "history": [{"epoch": 1, "loss": 0.1}], "none": None}
    save_training(tmp_path / "t.pt", content)
    loaded = load_training(tmp_path / "t.pt", CPU)
    assert torch.equal(loaded["a"], content["a"].cpu())
    assert loaded["history"] == content["history"]


def test_a_block_that_raises_keeps_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "film.gif"
    file.write_bytes(b"old")

    def write() -> None:
        with atomic_file(file) as temporary:
            assert temporary.suffix == ".gif"
            temporary.write_bytes(b"ne")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert [p.name for p in tmp_path.iterdir()] == ["film.gif"]
    assert file.read_bytes() == b"old"


READERS = [read_json, read_toml, read_table, load_weights, lambda path: load_training(path, CPU)]


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "absent"])
@pytest.mark.parametrize("reader", READERS, ids=["json", "toml", "table", "weights", "training"])
def test_only_regular_files_are_read(tmp_path: Path, reader: Any, kind: str) -> None:
    """A pipe without a writer would block for ever."""
    path = Path("/dev/zero") if kind == "device" else tmp_path / kind
    if kind == "pipe":
        os.mkfifo(path)
    if kind == "folder":
        path.mkdir()
    with pytest.raises(GMMVAEError) as caught:
        reader(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


JSON = {
    "deep": ("[" * 101 + "]" * 101, "nested more than 100 deep"),
    "deeper": ("[" * 100_000, "nested more than 100 deep"),
    "deep tables": ('{"a":' * 200 + "1" + "}" * 200, "nested more than 100 deep"),
    "large": ("[1, 18446744073709551616]", "integer of more than 64 bits"),
    "long": ("9" * 5000, "integer of more than 64 bits"),
    "cut": ('{"a": [1, 2', "can't be read as JSON"),
    "bytes": (b"\xff\xfe\xfa", "can't be read as JSON"),
    "empty": ("", "can't be read as JSON"),
}


@pytest.mark.parametrize("case", JSON)
def test_json_beyond_the_limits_is_refused(tmp_path: Path, case: str) -> None:
    content, message = JSON[case]
    file = tmp_path / "f.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(GMMVAEError, match=message) as caught:
        read_json(file)
    assert "\n" not in str(caught.value)


def test_json_within_the_limits_is_read(tmp_path: Path) -> None:
    values = {"seed": 2**64 - 1, "low": -(2**63), "deep": [[[{"a": [None, True, 0.1, "x"]}]]]}
    write_json(tmp_path / "f.json", values)
    assert read_json(tmp_path / "f.json") == values
    write_json(tmp_path / "f.json", float("inf"))
    assert read_json(tmp_path / "f.json") == float("inf")
    assert parse_json(b"[1e400]") == [float("inf")]


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    for name, reader in (("f.json", read_json), ("f.toml", read_toml)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(2**30)
        with pytest.raises(GMMVAEError, match="1,073,741,824 bytes, more than"):
            reader(tmp_path / name)


TOML = {
    "deep": (f"a = {'[' * 101}{']' * 101}", "nested more than 100 deep"),
    "deeper": (f"a = {'[' * 100_000}", "nested more than 100 deep"),
    "long key": (".".join(["a"] * 200_000) + " = 1", "nested more than 100 deep"),
    "long table": (f"[{'.'.join(['a'] * 200_000)}]", "nested more than 100 deep"),
    "large": ("a = 18446744073709551616", "integer of more than 64 bits"),
    "long": (f"a = {'9' * 5000}", "integer of more than 64 bits"),
    "no value": ("a = ", "is not TOML"),
    "bytes": (b"a = '\xff'", "is not TOML"),
}


@pytest.mark.parametrize("case", TOML)
def test_toml_beyond_the_limits_is_refused(tmp_path: Path, case: str) -> None:
    content, message = TOML[case]
    file = tmp_path / "f.toml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(GMMVAEError, match=message) as caught:
        read_toml(file)
    assert "\n" not in str(caught.value)


def test_toml_may_begin_with_a_mark_and_is_utf8(tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_bytes("\ufeff# 日本\nname = '甲'\n".encode())
    assert read_toml(tmp_path / "f.toml") == {"name": "甲"}


def test_toml_within_the_limits_is_read(tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_text(f"# {'.' * 200}\na.b = [{', '.join(['0.5'] * 200)}]\n")
    assert read_toml(tmp_path / "f.toml") == {"a": {"b": [0.5] * 200}}


class Progress(BaseModel, extra="forbid"):
    epoch: int
    history: list[dict[str, float]]


BAD_PROGRESS = {
    "no table": ([1, 2], "f.json is damaged: .*found \\[1, 2\\]"),
    "missing": ({"epoch": 1}, "f.json is damaged: history: field required"),
    "text": ({"epoch": "one", "history": []}, "epoch: input should be a valid int.*'one'"),
    "within": ({"epoch": 1, "history": [{"loss": None}]}, r"history\.0\.loss: .*, found None"),
    "unknown": ({"epoch": 1, "history": [], "x": 0}, "x: extra inputs are not permitted, found 0"),
}


@pytest.mark.parametrize("case", BAD_PROGRESS)
def test_json_of_another_shape_is_one_line(tmp_path: Path, case: str) -> None:
    content, message = BAD_PROGRESS[case]
    write_json(tmp_path / "f.json", content)
    with pytest.raises(GMMVAEError, match=message) as caught:
        read_json_as(tmp_path / "f.json", Progress)
    assert "\n" not in str(caught.value)


def test_json_is_read_as_a_type(tmp_path: Path) -> None:
    write_json(tmp_path / "f.json", {"epoch": 1, "history": [{"loss": 1}]})
    read = read_json_as(tmp_path / "f.json", Progress)
    assert read == Progress(epoch=1, history=[{"loss": 1.0}])
    write_json(tmp_path / "f.json", {"a": 1})
    assert read_json_as(tmp_path / "f.json", dict[str, int]) == {"a": 1}


TABLES = {
    "twice": ("a,b,a\n1,2,3\n", "names the column 'a' twice"),
    "long": ("a,b\n1,2,3\n4,5\n", "more entries than the first line"),
    "row numbers": ("a,b\n0,2,3\n1,5,6\n", "more entries than the first line"),
    "longer": ("a,b\n1,2\n4,5,6\n", "can't be read as csv"),
    "empty": ("", "is empty"),
}


@pytest.mark.parametrize("reader", [read_table, read_text_table])
@pytest.mark.parametrize("case", TABLES)
def test_bad_csv_is_refused(tmp_path: Path, case: str, reader: Any) -> None:
    content, message = TABLES[case]
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(GMMVAEError, match=message) as caught:
        reader(tmp_path / "t.csv")
    assert "\n" not in str(caught.value)


def test_tables_are_read(tmp_path: Path) -> None:
    table = pd.DataFrame({"a": [1, 2], "b": [0.5, float("nan")]})
    table.to_csv(tmp_path / "t.csv", index=False)
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.csv"), table)
    (tmp_path / "t.csv").write_text("a,b\n1,0.5,\n2,,\n")  # an end of line that names no column
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.csv"), table)
    (tmp_path / "t.csv").write_text("a , b\n NA, 01 \n2\n")
    text = read_text_table(tmp_path / "t.csv")
    assert text.to_dict("list") == {"a": ["NA", "2"], "b": ["01", ""]}


def test_reading_a_configuration_loads_no_torch() -> None:
    code = "import sys, pyro_gmmvae.files; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
