"""The tracking benchmark's metrics, against cases counted by hand."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

NEAR = 0.1
Ids = dict[Any, Any]


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    return importlib.import_module("tracking_metrics")


def frames(*pairs: tuple[str, str, Ids]) -> list[Any]:
    """People, tracks, and which are at the same place."""
    return [
        (
            list(people),
            list(tracks),
            np.array([[NEAR if at.get(p) == t else np.inf for t in tracks] for p in people])
            .reshape(len(people), len(tracks))
            .astype(float),
        )
        for people, tracks, at in pairs
    ]


def test_all_right(metrics: Any) -> None:
    result = metrics.score(frames(*[("ab", "xy", {"a": "x", "b": "y"})] * 5))
    assert (result.mota, result.idf1, result.switches) == (1, 1, 0)


def test_tracks_that_exchange_people(metrics: Any) -> None:
    right, wrong = {"a": "x", "b": "y"}, {"a": "y", "b": "x"}
    shown = frames(*[("ab", "xy", right)] * 3, *[("ab", "xy", wrong)] * 2)
    result = metrics.score(shown)
    assert result.switches == 2
    assert result.mota == pytest.approx(1 - 2 / 10)
    assert result.idf1 == pytest.approx(2 * 6 / (10 + 10))


def test_a_new_track_after_a_miss(metrics: Any) -> None:
    """One switch, counted against the last track the person had; one miss; no false track."""
    shown = frames(("a", "x", {"a": "x"}), ("a", "", {}), ("a", "y", {"a": "y"}))
    result = metrics.score(shown)
    assert (result.switches, result.misses, result.false) == (1, 1, 0)
    assert result.mota == pytest.approx(1 - 2 / 3)
    assert result.idf1 == pytest.approx(2 * 1 / (3 + 2))


def test_a_track_of_nobody(metrics: Any) -> None:
    result = metrics.score(frames(*[("a", "xz", {"a": "x"})] * 2))
    assert (result.false, result.mota) == (2, 0)
    assert result.idf1 == pytest.approx(2 * 2 / (2 + 4))


def test_a_track_that_still_fits_is_kept(metrics: Any) -> None:
    """CLEAR MOT: a nearer track is no reason to change."""
    shown = frames(("a", "x", {"a": "x"}))
    shown.append((["a"], ["x", "y"], np.array([[0.2, 0.1]])))
    result = metrics.score(shown)
    assert (result.switches, result.false) == (0, 1)


def test_nothing_at_all(metrics: Any) -> None:
    assert metrics.score(frames(("", "", {}))).idf1 == 0
