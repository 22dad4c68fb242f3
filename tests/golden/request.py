"""A request to forget that every method serves, here and in PyTorch: 9 images, 251 parameters."""

import math
from pathlib import Path

import flax.linen as nn
import numpy as np
from golden.given import numbers

ARCHIVE = Path(__file__).with_name("unlearning.npz")
SIDE, CHANNELS, CLASSES, COUNT = 4, 2, 3, 9
MEAN, STD = (0.45, 0.55), (0.2, 0.3)
LAYERS = {"beginning": (SIDE * SIDE * CHANNELS, 6), "intermediate": (6, 5), "final": (5, CLASSES)}
"""Part of the network -> inputs and outputs of its one dense layer."""
SHAPES = [shape for inputs, outputs in LAYERS.values() for shape in ((inputs, outputs), (outputs,))]
"""Of the kernel and the bias of each, as they follow each other in a vector of all parameters."""


def _pixels(name, count):
    shape = count, SIDE, SIDE, CHANNELS
    return np.rint(127.5 + 127.5 * numbers(f"{name} of a request", *shape)).astype(np.uint8)


PIXELS, LABELS = _pixels("images", COUNT), np.arange(COUNT, dtype=np.int32) % CLASSES
FORGOTTEN = np.array([1, 2, 5, 7])
RETAINED = np.setdiff1d(np.arange(COUNT), FORGOTTEN)
REMEMBERED = _pixels("remembrance samples", CLASSES)
"""One of each class, in their order."""

# What is drawn at random is given: every batch holds all samples, so that their order is nothing.
WRONG = np.array([0, 1, 0, 2], np.int32)
"""Labels of the forgotten images where a method draws them."""
TURNS = np.array([False, False, False, True, True])
"""Which retained images are flipped in the first epoch where they are flipped by turns."""
CLUSTERS = np.array([0, 2, 4, 0, 3, 4, 1, 3, 5], np.int32)
"""Of the images. Two lose all they have, the one of row 4 keeps it, three are not touched."""
CONDENSED = 127.5 + 100 * numbers("condensed images", CLUSTERS.max() + 1, SIDE, SIDE, CHANNELS)


def weights(name):
    """All parameters, one after another: those of the ``original``, or of any ``fresh`` network."""
    found = []
    for number, shape in enumerate(SHAPES):
        scale = math.sqrt(6 / shape[0]) if len(shape) > 1 else 0.25
        found.append(scale * numbers(f"{name} {number}", *shape).reshape(-1))
    return np.concatenate(found).astype(np.float32)


def tree(vector):
    """Parameters as Flax has them."""
    arrays = np.split(vector, np.cumsum([math.prod(shape) for shape in SHAPES])[:-1])
    arrays = [a.reshape(shape) for a, shape in zip(arrays, SHAPES, strict=True)]
    pairs = zip(LAYERS, arrays[::2], arrays[1::2], strict=True)
    return {part: {"Dense_0": {"kernel": kernel, "bias": bias}} for part, kernel, bias in pairs}


def flat(params):
    """All parameters, one after another."""
    arrays = [params[part]["Dense_0"][name] for part in LAYERS for name in ("kernel", "bias")]
    return np.concatenate([np.asarray(a).reshape(-1) for a in arrays])


class Layer(nn.Module):
    """A dense layer whose fresh parameters are given, whatever the key; ReLU but on the logits."""

    part: str

    @nn.compact
    def __call__(self, x):
        """Its outputs."""
        fresh = tree(weights("fresh"))[self.part]["Dense_0"]
        x = nn.Dense(
            LAYERS[self.part][1],
            kernel_init=lambda *_: fresh["kernel"],
            bias_init=lambda *_: fresh["bias"],
        )(x.reshape(len(x), -1))
        return x if self.part == "final" else nn.relu(x)


class Network(nn.Module):
    """Three dense layers."""

    def setup(self):
        """The three parts."""
        self.beginning, self.intermediate, self.final = map(Layer, LAYERS)


RATE, MOMENTUM = 0.2, 0.9
SGD = {"name": "sgd", "learning_rate": RATE, "momentum": MOMENTUM, "schedule": "cosine"}
"""Adam would not see by what factor a loss is wrong."""
STEADY = SGD | {"schedule": "constant"}
TWICE = {"epochs": 2, "optimizer": SGD}
L1, SMOOTHING, TEMPERATURE, DIVERGENCE, SHARE = 0.02, 0.1, 4.0, 0.3, 0.3
_STEP = {"epochs": 1, "optimizer": STEADY}
CASES = {
    "retrain": {},
    "fast_retraining": {
        "training": {
            "epochs": 2,
            "optimizer": SGD | {"schedule": "triangle"},
            "crop": 0,
            "label_smoothing": SMOOTHING,
        }
    },
    "catastrophic_forgetting": TWICE,
    "distillation": TWICE | {"divergence": DIVERGENCE, "temperature": TEMPERATURE},
    "bad_teaching": TWICE | {"share": 1.0, "temperature": TEMPERATURE, "loss_scale": 5.0},
    "sparsity": {"epochs": 4, "optimizer": SGD | {"l1": L1}},
    "prune_and_unlearn": TWICE | {"density": 0.4, "rounds": 2},
    "ntk_scrubbing": {"target": 2.0, "damping": 0.5, "scale": 1.5, "tolerance": 1e-6},
    "selective_synaptic_dampening": {"alpha": 1.5, "dampening": 0.6, "batch_size": 1},
    "selective_synaptic_dampening, batches": {"alpha": 5.0, "dampening": 8.0},
    "gradient_ascent": {"epochs": 2, "optimizer": STEADY},
    "negative_gradient": TWICE | {"alpha": 0.7},
    "random_labels": TWICE,
    "scrub": {"alpha": 0.5, "gamma": 0.9, "epochs": 2, "max_epochs": 2, "optimizer": STEADY},
    "saliency": TWICE | {"share": SHARE},
    "boundary_shrink": {"epochs": 2, "optimizer": STEADY},
    "influence": {"alpha": 0.5, "damping": 0.05, "tolerance": 1e-6},
    "eu_k": TWICE | {"k": 2},
    "cf_k": {"epochs": 2, "optimizer": {"learning_rate": 0.1}},
    "modular": {
        "collecting": {"weigh_by_size": True},
        "resets": [{"part": "final", "keep": 0.25}],
        "rounds": 2,
        "tail": 1,
        "round_steps": [
            _STEP | {"parts": ["beginning"]},
            _STEP | {"parts": ["final"], "on": "remembrance"},
        ],
        "closing_steps": [_STEP | {"parts": ["intermediate"]}],
    },
}
"""Method, or method and variant -> settings that say something in a few steps."""
FISHER = {
    "fisher_forgetting": {"alpha": 0.1},
    "fisher_forgetting, inputs": {"alpha": 0.1, "power": 0.5, "average_inputs": True},
}
"""Likewise, for the method that adds noise: the standard deviation of that of each parameter."""
OFFLINE = {"rounds": 2, "final_epochs": 1, "intermediate_epochs": 1}
"""Both optimizers are ``STEADY``."""


def method_of(case):
    """The name of the method of a case."""
    return case.partition(",")[0]
