"""The tests that compute on --device, on a pretended CUDA device: ``scripts/test --pretend-cuda``.

A plugin of pytest, ``-p tests.pretend_cuda.plugin --device cuda``, as the device is made before
torch is imported.
"""

from typing import Any

import pytest

from tests.pretend_cuda import guard

FOLDERS = ("training", "distributions", "objectives", "networks", "models", "evaluation")
"""Their tests compute on --device; those of other folders where they ask for ``device``."""

NOT_HERE = {
    "tests/models/test_captured.py": "a tracer makes tensors on a default device, which this one "
    "can't do; tests/runs/test_recorded_steps.py traces the same programs",
}

try:
    guard.load()
    WHY_NOT = ""
except guard.NoGuardError as error:
    WHY_NOT = str(error)
else:
    from tests.pretend_cuda import pretend

    pretend.install()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen, others = [], []
    for item in items:
        computes = item.path.parent.name in FOLDERS or "device" in getattr(item, "fixturenames", ())
        (chosen if computes else others).append(item)
    config.hook.pytest_deselected(items=others)
    items[:] = chosen
    for item in items:
        here = item.path.relative_to(config.rootpath).as_posix()
        if reason := WHY_NOT or NOT_HERE.get(here):
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The figure of this device: how many configurations have a whole graph."""
    found = {
        outcome: [
            report
            for report in terminalreporter.getreports(outcome)
            if report.when == "call" and "test_recorded_steps" in report.nodeid
        ]
        for outcome in ("passed", "failed")
    }
    whole, all_ = len(found["passed"]), sum(map(len, found.values()))
    if all_:
        terminalreporter.write_line(f"configurations with a whole CUDA graph: {whole} of {all_}")
