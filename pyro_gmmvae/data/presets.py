"""What presets of several data sets have in common."""

from typing import Any

# components that become classes without a label: the guide sees an augmented row, the decoder
# explains the row itself, and assignments are consistent, and balanced over equal classes (where
# they are not, a balance that falls, such as 120:12:675, did better than a learnt or given pi)
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
