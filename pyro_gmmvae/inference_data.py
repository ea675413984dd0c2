"""Posterior draws, importance weights and rows as ArviZ's InferenceData."""

import json
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from pyro_gmmvae import __version__
from pyro_gmmvae.data import Dataset
from pyro_gmmvae.errors import GMMVAEError, unknown_name
from pyro_gmmvae.evaluation import Bounds, Draws, draw_from_guide, latent_draws, likelihood
from pyro_gmmvae.files import atomic_file
from pyro_gmmvae.models import LatentModel, labels_or_predictions
from pyro_gmmvae.runs import Run
from pyro_gmmvae.runs.component_names import fitted_names
from pyro_gmmvae.runs.data import TrainingData, some_of
from pyro_gmmvae.runs.run import with_data_at
from pyro_gmmvae.training.devices import seeded

if TYPE_CHECKING:
    import xarray

Array = np.ndarray[Any, Any]
Values = dict[str, tuple[tuple[str, ...], Array]]

SOURCES = {"posterior": latent_draws.posterior_draws, "guide": latent_draws.guide_draws}
PARTS = ("train", "validation", "test")
SAMPLES = ("chain", "draw", "row")
IMAGE = ("channel", "height", "width")
MAX_NUMBERS = 2**29  # of four bytes: 2 GiB


def to_inference_data(
    run_or_model: Any,
    x: Any = "test",
    y: Any = None,
    *,
    draws: int = 100,
    chains: int = 4,
    rows: int = 100,
    source: str = "posterior",
    predictive: bool = True,
    seed: int = 0,
    data: str | None = None,
) -> Any:
    """Draw latents and x for rows, as ArviZ's InferenceData (from ArviZ 1 on a DataTree).

    Groups and variables; each latent site of the model (z, s, y, a, ...) is a variable::

        posterior             chain, draw, row, then latent (z), component (the class), ...
        log_likelihood        x: log w = log p(x, latents) - log q(latents|x) at these draws
        sample_stats          log_weight: log w of the proposal at each draw; accepted; per row:
                              iwae, the log of the mean weight; pareto_k of these weights (see
                              evaluation.pareto_k); elbo, of 100 draws of the guide
        posterior_predictive  x ~ p(x|latents); x_mean, its mean; y, the most probable component
        prior, prior_predictive   the same without an observation, one chain
        observed_data         x; y if the fit saw classes and those of all rows are known
        constant_data         y if it is not observed_data (-1: unknown), sequence (of windows)

    Parameters are point estimates; each row has its own latents. ``posterior`` holds draws of
    p(latents|x) by Metropolis-Hastings (:func:`pyro_gmmvae.evaluation.posterior_draws`), proposed
    by :func:`pyro_gmmvae.evaluation.draw_tilted`. If ``pareto_k`` is above 0.7 that is a bad
    proposal: the chains stick, R-hat shows it, and both the draws and ``loo`` are unreliable.
    With ``source="guide"`` the draws are from q(latents|x), and there is no log_likelihood.

    ``az.loo`` then estimates sum_n log p(x_n), and ``az.compare`` ranks models on the same rows
    (the page "ArviZ" of the documentation has the derivation). Use test rows: it is optimistic for
    rows that the parameters were fitted on.

    x is in the file's units (for a plain model: as given), densities are for the model's units,
    in nats; missing entries of x are NaN. A Bernoulli likelihood draws binary pixels, also if it
    was fitted to gray ones: compare x_mean with those. Counts and levels are drawn as such.

    Args:
        run_or_model: a :class:`pyro_gmmvae.runs.Run`, or a module with ``model`` and ``guide``.
        x: for a run, "test", "validation" or "train", a part of its data, or a ``Dataset`` or
            rows in the file's units; for a plain model rows (N, *x_shape). Arrays or tensors.
        y: (N,) class numbers of rows x, -1: unknown; None: all unknown. A model that is given
            the class (cvae) gets the most probable one for unknown ones; others never see y.
        draws: S, of each chain.
        chains: C.
        rows: the number of rows of a part, the same ones each time; 0: all.
        source: "posterior" or "guide".
        predictive: False leaves out x from the posterior and prior predictive.
        seed: of the draws; the caller's random state is restored.
        data: where a run's data is now, if it was moved.

    Raises:
        GMMVAEError: a model without latents, rows that do not fit it, or more numbers than 2 GiB.

    Tested with ArviZ 0.23.4 (Python 3.11) and 1.3.0 (Python 3.12).
    """
    for name, value, least in (("draws", draws, 1), ("chains", chains, 1), ("rows", rows, 0)):
        if not isinstance(value, int | np.integer) or value < least:
            raise GMMVAEError(f"{name} must be an integer of at least {least}, not {value!r}")
    if source not in SOURCES:
        raise GMMVAEError(f"source {source!r}: draws come from the 'posterior' or the 'guide'")
    inputs = _inputs(run_or_model, x, y, rows, data)
    with likelihood.evaluation_mode(inputs.model), seeded(seed, inputs.x.device):
        _check_size(inputs.latent_entries(), inputs.x, draws, chains, predictive)
        model, labels = inputs.model, inputs.labels_for_programs
        programs = model.model, model.guide
        drawn = SOURCES[source](*programs, inputs.x, draws, chains, labels)
        elbo = likelihood.log_weights(*programs, inputs.x, 100, y=labels).elbo
        prior = latent_draws.prior_draws(model.model, inputs.x, draws, labels)
        x_draws = None
        if predictive:
            x_draws = latent_draws.predictive_draws(model.model, drawn.latents, inputs.x, labels)
    attrs = inputs.attrs | {"source": source, "draws_seed": seed}
    return _collected(_groups(inputs, drawn, elbo, prior, x_draws, source), attrs)


