"""Label-only attacks by hand and on simulated answers."""

import numpy as np
import pytest

from dcmu_jax.audits.label_only import gap_attack_scores, label_only_scores
from dcmu_jax.audits.roc import separation
from dcmu_jax.errors import InputError


def test_scores_by_hand():
    correct = np.array([[True, False, False, True], [False, True, True, True]])
    assert label_only_scores(correct).tolist() == [0.5, 0.75]
    assert gap_attack_scores(correct).tolist() == [1.0, 0.0]
    assert gap_attack_scores(correct[:, 0]).tolist() == [1.0, 0.0]


def test_gap_attack_has_half_the_gap_for_its_advantage():
    correct = np.arange(200) % 100 < np.repeat([90, 70], 100)  # right on 90 % and on 70 %
    member = np.repeat([True, False], 100)
    found = separation(gap_attack_scores(correct), member, resamples=1)
    assert found.balanced_accuracy[0] == pytest.approx(0.6)


def test_more_transformations_tell_more():
    rng = np.random.default_rng(0)
    member = np.repeat([True, False], 2000)
    rate = np.where(member, 0.9, 0.7)
    correct = rng.random((4000, 16)) < rate[:, None]
    many = separation(label_only_scores(correct), member, resamples=1).auc[0]
    one = separation(gap_attack_scores(correct), member, resamples=1).auc[0]
    assert many > one + 0.2


@pytest.mark.parametrize("attack", [label_only_scores, gap_attack_scores])
@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_nothing_is_refused(attack, shape):
    with pytest.raises(InputError, match=r"A label-only attack on answers of shape"):
        attack(np.zeros(shape, bool))


def test_a_third_axis_is_refused():
    with pytest.raises(InputError, match=r"answers of shape \(2, 2, 2\)"):
        gap_attack_scores(np.zeros((2, 2, 2), bool))
