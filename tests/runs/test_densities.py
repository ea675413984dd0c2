"""Bounds of runs by proposal, their diagnostics, and the words for a loose one."""

import json
import re
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from click.testing import CliRunner

from pyro_gmmvae.cli import cli
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.evaluation import annealing
from pyro_gmmvae.runs import Run, default_config, train
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.runs.densities import loose_bound

SMALL = {
    "guide": "product",
    "epochs": 40,
    "hidden": "64",
    "latent_dim": 3,
    "likelihood": "bernoulli",
    "labels": 200,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("densities") / "run"
    train(default_config("digits", SMALL), path)
    return Run.load(path, device="cpu")


def test_the_tilted_bound_is_tighter_than_the_guides(run: Run) -> None:
    """By several nats on digits, where the guide's density ratio of s is far from its posterior."""
    rows = TrainingData.from_config(run.config, run.schema)
    x = rows.tensors(rows.split.test[:40], run.device)[0]
    guide, tilted = (run.bounds(x, 200, proposal=name) for name in ("guide", "tilted"))
    assert tilted.iwae.mean() > guide.iwae.mean() + 1
    assert tilted.effective_samples.median() > 3 * guide.effective_samples.median()
    assert (run.bounds(x, 200).log_w == guide.log_w).all()  # the default is the guide
    with pytest.raises(GMMVAEError, match="unknown proposal 'tilt'; did you mean 'tilted'"):
        run.bounds(x, 10, proposal="tilt")


def test_evaluate_reports_the_proposal_and_its_reliability(run: Run) -> None:
    found: dict[str, Any] = {}
    for proposal in ("guide", "tilted"):
        found[proposal] = run.evaluate(samples=50, nll_rows=60, draws=0, proposal=proposal)
        numbers = found[proposal]
        assert numbers["nll_proposal"] == proposal
        assert (numbers["nll_samples"], numbers["nll_rows"]) == (50, 60)
    assert found["guide"]["elbo"] == found["tilted"]["elbo"]
    assert found["guide"]["nll"] > found["tilted"]["nll"]
    assert found["guide"]["pareto_k_bad"] > 0.5 > found["tilted"]["pareto_k_bad"]
    assert 0.99 < found["tilted"]["rhat"] < 1.2
    assert json.loads((run.path / "metrics.json").read_text())["test"]["rhat"]


def test_a_loose_bound_is_called_so(run: Run) -> None:
    command = ["evaluate", str(run.path), "--samples", "50", "--nll-rows", "60", "--draws", "0"]
    loose = CliRunner().invoke(cli, [*command, "--proposal", "guide"])
    assert re.search(r"nll is loose: Pareto k is above 0.7 for \d+% of its rows", loose.output)
    assert "(proposal: guide)" in loose.output
    assert loose_bound({"pareto_k_bad": 0.1, "nll_proposal": "tilted"}) is None
    assert loose_bound({"pareto_k_bad": None}) is None
    assert loose_bound({}) is None
    wrong = CliRunner().invoke(cli, [*command, "--proposal", "tilt"])
    assert wrong.exit_code == 2
    assert "'tilted'" in wrong.output


def test_the_report_calls_a_loose_bound_so(run: Run, tmp_path: Path) -> None:
    run.evaluate(samples=50, nll_rows=60, draws=0, proposal="guide")
    page = tmp_path / "page.html"
    done = CliRunner().invoke(cli, ["report", str(run.path), "--out", str(page)])
    assert done.exit_code == 0, done.output
    assert "nll is loose" in page.read_text()


def test_slow_proposals_take_few_rows_and_samples(run: Run) -> None:
    """And their bounds agree with the tilted one, where that is good."""
    found = {"tilted": run.evaluate(samples=400, nll_rows=12, draws=0)}
    for proposal, samples in (("laplace", 100), ("ais", 16)):
        with patch.object(annealing, "TEMPERATURES", 100):
            found[proposal] = run.evaluate(nll_rows=12, draws=0, proposal=proposal)
        assert found[proposal]["nll_samples"] == samples
        assert abs(found[proposal]["nll"] - found["tilted"]["nll"]) < 0.4
    assert found["ais"]["pareto_k"] is None  # 16 samples have no tail
    assert found["laplace"]["pareto_k"] < 0.7
