"""Other packages on the same rows of MNIST: ClustPy, pyroVED and scikit-learn.

    python benchmarks/rivals.py --data-dir DIR --packages FOLDER --out benchmarks/results/rivals

With 100 labels: pyroVED's ssiVAE, scikit-learn's label spreading and self-training. Without
labels: DEC, IDEC, DCN, VaDE and N2D of ClustPy. All get the training rows, labels and test rows of
``gmmvae train`` with the same seed; a clustering is scored under the best one-to-one assignment of
clusters to classes. One process of one thread each.

A package that is not installed here goes to a folder of its own under --packages, without its
dependencies, so that no package of this environment is replaced; a method whose package can't be
installed is left out and named. The same command resumes: a method and seed with a file in OUT is
skipped. OUT gets table.md and table.tex as well. --full takes the epochs that each package
suggests, --quick one.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from table_notes import note_of_marks, public_command

from pyro_gmmvae.cli import run as run_command
from pyro_gmmvae.cli.options import NameList
from pyro_gmmvae.evaluation import clustering_scores
from pyro_gmmvae.files import write_json
from pyro_gmmvae.runs import TrainingData, default_config
from pyro_gmmvae.sweeps import write_tables

HERE = Path(__file__).parent
# 0.28 is the version for torch 2.13, 0.29 that for 2.14
TORCHVISION = f"torchvision==0.{int(torch.__version__.split('.')[1]) + 15}.*"


@dataclass(frozen=True)
class Rival:
    """A method of another package.

    Attributes:
        package: its name on PyPI.
        requirements: for pip, beside what this project asks for; none: it is here already.
        labels: that it gets; 0: a clustering.
        epochs: of each stage, in a run of minutes.
        full: the same as its authors suggest.
        published: the figure of a paper, with its source.
    """

    package: str
    requirements: tuple[str, ...] = ()
    labels: int = 0
    epochs: tuple[int, ...] = ()
    full: tuple[int, ...] = ()
    published: str = ""


CLUSTPY = ("clustpy==0.0.3", TORCHVISION, "tqdm")
RIVALS: Mapping[str, Rival] = {
    "ssiVAE": Rival("pyroved", ("pyroved==0.3.0", TORCHVISION), 100, (20,), (200,)),
    "label spreading": Rival("scikit-learn", labels=100),
    "self-training": Rival("scikit-learn", labels=100),
    **{
        name: Rival("clustpy", CLUSTPY, 0, (15, 15), (100, 150), published)
        for name, published in {
            "DEC": "0.843 (arXiv:1511.06335 †)",
            "IDEC": "",
            "DCN": "",
            "VaDE": "0.9446, best of several (arXiv:1611.05148 †)",
        }.items()
    },
    "N2D": Rival("clustpy", CLUSTPY, 0, (15,), (100,)),
}


def install(rival: Rival, packages: Path) -> Path | None:
    """The folder of a package, filled by pip where it is not there; None where pip failed."""
    folder = packages / rival.package
    done = folder / ".installed"
    if rival.requirements and not done.exists():
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target"]
        found = subprocess.run(
            [*command, str(folder), *rival.requirements], capture_output=True, check=False
        )
        if found.returncode:
            return None
        done.touch()
    return folder


def versions(rival: Rival, folder: Path) -> dict[str, str]:
    """Versions of the package and of what it runs on."""
    names = {one.name.lower(): one.version for one in distributions(path=[str(folder)])}
    return {
        name: names.get(name) or version(name)
        for name in dict.fromkeys((rival.package, "torch", "scikit-learn"))
    }


def measure(name: str, seed: int, rows: Path, folder: Path, epochs: tuple[int, ...]) -> Any:
    """Predictions of the test rows by one fit, and its seconds."""
    answers = rows.with_name(f"{file_name(name, seed)}.npz")
    env = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    started = time.monotonic()
    command = [sys.executable, str(HERE / "rival_fits.py"), name, str(rows), str(answers)]
    found = subprocess.run(
        [*command, str(seed), *map(str, epochs)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode:
        last = found.stderr.strip().splitlines()
        raise click.ClickException(f"{name}: {last[-1] if last else found.returncode}")
    seconds = time.monotonic() - started
    predicted = np.load(answers)["predicted"]
    answers.unlink()
    return predicted, seconds


def file_name(name: str, seed: int) -> str:
    return f"{re.sub('[^a-z0-9]+', '-', name.lower())}-{seed}"


def write_rows(keys: Mapping[str, Any], file: Path) -> "np.ndarray[Any, Any]":
    """Write the rows of a run for a process; returns the classes of the test rows."""
    config = default_config("mnist", keys)
    data = TrainingData.from_config(config)
    x, y = data.tensors(data.split.train)
    named = np.isin(data.split.train, data.split.labelled)
    test_x, test_y = data.tensors(data.split.test)
    np.savez(
        file,
        x=x.flatten(1).numpy(),
        y=np.where(named, y.numpy(), -1),
        test_x=test_x.flatten(1).numpy(),
    )
    return test_y.numpy()


def report(out: Path) -> None:
    """Write the table of all files in a folder."""
    found = [json.loads(file.read_text("utf-8")) for file in sorted(out.glob("*.json"))]
    lines = []
    for name, rival in RIVALS.items():
        of_line = [one for one in found if one["method"] == name]
        for epochs in dict.fromkeys(tuple(one["epochs"]) for one in of_line):
            group = [one for one in of_line if tuple(one["epochs"]) == epochs]
            scores = np.array([one["accuracy"] for one in group])
            spread = f" ± {scores.std(ddof=1):.4f}" if len(scores) > 1 else ""
            lines.append(
                {
                    "method": name,
                    "package": f"{rival.package} {group[0]['versions'][rival.package]}",
                    "labels": str(rival.labels),
                    "accuracy": f"{scores.mean():.4f}{spread}",
                    "n": str(len(scores)),
                    "epochs": " + ".join(map(str, epochs)) or "-",
                    "seconds": f"{np.mean([one['seconds'] for one in group]):.0f}",
                    "published": rival.published,
                }
            )
    used = " ".join(f"{k}={v}" for k, v in found[0]["versions"].items() if k != "clustpy")
    table = pd.DataFrame(lines)
    notes = [
        "Test accuracy; of a clustering (0 labels) under the best one-to-one assignment. One "
        "thread; the seconds are of the whole process. Epochs: of the autoencoder, then of the "
        "clustering. The published figures took more epochs.",
        *note_of_marks(table),
        f"`{public_command('rivals.py')}`; {used}",
    ]
    write_tables(table, out, notes)


def missing_fits(
    chosen: list[str], seeds: int, packages: Path, out: Path
) -> Iterator[tuple[str, int, Path]]:
    """Methods, seeds and folders of packages of the fits that OUT lacks."""
    for name in chosen:
        missing = [n for n in range(seeds) if not (out / f"{file_name(name, n)}.json").exists()]
        folder = install(RIVALS[name], packages) if missing else None
        if missing and folder is None:
            wanted = RIVALS[name].requirements[0]
            click.echo(f"{name} is left out: pip can't install {wanted}", err=True)
        elif folder is not None:
            yield from ((name, seed, folder) for seed in missing)


@click.command()
@click.option("--data-dir", required=True, help="Folder of MNIST's files.")
@click.option("--packages", type=click.Path(path_type=Path), required=True, help="For pip.")
@click.option("--methods", type=NameList(), help=f"Some of {', '.join(RIVALS)}.")
@click.option("--seeds", default=1, show_default=True, help="Seeds 0, 1, ...")
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1), help="Fits at once.")
@click.option("--full", is_flag=True, help="As many epochs as the packages suggest.")
@click.option("--quick", is_flag=True, help="One epoch.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(
    data_dir: str,
    packages: Path,
    methods: tuple[str, ...] | None,
    seeds: int,
    jobs: int,
    full: bool,
    quick: bool,
    out: Path,
) -> None:
    """Measure the fits that OUT lacks, then write the table."""
    chosen = list(methods or RIVALS)
    if unknown := set(chosen) - set(RIVALS):
        raise click.UsageError(f"--methods {', '.join(unknown)}: choose from {', '.join(RIVALS)}")
    out.mkdir(parents=True, exist_ok=True)
    work = packages / "rows"
    work.mkdir(parents=True, exist_ok=True)

    def one(name: str, seed: int, folder: Path) -> None:
        rival = RIVALS[name]
        epochs = rival.full if full else tuple(1 for _ in rival.epochs) if quick else rival.epochs
        rows = work / f"{file_name(name, seed)}-rows.npz"
        held_out = {"labels": 10, "validation": 0} if quick else {"labels": 100}
        truth = write_rows({"data_dir": data_dir, "seed": seed, **held_out}, rows)
        predicted, seconds = measure(name, seed, rows, folder, epochs)
        rows.unlink()
        if rival.labels:
            accuracy = float(np.mean(predicted == truth))
        else:
            accuracy = clustering_scores(predicted, truth)["cluster_accuracy"]
        write_json(
            out / f"{file_name(name, seed)}.json",
            {
                "method": name,
                "seed": seed,
                "labels": rival.labels,
                "accuracy": accuracy,
                "test_rows": len(truth),
                "epochs": list(epochs),
                "seconds": round(seconds, 1),
                "versions": versions(rival, folder),
            },
        )
        click.echo(f"{name}, seed {seed}: accuracy {accuracy:.4f}, {seconds:.0f} s", err=True)

    with ThreadPoolExecutor(jobs) as pool:
        tasks = [pool.submit(one, *task) for task in missing_fits(chosen, seeds, packages, out)]
        failures = [str(error) for task in tasks if (error := task.exception())]
    if any(out.glob("*.json")):
        report(out)
    if failures:
        raise click.ClickException("; ".join(failures))


if __name__ == "__main__":
    run_command(main)
