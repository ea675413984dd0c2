"""VQ-VAE: an autoencoder whose z is one of a finite number of codes."""

import pyro
import torch
from torch import Tensor

from pyro_gmmvae.errors import check_range
from pyro_gmmvae.models.vae import AE
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.param_store import register

RARE = 0.1
"""A code that fewer rows of a batch use, in the moving average, is put where a row is. With more
codes than rows it is this share of what each code would have."""
SMALLEST = 1e-5
MOST_GROUPS = 8
"""By default."""


class VQVAE(AE):
    """Vector-quantized autoencoder, without a density of z::

        e = encoder(x)                              e (B, groups, d / groups)
        z_g = the code of codebook g nearest to e_g  z (B, d)
        p(x|z)  likelihood of decoder(z)             x (B, *x_shape)

    It maximizes log p(x|z) - commitment |e - z|^2, with the gradient of z given to e
    (straight-through). Codes are moving averages of the e nearest to them. A row has
    groups log2(codes) bits. As for :class:`AE`, ``evaluate`` reports no bound, and the ELBO shown
    while training is the number that is maximized.

    It departs from van den Oord et al. in a codebook for each group of entries of z, instead of
    one for all positions of an image; in codes that are put where a row is if hardly any row uses
    them (as in Dhariwal et al.); and in that no prior of the codes is fitted, so that it does not
    generate.

    Args:
        x_shape, network, likelihood, options: as for :class:`GMMVAE`.
        latent_dim: d, a multiple of ``groups``.
        codes: the number of codes in each codebook.
        groups: the number of codes that a row has; none: the largest divisor of d up to 8.
        commitment: the weight of |e - z|^2.
        code_decay: of the moving averages, per step.

    References:
        van den Oord, Vinyals, Kavukcuoglu 2017, arXiv:1711.00937; Dhariwal et al. 2020,
        arXiv:2005.00341.
    """

    codebooks: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(
        self,
        x_shape: tuple[int, ...],
        latent_dim: int,
        *,
        network: str = "mlp",
        likelihood: str = "bernoulli",
        codes: int = 16,
        groups: int | None = None,
        commitment: float = 0.25,
        code_decay: float = 0.99,
        options: NetworkOptions | None = None,
    ) -> None:
        super().__init__(
            x_shape, latent_dim, network=network, likelihood=likelihood, options=options
        )
        check_range("codes", codes, 2 <= codes <= 65_536, "from 2 to 65536")
        if groups is None:
            groups = max(n for n in range(1, MOST_GROUPS + 1) if latent_dim % n == 0)
        fits = 1 <= groups <= latent_dim and latent_dim % groups == 0
        check_range("groups", groups, fits, f"a divisor of latent_dim {latent_dim}")
        check_range("commitment", commitment, 0 <= commitment <= 1e6, "from 0 to 1000000")
        check_range("code_decay", code_decay, 0 <= code_decay < 1, "from 0 to below 1")
        self.groups, self.commitment, self.code_decay = groups, commitment, code_decay
        shape = (groups, codes, latent_dim // groups)
        self.register_buffer("codebooks", torch.randn(shape))
        self.register_buffer("counts", torch.ones(shape[:2]))
        self.register_buffer("sums", self.codebooks.clone())

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        """p(x | z) for rows x (B, *x_shape), and while training the term of the commitment."""
        register(encoder=self.encoder, observation=self.observation)
        e = self.encoder(x).unflatten(-1, (self.groups, -1))
        z = self.nearest(e, self.codes_of(e))
        with pyro.plate("rows", len(x)):
            if self.training:
                pyro.factor("commitment", -self.commitment * (e - z).square().sum((-2, -1)))
            through = e + (z - e).detach()
            pyro.sample("x", self.observation(through.flatten(1), given=x), obs=x)
        if self.training:
            self._move_codes(e.detach())

    def codes_of(self, e: Tensor) -> Tensor:
        """(B, groups) numbers of the codes nearest to e (B, groups, d / groups)."""
        products = torch.einsum("bgc,gkc->bgk", e, self.codebooks)
        return (self.codebooks.square().sum(-1) - 2 * products).argmin(-1)

    def nearest(self, e: Tensor, codes: Tensor) -> Tensor:
        """The codes of these numbers, shaped like e."""
        one_hot = torch.nn.functional.one_hot(codes, self.codebooks.shape[1]).to(e)
        return torch.einsum("bgk,gkc->bgc", one_hot, self.codebooks)

    @torch.no_grad()
    def _move_codes(self, e: Tensor) -> None:
        """Move codes to the mean of the rows that use them, and rare ones to a row each."""
        one_hot = torch.nn.functional.one_hot(self.codes_of(e), self.codebooks.shape[1]).to(e)
        share = 1 - self.code_decay
        self.counts.mul_(self.code_decay).add_(share * one_hot.sum(0))
        self.sums.mul_(self.code_decay).add_(share * torch.einsum("bgk,bgc->gkc", one_hot, e))
        rows = torch.randint(len(e), (self.codebooks.shape[1],), device=e.device)
        rare, others = (
            (self.counts < RARE * min(1.0, len(e) / len(rows))).unsqueeze(-1),
            e[rows].transpose(0, 1),
        )
        self.sums.copy_(torch.where(rare, others, self.sums))
        self.counts.copy_(torch.where(rare.squeeze(-1), 1.0, self.counts))
        self.codebooks.copy_(self.sums / self.counts.clamp_min(SMALLEST).unsqueeze(-1))

    def codes(self, x: Tensor) -> Tensor:
        """(B, groups) the number of the code of each group."""
        return self.codes_of(self.encoder(x).unflatten(-1, (self.groups, -1)))

    def embed(self, x: Tensor) -> Tensor:
        """z, (B, d)."""
        e = self.encoder(x).unflatten(-1, (self.groups, -1))
        return self.nearest(e, self.codes_of(e)).flatten(1)
