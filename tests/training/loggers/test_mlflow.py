"""An MLflow run follows a fit that is stopped and resumed; read back with MLflow's client."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyro_gmmvae import __version__
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.runs import default_config, resume, train
from pyro_gmmvae.training.loggers import MLflowLogger
from tests.training.loggers.conftest import KEYS, STEPS, history
from tests.training.loggers.mlflow_stand_in import stand_in

RECORD = {"epoch": 1.0, "step": 15.0, "loss": 2.5, "val_elbo": -3.0}


@pytest.fixture(
    params=[
        "stand-in",
        # what MLflow imports warns of itself
        pytest.param("mlflow", marks=pytest.mark.filterwarnings("ignore")),
    ]
)
def client(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[], Any]:
    """Makes clients of an empty store: the replacement's, and MLflow's if it is installed."""
    for name in ("MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)  # artifacts lie beside the store
    if request.param == "mlflow":
        mlflow = pytest.importorskip("mlflow")
    else:
        mlflow, entities = stand_in({})
        monkeypatch.setitem(sys.modules, "mlflow", mlflow)
        monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    return lambda: mlflow.MlflowClient()


Client = Callable[[], Any]


def run_id(folder: Path) -> str:
    return str(json.loads((folder / "mlflow.json").read_text())["run_id"])


def logged(client: Client, folder: Path, key: str = "val/elbo") -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in client().get_metric_history(run_id(folder), key)]


def test_a_fit_is_an_mlflow_run_and_resume_continues_it(client: Client, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(default_config("digits", {**KEYS, "log": "mlflow"}), folder)
    first, store = run_id(folder), client()
    run = store.get_run(first)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "run")
    config = json.loads((folder / "config.json").read_text())["config"]
    assert run.data.params.keys() == config.keys()
    assert {k: run.data.params[k] for k in ("model", "hidden", "latent_dim", "minutes")} == {
        "model": "gmmvae",
        "hidden": "16",
        "latent_dim": "2",
        "minutes": "none",
    }
    tags = run.data.tags
    assert tags["pyro_gmmvae.version"] == __version__
    assert tags["pyro_gmmvae.run"] == str(folder)
    assert tags["mlflow.note.content"].startswith("1797 rows")
    assert tags["mlflow.note.content"].endswith("engine: svi")
    artifacts = {artifact.path for artifact in store.list_artifacts(first)}
    assert artifacts == {"config.json", "environment.json", "history.csv", "metrics.json"}

    resume(folder, epochs=4)
    assert run_id(folder) == first
    table = history(folder)
    assert logged(client, folder) == list(zip(table["step"], table["val_elbo"], strict=True))
    assert logged(client, folder, "train/loss")[-1][1] == table["loss"].iloc[-1]
    run = client().get_run(first)
    assert (run.info.status, run.data.params["epochs"]) == ("FINISHED", "2")
    assert run.data.tags["resumed.epochs"] == "4"


def test_steps_after_the_checkpoint_are_logged_once(client: Client, tmp_path: Path) -> None:
    """As after a kill: MLflow has epoch 2, and the checkpoint does not."""
    for epochs in ((1, 2), (2, 3)):
        logger = MLflowLogger(tmp_path, {})
        logger.on_start("rows")
        for epoch in epochs:
            logger.on_epoch({**RECORD, "epoch": epoch, "step": STEPS * epoch})
        logger.close()
    assert [step for step, _ in logged(client, tmp_path)] == [15, 30, 45]


@pytest.mark.parametrize(
    ("outcome", "status"),
    [("complete", "FINISHED"), ("early-stopped", "FINISHED"), ("SIGINT", "KILLED"), ("", "FAILED")],
)
def test_the_status_follows_the_outcome(
    client: Client, tmp_path: Path, outcome: str, status: str
) -> None:
    logger = MLflowLogger(tmp_path, {"epochs": 3})
    logger.on_start("rows")
    assert client().get_run(run_id(tmp_path)).info.status == "RUNNING"
    if outcome:
        logger.on_end(outcome)
    logger.close()
    logger.close()
    assert client().get_run(run_id(tmp_path)).info.status == status


def test_more_params_than_a_request_takes(client: Client, tmp_path: Path) -> None:
    logger = MLflowLogger(tmp_path, {f"key{n}": n for n in range(101)})
    logger.on_start("rows")
    logger.close()
    assert len(client().get_run(run_id(tmp_path)).data.params) == 101


def test_environment_variables_choose_the_experiment(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "gaits")
    found = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        logger = MLflowLogger(tmp_path / name, {})
        logger.on_start("rows")
        logger.close()
        found.append(client().get_run(run_id(tmp_path / name)).info.experiment_id)
    assert found == [client().get_experiment_by_name("gaits").experiment_id] * 2
    assert found[0] != "0"


def test_a_run_that_the_store_does_not_have_is_named(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = MLflowLogger(tmp_path, {})
    logger.on_start("rows")
    logger.close()
    other = f"sqlite:///{tmp_path}/other.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", other)
    with pytest.raises(GMMVAEError, match=f"{run_id(tmp_path)}, which .*; set MLFLOW_TRACKING_URI"):
        MLflowLogger(tmp_path, {}).on_start("rows")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", other.replace("other", "mlflow"))
    again = MLflowLogger(tmp_path, {})
    again.on_start("rows")
    again.close()
    assert client is not None


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"run_id": 3}'])
def test_a_damaged_file_is_named(client: Client, tmp_path: Path, content: str) -> None:
    (tmp_path / "mlflow.json").write_text(content)
    logger = MLflowLogger(tmp_path, {})
    with pytest.raises(GMMVAEError, match=r"mlflow\.json does not name an MLflow run; delete it"):
        logger.on_start("rows")
    logger.close()
    assert client is not None


def test_an_error_of_the_store_is_one_sentence(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "4711")
    with pytest.raises(GMMVAEError, match=r"can't log to mlflow: No .*4711.*fit without the log"):
        MLflowLogger(tmp_path, {}).on_start("rows")
    assert not (tmp_path / "mlflow.json").exists()
    assert client is not None
