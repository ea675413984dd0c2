"""Rows, reconstructions and differences in their cells."""

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from pyro_gmmvae.figures.cell_renderer import (
    MISSING_COLOR,
    CellRenderer,
    ImageCells,
    ProfileCells,
    SkeletonCells,
)
from pyro_gmmvae.figures.cell_sheet import Grid, SheetLabels
from pyro_gmmvae.figures.reconstructions import (
    ImageDifference,
    difference_of,
    reconstruction_sheet,
)
from pyro_gmmvae.figures.style import new_figure
from tests.figures.texts import texts

ORIGIN = np.zeros((1, 2))


def renderer_for(rows: Any) -> CellRenderer:
    """Images, series of frames, or profiles, by the number of axes."""
    if rows.ndim == 2:
        return ProfileCells(rows)
    return ImageCells(rows, series=rows.ndim == 3)


def new_axes() -> Axes:
    return new_figure(1, 1).subplots()


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 4, 4), (2, 4, 4), (5,), (6, 2)])
def test_every_cell_is_drawn_and_captioned(shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(0)
    rows, made = generator.normal(size=(2, 3, *shape))
    renderer = renderer_for(np.concatenate([rows, made]))
    captions = ["$7_\n-9.5", "8\n-2.0", "9\n-1.0"]
    groups = [(0, "worst"), (1, "best")]
    figure = reconstruction_sheet(renderer, rows, made, "$run$:", captions, groups)
    (axes,) = figure.axes
    if len(shape) == 1:
        assert np.isnan(axes.lines[0].get_xydata()).all(1).sum() == 6  # a gap after each row
        assert len(axes.lines[1].get_xydata()) == 3 * shape[0]
    else:
        above, below = (np.asarray(image.get_array()) for image in axes.images)
        lines = [*np.array_split(above, 2), below]
        for line in lines:
            for x in (0.1, 0.5, 0.9):  # the middle is past the space between groups
                column = line[:, int(x * line.shape[1])]
                assert np.nanstd(column) > 0
    found = texts(figure)
    assert {"worst", "best", "row", "reconstruction", "difference", *captions} <= set(found)
    assert any(text.startswith("difference: ") for text in found)
    assert "$run$:" in found


def test_a_difference_of_images_has_its_sign_and_scale() -> None:
    rows = np.zeros((2, 1, 2, 2))
    made = np.zeros((2, 1, 2, 2))
    rows[0, 0, 0, 0], made[1, 0, 1, 1] = 0.5, 2.0
    difference = difference_of(ImageCells(rows), rows, made)
    assert isinstance(difference, ImageDifference)
    axes = new_axes()
    difference.draw(axes, np.array([[0, 0], [1, 0]]))
    image = axes.images[0]
    assert image.get_array()[0, 0] == 0.5  # type: ignore[index]
    assert image.get_clim() == (-2.0, 2.0)
    assert difference.about.endswith("to 2")


def test_a_difference_of_features_is_in_their_ranges() -> None:
    rows = np.array([[0.0, 100.0], [1.0, 300.0], [np.nan, 200.0]])
    difference = difference_of(ProfileCells(rows), rows, rows - [[0.5, 20.0]])
    axes = new_axes()
    difference.draw(axes, np.stack([np.arange(3), np.zeros(3)], -1))
    heights = np.reshape(axes.lines[-1].get_ydata(), (3, 2))
    assert np.allclose((0.5 - heights[0]) / 0.45 * 0.5, [0.5, 0.1])  # the frame is at 0.5
    assert difference.about.endswith("±0.5")
    assert np.isnan(heights[2]).tolist() == [True, False]  # a missing feature is a gap


def test_a_difference_of_series_is_in_the_ranges_of_its_entries() -> None:
    rows = np.array([[[0.0, 0.0], [1.0, 100.0], [0.5, 50.0]]])  # 3 frames of 2 entries
    difference = difference_of(ImageCells(rows, series=True), rows, rows - [0.5, 10.0])
    assert isinstance(difference, ImageDifference)
    assert np.allclose(difference.values, [[[0.5] * 3, [0.1] * 3]])  # frames from left to right
    assert difference.about.endswith("to 0.5 of the range of each entry")


def test_nothing_finite_and_nothing_different() -> None:
    for rows in (np.full((1, 3), np.nan), np.zeros((1, 3)), np.zeros((1, 1, 2, 2))):
        renderer = renderer_for(rows)
        renderer.draw(new_axes(), rows, ORIGIN)
        difference_of(renderer, rows, rows).draw(new_axes(), ORIGIN)


@pytest.mark.parametrize("y_down", [True, False])
def test_joints_are_tied_to_their_reconstructions(y_down: bool) -> None:
    poses = np.array([[[0.0, 0.0], [0.0, 1.0], [np.nan, np.nan]]])
    made = poses + 0.25
    renderer = SkeletonCells(
        np.concatenate([poses, made]), lambda x: x[:, None], [(0, 1), (1, 2)], y_down=y_down
    )
    axes = new_axes()
    difference_of(renderer, poses, made).draw(axes, ORIGIN)
    ties = np.array(axes.collections[2].get_segments())
    in_cell = renderer.joints(np.array([[[0, 0], [0.25, 0.25]], [[0, 1], [0.25, 1.25]]]))
    assert np.allclose(ties, in_cell)
    assert len(axes.collections[0].get_segments()) == 1  # the other bone has no end
    low, high = in_cell[0, 0, 1], in_cell[1, 0, 1]  # of y = 0 and y = 1, from the top
    assert (low < high) == y_down
    assert (ties > 0).all()
    assert (ties < 1).all()


def test_a_missing_pixel_has_a_color_of_its_own() -> None:
    rows = np.array([[0.0, 1.0], [np.nan, 0.5]])
    gray = ImageCells(rows[None, None]).colors(rows[None, None])[0]
    assert gray[0].tolist() == [[1, 1, 1], [0, 0, 0]]
    assert gray[1].tolist() == [list(MISSING_COLOR), [0.5, 0.5, 0.5]]
    red = np.stack([rows, np.zeros((2, 2)), np.zeros((2, 2))])[None]
    colored = ImageCells(red).colors(red)[0]
    assert colored[1].tolist() == [list(MISSING_COLOR), [0.5, 0, 0]]


def test_a_grid_draws_other_rows_into_the_same_cells() -> None:
    cells = np.arange(2 * 3 * 4.0).reshape(2, 3, 1, 2, 2)
    renderer = ImageCells(cells.reshape(-1, 1, 2, 2))
    grid = Grid(renderer, cells, SheetLabels("title", ["a", "b"], ["x", "y", "z"]))
    before = np.array(grid.axes.images[0].get_array())
    grid.update(cells[::-1])
    after = np.array(grid.axes.images[0].get_array())
    half = len(before) // 2
    assert (after[:half] == before[half:]).all()
    assert (before != after).any()
    assert {"title", "a", "b", "x", "y", "z"} <= set(texts(grid.figure))


def test_profiles_scale_each_feature_and_name_few() -> None:
    rows = np.array([[0.0, 100.0], [1.0, 300.0]])
    profiles = ProfileCells(rows, ["width", "height"])
    assert np.allclose(profiles.lines(rows)[..., 1], [[0.9, 0.9], [0.1, 0.1]])
    grid = Grid(profiles, rows[:, None], SheetLabels("", ["a", "b"]))
    assert {"width", "height"} <= set(texts(grid.figure))
    assert not ProfileCells(np.zeros((1, 99)), [str(n) for n in range(99)]).names
