"""Gap and tug of war by hand; the reference must be there, once."""

import numpy as np
import pytest

from dcmu_jax.errors import InputError
from dcmu_jax.metrics.measurement import Measurement
from dcmu_jax.metrics.scores import (
    gap,
    nomus,
    tug_of_war,
    with_scores,
    zero_retrain_forgetting,
)


def _row(method, retain, forget, test, mia):
    return Measurement(
        method=method,
        retain_accuracy=retain,
        forget_accuracy=forget,
        train_accuracy=12.0,  # enters neither score
        test_accuracy=test,
        mia=mia,
        unlearning_metric=34.0,
    )


RETRAIN = _row("retrain", 98.0, 80.0, 75.0, 50.0)
OTHER = _row("other", 93.0, 90.0, 70.0, 58.0)


def test_gap_by_hand():
    assert gap(OTHER, RETRAIN) == pytest.approx((5 + 10 + 5 + 8) / 4)
    assert gap(RETRAIN, OTHER) == gap(OTHER, RETRAIN)


def test_tug_of_war_by_hand():
    assert tug_of_war(OTHER, RETRAIN) == pytest.approx(0.95 * 0.90 * 0.95)
    assert tug_of_war(_row("kept", 98.0, 100.0, 75.0, 0.0), _row("r", 98.0, 0.0, 75.0, 0.0)) == 0


def test_with_scores_fills_in_order_and_keeps_the_rest():
    scored = with_scores([OTHER, RETRAIN])
    assert [m.method for m in scored] == ["other", "retrain"]
    assert scored[0].gap == pytest.approx(7)
    assert (scored[1].gap, scored[1].tug_of_war) == (0, 1)
    assert scored[0].mia == OTHER.mia and OTHER.gap is None
    assert with_scores([OTHER, RETRAIN], reference="other")[1].gap == pytest.approx(7)


def test_reference_missing_or_twice():
    with pytest.raises(InputError, match="Unknown reference method 'retrain'"):
        with_scores([OTHER])
    with pytest.raises(InputError, match="2 measurements of the reference 'retrain'"):
        with_scores([OTHER, RETRAIN, RETRAIN])


def test_nomus_as_published():
    # Choi & Na (2023): .595 and MIA .2136 away from a half before; .488 and .0445 retrained.
    assert nomus(59.5, 71.36) == pytest.approx(0.584, abs=0.0005)
    assert nomus(48.8, 54.45) == pytest.approx(0.6995, abs=0.0005)
    assert nomus(100.0, 50.0) == 1


@pytest.mark.parametrize("given", [(101.0, 50.0), (50.0, -1.0), (float("nan"), 50.0)])
def test_nomus_takes_percentages(given):
    with pytest.raises(InputError, match="a percentage"):
        nomus(*given)


def test_zero_retrain_forgetting_between_its_ends():
    logits = np.array([[0.0, 0.0], [1.0, -1.0]], np.float32)
    assert zero_retrain_forgetting(logits, logits) == pytest.approx(1)
    certain = np.array([[200.0, 0.0]], np.float32)
    assert zero_retrain_forgetting(certain, -certain) == pytest.approx(0)
    # By hand: (1, 0) against (1/2, 1/2), mean (3/4, 1/4).
    expected = 1 - 0.5 * (np.log2(4 / 3) + 0.5 * np.log2(2 / 3) + 0.5 * np.log2(2))
    assert zero_retrain_forgetting(certain, logits[:1]) == pytest.approx(expected)


def test_zero_retrain_forgetting_in_the_published_normalisation():
    # Two samples of two classes: (3/4, 1/4) and (1/2, 1/2), each against (1/4, 3/4).
    ours = np.log(np.array([[0.75, 0.25], [0.5, 0.5]]))
    theirs = np.log(np.array([[0.25, 0.75], [0.25, 0.75]]))
    # KL of (3/4, 1/4) and (1/4, 3/4) from their mean (1/2, 1/2), both alike.
    first = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    # KL of (1/2, 1/2) and (1/4, 3/4) from their mean (3/8, 5/8).
    second = 0.5 * (0.5 * np.log(4 / 3) + 0.5 * np.log(0.8))
    second += 0.5 * (0.25 * np.log(2 / 3) + 0.75 * np.log(1.2))
    nats = 1 - (first + second) / 2
    assert zero_retrain_forgetting(ours, theirs, unit="nats") == pytest.approx(nats)
    bits = 1 - (first + second) / (2 * np.log(2))
    assert zero_retrain_forgetting(ours, theirs) == pytest.approx(bits)
    # The authors' code: KL of the mean from each of the two, over samples and classes.
    first = 0.5 * np.log(2) + 0.5 * np.log(2 / 3)
    second = 0.5 * (3 / 8 * np.log(3 / 4) + 5 / 8 * np.log(5 / 4))
    second += 0.5 * (3 / 8 * np.log(3 / 2) + 5 / 8 * np.log(5 / 6))
    authors = zero_retrain_forgetting(ours, theirs, unit="authors")
    assert authors == pytest.approx(1 - (first + second) / (2 * 2))
    assert authors > nats > bits
    # A probability of 0 in float32 leaves it finite.
    sure = np.array([[200.0, 0.0]], np.float32)
    half = np.zeros((1, 2), np.float32)
    # (3/4, 1/4) from (1, exp(-200)) and from (1/2, 1/2).
    both = 0.75 * np.log(0.75) + 0.25 * (np.log(0.25) + 200)
    both += 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    expected = 1 - both / (2 * 2)
    assert zero_retrain_forgetting(sure, half, unit="authors") == pytest.approx(expected)
    with pytest.raises(InputError, match="Unknown unit of ZRF 'dits'"):
        zero_retrain_forgetting(half, half, unit="dits")
