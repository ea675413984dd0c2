"""Models of the survey on the digits of scikit-learn, against what each is to be better than.

    python benchmarks/survey_models.py --out benchmarks/results/survey-models

joint-vae: the accuracy of its class without labels, with and without the regularizer ``balance``.
lvae, with batch normalization: the KL term of the upper layer and its entries of more than 0.1
nats, against plain layers. vq-vae: the squared error of its reconstructions and the codes in use,
against an autoencoder whose z has as many bits, in bins of equally many training rows. jmvae: the
accuracy of labels from rows, against m2. vib and information-dropout: the accuracy and the
information of z, as its weight grows. aae: the accuracy of classes, and of 30 components without
labels. dae: a probe of noisy rows, against ae. dc-ign: probes of both halves of z. pixel-vae, draw
and vlaae: the bound and the rate, against vae. vae-gan and ali: the quality of draws of the mean of
p(x|z), and a probe of z, against vae. svae: the accuracy of its components on a pinwheel of five
arms, against gmvae-discrete. Bernoulli likelihood, preset paper, means over seeds. The same command
resumes: finished runs are not trained again. OUT gets results.csv and table.md.
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
from latent_terms import prepared, test_rows
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pyro_gmmvae.evaluation import kl_of_units
from pyro_gmmvae.figures.sweep_plots import t_interval
from pyro_gmmvae.files import atomic_write
from pyro_gmmvae.runs import Run, TrainingData, default_config
from pyro_gmmvae.sweeps import markdown
from pyro_gmmvae.sweeps.execute import train_run

Numbers = dict[str, float]
COMMON: dict[str, Any] = {"preset": "paper", "likelihood": "bernoulli", "epochs": 150}
JOINT = {"model": "joint-vae", "labels": 0, "components": 10}
JOINT |= {"capacity": "0:10:1400", "class_capacity": "0:2.3:1400"}
LADDER = {"model": "lvae", "batch_norm": True}
WARM_UP = {"kl_z": "0:1:1000", "kl_h": "0:1:1000"}
BITS = 32
AAE = {"model": "aae", "likelihood": "binomial(16)", "class_adversary": 10}
CLUSTERS = {"labels": 0, "components": 30, "latent_dim": 4}
STEPS = {"latent_dim": 16, "epochs": 60}
HALVES = {"labels": "all", "latent_dim": 16, "likelihood": "binomial(16)", "epochs": 100}
REAL = {"likelihood": "binomial(16)", "epochs": 200}
ALI = {"model": "ali", "epochs": 600, "discriminator_rate": 3.0, "learning_rate": 5e-4}
ARMS = {"data": "pinwheel", "labels": 0, "components": 5, "latent_dim": 2, "hidden": (40, 40)}
ARMS |= {"likelihood": "normal", "activation": "tanh", "learning_rate": 3e-3, "epochs": 200}
ARMS |= {"kl_z": "0:1:3000", "kl_s": "0:1:3000", "label_column": "arm"}
SHAPES = {"data": "shapes", "shapes_rows": 5000, "shapes_size": 16, "epochs": 30}


def of_class(run: Run) -> Numbers:
    numbers = run.evaluate(nll_rows=0, draws=0)
    return {"accuracy of components": numbers["cluster_accuracy"], "NMI": numbers["nmi"]}


@torch.no_grad()
def of_clusters(run: Run) -> Numbers:
    """Accuracy where each component has the most frequent class of its training rows, and NMI."""
    rows = TrainingData.from_config(run.config, run.schema)
    numbers, test = rows.training_rows, rows.split.test
    components = [run.model.classify(rows.tensors(n, run.device)[0]) for n in (numbers, test)]
    own, other = (log_q.argmax(-1).cpu().numpy() for log_q in components)
    y = rows.dataset.y
    named = {k: np.bincount(y[numbers][own == k]).argmax() for k in set(own.tolist())}
    right = [named.get(k) == label for k, label in zip(other.tolist(), y[test], strict=True)]
    nmi = run.evaluate(nll_rows=0, draws=0)["nmi"]
    return {"accuracy of named components": float(np.mean(right)), "NMI": nmi}


def of_labels(run: Run) -> Numbers:
    return {"accuracy": run.evaluate(nll_rows=0, draws=0)["accuracy"]}


def of_bound(run: Run) -> Numbers:
    bounds = run.bounds(test_rows(run), 10)
    return {"ELBO": float(bounds.elbo.mean()), "rate, nats": float(bounds.rate.mean())}


@torch.no_grad()
def probe(run: Run, entries: slice, noise: float = 0.0) -> float:
    """Accuracy of a linear probe of some entries of z, fitted to all labels.

    ``noise`` is the share of the entries of x that are set to 0.
    """
    rows = TrainingData.from_config(run.config, run.schema)
    z, y = [], []
    for numbers in (rows.training_rows, rows.split.test):
        x = rows.tensors(numbers, run.device)[0]
        torch.manual_seed(0)
        z.append(run.embed(torch.where(torch.rand_like(x) < noise, 0.0, x))[:, entries])
        y.append(rows.dataset.y[numbers])
    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(z[0], y[0])
    return float(fitted.score(z[1], y[1]))


def of_noise(run: Run) -> Numbers:
    return {"probe of noisy rows, all labels": probe(run, slice(None), 1 / 3)}


def of_halves(run: Run) -> Numbers:
    return {f"probe of half {i + 1} of z": probe(run, slice(8 * i, 8 * i + 8)) for i in (0, 1)}


def of_draws(run: Run) -> Numbers:
    numbers = run.evaluate(nll_rows=0)
    shown = ("precision", "recall", "density", "coverage")
    return {f"{name} of draws": numbers[name] for name in shown} | {
        "probe, 100 labels": numbers["probe_accuracy"],
        "ELBO": numbers["elbo"],
    }


@torch.no_grad()
def of_information(run: Run) -> Numbers:
    information = float(run.model.eval().noisy(test_rows(run))[1].mean())  # type: ignore[operator]
    return of_labels(run) | {"information of z, nats": information}


def of_upper_layer(run: Run) -> Numbers:
    model, x = run.model.eval(), test_rows(run)
    units = kl_of_units(model.model, model.guide, x, model.latents)
    assert units is not None
    active = sum(unit > 0.1 for unit in units)
    bound = float(run.bounds(x, 10).elbo.mean())
    return {"KL(z), nats": sum(units), "entries of z above 0.1 nats": active, "ELBO": bound}


@torch.no_grad()
def of_codes(run: Run) -> Numbers:
    x = test_rows(run)
    z = torch.as_tensor(run.embed(x))
    error = float((run.model.decode(z) - x).square().mean())
    perplexity = run.evaluate(nll_rows=0, draws=0)["code_perplexity"]
    return {"squared error": error, "codes in use of each 16": perplexity}


@torch.no_grad()
def of_bins(run: Run) -> Numbers:
    """An autoencoder whose z is rounded to the means of bins, of BITS bits in all."""
    rows = TrainingData.from_config(run.config, run.schema)
    train = run.embed(rows.tensors(rows.training_rows, run.device)[0])
    x = test_rows(run)
    z = run.embed(x)
    bins = 2 ** (BITS // z.shape[1])
    for i in range(z.shape[1]):
        edges = np.quantile(train[:, i], np.linspace(0, 1, bins + 1)[1:-1])
        own = np.digitize(train[:, i], edges)
        means = np.array([train[own == number, i].mean() for number in range(bins)])
        z[:, i] = means[np.digitize(z[:, i], edges)]
    return {"squared error": float((run.model.decode(torch.as_tensor(z)) - x).square().mean())}


LINES: dict[str, tuple[dict[str, Any], Callable[[Run], Numbers]]] = {
    "joint-vae": (JOINT, of_class),
    "joint-vae, balance=3": (JOINT | {"balance": 3}, of_class),
    "joint-vae, balance=30": (JOINT | {"balance": 30}, of_class),
    "lvae": (LADDER, of_upper_layer),
    "lvae, top_down=false": (LADDER | {"top_down": False}, of_upper_layer),
    "lvae, warm-up": (LADDER | WARM_UP, of_upper_layer),
    "lvae, top_down=false, warm-up": (
        LADDER | WARM_UP | {"top_down": False},
        of_upper_layer,
    ),
    "vq-vae, 8 groups of 16 codes": ({"model": "vq-vae", "groups": 8, "codes": 16}, of_codes),
    "ae, 16 entries of 2 bits": ({"model": "ae", "latent_dim": 16}, of_bins),
    "ae, 8 entries of 4 bits": ({"model": "ae", "latent_dim": 8}, of_bins),
    "jmvae, all labels": ({"model": "jmvae", "labels": "all"}, of_labels),
    "m2, all labels": ({"model": "m2", "labels": "all", "alpha": 30}, of_labels),
    "jmvae, 100 labels": ({"model": "jmvae", "labels": 100}, of_labels),
    "m2, 100 labels": ({"model": "m2", "labels": 100, "alpha": 30}, of_labels),
    **{
        f"{model}, beta={beta}, all labels": (
            {"model": model, "labels": "all", "beta": beta},
            of_information,
        )
        for model in ("vib", "information-dropout")
        for beta in (0, 1e-3, 0.1)
    },
    "aae, 100 labels": (AAE | {"labels": 100, "alpha": 30}, of_labels),
    "aae, 30 components": (AAE | CLUSTERS, of_clusters),
    "aae, 30 components, balance=30": (AAE | CLUSTERS | {"balance": 30}, of_clusters),
    "vae on shapes": ({**SHAPES, "model": "vae"}, of_bound),
    "pixel-vae on shapes": ({**SHAPES, "model": "pixel-vae"}, of_bound),
    "pixel-vae on shapes, field=1": ({**SHAPES, "model": "pixel-vae", "field": 1}, of_bound),
    "ae, noisy rows": ({"model": "ae"}, of_noise),
    "dae, noisy rows": ({"model": "dae"}, of_noise),
    "vae, halves of z": (HALVES | {"model": "vae"}, of_halves),
    "dc-ign, halves of z": (HALVES | {"model": "dc-ign", "invariance": 10}, of_halves),
    "vlaae, 16 entries of z": (STEPS | {"model": "vlaae"}, of_bound),
    "vlaae, warm-up": (STEPS | {"model": "vlaae", "kl_z": "0:1:500"}, of_bound),
    "vae, draws": (REAL | {"model": "vae"}, of_draws),
    "vae-gan, draws": (REAL | {"model": "vae-gan"}, of_draws),
    "vae-gan, x_adversary=30, draws": (REAL | {"model": "vae-gan", "x_adversary": 30}, of_draws),
    "ali, draws": (REAL | ALI, of_draws),
    "vae, 16 entries of z": (STEPS | {"model": "vae"}, of_bound),
    "draw": (STEPS | {"model": "draw"}, of_bound),
    "draw, attention=5": (STEPS | {"model": "draw", "attention": 5}, of_bound),
    "gmvae-discrete on a pinwheel": ({**ARMS, "model": "gmvae-discrete"}, of_class),
    "svae on a pinwheel": ({**ARMS, "model": "svae"}, of_class),
}


def pinwheel(file: Path, rows: int = 3000, arms: int = 5) -> str:
    """Write Johnson et al.'s pinwheel as a table, and give its path."""
    rng = np.random.default_rng(0)
    arm, x = rng.integers(arms, size=rows), rng.normal(size=(rows, 2)) * [0.3, 0.05] + [1, 0]
    angle = 2 * np.pi * arm / arms + 0.25 * np.exp(x[:, 0])
    cos, sin = np.cos(angle), np.sin(angle)
    columns = {"a": x[:, 0] * cos - x[:, 1] * sin, "b": x[:, 0] * sin + x[:, 1] * cos}
    table = pd.DataFrame({**columns, "arm": [f"arm {k}" for k in arm]})
    atomic_write(file, table.to_csv(index=False).encode())
    return str(file)


