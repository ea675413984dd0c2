"""p(x|z,s) of a row of a table: one likelihood for each column, by its kind."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor, nn
from torch.distributions import Gamma, constraints
from torch.nn.functional import logsigmoid, softplus

from pyro_gmmvae.column_spec import Column
from pyro_gmmvae.distributions.column_layout import EDGE, ORDER, SCALED, ColumnLayout
from pyro_gmmvae.distributions.likelihoods import SMALLEST_SCALE, BaseLikelihood, positive_scale

DEGREES = 4.0  # of freedom of a Student-t
LARGEST_LOG = 60.0  # of a mean of a log-normal or a count that can be shown
SMALLEST_LOG_DISPERSION = -8 * math.log(10)


class ColumnParameters(nn.Module):
    """From a decoder's outputs to :class:`Columns`; scales and cut points are learned beside them.

    A count's log mean is that of the training rows at output 0, and stays within 10 of it. A scale
    or a dispersion starts at 1, cut points where all values are equally probable at location 0.

    Args:
        columns: of the table.
    """

    raw_scale: nn.Parameter | None
    raw_cuts: nn.Parameter | None

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__()
        self.layout = ColumnLayout(columns)
        self.raw_scale = (
            nn.Parameter(torch.zeros(self.layout.scales)) if self.layout.scales else None
        )
        starts = [_first_cuts(n, max(self.layout.cuts)) for n in self.layout.cuts]
        self.raw_cuts = nn.Parameter(torch.tensor(starts).T.contiguous()) if starts else None

    def forward(self, outputs: Tensor, given: Tensor | None = None) -> "Columns":
        """p(x|.) for outputs (..., P) of a decoder, and rows (..., D) with given covariates."""
        layout = self.layout
        if layout.sizes["count"]:
            of_counts = outputs.index_select(-1, layout.count_places)
            log_means = layout.log_means + 10 * torch.tanh(of_counts / 10)
            outputs = outputs.index_copy(-1, layout.count_places, log_means)
        scales = None if self.raw_scale is None else positive_scale(self.raw_scale)
        cuts = None
        if self.raw_cuts is not None:
            steps = softplus(self.raw_cuts[1:]) + SMALLEST_SCALE
            cuts = torch.cat([self.raw_cuts[:1], steps]).cumsum(0)
            cuts = torch.where(layout.edges > 0, layout.edges, cuts)
        return Columns(outputs, layout, scales, cuts, given)


class Columns(BaseLikelihood):
    """Rows of a table, a likelihood for each column; missing cells (NaN) carry no term::

        log p(x) = sum_j m_j log p_j(x_j)          m_j = 0 where x_j is NaN

        real       N(loc, scale^2)
        student-t  StudentT(4, loc, scale)
        positive   LogNormal(loc, scale^2)
        count      NegativeBinomial, log mean a, variance m + dispersion m^2; Poisson at 0
        binary     Bernoulli, logit a
        category   Categorical, L logits
        ordinal    P(x <= k) = sigmoid(cut_k - loc)

    Parameters, samples and means are in the model's units. The density is that of the file's
    values: of real, student-t and positive columns it is divided by the column's unit. Covariates
    have no term, and those that were given are in samples and means. Codes are rounded and clipped
    to those of the column; the data itself is checked where it is read.

    Args:
        parameters: ``batch_shape + (P,)``, those of each column in the order of the columns.
        layout: of the columns.
        scales: (S,) positive: of the real, positive and student-t columns, then dispersions of the
            counts, in this order of kinds; None: there are none.
        cuts: (M, O) increasing cut points of each ordinal column; a column with fewer than M of
            them goes on beyond ``EDGE``; None: there are none.
        given: rows (..., D) whose covariates are given, of which leading axes broadcast; None:
            they are NaN.

    References:
        Nazabal et al. 2020 (HI-VAE), arXiv:1807.03653; ordered logistic: McCullagh 1980,
        doi:10.1111/j.2517-6161.1980.tb01109.x.
    """

    arg_constraints = {"parameters": constraints.real_vector}  # noqa: RUF012
    support = constraints.real_vector

    def __init__(
        self,
        parameters: Tensor,
        layout: ColumnLayout,
        scales: Tensor | None = None,
        cuts: Tensor | None = None,
        given: Tensor | None = None,
    ) -> None:
        self.parameters, self.layout, self.scales, self.cuts = parameters, layout, scales, cuts
        self.given = given
        self.nan_is_missing = True
        event_shape = Size([len(layout.columns)])
        TorchDistribution.__init__(self, parameters.shape[:-1], event_shape, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Columns":
        parameters = self.parameters.expand(*batch_shape, self.parameters.shape[-1])
        new = self._get_checked_instance(Columns, _instance)
        Columns.__init__(new, parameters, self.layout, self.scales, self.cuts, self.given)
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x) in nats of the file's values, ``batch_shape``."""
        return self._terms(value).sum(-1)

    def log_prob_of_entries(self, value: Tensor) -> Tensor:
        """log p_j(x_j) in nats of the file's values, ``batch_shape + (D,)``; 0 where missing."""
        return self.layout.in_order([self._terms(value)], 0.0)

    @property
    def mean(self) -> Tensor:
        """``batch_shape + (D,)``; of a binary column p(1), of others with codes as the mode."""
        loc, scale = self._split(self.parameters), self._scales()
        log_mean = loc["positive"] + scale["positive"].square() / 2
        return self._of_kinds(
            {
                "real": loc["real"],
                "positive": log_mean.clamp_max(LARGEST_LOG).exp(),
                "student-t": loc["student-t"],
                "count": loc["count"].clamp_max(LARGEST_LOG).exp(),
                "binary": loc["binary"].sigmoid(),
                "ordinal": self._ordinal_log_probs(loc["ordinal"]).argmax(-2),
            }
        )

    @property
    def mode(self) -> Tensor:
        """The most probable value of each column, ``batch_shape + (D,)``."""
        loc, scale = self._split(self.parameters), self._scales()
        log_mode = loc["positive"] - scale["positive"].square()
        count = loc["count"].clamp_max(LARGEST_LOG).exp()
        return self._of_kinds(
            {
                "real": loc["real"],
                "positive": log_mode.clamp_max(LARGEST_LOG).exp(),
                "student-t": loc["student-t"],
                "count": (count * (1 - scale["count"]).clamp_min(0)).floor(),
                "binary": loc["binary"] > 0,
                "ordinal": self._ordinal_log_probs(loc["ordinal"]).argmax(-2),
            }
        )

    def sample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008
        """Draws in the model's units, ``sample_shape + batch_shape + (D,)``."""
        shape = self._extended_shape(sample_shape)[:-1]
        parameters = self.parameters.detach().expand(*shape, self.parameters.shape[-1])
        loc = self._split(parameters)
        scale = {kind: own.detach() for kind, own in self._scales().items()}
        log_value = loc["positive"] + scale["positive"] * torch.randn_like(loc["positive"])
        # of a normal variable divided by the root of a chi-squared one over its degrees
        normal = torch.randn_like(loc["student-t"].expand(5, *loc["student-t"].shape))
        noise = normal[0] / normal[1:].square().mean(0).sqrt()
        # Poisson whose mean is Gamma distributed
        mean, shape_of_mean = loc["count"].clamp_max(LARGEST_LOG).exp(), scale["count"].reciprocal()
        rate = Gamma(shape_of_mean.expand_as(mean), shape_of_mean / mean, validate_args=False)
        ordinal = self._ordinal_log_probs(loc["ordinal"]).detach()
        return self._of_kinds(
            {
                "real": loc["real"] + scale["real"] * torch.randn_like(loc["real"]),
                "positive": log_value.clamp_max(LARGEST_LOG).exp(),
                "student-t": loc["student-t"] + scale["student-t"] * noise,
                "count": torch.poisson(rate.sample()),
                "binary": torch.bernoulli(loc["binary"].sigmoid()),
                "ordinal": _gumbel(ordinal).argmax(-2),
            },
            [_gumbel(logits).argmax(-2) for logits in self.layout.logits_of(parameters)],
        )

    def code_probs(self) -> dict[int, Tensor]:
        """P(k), ``batch_shape + (L,)``, of binary, category and ordinal columns by number."""
        loc, columns = self._split(self.parameters), self.layout.columns
        ones = loc["binary"].sigmoid()
        groups = [torch.stack([1 - ones, ones], -2), self._ordinal_log_probs(loc["ordinal"]).exp()]
        groups += [logits.softmax(-2) for logits in self.layout.logits_of(self.parameters)]
        probs = [group[..., place] for group in groups for place in range(group.shape[-1])]
        numbers = self.layout.order[self.layout.scales :]
        pairs = zip(numbers, probs, strict=True)
        return {number: own[..., : len(columns[number].values)] for number, own in pairs}

    # -- kinds ---------------------------------------------------------------------------------

    def _split(self, parameters: Tensor) -> dict[str, Tensor]:
        """(..., n) the one parameter of each column, by kind."""
        layout = self.layout
        parts = parameters.index_select(-1, layout.singles).split(list(layout.sizes.values()), -1)
        return dict(zip(ORDER, parts, strict=True))

    def _scales(self) -> dict[str, Tensor]:
        """(n,) the scale or dispersion of each column, by kind."""
        scales = self.parameters.new_zeros(0) if self.scales is None else self.scales
        parts = scales.split([self.layout.sizes[kind] for kind in SCALED])
        return dict(zip(SCALED, parts, strict=True))

    def _of_kinds(
        self, values: dict[str, Tensor], categories: Sequence[Tensor] | None = None
    ) -> Tensor:
        """Rows from the values of each kind; of categories without a value, the most probable."""
        if categories is None:
            categories = [one.argmax(-2) for one in self.layout.logits_of(self.parameters)]
        parts = [
            values[kind].to(self.parameters.dtype) for kind in ORDER if self.layout.sizes[kind]
        ]
        parts += [one.to(self.parameters.dtype) for one in categories]
        rows = self.layout.in_order(parts, math.nan)
        if self.given is None:
            return rows
        return torch.where(self.layout.is_given, self.given.to(rows.dtype), rows)

    def _terms(self, value: Tensor) -> Tensor:
        """log p_j(x_j), (..., n), in the layout's order of columns; 0 where missing."""
        layout, sizes = self.layout, self.layout.sizes
        value = value.index_select(-1, layout.entries)
        missing = value.isnan()
        value = torch.where(missing, 0.0, value)
        numbers, codes = value.tensor_split([self.layout.scales], -1)
        real, positive, heavy, count = numbers.split([sizes[kind] for kind in SCALED], -1)
        loc, scale = self._split(self.parameters), self._scales()
        terms = []
        if sizes["real"]:
            terms.append(_normal(real, loc["real"], scale["real"]))
        if sizes["positive"]:
            terms.append(_log_normal(positive, loc["positive"], scale["positive"]))
        if sizes["student-t"]:
            terms.append(_student(heavy, loc["student-t"], scale["student-t"]))
        if sizes["count"]:
            terms.append(negative_binomial(count, loc["count"], scale["count"].log()))
        codes = codes.round().clamp_min(0).minimum(layout.last_codes)
        binary, ordinal, codes = codes.tensor_split(layout.coded, -1)
        if sizes["binary"]:
            terms.append(binary * loc["binary"] - softplus(loc["binary"]))
        if sizes["ordinal"]:
            terms.append(_at(ordinal, self._ordinal_log_probs(loc["ordinal"])))
        for logits in layout.logits_of(self.parameters):
            own, codes = codes.tensor_split([logits.shape[-1]], -1)
            terms.append(_at(own, logits) - logits.logsumexp(-2))
        return torch.where(missing, 0.0, torch.cat(terms, -1) - layout.log_units)

    def _ordinal_log_probs(self, loc: Tensor) -> Tensor:
        """(..., L, O) log-probabilities of the codes of ordinal columns."""
        loc = loc.unsqueeze(-2)
        if self.cuts is None:
            return loc
        last = self.cuts.new_full((1, 1), EDGE).expand(1, self.cuts.shape[1])
        lower = torch.cat([-last, self.cuts])
        upper = torch.cat([self.cuts, last * (len(self.cuts) + 1)])
        # sigmoid(u) - sigmoid(l) = sigmoid(u) sigmoid(-l) (1 - exp(l - u)): no difference cancels
        width = torch.log(-torch.expm1(lower - upper))
        return logsigmoid(upper - loc) + logsigmoid(loc - lower) + width


