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


def torchrunner(processes: int) -> list[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*command, "--nproc-per-node", str(processes)]


TRAIN = ["-m", "pyro_gmmvae", "train", "--set", "hidden=16", "--latent-dim", "4"]
ALONE = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
ENVIRONMENT = ALONE | {"OMP_NUM_THREADS": "1"}

# every process fits a regression without noise, and the first one writes what came out; labels
# are few and unevenly shared
PROGRAM = """
import sys, torch
from pathlib import Path
from tests.training.test_loop import Terms
from pyro_gmmvae.training import Batches, Fit, FitSettings
from pyro_gmmvae.training.distributed import process_group

class Regression(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 1, dtype=torch.float64)
        self.register_buffer("labelled_weight", torch.tensor(1.0, dtype=torch.float64))
    def forward(self, x, y):
        error = (self.linear(x).squeeze(-1) - x.prod(-1)).square()
        known = y >= 0
        labelled = torch.where(known, (self.linear(x).squeeze(-1) - y).square(), 0.0)
        labelled = self.labelled_weight * labelled.sum() / known.sum().clamp_min(1)
        parts = {"log_px": -error.mean().detach(), "classification": labelled.detach()}
        return Terms(error.mean() + 3 * labelled, parts)

with process_group("cpu") as (world, device):
    torch.manual_seed(0)
    module = Regression()
    x = torch.randn(52, 3, dtype=torch.float64)
    y = torch.where(torch.arange(52) % 9 == 0, torch.arange(52) % 2, -1)
    batches = Batches(x, y, 16, int(sys.argv[3]), 0, world)
    settings = FitSettings(epochs=3, engine=sys.argv[2], learning_rate=0.05)
    fit = Fit(module, module, batches, settings, labelled_weight=module.labelled_weight)
    fit.run()
    torch.manual_seed(0)
    world.reseed(0)
    noise = world.gather(torch.rand(1).item())
    if world.is_first:
        weights, history = module.linear.weight.data, fit.state.history
        torch.save({"weights": weights, "history": history, "noise": noise}, sys.argv[1])
# a thread of the group that outlives the interpreter would abort the process, now and then
threads = [t.read_text().strip() for t in Path("/proc/self/task").glob("*/comm")]
assert not [name for name in threads if "gloo" in name], threads
"""


def regression(folder: Path, processes: int, engine: str, labelled: int) -> dict[str, Any]:
    out = folder / f"{processes}.pt"
    program = folder / "program.py"
    program.write_text(PROGRAM)
    launcher = torchrunner(processes) if processes > 1 else [sys.executable]
    command = [*launcher, str(program), str(out), engine, str(labelled)]
    path = ENVIRONMENT | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, check=False, capture_output=True, env=path, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    return dict(torch.load(out))


@pytest.mark.parametrize(("processes", "engine", "labelled"), [(2, "captured", 1), (3, "svi", 4)])
def test_several_processes_give_the_fit_of_one(
    tmp_path: Path, processes: int, engine: str, labelled: int
) -> None:
    """Gradients are weighted by rows, and terms of labelled rows by labelled rows.

    The last batch (of 4 rows) and the sums of the history are shared too.
    """
    one = regression(tmp_path, 1, "svi", labelled)
    some = regression(tmp_path, processes, engine, labelled)
    torch.testing.assert_close(some["weights"], one["weights"], rtol=1e-10, atol=1e-12)
    for a, b in zip(some["history"], one["history"], strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-9)
        assert a["classification"] == pytest.approx(b["classification"], rel=1e-9)
    assert len(set(some["noise"])) == processes


def torchrun(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*torchrunner(2), *arguments],
        check=False,
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=120,
    )


def ours(stderr: str) -> list[str]:
    """The lines of this program; torchrun adds its own report."""
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
    command = [sys.executable, "-m", "pyro_gmmvae", "resume", str(run), "--epochs", "5"]
    alone = subprocess.run(
        command, check=False, capture_output=True, text=True, env=ENVIRONMENT, timeout=120
    )
    assert "processes: 1, before: 2" in alone.stderr
    refused = torchrun(*TRAIN, "--epochs", "2", "--out", str(run))
    assert refused.returncode != 0
    assert len(ours(refused.stderr)) == 1, refused.stderr
    assert "exists and is kept" in refused.stderr


def test_a_killed_process_ends_the_job_with_one_line(tmp_path: Path) -> None:
    run = tmp_path / "run"
    endless = ["--epochs=100000", "--engine=svi", "--set=checkpoint_seconds=0"]
    job = subprocess.Popen(
        [*torchrunner(2), *TRAIN, *endless, f"--out={run}"],
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    try:
        for _ in range(600):
            if (run / "history.csv").exists():
                break
            time.sleep(0.1)
        assert (run / "history.csv").exists()
        workers = subprocess.run(
            ["pgrep", "-P", str(job.pid)], check=True, capture_output=True, text=True
        ).stdout.split()
        os.kill(int(workers[-1]), signal.SIGKILL)
        _, stderr = job.communicate(timeout=60)
    finally:
        job.kill()
    assert job.returncode != 0
    # on a busy machine torchrun may end the other process before it prints the reason
    message = "another process of this job ended; the last checkpoint is kept"
    assert all(message in line for line in ours(stderr)), stderr
    assert len(ours(stderr)) <= 1, stderr
    assert "Traceback" not in stderr.split("torch/distributed/elastic")[0]
    again = torchrun("-m", "pyro_gmmvae", "resume", str(run), "--minutes", "0.01")
    assert again.returncode == 0, again.stderr
