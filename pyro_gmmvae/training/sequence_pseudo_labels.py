"""Pseudo-labels of whole sequences: what an averaged copy makes of all their windows."""

import torch
from torch import Tensor, nn

from pyro_gmmvae.training.batches import class_labels
from pyro_gmmvae.training.pseudo_labels import Teacher


class SequenceTeacher(Teacher):
    """An exponential moving average that labels whole sequences, every so many steps.

    All windows of a sequence are of one class: their log q(y|x) are averaged, and a sequence
    whose likeliest class has at least ``threshold`` gets it, in all its windows, until the next
    time. With ``balanced_over`` all classes are taken to have equally many sequences: the
    unlabelled ones are shared among them as the labelled ones leave it, by Sinkhorn's iteration
    (Asano, Rupprecht, Vedaldi 2020, arXiv:1911.05371), so that none takes those of another.
    Components beyond those classes keep the probability they have of each sequence.

    Args:
        module, threshold, from_step, balanced_over, decay: as of :class:`Teacher`.
        x: (N, ...) all training windows, as the module sees them.
        y: (N,) or (N, F) their labels, the class's in the first column, -1 where there is none.
            **Filled in place**: batches that are taken from it carry the pseudo-labels, and a
            checkpoint of this module holds it.
        sequences: (N,) the number of each window's sequence, from 0.
        every: steps from one labelling to the next.
    """

    labels: Tensor

    def __init__(
        self,
        module: nn.Module,
        threshold: float,
        from_step: int,
        *,
        x: Tensor,
        y: Tensor,
        sequences: Tensor,
        every: int,
        balanced_over: int | None = None,
        decay: float = 0.99,
    ) -> None:
        super().__init__(module, threshold, from_step, decay=decay)
        self.x, self.every = x, every
        self.register_buffer("labels", y)
        self.windows = torch.nonzero(class_labels(y) < 0).squeeze(-1)
        _, self.sequence_of = sequences[self.windows].unique(return_inverse=True)
        self.left = None
        if balanced_over is not None:
            first = _first_of(sequences)
            known = class_labels(y)[first]
            labelled = torch.bincount(known[known >= 0], minlength=balanced_over)
            # a class that has its share already is not ruled out
            self.left = (len(first) / balanced_over - labelled).clamp_min(0.01)

    def begin(self, step: int) -> None:
        super().begin(step)
        if self.active and (step - self.from_step) % self.every == 0 and len(self.windows):
            self._label()

    def relabel(self, x: Tensor, y: Tensor) -> Tensor:  # noqa: ARG002
        """y as it is: it carries the labels already."""
        return y

    @torch.no_grad()
    def _label(self) -> None:
        parts = [self.average.classify(self.x[rows]) for rows in self.windows.split(4096)]
        log_probs = pooled(torch.cat(parts), self.sequence_of)
        if self.left is not None:
            known, others = log_probs.tensor_split([len(self.left)], -1)
            shared = balance(known, self.left) + known.logsumexp(-1, keepdim=True)
            log_probs = torch.cat([shared, others], -1)
        best, label = log_probs.max(-1)
        label = torch.where(best.exp() >= self.threshold, label, -1)
        class_labels(self.labels)[self.windows] = label[self.sequence_of]


def pooled(log_probs: Tensor, group: Tensor) -> Tensor:
    """(S, K) normalized means of log-probabilities (N, K) over groups (N,) numbered from 0."""
    groups = int(group.max()) + 1
    total = log_probs.new_zeros(groups, log_probs.shape[1]).index_add_(0, group, log_probs)
    count = torch.bincount(group, minlength=groups).clamp_min(1).unsqueeze(-1)
    return (total / count).log_softmax(-1)


def balance(log_probs: Tensor, weights: Tensor, rounds: int = 20) -> Tensor:
    """Log-probabilities (S, K), scaled by row and column until columns are as heavy as asked.

    Args:
        log_probs: (S, K).
        weights: (K,) positive; how columns are to weigh, up to a factor.
        rounds: of scaling columns, then rows.
    """
    wanted = weights.to(log_probs).log()
    for _ in range(rounds):
        log_probs = (log_probs - log_probs.logsumexp(0) + wanted).log_softmax(-1)
    return log_probs


def _first_of(sequences: Tensor) -> Tensor:
    """(S,) the number of each sequence's first window."""
    order = sequences.argsort(stable=True)
    ordered = sequences[order]
    starts = torch.ones_like(ordered, dtype=torch.bool)
    starts[1:] = ordered[1:] != ordered[:-1]
    return order[starts]
