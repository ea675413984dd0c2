"""InferenceData of runs and models, read by ArviZ and compared with closed forms."""

import copy
import inspect
import warnings
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.special import logsumexp
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, kl_divergence

from pyro_gmmvae.data import Dataset
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.evaluation import pareto_k, prior_draws
from pyro_gmmvae.guides import ProductGuide
from pyro_gmmvae.inference_data import save, to_inference_data
from pyro_gmmvae.models import GMMVAE, MODELS, VAE
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.runs import Run

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # ArviZ announces its refactoring when imported
    import arviz as az

D_X, D_Z = 5, 2
SHAPE, K, D = (1, 4, 4), 3, 2
OPTIONS = NetworkOptions(hidden=(8,), channels=(2, 4))


def plot_ppc(data: Any, group: str = "posterior", **options: Any) -> None:
    """The posterior or prior predictive check, in both versions of ArviZ."""
    with warnings.catch_warnings():
        # ArviZ's own, of matplotlib's functions
        warnings.filterwarnings("ignore", message="Passing a dict or None as alias_mapping")
        if hasattr(az, "plot_ppc"):
            az.plot_ppc(data, group=group, **options)
        else:
            az.plot_ppc_dist(data, group=f"{group}_predictive", **options)
    plt.close("all")


def loo(data: Any) -> tuple[np.ndarray, np.ndarray]:
    """Pointwise elpd and Pareto k, in both versions of ArviZ."""
    found = az.loo(data, pointwise=True)
    each = found.loo_i if hasattr(found, "loo_i") else found.elpd_i
    return np.asarray(each), np.asarray(found.pareto_k)


class LinearGaussian(nn.Module):
    """x = W z + noise with a guide that is shifted and too wide; log p(x) is known."""

    def __init__(self, slip: float = 0.3, widen: float = 1.2) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.W = nn.Parameter(torch.randn(D_X, D_Z, generator=generator))
        self.noise, self.slip, self.widen = 0.7, slip, widen
        precision = torch.eye(D_Z) + self.W.T @ self.W / self.noise**2
        self.covariance = precision.inverse().detach()

    def model(self, x: Tensor, y: Tensor | None = None) -> None:  # noqa: ARG002
        with pyro.plate("rows", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x), D_Z), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ self.W.T, self.noise).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:  # noqa: ARG002
        scale = self.covariance.diagonal().sqrt() * self.widen
        with pyro.plate("rows", len(x)):
            loc = self.loc(x) + self.slip * scale
            pyro.sample("z", dist.Normal(loc, scale.expand_as(loc)).to_event(1))

    def loc(self, x: Tensor) -> Tensor:
        return x @ self.W @ self.covariance / self.noise**2

    def log_px(self, x: Tensor) -> Tensor:
        covariance = self.W @ self.W.T + self.noise**2 * torch.eye(D_X)
        return MultivariateNormal(torch.zeros(D_X), covariance).log_prob(x).detach()


@pytest.fixture(scope="module")
def linear() -> tuple[LinearGaussian, Tensor, Any]:
    """The closed form, eight rows of it, and their InferenceData, made without a warning."""
    torch.manual_seed(0)
    case = LinearGaussian()
    x = (torch.randn(8, D_Z) @ case.W.T + 0.7 * torch.randn(8, D_X)).detach()
    return case, x, to_inference_data(case, x, draws=2000)


def test_loo_is_log_px_of_a_linear_gaussian(linear: tuple[LinearGaussian, Tensor, Any]) -> None:
    """With given parameters p(x_n | all other rows) = p(x_n), a Gaussian density."""
    case, x, data = linear
    each, k = loo(data)
    np.testing.assert_allclose(each, case.log_px(x), atol=0.05)
    assert (k < 0.7).all()
    statistics = data["sample_stats"]
    np.testing.assert_allclose(statistics["iwae"], case.log_px(x), atol=0.05)
    assert (statistics["elbo"].values < each - 0.05).all()


def test_the_elbo_is_that_of_the_guide(linear: tuple[LinearGaussian, Tensor, Any]) -> None:
    """log p(x) - KL(q || posterior), both Gaussians, from 100 draws."""
    case, x, data = linear
    scale = case.covariance.diagonal().sqrt()
    loc = case.loc(x).detach()
    q = MultivariateNormal(loc + case.slip * scale * case.widen, (case.widen * scale).diag() ** 2)
    kl = kl_divergence(q, MultivariateNormal(loc, case.covariance))
    elbo = data["sample_stats"]["elbo"].values
    np.testing.assert_allclose(elbo, case.log_px(x) - kl, atol=0.5)
    assert abs((elbo - (case.log_px(x) - kl).numpy()).mean()) < 0.15


