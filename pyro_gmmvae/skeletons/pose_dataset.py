"""Rows that are windows of sequences: which one each is of, and what is known of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyro_gmmvae.data.dataset import Dataset, Factor, Labels, Sequences
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.skeletons.data_options import DataOptions
from pyro_gmmvae.skeletons.features import SkeletonFeatures
from pyro_gmmvae.skeletons.layouts import Layout
from pyro_gmmvae.skeletons.openpose import natural
from pyro_gmmvae.skeletons.people import Names, People
from pyro_gmmvae.skeletons.tracks import Track
from pyro_gmmvae.skeletons.windows import Windows, cut_windows


@dataclass(frozen=True)
class _Codes:
    """Names as class numbers per sequence, -1 where unknown."""

    names: tuple[str, ...]
    of_sequence: Labels


def sequence_dataset(
    tracks: Sequence[Track], people: People, layout: Layout, options: DataOptions
) -> Dataset:
    """Windows of tracks as rows, persons as classes.

    The classes are the persons with a sequence outside of the test part. A person who is named
    in the test part alone is no class (nobody could know the name): an unseen one, by whom a
    run's ways with strangers are measured.

    Raises:
        GMMVAEError: tracks without any joint, or of other joints than the layout's; windows too
            short for what is to describe them.
    """
    found, wanted = tracks[0].poses.shape[1], len(layout.joints)
    if found != wanted:
        raise GMMVAEError(
            f"the tracks have {found} joints, and the layout {layout.name!r} has {wanted}; name "
            "theirs with --layout"
        )
    features = SkeletonFeatures(layout, options.features, options.statistics)
    windows = cut_windows(tracks, layout, options.windows)
    if windows.x.shape[1] == 1 and set(options.features) == {"velocities"}:
        raise GMMVAEError("velocities need windows of at least 2 frames")
    of_row = windows.of_track
    classes = _codes(people.person, [split != "test" for split in people.split])
    strangers = [
        name if code < 0 else None
        for name, code in zip(people.person, classes.of_sequence, strict=True)
    ]
    unseen = _codes(strangers)
    part = np.array([split or "" for split in people.split])[of_row]
    has_parts = any(people.split)
    return Dataset(
        x=windows.x,
        y=classes.of_sequence[of_row],
        classes=classes.names,
        test=np.flatnonzero(part == "test") if has_parts else None,
        validation=np.flatnonzero(part == "val") if "val" in part else None,
        features=features,
        columns=features.names(windows.x.shape[-1]) if options.statistics else None,
        sequences=Sequences(
            tuple(track.sequence for track in tracks),
            of_row,
            tuple(_frames_of(track) for track in tracks),
            unseen.of_sequence,
            unseen.names,
        ),
        factors=tuple(
            Factor(name, codes.names, codes.of_sequence[of_row])
            for name, codes in ((n, _codes(v)) for n, v in people.factors.items())
        ),
        notes=_notes(windows, layout),
    )


def _frames_of(track: Track) -> frozenset[bytes]:
    """The track's different frames, without those that show no joint."""
    shown = np.isfinite(track.poses).any((1, 2))
    return frozenset(pose.tobytes() for pose in track.poses[shown])


def _codes(names: Names | Sequence[str | None], counts: Sequence[bool] | None = None) -> _Codes:
    """Class numbers of names; only those of sequences that count make a class."""
    counts = [True] * len(names) if counts is None else counts
    present = {name for name, one in zip(names, counts, strict=True) if one and name is not None}
    order = sorted(present, key=natural)
    numbers = {name: number for number, name in enumerate(order)}
    of_sequence = np.array([-1 if n is None else numbers.get(n, -1) for n in names], np.int64)
    return _Codes(tuple(order), of_sequence)


def _notes(windows: Windows, layout: Layout) -> tuple[str, ...]:
    """What a user should know of windows before trusting what is made of them."""
    notes = []
    if windows.empty:
        notes.append(f"{len(windows.empty)} sequences have no joint ({windows.empty[0]}, ...)")
    if windows.short:
        notes.append(
            f"{len(windows.short)} sequences are shorter than a window and filled up with missing "
            f"frames ({windows.short[0]}, ...)"
        )
    never = np.flatnonzero(np.isnan(windows.x).all(axis=(0, 1, 3)))
    if len(never):
        names = ", ".join(layout.joints[j] for j in never[:3])
        notes.append(f"{len(never)} joints of {layout.name} are never there ({names}, ...)")
    share = float(windows.interpolated.mean())
    if share > 0:
        notes.append(f"{share:.2%} of joints are interpolated over short gaps")
    return tuple(notes)
