"""Estimators for scikit-learn: fitted on arrays and frames, and saved as run folders.

The same rows, seed and configuration give the same weights as ``gmmvae train``.
"""

from typing import TYPE_CHECKING

from pyro_gmmvae.lazy import lazy_names

if TYPE_CHECKING:
    from pyro_gmmvae.estimators.classifier import GMMVAEClassifier
    from pyro_gmmvae.estimators.cluster import GMMVAECluster
    from pyro_gmmvae.estimators.imputer import GMMVAEImputer
    from pyro_gmmvae.estimators.transformer import GMMVAETransformer
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = ["GMMVAEClassifier", "GMMVAECluster", "GMMVAEImputer", "GMMVAETransformer"]
