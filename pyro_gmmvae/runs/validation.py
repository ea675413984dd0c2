"""What a fit is told after each epoch: held-out ELBO, accuracy and log-loss."""

from typing import Any

import torch

from pyro_gmmvae.evaluation import accuracy, log_loss
from pyro_gmmvae.objectives import Objective
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.training.devices import seeded

MOST_ROWS = 5000


class Watch:
    """Held-out numbers of a model on up to 5,000 validation rows, on fixed noise.

    The ELBO is the true one: unweighted, and without labels. Where there are no validation
    rows, training rows stand in for the ELBO, and there is no accuracy; nor is there one
    where the fit sees no label, as components then have no names.
    """

    def __init__(
        self, model: Any, objective: Objective, rows: TrainingData, device: torch.device
    ) -> None:
        self.model, self.objective, self.device = model, objective, device
        self.numbers, self.groups = rows.validation_rows(MOST_ROWS), rows.groups
        self.x, y = rows.tensors(self.numbers, device)
        # a model that is given the class bounds log p(x|y), and says nothing without one
        self.given = y if model.given_class else None
        self.x_labelled, self.y_labelled = rows.tensors(rows.split.labelled, device)
        named = model.has_classes() and len(rows.split.labelled) > 0
        self.y = y.cpu().numpy() if named and len(rows.split.validation) else None

    def fit_classifier(self) -> None:
        """Bring a classifier that is fitted apart from the model up to date with it."""
        self.model.fit_classifier(self.x_labelled, self.y_labelled)

    @torch.no_grad()
    def __call__(self) -> dict[str, float]:
        self.fit_classifier()
        with seeded(0, self.device):
            parts = self.objective(self.x, self.given).parts
        record = {f"val_{name}": value.item() for name, value in parts.items()}
        if self.y is not None:
            log_probs = self.model.classify(self.x).cpu().numpy()
            right, loss = accuracy(log_probs, self.y), log_loss(log_probs, self.y)
            if right is not None and loss is not None:
                record |= {"val_accuracy": right, "val_log_loss": loss}
            if right is not None and self.groups.merges:
                pooled = self.groups.pool(log_probs, self.numbers)
                share = accuracy(pooled, self.groups.first(self.y, self.numbers))
                record |= {} if share is None else {"val_sequence_accuracy": share}
        return record
