"""Run folders with damaged, missing or strange files."""

import copy
import functools
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from pyro_gmmvae.files import _digest, load_weights, save_training, save_weights

from .answers import Call, check, examples, replace_by
from .test_data_files import bind

FILES = (
    *("config.json", "environment.json", "metrics.json", "history.csv", "training.pt"),
    *("weights.safetensors", "best.safetensors", "names.json"),
)
COMMANDS: dict[str, tuple[object, ...]] = {
    "resume": ("resume", "run", "--epochs", 4),
    "evaluate": ("evaluate", "run", "--draws", 0, "--nll-rows", 3, "--samples", 5),
    "predict": ("predict", "run", "rows.csv"),
    "generate": ("generate", "run", "--out", "draws.npz"),
    "figures": ("figures", "run", "--only", "training"),
    "report": ("report", "run"),
    "export": ("export", "run", "--out", "posterior.nc", "--rows", 3, "--draws", 5),
    "suggest": ("suggest", "run", "rows.csv"),
    "impute": ("impute", "run", "rows.csv", "--out", "filled.csv"),
}
OUTPUTS = ("draws.npz", "posterior.nc", "filled.csv")


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


CHANGES: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: None,  # noqa: ARG005
    "empty": lambda path: path.touch(),
    "text": lambda path: path.write_text("no file of a run"),
    "random": lambda path: path.write_bytes(os.urandom(500)),
    "zeros": lambda path: path.write_bytes(b"\x00" * 500),
    "folder": lambda path: path.mkdir(),
    "pipe": lambda path: os.mkfifo(path),
    "socket": bind,
    "loop": lambda path: path.symlink_to(path.name),
    "dangling": lambda path: path.symlink_to("nowhere"),
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "nested": lambda path: path.write_text(nested(100_000)),
    "nested-object": lambda path: path.write_text('{"a":' * 50_000 + "1" + "}" * 50_000),
    "null": lambda path: path.write_text("null"),
    "number": lambda path: path.write_text("5"),
    "list": lambda path: path.write_text("[1, 2]"),
    "object": lambda path: path.write_text("{}"),
    "huge-integer": lambda path: path.write_text('{"a": ' + "9" * 6000 + "}"),
}


def run_of(file: str, place: Path) -> Path:
    """The run whose file is changed: names are those of a run without labels."""
    return place / ("groups" if file == "names.json" else "run")


def arguments(command: str, run: Path) -> list[object]:
    return [run.name if one == "run" else one for one in COMMANDS[command]]


def outputs(run: Path) -> tuple[str, ...]:
    """What the commands may write: the rules know those of a folder named run."""
    own = ("names.json", "metrics.json", "figures", "report.html")
    return (*OUTPUTS, *(f"{run.name}/{name}" for name in own))


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("file", FILES)
def test_file(place: Path, call: Call, file: str, change: str, command: str) -> None:
    run = run_of(file, place)
    replace_by(run / file, CHANGES[change])
    may = (*outputs(run), "groups/") if command == "resume" else outputs(run)
    answer = check(place, call, arguments(command, run), *may)
    if file == "config.json":
        assert answer.code == 2, answer


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("file", FILES)
def test_cut(place: Path, call: Call, file: str, command: str) -> None:
    run = run_of(file, place)
    if not (run / file).exists():
        pytest.skip("the run has no such file")
    content = (run / file).read_bytes()
    (run / file).write_bytes(content[: len(content) // 2])
    may = (*outputs(run), "groups/") if command == "resume" else outputs(run)
    check(place, call, arguments(command, run), *may)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("make", CHANGES)
def test_place_that_is_no_run(place: Path, call: Call, make: str, command: str) -> None:
    CHANGES[make](place / "other")
    (place / "other-folder").mkdir()
    for name in ("other", "other-folder"):
        answer = check(place, call, arguments(command, place / name), *OUTPUTS)
        assert answer.code == 2, answer


# -- values of the JSON files --------------------------------------------------------------------

WRONG: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 10**18, 2**64, 1.5, -1e308, math.nan, math.inf, "", "x", "../x"),
    *([], [1], [[1]], ["a", "a"], {}, {"a": 1}, [None], "1" * 5000, [math.nan], [1e39], [-1.0]),
)


