"""Learning curves: the error of validation rows against seconds, of runs that were kept.

    gmmvae ablate --data mnist --data-dir DIR --presets authors-m2 --models m2,m1m2 --labels 100 \\
        --seeds 1 --minutes 10 --keep-runs --out WORK
    python benchmarks/learning_curves.py WORK --out benchmarks/results/learning-curves

OUT/curves.csv gets a row per epoch of each run under WORK/runs. Curves of earlier calls stay, and
a curve of the same model, preset, labels, seed and settings is replaced. OUT also gets table.md,
table.tex and curves.png. Without WORK they are written again.

For presets with a constant learning rate the table extrapolates the error to the epochs of the
preset, as a power of the epochs that is fitted to the second half of the curve. It is a guess, not
a measurement.
"""

import json
from pathlib import Path

import click
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pyro_gmmvae.cli import run as run_command
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.figures.style import COLORS, STYLES, new_figure, tidy
from pyro_gmmvae.runs import default_config, resolve
from pyro_gmmvae.sweeps import write_tables

KEYS = ["data", "model", "preset", "labels", "seed", "settings"]
FEWEST_POINTS = 6  # of a curve that is extrapolated


def read_curve(folder: Path) -> pd.DataFrame:
    """The curve of a run folder: KEYS, epoch, seconds and error.

    Raises:
        GMMVAEError: a run without validation accuracies.
    """
    config = json.loads((folder / "config.json").read_text())["config"]
    history = pd.read_csv(folder / "history.csv")
    if "val_accuracy" not in history:
        raise GMMVAEError(f"{folder} has no accuracies of validation rows")
    return pd.DataFrame(
        {
            "data": config["data"],
            "model": config["model"],
            "preset": config["preset"],
            "labels": str(config["labels"]),
            "seed": config["seed"],
            "settings": _settings(config),
            "epoch": history["epoch"],
            "seconds": history["seconds"].round(1),
            "error": (1 - history["val_accuracy"]).round(5),
        }
    )


def _settings(config: dict[str, object]) -> str:
    """The keys that differ from those of the preset, and of the guide and objective."""
    keys = {key: config[key] for key in ("data", "preset", "model")}
    preset = default_config(str(config["data"]), keys)
    chosen = {key: config[key] for key in ("guide", "objective")}
    same = resolve(preset.replace(**chosen)).model_dump(mode="json")
    usual = resolve(preset).model_dump(mode="json")
    other = ("data", "model", "preset", "labels", "seed", "data_dir", "epochs", "minutes")
    changed = {k: v for k, v in config.items() if k not in other and same.get(k, v) != v}
    changed |= {k: v for k, v in chosen.items() if usual[k] != v}
    return " ".join(f"{key}={value}" for key, value in sorted(changed.items()))


def extrapolated(curve: pd.DataFrame, epochs: int) -> float | None:
    """The error after some epochs, as a power of the epochs.

    None if the curve is too short, or rises at its end.
    """
    late = curve[(curve["epoch"] > curve["epoch"].max() / 2) & (curve["error"] > 0)]
    if len(late) < FEWEST_POINTS or epochs <= curve["epoch"].max():
        return None
    slope, start = np.polyfit(np.log(late["epoch"]), np.log(late["error"]), 1)
    return float(np.exp(start + slope * np.log(epochs))) if slope < 0 else None


def table_of(curves: pd.DataFrame) -> pd.DataFrame:
    """A line per curve."""
    lines = []
    for keys, curve in curves.groupby(KEYS, sort=False):
        named = dict(zip(KEYS, keys, strict=True))
        preset = {"data": named["data"], "preset": named["preset"], "model": named["model"]}
        config = default_config(str(named["data"]), preset)
        epochs, last = config.epochs or 0, curve.iloc[-1]
        # a rate that has fallen to 0 ends the curve
        guess = extrapolated(curve, epochs) if config.decay == "constant" else None
        lines.append(
            {
                **{key: str(value) for key, value in named.items() if key != "data"},
                "minutes": f"{last['seconds'] / 60:.1f}",
                "epochs": f"{last['epoch']:.0f}",
                "error": f"{last['error']:.4f}",
                "lowest error": f"{curve['error'].min():.4f}",
                "epochs of the preset": str(epochs),
                "extrapolated error": "-" if guess is None else f"{guess:.4f}",
            }
        )
    return pd.DataFrame(lines)


def draw(curves: pd.DataFrame) -> Figure:
    """Error against seconds, both logarithmic; a color per model, a line style per preset."""
    figure = new_figure(7, 4.4)
    axis = figure.subplots()
    models, presets = list(curves["model"].unique()), list(curves["preset"].unique())
    for keys, curve in curves.groupby(KEYS, sort=False):
        named = dict(zip(KEYS, keys, strict=True))
        first = named["seed"] == curves.loc[_same(curves, named), "seed"].min()
        axis.plot(
            curve["seconds"] / 60,
            100 * curve["error"],
            color=COLORS[models.index(named["model"]) % len(COLORS)],
            linestyle=STYLES[presets.index(named["preset"]) % len(STYLES)],
            linewidth=1.2,
            label=f"{named['model']}, {named['preset']}" if first else None,
        )
    axis.set(xscale="log", yscale="log", xlabel="minutes of training")
    axis.set_ylabel("error of validation rows, %")
    axis.set_xticks([0.5, 1, 2, 5, 10, 20, 40], labels=["0.5", "1", "2", "5", "10", "20", "40"])
    axis.set_yticks([1, 2, 5, 10, 20, 50], labels=["1", "2", "5", "10", "20", "50"])
    axis.minorticks_off()
    tidy(axis)
    axis.legend(frameon=False, fontsize=7)
    return figure


def _same(curves: pd.DataFrame, named: dict[str, object]) -> "pd.Series[bool]":
    return (curves["model"] == named["model"]) & (curves["preset"] == named["preset"])


@click.command()
@click.argument("work", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(work: Path | None, out: Path) -> None:
    """Add the curves of the runs under WORK, then write the table and the picture."""
    file = out / "curves.csv"
    found = [pd.read_csv(file, dtype={"labels": str, "settings": str})] if file.exists() else []
    folders = sorted(work.glob("runs/*/")) if work else []
    found += [read_curve(folder) for folder in folders]
    if not found:
        raise GMMVAEError(f"no curves: {work or out} has no runs that were kept")
    curves = pd.concat([part.assign(call=call) for call, part in enumerate(found)])
    curves = curves.fillna({"settings": ""})
    curves = curves[curves["call"] == curves.groupby(KEYS)["call"].transform("max")]
    curves = curves.drop(columns="call").sort_values([*KEYS, "epoch"], kind="stable")
    out.mkdir(parents=True, exist_ok=True)
    curves.to_csv(file, index=False)
    notes = [
        "Errors are shares of the validation rows. The extrapolated error, for presets with a "
        "constant learning rate, is a guess: the second half of the curve as a power of the "
        "epochs, after those of the preset.",
        "`python benchmarks/learning_curves.py WORK --out OUT`",
    ]
    write_tables(table_of(curves), out, notes)
    draw(curves).savefig(out / "curves.png", dpi=130)


if __name__ == "__main__":
    run_command(main)
