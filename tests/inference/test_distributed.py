"""Fits of two processes, as torchrun starts them (gloo, on this machine)."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
TORCHRUN += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
TRAIN = ["-m", "pyro_gmmvae", "train", "--set", "hidden=16", "--latent-dim", "4"]
ALONE = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
ENVIRONMENT = ALONE | {"OMP_NUM_THREADS": "1"}

# every rank fits a regression without noise, and the first one writes what came out
PROGRAM = """
import sys, torch
from tests.inference.test_svi import Terms
from pyro_gmmvae.inference import Batches, Fit, FitSettings
from pyro_gmmvae.inference.distributed import joined

class Regression(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 1, dtype=torch.float64)
    def forward(self, x, y):
        error = (self.linear(x).squeeze(-1) - x.prod(-1)).square().mean()
        return Terms(error, {"log_px": -error.detach()})

with joined("cpu") as (world, device):
    torch.manual_seed(0)
    module = Regression()
    x = torch.randn(52, 3, dtype=torch.float64)
    batches = Batches(x, torch.arange(52) % 4 - 1, 16, int(sys.argv[3]), 0, world)
    settings = FitSettings(epochs=3, engine=sys.argv[2], learning_rate=0.05)
    fit = Fit(module, module, batches, settings, world=world)
    fit.run()
    if world.is_first:
        torch.save({"w": module.linear.weight.data, "history": fit.progress.history}, sys.argv[1])
"""


def regression(folder: Path, launcher: list[str], engine: str, labelled: int) -> dict[str, Any]:
    out = folder / f"{len(launcher)}-{engine}-{labelled}.pt"
    program = folder / "program.py"
    program.write_text(PROGRAM)
    command = [*launcher, str(program), str(out), engine, str(labelled)]
    path = ENVIRONMENT | {"PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run(command, check=True, capture_output=True, env=path, timeout=120)
    return dict(torch.load(out))


@pytest.mark.parametrize(("engine", "labelled"), [("svi", 0), ("captured", 6)])
def test_two_halves_are_one_whole(tmp_path: Path, engine: str, labelled: int) -> None:
    """Gradients are averaged by rows: 12 steps of two processes are those of one.

    The last batch (of 4 rows) and the sums of the history are shared too.
    """
    one = regression(tmp_path, [sys.executable], "svi", labelled)
    two = regression(tmp_path, TORCHRUN, engine, labelled)
    torch.testing.assert_close(two["w"], one["w"], rtol=1e-10, atol=1e-12)
    for a, b in zip(two["history"], one["history"], strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-9)


def torchrun(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*TORCHRUN, *arguments],
        check=False,
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=120,
    )


def ours(stderr: str) -> list[str]:
    """The lines that this program wrote; torchrun adds a report of its own."""
    return [line for line in stderr.splitlines() if line.startswith("gmmvae:")]


def test_a_run_of_two_processes_is_written_once_and_resumed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = torchrun(*TRAIN, "--epochs", "2", "--out", str(run))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("complete after 2 epochs") == 1
    assert json.loads((run / "environment.json").read_text())["processes"] == 2
    again = torchrun("-m", "pyro_gmmvae", "resume", str(run), "--epochs", "4")
    assert again.returncode == 0, again.stderr
    assert list(pd.read_csv(run / "history.csv")["epoch"]) == [1, 2, 3, 4]
    refused = torchrun(*TRAIN, "--epochs", "2", "--out", str(run))
    assert refused.returncode != 0
    assert len(ours(refused.stderr)) == 1, refused.stderr
    assert "exists and is kept" in refused.stderr


def test_a_killed_process_ends_the_job_with_one_line(tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = subprocess.Popen(
        [
            *TORCHRUN,
            *TRAIN,
            "--epochs",
            "100000",
            "--out",
            str(run),
            "--set",
            "checkpoint_seconds=0",
        ],
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    try:
        for _ in range(600):
            if (run / "history.csv").exists():
                break
            time.sleep(0.1)
        workers = subprocess.run(
            ["pgrep", "-P", str(job.pid)], check=True, capture_output=True, text=True
        ).stdout.split()
        os.kill(int(workers[-1]), signal.SIGKILL)
        _, stderr = job.communicate(timeout=60)
    finally:
        job.kill()
    assert job.returncode != 0
    assert len(ours(stderr)) == 1, stderr
    assert "another process of this job ended; the last checkpoint is kept" in stderr
    assert "Traceback" not in stderr.split("torch/distributed/elastic")[0]
    again = torchrun("-m", "pyro_gmmvae", "resume", str(run), "--minutes", "0.01")
    assert again.returncode == 0, again.stderr
