"""What predict and evaluate add to a class: probabilities, sets, and alarms for new classes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pyro_gmmvae.runs import Run, default_config, train
from pyro_gmmvae.runs.suggest import farthest_first

from .conftest import Gmmvae
from .test_bad_input import refused

CLASSES = ("ash", "birch", "cedar", "new")
KEYS = {
    "epochs": 10,
    "hidden": "16",
    "latent_dim": 2,
    "batch_size": 64,
    "labelled_per_batch": 16,
    "engine": "svi",
    "learning_rate": 0.01,
    "likelihood": "normal",
    "members": 1,
    "teacher_share": 0,
}


def rows(seed: int, n: int, labelled: float) -> pd.DataFrame:
    """Four clusters in five columns; the last one is far from the others."""
    generator = np.random.default_rng(seed)
    y = np.arange(n) % 4
    x = generator.normal(size=(n, 5)) + np.array([0, 0, 0, 7])[y][:, None] * np.eye(5)[4]
    x[:, :3] += 2.5 * np.eye(4)[y][:, :3]
    label = np.where(generator.uniform(size=n) < labelled, np.array(CLASSES)[y], "")
    return pd.DataFrame(x, columns=[*"abcde"]).assign(label=label)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a class left out, cross-validated in three folds, and rows of all four classes."""
    folder = tmp_path_factory.mktemp("answers")
    rows(0, 160, 0.4).to_csv(folder / "rows.csv", index=False)
    rows(1, 160, 1).to_csv(folder / "others.csv", index=False)
    keys = KEYS | {"leave_out": "new", "cv": 3, "test": 0, "validation": 0}
    train(default_config(str(folder / "rows.csv"), keys), folder / "run")
    return folder


def test_a_class_that_is_left_out_is_in_no_part(folder: Path) -> None:
    run = Run.load(folder / "run")
    assert run.schema.classes == CLASSES[:3]
    scores = pd.read_csv(folder / "run" / "out_of_fold.csv")
    table = pd.read_csv(folder / "rows.csv", keep_default_na=False)
    known = table["label"].isin(CLASSES[:3])
    assert sorted(scores["row"]) == list(np.flatnonzero(known))
    assert list(table["label"][scores["row"]]) == list(scores["label"])
    assert set(scores["fold"]) == {0, 1, 2}


