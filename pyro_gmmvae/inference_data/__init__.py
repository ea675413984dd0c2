"""The InferenceData face: draws, weights and rows as ArviZ reads them."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.evaluation import (
    guide_draws,
    inference_data,
    posterior_draws,
    predictive_draws,
    prior_draws,
    write_netcdf,
)
from pyro_gmmvae.files import atomic_write
from pyro_gmmvae.inference_data.groups import collect
from pyro_gmmvae.inference_data.inputs import read_input
from pyro_gmmvae.training.devices import seeded

__all__ = ["save", "to_inference_data"]

SOURCES = {"posterior": posterior_draws, "guide": guide_draws}
MOST_NUMBERS = 2**29  # of four bytes: 2 GiB


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
    """What a model says of rows, as ArviZ's InferenceData (from ArviZ 1 on a DataTree).

    Groups and variables; each latent site of the model (z, s, y, a, ...) is a variable::

        posterior             chain, draw, row, then latent (z), component (s, y), auxiliary (a)
        log_likelihood        x: log w = log p(x, latents) - log q(latents|x) at these draws
        sample_stats          log_weight: log w of what the guide proposed at each draw; accepted;
                              per row: elbo, the mean of log_weight; iwae, the log of the mean
                              weight; pareto_k of these weights (see evaluation.pareto_k)
        posterior_predictive  x ~ p(x|latents); x_mean, its mean; y, the likeliest component
        prior, prior_predictive   the same without having seen x, one chain
        observed_data         x; y where all rows' classes are known and the fit was told classes
        constant_data         y where it is not observed_data (-1: unknown), sequence (of windows)

    **What is drawn.** Parameters are point estimates; latents are a row's own. ``posterior``
    holds draws of p(latents|x): the guide proposes and Metropolis-Hastings decides
    (:func:`pyro_gmmvae.evaluation.posterior_draws`), so that ``summary``, R-hat and ESS mean what
    they mean for MCMC. Where ``pareto_k`` is above 0.7 the guide is no good proposal: the chains
    stick, R-hat says so, and neither they nor ``loo`` are to be trusted. With
    ``source="guide"`` the draws are q(latents|x) itself, whatever its weights; there is no
    log_likelihood then, since what follows holds for posterior draws alone.

    **What az.loo means.** With the parameters fixed, other rows say nothing of a row's latents:
    its leave-one-out density is p(x_n), the marginal likelihood. ``loo`` averages
    1 / exp(log_likelihood) over posterior draws, which with log w is the identity of Gelfand
    and Dey, E_p(h|x)[q(h|x) / p(x, h)] = 1 / p(x), its tail smoothed by PSIS. So ``elpd_loo``
    estimates sum_n log p(x_n), from above once the chains have converged, where elbo and iwae
    do from below (Grosse et al.), and ``compare`` ranks models on the same rows. Rows that the
    parameters were fitted on flatter it: take test rows. The conditional log p(x|latents) would
    give the harmonic mean of likelihoods, of infinite variance for most models.

    The k that ``loo`` tells is that of 1 / w where the chains have been, ``pareto_k`` that of w
    where the guide has: believe the larger, and take ``loo`` of rows where both are below 0.7
    (ArviZ 1 refuses rows whose chains stood still). ``p_loo`` counts no parameters, ``waic``
    means nothing here, and LOO weights lead back to q, not to the prior: for ``loo_pit`` and
    its like use prior_predictive.

    **Units.** x is in the file's units (of a plain model: as given), densities are of the
    model's units, in nats; what is missing in x is NaN. A Bernoulli likelihood draws binary
    pixels, also where it was fitted to gray ones: compare x_mean with those.

    Args:
        run_or_model: a :class:`pyro_gmmvae.runs.Run`, or a module with ``model`` and ``guide``.
        x: of a run, "test", "validation" or "train", a part of its data, or a ``Dataset`` or
            rows in the file's units; of a plain model rows (N, *x_shape). Arrays or tensors.
        y: (N,) class numbers of rows x, -1: unknown; None: none is known. A model that is given
            the class (cvae) takes the likeliest where it is not known; others never see y.
        draws: S, of each chain.
        chains: C.
        rows: how many rows of a part, the same ones each time; 0: all.
        source: "posterior" or "guide".
        predictive: False leaves out x from the posterior and prior predictive.
        seed: of the draws; the caller's random state is left as it is.
        data: where a run's data is now, if it has moved.

    Raises:
        GMMVAEError: a model without latents, rows that do not fit it, or more numbers than 2 GiB.

    References:
        Gelfand, Dey 1994, doi:10.1111/j.2517-6161.1994.tb01996.x; Grosse, Ghahramani, Adams
        2015, arXiv:1511.02543; marginal likelihoods for latent variables: Merkle, Furr,
        Rabe-Hesketh 2019, arXiv:1802.04452; Yao et al. 2018, arXiv:1802.02538.

    The package's tests of it were run with ArviZ 0.23.4 (Python 3.11) and 1.3.0 (Python 3.12).
    """
    for name, value, least in (("draws", draws, 1), ("chains", chains, 1), ("rows", rows, 0)):
        if not isinstance(value, int | np.integer) or value < least:
            raise GMMVAEError(f"{name} must be at least {least} and whole, not {value!r}")
    if source not in SOURCES:
        raise GMMVAEError(f"source {source!r}: draws come from the 'posterior' or the 'guide'")
    given = read_input(run_or_model, x, y, rows, data)
    with given.in_evaluation_mode(), seeded(seed, given.x.device):
        _check_size(given.latent_entries(), given.x, draws, chains, predictive)
        model, told = given.model, given.told
        drawn = SOURCES[source](model.model, model.guide, given.x, draws, chains, told)
        prior = prior_draws(model.model, given.x, draws, told)
        x_draws = None
        if predictive:
            x_draws = predictive_draws(model.model, drawn.latents, given.x, told)
    attrs = given.attrs | {"source": source, "draws_seed": seed}
    return inference_data(collect(given, drawn, prior, x_draws, source), attrs)


def save(data: Any, path: Path | str) -> None:
    """Write what :func:`to_inference_data` gave as netCDF, atomically.

    Raises:
        GMMVAEError: no h5netcdf, or a place that can't be written; what was there is kept.
    """
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "data.nc"
        try:
            write_netcdf(data, written)
        except (ImportError, ValueError) as error:
            if "h5netcdf" not in str(error):
                raise
            raise GMMVAEError("netCDF files need h5netcdf: pip install h5netcdf h5py") from error
        atomic_write(Path(path), written.read_bytes())


def _check_size(latents: int, x: Any, draws: int, chains: int, predictive: bool) -> None:
    """Refuse what would not fit memory, before any work."""
    rows, entries = len(x), x[0].numel()
    kept = rows * draws * (chains + 1) * latents
    kept += rows * draws * (2 * chains + 1) * entries if predictive else 0
    if kept > MOST_NUMBERS:
        raise GMMVAEError(
            f"{rows} rows x {chains} chains x {draws} draws with {entries} entries of x are "
            f"{kept / 2**28:.1f} GiB, and 2 are the most; ask for fewer rows or draws, or leave "
            "out the draws of x (predictive=False, --no-predictive)"
        )
