"""Tests of layouts: those of the table, and layouts from TOML files."""

import json
from pathlib import Path

import pytest

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.skeletons.layouts import LAYOUTS, Layout, find_layout, layout_like


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_edges_are_one_tree_that_equals_its_mirror(layout: Layout) -> None:
    reached = {layout.root}
    for _ in layout.joints:
        reached |= {b for e in layout.edges for a, b in (e, e[::-1]) if a in reached}
    assert reached == set(range(len(layout.joints)))
    assert len(layout.edges) == len(layout.joints) - 1
    other = {a: b for pair in layout.pairs for a, b in (pair, pair[::-1])}
    bones = {frozenset(edge) for edge in layout.edges}
    assert {frozenset(other.get(j, j) for j in bone) for bone in bones} == bones
    for left, right in layout.pairs:
        names = layout.joints[left], layout.joints[right]
        assert {name.replace("L", "R", 1) for name in names} == {names[1]} or {
            name[:-1] for name in names
        } == {names[0][:-1]}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_json_and_name_give_the_same_layout(layout: Layout) -> None:
    assert Layout.from_json(json.loads(json.dumps(layout.to_json()))) == layout
    assert find_layout(layout.name.upper().replace("_", "-")) is layout


def test_a_layout_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "stick.toml").write_text(
        'joints = ["a", "b", "c"]\nedges = [[0, 1], [1, 2]]\npairs = [[0, 2]]\nroot = 1\n'
        "torso = [[0, 2], [1]]\n"
    )
    wanted = Layout("stick", ("a", "b", "c"), ((0, 1), (1, 2)), ((0, 2),), 1, ((0, 2), (1,)))
    assert find_layout(str(tmp_path / "stick.toml")) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("joints = [", "is not TOML"),
        ("edges = [[0, 1]]", "joints is missing"),
        ("joints = []", "joints is missing"),
        ('joints = ["a", "b"]\nbones = [[0, 1]]', "not 'bones'"),
        ('joints = ["a", "b"]\nedges = [[0, 2]]', "joint 2 does not exist; there are 2"),
        ('joints = ["a", "b"]\nedges = [[0, -1]]', "joint -1 does not exist"),
        ('joints = ["a", "b"]\nedges = [[0, 0]]', "joins a joint to itself"),
        ('joints = ["a", "b", "c"]\npairs = [[0, 1], [1, 2]]', "two left/right pairs"),
        ('joints = ["a", "b"]\nedges = [["a", "b"]]', "lists of joint numbers"),
        ('joints = ["a", "b"]\nedges = [[0, 1, 1]]', "lists of joint numbers"),
        ('joints = ["a", "b"]\nedges = 5', "lists of joint numbers"),
        ('joints = ["a", "b"]\nroot = 1.0', "root is one"),
        ('joints = ["a", "b"]\nroot = true', "root is one"),
        ('joints = ["a", "b"]\nroot = 2', "joint 2 does not exist"),
        ('joints = ["a", "b"]\ntorso = [[0]]', "lists of joint numbers"),
        ('joints = ["a", "b"]\ntorso = [[0], [1], [1]]', "lists of joint numbers"),
        ('joints = ["a", "b"]\ntorso = [[], [1]]', "one end of the torso is empty"),
    ],
)
def test_a_file_that_is_not_a_layout_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "l.toml").write_text(text)
    with pytest.raises(GMMVAEError, match=message) as caught:
        find_layout(str(tmp_path / "l.toml"))
    assert "\n" not in str(caught.value)


def test_unknown_names_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GMMVAEError, match="did you mean 'body_25'"):
        find_layout("body_52")
    with pytest.raises(GMMVAEError, match="can't be read"):
        find_layout(str(tmp_path / "absent.toml"))


def test_the_layout_of_openpose_is_found_by_the_number_of_joints() -> None:
    assert layout_like((9, 25, 2), "f").name == "body_25"
    assert layout_like((9, 18, 2), "f").name == "coco_18"
    for shape in ((9, 18, 3), (9, 17, 2)):
        with pytest.raises(GMMVAEError, match="name their layout with --layout"):
            layout_like(shape, "f")
