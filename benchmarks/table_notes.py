"""Notes below the tables of benchmarks: the command line, and the origin of figures."""

import shlex
import sys
from collections.abc import Sequence

import pandas as pd

NOT_READ = "† as others quote it; the table of the paper itself was not read for this page."
# options whose values are of one machine
FOLDERS = {"--data-dir": "DIR", "--packages": "PACKAGES"}


def public_command(script: str, arguments: Sequence[str] | None = None) -> str:
    """The command of a script of this folder, without the paths of this machine.

    Args:
        script: its file name.
        arguments: of the command; None: those of this process.
    """
    given = sys.argv[1:] if arguments is None else arguments
    before = ["", *given]
    shown = [FOLDERS.get(option, text) for option, text in zip(before, given, strict=False)]
    return shlex.join(["python", f"benchmarks/{script}", *shown])


def note_of_marks(table: pd.DataFrame) -> list[str]:
    """The note on figures that are marked with †, if the table has one."""
    marked = table.astype(str).apply(lambda column: column.str.contains("†")).to_numpy().any()
    return [NOT_READ] if marked else []
