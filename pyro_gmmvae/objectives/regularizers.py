"""Terms on the assignment of rows to components, for any objective.

Without labels, an ELBO may be highest with all rows in one component. These terms ask that q(s|x)
uses the components as often as p(s) does, and that it assigns a row and the augmented row alike.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div

from pyro_gmmvae.errors import GMMVAEError, check_range

SHARPENING = 1.5
PROBE = 1e-2  # length of the step that finds a direction, in units of x


@dataclass(frozen=True)
class Assignment:
    """The assignment of a batch's rows, as unnormalized log-probabilities.

    Attributes:
        logits: (B, K) of q(s|x), of the rows that the guide got.
        prior: (B, K) of p(s), which depends on the label of a labelled row.
        original: (B, K) of q(s|x) of the rows before augmentation, without a gradient;
            ``logits`` where rows are not augmented.
        x: (B, *x_shape) the rows that the guide got.
        logits_at: from rows like x to their logits, without noise and dropout.
    """

    logits: Tensor
    prior: Tensor
    original: Tensor
    x: Tensor
    logits_at: Callable[[Tensor], Tensor]


class Regularizer(nn.Module):
    """A term of an assignment, in nats, and its weight in a buffer."""

    weight: Tensor
    needs_original = False
    """Whether it uses ``Assignment.original``."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.tensor(1.0))

    def forward(self, one: Assignment) -> Tensor:
        raise NotImplementedError


class Balance(Regularizer):
    """KL( mean_rows q(s|x) || mean_rows p(s) ): components are used as often as in p(s).

    For a flat pi it is log K - H(mean_rows q(s|x)), which assumes equal classes; let its weight
    fall where they are not equal. It is a part of the ELBO's KL of s, which is the mutual
    information of s and x plus this term (Hoffman, Johnson 2016, "ELBO surgery"); its weight
    changes the weight of the marginal alone, as in Krause, Perona, Gomes 2010 and Hu et al. 2017,
    arXiv:1702.08720. The mean is that of the batch: batches should hold many rows per component.
    """

    def forward(self, one: Assignment) -> Tensor:
        q, p = one.logits.softmax(-1).mean(0), one.prior.softmax(-1).mean(0)
        return (torch.xlogy(q, q) - q * p.log()).sum()


class Consistency(Regularizer):
    """-mean_rows sum_k t_k log q_k(x): an augmented row is assigned as the original row.

    t is q(s|original x) raised to the power of 1.5 and normalized, which rewards confident
    assignments; it has no gradient (Xie et al. 2020, arXiv:1904.12848).
    """

    needs_original = True

    def forward(self, one: Assignment) -> Tensor:
        target = (SHARPENING * one.original.log_softmax(-1)).softmax(-1)
        return -(target * one.logits.log_softmax(-1)).sum(-1).mean()


class Sparsity(Regularizer):
    """sum_k log pi_k: a Dirichlet prior of pi whose concentration is below 1.

    Together with a :class:`Balance` of weight b and a learned pi, the best pi of a component is
    proportional to its share of rows minus w / (b + 1); components with a smaller share empty. The
    log pi of a component counts down to log(1e-3 / K) only.
    """

    def forward(self, one: Assignment) -> Tensor:
        p = one.prior.softmax(-1).mean(0)
        return (p + 1e-3 / len(p)).log().sum()


class Entropy(Regularizer):
    """mean_rows H( q(s|x) ): every row is assigned with confidence.

    Plus a :class:`Balance` for a flat pi it is log K less the mutual information of s and x. With
    :class:`VAT` it moves the borders of classes to where there are few rows (Hu et al. 2017,
    arXiv:1702.08720).
    """

    def forward(self, one: Assignment) -> Tensor:
        log_q = one.logits.log_softmax(-1)
        return -(log_q.exp() * log_q).sum(-1).mean()


LONGEST = 1_000_000  # a step beyond it leaves the numbers that networks can compute with


class VAT(Regularizer):
    """mean_rows KL( q(s|x) || q(s|x + r) ): a row is assigned as the rows near it.

    Virtual adversarial training: r has a given length, and the direction in which the assignment
    changes most, estimated by one step of the power iteration. r and q(s|x) have no gradient here.

    Args:
        radius: the length of r, in units of x.

    Raises:
        GMMVAEError: a guide through whose class no gradient reaches x, such as that of
            :class:`~pyro_gmmvae.models.M1M2`.

    Reference:
        Miyato et al. 2018, arXiv:1704.03976.
    """

    def __init__(self, *, radius: float = 2.0) -> None:
        super().__init__()
        check_range("vat_radius", radius, 0 < radius <= LONGEST, f"positive, and at most {LONGEST}")
        self.radius = radius

    def forward(self, one: Assignment) -> Tensor:
        with torch.no_grad():
            target = one.logits_at(one.x).log_softmax(-1)
        direction = _of_length(torch.randn_like(one.x), PROBE)
        with torch.enable_grad():
            direction = direction.requires_grad_()
            divergence = _divergence(target, one.logits_at(one.x + direction))
            (direction,) = torch.autograd.grad(divergence, direction, allow_unused=True)
        if direction is None:
            raise GMMVAEError(
                "vat: the class of this model has no gradient with respect to x; set vat=0"
            )
        return _divergence(target, one.logits_at(one.x + _of_length(direction, self.radius)))


def _divergence(target: Tensor, logits: Tensor) -> Tensor:
    """The mean over rows of KL(target || softmax(logits)), of a target's log-probabilities."""
    return kl_div(logits.log_softmax(-1), target, log_target=True, reduction="batchmean")


def _of_length(rows: Tensor, length: float) -> Tensor:
    """Rows scaled to a Euclidean length; a missing entry counts as 0, and zeros stay."""
    flat = rows.detach().nan_to_num().flatten(1)
    return (length * flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-30)).view_as(rows)
