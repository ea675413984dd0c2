"""ArviZ 0.20 to 0.23, and ArviZ 1: the only place that knows the difference.

From 1.0 on an InferenceData is an xarray DataTree, and PSIS stands in ``arviz_stats``.
"""

import importlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray


def psis_k(log_w: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(N,) Pareto k-hat of log weights (N, samples); inf where no tail can be fitted."""
    arviz = _arviz()
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of tails that can't be fitted
        if hasattr(arviz, "psislw"):
            k = np.asarray(arviz.psislw(log_w)[1])
        else:
            array_stats = importlib.import_module("arviz_stats.base").array_stats
            k = np.array([_k_of_row(array_stats, row) for row in log_w])
    return np.where(np.isnan(k), np.inf, k)


def _k_of_row(array_stats: Any, log_w: np.ndarray[Any, Any]) -> float:
    try:
        # what it takes is the log-likelihood of what is left out: minus the weights
        return float(array_stats.psislw(-log_w)[1])
    except ValueError:
        return np.inf


def inference_data(groups: Mapping[str, "xarray.Dataset"], attrs: Mapping[str, Any]) -> Any:
    """One object of all groups: ``arviz.InferenceData``, or from ArviZ 1 on a DataTree."""
    arviz = _arviz()
    if hasattr(arviz, "convert_to_inference_data"):
        return arviz.InferenceData(attrs=dict(attrs), **groups)
    import xarray

    tree = xarray.DataTree.from_dict(dict(groups))
    tree.attrs = dict(attrs)
    return tree


def write_netcdf(data: Any, path: Path) -> None:
    """Write what :func:`inference_data` gave, compressed; an InferenceData is so by itself."""
    if not hasattr(data, "subtree"):
        data.to_netcdf(str(path), engine="h5netcdf")
        return
    packed = {
        node.path: {k: {"zlib": True} for k, v in node.data_vars.items() if v.dtype.kind in "biuf"}
        for node in data.subtree
    }
    data.to_netcdf(path, engine="h5netcdf", encoding=packed)


def _arviz() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ArviZ announces its refactoring when imported
        import arviz

    return arviz
