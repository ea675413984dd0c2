"""Loggers: callbacks that write the numbers of a fit to TensorBoard or MLflow."""

import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pyro_gmmvae import __version__
from pyro_gmmvae.errors import GMMVAEError, missing_extra, unknown_name
from pyro_gmmvae.files import read_json_as, write_json
from pyro_gmmvae.training.callbacks import Callback

SCHEDULE_NAMES = ("epoch", "learning_rate", "seconds")

EVENT_VERSION = "brain.Event:2"  # from this version on a session's start purges

MLFLOW_FILE = "mlflow.json"
MLFLOW_ARTIFACTS = ("config.json", "environment.json", "history.csv", "metrics.json")
MLFLOW_COUNTER = "schedule/epoch"
MAX_PARAMS = 100  # of one request to MLflow
MLFLOW_STATUS = {"complete": "FINISHED", "early-stopped": "FINISHED"}


def build_loggers(names: Sequence[str], folder: Path, config: Mapping[str, Any]) -> list[Callback]:
    """Build a logger for each name, which has written nothing yet.

    Args:
        names: keys of :data:`LOGGERS`.
        folder: of the run.
        config: keys and plain values of the run's configuration.

    Raises:
        GMMVAEError: an unknown name, or a package that is not installed.
    """
    for name in names:
        if name not in LOGGERS:
            raise unknown_name("log", name, list(LOGGERS))
    return [LOGGERS[name](folder, config) for name in dict.fromkeys(names)]


@contextmanager
def closing(loggers: Sequence[Callback]) -> Iterator[None]:
    """Close the loggers at the end of the block, also after an error."""
    with ExitStack() as stack:
        for logger in loggers:
            stack.callback(logger.close)
        yield


def tagged(record: Mapping[str, float]) -> dict[str, float]:
    """A row of the history under train/, val/ and schedule/, without its step.

    >>> tagged({"step": 15, "loss": 2.5, "val_elbo": -3.0, "learning_rate": 0.1})
    {'train/loss': 2.5, 'val/elbo': -3.0, 'schedule/learning_rate': 0.1}
    """
    return {_tag(name): float(value) for name, value in record.items() if name != "step"}


def _tag(name: str) -> str:
    if name in SCHEDULE_NAMES:
        return f"schedule/{name}"
    return f"val/{name[4:]}" if name.startswith("val_") else f"train/{name}"


@contextmanager
def _logging_errors(target: str) -> Iterator[None]:
    """Name the log that failed in one sentence; the libraries' errors are of many kinds."""
    try:
        yield
    except GMMVAEError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise GMMVAEError(
            f"can't log to {target}: {reason}; solve this, or fit without the log (--log none)"
        ) from error


