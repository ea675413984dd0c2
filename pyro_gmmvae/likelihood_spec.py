"""The text that names a likelihood, such as "binomial(16)", and facts about the family it names."""

import re
from dataclasses import dataclass, replace

from pyro_gmmvae.errors import GMMVAEError, unknown_name

MAX_NUMBER = 65_536
MAX_LEVELS = 4096  # a decoder output, or a bin, for each
_FORM = re.compile(r"([^()\s]+)\s*(?:\(([^()]*)\))?")
_MEANINGS = {"count": "its total count", "levels": "its number of levels"}
_EXAMPLES = {"count": 16, "levels": 17}


@dataclass(frozen=True)
class LikelihoodSpec:
    """A family of ``distributions.LIKELIHOODS``, facts about it and, where it has one, its number.

    :func:`parse_likelihood` builds it, and ``str`` gives the text that it reads.

    Attributes:
        family: key of ``LIKELIHOODS``.
        number_name: the name of the number, "count" or "levels"; None: the family has none.
        bounded: whether rows are in [0, 1] in the model's units.
        density: whether p(x) is a density, so that it depends on the unit of x.
        number: the total count of ``binomial``, or the number of levels of ``categorical`` and
            ``discretized-logistic``; None: the family has no number, or it is not known yet.
        largest: the largest value, n of n + 1 or L - 1 of L; None where ``number`` is.
        outputs: numbers that a decoder gives for an entry: L for ``categorical(L)``, else 1.
        elbo_scale: as :func:`elbo_scale`.
    """

    family: str
    number_name: str | None = None
    bounded: bool = True
    density: bool = False
    number: int | None = None
    largest: int | None = None
    outputs: int = 1
    elbo_scale: float = 1.0

    def __str__(self) -> str:
        return self.family if self.number is None else f"{self.family}({self.number})"

    def completed(self, unit: float | None, source: str) -> "LikelihoodSpec":
        """The same with its number, which is taken from the data's unit where it is not given.

        Args:
            unit: the largest value that the data can hold; None: not known.
            source: of the data, for messages.

        Raises:
            GMMVAEError: a number is needed, and no unit, or one that is no whole number, is known.
        """
        name = self.number_name
        if name is None or self.number is not None:
            return self
        if unit is None or unit != int(unit):
            raise GMMVAEError(
                f"likelihood={self.family} needs {_MEANINGS[name]}, and the largest value of "
                f"{source} is not known; write it, as in {self.family}({_EXAMPLES[name]})"
            )
        number = int(unit) if name == "count" else int(unit) + 1
        return _with_number(self, number, f"{self.family}({number})")


# of each family of distributions.LIKELIHOODS, without its number
_FAMILIES = {
    spec.family: spec
    for spec in (
        LikelihoodSpec("bernoulli"),
        LikelihoodSpec("continuous-bernoulli", density=True),
        LikelihoodSpec("normal", bounded=False, density=True),
        LikelihoodSpec("binomial", "count"),
        LikelihoodSpec("categorical", "levels"),
        LikelihoodSpec("discretized-logistic", "levels"),
        LikelihoodSpec("columns", bounded=False, density=True),
    )
}


def parse_likelihood(text: str) -> LikelihoodSpec:
    """Family and number of a likelihood.

    - ``bernoulli``: x in [0, 1], the expected log-likelihood of binary pixels;
    - ``continuous-bernoulli``: x in [0, 1], a density;
    - ``normal``: any number, a density with a learned scale for each entry;
    - ``binomial(n)``: counts 0..n;
    - ``categorical(L)``: levels 0..L-1, a probability of its own for each;
    - ``discretized-logistic(L)``: levels 0..L-1, a rounded logistic variable;
    - ``columns``: rows of a table, a likelihood for each column by its kind.

    In the model's units rows of the three with a number are k / n or k / (L - 1), in [0, 1].

    Args:
        text: a key of ``LIKELIHOODS`` and, in parentheses, the number. Without it the number is
            None until :meth:`LikelihoodSpec.completed` takes it from the data.

    Raises:
        GMMVAEError: an unknown name, with its nearest match, or a number that is out of range or
            that the family does not have.
    """
    match = _FORM.fullmatch(text.strip())
    family, number = match.groups() if match else (text, None)
    if family not in _FAMILIES:
        raise unknown_name("likelihood", family, list(_FAMILIES))
    spec = _FAMILIES[family]
    if number is None:
        return spec
    if spec.number_name is None:
        raise GMMVAEError(f"likelihood {text}: {family} takes no number; write {family}")
    return _with_number(
        spec, int(number) if number.strip().isascii() and number.strip().isdecimal() else None, text
    )


def _with_number(spec: LikelihoodSpec, number: int | None, text: str) -> LikelihoodSpec:
    name, lowest = str(spec.number_name), 1 if spec.number_name == "count" else 2
    most = MAX_NUMBER if name == "count" else MAX_LEVELS
    if number is None or not lowest <= number <= most:
        raise GMMVAEError(
            f"likelihood {text}: {_MEANINGS[name]} must be a whole number "
            f"from {lowest} to {most}, as in {spec.family}({_EXAMPLES[name]})"
        )
    if name == "count":
        return replace(spec, number=number, largest=number, elbo_scale=1 / number)
    outputs = number if spec.family == "categorical" else 1
    return replace(spec, number=number, largest=number - 1, outputs=outputs)


def elbo_scale(likelihood: str) -> float:
    """The factor of the ELBO in the loss: 1 / n for ``binomial(n)``, else 1.

    log p(x) of Binomial(n) is, up to a constant, n times that of the Bernoulli of x / n. With the
    factor the loss keeps the size that it has with Bernoulli, so that ``alpha``, ``balance``,
    ``consistency`` and ``clip_norm`` keep their meaning; what changes is that KL terms weigh 1 / n.

    Raises:
        GMMVAEError: as :func:`parse_likelihood`.
    """
    return parse_likelihood(likelihood).elbo_scale
