"""Data sets by name, the kinds of their rows, and loading of sets and files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyro_gmmvae.data.arrays import load_array
from pyro_gmmvae.data.column_table import ColumnTable
from pyro_gmmvae.data.dataset import DataOptions, Dataset
from pyro_gmmvae.data.digits import load_digits, load_mnist
from pyro_gmmvae.data.frames import is_table
from pyro_gmmvae.data.kinds import Image, RowKind, Table
from pyro_gmmvae.data.presets import (
    DIGITS_PRESETS,
    FILE_PRESETS,
    MNIST_PRESETS,
    SHAPES_PRESETS,
    SKELETON_PRESETS,
    UCALGARY_PRESETS,
    UTD_PRESETS,
    VOWELS_PRESETS,
    Presets,
)
from pyro_gmmvae.data.shapes import load_dsprites, load_shapes
from pyro_gmmvae.data.shards import load_shards
from pyro_gmmvae.errors import GMMVAEError, unknown_name
from pyro_gmmvae.skeletons.kind import PoseWindow
from pyro_gmmvae.skeletons.sources import (
    load_japanese_vowels,
    load_skeleton,
    load_ucalgary_gait,
    load_utd_mhad,
)

KINDS: dict[str, type[RowKind]] = {
    kind.name: kind for kind in (Image, Table, ColumnTable, PoseWindow)
}
# the name of rows that were given as arrays and are in no file
IN_MEMORY = "(memory)"
# keys of presets that concern the parts of one set
PART_KEYS = {"labels", "test", "validation"}


@dataclass(frozen=True)
class Source:
    """A data set with a name.

    Attributes:
        load: reads the rows, given the options of loaders.
        presets: by name, configuration values that replace the defaults for this set.
        preset: the name of the default preset.
        kind: of the rows.
    """

    load: Callable[[DataOptions], Dataset]
    presets: Presets
    preset: str
    kind: type[RowKind]


DATA: dict[str, Source] = {
    "digits": Source(lambda _: load_digits(), DIGITS_PRESETS, "best", Image),
    "mnist": Source(
        lambda options: load_mnist(options.data_dir),
        MNIST_PRESETS,
        "permutation-invariant",
        Image,
    ),
    "shapes": Source(
        lambda options: load_shapes(options.shapes_rows, options.shapes_size),
        SHAPES_PRESETS,
        "paper",
        Image,
    ),
    "dsprites": Source(
        lambda options: load_dsprites(options.data_dir), SHAPES_PRESETS, "paper", Image
    ),
    "skeleton": Source(load_skeleton, SKELETON_PRESETS, "best", PoseWindow),
    "ucalgary-gait": Source(load_ucalgary_gait, UCALGARY_PRESETS, "best", PoseWindow),
    "utd-mhad": Source(load_utd_mhad, UTD_PRESETS, "best", PoseWindow),
    "japanese-vowels": Source(load_japanese_vowels, VOWELS_PRESETS, "best", PoseWindow),
}


def presets_of(data: str) -> tuple[Presets, str]:
    """The presets of a data set or file by name, and the name of the default one.

    A file also takes the presets of sets of images: "digits/best".
    """
    if data in DATA:
        return DATA[data].presets, DATA[data].preset
    default = "table" if is_table(Path(data)) else "permutation-invariant"
    return {**FILE_PRESETS, **_image_presets()}, default


def _image_presets() -> Presets:
    """Presets of the sets of images for files of images, without the sizes of parts."""
    presets: dict[str, Mapping[str, Any]] = {}
    for data in ("digits", "mnist"):
        for name, keys in DATA[data].presets.items():
            without_labels = {"labels": 0} if keys.get("labels") == 0 else {}
            others = {key: value for key, value in keys.items() if key not in PART_KEYS}
            presets[f"{data}/{name}"] = others | without_labels
    return presets


def is_file_name(data: str) -> bool:
    """Whether ``--data`` names a file or folder rather than a set of the table."""
    return data not in DATA and ("." in data or "/" in data or Path(data).is_dir())


def check_data(data: str) -> None:
    """Refuse a name that is neither a data set's nor a file that exists.

    Raises:
        GMMVAEError: an unknown name, or a file that does not exist.
    """
    if data in DATA or data == IN_MEMORY:
        return
    if not is_file_name(data):
        raise unknown_name("data set", data, list(DATA))
    if not Path(data).exists():
        raise GMMVAEError(f"{data} does not exist")


def load_data(
    data: str,
    options: DataOptions = DataOptions(),  # noqa: B008
    kind: RowKind | None = None,
) -> Dataset:
    """Rows of a named set, of a table, of an npz or npy file, or of a folder of shards.

    Args:
        data: the name or path.
        options: of the loaders.
        kind: of the rows of a run, whose columns are read from a table; None: those of the table.

    Raises:
        GMMVAEError: unknown name, or a file that can't be used.
    """
    if data in DATA:
        return DATA[data].load(options)
    if data == IN_MEMORY:
        raise GMMVAEError(
            "the run was fitted in memory, on arrays that are in no file: 'gmmvae predict' and "
            "'gmmvae generate' work; commands that read its training data do not"
        )
    check_data(data)
    if Path(data).is_dir():
        if options.drop_nonfinite:
            raise GMMVAEError("--drop-nonfinite is for files, not for folders of shards")
        for key, name in (("weight", options.weight_column), ("group", options.group_column)):
            if name is not None:
                raise GMMVAEError(
                    f"{data}: --{key}-column {name} is for files, not for folders of shards"
                )
        return load_shards(Path(data), options.label_column, options.missing)
    return load_array(Path(data), options, kind=kind)


__all__ = [
    "DATA",
    "FILE_PRESETS",
    "IN_MEMORY",
    "KINDS",
    "DataOptions",
    "Source",
    "check_data",
    "is_file_name",
    "load_data",
    "presets_of",
]
