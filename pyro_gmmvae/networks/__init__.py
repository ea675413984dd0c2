"""Encoders and decoders: plain modules of given sizes."""

from typing import TYPE_CHECKING

from pyro_gmmvae.lazy import PartTable, lazy_names

if TYPE_CHECKING:
    from pyro_gmmvae.networks.conv import ConvDecoder, ConvEncoder
    from pyro_gmmvae.networks.mlp import (
        JointMLP,
        MLPDecoder,
        MLPEncoder,
        NetworkOptions,
        apply_to_rows,
        joined,
    )
    from pyro_gmmvae.networks.skeleton_graph import SkeletonGraphDecoder, SkeletonGraphEncoder
    from pyro_gmmvae.networks.temporal import TemporalDecoder, TemporalEncoder
else:
    __getattr__, __dir__ = lazy_names(__name__)

# name -> class of torch.nn
ACTIVATIONS = {
    "relu": "ReLU",
    "leaky_relu": "LeakyReLU",
    "gelu": "GELU",
    "silu": "SiLU",
    "elu": "ELU",
    "softplus": "Softplus",
    "tanh": "Tanh",
}

# name -> (encoder, decoder); an encoder is built from (x_shape, out_size, options), a decoder
# from (in_size, x_shape, options)
NETWORKS: "PartTable[tuple[type, type]]" = PartTable(
    __name__,
    {
        "mlp": ("MLPEncoder", "MLPDecoder"),
        "conv": ("ConvEncoder", "ConvDecoder"),
        # on a CPU transposed convolutions take most of a step, and add little accuracy
        "conv-mlp": ("ConvEncoder", "MLPDecoder"),
        "temporal": ("TemporalEncoder", "TemporalDecoder"),
        "skeleton-graph": ("SkeletonGraphEncoder", "SkeletonGraphDecoder"),
    },
)

__all__ = [
    "ACTIVATIONS",
    "NETWORKS",
    "ConvDecoder",
    "ConvEncoder",
    "JointMLP",
    "MLPDecoder",
    "MLPEncoder",
    "NetworkOptions",
    "SkeletonGraphDecoder",
    "SkeletonGraphEncoder",
    "TemporalDecoder",
    "TemporalEncoder",
    "apply_to_rows",
    "joined",
]
