"""Priors of z without a class: a mixture of Gaussians, VampPrior, and a normalizing flow."""

import math
from collections.abc import Callable
from typing import Any

import torch
from pyro.distributions import (
    Categorical,
    MixtureSameFamily,
    Normal,
    TorchDistribution,
    TransformedDistribution,
)
from pyro.distributions.transforms import AffineCoupling, Permute
from pyro.nn import DenseNN
from torch import Tensor, nn

from pyro_gmmvae.distributions import positive_scale
from pyro_gmmvae.errors import GMMVAEError, check_range, unknown_name
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.networks.mlp import as_in_evaluation

COUPLINGS, FLOW_WIDTH = 6, 128
MOST_COMPONENTS = 1_000_000
DRAWS = 4096  # for mean and standard deviation of a flow


class GaussianMixturePrior(nn.Module):
    """p(z) = sum_k pi_k N(z; loc_k, scale_k^2), with learned pi, loc and scale.

    Args:
        d: the size of z.
        components: K.
    """

    def __init__(self, d: int, components: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(components))
        # together about N(0, I)
        self.loc = nn.Parameter(0.5 * torch.randn(components, d))
        self.raw_scale = nn.Parameter(torch.full((components, d), 0.3))

    def forward(self) -> TorchDistribution:
        """p(z), event shape (d,)."""
        return _DiagonalMixture.of(self.logits, self.loc, positive_scale(self.raw_scale))


class VampPrior(nn.Module):
    """p(z) = sum_k pi_k q(z | u_k), with learned pi and pseudo-inputs u_k.

    Args:
        posterior: from rows (K, *x_shape) to loc and scale of q(z|x), each (K, d).
        networks: the module of ``posterior``; pseudo-inputs pass it as in evaluation, without
            noise and with the running statistics of rows.
        x_shape: shape of one row.
        components: K.
        bounded: whether rows are in [0, 1].

    Reference:
        Tomczak, Welling 2018, arXiv:1705.07120.
    """

    def __init__(
        self,
        posterior: Callable[[Tensor], tuple[Tensor, Tensor]],
        networks: nn.Module,
        x_shape: tuple[int, ...],
        components: int,
        bounded: bool,
    ) -> None:
        super().__init__()
        # in a tuple: the encoder belongs to the model, and is not a submodule of the prior
        self._posterior, self.bounded = (posterior, networks), bounded
        self.logits = nn.Parameter(torch.zeros(components))
        self.pseudo_inputs = nn.Parameter(torch.randn(components, *x_shape))

    def forward(self) -> TorchDistribution:
        """p(z), event shape (d,)."""
        posterior, networks = self._posterior
        u = self.pseudo_inputs.sigmoid() if self.bounded else self.pseudo_inputs
        with as_in_evaluation(networks):
            loc, scale = posterior(u)
        return _DiagonalMixture.of(self.logits, loc, scale)


class _DiagonalMixture(MixtureSameFamily):
    """A mixture of Gaussians with diagonal covariances, whose densities are matrix products.

    With many components they take a fraction of the time of a difference for each row, component
    and dimension.
    """

    parameters: tuple[Tensor, Tensor, Tensor]

    @classmethod
    def of(cls, logits: Tensor, loc: Tensor, scale: Tensor) -> "_DiagonalMixture":
        """The mixture of weights (K,), means (K, d) and standard deviations (K, d)."""
        new = cls(Categorical(logits=logits), Normal(loc, scale).to_event(1))
        new.parameters = logits, loc, scale
        return new

    def expand(self, batch_shape: Any, _instance: Any = None) -> "_DiagonalMixture":
        new = self._get_checked_instance(_DiagonalMixture, _instance)
        new.parameters = self.parameters
        return super().expand(batch_shape, _instance=new)

    def log_prob(self, value: Tensor) -> Tensor:
        """(...,) log densities, in nats, of z (..., d)."""
        if _products_are_rounded():  # squares of far components would cancel
            return super().log_prob(value)
        logits, loc, scale = self.parameters
        center = loc.mean(0)  # smaller squares lose less to rounding
        z, loc, precision = value - center, loc - center, scale.square().reciprocal()
        squares = z.square() @ precision.T - 2 * z @ (loc * precision).T
        squares = squares + (loc.square() * precision).sum(-1)
        norm = scale.log().sum(-1) + 0.5 * loc.shape[-1] * math.log(2 * math.pi)
        return (logits.log_softmax(-1) - norm - 0.5 * squares).logsumexp(-1)


