"""Guides: posteriors q(z,s|x) of the Gaussian-mixture VAE, swappable by name."""

from collections.abc import Callable
from typing import Any

from torch import nn

from pyro_gmmvae.guides.conditional import ConditionalGuide
from pyro_gmmvae.guides.product import ProductGuide

GUIDES: dict[str, Callable[[Any], nn.Module]] = {
    "product": ProductGuide,
    "conditional": ConditionalGuide,
}

__all__ = ["GUIDES", "ConditionalGuide", "ProductGuide"]
