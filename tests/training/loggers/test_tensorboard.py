"""TensorBoard reads the numbers of history.csv, each step once; all files are closed."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.runs import default_config, job, resume, train
from pyro_gmmvae.training import Callback
from pyro_gmmvae.training.distributed import World
from pyro_gmmvae.training.loggers import TensorBoardLogger
from tests.training.loggers.conftest import KEYS, STEPS, history

RECORD = {"epoch": 1.0, "step": 15.0, "loss": 2.5}


def read(run: Path) -> Any:
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return events


def steps(run: Path, tag: str = "val/elbo") -> list[int]:
    return [event.step for event in read(run).Scalars(tag)]


def open_files(folder: Path) -> list[str]:
    """This process's open files below a folder."""
    places = Path("/proc/self/fd")
    if not places.is_dir():
        pytest.skip("open files are listed on Linux alone")
    found = [str(place.readlink()) for place in places.iterdir() if place.is_symlink()]
    return [name for name in found if name.startswith(str(folder))]


class Raises(Callback):
    """Ends a fit after a number of epochs."""

    def __init__(self, what: BaseException, epochs: int = 2) -> None:
        self.what, self.epochs = what, epochs

    def on_epoch(self, record: dict[str, float]) -> None:
        if record["epoch"] == self.epochs:
            raise self.what


def test_a_log_changes_no_number(boarded: Path, silent: Path) -> None:
    assert history(boarded).equals(history(silent))
    weights = "weights.safetensors"
    assert (boarded / weights).read_bytes() == (silent / weights).read_bytes()


def test_scalars_are_the_history_by_step_and_in_groups(boarded: Path) -> None:
    events, table = read(boarded), history(boarded)
    groups = {"epoch": "schedule/epoch", "learning_rate": "schedule/learning_rate"}
    for column in table.columns.drop("step"):
        val = column.startswith("val_")
        tag = groups.get(column, f"val/{column[4:]}" if val else f"train/{column}")
        found = events.Scalars(tag)
        assert [event.step for event in found] == table["step"].tolist()
        np.testing.assert_allclose([e.value for e in found], table[column], rtol=1e-6)
        assert found[0].wall_time < found[1].wall_time
    assert len(events.Tags()["scalars"]) == len(table.columns)  # seconds instead of step


def test_the_configuration_is_logged_as_text_and_as_hyperparameters(boarded: Path) -> None:
    events = read(boarded)
    text = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    config = json.loads((boarded / "config.json").read_text())["config"]
    assert json.loads(text) == config
    about = events.Tensors("about/text_summary")[0].tensor_proto.string_val[0].decode()
    assert about.startswith("1797 rows")
    assert about.endswith("engine: svi")
    from tensorboard.plugins.hparams.metadata import parse_session_start_info_plugin_data

    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    hparams = parse_session_start_info_plugin_data(content).hparams
    assert hparams["latent_dim"].number_value == 2
    assert hparams["hidden"].string_value == "16"


def test_resume_continues_the_log(boarded: Path, copied: Callable[[Path], Path]) -> None:
    run = copied(boarded)
    resume(run, epochs=3)
    assert steps(run) == [STEPS, 2 * STEPS, 3 * STEPS]
    assert len(list((run / "tensorboard").iterdir())) == 2


def test_steps_after_the_checkpoint_are_logged_once(
    boarded: Path, copied: Callable[[Path], Path]
) -> None:
    """As after a kill: the log has epochs 3 and 4, and the checkpoint does not."""
    run = copied(boarded)
    before = (run / "training.pt").read_bytes()
    resume(run, epochs=4)
    old = [event.wall_time for event in read(run).Scalars("val/elbo")]
    (run / "training.pt").write_bytes(before)
    resume(run, epochs=4)
    assert steps(run) == [STEPS * n for n in (1, 2, 3, 4)]
    new = [event.wall_time for event in read(run).Scalars("val/elbo")]
    assert new[:2] == old[:2]
    assert new[2] > old[3]


def test_resume_takes_other_logs(silent: Path, copied: Callable[[Path], Path]) -> None:
    run = copied(silent)
    resume(run, epochs=3, log=["tensorboard"])
    assert steps(run) == [3 * STEPS]
    resume(run, epochs=4, log=())
    assert steps(run) == [3 * STEPS]
    assert json.loads((run / "config.json").read_text())["config"]["log"] == []


def test_an_exception_leaves_readable_events_and_nothing_open(tmp_path: Path) -> None:
    threads, run = threading.active_count(), tmp_path / "run"
    config = default_config("digits", {**KEYS, "log": "tensorboard", "checkpoint_seconds": 60})
    with pytest.raises(ZeroDivisionError):
        train(config, run, callbacks=[Raises(ZeroDivisionError())])
    assert threading.active_count() == threads
    assert open_files(tmp_path) == []
    assert steps(run) == [STEPS]


def test_a_fit_stopped_before_its_first_checkpoint_leaves_no_events(tmp_path: Path) -> None:
    threads = threading.active_count()
    config = default_config("digits", {**KEYS, "log": "tensorboard", "checkpoint_seconds": 60})
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run", callbacks=[Raises(KeyboardInterrupt())])
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == threads


def test_replacing_a_run_removes_its_events(boarded: Path, copied: Callable[[Path], Path]) -> None:
    run = copied(boarded)
    (run / "tensorboard" / "events.out.tfevents.old").write_bytes(b"")
    train(default_config("digits", {**KEYS, "epochs": 1}), run, force=True)
    assert not (run / "tensorboard").exists()
    assert [folder.name for folder in run.parent.iterdir()] == [run.name]


def test_only_the_first_process_logs(
    silent: Path, copied: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import nullcontext

    import torch

    run = copied(silent)
    second = (World(rank=1), torch.device("cpu"))
    monkeypatch.setattr(job, "process_group", lambda device: nullcontext(second))  # noqa: ARG005
    resume(run, epochs=3, log=["tensorboard"])
    assert not (run / "tensorboard").exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("a file")
    logger = TensorBoardLogger(tmp_path, {})
    with pytest.raises(GMMVAEError, match=r"can't log to .*tensorboard: .*fit without the log"):
        logger.on_epoch(RECORD)
    with pytest.raises(GMMVAEError, match=r"can't log to .*tensorboard"):
        logger.on_start("before any epoch")
    logger.close()


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    """Simulated by a limit on the size of a file."""
    import resource
    import signal

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    threads, logger = threading.active_count(), TensorBoardLogger(tmp_path, {"epochs": 3})
    logger.on_epoch(RECORD)
    try:
        (size,) = (file.stat().st_size for file in (tmp_path / "tensorboard").iterdir())
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        with pytest.raises(GMMVAEError, match=r"can't log to .*tensorboard: "):
            logger.on_epoch({**RECORD, "step": 30.0})
        with pytest.raises(GMMVAEError, match=r"can't log to .*tensorboard: "):
            logger.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    logger.close()
    assert threading.active_count() == threads
    assert open_files(tmp_path) == []
