"""gmmvae components: its table and picture, and ranges that are none."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from .conftest import Gmmvae


@pytest.mark.parametrize("span", ["5", "5,x", "0,3", "9,4", "1,2,3"])
def test_a_range_that_is_none_is_refused(gmmvae: Gmmvae, tmp_path: Path, span: str) -> None:
    result = gmmvae("components", "--range", span, "--out", tmp_path / "out")
    assert result.code == 2
    assert len(result.err.strip().split("\n")) == 1
    assert not (tmp_path / "out").exists()


def test_a_table_and_a_picture(gmmvae: Gmmvae, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(60, 3)))
    out = tmp_path / "out"
    arguments = ("--range", "2,3", "--count", 2, "--seeds", 1, "--epochs", 1, "--out", out)
    small = ("--set", "hidden=8", "--set", "latent_dim=2", "--json")
    result = gmmvae("components", "--data", tmp_path / "rows.npy", *arguments, *small)
    assert result.code == 0, result.err
    assert [line["components"] for line in json.loads(result.out)] == [2, 3]
    table = pd.read_csv(out / "components.csv")
    assert table["n"].tolist() == [1, 1]
    assert table["stability"].isna().all()  # one seed has no other to agree with
    assert (out / "components.png").stat().st_size > 10_000
