"""Terms with a discriminator of rows: those that the decoder makes, and those of the data."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import softplus

from pyro_gmmvae.errors import GMMVAEError, check_range
from pyro_gmmvae.objectives.adversaries import WithDiscriminator
from pyro_gmmvae.objectives.latent_terms import LatentSite

Draws = Callable[[Tensor], tuple[Tensor, Tensor]]


class _OfRows(WithDiscriminator):
    """A term with a discriminator of rows, which gets them with noise.

    Without noise a discriminator of few rows finds the decoder's at once, and the decoder has no
    gradient to follow (Sønderby et al. 2017, arXiv:1610.04490).

    Args:
        in_size: the number of the discriminator's inputs.
        draws: from rows x to as many draws of z and to their x'; None: the model has none.
        noise: the standard deviation of the noise.
        hidden: widths of the discriminator's hidden layers.

    Raises:
        GMMVAEError: rows of mixed columns or with missing entries, or a decoder of pixels.
    """

    name: str

    def __init__(
        self, in_size: int, draws: Draws | None, noise: float, hidden: Sequence[int]
    ) -> None:
        check_range(f"{self.name}_noise", noise, 0 <= noise <= 1e6, "from 0 to 1000000")
        super().__init__(in_size, 1, hidden, f"{self.name}_hidden")
        if draws is None:
            raise GMMVAEError(
                f"{self.name} compares rows with means of p(x|z): it needs rows of one likelihood "
                "without missing entries (likelihood=normal for a table of numbers), and a decoder "
                f"that gives all entries at once; else set {self.name}=0"
            )
        # in a tuple: the module that draws is the model, which is no submodule of the term
        self.noise, self._draws = noise, (draws,)

    def draws(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Draws of z (B, d), and their rows x' (B, D)."""
        return self._draws[0](x)

    def noisy(self, rows: Tensor) -> Tensor:
        """The rows with noise."""
        return rows + self.noise * torch.randn_like(rows)


class RowAdversary(_OfRows):
    """-log D(x'), D a discriminator of rows of the data and rows x' that the decoder makes.

    x' are the means of p(x|z), half of them at draws of q(z|x) and half at draws of p(z). The term
    also holds r / 2 |f(x) - f(x')|^2 of x and its own x', f the last hidden layer of D: a Gaussian
    likelihood of features, instead of that of entries or beside it.

    It departs from Larsen et al. in that the encoder gets the gradient of -log D too, in -log D in
    the place of log(1 - D), in the noise, which is in the distance too, and in a discriminator of
    fully connected layers.

    Args:
        sizes: of the sites z and class, and of rows, as "x".
        draws: from rows x to as many draws of z and to their x'; None: the model has none that
            a discriminator can take.
        features: the weight r of the distance between features of rows and of their
            reconstructions; 0: none.
        noise: the standard deviation of the noise of rows that the discriminator gets.
        hidden: widths of the discriminator's hidden layers.

    Raises:
        GMMVAEError: rows of mixed columns or with missing entries, or a decoder of pixels.

    Reference:
        Larsen et al. 2016, arXiv:1512.09300.
    """

    name = "x_adversary"

    def __init__(
        self,
        sizes: Mapping[str, int],
        draws: Draws | None,
        *,
        features: float = 1.0,
        noise: float = 0.5,
        hidden: Sequence[int] = (256, 256),
    ) -> None:
        check_range(f"{self.name}_features", features, 0 <= features <= 1e6, "from 0 to 1000000")
        super().__init__(sizes["x"], draws, noise, hidden)
        self.features = features

    def summands(self, name: str, site: LatentSite) -> dict[str, tuple[Tensor, Tensor]]:
        own, drawn = mean_of_rows(site), self.draws(site.x)[1]
        x, own, drawn = (self.noisy(rows) for rows in (site.x.flatten(1), own, drawn))
        made = torch.cat([own, drawn])
        value = softplus(-self.fixed(made)).mean()
        loss = self.of_pairs(x, made.detach())
        found = {name: (value, self.weight * value), f"{name}_discriminator": (loss, loss)}
        if self.features:
            apart = self.fixed(own, -1) - self.fixed(x, -1)
            distance = apart.square().sum(-1).mean() / 2
            found[f"{name}_distance"] = distance, self.weight * self.features * distance
        return found


class PairAdversary(_OfRows):
    """log D(x, z) and log(1 - D(x', z')), D a discriminator of pairs of a row and a z.

    x is a row of the data and z a draw of q(z|x); z' is a draw of p(z) and x' the mean of p(x|z').
    Where D can't tell the pairs apart, q(z|x) is the posterior of the decoder, and no term
    compares rows with their reconstructions. The value is the cross-entropy of D with the pairs
    exchanged.

    It departs from both papers in noise of the rows, in x' that is a mean, and in a discriminator
    of fully connected layers.

    Args:
        sizes, draws: as for :class:`RowAdversary`.
        noise: the standard deviation of the noise of rows that the discriminator gets.
        hidden: widths of the discriminator's hidden layers.

    Raises:
        GMMVAEError: as for :class:`RowAdversary`.

    References:
        Dumoulin et al. 2017, arXiv:1606.00704 (ALI); Donahue, Krähenbühl, Darrell 2017,
        arXiv:1605.09782 (BiGAN).
    """

    name = "pair_adversary"

    def __init__(
        self,
        sizes: Mapping[str, int],
        draws: Draws | None,
        *,
        noise: float = 0.5,
        hidden: Sequence[int] = (256, 256),
    ) -> None:
        super().__init__(sizes["x"] + sizes["z"], draws, noise, hidden)

    def summands(self, name: str, site: LatentSite) -> dict[str, tuple[Tensor, Tensor]]:
        z, made = self.draws(site.x)
        if z.shape != site.z.shape:
            raise GMMVAEError(
                f"{self.name} needs one z for each row, and the prior of this model draws others "
                f"beside it; set {self.name}=0"
            )
        x, made = self.noisy(site.x.flatten(1)), self.noisy(made)
        real, other = torch.cat([x, site.z], -1), torch.cat([made, z], -1)
        value = (softplus(self.fixed(real)) + softplus(-self.fixed(other))).mean() / 2
        loss = self.of_pairs(real.detach(), other.detach())
        return {name: (value, self.weight * value), f"{name}_discriminator": (loss, loss)}


def mean_of_rows(site: LatentSite) -> Tensor:
    """The mean of p(x|z) of each row, flat, (B, D)."""
    if site.px is None:
        raise GMMVAEError("a term on rows needs a model with the site 'x'")
    mean: Tensor = site.px.mean
    return mean.flatten(1)
