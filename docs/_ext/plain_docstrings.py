"""Docstrings are plain text for a terminal: what reST would take for markup is escaped here.

A class is found by its own name wherever it is documented, and what classes inherit from other
packages is theirs to document.
"""

import re
from typing import Any

from docutils import nodes

NAMES = re.compile(r"\s+(\w+, )*\w+,")
LITERAL = re.compile(r"(``.*?``|:\w+:`[^`]*`)")


def _escape(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:  # noqa: ARG001
    """Escape stars and bars, but in literals, literal blocks and examples."""
    for number in reversed(range(len(lines) - 1)):
        if NAMES.fullmatch(lines[number]):  # arguments described together, over several lines
            lines[number] += " " + lines.pop(number + 1).lstrip()
    block: int | None = None  # indentation of what introduced a literal block
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if block is not None and line.strip() and indent <= block:
            block = None
        if block is None and not line.lstrip().startswith(">>>"):
            parts = LITERAL.split(line)
            parts[::2] = [re.sub(r"([*|])", r"\\\1", part) for part in parts[::2]]
            lines[number] = "".join(parts)
        if block is None and line.rstrip().endswith("::"):
            block = indent
    if what in ("attribute", "property"):
        lines.insert(0, "")  # or napoleon takes what stands before a colon for a type


def _skip(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:  # noqa: ARG001
    """Leave out members of classes that are not of this package."""
    inner = obj.fget if isinstance(obj, property) else obj
    home = getattr(inner, "__module__", None)
    foreign = what == "class" and home is not None and not home.startswith("pyro_gmmvae")
    return True if foreign else None


def _find(app: Any, env: Any, node: Any, content: nodes.Node) -> nodes.Node | None:
    """A reference to a name of the package by the last part of that name, if it is one thing's."""
    if node.get("refdomain") != "py":
        return None
    domain, last = env.get_domain("py"), node["reftarget"].rpartition(".")[2]
    found = {name for name in domain.objects if name.rpartition(".")[2] == last}
    if len(found) != 1:
        return None
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", found.pop(), node, content)


def setup(app: Any) -> dict[str, bool]:
    # before napoleon, which makes markup of the sections
    app.connect("autodoc-process-docstring", _escape, priority=100)
    app.connect("autodoc-skip-member", _skip)
    app.connect("missing-reference", _find)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
