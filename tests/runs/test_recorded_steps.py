"""The step of each configuration is one CUDA graph, on the device of --device.

Models, objectives and guides are those of the measurements on a GPU; options of data, labels,
augmentation and objective are keys of runs. A new option belongs into one of the tables.
"""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_gmmvae.data import ColumnTable
from pyro_gmmvae.networks import ACTIVATIONS
from pyro_gmmvae.objectives import LATENT_TERMS, REGULARIZERS
from pyro_gmmvae.runs import default_config
from pyro_gmmvae.runs.assembly import build
from pyro_gmmvae.runs.build import resolve
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.runs.ensemble import member_config
from pyro_gmmvae.training import Callback, Fit
from pyro_gmmvae.training.cuda_graphs import WARM_UP
from tests.runs.test_sequences import AUGMENTATIONS, keys
from tests.runs.test_sequences import folder as skeletons  # noqa: F401 - a fixture

ROOT = Path(__file__).parents[2]
Keys = dict[str, Any]

benchmarks = pytest.MonkeyPatch()
benchmarks.syspath_prepend(ROOT / "benchmarks")
CASES = importlib.import_module("gpu_smoke").cases()
BUILD = importlib.import_module("gpu_fits").build
benchmarks.undo()

# all batches have 30 rows that are no balanced labelled ones
DIGITS: Keys = {"labels": 30, "test": 1500, "validation": 57, "batch_size": 40}
AUGMENTED: Keys = {"augment": "affine", "reconstruct": "original"}
ON_DIGITS: dict[str, Keys] = {
    **{f"preset {name}": {"preset": name} for name in ("paper", "permutation-invariant", "best")},
    "preset cluster": {"preset": "cluster", "init": "random", "labelled_per_batch": 0},
    **{name: {**AUGMENTED, name: 2, "learn_prior": True} for name in REGULARIZERS},
    **{name: {name: "0.5:2:3", "latent_dim": 4} for name in LATENT_TERMS},
    "scheduled": {"alpha": "0:30:3", "balance": "9:1:3", "kl_z": "0:1:3", "kl_s": "0:1:3"},
    "scheduled rate of m2-gumbel": {"model": "m2-gumbel", "temperature": "1:.5:3", "kl_y": "0:1:3"},
    "joint-vae, capacities": {
        "model": "joint-vae",
        "capacity": "0:5:3",
        "class_capacity": "0:2:3",
    },
    "lvae, two plain layers": {"model": "lvae", "top_down": False},
    "draw, attention": {"model": "draw", "attention": 3},
    "unlabelled": {"labels": 0, "labelled_per_batch": 0},
    "labelled rows alone": {"use_unlabelled": False, "labels": 240},
    "classifier alone": {"elbo_weight": 0},
    "extra components": {"extra_components": 3, "learn_prior": True},
    "class prior": {"class_prior": [0.19, *[0.09] * 9]},
    **{
        f"{model} with prior {prior}": {"model": model, "prior": prior, "prior_components": 5}
        for model in ("vae", "m1")
        for prior in ("mixture", "vamp", "flow")
    },
    **{
        f"reconstruct {name}": {"augment": "affine", "reconstruct": name}
        for name in ("separate", "augmented")
    },
    "half of the rows twice": {"augment": "affine", "class_rows": 0.5},
    "particles": {"objective": "iwae", "particles": 3},
    "labelled_elbo": {"labelled_elbo": 3},
    "pseudo-labels": {"pseudo_threshold": 0.3, "pseudo_balance": True, "pseudo_alpha": 2},
    **{
        likelihood: {"likelihood": likelihood}
        for likelihood in (
            "bernoulli",
            "continuous-bernoulli",
            "normal",
            "binomial(16)",
            "categorical(17)",
            "discretized-logistic(17)",
        )
    },
    **{
        f"binarize {how}": {"binarize": how, "likelihood": "bernoulli"}
        for how in ("threshold", "dynamic")
    },
    **{name: {"activation": name} for name in ACTIVATIONS},
    "noisy layers": {"batch_norm": True, "dropout": 0.2, "input_noise": 0.1, "skip": True},
    "decay of weights": {"weight_decay": 0.1, "clip_norm": 0, "decay": "constant"},
    "conv": {"network": "conv", "batch_norm": True},
    "conv-mlp": {"network": "conv-mlp"},
    "bf16": {"precision": "bf16"},
    "f64": {"precision": "f64"},
    "deterministic": {"deterministic": True, **AUGMENTED},
}

TABLE: Keys = {
    "labels": 12,
    "test": 20,
    "validation": 20,
    "batch_size": 20,
    "labelled_per_batch": 4,
}
NOT_REAL = ("count", "blood", "grade", "smokes", "site", "weight")
GIVEN: Keys = {"covariates": "site,age"}
MODELS_OF_TABLES = (
    "gmmvae",
    "gmvae-discrete",
    "vae",
    "ae",
    "m1",
    "m2",
    "m2-gumbel",
    "adgm",
    "sdgm",
    "joint-vae",
    "lvae",
    "vq-vae",
    "jmvae",
    "vib",
    "information-dropout",
    "aae",
    "factor-vae",
    "svae",
    "dc-ign",
)
ON_TABLE: dict[str, Keys] = {
    **{f"{model}{', covariates' if given else ''}": {"model": model, **given}
       for model in MODELS_OF_TABLES for given in ({}, GIVEN)},
    **{f"{name}, covariates": {"augment": name, **GIVEN} for name in ColumnTable.augmentations},
    **{name: {"model": name, "covariates": "site"} for name in ("fader", "vfae")},
    "swap": {"augment": "swap", "consistency": 3},
    "vat": {"vat": 1, "column": ",".join(f"{name}=skip" for name in NOT_REAL)},
    "weights": {"weight_column": "weight"},
    "soft labels": {"label_column": "none"},
    "bf16, table": {"precision": "bf16", **GIVEN},
}  # fmt: skip

