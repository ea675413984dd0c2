"""The choice of logs: names, missing packages, the command line and TOML."""

import sys
from pathlib import Path

import pytest

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.runs import default_config, resume, train
from pyro_gmmvae.runs.keys import configure
from pyro_gmmvae.training.loggers import LOGGERS, build_loggers, closing
from tests.cli.conftest import Gmmvae, gmmvae  # noqa: F401
from tests.training.loggers.conftest import KEYS

PACKAGE = {"tensorboard": "torch.utils.tensorboard", "mlflow": "mlflow"}


def test_an_unknown_name_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    config = default_config("digits", {**KEYS, "log": "tensorbord"})
    with pytest.raises(GMMVAEError, match="unknown log 'tensorbord'; did you mean 'tensorboard'"):
        train(config, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", LOGGERS)
def test_a_missing_package_is_refused_before_anything_is_written(
    name: str, tmp_path: Path, silent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, PACKAGE[name], None)
    config = default_config("digits", {**KEYS, "log": name})
    message = rf"log={name} needs .*: pip install 'pyro-gmmvae\[{name}\]'"
    with pytest.raises(GMMVAEError, match=message):
        train(config, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
    before = {file: file.read_bytes() for file in silent.iterdir()}
    with pytest.raises(GMMVAEError, match=message):
        resume(silent, epochs=3, log=[name])
    assert {file: file.read_bytes() for file in silent.iterdir()} == before


def test_a_repeated_name_counts_once(tmp_path: Path) -> None:
    config = configure({"log": "tensorboard,tensorboard"})
    assert len(build_loggers(config.log, tmp_path, {})) == 1


def test_every_logger_is_closed_even_if_one_fails() -> None:
    class Closes:
        closed = False

        def close(self) -> None:
            self.closed = True
            raise OSError

    both = [Closes(), Closes()]
    with pytest.raises(OSError), closing(both):  # noqa: PT011
        pass
    assert [logger.closed for logger in both] == [True, True]


SMALL = ("--set", "hidden=16", "--latent-dim", "2", "--engine", "svi", "--epochs", "1")


def test_logs_are_chosen_by_the_command_line_and_toml(gmmvae: Gmmvae, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "run.toml").write_text('log = ["tensorboard"]\n')
    call = ("train", *SMALL, "--config", tmp_path / "run.toml", "--out")
    assert gmmvae(*call, tmp_path / "a").code == 0
    assert (tmp_path / "a" / "tensorboard").is_dir()
    assert gmmvae(*call, tmp_path / "b", "--log", "none").code == 0
    assert not (tmp_path / "b" / "tensorboard").exists()
    resumed = gmmvae("resume", tmp_path / "b", "--epochs", "2", "--log", "tensorboard")
    assert resumed.code == 0
    assert (tmp_path / "b" / "tensorboard").is_dir()
    refused = gmmvae("resume", tmp_path / "b", "--epochs", "3", "--log", "tensorbord")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "did you mean 'tensorboard'" in refused.err
    assert "tensorboard, mlflow" in gmmvae("list", "loggers").out
