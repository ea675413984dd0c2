"""Pseudo-labels of whole sequences: pooled, balanced, scheduled, kept in a checkpoint."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pyro_gmmvae.objectives.elbo import labels_of
from pyro_gmmvae.training import Batches, Fit, FitSettings, FitState, SequencePseudoLabeler
from pyro_gmmvae.training.pseudo_labels import balance, pool_log_probs


class Reads(nn.Module):
    """A classifier that reads log-probabilities off x."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def classify(self, x: Tensor) -> Tensor:
        return (self.scale * x).log_softmax(-1)


def test_pooled_is_the_mean_of_each_group() -> None:
    log_probs, group = torch.randn(30, 4).log_softmax(-1), torch.randint(0, 5, (30,))
    group[:5] = torch.arange(5)
    found = pool_log_probs(log_probs, group)
    for g in range(5):
        mean = log_probs[group == g].mean(0)
        torch.testing.assert_close(found[g], mean - mean.exp().sum().log())


@pytest.mark.parametrize("weights", [[1.0, 1, 1], [4.0, 1, 1], [0.01, 5, 5]])
def test_balanced_columns_have_the_given_weights(weights: list[float]) -> None:
    log_probs, wanted = (2 * torch.randn(40, 3)).log_softmax(-1), torch.tensor(weights)
    found = balance(log_probs, wanted, rounds=500).exp()
    torch.testing.assert_close(found.sum(1), torch.ones(40))
    torch.testing.assert_close(found.sum(0), 40 * wanted / wanted.sum(), atol=0.02, rtol=0.02)

    # only rows and columns were scaled: odds ratios are what they were
    def odds(p: Tensor) -> Tensor:
        return p[:-1, :-1] + p[1:, 1:] - p[1:, :-1] - p[:-1, 1:]

    torch.testing.assert_close(odds(found.log()), odds(log_probs), atol=1e-3, rtol=1e-3)


def labeler(x: Tensor, y: Tensor, sequences: Tensor, **more: Any) -> SequencePseudoLabeler:
    values: dict[str, Any] = {"threshold": 0.7, "from_step": 4, "every": 3} | more
    return SequencePseudoLabeler(Reads(), x=x, y=y, sequences=sequences, **values)


def rows() -> tuple[Tensor, Tensor, Tensor]:
    """Sequence 9 is labelled; a window of 2 is clearly 0, two are rather 1; 5 is ambiguous."""
    sure, lean, unsure = [0.0, -9.0], [0.0, 2.5], [0.0, 0.1]
    x = torch.tensor([sure, unsure, lean, sure, lean, unsure, sure])
    sequences = torch.tensor([9, 5, 2, 2, 2, 5, 9])
    y = torch.tensor([1, -1, -1, -1, -1, -1, 1])
    return x, y, sequences


def test_a_sequence_gets_the_label_of_its_pooled_windows() -> None:
    x, y, sequences = rows()
    one = labeler(x, y, sequences)
    one.begin(4)
    # of sequence 2 the mean log-odds of class 0 are (9 - 2.5 - 2.5) / 3
    assert labels_of(y).tolist() == [1, -1, 0, 0, 0, -1, 1]
    assert y.tolist() == [1, -1, -2, -2, -2, -1, 1]  # -2 - class, other than a label of the data
    assert one.relabel(x, y) is y


def test_labels_are_computed_again_every_few_steps() -> None:
    x, y, sequences = rows()
    one = labeler(x, y, sequences)
    given = {}
    for step in range(11):
        one.begin(step)
        given[step] = (y[2] < -1).item()
        if step == 4:
            one.x.neg_()  # all windows of 2 now lean to the other class, and 5 is as unsure
        if step == 7:
            assert labels_of(y).tolist() == [1, -1, 1, 1, 1, -1, 1]
            one.x.zero_()
    assert [step for step, one in given.items() if one] == [4, 5, 6, 7, 8, 9]
    assert labels_of(y).tolist() == [1, -1, -1, -1, -1, -1, 1]


