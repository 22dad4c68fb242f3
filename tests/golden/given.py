"""What the golden values are computed from, here and in PyTorch: networks, weights, images."""

import functools
import hashlib
import json
import math
from pathlib import Path

import numpy as np

from dcmu_jax.networks import create

NETWORKS = Path(__file__).with_name("networks.npz")
METHODS = Path(__file__).with_name("methods.npz")
MEAN, STD = (0.45, 0.55), (0.2, 0.3)
CHANNELS, CLASSES, COUNT = 2, 3, 4
"""Of the images, all but grey, of which there are as few as BatchNorm can bear."""
LEARNING_RATE = 0.05
RTOL, ATOL = 1e-3, 1e-4
"""Of one step; the second is a share of the largest number. Those of the tests with PyTorch."""
SIZES = {
    "mlp": (8, {"widths": (6, 5)}),
    "cnn": (35, {"channels": (2, 3, 4, 5), "hidden": 6}),
    "convnet": (19, {"channels": 3}),
    "vgg16": (64, {"channels": (2, 3, 4, 5, 6), "hidden": 7}),
    "vgg16_bn": (64, {"channels": (2, 3, 4, 5, 6), "hidden": 7}),
    "resnet18": (8, {"channels": (3, 4, 5, 6)}),
}
"""Side of the images and widths. All but ResNet18 have 2x2 pixels or more to be flattened."""
STEPS = {
    "mlp": ("beginning", "intermediate", "final"),
    "cnn": ("beginning", "intermediate", "final"),
    "vgg16_bn": ("intermediate",),
    "resnet18": ("final",),
}
"""The parts that train in a step. The others, such as VGG16's dropout, are in evaluation mode."""


def model_of(name):
    """A network of the catalogue, tiny."""
    side, widths = SIZES[name]
    shape = (side, side, CHANNELS)
    model = create(name, image_shape=shape, num_classes=CLASSES, conv="lax")
    return model.clone(**widths, **({"dropout": 0.0} if name == "cnn" else {})), shape


def numbers(name, *shape):
    """Numbers in [-1, 1] that depend on a name alone: no generator may ever draw others."""
    raw = hashlib.shake_128(name.encode()).digest(math.prod(shape))
    return (np.frombuffer(raw, np.uint8) / 127.5 - 1).astype(np.float32).reshape(shape)


def images_of(side):
    """Pixels and labels."""
    pixels = np.rint(127.5 + 127.5 * numbers(f"images {side}", COUNT, side, side, CHANNELS))
    return pixels.astype(np.uint8), np.arange(COUNT, dtype=np.int32) % CLASSES


def weights_of(shapes):
    """A ``state_dict`` by its names and shapes, of statistics and scales that are not 0 and 1."""
    found = {}
    for key, shape in shapes.items():
        drawn = numbers(key, *shape)
        if len(shape) > 1:
            drawn = drawn * np.float32(math.sqrt(6 / math.prod(shape[1:])))
        elif key.endswith(("running_var", "weight")):
            drawn = 1 + drawn / 2
        else:
            drawn = drawn / 4
        found[key] = np.asarray(drawn, np.float32)
    return found


@functools.cache
def _golden():
    with np.load(NETWORKS) as archive:
        return dict(archive)


def golden_of(name):
    """Golden values of a network, and the weights that they belong to."""
    found = {
        k.removeprefix(f"{name}/"): v for k, v in _golden().items() if k.startswith(f"{name}/")
    }
    return found, weights_of(json.loads(found.pop("shapes").tobytes()))


CLUSTERS = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2], np.int32)
"""Of the samples that are condensed; the last four of them are the forget set elsewhere."""
RETAINED = 5
MATCHING_STEPS, MATCHING_RATE = (1, 12), 1e-2
MODELS, EXAMPLES, POPULATION = 8, 6, 9
"""Of the margins that audits look at."""
MEMBER = np.arange(MODELS)[:, None] % 2 == np.arange(EXAMPLES) % 2
GAMMA, SHARE = 1.5, 0.3
"""Of RMIA: the factor, and ``a`` of its offline form."""


def samples():
    """Pixels for the MLP, and labels."""
    side = SIZES["mlp"][0]
    pixels = np.rint(127.5 + 127.5 * numbers("samples", len(CLUSTERS), side, side, CHANNELS))
    return pixels.astype(np.uint8), np.arange(len(CLUSTERS), dtype=np.int32) % CLASSES


def margins(name, models, examples):
    """Margins, float64. The second term keeps them off the edges of bins."""
    first = numbers(f"margins {name}", models, examples).astype(np.float64)
    return 3 * first + numbers(f"margins' {name}", models, examples) / 7
