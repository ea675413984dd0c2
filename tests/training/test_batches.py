"""Batches: every row once per epoch, balanced labelled rows, and reproducible order."""

import pytest
import torch

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.training import Batches


def labelled_rows(n: int = 103) -> tuple[torch.Tensor, torch.Tensor]:
    y = torch.full((n,), -1)
    y[:12] = torch.tensor([0] * 9 + [2] * 2 + [5])  # unequal, and classes 1, 3, 4 absent
    return torch.arange(n).float().unsqueeze(-1), y


def test_an_epoch_has_every_row_once() -> None:
    x, y = labelled_rows()
    batches = Batches(x, y, batch_size=20, labelled=0, seed=0)
    shown = torch.cat([rows for rows, _ in batches.epoch()]).squeeze(-1)
    assert torch.equal(shown.sort().values, x.squeeze(-1))
    sizes = [len(rows) for rows, _ in batches.epoch()]
    assert sizes == [20, 20, 20, 20, 20, 3]
    assert len(batches) == 6


def test_a_batch_has_at_least_two_rows() -> None:
    x, y = labelled_rows(41)
    sizes = [len(rows) for rows, _ in Batches(x, y, 20, 0, seed=0).epoch()]
    assert sizes == [20, 20, 2]


def test_labelled_rows_are_balanced_in_each_batch() -> None:
    x, y = labelled_rows()
    batches = Batches(x, y, batch_size=20, labelled=9, seed=0)
    for _, labels in batches.epoch():
        counts = torch.bincount(labels[:9], minlength=6)
        assert counts.tolist() == [3, 0, 3, 0, 0, 3]


def test_orders_differ_between_epochs_and_seeds() -> None:
    x, y = labelled_rows()
    one, other = (Batches(x, y, 20, 0, seed=s) for s in (0, 1))
    first, second, third = (torch.cat([r for r, _ in b.epoch()]) for b in (one, one, other))
    assert not torch.equal(first, second)
    assert not torch.equal(first, third)


def test_an_epoch_is_resumed_in_its_middle() -> None:
    x, y = labelled_rows()
    batches = Batches(x, y, 20, 9, seed=0)
    state = batches.generator.get_state()
    whole = list(batches.epoch())
    batches.generator.set_state(state)
    rest = list(batches.epoch(start=3))
    assert len(rest) == len(whole) - 3
    for (a, b), (c, d) in zip(whole[3:], rest, strict=True):
        assert torch.equal(a, c)
        assert torch.equal(b, d)


def test_without_labels_no_row_is_balanced() -> None:
    x, _ = labelled_rows()
    batches = Batches(x, torch.full((len(x),), -1), 20, 9, seed=0)
    assert len(next(batches.epoch())[0]) == 20


@pytest.mark.parametrize("labelled", [-1, 20, 30])
def test_no_room_for_shuffled_rows_is_refused(labelled: int) -> None:
    x, y = labelled_rows()
    with pytest.raises(GMMVAEError, match="labelled_per_batch"):
        Batches(x, y, 20, labelled, seed=0)


def test_rows_are_drawn_in_proportion_to_their_weights() -> None:
    x, y = labelled_rows()
    weights = torch.ones(len(x))
    weights[50:60] = 3.5
    batches = Batches(x, y, 20, 0, seed=0, weights=weights)
    expected = len(x) * weights / weights.sum()
    total = torch.zeros(len(x))
    for _ in range(200):
        drawn = torch.cat([rows for rows, _ in batches.epoch()]).squeeze(-1).long()
        counts = torch.bincount(drawn, minlength=len(x))
        assert (counts >= expected.floor()).all()
        assert (counts <= expected.ceil()).all()
        total += counts
    torch.testing.assert_close(total / 200, expected, atol=0.15, rtol=0)


def test_balanced_rows_are_drawn_by_their_weights_within_a_class() -> None:
    x, y = labelled_rows()
    weights = torch.ones(len(x))
    weights[0] = 8.0  # of class 0, with eight others
    batches = Batches(x, y, 20, 9, seed=0, weights=weights)
    drawn = torch.cat([rows[:9] for _ in range(100) for rows, _ in batches.epoch()]).squeeze(-1)
    labels = y[drawn.long()]
    assert torch.bincount(labels).unique().tolist() == [0, 3000]  # each class as often
    share = (drawn[labels == 0] == 0).float().mean()
    assert abs(share - 0.5) < 0.04
    assert set(drawn[labels == 2].tolist()) == {9.0, 10.0}


def test_rows_are_balanced_by_the_class_that_is_given() -> None:
    x, y = labelled_rows()
    soft = torch.where(y >= 0, torch.arange(len(y)) + 6, -1)
    batches = Batches(x, soft, 20, 9, seed=0, classes=y)
    for rows, labels in batches.epoch():
        assert torch.bincount(y[rows[:9].squeeze(-1).long()]).tolist() == [3, 0, 3, 0, 0, 3]
        assert (labels[:9] >= 6).all()


def test_an_epoch_of_few_rows_has_several_passes() -> None:
    x, y = torch.arange(10.0).unsqueeze(1), torch.full((10,), -1)
    batches = Batches(x, y, batch_size=4, labelled=0, seed=0, least_steps=9)
    assert (len(batches), batches.passes) == (8, 3)
    seen = torch.cat([rows for rows, _ in batches.epoch()]).squeeze(1)
    assert torch.bincount(seen.long()).tolist() == [3] * 10
    assert sorted(seen[:10].tolist()) == list(range(10))  # one pass after the other
    assert len(Batches(x, y, batch_size=4, labelled=0, seed=0, least_steps=2)) == 3
