"""White-box model inversion (paper, §IV-D): Algorithm 3 run against a network, with its controls.

An InverterNet draws images that the attacked network, frozen, puts into their class, and that lie
near images which the attacker knows. What this can show and what not:

- With the reconstruction term the attacker already holds the images. That the result looks like
  them says nothing of the network; only the difference between two networks that are attacked with
  the same images, settings and seed does. The network that never saw the class is the yardstick.
- Without it (``inversion_without_images``) nothing of the training data enters but through the
  network: its parameters, and the pixel statistics of its normalisation. Noise may do for a class,
  so a share of 100 % in class is no leak by itself.
- No number is one alone. Another network may take any smooth picture for the class, those drawn
  from a network that never saw it included, and a grey picture lies near to every image by its
  pixels. Only what exceeds the yardstick's numbers counts.
- That nothing recognisable comes out is no proof that nothing is left: it is one attack.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Num

from dcmu_jax.condensation.clustering import cluster_classes
from dcmu_jax.condensation.inversion import InversionConfig, invert_clusters
from dcmu_jax.condensation.statistics import cluster_means
from dcmu_jax.data.dataset import Dataset
from dcmu_jax.errors import InputError, check_at_least, check_seed
from dcmu_jax.threads import one_thread
from dcmu_jax.training.classifier import Classifier

_BLOCK = 512
"""Images of either side that distances are computed of at once."""


@dataclasses.dataclass(frozen=True, eq=False)
class KnownImages:
    """What the attacker holds: class after class, equally many of each.

    Attributes:
        images: float32 ``(N, H, W, C)``, pixels 0..255: means of clusters of training images.
        labels: int32 ``(N,)``, their classes, ascending.
        sizes: int32 ``(N,)``, training images in each mean.
    """

    images: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class InversionAttack:
    """What came out of the network.

    Attributes:
        images: float32 ``(classes * count, H, W, C)``, pixels clipped to 0..255 as one sees them.
        labels: int32, the class each was drawn for.
        hits: bool, whether the attacked network puts the image into its class.
    """

    images: np.ndarray
    labels: np.ndarray
    hits: np.ndarray

    @property
    def in_class(self) -> float:
        """Images (%) that the attacked network puts into their class."""
        return 100 * float(np.mean(self.hits))

    def recognised_by(self, classifier: Classifier) -> float:
        """Images (%) that another network puts into their class.

        Args:
            classifier: one that knows the classes and was trained by another seed: an image made
                to deceive the attacked network does not deceive it.
        """
        return 100 * float(np.mean(classifier.logits(self.images).argmax(axis=1) == self.labels))

    def of_classes(self, classes: Sequence[int]) -> InversionAttack:
        """The images of some of the classes."""
        at = np.isin(self.labels, classes)
        if not at.any():
            raise InputError(
                f"No image of the classes {list(classes)}",
                f"some of {np.unique(self.labels).tolist()}",
                "Name classes that were attacked",
            )
        return InversionAttack(self.images[at], self.labels[at], self.hits[at])


@dataclasses.dataclass(frozen=True, eq=False)
class Nearest:
    """The nearest training image of each of some images.

    Attributes:
        positions: int64 ``(N,)``, where it stands in the training set.
        distances: float64 ``(N,)``, the Euclidean distance over the square root of the number of
            pixels times channels: the root of the mean squared difference, in 0..255.
    """

    positions: np.ndarray
    distances: np.ndarray


def known_images(
    train: Dataset, classes: Sequence[int], count: int, reference: Classifier, *, seed: int = 0
) -> KnownImages:
    """Means of ``count`` clusters of each class, as in the paper's figure.

    Args:
        train: the training set, the forgotten samples included.
        classes: those attacked.
        count: clusters of each class.
        reference: its features are clustered; take the original for all networks compared.
        seed: of the clustering.

    Raises:
        InputError: no or unknown classes, or one of fewer than ``count`` samples.
    """
    seed = check_seed("seed", seed)
    check_at_least("count", count, 1)
    chosen = train.take(np.isin(train.labels, classes))
    samples = np.bincount(chosen.labels, minlength=train.num_classes)
    short = [c for c in classes if not 0 <= c < len(samples) or samples[c] < count]
    if short or not len(classes):
        raise InputError(
            f"An inversion of {count} images of each of the classes {list(classes)}",
            f"classes with {count} training images or more",
            f"Leave out {short}, or lower count" if short else "Name a class",
        )
    features = reference.features(chosen.images)
    clusters = cluster_classes(features, chosen.labels, count, seed=seed)
    pixels = chosen.images.reshape(len(chosen), -1).astype(np.float32)
    means = np.asarray(cluster_means(pixels, clusters.assignment), np.float32)
    shape = (-1, *chosen.images.shape[1:])
    return KnownImages(means.reshape(shape), clusters.labels, clusters.sizes)


def inversion_attack(
    classifier: Classifier,
    known: KnownImages,
    config: InversionConfig | None = None,
    *,
    seed: int = 0,
) -> InversionAttack:
    """Algorithm 3 against ``classifier``, with the reconstruction term.

    The same call on a network that never saw the class is the control.

    Args:
        classifier: the attacked network.
        known: what the images are drawn near to.
        config: settings of the InverterNet; ``reconstruction`` is lambda.
        seed: of the InverterNet; the same for all networks compared.
    """
    seed = check_seed("seed", seed)
    config = config or InversionConfig()
    arrays = (known.images, known.labels, known.sizes)
    images = np.clip(invert_clusters(classifier, *arrays, config, seed=seed).images, 0, 255)
    hits = classifier.logits(images).argmax(axis=1) == known.labels
    return InversionAttack(images, np.asarray(known.labels, np.int32), hits)


def inversion_without_images(
    classifier: Classifier,
    classes: Sequence[int],
    count: int,
    config: InversionConfig | None = None,
    *,
    seed: int = 0,
) -> InversionAttack:
    """The same with lambda = 0: it is given no image, only the classes.

    Args:
        classifier: the attacked network.
        classes: those attacked.
        count: images of each.
        config: settings of the InverterNet; lambda is taken for 0.
        seed: of the InverterNet.

    Raises:
        InputError: no class, or one that the network does not have.
    """
    seed = check_seed("seed", seed)
    check_at_least("count", count, 1)
    chosen = np.unique(np.asarray(classes, np.int32))
    nothing = np.zeros((count * len(chosen), *classifier.image_shape), np.float32)
    outputs = classifier.logits(nothing[:1]).shape[1] if len(chosen) else 0
    if not len(chosen) or chosen[0] < 0 or chosen[-1] >= outputs:
        raise InputError(
            f"An inversion of the classes {list(classes)}",
            "one or more of those the network tells apart",
            "Number classes from 0",
        )
    labels = np.repeat(chosen, count)
    known = KnownImages(nothing, labels, np.ones(len(labels), np.int32))
    config = dataclasses.replace(config or InversionConfig(), reconstruction=0.0)
    return inversion_attack(classifier, known, config, seed=seed)


def nearest_training_image(
    images: Num[np.ndarray, "images height width channels"],
    labels: Int[np.ndarray, " images"],
    dataset: Dataset,
) -> Nearest:
    """The training image of the same class nearest to each image, in bounded memory.

    Args:
        images: pixels 0..255.
        labels: their classes.
        dataset: where the nearest is looked for.

    Raises:
        InputError: a class of which the dataset has no image.
    """
    missing = np.setdiff1d(labels, dataset.labels).tolist()
    if missing:
        raise InputError(
            f"Images of the classes {missing}, of which there is no training image",
            "classes of the training set",
            "Look in the training set as it was before forgetting",
        )
    positions = np.empty(len(images), np.int64)
    distances = np.empty(len(images))
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        candidates = np.flatnonzero(dataset.labels == label)
        for low in range(0, len(of_class), _BLOCK):
            rows = of_class[low : low + _BLOCK]
            x = _flat(images[rows])
            positions[rows] = _nearest(x, dataset.images, candidates)
            difference = x - _flat(dataset.images[positions[rows]])
            distances[rows] = np.sqrt(np.mean(difference**2, axis=1))
    return Nearest(positions, distances)


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float64)


@one_thread()
def _nearest(x: np.ndarray, pixels: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Which of ``candidates`` lies nearest to each row; the norm of the row matters to none."""
    best, at = np.full(len(x), np.inf), np.empty(len(x), np.int64)
    for low in range(0, len(candidates), _BLOCK):
        block = candidates[low : low + _BLOCK]
        y = _flat(pixels[block])
        squared = np.sum(y**2, axis=1)[None] - 2 * x @ y.T
        nearest = squared.argmin(axis=1)
        found = squared[np.arange(len(x)), nearest]
        nearer = found < best
        best[nearer], at[nearer] = found[nearer], block[nearest[nearer]]
    return at
