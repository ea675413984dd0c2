"""Examples run from an empty folder, learn, and write nothing."""

import re
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
EPOCHS = 4


def run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    runpy.run_path(str(EXAMPLES / name))["main"](EPOCHS)
    assert not list(folder.iterdir())


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+\.\d+", text)]


def test_every_example_is_tested() -> None:
    assert {file.name for file in EXAMPLES.iterdir()} - {"__pycache__"} == {
        *("gmmvae.py", "own_guide.py", "vae_in_pyro.py")
    }


def test_the_model_in_plain_pyro(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("gmmvae.py", tmp_path, monkeypatch)
    accuracy = numbers(capsys.readouterr().out)[0]
    assert 0.75 < accuracy < 0.95
    code = [line for line in (EXAMPLES / "gmmvae.py").read_text().splitlines() if line.strip()]
    assert len(code) < 75  # one page


def test_the_vae_in_pyros_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("vae_in_pyro.py", tmp_path, monkeypatch)
    formula, *lines = capsys.readouterr().out.splitlines()
    assert formula == "p(x, z) = p(x|z) p(z)"
    elbo, bound = numbers(lines[0])[0], numbers(lines[1])[0]
    assert -30 < elbo < bound < -20


def test_an_own_guide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("own_guide.py", tmp_path, monkeypatch)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["product", "shift"]
    for elbo, accuracy in map(numbers, lines):
        assert -36 < elbo < -25
        assert 0.5 < accuracy < 0.95
