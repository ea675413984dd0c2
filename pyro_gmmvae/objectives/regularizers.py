"""Terms on the assignment of rows to components, for any objective.

Without labels, an ELBO may be highest with all rows in one component. These terms ask that q(s|x)
uses the components as often as p(s) does, and that it assigns a row and the augmented row alike.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

SHARPENING = 1.5


@dataclass(frozen=True)
class Assignment:
    """The assignment of a batch's rows, as unnormalized log-probabilities.

    Attributes:
        logits: (B, K) of q(s|x), of the rows that the guide got.
        prior: (B, K) of p(s), which depends on the label of a labelled row.
        original: (B, K) of q(s|x) of the rows before augmentation, without a gradient;
            ``logits`` where rows are not augmented.
    """

    logits: Tensor
    prior: Tensor
    original: Tensor


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
