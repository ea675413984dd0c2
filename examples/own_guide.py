"""A guide of one's own for the Gaussian-mixture VAE, compared with the default one.

q(z, s|x) = q(z|s,x) q(s|x)

q(s|x)    Concrete(logits(x), temperature)               s (B, K)
q(z|s,x)  N(loc(x) + sum_i s_i shift_i, scale(x)^2)      z (B, d)
"""

import sys

import pyro
import torch
from pyro.distributions import Normal
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam
from sklearn.datasets import load_digits
from torch import nn

from pyro_gmmvae.distributions import positive_scale
from pyro_gmmvae.guides import MixtureGuide, ProductGuide
from pyro_gmmvae.models import GMMVAE
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.param_store import register


class ShiftGuide(MixtureGuide):
    """One Gaussian of x, moved by a learned shift of each class that s weighs."""

    name = "shift"

    def __init__(self, model):
        super().__init__(model)
        K, d = self.components, self.latent_dim
        self.encoder = model.build_encoder(K + 2 * d)
        self.shifts = nn.Parameter(0.1 * torch.randn(K, d))

    def forward(self, x, y=None):
        register(guide=self)
        logits, loc, scale = self.heads(x)
        with pyro.plate("rows", len(x)):
            s = self.sample_s(logits)
            pyro.sample("z", Normal(loc + s @ self.shifts, scale).to_event(1))

    def heads(self, x):
        K, d = self.components, self.latent_dim
        logits, loc, raw_scale = self.encoder(x).split([K, d, d], -1)
        return logits, loc, positive_scale(raw_scale)

    def class_logits(self, x):
        return self.heads(x)[0]

    def embed(self, x):
        logits, loc, _ = self.heads(x)
        return loc + logits.softmax(-1) @ self.shifts


def main(epochs=20):
    x, y = map(torch.as_tensor, load_digits(return_X_y=True))
    x, labels = x.float() / 16, y.clone()
    labels[100:] = -1  # -1: unlabelled
    train, test = torch.arange(1297), torch.arange(1297, len(x))
    for guide in (ProductGuide, ShiftGuide):
        torch.manual_seed(0)
        options = NetworkOptions(hidden=(256,))
        model = GMMVAE(x_shape=(64,), components=10, latent_dim=8, guide=guide, options=options)
        svi = SVI(model.model, model.guide, Adam({"lr": 2e-3}), Trace_ELBO())
        for _ in range(epochs):
            for rows in train[torch.randperm(len(train))].split(100):
                rows = torch.cat([rows, torch.randint(100, (50,))])
                svi.step(x[rows], labels[rows])
        model.eval()
        elbo = -svi.evaluate_loss(x[test]) / len(test)
        accuracy = (model.classify(x[test]).argmax(-1) == y[test]).float().mean()
        print(f"{guide.name}: test ELBO {elbo:.2f} nats per row, test accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
