"""A labelled fit that starts from a run without labels."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_gmmvae.config import Config
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.runs import Run, default_config, train
from pyro_gmmvae.runs.start_from_run import match
from pyro_gmmvae.training import Callback

NETWORKS: dict[str, Any] = {"hidden": (32,), "latent_dim": 2}
CENTERS = np.random.default_rng(0).normal(size=(3, 12))
COLUMNS = list("abcdefghijkl")


class Lines(Callback):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def on_start(self, about: str) -> None:
        self.lines.append(about)


def table(rows: int, seed: int, labels: int | None = None) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    y = np.arange(rows) % 3
    x = pd.DataFrame(CENTERS[y] + 0.3 * generator.normal(size=(rows, 12)), columns=COLUMNS)
    x["site"] = np.array(["north", "south", "west"])[y]
    x.loc[generator.random(rows) < 0.1, "site"] = ""
    if labels is not None:
        names = np.array(["red", "green", "blue"], object)[y]
        x["color"] = np.where(np.arange(rows) < labels, names, "")
    return x


def labelled(data: Path, **more: Any) -> Config:
    keys = {"label_column": "color", "epochs": 2, "learning_rate": 1e-3, "engine": "svi", "cv": 0}
    return default_config(
        str(data), {"preset": "paper", "validation": 0.2, "test": 0, **keys, **more}
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables, and a run of three clusters without labels."""
    folder = tmp_path_factory.mktemp("start")
    table(300, 0).to_csv(folder / "many.csv", index=False)
    table(300, 1, 30)[["site", *COLUMNS[::-1], "color"]].to_csv(folder / "few.csv", index=False)
    table(300, 1, 30).to_csv(folder / "few_in_order.csv", index=False)
    keys = {"labels": 0, "components": 3, "init": "kmeans", "epochs": 20, "test": 0, "cv": 0}
    config = default_config(
        str(folder / "many.csv"), {"preset": "paper", "engine": "svi", **NETWORKS, **keys}
    )
    train(config, folder / "clusters")
    return folder


def test_a_fit_from_clusters_is_better_from_the_first_epoch(folder: Path) -> None:
    lines = Lines()
    started = train(
        labelled(folder / "few.csv", init=str(folder / "clusters")),
        folder / "started",
        callbacks=[lines],
    )
    train(labelled(folder / "few_in_order.csv", **NETWORKS), folder / "random")
    of_start, of_random = (
        pd.read_csv(folder / name / "history.csv").iloc[0] for name in ("started", "random")
    )
    assert of_start["val_elbo"] > of_random["val_elbo"] + 2
    assert of_start["val_accuracy"] > 0.9
    assert started.config.hidden == (32,)  # as the clusters have it, and not as the preset
    line = next(line for line in lines.lines if line.startswith("init: "))
    assert "parameters of" in line
    # the first components are the classes, whatever the numbers of the clusters
    assert started.class_names() == ["blue", "green", "red"]
    base = Run.load(folder / "clusters")
    assert started.schema.kind == base.schema.kind
    assert np.array_equal(started.schema.transform.shift, base.schema.transform.shift)


def test_further_components_are_the_clusters_that_are_left(folder: Path) -> None:
    """One class of three has labels: the other two clusters are components beyond it."""
    two = table(300, 1, 30)
    two.loc[two["color"] == "red", "color"] = ""
    two.to_csv(folder / "two.csv", index=False)
    config = labelled(folder / "two.csv", init=str(folder / "clusters"), extra_components=1)
    run = train(config, folder / "two")
    found = run.predict(folder / "two.csv")["label"].to_numpy()
    truth = np.array(["component_2", "green", "blue"], object)[np.arange(300) % 3]
    assert (found == truth).mean() > 0.9


def test_a_run_goes_on_without_the_run_it_started_from(folder: Path) -> None:
    from pyro_gmmvae.runs import resume

    shutil.copytree(folder / "clusters", folder / "gone")
    train(labelled(folder / "few.csv", init=str(folder / "gone")), folder / "goes_on")
    shutil.rmtree(folder / "gone")
    assert len(pd.read_csv(resume(folder / "goes_on", epochs=3).path / "history.csv")) == 3


def test_matching_is_one_to_one_where_it_can_be() -> None:
    probs = np.array([[0.6, 0.4, 0], [0.55, 0.45, 0], [0.9, 0.1, 0], [0, 0.1, 0.9], [0.9, 0.1, 0]])
    y = np.array([0, 0, 1, -1, -1])
    found = match(np.log(probs + 1e-9), y, classes=2, components=3)
    assert found.tolist() == [1, 0, 2]


