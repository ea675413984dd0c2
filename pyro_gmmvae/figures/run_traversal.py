"""What one latent does: skeletons decoded along it."""

import itertools
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from pyro_gmmvae.errors import GMMVAEError, unknown_name
from pyro_gmmvae.runs.data import Schema


class Decodes(Protocol):
    """What is asked of a run."""

    config: Any
    schema: Schema
    model: Any

    def class_names(self) -> list[str]: ...

    def components_of(self, label: str | None) -> list[int]: ...


@torch.no_grad()
def traverse(
    run: Decodes, latent: str, label: int, steps: int, span: float
) -> tuple[list[str], np.ndarray[Any, Any]]:
    """Decoded skeletons along one latent, all else at its prior's mean.

    Args:
        run: a run on skeletons.
        latent: the number of an entry of z, from 0, which goes from -span to span standard
            deviations of p(z|s) at the class ``label``; "class", for s to go from each
            class to the next over the simplex, z following as the Gaussian product does; or the
            name of a further factor, for its s.
        label: class number.
        steps: pictures, or pictures from each class to the next.
        span: in standard deviations.

    Returns:
        A caption for each picture, and (pictures, T, J, C) poses; T is 1 where the run describes
        windows by statistics.

    Raises:
        GMMVAEError: a run that is none of skeletons, a latent that is not there, or a model
            without a p(z|s).
    """
    schema, model = run.schema, run.model
    if not schema.kind.reads_tracks:
        raise GMMVAEError("traverse draws skeletons; for other rows there is 'gmmvae generate'")
    if not model.factors:
        raise GMMVAEError(
            f"the model {run.config.model!r} has no p(z|s) to walk in; train gmmvae, or m2"
        )
    sizes: dict[str, int] = dict(model.factors)
    if latent.isdecimal():
        captions, z, s = _along_z(model, sizes, int(latent), label, steps, span)
    else:
        captions, z, s = _along_s(run, sizes, latent, label, steps)
    rows = schema.transform.invert(model.decode(z, s).cpu().numpy())
    return captions, schema.kind.poses(rows)


def _along_z(
    model: Any, sizes: dict[str, int], entry: int, label: int, steps: int, span: float
) -> tuple[list[str], Tensor, Tensor]:
    s = _start(model, sizes, label).expand(steps, -1)
    prior = model.prior_of_z(s)
    loc, scale = prior.mean, prior.stddev
    if entry >= loc.shape[-1]:
        raise GMMVAEError(f"z has the entries 0 to {loc.shape[-1] - 1}, and no {entry}")
    values = torch.linspace(-span, span, steps).to(loc)
    z = loc.clone()
    z[:, entry] += values * scale[:, entry]
    return [f"z{entry} at {value:+.2f} s.d." for value in values.tolist()], z, s


def _along_s(
    run: Decodes, sizes: dict[str, int], latent: str, label: int, steps: int
) -> tuple[list[str], Tensor, Tensor]:
    factor = "" if latent == "class" else latent
    if factor not in sizes:
        raise unknown_name("latent", latent, ["class", *filter(None, sizes), "a number"])
    if factor:
        names = _factor_names(run.schema, factor, sizes[factor])
    else:
        names = [run.class_names()[k] for k in run.components_of(None)]
    at = list(sizes).index(factor)
    begin = sum(list(sizes.values())[:at])
    start = _start(run.model, sizes, label)
    captions, rows = [], []
    for one, other in itertools.pairwise(range(len(names))):
        for share in np.linspace(0, 1, steps, endpoint=False):
            s = start.clone()
            s[:, begin : begin + sizes[factor]] = 0
            s[:, begin + one], s[:, begin + other] = 1 - share, share
            rows.append(s)
            captions.append(f"{names[one]} -> {names[other]}: {share:.0%}")
    if not rows:
        raise GMMVAEError(f"{latent!r} has a single value: there is nowhere to walk to")
    s = torch.cat(rows)
    return captions, run.model.prior_of_z(s).mean, s


def _factor_names(schema: Schema, name: str, size: int) -> list[str]:
    known = list(dict(schema.factors).get(name, ()))
    return known + [f"component_{k}" for k in range(len(known), size)]


def _start(model: Any, sizes: dict[str, int], label: int) -> Tensor:
    """(1, K_1 + ...): the class decided, further factors undecided."""
    parameter = next(model.parameters())
    s = torch.cat([parameter.new_full((1, K), 1 / K) for K in sizes.values()], -1)
    s[:, : sizes[""]] = 0
    s[:, label] = 1
    return s
