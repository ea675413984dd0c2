"""Classes y as one-hot vectors, for programs in which some rows are labelled."""

from typing import Any

import pyro
import torch
from pyro.distributions import OneHotCategorical
from torch import Tensor, nn

from pyro_gmmvae.models.base import LatentModel
from pyro_gmmvae.objectives.soft_labels import SoftLabels, softened

# the logarithm of a probability that is exactly 0 in floating point, and still finite:
# 0 * CERTAIN is 0, and not NaN
CERTAIN = -1e3
# what a soft label leaves to a class that it rules out, so that its logarithm is finite
SOFT_EPS = 1e-3


def one_hot(y: Tensor, K: int, like: Tensor) -> Tensor:
    """One-hot rows (B, K) of y (B,), of the type and device of ``like``."""
    return torch.nn.functional.one_hot(y, K).to(like)


class ClassPrior(nn.Module):
    """p(y) of a one-hot y: 1 / K, and pi of a row with a soft label.

    Args:
        K: the number of classes.
    """

    def __init__(self, K: int) -> None:
        super().__init__()
        self.K = K
        self.soft_labels: SoftLabels | None = None

    def set_soft_labels(self, pi: Tensor) -> None:
        """Set p(y) of rows with the soft labels y = K + r to pi (R, K), softened."""
        self.soft_labels = SoftLabels(softened(pi, SOFT_EPS).log())

    def logits(self, y: Tensor | None, like: Tensor) -> Tensor:
        """(B, K) log p(y), unnormalized, of the type and device of ``like`` (B, ...)."""
        flat = like.new_zeros(len(like), self.K)
        soft = self.soft_labels
        return flat if y is None or soft is None else soft(y, flat)

    def classes(self, y: Tensor) -> Tensor:
        """(B,) labels of one class; -1 for rows with a soft label."""
        return y if self.soft_labels is None else self.soft_labels.classes(y)

    def forward(self, y: Tensor | None, like: Tensor) -> OneHotCategorical:
        """p(y) of rows with labels y (B,), batch shape (B,)."""
        return OneHotCategorical(logits=self.logits(y, like))


class OneHotClass(LatentModel):
    """A model with a one-hot class y, and p(y) as :class:`ClassPrior`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.label_prior = ClassPrior(self.components)

    def set_soft_labels(self, pi: Tensor) -> None:
        self.label_prior.set_soft_labels(pi.to(next(self.parameters())))


def sample_y(logits: Tensor, y: Tensor | None, prior: ClassPrior | None = None) -> Tensor:
    """Sample the guide's site y, one-hot: from q(y|.) on unlabelled rows, the label on others.

    The site is marked to be summed out. The q(y) of a labelled row is certain, so the bound of
    the row is the labelled one, E_q(z|x,y)[log p(x|y,z) + log p(y) + ...]; the logits before the
    label are kept in ``infer["class_logits"]`` for the classification term. A row with a soft
    label is an unlabelled row with another p(y).

    Args:
        logits: (B, K) of q(y|.).
        y: (B,) labels, -1 or None: unlabelled.
        prior: of y, with the soft labels; None: no label is soft.
    """
    infer = {"sum_out": True, "class_logits": logits}
    if y is not None:
        label = y if prior is None else prior.classes(y)
        certain = CERTAIN * (1 - one_hot(label.clamp_min(0), logits.shape[-1], logits))
        logits = torch.where((label >= 0).unsqueeze(-1), certain, logits)
    return pyro.sample("y", OneHotCategorical(logits=logits), infer=infer)


@torch.no_grad()
def labels_or_predictions(model: LatentModel, x: Tensor, y: Tensor | None) -> Tensor:
    """Labels y (B,), and the predicted classes of ``model`` where they are -1 or None."""
    labels = torch.full((len(x),), -1, device=x.device) if y is None else y.clone()
    unlabelled = torch.nonzero(labels < 0).squeeze(-1)
    for rows in unlabelled.split(1024) if len(unlabelled) else ():
        labels[rows] = model.classify(x[rows]).argmax(-1)
    return labels
