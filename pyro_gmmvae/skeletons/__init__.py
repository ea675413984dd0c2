"""Skeletons: files of poses, tracking of people, and windows of poses as rows."""

from pyro_gmmvae.skeletons.kind import PoseWindow
from pyro_gmmvae.skeletons.tracks import read_tracks

__all__ = ["PoseWindow", "read_tracks"]
