"""The loss attack: chance, certainty, the analytic accuracy of Gaussians, small and broken sets."""

import math

import numpy as np
import pytest

from dcmu_jax.errors import InputError
from dcmu_jax.metrics.membership import control_losses_for, loss_attack


def _normal(seed, mean, count):
    return np.random.default_rng(seed).normal(mean, 1, count).astype(np.float32)


def test_identical_distributions_are_at_chance():
    assert abs(loss_attack(_normal(0, 3, 2000), _normal(1, 3, 2000)) - 50) < 4


@pytest.mark.parametrize("forget_mean", [0, 60])
def test_separated_sets_are_told_apart_on_either_side(forget_mean):
    assert loss_attack(_normal(0, forget_mean, 300), _normal(1, 30, 300)) == 100


@pytest.mark.parametrize("distance", [1, 2, 3])
def test_two_gaussians_reach_the_analytic_accuracy(distance):
    best = 50 * (1 + math.erf(distance / 2 / math.sqrt(2)))
    assert abs(loss_attack(_normal(0, 4, 3000), _normal(1, 4 + distance, 3000)) - best) < 3


def test_unequal_sets_are_balanced():
    # Unbalanced, always answering "control" would score 95.
    assert abs(loss_attack(_normal(0, 3, 500), _normal(1, 3, 10_000)) - 50) < 8


def test_balancing_shuffles_before_it_cuts():
    control = np.sort(_normal(1, 3, 10_000))  # its head alone is separable from the forget set
    assert loss_attack(_normal(0, 3, 500), control) < 60


def test_same_seed_same_result_and_seeds_differ():
    sets = _normal(0, 3, 200), _normal(1, 3.5, 400)
    assert loss_attack(*sets, seed=3) == loss_attack(*sets, seed=3)
    assert len({loss_attack(*sets, seed=seed) for seed in range(5)}) > 1


@pytest.mark.parametrize("size", [2, 3, 5, 19])
def test_small_sets_work(size):
    assert loss_attack(_normal(0, 0, size), _normal(1, 50, size)) == 100


def test_infinite_and_huge_losses_count_as_large():
    forget = _normal(0, 3, 200).clip(0)
    control = np.full(200, np.inf, np.float32)
    control[::2] = 1e30
    assert loss_attack(forget, control) == 100


@pytest.mark.parametrize(
    ("forget", "control", "says"),
    [
        ([1.0], [1.0, 2.0], "at least 2 of each"),
        ([1.0, 2.0], [], "0 control samples"),
        ([1.0, math.nan, 2.0], [1.0, 2.0], r"forgotten samples of shape \(3,\), 1 of them NaN"),
        ([1.0, 2.0], [math.nan, 2.0], r"control samples of shape \(2,\), 1 of them NaN"),
        ([1.0, -math.inf], [1.0, 2.0], "forgotten samples, 1 of 2 of them -inf"),
        ([1.0, 2.0], [-math.inf, -math.inf], "control samples, 2 of 2 of them -inf"),
    ],
)
def test_refused_sets(forget, control, says):
    with pytest.raises(InputError, match=says):
        loss_attack(np.array(forget, np.float32), np.array(control, np.float32))


@pytest.mark.parametrize(("size", "scored"), [(10, 2), (11, 3), (20, 4), (21, 5), (45, 9)])
def test_chance_is_half_a_sample_below_50_where_the_scored_ones_are_odd(size, scored):
    same = np.full(size, 0.5)
    assert loss_attack(same, same) == pytest.approx(50 - 50 / scored * (scored % 2))


def test_no_splits_is_refused():
    with pytest.raises(InputError, match="splits = 0"):
        loss_attack(_normal(0, 0, 9), _normal(1, 0, 9), splits=0)


def test_control_of_all_and_of_the_same_class():
    losses, labels = np.arange(6, dtype=np.float32), np.array([0, 1, 2, 0, 1, 2])
    forgotten = np.array([2, 2])
    assert control_losses_for("all", losses, labels, forgotten).tolist() == [0, 1, 2, 3, 4, 5]
    assert control_losses_for("same_class", losses, labels, forgotten).tolist() == [2, 5]
    everywhere = control_losses_for("same_class", losses, labels, np.array([2, 0, 1]))
    assert everywhere.tolist() == losses.tolist()


def test_control_refusals():
    losses, labels = np.ones(2, np.float32), np.array([0, 1])
    with pytest.raises(InputError, match=r"forgotten class\(es\) \[7\]"):
        control_losses_for("same_class", losses, labels, np.array([7]))
