"""Values of options and configuration keys."""

from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_gmmvae.cli import cli
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.runs.build import resolve
from pyro_gmmvae.runs.keys import all_keys, default_config

from .answers import Call, check, examples

VALUES = (
    *("", " ", "none", "nan", "inf", "-inf", "-1", "0", "1", "2", "0.5", "1e-300", "1e39", "1e308"),
    *("1e19", str(2**31), str(2**63 - 1), str(10**30), "9" * 5000, "true", "[]", "{}", "null"),
    *("1:2", "1:2:", "0:1:-5", "nan:1:2", "a,b", ",", "1,1,1", "0,255", "x=y", "x" * 5000, "../.."),
    *("-", "--", "\n", "日本", "%s%n", "{0}", "/dev/full", "=", "cuda:99", "1e1e1"),
)
EACH = 9  # values of a key
BUDGETS = ("epochs", "steps", "minutes", "members", "cv")
SMALL = ("--epochs", 1, "--set", "hidden=8", "--set", "latent_dim=2", "--set", "cv=0")
TRAIN = (
    "train",
    "--data",
    "rows.csv",
    "--preset",
    "paper",
    "--engine",
    "svi",
    *SMALL,
    "--out",
    "out",
)


def key_cases() -> list[tuple[str, str]]:
    """Keys and values: some for each key, all values as often."""
    cases = []
    for number, key in enumerate(sorted(all_keys())):
        values = [VALUES[(number * EACH + step) % len(VALUES)] for step in range(EACH)]
        if key in BUDGETS:  # a large one asks for a long fit
            values = [v for v in values if not v.strip().isalnum() or v in ("0", "1", "2")]
        cases += [(key, value) for value in values if (key, value) != ("minutes", "1")]
    return cases


@pytest.mark.parametrize(("key", "value"), key_cases(), ids=lambda text: ascii(text)[:30])
def test_key(place: Path, call: Call, key: str, value: str) -> None:
    check(place, call, [*TRAIN, "--set", f"{key}={value}"], "out")


def option_cases() -> list[tuple[str, str, str]]:
    """Options of commands that read a run or a file, and values."""
    cases = []
    for name, command in sorted(cli.commands.items()):
        if name in ("train", "explore", "tune", "ablate", "components", "skeleton", "list"):
            continue
        options = [one for one in command.params if isinstance(one, click.Option)]
        for number, option in enumerate(one for one in options if not one.is_flag):
            values = [VALUES[(number * 5 + step * 7) % len(VALUES)] for step in range(6)]
            cases += [(name, option.opts[0], value) for value in values]
    return cases


# what a command is called with, beside its options
ARGUMENTS = {
    "evaluate": ("run", "--nll-rows", 5, "--samples", 5, "--draws", 0),
    "resume": ("run", "--epochs", 4),
    "predict": ("run", "rows.csv"),
    "impute": ("run", "rows.csv", "--out", "filled.csv"),
    "generate": ("run", "--out", "draws.npz"),
    "traverse": ("run", "--out", "moves.gif"),
    "figures": ("run", "--only", "training"),
    "report": ("run",),
    "name": ("groups", "names.csv"),
    "suggest": ("run", "free.csv"),
    "export": ("run", "--out", "posterior.nc", "--rows", 3, "--draws", 5),
    "inspect": ("rows.csv",),
}
NEW_FILES = ("filled.", "draws.", "moves.", "posterior.", "groups/names.json")


@pytest.mark.parametrize(
    ("command", "option", "value"), option_cases(), ids=lambda text: ascii(text)[:30]
)
def test_option(place: Path, call: Call, command: str, option: str, value: str) -> None:
    outputs = (value,) if option == "--out" and value.strip() else ()
    outputs = (*outputs, "run/tensorboard") if command == "resume" else outputs
    check(place, call, [command, *ARGUMENTS[command], option, value], *NEW_FILES, *outputs)


@pytest.mark.parametrize("command", sorted(ARGUMENTS))
def test_the_commands_answer_without_bad_options(place: Path, call: Call, command: str) -> None:
    """Else the cases above would test an error that all of them share."""
    answer = check(place, call, [command, *ARGUMENTS[command]], *NEW_FILES)
    refused = {"traverse": "skeleton"}
    assert answer.code == (2 if command in refused else 0), answer
    assert refused.get(command, "") in answer.err


@examples(200)
@given(
    key=st.sampled_from(sorted(all_keys())),
    value=st.one_of(
        st.text(max_size=30),
        st.integers(),
        st.floats(),
        st.booleans(),
        st.none(),
        st.lists(st.integers(), max_size=3),
        st.sampled_from(VALUES),
        st.floats().map(str),
        st.integers().map(str),
    ),
)
def test_a_configuration_is_made_or_refused(key: str, value: object) -> None:
    try:
        config = resolve(default_config("digits", {key: value}))
    except GMMVAEError:
        return
    assert key in config.given
