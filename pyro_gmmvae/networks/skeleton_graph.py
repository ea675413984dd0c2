"""Convolutions over the graph of a skeleton's joints and over time."""

import itertools

import torch
from torch import Tensor, nn

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.networks.mlp import InputNoise, MissingMask, NetworkOptions


def _sizes(x_shape: tuple[int, ...], options: NetworkOptions) -> tuple[int, int, int]:
    if len(x_shape) != 3 or not options.edges:
        raise GMMVAEError(
            f"the skeleton-graph network needs windows (frames, joints, coordinates) of a layout "
            f"with edges, not rows of shape {x_shape}; give statistics= (none) and features=joints "
            "or velocities, or use the mlp network"
        )
    return x_shape[0], x_shape[1], x_shape[2]


def adjacency(joints: int, edges: tuple[tuple[int, int], ...]) -> Tensor:
    """(2, J, J): the identity, and the mean over the joints that share a bone."""
    near = torch.zeros(joints, joints)
    for a, b in edges:
        near[a, b] = near[b, a] = 1.0
    near = near / near.sum(-1, keepdim=True).clamp_min(1)
    return torch.stack([torch.eye(joints), near])


class GraphConvolution(nn.Module):
    """(B, C, T, J) -> (B, C', T, J): joints and their neighbors, then three frames."""

    graph: Tensor

    def __init__(self, in_size: int, out_size: int, graph: Tensor, options: NetworkOptions) -> None:
        super().__init__()
        self.register_buffer("graph", graph, persistent=False)
        self.over_joints = nn.Conv2d(in_size, len(graph) * out_size, 1)
        self.over_time = nn.Sequential(
            *options.activate(nn.BatchNorm2d(out_size)),
            nn.Conv2d(out_size, out_size, (3, 1), padding=(1, 0)),
            *options.activate(nn.BatchNorm2d(out_size)),
        )

    def forward(self, x: Tensor) -> Tensor:
        parts = self.over_joints(x).unflatten(1, (len(self.graph), -1))
        # for each part p, channel c and frame t: joint v sums over the joints w
        return self.over_time(torch.einsum("bpctw,pvw->bctv", parts, self.graph))


class SkeletonGraphEncoder(nn.Module):
    """Windows x (B, T, J, C) -> features (B, out_size), by the joints' graph and time.

    Args:
        x_shape: (T, J, C).
        out_size: number of features.
        options: ``edges`` of the graph, ``channels`` of the convolutions, activation, ...

    Raises:
        GMMVAEError: rows that are not windows of joints, or a layout without edges.

    Reference:
        ST-GCN: Yan, Xiong, Lin 2018, arXiv:1801.07455 (two partitions: the joint, its
        neighbors).
    """

    def __init__(self, x_shape: tuple[int, ...], out_size: int, options: NetworkOptions) -> None:
        super().__init__()
        _, joints, size = _sizes(x_shape, options)
        graph = adjacency(joints, options.edges)
        self.before = nn.Sequential(InputNoise(options.input_noise), MissingMask(options.missing))
        widths = (options.copies * size, *options.channels)
        self.layers = nn.Sequential(
            *(GraphConvolution(a, b, graph, options) for a, b in itertools.pairwise(widths))
        )
        # frames are averaged; joints are not, because they differ in meaning
        self.to_out = nn.Linear(widths[-1] * joints, out_size)

    def forward(self, x: Tensor) -> Tensor:
        features = self.layers(self.before(x).permute(0, 3, 1, 2))
        return self.to_out(features.mean(2).flatten(1))


class SkeletonGraphDecoder(nn.Module):
    """Latents (B, in_size) -> one parameter per entry of x, (B, T, J, C): the encoder mirrored.

    Each joint of each frame starts as a linear map of the latents plus embeddings of both.
    """

    def __init__(self, in_size: int, x_shape: tuple[int, ...], options: NetworkOptions) -> None:
        super().__init__()
        frames, joints, size = _sizes(x_shape, options)
        graph = adjacency(joints, options.edges)
        widths = (options.channels[-1], *options.channels[::-1])
        self.begin = nn.Linear(in_size, widths[0])
        self.frame = nn.Parameter(0.1 * torch.randn(widths[0], frames, 1))
        self.joint = nn.Parameter(0.1 * torch.randn(widths[0], 1, joints))
        self.layers = nn.Sequential(
            *(GraphConvolution(a, b, graph, options) for a, b in itertools.pairwise(widths)),
            nn.Conv2d(widths[-1], size, 1),
        )

    def forward(self, latents: Tensor) -> Tensor:
        begin = self.begin(latents)[:, :, None, None] + self.frame + self.joint
        return self.layers(begin).permute(0, 2, 3, 1)