def test_summary_is_of_the_posterior_and_not_of_the_guide(
    linear: tuple[LinearGaussian, Tensor, Any],
) -> None:
    case, x, data = linear
    names = {"round_to": "none"} if hasattr(az, "convert_to_inference_data") else {}
    table = az.summary(data, var_names=["z"], **names)
    assert (table["r_hat"].astype(float) < 1.03).all()
    exact, sd = case.loc(x).detach().flatten(), case.covariance.diagonal().sqrt()
    mean, spread = table["mean"].astype(float).to_numpy(), table["sd"].astype(float).to_numpy()
    np.testing.assert_allclose(mean, exact, atol=0.08)
    np.testing.assert_allclose(spread, sd.repeat(len(x)), atol=0.05)
    guide = to_inference_data(case, x, draws=1000, source="guide", predictive=False)
    z = guide["posterior"]["z"]
    wrong = np.asarray(case.loc(x).detach() + case.slip * sd * case.widen)
    np.testing.assert_allclose(z.mean(("chain", "draw")), wrong, atol=0.05)
    np.testing.assert_allclose(
        z.std(("chain", "draw")), np.tile(sd * case.widen, (8, 1)), atol=0.05
    )
    groups = set(map(str, guide.groups() if callable(guide.groups) else guide.groups))
    assert not {"log_likelihood", "/log_likelihood", "posterior_predictive"} & groups
    assert guide["sample_stats"]["accepted"].values.all()


def test_predictive_draws_have_the_moments_of_the_closed_form(
    linear: tuple[LinearGaussian, Tensor, Any],
) -> None:
    case, x, data = linear
    predicted = data["posterior_predictive"]
    mean = case.loc(x) @ case.W.T
    np.testing.assert_allclose(predicted["x"].mean(("chain", "draw")), mean.detach(), atol=0.12)
    variance = case.W @ case.covariance @ case.W.T + 0.49 * torch.eye(D_X)
    expected = np.tile(variance.diagonal().sqrt().detach(), (8, 1))
    np.testing.assert_allclose(predicted["x"].std(("chain", "draw")), expected, atol=0.08)
    np.testing.assert_allclose(
        predicted["x_mean"], data["posterior"]["z"].values @ case.W.T.detach().numpy(), atol=1e-4
    )
    prior = data["prior_predictive"]["x"]
    marginal = (case.W @ case.W.T + 0.49 * torch.eye(D_X)).diagonal().sqrt().detach()
    np.testing.assert_allclose(prior.std(("chain", "draw", "row")), marginal, rtol=0.05)


def test_statistics_are_computed_from_the_weights(
    linear: tuple[LinearGaussian, Tensor, Any],
) -> None:
    data = linear[2]
    statistics, kept = data["sample_stats"], data["log_likelihood"]["x"].values
    weights = statistics["log_weight"].values.reshape(8000, 8)
    np.testing.assert_allclose(statistics["iwae"], logsumexp(weights, 0) - np.log(8000))
    np.testing.assert_allclose(statistics["pareto_k"], pareto_k(torch.from_numpy(weights)))
    accepted = statistics["accepted"].values
    proposed = statistics["log_weight"].values
    np.testing.assert_array_equal(kept[accepted], proposed[accepted])
    repeats = ~accepted[:, 1:]
    np.testing.assert_array_equal(kept[:, 1:][repeats], kept[:, :-1][repeats])
    assert 0.3 < accepted.mean() < 0.99


class Dice(nn.Module):
    """One of three classes with noise, and a guide that is uniform."""

    prior = torch.tensor([0.2, 0.3, 0.5])

    def model(self, x: Tensor, y: Tensor | None = None) -> None:  # noqa: ARG002
        with pyro.plate("rows", len(x)):
            s = pyro.sample("y", dist.OneHotCategorical(self.prior.expand(len(x), 3)))
            loc = s @ torch.tensor([[0.0], [1.0], [2.0]])
            pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)
            # sampled last, and depends on x
            pyro.sample("a", dist.Normal(x, 1e-3).to_event(1))

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:  # noqa: ARG002
        with pyro.plate("rows", len(x)):
            pyro.sample("y", dist.OneHotCategorical(torch.ones(len(x), 3) / 3))
            pyro.sample("a", dist.Normal(x, 1e-3).to_event(1))


