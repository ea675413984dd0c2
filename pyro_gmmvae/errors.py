"""The one family of errors that a user's input can cause."""

from collections.abc import Iterable


class GMMVAEError(ValueError):
    """Invalid input; the message gives the value found, its place and the remedy.

    The command line prints the message as one line and exits with status 2.
    """


class GMMVAEWarning(UserWarning):
    """Input that is used, and that hardly anyone means; the command line prints it as one line."""


class UnknownNameError(GMMVAEError):
    """A name that is not in its table."""


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name that is most like a name that is not among them, in either case."""
    import difflib

    folded = {one.casefold(): one for one in names}
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    return folded[near[0]] if near else None


def unknown_name(kind: str, name: str, known: list[str]) -> UnknownNameError:
    """The error for a name that isn't in a table, with its nearest match."""
    near = nearest(name, known)
    hint = f"did you mean {near!r}?" if near else f"choose from: {', '.join(sorted(known))}"
    return UnknownNameError(f"unknown {kind} {name!r}; {hint}")


def check_range(name: str, value: float, ok: bool, wanted: str) -> None:
    """Raise a :class:`GMMVAEError` that names the value and its range, unless ``ok``."""
    if not ok:
        raise GMMVAEError(f"{name} must be {wanted}, not {value}")


def missing_extra(what: str, package: str, extra: str) -> GMMVAEError:
    """The error for a package that only some need: one sentence with the command that brings it."""
    return GMMVAEError(f"{what} needs {package}: pip install 'pyro-gmmvae[{extra}]'")


class LostProcessError(GMMVAEError):
    """A process of a job ended while the others were waiting for it."""