def save(data: Any, path: Path | str) -> None:
    """Write the result of :func:`to_inference_data` as compressed netCDF, atomically.

    Raises:
        GMMVAEError: no h5netcdf, or a place that can't be written; the previous file is kept.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "data.nc"
        try:
            packed = {  # an InferenceData, which has no subtree, compresses by itself
                node.path: {k: {"zlib": True} for k, v in node.items() if v.dtype.kind in "biuf"}
                for node in getattr(data, "subtree", ())
            }
            encoding = {"encoding": packed} if packed else {}
            data.to_netcdf(str(file), engine="h5netcdf", **encoding)
        except (ImportError, ValueError) as error:
            if "h5netcdf" not in str(error):
                raise
            raise GMMVAEError("netCDF files need h5netcdf: pip install h5netcdf h5py") from error
        with atomic_file(Path(path)) as temporary:
            temporary.write_bytes(file.read_bytes())


def _check_size(latents: int, x: Tensor, draws: int, chains: int, predictive: bool) -> None:
    """Refuse draws beyond memory before any work."""
    rows, entries = len(x), x[0].numel()
    numbers = rows * draws * ((chains + 1) * latents + (2 * chains + 1) * entries * predictive)
    if numbers > MAX_NUMBERS:
        raise GMMVAEError(
            f"{rows} rows x {chains} chains x {draws} draws with {entries} entries of x are "
            f"{numbers / 2**28:.1f} GiB, more than 2; ask for fewer rows or draws, or leave "
            "out the draws of x (predictive=False, --no-predictive)"
        )


def _collected(groups: "Mapping[str, xarray.Dataset]", attrs: Mapping[str, Any]) -> Any:
    """``arviz.InferenceData``, or from ArviZ 1 on a DataTree."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ArviZ announces its refactoring when imported
        import arviz
    if hasattr(arviz, "convert_to_inference_data"):
        return arviz.InferenceData(attrs=dict(attrs), **groups)
    import xarray

    tree = xarray.DataTree.from_dict(dict(groups))
    tree.attrs = dict(attrs)
    return tree


