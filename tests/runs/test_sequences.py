"""Tests of runs on skeletons of five simulated people."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.figures import RunView
from pyro_gmmvae.figures.components import draw_components
from pyro_gmmvae.figures.traversal import traverse_skeletons
from pyro_gmmvae.files import load_training, load_weights
from pyro_gmmvae.inference_data import to_inference_data
from pyro_gmmvae.runs import Run, default_config, resume, train
from pyro_gmmvae.runs.clusters import read_clusters
from pyro_gmmvae.runs.component_names import write_names
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.runs.label_components import LabelTable, name_components
from pyro_gmmvae.skeletons import PoseWindow
from pyro_gmmvae.skeletons.tracks import Track, write_tracks
from pyro_gmmvae.training import SequencePseudoLabeler
from tests.training.test_loop import StopAfter

LAYOUT = """
joints = ["hip", "chest", "head", "left", "right"]
edges = [[0, 1], [1, 2], [1, 3], [1, 4]]
pairs = [[3, 4]]
root = 0
torso = [[0], [1]]
"""
# neck, left and right arm, in torsos
PEOPLE = {
    "ann": (0.3, 0.9, 0.9),
    "bo": (0.6, 0.9, 0.9),
    "cy": (0.3, 1.6, 1.6),
    "dee": (0.6, 1.6, 1.6),
    "zoe": (1.8, 0.2, 0.2),
}
AUGMENTATIONS = PoseWindow.augmentations
PARTS = ("train", "train", "train", "val", "test", "test")


def walk(person: str, number: int, generator: np.random.Generator) -> Track:
    """16 frames: arms swing, the size differs, and some joints are not seen."""
    neck, left, right = PEOPLE[person]
    swing = 0.5 * np.sin(np.arange(16) / 2 + number)
    facing = 1 if number % 2 else -1
    poses = np.zeros((16, 5, 2))
    poses[:, 1] = [0.1 * facing, 1]
    poses[:, 2] = poses[:, 1] + [0.3 * facing, neck]
    for joint, arm, phase in ((3, left, 1), (4, right, -1)):
        poses[:, joint] = poses[:, 1]
        poses[:, joint] += arm * np.stack([np.sin(phase * swing), -np.cos(swing)], -1)
    poses += generator.normal(0, 0.01, poses.shape)
    poses[generator.uniform(size=(16, 5)) < 0.1] = np.nan
    return Track.of_poses(f"{person}{number}", poses * generator.uniform(50, 200) + 300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found, generator = tmp_path_factory.mktemp("skeletons"), np.random.default_rng(0)
    (found / "body.toml").write_text(LAYOUT)
    lines, tracks = ["sequence,person,split,view"], []
    for person in PEOPLE:
        for number, part in enumerate(PARTS):
            if person != "zoe" or part == "test":
                tracks.append(walk(person, number, generator))
                view = ("back", "front")[number % 2]
                lines.append(f"{person}{number},{person},{part},{view}")
    # training sequences of unknown people
    tracks += [
        Track(f"new{k}", t.frames, t.poses, t.confidence)
        for k, t in enumerate(walk(p, 9, generator) for p in ("ann", "bo", "cy", "dee"))
    ]
    write_tracks(tracks, found / "tracks.npz")
    (found / "people.csv").write_text("\n".join(lines) + "\n")
    return found


def keys(folder: Path, **more: object) -> dict[str, Any]:
    given: dict[str, Any] = {
        "tracks": str(folder / "tracks.npz"),
        "labels_file": str(folder / "people.csv"),
        "layout": str(folder / "body.toml"),
        "hidden": "16",
        "channels": "4,4",
        "latent_dim": 2,
        "epochs": 1,
        "batch_size": 32,
        "labelled_per_batch": 8,
        "checkpoint_seconds": 0,
        "pseudo_from": 2,
        "pseudo_every": 3,
        "engine": "svi",
    }
    if more.get("model") in ("ae", "vae"):  # which have no classes to give labels of
        del given["pseudo_from"], given["pseudo_every"]
    return given | more


def run(folder: Path, out: Path, **more: object) -> Run:
    return train(default_config("skeleton", keys(folder, **more)), out)


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    torch.manual_seed(0)
    return run(folder, tmp_path_factory.mktemp("runs") / "run", epochs=60, extra_components=2)


def test_a_run_recognizes_people(trained: Run) -> None:
    assert trained.schema.classes == ("ann", "bo", "cy", "dee")
    assert trained.model.components == 6
    numbers = trained.evaluate(samples=2)
    assert numbers["test_sequences"] == 10
    assert numbers["unknown_sequences"] == 2
    assert numbers["labels"] == 12  # sequences, of 36 windows
    assert numbers["test_rows"] == 30
    assert numbers["sequence_accuracy"] == 1
    assert numbers["sequence_accuracy_low"] < 0.7
    # draws of windows, whose real ones have missing joints
    assert numbers["recognized"] > 0.6
    assert numbers["judge_accuracy"] > 0.9
    assert 0 < numbers["recall_reference"] <= 1
    assert numbers["recall"] is not None
    for name in ("extra", "class", "elbo"):
        assert 0 <= numbers[f"unknown_auroc_{name}"] <= 1
    assert numbers["unknown_auroc_elbo"] == 1  # arms of a length that nobody has
    history = pd.read_csv(trained.path / "history.csv")
    assert history["val_sequence_accuracy"].iloc[-1] == 1
    assert json.loads((trained.path / "metrics.json").read_text())["test"]["unknown_sequences"] == 2


def test_a_person_who_is_left_out_is_unknown_and_in_the_test_part(folder: Path) -> None:
    config = default_config("skeleton", keys(folder, leave_out="dee", labels=6))
    rows = TrainingData.from_config(config)
    assert rows.schema.classes == ("ann", "bo", "cy")
    people = np.array([str(name)[:-1] for name in rows.groups.names[rows.groups.of_row]])
    for part in (rows.split.train, rows.split.validation, rows.split.labelled, rows.training_rows):
        assert not (people[part] == "dee").any()
    assert set(rows.split.test) >= set(np.flatnonzero(people == "dee"))
    assert set(people[rows.unknown]) == {"dee", "zoe"}
    assert rows.groups.unknown_names == ("zoe", "dee")
    assert (rows.dataset.y[people == "cy"] == 2).all()


def test_inference_data_names_the_sequences_of_rows(trained: Run) -> None:
    data = to_inference_data(trained, rows=0, draws=2)
    rows = TrainingData.from_config(trained.config, trained.schema)
    wanted = [rows.groups.names[k] for k in rows.groups.of_row]
    found = data["constant_data"]["sequence"]
    assert list(found.values) == [wanted[k] for k in rows.split.test]
    assert data["observed_data"]["x"].dims in (("row", "feature"), ("row", "frame", "feature"))
    assert np.isfinite(data["posterior_predictive"]["x"]).all()


def test_the_description_counts_sequences(folder: Path) -> None:
    rows = TrainingData.from_config(default_config("skeleton", keys(folder, labels=8)))
    text = rows.describe()
    assert "30 sequences in 90 windows of " in text
    assert "16 train (8 labelled), 4 validation, 10 test; " in text
    assert "people in the test set without a training class: 1;" in text
    assert "joints are interpolated" in text


def test_predictions_list_sequences_in_the_order_of_the_file(trained: Run, tmp_path: Path) -> None:
    generator = np.random.default_rng(7)
    tracks = [walk("dee", 0, generator), walk("zoe", 1, generator), walk("ann", 2, generator)]
    short = walk("bo", 3, generator)
    tracks += [Track("bo3", short.frames[:3], short.poses[:3], short.confidence[:3])]
    write_tracks(tracks, tmp_path / "new.csv")  # which leaves a track without any joint out
    table = pd.read_csv(tmp_path / "new.csv")
    row = {"sequence": "nobody", "frame": 1, "joint": 2, "x": 1.0, "y": 1.0, "confidence": 0.0}
    pd.concat([table, pd.DataFrame([row])]).to_csv(tmp_path / "new.csv", index=False)
    found = trained.predict(tmp_path / "new.csv").set_index("sequence")
    assert found.index.tolist() == ["ann2", "bo3", "dee0", "nobody", "zoe1"]
    assert found["windows"].tolist() == [3, 1, 3, 0, 3]
    assert found["person"].tolist()[:3] == ["ann", "bo", "dee"]
    assert found["person"]["nobody"] == ""
    assert found.loc["nobody"].drop(["person", "windows"]).isna().all()
    known = found.drop("nobody")
    probabilities = known[[c for c in found.columns if c.startswith("p_")]]
    assert list(probabilities)[-1] == "p_component_5"
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(known["probability"], probabilities.max(axis=1))
    assert known.drop("bo3")["elbo"].idxmin() == "zoe1"


def test_tracks_of_another_kind_are_refused(trained: Run, tmp_path: Path) -> None:
    for shape, message in (((9, 5, 3), "3-D; the run was trained on 2-D"), ((9, 6, 2), "joint 5")):
        write_tracks([Track.of_poses("a", np.random.rand(*shape))], tmp_path / "t.npz")
        with pytest.raises(GMMVAEError, match=message):
            trained.predict(tmp_path / "t.npz")


def test_traversal_of_one_latent(trained: Run) -> None:
    captions, poses = traverse_skeletons(trained, "1", label="cy", steps=5, span=2)
    assert poses.shape == (5, 1, 5, 2)
    assert captions[0] == "z1 at -2.00 s.d."
    assert len(np.unique(poses.round(5), axis=0)) == 5
    captions, poses = traverse_skeletons(trained, "class", steps=4)
    assert len(captions) == len(poses) == 3 * 4  # extra components have no name to walk to
    assert captions[4] == "bo -> cy: 0%"
    arm = np.linalg.norm(poses[:, 0, 3] - poses[:, 0, 1], axis=-1)
    assert arm[8] > arm[0] + 0.03  # cy has longer arms than ann
    for latent, message in (("2", "entries 0 to 1"), ("clas", "did you mean 'class'")):
        with pytest.raises(GMMVAEError, match=message):
            traverse_skeletons(trained, latent)
    with pytest.raises(GMMVAEError, match="did you mean 'dee'"):
        traverse_skeletons(trained, "0", label="de")


def test_a_resumed_run_continues_bit_for_bit_with_its_pseudo_labels(
    folder: Path, tmp_path: Path
) -> None:
    more: dict[str, Any] = {"epochs": 6, "pseudo_threshold": 0.3, "augment": "mirror,drop"}
    more |= {"labels": 4, "dropout": 0.2}
    config = default_config("skeleton", keys(folder, **more))
    train(config, tmp_path / "whole")
    train(config, tmp_path / "stopped", callbacks=[StopAfter(7)])
    state = load_training(tmp_path / "stopped" / "training.pt", torch.device("cpu"))
    labels = state["pseudo_labeler"]["labels"]
    assert (labels < -1).any()  # pseudo-labels beside the true ones
    resume(tmp_path / "stopped")
    whole, stopped = (
        load_training(tmp_path / name / "training.pt", torch.device("cpu"))
        for name in ("whole", "stopped")
    )
    assert torch.equal(whole["pseudo_labeler"]["labels"], stopped["pseudo_labeler"]["labels"])
    a, b = (load_weights(tmp_path / n / "weights.safetensors") for n in ("whole", "stopped"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_batches_and_the_teacher_share_their_labels(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In double precision too, where the teacher is moved."""
    seen: list[Any] = []
    from pyro_gmmvae.training import Fit

    monkeypatch.setattr(Fit, "run", lambda fit, _: seen.append(fit) or "complete")
    with pytest.raises(GMMVAEError):  # nothing was fitted, so there is nothing to load
        run(folder, tmp_path / "r", precision="f64")
    (fit,) = seen
    assert isinstance(fit.pseudo_labeler, SequencePseudoLabeler)
    assert fit.pseudo_labeler.labels.data_ptr() == fit.batches.y.data_ptr()
    assert fit.pseudo_labeler.weight.dtype == fit.pseudo_labeler.x.dtype == torch.float64


