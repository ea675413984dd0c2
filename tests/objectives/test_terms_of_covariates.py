"""Terms on z and covariates of a table: binary, ordinal and missing ones."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_gmmvae.column_spec import Column
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.models import Covariates
from pyro_gmmvae.runs import Run, TrainingData, default_config, train

COLUMNS = (
    Column("a", "real", knots=(-1.0, 0.0, 1.0)),
    Column("b", "binary", ("no", "yes"), given=True),
    Column("o", "ordinal", ("low", "mid", "high"), knots=(0.0, 1.0, 2.0), given=True),
)


def test_groups_are_the_values_of_discrete_covariates() -> None:
    x = torch.tensor([[0.3, 1.0, 2.0], [0.1, 0.0, torch.nan], [0.2, torch.nan, 0.0]])
    found = Covariates(COLUMNS).groups(x)
    assert found.tolist() == [[0, 1, 0, 0, 1], [1, 0, 0, 0, 0], [0, 0, 1, 0, 0]]


def table(folder: Path, rows: int = 240) -> Path:
    """z has to carry a, which depends on the binary site; 70 % of the rows have site 1."""
    generator = np.random.default_rng(0)
    site = (generator.random(rows) < 0.7).astype(int)
    a = generator.normal(size=(rows, 4)) + 3 * site[:, None]
    made = pd.DataFrame(a, columns=[*"abcd"]).assign(site=site)
    made.to_csv(folder / "t.csv", index=False)
    return folder / "t.csv"


@pytest.mark.parametrize("term", ["mmd", "hsic"])
def test_z_does_not_depend_on_a_binary_covariate(tmp_path: Path, term: str) -> None:
    file, gaps = table(tmp_path), {}
    for weight in (0, 300):
        keys = {"model": "vae", "labels": 0, "covariates": "site", "kl_z": 0.05, "epochs": 40}
        keys |= {"hidden": "32", "latent_dim": 2, f"{term}_of": "covariates", term: weight}
        train(default_config(str(file), keys), tmp_path / f"r{weight}")
        run = Run.load(tmp_path / f"r{weight}")
        rows = TrainingData.from_config(run.config, run.schema)
        x = rows.tensors(rows.training_rows, run.device)[0]
        z, site = run.embed(x), x[:, 4].cpu().numpy() == 1
        gaps[weight] = np.abs(z[site].mean(0) - z[~site].mean(0)).max() / z.std()
    assert gaps[300] < 0.5 * gaps[0]


@pytest.mark.parametrize("term", ["mmd", "adversary"])
def test_numbers_are_no_groups(term: str, tmp_path: Path) -> None:
    keys = {"model": "vae", "labels": 0, "covariates": "d", term: 1, f"{term}_of": "covariates"}
    with pytest.raises(GMMVAEError, match="compares groups of rows, and 'd' is of the kind real"):
        train(default_config(str(table(tmp_path)), keys), tmp_path / "r")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"capacity": 5, "objective": "iwae"}, "capacity is of the KL term, which iwae"),
        ({"free_bits": 1, "objective": "iwae"}, "free_bits is of the KL term, which iwae"),
        ({"capacity": 5, "free_bits": 1}, "leave one out"),
        ({"capacity": 5, "kl_z": 2}, "capacity replaces the KL term of z"),
        ({"discriminator_rate": 2}, "this fit has none; set adversary"),
        ({"model": "vq-vae", "particles": 3}, "vq-vae has nothing to draw"),
        ({"model": "gmmvae", "elbo_weight": 0, "tc": 1}, "which elbo_weight=0 leaves out"),
        ({"capacity": 5, "capacity_rate": 0}, "capacity_rate must be positive"),
        ({"tc_within": 1, "tc_within_groups": 0}, "tc_within_groups must be at least 1"),
    ],
)
def test_terms_that_do_not_fit_are_refused(keys: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(GMMVAEError, match=words):
        train(default_config("digits", {"model": "vae", "epochs": 1} | keys), tmp_path / "r")


def test_a_table_with_labels_has_no_folds_for_a_model_without_classes(tmp_path: Path) -> None:
    file = table(tmp_path)
    frame = pd.read_csv(file)
    frame.assign(label=["x", "y"] * (len(frame) // 2)).to_csv(file, index=False)
    train(default_config(str(file), {"model": "vae", "labels": 20, "epochs": 1}), tmp_path / "r")
    assert not (tmp_path / "r" / "folds").exists()
    assert Run.load(tmp_path / "r").evaluate(nll_rows=0, draws=0)["elbo"] is not None