def _text(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
    return text if text and value is not None else "none"


class TensorBoardLogger(Callback):
    """Writes RUN/tensorboard: scalars by optimizer step and wall time, the configuration as text.

    Each epoch is on disk before the next begins. A resumed fit begins another event file, which
    purges the steps after the checkpoint. The HParams plugin gets the configuration too, so that
    it compares the runs under a ``--logdir``.

    Summaries are those of ``torch.utils.tensorboard``. Its ``SummaryWriter`` writes in a thread,
    where a full disk ends the thread with a traceback; here a full disk is an error of the fit.

    Args:
        folder: of the run.
        config: keys and plain values of the run's configuration.

    Raises:
        GMMVAEError: if TensorBoard is not installed, or the folder can't be written.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError as error:
            raise missing_extra("log=tensorboard", "TensorBoard", "tensorboard") from error
        self.folder, self.config = folder / "tensorboard", config
        self._about: list[str] = []
        self._records: Any = None

    def on_start(self, about: str) -> None:
        with _logging_errors(str(self.folder)):
            self.folder.mkdir(exist_ok=True)  # an error comes before the first epoch
        self._about.append(about)

    def on_epoch(self, record: dict[str, float]) -> None:
        from torch.utils.tensorboard.summary import scalar

        step = int(record["step"])
        with _logging_errors(str(self.folder)):
            if self._records is None:
                self._open(step)
            for tag, value in tagged(record).items():
                self._write(step=step, summary=scalar(tag, value))
            self._records.flush()

    def close(self) -> None:
        records, self._records = self._records, None
        if records is not None:
            with _logging_errors(str(self.folder)):
                records.close()

    def _open(self, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter
        from torch.utils.tensorboard.summary import hparams, text

        self.folder.mkdir(exist_ok=True)
        # TensorBoard reads a folder's files in the order of their names
        number, now = len(list(self.folder.iterdir())), int(time.time())
        name = f"events.out.tfevents.{now:010d}.{platform.node()}.{os.getpid()}.{number}"
        self._records = RecordWriter((self.folder / name).open("xb"))
        self._write(file_version=EVENT_VERSION)
        self._write(step=step, session_log=SessionLog(status=SessionLog.START))
        lines = json.dumps(dict(self.config), indent=2).splitlines()
        # Markdown: paragraphs, and an indented block
        about, config = "\n\n".join(self._about), "\n".join(f"    {line}" for line in lines)
        for tag, content in (("about", about), ("config", config)):
            self._write(step=step, summary=text(tag, content))
        values = {
            key: value if isinstance(value, int | float | str) else _text(value)
            for key, value in self.config.items()
        }
        for summary in hparams(values, {})[:2]:
            self._write(step=step, summary=summary)

    def _write(self, **event: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._records.write(Event(wall_time=time.time(), **event).SerializeToString())


class MLflowLogger(Callback):
    """Logs to the store of ``$MLFLOW_TRACKING_URI`` (without it: MLflow's own default).

    Params are the configuration, metrics are logged per epoch at the optimizer's step, tags name
    the run folder and the package's version; ``config.json``, ``metrics.json``, ``history.csv``
    and ``environment.json`` become artifacts at the end. The experiment is that of
    ``$MLFLOW_EXPERIMENT_NAME`` or ``$MLFLOW_EXPERIMENT_ID``, or "Default". The logger has its own
    client: MLflow's active run, which is global, stays as it is.

    ``mlflow.json`` holds the id of the MLflow run, and a resumed fit continues it. MLflow deletes
    no metric, so steps that it has are not logged again. Params can't change there: a key that
    did becomes a tag "resumed.KEY".

    Args:
        folder: of the run.
        config: keys and plain values of the run's configuration.

    Raises:
        GMMVAEError: if MLflow is not installed, or its store fails.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        try:
            import mlflow  # noqa: F401
        except ImportError as error:
            raise missing_extra("log=mlflow", "MLflow", "mlflow") from error
        self.folder, self.config = folder, config
        self._client: Any = None
        self._about: list[str] = []
        self._run = ""
        self._last_step = -1
        self._status = "FAILED"  # until the fit ends

    def on_start(self, about: str) -> None:
        with _logging_errors("mlflow"):
            if self._client is None:
                self._open()
            self._about.append(about)
            # MLflow shows it as the run's description, in Markdown
            self._client.set_tag(self._run, "mlflow.note.content", "\n\n".join(self._about))

    def on_epoch(self, record: dict[str, float]) -> None:
        from mlflow.entities import Metric

        step, now = int(record["step"]), int(time.time() * 1000)
        if step <= self._last_step:
            return
        metrics = [Metric(tag, value, now, step) for tag, value in tagged(record).items()]
        with _logging_errors("mlflow"):
            self._client.log_batch(self._run, metrics=metrics)

    def on_end(self, outcome: str) -> None:
        self._status = MLFLOW_STATUS.get(outcome, "KILLED")

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with _logging_errors("mlflow"):
                for name in MLFLOW_ARTIFACTS:
                    if (self.folder / name).exists():
                        client.log_artifact(self._run, str(self.folder / name))
                client.set_terminated(self._run, self._status)

    def _open(self) -> None:
        """Create an MLflow run, or continue the one in ``mlflow.json``."""
        import mlflow

        client, file = mlflow.MlflowClient(), self.folder / MLFLOW_FILE
        params = {key: _text(value) for key, value in self.config.items()}
        if file.exists():
            self._run = _read_run_id(file)
            params = self._resume(client, mlflow.get_tracking_uri(), params)
        else:
            folder = str(file.parent.resolve())
            tags = {"pyro_gmmvae.version": __version__, "pyro_gmmvae.run": folder}
            run = client.create_run(_experiment(client), run_name=Path(folder).name, tags=tags)
            self._run = run.info.run_id
            write_json(file, {"run_id": self._run})
        _log_params(client, self._run, params)
        self._client = client

    def _resume(self, client: Any, store: str, params: dict[str, str]) -> dict[str, str]:
        """Continue an MLflow run; returns the params that it does not have yet."""
        try:
            logged = client.get_run(self._run).data.params
        except Exception as error:
            raise GMMVAEError(
                f"{self.folder / MLFLOW_FILE} names the MLflow run {self._run}, which {store} does "
                "not have; set MLFLOW_TRACKING_URI to the store of the run, delete the file to "
                "begin another run, or go on with --log none"
            ) from error
        client.update_run(self._run, status="RUNNING")
        for key, value in params.items():
            if logged.get(key, value) != value:
                client.set_tag(self._run, f"resumed.{key}", value)
        history = client.get_metric_history(self._run, MLFLOW_COUNTER)
        self._last_step = max((metric.step for metric in history), default=-1)
        return {key: value for key, value in params.items() if key not in logged}


def _log_params(client: Any, run: str, params: Mapping[str, str]) -> None:
    from mlflow.entities import Param

    entities = [Param(key, value) for key, value in params.items()]
    for start in range(0, len(entities), MAX_PARAMS):
        client.log_batch(run, params=entities[start : start + MAX_PARAMS])


def _experiment(client: Any) -> str:
    """The experiment of MLflow's environment variables, created if its name is new."""
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME")
    if not name:
        return os.environ.get("MLFLOW_EXPERIMENT_ID", "0")
    experiment = client.get_experiment_by_name(name)
    return str(client.create_experiment(name) if experiment is None else experiment.experiment_id)


def _read_run_id(file: Path) -> str:
    try:
        return read_json_as(file, dict[str, str])["run_id"]
    except (GMMVAEError, KeyError) as error:
        raise GMMVAEError(
            f"{file} does not name an MLflow run; delete it to begin another one, or go on with "
            "--log none"
        ) from error


LOGGERS: dict[str, Callable[[Path, Mapping[str, Any]], Callback]] = {
    "tensorboard": TensorBoardLogger,
    "mlflow": MLflowLogger,
}
