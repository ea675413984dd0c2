"""Terms with a discriminator: a network that is fitted beside the model, against it.

One evaluation gives both gradients: that of the term to the model, with the discriminator's weights
fixed, and that of its own loss to the discriminator, with z fixed. Both then move. It departs from
the papers, which move one after the other. The loss of a discriminator is in the history as
``<term>_discriminator``. Of one that compares two halves of its rows it is log 2 = 0.69 nats where
the halves are alike, and 0 where it makes no error.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot, softplus

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.networks.mlp import NetworkOptions, hidden_layers
from pyro_gmmvae.objectives.latent_terms import LatentSite, LatentTerm, required


class WithDiscriminator(LatentTerm):
    """A term whose value depends on a discriminator.

    Args:
        in_size, out_size: numbers of its inputs and of its logits.
        hidden: widths of its hidden layers, which are leaky ReLUs.
        name: of the key with these widths.
    """

    def __init__(self, in_size: int, out_size: int, hidden: Sequence[int], name: str) -> None:
        super().__init__()
        fits = bool(hidden) and all(1 <= width <= 65_536 for width in hidden)
        if not fits:
            raise GMMVAEError(f"{name} must be one or more widths from 1 to 65536, not {hidden}")
        layers, width = hidden_layers(in_size, NetworkOptions(activation="leaky_relu"), hidden)
        self.discriminator = nn.Sequential(*layers, nn.Linear(width, out_size))

    def fixed(self, rows: Tensor, layers: int | None = None) -> Tensor:
        """Logits, or the outputs of so many layers (-1: all but the last), without a gradient for
        the weights of the discriminator."""
        module = self.discriminator[:layers]
        weights = {name: p.detach() for name, p in module.named_parameters()}
        outputs: Tensor = functional_call(module, weights, (rows,))
        return outputs

    def discriminator_loss(self, site: LatentSite) -> Tensor:
        """Cross-entropy of the discriminator, (), in nats; z gets no gradient from it."""
        raise NotImplementedError

    def summands(self, name: str, site: LatentSite) -> dict[str, tuple[Tensor, Tensor]]:
        own = self.discriminator_loss(site)
        return super().summands(name, site) | {f"{name}_discriminator": (own, own)}

    def of_pairs(self, real: Tensor, other: Tensor) -> Tensor:
        """The mean cross-entropy where ``real`` is to have logits > 0, and ``other`` < 0."""
        losses = softplus(-self.discriminator(real)), softplus(self.discriminator(other))
        return (losses[0].mean() + losses[1].mean()) / 2


class Adversary(WithDiscriminator):
    """-log D(z), D a discriminator of z and draws of p(z), or of groups of rows by their z.

    With ``kl_z`` 0 it is the regularization of an adversarial autoencoder.

    Args:
        sizes: of the sites z and class, and of the result of ``groups_of``, as "groups".
        groups_of: as for :class:`MMD`; None: the data has no covariates.
        of: prior: D(z) is the probability that z is a draw of p(z) (of a mixture: of p(z|s) at
            the draws of s); covariates: D(z) is a probability of each value of the covariates, and
            the term is the mean cross-entropy with the shares of the values in the batch (a
            departure from Fader networks, whose z is to look like that of rows with other values).
            A missing cell counts as none of the values.
        hidden: widths of the discriminator's hidden layers.

    Raises:
        GMMVAEError: of=covariates for data without covariates.

    Reference:
        Makhzani et al. 2015, arXiv:1511.05644; Lample et al. 2017, arXiv:1706.00409.
    """

    name = "adversary"

    def __init__(
        self,
        sizes: Mapping[str, int],
        groups_of: Callable[[Tensor], Tensor] | None = None,
        *,
        of: Literal["prior", "covariates"] = "prior",
        hidden: Sequence[int] = (256, 256),
    ) -> None:
        groups = required(groups_of, f"{self.name}_of") if of == "covariates" else None
        outputs = 1 if groups is None else sizes["groups"]
        super().__init__(sizes[self.site], outputs, hidden, f"{self.name}_hidden")
        # in a tuple: the module belongs to the model, and is no submodule of the term
        self._groups = (groups,)

    def forward(self, site: LatentSite) -> Tensor:
        logits, groups_of = self.fixed(self.values(site)), self._groups[0]
        if groups_of is None:
            return softplus(-logits).mean()
        shares = groups_of(site.x).mean(0).expand_as(logits)
        return binary_cross_entropy_with_logits(logits, shares)

    def discriminator_loss(self, site: LatentSite) -> Tensor:
        z, groups_of = self.values(site).detach(), self._groups[0]
        if groups_of is None:
            return self.of_pairs(self.draws(site), z)
        return binary_cross_entropy_with_logits(self.discriminator(z), groups_of(site.x))

    def values(self, site: LatentSite) -> Tensor:
        """The rows whose distribution is to be that of :meth:`draws`."""
        return site.z

    @torch.no_grad()
    def draws(self, site: LatentSite) -> Tensor:
        """Draws of the prior, as many as there are rows."""
        return site.p.rsample() if site.p.has_rsample else site.p.sample()


class ClassAdversary(Adversary):
    """-log D(pi), D a discriminator of class probabilities pi of rows and one-hot draws of p(s).

    pi is that of q(s|x), so that each row gets one class, and all classes are in use. (Draws of s
    would have the distribution of p(s) if pi were flat for all rows.) With the KL term of the class
    at weight 0 it is the regularization of the class in an adversarial autoencoder.

    Args:
        sizes: of the sites z and class.
        hidden: widths of the discriminator's hidden layers.

    Reference:
        Makhzani et al. 2015, arXiv:1511.05644.
    """

    site = "class"
    name = "class_adversary"

    def __init__(self, sizes: Mapping[str, int], *, hidden: Sequence[int] = (256, 256)) -> None:
        super().__init__(sizes, hidden=hidden)

    def values(self, site: LatentSite) -> Tensor:
        probabilities: Tensor = site.q.logits.softmax(-1)
        return probabilities

    @torch.no_grad()
    def draws(self, site: LatentSite) -> Tensor:
        logits: Tensor = site.p.logits
        noise = -torch.rand_like(logits).clamp_min(1e-20).log()
        return one_hot((logits - noise.log()).argmax(-1), logits.shape[-1]).to(site.z)


class TotalCorrelationAdversary(WithDiscriminator):
    """KL( q(z) || prod_i q(z_i) ) as a discriminator of z and permuted z estimates it.

    The estimate is the mean of log D / (1 - D). The ELBO holds this term with weight 1 already.
    Permuted are the rows of each entry of z, of the same batch (in the paper: of another one).

    Args:
        sizes: of the sites z and class.
        hidden: widths of the discriminator's hidden layers.

    Raises:
        GMMVAEError: a z of one entry.

    Reference:
        Kim, Mnih 2018, arXiv:1802.05983.
    """

    def __init__(self, sizes: Mapping[str, int], *, hidden: Sequence[int] = (256, 256)) -> None:
        if sizes["z"] < 2:
            raise GMMVAEError("tc_adversary is of two or more entries of z, and latent_dim is 1")
        super().__init__(sizes["z"], 1, hidden, "tc_adversary_hidden")

    def forward(self, site: LatentSite) -> Tensor:
        return self.fixed(site.z).mean()

    def discriminator_loss(self, site: LatentSite) -> Tensor:
        z = site.z.detach()
        return self.of_pairs(z, z.gather(0, torch.rand_like(z).argsort(0)))
