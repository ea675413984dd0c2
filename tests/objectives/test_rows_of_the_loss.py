"""The rows that each part of the loss gets: originals, augmented rows, labels and pseudo-labels."""

from typing import Any

import pytest
import torch
from torch import Tensor

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.models import ADGM, GMMVAE, M1M2, M2, FactorGMMVAE, LatentModel
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.objectives import AnalyticObjective, Consistency, Objective, TraceObjective
from pyro_gmmvae.objectives.draws import class_logits, sample_sites, trace_of_guide
from pyro_gmmvae.objectives.elbo import labels_of, pseudo_label

K, D = 4, 3
PLAIN = NetworkOptions(hidden=(8,))
NOISY = NetworkOptions(hidden=(8,), batch_norm=True, dropout=0.5, input_noise=2.0)


def built(model: LatentModel, reconstruct: str = "separate", **options: Any) -> Objective:
    kind = AnalyticObjective if model.default_objective == "analytic" else TraceObjective
    return kind(
        model.model,
        model.guide,
        latents=model.latents,
        label_sites=model.label_sites,
        reconstruct=reconstruct,
        networks=model,
        **options,
    )


def rows(n: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    """Augmented rows, labels, and the original rows."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, n, 6, generator=generator)
    return x[0], torch.arange(n) % (K + 1) - 1, x[1]


def parts(objective: Objective, *batch: Tensor) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return objective(*batch).parts


MODELS = {
    "gmmvae": lambda options: GMMVAE((6,), K, D, options=options),
    "factors": lambda options: FactorGMMVAE((6,), K, D, factors={"view": 2}, options=options),
    "m2": lambda options: M2((6,), K, D, options=options),
    "adgm": lambda options: ADGM((6,), K, D, options=options),
    "m1m2": lambda options: M1M2((6,), K, D, options=options),
}


@pytest.mark.parametrize("name", MODELS)
def test_separate_has_the_elbo_of_the_original_row(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name](PLAIN)
    x, y, original = rows()
    found = parts(built(model), x, y, original)
    expected = parts(built(model, "augmented"), original, y)
    torch.testing.assert_close(found["elbo"], expected["elbo"])
    assert found["classification"] != expected["classification"]


def test_separate_has_the_class_of_the_augmented_row() -> None:
    model = GMMVAE((6,), K, D, options=PLAIN)
    x, y, original = rows()
    expected = torch.nn.functional.cross_entropy(model.classify(x)[y >= 0], y[y >= 0])
    found = parts(built(model), x, y, original)["classification"]
    torch.testing.assert_close(found, expected.detach())


def test_some_rows_of_a_batch_have_class_terms() -> None:
    model = GMMVAE((6,), K, D, options=PLAIN)
    x, y, original = rows()
    terms = {"consistency": Consistency()}
    found = parts(built(model, class_rows=0.45, regularizers=terms), x, y, original)
    everything = parts(built(model, regularizers=terms), x, y, original)
    some = parts(built(model, regularizers=terms), x[:6], y[:6], original[:6])
    assert found["elbo"] == everything["elbo"]
    torch.testing.assert_close(found["classification"], some["classification"])
    torch.testing.assert_close(found["consistency"], some["consistency"])


def test_separate_has_no_noise_in_the_elbo() -> None:
    """With noise in the class terms alone, two draws of the noise give one reconstruction."""
    options = NetworkOptions(hidden=(8,), dropout=0.5, input_noise=2.0)
    torch.manual_seed(0)
    model = M2((6,), K, D, options=options)
    x, y, _ = rows()
    clean, noisy = parts(built(model), x, y), parts(built(model, "augmented"), x, y)
    without = model.eval()
    expected = parts(built(without, "augmented"), x, y)
    model.train()
    torch.testing.assert_close(clean["elbo"], expected["elbo"])
    assert not torch.isclose(noisy["elbo"], expected["elbo"])
    assert not torch.isclose(clean["classification"], expected["classification"])


def test_statistics_of_batch_norm_are_those_of_the_original_rows() -> None:
    torch.manual_seed(0)
    model, other = GMMVAE((6,), K, D, options=NOISY), GMMVAE((6,), K, D, options=NOISY)
    other.load_state_dict(model.state_dict())
    x, y, original = rows()
    parts(built(model), 100 * x, y, original)
    parts(built(other), original, y)
    moved = dict(other.named_buffers())
    for name, buffer in model.named_buffers():
        torch.testing.assert_close(buffer, moved[name])
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm1d)]
    assert norms
    assert all(norm.track_running_stats and norm.training for norm in norms)


def test_separate_in_evaluation_is_one_pass() -> None:
    model = GMMVAE((6,), K, D, options=NOISY).eval()
    x, y, original = rows()
    assert parts(built(model), x, y, original) == parts(built(model, "augmented"), x, y)


def test_consistency_compares_with_the_pass_of_the_original_row() -> None:
    model = GMMVAE((6,), K, D, options=PLAIN)
    x, y, original = rows()
    terms = {"consistency": Consistency()}
    found = parts(built(model, regularizers=terms), x, y, original)
    expected = parts(built(model, "original", regularizers=terms), x, y, original)
    torch.testing.assert_close(found["consistency"], expected["consistency"])


def test_separate_needs_the_networks() -> None:
    model = GMMVAE((6,), K, D)
    with pytest.raises(GMMVAEError, match="networks"):
        AnalyticObjective(model.model, model.guide, latents=model.latents, reconstruct="separate")


@pytest.mark.parametrize("name", MODELS)
def test_the_class_head_is_that_of_the_whole_guide(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name](PLAIN)
    x, y, _ = rows()
    torch.manual_seed(1)
    found = class_logits(model.guide, x, y, model.label_sites)
    torch.manual_seed(1)
    sites = sample_sites(trace_of_guide(model.guide, x, y))
    assert list(found) == list(model.label_sites)
    site = model.class_site
    assert site is not None
    expected = sites[site]["infer"].get("class_logits", sites[site]["fn"].logits)
    torch.testing.assert_close(found[site], expected)


def test_pseudo_labels_are_labels_of_the_programs_with_a_weight_of_their_own() -> None:
    model = GMMVAE((6,), K, D, options=PLAIN)
    x, y, _ = rows()
    pseudo = torch.where(y >= 2, pseudo_label(y), y)
    assert torch.equal(labels_of(pseudo), y)
    objective = built(model, "augmented")
    all_labels, some = parts(objective, x, y), parts(objective, x, pseudo)
    torch.testing.assert_close(some["elbo"], all_labels["elbo"])
    losses = -model.classify(x).detach().gather(1, y.clamp_min(0)[:, None]).squeeze(1)
    true = (y >= 0) & (y < 2)
    torch.testing.assert_close(some["classification"], losses[true].mean())
    torch.testing.assert_close(some["pseudo_classification"], losses[y >= 2].sum() / len(y))
    objective.alpha.fill_(3.0)
    objective.pseudo_alpha.fill_(5.0)
    torch.manual_seed(1)
    terms = objective(x, pseudo)
    expected = 3 * some["classification"] + 5 * some["pseudo_classification"] - some["elbo"]
    torch.testing.assert_close(terms.loss.detach(), expected)


def test_labelled_rows_have_a_weight_in_the_elbo() -> None:
    model = GMMVAE((6,), K, D, options=PLAIN)
    x, y, _ = rows()
    of_rows = {}
    for weight in (0.0, 0.5, 1.0):
        torch.manual_seed(1)
        of_rows[weight] = -built(model, "augmented", labelled_elbo=weight)(x, y).loss
    labelled, n = int((y >= 0).sum()), len(y)
    unlabelled_sum = of_rows[0.0] * (n - labelled)
    labelled_sum = of_rows[1.0] * n - unlabelled_sum
    expected = (unlabelled_sum + 0.5 * labelled_sum) / (n - labelled + 0.5 * labelled)
    torch.testing.assert_close(of_rows[0.5], expected)


def test_a_batch_of_labelled_rows_without_weight_has_no_elbo() -> None:
    model = GMMVAE((6,), K, D, options=PLAIN)
    x, y, _ = rows()
    loss = built(model, "augmented", labelled_elbo=0.0)(x, torch.zeros_like(y)).loss
    loss.backward()
    assert loss.item() == 0.0
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_the_elbo_has_a_scale_in_the_loss_alone() -> None:
    model = GMMVAE((6,), K, D, options=PLAIN)
    x, y, _ = rows()
    plain, scaled = built(model, "augmented"), built(model, "augmented", elbo_scale=1 / 16)
    torch.manual_seed(1)
    one = plain(x, y)
    torch.manual_seed(1)
    other = scaled(x, y)
    torch.testing.assert_close(other.loss, one.loss / 16)
    assert other.parts == one.parts


def test_kl_z1_weighs_the_lower_layer_alone() -> None:
    """The gradient of M2's networks does not depend on it, and that of M1's is scaled."""
    torch.manual_seed(0)
    model = M1M2((6,), K, D, options=PLAIN)
    x, y, _ = rows()
    objective, found = built(model, "augmented"), {}
    for weight in (0.0, 1.0, 3.0):
        objective.get_buffer("kl_z1").fill_(weight)
        model.zero_grad()
        torch.manual_seed(1)
        objective(x, y).loss.backward()
        found[weight] = {n: p.grad.clone() for n, p in model.named_parameters()}  # type: ignore[union-attr]
    for name in found[0.0]:
        zero, one, three = (found[weight][name] for weight in (0.0, 1.0, 3.0))
        if name.startswith(("to_z1", "to_z2", "classifier", "observation")):
            torch.testing.assert_close(one, three)
        else:
            torch.testing.assert_close(three - zero, 3 * (one - zero), rtol=1e-3, atol=1e-5)
            assert (one - zero).abs().max() > 1e-4
