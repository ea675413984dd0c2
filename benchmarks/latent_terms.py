"""What each term on z changes: the quantity that it is named after, with and without it.

    python benchmarks/latent_terms.py --out benchmarks/results/latent-terms

VAEs on the digits of scikit-learn (Bernoulli, preset paper, 60 epochs), or, for the terms of
covariates, on a table of their pixels with a made column "session", which adds another image to the
rows of each of its three values. A line compares the same seeds. Quantities are of test rows. The
same command resumes: runs that are finished are not trained again. OUT gets results.csv and
table.md.
"""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from pyro_gmmvae.config import Config
from pyro_gmmvae.evaluation import kl_of_units, total_correlation
from pyro_gmmvae.figures.sweep_plots import t_interval
from pyro_gmmvae.files import atomic_write
from pyro_gmmvae.objectives import HSIC, MMD
from pyro_gmmvae.objectives.draws import draw
from pyro_gmmvae.objectives.latent_terms import LatentSite, latent_site
from pyro_gmmvae.runs import Run, TrainingData, default_config
from pyro_gmmvae.sweeps import markdown
from pyro_gmmvae.sweeps.execute import train_run

SESSIONS = 3
DIGITS: dict[str, Any] = {"likelihood": "bernoulli", "latent_dim": 10}


def test_rows(run: Run) -> torch.Tensor:
    rows = TrainingData.from_config(run.config, run.schema)
    return rows.tensors(rows.split.test, run.device)[0]


@torch.no_grad()
def site(run: Run) -> LatentSite:
    """z of the test rows."""
    torch.manual_seed(0)
    model = run.model.eval()
    one = draw(model.model, model.guide, test_rows(run), None, model.latents)
    kl = one.log_ratio("z")
    return latent_site(one, kl, kl.new_ones(()))


def distance_from_identity(run: Run) -> float:
    """Of the covariance of the means of z, squared; DIP's own measure."""
    covariance = np.cov(run.embed(test_rows(run)).T)
    return float(((covariance - np.eye(len(covariance))) ** 2).sum())


def squared_correlations(run: Run) -> float:
    """The mean over pairs of entries, of draws of z."""
    correlations = np.corrcoef(site(run).z.cpu().numpy().T)
    return float((correlations[~np.eye(len(correlations), dtype=bool)] ** 2).mean())


def correlation(run: Run) -> float:
    return total_correlation(site(run).z.cpu().numpy())


def mmd(run: Run) -> float:
    torch.manual_seed(1)
    return float(MMD()(site(run)))


def hsic(run: Run) -> float:
    return float(HSIC()(site(run)))


def rate(run: Run) -> float:
    return float(run.bounds(test_rows(run), 10).rate.mean())


def distortion(run: Run) -> float:
    return float(run.bounds(test_rows(run), 10).distortion.mean())


def idle_units(run: Run) -> float:
    model = run.model.eval()
    units = kl_of_units(model.model, model.guide, test_rows(run), model.latents)
    assert units is not None
    return float(sum(unit < 0.1 for unit in units))


def session_probe(run: Run) -> float:
    """Accuracy of a linear probe of z for the session, fitted on half of the test rows."""
    x = test_rows(run)
    place = [column.name for column in run.schema.kind.specs].index("session")
    session, z = x[:, place].cpu().numpy().astype(int), run.embed(x)
    half = len(z) // 2
    probe = LogisticRegression(max_iter=2000).fit(z[:half], session[:half])
    return float(probe.score(z[half:], session[half:]))


Measure = Callable[[Run], float]
LINES: dict[str, tuple[dict[str, Any], dict[str, Any], Measure]] = {
    "tc=5: total correlation, nats": ({}, {"tc": 5}, correlation),
    "tc_adversary=10: total correlation, nats": ({}, {"tc_adversary": 10}, correlation),
    "dip=10: squared distance of Cov[means] from I": ({}, {"dip": 10}, distance_from_identity),
    "dip=10: mean squared correlation": ({}, {"dip": 10}, squared_correlations),
    "dip=10, dip_of=z: mean squared correlation": (
        {},
        {"dip": 10, "dip_of": "z"},
        squared_correlations,
    ),
    "mmd=10: MMD of z and p(z)": ({}, {"mmd": 10}, mmd),
    "mmd=10, kl_z=0.1: MMD, from kl_z=0.1": ({"kl_z": 0.1}, {"kl_z": 0.1, "mmd": 10}, mmd),
    "mmd=10, kl_z=0.1: rate, nats": ({}, {"kl_z": 0.1, "mmd": 10}, rate),
    "adversary=1, kl_z=0.1: MMD, from kl_z=0.1": (
        {"kl_z": 0.1},
        {"kl_z": 0.1, "adversary": 1},
        mmd,
    ),
    "adversary=1, kl_z=0.1: rate, nats": ({}, {"kl_z": 0.1, "adversary": 1}, rate),
    "hsic=1000: HSIC of halves of z": ({}, {"hsic": 1000}, hsic),
    "free_bits=0.5, kl_z=4: entries of z below 0.1 nats, from kl_z=4": (
        {"kl_z": 4},
        {"kl_z": 4, "free_bits": 0.5},
        idle_units,
    ),
    "capacity=5: rate, nats": ({}, {"capacity": 5}, rate),
    "kl_z=0.5 for 0.25: rate, nats": ({"kl_z": 0.25}, {"kl_z": 0.5}, rate),
    "kl_z=1 for 0.5: rate, nats": ({"kl_z": 0.5}, {"kl_z": 1}, rate),
    "kl_z=2 for 1: rate, nats": ({"kl_z": 1}, {"kl_z": 2}, rate),
    "kl_z=0.5 for 0.25: distortion, nats": ({"kl_z": 0.25}, {"kl_z": 0.5}, distortion),
    "kl_z=1 for 0.5: distortion, nats": ({"kl_z": 0.5}, {"kl_z": 1}, distortion),
    "kl_z=2 for 1: distortion, nats": ({"kl_z": 1}, {"kl_z": 2}, distortion),
}
OF_COVARIATES: dict[str, tuple[dict[str, Any], dict[str, Any], Measure]] = {
    "hsic=1000, hsic_of=covariates: probe of the session, from kl_z=0.01": (
        {"kl_z": 0.01},
        {"kl_z": 0.01, "hsic": 1000, "hsic_of": "covariates"},
        session_probe,
    ),
    "mmd=300, mmd_of=covariates: probe of the session, from kl_z=0.01": (
        {"kl_z": 0.01},
        {"kl_z": 0.01, "mmd": 300, "mmd_of": "covariates"},
        session_probe,
    ),
    "adversary=0:50, adversary_of=covariates (fader): probe of the session, from kl_z=0.1": (
        {"kl_z": 0.1},
        {"kl_z": 0.1, "adversary": "0:50", "adversary_of": "covariates"},
        session_probe,
    ),
}


