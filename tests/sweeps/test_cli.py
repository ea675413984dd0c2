"""Command ``gmmvae tune``, in this process."""

import json
import sys
from pathlib import Path

import pytest

from pyro_gmmvae.cli import main
from tests.sweeps.conftest import SEARCH, SMALL

Words = list[str]


@pytest.fixture
def words(rows: Path, tmp_path: Path) -> Words:
    """A command that tunes on the synthetic rows."""
    fixed = [w for k, v in SMALL.items() if k != "epochs" for w in ("--set", f"{k}={v}")]
    search = [w for key, wanted in SEARCH.items() for w in ("--search", f"{key}={wanted}")]
    command = ["gmmvae", "tune", "--data", str(rows), "--epochs", "1", *fixed, *search]
    return [*command, "--sampler", "random", "--out", str(tmp_path / "out")]


def call(words: Words, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


def test_a_study_prints_the_command_that_trains_its_best_settings(
    words: Words,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call([*words, "--trials", "2"], monkeypatch) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("trial 0: 0.")
    best, following = printed.out.splitlines()
    assert best.startswith("best val_accuracy 0.")
    assert "(2 complete)" in best
    train = following.removeprefix("next: ").replace("RUN", str(tmp_path / "run"))
    assert call(train.split(), monkeypatch) == 0
    capsys.readouterr()
    assert call([*words, "--trials", "2", "--json"], monkeypatch) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["metric"] == "val_accuracy"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--search", "latent_dim"], "--search latent_dim: write KEY=LOW:HIGH"),
        (["--search", "latent_dim="], "--search latent_dim=: write KEY=LOW:HIGH"),
        (["--search", "components=5"], "components=5: write LOW:HIGH"),
        (["--search", "hidden=4,8"], "--search names hidden twice"),
        (["--search", "seed=1:2"], "seed can't be searched"),
        (["--search", "dropout=0:0.5"], "dropout has a value and is searched as well"),
        (["--sampler", "bayes"], "unknown sampler 'bayes'"),
        (["--trials", "0"], "0 is not in the range"),
        (["--minutes", "-1"], "minutes must be above 0"),
        (["--config", "missing.toml"], "missing.toml can't be read"),
    ],
)
def test_wrong_options_give_a_message_of_one_line(
    words: Words,
    more: Words,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call([*words, *more], monkeypatch) == 2
    line = capsys.readouterr().err
    assert message in line
    assert line.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_ctrl_c_prints_how_to_resume(
    words: Words, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:

    from pyro_gmmvae.sweeps import execute

    def train(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(execute, "train", train)
    assert call([*words, "--trials", "2"], monkeypatch) == 130
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "gmmvae: interrupted"
    assert any("resume with: gmmvae tune --data" in line for line in lines)
