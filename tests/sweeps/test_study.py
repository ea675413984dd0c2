"""Studies: resumed, shared, refused, damaged, killed."""

import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import optuna
import pandas as pd
import pytest

from pyro_gmmvae.config import read_config
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.runs import default_config
from pyro_gmmvae.sweeps import Tuned, execute
from pyro_gmmvae.sweeps.study import MAX_COMMANDS, StudyPlan, begin, claim, open_study, quiet
from pyro_gmmvae.sweeps.tune_report import as_toml
from pyro_gmmvae.sweeps.tuner import plan_study, run_trial
from pyro_gmmvae.training import NonFiniteError
from tests.sweeps.conftest import GMMVAE, SEARCH, SMALL, Study, silent


@pytest.fixture
def plan(rows: Path, tmp_path: Path) -> StudyPlan:
    """The plan of the fixture ``study`` in a folder of its own."""
    return plan_study(
        {**SMALL, **GMMVAE, "data": str(rows)},
        SEARCH,
        tmp_path,
        None,
        sampler="random",
        trials=3,
        seeds=1,
        prune=True,
        keep_runs=False,
    )


def lines_of(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "trials.csv", keep_default_na=False)


# -- what comes out ------------------------------------------------------------------------------


def test_the_best_trial_has_the_highest_value(
    finished_study: tuple[Path, Tuned],
) -> None:
    out, tuned = finished_study
    table = lines_of(out)
    assert list(table["number"]) == [0, 1, 2, 3]
    assert set(table["state"]) == {"complete"}
    assert tuned.metric == "val_accuracy"
    best = table.sort_values(["val_accuracy", "val_log_loss"], ascending=[False, True]).iloc[0]
    assert (tuned.number, tuned.value) == (best["number"], best["value"])
    assert tuned.first == table["value"][0]
    assert tuned.config.latent_dim == best["latent_dim"]
    assert not (out / "trials").exists()


def test_the_best_settings_train_the_same_run_again(
    finished_study: tuple[Path, Tuned], tmp_path: Path
) -> None:
    from pyro_gmmvae.runs import train

    out, tuned = finished_study
    keys = read_config(out / "best.toml")
    config = default_config(keys["data"], keys)
    assert config == tuned.config
    train(config, tmp_path / "run")
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert history["val_accuracy"].iloc[-1] == pytest.approx(tuned.value)


@pytest.mark.parametrize(
    "keys",
    [
        {"pseudo_threshold": None, "preset": "best"},
        {"labels": None, "minutes": 2.5},
        {"data": 'a "quoted" \\ näme.csv', "hidden": (3, 4), "batch_norm": True},
        {"model": "gmmvae-factors", "learning_rate": 1e-7, "factors": ("view=3",)},
    ],
)
def test_a_configuration_survives_toml(keys: dict[str, Any], tmp_path: Path) -> None:
    config = default_config(keys.get("data", "digits"), keys)
    (tmp_path / "run.toml").write_text(as_toml(config))
    read = read_config(tmp_path / "run.toml")
    assert default_config(read["data"], read) == config


def test_pictures_are_drawn_and_settings_put_back(
    finished_study: tuple[Path, Tuned], study: Study, tmp_path: Path
) -> None:
    out, _ = finished_study
    assert {"history.png", "slice.png", "parallel.png"} <= {f.name for f in out.iterdir()}
    before = dict(matplotlib.rcParams), optuna.logging.get_verbosity()
    tuned = study(tmp_path, {"epochs": 1}, trials=10, prune=False, pictures=True)
    assert (dict(matplotlib.rcParams), optuna.logging.get_verbosity()) == before
    assert set(tuned.importance["key"]) == set(SEARCH)
    assert tuned.importance["importance"].sum() == pytest.approx(1)
    pictures = ("history", "slice", "parallel", "importance", "contour")
    for name in pictures:
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "| latent_dim | 2:4 |" in (tmp_path / "importance.md").read_text()


# -- going on ------------------------------------------------------------------------------------


def test_a_study_that_is_resumed_is_the_one_that_was_not(
    finished_study: tuple[Path, Tuned], study: Study, tmp_path: Path
) -> None:
    study(tmp_path, trials=2)
    reports: list[Any] = []
    study(tmp_path, trials=4, on_trial_end=reports.append)
    assert [report.number for report in reports] == [2, 3]
    columns = ["number", "value", *SEARCH]
    pd.testing.assert_frame_equal(lines_of(tmp_path)[columns], lines_of(finished_study[0])[columns])
    study(tmp_path, trials=4, on_trial_end=reports.append)
    assert len(reports) == 2


