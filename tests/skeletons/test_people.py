"""Tests of tables of people: entries of sequences, and errors of bad tables."""

from pathlib import Path

import pytest

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.skeletons.people import People, read_people


def read(folder: Path, text: str, sequences: str = "a b c") -> People:
    (folder / "people.csv").write_text(text)
    return read_people(folder / "people.csv", sequences.split())


def test_people_splits_and_factors_have_the_order_of_the_sequences(tmp_path: Path) -> None:
    people = read(
        tmp_path,
        "view,sequence,person,split\nfront,c,bo,test\n,a, al ,validation\nback,b,,\n",
    )
    assert people.person == ("al", None, "bo")
    assert people.split == ("val", "train", "test")
    assert people.factors == {"view": (None, "back", "front")}


def test_sequences_that_are_not_listed_are_unlabelled_training_sequences(tmp_path: Path) -> None:
    people = read(tmp_path, "sequence,person,split\nb,bo,test\n")
    assert people.person == (None, "bo", None)
    assert people.split == ("train", "test", "train")


def test_without_any_split_it_is_drawn_later(tmp_path: Path) -> None:
    assert read(tmp_path, "sequence,person\nb,bo\n").split == (None,) * 3
    assert read(tmp_path, "sequence,person,split\nb,bo,\n").split == (None,) * 3


def test_names_that_look_like_missing_values_are_names(tmp_path: Path) -> None:
    assert read(tmp_path, "sequence,person\na,NA\nb,nan\nc,007\n").person == ("NA", "nan", "007")


def test_minus_one_is_no_name(tmp_path: Path) -> None:
    people = read(tmp_path, "sequence,person,view\na,-1,front\na,bo,-1\nb,-1,-1\n")
    assert people.person == ("bo", None, None)
    assert people.factors == {"view": ("front", None, None)}


def test_lines_that_agree_are_merged(tmp_path: Path) -> None:
    people = read(tmp_path, "sequence,person,view\na,bo,\na,,front\na,bo,front\nb\n")
    assert people.person == ("bo", None, None)
    assert people.factors == {"view": ("front", None, None)}


def test_spaces_around_names_are_stripped(tmp_path: Path) -> None:
    assert read(tmp_path, "sequence , person\na , bo \n").person == ("bo", None, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sequence,person\na,bo\nd,al\ne,al\n", r"2 sequences that are not .* \(the first: 'd'\)"),
        ("sequence,person\na,bo\na,al\n", "sequence 'a' has two entries under person: 'bo'"),
        ("sequence,person,split\na,bo,test\na,bo,train\n", "two entries under split"),
        ("sequence,person,split\na,bo,testing\n", "train, val or test, not 'testing'"),
        ("sequence,name\na,bo\n", "lacks the column 'person'; it has sequence, name"),
        ("sequence;person\na;bo\n", "lacks the column 'sequence'"),
        ("sequence,person\na,bo\nb,al,x\n", "can't be read as csv"),
        ("sequence,person\na,bo,x\nb,al\n", "a line has more entries than the first line"),
        ("sequence,person\n", "holds no rows"),
        ("", "is empty"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(GMMVAEError, match=message) as caught:
        read(tmp_path, text)
    assert "people.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_bytes(bytes(range(256)))
    messages = {"b.csv": "can't be read as csv", "": "is a folder", "no.csv": "does not exist"}
    for name, message in messages.items():
        with pytest.raises(GMMVAEError, match=message):
            read_people(tmp_path / name, ["a"])