def leaves(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all values below the root, and of the containers."""
    if path:
        yield path
    items = content.items() if isinstance(content, dict) else enumerate(content[:3])
    for key, value in items if isinstance(content, dict | list) else ():
        yield from leaves(value, (*path, key)) if isinstance(value, dict | list) else [(*path, key)]


def changed(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    made = copy.deepcopy(content)
    inner = functools.reduce(lambda one, key: one[key], path[:-1], made)
    if value == "absent":
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return made


@pytest.mark.parametrize("part", range(20))
@pytest.mark.parametrize("file", ["config.json", "metrics.json", "environment.json"])
def test_value(place: Path, call: Call, file: str, part: int) -> None:
    """One value of a file is replaced; some of all pairs of places and values."""
    run = place / "run"
    content = json.loads((run / file).read_text())
    paths = list(leaves(content))
    pairs = [(path, value) for path in paths for value in (*WRONG, "absent")]
    commands = ("predict", "resume", "evaluate", "report")
    for path, value in pairs[part * len(pairs) // 100 :: len(pairs) // 5][:5]:
        (run / file).write_text(json.dumps(changed(content, path, value)))
        for command in commands:
            may = ("run/",) if command == "resume" else ()
            check(place, call, arguments(command, run), *may)
            if command == "resume":  # as before
                for name in ("training.pt", "weights.safetensors", "best.safetensors"):
                    assert (run / name).exists()
        (run / file).write_text(json.dumps(content))


DATA_VALUES = [
    ("kind", "name"), ("kind", "likelihood"), ("kind", "specs"), ("kind", "missing"), ("kind",),
    ("classes",), ("transform",), ("transform", "shift"), ("transform", "scale"), ("fingerprint",),
    ("transform", "limit"), ("transform", "binarize"), ("factors",), ("kind", "columns"),
    ("kind", "x_shape"), ("kind", "specs", 0), ("kind", "specs", 0, "name"),
    ("kind", "specs", 0, "kind"), ("kind", "specs", 0, "values"),
]  # fmt: skip


@pytest.mark.parametrize("command", ["predict", "evaluate"])
@pytest.mark.parametrize("path", DATA_VALUES, ids=lambda path: ".".join(map(str, path)))
def test_schema(place: Path, call: Call, path: tuple[Any, ...], command: str) -> None:
    file = place / "run" / "config.json"
    content = json.loads(file.read_text())
    for value in (*WRONG, "absent"):
        try:
            file.write_text(json.dumps(changed(content, ("data", *path), value)))
        except (IndexError, KeyError, TypeError):  # the run has no such value
            continue
        check(place, call, arguments(command, place / "run"), *outputs(place / "run"))


@examples(100)
@given(data=st.data())
def test_any_value_of_a_description(place: Path, call: Call, data: st.DataObject) -> None:
    file = place / "run" / "config.json"
    content = json.loads(file.read_text())
    path = data.draw(st.sampled_from(list(leaves(content))))
    json_values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=4,
    )
    file.write_text(json.dumps(changed(content, path, data.draw(json_values))))
    check(place, call, ["predict", "run", "rows.csv"])
    file.write_text(json.dumps(content))


# -- training states and weights -------------------------------------------------------------------

STATE: dict[str, tuple[str, Any]] = {
    "epoch-text": ("epoch", "x"),
    "epoch-negative": ("epoch", -5),
    "epoch-huge": ("epoch", 10**9),
    "epoch-real": ("epoch", 1.5),
    "epoch-tensor": ("epoch", torch.zeros(2)),
    "batch-huge": ("batch", 10**9),
    "batch-negative": ("batch", -1),
    "step-nan": ("step", math.nan),
    "step-huge": ("step", 2**70),
    "seconds-nan": ("seconds", math.nan),
    "seconds-negative": ("seconds", -1.0),
    "history-number": ("history", 5),
    "history-text": ("history", ["a"]),
    "history-other-keys": ("history", [{"x": 1.0}]),
    "history-texts": ("history", [{"epoch": "=1+1"}]),
    "history-long": ("history", [{"epoch": 1, "val_elbo": 1.0, "seconds": 1.0}] * 1000),
    "engine-number": ("engine", 5),
    "engine-list": ("engine", ["svi"]),
    "engine-other": ("engine", "warp"),
    "best-number": ("best", 5),
    "best-of-another-run": ("best", {"a": torch.zeros(2)}),
    "best-epoch-huge": ("best_epoch", 10**12),
    "best-value-text": ("best_value", "x"),
    "module-none": ("module", None),
    "module-empty": ("module", {}),
    "module-list": ("module", [torch.zeros(2)]),
    "optimizer-none": ("optimizer", None),
    "optimizer-empty": ("optimizer", {}),
    "optimizer-deep": ("optimizer", {"state": {0: {"exp_avg": "x"}}, "param_groups": [{}]}),
    "sums-number": ("sums", 4),
    "order-number": ("order", 5),
    "order-short": ("order", torch.zeros(3, dtype=torch.uint8)),
    "order-real": ("order", torch.zeros(5056)),
    "rng-number": ("rng", 5),
    "rng-empty": ("rng", [{}]),
    "rng-short": ("rng", [{"cpu": torch.zeros(3, dtype=torch.uint8)}]),
    "unknown": ("other", 5),
}


@pytest.mark.parametrize("name", STATE)
def test_training_state(place: Path, call: Call, name: str) -> None:
    file = place / "run" / "training.pt"
    content = torch.load(file, weights_only=True)
    key, value = STATE[name]
    save_training(file, {**content, key: value})
    check(place, call, COMMANDS["resume"], "run/")


@pytest.mark.parametrize("key", ["epoch", "batch", "step", "module", "optimizer", "order", "rng"])
def test_training_state_that_lacks(place: Path, call: Call, key: str) -> None:
    file = place / "run" / "training.pt"
    content = torch.load(file, weights_only=True)
    save_training(file, {name: value for name, value in content.items() if name != key})
    answer = check(place, call, COMMANDS["resume"], "run/")
    assert answer.code == 2
    assert key in answer.err


WEIGHTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "nan": lambda t: torch.full_like(t, math.nan),
    "inf": lambda t: torch.full_like(t, math.inf),
    "1e30": lambda t: torch.full_like(t, 1e30),
    "-1e30": lambda t: torch.full_like(t, -1e30),
    "1e38": lambda t: torch.full_like(t, 3e38),
    "zeros": torch.zeros_like,
    "other-shape": lambda t: torch.zeros(3, *t.shape),
    "empty": lambda t: t.flatten()[:0],
    "double": lambda t: t.double(),
    "half": lambda t: t.half(),
    "integers": lambda t: t.long(),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", WEIGHTS)
def test_weights(place: Path, call: Call, name: str, command: str) -> None:
    for file in ("weights.safetensors", "best.safetensors"):
        path = place / "run" / file
        weights = load_weights(path)
        real = {k: WEIGHTS[name](t) for k, t in weights.items() if t.is_floating_point()}
        save_weights(path, weights | real)
    check(place, call, arguments(command, place / "run"), *outputs(place / "run"))


@pytest.mark.parametrize("command", ["predict", "evaluate", "generate"])
@pytest.mark.parametrize("metadata", [None, {}, {"sha256": "0"}, {"sha256": ""}])
def test_checksum(place: Path, call: Call, metadata: dict[str, str] | None, command: str) -> None:
    for file in ("weights.safetensors", "best.safetensors"):
        path = place / "run" / file
        path.write_bytes(save(load_weights(path), metadata=metadata))
    answer = check(place, call, arguments(command, place / "run"), *OUTPUTS)
    assert answer.code == 2
    assert _digest({}) not in answer.err


# -- a history -------------------------------------------------------------------------------------

HISTORIES = {
    "million": "epoch,step,seconds,val_elbo\n" + "1,1,1,1\n" * 1_000_000,
    "texts": "epoch,step,seconds,val_elbo\na,b,c,d\n",
    "header": "epoch,step,seconds,val_elbo\n",
    "no-epoch": "a,b\n1,2\n",
    "nan": "epoch,step,seconds,val_elbo\n,,,\n",
    "infinite": "epoch,step,seconds,val_elbo\n1,1,1,inf\n2,2,2,-inf\n",
    "huge": "epoch,step,seconds,val_elbo\n1,1,1,1e308\n2,2,2,-1e308\n",
    "twice": "epoch,epoch,val_elbo\n1,1,1\n",
    "many-columns": ",".join(f"val_{k}" for k in range(2000)) + "\n" + ",".join("1" * 2000) + "\n",
    "ragged": "epoch,step,seconds,val_elbo\n1,1,1,1,1,1\n",
}


@pytest.mark.parametrize("command", ["figures", "report", "resume", "evaluate"])
@pytest.mark.parametrize("name", HISTORIES)
def test_history(place: Path, call: Call, name: str, command: str) -> None:
    (place / "run" / "history.csv").write_text(HISTORIES[name])
    check(place, call, COMMANDS[command], "run/")
