"""A folder for hostile input: a table, a run on it, and a run without labels."""

import shutil
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pyro_gmmvae.runs import default_config, train

from .answers import Call, call_in


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep one of N cases, the same ones each time."""
    for item in items:  # the command line prints these as lines
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.filterwarnings("default::UserWarning"))
    here, share = Path(__file__).parent, config.getoption("--hostile")
    cases = [item for item in items if item.path.parent == here and hasattr(item, "callspec")]
    cases = [item for item in cases if not item.name.startswith("test_the_commands_answer")]
    left_out = {item for item in cases if zlib.crc32(item.nodeid.encode()) % share}
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``run`` with labels and patience, ``groups`` without labels, and files for the commands."""
    folder = tmp_path_factory.mktemp("original")
    generator, y = np.random.default_rng(0), np.arange(60) % 3
    x = generator.normal(size=(60, 4)) * 0.3 + 2 * np.eye(4)[y]
    table = pd.DataFrame(x, columns=[*"abcd"]).assign(label=np.array(["ann", "bob", "cy"])[y])
    table.to_csv(folder / "rows.csv", index=False)
    table.drop(columns="label").to_csv(folder / "free.csv", index=False)
    names = pd.DataFrame({"component": range(4), "label": ["one", "two", "three", "four"]})
    names.to_csv(folder / "names.csv", index=False)
    keys = {"epochs": 3, "hidden": "8", "latent_dim": 2, "engine": "svi", "cv": 0, "members": 1}
    keys |= {"preset": "paper", "test": 10, "validation": 10}
    rows = str(folder / "rows.csv")
    train(default_config(rows, {**keys, "patience": 5}), folder / "run")
    groups = {**keys, "labels": 0, "components": 4, "labelled_per_batch": 0}
    train(default_config(rows, groups), folder / "groups")
    return folder


@pytest.fixture
def place(original: Path, tmp_path: Path) -> Path:
    """A copy of it to work in; the runs still read the rows of the original."""
    folder = tmp_path / "place"
    shutil.copytree(original, folder)
    return folder


@pytest.fixture
def call(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run a command in ``place``."""
    return call_in(place, capsys, monkeypatch)
