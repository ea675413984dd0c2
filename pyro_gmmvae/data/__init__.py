"""Rows of data sets: kinds, files, shards, splits and transforms."""

from pyro_gmmvae.data.arrays import load_array
from pyro_gmmvae.data.column_table import ColumnTable
from pyro_gmmvae.data.dataset import DataOptions, Dataset, Factor
from pyro_gmmvae.data.frames import RawFrame, frame_of, read_frame
from pyro_gmmvae.data.kinds import Image, RowKind, Table
from pyro_gmmvae.data.row_groups import RowGroups, Sequences
from pyro_gmmvae.data.shards import Shards, StreamedRows, load_shards
from pyro_gmmvae.data.splits import Split, split_rows
from pyro_gmmvae.data.transform import Transform

__all__ = [
    "ColumnTable",
    "DataOptions",
    "Dataset",
    "Factor",
    "Image",
    "RawFrame",
    "RowGroups",
    "RowKind",
    "Sequences",
    "Shards",
    "Split",
    "StreamedRows",
    "Table",
    "Transform",
    "frame_of",
    "load_array",
    "load_shards",
    "read_frame",
    "split_rows",
]
