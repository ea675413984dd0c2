"""Options and fixtures: the same tests run on a GPU with --device cuda, in double with --dtype."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyro
import pytest
import torch

from pyro_gmmvae.runs import Run, default_config, train

ROWS, CLASSES = 150, ("ann", "bob", "cy")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="device the tests compute on")
    parser.addoption("--dtype", default="float32", choices=["float32", "float64"])
    parser.addoption("--slow", action="store_true", help="run the tests marked slow, too")
    parser.addoption(
        "--hostile",
        type=int,
        nargs="?",
        const=1,
        default=40,
        metavar="N",
        help="run one of N cases of tests/hostile; without N all",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow; run scripts/test --all"))


# where the objects under test are built by the test itself; the loop, the runs and the command
# line choose their devices themselves, and a default device would hide what they forget
ON_DEVICE = ("distributions", "networks", "models", "objectives", "evaluation")


@pytest.fixture(autouse=True)
def _fresh(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test starts from seed 0, an empty parameter store, and the chosen type and device."""
    pyro.clear_param_store()
    torch.manual_seed(0)
    torch.set_default_dtype(getattr(torch, request.config.getoption("--dtype")))
    if request.path.parent.name in ON_DEVICE:
        device = request.config.getoption("--device")
        torch.set_default_device(device)
        # tensors that the module of the tests made when it was imported
        for name, constant in list(vars(request.module).items()):
            if isinstance(constant, torch.Tensor):
                setattr(request.module, name, constant.to(device))
    yield
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def device(request: pytest.FixtureRequest) -> torch.device:
    """What --device asks for, where a test chooses its device itself."""
    return torch.device(request.config.getoption("--device"))


@pytest.fixture
def mnist_dir() -> Path:
    """The folder of the real MNIST files; skips where $PYRO_GMMVAE_DATA does not hold them."""
    folder = os.environ.get("PYRO_GMMVAE_DATA")
    for place in (Path(folder), Path(folder) / "mnist") if folder else ():
        if any(place.glob("train-images-idx3-ubyte*")):
            return place
    pytest.skip("real MNIST files are not here (set PYRO_GMMVAE_DATA)")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the published recordings; skips where it is not here.

    It is $GMMVAE_TEST_DATA, or shared/data beside the checkout; a test skips by itself where
    the set that it needs is not among them.
    """
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("GMMVAE_TEST_DATA", beside))
    if not folder.is_dir():
        pytest.skip("real recordings are not here (set GMMVAE_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on digits, twelve epochs."""
    run = tmp_path_factory.mktemp("runs") / "digits"
    train(default_config("digits", {"epochs": 12, "hidden": "64", "latent_dim": 4}), run)
    return run


@pytest.fixture(scope="session")
def clustered(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Five components on a table of three classes that it was not told."""
    folder = tmp_path_factory.mktemp("clustered")
    generator, y = np.random.default_rng(0), np.arange(ROWS) % 3
    x = generator.normal(size=(ROWS, 4)) * 0.3 + 4 * np.eye(4)[y]
    table = pd.DataFrame(x, columns=[*"abcd"]).assign(label=np.array(CLASSES)[y])
    table.to_csv(folder / "rows.csv", index=False)
    keys = {
        "labels": 0,
        "components": 5,
        "init": "kmeans",
        "likelihood": "normal",
        "epochs": 4,
        "hidden": "16",
        "latent_dim": 2,
        "batch_size": 32,
        "labelled_per_batch": 0,
        "learning_rate": 0.01,
        "validation": 20,
        "test": 30,
        "engine": "svi",
    }
    return train(default_config(str(folder / "rows.csv"), keys), folder / "run")
