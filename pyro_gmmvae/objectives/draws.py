"""One sample of the latents of a model and a guide: values, log-densities and weights."""

import contextlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from pyro import poutine
from pyro.infer.util import is_validation_enabled
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import prune_subsample_sites
from pyro.util import check_model_guide_match
from torch import Tensor

from pyro_gmmvae.distributions import Tilted
from pyro_gmmvae.errors import GMMVAEError

Program = Callable[[Tensor, Tensor | None], Any]


@dataclass(frozen=True)
class Draw:
    """The sites of guide and model at one sample of the latents, with their log-densities.

    A site of the guide that is marked ``infer={"sum_out": True}`` is not sampled: it takes all its
    values, along an axis in front of the rows, as under Pyro's ``TraceEnum_ELBO``. (With Pyro's
    own mark, "enumerate", its ``Trace_ELBO`` would warn about programs that it can train.) A
    :class:`Tilted` takes a draw for each class, with the probability of the class.

    Attributes:
        guide, model: the nodes of the two traces by site.
        weights: probability of each value of the enumerated sites, (..., B), summing to 1
            over all axes but the last; None where every site was sampled.
    """

    guide: dict[str, Any]
    model: dict[str, Any]
    weights: Tensor | None

    def mean(self, values: Tensor) -> Tensor:
        """(B,): values (..., B) averaged over the enumerated sites, exactly."""
        if self.weights is None:
            return values
        rows = self.weights.shape[-1]
        return (self.weights * values).reshape(-1, rows).sum(0)

    def log_ratio(self, site: str) -> Tensor:
        """log q - log p of a latent site at its value."""
        ratio: Tensor = self.guide[site]["log_prob"] - self.model[site]["log_prob"]
        return ratio

    def is_enumerated(self, site: str) -> bool:
        """Whether a site takes all its values, instead of one sampled value."""
        return _is_enumerated(self.guide[site])

    @property
    def log_px(self) -> Tensor:
        """log p of all observed sites."""
        return sum_of([s["log_prob"] for s in self.model.values() if s["is_observed"]])

    @property
    def score(self) -> Tensor | None:
        """log q of the sites that are neither reparameterized nor enumerated, or None."""
        scores = [
            site["log_prob"]
            for site in self.guide.values()
            if not site["fn"].has_rsample and not _is_enumerated(site)
        ]
        return sum_of(scores) if scores else None

    def class_logits(self, label_sites: Sequence[str]) -> dict[str, Tensor]:
        """(B, K) log q(y|x), unnormalized, of each of these sites that the guide has."""
        return {name: _logits_of(self.guide[name]) for name in label_sites if name in self.guide}


def draw(
    model: Program,
    guide: Program,
    x: Tensor,
    y: Tensor | None,
    latents: Sequence[str],
    observed: Tensor | None = None,
) -> Draw:
    """Run the guide on x, replay the model against it, and score every site.

    Args:
        model, guide, latents: the programs, and the latent sites that both have.
        x, y: rows and labels.
        observed: the rows that the model explains; None: x.

    Raises:
        GMMVAEError: a guide or a model that samples other sites than ``latents``.
    """
    guide_trace = trace_of_guide(guide, x, y)
    explained = x if observed is None else observed
    model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(explained, y)
    enumerates = any(map(_is_enumerated, sample_sites(guide_trace).values()))
    if is_validation_enabled() and not enumerates:  # it does not allow for the axes in front
        check_model_guide_match(model_trace, guide_trace)
    guide_trace = prune_subsample_sites(guide_trace)
    model_trace = prune_subsample_sites(model_trace)
    model_trace.compute_log_prob()
    guide_trace.compute_log_prob()
    guide_sites, model_sites = sample_sites(guide_trace), sample_sites(model_trace)
    _check_latents(guide_sites, model_sites, latents)
    log_weights = [_log_weight(s) for s in guide_sites.values() if _is_enumerated(s)]
    return Draw(guide_sites, model_sites, sum_of(log_weights).exp() if log_weights else None)


class _UntilSeen(Messenger):
    """Collects sites, and ends the program before the last of them is sampled."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__()
        self.names, self.sites = set(names), dict[str, Any]()

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.names:
            self.sites[msg["name"]] = msg
        if len(self.sites) == len(self.names):
            raise _LastSiteError


class _LastSiteError(Exception):
    """Ends a program."""


def first_sites(
    program: Program, x: Tensor, y: Tensor | None, names: Collection[str]
) -> dict[str, Any]:
    """Sites of a program by name, without the rest of the program."""
    seen = _UntilSeen(names)
    with contextlib.suppress(_LastSiteError), seen:
        program(x, y)
    return seen.sites


def class_logits(
    guide: Program, x: Tensor, y: Tensor | None, label_sites: Sequence[str]
) -> dict[str, Tensor]:
    """(B, K) log q(y|x), unnormalized, of label sites, without the rest of the guide."""
    sites = first_sites(guide, x, y, label_sites)
    return {name: _logits_of(site) for name, site in sites.items()}


def _logits_of(site: Any) -> Tensor:
    """Logits of a site's class; a guide with other logits for labelled rows keeps them aside."""
    logits: Tensor = (site["infer"] or {}).get("class_logits", site["fn"].logits)
    return logits


def trace_of_guide(
    guide: Program, x: Tensor, y: Tensor | None, first_available_dim: int = -2
) -> Any:
    """The trace of a guide whose marked sites take all their values.

    The axis of the first of them is ``first_available_dim``; -1 is the plate of the rows.
    """
    marked = poutine.infer_config(guide, _enumerate_if_marked)
    enumerating = poutine.enum(marked, first_available_dim=first_available_dim)
    return poutine.trace(enumerating).get_trace(x, y)


def _enumerate_if_marked(site: Any) -> dict[str, str]:
    return {"enumerate": "parallel"} if site["infer"].get("sum_out") else {}


def _log_weight(site: Any) -> Tensor:
    """log of the probability of each value of an enumerated site."""
    fn, log_prob = site["fn"], site["log_prob"]
    return fn.class_log_prob(site["value"]) if isinstance(fn, Tilted) else log_prob


def _is_enumerated(site: Any) -> bool:
    return site["infer"].get("_enumerate_dim") is not None


def sample_sites(trace: Any) -> dict[str, Any]:
    """The sample sites of a trace by name."""
    return {name: site for name, site in trace.nodes.items() if site["type"] == "sample"}


def _check_latents(guide: dict[str, Any], model: dict[str, Any], latents: Sequence[str]) -> None:
    """Refuse a site that is not listed, whose term the ELBO would lack."""
    for owner, sites in (("guide", guide), ("model", model)):
        sampled = {name for name, site in sites.items() if not site["is_observed"]}
        if sampled != set(latents):
            raise GMMVAEError(
                f"the objective was built for the latent sites {sorted(latents)}; the {owner} "
                f"samples {sorted(sampled)}"
            )


def sum_of(tensors: list[Tensor]) -> Tensor:
    """The sum of tensors, of which there is at least one."""
    return sum(tensors[1:], start=tensors[0])
