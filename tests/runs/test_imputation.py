"""Missing cells filled by the posterior predictive: of a made table, and in its file."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from pyro_gmmvae.cli import cli
from pyro_gmmvae.column_spec import Column
from pyro_gmmvae.data.column_table import ColumnTable
from pyro_gmmvae.data.dataset import Dataset
from pyro_gmmvae.data.splits import Split
from pyro_gmmvae.distributions.likelihoods import raw_of_scale
from pyro_gmmvae.errors import GMMVAEError, GMMVAEWarning
from pyro_gmmvae.runs import Run, default_config, train
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.runs.imputation import Predictive, predictive
from pyro_gmmvae.runs.keys import configure
from pyro_gmmvae.runs.trainer import fit

COLUMNS = (
    Column("size", "real"),
    Column("weight", "positive"),
    Column("count", "count"),
    Column("kind", "category", ("small", "middle", "large")),
    Column("heavy", "binary", ("no", "yes")),
    Column("site", "real", given=True),
)
KEYS = {
    "model": "vae",
    "labels": 0,
    "augment": "hide",
    "reconstruct": "original",
    "hidden": "32",
    "latent_dim": 2,
    "epochs": 40,
    "batch_size": 64,
    "learning_rate": 0.01,
    "engine": "svi",
}


def made_rows(n: int = 300) -> np.ndarray:
    """All columns but the covariate follow one number."""
    random = np.random.default_rng(0)
    t = random.normal(size=n)
    noise = random.normal(size=(3, n))
    return np.stack(
        [
            100 + 20 * t + 2 * noise[0],
            np.exp(1 + t + 0.1 * noise[1]),
            random.poisson(np.exp(2 + 0.8 * t)),
            np.digitize(t, [-0.5, 0.5]),
            t > 0.3,
            noise[2],
        ],
        -1,
    )


def trained(x: np.ndarray, **keys: Any) -> Run:
    none = np.arange(0)
    dataset = Dataset(x, np.full(len(x), -1), (), ColumnTable(COLUMNS))
    config = configure(KEYS | keys)
    data = TrainingData.from_arrays(config, dataset, Split(np.arange(len(x)), none, none, none))
    return fit(config, data).run


@pytest.fixture(scope="module")
def run() -> Run:
    return trained(made_rows())


@pytest.fixture(scope="module")
def hidden() -> tuple[np.ndarray, np.ndarray, Tensor]:
    """Rows, which cells are hidden, and the rows with these cells missing."""
    x = made_rows(200)
    mask = np.random.default_rng(1).random(x.shape) < 0.3
    mask[:, -1] = False
    return x, mask, torch.from_numpy(np.where(mask, np.nan, x))


def in_units(run: Run, x: Tensor) -> Tensor:
    return torch.from_numpy(run.schema.transform.scaled(x.numpy()))


@pytest.mark.parametrize("statistic", ["mean", "mode"])
def test_hidden_cells_are_met_better_than_by_the_mean_of_the_column(
    run: Run, hidden: tuple[np.ndarray, np.ndarray, Tensor], statistic: str
) -> None:
    x, mask, seen = hidden
    found = predictive([run], in_units(run, seen), statistic=statistic)
    for place, column in enumerate(COLUMNS[:5]):
        cells = mask[:, place]
        wrong = found.values[cells, place] - x[cells, place]
        if column.is_discrete:
            usual = np.bincount(x[:, place].astype(int)).max() / len(x)
            assert (wrong == 0).mean() > usual + 0.1
            assert np.allclose(found.probs[place].sum(-1), 1)
        else:
            assert wrong.std() < 0.85 * x[:, place].std()
    if statistic == "mode":
        assert (found.values[:, 2] == found.values[:, 2].round()).all()


def test_draws_have_the_mean_and_the_spread_of_the_predictive(run: Run) -> None:
    x = torch.from_numpy(made_rows(40))
    x[:, 0] = torch.nan
    found = predictive([run], in_units(run, x), draws=400, latent_draws=400)
    assert found.draws.shape == (400, 40, len(COLUMNS))
    error = found.draws.std(0)[:, 0] / 20
    assert (np.abs(found.draws.mean(0) - found.values)[:, 0] < 5 * error).all()
    low, high = np.quantile(found.draws[..., 0], [0.05, 0.95], axis=0)
    inside = (low <= made_rows(40)[:, 0]) & (made_rows(40)[:, 0] <= high)
    assert inside.mean() > 0.75


class _ExactPosterior(nn.Module):
    """Of x_1 = z + noise: N(x_1 / 2, 1 / 2)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, :1] / 2, torch.full((len(x), 1), raw_of_scale(0.5**0.5))], -1)