@pytest.mark.parametrize("augment", [*AUGMENTATIONS, ",".join(AUGMENTATIONS)])
def test_every_augmentation_trains(folder: Path, tmp_path: Path, augment: str) -> None:
    history = pd.read_csv(run(folder, tmp_path / "r", augment=augment).path / "history.csv")
    assert np.isfinite(history["loss"]).all()


def test_features_on_the_device_equal_those_of_the_rows(folder: Path) -> None:
    rows = TrainingData.from_config(
        default_config("skeleton", keys(folder, features="velocities,angles", window=2))
    )
    device = torch.device("cpu")
    poses, y = rows.raw_training_tensors(device)
    features, same = rows.training_tensors(device)
    assert isinstance(features, torch.Tensor)
    assert torch.equal(y, same)
    on_device = rows.schema.featurizer(device, torch.float32)(poses)
    torch.testing.assert_close(on_device, features, equal_nan=True, atol=1e-4, rtol=1e-4)
    assert features.isnan().any()
    assert features[~features.isnan()].abs().max() <= 6


@pytest.mark.parametrize(
    "more",
    [
        {"network": "temporal", "statistics": ""},
        {"network": "temporal", "statistics": "", "features": "bones,angles", "augment": "warp"},
        {"network": "skeleton-graph", "statistics": "", "features": "joints,velocities"},
        {"statistics": ""},
        {"window": 0, "scale": "file"},
        {"window": 1, "features": "joints,velocities"},
        {"precision": "f64"},
        {"model": "m2", "guide": None},
        {"model": "vae"},
        {"preset": "paper"},
        {"use_unlabelled": False},
        {"labels": 4, "use_unlabelled": False},
        {"labels": 0},
        {"labels_file": None},
        {"guide": "enumerated", "patience": 1},
    ],
    ids=str,
)
def test_variants_train_evaluate_and_predict(
    folder: Path, tmp_path: Path, more: dict[str, Any]
) -> None:
    found = run(folder, tmp_path / "r", **more)
    numbers = found.evaluate(samples=2)
    wanted = [None] if more.get("labels") == 0 or {"labels_file", "preset"} & set(more) else []
    if "labels_file" in more:
        assert numbers["test_sequences"] == 6  # a fifth of thirty
    else:
        assert numbers["test_sequences"] == 10
    if "model" not in more or more["model"] != "vae":
        assert numbers["sequence_accuracy"] in wanted or 0 <= numbers["sequence_accuracy"] <= 1
    table = found.predict(folder / "tracks.npz")
    assert len(table) == 30
    assert np.isfinite(table["elbo"]).all()
    assert table["elbo_quantile"].between(0, 1).all()
    if more.get("use_unlabelled") is False:
        fitted = TrainingData.from_config(found.config, found.schema).training_rows
        assert len(fitted) == (12 if "labels" in more else 36)
    if more.get("features", "joints").startswith("joints") and found.config.model != "vae":
        frames = 1 if found.schema.kind.columns else 8
        assert traverse_skeletons(found, "class", steps=3)[1].shape[1:] == (frames, 5, 2)


