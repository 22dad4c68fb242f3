r"""Algorithm 1: group the images of each class by k-means in feature space.

.. math:: \{\Gamma_{i1}, \dots, \Gamma_{iK}\} = \operatorname{k-means}_K\{g(T_{ij})\}_{j=1}^n

where :math:`T_{ij}` is image j of class i and ``g`` gives a trained network's features.

The library runs ``condensation.clustering.cluster_classes``: classes in threads or on devices,
other ways to cluster, classes with fewer samples than clusters, clusters that k-means leaves empty.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from sklearn.cluster import KMeans

from dcmu_jax.errors import check_seed
from dcmu_jax.threads import one_thread


@one_thread()
def cluster_by_class(
    features: Float[np.ndarray, "samples dim"],
    labels: Int[np.ndarray, " samples"],
    clusters_per_class: int,
    seed: int = 0,
) -> Int[np.ndarray, " samples"]:
    """The cluster of each sample, numbered class after class; no cluster mixes classes.

    Args:
        features: of each sample.
        labels: its class.
        clusters_per_class: K.
        seed: of the random starts; each class has its own stream.

    >>> features = np.array([[0.0], [0.1], [5.0], [5.1], [0.0], [5.0]])
    >>> labels = np.array([0, 0, 0, 0, 1, 1])
    >>> first, second = cluster_by_class(features, labels, 2).reshape(3, 2)[:2]
    >>> bool(first[0] == first[1] != second[0] == second[1])
    True
    """
    seed = check_seed("seed", seed)
    cluster = np.empty(len(labels), np.int32)
    classes = np.unique(labels)
    for number, label in enumerate(classes.tolist()):
        members = np.flatnonzero(labels == label)
        own_seed = int(np.random.SeedSequence([seed, label]).generate_state(1)[0])
        kmeans = KMeans(clusters_per_class, n_init="auto", random_state=own_seed)
        cluster[members] = number * clusters_per_class + kmeans.fit_predict(features[members])
    return cluster
