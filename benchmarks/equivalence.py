"""Whether two versions of the package compute the same numbers, bit for bit.

    python benchmarks/equivalence.py --write FILE      # with the one version
    python benchmarks/equivalence.py --compare FILE    # with the other

A case is a model, or a Gaussian-mixture VAE with one of its guides, in float64 from a fixed seed.
Of each case FILE (safetensors) holds the initial state dict, the loss, its parts and all gradients
of every objective that fits, ``embed``, ``classify`` and ``generate``. FILE's header is JSON.
"""

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.guides import GUIDES
from pyro_gmmvae.models import MODELS
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.objectives import OBJECTIVES

SHAPE, K, D = (1, 8, 8), 4, 3
OPTIONS = NetworkOptions(hidden=(16,), batch_norm=True)
FULL = {"covariance": "full", "learn_prior": True}
SIZES: dict[str, Any] = {"latent_dim": D, "options": OPTIONS}


def cases() -> Iterator[tuple[str, Any]]:
    """A name, and a function that builds the model."""
    for name, kind in MODELS.items():
        sizes = SIZES | ({"components": K} if kind.has_classes() else {})
        sizes |= {"factors": {"view": 2}} if name == "gmmvae-factors" else {}
        yield name, partial(kind, SHAPE, **sizes)
    for name, guide in GUIDES.items():
        values = SIZES | {"components": K, "guide": guide}
        yield f"gmmvae:{name}", partial(MODELS["gmmvae"], SHAPE, **values, **FULL)
        if not guide.relaxed_only:
            yield f"gmvae-discrete:{name}", partial(MODELS["gmvae-discrete"], SHAPE, **values)


def rows() -> tuple[Tensor, Tensor]:
    """12 rows in [0, 1], the second half of them without a label."""
    generator = torch.Generator().manual_seed(1)
    y = torch.arange(12) % K
    y[6:] = -1
    return torch.rand(12, *SHAPE, generator=generator, dtype=torch.float64), y


def numbers_of(build: Any) -> dict[str, Tensor]:
    """All numbers of one case by name."""
    torch.manual_seed(0)
    model, (x, y) = build().double(), rows()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    numbers = {f"state/{name}": value for name, value in state.items()}
    for name, kind in OBJECTIVES.items():
        model.load_state_dict(state)
        model.zero_grad()
        objective = kind(
            model.model, model.guide, latents=model.latents, label_sites=model.label_sites
        ).double()
        torch.manual_seed(3)
        try:
            terms = objective(x, y)
        except GMMVAEError:  # this objective does not fit the case
            continue
        terms.loss.backward()
        numbers |= {f"{name}/loss": terms.loss} | {f"{name}/{k}": v for k, v in terms.parts.items()}
        for parameter, value in model.named_parameters():
            if value.grad is not None:
                numbers[f"{name}/gradient/{parameter}"] = value.grad.clone()
    model.load_state_dict(state)
    with torch.no_grad():
        numbers["embed"] = model.eval().embed(x)
        if model.components:
            numbers["classify"] = model.classify(x)
        if model.latents:
            torch.manual_seed(4)
            label = 1 if model.class_conditional else None
            numbers["generate"] = model.float().generate(5, label)
    return {name: value.detach().contiguous() for name, value in numbers.items()}


def differences(file: Path) -> list[str]:
    """One line for each case that differs from the file."""
    reference, lines = load_file(file), []
    for case, build in cases():
        expected = {k: v for k, v in reference.items() if k.startswith(f"{case}/")}
        numbers = {f"{case}/{name}": value for name, value in numbers_of(build).items()}
        names = sorted(expected.keys() ^ numbers.keys())
        shared = expected.keys() & numbers.keys()
        names += sorted(k for k in shared if not torch.equal(numbers[k], expected[k]))
        if names:
            lines.append(f"{case}: {len(names)} of {len(expected)} differ, {', '.join(names[:3])}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", type=Path, metavar="FILE", help="write the numbers to a file")
    action.add_argument("--compare", type=Path, metavar="FILE", help="compare them with a file")
    arguments = parser.parse_args()
    total = len(list(cases()))
    if arguments.write:
        tensors = {
            f"{case}/{name}": value
            for case, build in cases()
            for name, value in numbers_of(build).items()
        }
        save_file(tensors, arguments.write, metadata={"torch": torch.__version__})
        print(f"{arguments.write}: {total} cases, {len(tensors)} tensors")
        return 0
    with safe_open(arguments.compare, "pt") as file:
        version = (file.metadata() or {}).get("torch")
    if version != torch.__version__:
        print(f"{arguments.compare}: written with torch {version}, this is {torch.__version__}")
    lines = differences(arguments.compare)
    print("\n".join([*lines, f"{total - len(lines)} of {total} cases identical"]))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