ON_SKELETONS: dict[str, Keys] = {
    **{f"augment {name}": {"augment": name} for name in AUGMENTATIONS},
    **{f"features {name}": {"features": name, "augment": "auto"}
       for name in ("joints", "velocities", "bones", "ratios", "angles")},
    "all statistics": {"statistics": "mean,std,first,last,min,max", "augment": "mirror"},
    "pseudo-labels of sequences": {"pseudo_threshold": 0.3, "augment": "auto"},
    "temporal": {"network": "temporal", "statistics": "", "features": "joints", "augment": "auto"},
    "skeleton-graph": {"network": "skeleton-graph", "statistics": "", "features": "joints",
                       "augment": "auto"},
    "two factors": {"model": "gmmvae-factors", "augment": "auto"},
    "vae": {"model": "vae", "augment": "auto"},
}  # fmt: skip


class Lines(Callback):
    """Keeps the lines that a fit logs."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def on_start(self, about: str) -> None:
        self.lines.append(about)


@pytest.fixture(autouse=True)
def _device(device: torch.device) -> None:
    if device.type != "cuda":
        pytest.skip("only CUDA records graphs: --device cuda, or scripts/test --pretend-cuda")


def assert_recorded(fit: Fit) -> None:
    """Take steps until each kind of step has been recorded and replayed."""
    log = Lines()
    fit.callbacks = [log]
    with fit.switches():
        assert fit.prepare() == "engine: captured"
        x, y = next(iter(fit.batches.epoch()))
        labeler = fit.pseudo_labeler
        kinds = 1
        if labeler is not None:
            labeler.from_step, kinds = WARM_UP + 2, 2
        for _ in range(kinds * (WARM_UP + 2)):
            fit.step(x, y)
        fit.optimizer.check()
        fit.module.eval()
        assert np.isfinite([*fit.validate().values()]).all()
    assert log.lines == []
    assert fit.cuda_graph_step is not None
    assert not fit.cuda_graph_step.failed
    assert len(fit.cuda_graph_step._launches) == kinds
    assert all(t.is_cuda for t in (*fit.module.parameters(), *fit.module.buffers()))
    assert all(bool(parameter.isfinite().all()) for parameter in fit.parameters)


@pytest.mark.parametrize("name", CASES)
def test_models_objectives_and_guides(name: str, device: torch.device) -> None:
    assert_recorded(BUILD(device, **{**CASES[name], "rows": 32}))  # batches of one size


def fit_of(data: str, given: Keys, device: torch.device) -> Fit:
    """A small fit of a configuration."""
    sizes = {"hidden": "8", "channels": "4,4", "latent_dim": 2, "labelled_per_batch": 10}
    config = default_config(data, {**sizes, "engine": "captured", **given, "epochs": 9})
    config = resolve(member_config(config, 1))
    torch.manual_seed(0)
    return build(config, TrainingData.from_config(config), device).fit()


@pytest.mark.parametrize("name", ON_DIGITS)
def test_keys_of_digits(name: str, device: torch.device) -> None:
    assert_recorded(fit_of("digits", DIGITS | ON_DIGITS[name], device))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    """120 rows with columns of every kind, missing cells and votes on two classes."""
    random = np.random.default_rng(0)
    y = np.arange(120) % 2
    columns: dict[str, Any] = {
        "height": y + random.normal(size=120),
        "count": random.poisson(3 + y),
        "blood": random.choice([*"abo"], 120),
        "grade": random.choice(["low", "mid", "high"], 120),
        "smokes": random.choice(["no", "yes"], 120),
        "site": random.choice(["north", "south"], 120),
        "age": random.normal(50, 10, 120),
    }
    frame = pd.DataFrame(columns)
    frame.loc[::7, ["height", "blood", "age"]] = None
    frame = frame.assign(label=np.array(["well", "ill"])[y], weight=1 + y)
    file = tmp_path_factory.mktemp("table") / "rows.csv"
    frame.to_csv(file, index=False)
    votes = frame.drop(columns="label").assign(p_well=0.8 - 0.6 * y, p_ill=0.2 + 0.6 * y)
    votes.to_csv(file.with_name("votes.csv"), index=False)
    return str(file)


@pytest.mark.parametrize("name", ON_TABLE)
def test_keys_of_tables(name: str, table: str, device: torch.device) -> None:
    given = {"column": "grade=ordinal(low<mid<high)", **TABLE, **ON_TABLE[name]}
    if name == "soft labels":
        table = table.replace("rows.csv", "votes.csv")
        del given["label_column"]
    assert_recorded(fit_of(table, given, device))


@pytest.mark.parametrize("name", ON_SKELETONS)
def test_keys_of_skeletons(name: str, skeletons: Path, device: torch.device) -> None:  # noqa: F811
    given = {**keys(skeletons), "engine": "captured", **ON_SKELETONS[name]}
    if given.get("model") == "vae":
        given = {k: v for k, v in given.items() if not k.startswith("pseudo")}
    assert_recorded(fit_of("skeleton", given, device))
