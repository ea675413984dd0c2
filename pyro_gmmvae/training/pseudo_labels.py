"""Pseudo-labels: an averaged copy of a model labels the rows it is sure of."""

import copy
from typing import Any

import torch
from torch import Tensor, nn


class Teacher(nn.Module):
    """An exponential moving average of a classifier that fills in confident labels.

    Where a row has no label and the average gives one class at least ``threshold``, the row gets
    that label for this step, through the same door as a true one (the prior of s). The
    average sees the row without dropout or noise, the model in training with them
    (Tarvainen, Valpola 2017, arXiv:1703.01780; Sohn et al. 2020, arXiv:2001.07685).

    Args:
        module: a model with ``classify(x)`` -> log q(y|x), (B, K).
        threshold: probability from which a class is believed, in (0, 1].
        from_step: the first optimiser step that uses such labels.
        balanced_over: assume that this many classes are equally frequent, and correct the
            average's probabilities by the shares it has lately given them (Berthelot et al.
            2020, arXiv:1911.09785); None assumes nothing.
        decay: of the average, per step; smaller at first, (1 + step) / (10 + step), so that the
            random weights of the beginning are soon forgotten.
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
        """Before each step: whether labels are used yet, and how far the average moves."""
        self.active = step >= self.from_step
        self.weight.fill_(1 - min(self.decay, (1 + step) / (10 + step)))

    @torch.no_grad()
    def relabel(self, x: Tensor, y: Tensor) -> Tensor:
        """y (B,) with -1 replaced where the average is sure."""
        if not self.active:
            return y
        if y.dim() > 1:  # of several factors, the class
            return torch.cat([self.relabel(x, y[:, 0]).unsqueeze(1), y[:, 1:]], 1)
        probs = self.average.classify(x).exp()
        if self.shares is not None:
            probs = self._balance(probs, y < 0)
        prob, label = probs.max(-1)
        return torch.where((y < 0) & (prob >= self.threshold), label, y)

    def _balance(self, probs: Tensor, unlabelled: Tensor) -> Tensor:
        """Weigh classes down that the average has given more than their equal share of rows.

        Components beyond the classes keep what they have.
        """
        known, others = probs.tensor_split([len(self.shares)], -1)
        weight = unlabelled.to(probs).unsqueeze(-1)
        mean = (weight * known).sum(0) / weight.sum().clamp_min(1)
        self.shares.lerp_(mean, 0.05)
        balanced = known / self.shares.clamp_min(1e-3)
        left = 1 - others.sum(-1, keepdim=True)
        return torch.cat([balanced / balanced.sum(-1, keepdim=True) * left, others], -1)

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the average towards the module after a step: parameters and buffers."""
        # torch's AveragedModel takes the weight as a number, which a recorded step would keep,
        # and finds and groups the tensors anew at each step
        pairs = list(zip(_tensors(self.average), _tensors(module), strict=True))
        moving = [(a, b) for a, b in pairs if a.is_floating_point()]
        weights = [self.weight] * len(moving)
        torch._foreach_lerp_([a for a, _ in moving], [b for _, b in moving], weights)
        for mine, theirs in pairs:
            if not mine.is_floating_point():
                mine.copy_(theirs)


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
