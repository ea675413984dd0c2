"""Data: real sets by name, arrays from files, and splits with recorded seeds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyro_gmmvae.data.arrays import load_array
from pyro_gmmvae.data.dataset import Dataset
from pyro_gmmvae.data.digits import PRESETS as DIGITS_PRESETS
from pyro_gmmvae.data.digits import load_digits
from pyro_gmmvae.data.kinds import Image, RowKind, Table
from pyro_gmmvae.data.mnist import PRESETS as MNIST_PRESETS
from pyro_gmmvae.data.mnist import load_mnist
from pyro_gmmvae.data.presets import CLUSTER
from pyro_gmmvae.data.shards import load_shards
from pyro_gmmvae.errors import GMMVAEError, unknown_name
from pyro_gmmvae.skeletons.data_options import DataOptions
from pyro_gmmvae.skeletons.kind import PoseWindow
from pyro_gmmvae.skeletons.sources import (
    SKELETON_PRESETS,
    UCALGARY_PRESETS,
    UTD_PRESETS,
    VOWELS_PRESETS,
    load_japanese_vowels,
    load_skeleton,
    load_ucalgary_gait,
    load_utd_mhad,
)


@dataclass(frozen=True)
class Source:
    """A data set by name: its loader, and what suits it.

    Attributes:
        load: called with what loaders are told, gives the rows.
        presets: by name, configuration values that replace the defaults for this set.
        preset: the one that is taken where none is named.
    """

    load: Callable[[DataOptions], Dataset]
    presets: Mapping[str, Mapping[str, Any]]
    preset: str


KINDS: dict[str, type[RowKind]] = {kind.name: kind for kind in (Image, Table, PoseWindow)}

DATA: dict[str, Source] = {
    "digits": Source(lambda options: load_digits(options.data_dir), DIGITS_PRESETS, "best"),
    "mnist": Source(
        lambda options: load_mnist(options.data_dir), MNIST_PRESETS, "permutation-invariant"
    ),
    "skeleton": Source(load_skeleton, SKELETON_PRESETS, "best"),
    "ucalgary-gait": Source(load_ucalgary_gait, UCALGARY_PRESETS, "best"),
    "utd-mhad": Source(load_utd_mhad, UTD_PRESETS, "best"),
    "japanese-vowels": Source(load_japanese_vowels, VOWELS_PRESETS, "best"),
}


# of a file nothing is known: "best" is what helped on the sets above
FILE_PRESETS: dict[str, Mapping[str, Any]] = {
    "paper": {"alpha": 0, "labelled_per_batch": 0},
    "permutation-invariant": {},
    "best": {"batch_norm": True, "pseudo_threshold": 0.95},
    # no augmentation of plain numbers says what a class is: k-means has to begin
    "cluster": CLUSTER | {"init": "kmeans"},
}


# where rows were given as arrays, and stand in no file
IN_MEMORY = "(memory)"
# what a preset says of a set's own parts
PARTS = {"labels", "test", "validation"}


def _of_images() -> dict[str, Mapping[str, Any]]:
    """Presets of the sets of images for others of their kind: "digits/best"."""
    found: dict[str, Mapping[str, Any]] = {}
    for data in ("digits", "mnist"):
        for name, keys in DATA[data].presets.items():
            without_labels = {"labels": 0} if keys.get("labels") == 0 else {}
            found[f"{data}/{name}"] = {
                key: value for key, value in keys.items() if key not in PARTS
            } | without_labels
    return found


def presets_of(data: str) -> tuple[Mapping[str, Mapping[str, Any]], str]:
    """The presets of a data set or file by name, and the one that is taken by default.

    A file takes those of sets of images, too: "digits/best".
    """
    if data in DATA:
        return DATA[data].presets, DATA[data].preset
    return {**FILE_PRESETS, **_of_images()}, "permutation-invariant"


def is_file_name(data: str) -> bool:
    """Whether ``--data`` names a file or folder rather than a set of the table."""
    return data not in DATA and ("." in data or "/" in data or Path(data).is_dir())


def load_data(data: str, options: DataOptions = DataOptions()) -> Dataset:  # noqa: B008
    """Rows of a named set, of an npz, npy, csv or parquet file, or of a folder of shards.

    Raises:
        GMMVAEError: unknown name, or a file that can't be used.
    """
    if data in DATA:
        return DATA[data].load(options)
    if data == IN_MEMORY:
        raise GMMVAEError(
            "the run was fitted in memory, on arrays that no file holds: 'gmmvae predict' and "
            "'gmmvae generate' use it; what reads its training data can't"
        )
    if not is_file_name(data):
        raise unknown_name("data set", data, list(DATA))
    if Path(data).is_dir():
        if options.drop_nonfinite:
            raise GMMVAEError("--drop-nonfinite searches files, not folders of shards")
        return load_shards(Path(data), options.label_column)
    return load_array(
        Path(data), label_column=options.label_column, drop_nonfinite=options.drop_nonfinite
    )


__all__ = [
    "DATA",
    "FILE_PRESETS",
    "IN_MEMORY",
    "KINDS",
    "Source",
    "is_file_name",
    "load_data",
    "presets_of",
]
