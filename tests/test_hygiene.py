"""A fit leaves the process as it was, and fits beside each other give what each gives alone."""

import logging
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pytest
import torch

from pyro_gmmvae.estimators import GMMVAEClassifier
from pyro_gmmvae.runs import default_config, train

SMALL = {"epochs": 2, "hidden": "16", "latent_dim": 2}


def globals_of_the_process() -> dict[str, Any]:
    import matplotlib

    return {
        "parameters": sorted(pyro.get_param_store().keys()),
        "handlers": list(pyro.poutine.runtime._PYRO_STACK),
        "validation": torch.distributions.Distribution._validate_args,
        "pyro validation": pyro.infer.util._VALIDATION_ENABLED,
        "generator": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state()[1].tolist(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "filters": list(warnings.filters),
        "matplotlib": (matplotlib.get_backend(), dict(matplotlib.rcParams)),
        "levels": {name: logging.getLogger(name).level for name in ("", "matplotlib", "bokeh")},
        "variables": dict(os.environ),
        "folder": os.getcwd(),  # noqa: PTH109
    }


@pytest.mark.parametrize("engine", ["svi", "captured"])
def test_a_fit_changes_no_state_of_the_process(tmp_path: Path, engine: str) -> None:
    train(default_config("digits", SMALL | {"engine": engine}), tmp_path / "first")  # imports
    before = globals_of_the_process()
    run = train(default_config("digits", SMALL | {"engine": engine}), tmp_path / "run")
    run.evaluate(nll_rows=5, samples=5, draws=0)
    run.generate(2)
    after = globals_of_the_process()
    assert {name for name in before if before[name] != after[name]} == set()


def test_importing_changes_no_state_of_the_process() -> None:
    """Only what torch, Pyro and the other packages change themselves may change."""
    code = """
import logging, os, random, threading, warnings
import arviz, bokeh.plotting, matplotlib, numpy, optuna, pandas, pyro, rich.progress, sympy, torch
def state():
    return [list(warnings.filters), torch.get_default_dtype(), torch.get_num_threads(),
            torch.get_rng_state().tolist(), matplotlib.get_backend(), dict(matplotlib.rcParams),
            logging.getLogger().level, logging.getLogger().handlers[:], dict(os.environ),
            random.getstate(), torch.get_float32_matmul_precision(), threading.active_count(),
            torch.distributions.Distribution._validate_args, warnings.showwarning]
before = state()
import pyro_gmmvae, pkgutil, importlib
for found in pkgutil.walk_packages(pyro_gmmvae.__path__, "pyro_gmmvae."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
after = state()
print([n for n, (one, two) in enumerate(zip(before, after)) if one != two])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr


def fitted(seed: int) -> GMMVAEClassifier:
    x, y = rows()
    keys: dict[str, Any] = {"epochs": 8, "hidden": (16,), "engine": "svi"}
    return GMMVAEClassifier(random_state=seed, preset="paper", **keys).fit(x, y)


def rows() -> tuple[Any, Any]:
    generator, y = np.random.default_rng(0), np.arange(90) % 3
    return generator.normal(size=(90, 4)) + 3 * np.eye(4)[y], np.where(np.arange(90) < 30, y, -1)


def test_fits_in_threads_give_what_each_gives_alone() -> None:
    x, _ = rows()
    alone = [fitted(seed).predict_proba(x) for seed in range(3)]
    found: dict[int, Any] = {}

    def fit(seed: int) -> None:
        found[seed] = fitted(seed)

    threads = [threading.Thread(target=fit, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(3):
        np.testing.assert_array_equal(found[seed].predict_proba(x), alone[seed])


def test_fits_in_processes_give_what_each_gives_alone(tmp_path: Path) -> None:
    keys = ("--epochs", "4", "--engine", "svi", "--set", "hidden=16", "--set", "latent_dim=2")
    command = [sys.executable, "-m", "pyro_gmmvae", "train", *keys, "--out"]

    def start(name: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([*command, name], cwd=tmp_path, stderr=subprocess.DEVNULL)

    assert start("alone").wait() == 0
    assert [process.wait() for process in [start("one"), start("two")]] == [0, 0]
    alone = (tmp_path / "alone" / "weights.safetensors").read_bytes()
    for name in ("one", "two"):
        assert (tmp_path / name / "weights.safetensors").read_bytes() == alone


FITS = """
import ctypes, gc, os, sys
from tests.test_hygiene import GMMVAEClassifier, rows
x, y = rows()
keys = {"preset": "paper", "epochs": 1, "hidden": (16,), "engine": sys.argv[1]}
for number in range(50):
    GMMVAEClassifier(random_state=number, **keys).fit(x, y).predict(x)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back to the system
    memory = open("/proc/self/status").read().split("VmRSS:")[1].split()[0]
    print(int(memory) // 1024, len(os.listdir("/proc/self/fd")))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("engine", ["svi", "captured"])
def test_memory_and_open_files_stay_flat_over_fits(engine: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FITS, engine]
    folder = Path(__file__).parents[1]
    printed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    memories, files = zip(*(map(int, line.split()) for line in printed.splitlines()), strict=True)
    assert set(files) == {files[0]}
    assert memories[-1] - memories[5] < 15, memories  # MiB; torch keeps 0.06 of each captured fit