@dataclass(frozen=True)
class _Inputs:
    """A module with ``model`` and ``guide``, and rows.

    Attributes:
        x: (N, *x_shape), in the model's units, on its device.
        y: (N,) class numbers, -1 where unknown, or None.
        has_classes: whether the model's first components are the classes of y.
        ids, sequences: (N,) the rows' numbers, and names of the sequences of windows, or None.
        invert: from the model's units to those of the result.
        components, factors: names of the components of the class (None: numbers) and of factors.
        columns: names of the entries of x, or None.
    """

    model: Any
    x: Tensor
    y: Array | None
    has_classes: bool
    ids: Array
    invert: Callable[[Array], Array]
    attrs: dict[str, str | int]
    components: list[str] | None = None
    factors: dict[str, list[str]] = field(default_factory=dict)
    columns: tuple[str, ...] | None = None
    sequences: Array | None = None

    @property
    def labels_for_programs(self) -> Tensor | None:
        """(N,) labels for model and guide, if the model is given the class."""
        if not (isinstance(self.model, LatentModel) and self.model.given_class):
            return None
        y = None if self.y is None else torch.from_numpy(self.y).to(self.x.device)
        return labels_or_predictions(self.model, self.x, y)

    @property
    def label_sites(self) -> tuple[str, ...]:
        """The latent sites of classes; the class comes first."""
        return self.model.label_sites if isinstance(self.model, LatentModel) else ()

    @torch.no_grad()
    def latent_entries(self) -> int:
        """The number of values in the latents of a row.

        Raises:
            GMMVAEError: the model has no latents.
        """
        labels = self.labels_for_programs
        labels = None if labels is None else labels[:1]
        latents = draw_from_guide(self.model.model, self.model.guide, self.x[:1], labels)[2]
        if not latents:
            name = self.attrs["model"]
            raise GMMVAEError(f"the model {name!r} has no latents to draw; train vae or gmmvae")
        return sum(value.numel() for value in latents.values())


def _inputs(source: Any, x: Any, y: Any, rows: int, data: str | None) -> _Inputs:
    """Check the arguments of :func:`to_inference_data`."""
    if isinstance(source, Run):
        if isinstance(x, str):
            if y is not None:
                raise GMMVAEError(f"the {x} rows have the labels of the run's data: leave y out")
            return _part_of_run(source, x, rows, data)
        return _rows_for_run(source, x, y)
    if isinstance(source, nn.Module) and hasattr(source, "model") and hasattr(source, "guide"):
        return _rows_for_model(source, x, y)
    raise GMMVAEError(f"give a Run, or a module with model and guide, not {type(source).__name__}")


def _part_of_run(run: Run, part: str, rows: int, data: str | None) -> _Inputs:
    if part not in PARTS:
        raise unknown_name("part", part, list(PARTS))
    rows_of_run = TrainingData.from_config(with_data_at(run.config, data), run.schema)
    numbers = getattr(rows_of_run.split, part)
    if not len(numbers):
        raise GMMVAEError(f"{run.path} was trained without {part} rows; name another part")
    numbers = numbers[some_of(len(numbers), rows)]
    x, y = rows_of_run.tensors(numbers, run.device)
    groups = rows_of_run.groups
    sequences = groups.names[groups.of_row[numbers]] if groups.merges else None
    ids = rows_of_run.dataset.row_numbers[numbers]
    return _inputs_of_run(run, x, y.cpu().numpy(), ids, {"part": part}, sequences)


def _rows_for_run(run: Run, x: Any, y: Any) -> _Inputs:
    schema = run.schema
    if schema.kind.reads_tracks:
        raise GMMVAEError(f"{run.path} was trained on skeletons: name a part of its data ('test')")
    if isinstance(x, Dataset):
        dataset, number = x, {name: k for k, name in enumerate(schema.classes)}
        number_of = np.array([*(number.get(name, -1) for name in dataset.classes), -1])
        y = number_of[dataset.y] if y is None else y
    else:
        values = _array(x)
        missing = bool(np.isnan(values).any())
        dataset = Dataset.of_arrays(values, np.empty(0, np.int64), (), missing=missing)
    if np.isinf(np.asarray(dataset.x[:])).any():
        raise GMMVAEError("x has infinite entries; leave their rows out")
    rows = torch.from_numpy(schema.rows_for_model(dataset, "x")).to(run.device, run.dtype)
    labels = _labels(y, len(rows), len(schema.classes))
    return _inputs_of_run(run, rows, labels, dataset.row_numbers, {}, None)


