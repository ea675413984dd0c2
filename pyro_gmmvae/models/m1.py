"""M1: a VAE, and a classifier on its z."""

import torch
from torch import Tensor

from pyro_gmmvae.models.checks import check_sizes
from pyro_gmmvae.models.vae import VAE
from pyro_gmmvae.networks import NetworkOptions


class M1(VAE):
    """The variational autoencoder with a classifier on z of the labelled rows::

        p(x, z)   as :class:`VAE`, which never sees a label
        p(y|z)    softmax(weight z + bias), scikit-learn's logistic regression

    ``fit_classifier`` fits the second line; the runs call it after each epoch, and its
    coefficients are saved with the weights.

    It departs from Kingma et al., whose classifiers are a transductive SVM and 1-NN: neither
    gives probabilities.

    Args:
        x_shape: shape of one observation, (D,) or (channels, height, width).
        components: number of classes.
        latent_dim: d, the size of z.
        network, likelihood, options: as for :class:`GMMVAE`.

    Reference:
        Kingma et al. 2014, arXiv:1406.5298.
    """

    needs_labels = True
    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        x_shape: tuple[int, ...],
        components: int,
        latent_dim: int,
        *,
        network: str = "mlp",
        likelihood: str = "bernoulli",
        options: NetworkOptions | None = None,
    ) -> None:
        super().__init__(
            x_shape, latent_dim, network=network, likelihood=likelihood, options=options
        )
        check_sizes(components=components)
        self.components = components
        self.register_buffer("weight", torch.zeros(components, latent_dim))
        self.register_buffer("bias", torch.zeros(components))

    @torch.no_grad()
    def fit_classifier(self, x: Tensor, y: Tensor) -> None:
        """Fit p(y|z) on labelled rows x (N, *x_shape) and y (N,); the VAE stays as it is."""
        from sklearn.linear_model import LogisticRegression

        was_training = self.training
        z = self.eval().embed(x)
        self.train(was_training)
        loc, scale = z.mean(0), z.std(0).clamp_min(1e-6)
        fitted = LogisticRegression(max_iter=1000).fit(((z - loc) / scale).cpu(), y.cpu())
        coefficients, intercepts = (
            torch.from_numpy(fitted.coef_),
            torch.from_numpy(fitted.intercept_),
        )
        if len(fitted.classes_) == 2:  # one score decides between two classes
            coefficients = torch.cat([-coefficients, coefficients]) / 2
            intercepts = torch.cat([-intercepts, intercepts]) / 2
        seen = torch.from_numpy(fitted.classes_)
        weight = torch.zeros_like(self.weight)
        bias = torch.full_like(self.bias, -1e3)  # a class without a label is never said
        weight[seen] = coefficients.to(weight) / scale
        bias[seen] = intercepts.to(bias) - weight[seen] @ loc
        self.weight.copy_(weight)
        self.bias.copy_(bias)

    def classify(self, x: Tensor) -> Tensor:
        """log p(y|z), (B, K), in nats, at z's posterior mean."""
        return torch.nn.functional.linear(self.embed(x), self.weight, self.bias).log_softmax(-1)
