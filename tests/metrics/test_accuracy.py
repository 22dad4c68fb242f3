"""Accuracies by hand, remembrance samples left out everywhere, and the whole row."""

import math

import numpy as np
import pytest

from dcmu_jax.errors import InputError
from dcmu_jax.metrics.accuracy import Evaluation, accuracies, measure

YES, NO = True, False


def test_accuracies_by_hand():
    found = accuracies(
        np.array([YES, YES, NO, YES, NO]),
        np.array([YES, NO, NO, YES]),
        np.array([NO, NO, NO, YES, YES]),
        np.array([YES, YES, NO, NO]),
    )
    assert found.retain == pytest.approx(200 / 3)
    assert (found.forget, found.train, found.test) == (50, 60, 50)


@pytest.mark.parametrize(
    ("forget", "usable", "says"),
    [
        (
            np.zeros(3, bool),
            np.ones(4, bool),
            r"forget mask of shape \(3,\) for training samples of shape \(4,\)",
        ),
        (np.array([YES, NO, NO, NO]), np.ones(5, bool), r"usable mask of shape \(5,\)"),
        (np.zeros(4, bool), np.ones(4, bool), "empty forget set"),
        (np.ones(4, bool), np.ones(4, bool), "empty retain set"),
        (np.array([YES, NO, NO, NO]), np.zeros(4, bool), "empty test set"),
    ],
)
def test_refusals(forget, usable, says):
    with pytest.raises(InputError, match=says):
        accuracies(np.ones(4, bool), np.ones(4, bool), forget, usable)


def _case(count=60, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int32) % 3
    evaluations = [
        Evaluation(rng.exponential(size=count).astype(np.float32), rng.random(count) < 0.5)
        for _ in range(2)
    ]
    return {
        "train": evaluations[0],
        "test": evaluations[1],
        "train_labels": labels,
        "test_labels": labels,
        "forget": np.arange(count) < count // 3,
        "usable": np.arange(count) >= 6,
        "unlearning_metric": 12.5,
    }


def test_row_carries_what_it_was_given():
    case = _case()
    row = measure("mine", **case, reduction=0.5, online_s=1.0, offline_s=2.0, compile_s=3.0)
    assert (row.method, row.unlearning_metric, row.gap) == ("mine", 12.5, None)
    assert (row.reduction, row.online_s, row.offline_s, row.compile_s) == (0.5, 1, 2, 3)
    assert row.forget_accuracy == 100 * case["train"].correct[:20].mean()


@pytest.mark.parametrize("control", ["all", "same_class"])
def test_unusable_test_samples_enter_nothing(control):
    case = _case()
    before = measure("m", **case, control=control)
    hidden = ~case["usable"]
    case["test"] = Evaluation(
        np.where(hidden, np.float32(99), case["test"].losses), case["test"].correct ^ hidden
    )
    assert measure("m", **case, control=control) == before
    case["usable"] = np.ones_like(hidden)
    assert measure("m", **case, control=control) != before


def test_same_class_control_compares_like_with_like():
    # A forgotten class whose losses are large, on training and test images alike: the control of
    # all classes tells the class, the one of the same class finds nothing.
    rng = np.random.default_rng(0)
    labels = np.arange(900, dtype=np.int32) % 3
    losses = [(rng.exponential(size=900) + 20 * (labels == 2)).astype(np.float32) for _ in range(2)]
    case = _case(900) | {
        "train": Evaluation(losses[0], labels != 2),
        "test": Evaluation(losses[1], labels != 2),
        "forget": labels == 2,
    }
    assert measure("m", **case, control="all").mia > 75
    assert abs(measure("m", **case, control="same_class").mia - 50) < 8


def test_diverged_model_spoils_its_own_row_only():
    case = _case()
    case["train"] = Evaluation(np.full(60, np.nan, np.float32), np.zeros(60, bool))
    row = measure("diverged", **case)
    assert math.isnan(row.mia) and row.retain_accuracy == 0
