"""The path of a training through the package, counted with ``sys.setprofile``.

A reader of ``train`` follows its calls. A crossing is a call that enters another folder than the
one before. It is counted twice: without the modules in the root of the package, and with each of
them as a folder of its own. The limits may only go down.
"""

import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import pyro_gmmvae
from pyro_gmmvae.runs import default_config, train
from pyro_gmmvae.training import Callback

ROOT = f"{Path(pyro_gmmvae.__file__).parent}/"
STEP = ("training/loop.py", "step")
MAX_CROSSINGS, MAX_CROSSINGS_WITH_ROOT, MAX_FILES_IN_A_STEP = 70, 121, 18
Call = tuple[str, str]


class EnoughStepsError(Exception):
    """Ends a fit."""


class StopAfterThreeSteps(Callback):
    def __init__(self) -> None:
        self.steps = 0

    def on_step(self, progress: float) -> None:  # noqa: ARG002
        self.steps += 1
        if self.steps == 3:
            raise EnoughStepsError


def crossings(files: Sequence[str], *, with_root: bool = False) -> int:
    folders = [file.split("/")[0] for file in files if with_root or "/" in file]
    return 1 + sum(one != other for one, other in pairwise(folders))


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[Call]:
    """File and function of each call inside the package, up to the third step."""
    folder, recorded = tmp_path_factory.mktemp("journey"), list[Call]()

    def record(frame: FrameType, event: str, _: Any) -> None:
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(ROOT):
            recorded.append((file.removeprefix(ROOT), frame.f_code.co_name))

    for run in ("first", "second"):  # the first one imports modules
        keys = {"epochs": 1, "device": "cpu", "engine": "svi", "pseudo_threshold": None}
        config = default_config("digits", keys)
        recorded.clear()
        before = sys.getprofile()
        sys.setprofile(record)
        try:
            with pytest.raises(EnoughStepsError):
                train(config, folder / run, callbacks=[StopAfterThreeSteps()])
        finally:
            sys.setprofile(before)
    return recorded


def test_few_folders_are_crossed_before_the_first_step(calls: list[Call]) -> None:
    before = [file for file, _ in calls[: calls.index(STEP)]]
    assert len(before) > 100
    assert crossings(before) <= MAX_CROSSINGS
    assert crossings(before, with_root=True) <= MAX_CROSSINGS_WITH_ROOT


def test_a_training_step_is_in_few_files(calls: list[Call]) -> None:
    first, second, *_ = (place for place, call in enumerate(calls) if call == STEP)
    files = {file for file, _ in calls[first:second]}
    assert "objectives/elbo.py" in files
    assert len(files) <= MAX_FILES_IN_A_STEP


def test_crossings_are_counted() -> None:
    files = ["runs/a.py", "config.py", "runs/b.py", "data/c.py", "runs/a.py"]
    assert (crossings(files), crossings(files, with_root=True)) == (3, 5)
