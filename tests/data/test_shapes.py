"""Images of shapes with known factors."""

from pathlib import Path

import numpy as np
import pytest

from pyro_gmmvae.data.dataset import DataOptions
from pyro_gmmvae.data.shapes import CLASSES, FILE, SIZES, draw_shapes, load_shapes
from pyro_gmmvae.datasets import load_data
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.runs import Run, default_config, train

ALONE = {"scale": 5, "orientation": 0, "x": 16, "y": 16}


def image(shape: str, size: int = 64, **factors: int) -> np.ndarray:
    values = {name: np.array([n]) for name, n in (ALONE | factors).items()}
    return np.asarray(draw_shapes(np.array([CLASSES.index(shape)]), values, size)[0])


@pytest.mark.parametrize(("shape", "area"), [("square", 19.2**2), ("ellipse", 289.25)])
def test_areas_are_those_of_the_formulas(shape: str, area: float) -> None:
    """The ellipse's is pi a b; at half the scale both have a quarter."""
    assert image(shape).sum() == pytest.approx(area, rel=0.03)
    assert image(shape, 256).mean() * 64**2 == pytest.approx(area, rel=0.03)
    assert image(shape, 256, scale=0).mean() * 64**2 == pytest.approx(area / 4, rel=0.05)


def test_a_heart_has_two_lobes_and_a_tip() -> None:
    rows = image("heart", 256).sum(1)
    inside = np.flatnonzero(rows)
    top = image("heart", 256)[inside[0] + 2]
    assert np.count_nonzero(np.diff(np.r_[0, top, 0]) == 1) == 2
    assert rows[inside[-1]] < 0.1 * rows.max()


@pytest.mark.parametrize("shape", CLASSES)
def test_factors_move_turn_and_scale(shape: str) -> None:
    here, there = image(shape), image(shape, x=31, y=0)
    rows, columns = np.mgrid[:64, :64] + 0.5
    for axis, moved in ((columns, 32 * 15 / 31), (rows, -32 * 16 / 31)):
        centers = [(axis * one).sum() / one.sum() for one in (here, there)]
        assert centers[1] - centers[0] == pytest.approx(moved, abs=0.3)
    np.testing.assert_array_equal(here, image(shape, orientation=39))
    turned = image(shape, orientation=13)
    assert turned.sum() == pytest.approx(here.sum(), rel=0.05)
    assert (turned != here).mean() > 0.01
    sizes = [image(shape, scale=scale).sum() for scale in range(SIZES["scale"])]
    assert sizes == sorted(sizes)


def test_a_pixel_of_a_small_image_is_a_share_of_points() -> None:
    large, small = load_shapes(30, 64, seed=3), load_shapes(30, 16, seed=3)
    assert set(np.unique(large.x)) == {0.0, 1.0}
    pooled = large.x.reshape(30, 1, 16, 4, 16, 4).mean((3, 5))
    np.testing.assert_allclose(small.x, pooled, atol=1e-6)
    assert [f.name for f in small.factors] == list(SIZES)
    np.testing.assert_array_equal(small.y, large.y)
    assert not np.array_equal(load_shapes(30, 64, seed=4).x, large.x)


def test_factors_are_independent_and_uniform() -> None:
    made = load_shapes(6000, 8)
    for factor in made.factors:
        counts = np.bincount(factor.y, minlength=SIZES[factor.name])
        assert counts.min() > 0.5 * 6000 / SIZES[factor.name]
    table = np.stack([made.y, *(factor.y for factor in made.factors)])
    between = np.corrcoef(table)[~np.eye(len(table), dtype=bool)]
    assert np.abs(between).max() < 0.05


def test_the_file_of_dsprites_is_read(tmp_path: Path) -> None:
    options = DataOptions(data_dir=tmp_path)
    with pytest.raises(GMMVAEError, match="has no dsprites_ndarray"):
        load_data("dsprites", options)
    with pytest.raises(GMMVAEError, match="give a folder"):
        load_data("dsprites")
    (tmp_path / FILE).write_bytes(b"no archive")
    with pytest.raises(GMMVAEError, match="is damaged, or not the npz file of dSprites"):
        load_data("dsprites", options)
    numbers = np.array([[0, 2, 5, 39, 31, 0], [0, 0, 1, 2, 3, 4]])
    np.savez(tmp_path / FILE, imgs=np.zeros((2, 64, 64), np.uint8), latents_classes=numbers)
    found = load_data("dsprites", options)
    assert found.x.shape == (2, 1, 64, 64)
    assert found.y.tolist() == [2, 0]
    assert [factor.y.tolist() for factor in found.factors] == [[5, 1], [39, 2], [31, 3], [0, 4]]
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(GMMVAEError, match="is damaged"):
        load_data("dsprites", options)
    np.savez(tmp_path / FILE, imgs=np.zeros((2, 64, 64), np.uint8), latents_classes=numbers + 1)
    with pytest.raises(GMMVAEError, match="factors or pixels that dSprites does not have"):
        load_data("dsprites", options)
    np.savez(tmp_path / FILE, imgs=np.zeros((2, 64, 64), np.uint8), latents_classes=numbers[:1])
    with pytest.raises(GMMVAEError, match="are not those of dSprites"):
        load_data("dsprites", options)


def test_evaluate_scores_the_factors(tmp_path: Path) -> None:
    keys = {"model": "vae", "shapes_rows": 450, "shapes_size": 8, "epochs": 2, "hidden": "16"}
    train(default_config("shapes", keys), tmp_path / "run")
    numbers = Run.load(tmp_path / "run").evaluate(nll_rows=0, draws=0)
    scores = {"mig", "sap", "factor_vae_score", "dci_completeness", "dci_informativeness"}
    assert all(0 <= numbers[name] <= 1 for name in scores)
    assert numbers["total_correlation"] is None, "fewer than 10 rows for each entry of z"
    with pytest.raises(GMMVAEError, match="shapes_rows is for --data shapes; 'digits'"):
        train(default_config("digits", {"shapes_rows": 20}), tmp_path / "other")