def negative_binomial(count: Tensor, log_mean: Tensor, log_dispersion: Tensor) -> Tensor:
    """log p of counts x with mean m and variance m + a m^2, elementwise, in nats::

        x log(a m) - (x + 1/a) log(1 + a m) + log Gamma(x + 1/a) - log Gamma(1/a) - log x!

    As a goes to 0 it is that of a Poisson count; from 1e-8 on it stays there. Numbers are of double
    precision inside, where the device has it, since Gamma functions cancel.

    Args:
        count: x, 0 or more; below 0 the result is -inf.
        log_mean: log m.
        log_dispersion: log a.
    """
    dtype = torch.promote_types(count.dtype, log_mean.dtype)
    wide = dtype if count.device.type == "mps" else torch.float64
    x = count.clamp_min(0).to(wide)
    log_a = log_dispersion.to(wide).clamp_min(SMALLEST_LOG_DISPERSION)
    r, log_odds = log_a.neg().exp(), log_mean.to(wide) + log_a
    gammas = torch.lgamma(x + r) - torch.lgamma(r) - torch.lgamma(x + 1)
    result = x * log_odds - (x + r) * softplus(log_odds) + gammas
    return result.to(dtype).masked_fill(count < 0, -math.inf)


def _normal(value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    standard = (value - loc) / scale
    return -0.5 * standard.square() - scale.log() - 0.5 * math.log(2 * math.pi)


def _student(value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    n = DEGREES
    constant = math.lgamma((n + 1) / 2) - math.lgamma(n / 2) - 0.5 * math.log(n * math.pi)
    standard = (value - loc) / scale
    return constant - scale.log() - (n + 1) / 2 * torch.log1p(standard.square() / n)


def _log_normal(value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    inside = value > 0
    log_value = torch.where(inside, value, 1.0).log()
    return torch.where(inside, _normal(log_value, loc, scale) - log_value, -math.inf)


def _at(codes: Tensor, values: Tensor) -> Tensor:
    """(..., C): the entry of values (..., L, C) at each code."""
    place, _ = torch.broadcast_tensors(codes.long(), values[..., 0, :])
    values = values.expand(*place.shape[:-1], *values.shape[-2:])
    return values.gather(-2, place.unsqueeze(-2)).squeeze(-2)


def _gumbel(logits: Tensor) -> Tensor:
    """Logits with Gumbel noise; the largest of them is a draw."""
    return logits - torch.empty_like(logits).exponential_().log()


def _first_cuts(count: int, most: int) -> list[float]:
    """Raw cut points of a column with ``count`` of them, padded to ``most``: equal shares."""
    cuts = [math.log(k / (count + 1 - k)) for k in range(1, count + 1)]
    steps = [math.log(math.expm1(b - a - SMALLEST_SCALE)) for a, b in pairwise(cuts)]
    return [cuts[0], *steps] + [0.0] * (most - count)
