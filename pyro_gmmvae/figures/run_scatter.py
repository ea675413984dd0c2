"""Where rows and components lie in z."""

from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from pyro_gmmvae.figures.latent_scatter import Gaussians, latent_scatter
from pyro_gmmvae.figures.run_view import View

MOST_COMPONENTS = 100


def draw_latent(view: View) -> Figure:
    """Posterior means of z of test rows in two dimensions, with the components as ellipses.

    Rows have the colors of their classes where these are known, and else of their likeliest
    components. Of several factors it is the z of the class.
    """
    model, mixture = view.model, _mixture(view.model)
    z = view.z if mixture is None else view.z[:, : model.latent_dim]
    fitted = view.run.config.labels != 0
    if (view.y >= 0).any():
        groups, names, told = view.y, list(view.run.schema.classes), "class"
    elif model.components:
        groups, names, told = view.log_probs.argmax(1), view.class_names, "likeliest component"
    else:
        groups, names, told = np.full(len(z), -1), [], "nothing: no class is known"
    same = told != "class" or fitted  # component k is group k
    unit = view.unit
    return latent_scatter(
        z,
        groups,
        names,
        _gaussians(view, mixture, len(names) if same else 0),
        projection=view.projection,
        told=told,
        unit=unit,
    )


@torch.no_grad()
def _gaussians(view: View, mixture: Any, shared: int) -> Gaussians | None:
    """The components to show; the first ``shared`` have the colors of the groups of rows."""
    model = view.model
    if "z" not in model.latents and "z2" not in model.latents:
        return None  # an autoencoder's z has no prior
    if mixture is None:
        d = view.z.shape[1]
        return Gaussians(["p(z)"], np.zeros((1, d)), np.eye(d)[None], np.array([-1]))
    numbers = view.shown(MOST_COMPONENTS)[0]
    s = torch.eye(model.components).to(next(model.parameters()))[numbers]
    product = mixture(s)
    return Gaussians(
        [view.class_names[k] for k in numbers],
        product.mean.double().cpu().numpy(),
        product.covariance_matrix.double().cpu().numpy(),
        np.array([k if k < shared else -1 for k in numbers]),
    )


def _mixture(model: Any) -> Any:
    """p(z|s) of the class; None where z knows nothing of it, and is standard normal."""
    return model.mixture_priors.get("")
