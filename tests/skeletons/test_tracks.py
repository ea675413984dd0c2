"""Tests of the plain table of tracks: values, round trips, and errors of bad tables."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.skeletons.tracks import Track, from_table, read_tracks, write_tracks


def table(**columns: object) -> pd.DataFrame:
    base: dict[str, Any] = {
        "sequence": ["b", "a", "a", "a"],
        "frame": [7, 3, 1, 1],
        "joint": [0, 1, 1, 0],
        "x": [1.0, 2.0, 3.0, 4.0],
        "y": [5.0, 6.0, 7.0, 8.0],
    }
    return pd.DataFrame(base | columns)


def test_rows_in_any_order_become_tracks_by_name_and_frame() -> None:
    a, b = from_table(table(), "file")
    assert (a.sequence, b.sequence) == ("a", "b")
    assert (a.frames.tolist(), b.frames.tolist()) == ([1, 3], [7])
    missing = [np.nan, np.nan]
    np.testing.assert_array_equal(a.poses, [[[4, 8], [3, 7]], [missing, [2, 6]]])
    np.testing.assert_array_equal(b.poses, [[[1, 5], missing]])
    np.testing.assert_array_equal(a.confidence, [[1, 1], [0, 1]])


def test_nan_infinity_and_no_confidence_are_joints_that_were_not_detected() -> None:
    a, b = from_table(
        table(x=[1.0, np.nan, np.inf, 4.0], confidence=[0.0, 1.0, 1.0, np.nan]), "file"
    )
    assert np.isnan(a.poses).all()
    assert np.isnan(b.poses).all()
    assert not a.confidence.any()


def test_confidence_is_clipped() -> None:
    a, b = from_table(table(confidence=[7.0, 0.25, -3.0, 1.05]), "file")
    assert b.confidence.tolist() == [[1, 0]]
    assert a.confidence.tolist() == [[1, 0], [0, 0.25]]
    assert np.isnan(a.poses[0, 1]).all()


@pytest.mark.parametrize("ending", ["csv", "npz", "parquet"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_written_tracks_are_read_back(tmp_path: Path, ending: str, dimensions: int) -> None:
    generator = np.random.default_rng(0)
    poses = generator.normal(size=(5, 4, dimensions)).astype(np.float32)
    poses[1, 2], poses[:, 3] = np.nan, np.nan
    confidence = np.where(np.isnan(poses[..., 0]), 0, generator.uniform(0.1, 1, (5, 4)))
    # names that pandas would take for numbers or for nothing
    tracks = [
        Track(name, np.array([0, 1, 5, 6, 9]), poses + k, confidence.astype(np.float32))
        for k, name in enumerate(("007", "walk 1"))
    ]
    write_tracks(tracks, tmp_path / f"t.{ending}")
    assert [p.name for p in tmp_path.iterdir()] == [f"t.{ending}"]
    for told, read in zip(tracks, read_tracks(tmp_path / f"t.{ending}", 4), strict=True):
        assert told.sequence == read.sequence
        np.testing.assert_array_equal(told.frames, read.frames)
        np.testing.assert_array_equal(told.poses, read.poses)
        np.testing.assert_allclose(told.confidence, read.confidence, rtol=1e-6)


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "t.npz").write_text("before")
    tracks = [Track.of_poses("a", np.zeros((1, 1, 2)))]
    with pytest.raises(GMMVAEError, match="written as"):
        write_tracks(tracks, tmp_path / "t.txt")

    def broken() -> Any:
        yield tracks[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_tracks(broken(), tmp_path / "t.npz")
    assert (tmp_path / "t.npz").read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1


def test_poses_alone_make_a_track() -> None:
    track = Track.of_poses("a", np.array([[[1.0, np.nan], [2.0, 3.0]]]))
    assert np.isnan(track.poses[0, 0]).all()
    assert track.poses[0, 1].tolist() == [2, 3]
    assert track.confidence.tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("columns", "joints", "message"),
    [
        ({"joint": [0, 1, 1, -1]}, None, "joint -1 is out of range"),
        ({"joint": [0, 1, 1, -1]}, 25, "joint -1 is out of range; the layout has 25"),
        ({"joint": [0, 1, 25, 0]}, 25, "joint 25 is out of range; the layout has 25"),
        ({"joint": [0, 1, 2**45, 0]}, None, f"joint {2**45} is out of range"),
        ({"joint": [0, 0.5, 1, 0]}, None, "'joint' must hold whole numbers"),
        ({"joint": [0, np.nan, 1, 0]}, None, "'joint' must hold whole numbers"),
        ({"frame": [7, np.inf, 1, 1]}, None, "'frame' must hold whole numbers"),
        ({"frame": [7, 1, 1, 1]}, None, "sequence 'a', frame 1 has joint 1 twice"),
        ({"x": [1, 2, 3, "left"]}, None, "'x' is not numeric"),
        ({"confidence": ["high"] * 4}, None, "'confidence' is not numeric"),
        ({"x": [1, 2, 3, 1e300]}, None, "beyond 1e"),
        ({"sequence": ["b", None, "a", "a"]}, None, "has no sequence name"),
        ({"z": [1.0, np.nan, np.nan, np.nan]}, None, "sequence 'a' has x and y but no z"),
    ],
)
def test_bad_numbers_are_refused(
    columns: dict[str, object], joints: int | None, message: str
) -> None:
    with pytest.raises(GMMVAEError, match=message) as caught:
        from_table(table(**columns), "the file", joints)
    assert str(caught.value).startswith("the file")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("column", ["sequence", "frame", "joint", "x", "y"])
def test_the_error_names_a_missing_column(column: str) -> None:
    with pytest.raises(GMMVAEError, match=f"lacks the column '{column}'"):
        from_table(table().drop(columns=column), "the file")


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_errors_of_bad_files_are_one_line(tmp_path: Path) -> None:
    arrays = {k: v.to_numpy() for k, v in table(sequence=[0, 1, 1, 1]).items()}
    np.savez_compressed(tmp_path / "good.npz", **arrays)
    np.savez(tmp_path / "uneven.npz", **arrays | {"x": np.zeros(3)})
    np.savez(tmp_path / "square.npz", **arrays | {"x": np.zeros((4, 2))})
    np.savez(tmp_path / "objects.npz", x=np.array([{}], dtype=object))
    np.save(tmp_path / "one.npy", np.zeros(3))
    table().to_parquet(tmp_path / "good.parquet")
    npz, parquet = ((tmp_path / f"good.{e}").read_bytes() for e in ("npz", "parquet"))
    bits = bytes(b ^ 0xFF for b in npz[60:90])
    cases = [
        (tmp_path / "absent.csv", "does not exist"),
        (tmp_path, "a folder"),
        (write(tmp_path / "empty.parquet", b""), "is empty"),
        (write(tmp_path / "header.csv", b"sequence,frame,joint,x,y\n"), "holds no rows"),
        (write(tmp_path / "binary.csv", bytes(range(256))), "can't be read as csv"),
        (write(tmp_path / "other.csv", b"a,b\n1,2\n"), "lacks the column 'sequence'"),
        (write(tmp_path / "cut.npz", npz[: len(npz) // 2]), "can't be read as npz"),
        (write(tmp_path / "bits.npz", npz[:60] + bits + npz[90:]), "can't be read as npz"),
        (write(tmp_path / "text.npz", b"hello"), "can't be read as npz"),
        (write(tmp_path / "npy.npz", (tmp_path / "one.npy").read_bytes()), "can't be read as npz"),
        (tmp_path / "uneven.npz", "can't be read as npz"),
        (tmp_path / "square.npz", "can't be read as npz"),
        (tmp_path / "objects.npz", "can't be read as npz"),
        (write(tmp_path / "cut.parquet", parquet[: len(parquet) // 2]), "can't be read as parquet"),
        (write(tmp_path / "text.parquet", b"PAR1 hello PAR1"), "can't be read as parquet"),
        (write(tmp_path / "notes.txt", b"hello"), "unknown kind"),
    ]
    for file, message in cases:
        with pytest.raises(GMMVAEError, match=message) as caught:
            read_tracks(file)
        assert "\n" not in str(caught.value)
