"""What presets of several data sets have in common."""

from typing import Any

# components that become classes without a label: the guide sees an augmented row, the decoder
# explains the row itself, and assignments are consistent, and balanced over equal classes (where
# they are not, learn_prior or class_prior say so)
CLUSTER: dict[str, Any] = {
    "labels": 0,
    "augment": "auto",
    "reconstruct": "clean",
    "balance": 120,
    "consistency": 60,
    "covariance": "full",
    "latent_dim": 10,
    "learning_rate": 1e-3,
}