def test_a_linear_model_has_the_conditional_distribution() -> None:
    """x = loading z + noise, given x_1: the mean and the deviation of the others are known."""
    columns = tuple(Column(name, "real") for name in "abc")
    none, rows = np.arange(0), np.random.default_rng(0).normal(size=(40, 3))
    config = configure(KEYS | {"latent_dim": 1, "epochs": 1})
    dataset = Dataset(rows, np.full(40, -1), (), ColumnTable(columns))
    split = Split(np.arange(40), none, none, none)
    run = fit(config, TrainingData.from_arrays(config, dataset, split)).run
    loading = torch.tensor([[1.0], [-2.0], [0.5]])
    run.model.encoder = _ExactPosterior()
    run.model.observation.decoder = decoder = nn.Linear(1, 3, bias=False)
    decoder.weight.data.copy_(loading)
    run.model.observation.of_columns.raw_scale.data.zero_()  # a scale of 1
    x = torch.tensor([[1.5, math.nan, math.nan], [-0.5, math.nan, math.nan]])
    found = predictive([run], x, draws=5000)
    unit = run.schema.transform.scale
    wanted = (x[:, :1] / 2 * loading.T).numpy() * unit + run.schema.transform.shift
    np.testing.assert_allclose(found.values[:, 1:], wanted[:, 1:], atol=0.1)
    deviation = ((loading.square() / 2 + 1).sqrt()[:, 0].numpy() * unit)[1:]
    np.testing.assert_allclose(found.draws.std(0)[:, 1:], np.tile(deviation, (2, 1)), rtol=0.05)


