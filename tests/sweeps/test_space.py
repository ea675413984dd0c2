"""Search spaces of studies."""

from typing import Any

import pytest
import torch

from pyro_gmmvae.config import Config
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.key_types import Schedule
from pyro_gmmvae.models import MODELS
from pyro_gmmvae.ranges import Choice, Real, Whole
from pyro_gmmvae.runs import default_config
from pyro_gmmvae.runs.assembly import checked_parts
from pyro_gmmvae.runs.build import resolve
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.sweeps.search_space import (
    FIXED_KEYS,
    check_comparable,
    configured,
    corners,
    initial_point,
    optuna_distributions,
    read_dimension,
    space_of,
)


@pytest.fixture(scope="module")
def digits() -> TrainingData:
    return TrainingData.from_config(default_config("digits", {"labels": 100}))


OF_COVARIATES = ("fader", "vfae")


@pytest.mark.parametrize("model", sorted(set(MODELS) - set(OF_COVARIATES)))
def test_every_model_builds_at_the_corners_of_its_space(model: str, digits: TrainingData) -> None:
    config = resolve(default_config("digits", {"model": model, "labels": 100}))
    space = space_of(config)
    assert {"latent_dim", "learning_rate"} <= space.keys()
    for params in corners(space):
        parts = checked_parts(resolve(configured(config, space, params)), digits)
        torch.manual_seed(0)
        x, y = digits.tensors(digits.split.labelled[:4])
        assert torch.isfinite(parts.objective(x, y).loss)


@pytest.mark.parametrize("model", MODELS)
def test_every_dimension_changes_its_key_and_contains_the_default(model: str) -> None:
    config = resolve(default_config("digits", {"model": model, "labels": 100}))
    space = space_of(config)
    low, high = (configured(config, space, params) for params in corners(space))
    assert all(getattr(low, key) != getattr(high, key) for key in space)
    start = initial_point(config, space)
    assert space.keys() - start.keys() <= {"auxiliary_dim"}  # its default is that of z
    for key in start.keys() - {"hidden", "alpha", "kl_s", "kl_y", "temperature"}:
        own = getattr(config, key)
        assert start[key] == (own.end if isinstance(own, Schedule) else own)


@pytest.mark.parametrize(
    ("key", "text", "dimension"),
    [
        ("learning_rate", "1e-4:1e-2:log", Real(1e-4, 1e-2, log=True)),
        ("alpha", "1:30", Real(1.0, 30.0)),
        ("latent_dim", "2:8", Whole(2, 8)),
        ("components", " 4 : 20 : log ", Whole(4, 20, log=True)),
        ("hidden", "64,128x64", Choice(((64,), (128, 64)))),
        ("guide", "product,none", Choice(("product", None))),
        ("batch_norm", "true,false", Choice((True, False))),
        ("kl_s", "0,0:1:200", Choice((Schedule(0, 0), Schedule(0, 1, 200)))),
        ("features", "joints,joints+bones", Choice((("joints",), ("joints", "bones")))),
    ],
)
def test_a_dimension_is_read_from_its_text(key: str, text: str, dimension: Any) -> None:
    config = default_config("digits")
    assert read_dimension(config, key, text) == dimension
    assert read_dimension(config, key, str(dimension)) == dimension


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("drpout", "0:1", "unknown key 'drpout'; did you mean 'dropout'"),
        ("latent_dim", "2.5:8", "it takes whole numbers"),
        ("latent_dim", "8:2", "goes up from a number to a larger one, not 8:2"),
        ("latent_dim", "2,2", "two different options"),
        ("latent_dim", "0:8", "latent_dim: Input should be greater than or equal to 1"),
        ("learning_rate", "0:1:log", "must begin above 0"),
        ("learning_rate", "1:2:lin", "write LOW:HIGH"),
        ("learning_rate", "nan:1", "a range goes up"),
        ("learning_rate", "inf:1", "a range goes up"),
        ("learning_rate", "a:b", "write LOW:HIGH"),
        ("learning_rate", "5", "write LOW:HIGH"),
        ("learning_rate", "", "write LOW:HIGH"),
        ("guide", "1:2", "guide is not a number; write values"),
        ("dropout", "0:1", "less than 1"),
        ("hidden", "ab,cd", "valid integer"),
        ("seed", "0:5", "seed can't be searched"),
        ("model", "vae,gmmvae", "model can't be searched"),
    ],
)
def test_a_wrong_text_gives_a_message_of_one_line(key: str, text: str, message: str) -> None:
    config = default_config("digits")
    with pytest.raises(GMMVAEError, match=message) as caught:
        space_of(config, (), {key: text})
    assert "\n" not in str(caught.value)


def test_every_fixed_key_exists() -> None:
    assert set(Config.model_fields) >= FIXED_KEYS


def test_given_keys_and_keys_of_labels_without_labels_are_not_searched() -> None:
    config = default_config("digits", {"labels": 100})
    assert "alpha" not in space_of(config, ["alpha"])
    unlabelled = space_of(config, labelled=False)
    assert not {"alpha", "label_eps"} & unlabelled.keys()
    with pytest.raises(GMMVAEError, match="nothing is left to search"):
        space_of(config, space_of(config))


def test_a_searched_number_moves_the_end_of_a_schedule() -> None:
    config = default_config("digits", {"kl_s": "0:1:200", "alpha": 3})
    space = {"kl_s": Real(0.1, 10.0, log=True), "alpha": Real(1.0, 9.0)}
    assert initial_point(config, space) == {"kl_s": 1.0, "alpha": 3.0}
    found = configured(config, space, {"kl_s": 0.25, "alpha": 7.5})
    assert (str(found.kl_s), str(found.alpha)) == ("0:0.25:200", "7.5")


def test_an_initial_point_outside_the_space_moves_to_its_edge() -> None:
    config = default_config("digits", {"latent_dim": 100, "hidden": "7"})
    space = {"latent_dim": Whole(2, 64), "hidden": Choice(((8,), (16,)))}
    assert initial_point(config, space) == {"latent_dim": 64}


def test_optuna_draws_values_that_the_configuration_takes() -> None:
    from optuna import logging
    from optuna.study import create_study

    config = default_config("digits", {"labels": 100})
    space = space_of(config, (), {"guide": "product,none"})
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        study = create_study()
        for _ in range(5):
            found = configured(config, space, study.ask(optuna_distributions(space)).params)
            assert 2 <= found.latent_dim <= 64
            assert found.guide in ("product", None)
    finally:
        logging.set_verbosity(before)


def test_densities_of_different_x_are_not_compared() -> None:
    space = {"window": Whole(4, 16), "latent_dim": Whole(2, 4)}
    with pytest.raises(GMMVAEError, match="window changes what x is"):
        check_comparable("val_elbo", space)
    check_comparable("val_accuracy", space)
    with pytest.raises(GMMVAEError, match="not a bound of the relaxed model"):
        check_comparable("val_elbo", {"objective": Choice(("trace", "categorical"))})
    check_comparable("val_elbo", {"latent_dim": Whole(2, 4), "joint_dropout": Real(0, 0.5)})