def test_a_discrete_posterior_follows_bayes_rule() -> None:
    x = torch.tensor([[-1.0], [0.4], [3.0]])
    data = to_inference_data(Dice(), x, draws=1500)
    weight = Dice.prior * (-0.5 * (x - torch.arange(3.0)) ** 2).exp()
    exact = weight / weight.sum(1, keepdim=True)
    found = data["posterior"]["y"].mean(("chain", "draw"))
    np.testing.assert_allclose(found, exact, atol=0.03)
    assert data["posterior"]["y"].dims == ("chain", "draw", "row", "component")


def test_sites_after_x_depend_on_the_drawn_x() -> None:
    latents, x = prior_draws(Dice().model, torch.full((4, 1), 50.0), draws=200)
    np.testing.assert_allclose(latents["a"].numpy(), x, atol=0.01)
    assert abs(x.mean() - 1.3) < 0.2
    share = latents["y"].mean((0, 1, 2)).numpy()
    np.testing.assert_allclose(share, Dice.prior, atol=0.06)


def build(name: str) -> Any:
    sizes = {"components": K, "latent_dim": D, "factors": {"view": 2}}
    wanted = inspect.signature(MODELS[name]).parameters
    given = {key: value for key, value in sizes.items() if key in wanted}
    return MODELS[name](SHAPE, **given, options=OPTIONS)


DIMS = {
    "s": ("component",),
    "y": ("component",),
    "z": ("latent",),
    "z1": ("latent1",),
    "z2": ("latent2",),
    "a": ("auxiliary",),
    "h": ("lower",),
    "s_view": ("component_view",),
    "z_view": ("latent_view",),
}


@pytest.mark.parametrize("name", sorted(n for n in MODELS if MODELS[n].latents))
def test_every_model_with_latents_untrained(name: str) -> None:
    model, x, y = build(name), torch.rand(4, *SHAPE).round(), torch.arange(4) % K
    data = to_inference_data(model, x, y, draws=10, chains=2)
    for group, chains in (("posterior", 2), ("prior", 1)):
        found = data[group]
        assert set(found.data_vars) == set(model.latents)
        for site in model.latents:
            assert found[site].dims == ("chain", "draw", "row", *DIMS[site])
            assert found[site].shape[:3] == (chains, 10, 4)
            assert np.isfinite(found[site]).all()
    dims = ("chain", "draw", "row", "channel", "height", "width")
    assert data["posterior_predictive"]["x"].dims == dims
    assert data["prior_predictive"]["x"].shape == (1, 10, 4, *SHAPE)
    assert set(np.unique(data["posterior_predictive"]["x"])) <= {0.0, 1.0}
    np.testing.assert_array_equal(data["observed_data"]["x"], x)
    assert data["log_likelihood"]["x"].dims == ("chain", "draw", "row")
    statistics = data["sample_stats"]
    assert set(statistics.data_vars) == {"log_weight", "accepted", "elbo", "iwae", "pareto_k"}
    assert np.isnan(statistics["pareto_k"]).all()  # 20 draws have no tail
    has_class = model.class_site is not None
    assert ("y" in data["observed_data"]) == has_class
    assert ("y" in data["posterior_predictive"]) == has_class
    assert data.attrs["model"] == type(model).__name__


def test_cvae_gets_the_labels_or_the_most_probable_class() -> None:
    """Its weights are of log p(x|y), with the labels or with the most probable class."""
    model, x = build("cvae").eval(), torch.rand(6, *SHAPE).round()
    y = model.classify(x).argmax(-1)
    like: dict[str, Any] = {"draws": 8, "chains": 1}
    labelled, predicted, other = (
        to_inference_data(model, x, labels, **like)["sample_stats"]["elbo"].values
        for labels in (y, None, (y + 1) % K)
    )
    np.testing.assert_array_equal(labelled, predicted)
    assert (labelled != other).all()


@pytest.fixture(scope="module")
def run(trained: Path) -> Run:
    return Run.load(trained, device="cpu")


@pytest.fixture(scope="module")
def of_run(run: Run) -> Any:
    return to_inference_data(run, rows=12, draws=50)


