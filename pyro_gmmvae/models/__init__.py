"""Models: a generative story and a posterior each, as plain Pyro programs."""

from typing import TYPE_CHECKING

from pyro_gmmvae.lazy import PartTable, lazy_names

if TYPE_CHECKING:
    from pyro_gmmvae.models.adgm import ADGM, SDGM
    from pyro_gmmvae.models.adversarial import ALI, VAEGAN
    from pyro_gmmvae.models.base import LatentModel, Observation
    from pyro_gmmvae.models.covariates import Covariates
    from pyro_gmmvae.models.dc_ign import DCIGN
    from pyro_gmmvae.models.draw import DRAW
    from pyro_gmmvae.models.factors import FactorGMMVAE
    from pyro_gmmvae.models.gmmvae import GMMVAE, GMVAEDiscrete
    from pyro_gmmvae.models.jmvae import JMVAE
    from pyro_gmmvae.models.joint_vae import JointVAE
    from pyro_gmmvae.models.labels import labels_or_predictions
    from pyro_gmmvae.models.lvae import LVAE
    from pyro_gmmvae.models.m1m2 import M1M2
    from pyro_gmmvae.models.m2 import CVAE, M2, M2Gumbel
    from pyro_gmmvae.models.pixel_vae import PixelVAE
    from pyro_gmmvae.models.svae import SVAE
    from pyro_gmmvae.models.vae import AE, DAE, M1, VAE
    from pyro_gmmvae.models.vib import VIB, InformationDropout
    from pyro_gmmvae.models.vlaae import VLAAE
    from pyro_gmmvae.models.vq_vae import VQVAE
    from pyro_gmmvae.models.with_terms import AAE, VFAE, FactorVAE, Fader
else:
    __getattr__, __dir__ = lazy_names(__name__)

MODELS: "PartTable[type[LatentModel]]" = PartTable(
    __name__,
    {
        "gmmvae": "GMMVAE",
        "gmmvae-factors": "FactorGMMVAE",
        "gmvae-discrete": "GMVAEDiscrete",
        "ae": "AE",
        "dae": "DAE",
        "vae": "VAE",
        "cvae": "CVAE",
        "m1": "M1",
        "m2": "M2",
        "m2-gumbel": "M2Gumbel",
        "m1m2": "M1M2",
        "adgm": "ADGM",
        "sdgm": "SDGM",
        "joint-vae": "JointVAE",
        "jmvae": "JMVAE",
        "lvae": "LVAE",
        "vlaae": "VLAAE",
        "vq-vae": "VQVAE",
        "vib": "VIB",
        "information-dropout": "InformationDropout",
        "pixel-vae": "PixelVAE",
        "factor-vae": "FactorVAE",
        "fader": "Fader",
        "vfae": "VFAE",
        "aae": "AAE",
        "vae-gan": "VAEGAN",
        "ali": "ALI",
        "draw": "DRAW",
        "dc-ign": "DCIGN",
        "svae": "SVAE",
    },
)

__all__ = [
    "AAE",
    "ADGM",
    "AE",
    "ALI",
    "CVAE",
    "DAE",
    "DCIGN",
    "DRAW",
    "GMMVAE",
    "JMVAE",
    "LVAE",
    "M1",
    "M1M2",
    "M2",
    "MODELS",
    "SDGM",
    "SVAE",
    "VAE",
    "VAEGAN",
    "VFAE",
    "VIB",
    "VLAAE",
    "VQVAE",
    "Covariates",
    "FactorGMMVAE",
    "FactorVAE",
    "Fader",
    "GMVAEDiscrete",
    "InformationDropout",
    "JointVAE",
    "LatentModel",
    "M2Gumbel",
    "Observation",
    "PixelVAE",
    "labels_or_predictions",
]
