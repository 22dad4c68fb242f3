"""Seeing what a method does on its way: the steps it names and the losses they report."""

import contextlib

import numpy as np

from dcmu_jax.unlearning.task import Hooks


def watched(method, task):
    """The result, and for each step its name, its number of epochs and the losses of them."""
    steps = []

    @contextlib.contextmanager
    def progress(name, epochs):
        losses = []
        steps.append((name, epochs, losses))
        yield lambda epoch, loss, accuracy: losses.append(loss)

    return method(task, Hooks(progress)), steps


def log_softmax(logits, temperature=1.0):
    """In float64, by hand."""
    z = np.asarray(logits, np.float64) / temperature
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def cross_entropy(logits, labels):
    """Of each example, by hand."""
    return -log_softmax(logits)[np.arange(len(labels)), labels]


def divergence(teacher, student, temperature):
    """KL(teacher || student) of each example, by hand."""
    log_p, log_q = log_softmax(teacher, temperature), log_softmax(student, temperature)
    return (np.exp(log_p) * (log_p - log_q)).sum(-1)