@click.command()
@click.option("--seeds", default=5, show_default=True, help="Of weights and batches: 0, 1, ...")
@click.option("--epochs", default=150, show_default=True, help="Epochs of each run.")
@click.option(
    "--line", "chosen", type=click.Choice([*LINES]), multiple=True, help="Others keep their rows."
)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--runs", type=click.Path(path_type=Path), help="Of the fits.  [default: OUT/runs]")
def main(seeds: int, epochs: int, chosen: tuple[str, ...], out: Path, runs: Path | None) -> None:
    """Train the runs that are not there, then write the table."""
    runs = prepared(out, runs)
    rows, results = [], out / "results.csv"
    if chosen and results.is_file():
        kept = pd.read_csv(results)
        rows = kept[~kept["line"].isin(chosen)].to_dict("records")
    for line in chosen or LINES:
        keys, measure = LINES[line]
        for seed in range(seeds):
            own = {**COMMON, "epochs": epochs, "seed": seed, **keys}
            data = str(own.pop("data", "digits"))
            data = pinwheel(runs / "pinwheel.csv") if data == "pinwheel" else data
            config = default_config(data, own)
            name = f"{line.replace(' ', '')}-{epochs}-{seed}"
            for number, value in measure(train_run(config, runs / name)).items():
                rows.append({"line": line, "seed": seed, "number": number, "value": value})
        click.echo(f"{line}: {[round(row['value'], 4) for row in rows if row['line'] == line]}")
    order = list(LINES)
    rows.sort(key=lambda row: order.index(row["line"]))
    write(pd.DataFrame(rows), out)


def write(table: pd.DataFrame, out: Path) -> None:
    atomic_write(out / "results.csv", table.to_csv(index=False).encode())
    lines = []
    for (line, number), rows in table.groupby(["line", "number"], sort=False):
        low, high = t_interval(rows["value"])
        cell = {"model": line, "number": number, "mean": f"{rows['value'].mean():.4g}"}
        lines.append(cell | {"95 %": f"[{low:.4g}, {high:.4g}]", "n": len(rows)})
    command = shlex.join(["python", "benchmarks/survey_models.py", *sys.argv[1:]])
    note = "Of test rows; means over seeds with their 95 % t-interval."
    text = f"{markdown(pd.DataFrame(lines))}\n{note}\n\nMade by `{command}`.\n"
    atomic_write(out / "table.md", text.encode())


if __name__ == "__main__":
    main()