def _products_are_rounded() -> bool:
    """Whether the precision of matrix products is less than that of their operands."""
    of_cpu = getattr(torch.backends.mkldnn, "matmul", None)  # torch before 2.9 has no such switch
    of_cuda = torch.backends.cuda.matmul.allow_tf32
    return of_cuda or getattr(of_cpu, "fp32_precision", "") == "bf16"


class FlowPrior(nn.Module):
    """p(z) of z = f(e), e ~ N(0, I): affine couplings of halves of z, in fixed random orders.

    Args:
        d: the size of z, at least 2.

    Reference:
        Dinh, Sohl-Dickstein, Bengio 2017, arXiv:1605.08803.
    """

    def __init__(self, d: int) -> None:
        super().__init__()
        if d < 2:
            raise GMMVAEError("prior=flow needs latent_dim of at least 2")
        half, order = d // 2, torch.Generator().manual_seed(0)
        self.d = d
        networks = [DenseNN(half, [FLOW_WIDTH], [d - half, d - half]) for _ in range(COUPLINGS)]
        for network in networks:  # at first f is a permutation, and p(z) is N(0, I)
            nn.init.zeros_(network.layers[-1].weight)
            nn.init.zeros_(network.layers[-1].bias)
        self.networks = nn.ModuleList(networks)
        for number in range(COUPLINGS):
            self.register_buffer(f"order_{number}", torch.randperm(d, generator=order))

    def forward(self) -> TorchDistribution:
        """p(z), event shape (d,)."""
        flows: list[Any] = []
        for number, network in enumerate(self.networks):
            # a coupling keeps tensors of its last call, which can't be copied or pickled
            coupling = AffineCoupling(self.d // 2, network)
            flows += [coupling, Permute(self.get_buffer(f"order_{number}"))]
        zeros = next(self.parameters()).new_zeros(self.d)
        return _Flow(Normal(zeros, torch.ones_like(zeros)).to_event(1), flows)


class _Flow(TransformedDistribution):
    """A flow whose mean and standard deviation are those of draws."""

    @property
    def mean(self) -> Tensor:
        return self._moments()[0]

    @property
    def stddev(self) -> Tensor:
        return self._moments()[1]

    def _moments(self) -> tuple[Tensor, Tensor]:
        noise = torch.randn(DRAWS, *self.event_shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            draws = noise.to(self.base_dist.mean)
            for flow in self.transforms:
                draws = flow(draws)
        shape = self.batch_shape + self.event_shape
        return draws.mean(0).expand(shape), draws.std(0).expand(shape)


PRIORS = ("normal", "mixture", "vamp", "flow")


def build_prior(
    name: str,
    components: int,
    d: int,
    *,
    posterior: Callable[[Tensor], tuple[Tensor, Tensor]],
    networks: nn.Module,
    x_shape: tuple[int, ...],
    options: NetworkOptions,
    bounded: bool,
) -> nn.Module | None:
    """The module of p(z); None for N(0, I).

    Args:
        name: of ``PRIORS``.
        components: K, for mixture and vamp.
        d: the size of z.
        posterior, networks, x_shape, bounded: as for :class:`VampPrior`.
        options: of the networks.

    Raises:
        GMMVAEError: an unknown name, no component, or rows that have no pseudo-inputs.
    """
    if name not in PRIORS:
        raise unknown_name("prior", name, list(PRIORS))
    in_range = 1 <= components <= MOST_COMPONENTS
    check_range("prior_components", components, in_range, f"from 1 to {MOST_COMPONENTS:,}")
    if name == "mixture":
        return GaussianMixturePrior(d, components)
    if name == "flow":
        return FlowPrior(d)
    if name == "normal":
        return None
    if options.columns or options.missing:
        raise GMMVAEError(
            "prior=vamp learns rows of the data, which columns of a table and missing entries "
            "do not allow; take mixture or flow"
        )
    return VampPrior(posterior, networks, x_shape, components, bounded)
