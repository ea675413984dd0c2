"""ELBO, accuracy and log-loss on validation rows, after each epoch."""

from functools import cached_property

import torch
from torch import Tensor

from pyro_gmmvae.evaluation import accuracy, log_loss
from pyro_gmmvae.models import LatentModel
from pyro_gmmvae.objectives import Objective
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.training.devices import seeded

MAX_ROWS = 5000


class Validation:
    """Metrics of a model on up to 5,000 validation rows, with fixed noise.

    The ELBO is unweighted and uses no labels. Without validation rows it is that of training
    rows, and accuracy is not computed. Without labels in the fit accuracy is not computed either,
    because components then have no names.
    """

    def __init__(
        self, model: LatentModel, objective: Objective, data: TrainingData, device: torch.device
    ) -> None:
        self.model, self.objective, self.device = model, objective, device
        self.numbers, self.groups = data.validation_rows(MAX_ROWS), data.groups
        self.x, y = data.tensors(self.numbers, device)
        # a model that is given the class bounds log p(x|y), which needs one
        self.given = y if model.given_class else None
        self.data, self.y_true = data, y
        named = model.components > 0 and len(data.split.labelled) > 0
        self.y = y.cpu().numpy() if named and len(data.split.validation) else None

    @cached_property
    def labelled(self) -> tuple[Tensor, Tensor]:
        """x and y of the labelled training rows."""
        return self.data.tensors(self.data.split.labelled, self.device)

    def fit_classifier(self) -> None:
        """Refit a classifier that the objective does not train, on labelled rows."""
        if type(self.model).fit_classifier is not LatentModel.fit_classifier:
            self.model.fit_classifier(*self.labelled)

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
