"""The first NaN or infinity of a fit, and whose it is."""

import math
from collections.abc import Mapping

from pyro_gmmvae.errors import GMMVAEError


class NonFiniteError(GMMVAEError):
    """The loss or a gradient became NaN or infinite; says at which step and site."""


def non_finite(
    where: str, parts: Mapping[str, float], norms: Mapping[str, float]
) -> NonFiniteError:
    """The error of a step whose loss or gradients are no numbers.

    Args:
        where: the step, in words.
        parts: the terms of the loss.
        norms: of the gradients, by parameter.
    """
    # the guide's sites come first: what they break, log p(x|.) only inherits
    for name in sorted(parts, key=lambda part: part == "log_px"):
        if name not in ("elbo", "loss") and not math.isfinite(parts[name]):
            return NonFiniteError(
                f"the loss became non-finite at {where}: {describe_part(name)} is {parts[name]}; "
                "the last checkpoint is kept; try a smaller learning_rate or clip_norm, or look "
                "at the data's range"
            )
    culprits = [name for name, norm in norms.items() if not math.isfinite(norm)]
    return NonFiniteError(
        f"a gradient became non-finite at {where}: that of "
        f"{culprits[0] if culprits else 'the loss'}; the last checkpoint is kept; try a smaller "
        "learning_rate"
    )


def describe_part(name: str) -> str:
    """A reported term in words, for messages: "kl_z" is the KL term of site 'z'."""
    if name.startswith("kl_"):
        return f"the KL term of site {name[3:]!r}"
    return {
        "log_px": "log p of the observed site 'x'",
        "classification": "the classification term of the labelled rows",
    }.get(name, name)
