"""Files that are either old or new, never half: weights, training state, JSON and tables."""

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from pyro_gmmvae.errors import GMMVAEError

_TEMPORARY = ".part-"


def atomic_write(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash at any moment, finds the old one or the new.

    Raises:
        GMMVAEError: if the disk is full or the place can't be written; the old file stays.
    """
    temporary = None
    try:
        handle, name = tempfile.mkstemp(prefix=f"{_TEMPORARY}{path.name}-", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise GMMVAEError(
            f"can't write {path}: {error.strerror or error}; what was there before is kept"
        ) from error


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files that a killed process left in a folder."""
    for leftover in folder.glob(f"{_TEMPORARY}*"):
        leftover.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON atomically."""
    atomic_write(path, (json.dumps(content, indent=2) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        GMMVAEError: if the file is missing or is no JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise GMMVAEError(f"{path} is missing; is {path.parent} a run folder?") from None
    except (OSError, ValueError) as error:
        raise GMMVAEError(f"{path} can't be read as JSON: {error}") from error


def save_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors with a checksum of their content, atomically."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in state.items()}
    atomic_write(path, save_tensors(tensors, metadata={"sha256": _digest(tensors)}))


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read what :func:`save_weights` wrote; never unpickles.

    Raises:
        GMMVAEError: if the file is missing, is no safetensors file, or was altered.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise GMMVAEError(f"{path} can't be read: {error.strerror or error}") from error
    try:
        tensors = load_tensors(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except (SafetensorError, ValueError) as error:
        raise GMMVAEError(
            f"{path} is not a safetensors file ({error}); restore or retrain"
        ) from error
    if header.get("__metadata__", {}).get("sha256") != _digest(tensors):
        raise GMMVAEError(f"{path} was altered after it was saved (checksum); restore or retrain")
    return tensors


def save_training(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain Python values for a later resume, atomically."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    atomic_write(path, buffer.getvalue())


def load_training(path: Path, device: torch.device) -> dict[str, Any]:
    """Read what :func:`save_training` wrote, with torch's ``weights_only`` reader.

    Raises:
        GMMVAEError: if the file is missing, damaged, or holds anything but tensors and values.
    """
    if not path.exists():
        raise GMMVAEError(f"{path} is missing: nothing to resume; train again")
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises half a dozen types for a bad file
        raise GMMVAEError(
            f"{path} can't be read as a training state: damaged, or no file of ours"
        ) from error


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
