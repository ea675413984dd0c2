"""Layouts of skeletons: joints, edges, left/right pairs, root and torso."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyro_gmmvae.data.kinds import Pairs
from pyro_gmmvae.errors import GMMVAEError, unknown_name
from pyro_gmmvae.files import read_toml


@dataclass(frozen=True)
class Layout:
    """The joints of a skeleton.

    Attributes:
        name: of the layout.
        joints: the joints' names, in the order of the numbers in a file.
        edges: bones, as pairs of joint numbers.
        pairs: (left, right) joint numbers that a mirror exchanges.
        root: the joint that positions are relative to; None: positions are not changed.
        torso: two sets of joints; the distance of their centers is the body's size. None:
            the joints' root mean square distance from their center.
    """

    name: str
    joints: tuple[str, ...]
    edges: Pairs = ()
    pairs: Pairs = ()
    root: int | None = None
    torso: tuple[tuple[int, ...], tuple[int, ...]] | None = None

    def __post_init__(self) -> None:
        numbers = [*sum(self.edges, ()), *sum(self.pairs, ()), *sum(self.torso or ((), ()), ())]
        numbers += [] if self.root is None else [self.root]
        for number in numbers:
            if not 0 <= number < len(self.joints):
                raise GMMVAEError(
                    f"layout {self.name}: joint {number} does not exist; there are "
                    f"{len(self.joints)}, numbered from 0"
                )
        if any(a == b for a, b in (*self.edges, *self.pairs)):
            raise GMMVAEError(f"layout {self.name}: an edge or pair joins a joint to itself")
        if len(set(sum(self.pairs, ()))) < 2 * len(self.pairs):
            raise GMMVAEError(f"layout {self.name}: a joint is in two left/right pairs")

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Layout":
        """From :meth:`to_json`, or the keys of a TOML file."""
        torso, root = content.get("torso"), content.get("root")
        return cls(
            name=str(content["name"]),
            joints=tuple(str(joint) for joint in content["joints"]),
            edges=_pairs(content.get("edges", ())),
            pairs=_pairs(content.get("pairs", ())),
            root=None if root is None else _numbers([root])[0],
            torso=None if torso is None else _ends(torso),
        )


def _numbers(values: Sequence[Any]) -> tuple[int, ...]:
    if not all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        raise TypeError(f"joint numbers {values!r}")
    return tuple(values)


def _ends(torso: Sequence[Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    one, other = map(_numbers, torso)
    if not one or not other:
        raise ValueError("one end of the torso is empty")
    return one, other


def _pairs(values: Sequence[Any]) -> Pairs:
    return tuple((a, b) for a, b in map(_numbers, values))


_HEAD_AND_LIMBS = (
    "Neck",
    "RShoulder",
    "RElbow",
    "RWrist",
    "LShoulder",
    "LElbow",
    "LWrist",
)
# https://github.com/CMU-Perceptual-Computing-Lab/openpose/blob/master/doc/02_output.md
BODY_25 = Layout(
    name="body_25",
    joints=(
        "Nose",
        *_HEAD_AND_LIMBS,
        *("MidHip", "RHip", "RKnee", "RAnkle", "LHip", "LKnee", "LAnkle"),
        *("REye", "LEye", "REar", "LEar"),
        *("LBigToe", "LSmallToe", "LHeel", "RBigToe", "RSmallToe", "RHeel"),
    ),
    edges=(
        *((0, 1), (1, 2), (2, 3), (3, 4), (1, 5), (5, 6), (6, 7), (1, 8)),
        *((8, 9), (9, 10), (10, 11), (8, 12), (12, 13), (13, 14)),
        *((0, 15), (15, 17), (0, 16), (16, 18)),
        *((14, 19), (19, 20), (14, 21), (11, 22), (22, 23), (11, 24)),
    ),
    pairs=(
        *((5, 2), (6, 3), (7, 4), (12, 9), (13, 10), (14, 11)),
        *((16, 15), (18, 17), (19, 22), (20, 23), (21, 24)),
    ),
    root=1,
    torso=((1,), (9, 12)),
)
COCO_18 = Layout(
    name="coco_18",
    joints=(
        "Nose",
        *_HEAD_AND_LIMBS,
        *("RHip", "RKnee", "RAnkle", "LHip", "LKnee", "LAnkle"),
        *("REye", "LEye", "REar", "LEar"),
    ),
    edges=(
        *((0, 1), (1, 2), (2, 3), (3, 4), (1, 5), (5, 6), (6, 7)),
        *((1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13)),
        *((0, 14), (14, 16), (0, 15), (15, 17)),
    ),
    pairs=((5, 2), (6, 3), (7, 4), (11, 8), (12, 9), (13, 10), (15, 14), (17, 16)),
    root=1,
    torso=((1,), (8, 11)),
)
# Kinect v2 without hands and tips of the feet, in the order of the UCalgary gait files
KINECT_18 = Layout(
    name="kinect_18",
    joints=(
        *("FootL", "AnkleL", "KneeL", "HipL", "FootR", "AnkleR", "KneeR", "HipR"),
        *("SpineBase", "SpineMid", "Neck", "Head", "ShoulderL", "ShoulderR"),
        *("WristL", "WristR", "ElbowL", "ElbowR"),
    ),
    edges=(
        *((0, 1), (1, 2), (2, 3), (3, 8), (4, 5), (5, 6), (6, 7), (7, 8)),
        *((8, 9), (9, 10), (10, 11), (10, 12), (10, 13)),
        *((12, 16), (16, 14), (13, 17), (17, 15)),
    ),
    pairs=((0, 4), (1, 5), (2, 6), (3, 7), (12, 13), (14, 15), (16, 17)),
    root=8,
    torso=((8,), (10,)),
)

LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in (BODY_25, COCO_18, KINECT_18)}


def layout_like(shape: tuple[int, ...], source: str) -> Layout:
    """The layout that OpenPose writes for poses of this shape, (T, J, C).

    Raises:
        GMMVAEError: another number of joints, or joints in 3-D.
    """
    _, joints, dimensions = shape
    for layout in (BODY_25, COCO_18):
        if len(layout.joints) == joints and dimensions == 2:
            return layout
    raise GMMVAEError(
        f"{source} holds {joints} joints in {dimensions}-D; name their layout with --layout "
        f"({', '.join(LAYOUTS)}, or a TOML file)"
    )


def find_layout(text: str) -> Layout:
    """A layout by name, or from a TOML file.

    The file's keys: ``joints`` (names), and optionally ``edges`` (pairs of joint numbers),
    ``pairs`` (left/right joint numbers), ``root`` (a joint number) and ``torso`` (two lists of
    joint numbers).

    Raises:
        GMMVAEError: an unknown name, or a file that does not describe a layout.
    """
    if not text.lower().endswith(".toml"):
        if text.lower().replace("-", "_") in LAYOUTS:
            return LAYOUTS[text.lower().replace("-", "_")]
        raise unknown_name("layout", text, [*LAYOUTS, "a file that ends in .toml"])
    path = Path(text)
    content = read_toml(path)
    unknown = set(content) - {"name", "joints", "edges", "pairs", "root", "torso"}
    if unknown or not isinstance(content.get("joints"), list) or not content["joints"]:
        raise GMMVAEError(
            f"{path}: a layout has the keys joints (names), edges, pairs, root and torso"
            + (f", not {min(unknown)!r}" if unknown else "; joints is missing")
        )
    try:
        return Layout.from_json({"name": path.stem} | content)
    except GMMVAEError:
        raise
    except (TypeError, ValueError, IndexError) as error:
        raise GMMVAEError(
            f"{path}: edges, pairs and torso are lists of joint numbers, root is one ({error})"
        ) from error
