"""Tests of augmentation: small random changes, different for each row."""

import pytest
import torch

from pyro_gmmvae.data import Image, Table
from pyro_gmmvae.data.augment import affine
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.training import Batches, Fit, FitSettings, Preprocessing


def square() -> torch.Tensor:
    x = torch.zeros(64, 1, 28, 28)
    x[:, :, 10:18, 10:18] = 1.0
    return x


def test_each_image_moves_a_little_and_differently() -> None:
    moved = affine(square())
    assert moved.shape == (64, 1, 28, 28)
    assert moved.min() >= 0
    assert moved.max() <= 1 + 1e-6
    assert len(torch.unique(moved.flatten(1).round(decimals=3), dim=0)) == 64
    mass = moved.sum((1, 2, 3))
    assert ((mass > 0.6 * 64) & (mass < 1.6 * 64)).all()
    grid = torch.arange(28.0)
    center = (moved.sum((1, 3)) * grid).sum(1) / mass
    assert ((center - 13.5).abs() < 4).all()
    assert center.std() > 0.3


def test_affine_without_amounts_is_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(5, 2, 8, 6)
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.full(shape, 0.5))
    torch.testing.assert_close(affine(x), x)


def test_the_largest_shift_is_two_pixels_of_28(monkeypatch: pytest.MonkeyPatch) -> None:
    x = square()[:1]
    amounts = torch.full((6, 1), 0.5)
    amounts[4] = 1.0  # the largest shift along x
    monkeypatch.setattr(torch, "rand", lambda *_, **__: amounts.clone())
    expected = torch.roll(x, -2, -1)
    torch.testing.assert_close(affine(x), expected, atol=1e-4, rtol=0)


def test_rows_that_are_not_images_are_refused() -> None:
    with pytest.raises(GMMVAEError, match="changes images"):
        affine(torch.rand(3, 10))


def test_the_objective_sees_augmented_rows_and_the_teacher_original_ones() -> None:
    class Recorder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.seen: list[torch.Tensor] = []

    class Objective(Recorder):
        def forward(self, x, y):  # type: ignore[no-untyped-def]  # noqa: ARG002
            self.seen.append(x)
            loss = self.weight.sum()
            return type("Terms", (), {"loss": loss, "parts": {}})

    class PseudoLabeler(Recorder):
        active = True

        def begin(self, step: int) -> None:
            pass

        def relabel(self, x, y):  # type: ignore[no-untyped-def]
            self.seen.append(x)
            return y

        def update(self, module) -> None:  # type: ignore[no-untyped-def]
            pass

    objective, teacher = Objective(), PseudoLabeler()
    x = torch.rand(8, 3)
    batches = Batches(x, torch.full((8,), -1), 8, 0, seed=0)
    Fit(
        objective,
        objective,
        batches,
        FitSettings(epochs=1),
        pseudo_labeler=teacher,  # type: ignore[arg-type]
        preprocessing=Preprocessing(lambda rows: rows + 100),
    ).run()
    torch.testing.assert_close(objective.seen[0], teacher.seen[0] + 100)


@pytest.mark.parametrize("engine", ["svi", "captured"])
def test_paired_rows_are_augmented_and_original(engine: str) -> None:
    """The captured step must distinguish the two views, which begin as the same rows."""

    class Objective(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x, y, clean):  # type: ignore[no-untyped-def]  # noqa: ARG002
            apart = (x - clean).mean()
            loss = apart + self.weight.sum()
            return type("Terms", (), {"loss": loss, "parts": {"apart": apart.detach()}})

    objective = Objective()
    batches = Batches(torch.rand(8, 3), torch.full((8,), -1), 8, 0, seed=0)
    fit = Fit(
        objective,
        objective,
        batches,
        FitSettings(epochs=2, engine=engine),
        preprocessing=Preprocessing(lambda rows: rows + 100, paired=True),
    )
    fit.run()
    assert fit.state.history[-1]["apart"] == pytest.approx(100, rel=1e-4)


def test_auto_is_the_augmentation_that_suits_the_rows() -> None:
    image, row = torch.rand(4, 1, 8, 8), torch.randn(400, 20)
    of_images = Image((1, 8, 8)).augmentation("auto")
    of_tables = Table((20,)).augmentation("auto")
    assert of_images is not None
    assert of_tables is not None
    torch.manual_seed(3)
    found = of_images(image)
    torch.manual_seed(3)
    torch.testing.assert_close(found, affine(image))
    changed = of_tables(row)
    assert (changed == 0).float().mean().item() == pytest.approx(0.2, abs=0.02)
    assert (changed - row)[changed != 0].std().item() == pytest.approx(0.3, abs=0.02)


def test_images_refuse_augmentation_of_tables() -> None:
    with pytest.raises(GMMVAEError, match="the rows are images, which take affine"):
        Image((1, 8, 8)).augmentation("noise")


def test_missing_pixels_stay_missing_where_they_are_moved_to() -> None:
    x = torch.full((64, 1, 12, 12), 0.5)
    x[:, :, 4:8, 4:8] = torch.nan
    torch.manual_seed(3)
    moved = Image((1, 12, 12), missing=True).augmentation("affine")(x)  # type: ignore[misc]
    torch.manual_seed(3)
    hidden = affine(x.isnan().float())
    assert (moved.isnan() == (hidden > 0.5)).all()
    assert moved.isnan().any((1, 2, 3)).all()
    # no pixel beside a missing one is darkened by it
    beside = (hidden > 0) & ~moved.isnan()
    torch.manual_seed(3)
    full = affine(torch.full_like(x, 0.5))
    at_the_edge = full < 0.49
    torch.testing.assert_close(moved[beside & ~at_the_edge], full[beside & ~at_the_edge])


def test_missing_entries_of_tables_stay_missing() -> None:
    x = torch.randn(50, 20)
    x[:, 3] = torch.nan
    changed = Table((20,), missing=True).augmentation("noise,dropout")(x)  # type: ignore[misc]
    assert (changed.isnan() == x.isnan()).all()
