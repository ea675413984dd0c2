"""Gaussian-mixture variational autoencoders in Pyro.

Nothing is imported here on purpose: ``import pyro_gmmvae`` is free, and each room
(``distributions``, ``networks``, ``models``, ``guides``, ...) is imported by name.
"""

__version__ = "0.1.0"
