"""NTK scrubbing: exact where the network is linear, two dense systems elsewhere."""

import numpy as np
import pytest
from baselines.convex import TRAIN, columns, dense, flat, linear_task, matrix_of, one_hot, request
from toys import Noisy, Plain, fresh, same_bits

from dcmu_jax.baselines.newton import NtkScrubbing
from dcmu_jax.errors import InputError
from dcmu_jax.unlearning.task import Hooks

DAMPING = 0.1
EXACT = {"damping": DAMPING, "iterations": 300, "tolerance": 1e-5, "batch_size": 25}


def ridge(x, dataset, target=1.0):
    """Argmin of the mean of half the squared errors + DAMPING / 2 |W|^2, in closed form."""
    gram = x.T @ x / len(x) + DAMPING * np.eye(x.shape[1])
    return np.linalg.solve(gram, x.T @ (target * one_hot(dataset)) / len(x))


@pytest.mark.parametrize("forget", ["some", "class"])
def test_it_is_ridge_retraining_where_the_network_is_linear(forget):
    ids = TRAIN.ids[::7] if forget == "some" else TRAIN.ids[TRAIN.labels == 2]
    task = linear_task(lambda x, d: ridge(x, d, 2.0), ids)
    result = NtkScrubbing(target=2.0, **EXACT)(task, Hooks())
    retrained = ridge(columns(task.original, task.retain()), task.retain(), 2.0)
    away = np.linalg.norm(matrix_of(task.original) - retrained)
    left = np.linalg.norm(matrix_of(result.classifier) - retrained)
    assert away > 0.01
    assert left < 1e-3 * away


@pytest.mark.parametrize(
    ("model", "loss", "anchor", "samples"),
    [
        (Plain(width=3), "squared", "zero", 25),
        (Plain(width=3), "squared", "original", None),
        (Plain(width=3), "cross_entropy", "zero", None),
        (Noisy(), "cross_entropy", "original", 25),
    ],
)
def test_elsewhere_it_is_the_difference_of_two_linear_fits(model, loss, anchor, samples):
    network = fresh(model, TRAIN)
    task = request(network, TRAIN.ids[::6])
    method = NtkScrubbing(loss=loss, anchor=anchor, scale=0.5, samples=samples, **EXACT)
    result = method(task, Hooks())
    theta = flat(network.variables["params"])
    pull = DAMPING * theta * (anchor == "zero")
    seen = TRAIN.take(TRAIN.positions(result.trained_ids))
    stays = ~np.isin(seen.ids, task.forget_ids)
    assert stays.sum() == (samples or 50)
    shares = np.where(stays, 50 / 60 / stays.sum(), 1 / 60)
    fits = []
    for dataset, weights in ((seen.take(stays), None), (seen, shares)):
        gradient, matrix = dense(network, dataset, loss, weights)
        fits.append(np.linalg.solve(matrix + DAMPING * np.eye(len(theta)), -gradient - pull))
    wanted = 0.5 * (fits[0] - fits[1])
    found = flat(result.classifier.variables["params"]) - theta
    assert np.linalg.norm(found - wanted) < 5e-3 * np.linalg.norm(wanted)
    assert result.solved and 0 < result.residual < 5e-3
    stats = result.classifier.variables["batch_stats"]
    assert same_bits(stats, network.variables["batch_stats"])


def step_and_truth(network, damping, target, **settings):
    """The step that the method takes, the dense one, what is left, and the result."""
    task = request(network, TRAIN.ids[::6])
    result = NtkScrubbing(damping=damping, target=target, **settings)(task, Hooks())
    theta = flat(network.variables["params"])
    fits = []
    for dataset in (TRAIN, task.retain()):
        gradient, matrix = dense(network, dataset, "squared", target=target)
        matrix += damping * np.eye(len(theta))
        fits.append(np.linalg.solve(matrix, -gradient - damping * theta))
    found, wanted = flat(result.classifier.variables["params"]) - theta, fits[1] - fits[0]
    right = matrix @ wanted  # of the retain set, the last
    left = np.linalg.norm(matrix @ found - right) / np.linalg.norm(right)
    return found, wanted, left, result


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


@pytest.mark.parametrize("damping", [1e-2, 1.0])
def test_the_step_is_the_dense_one_at_the_default_tolerance(damping):
    """With targets as large as the logits of a trained network, and little damping."""
    network = fresh(Plain(width=4), TRAIN)
    found, wanted, _, result = step_and_truth(network, damping, 10.0, iterations=1000)
    assert cosine(found, wanted) > 0.999
    assert result.solved and result.residual <= NtkScrubbing().step_tolerance


@pytest.mark.parametrize("tolerance", [1e-2, 1e-3])
@pytest.mark.parametrize("damping", [1e-2, 1.0, 100.0])
@pytest.mark.parametrize("model", [Plain(width=4), Noisy()], ids=["plain", "noisy"])
def test_the_residual_told_is_that_of_the_step(model, damping, tolerance):
    """Which the error of the first system makes larger than that of either system."""
    network = fresh(model, TRAIN)
    *_, left, result = step_and_truth(network, damping, 1.0, iterations=1000, tolerance=tolerance)
    assert result.residual >= 0.95 * left
    assert result.residual <= max(1.05 * left, tolerance)  # no less than each system's own
    assert result.solved == (result.residual <= NtkScrubbing().step_tolerance)


def test_a_step_that_is_off_is_marked_though_each_system_was_solved():
    network = fresh(Plain(width=4), TRAIN)
    *_, left, result = step_and_truth(network, 1e-2, 1.0, iterations=1000, tolerance=1e-2)
    assert left > 0.1 and not result.solved and result.residual > 0.1
    *_, left, result = step_and_truth(network, 1e-2, 1.0, iterations=1000, tolerance=1e-4)
    assert left < 0.01 and result.solved  # as the docstring has it: lower the tolerance


def test_a_step_that_was_not_reached_is_told():
    network = fresh(Plain(width=4), TRAIN)
    found, wanted, left, result = step_and_truth(network, 1e-2, 10.0, iterations=3)
    assert cosine(found, wanted) < 0.999
    assert not result.solved and result.residual > 0.5 * left


def test_operations_follow_the_iterations():
    task = linear_task(ridge, TRAIN.ids[:20])
    two, four, six = (
        NtkScrubbing(damping=0.01, iterations=n, tolerance=0.0)(task, Hooks()) for n in (2, 4, 6)
    )
    assert six.flops - four.flops == pytest.approx(four.flops - two.flops)
    assert four.flops > two.flops > 0
    np.testing.assert_array_equal(np.sort(six.trained_ids), np.sort(TRAIN.ids))


@pytest.mark.parametrize(
    "setting",
    [
        {"loss": "hinge"},
        {"anchor": "nowhere"},
        {"damping": 0.0},
        {"target": 0.0},
        {"scale": 0.0},
        {"samples": 0},
        {"iterations": 0},
        {"batch_size": 0},
    ],
)
def test_bad_settings_are_refused(setting):
    task = request(fresh(Plain(), TRAIN), TRAIN.ids[:5])
    method = NtkScrubbing(**EXACT)
    for name, value in setting.items():
        object.__setattr__(method, name, value)  # past the annotations, as from a file
    with pytest.raises(InputError, match=next(iter(setting))):
        method(task, Hooks())
