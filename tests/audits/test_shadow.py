"""The shadow-model attack: what it learns, per class and of several features."""

import numpy as np
import pytest

from dcmu_jax.audits.roc import separation
from dcmu_jax.audits.shadow import shadow_attack
from dcmu_jax.errors import InputError


def _setting(seed=0, models=4, examples=500):
    rng = np.random.default_rng(seed)
    member = rng.random((models + 1, examples)) < 0.5
    margins = rng.normal(size=member.shape) + 2 * member
    return margins[0], member[0], margins[1:], member[1:]


def test_margins_keep_their_order():
    target, _, shadows, member = _setting()
    scores = shadow_attack(target, shadows, member)
    np.testing.assert_array_equal(np.argsort(scores), np.argsort(target))


def test_scores_are_the_true_log_odds():
    # N(0, 1) against N(2, 1) with equal shares: 2 m - 2. 4 x 5000 pairs; weak regularisation.
    _, _, shadows, member = _setting(examples=5000)
    at = np.array([-1.0, 0.0, 1.0, 3.0])
    np.testing.assert_allclose(shadow_attack(at, shadows, member), 2 * at - 2, atol=0.25)


def test_the_useful_feature_counts_whatever_its_unit():
    target, truth, shadows, member = _setting()
    rng = np.random.default_rng(9)

    def with_noise(values):
        useless = 1e4 * rng.normal(size=values.shape) + 1e5
        return np.stack([useless, values * 1e-4, np.ones(values.shape)], axis=-1)

    scores = shadow_attack(with_noise(target), with_noise(shadows), member)
    found, plain = (separation(s, truth, resamples=1).auc[0] for s in (scores, target))
    assert abs(found - plain) < 0.02


def test_classes_apart_and_other_examples():
    # Members have higher margins in one class and lower ones in the other.
    rng = np.random.default_rng(1)
    labels, shadow_labels = rng.integers(0, 2, 300), rng.integers(0, 2, 400)
    truth, member = rng.random(300) < 0.5, rng.random((3, 400)) < 0.5
    target = rng.normal(size=300) + np.where(labels, 2, -2) * truth
    shadows = rng.normal(size=(3, 400)) + np.where(shadow_labels, 2, -2) * member
    together = separation(shadow_attack(target, shadows, member), truth, resamples=1).auc[0]
    scores = shadow_attack(target, shadows, member, labels=labels, shadow_labels=shadow_labels)
    assert separation(scores, truth, resamples=1).auc[0] > 0.87 > together + 0.2
    alone = shadow_attack(
        target[labels == 1], shadows[:, shadow_labels == 1], member[:, shadow_labels == 1]
    )
    np.testing.assert_allclose(scores[labels == 1], alone)


def test_refusals():
    target, _, shadows, member = _setting(examples=6)
    labels = np.array([0, 0, 0, 1, 1, 1])
    with pytest.raises(InputError, match="class 0 with 24 members and 0 non-members"):
        shadow_attack(target, shadows, np.ones_like(member))
    with pytest.raises(InputError, match="class 1 with 0 members and 12 non-members"):
        shadow_attack(target, shadows, member & (labels == 0), labels=labels)
    with pytest.raises(InputError, match=r"Membership of shape \(4, 5\) for shadows"):
        shadow_attack(target, shadows, member[:, 1:])
    with pytest.raises(InputError, match=r"Labels of shape \(5\) .* for 6 target examples"):
        shadow_attack(target, shadows, member, labels=labels[1:])
    with pytest.raises(InputError, match=r"Labels of shape \(6\) .* for 5 shadow examples"):
        shadow_attack(target, shadows[:, 1:], member[:, 1:], labels=labels)
    with pytest.raises(InputError, match=r"Features of shape .* of the target and"):
        shadow_attack(target[:, None], shadows, member)
    with pytest.raises(InputError, match=r"Features of the shadow models .* 24 of them not finite"):
        shadow_attack(target, np.full_like(shadows, np.nan), member)
