"""Files of rows that are damaged, of another kind, or no files."""

import io
import json
import os
import pickle
import socket
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from .answers import Call, check, examples, replace_by

Make = Callable[[Path], object]
TRAIN = ("--engine", "svi", "--epochs", 1, "--set", "hidden=8", "--set", "latent_dim=2")


class Evil:
    """A pickle of it would make a file when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("pickle-was-run", "w"))


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def header(text: str) -> bytes:
    """An npy file with a header and few bytes of data."""
    filled = text.ljust(118) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(filled)) + filled.encode() + b"1234"


def flagged(offsets: Mapping[bytes, tuple[int, int]]) -> bytes:
    """An npz whose entry has another number in its zip headers."""
    content = bytearray(npz(x=X))
    for mark, (offset, value) in offsets.items():
        place = content.find(mark)
        content[place + offset : place + offset + 2] = struct.pack("<H", value)
    return bytes(content)


def zipped(names: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in names.items():
            file.writestr(name, content)
    return buffer.getvalue()


GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(30, 4)).astype(np.float32)
Y = np.arange(30) % 3
LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"
CSV = "a,b,label\n" + "".join(f"{k},{k % 5},{'uv'[k % 2]}\n" for k in range(20))

CONTENTS: dict[str, bytes] = {
    # arrays
    "empty.npz": b"",
    "text.npz": b"no array",
    "cut.npz": npz(x=X, y=Y)[:300],
    "no-members.npz": zipped({}),
    "other-members.npz": zipped({"a.txt": b"x"}),
    "member-outside.npz": zipped({"../x.npy": npy(X)}),
    "member-is-text.npz": zipped({"x.npy": b"text"}),
    "encrypted.npz": flagged({LOCAL: (6, 1), CENTRAL: (8, 1)}),
    "compression-99.npz": flagged({LOCAL: (8, 99), CENTRAL: (10, 99)}),
    "compression-lzma.npz": flagged({LOCAL: (8, 14), CENTRAL: (10, 14)}),
    "wrong-checksum.npz": flagged({LOCAL: (14, 7), CENTRAL: (16, 7)}),
    "structured.npz": npz(x=np.zeros(30, dtype=[("a", "f4"), ("b", "f4")])),
    "labels-structured.npz": npz(x=X, y=np.zeros(30, dtype=[("a", "i4")])),
    "pickled.npz": npz(x=np.array([Evil()] * 30, dtype=object)),
    "labels-pickled.npz": npz(x=X, y=np.array([Evil()] * 30, dtype=object)),
    "complex.npz": npz(x=X.astype(complex)),
    "dates.npz": npz(x=np.zeros((30, 4), "M8[s]")),
    "texts.npz": npz(x=np.full((30, 4), "a")),
    "bytes.npz": npz(x=np.full((30, 4), b"a")),
    "scalar.npz": npz(x=np.float32(1)),
    "vector.npz": npz(x=X[:, 0]),
    "no-rows.npz": npz(x=X[:0], y=Y[:0]),
    "one-row.npz": npz(x=X[:1], y=Y[:1]),
    "two-rows.npz": npz(x=X[:2], y=Y[:2]),
    "no-columns.npz": npz(x=X[:, :0], y=Y),
    "seven-axes.npz": npz(x=np.zeros((30, 1, 1, 1, 1, 1, 2))),
    "labels-too-few.npz": npz(x=X, y=Y[:5]),
    "labels-2d.npz": npz(x=X, y=np.stack([Y, Y], 1)),
    "labels-real.npz": npz(x=X, y=Y + 0.5),
    "labels-nan.npz": npz(x=X, y=np.full(30, np.nan)),
    "labels-huge.npz": npz(x=X, y=np.array([2**62] * 15 + [3] * 15)),
    "labels-all-different.npz": npz(x=X, y=np.arange(30)),
    "labels-one-class.npz": npz(x=X, y=np.zeros(30, int)),
    "float16.npz": npz(x=X.astype(np.float16), y=Y),
    "longdouble.npz": npz(x=X.astype(np.longdouble), y=Y),
    "big-endian.npz": npz(x=X.astype(">f8"), y=Y),
    "uint64.npz": npz(x=np.full((30, 4), 2**64 - 1, np.uint64), y=Y),
    "bool.npz": npz(x=X > 0, y=Y),
    "infinite.npz": npz(x=np.full_like(X, np.inf), y=Y),
    "nan.npz": npz(x=np.full_like(X, np.nan), y=Y),
    "one-nan.npz": npz(x=np.where(np.arange(120).reshape(30, 4) == 7, np.nan, X), y=Y),
    "rows-of-1e30.npz": npz(x=X * np.float32(1e30), y=Y),
    "rows-of-1e300.npz": npz(x=X.astype(float) * 1e300, y=Y),
    "rows-of-1e-300.npz": npz(x=X.astype(float) * 1e-300, y=Y),
    "constant.npz": npz(x=np.ones_like(X), y=Y),
    "one-constant-column.npz": npz(x=X * np.array([1, 1, 1, 0], np.float32) + 3, y=Y),
    "outlier.npz": npz(x=np.vstack([X[:-1], np.full((1, 4), 3e38, np.float32)]), y=Y),
    "weights-negative.npz": npz(x=X, y=Y, weight=-np.ones(30)),
    "array.npy": npy(X),
    "pickle.npy": pickle.dumps(Evil()),
    "header-of-1e18-rows.npy": header(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000000, 4), }"
    ),
    "header-negative.npy": header("{'descr': '<f4', 'fortran_order': False, 'shape': (-3, 4), }"),
    "header-code.npy": header("{'descr': open('pickle-was-run', 'w'), 'shape': (1,), }"),
    "header-deep.npy": header("{'descr': " + "(" * 50 + ")" * 50 + "}"),
    "header-object.npy": header("{'descr': '|O', 'fortran_order': False, 'shape': (30, 4), }"),
    "version-9.npy": b"\x93NUMPY\x09\x00" + npy(X)[8:],
    # tables
    "empty.csv": b"",
    "blank-lines.csv": b"\n\n\n",
    "header-only.csv": b"a,b,label\n",
    "zeros.csv": b"\x00" * 1000,
    "zero-in-a-cell.csv": CSV.encode().replace(b"3", b"\x00", 1),
    "random.csv": GENERATOR.bytes(2000),
    "utf16.csv": CSV.encode("utf-16"),
    "latin1.csv": "a,b,label\n1,2,é\n".encode("latin-1") * 9,
    "with-bom.csv": b"\xef\xbb\xbf" + CSV.encode(),
    "open-quote.csv": CSV.encode().replace(b"7,", b'"7,', 1),
    "quotes.csv": (b'"' * 1001 + b"\n") * 3,
    "ragged.csv": CSV.encode() + b"1,2,u,4,5,6\n",
    "short-line.csv": CSV.encode() + b"1\n",
    "same-name-twice.csv": CSV.encode().replace(b"a,b", b"a,a", 1),
    "nameless-column.csv": CSV.encode().replace(b"a,b", b",b", 1),
    "all-nameless.csv": b",,\n1,2,u\n2,3,v\n",
    "semicolons.csv": CSV.encode().replace(b",", b";"),
    "tabs.csv": CSV.encode().replace(b",", b"\t"),
    "old-mac.csv": CSV.encode().replace(b"\n", b"\r"),
    "one-long-line.csv": b"a" * 200_000,
    "long-cell.csv": CSV.encode().replace(b"7", b"7" * 200_000, 1),
    "many-columns.csv": (",".join(f"c{k}" for k in range(3000)) + "\n").encode()
    + (",".join("1" for _ in range(3000)) + "\n").encode() * 8,
    "huge-number.csv": CSV.encode().replace(b"7,", b"1e400,", 1),
    "huge-integer.csv": CSV.encode().replace(b"7,", b"9" * 5000 + b",", 1),
    "inf.csv": CSV.encode().replace(b"7,", b"-inf,", 1),
    "formula.csv": CSV.encode().replace(b"7,", b"=1+1,", 1),
    "all-missing.csv": b"a,b,label\n" + b",,u\n,,v\n" * 10,
    "no-label-value.csv": b"a,b,label\n" + b"1,2,\n3,4,\n" * 10,
    "all-text.csv": b"a,b,label\n" + b"".join(b"x%d,y%d,u\n" % (k, k) for k in range(40)),
    "one-value.csv": b"a,b,label\n" + b"1,1,u\n1,1,v\n" * 10,
    "class-names.csv": CSV.replace("u\n", "=cmd|' /C calc'!A0\n").encode(),
    "class-of-control-characters.csv": CSV.replace("u\n", "\x1b[31mred\x07\n").encode(),
    "right-to-left.csv": CSV.replace("u\n", "\u202eevil\n").encode(),
    "label-only.csv": b"label\nu\nv\n" * 5,
    "lone.parquet": b"PAR1",
    "text.parquet": b"PAR1" + b"x" * 100 + b"PAR1",
    "text.feather": b"ARROW1" + b"x" * 100,
    "text.xlsx": b"PK not a book",
    "no-sheet.xlsx": zipped({"a.txt": b"x"}),
    "deep.xlsx": zipped({"[Content_Types].xml": b"<a>" * 5000}),
    "entities.xlsx": zipped(
        {
            "[Content_Types].xml": b'<!DOCTYPE a [<!ENTITY b "cc"><!ENTITY d "'
            + b"&b;" * 100
            + b'">]><a>&d;</a>'
        }
    ),
    "page.html": b"<html>",
    "noending": CSV.encode(),
    "rows.CSV": CSV.encode(),
    "rows.tar.gz": b"\x1f\x8b",
}
# what is no regular file, or can't be read
PLACES: dict[str, Make] = {
    "absent.csv": lambda path: None,  # noqa: ARG005
    "folder.csv": lambda path: path.mkdir(),
    "folder.npz": lambda path: path.mkdir(),
    "empty-folder": lambda path: path.mkdir(),
    "pipe.csv": lambda path: os.mkfifo(path),
    "pipe.npz": lambda path: os.mkfifo(path),
    "pipe.parquet": lambda path: os.mkfifo(path),
    "socket.csv": lambda path: bind(path),
    "loop.csv": lambda path: path.symlink_to(path),
    "dangling.csv": lambda path: path.symlink_to("nowhere"),
    "zero.csv": lambda path: path.symlink_to("/dev/zero"),
    "full.npz": lambda path: path.symlink_to("/dev/full"),
    "null.csv": lambda path: path.symlink_to("/dev/null"),
    "shards-of-pipes": lambda path: [path.mkdir(), os.mkfifo(path / "x-0.npy")],
    "shards-of-other-shapes": lambda path: [
        path.mkdir(),
        np.save(path / "x-0.npy", X),
        np.save(path / "x-1.npy", X[:, :2]),
    ],
    "shards-empty": lambda path: [path.mkdir(), (path / "x-0.npy").touch()],
    "n" * 300 + ".csv": lambda path: None,  # noqa: ARG005
}


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        here = Path.cwd()
        os.chdir(path.parent)  # a socket's address is short
        try:
            one.bind(path.name)
        finally:
            os.chdir(here)


USES = {
    "train": lambda name: ("train", "--data", name, *TRAIN, "--out", "out"),
    "inspect": lambda name: ("inspect", name),
    "predict": lambda name: ("predict", "run", name),
    "suggest": lambda name: ("suggest", "run", name),
    "impute": lambda name: ("impute", "run", name, "--out", "new.csv"),
    "name": lambda name: ("name", "groups", name),
    "resume": lambda name: ("resume", "run", "--epochs", 4, "--data", name),
    "evaluate": lambda name: ("evaluate", "run", "--draws", 0, "--nll-rows", 0, "--data", name),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("name", [*CONTENTS, *PLACES], ids=lambda name: name[:40])
def test_file(place: Path, call: Call, name: str, use: str) -> None:
    if name in CONTENTS:
        (place / name).write_bytes(CONTENTS[name])
    else:
        PLACES[name](place / name)
    check(place, call, USES[use](name), "out", "new.csv", "groups/names.json")
    assert not (place / "pickle-was-run").exists()


TOML = {
    "empty": b"",
    "text": b"no toml",
    "binary": b"\xff\xfe\x00",
    "nested": b"a = " + b"[" * 5000 + b"]" * 5000,
    "dotted": b"a" + b".b" * 5000 + b" = 1",
    "huge-integer": b"seed = " + b"9" * 5000,
    "date": b"seed = 1979-05-27",
    "table": b"[seed]\nx = 1",
    "list": b"seed = [1, 2]",
    "model-number": b"model = 3",
    "guide-list": b'guide = ["a"]',
    "data-number": b"data = 3",
    "preset-table": b"[preset]\na = 1",
    "columns-list": b"columns = [1]",
    "column-table": b"[columns]\na = 3",
    "hidden-texts": b'hidden = ["a", "b"]',
    "hidden-nested": b"hidden = [[8]]",
    "nan": b"learning_rate = nan",
    "inf": b"alpha = inf",
    "twice": b"seed = 1\nseed = 2",
    "unknown": b"sead = 1",
    "column-number": b"column = 5",
    "budget-list": b"epochs = [1]",
    "likelihood-list": b"likelihood = [1]",
    "x_range-text": b'x_range = "a,b,c"',
    "labels-text": b'labels = "some"',
    "init-empty": b'init = ""',
    "boolean-text": b'verify = "maybe"',
}


@pytest.mark.parametrize("name", TOML)
def test_config_file(place: Path, call: Call, name: str) -> None:
    (place / "keys.toml").write_bytes(TOML[name])
    options = ("--data", "rows.csv", *TRAIN, "--set", "cv=0", "--out", "out")
    check(place, call, ["train", "--config", "keys.toml", *options], "out")
    keys = TOML[name].split(b"=")[0].strip()
    if keys in (b"data", b"preset"):  # not replaced by the options
        check(place, call, ["train", "--config", "keys.toml", "--epochs", 1, "--out", "out"], "out")


@pytest.mark.parametrize("make", [*PLACES], ids=lambda name: name[:40])
def test_config_file_that_is_none(place: Path, call: Call, make: str) -> None:
    replace_by(place / "keys", PLACES[make])
    check(place, call, ["train", "--config", "keys", "--out", "out"], "out")


POSE = {"version": 1.3, "people": [{"pose_keypoints_2d": [1.0, 2.0, 0.9] * 25}]}
POSES = {
    "text": b"no json",
    "empty": b"",
    "null": b"null",
    "list": b"[]",
    "number": b"5",
    "nested": b"[" * 5000 + b"]" * 5000,
    "people-null": b'{"people": null}',
    "people-dict": b'{"people": {"a": 1}}',
    "person-null": b'{"people": [null]}',
    "no-points": b'{"people": [{}]}',
    "points-text": b'{"people": [{"pose_keypoints_2d": "abc"}]}',
    "points-null": b'{"people": [{"pose_keypoints_2d": [null, null, null]}]}',
    "points-short": b'{"people": [{"pose_keypoints_2d": [1, 2]}]}',
    "points-nested": b'{"people": [{"pose_keypoints_2d": [[1, 2, 3]]}]}',
    "points-nan": json.dumps(POSE).replace("2.0", "NaN").encode(),
    "points-huge": json.dumps(POSE).replace("2.0", "1e308").encode(),
    "points-hugeint": json.dumps(POSE).replace("2.0", "9" * 400).encode(),
    "points-zero": json.dumps(POSE).replace("2.0", "0").replace("1.0", "0").encode(),
    "points-many": b'{"people": [{"pose_keypoints_2d": [' + b"1," * 30_000 + b"1]}]}",
    "other-layout": b'{"people": [{"pose_keypoints_2d": [1, 2, 1, 1, 2, 1]}]}',
    "many-people": json.dumps(POSE | {"people": POSE["people"] * 200}).encode(),  # type: ignore[operator]
}


@pytest.mark.parametrize("command", ["check", "track"])
@pytest.mark.parametrize("name", POSES)
def test_poses(place: Path, call: Call, name: str, command: str) -> None:
    clip = place / "clip"
    clip.mkdir()
    for frame in range(6):
        content = POSES[name] if frame == 3 else json.dumps(POSE).encode()
        (clip / f"clip_{frame:012}_keypoints.json").write_bytes(content)
    out = ("--out", "tracks.csv", "--min-length", 2) if command == "track" else ()
    check(place, call, ["skeleton", command, "clip", *out], "tracks.csv")


@pytest.mark.parametrize("name", ["text", "nested", "people-null", "points-text", "empty"])
def test_all_poses(place: Path, call: Call, name: str) -> None:
    (place / "clip").mkdir()
    for frame in range(3):
        (place / "clip" / f"clip_{frame:012}_keypoints.json").write_bytes(POSES[name])
    check(place, call, ["skeleton", "track", "clip", "--out", "tracks.csv"], "tracks.csv")


@pytest.mark.parametrize("name", ["empty-folder", "pipe.csv", "loop.csv", "zero.csv", "absent.csv"])
@pytest.mark.parametrize("command", ["check", "track", "animate"])
def test_poses_that_are_no_folder(place: Path, call: Call, name: str, command: str) -> None:
    PLACES[name](place / name)
    out = () if command == "check" else ("--out", "new.gif" if command == "animate" else "new.csv")
    check(place, call, ["skeleton", command, name, *out], "new.")


@examples(60)
@given(text=st.text(st.sampled_from('ab,"\n\r1.e-;\t\x00é '), max_size=200))
def test_any_text_as_a_table(place: Path, call: Call, text: str) -> None:
    (place / "any.csv").write_text("a,b,label\n" + text, encoding="utf-8", newline="")
    check(place, call, ["inspect", "any.csv"])
    check(place, call, ["predict", "run", "any.csv"])
