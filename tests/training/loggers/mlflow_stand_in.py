"""The functions of MLflow that the logger uses, with MLflow's rules, in memory.

The tests run against this and, where MLflow is installed, against it too.
"""

import itertools
import os
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any


class MlflowException(Exception):  # noqa: N818
    """As MLflow's."""


class Metric:
    def __init__(self, key: str, value: float, timestamp: int, step: int) -> None:
        self.key, self.value, self.timestamp, self.step = key, value, timestamp, step


class Param:
    def __init__(self, key: str, value: str) -> None:
        self.key, self.value = key, value


Stores = dict[str, dict[str, Any]]


def stand_in(stores: Stores) -> tuple[ModuleType, ModuleType]:
    """The modules mlflow and mlflow.entities on stores by their URI."""
    numbers = itertools.count(1)

    def uri() -> str:
        return os.environ["MLFLOW_TRACKING_URI"]

    class MlflowClient:
        def __init__(self) -> None:
            self.store = stores.setdefault(uri(), {"runs": {}, "experiments": {"0": "Default"}})

        def get_experiment_by_name(self, name: str) -> Any:
            for number, known in self.store["experiments"].items():
                if known == name:
                    return SimpleNamespace(experiment_id=number, name=name)
            return None

        def create_experiment(self, name: str) -> str:
            number = str(len(self.store["experiments"]))
            self.store["experiments"][number] = name
            return number

        def create_run(
            self, experiment_id: str, *, run_name: str, tags: dict[str, str]
        ) -> SimpleNamespace:
            if experiment_id not in self.store["experiments"]:
                raise MlflowException(f"No Experiment with id={experiment_id} exists")
            number = f"run-{next(numbers)}"
            info = SimpleNamespace(
                run_id=number, run_name=run_name, experiment_id=experiment_id, status="RUNNING"
            )
            data = SimpleNamespace(params={}, tags=dict(tags))
            run = SimpleNamespace(info=info, data=data, metrics=[], artifacts=[])
            self.store["runs"][number] = run
            return run

        def get_run(self, run_id: str) -> SimpleNamespace:
            if run_id not in self.store["runs"]:
                raise MlflowException(f"Run with id={run_id} not found")
            return self.store["runs"][run_id]

        def update_run(self, run_id: str, status: str) -> None:
            self.get_run(run_id).info.status = status

        def set_tag(self, run_id: str, key: str, value: str) -> None:
            self.get_run(run_id).data.tags[key] = value

        def log_batch(
            self, run_id: str, metrics: tuple[Metric, ...] = (), params: tuple[Param, ...] = ()
        ) -> None:
            run = self.get_run(run_id)
            if len(params) > 100 or len(metrics) > 1000:
                raise MlflowException("A batch logging request can contain at most 100 params")
            for param in params:
                if run.data.params.setdefault(param.key, param.value) != param.value:
                    raise MlflowException(f"Changing param values is not allowed: {param.key}")
            run.metrics.extend(metrics)

        def get_metric_history(self, run_id: str, key: str) -> list[Metric]:
            return [metric for metric in self.get_run(run_id).metrics if metric.key == key]

        def log_artifact(self, run_id: str, local_path: str) -> None:
            path = Path(local_path)
            path.read_bytes()
            self.get_run(run_id).artifacts.append(SimpleNamespace(path=path.name))

        def list_artifacts(self, run_id: str) -> list[SimpleNamespace]:
            return self.get_run(run_id).artifacts

        def set_terminated(self, run_id: str, status: str) -> None:
            self.update_run(run_id, status)

    mlflow, entities = ModuleType("mlflow"), ModuleType("mlflow.entities")
    parts = {
        "MlflowClient": MlflowClient,
        "MlflowException": MlflowException,
        "get_tracking_uri": uri,
        "entities": entities,
    }
    vars(mlflow).update(parts)
    vars(entities).update(Metric=Metric, Param=Param)
    return mlflow, entities
