"""Imports only go down, and importing the package or its command line is free."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "pyro_gmmvae"
# an import goes to a lower level only
LEVELS = (
    {"errors", "lazy"},
    {"param_store", "files", "ranges", "likelihood_spec", "column_spec", "key_types"},
    {"config"},
    {"distributions", "networks", "data"},
    {"objectives", "guides", "skeletons"},
    {"models", "datasets", "training", "evaluation"},
    {"runs"},
    {"figures", "estimators", "inference_data"},
    {"sweeps", "explorer"},
    {"cli"},
    {"__main__"},
)
LEVEL = {part: number for number, parts in enumerate(LEVELS) for part in parts}


def imports_of(file: Path) -> set[str]:
    """Parts of the package that a file imports, also inside functions."""
    parts = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            base = node.module or ""
            names = [f"{base}.{a.name}" for a in node.names] if base == "pyro_gmmvae" else [base]
        parts |= {n.split(".")[1] for n in names if n.startswith("pyro_gmmvae.")}
    return parts - {"__version__"}


def imports_of_modules(file: Path) -> set[Path]:
    """Files of the package that a file imports when it is imported itself."""
    found = set()
    pending = list(ast.parse(file.read_text()).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pyro_gmmvae"):
            place = ROOT.joinpath(*(node.module or "").split("."))
            inner = [place / f"{alias.name}.py" for alias in node.names]
            found |= {p for p in (place.with_suffix(".py"), *inner) if p.exists()}
        elif isinstance(node, ast.If) and ast.unparse(node.test) != "TYPE_CHECKING":
            pending += node.body + node.orelse
    return found


def part_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


FILES = sorted(f for f in PACKAGE.rglob("*.py") if f != PACKAGE / "__init__.py")


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_only_go_down(file: Path) -> None:
    part = part_of(file)
    assert part in LEVEL, f"{part} has no level: add it to LEVELS"
    for other in imports_of(file) - {part}:
        assert LEVEL[other] < LEVEL[part], (
            f"{file.name} ({part}) imports {other}, which is not below"
        )


def test_the_rule_sees_a_violation(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    file.write_text("def f():\n    from pyro_gmmvae.models import GMMVAE\n")
    assert imports_of(file) == {"models"}


@pytest.mark.parametrize("module", ["pyro_gmmvae", "pyro_gmmvae.cli"])
def test_import_loads_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'pyro' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_import_changes_no_setting() -> None:
    code = """
import torch, pyro

def settings():
    return (torch.distributions.Distribution._validate_args, torch.get_default_dtype(),
            torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(),
            torch.random.get_rng_state().tolist(), len(pyro.get_param_store()))

before = settings()
import pyro_gmmvae.runs
assert settings() == before
"""
    subprocess.run([sys.executable, "-c", code], check=True)


OPTIONAL = (
    *("bokeh", "IPython", "imageio_ffmpeg", "mlflow", "optuna", "panel", "plotly", "polars"),
    *("ray", "tensorboard", "tornado", "umap"),
)  # pandas itself loads pyarrow where it is there


def test_importing_the_parts_loads_no_optional_package() -> None:
    parts = sorted({part_of(file) for file in FILES} - {"__main__"})
    code = f"""
import importlib, sys
for part in {parts}:
    importlib.import_module("pyro_gmmvae." + part)
sys.exit(", ".join(name for name in {OPTIONAL} if name in sys.modules) or 0)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
