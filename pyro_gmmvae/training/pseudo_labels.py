"""Pseudo-labels: an averaged copy of a model labels rows, or sequences, with high confidence."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from pyro_gmmvae.objectives.elbo import pseudo_label
from pyro_gmmvae.training.batches import class_labels


class PseudoLabeler(nn.Module):
    """An exponential moving average of a classifier that fills in confident labels.

    A row without a label to which the average gives one class at least ``threshold`` gets that
    label for this step, and is then used as a labelled row (the prior of s). The average sees the
    row without dropout or noise, the model in training with them (Tarvainen, Valpola 2017,
    arXiv:1703.01780; Sohn et al. 2020, arXiv:2001.07685).

    Args:
        module: a model with ``classify(x)`` -> log q(y|x), (B, K).
        threshold: the probability from which a label is used, in (0, 1].
        from_step: the first optimizer step that uses such labels.
        balanced_over: assume that this many classes are equally frequent, and correct the
            average's probabilities by their recent shares (Berthelot et al. 2020,
            arXiv:1911.09785); None assumes nothing.
        decay: of the average, per step; smaller at first, (1 + step) / (10 + step), so that the
            initial random weights are soon forgotten.
    """

    shares: Any
    weight: Tensor

    def __init__(
        self,
        module: nn.Module,
        threshold: float,
        from_step: int,
        *,
        balanced_over: int | None = None,
        decay: float = 0.99,
    ) -> None:
        super().__init__()
        self.threshold, self.from_step = threshold, from_step
        shares = None if balanced_over is None else torch.full((balanced_over,), 1 / balanced_over)
        self.register_buffer("shares", shares)
        self.average: Any = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay
        self.active = False
        self.register_buffer("weight", torch.ones(()), persistent=False)

    def begin(self, step: int) -> None:
        """Begin a step: set whether labels are used yet, and how far the average moves."""
        self.active = step >= self.from_step
        self.weight.fill_(1 - min(self.decay, (1 + step) / (10 + step)))

    @torch.no_grad()
    def relabel(self, x: Tensor, y: Tensor) -> Tensor:
        """y (B,) or (B, F) with -2 - class in place of -1 where the average is confident."""
        if not self.active:
            return y
        if y.dim() > 1:  # of several factors, the class
            return torch.cat([self.relabel(x, y[:, 0]).unsqueeze(1), y[:, 1:]], 1)
        probs = self.average.classify(x).exp()
        if self.shares is not None:
            probs = self._balance(probs, y < 0)
        prob, label = probs.max(-1)
        return torch.where((y < 0) & (prob >= self.threshold), pseudo_label(label), y)

    def _balance(self, probs: Tensor, unlabelled: Tensor) -> Tensor:
        """Weight down the classes to which the average gave more than an equal share of rows.

        Components beyond the classes keep their probability.
        """
        classes, others = probs.tensor_split([len(self.shares)], -1)
        weight = unlabelled.to(probs).unsqueeze(-1)
        mean = (weight * classes).sum(0) / weight.sum().clamp_min(1)
        self.shares.lerp_(mean, 0.05)
        balanced = classes / self.shares.clamp_min(1e-3)
        rest = 1 - others.sum(-1, keepdim=True)
        return torch.cat([balanced / balanced.sum(-1, keepdim=True) * rest, others], -1)

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the average towards the module after a step: parameters and buffers."""
        # torch's AveragedModel takes the weight as a number, which a recorded step would keep,
        # and finds and groups the tensors anew at each step
        pairs = list(zip(_tensors(self.average), _tensors(module), strict=True))
        moving = [(a, b) for a, b in pairs if a.is_floating_point()]
        weights = [self.weight] * len(moving)
        torch._foreach_lerp_([a for a, _ in moving], [b for _, b in moving], weights)
        for averaged, current in pairs:
            if not averaged.is_floating_point():
                averaged.copy_(current)


class SequencePseudoLabeler(PseudoLabeler):
    """An exponential moving average that labels whole sequences, every so many steps.

    All windows of a sequence belong to one class: their log q(y|x) are averaged, and a sequence
    whose most probable class has at least ``threshold`` gets it, in all its windows, until the
    next labeling. With ``balanced_over`` all classes are assumed to have equally many sequences:
    the unlabelled ones are distributed over the classes as the labelled ones leave room, by
    Sinkhorn's iteration (Asano, Rupprecht, Vedaldi 2020, arXiv:1911.05371). Components beyond
    those classes keep their probability of each sequence.

    Args:
        module, threshold, from_step, balanced_over, decay: as of :class:`PseudoLabeler`.
        x: (N, ...) all training windows, in the module's input form.
        y: (N,) or (N, F) their labels, the class in the first column, -1 where unknown.
            **Filled in place**: batches that are taken from it carry the pseudo-labels, and a
            checkpoint of this module holds it.
        sequences: (N,) the number of each window's sequence, from 0.
        every: steps from one labeling to the next.
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
        self.room = None
        if balanced_over is not None:
            first = _first_windows(sequences)
            classes = class_labels(y)[first]
            labelled = torch.bincount(classes[classes >= 0], minlength=balanced_over)
            # a class that has its share already stays possible
            self.room = (len(first) / balanced_over - labelled).clamp_min(0.01)

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
        log_probs = pool_log_probs(torch.cat(parts), self.sequence_of)
        if self.room is not None:
            classes, others = log_probs.tensor_split([len(self.room)], -1)
            balanced = balance(classes, self.room) + classes.logsumexp(-1, keepdim=True)
            log_probs = torch.cat([balanced, others], -1)
        best, label = log_probs.max(-1)
        label = torch.where(best.exp() >= self.threshold, pseudo_label(label), -1)
        class_labels(self.labels)[self.windows] = label[self.sequence_of]


def pool_log_probs(log_probs: Tensor, group: Tensor) -> Tensor:
    """(S, K) normalized means of log-probabilities (N, K) over groups (N,) numbered from 0."""
    groups = int(group.max()) + 1
    total = log_probs.new_zeros(groups, log_probs.shape[1]).index_add_(0, group, log_probs)
    count = torch.bincount(group, minlength=groups).clamp_min(1).unsqueeze(-1)
    return (total / count).log_softmax(-1)


def balance(log_probs: Tensor, weights: Tensor, rounds: int = 20) -> Tensor:
    """Scale log-probabilities (S, K) by row and column until the columns have given weights.

    Args:
        log_probs: (S, K).
        weights: (K,) positive; the columns' sums, up to a factor.
        rounds: of scaling columns, then rows.
    """
    log_weights = weights.to(log_probs).log()
    for _ in range(rounds):
        log_probs = (log_probs - log_probs.logsumexp(0) + log_weights).log_softmax(-1)
    return log_probs


def _first_windows(sequences: Tensor) -> Tensor:
    """(S,) the number of each sequence's first window."""
    order = sequences.argsort(stable=True)
    ordered = sequences[order]
    starts = torch.ones_like(ordered, dtype=torch.bool)
    starts[1:] = ordered[1:] != ordered[:-1]
    return order[starts]


def _tensors(module: nn.Module) -> list[Tensor]:
    """Parameters and buffers, but for tables of soft labels, which no step changes."""
    buffers = [b for name, b in module.named_buffers() if not name.endswith("soft_labels.values")]
    return [*module.parameters(), *buffers]