def test_members_are_averaged(run: Run) -> None:
    x = in_units(run, torch.from_numpy(made_rows(30)))
    x[:, :5] = torch.where(torch.rand(30, 5) < 0.5, torch.nan, x[:, :5])
    other = trained(made_rows(100), epochs=2, seed=1)
    other = replace(other, schema=run.schema)
    both = predictive([run, other], x, draws=4)
    parts = [predictive([one], x, draws=4) for one in (run, other)]
    one, two = (part.values[:, :3] for part in parts)
    torch.testing.assert_close(both.values[:, :3], (one + two) / 2, rtol=0.1, atol=2.0)
    mixed = Predictive.mixed(parts)
    assert (mixed.draws[0] == parts[0].draws[0])[:, :5].all()
    assert (mixed.draws[1] == parts[1].draws[1])[:, :5].all()
    mean = (parts[0].probs[3] + parts[1].probs[3]) / 2
    assert (mixed.values[:, 3] == mean.argmax(-1)).all()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a column that the run does not use, other texts for numbers, and no order."""
    folder = tmp_path_factory.mktemp("impute")
    random = np.random.default_rng(3)
    a = random.normal(size=120)
    frame = pd.DataFrame({"code": range(120), "b": 5 - 2 * a, "a": a})
    frame["way"] = np.where(a > 0, "up", "down")
    text = frame.round(2).astype(str)
    text["code"] = text["code"].str.zfill(3)
    hidden = random.random((120, 3)) < 0.2
    text[["b", "a", "way"]] = text[["b", "a", "way"]].mask(hidden, "")
    text.drop(columns="code").to_csv(folder / "train.csv", index=False)
    text.to_csv(folder / "rows.csv", index=False)
    return folder / "rows.csv"


@pytest.fixture(scope="module")
def run_of_file(file: Path) -> Run:
    config = default_config(
        str(file.with_name("train.csv")), KEYS | {"augment": None, "epochs": 20, "test": 0}
    )
    return train(config, file.with_name("run"))


def impute(*arguments: object) -> str:
    result = CliRunner().invoke(cli, ["impute", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.filterwarnings("ignore:.*rows have no cell")
def test_a_file_is_filled_and_the_rest_stays(run_of_file: Run, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "filled.csv"
    said = impute(run_of_file.path, file, "--out", out, "--interval", "0.8")
    before, after = (pd.read_csv(one, dtype=str, keep_default_na=False) for one in (file, out))
    empty = before == ""
    assert f"{empty.to_numpy().sum()} cells filled" in said
    ends = ["b_low", "b_high", "a_low", "a_high"]
    assert list(after) == ["code", "b", "a", "way", *ends]
    pd.testing.assert_frame_equal(after[list(before)].where(~empty, ""), before)
    filled = after.loc[empty["a"], ["a_low", "a", "a_high"]].astype(float)
    assert (filled["a_low"] < filled["a_high"]).all()
    assert (after.loc[~empty["a"], ["a_low", "a_high"]] == "").all(axis=None)
    both = empty["a"] & ~empty["b"]
    expected = (5 - before.loc[both, "b"].astype(float)) / 2
    assert np.corrcoef(filled.loc[both, "a"], expected)[0, 1] > 0.8
    ways = empty["way"] & ~empty["b"]
    right = np.where(before.loc[ways, "b"].astype(float) < 5, "up", "down")
    assert (after.loc[ways, "way"] == right).mean() > 0.8


def test_a_value_that_was_not_seen_stays(run_of_file: Run, tmp_path: Path) -> None:
    (tmp_path / "odd.csv").write_text("a;b;way\n1,50;;sideways\n;5,1;\n")
    with pytest.warns(GMMVAEWarning, match="'sideways' not among|decimal comma"):
        said = impute(run_of_file.path, tmp_path / "odd.csv", "--out", tmp_path / "out.csv")
    assert "3 cells filled" in said
    rows = [line.split(";") for line in (tmp_path / "out.csv").read_text().split()[1:]]
    assert (rows[0][0], rows[0][2], rows[1][1]) == ("1,50", "sideways", "5,1")
    assert rows[1][2] in ("up", "down")
    assert "," in rows[0][1]


@pytest.mark.filterwarnings("ignore:.*rows have no cell")
def test_draws_are_stacked(run_of_file: Run, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "draws.csv"
    impute(run_of_file.path, file, "--out", out, "--draws", "3", "--seed", "1")
    found, before = pd.read_csv(out), pd.read_csv(file)
    assert list(found) == ["draw", "code", "b", "a", "way"]
    assert found["draw"].tolist() == [1] * 120 + [2] * 120 + [3] * 120
    each = np.stack([own["a"].to_numpy() for _, own in found.groupby("draw")])
    known = before["a"].notna().to_numpy()
    assert (each[:, known] == before.loc[known, "a"].to_numpy()).all()
    assert (each[:, ~known].std(0) > 0).all()
    again = run_of_file.impute(file, draws=3, seed=1)
    np.testing.assert_allclose(again["a"], found["a"], rtol=1e-4)


def test_what_can_not_be_filled_is_refused(run_of_file: Run, file: Path, tmp_path: Path) -> None:
    with pytest.raises(GMMVAEError, match="did you mean 'mode'"):
        run_of_file.impute(file, statistic="mod")
    with pytest.raises(GMMVAEError, match="interval must be between 0 and 1"):
        run_of_file.impute(file, interval=1.5)
    with pytest.raises(GMMVAEError, match="leave interval out"):
        run_of_file.impute(file, interval=0.5, draws=2)
    (tmp_path / "other.csv").write_text("b,way\n1,up\n")
    with pytest.raises(GMMVAEError, match="lacks the column 'a'"):
        run_of_file.impute(tmp_path / "other.csv")
    (tmp_path / "taken.csv").write_text("draw,a,b,way\n1,2,3,up\n1,,3,\n")
    with pytest.raises(GMMVAEError, match="has a column 'draw' already"):
        run_of_file.impute(tmp_path / "taken.csv", draws=2)
    (tmp_path / "full.csv").write_text("a,b,way\n2,3,up\n1,3,up\n")
    full = run_of_file.impute(tmp_path / "full.csv")
    assert full.to_numpy().tolist() == [[2, 3, "up"], [1, 3, "up"]]
