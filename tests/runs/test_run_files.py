"""Files of a run folder that were damaged: one line, and nothing is written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import load_training, load_weights, save_training, save_weights
from pyro_gmmvae.runs import Run, default_config, resume, train

KEYS = {"epochs": 1, "hidden": (8,), "latent_dim": 2, "device": "cpu", "engine": "svi", "labels": 0}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = default_config("digits", KEYS | {"validation": 100, "test": 100})
    return train(config, tmp_path_factory.mktemp("files") / "run")


@pytest.fixture
def folder(trained: Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained.path, tmp_path / "run"))


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def refuses(action: Callable[[], Any], folder: Path, *words: str) -> None:
    before = contents(folder)
    with pytest.raises(GMMVAEError) as refusal:
        action()
    message = str(refusal.value)
    assert "\n" not in message
    assert all(word in message for word in words), message
    assert contents(folder) == before


def test_the_run_of_a_training_has_the_weights_that_load_reads(trained: Run) -> None:
    loaded = Run.load(trained.path, device="cpu")
    assert (loaded.config, loaded.weights) == (trained.config, trained.weights)
    assert loaded.config.given == trained.config.given
    for name, tensor in loaded.model.state_dict().items():
        assert torch.equal(tensor, trained.model.state_dict()[name])
    x = torch.rand(5, 1, 8, 8)
    assert (loaded.elbo(x) == trained.elbo(x)).all()


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("names.json", "{", "JSON"),
        ("names.json", '{"names": [" "]}', "names"),
        ("names.json", '{"names": ["a"]}', "1 names"),
        ("metrics.json", '{"elbo_quantiles": ["high"]}', "elbo_quantiles"),
        ("metrics.json", "[]", "damaged"),
        ("environment.json", '{"processes": "two"}', "processes"),
        ("environment.json", '{"resumed": 1}', "resumed"),
        ("config.json", '{"format": 4, "config": []}', "config"),
    ],
)
def test_resume_finds_damage_before_it_writes(
    folder: Path, name: str, text: str, word: str
) -> None:
    (folder / name).write_text(text)
    refuses(lambda: resume(folder, epochs=2), folder, name, word)


def test_evaluate_finds_damaged_metrics_before_it_writes(folder: Path) -> None:
    (folder / "metrics.json").write_text('{"elbo_quantiles": ["high"]}')
    refuses(lambda: Run.load(folder, device="cpu").evaluate(), folder, "metrics.json")


def test_damaged_progress_is_refused(folder: Path) -> None:
    state = load_training(folder / "training.pt", torch.device("cpu"))
    save_training(folder / "training.pt", state | {"epoch": -1})
    refuses(lambda: resume(folder, epochs=2), folder, "training.pt", "epoch")


@pytest.mark.parametrize("damage", ["no entries", "no weights", "not finite"])
def test_a_training_state_without_weights_is_refused(folder: Path, damage: str) -> None:
    """Otherwise the fit would start anew, and replace the run's weights."""
    file = folder / "training.pt"
    state = load_training(file, torch.device("cpu"))
    if damage == "not finite":
        next(t for t in state["module"].values() if t.is_floating_point()).fill_(torch.nan)
    else:
        state = {} if damage == "no entries" else state | {"module": None}
    save_training(file, state)
    word = {"no entries": "lacks epoch"}.get(damage, damage)
    refuses(lambda: resume(folder, epochs=2), folder, "training.pt", word)


def test_weights_of_another_type_are_refused(folder: Path) -> None:
    file = folder / "weights.safetensors"
    save_weights(file, {name: tensor.long() for name, tensor in load_weights(file).items()})
    refuses(lambda: Run.load(folder), folder, "weights.safetensors", "does not fit")


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("activation", "nope", "unknown activation 'nope'"),
        ("guide", ["product"], "config.guide: input should be a valid string"),
        ("kind", None, "data.kind: should be a JSON object"),
        ("kind", {"name": "nope", "likelihood": "normal"}, "unknown kind of rows 'nope'"),
        ("classes", [["a"]], "data.classes.0: input should be a valid string"),
        ("factors", [1], "data.factors.0"),
        ("transform", {"shift": 0}, "data.transform.scale: field required"),
        ("transform", {"shift": [1, 2], "scale": 1}, "a transform of (2,) for rows of (1, 8, 8)"),
    ],
)
def test_a_damaged_description_is_named_in_plain_words(
    folder: Path, key: str, value: Any, word: str
) -> None:
    content = json.loads((folder / "config.json").read_text())
    content["config" if key in content["config"] else "data"][key] = value
    (folder / "config.json").write_text(json.dumps(content))
    refuses(lambda: Run.load(folder), folder, word)


def test_resume_refuses_an_unknown_objective(folder: Path) -> None:
    content = json.loads((folder / "config.json").read_text())
    content["config"]["objective"] = "nope"
    (folder / "config.json").write_text(json.dumps(content))
    refuses(lambda: resume(folder, epochs=2), folder, "unknown objective 'nope'")


def test_a_run_without_its_data_part_is_refused(folder: Path) -> None:
    content = json.loads((folder / "config.json").read_text())
    del content["data"]
    (folder / "config.json").write_text(json.dumps(content))
    refuses(lambda: Run.load(folder), folder, "config.json is damaged: data: field required")


def test_weights_that_are_not_finite_are_refused(folder: Path) -> None:
    file = folder / "weights.safetensors"
    weights = load_weights(file)
    name = next(name for name, tensor in weights.items() if tensor.is_floating_point())
    weights[name].view(-1)[0] = torch.nan
    save_weights(file, weights)
    refuses(lambda: Run.load(folder), folder, "weights.safetensors", name, "not finite")


def test_a_run_without_an_environment_or_metrics_is_resumed(folder: Path) -> None:
    for name in ("environment.json", "metrics.json"):
        (folder / name).unlink()
    resume(folder, epochs=2)
    assert json.loads((folder / "metrics.json").read_text())["epochs"] == 2
    assert "resumed" not in json.loads((folder / "environment.json").read_text())