def test_true_labels_and_further_columns_do_not_change() -> None:
    x, y, sequences = rows()
    both = torch.stack([y, torch.arange(7) - 3], 1)
    labeler(x, both, sequences).begin(4)
    assert labels_of(both[:, 0]).tolist() == [1, -1, 0, 0, 0, -1, 1]
    assert both[:, 1].tolist() == [-3, -2, -1, 0, 1, 2, 3]


def test_unlabelled_sequences_are_balanced_with_labelled_ones() -> None:
    """Ten sequences of two classes, two labelled as 0 and none as 1: three of the rest are 0."""
    lean = torch.linspace(1, 20, 8)  # all lean to 0, the first ones least
    x = torch.stack([torch.cat([torch.full((2,), 30.0), lean]), torch.zeros(10)], 1)
    y = torch.cat([torch.zeros(2, dtype=torch.int64), torch.full((8,), -1)])
    x, y = x.repeat_interleave(2, 0), y.repeat_interleave(2)
    sequences = torch.arange(10).repeat_interleave(2)
    one = labeler(x, y, sequences, threshold=0.5, balanced_over=2)
    one.begin(4)
    assert labels_of(y[::2]).tolist() == [0, 0, 1, 1, 1, 1, 1, 0, 0, 0]
    assert torch.equal(y[::2], y[1::2])


def test_components_beyond_the_classes_keep_their_probability() -> None:
    """Sequence 1 is of no class; 2 and 3 are balanced between two classes."""
    x = torch.tensor([[0.0, -9, -9], [-9.0, -9, 0], [1.0, 0, -9], [9.0, 0, -9]])
    y = torch.full((4,), -1)
    labeler(x, y, torch.arange(4), threshold=0.5, balanced_over=2).begin(4)
    assert labels_of(y).tolist() == [0, 2, 1, 0]


def test_with_labels_for_all_rows_nothing_changes() -> None:
    x, _, sequences = rows()
    y = torch.zeros(7, dtype=torch.int64)
    for balanced_over in (None, 2):
        labeler(x, y, sequences, balanced_over=balanced_over).begin(4)
        assert not y.any()


def test_the_average_follows_a_model_in_double_precision() -> None:
    x, y, sequences = rows()
    model = Reads().double()
    one = SequencePseudoLabeler(model, 0.7, 0, x=x.double(), y=y, sequences=sequences, every=1)
    one.begin(1000)
    with torch.no_grad():
        model.scale.fill_(2.0)
    one.update(model)
    assert one.average.scale.item() == pytest.approx(1 + 0.01)


class Likely(nn.Module):
    """An objective that is a classification term; it records the labels that it received."""

    def __init__(self, model: Reads) -> None:
        super().__init__()
        self.model, self.seen = model, []  # type: ignore[var-annotated]

    def forward(self, x: Tensor, y: Tensor) -> Any:
        self.seen.append(sorted(labels_of(y).tolist()))
        loss = self.model.classify(x).square().mean()
        return type("Terms", (), {"loss": loss, "parts": {}})


def fit(epochs: int, state: FitState | None = None) -> Fit:
    x, y, sequences = rows()
    model = Reads()
    one = SequencePseudoLabeler(model, 0.7, 2, x=x, y=y, sequences=sequences, every=5)
    batches = Batches(x, y, 7, 0, seed=0)
    settings = FitSettings(epochs=epochs)
    return Fit(Likely(model), model, batches, settings, pseudo_labeler=one, state=state)


def test_a_checkpoint_carries_the_labels_into_the_batches() -> None:
    """A fit resumed between two labelings keeps the labels of the last one."""
    whole, first = fit(6), fit(4)
    whole.run()
    first.run()
    second = fit(6, first.snapshot())
    assert isinstance(second.pseudo_labeler, SequencePseudoLabeler)
    assert labels_of(second.batches.y).tolist() == [1, -1, 0, 0, 0, -1, 1]
    assert second.pseudo_labeler.windows.tolist() == [1, 2, 3, 4, 5]
    second.run()
    seen = [f.objective.seen for f in (whole, first, second)]  # type: ignore[attr-defined]
    assert seen[0] == seen[1] + seen[2]
    # labels of step 2 are in the batches from the next one on
    assert seen[0] == [[-1] * 5 + [1] * 2] * 3 + [[-1, -1, 0, 0, 0, 1, 1]] * 3
