"""The contract of a model: two Pyro programs, and the facts that the rest of the library reads."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pyro.distributions import Normal, OneHotCategorical, TorchDistribution
from torch import Tensor, nn

from pyro_gmmvae.column_spec import Column, outputs_of
from pyro_gmmvae.distributions import LIKELIHOODS, ColumnParameters, positive_scale
from pyro_gmmvae.distributions.likelihoods import raw_of_scale
from pyro_gmmvae.errors import GMMVAEError, check_range, unknown_name
from pyro_gmmvae.likelihood_spec import LikelihoodSpec, parse_likelihood
from pyro_gmmvae.models.covariates import Covariates
from pyro_gmmvae.models.mixture import Mixture
from pyro_gmmvae.networks import NETWORKS, NetworkOptions, apply_to_rows, joined
from pyro_gmmvae.ranges import Choice, Real, SearchSpace, Whole

# ranges that are worth tuning: of every model's networks and of every fit
COMMON: SearchSpace = {
    "latent_dim": Whole(2, 64, log=True),
    "hidden": Choice(((64,), (128,), (256,), (64, 64), (128, 128), (256, 256))),
    "dropout": Real(0.0, 0.5),
    "learning_rate": Real(3e-4, 1e-2, log=True),
    "batch_size": Whole(64, 256, log=True),
}
# of the term that trains a classifier
ALPHA: SearchSpace = {"alpha": Real(1.0, 300.0, log=True)}
# of a class y that is a latent of its own
CLASS: SearchSpace = {**COMMON, **ALPHA, "kl_y": Real(0.1, 10.0, log=True)}
# of a mixture below z, whose component s a label chooses
MIXTURE: SearchSpace = {
    **COMMON,
    **ALPHA,
    "kl_s": Real(0.1, 10.0, log=True),
    "label_eps": Real(1e-4, 0.1, log=True),
}
# of a relaxed class; not below prior_temperature's default, which works badly
RELAXED: SearchSpace = {"temperature": Real(0.5, 1.0)}


class LatentModel(nn.Module, ABC):
    """A generative model of rows x, and the posterior of its latent variables.

    A subclass writes ``model``, ``guide`` and ``embed``, where it has a class also ``classify``,
    and sets the class attributes that differ from the defaults. All other facts have a default
    here, so other code reads them without asking whether they exist.

    The factors of a model are the categorical variables that x or z depends on. The first factor
    is the class; ``s`` holds the probabilities of all factors in one row, (B, K_1 + K_2 + ...).

    Args:
        x_shape: shape of one observation, (D,) or (channels, height, width).
        latent_dim: d, the size of z.
        components: K, the number of values of the class; None: the model has no class.
        network: key of ``networks.NETWORKS`` for encoder and decoder.
        options: hidden sizes, activation, batch norm, dropout, input noise.

    Attributes:
        x_shape, latent_dim, network, options: as given.
        components: K; 0 where the model has no class.
        factors: number of values of each factor by name; the class is named "". Empty where
            neither x nor z depends on a class.
        label_sites: the latent sites that labels belong to, a column of y each; the class comes
            first.

    Raises:
        GMMVAEError: a size below 1, or an unknown network.
    """

    latents: tuple[str, ...] = ()
    """Latent sites, in the order in which the guide samples them. Empty: no prior to sample."""
    class_site: ClassVar[str | None] = None
    """The latent site of the class, whose guide distribution has ``logits``; None: no such site."""
    needs_labels: ClassVar[bool] = False
    """Whether a fit needs a labelled row of every class."""
    given_class: ClassVar[bool] = False
    """Whether y is given and never inferred: the bound is then one on log p(x|y)."""
    class_conditional: ClassVar[bool] = False
    """Whether p(x|z,s) or p(z|s) depends on the class."""
    default_objective: ClassVar[str] = "analytic"
    """Key of ``objectives.OBJECTIVES``; the default of the guide comes first, where it is one."""
    key_defaults: ClassVar[Mapping[str, Any]] = {}
    """Defaults of configuration keys that differ from those of other models."""
    search_space: ClassVar[SearchSpace] = COMMON
    """Ranges of the configuration keys that are worth tuning."""

    guide: Callable[..., Any]
    """q(latents|x), a Pyro program of (x, y): a method, or a module (see ``guides``)."""
    observation: "Observation"
    """p(x|latents)."""
    factors: Mapping[str, int]
    label_sites: tuple[str, ...]

    def __init__(
        self,
        x_shape: tuple[int, ...],
        *,
        latent_dim: int,
        components: int | None = None,
        network: str = "mlp",
        options: NetworkOptions | None = None,
    ) -> None:
        super().__init__()
        try:
            self._encoder_class, self._decoder_class = NETWORKS[network]
        except KeyError:
            raise unknown_name("network", network, list(NETWORKS)) from None
        if components is not None:
            check_range("components", components, components >= 1, "at least 1")
        check_range("latent_dim", latent_dim, latent_dim >= 1, "at least 1")
        self.x_shape, self.latent_dim, self.components = tuple(x_shape), latent_dim, components or 0
        self.network, self.options = network, options or NetworkOptions()
        self.factors = {"": self.components} if self.class_conditional else {}
        self.label_sites = () if self.class_site is None else (self.class_site,)

    def __repr__(self) -> str:
        """The factorization, from the docstring, and torch's tree of modules."""
        return "\n".join([*_formula(type(self)), super().__repr__()])

    # -- written by a subclass -----------------------------------------------------------------

    @abstractmethod
    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        """p(x, latents) for rows x (B, *x_shape) and labels y (B,), -1 or None: unlabelled."""

    @abstractmethod
    def embed(self, x: Tensor) -> Tensor:
        """Posterior mean of z, (B, d)."""

    def classify(self, x: Tensor) -> Tensor:
        """log q(y|x), (B, K), in nats.

        Raises:
            GMMVAEError: the model has no class.
        """
        raise GMMVAEError(f"{type(self).__name__} has no class; {len(x)} rows can't be classified")

    @classmethod
    def has_classes(cls) -> bool:
        """Whether ``classify`` is written, and the constructor takes ``components``."""
        return cls.classify is not LatentModel.classify

    # -- defaults that few models change -------------------------------------------------------

    @property
    def scheduled(self) -> dict[str, Tensor]:
        """0-dimensional buffers that a schedule may move while training, by configuration key.

        The default: the model's own buffers with a name that ends in "temperature".
        """
        buffers = self.named_buffers(recurse=False)
        return {name: buffer for name, buffer in buffers if name.endswith("temperature")}

    @property
    def draws_of_class(self) -> bool:
        """Whether ``generate`` takes a class."""
        return self.class_conditional

    @property
    def mixture_priors(self) -> Mapping[str, Mixture]:
        """p(z|s) of each factor by name, where it is a mixture; empty: p(z) is not a mixture."""
        return {}

    def classify_factors(self, x: Tensor) -> dict[str, Tensor]:
        """log q(s_f|x) of each factor but the class by name, (B, K_f), in nats."""
        return {}

    def set_soft_labels(self, pi: Tensor) -> None:
        """Set p(y) of the rows with soft labels: that of y = K + r is pi (R, K), a row's each.

        Raises:
            GMMVAEError: a model that is trained on classes only.
        """
        prior = self.mixture_priors.get("")
        if prior is None:
            raise GMMVAEError(
                f"{type(self).__name__} takes labels of one class, and {len(pi)} rows have soft "
                "ones (p_<class>); take gmmvae or m2, or give each row one class"
            )
        prior.set_soft_labels(pi)

    def fit_classifier(self, x: Tensor, y: Tensor) -> None:
        """Fit a classifier that is not trained by the objective, after each epoch.

        The default does nothing.

        Args:
            x: labelled rows, (N, *x_shape).
            y: their labels, (N,).
        """

    def prior_of_z(self, s: Tensor) -> TorchDistribution:
        """p(z|s), event shape (d,), for s (B, K_1 + ...); the default: N(0, I) for every s."""
        zeros = s.new_zeros(*s.shape[:-1], self.latent_dim)
        return Normal(zeros, torch.ones_like(zeros)).to_event(1)

    def observe(
        self, z: Tensor, s: Tensor | None = None, given: Tensor | None = None
    ) -> TorchDistribution:
        """p(x|z,s), batch shape (B,), event shape x_shape.

        Args:
            z: (B, d).
            s: (B, K_1 + ...); not read where ``class_conditional`` is false.
            given: rows (B, D) or (1, D) whose covariates are given, for tables that have any;
                their other entries are not read. None: typical covariates, see
                :class:`pyro_gmmvae.models.Covariates`.

        Raises:
            GMMVAEError: s is None, and p(x|z,s) depends on it.
        """
        if not self.class_conditional:
            return self.observation(z, given=given)
        return self.observation(z, self.require_class(s), given=given)

    def decode(self, z: Tensor, s: Tensor | None = None, given: Tensor | None = None) -> Tensor:
        """Mean of p(x|z,s), (B, *x_shape); the arguments are those of :meth:`observe`.

        The covariates of a table are as given.
        """
        return self.observe(z, s, given).mean

    def observe_draws(
        self, n: int, label: int | None = None, given: Tensor | None = None
    ) -> TorchDistribution:
        """p(x|z,s) at n draws of z ~ p(z|s), batch shape (n,); ``label`` as for :meth:`generate`.

        The default draws s and z, and calls :meth:`observe`, with ``given`` as it takes it.
        """
        s = self.draw_class(n) if label is None else self.one_hot(label, n)
        return self.observe(self.prior_of_z(s).sample(), s, given)

    def generate(
        self,
        n: int,
        label: int | None = None,
        *,
        mean: bool = True,
        given: Tensor | None = None,
    ) -> Tensor:
        """n draws from the model, (n, *x_shape): means E[x|z,s] with z ~ p(z|s), or x ~ p(x|z,s).

        Args:
            n: the number of draws.
            label: the class; None: a draw of a class for each row, all equally likely.
            mean: take the mean of p(x|z,s) instead of a draw of x.
            given: rows (n, D) or (1, D) whose covariates are given, for tables that have any.
                Those that are NaN (None: all) are drawn, each by itself, from the training rows'.

        Raises:
            GMMVAEError: ``label`` is not a class of the model, or the model has no prior.
        """
        if not self.latents:
            raise GMMVAEError(f"{type(self).__name__} has no prior to generate from")
        covariates = self.observation.covariates
        given = None if covariates is None else covariates.draw(n, given)
        p = self.observe_draws(n, label, given)
        return p.mean if mean else p.sample()

    # -- parts for a subclass ------------------------------------------------------------------

    def one_hot(self, label: int, n: int) -> Tensor:
        """s (n, K_1 + ...) with probability 1 for class ``label``, all other factors uniform.

        Raises:
            GMMVAEError: ``label`` is not a class of the model.
        """
        if not self.factors:
            raise GMMVAEError(f"{type(self).__name__} does not depend on a class")
        if not 0 <= label < self.components:
            raise GMMVAEError(f"class {label} is out of range 0..{self.components - 1}")
        like = next(self.parameters())
        parts = [like.new_full((n, K), 1 / K) for K in self.factors.values()]
        parts[0].zero_()[:, label] = 1
        return torch.cat(parts, -1).detach()

    def draw_class(self, n: int) -> Tensor:
        """s (n, K_1 + ...), a class drawn for each row from equal probabilities, one-hot."""
        like = next(self.parameters())
        parts = [
            OneHotCategorical(logits=like.new_zeros(n, K)).sample() for K in self.factors.values()
        ]
        return torch.cat([*parts, like.new_zeros(n, 0)], -1)

    def require_class(self, s: Tensor | None) -> Tensor:
        """s, for a decoder that needs it.

        Raises:
            GMMVAEError: s is None.
        """
        if s is None:
            raise GMMVAEError(f"{type(self).__name__} decodes z and a class; pass s to decode")
        return s

    def build_encoder(self, out_size: int) -> nn.Module:
        """An encoder x -> (B, out_size) of this model's kind of network."""
        encoder: nn.Module = self._encoder_class(self.x_shape, out_size, self.options)
        return encoder

    def build_features(self) -> tuple[nn.Module, int]:
        """An encoder that ends in a hidden layer, and its width."""
        width = self.options.hidden[-1]
        last = self.options.activate(nn.BatchNorm1d(width))
        return nn.Sequential(self.build_encoder(width), *last), width

    def build_observation(self, in_size: int, likelihood: str) -> "Observation":
        """p(x|latents) for latents that hold ``in_size`` numbers a row.

        Args:
            in_size: the size of the latents, joined.
            likelihood: as :func:`pyro_gmmvae.distributions.parse_likelihood` reads it.
        """
        spec, columns = parse_likelihood(likelihood), self.options.columns
        if spec.family != "columns":
            out_shape = (spec.outputs * self.x_shape[0], *self.x_shape[1:])
            decoder = self._decoder_class(in_size, out_shape, self.options)
            return Observation(decoder, self.x_shape, spec, missing=self.options.missing)
        if self.x_shape != (len(columns),):
            raise GMMVAEError(
                f"likelihood columns got {len(columns)} columns for rows of shape {self.x_shape}; "
                "it needs the columns of a table, as options.columns"
            )
        covariates = Covariates(columns) if any(column.given for column in columns) else None
        in_size += covariates.width if covariates else 0
        decoder = self._decoder_class(in_size, (outputs_of(columns),), self.options)
        return Observation(decoder, self.x_shape, spec, columns=columns, covariates=covariates)


