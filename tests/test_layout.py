"""Rules that keep the package small in the reader's head; each failure lists the places."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

from tests.test_architecture import FILES, PACKAGE, ROOT, imports_of_modules

SOURCES = {str(file.relative_to(PACKAGE)): file.read_text() for file in FILES}
TREES = {name: ast.parse(text) for name, text in SOURCES.items()}
# one file of commands may have the name of the file whose functions it calls
SHARED_NAMES = {"__init__.py", "base.py"}


def lines_with(pattern: str, *, but: set[str]) -> list[str]:
    """The places where a pattern occurs, outside some files."""
    return [
        f"{name}:{number}"
        for name, text in SOURCES.items()
        if name not in but
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(pattern, line)
    ]


def test_endings_of_files_are_compared_in_small_letters() -> None:
    """ROWS.CSV is a csv file; files.ending gives the ending to compare."""
    compared = r"\.suffix (==|!=|in\b|not in\b)|\bglob\(f?\"[^\"]*\.(csv|npz|npy|parquet|json)\""
    assert lines_with(compared, but=set()) == []


def test_text_is_read_and_written_in_a_named_encoding() -> None:
    """Without a name it would be the locale's, which may be ASCII."""
    unnamed = r"\.read_text\(\)|\.write_text\([^\"]*\)$|open\(\"[rwa]t?\"\)\.(read|write)"
    assert lines_with(unnamed, but=set()) == []


def test_models_are_not_probed() -> None:
    """An attribute that a model may lack belongs into LatentModel, with a default."""
    model = r"(self\.|view\.|run\.|loaded\.)*(model|model_class|MODELS\[[^]]+\])"
    assert lines_with(rf"(has|get)attr\({model}[,)]", but={"models/base.py"}) == []


def test_imports_form_no_circle() -> None:
    arrows = {file: imports_of_modules(file) for file in FILES}
    done: set[Path] = set()

    def visit(file: Path, path: tuple[Path, ...]) -> None:
        assert file not in path, " -> ".join(str(p.relative_to(PACKAGE)) for p in (*path, file))
        if file not in done:
            for other in sorted(arrows[file]):
                visit(other, (*path, file))
            done.add(file)

    for file in FILES:
        visit(file, ())


def test_a_file_name_is_used_once() -> None:
    places = defaultdict(list)
    for name in SOURCES:
        if Path(name).name not in SHARED_NAMES and not name.startswith("cli/"):
            places[Path(name).name].append(name)
    assert {k: v for k, v in places.items() if len(v) > 1} == {}


def test_a_public_class_name_is_used_once() -> None:
    places = defaultdict(list)
    for name, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(name)
    assert {k: v for k, v in places.items() if len(v) > 1} == {}


@pytest.mark.parametrize(
    ("pattern", "owner"),
    [
        (r"^\s*(import|from) fcntl|fcntl\.", "runs/locks.py"),
        (r"\.part\b.*[\"']|NamedTemporaryFile|mkstemp", "files.py"),
        (r"signal\.signal\(", "training/signals.py"),
    ],
    ids=["locks", "temporary files", "signal handlers"],
)
def test_a_delicate_thing_has_one_owner(pattern: str, owner: str) -> None:
    assert lines_with(pattern, but={owner}) == []
    assert re.search(pattern, SOURCES[owner], re.MULTILINE), f"{owner}: the rule checks nothing"


def test_files_are_neither_crumbs_nor_rocks() -> None:
    small = {"errors.py", "__main__.py"}
    sizes = {name: len(text.splitlines()) for name, text in SOURCES.items()}
    found = {
        name: size
        for name, size in sizes.items()
        if size > 450 or (size < 30 and name not in small and Path(name).name != "__init__.py")
    }
    assert found == {}


def test_the_readme_takes_three_minutes() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.split()) <= 750
    assert len(re.findall(r"\d*\.\d+", text)) <= 60


ODD = re.compile(
    r"\b(told|hears?|door|hall|speaks?|spoken|whoever|likeliest|nobody|stands there|can't be had|"
    r"means nothing to|persons|that are none|goes? on with|anew)\b",
    re.IGNORECASE,
)
MESSAGES = {"GMMVAEError", "echo", "option", "command", "UsageError", "Field", "unknown_name"}


def test_messages_are_plain_english() -> None:
    """Texts that a user can meet: errors, help and printed lines."""
    found = []
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            if getattr(node.func, "id", getattr(node.func, "attr", "")) not in MESSAGES:
                continue
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and ODD.search(str(part.value)):
                    found.append(f"{name}:{part.lineno}: {str(part.value)[:60]}")
    assert found == []
