"""Gap and tug of war by hand; the reference must be there, once."""

import pytest

from dcmu_jax.errors import InputError
from dcmu_jax.metrics.measurement import Measurement
from dcmu_jax.metrics.scores import gap, tug_of_war, with_scores


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
