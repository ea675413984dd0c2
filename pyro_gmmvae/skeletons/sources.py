"""Loaders of skeleton data sets: published ones by name, and the user's own tracks."""

from collections.abc import Callable, Mapping
from pathlib import Path

from pyro_gmmvae.data.dataset import DataOptions, Dataset
from pyro_gmmvae.errors import GMMVAEError, unknown_name
from pyro_gmmvae.skeletons.layouts import COCO_18, KINECT_18, Layout, find_layout, layout_like
from pyro_gmmvae.skeletons.people import People, read_people
from pyro_gmmvae.skeletons.pose_dataset import sequence_dataset
from pyro_gmmvae.skeletons.published import (
    LabelledTrack,
    read_japanese_vowels,
    read_ucalgary_gait,
    read_utd_mhad,
)
from pyro_gmmvae.skeletons.tracks import read_tracks

Tags = Mapping[str, str]
PartOf = Callable[[Tags], str | None]

CEPSTRUM = Layout("cepstrum", tuple(f"c{k}" for k in range(1, 13)))


def _parts(tag: str, train: str, test: str) -> PartOf:
    """Assign sequences to training and test by the values of a tag; others are not used."""
    of_value = dict.fromkeys(train.split(), "train") | dict.fromkeys(test.split(), "test")
    return lambda tags: of_value.get(tags[tag])


UCALGARY_PROTOCOLS: dict[str, PartOf] = {
    "repeat": _parts("run", "1 3 5", "2 4 6"),
    "cross-condition": _parts("run", "1 2", "3 4 5 6"),
    "leave-condition-out": _parts("run", "1 2 3 4", "5 6"),
}
UTD_PROTOCOLS: dict[str, PartOf] = {
    "trials": _parts("trial", "1 2", "3 4"),
    "actions": _parts("action", "1 6 7", "9 24 26"),
}
VOWELS_PROTOCOLS: dict[str, PartOf] = {"fixed": _parts("split", "train", "test")}


def load_ucalgary_gait(options: DataOptions) -> Dataset:
    """Walking people (27 without duplicates) as recorded by a Kinect, in meters.

    Source: Kozlow, Abid, Yanushkevich, IEEE SSCI 2017; research use only. The protocols are
    ours: "repeat" (runs 1, 3, 5 train, 2, 4, 6 test), "cross-condition", "leave-condition-out".
    """
    return _named(options, "ucalgary-gait", read_ucalgary_gait, KINECT_18, UCALGARY_PROTOCOLS)


def load_utd_mhad(options: DataOptions) -> Dataset:
    """Eight people's actions as detected by OpenPose, in units of the shoulders' width.

    Source: Schneider, Memmesheimer, Kramer, Paulus, RoboCup 2019, of UTD-MHAD (Chen, Jafari,
    Kehtarnavaz, ICIP 2015). The protocols are ours: "trials" (1, 2 train, 3, 4 test), "actions"
    (1, 6, 7 train, 9, 24, 26 test).
    """
    return _named(options, "utd-mhad", read_utd_mhad, COCO_18, UTD_PROTOCOLS)


def load_japanese_vowels(options: DataOptions) -> Dataset:
    """Nine speakers' vowels as 12 cepstrum coefficients over time; a published split.

    Source: Kudo, Toyama, Shimbo 1999, UCI "Japanese Vowels". These series are not skeletons; they
    are a public check.
    """
    return _named(options, "japanese-vowels", read_japanese_vowels, CEPSTRUM, VOWELS_PROTOCOLS)


def _named(
    options: DataOptions,
    name: str,
    read: Callable[[Path], list[LabelledTrack]],
    layout: Layout,
    protocols: Mapping[str, PartOf],
) -> Dataset:
    if options.data_dir is None:
        raise GMMVAEError(f"{name} can't be downloaded; give the folder of its files (--data-dir)")
    protocol = options.protocol or next(iter(protocols))
    if protocol not in protocols:
        raise unknown_name("protocol", protocol, list(protocols))
    part_of = protocols[protocol]
    used = [one for one in read(options.data_dir) if part_of(one.tags) is not None]
    people = People(tuple(one.person for one in used), tuple(part_of(one.tags) for one in used))
    return sequence_dataset([one.track for one in used], people, layout, options.pose_window)


def load_skeleton(options: DataOptions) -> Dataset:
    """The user's own tracks, with a table of people."""
    if options.tracks is None:
        raise GMMVAEError(
            "--data skeleton needs --tracks, a table of joints ('gmmvae skeleton track' makes one)"
        )
    layout = None if options.layout is None else find_layout(options.layout)
    tracks = read_tracks(options.tracks, None if layout is None else len(layout.joints))
    if options.labels_file is None:
        people = People.unknown(len(tracks))
    else:
        people = read_people(options.labels_file, [track.sequence for track in tracks])
    layout = layout or layout_like(tracks[0].poses.shape, str(options.tracks))
    return sequence_dataset(tracks, people, layout, options.pose_window)