def _inputs_of_run(
    run: Run, x: Tensor, y: Array | None, ids: Array, attrs: dict[str, Any], sequences: Array | None
) -> _Inputs:
    config, model = run.config, run.model
    names = {name: getattr(config, name) for name in ("model", "guide", "objective", "seed")}
    attrs = {k: v for k, v in names.items() if v is not None} | attrs
    attrs |= {"weights": run.weights, "config": json.dumps(config.model_dump())}
    factors = {}
    for name, size in model.factors.items():
        classes = list(dict(run.schema.factors).get(name, ()))
        factors[name] = classes + [f"component_{k}" for k in range(len(classes), size)]
    has_classes, invert = bool(fitted_names(config, run.schema)), run.schema.transform.invert
    components = run.class_names() if model.components else None
    columns = run.schema.kind.columns
    return _Inputs(
        *(model, x, y, has_classes, ids, invert, attrs, components, factors, columns, sequences)
    )


def _rows_for_model(model: Any, x: Any, y: Any) -> _Inputs:
    if isinstance(x, str | Dataset):
        raise GMMVAEError("a plain model takes rows x (N, *x_shape); only a run has parts of data")
    like = next(model.parameters(), torch.zeros(()))
    values = torch.as_tensor(_array(x)).to(like)
    shape, components, missing = values.shape[1:], None, False
    if isinstance(model, LatentModel):
        shape, components = torch.Size(model.x_shape), model.components or None
        missing = model.observation.missing
    if values.shape[1:] != shape:
        raise GMMVAEError(
            f"x holds rows of shape {tuple(values.shape[1:])}; the model's is {tuple(shape)}"
        )
    if values.isinf().any() or (not missing and values.isnan().any()):
        raise GMMVAEError("x has entries that are not finite; leave their rows out")
    attrs: dict[str, str | int] = {"model": type(model).__name__}
    attrs |= {"guide": type(model.guide).__name__} if isinstance(model.guide, nn.Module) else {}
    labels = _labels(y, len(values), components)
    return _Inputs(model, values, labels, True, np.arange(len(values)), np.asarray, attrs)


def _array(x: Any) -> Array:
    if isinstance(x, Tensor):
        x = x.detach().cpu().numpy()
    try:
        values = np.asarray(x)
        values = values if values.dtype.kind == "f" else values.astype(np.float32)
    except (TypeError, ValueError) as error:
        raise GMMVAEError(f"x is not an array of numbers: {error}") from error
    if values.ndim < 2 or not values.size:
        raise GMMVAEError(f"x must have the shape (N, *x_shape), not {values.shape}")
    return values


def _labels(y: Any, rows: int, classes: int | None) -> Array | None:
    """(N,) int64 labels."""
    if y is None:
        return None
    values = np.asarray(y.detach().cpu() if isinstance(y, Tensor) else y)
    if values.shape != (rows,):
        raise GMMVAEError(f"y has the shape {values.shape}, and x {rows} rows")
    if values.dtype.kind not in "iu":
        raise GMMVAEError(f"y must hold class numbers (integers), not {values.dtype}")
    if classes is not None and not ((values >= -1) & (values < classes)).all():
        raise GMMVAEError(f"y must hold class numbers from 0 to {classes - 1}, or -1: unknown")
    return values.astype(np.int64)


def _groups(
    inputs: _Inputs,
    drawn: Draws,
    elbo: Tensor,
    prior: tuple[dict[str, Tensor], Array],
    predicted: tuple[Array, Array] | None,
    source: str,
) -> "dict[str, xarray.Dataset]":
    """Groups by name, in the order in which ArviZ shows them."""
    x_dims = _x_dims(inputs)
    groups: dict[str, Values] = {"posterior": _latents(inputs, drawn.latents)}
    if predicted is not None:
        x, mean = (inputs.invert(part) for part in predicted)
        dims = (*SAMPLES, *x_dims)
        groups["posterior_predictive"] = {"x": (dims, x), "x_mean": (dims, mean)}
        groups["posterior_predictive"] |= _classes(inputs, drawn.latents)
    if source == "posterior":
        groups["log_likelihood"] = {"x": (SAMPLES, _numpy(drawn.log_w, np.float64))}
    proposed = drawn.proposed.flatten(0, 1).double().cpu()
    bounds = Bounds(proposed, proposed)
    groups["sample_stats"] = {
        "log_weight": (SAMPLES, _numpy(drawn.proposed, np.float64)),
        "accepted": (SAMPLES, _numpy(drawn.accepted)),
        "elbo": (("row",), _numpy(elbo, np.float64)),
        "iwae": (("row",), bounds.iwae.numpy()),
        "pareto_k": (("row",), likelihood.pareto_k(proposed)),
    }
    groups["prior"] = _latents(inputs, prior[0])
    if predicted is not None:
        groups["prior_predictive"] = {"x": ((*SAMPLES, *x_dims), inputs.invert(prior[1]))}
        groups["prior_predictive"] |= _classes(inputs, prior[0])
    observed: Values = {"x": (("row", *x_dims), inputs.invert(inputs.x.cpu().numpy()))}
    constant: Values = {}
    if inputs.y is not None:
        is_observed = inputs.has_classes and inputs.label_sites and (inputs.y >= 0).all()
        (observed if is_observed else constant)["y"] = (("row",), inputs.y)
    if inputs.sequences is not None:
        constant["sequence"] = (("row",), inputs.sequences)
    groups |= {"observed_data": observed} | ({"constant_data": constant} if constant else {})
    coords = _coords(inputs)
    return {name: _dataset(values, coords, inputs.attrs) for name, values in groups.items()}