@pytest.mark.parametrize(
    ("keys", "options", "message"),
    [
        ({"model": "vae"}, {}, "with model gmmvae, not vae"),
        ({"epochs": 3}, {}, "with epochs 2, not 3"),
        ({}, {"metric": "val_elbo"}, "with metric val_accuracy, not val_elbo"),
        ({}, {"seeds": 2}, "with seeds 1, not 2"),
        ({}, {"search": SEARCH | {"latent_dim": "2:5"}}, "search of latent_dim 2:4, not 2:5"),
    ],
)
def test_another_study_is_refused_by_its_difference(
    finished_study: tuple[Path, Tuned],
    study: Study,
    keys: dict[str, Any],
    options: dict[str, Any],
    message: str,
) -> None:
    out, _ = finished_study
    before = (out / "journal.log").read_bytes()
    with pytest.raises(GMMVAEError, match=f"{message}.*name another --out"):
        study(out, keys, trials=5, **options)
    assert (out / "journal.log").read_bytes() == before


def test_other_rows_are_another_study(
    finished_study: tuple[Path, Tuned], study: Study, rows: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "rows.csv"
    changed.write_text(rows.read_text().replace("0.", "1.", 1))
    with pytest.raises(GMMVAEError, match="with rows "):
        study(finished_study[0], {"data": str(changed)}, trials=5)


@pytest.mark.parametrize("content", [b"not a journal", b"a,b\n1,2\n", b"[1]\n", b"\x00\xff\n"])
def test_a_foreign_journal_is_refused(study: Study, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journal.log").write_bytes(content)
    with pytest.raises(GMMVAEError, match=r"journal\.log.*name another --out"):
        study(tmp_path, trials=1)
    assert (tmp_path / "journal.log").read_bytes() == content


def test_a_study_of_another_program_is_refused(study: Study, tmp_path: Path) -> None:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(tmp_path / "journal.log")))
    with quiet():
        optuna.create_study(storage=storage, study_name="theirs")
    with pytest.raises(GMMVAEError, match="holds a study of another program"):
        study(tmp_path, trials=1)


def test_a_line_cut_short_is_dropped_and_the_study_goes_on(study: Study, tmp_path: Path) -> None:
    study(tmp_path, trials=1)
    file, lines = tmp_path / "journal.log", []
    file.write_bytes(file.read_bytes() + b'{"op_code":4,"wor')
    study(tmp_path, trials=2, log=lines.append)
    assert "half-written last line was dropped" in lines[0]
    assert list(lines_of(tmp_path)["state"]) == ["complete"] * 2


def test_a_journal_with_a_gap_is_refused(study: Study, tmp_path: Path) -> None:
    study(tmp_path, trials=1)
    file = tmp_path / "journal.log"
    entries = file.read_text().splitlines(keepends=True)
    file.write_text("".join(entries[1:]))  # the first creates the study
    with pytest.raises(GMMVAEError, match=r"journal\.log.*name another --out"):
        study(tmp_path, trials=2)


# -- processes that die --------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is forked to be killed")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_killed_process_has_its_trial_put_back(plan: StudyPlan) -> None:
    begin(plan, silent)
    child = os.fork()
    if child == 0:
        try:
            with quiet():
                work = claim(open_study(plan), plan)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
        assert work is not None  # it holds the lock until then
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    with quiet():
        study = open_study(plan)
        assert [t.state.name for t in study.trials] == ["RUNNING"]
        params = study.trials[0].params
        work = claim(study, plan)
    assert work is not None
    assert [t.state.name for t in study.trials] == ["FAIL", "RUNNING"]
    assert work.trial.params == params
    work.lock.close()  # as if that one were killed, too
    with quiet():
        again = claim(study, plan)
    assert again is not None
    states = [t.state.name for t in study.trials]
    assert states == ["FAIL", "FAIL", "RUNNING"]
    assert again.trial.params != params
    again.lock.close()


