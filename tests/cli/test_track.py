"""Tests of gmmvae skeleton track."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from pyro_gmmvae.cli.skeleton import track
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.skeletons.tracks import read_tracks


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(track, [str(a) for a in arguments])


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Two clips of 20 frames: a person who walks, in the second clip with another one behind."""
    folder = tmp_path / "frames"
    folder.mkdir()
    shape = np.random.default_rng(0).uniform(0, 200, (25, 2))
    for clip, people in (("a", 1), ("b", 2)):
        for t in range(20):
            places = np.array([[100 + 400 * k + 3 * t, 100] for k in range(people)])
            poses = [np.c_[shape + place, np.full(25, 0.9)] for place in places]
            content = {"people": [{"pose_keypoints_2d": pose.ravel().tolist()} for pose in poses]}
            (folder / f"{clip}_{t:012d}_keypoints.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("ending", ["parquet", "csv", "npz"])
def test_tracks_are_written(recording: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"tracks.{ending}"
    result = call(recording, "--out", out)
    assert result.exit_code == 0
    assert "3 people in 2 clips, 40 frames" in result.output
    tracks = read_tracks(out)
    assert [t.sequence for t in tracks] == ["a/1", "b/1", "b/2"]
    assert {len(t.frames) for t in tracks} == {20}


def test_json_output(recording: Path, tmp_path: Path) -> None:
    (recording / "a_000000000030_keypoints.json").write_text("{")
    content = json.loads(call(recording, "--out", tmp_path / "t.csv", "--json").output)
    assert (content["people"], content["tracked"], content["problems"]) == (3, 60, 1)
    assert content["layout"] == "body_25"


def test_an_existing_output_is_kept_without_force(recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    out.write_text("mine")
    assert "--force" in call(recording, "--out", out).output
    assert out.read_text() == "mine"
    assert call(recording, "--out", out, "--force").exit_code == 0


def test_strict_problems_and_no_people_are_errors(recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    nobody = call(recording, "--out", out, "--min-length", 21).exception
    assert isinstance(nobody, GMMVAEError)
    assert "--min-length" in str(nobody)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a_000000000000_keypoints.json").write_text('{"people": []}')
    empty = call(tmp_path / "empty", "--out", out).exception
    assert "none of its 1 frames has people" in str(empty)
    (recording / "a_000000000005_keypoints.json").write_text("{")
    refused = call(recording, "--out", out, "--strict").exception
    assert isinstance(refused, GMMVAEError)
    assert not out.exists()
