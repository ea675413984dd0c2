"""The command line called in this process, and one small trained run for all its tests."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from pyro_gmmvae.cli import main


@dataclass
class Result:
    code: int
    out: str
    err: str


Gmmvae = Callable[..., Result]


@pytest.fixture
def gmmvae(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Gmmvae:
    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["gmmvae", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        captured = capsys.readouterr()
        return Result(int(caught.value.code or 0), captured.out, captured.err)

    return call


SMALL = ("--set", "hidden=16", "--latent-dim", "4")


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    x, _ = load_digits(return_X_y=True)
    np.savez(tmp_path / "rows.npz", x=x[:30])
    return tmp_path / "rows.npz"
