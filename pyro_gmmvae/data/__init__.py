"""Rows: arrays, files, shards and named sets, and how they are split."""

from pyro_gmmvae.data.arrays import load_array
from pyro_gmmvae.data.dataset import Dataset, Transform
from pyro_gmmvae.data.shards import Shards, StreamedRows, load_shards
from pyro_gmmvae.data.splits import Split, split_rows, split_sequences

__all__ = [
    "Dataset",
    "Shards",
    "Split",
    "StreamedRows",
    "Transform",
    "load_array",
    "load_shards",
    "split_rows",
    "split_sequences",
]
