"""Devices that a machine does not have, or that can't start, are refused in one line."""

import warnings

import pytest
import torch

from pyro_gmmvae.errors import GMMVAEError, GMMVAEWarning
from pyro_gmmvae.training import devices, resolve_device

TOO_OLD = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU\n"
    "driver by downloading and installing a new version from the URL: http://www.nvidia.com"
)


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "", "meta", "cpu:x"])
def test_unknown_and_absent_devices_are_refused(name: str) -> None:
    with pytest.raises(GMMVAEError, match="device"):
        resolve_device(name)


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has it")
def test_mps_without_one() -> None:
    with pytest.raises(GMMVAEError, match=r"'mps' is not available .*; use --device cpu or auto$"):
        resolve_device("mps")


def test_a_number_beyond_those_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(GMMVAEError) as error:
        resolve_device("cuda:7")
    assert str(error.value) == (
        "device 'cuda:7': this machine has 2 CUDA devices, cuda:0 to cuda:1; use --device cpu or "
        "auto"
    )


def test_cuda_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(GMMVAEError, match=r"0 CUDA devices for this torch, which was built witho"):
        resolve_device("cuda")
    assert resolve_device("auto").type != "cuda"


@pytest.mark.parametrize("raises", [True, False])
def test_a_driver_that_is_too_old(monkeypatch: pytest.MonkeyPatch, raises: bool) -> None:
    """Torch raises, or warns once in a process and then finds no device."""
    asked: list[int] = []

    def is_available() -> bool:
        asked.append(0)
        if raises:
            raise RuntimeError(TOO_OLD)
        if len(asked) == 1:
            warnings.warn(f"CUDA initialization: {TOO_OLD}", stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(devices, "_REASONS", [])
    why = "the NVIDIA driver on your system is too old (found version 11040)"
    for _ in range(2):
        with pytest.raises(GMMVAEError) as error:
            resolve_device("cuda:1")
        assert str(error.value) == f"device 'cuda:1': {why}; use --device cpu or auto"
    with pytest.warns(GMMVAEWarning) as caught:
        assert resolve_device("auto") == torch.device("cpu")
    assert [str(one.message) for one in caught] == [f"no GPU is used: {why}"]