def test_a_run_has_the_names_and_units_of_its_data(run: Run, of_run: Any) -> None:
    pixels, classes = load_digits(return_X_y=True)
    numbers = of_run["observed_data"]["row"].values
    np.testing.assert_array_equal(
        of_run["observed_data"]["x"].values.reshape(12, 64), pixels[numbers]
    )
    np.testing.assert_array_equal(of_run["observed_data"]["y"], classes[numbers])
    predicted = of_run["posterior_predictive"]
    assert (
        2 < len(set(np.unique(predicted["x"])) & set(range(17))) == len(np.unique(predicted["x"]))
    )
    assert 0 < float(predicted["x_mean"].min()) < float(predicted["x_mean"].max()) < 16
    assert list(of_run["posterior"]["component"].values) == run.class_names()
    # the guide's classifier is that of the run
    guide = to_inference_data(run, rows=12, draws=50, source="guide", predictive=True)
    likeliest = np.asarray(guide["posterior_predictive"]["y"]).reshape(-1, 12)
    frequent = np.array([np.bincount(column).argmax() for column in likeliest.T])
    assert (frequent == classes[numbers]).mean() > 0.7
    told = {key: of_run.attrs[key] for key in ("model", "guide", "objective", "seed", "part")}
    assert told == {
        "model": "gmmvae",
        "guide": "tilted",
        "objective": "analytic",
        "seed": 0,
        "part": "test",
    }
    assert of_run["posterior"].attrs["inference_library"] == "pyro_gmmvae"


def test_arviz_reads_a_run(of_run: Any) -> None:
    table = az.summary(of_run, var_names=["z"])
    assert len(table) == 12 * 4
    assert "r_hat" in table
    plot_ppc(of_run, var_names=["x"])
    plot_ppc(of_run, "prior", var_names=["x"])
    with warnings.catch_warnings():
        # with its relaxed s the guide is a poor proposal, of which ArviZ warns
        warnings.filterwarnings("ignore", message="Estimated shape parameter")
        each, _ = loo(of_run)
    assert np.isfinite(each).all()


def test_rows_as_array_tensor_and_dataset(run: Run) -> None:
    """An array, a tensor and a Dataset in the file's units are the rows of the part."""
    few: dict[str, Any] = {"draws": 3, "chains": 1, "predictive": False}
    part = to_inference_data(run, "validation", rows=5, **few)
    x, y = (part["observed_data"][name].values for name in "xy")
    dataset = Dataset.of_arrays(x, np.array([1, 0, 1, 0, -1]), ("3", "7"))
    for rows in (x, torch.from_numpy(x), x.reshape(5, 64), dataset):
        same = to_inference_data(run, rows, **few)
        np.testing.assert_array_equal(same["posterior"]["z"], part["posterior"]["z"])
        np.testing.assert_array_equal(same["observed_data"]["x"], x)
    # classes are matched by name, and one that is not known is no observation
    np.testing.assert_array_equal(same["constant_data"]["y"], [7, 3, 7, 3, -1])
    known = to_inference_data(run, x, y, **few)
    np.testing.assert_array_equal(known["observed_data"]["y"], y)


def test_clusters_and_columns_have_their_names(clustered: Run) -> None:
    data = to_inference_data(clustered, rows=7, draws=20)
    assert data["posterior"].sizes["row"] == 7
    assert list(data["observed_data"]["feature"].values) == [*"abcd"]
    assert list(data["posterior"]["component"].values) == [f"component_{k}" for k in range(5)]
    # components are no classes: y is known, and not modelled
    assert "y" in data["constant_data"]
    assert "y" not in data["posterior_predictive"]
    plot_ppc(data)
    twice = copy.copy(clustered)
    twice.names = ("ann", "bob", "ann", "cy", "dee")
    named = to_inference_data(twice, rows=2, draws=5, predictive=False)
    assert list(named["prior"]["component"].values) == ["ann (0)", "bob", "ann (2)", "cy", "dee"]


def test_a_file_holds_what_was_written(of_run: Any, tmp_path: Path) -> None:
    file = tmp_path / "run.nc"
    save(of_run, file)
    read = az.from_netcdf(file)
    for group in ("posterior", "posterior_predictive", "sample_stats", "observed_data"):
        for name, values in of_run[group].data_vars.items():
            np.testing.assert_array_equal(read[group][name], values)
            assert read[group][name].dims == values.dims
    assert list(read["posterior"]["component"].values) == list("0123456789")
    assert read.attrs["model"] == "gmmvae"
    assert '"latent_dim": 4' in read.attrs["config"]
    assert [part.name for part in tmp_path.iterdir()] == ["run.nc"]
    with pytest.raises(GMMVAEError, match="can't write"):
        save(of_run, tmp_path / "no" / "run.nc")