def test_a_model_of_factors(folder: Path, tmp_path: Path) -> None:
    more = {"model": "gmmvae-factors", "factors": "view,pace=3", "augment": "jitter", "epochs": 40}
    found = run(folder, tmp_path / "r", **more)
    assert found.model.factors == {"": 4, "view": 2, "pace": 3}
    assert found.schema.factors == (("view", ("back", "front")),)
    rows = TrainingData.from_config(found.config, found.schema)
    y = rows.visible_labels()
    assert y.shape == (48, 3)
    assert (y[:, 2] == -1).all()
    # the four sequences that nobody named show neither person nor view
    assert ((y[:, 0] == -1) == (y[:, 1] == -1)).all()
    assert (y[:, 0] == -1).sum() == 12
    numbers = found.evaluate(samples=2)
    assert numbers["accuracy_view"] > 0.9
    assert numbers["sequence_accuracy"] > 0.5
    assert "nmi_pace" not in numbers
    captions, poses = traverse_skeletons(found, "view", label="bo", steps=3)
    assert captions[0] == "back -> front: 0%"
    assert poses.shape == (3, 1, 5, 2)
    assert poses[-1, 0, 2, 0] > poses[0, 0, 2, 0]  # the head comes to look the other way
    assert len(traverse_skeletons(found, "pace", steps=3)[0]) == 6
    assert traverse_skeletons(found, "5", steps=2)[1].shape == (2, 1, 5, 2)  # an entry of pace's z
    with pytest.raises(GMMVAEError, match="entries 0 to 5"):
        traverse_skeletons(found, "6")


