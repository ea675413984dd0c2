"""Classes y as one-hot vectors, in programs where some rows know theirs."""

from typing import Any

import pyro
import torch
from pyro.distributions import OneHotCategorical
from torch import Tensor

from pyro_gmmvae.models.checks import check_class

# a probability of exactly 0 whose logarithm stays finite: 0 * CERTAIN is 0, and not NaN
CERTAIN = -1e3


def label_sites(model: Any) -> tuple[str, ...]:
    """The latent sites that labels are of, the class's first."""
    one: tuple[str, ...] = () if model.label_site is None else (model.label_site,)
    return getattr(model, "label_sites", one)


def flat_prior(rows: int, K: int, like: Tensor) -> OneHotCategorical:
    """p(y) = 1 / K, batch shape (rows,)."""
    return OneHotCategorical(logits=torch.zeros(rows, K, dtype=like.dtype, device=like.device))


def sample_y(logits: Tensor, y: Tensor | None) -> Tensor:
    """The guide's site y, one-hot: from q(y|.) on unlabelled rows, the label on the others.

    It is marked to be summed out. A labelled row's q(y) is certain, so the row's bound is the
    labelled one, E_q(z|x,y)[log p(x|y,z) + log p(y) + ...]; its q(y|.) before the label is
    left in ``infer["class_logits"]`` for the classification term.

    Args:
        logits: (B, K) of q(y|.).
        y: (B,) labels, -1 or None where unknown.
    """
    infer = {"sum_out": True, "class_logits": logits}
    if y is not None:
        certain = CERTAIN * (1 - vertices(y.clamp_min(0), logits))
        logits = torch.where((y >= 0).unsqueeze(-1), certain, logits)
    return pyro.sample("y", OneHotCategorical(logits=logits), infer=infer)


@torch.no_grad()
def known_or_likeliest(model: Any, x: Tensor, y: Tensor | None) -> Tensor:
    """Labels y (B,), the likeliest classes of ``model.classify`` where they are -1 or None."""
    given = torch.full((len(x),), -1, device=x.device) if y is None else y.clone()
    unknown = torch.nonzero(given < 0).squeeze(-1)
    for rows in unknown.split(1024) if len(unknown) else ():
        given[rows] = model.classify(x[rows]).argmax(-1)
    return given


def vertices(y: Tensor, like: Tensor) -> Tensor:
    """One-hot rows (B, K) of y (B,), of the last axis, type and device of ``like``."""
    return torch.nn.functional.one_hot(y, like.shape[-1]).to(like)


def vertex(label: int, n: int, K: int, like: Tensor) -> Tensor:
    """n rows of one class as one-hot vectors, (n, K).

    Raises:
        GMMVAEError: if there is no such class.
    """
    check_class(label, K)
    s = torch.zeros(n, K, dtype=like.dtype, device=like.device)
    s[:, label] = 1
    return s


def standard_normal(shape: tuple[int, ...], like: Tensor) -> pyro.distributions.Distribution:
    """N(0, I) over the last axis."""
    zeros = torch.zeros(shape, dtype=like.dtype, device=like.device)
    return pyro.distributions.Normal(zeros, torch.ones_like(zeros)).to_event(1)
