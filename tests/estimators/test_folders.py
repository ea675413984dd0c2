"""Estimators as run folders: the same bits back, and what is no such folder."""

import io
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from numpy.testing import assert_allclose, assert_array_equal

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.estimators import GMMVAEClassifier, GMMVAECluster, GMMVAETransformer
from pyro_gmmvae.runs import Run
from pyro_gmmvae.training import devices
from tests.estimators.conftest import SMALL, Digits


@pytest.fixture(scope="module")
def folder(classifier: GMMVAEClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "classifier"
    classifier.save(path)
    return path


def test_a_classifier_comes_back_to_the_bit(
    classifier: GMMVAEClassifier, folder: Path, digits: Digits
) -> None:
    x = digits[0]
    for other in (GMMVAEClassifier.load(folder), pickle.loads(pickle.dumps(classifier))):
        assert_array_equal(other.predict_proba(x), classifier.predict_proba(x))
        assert_array_equal(other.score_samples(x[:5]), classifier.score_samples(x[:5]))
        assert_array_equal(other.sample(3)[0], classifier.sample(3)[0])
        assert other.get_params() == classifier.get_params()
        assert other.classes_.dtype == classifier.classes_.dtype
        assert other.n_iter_ == classifier.n_iter_ == 6
        pd.testing.assert_frame_equal(other.history_, classifier.history_)
    assert other.fit(*digits).score(*digits) == classifier.score(*digits)


class OnCPU(pickle.Pickler):
    """Refuses tensors of another device, which a machine without it can't unpickle."""

    def reducer_override(self, one: Any) -> Any:
        assert not isinstance(one, torch.Tensor) or one.device.type == "cpu"
        return NotImplemented


def test_a_machine_without_the_device_unpickles(
    digits: Digits, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = GMMVAEClassifier(**SMALL, epochs=1, device=str(device)).partial_fit(*digits, range(10))
    assert next(one.model_.parameters()).device.type == device.type
    file = io.BytesIO()
    OnCPU(file).dump(one)
    again = pickle.loads(file.getvalue())
    assert next(again.model_.parameters()).device.type == device.type
    monkeypatch.setattr(devices, "cuda_devices", lambda: (0, ""))
    other = pickle.loads(file.getvalue())
    assert other.model_ is other._fitted.run.model
    assert next(other.model_.parameters()).device.type == "cpu"
    for loaded in (again, other):
        assert_allclose(loaded.predict_proba(digits[0]), one.predict_proba(digits[0]), atol=1e-6)
    other.set_params(device="cpu").partial_fit(*digits)  # Adam's moments came along
    assert all(p.device.type == "cpu" for p in other.model_.parameters())


def test_clusters_and_transformers_come_back(
    cluster: GMMVAECluster, transformer: GMMVAETransformer, digits: Digits, tmp_path: Path
) -> None:
    cluster.save(tmp_path / "cluster")
    transformer.save(tmp_path / "transformer")
    other = GMMVAECluster.load(tmp_path / "cluster")
    assert_array_equal(other.labels_, cluster.labels_)
    z = transformer.transform(digits[0])
    again = GMMVAETransformer.load(tmp_path / "transformer")
    assert_array_equal(again.transform(digits[0]), z)
    assert_array_equal(again.get_feature_names_out(), transformer.get_feature_names_out())


def test_names_of_columns_and_classes_come_back(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    table = pd.DataFrame(generator.normal(size=(40, 3)), columns=[*"abc"])
    y = np.array(["ann", "bob", -1, "ann"] * 10, object)
    random_state = np.random.RandomState(3)
    settings = {"members": 1, "teacher_share": 0}
    arguments: dict[str, Any] = SMALL | {
        "epochs": 1,
        "random_state": random_state,
        "settings": settings,
    }
    fitted = GMMVAEClassifier(**arguments).fit(table, y)
    fitted.save(tmp_path / "run")
    other = GMMVAEClassifier.load(tmp_path / "run")
    assert other.feature_names_in_.tolist() == [*"abc"]
    assert other.predict(table).tolist() == fitted.predict(table).tolist()
    assert other.random_state == fitted._fitted.run.config.seed
    # the command line finds columns by name
    table[["c", "a", "b"]].to_csv(tmp_path / "rows.csv", index=False)
    found = Run.load(tmp_path / "run").predict(tmp_path / "rows.csv")
    assert_allclose(found[["p_ann", "p_bob"]], fitted.predict_proba(table), atol=1e-5)


def test_the_command_line_uses_the_folder(
    classifier: GMMVAEClassifier, folder: Path, digits: Digits, tmp_path: Path
) -> None:
    from pyro_gmmvae.cli.evaluate import evaluate
    from pyro_gmmvae.cli.predict import generate, predict
    from pyro_gmmvae.cli.train import resume

    columns = [f"pixel_{i}" for i in range(64)]
    pd.DataFrame(digits[0], columns=columns).to_csv(tmp_path / "rows.csv", index=False)
    call = CliRunner().invoke
    out = tmp_path / "found.csv"
    done = call(predict, [str(folder), str(tmp_path / "rows.csv"), "--out", str(out)])
    assert done.exit_code == 0, done.output
    found = pd.read_csv(out)
    assert_array_equal(found["label"], classifier.predict(digits[0]))
    assert found["elbo_quantile"].between(0, 1).all()
    done = call(generate, [str(folder), "--out", str(tmp_path / "grid.png")])
    assert done.exit_code == 0, done.output
    for command in (evaluate, resume):
        with pytest.raises(GMMVAEError, match="was fitted in memory"):
            call(command, [str(folder)], catch_exceptions=False)


def test_a_folder_that_is_there_is_kept(
    classifier: GMMVAEClassifier, cluster: GMMVAECluster, tmp_path: Path
) -> None:
    cluster.save(tmp_path / "run")
    with pytest.raises(GMMVAEError, match="force=True"):
        classifier.save(tmp_path / "run")
    assert GMMVAECluster.load(tmp_path / "run").n_clusters == 4
    classifier.save(tmp_path / "run", force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
    assert not (tmp_path / "run" / "labels.safetensors").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("kept")
    with pytest.raises(GMMVAEError, match="not a run folder"):
        classifier.save(tmp_path / "mine", force=True)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "kept"
    (tmp_path / "file").write_text("")
    with pytest.raises(GMMVAEError, match="is a file"):
        classifier.save(tmp_path / "file")


def test_what_is_no_such_folder(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(GMMVAEError, match="does not exist"):
        GMMVAEClassifier.load(tmp_path / "none")
    with pytest.raises(GMMVAEError, match=r"GMMVAEClassifier\.load"):
        GMMVAECluster.load(folder)
    run = tmp_path / "run"
    shutil.copytree(folder, run)
    (run / "estimator.json").unlink()
    with pytest.raises(GMMVAEError, match=r"Run\.load reads it"):
        GMMVAEClassifier.load(run)


@pytest.mark.parametrize(
    "name", ["config.json", "estimator.json", "history.csv", "weights.safetensors"]
)
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_damaged_folder(
    name: str, damage: str, classifier: GMMVAEClassifier, tmp_path: Path
) -> None:
    classifier.save(tmp_path / "run")
    file = tmp_path / "run" / name
    content = file.read_bytes()
    file.unlink()
    if damage == "truncated":
        file.write_bytes(content[: len(content) // 2])
    with pytest.raises(GMMVAEError):
        GMMVAEClassifier.load(tmp_path / "run")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("params", {"modle": "gmmvae"}),
        ("params", None),
        ("attributes", {"n_features_in_": 3}),
        ("attributes", {"n_features_in_": 64, "fit": 1}),
        ("arrays", {"classes_": {"type": "<i8", "values": [1, 2]}}),
        ("arrays", {"classes_": {"type": "<i8", "values": [[k] for k in range(10)]}}),
        ("arrays", {}),
        ("class", None),
    ],
)
def test_an_altered_description(
    key: str, value: Any, classifier: GMMVAEClassifier, tmp_path: Path
) -> None:
    classifier.save(tmp_path / "run")
    file = tmp_path / "run" / "estimator.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(GMMVAEError, match="damaged"):
        GMMVAEClassifier.load(tmp_path / "run")
