"""Classes y as one-hot vectors, for programs in which some rows are labelled."""

import pyro
import torch
from pyro.distributions import OneHotCategorical
from torch import Tensor

from pyro_gmmvae.models.base import LatentModel

# the logarithm of a probability that is exactly 0 in floating point, and still finite:
# 0 * CERTAIN is 0, and not NaN
CERTAIN = -1e3


def one_hot(y: Tensor, K: int, like: Tensor) -> Tensor:
    """One-hot rows (B, K) of y (B,), of the type and device of ``like``."""
    return torch.nn.functional.one_hot(y, K).to(like)


def flat_prior(rows: int, K: int, like: Tensor) -> OneHotCategorical:
    """p(y) = 1 / K, batch shape (rows,), of the type and device of ``like``."""
    return OneHotCategorical(logits=like.new_zeros(rows, K))


def sample_y(logits: Tensor, y: Tensor | None) -> Tensor:
    """Sample the guide's site y, one-hot: from q(y|.) on unlabelled rows, the label on others.

    The site is marked to be summed out. The q(y) of a labelled row is certain, so the bound of
    the row is the labelled one, E_q(z|x,y)[log p(x|y,z) + log p(y) + ...]; the logits before the
    label are kept in ``infer["class_logits"]`` for the classification term.

    Args:
        logits: (B, K) of q(y|.).
        y: (B,) labels, -1 or None: unlabelled.
    """
    infer = {"sum_out": True, "class_logits": logits}
    if y is not None:
        certain = CERTAIN * (1 - one_hot(y.clamp_min(0), logits.shape[-1], logits))
        logits = torch.where((y >= 0).unsqueeze(-1), certain, logits)
    return pyro.sample("y", OneHotCategorical(logits=logits), infer=infer)


@torch.no_grad()
def labels_or_predictions(model: LatentModel, x: Tensor, y: Tensor | None) -> Tensor:
    """Labels y (B,), and the predicted classes of ``model`` where they are -1 or None."""
    labels = torch.full((len(x),), -1, device=x.device) if y is None else y.clone()
    unlabelled = torch.nonzero(labels < 0).squeeze(-1)
    for rows in unlabelled.split(1024) if len(unlabelled) else ():
        labels[rows] = model.classify(x[rows]).argmax(-1)
    return labels
