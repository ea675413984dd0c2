"""The scikit-learn face: estimators that fit arrays in memory, and become run folders.

They stand on ``runs``: the same rows, seed and settings give the weights that ``gmmvae train``
gives.
"""

from pyro_gmmvae.estimators.classifier import GMMVAEClassifier
from pyro_gmmvae.estimators.cluster import GMMVAECluster
from pyro_gmmvae.estimators.transformer import GMMVAETransformer

__all__ = ["GMMVAEClassifier", "GMMVAECluster", "GMMVAETransformer"]