def test_the_same_seed_gives_the_same_draws_and_restores_all_states() -> None:
    model = GMMVAE((6,), 3, 2, options=NetworkOptions(hidden=(8,), dropout=0.5)).train()
    model.observation.eval()
    x = torch.rand(5, 6)
    modes = [part.training for part in model.modules()]
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1]
    first, again, other = (to_inference_data(model, x, draws=20, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)
    assert [part.training for part in model.modules()] == modes
    assert not pyro.get_param_store()
    for group, name in (("posterior", "s"), ("prior", "z"), ("posterior_predictive", "x")):
        np.testing.assert_array_equal(first[group][name], again[group][name])
        assert (first[group][name].values != other[group][name].values).any()


def test_pareto_k_of_weights_with_a_known_tail() -> None:
    """Weights w with P(w > t) = t^(-1/k); minus the weights have no tail."""
    generator = np.random.default_rng(0)
    log_w = torch.from_numpy(generator.exponential(size=(4000, 3)) * [0.2, 0.6, 1.2])
    np.testing.assert_allclose(pareto_k(log_w), [0.2, 0.6, 1.2], atol=0.15)
    assert (pareto_k(-log_w) < 0).all()
    alike = torch.full((100, 1), -3.0) + 1e-5 * torch.randn(100, 1)
    assert pareto_k(torch.cat([alike, log_w[:100, 2:]], 1))[0] == 0
    stuck = torch.full((100, 1), -torch.inf)
    stuck[0] = 0.0
    assert pareto_k(stuck)[0] > 0.7
    assert pareto_k(torch.full((100, 1), torch.nan))[0] > 0.7
    assert np.isnan(pareto_k(log_w[:24])).all()


PLAIN = VAE((4,), 2, likelihood="normal", options=OPTIONS)


@pytest.mark.parametrize(
    ("x", "options", "words"),
    [
        (torch.zeros(3, 4), {"draws": 0}, "draws must be an integer of at least 1, not 0"),
        (torch.zeros(3, 4), {"chains": 0}, "chains must be an integer of at least 1, not 0"),
        (torch.zeros(3, 4), {"draws": 2.5}, "draws must be an integer of at least 1, not 2.5"),
        (torch.zeros(3, 4), {"rows": -1}, "rows must be an integer of at least 0, not -1"),
        (torch.zeros(3, 4), {"source": "prior"}, "'posterior' or the 'guide'"),
        (torch.zeros(3, 5), {}, r"shape \(5,\); the model's is \(4,\)"),
        (torch.zeros(4), {}, r"must have the shape \(N, \*x_shape\), not \(4,\)"),
        (torch.zeros(0, 4), {}, "must have the shape"),
        (torch.full((3, 4), torch.nan), {}, "not finite"),
        ([["a"] * 4], {}, "not an array of numbers"),
        ("test", {}, "only a run has parts of data"),
        (torch.zeros(3, 4), {"y": [0, 1]}, "y has the shape"),
        (torch.zeros(3, 4), {"y": [0.5, 1.0, 2.0]}, "integers"),
        (torch.zeros(200, 4), {"draws": 10**6}, "GiB.*fewer rows or draws"),
    ],
)
def test_bad_arguments_are_refused(x: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(GMMVAEError, match=words):
        to_inference_data(PLAIN, x, **options)


def test_bad_models_and_rows_are_refused(run: Run) -> None:
    for what in (build("ae"), object(), ProductGuide(GMMVAE((4,), 2, 2))):
        with pytest.raises(GMMVAEError, match=r"no latents|model and guide"):
            to_inference_data(what, torch.rand(3, *SHAPE))
    model = GMMVAE(SHAPE, K, D, options=OPTIONS)
    with pytest.raises(GMMVAEError, match="from 0 to 2"):
        to_inference_data(model, torch.rand(2, *SHAPE), [0, 3])
    for x, y, words in (
        ("tests", None, "did you mean 'test'"),
        ("test", [1, 2], "leave y out"),
        (np.zeros((2, 63)), None, "rows of shape"),
        (np.full((2, 64), np.nan), None, "missing cells"),
        (np.full((2, 64), np.inf), None, "infinite"),
        (np.full((2, 64), 255.0), None, "holds 255, and likelihood binomial"),
    ):
        with pytest.raises(GMMVAEError, match=words):
            to_inference_data(run, x, y)
