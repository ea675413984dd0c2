"""Sizes and ranges that models refuse, in one wording."""

from pyro_gmmvae.errors import GMMVAEError


def check_range(name: str, value: float, ok: bool, wanted: str) -> None:
    """Raise unless ``ok``, naming the value and what was wanted."""
    if not ok:
        raise GMMVAEError(f"{name} must be {wanted}, not {value}")


def check_sizes(**sizes: int) -> None:
    """Every size must be at least 1."""
    for name, value in sizes.items():
        check_range(name, value, value >= 1, "at least 1")


def check_class(label: int, classes: int) -> None:
    """A class to generate must be one of the model's."""
    if not 0 <= label < classes:
        raise GMMVAEError(f"class {label} is out of range 0..{classes - 1}")
