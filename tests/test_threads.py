"""No result depends on the threads of OpenMP and BLAS: the limit, and who computes within it."""

import functools
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_info, threadpool_limits
from toys import Plain, fresh

from dcmu_jax.audits import probing
from dcmu_jax.audits.inversion import nearest_training_image
from dcmu_jax.audits.shadow import shadow_attack
from dcmu_jax.condensation import cluster_classes, coresets, lineage
from dcmu_jax.condensation.inversion import mean_pairwise_distance
from dcmu_jax.data.dataset import Dataset
from dcmu_jax.metrics import orthogonality
from dcmu_jax.metrics.membership import loss_attack
from dcmu_jax.threads import one_thread


def counts(user_api=None):
    """How many threads each library would use, asked in this thread."""
    # PyTorch, which another test may have loaded, has an OpenMP of its own that nothing here calls.
    pools = [pool for pool in threadpool_info() if "torch" not in pool["filepath"]]
    return {pool["num_threads"] for pool in pools if user_api in (None, pool["user_api"])}


def test_a_new_thread_does_not_inherit_the_limit_and_sets_its_own():
    def within():
        with one_thread():
            return counts()

    with threadpool_limits(3, user_api="openmp"), ThreadPoolExecutor(1) as pool:
        with one_thread():
            assert counts() == {1}
            assert pool.submit(within).result() == {1}
        assert counts("openmp") == {3}


def test_blas_is_put_back_by_the_last_that_leaves():
    entered, leave, first_left = (threading.Event() for _ in range(3))

    def other():
        with one_thread():
            entered.set()
            first_left.wait(20)
            seen = counts("blas")
            leave.wait(20)
        return seen

    # By a limit that this thread holds, and threadpoolctl would let no other thread change.
    with threadpool_limits(3, user_api="blas"), ThreadPoolExecutor(1) as pool:
        with one_thread():
            found = pool.submit(other)
            assert entered.wait(20)
        first_left.set()
        after_the_first = counts("blas")
        leave.set()
        assert after_the_first == found.result() == {1}
        assert counts("blas") == {3}
        with pytest.raises(ZeroDivisionError), one_thread():
            raise ZeroDivisionError
        assert counts("blas") == {3}


class Watched(np.ndarray):
    """An array that notes how many threads there are when it is multiplied."""

    def __matmul__(self, other):
        SEEN.append(counts())
        return super().__matmul__(other)


SEEN: list[set[int]] = []
RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(600, 4)).astype(np.float32)
LABELS = (np.arange(600) % 2).astype(np.int32)
BYTES = RNG.integers(256, size=(600, 2, 2, 1)).astype(np.uint8)
IMAGES = Dataset(BYTES, LABELS, np.arange(600), 2)
WATCHED = FEATURES.view(Watched)
PIXELS = IMAGES.images.astype(np.float32).view(Watched)
KNOWN = RNG.random((4, 600)) < 0.5


def clustered(method):
    return cluster_classes(WATCHED, LABELS, 3, method=method)


@functools.cache
def network():
    return fresh(Plain(2), IMAGES)


def probed(probe):
    return probe(network(), probing.probe_samples(IMAGES, IMAGES.ids[:20], IMAGES))


CALLS = {
    "kmeans": lambda: clustered("kmeans"),
    "minibatch": lambda: clustered("minibatch"),
    "balanced": lambda: clustered("balanced"),
    "k-centers": lambda: coresets.k_centers(WATCHED, 3),
    "herding": lambda: coresets.herd(WATCHED, 3),
    "reference": lambda: lineage.clusters_by_reference(WATCHED, LABELS, FEATURES, LABELS, 3),
    "membership": lambda: loss_attack(FEATURES[:, 0], FEATURES[:, 1]),
    "shadow": lambda: shadow_attack(FEATURES[:, 0], FEATURES.T, KNOWN),
    "linear probe": lambda: probed(probing.linear_probe),
    "nearest neighbours": lambda: probed(probing.knn_probe),
    "nearest image": lambda: nearest_training_image(PIXELS, LABELS, IMAGES),
    "pairs": lambda: mean_pairwise_distance(PIXELS),
    "orthogonality": lambda: orthogonality.orthogonality(network(), IMAGES, IMAGES),
}
FITTED = (
    (KMeans, "fit_predict"),
    (MiniBatchKMeans, "partial_fit"),
    (MiniBatchKMeans, "predict"),
    (LogisticRegression, "fit"),
    (LogisticRegression, "decision_function"),
    (KNeighborsClassifier, "predict"),
)


@pytest.mark.parametrize("name", CALLS)
def test_what_adds_up_in_threads_has_one(name, monkeypatch):
    def watched(function):
        def call(*args, **kwargs):
            SEEN.append(counts())
            return function(*args, **kwargs)

        return call

    for owner, method in FITTED:
        monkeypatch.setattr(owner, method, watched(getattr(owner, method)))
    monkeypatch.setattr(orthogonality, "_vector", lambda *_: (None, WATCHED.ravel()))
    SEEN.clear()
    with threadpool_limits(3):
        CALLS[name]()
    assert SEEN and all(seen == {1} for seen in SEEN)
