"""Encoders and decoders: plain modules that are told their sizes by the caller."""

from pyro_gmmvae.networks.conv import ConvDecoder, ConvEncoder
from pyro_gmmvae.networks.joint import JointMLP, apply_to_rows, joined
from pyro_gmmvae.networks.mlp import MLPDecoder, MLPEncoder
from pyro_gmmvae.networks.options import ACTIVATIONS, NetworkOptions
from pyro_gmmvae.networks.skeleton_graph import SkeletonGraphDecoder, SkeletonGraphEncoder
from pyro_gmmvae.networks.temporal import TemporalDecoder, TemporalEncoder

# name -> (encoder, decoder); an encoder is built from (x_shape, out_size, options), a decoder
# from (in_size, x_shape, options)
NETWORKS: dict[str, tuple[type, type]] = {
    "mlp": (MLPEncoder, MLPDecoder),
    "conv": (ConvEncoder, ConvDecoder),
    # on a CPU the deconvolutions are most of a conv step, and add little to what is learnt
    "conv-mlp": (ConvEncoder, MLPDecoder),
    "temporal": (TemporalEncoder, TemporalDecoder),
    "skeleton-graph": (SkeletonGraphEncoder, SkeletonGraphDecoder),
}

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
