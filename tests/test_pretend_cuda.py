"""A sample of the tests that ``scripts/test --pretend-cuda`` runs, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.pretend_cuda import guard

ROOT = Path(__file__).parents[1]
SAMPLE = (
    "tests/training/test_cuda_graphs.py::test_a_failed_recording_leaves_direct_steps",
    "tests/runs/test_recorded_steps.py::test_models_objectives_and_guides[gmmvae/trace]",
    "tests/runs/test_recorded_steps.py::test_keys_of_skeletons[augment mirror]",
    "tests/test_layout.py::test_endings_of_files_are_compared_in_small_letters",  # is left out
)


def run_pytest(*arguments: str) -> subprocess.CompletedProcess[str]:
    plugin = ("-p", "tests.pretend_cuda.plugin", "--device", "cuda", "-p", "no:cacheprovider")
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", *plugin, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_sample_passes_on_the_pretended_device() -> None:
    try:
        guard.build()
    except guard.NoGuardError as error:
        pytest.skip(str(error))
    done = run_pytest(*SAMPLE)
    assert "3 passed, 1 deselected" in done.stdout, done.stdout + done.stderr
    assert "whole CUDA graph: 2 of 2" in done.stdout


def test_without_a_compiler_the_tests_are_skipped_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "CACHE", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(guard.NoGuardError, match=r"compiler|CUDA itself|Linux"):
        guard.build()
    monkeypatch.setenv("CXX", sys.executable)
    with pytest.raises(guard.NoGuardError, match=r"can't build|CUDA itself|Linux"):
        guard.build()
