"""Skeletons: files of poses, tracking of people, and windows of poses as rows."""

from typing import TYPE_CHECKING

from pyro_gmmvae.lazy import lazy_names

if TYPE_CHECKING:
    from pyro_gmmvae.skeletons.kind import PoseWindow
    from pyro_gmmvae.skeletons.layouts import BODY_25, KINECT_18, Layout
    from pyro_gmmvae.skeletons.openpose import Frame, read_frames
    from pyro_gmmvae.skeletons.published import read_ucalgary_gait
    from pyro_gmmvae.skeletons.tracking import TrackingOptions, track_people
    from pyro_gmmvae.skeletons.tracks import Track, read_tracks, write_tracks
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "BODY_25",
    "KINECT_18",
    "Frame",
    "Layout",
    "PoseWindow",
    "Track",
    "TrackingOptions",
    "read_frames",
    "read_tracks",
    "read_ucalgary_gait",
    "track_people",
    "write_tracks",
]
