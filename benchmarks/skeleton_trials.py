"""Trials with more than a fit: joints lost at test time, and people without labels."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from pyro_gmmvae.config import Config
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.evaluation import accuracy
from pyro_gmmvae.files import read_json
from pyro_gmmvae.runs import Run, TrainingData, train
from pyro_gmmvae.skeletons import read_ucalgary_gait, write_tracks

SHARES = (0.0, 0.1, 0.3, 0.5)
STRANGERS = 5


def trained(config: Config, folder: Path) -> Run:
    """A run that came to its end.

    Raises:
        GMMVAEError: it was stopped by a signal; its row would be of a shorter fit.
    """
    done = train(config, folder)
    outcome = read_json(folder / "metrics.json")["outcome"]
    if outcome != "complete":
        raise GMMVAEError(f"interrupted ({outcome}); the same command resumes it")
    return done


def dropped_joints(config: Config, folder: Path) -> list[dict[str, Any]]:
    """Accuracy if a share of joints is lost over whole test sequences.

    The config is trained with joints hidden (``augment=drop``) and without; lost joints are
    missing (the likelihood leaves them out, the encoder gets a mask), or are set to the root, 0.
    """
    found = []
    for name, changes in (("trained with drop", {}), ("trained without", {"augment": None})):
        done = trained(config.replace(**changes), folder / name)
        rows = TrainingData.from_config(done.config)
        for share in SHARES:
            for way in ("masked", "zero-filled"):
                windows, sequences = _accuracy(done, rows, share, way, config.seed)
                found.append(
                    {
                        "variant": f"{name}, {way}, {share:.0%}",
                        "accuracy": sequences,
                        "window_accuracy": windows,
                    }
                )
    return found


def _accuracy(
    done: Run, rows: TrainingData, share: float, way: str, seed: int
) -> tuple[float | None, float | None]:
    """Accuracy of test windows and sequences, with a share of each sequence's joints lost."""
    groups, numbers = rows.groups, rows.split.test
    present, place = groups.among(numbers)
    windows = rows.dataset.x[numbers].copy()
    lost = np.random.default_rng(seed).random((len(present), windows.shape[2])) < share
    hidden = np.broadcast_to(lost[place][:, None, :, None], windows.shape)
    windows[hidden] = np.nan if way == "masked" else 0.0
    log_probs = done.log_probs(torch.from_numpy(done.schema.featurize(windows)))
    assert log_probs is not None
    y = rows.dataset.y[numbers]
    pooled = groups.pool(log_probs, numbers)
    return accuracy(log_probs, y), accuracy(pooled, groups.first(y, numbers))


def with_strangers(config: Config, folder: Path, extra: int) -> list[dict[str, Any]]:
    """Leave five people unnamed: their training sequences have no label, and their test
    sequences are to be detected as unknown people's, and clustered.

    The data goes through plain files, as a user's does.
    """
    assert config.data_dir is not None
    found = read_ucalgary_gait(Path(config.data_dir))
    people = sorted({one.person for one in found})
    strangers = set(np.random.default_rng(config.seed).choice(people, STRANGERS, replace=False))
    lines = []
    for one in found:
        part = "test" if one.tags["run"] in ("2", "4", "6") else "train"
        named = part == "test" or one.person not in strangers
        lines.append((one.track.sequence, one.person if named else "", part))
    table = pd.DataFrame(lines, columns=["sequence", "person", "split"])
    table.to_csv(folder / "people.csv", index=False)
    write_tracks([one.track for one in found], folder / "tracks.npz")
    settings = config.replace(
        data="skeleton",
        data_dir=None,
        protocol=None,
        tracks=str(folder / "tracks.npz"),
        labels_file=str(folder / "people.csv"),
        layout="kinect_18",
        extra_components=extra,
    )
    numbers = trained(settings, folder / "run").evaluate(samples=2, nll_rows=100)
    # the columns of the results keep their names
    unknown = {
        f"stranger_{key.removeprefix('unknown_')}": value
        for key, value in numbers.items()
        if key.startswith("unknown_") and key != "unknown_sequences"
    }
    return [
        unknown
        | {"strangers": numbers["unknown_sequences"]}
        | {
            "accuracy": numbers["sequence_accuracy"],
            "window_accuracy": numbers["accuracy"],
            "elbo": numbers["elbo"],
            "test_sequences": numbers["test_sequences"],
        }
    ]
