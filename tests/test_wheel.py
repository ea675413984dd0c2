"""The built wheel: complete without the checkout, installable with what it declares."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*command: object, cwd: Path) -> str:
    """Run a command without the variables that would let it find the checkout."""
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=clean, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the checkout's tracked files; the build leaves nothing in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(
        ROOT / "pyro_gmmvae", folder / "pyro_gmmvae", ignore=shutil.ignore_patterns("__pycache__")
    )
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet")
    run(*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", "dist", ".", cwd=folder)
    (found,) = (folder / "dist").glob("*.whl")
    return found


def environment(folder: Path, wheel: Path, *, borrowed: bool) -> Path:
    """An empty environment with the wheel; its dependencies are the tests' own, or installed."""
    run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    pip = (python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    if borrowed:
        # a folder named in a .pth file is searched, but its own .pth files (the editable
        # installation of the checkout) are not read
        site = folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
        (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
        run(*pip, "--no-deps", wheel, cwd=folder)
    else:
        pins = ROOT / "constraints.txt"
        (torch,) = re.findall(r"^torch==.*$", pins.read_text(), re.MULTILINE)
        run(*pip, torch, cwd=folder)
        run(*pip, "-c", pins, wheel, cwd=folder)
    return folder / "bin"


@pytest.mark.parametrize(
    "borrowed", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["borrowed", "installed"]
)
def test_commands_run_from_the_wheel(wheel: Path, tmp_path: Path, borrowed: bool) -> None:
    bin = environment(tmp_path / "env", wheel, borrowed=borrowed)
    where = run(bin / "python", "-c", "import pyro_gmmvae as p; print(p.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(tmp_path / "env")
    gmmvae = bin / "gmmvae"
    assert "gmvae-discrete" in run(gmmvae, "list", cwd=tmp_path)
    fit = ("--data", "digits", "--labels", "100", "--epochs", "2", "--device", "cpu")
    run(gmmvae, "train", *fit, "--out", "run", cwd=tmp_path)
    assert "accuracy" in run(gmmvae, "evaluate", "run", "--nll-rows", "0", cwd=tmp_path)
    run(gmmvae, "report", "run", "--out", "report.html", cwd=tmp_path)
    assert "<html" in (tmp_path / "report.html").read_text()
