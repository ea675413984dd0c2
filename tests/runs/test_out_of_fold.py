"""Out-of-fold scores as a file."""

from pathlib import Path

import numpy as np
import pytest

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.runs.out_of_fold import OutOfFold

NAMES = ("a, b", 'says "no"', "two\nlines", "ärmel")


def made(n: int = 5) -> OutOfFold:
    generator = np.random.default_rng(0)
    log_probs = np.log(generator.dirichlet(np.ones(4), n))
    log_probs[0, 1] = -np.inf
    elbo = generator.normal(size=n)
    elbo[-1] = np.nan
    return OutOfFold(np.arange(n) * 7, np.arange(n) % 2, np.arange(n) % 4, log_probs, elbo, NAMES)


def test_scores_are_read_as_they_were_written(tmp_path: Path) -> None:
    scores, file = made(), tmp_path / "out_of_fold.csv"
    scores.save(file)
    read = OutOfFold.load(file)
    assert read.names == scores.names
    assert len(read) == 5
    for name in ("rows", "fold", "y", "log_probs", "elbo"):
        assert np.array_equal(getattr(read, name), getattr(scores, name), equal_nan=name == "elbo")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], "is damaged"),
        (lambda text: text.replace("row,fold", "row,part"), "its first line is 'row,part"),
        (lambda text: text.replace("\n7,1,", "\n7,one,"), "is damaged: invalid literal"),
        (lambda text: text.replace(",ärmel,", ",armel,"), "line .* has no class of the first line"),
        (lambda text: text[:0], "is empty"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, change: object, message: str) -> None:
    file = tmp_path / "out_of_fold.csv"
    made().save(file)
    assert callable(change)
    file.write_text(change(file.read_text("utf-8")), "utf-8")
    with pytest.raises(GMMVAEError, match=message):
        OutOfFold.load(file)
