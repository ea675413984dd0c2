"""The operation, and the line of the model, that CUDA could not record."""

import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from traceback import FrameSummary
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_HERE = Path(__file__).parent
_LIBRARIES = tuple(str(Path(one.__file__ or "").parent) for one in (torch, pyro))
_GRAPH = "<eval_with_key>"  # torch's name of the code of a captured step


def explained(error: BaseException, evaluate: Callable[[], Any] = lambda: None) -> str:
    """One line on the first error of a recording: its text, the operation and its place.

    Args:
        error: ending a failed recording raises another one, whose context is the first.
        evaluate: evaluates the objective without a graph. An operation of a captured step has no
            line of its own; it is looked for among those that move data of the host.
    """
    while error.__context__ is not None:
        error = error.__context__
    text = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    frames = traceback.extract_tb(error.__traceback__)
    of_graph = [frame for frame in frames if frame.filename.startswith(_GRAPH)]
    if not of_graph:
        place = _place(frames)
        return f"{text}, at {place}" if place else text
    operation = (of_graph[-1].line or "").partition("=")[2].partition("(")[0].strip()
    found = _HostData()
    try:
        with found:
            evaluate()
    except RuntimeError:  # of a device that a failed recording left unusable
        pass
    return f"{text}, in {operation}" + (f", at {found.place}" if found.place else "")


class _HostData(TorchDispatchMode):
    """Finds the first line that gives data of the host to a device."""

    def __init__(self) -> None:
        super().__init__()
        self.place = ""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not self.place and _moves_host_data(func, args, result):
            self.place = _place(traceback.extract_stack())
        return result


def _moves_host_data(func: Any, args: Any, result: Any) -> bool:
    name = func.overloadpacket.__name__
    if name == "lift_fresh":
        return True
    given = [one for one in args if isinstance(one, Tensor)]
    given += [one for group in args if isinstance(group, (list, tuple)) for one in group]
    host = any(isinstance(one, Tensor) and one.dim() and one.device.type == "cpu" for one in given)
    return host and isinstance(result, Tensor) and result.device.type != "cpu"


def _place(frames: Iterable[FrameSummary]) -> str:
    """The innermost line outside of torch, Pyro and the training loop: folder/file:line (code)."""
    place = ""
    for frame in frames:
        if frame.name == "__torch_dispatch__":  # of a mode, not of the model
            break
        file = Path(frame.filename)
        if file.parent != _HERE and not frame.filename.startswith((*_LIBRARIES, "<")):
            place = f"{file.parent.name}/{file.name}:{frame.lineno} ({frame.line})"
    return place
