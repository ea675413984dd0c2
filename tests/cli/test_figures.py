"""The commands figures and report."""

import shutil
from pathlib import Path

import pytest

from pyro_gmmvae.figures.all import PICTURES
from pyro_gmmvae.runs import Run

from .conftest import Gmmvae
from .test_bad_input import refused


@pytest.fixture
def run(clustered: Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clustered.path, tmp_path / "run"))


@pytest.fixture
def few_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyro_gmmvae.figures.traversal.FRAMES", 3)
    monkeypatch.setattr("pyro_gmmvae.figures.latent_space.STEPS", 3)


@pytest.mark.usefixtures("few_frames")
def test_all_pictures_are_drawn_or_skipped_and_not_overwritten(gmmvae: Gmmvae, run: Path) -> None:
    result = gmmvae("figures", run)
    assert result.code == 0, result.err
    *skipped, last = result.err.strip().split("\n")
    missing = {line.split(":")[0].removeprefix("skipped ") for line in skipped}
    files = {path.name for path in (run / "figures").iterdir()}
    there = {name.split(".")[0] for name in files if name.endswith(".png")}
    assert there | missing == set(PICTURES)
    assert not there & missing
    assert files == {f"{n}.png" for n in there} | {
        *("traversal.gif", "interpolation.gif", "clusters.csv")
    }
    assert last.startswith(f"{len(there)} pictures and clusters.csv in ")
    refused(gmmvae("figures", run), "training.png exists and is kept", "--force")


def test_some_pictures_are_written_to_another_folder(
    gmmvae: Gmmvae, run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a" / "b"
    arguments = ("figures", run, "--out", out, "--only", "training,entropy", "--format", "svg")
    result = gmmvae(*arguments)
    assert result.code == 0, result.err
    assert result.err.startswith("2 pictures in ")
    assert {path.name for path in out.iterdir()} == {"training.svg", "entropy.svg"}
    assert not (run / "figures").exists()
    before = (out / "training.svg").read_bytes()
    (out / "training.svg").write_text("old")
    assert gmmvae(*arguments, "--force").code == 0
    assert (out / "training.svg").read_bytes() == before


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--only", "trainig"), ["unknown picture", "did you mean 'training'"]),
        (("--only", ","), ["name at least one"]),
        (("--format", "jpg"), ["'jpg' is not one of"]),
        (("--out", "FILE"), ["is a file"]),
        (("--data", "absent.csv"), ["absent.csv"]),
        (("--projection", "tsne"), ["'tsne' is not one of"]),
        (("--device", "tpu"), ["tpu"]),
    ],
)
def test_bad_options_are_one_line(
    gmmvae: Gmmvae, run: Path, tmp_path: Path, more: tuple[str, str], words: list[str]
) -> None:
    (tmp_path / "file").touch()
    key, value = more[0], more[1].replace("FILE", str(tmp_path / "file"))
    refused(gmmvae("figures", run, key, value), *words)
    assert not (run / "figures").exists()


def test_a_folder_that_is_not_a_run_is_one_line(gmmvae: Gmmvae, tmp_path: Path) -> None:
    for command in ("figures", "report"):
        refused(gmmvae(command, tmp_path / "absent"), "is not a run folder")
        refused(gmmvae(command, tmp_path), "config.json")
    assert not list(tmp_path.iterdir())


def test_if_nothing_can_be_drawn_the_reason_is_the_error(gmmvae: Gmmvae, run: Path) -> None:
    (run / "history.csv").unlink()
    result = gmmvae("figures", run, "--only", "training", "--out", run / "new")
    refused(result, "nothing was drawn: the run has no history.csv")
    assert not (run / "new").exists()


def test_the_report_is_written_and_not_overwritten(
    gmmvae: Gmmvae, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyro_gmmvae.figures.report.draw_all", lambda _: iter([("latent", "no")]))
    result = gmmvae("report", run)
    assert result.code == 0, result.err
    page = (run / "report.html").read_text()
    assert "<b>latent</b>: no" in page
    assert "adjusted Rand index" in page  # what a number of evaluate means
    refused(gmmvae("report", run), "report.html exists and is kept", "--force")
    assert gmmvae("report", run, "--force", "--weights", "last").code == 0
    refused(gmmvae("report", run, "--out", tmp_path / "r.pdf"), "must end in .html")
    refused(gmmvae("report", run, "--out", tmp_path / "no" / "r.html"), "is not a folder")
    refused(gmmvae("report", run, "--force", "--data", "absent.csv"), "absent.csv")
