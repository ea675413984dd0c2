"""Skeletons: files of poses, tracking of people, and windows of poses as rows."""

from pyro_gmmvae.skeletons.data_options import DataOptions
from pyro_gmmvae.skeletons.features import SkeletonFeatures
from pyro_gmmvae.skeletons.pose_augment import Body
from pyro_gmmvae.skeletons.tracks import read_tracks
from pyro_gmmvae.skeletons.windows import cut_windows

__all__ = ["Body", "DataOptions", "SkeletonFeatures", "cut_windows", "read_tracks"]
