"""The bound on epsilon: a known epsilon, our own ROC beside jax_privacy's, and refusals."""

import sys

import numpy as np
import pytest

from dcmu_jax.attacks.epsilon_bound import epsilon_lower_bound
from dcmu_jax.attacks.roc import separation
from dcmu_jax.errors import InputError


@pytest.fixture
def auditing():
    return pytest.importorskip("jax_privacy.auditing", reason="needs the extra 'audit'")


def _answers(epsilon, count, seed=0):
    """Randomised response: the truth with odds exp(epsilon), which is epsilon-private exactly."""
    member = np.arange(count) % 2 == 0
    honest = np.random.default_rng(seed).random(count) < 1 / (1 + np.exp(-epsilon))
    return np.where(honest, member, ~member).astype(float), member


@pytest.mark.filterwarnings("ignore")
def test_it_stays_below_an_epsilon_that_is_known_and_comes_near(auditing):
    few, many = (epsilon_lower_bound(*_answers(1.5, count)) for count in (200, 20_000))
    assert 0 < few < many <= 1.5 and many > 1.4
    assert epsilon_lower_bound(*_answers(1.5, 200), confidence=0.6) > few
    assert epsilon_lower_bound(*_answers(1.5, 200), delta=0.3) < few
    assert epsilon_lower_bound(*_answers(0.0, 2000)) < 0.1


@pytest.mark.filterwarnings("ignore")
def test_its_roc_is_ours(auditing):
    rng = np.random.default_rng(0)
    member = np.arange(4000) % 2 == 0
    scores = rng.normal(size=4000) + 1.5 * member
    theirs = auditing.CanaryScoreAuditor(scores[member], scores[~member])
    ours = separation(scores, member, resamples=1)
    # Theirs may mix two thresholds at random, which gives a little more.
    assert 0 <= theirs.attack_auroc() - ours.auc[0] < 0.005
    for fpr, rate in ((0.01, ours.tpr_at_1_percent), (0.001, ours.tpr_at_01_percent)):
        assert 0 <= theirs.tpr_at_given_fpr(fpr) - rate[0] < 0.02


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax_privacy.auditing", None)
    with pytest.raises(InputError, match=r"without jax_privacy.*Install dcmu_jax\[audit\]"):
        epsilon_lower_bound(*_answers(1.0, 20))


def test_refusals():
    scores, member = _answers(1.0, 20)
    with pytest.raises(InputError, match=r"An epsilon of scores \(20,\), 0 of them members'"):
        epsilon_lower_bound(scores, np.zeros(20, bool))
    with pytest.raises(InputError, match="An epsilon of scores"):
        epsilon_lower_bound(scores.reshape(2, 10), member.reshape(2, 10))
    with pytest.raises(InputError, match="Scores of shape"):
        epsilon_lower_bound(np.full(20, np.nan), member)
    with pytest.raises(InputError, match=r"confidence = 0\.4"):
        epsilon_lower_bound(scores, member, confidence=0.4)
    with pytest.raises(InputError, match="delta = 2"):
        epsilon_lower_bound(scores, member, delta=2.0)