class Observation(nn.Module):
    """p(x|latents), with parameters from a decoder.

    The decoder gives logits, or a loc beside which a scale is learned for each entry of x.

    Args:
        decoder: a module (B, in_size) -> (B, *x_shape), the first axis of x_shape
            ``spec.outputs`` times as long.
        x_shape: shape of one observation.
        spec: the likelihood, with its number.
        missing: entries of x that are NaN are missing and carry no term.
        columns: of a table, for the likelihood "columns", whose entries may always be missing; the
            decoder gives :func:`outputs_of` numbers for a row.
        covariates: of these columns; the decoder gets their features behind the latents.

    Attributes:
        of_columns: from the decoder's outputs to a likelihood for each column; None where x has
            one likelihood.

    Raises:
        GMMVAEError: a likelihood without the number that it needs.
    """

    draws_pixels: ClassVar[bool] = False
    """Whether an entry of x depends on others, so that draws and means are made one by one."""

    def __init__(
        self,
        decoder: nn.Module,
        x_shape: tuple[int, ...],
        spec: LikelihoodSpec,
        *,
        missing: bool = False,
        columns: Sequence[Column] = (),
        covariates: Covariates | None = None,
    ) -> None:
        super().__init__()
        if spec.number_name is not None and spec.number is None:
            raise GMMVAEError(f"likelihood {spec} needs a number, as in {spec}(16)")
        self.spec = spec
        self.family: Any = LIKELIHOODS[spec.family]
        self.numbers = {} if spec.number_name is None else {spec.number_name: spec.number}
        self.x_shape, self.event_dim, self.missing = tuple(x_shape), len(x_shape), missing
        self.decoder = decoder
        has_scale = "scale" in self.family.arg_constraints
        start = raw_of_scale(self.family.initial_scale) if has_scale else 0.0
        self.raw_scale = nn.Parameter(torch.full(x_shape, start)) if has_scale else None
        self.of_columns = ColumnParameters(columns) if columns else None
        self.covariates = covariates

    def forward(self, *latents: Tensor, given: Tensor | None = None) -> TorchDistribution:
        """The likelihood given latents, each (..., size); leading axes broadcast.

        Args:
            latents: in the order of the decoder's inputs.
            given: rows (B, D) whose covariates are given; None: typical ones. It is not read
                where there are no covariates.
        """
        if self.covariates is not None:
            given = self.covariates.typical if given is None else given
            latents = (*latents, self.covariates(given))
        parameter = apply_to_rows(self.decoder, joined(*latents))
        if self.of_columns is not None:
            return self.of_columns(parameter, given if self.covariates else None)
        if self.spec.outputs > 1:
            batch = parameter.shape[: parameter.dim() - self.event_dim]
            parameter = parameter.reshape(*batch, self.spec.outputs, *self.x_shape)
        return self.likelihood(parameter)

    def likelihood(self, parameter: Tensor, part: Any = ...) -> TorchDistribution:
        """The likelihood of these parameters, for all entries of x or a part of them."""
        scale = () if self.raw_scale is None else (positive_scale(self.raw_scale[part]),)
        return self.family(
            parameter,
            *scale,
            event_dim=self.event_dim,
            nan_is_missing=self.missing,
            **self.numbers,
        )


def _formula(model: type) -> list[str]:
    """The first indented block of a class's docstring."""
    _, _, block = (inspect.getdoc(model) or "").partition("::\n\n")
    lines = []
    for line in block.splitlines():
        if line and not line.startswith(" "):
            break
        lines.append(line)
    return inspect.cleandoc("\n" + "\n".join(lines)).splitlines()
