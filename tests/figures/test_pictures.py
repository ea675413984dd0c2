"""Every picture of every kind of run: drawn, or skipped with a reason."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.figures import PICTURES, NotApplicable, RunView, draw_all
from pyro_gmmvae.figures.animation import Animation
from pyro_gmmvae.figures.history import draw_training
from pyro_gmmvae.figures.latent_space import draw_analogies
from pyro_gmmvae.figures.samples import draw_samples
from pyro_gmmvae.figures.saving import figure_bytes, save
from pyro_gmmvae.runs import Run
from pyro_gmmvae.runs.folder import OURS
from pyro_gmmvae.runs.folder import PICTURES as STEMS

from .conftest import Fit


def drawn_of(view: RunView) -> tuple[dict[str, Figure | Animation], dict[str, str]]:
    """The pictures of a run, and the reasons for those that are skipped."""
    found = dict(draw_all(view))
    reasons = {name: one for name, one in found.items() if isinstance(one, str)}
    return {name: one for name, one in found.items() if not isinstance(one, str)}, reasons


def texts(figure: Figure) -> str:
    """All texts of a figure."""
    return "\n".join(t.get_text() for t in figure.findobj(lambda a: hasattr(a, "get_text")))


@pytest.fixture
def few_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Animations of three frames, which are fast."""
    monkeypatch.setattr("pyro_gmmvae.figures.traversal.FRAMES", 3)
    monkeypatch.setattr("pyro_gmmvae.figures.latent_space.STEPS", 3)


def test_the_folder_lists_every_picture() -> None:
    assert set(STEMS) == set(PICTURES)
    assert {"figures/training.svg", "figures/traversal.gif", "figures/clusters.csv"} <= set(OURS)


@pytest.mark.usefixtures("few_frames")
def test_a_run_on_images_has_all_but_the_plane(digits: RunView, tmp_path: Path) -> None:
    drawn, reasons = drawn_of(digits)
    assert reasons == {
        "manifold": "z has 4 entries, and a manifold needs 2",
        "columns": "rows are not of a table with kinds of columns",
    }
    for name, one in drawn.items():
        for file in save(one, tmp_path, name):
            with Image.open(file) as picture:
                assert np.asarray(picture.convert("L")).std() > 5
                is_film = file.suffix == ".gif"
                assert is_film == (getattr(picture, "n_frames", 1) > 1)
    assert {p.stem for p in tmp_path.glob("*.gif")} == {"traversal", "interpolation"}


def test_the_plane_has_a_panel_for_each_class(plane: RunView) -> None:
    figure = PICTURES["manifold"].draw(plane)
    assert isinstance(figure, Figure)
    assert [axes.get_title() for axes in figure.axes] == [str(digit) for digit in range(10)]


@pytest.mark.usefixtures("few_frames")
@pytest.mark.parametrize(
    ("keys", "missing"),
    [
        ({"components": 1}, {"confusion", "reliability", "analogies"}),
        ({"latent_dim": 1, "test": 0}, {"confusion", "reliability", "manifold"}),
        ({"model": "vae", "components": None}, {"analogies", "confusion", "components", "entropy"}),
        ({"model": "ae", "components": None}, {"samples", "nearest", "traversal", "analogies"}),
        ({"model": "m2"}, {"confusion"}),
        ({"components": 55, "guide": "low-rank"}, {"confusion", "reliability"}),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_other_runs_have_pictures_or_reasons(
    fit: Fit, keys: dict[str, Any], missing: set[str]
) -> None:
    drawn, reasons = drawn_of(RunView(fit(**keys)))
    assert missing <= set(reasons)
    assert {"training"} <= set(drawn)
    assert all(len(reason) < 200 and "\n" not in reason for reason in reasons.values())
    for one in drawn.values():
        sheet = one.still if isinstance(one, Animation) else one
        assert len(figure_bytes(sheet, dpi=30)) > 500
        assert sheet.get_figheight() < 40


def test_components_without_labels_are_called_components(clustered: Run) -> None:
    figure = PICTURES["samples"].draw(RunView(clustered))
    assert isinstance(figure, Figure)
    assert "10 draws of each component" in texts(figure)


def test_analogies_keep_z_in_units_of_each_class(digits: RunView) -> None:
    """The cell of a row's own class is its reconstruction at one-hot s, whatever the scales."""
    figure = draw_analogies(digits)
    (shown,) = (image.get_array() for axes in figure.axes for image in axes.get_images())
    assert shown is not None
    said = digits.log_probs.argmax(1)
    row = next(r for r in np.random.default_rng(0).permutation(len(said)) if said[r] == 0)
    _, _, s = digits.prior([0])
    own = digits.decode(digits.tensor(digits.z[[row]]), s)[0, 0]
    tile = np.asarray(shown)[:32, :, 0]  # the first line; a tile is 8 pixels enlarged by 4
    width = round(0.06 * 32)
    left = round((1 + 0.45) * (32 + width))
    darkness = 1 - tile[::4, left : left + 32 : 4]
    correlation = np.corrcoef(darkness.ravel(), own.ravel())[0, 1]
    assert correlation > 0.999


def test_training_shows_schedules_that_moved(fit: Fit) -> None:
    run = fit(
        "digits", epochs=3, guide="product", temperature="1:0.5:9999", prior_temperature="0.3"
    )
    written = texts(draw_training(RunView(run)))
    assert "temperature" in written
    assert "prior temperature" not in written
    assert "KL(z), validation" in written


def test_training_rows_are_not_called_validation(fit: Fit) -> None:
    written = texts(draw_training(RunView(fit(validation=0))))
    assert "KL(z), training, after the epoch" in written
    assert not any("validation" in text for text in written)


def test_one_outlying_epoch_does_not_flatten_the_rest(copied: Path) -> None:
    history = pd.read_csv(copied / "history.csv")
    history.loc[0, "elbo"] = -1e6
    history.to_csv(copied / "history.csv", index=False)
    figure = draw_training(RunView(Run.load(copied)))
    low, high = next(a for a in figure.axes if a.get_title(loc="left") == "ELBO").get_ylim()
    assert high - low < 1000


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "a,b\n1,2\n",
        "epoch\nx\n",
        "epoch\n1\n",
        "epoch\ninf\n",
        "epoch,elbo\n-1,0\n",
        "\x00\xff",
    ],
)
def test_a_missing_or_damaged_history_is_a_reason(copied: Path, content: str | None) -> None:
    file = copied / "history.csv"
    file.unlink() if content is None else file.write_text(content, "latin-1")
    with pytest.raises(NotApplicable, match=r"history\.csv"):
        draw_training(RunView(Run.load(copied)))