def _dataset(values: Values, coords: dict[str, Any], attrs: dict[str, Any]) -> "xarray.Dataset":
    import xarray

    dims = {dim: size for d, v in values.values() for dim, size in zip(d, v.shape, strict=True)}
    named = {dim: coords.get(dim, np.arange(size)) for dim, size in dims.items()}
    library = {"library": "pyro_gmmvae", "library_version": __version__}
    origin = {f"{by}_{k}": v for by in ("creation", "inference") for k, v in library.items()}
    origin["created_at"] = datetime.now(UTC).isoformat(timespec="seconds")
    others = {k: v for k, v in attrs.items() if k != "config"}
    return xarray.Dataset(values, coords=named, attrs=origin | others)


def _latents(inputs: _Inputs, latents: dict[str, Tensor]) -> Values:
    named: Values = {}
    for site, value in latents.items():
        dims = _site_dims(inputs, site, value.dim() - len(SAMPLES))
        named[site] = ((*SAMPLES, *dims), _numpy(value))
    return named


def _site_dims(inputs: _Inputs, site: str, axes: int) -> tuple[str, ...]:
    """z: latent, z_NAME: latent_NAME; the class: component, a factor: component_NAME."""
    if axes == 1:
        sites = inputs.label_sites or ("s", "y")  # of a plain model
        if site in sites:
            names = list(inputs.model.factors) if inputs.label_sites else []
            name = dict(zip(sites, names, strict=False)).get(site)
            return (f"component_{name}" if name else "component",)
        if site.startswith("z"):
            return (f"latent{site[1:]}",)
        if site in ("a", "h"):
            return ("auxiliary" if site == "a" else "lower",)
    return tuple(f"{site}_dim_{axis}" for axis in range(axes))


def _x_dims(inputs: _Inputs) -> tuple[str, ...]:
    axes = inputs.x.dim() - 1
    if axes == 1:
        return ("feature",)
    if axes == 2 and inputs.sequences is not None:
        return ("frame", "feature")
    return IMAGE if axes == len(IMAGE) else tuple(f"x_dim_{axis}" for axis in range(axes))


def _coords(inputs: _Inputs) -> dict[str, Any]:
    """Names along dimensions; those without one are counted from 0."""
    coords: dict[str, Any] = {"row": inputs.ids}
    if inputs.columns is not None and inputs.x.dim() == 2:
        coords["feature"] = list(inputs.columns)
    if inputs.components is not None:
        # components that share a name are told apart by their numbers
        counts = Counter(inputs.components)
        coords["component"] = [
            f"{name} ({k})" if counts[name] > 1 else name
            for k, name in enumerate(inputs.components)
        ]
    return coords | {f"component_{name}": c for name, c in inputs.factors.items() if name}


def _classes(inputs: _Inputs, latents: dict[str, Tensor]) -> Values:
    """y, the most probable component of each draw, if components are classes."""
    if not (inputs.label_sites and inputs.has_classes):
        return {}
    return {"y": (SAMPLES, _numpy(latents[inputs.label_sites[0]].argmax(-1)))}


def _numpy(value: Tensor, dtype: Any = None) -> Array:
    return np.asarray(value.cpu().numpy(), dtype)
