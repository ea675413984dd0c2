"""The classifier of M1 is that of scikit-learn, stored as buffers."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from pyro_gmmvae.models import M1
from pyro_gmmvae.networks import NetworkOptions


@pytest.mark.parametrize("classes", [[0, 1], [0, 1, 2], [0, 2, 3]])
def test_it_predicts_as_scikit_learn(classes: list[int]) -> None:
    """Two classes (one score in scikit-learn), all of them, and one that has no label."""
    options = NetworkOptions(hidden=(8,), batch_norm=True, dropout=0.5)
    model = M1((5,), 4, 3, likelihood="normal", options=options)
    x = torch.randn(40, 5)
    y = torch.tensor(classes)[torch.arange(40) % len(classes)]
    x[:, 0] += y
    model.fit_classifier(x, y)
    assert model.training
    z = model.eval().embed(x).detach().cpu().numpy()
    scaled = StandardScaler().fit(z)
    # torch's standard deviation is that of a sample, scikit-learn's that of a population
    scaled.scale_ = z.std(0, ddof=1)
    reference = LogisticRegression(max_iter=1000).fit(scaled.transform(z), y.cpu())
    expected = np.zeros((40, 4))
    expected[:, classes] = reference.predict_proba(scaled.transform(z))
    found = model.classify(x).exp().detach().cpu().numpy()
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_the_classifier_does_not_change_the_vae() -> None:
    model = M1((5,), 3, 2, options=NetworkOptions(hidden=(8,)))
    before = [p.clone() for p in model.parameters()]
    model.fit_classifier(torch.rand(9, 5), torch.arange(9) % 3)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert not model.weight.requires_grad
