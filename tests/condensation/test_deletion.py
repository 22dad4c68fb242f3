import dataclasses

import numpy as np
import pytest
from banks import FEW, Net, assert_same, make_dataset

from dcmu_jax.condensation import (
    Clusters,
    MatchingConfig,
    build_bank,
    build_clean_bank,
    condense,
    recondense,
)
from dcmu_jax.condensation.statistics import feature_sums
from dcmu_jax.errors import InputError
from dcmu_jax.training.classifier import fresh_classifier


def request(bank):
    """One cluster emptied, one thinned by half, one left with a single sample."""
    large = np.argsort(-bank.sizes, kind="stable")[:3]
    emptied, halved, single = (np.flatnonzero(bank.cluster == j) for j in large)
    return bank.ids[np.concatenate([emptied, halved[::2], single[1:]])]


@pytest.mark.parametrize("warm", [True, False])
def test_recondense(bank, dataset, classifier, warm):
    forget = request(bank)
    new = recondense(bank, dataset, classifier, forget, FEW, warm=warm)
    left = dataset.without(forget)
    new.check(left, classifier)
    assert len(new.labels) == len(bank.labels) - 1
    np.testing.assert_array_equal(new.labels[new.cluster], left.labels)
    np.testing.assert_array_equal(np.bincount(new.cluster), new.sizes)
    old = bank.cluster[dataset.positions(new.ids)]
    for j in range(len(new.labels)):
        at = new.cluster == j
        (before,) = np.unique(old[at])
        untouched = bank.sizes[before] == new.sizes[j]
        if untouched:
            np.testing.assert_array_equal(new.images[j], bank.images[before])
            np.testing.assert_array_equal(
                new.weights[at], bank.weights[dataset.positions(new.ids[at])]
            )
        else:
            assert new.final_loss[j] <= new.initial_loss[j]
            target = classifier.features(left.images[at]).mean(axis=0)
            got = classifier.features(new.images[j][None])[0]
            loss = np.sum((got - target) ** 2)
            np.testing.assert_allclose(new.final_loss[j], loss, rtol=1e-3, atol=1e-7)
        if new.sizes[j] == 1:
            np.testing.assert_array_equal(new.images[j], left.images[at][0])
            assert new.weights[at] == 1


def changed_pixels(dataset, forget):
    images = dataset.images.copy()
    images[dataset.positions(forget)] ^= np.uint8(255)
    return dataclasses.replace(dataset, images=images)


def test_forgotten_pixels_leave_nothing_behind(bank, dataset, classifier):
    """They are changed before the bank is built; network and clusters stay as they are."""
    forget = request(bank)
    other = changed_pixels(dataset, forget)
    clusters = Clusters(bank.cluster, bank.labels, bank.sizes, ())
    features = np.asarray(classifier.features(other.images), np.float32)
    built = condense(other, classifier, clusters, features, matching=FEW)
    assert not np.array_equal(built.images, bank.images)
    assert not np.array_equal(built.feature_sums, bank.feature_sums)
    strict = [
        recondense(b, d, classifier, forget, FEW, warm=False)
        for b, d in ((bank, dataset), (built, other))
    ]
    assert_same(*strict)
    warm = [recondense(b, d, classifier, forget, FEW) for b, d in ((bank, dataset), (built, other))]
    assert not np.array_equal(warm[0].weights, warm[1].weights)  # as the docstring says


def test_sums_are_those_of_the_survivors(bank, dataset, classifier):
    forget = request(bank)
    new = recondense(bank, dataset, classifier, forget, FEW)
    left = dataset.without(forget)
    features = np.asarray(classifier.features(left.images), np.float32)
    expected = feature_sums(features, new.cluster, len(new.sizes))
    # The unit of the sums is the last bit of a feature below 1, which may depend on the batch.
    assert (np.abs(new.feature_sums - expected) <= 4 * new.sizes[:, None]).all()
    again = recondense(new, left, classifier, new.ids[:5], FEW)
    again.check(left.without(new.ids[:5]), classifier)


def test_a_clean_bank_owes_other_clusters_nothing(dataset):
    forget = dataset.ids[[3, 17, 40]]
    other = changed_pixels(dataset, forget)
    reference = make_dataset(seed=9, n=30)
    for given in (None, reference):
        banks = [
            build_clean_bank(d, Net(), clusters_per_class=6, reference=given, matching=FEW, seed=2)
            for d in (dataset, other)
        ]
        assert banks[0].lineage == "clean"
        # Clusters are known by their members, since one that is empty has no number.
        images, sums = (
            [
                {tuple(b.ids[b.cluster == j]): getattr(b, of)[j] for j in range(len(b.sizes))}
                for b in banks
            ]
            for of in ("images", "feature_sums")
        )
        untouched = [m for m in images[0] if not set(m) & set(forget.tolist())]
        shared = [m for m in untouched if m in images[1]]
        assert len(shared) >= 9  # a sample that moves leaves one cluster and enters another
        for m in shared:
            np.testing.assert_array_equal(sums[0][m], sums[1][m])
            if given is None:
                np.testing.assert_array_equal(images[0][m], images[1][m])
            else:
                np.testing.assert_allclose(images[0][m], images[1][m], atol=1e-3)
        if given is None:
            assert shared == untouched
    trained = [
        build_bank(d, fresh_classifier(Net(), d, 0), clusters_per_class=6, matching=FEW)
        for d in (dataset, other)
    ]  # statistics of all pixels are enough to show everywhere
    assert not np.array_equal(trained[0].images, trained[1].images)


def test_reference_images_come_from_elsewhere(dataset):
    with pytest.raises(InputError, match="5 of 5 reference images are in the training set"):
        build_clean_bank(dataset, Net(), clusters_per_class=2, reference=dataset.take(np.arange(5)))
    two = make_dataset(seed=9)
    two = two.take(two.labels < 2)
    with pytest.raises(InputError, match=r"without the classes \[2\]"):
        build_clean_bank(dataset, Net(), clusters_per_class=2, reference=two)


def test_recondense_of_whole_clusters_and_of_nothing_left(bank, dataset, classifier):
    new = recondense(bank, dataset, classifier, bank.ids[bank.cluster == 4], FEW)
    np.testing.assert_array_equal(new.images, np.delete(bank.images, 4, axis=0))
    with pytest.raises(InputError, match="every sample"):
        recondense(bank, dataset, classifier, bank.ids, FEW)
    with pytest.raises(InputError, match="Unknown id"):
        recondense(bank, dataset, classifier, np.array([5]), FEW)
    with pytest.raises(InputError, match="another training set"):
        recondense(bank, dataset.take(np.arange(5, 60)), classifier, bank.ids[:1], FEW)
    with pytest.raises(InputError, match="another model"):
        recondense(bank, dataset, fresh_classifier(Net(), dataset, 1), bank.ids[:1], FEW)


def test_cancelling_weights_restart_evenly(bank, dataset, classifier):
    j = int(np.argmax(bank.sizes))
    at = np.flatnonzero(bank.cluster == j)
    weights = bank.weights.copy()
    weights[at] = np.where(np.arange(len(at)) % 2, 1.0, -1.0)
    weights[at[-1]] -= weights[at[1:]].sum() - 0.01
    bad = dataclasses.replace(bank, weights=weights)
    still = MatchingConfig(steps=0)
    new = recondense(bad, dataset, classifier, bank.ids[at[:1]], still)
    kept = np.isin(new.ids, bank.ids[at])
    np.testing.assert_allclose(new.weights[kept], 1 / (len(at) - 1), rtol=1e-6)
