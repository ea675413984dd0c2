"""The groups of an InferenceData, as xarray's Datasets with named dimensions."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

from pyro_gmmvae import __version__
from pyro_gmmvae.evaluation import Bounds, Draws, pareto_k
from pyro_gmmvae.inference_data.inputs import Array, Input
from pyro_gmmvae.models import LatentModel

SAMPLES = ("chain", "draw", "row")
IMAGE = ("channel", "height", "width")
Values = dict[str, tuple[tuple[str, ...], Array]]


def collect(
    given: Input,
    drawn: Draws,
    prior: tuple[dict[str, Tensor], Array],
    predicted: tuple[Array, Array] | None,
    source: str,
) -> dict[str, xr.Dataset]:
    """Groups by name, in the order that ArviZ shows."""
    x_dims = _x_dims(given)
    found: dict[str, Values] = {"posterior": _latents(given, drawn.latents)}
    if predicted is not None:
        x, mean = (given.invert(part) for part in predicted)
        dims = (*SAMPLES, *x_dims)
        found["posterior_predictive"] = {"x": (dims, x), "x_mean": (dims, mean)}
        found["posterior_predictive"] |= _classes(given, drawn.latents)
    if source == "posterior":
        found["log_likelihood"] = {"x": (SAMPLES, _numpy(drawn.log_w, np.float64))}
    found["sample_stats"] = _statistics(drawn)
    found["prior"] = _latents(given, prior[0])
    if predicted is not None:
        x = given.invert(prior[1])
        found["prior_predictive"] = {"x": ((*SAMPLES, *x_dims), x)}
        found["prior_predictive"] |= _classes(given, prior[0])
    observed: Values = {"x": (("row", *x_dims), given.invert(given.x.cpu().numpy()))}
    constant: Values = {}
    if given.y is not None:
        known = given.has_classes and _class_site(given) is not None and (given.y >= 0).all()
        (observed if known else constant)["y"] = (("row",), given.y)
    if given.sequences is not None:
        constant["sequence"] = (("row",), given.sequences)
    found |= {"observed_data": observed} | ({"constant_data": constant} if constant else {})
    coords = _coords(given)
    return {name: _dataset(values, coords, given.attrs) for name, values in found.items()}


def _dataset(values: Values, coords: dict[str, Any], attrs: dict[str, Any]) -> xr.Dataset:
    dims = {dim: size for d, v in values.values() for dim, size in zip(d, v.shape, strict=True)}
    named = {dim: coords.get(dim, np.arange(size)) for dim, size in dims.items()}
    library = {"library": "pyro_gmmvae", "library_version": __version__}
    made = {f"{by}_{k}": v for by in ("creation", "inference") for k, v in library.items()}
    made["created_at"] = datetime.now(UTC).isoformat(timespec="seconds")
    kept = {k: v for k, v in attrs.items() if k != "config"}
    return xr.Dataset(values, coords=named, attrs=made | kept)


def _latents(given: Input, latents: dict[str, Tensor]) -> Values:
    site = _class_site(given)
    return {
        name: ((*SAMPLES, *_site_dims(name, value.dim() - len(SAMPLES), site)), _numpy(value))
        for name, value in latents.items()
    }


def _site_dims(site: str, axes: int, class_site: str | None) -> tuple[str, ...]:
    """z: latent, z_NAME: latent_NAME; the class: component, s_NAME: component_NAME; a: auxiliary.

    Other sites have numbered dimensions.
    """
    if axes == 1:
        if site == class_site:
            return ("component",)
        if site.startswith("z"):
            return (f"latent{site[1:]}",)
        if site in ("s", "y") or site.startswith("s_"):
            return (f"component{site[1:]}",)
        if site == "a":
            return ("auxiliary",)
    return tuple(f"{site}_dim_{axis}" for axis in range(axes))


def _x_dims(given: Input) -> tuple[str, ...]:
    axes = given.x.dim() - 1
    if axes == 1:
        return ("feature",)
    if axes == 2 and given.sequences is not None:
        return ("frame", "feature")
    return IMAGE if axes == len(IMAGE) else tuple(f"x_dim_{axis}" for axis in range(axes))


def _coords(given: Input) -> dict[str, Any]:
    """Names along dimensions; those without one are counted from 0."""
    coords: dict[str, Any] = {"row": given.ids}
    if given.columns is not None and given.x.dim() == 2:
        coords["feature"] = list(given.columns)
    if given.components is not None:
        coords["component"] = _unlike(given.components)
    return coords | {f"component_{name}": c for name, c in given.factors.items() if name}


def _unlike(names: list[str]) -> list[str]:
    """Names that several components share, told apart by the components' numbers."""
    shared = {name for name, count in Counter(names).items() if count > 1}
    return [f"{name} ({k})" if name in shared else name for k, name in enumerate(names)]


def _class_site(given: Input) -> str | None:
    """The latent whose components are the classes."""
    sites = given.model.label_sites if isinstance(given.model, LatentModel) else ()
    return sites[0] if sites else None


def _classes(given: Input, latents: dict[str, Tensor]) -> Values:
    """y, the likeliest component of each draw, where components are classes."""
    site = _class_site(given)
    if site is None or not given.has_classes:
        return {}
    return {"y": (SAMPLES, _numpy(latents[site].argmax(-1)))}


def _statistics(drawn: Draws) -> Values:
    proposed = drawn.proposed.flatten(0, 1).double().cpu()
    bounds = Bounds(proposed, proposed)
    return {
        "log_weight": (SAMPLES, _numpy(drawn.proposed, np.float64)),
        "accepted": (SAMPLES, _numpy(drawn.accepted)),
        "elbo": (("row",), bounds.elbo.numpy()),
        "iwae": (("row",), bounds.iwae.numpy()),
        "pareto_k": (("row",), pareto_k(proposed)),
    }


def _numpy(value: Tensor, dtype: Any = None) -> Array:
    return np.asarray(value.cpu().numpy(), dtype)
