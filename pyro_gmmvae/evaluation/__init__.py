"""Evaluation: numbers from arrays and programs, whatever the model."""

from pyro_gmmvae.evaluation.classification import accuracy
from pyro_gmmvae.evaluation.likelihood import Bounds, log_weights, pareto_k

__all__ = ["Bounds", "accuracy", "log_weights", "pareto_k"]