def test_a_killed_study_goes_on_as_if_it_were_not_stopped(plan: StudyPlan, tmp_path: Path) -> None:
    begin(plan, silent)
    run_trial(plan)
    with quiet():
        work = claim(open_study(plan), plan)
    assert work is not None
    work.lock.close()  # killed
    while run_trial(plan) is not None:
        pass
    other = replace(plan, out=tmp_path / "other")
    other.out.mkdir()
    begin(other, silent)
    while run_trial(other) is not None:
        pass

    def trials(one: StudyPlan) -> list[tuple[dict[str, object], float]]:
        with quiet():
            study = open_study(one)
        return [(t.params, t.value) for t in study.trials if t.state.name == "COMPLETE"]

    assert len(trials(plan)) == plan.trials
    assert trials(plan) == trials(other)


def test_commands_that_are_killed_fail_no_trial(plan: StudyPlan) -> None:
    begin(plan, silent)
    params = None
    for kill in range(MAX_COMMANDS):
        with quiet():
            work = claim(open_study(plan), plan)
        assert work is not None
        params = params or work.trial.params
        assert work.trial.params == params, kill
        (work.folder / "alive").write_text("1\n")
        work.lock.close()
    with quiet():
        work = claim(open_study(plan), plan)
    assert work is not None
    assert work.trial.params != params  # it may be the reason
    work.lock.close()


def test_a_trial_of_a_living_process_is_left_to_it(plan: StudyPlan) -> None:
    begin(plan, silent)
    with quiet():
        study = open_study(plan)
    works = [claim(study, plan) for _ in range(4)]
    assert works[3] is None  # three are under way already
    assert [t.state.name for t in study.trials] == ["RUNNING"] * 3
    for work in works[:3]:
        assert work is not None
        work.lock.close()


def test_processes_share_a_study(study: Study, tmp_path: Path) -> None:
    reports: list[Any] = []
    study(tmp_path, {"epochs": 1}, trials=3, jobs=2, on_trial_end=reports.append)
    table = lines_of(tmp_path)
    assert sorted(report.number for report in reports) == [0, 1, 2]
    assert set(table["state"]) == {"complete"}
    assert not table.duplicated(list(SEARCH)).any()


# -- trials that end otherwise -------------------------------------------------------------------