def table_with_sessions(file: Path) -> Path:
    """Pixels of digits plus an image of each session, and the session as a category."""
    images, generator = load_digits().data, np.random.default_rng(0)
    session = generator.integers(SESSIONS, size=len(images))
    shift = generator.normal(scale=4, size=(SESSIONS, images.shape[1]))
    # constant pixels would not be columns of numbers
    rows = images + shift[session] + generator.normal(scale=0.5, size=images.shape)
    table = pd.DataFrame(rows.round(3), columns=[f"p{n}" for n in range(images.shape[1])])
    table["session"] = [f"s{number}" for number in session]
    atomic_write(file, table.to_csv(index=False).encode())
    return file


def prepared(out: Path, runs: Path | None) -> Path:
    """The folder of the fits, which is made, as OUT is."""
    torch.set_num_threads(1)
    runs = runs or out / "runs"
    for folder in (out, runs):
        folder.mkdir(parents=True, exist_ok=True)
    return runs


@click.command()
@click.option("--seeds", default=5, show_default=True, help="Of weights and batches: 0, 1, ...")
@click.option("--epochs", default=60, show_default=True, help="Epochs of each run.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--runs", type=click.Path(path_type=Path), help="Of the fits.  [default: OUT/runs]")
def main(seeds: int, epochs: int, out: Path, runs: Path | None) -> None:
    """Train the runs that are not there, then write the table."""
    runs = prepared(out, runs)
    file = table_with_sessions(runs / "sessions.csv")
    of_table = {"covariates": "session", "test": 0.3, "cv": 0, "labels": 0, "latent_dim": 10}
    rows = []
    for data, keys, lines in (
        ("digits", DIGITS, LINES),
        (str(file), of_table | {"hidden": "256,256"}, OF_COVARIATES),
    ):
        for line, (without, with_, measure) in lines.items():
            for seed in range(seeds):
                for name, own in (("without", without), ("with", with_)):
                    changes = {**keys, **own, "model": "vae", "epochs": epochs, "seed": seed}
                    preset = {"preset": "paper"} if data == "digits" else {}
                    config = default_config(data, preset, changes)
                    value = measure(train_run(config, runs / folder_of(config, own)))
                    rows.append({"line": line, "seed": seed, "fit": name, "value": value})
            click.echo(f"{line}: {[round(row['value'], 4) for row in rows[-2 * seeds :]]}")
    write(pd.DataFrame(rows), out)


def folder_of(config: Config, own: dict[str, Any]) -> str:
    words = [f"{key}={value}" for key, value in own.items()]
    return "-".join([Path(config.data).stem, *words, str(config.epochs), str(config.seed)])


def write(table: pd.DataFrame, out: Path) -> None:
    atomic_write(out / "results.csv", table.to_csv(index=False).encode())
    lines = []
    for line, rows in table.groupby("line", sort=False):
        values = rows.pivot_table(index="seed", columns="fit", values="value")
        low, high = t_interval(values["with"] - values["without"])
        lines.append(
            {
                "term: quantity": line,
                "without": f"{values['without'].mean():.4g}",
                "with": f"{values['with'].mean():.4g}",
                "difference (95 %)": f"{(values['with'] - values['without']).mean():+.4g} "
                f"[{low:+.4g}, {high:+.4g}]",
                "n": len(values),
            }
        )
    command = shlex.join(["python", "benchmarks/latent_terms.py", *sys.argv[1:]])
    note = "Means over seeds, and the paired difference with its 95 % t-interval."
    text = f"{markdown(pd.DataFrame(lines))}\n{note}\n\nMade by `{command}`.\n"
    atomic_write(out / "table.md", text.encode())


if __name__ == "__main__":
    main()