@pytest.mark.usefixtures("few_frames")
def test_without_its_data_a_run_still_shows_its_latents(fit: Fit) -> None:
    run = fit(seed=1)
    Path(run.config.data).unlink()
    drawn, reasons = drawn_of(RunView(run))
    assert {"training", "samples", "analogies", "traversal", "manifold"} <= set(drawn)
    assert {"components", "entropy", "interpolation", "nearest", "reconstructions"} <= set(reasons)
    assert all("rows.npy" in reasons[name] for name in ("components", "interpolation"))
    sources = texts(draw_analogies(RunView(run)))
    assert "z drawn once per line" in sources


@pytest.mark.usefixtures("few_frames")
def test_names_are_drawn_literally(digits: RunView) -> None:
    names = ("$a_$", "", "long " * 30, "名前", "<script>", "_x", "\\frac", "%s", "{0}", "a\tb")
    run = digits.run
    odd = Run(run.path, run.config.replace(labels=0), run.schema, run.model, run.device, "last")
    odd.names = names
    shown = ("samples", "nearest", "analogies", "interpolation", "latent", "confusion", "entropy")
    for _, one in draw_all(RunView(odd), shown):
        assert not isinstance(one, str), one
        assert figure_bytes(one.still if isinstance(one, Animation) else one, dpi=30)
    assert "$a_$" in texts(draw_analogies(RunView(odd)))


@pytest.mark.parametrize("ending", ["svg", "pdf"])
def test_vector_files_are_the_same_each_time(plane: RunView, ending: str) -> None:
    one, other = (figure_bytes(draw_samples(plane), ending) for _ in range(2))
    assert one == other
    assert one.startswith({"svg": b"<?xml", "pdf": b"%PDF"}[ending])


def test_an_animation_plays_forward_and_backward(plane: RunView) -> None:
    animation = PICTURES["interpolation"].draw(plane)
    assert isinstance(animation, Animation)
    with Image.open(io.BytesIO(animation.gif)) as picture:
        frames = []
        for number in range(picture.n_frames):
            picture.seek(number)
            frames.append(np.asarray(picture.convert("L"), int))
    assert len(frames) == 32
    assert (frames[0] != frames[16]).any()
    assert (frames[3] == frames[29]).all()
    assert frames[0][0, 0] == 255


def test_unknown_pictures_are_refused(digits: RunView) -> None:
    with pytest.raises(GMMVAEError, match="unknown picture 'sample'; did you mean 'samples'"):
        list(draw_all(digits, ["sample"]))


@pytest.mark.parametrize(
    "error", [ValueError("Expected parameter loc ..."), ValueError("another"), None]
)
def test_numbers_that_are_not_finite_skip_the_picture(
    digits: RunView, monkeypatch: pytest.MonkeyPatch, error: ValueError | None
) -> None:
    def draw(_: RunView) -> Figure:
        if error is not None:
            raise error
        np.subtract(np.array([np.inf]), np.inf)
        return Figure()

    monkeypatch.setitem(PICTURES, "samples", replace(PICTURES["samples"], draw=draw))
    if str(error) == "another":
        with pytest.raises(ValueError, match="another"):
            list(draw_all(digits, ["samples"]))
    else:
        ((name, reason),) = draw_all(digits, ["samples"])
        assert name == "samples"
        assert reason == "its numbers are not finite: the training may have diverged"