def test_captured_steps_see_all_factors(folder: Path, tmp_path: Path) -> None:
    losses = {}
    for engine in ("svi", "captured"):
        more = {"model": "gmmvae-factors", "factors": "view", "engine": engine, "augment": "drop"}
        history = pd.read_csv(run(folder, tmp_path / engine, **more).path / "history.csv")
        losses[engine] = history["loss"].tolist()
    assert losses["captured"] == pytest.approx(losses["svi"], rel=1e-4)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"labels": 0, "use_unlabelled": False}, "leaves nothing to fit: no row has a label"),
        ({"labels": 3}, "3 labels for 4 classes"),
        ({"labels": 37}, "37 labels are more than the 12 of the training rows"),
        ({"labels": 8, "labels_file": None}, "no person is named .*--labels-file"),
        ({"augment": "affine"}, "the rows are windows of poses"),
        ({"augment": "mirorr"}, "did you mean 'mirror'"),
        ({"network": "temporal"}, "temporal network needs windows"),
        ({"network": "skeleton-graph"}, "skeleton-graph network needs windows"),
        ({"network": "skeleton-graph", "statistics": ""}, "skeleton-graph network needs windows"),
        ({"features": "joint"}, "did you mean 'joints'"),
        ({"statistics": "median"}, "statistic"),
        ({"features": "velocities", "window": 1}, "at least 2 frames"),
        ({"factors": "view"}, "is not a key of the model"),
        (
            {"model": "gmmvae-factors", "factors": "light"},
            "no labels of it; say how many .* light=K",
        ),
        ({"model": "gmmvae-factors", "factors": "view=1"}, "2 classes of it; write view, or"),
        ({"model": "gmmvae-factors", "factors": "view=two"}, "write name or name=K"),
        ({"model": "gmmvae-factors", "factors": "=2"}, "'=2': has no name"),
        ({"model": "gmmvae-factors", "factors": "view,view"}, "'view': is listed twice"),
        ({"model": "gmmvae-factors", "factors": "class=2"}, "the class is one already"),
        ({"model": "vae", "extra_components": 2}, "extra_components is not a key of"),
        ({"model": "vae", "pseudo_every": 5}, "does not use pseudo_every"),
        ({"model": "vae", "labelled_elbo": 0.5}, "does not use labelled_elbo"),
        ({"class_rows": 0.5}, "class_rows is for reconstruct=separate, and this fit has"),
        ({"tracks": None}, "needs --tracks"),
        ({"layout": None}, "name their layout with --layout"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused_before_writing(
    folder: Path, tmp_path: Path, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(GMMVAEError, match=message) as caught:
        run(folder, tmp_path / "r", **more)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "r").exists()


def test_without_training_rows_the_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    rows = [f"{line.split(',')[0]},ann,test" for line in _lines(folder)]
    rows += [f"new{k},ann,test" for k in range(4)]
    (tmp_path / "p.csv").write_text("\n".join(["sequence,person,split", *rows]))
    with pytest.raises(GMMVAEError, match="no training rows"):
        run(folder, tmp_path / "r", labels_file=str(tmp_path / "p.csv"))


def _lines(folder: Path) -> list[str]:
    return (folder / "people.csv").read_text().split()[1:]


def test_moved_tracks_are_found_and_changed_people_detected(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    for file in folder.iterdir():
        shutil.copy(file, tmp_path / "old")
    found = run(tmp_path / "old", tmp_path / "r")
    before = found.evaluate(samples=2)
    (tmp_path / "old").rename(tmp_path / "new")
    with pytest.raises(GMMVAEError):
        found.evaluate(samples=2)
    (tmp_path / "old").mkdir()  # the layout's file stays where it was
    (tmp_path / "new" / "body.toml").rename(tmp_path / "old" / "body.toml")
    assert found.evaluate(samples=2, data=str(tmp_path / "new" / "tracks.npz")) == before
    people = tmp_path / "new" / "people.csv"
    told = people.read_text()
    for old, new in (
        ("ann3,ann,val", "ann3,ann,train"),
        ("ann0,ann,train,back", "ann0,ann,train,front"),
    ):
        assert old in told
        people.write_text(told.replace(old, new))
        with pytest.raises(GMMVAEError, match="it has changed"):
            found.evaluate(samples=2, data=str(tmp_path / "new" / "tracks.npz"))


def test_whole_sequences_of_any_length_are_predicted(folder: Path, tmp_path: Path) -> None:
    found = run(folder, tmp_path / "r", window=0, statistics="", epochs=1)
    assert found.schema.kind.x_shape[0] == 16
    generator = np.random.default_rng(1)
    tracks = [walk("ann", k, generator) for k in range(2)]
    short, long = (
        np.concatenate([t.poses, t.poses])[:n] for t, n in zip(tracks, (9, 25), strict=True)
    )
    new = [Track.of_poses("short", short), Track.of_poses("long", long)]
    write_tracks(new, tmp_path / "new.npz")
    table = found.predict(tmp_path / "new.npz").set_index("sequence")
    assert table.loc["short", "windows"] == 1
    assert table.loc["long", "windows"] == 4
    assert np.isfinite(table["elbo"]).all()


def test_an_autoencoder_has_no_bound(folder: Path, tmp_path: Path) -> None:
    found = run(folder, tmp_path / "r", model="ae", epochs=1)
    assert {"log_px", "elbo_quantile"} <= {*found.predict(folder / "tracks.npz").columns}


def test_sequences_are_clustered_named_and_drawn(folder: Path, tmp_path: Path) -> None:
    found = run(folder, tmp_path / "r", labels=0, components=6, epochs=20, labelled_per_batch=0)
    assert found.class_names() == [f"component_{k}" for k in range(6)]
    numbers = found.evaluate(samples=2)
    assert numbers["sequence_accuracy"] is None
    assert 0.25 <= numbers["sequence_cluster_accuracy"] <= 1
    assert {"sequence_nmi", "sequence_ari", "unknown_auroc_elbo"} <= set(numbers)
    assert "unknown_auroc_class" not in numbers  # no component is a class
    clusters = read_clusters(found)
    table = clusters.table()
    assert len(table) == clusters.sizes.sum() == 30
    assert table.loc[table["part"] == "test", "sequence"].str.endswith(("4", "5")).all()
    wide = found.predict(folder / "tracks.npz").set_index("sequence").loc[table["sequence"]]
    np.testing.assert_allclose(wide["probability"], table["probability"], rtol=1e-5)
    for place, k in enumerate(clusters.component):
        (window,) = clusters.pictured(np.array([place]), k)
        mine = clusters.of_row == place
        assert mine[window]
        assert clusters.row_log_probs[window, k] == clusters.row_log_probs[mine, k].max()
    said = dict(zip(table["sequence"], table["sequence"].str.rstrip("0123456789"), strict=True))
    names = name_components(clusters, LabelTable("sequence", said), "f.csv").names
    write_names(found.path, names, {})
    named = Run.load(found.path)
    distinct = set(names)
    told = named.predict(folder / "tracks.npz")
    assert {c[2:] for c in told.columns if c.startswith("p_")} == distinct
    np.testing.assert_allclose(told[[f"p_{n}" for n in distinct]].sum(axis=1), 1, rtol=1e-5)
    captions, _ = traverse_skeletons(named, "class", steps=2)
    assert len(captions) == 5 * 2
    assert captions[0] == f"{names[0]} -> {names[1]}: 0%"
    with pytest.raises(GMMVAEError, match="no sequence 'who'"):
        name_components(clusters, LabelTable("sequence", {"who": "ann"}), "f.csv")


@pytest.mark.parametrize("more", [{}, {"statistics": ""}, {"features": "ratios"}])
def test_skeletons_without_joints_are_drawn_as_profiles(
    folder: Path, tmp_path: Path, more: dict[str, Any]
) -> None:
    view = RunView(run(folder, tmp_path / "r", labels=0, labelled_per_batch=0, **more))
    figure = draw_components(view)
    collections = [lines for axes in figure.axes for lines in axes.collections]
    bones = [lines for lines in collections if max(lines.get_linewidths()) > 1]  # a frame is thin
    drawing = "profile" if "features" in more else "skeleton"
    assert view.run.schema.kind.drawing == drawing
    assert bool(bones) == (drawing == "skeleton")
    figure.savefig(tmp_path / "f.png")


def test_components_of_one_name_are_summed_per_window(
    trained: Run, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    """Windows alternate between components 0 and 1, which share a name; 2 is never likely."""
    probs = np.full((2, 6), 1e-6)
    probs[[0, 1], [0, 1]], probs[:, 2] = 1, 1e-2

    def turns(_: Run, x: torch.Tensor) -> np.ndarray[Any, Any]:
        return np.log(probs / probs.sum(1, keepdims=True))[np.arange(len(x)) % 2]

    monkeypatch.setattr(Run, "log_probs", turns)
    monkeypatch.setattr(Run, "class_names", lambda _: [*"aabcde"])
    assert (trained.predict(folder / "tracks.npz")["p_a"] > 0.98).all()
