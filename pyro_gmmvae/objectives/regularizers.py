"""Terms on how rows are assigned to components, that any objective can carry.

Without labels an ELBO is content with one component for all rows. These two terms ask of q(s|x)
what is expected of classes: that they are met as often as p(s) says, and that a row and its
augmented twin are of the same one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

SHARPENING = 1.5


@dataclass(frozen=True)
class Assignment:
    """How a batch's rows are assigned, as unnormalized log-probabilities.

    Attributes:
        logits: (B, K) of q(s|x), of the rows that the guide saw.
        prior: (B, K) of p(s), a label's where a row has one.
        twin: (B, K) of q(s|clean x), without a gradient; ``logits`` where nothing was augmented.
    """

    logits: Tensor
    prior: Tensor
    twin: Tensor


class Regularizer(nn.Module):
    """A term of an assignment, in nats, and the buffer of its weight."""

    weight: Tensor
    needs_twin = False

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.tensor(1.0))

    def forward(self, one: Assignment) -> Tensor:
        raise NotImplementedError


class Balance(Regularizer):
    """KL( mean_rows q(s|x) || mean_rows p(s) ): components are met as often as p(s) says.

    Of a flat pi it is log K - H(mean_rows q(s|x)), which assumes equal classes; let its weight fall
    where they are not. It is a part of the ELBO's own KL of s, which is the information of s about
    x plus this one (Hoffman, Johnson 2016, "ELBO surgery"); its weight lets marginal and
    information be weighed apart, as in Krause, Perona, Gomes 2010 and Hu et al. 2017,
    arXiv:1702.08720. The mean is that of the batch: batches should hold many rows per component.
    """

    def forward(self, one: Assignment) -> Tensor:
        q, p = one.logits.softmax(-1).mean(0), one.prior.softmax(-1).mean(0)
        return (torch.xlogy(q, q) - q * p.log()).sum()


class Consistency(Regularizer):
    """-mean_rows sum_k t_k log q_k(x): a row's augmented twin is assigned as the row itself.

    t is q(s|clean x) raised to the power of 1.5 and normalized, which asks for confident
    assignments; no gradient goes through it (Xie et al. 2020, arXiv:1904.12848).
    """

    needs_twin = True

    def forward(self, one: Assignment) -> Tensor:
        target = (SHARPENING * one.twin.log_softmax(-1)).softmax(-1)
        return -(target * one.logits.log_softmax(-1)).sum(-1).mean()


class Sparsity(Regularizer):
    """sum_k log pi_k: a Dirichlet prior of pi whose concentration is below 1.

    Beside a :class:`Balance` of weight b towards a learnt pi, the best pi is what is left of each
    component's share of rows above w / (b + 1), up to a factor: components with less than that
    share empty. A component's log pi counts down to log(1e-3 / K) only.
    """

    def forward(self, one: Assignment) -> Tensor:
        p = one.prior.softmax(-1).mean(0)
        return (p + 1e-3 / len(p)).log().sum()


REGULARIZERS: Mapping[str, type[Regularizer]] = MappingProxyType(
    {"balance": Balance, "consistency": Consistency, "sparsity": Sparsity}
)
