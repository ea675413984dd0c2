"""A data set of pose windows: rows, people as classes, sequences and given parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyro_gmmvae.data.dataset import Dataset, Factor
from pyro_gmmvae.data.row_groups import Sequences
from pyro_gmmvae.data.transform import Labels
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.skeletons.kind import PoseWindow
from pyro_gmmvae.skeletons.layouts import Layout
from pyro_gmmvae.skeletons.openpose import natural
from pyro_gmmvae.skeletons.people import Entries, People
from pyro_gmmvae.skeletons.tracks import Track
from pyro_gmmvae.skeletons.windows import Windows


@dataclass(frozen=True)
class _Codes:
    """Names as class numbers per sequence, -1 where unknown."""

    names: tuple[str, ...]
    of_sequence: Labels


def sequence_dataset(
    tracks: Sequence[Track], people: People, layout: Layout, keys: Mapping[str, Any]
) -> Dataset:
    """Windows of tracks as rows, people as classes.

    The classes are the people with a sequence outside of the test part. A person who is named
    only in the test part is not a class, since no fit could learn the name: these sequences
    measure how a run recognizes unknown people.

    Args:
        tracks: of one layout.
        people: the person and part of each track.
        layout: of the joints.
        keys: keyword arguments of :class:`pyro_gmmvae.skeletons.PoseWindow`.

    Raises:
        GMMVAEError: tracks without any joint, or of other joints than the layout's; windows too
            short for their features.
    """
    joints, expected = tracks[0].poses.shape[1], len(layout.joints)
    if joints != expected:
        raise GMMVAEError(
            f"the tracks have {joints} joints, and the layout {layout.name!r} has {expected}; name "
            "theirs with --layout"
        )
    kind = PoseWindow(layout, 0, tracks[0].poses.shape[-1], **keys)
    windows = kind.cut(tracks)
    of_row = windows.of_track
    classes = _codes(people.person, [split != "test" for split in people.split])
    unknown = _codes(
        [
            name if code < 0 else None
            for name, code in zip(people.person, classes.of_sequence, strict=True)
        ]
    )
    part = np.array([split or "" for split in people.split])[of_row]
    has_parts = any(people.split)
    return Dataset(
        x=windows.x,
        y=classes.of_sequence[of_row],
        classes=classes.names,
        kind=kind.with_frames(windows.x),
        test=np.flatnonzero(part == "test") if has_parts else None,
        validation=np.flatnonzero(part == "val") if "val" in part else None,
        sequences=Sequences(
            np.array([track.sequence for track in tracks], object),
            of_row,
            tuple(_frames_of(track) for track in tracks),
            unknown.of_sequence,
            unknown.names,
        ),
        factors=tuple(
            Factor(name, codes.names, codes.of_sequence[of_row])
            for name, codes in ((n, _codes(v)) for n, v in people.factors.items())
        ),
        notes=_notes(windows, layout),
    )


def _frames_of(track: Track) -> frozenset[bytes]:
    """The track's different frames, without those that have no joint."""
    has_joint = np.isfinite(track.poses).any((1, 2))
    return frozenset(pose.tobytes() for pose in track.poses[has_joint])


def _codes(names: Entries | Sequence[str | None], counts: Sequence[bool] | None = None) -> _Codes:
    """Class numbers of names; only names of sequences that count become classes."""
    counts = [True] * len(names) if counts is None else counts
    present = {name for name, one in zip(names, counts, strict=True) if one and name is not None}
    order = sorted(present, key=natural)
    numbers = {name: number for number, name in enumerate(order)}
    of_sequence = np.array([-1 if n is None else numbers.get(n, -1) for n in names], np.int64)
    return _Codes(tuple(order), of_sequence)


def _notes(windows: Windows, layout: Layout) -> tuple[str, ...]:
    """Facts about windows that a user should know."""
    notes = []
    if windows.empty:
        notes.append(f"{len(windows.empty)} sequences have no joints ({windows.empty[0]}, ...)")
    if windows.short:
        notes.append(
            f"{len(windows.short)} sequences are shorter than a window and padded with missing "
            f"frames ({windows.short[0]}, ...)"
        )
    missing = np.flatnonzero(np.isnan(windows.x).all(axis=(0, 1, 3)))
    if len(missing):
        names = ", ".join(layout.joints[j] for j in missing[:3])
        notes.append(f"{len(missing)} joints of {layout.name} are always missing ({names}, ...)")
    share = float(windows.interpolated.mean())
    if share > 0:
        notes.append(f"{share:.2%} of joints are interpolated over short gaps")
    return tuple(notes)
