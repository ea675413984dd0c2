"""Pickles of fitted estimators: with their tensors on the CPU, whatever device fitted them."""

from typing import Any

from sklearn.base import BaseEstimator

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.training import resolve_device


class PickledOnCPU(BaseEstimator):
    """Pickles ``_fitted`` and ``model_`` from the CPU, and unpickles them to ``device``.

    Where this machine does not have that device it is the CPU.
    """

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        fitted = state.get("_fitted")
        if fitted is None or fitted.run.device.type == "cpu":
            return state
        moved = fitted.copied_to("cpu")
        return state | {"_fitted": moved, "model_": moved.run.model}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        fitted = state.get("_fitted")
        if fitted is None:
            return
        try:
            device = resolve_device(state["device"])
        except GMMVAEError:  # another machine's
            return
        if device.type != "cpu":
            self._fitted = fitted.copied_to(device)
            self.model_ = self._fitted.run.model