def test_a_trial_that_fails_is_recorded_and_the_study_goes_on(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = execute.train, []

    def train(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise NonFiniteError("the loss became non-finite")
        return real(*arguments, **options)

    monkeypatch.setattr(execute, "train", train)
    reports: list[Any] = []
    study(tmp_path, trials=3, on_trial_end=reports.append)
    table = lines_of(tmp_path)
    assert list(table["state"]) == ["complete", "failed", "complete"]
    assert table["reason"][1] == "the loss became non-finite"
    assert reports[1].value is None
    assert reports[2].finished == 3


def test_a_study_in_which_all_fails_says_why(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: Any, **__: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(execute, "train", train)
    with pytest.raises(GMMVAEError, match=r"none of 2 trials.*the first: MemoryError"):
        study(tmp_path, trials=2)


def test_settings_without_tuning_are_known_after_an_interruption(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(execute, "train", train)
        with pytest.raises(KeyboardInterrupt):
            study(tmp_path, trials=1)
    tuned = study(tmp_path, trials=1)
    assert (tuned.number, tuned.first) == (1, tuned.value)


def test_ctrl_c_puts_the_trial_back_and_keeps_the_others(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = execute.train, []

    def train(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)  # noticed at the next step
        return real(*arguments, **options)

    monkeypatch.setattr(execute, "train", train)
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path, trials=3)
    table = lines_of(tmp_path)
    assert list(table["state"]) == ["complete", "put back", "waiting"]
    assert table["reason"][1] == "interrupted"
    assert (tmp_path / "best.toml").exists()
    study(tmp_path, trials=3)
    table = lines_of(tmp_path)
    assert list(table["state"]) == ["complete", "put back", "complete", "complete"]
    for key in SEARCH:
        assert table[key][1] == table[key][2]


def test_what_lags_behind_is_stopped_and_never_the_best(study: Study, tmp_path: Path) -> None:
    tuned = study(
        tmp_path,
        {"epochs": 8},
        trials=9,
        search={"learning_rate": "1e-7,1e-2"},
        metric="val_log_loss",
    )
    table = lines_of(tmp_path)
    stopped = table[table["state"] == "stopped early"]
    assert len(stopped)
    assert set(stopped["learning_rate"]) == {1e-7}
    assert set(pd.to_numeric(stopped["epochs"])) <= set(range(2, 8))
    assert tuned.config.learning_rate == 1e-2
    assert tuned.value == pd.to_numeric(table["value"]).min()


def test_several_seeds_are_averaged_on_the_same_labels(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    real = execute.train

    def train(config: Any, *arguments: Any, **options: Any) -> Any:
        run = real(config, *arguments, **options)
        history = pd.read_csv(run.path / "history.csv")
        seen.append((config.seed, config.label_seed, history["val_accuracy"].iloc[-1]))
        return run

    monkeypatch.setattr(execute, "train", train)
    tuned = study(tmp_path, {"seed": 3, "labels": 30}, trials=1, seeds=2, keep_runs=True)
    assert [(seed, labels) for seed, labels, _ in seen] == [(3, 3), (4, 3)]
    assert tuned.value == pytest.approx((seen[0][2] + seen[1][2]) / 2)
    assert {f.name for f in (tmp_path / "trials" / "0").iterdir()} == {"seed-3", "seed-4"}


def test_seeds_of_a_trial_are_trained_side_by_side(study: Study, tmp_path: Path) -> None:
    keys = {"labels": 30, "engine": "batched", "device": "cpu"}
    tuned = study(tmp_path, keys, trials=1, seeds=2, keep_runs=True)
    runs = [tmp_path / "trials" / "0" / f"seed-{seed}" for seed in (0, 1)]
    assert {json.loads((run / "metrics.json").read_text())["engine"] for run in runs} == {"batched"}
    last = [pd.read_csv(run / "history.csv")["val_accuracy"].iloc[-1] for run in runs]
    assert tuned.value == pytest.approx(sum(last) / 2)


def test_with_patience_the_best_epoch_counts(study: Study, tmp_path: Path) -> None:
    keys = {"epochs": 6, "patience": 6, "learning_rate": 0.05}
    search = {"latent_dim": "2:4"}
    tuned = study(tmp_path, keys, trials=1, search=search, keep_runs=True)
    run = tmp_path / "trials" / "0" / "seed-0"
    best = json.loads((run / "metrics.json").read_text())["best_epoch"]
    assert tuned.value == pd.read_csv(run / "history.csv")["val_accuracy"][best - 1]


def test_a_budget_that_is_over_begins_no_trial(study: Study, tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(GMMVAEError, match=r"no trial in .* was completed in this time"):
        study(tmp_path, trials=50, minutes=1e-9)
    assert time.monotonic() - started < 30


# -- what is refused before the first trial ------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "options", "message"),
    [
        ({}, {"sampler": "grid"}, "unknown sampler 'grid'"),
        ({}, {"metric": "accuracy"}, "did you mean 'val_accuracy'"),
        (
            {"labels": 0},
            {"metric": "val_accuracy"},
            "needs labels, and these fits see none; use --metric val_elbo",
        ),
        ({"model": "vae"}, {"metric": "val_log_loss"}, "'vae' does not use them"),
        ({}, {"metric": "val_sequence_accuracy"}, "needs sequences"),
        ({"validation": 0}, {}, "needs validation rows"),
        ({}, {"search": {"temperature": "0:1"}}, "temperature must be positive"),
        ({}, {"search": {"auxiliary_dim": "2:8"}}, "auxiliary_dim is not a key of the model"),
        ({}, {"search": {"window": "1:4"}}, "window needs sequences"),
        ({}, {"search": {"batch_size": "4:64"}}, "labelled_per_batch must be in 0..3"),
        ({}, {"search": {"guide": "product,prodct"}}, "unknown guide 'prodct'"),
        ({}, {"search": {"latent_dim": (2, 4)}}, "Real, Whole or Choice"),
        ({}, {"trials": 0}, "trials must be above 0"),
        ({}, {"minutes": float("nan")}, "minutes must be above 0"),
    ],
)
def test_what_can_not_be_tuned_is_refused(
    study: Study, tmp_path: Path, keys: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(GMMVAEError, match=message):
        study(tmp_path / "out", keys, **{"trials": 2, **options})
    assert not (tmp_path / "out").exists()


def test_without_optuna_the_extra_is_named(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(GMMVAEError, match=r"needs Optuna: pip install 'pyro-gmmvae\[tune\]'"):
        study(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "trials.csv", "history.png"])
def test_a_folder_of_others_is_left_alone(study: Study, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("of others")
    with pytest.raises(GMMVAEError, match=f"has {name} and no journal.log"):
        study(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "of others"


def test_a_file_for_a_folder_is_refused(study: Study, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(GMMVAEError, match="is a file; name a folder"):
        study(tmp_path / "out")
