"""Runs on a device: rows of the CPU, and folders on machines without the device."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.runs import Run, default_config, resume, train
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.training import devices

KEYS: dict[str, Any] = {"labels": 100, "epochs": 1, "hidden": "8", "latent_dim": 2, "engine": "svi"}


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose configuration names a CUDA device."""
    name = request.config.getoption("--device")
    out = tmp_path_factory.mktemp("runs") / "run"
    train(default_config("digits", {**KEYS, "device": name}), out)
    content = json.loads((out / "config.json").read_text())
    content["config"]["device"] = "cuda"
    (out / "config.json").write_text(json.dumps(content))
    return out


def test_rows_on_the_cpu_are_moved(folder: Path, device: torch.device) -> None:
    run = Run.load(folder, device=str(device))
    rows = TrainingData.from_config(run.config, run.schema)
    x, y = rows.tensors(rows.split.test[:20], "cpu")
    there = x.to(device)
    for function in (run.embed, run.log_probs, run.elbo):
        assert np.array_equal(function(x), function(there))
    assert run.factor_log_probs(x) == {}
    found, wanted = (run.bounds(rows, 3, y=labels) for rows, labels in ((x, y), (there, None)))
    assert torch.equal(found.iwae.cpu(), wanted.iwae.cpu())
    assert found.iwae.device.type == device.type


def test_the_labels_of_a_given_class_are_moved(device: torch.device, tmp_path: Path) -> None:
    config = default_config("digits", {**KEYS, "model": "cvae", "labels": "all"})
    run = train(config.replace(device=str(device)), tmp_path / "run")
    x, y = torch.rand(5, *run.schema.kind.x_shape).round(), torch.tensor([3, -1, 0, 1, 9])
    found = run.bounds(x, 2, y=y).elbo.cpu()
    assert torch.equal(found, run.bounds(x.to(device), 2, y=y.to(device)).elbo.cpu())


def test_a_folder_of_cuda_is_read_without_a_device(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "cuda_devices", lambda: (0, ""))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    run = Run.load(folder)
    assert run.device.type == "cpu"
    assert np.isfinite(run.elbo(torch.zeros(2, *run.schema.kind.x_shape))).all()
    before = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    with pytest.raises(GMMVAEError) as error:
        resume(folder, epochs=2)
    text = str(error.value)
    assert text.startswith("device 'cuda': this machine has 0 CUDA devices")
    assert text.endswith("use --device cpu or auto")
    assert before == {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    assert resume(folder, epochs=2, device="cpu").device.type == "cpu"
    resumed = json.loads((folder / "environment.json").read_text())["resumed"]
    assert [one["tf32"] for one in resumed] == [False]
    assert len((folder / "history.csv").read_text().splitlines()) == 3


def test_the_environment_has_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "some GPU")  # noqa: ARG005
    for keys, cuda in (({}, False), ({"tf32": True}, True)):
        config = default_config("digits", keys)
        assert devices.machine(torch.device("cuda"), config)["tf32"] is cuda
        assert devices.machine(torch.device("cpu"), config)["tf32"] is False
    exact = default_config("digits", {"tf32": True, "deterministic": True})
    assert devices.machine(torch.device("cuda"), exact)["tf32"] is False
