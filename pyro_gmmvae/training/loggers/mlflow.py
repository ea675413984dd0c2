"""An MLflow run: where MLflow itself would look for it, or at a tracking server."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyro_gmmvae import __version__
from pyro_gmmvae.errors import GMMVAEError, missing_extra
from pyro_gmmvae.training.loggers.base import named, tagged

STATE = "mlflow.json"
ARTIFACTS = ("config.json", "environment.json", "history.csv", "metrics.json")
COUNTER = "schedule/epoch"
PARAMS_AT_ONCE = 100  # MLflow's limit
STATUS = {"complete": "FINISHED", "early-stopped": "FINISHED"}


class MLflowLogger:
    """Logs to the store that ``$MLFLOW_TRACKING_URI`` names (without it: MLflow's own default).

    Params are the config, metrics are logged per epoch at the optimizer's step, tags name the
    run folder and the package's version; ``config.json``, ``metrics.json``, ``history.csv`` and
    ``environment.json`` become artifacts at the end. The experiment is that of
    ``$MLFLOW_EXPERIMENT_NAME`` or ``$MLFLOW_EXPERIMENT_ID``, or "Default". A client of its own is
    used: MLflow's active run, which is global, is left alone.

    The MLflow run's id is kept in ``mlflow.json``, and a fit that is resumed goes on there. MLflow
    forgets no metric, so steps that it has are not logged again. Params can't change there; a
    key that did becomes a tag "resumed.KEY".

    Raises:
        GMMVAEError: if MLflow is not installed.
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
        self._logged = -1
        self._status = "FAILED"  # unless a fit says how it ended

    def on_start(self, about: str) -> None:
        with named("mlflow"):
            if self._client is None:
                self._open()
            self._about.append(about)
            # what MLflow shows as the run's description, in Markdown
            self._client.set_tag(self._run, "mlflow.note.content", "\n\n".join(self._about))

    def on_epoch(self, record: dict[str, float]) -> None:
        from mlflow.entities import Metric

        step, now = int(record["step"]), int(time.time() * 1000)
        if step <= self._logged:
            return
        metrics = [Metric(tag, value, now, step) for tag, value in tagged(record).items()]
        with named("mlflow"):
            self._client.log_batch(self._run, metrics=metrics)

    def on_end(self, outcome: str) -> None:
        self._status = STATUS.get(outcome, "KILLED")

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with named("mlflow"):
                for name in ARTIFACTS:
                    if (self.folder / name).exists():
                        client.log_artifact(self._run, str(self.folder / name))
                client.set_terminated(self._run, self._status)

    def _open(self) -> None:
        """Begin an MLflow run, or go on with the one that ``mlflow.json`` names."""
        import mlflow

        client, file = mlflow.MlflowClient(), self.folder / STATE
        if file.exists():
            self._run = _read_id(file)
            self._go_on(client, mlflow.get_tracking_uri())
        else:
            tags = {
                "pyro_gmmvae.version": __version__,
                "pyro_gmmvae.run": str(file.parent.resolve()),
            }
            name = file.parent.resolve().name
            run = client.create_run(_experiment(client), run_name=name, tags=tags)
            self._run = run.info.run_id
            _write_id(file, self._run)
            _log_params(client, self._run, self._params())
        self._client = client

    def _go_on(self, client: Any, store: str) -> None:
        try:
            had = client.get_run(self._run).data.params
        except Exception as error:
            raise GMMVAEError(
                f"{self.folder / STATE} names the MLflow run {self._run}, which {store} does not "
                "give; set MLFLOW_TRACKING_URI to the store it began in, delete the file to begin "
                "another run, or go on with --log none"
            ) from error
        client.update_run(self._run, status="RUNNING")
        params = self._params()
        for key in [key for key, value in params.items() if had.get(key, value) != value]:
            client.set_tag(self._run, f"resumed.{key}", params.pop(key))
        _log_params(client, self._run, {k: v for k, v in params.items() if k not in had})
        history = client.get_metric_history(self._run, COUNTER)
        self._logged = max((metric.step for metric in history), default=-1)

    def _params(self) -> dict[str, str]:
        return {key: _text(value) for key, value in self.config.items()}


def _log_params(client: Any, run: str, params: Mapping[str, str]) -> None:
    from mlflow.entities import Param

    every = [Param(key, value) for key, value in params.items()]
    for start in range(0, len(every), PARAMS_AT_ONCE):
        client.log_batch(run, params=every[start : start + PARAMS_AT_ONCE])


def _experiment(client: Any) -> str:
    """The experiment that MLflow's own variables name, made where a name is new."""
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME")
    if not name:
        return os.environ.get("MLFLOW_EXPERIMENT_ID", "0")
    found = client.get_experiment_by_name(name)
    return str(client.create_experiment(name) if found is None else found.experiment_id)


def _text(value: Any) -> str:
    """A value as a param, none of which may be empty."""
    text = ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
    return text if text and value is not None else "none"


def _read_id(file: Path) -> str:
    try:
        content = json.loads(file.read_text())
        if isinstance(content["run_id"], str):
            return content["run_id"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        cause: Exception | None = error
    else:
        cause = None
    raise GMMVAEError(
        f"{file} does not name an MLflow run; delete it to begin another one, or go on with "
        "--log none"
    ) from cause


def _write_id(file: Path, run: str) -> None:
    part = file.with_name(f".part-{file.name}")
    part.write_text(json.dumps({"run_id": run}, indent=2) + "\n")
    part.replace(file)
