"""Engines and precisions through a run folder: trained, stopped, resumed and used."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_gmmvae.files import load_weights
from pyro_gmmvae.runs import default_config, resume, train
from pyro_gmmvae.training import ENGINES
from tests.training.test_loop import StopAfter

KEYS = {"epochs": 4, "hidden": "16", "latent_dim": 4, "pseudo_from": 20}


def history(run: Path) -> pd.DataFrame:
    return pd.read_csv(run / "history.csv").drop(columns="seconds")


@pytest.mark.parametrize("preset", ["best", "paper"])
def test_a_captured_run_is_that_of_svi(tmp_path: Path, preset: str) -> None:
    """With batch norm, dropout, augmentation, input noise and pseudo-labels, and without."""
    for engine in ("svi", "captured"):
        keys = KEYS | {"preset": preset, "engine": engine, "dropout": 0.1}
        train(default_config("digits", keys), tmp_path / engine)
        metrics = json.loads((tmp_path / engine / "metrics.json").read_text())
        assert metrics["engine"] == engine
    pd.testing.assert_frame_equal(
        history(tmp_path / "svi"), history(tmp_path / "captured"), rtol=1e-4
    )


def test_a_captured_run_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    config = default_config("digits", KEYS | {"engine": "captured"})
    train(config, tmp_path / "whole")
    train(config, tmp_path / "stopped", callbacks=[StopAfter(25)])
    resume(tmp_path / "stopped")
    pd.testing.assert_frame_equal(
        history(tmp_path / "whole"), history(tmp_path / "stopped"), check_exact=True
    )
    a, b = (load_weights(tmp_path / name / "weights.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_double_precision_goes_all_the_way(tmp_path: Path) -> None:
    run = train(default_config("digits", KEYS | {"precision": "f64", "epochs": 1}), tmp_path / "r")
    assert {p.dtype for p in run.model.parameters()} == {torch.float64}
    assert {t.dtype for t in load_weights(tmp_path / "r" / "weights.safetensors").values()} <= {
        torch.float64,
        torch.int64,
    }
    run = resume(tmp_path / "r", epochs=2)
    assert run.evaluate(samples=2)["elbo"] < 0
    np.savez(tmp_path / "rows.npz", x=np.zeros((3, 8, 8)))
    assert len(run.predict(tmp_path / "rows.npz")) == 3
    assert run.generate(2).dtype == np.float32


def test_the_engines_of_the_configuration_are_those_there_are() -> None:
    for engine in ENGINES:
        assert default_config("digits", {"engine": engine}).engine == engine
