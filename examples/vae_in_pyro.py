"""The VAE of this package in Pyro's own loop, and what Pyro does with it afterwards.

p(x, z) = p(x|z) p(z)          q(z|x) = N(loc(x), scale(x)^2)
"""

import sys

import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, RenyiELBO, Trace_ELBO
from pyro.optim import Adam
from sklearn.datasets import load_digits

from pyro_gmmvae.models import VAE
from pyro_gmmvae.networks import NetworkOptions


def main(epochs=20):
    torch.manual_seed(0)
    x = torch.as_tensor(load_digits().data).float() / 16
    train, test = x[:1297], x[1297:]

    vae = VAE(x_shape=(64,), latent_dim=8, options=NetworkOptions(hidden=(256,)))
    print(str(vae).partition("\n\n")[0])  # p(x, z) = p(x|z) p(z)
    svi = SVI(vae.model, vae.guide, Adam({"lr": 2e-3}), Trace_ELBO())
    for _ in range(epochs):
        for rows in torch.randperm(len(train)).split(100):
            svi.step(train[rows])

    vae.eval()
    elbo = -svi.evaluate_loss(test) / len(test)
    print(f"test ELBO: {elbo:.2f} nats per row")
    tighter = RenyiELBO(alpha=0, num_particles=20).loss(vae.model, vae.guide, test)
    print(f"importance-weighted bound: {-tighter / len(test):.2f} nats per row")

    posterior = Predictive(vae.guide, num_samples=100)(test[:5])["z"]
    print(f"posterior samples of z: {tuple(posterior.shape)}")
    fixed = poutine.condition(vae.model, data={"z": torch.zeros(5, 8)})
    mean = poutine.trace(fixed).get_trace(test[:5]).nodes["x"]["fn"].mean
    print(f"the image at z = 0: {tuple(mean[0].shape)}, pixels up to {mean[0].max():.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
