import inspect
import subprocess
import sys

import pytest

from pyro_gmmvae.guides import GUIDES
from pyro_gmmvae.lazy import Declaration, PartTable, argument_docs
from pyro_gmmvae.models import MODELS
from pyro_gmmvae.objectives import REGULARIZERS

PARTS = [(table, name) for table in (MODELS, GUIDES) for name in table]


@pytest.mark.parametrize(("table", "name"), PARTS, ids=[name for _, name in PARTS])
def test_a_declaration_is_that_of_the_class(table: PartTable[type], name: str) -> None:
    declared, part = table.declaration(name), table[name]
    assert declared.name == part.__name__
    actual = inspect.signature(part).parameters
    assert list(declared.parameters) == list(actual)
    for key, parameter in actual.items():
        assert declared.parameters[key].kind == parameter.kind
        default = declared.parameters[key].default
        if inspect.isclass(parameter.default) and parameter.default is not inspect.Parameter.empty:
            assert default.__name__ == parameter.default.__name__
        else:
            assert default == parameter.default
    for attribute, value in declared.attributes.items():
        assert getattr(part, attribute) == value
    assert "default_objective" in declared.attributes


def test_names_of_guides_are_those_of_the_table() -> None:
    assert all(guide.name == name for name, guide in GUIDES.items())


def test_a_part_that_is_added_is_declared_by_its_class(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine:
        """My model.

        Args:
            size: of something
                large.
        """

        latents = ("c",)

        def __init__(self, x_shape: tuple[int, ...], *, size: float = 0.67) -> None: ...

    monkeypatch.setitem(MODELS, "mine", Mine)
    declared: Declaration = MODELS.declaration("mine")
    assert MODELS["mine"] is Mine
    assert "mine" in MODELS
    assert declared.parameters["size"].default == 0.67
    assert declared.attributes["latents"] == ("c",)
    assert declared.meanings == {"size": "of something large."}
    assert declared.summary == "My model."


def test_a_docstring_that_points_elsewhere_says_nothing() -> None:
    doc = "Args:\n    a, b: as for X.\n    c: one\n        line: more\n\nRaises:\n    E: d."
    assert argument_docs(doc) == {"c": "one line: more"}


def test_a_name_that_is_missing_is_an_attribute_error() -> None:
    import pyro_gmmvae.models

    assert "GMMVAE" in dir(pyro_gmmvae.models)
    with pytest.raises(AttributeError, match="has no attribute 'GMVAE'"):
        pyro_gmmvae.models.GMVAE  # type: ignore[attr-defined]  # noqa: B018


def test_regularizers_have_a_summary() -> None:
    assert all(REGULARIZERS.declaration(name).summary for name in REGULARIZERS)


def test_declarations_are_read_without_torch() -> None:
    code = """
import sys
from pyro_gmmvae.guides import GUIDES
from pyro_gmmvae.models import MODELS
for table in (MODELS, GUIDES):
    assert all(table.declaration(name).parameters for name in table)
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_names_of_the_package_cost_nothing_until_they_are_used() -> None:
    code = """
import sys
import pyro_gmmvae
names = ["GMMVAE", "GMMVAEClassifier", "train", "resume", "Run", "Config", "default_config"]
assert {*names, "models", "runs", "sweeps"} <= {*dir(pyro_gmmvae)}
assert not {"torch", "numpy", "pandas"} & sys.modules.keys()
assert all(hasattr(pyro_gmmvae, name) for name in names)
assert not hasattr(pyro_gmmvae, "GMVAE")
assert pyro_gmmvae.models.GMMVAE is pyro_gmmvae.GMMVAE
"""
    subprocess.run([sys.executable, "-c", code], check=True)
