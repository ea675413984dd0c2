"""Tables of parts: names are known at once, a part is imported when it is used.

A part's constructor can be read from its source before the part is imported, so that a command
checks names and keys without loading torch.
"""

import ast
import builtins
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeVar

Part = TypeVar("Part")


class PartTable(MutableMapping[str, Part]):
    """Parts of a package by name.

    An entry that is added is the part itself.

    Args:
        package: where the parts are public.
        names: by name of the table, the public name of a class, or a tuple of such names.
    """

    def __init__(self, package: str, names: Mapping[str, str | tuple[str, ...]]) -> None:
        self._package = package
        self._names: dict[str, str | tuple[str, ...]] = dict(names)
        self._parts: dict[str, Part] = {}

    def __getitem__(self, name: str) -> Part:
        if name not in self._parts:
            public, package = self._names[name], import_module(self._package)
            part: Any = (
                getattr(package, public)
                if isinstance(public, str)
                else tuple(getattr(package, one) for one in public)
            )
            self._parts[name] = part
        return self._parts[name]

    def __setitem__(self, name: str, part: Part) -> None:
        self._names[name], self._parts[name] = "", part

    def __delitem__(self, name: str) -> None:
        del self._names[name]
        self._parts.pop(name, None)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"PartTable({self._package!r}: {', '.join(self)})"

    def declaration(self, name: str) -> "Declaration":
        """The declaration of the class of a name, without importing a class of this package."""
        public = self._names[name]
        if isinstance(public, str) and public:
            return _declaration_in(self._package, public)
        return _declaration_of(self[name])


@dataclass(frozen=True, eq=False)
class Declaration:
    """The declaration of a class.

    Attributes:
        name: of the class.
        parameters: of the constructor, by name.
        attributes: class attributes with literal values.
        meanings: of parameters, from the "Args" of the docstring.
        summary: the first line of the docstring.
    """

    name: str
    parameters: Mapping[str, inspect.Parameter]
    attributes: Mapping[str, Any]
    meanings: Mapping[str, str]
    summary: str


class Reference:
    """A name in a signature whose value is not known without an import."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __getattr__(self, name: str) -> "Reference":
        return Reference(name)

    def __getitem__(self, _: Any) -> "Reference":
        return self

    def __or__(self, _: Any) -> "Reference":
        return self

    __ror__ = __or__
    __iter__ = None  # by __getitem__ it would have no end


@functools.cache
def _declaration_of(part: Any) -> Declaration:
    """The declaration of a class that is imported."""
    try:
        signature = inspect.signature(part, eval_str=True)
    except NameError:  # an annotation that only type checkers see
        signature = inspect.signature(part)
    attributes = {name: getattr(part, name, None) for name in dir(part)}
    meanings = {
        name: text
        for base in reversed(inspect.getmro(part))
        for name, text in argument_docs(base.__doc__ or "").items()
    }
    summary = inspect.cleandoc(part.__doc__ or "").partition("\n")[0]
    return Declaration(part.__name__, signature.parameters, attributes, meanings, summary)


@functools.cache
def _declaration_in(module: str, name: str) -> Declaration:
    """The declaration of a class, read from the source of a module, or from where it imports it."""
    classes, imports = _definitions(module)
    if name not in classes:
        if imports.get(name, "").startswith("pyro_gmmvae."):
            return _declaration_in(imports[name], name)
        return Declaration(name, {}, {}, {}, "")
    node = classes[name]
    parameters: Mapping[str, inspect.Parameter] = {}
    attributes: dict[str, Any] = {}
    meanings: dict[str, str] = {}
    for base in reversed([base.id for base in node.bases if isinstance(base, ast.Name)]):
        inherited = _declaration_in(module, base)
        parameters = inherited.parameters or parameters
        attributes |= inherited.attributes
        meanings |= inherited.meanings
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            parameters = _parameters(statement)
        else:
            attributes |= _literal(statement)
    doc = ast.get_docstring(node) or ""
    meanings |= argument_docs(doc)
    return Declaration(name, parameters, attributes, meanings, doc.partition("\n")[0])


@functools.cache
def _definitions(module: str) -> tuple[dict[str, ast.ClassDef], dict[str, str]]:
    """The classes of a module, and the names that it imports with the modules they come from."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return {}, {}
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    imports = {
        alias.asname or alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    return classes, imports


class _Scope(dict[str, Any]):
    """Builtins and a few types of annotations; every other name is a :class:`Reference`."""

    def __missing__(self, name: str) -> Any:
        known = {"Literal": Literal, "Mapping": Mapping, "Sequence": Sequence}
        return known.get(name, getattr(builtins, name, None)) or Reference(name)


def _parameters(function: ast.FunctionDef) -> Mapping[str, inspect.Parameter]:
    """The parameters of a method, without ``self``."""
    stub = ast.FunctionDef("stub", function.args, [ast.Pass()], [], lineno=0, col_offset=0)
    scope = _Scope()
    code = compile(ast.fix_missing_locations(ast.Module([stub], [])), "<signature>", "exec")
    exec(code, {}, scope)
    return dict(list(inspect.signature(scope["stub"]).parameters.items())[1:])


def _literal(statement: ast.stmt) -> dict[str, Any]:
    """The name and value of an assignment of a literal; nothing for other statements."""
    target: ast.expr | None = None
    if isinstance(statement, ast.Assign):
        target = statement.targets[0]
    elif isinstance(statement, ast.AnnAssign):
        target = statement.target
    if not isinstance(target, ast.Name) or statement.value is None:  # type: ignore[attr-defined]
        return {}
    try:
        return {target.id: ast.literal_eval(statement.value)}  # type: ignore[attr-defined]
    except ValueError:
        return {}


def argument_docs(doc: str) -> dict[str, str]:
    """The description of each argument in a docstring, but for "as for another class"."""
    _, _, text = inspect.cleandoc(doc).partition("Args:\n")
    meanings: dict[str, str] = {}
    names: list[str] = []
    for line in text.splitlines():
        if line and not line.startswith("    "):
            break
        if line.startswith("    ") and not line.startswith("     ") and ": " in line:
            head, _, rest = line.strip().partition(": ")
            names = [name.strip() for name in head.split(",")]
            meanings |= dict.fromkeys(names, rest)
        elif line.strip():
            meanings |= {name: f"{meanings[name]} {line.strip()}" for name in names}
    return {name: text for name, text in meanings.items() if not text.startswith("as for ")}


def lazy_names(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package whose public names are imported when used.

    The names are those that its ``__init__`` imports under ``if TYPE_CHECKING``.
    """

    def get(name: str) -> Any:
        module = _definitions(package)[1].get(name)
        if module in (None, package):
            if find_spec(f"{package}.{name}") is None:
                raise AttributeError(f"module {package!r} has no attribute {name!r}")
            return import_module(f"{package}.{name}")
        value = getattr(import_module(module), name)
        setattr(import_module(package), name, value)
        return value

    def names() -> list[str]:
        here = vars(import_module(package))
        special = [name for name in here if name.startswith("__")]
        imported = _definitions(package)[1].keys() - {"TYPE_CHECKING", "PartTable", "lazy_names"}
        return sorted({*special, *here.get("__all__", ()), *imported})

    return get, names
