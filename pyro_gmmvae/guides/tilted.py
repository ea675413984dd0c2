"""A guide whose s is the prior's with other class probabilities."""

from typing import ClassVar

import pyro
from torch import Tensor

from pyro_gmmvae.distributions import GaussianProduct, Tilted
from pyro_gmmvae.guides.base import MixtureModel
from pyro_gmmvae.guides.product import ProductGuide
from pyro_gmmvae.param_store import register


class TiltedGuide(ProductGuide):
    """The product guide with a q(s|x) that is p(s) given its class, times q of the class::

        q(s|x)    sum_c q_c(x) p(s | argmax s = c)                    s (B, K)
        q(z|s,x)  prod_i N(z; loc_i(x), scale_i(x)^2)^(s_i) / const   z (B, d)

        KL(q(s|x) || p(s)) = sum_c q_c(x) log(q_c(x) / pi_c), exactly

    p(s) is the prior of the row, with its label. So s has the prior's temperature, there is no key
    ``temperature``, and the KL of the relaxed model is that of two Categoricals: at most
    -log min pi (log K where pi is flat), and without the noise of a density ratio. See
    :class:`pyro_gmmvae.distributions.Tilted`.

    Args:
        model: the Gaussian-mixture VAE of which this is a posterior.
        sum_classes: sum over the classes, a draw of s and a decoding for each, as
            :class:`EnumeratedGuide` does; otherwise draw one class, with a straight-through
            gradient, which costs one decoding and suits a large K.

    Raises:
        GMMVAEError: a model with a discrete s.
    """

    name = "tilted"
    relaxed_only = True
    unused_keys: ClassVar[tuple[str, ...]] = ("temperature",)

    def __init__(self, model: MixtureModel, *, sum_classes: bool = True) -> None:
        super().__init__(model)
        self.sum_classes = sum_classes
        # in a tuple: the mixture belongs to the model, and is not a submodule of the guide
        self._mixture = (model.mixture,)

    def forward(self, x: Tensor, y: Tensor | None = None) -> None:
        register(encoder=self.encoder)
        logits, loc, scale = self.heads(x)
        prior = self._mixture[0].prior(len(x), y, relaxed=True)
        infer = {"sum_out": True, "expand": True} if self.sum_classes else {}
        with pyro.plate("rows", len(x)):
            s = pyro.sample("s", Tilted(prior, logits), infer=infer)
            pyro.sample("z", GaussianProduct(s, loc, scale))
