"""Rows, reconstructions and differences in their cells."""

from typing import Any

import numpy as np
import pytest

from pyro_gmmvae.figures.cells import row_painter
from pyro_gmmvae.figures.reconstructions import (
    Part,
    difference_painter,
    pose_pair_painter,
    reconstruction_sheet,
)
from pyro_gmmvae.figures.style import new_figure
from tests.figures.texts import texts


def axes() -> Any:
    return new_figure(1, 1).subplots()


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 4, 4), (5,), (2, 6)])
def test_every_cell_is_drawn_and_captioned(shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(0)
    rows, made = generator.normal(size=(2, 3, *shape))
    paint = row_painter(np.concatenate([rows, made]))
    difference, about = difference_painter(rows, made)
    lines = {"row": paint, "made": lambda a, n: paint(a, n + 3), "difference": difference}
    parts = [Part("worst", [(0, "$7_\n-9.5")]), Part("best", [(1, "8\n-2.0"), (2, "9\n-1.0")])]
    figure = reconstruction_sheet([*parts, Part("none", [])], lines, f"$run$: {about}")
    assert len(figure.axes) == 9
    found = texts(figure)
    assert {"worst", "best", "row", "difference", "$7_\n-9.5"} <= set(found)
    assert "none" not in found
    assert f"$run$: {about}" in found


def test_a_difference_of_images_has_its_sign_and_scale() -> None:
    rows = np.zeros((2, 1, 2, 2))
    made = np.zeros((2, 1, 2, 2))
    rows[0, 0, 0, 0], made[1, 0, 1, 1] = 0.5, 2.0
    paint, about = difference_painter(rows, made)
    cell = axes()
    paint(cell, 0)
    image = cell.images[0]
    assert image.get_array()[0, 0] == 0.5
    assert image.get_clim() == (-2.0, 2.0)
    assert about.endswith("to 2")


def test_a_difference_of_features_is_in_their_ranges() -> None:
    rows = np.array([[0.0, 100.0], [1.0, 300.0], [np.nan, 200.0]])
    paint, _ = difference_painter(rows, rows - [[0.5, 20.0]])
    cell = axes()
    paint(cell, 0)
    assert np.allclose(cell.lines[-1].get_ydata(), [0.5, 0.1])
    paint(axes(), 2)  # a missing feature is a gap


def test_nothing_finite_and_nothing_different() -> None:
    for rows in (np.full((1, 3), np.nan), np.zeros((1, 3)), np.zeros((1, 1, 2, 2))):
        paint, _ = difference_painter(rows, rows)
        paint(axes(), 0)


def test_joints_are_tied_to_where_they_moved() -> None:
    poses = np.array([[[0.0, 0.0], [0.0, 1.0], [np.nan, np.nan]]])
    made = poses + 0.25
    paint, _ = pose_pair_painter(poses, made, [(0, 1), (1, 2)])
    cell = axes()
    paint(cell, 0)
    ties = cell.collections[2].get_segments()
    assert np.allclose(ties, [[[0, 0], [0.25, 0.25]], [[0, 1], [0.25, 1.25]]])
    assert len(cell.collections[0].get_segments()) == 1  # the other bone has no end
    assert cell.get_ylim()[0] > cell.get_ylim()[1]
