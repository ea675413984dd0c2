"""The Gaussian-mixture VAE in one file of plain Pyro: 100 labels of scikit-learn's digits.

    p(x, z, s) = p(x|z,s) p(z|s) p(s)          q(z, s|x) = q(z|s,x) q(s|x)

The package adds other posteriors and objectives, a faster loop and run folders.
"""

import sys

import pyro
import torch
from pyro.distributions import Bernoulli
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import softplus

from pyro_gmmvae.distributions import Concrete, GaussianProduct

K, d, D = 10, 8, 64  # classes, size of z, pixels
TEMPERATURE, LABEL_EPS = 0.5, 1e-3


class GMMVAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.loc, self.raw_scale = nn.Parameter(torch.randn(K, d)), nn.Parameter(torch.zeros(K, d))
        self.decoder = nn.Sequential(nn.Linear(d + K, 256), nn.ReLU(), nn.Linear(256, D))
        self.encoder = nn.Sequential(nn.Linear(D, 256), nn.ReLU(), nn.Linear(256, K + 2 * K * d))
        pi = torch.full((K, K), LABEL_EPS / (K - 1)).fill_diagonal_(1 - LABEL_EPS)
        self.register_buffer("log_pi", torch.cat([pi, torch.full((1, K), 1 / K)]).log())

    def model(self, x, y):
        pyro.module("gmmvae", self)
        with pyro.plate("rows", len(x)):
            # a label is the prior of s; y = -1 takes the last row of log_pi, which is flat
            s = pyro.sample("s", Concrete(TEMPERATURE, logits=self.log_pi[y]))
            z = pyro.sample("z", GaussianProduct(s, self.loc, softplus(self.raw_scale) + 1e-4))
            logits = self.decoder(torch.cat([z, s], -1))
            pyro.sample("x", Bernoulli(logits=logits, validate_args=False).to_event(1), obs=x)

    def guide(self, x, y):
        logits, loc, scale = self.heads(x)
        with pyro.plate("rows", len(x)):
            s = pyro.sample("s", Concrete(TEMPERATURE, logits=logits))
            pyro.sample("z", GaussianProduct(s, loc, scale))

    def heads(self, x):
        logits, loc, raw_scale = self.encoder(x).split([K, K * d, K * d], -1)
        return logits, loc.view(-1, K, d), softplus(raw_scale.view(-1, K, d)) + 1e-4


def main(epochs=20):
    torch.manual_seed(0)
    x, y = map(torch.as_tensor, load_digits(return_X_y=True))
    x, order = x.float() / 16, torch.randperm(len(x))
    train, test = order[:1297], order[1297:]
    labelled = torch.cat([train[y[train] == k][:10] for k in range(K)])
    labels = torch.full_like(y, -1)  # -1: unlabelled
    labels[labelled] = y[labelled]

    model = GMMVAE()
    svi = SVI(model.model, model.guide, Adam({"lr": 2e-3}), Trace_ELBO())
    for _ in range(epochs):
        for rows in train[torch.randperm(len(train))].split(78):
            rows = torch.cat([rows, labelled[torch.randint(len(labelled), (50,))]])
            svi.step(x[rows], labels[rows])
    predicted = model.heads(x[test])[0].argmax(-1)
    print(f"test accuracy with 100 labels: {(predicted == y[test]).float().mean():.3f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
