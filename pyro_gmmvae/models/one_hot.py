"""What models of a one-hot class y beside a standard normal z share."""

import torch
from torch import Tensor, nn

from pyro_gmmvae.models.labels import vertex
from pyro_gmmvae.models.observation import Observation


class OneHotClass(nn.Module):
    """Decoding and generating from p(x|y,z) with z ~ N(0, I)."""

    components: int
    latent_dim: int
    observation: Observation
    class_conditional = True

    def decode(self, z: Tensor, s: Tensor) -> Tensor:
        """Mean of p(x|y,z), (B, *x_shape), for z (B, d) and classes s (B, K)."""
        return self.observation(z, s).mean

    def z_prior(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of p(z), both (B, d): 0 and 1, whatever the class."""
        zeros = s.new_zeros(len(s), self.latent_dim)
        return zeros, torch.ones_like(zeros)

    def generate(self, label: int, n: int) -> Tensor:
        """n draws of E[x|y,z] with y the class ``label`` and z ~ N(0, I)."""
        parameter = next(self.observation.parameters())
        s = vertex(label, n, self.components, parameter)
        return self.decode(torch.randn(n, self.latent_dim).to(parameter), s)

    @property
    def knobs(self) -> dict[str, Tensor]:
        """No scalar of this model moves while training."""
        return {}
