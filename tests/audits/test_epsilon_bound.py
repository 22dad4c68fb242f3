"""The bound on epsilon: a known epsilon, our own ROC beside jax_privacy's, and refusals."""

import inspect
import math
import sys

import numpy as np
import pytest

from dcmu_jax.audits.epsilon_bound import epsilon_lower_bound, epsilon_of_one_run
from dcmu_jax.audits.roc import separation
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


def _canaries(right, guesses, count):
    """A run whose attack is right about so many of its guesses, and is undecided of the rest."""
    member = np.arange(count) % 2 == 0
    scores = np.zeros(count)
    said = np.arange(guesses) % 2 == 0
    said[right:] = ~said[right:]
    # As many of either kind are called members: wrong guesses come in pairs.
    assert said.sum() == guesses // 2
    scores[:guesses] = np.where(said, 1.0, -1.0)
    return scores, member


@pytest.mark.parametrize(("right", "guesses"), [(100, 100), (90, 100), (20, 20)])
def test_one_run_against_the_tail_of_the_binomial(right, guesses):
    """Without delta the bound is where the binomial's tail is 5 %: summed here term by term."""
    found = epsilon_of_one_run(*_canaries(right, guesses, 300), guesses=guesses)
    rate = 1 / (1 + math.exp(-found))
    tail = sum(
        math.comb(guesses, k) * rate**k * (1 - rate) ** (guesses - k)
        for k in range(right, guesses + 1)
    )
    assert tail == pytest.approx(0.05, rel=1e-6)


def test_one_run_of_what_is_known():
    all_right = _canaries(100, 100, 100)
    rate = 0.05 ** (1 / 100)
    assert epsilon_of_one_run(*all_right, guesses=100) == pytest.approx(
        math.log(rate / (1 - rate)), rel=1e-6
    )
    assert epsilon_of_one_run(*_canaries(50, 100, 300), guesses=100) == 0.0
    # delta explains a part: less epsilon is proved, and none by a delta that explains all.
    some = epsilon_of_one_run(*all_right, guesses=100, delta=1e-5)
    assert 0 < some < epsilon_of_one_run(*all_right, guesses=100)
    assert epsilon_of_one_run(*all_right, guesses=100, delta=0.5) == 0.0


@pytest.mark.parametrize(("right", "guesses", "delta"), [(100, 100, 1e-5), (90, 100, 1e-4)])
def test_one_run_with_delta_against_the_theorem(right, guesses, delta):
    """Both terms of theorem 5.2 sum to 5 % at the bound, counted here term by term."""
    canaries = 300
    found = epsilon_of_one_run(*_canaries(right, guesses, canaries), guesses=guesses, delta=delta)
    rate = 1 / (1 + math.exp(-found))
    of = [math.comb(guesses, k) * rate**k * (1 - rate) ** (guesses - k) for k in range(guesses + 1)]
    slack = max(sum(of[right - i : right]) / i for i in range(1, right + 1))
    assert sum(of[right:]) + 2 * canaries * delta * slack == pytest.approx(0.05, rel=1e-6)


def test_one_run_holds_for_randomised_response():
    """Private with epsilon = 1.5 exactly: the bound may exceed it once in twenty runs."""
    bounds = []
    for seed in range(100):
        scores, member = _answers(1.5, 2000, seed)
        bounds.append(epsilon_of_one_run(scores, member, guesses=1000))
    assert np.mean(np.array(bounds) > 1.5) <= 0.1
    assert np.mean(bounds) > 1.2


@pytest.mark.parametrize("guesses", [2, 20, 100, 200])
def test_equal_scores_prove_nothing_in_any_order(guesses):
    for member in (np.arange(200) >= 100, np.arange(200) < 100, np.arange(200) % 2 == 0):
        assert epsilon_of_one_run(np.zeros(200), member, guesses=guesses) == 0.0


def test_the_order_of_equal_scores_does_not_count():
    scores = np.repeat([0.0, 1.0], 100)  # of either value half are members, and come last
    member = np.arange(200) % 100 >= 50
    assert [epsilon_of_one_run(scores, member, guesses=g) for g in (20, 40, 80)] == [0.0] * 3
    # "member" of the eight above the rest, and nothing of those whose score would be called both.
    above = np.where(np.arange(200) < 8, 1.0, 0.0)
    all_right = epsilon_of_one_run(*_canaries(8, 8, 8), guesses=8)
    assert epsilon_of_one_run(above, above > 0, guesses=100) == all_right > 0


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
    with pytest.raises(InputError, match="guesses = 3 of 20"):
        epsilon_of_one_run(scores, member, guesses=3)
    with pytest.raises(InputError, match="guesses = 22 of 20"):
        epsilon_of_one_run(scores, member, guesses=22)
    with pytest.raises(InputError, match=r"Scores \(2, 10\) of one network"):
        epsilon_of_one_run(scores.reshape(2, 10), member.reshape(2, 10), guesses=2)


@pytest.mark.parametrize("setting", [{"guesses": 10.0}, {"guesses": "4"}, {"guesses": None}])
def test_guesses_of_another_type_are_refused(setting):
    unchecked = inspect.unwrap(epsilon_of_one_run)  # by the annotations that only tests check
    with pytest.raises(InputError, match=f"guesses = {setting['guesses']!r} of 20"):
        unchecked(*_answers(1.0, 20), **setting)
    with pytest.raises(InputError, match="confidence = 'x'"):
        unchecked(*_answers(1.0, 20), guesses=4, confidence="x")
