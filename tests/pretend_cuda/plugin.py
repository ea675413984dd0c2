"""The tests that compute on --device, on a pretended CUDA device: ``scripts/test --pretend-cuda``.

A plugin of pytest, ``-p tests.pretend_cuda.plugin --device cuda``, as the device is made before
torch is imported.
"""

from typing import Any

import pytest

from tests.pretend_cuda import guard

FOLDERS = ("training", "distributions", "objectives", "networks", "models", "evaluation")
"""Their tests compute on --device; those of other folders where they ask for ``device``."""

TRACER = (
    "a tracer makes tensors on a default device, which this device can't do; "
    "tests/runs/test_recorded_steps.py traces the same programs"
)
PYRO = "Pyro's tensors with a history can't be made of this device's tensors"
NOT_HERE = {
    "tests/models/test_captured.py": TRACER,
    "test_the_captured_step_equals_eager_evaluation": TRACER,
    "test_pyro_finds_the_factors_of_the_docstring": PYRO,
    "test_pyro_renders_the_model": PYRO,
    "test_a_fit_moves_a_row_to_its_soft_label": TRACER,
    "test_equal_numbers_are_equal_and_one_changed_number_is_found": "it compares files of a CPU",
    "test_a_model_that_was_evaluated_can_be_copied_and_pickled": "its pickles are of a CPU",
}
"""Files and tests that this device can't run, with the reason."""

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
        file = item.path.relative_to(config.rootpath).as_posix()
        name = getattr(item, "originalname", item.name)
        if reason := WHY_NOT or NOT_HERE.get(file) or NOT_HERE.get(name):
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