def test_a_class_can_be_without_a_cluster() -> None:
    probs = np.eye(2)[[0, 0, 1, 1]]
    found = match(np.log(probs + 1e-9), np.array([0, 2, 1, -1]), classes=3, components=4)
    assert sorted(found.tolist()) == [-1, -1, 0, 1]
    assert found[1] == 1


def test_a_model_without_classes_takes_all_weights(folder: Path) -> None:
    """With another objective, as an IWAE that starts from a VAE; structural keys are kept."""
    data = str(folder / "many.csv")
    common = {"preset": "paper", "labels": 0, "epochs": 1, "test": 0, "engine": "svi"}
    mixture = {"model": "vae", "prior": "mixture", "prior_components": 4}
    train(default_config(data, {**common, **NETWORKS, **mixture}), folder / "vae")
    lines = Lines()
    changes = {"objective": "iwae", "particles": 3, "learning_rate": 1e-12}
    init = {"init": str(folder / "vae")}
    run = train(
        default_config(data, {**common, **changes, **init}), folder / "iwae", callbacks=[lines]
    )
    assert (run.config.model, run.config.objective, run.config.get("prior_components")) == (
        "vae",
        "iwae",
        4,
    )
    before = dict(Run.load(folder / "vae").model.named_parameters())
    after = dict(run.model.named_parameters())
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    line = next(line for line in lines.lines if line.startswith("init: "))
    assert f"init: {len(before)} of {len(before)} parameters" in line
    assert "components" not in line
    with pytest.raises(GMMVAEError, match="'vae' has no classes; give the folder"):
        train(default_config(data, {**common, "model": "vae", "init": "kmeans"}), folder / "x")


def test_a_preset_for_classes_does_not_hinder_a_start_without_classes(folder: Path) -> None:
    """Augmented digits: nothing is separate where no class is."""
    common = {"epochs": 1, "engine": "svi"}
    keys = {**common, **NETWORKS, "model": "vae", "preset": "paper"}
    train(default_config("digits", keys), folder / "digits")
    init = {"init": str(folder / "digits")}
    run = train(default_config("digits", {**common, **init, "preset": "best"}), folder / "best")
    assert (run.config.model, run.config.reconstruct) == ("vae", "augmented")
    # the objective of a VAE does not suit M1+M2
    run = train(default_config("digits", {**common, **init, "model": "m1m2"}), folder / "m1m2")
    assert run.config.objective == "trace"


def test_weights_of_other_classes_are_not_taken_by_their_number(folder: Path) -> None:
    data = table(90, 0, 90)
    data.to_csv(folder / "three.csv", index=False)
    data.replace({"color": {"red": "yellow"}}).to_csv(folder / "yellow.csv", index=False)
    keys = {"model": "vib", "epochs": 1, **NETWORKS}
    train(labelled(folder / "three.csv", **keys), folder / "vib")
    with pytest.raises(GMMVAEError, match="classes of this fit are blue, green, yellow"):
        train(labelled(folder / "yellow.csv", init=str(folder / "vib")), folder / "x")


def test_what_does_not_fit_is_refused(folder: Path) -> None:
    few, base = folder / "few.csv", str(folder / "clusters")
    with pytest.raises(GMMVAEError, match="did you mean 'kmeans'"):
        train(labelled(few, init="kmean"), folder / "x")
    with pytest.raises(GMMVAEError, match="a run folder"):
        train(labelled(few, init=str(folder)), folder / "x")
    with pytest.raises(GMMVAEError, match="leave model, hidden"):
        train(labelled(few, init=base, hidden=(7,), latent_dim=3), folder / "x")
    with pytest.raises(GMMVAEError, match="leave likelihood out"):
        train(labelled(few, init=base, likelihood="bernoulli"), folder / "x")
    table(30, 0, 9).drop(columns="c").to_csv(folder / "lacks.csv", index=False)
    with pytest.raises(GMMVAEError, match="c"):
        train(labelled(folder / "lacks.csv", init=base), folder / "x")
    assert not (folder / "x").exists()


def test_an_estimator_starts_from_a_run_with_the_same_columns(folder: Path) -> None:
    from pyro_gmmvae.estimators import GMMVAEClassifier

    frame = table(60, 2)
    y = np.where(np.arange(60) < 12, np.arange(60) % 3, -1)
    settings = {"init": str(folder / "clusters")}
    model = GMMVAEClassifier(epochs=1, random_state=0, preset="paper", settings=settings)
    site = frame["site"] = frame["site"].replace("", None)
    assert model.fit(frame, y).score(frame, np.arange(60) % 3) > 0.9
    frame["site"] = site.replace({"west": "east"})
    with pytest.raises(GMMVAEError, match="column 'site' has another kind or other values"):
        model.fit(frame, y)