def test_predict_adds_what_one_can_act_on(folder: Path, gmmvae: Gmmvae, tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    others, run = folder / "others.csv", folder / "run"
    result = gmmvae("predict", run, others, "--out", out, "--coverage", 0.9)
    assert result.code == 0
    assert "out-of-fold rows: temperature" in result.err
    found, truth = pd.read_csv(out, keep_default_na=False), pd.read_csv(others)["label"]
    classes = [f"p_{name}" for name in CLASSES[:3]]
    assert list(found) == ["row", "label", *classes, "elbo", "elbo_quantile", "new", "set"]
    np.testing.assert_allclose(found[classes].sum(axis=1), 1, atol=1e-5)
    new = truth == "new"
    assert found["new"][new].mean() > 0.75 > 0.65 > found["new"][~new].mean()
    assert (found["new"][~new] >= 0.95).mean() < 0.2
    covered = [one in names.split("|") for one, names in zip(truth, found["set"], strict=True)]
    assert np.mean(np.array(covered)[~new]) > 0.8
    assert found["set"].str.split("|").map(len)[~new].mean() < 2


def test_raw_probabilities_are_those_of_the_model(folder: Path) -> None:
    run, others = Run.load(folder / "run"), folder / "others.csv"
    raw, calibrated = run.predict(others, raw=True), run.predict(others)
    assert list(raw["label"]) == list(calibrated["label"])
    assert list(raw["new"]) == list(calibrated["new"])
    temperature = np.log(raw["p_ash"] / raw["p_cedar"]) / np.log(
        calibrated["p_ash"] / calibrated["p_cedar"]
    )
    assert temperature.std() < 0.01 * temperature.mean()
    assert abs(temperature.mean() - 1) > 0.01


def test_json_has_the_threshold(folder: Path, gmmvae: Gmmvae) -> None:
    found = json.loads(gmmvae("predict", folder / "run", folder / "others.csv", "--json").out)
    assert len(found["rows"]) == 160
    assert (found["new_threshold"], found["false_alarms"]) == (0.95, 0.05)
    assert found["held_out"] == "out-of-fold"
    assert found["held_out_rows"] == len(pd.read_csv(folder / "run" / "out_of_fold.csv"))


def test_evaluate_without_test_rows_is_cross_validated(folder: Path, gmmvae: Gmmvae) -> None:
    shown = gmmvae("evaluate", folder / "run")
    labels = len(pd.read_csv(folder / "run" / "out_of_fold.csv"))
    assert f"cross-validated over {labels} labelled rows, in 3 folds" in shown.out
    assert "% Wilson interval" in shown.out
    found = json.loads((folder / "run" / "metrics.json").read_text())["test"]
    assert found["from"] == "out-of-fold"
    assert np.sum(found["confusion"]) == labels
    assert found["accuracy"] == np.trace(found["confusion"]) / labels
    assert found["new_auroc"] > 0.8
    assert found["calibrated_log_loss"] < found["log_loss"] + 0.05
    assert "elbo" not in found


def test_validation_and_test_rows_are_used_where_there_are_some(
    folder: Path, gmmvae: Gmmvae, tmp_path: Path
) -> None:
    arguments = [f"--set={key}={value}" for key, value in KEYS.items() if key != "epochs"]
    data = ("--data", folder / "others.csv", "--leave-out", "new", "--epochs", 10, "--set", "cv=0")
    parts = ("--set", "test=40", "--set", "validation=40")
    trained = gmmvae("train", *data, *parts, *arguments, "--out", tmp_path / "run")
    assert "40 rows of the class 'new' are left out" in trained.err
    found = json.loads(gmmvae("evaluate", tmp_path / "run", "--json", "--coverage", 0.8).out)
    assert found["sets_asked"] == 0.8
    assert found["set_coverage_low"] < found["set_coverage"] < found["set_coverage_high"]
    assert found["set_coverage"] > 0.7
    assert 0.5 < found["set_size"] < 2
    assert found["new_auroc"] > 0.8
    assert found["new_alarms"] < 0.25
    table = Run.load(tmp_path / "run").predict(folder / "others.csv", coverage=0.8)
    assert {"new", "set"} <= set(table)


def test_suggest_names_uncertain_rows_that_differ(
    folder: Path, gmmvae: Gmmvae, tmp_path: Path
) -> None:
    file, out = tmp_path / "twice.csv", tmp_path / "s.csv"
    table = rows(2, 100, 0.3)
    pd.concat([table, table]).to_csv(file, index=False)
    result = gmmvae("suggest", folder / "run", file, "--n", 8, "--out", out)
    assert result.code == 0, result.err
    found = pd.read_csv(out)
    assert list(found) == ["row", "label", "reason"]
    # none that has a label, and none beside its copy
    assert (table["label"].to_numpy()[found["row"] % 100] == "").all()
    assert len(set(found["row"] % 100)) == 8
    predicted = Run.load(folder / "run").predict(file)
    probs = predicted.filter(regex="^p_").to_numpy()
    margin = np.diff(np.sort(probs, axis=1)[:, -2:])[:, 0]
    free = np.flatnonzero(np.tile(table["label"] == "", 2))
    assert found["row"][0] == free[margin[free].argmin()]
    assert set(found["row"]) <= set(free[np.argsort(margin[free])[:40]])
    assert list(found["label"]) == list(predicted["label"][found["row"]])
    second = np.sort(probs[found["row"][0]])[-2]
    assert (
        f"or {['ash', 'birch', 'cedar'][list(probs[found['row'][0]]).index(second)]}"
        in (found["reason"][0])
    )


def test_suggest_needs_a_row_without_a_label(folder: Path, gmmvae: Gmmvae, tmp_path: Path) -> None:
    run, others = folder / "run", folder / "others.csv"
    refused(gmmvae("suggest", run, others), "no row without a label")
    refused(gmmvae("suggest", run, tmp_path / "absent.csv"), "does not exist")
    file = tmp_path / "few.csv"
    rows(3, 6, 0).drop(columns="label").to_csv(file, index=False)
    assert len(gmmvae("suggest", run, file, "--n", 50).out.splitlines()) == 7


def test_points_that_are_far_from_each_other() -> None:
    z = np.array([[0.0, 0], [0, 0.1], [5, 0], [5, 0.2], [0, 9], [0, 0]])
    assert farthest_first(z, 4) == [0, 4, 3, 2]
    assert sorted(farthest_first(z, 99)) == list(range(6))


def test_what_can_not_be_answered_is_refused(folder: Path, gmmvae: Gmmvae, tmp_path: Path) -> None:
    run, others = folder / "run", folder / "others.csv"
    refused(
        gmmvae("predict", run, others, "--coverage", 0.999),
        "a coverage of 0.999 needs at least 999 labelled rows",
    )
    refused(gmmvae("evaluate", run, "--coverage", 0.9), "no test rows to measure the coverage")
    assert gmmvae("predict", run, others, "--coverage", 1.5).code == 2
    shutil.copytree(run, tmp_path / "run")
    scores = tmp_path / "run" / "out_of_fold.csv"
    scores.write_text(scores.read_text().replace("log_p_ash", "log_p_oak").replace("ash", "oak"))
    refused(gmmvae("predict", tmp_path / "run", others), "has other classes than the run")
    scores.unlink()
    refused(gmmvae("predict", tmp_path / "run", others, "--coverage", 0.9), "train with --cv 5")
    refused(gmmvae("evaluate", tmp_path / "run"), "without test rows", "cross-validation")
    assert "new" not in gmmvae("predict", tmp_path / "run", others).out.splitlines()[0]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (rows(0, 40, 1), ("unknown class 'nwe'", "did you mean 'new'")),
        (rows(0, 40, 1).assign(label="nwe"), ("'nwe' can't be left out: it is the only one",)),
    ],
)
def test_a_class_to_leave_out_must_be_one_of_several(
    gmmvae: Gmmvae, tmp_path: Path, table: pd.DataFrame, words: tuple[str, ...]
) -> None:
    table.to_csv(tmp_path / "rows.csv", index=False)
    data = ("--data", tmp_path / "rows.csv", "--leave-out", "nwe", "--out", tmp_path / "run")
    refused(gmmvae("train", *data), *words)
