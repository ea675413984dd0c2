"""Models: one file each, a generative story and a posterior, as plain Pyro programs."""

from torch import nn

from pyro_gmmvae.models.adgm import ADGM, SDGM
from pyro_gmmvae.models.ae import AE
from pyro_gmmvae.models.cvae import CVAE
from pyro_gmmvae.models.gmmvae import GMMVAE
from pyro_gmmvae.models.gmmvae_factors import FactorGMMVAE
from pyro_gmmvae.models.gmvae_discrete import GMVAEDiscrete
from pyro_gmmvae.models.m1 import M1
from pyro_gmmvae.models.m1m2 import M1M2
from pyro_gmmvae.models.m2 import M2, M2Gumbel
from pyro_gmmvae.models.vae import VAE

MODELS: dict[str, type[nn.Module]] = {
    "gmmvae": GMMVAE,
    "gmmvae-factors": FactorGMMVAE,
    "gmvae-discrete": GMVAEDiscrete,
    "ae": AE,
    "vae": VAE,
    "cvae": CVAE,
    "m1": M1,
    "m2": M2,
    "m2-gumbel": M2Gumbel,
    "m1m2": M1M2,
    "adgm": ADGM,
    "sdgm": SDGM,
}

__all__ = [
    "ADGM",
    "AE",
    "CVAE",
    "GMMVAE",
    "M1",
    "M1M2",
    "M2",
    "MODELS",
    "SDGM",
    "VAE",
    "FactorGMMVAE",
    "GMVAEDiscrete",
    "M2Gumbel",
]
