"""Influence unlearning on convex problems, where retraining has one answer."""

import numpy as np
import pytest
from baselines.convex import TRAIN, columns, linear_task, matrix_of, one_hot, request
from toys import Noisy, fresh, same_bits

from dcmu_jax.baselines.newton import InfluenceUnlearning
from dcmu_jax.errors import InputError
from dcmu_jax.unlearning.task import Hooks

RIDGE = 5.0
EXACT = {"iterations": 500, "tolerance": 1e-6, "batch_size": 16}


def logistic(x, dataset):
    """Argmin of the summed cross-entropy + RIDGE / 2 |W|^2, by Newton's method in float64."""
    y = one_hot(dataset)
    matrix = np.zeros((x.shape[1], y.shape[1]))
    for _ in range(15):
        logits = x @ matrix
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        gradient = (x.T @ (p - y) + RIDGE * matrix).reshape(-1)
        bend = p[:, :, None] * np.eye(y.shape[1]) - p[:, :, None] * p[:, None, :]
        hessian = np.einsum("ni,nkl,nj->ikjl", x, bend, x, optimize=True).reshape(len(gradient), -1)
        hessian += RIDGE * np.eye(len(gradient))
        matrix = matrix - np.linalg.solve(hessian, gradient).reshape(matrix.shape)
    assert np.abs(gradient).max() < 1e-9
    return matrix


@pytest.mark.parametrize(
    ("forget", "factor"), [(slice(3, 4), 100), (slice(None, None, 10), 20), (slice(0, 60, 4), 5)]
)
def test_it_comes_near_retraining_on_a_convex_problem(forget, factor):
    task = linear_task(logistic, TRAIN.ids[forget])
    retain = task.retain()
    retrained = logistic(columns(task.original, retain), retain)
    away = np.linalg.norm(matrix_of(task.original) - retrained)
    method = InfluenceUnlearning(damping=RIDGE / len(retain), **EXACT)
    near = matrix_of(method(task, Hooks()).classifier)
    assert np.linalg.norm(near - retrained) < away / factor
    # The step is alpha times as long.
    half = InfluenceUnlearning(alpha=0.5, damping=RIDGE / len(retain), **EXACT)
    middle = (near + matrix_of(task.original)) / 2
    np.testing.assert_allclose(matrix_of(half(task, Hooks()).classifier), middle, atol=1e-5)


def test_a_sample_of_the_retain_set_stands_for_it():
    task = linear_task(logistic, TRAIN.ids[::10])
    method = InfluenceUnlearning(damping=RIDGE / 54, samples=40, **EXACT)
    result = method(task, Hooks())
    assert len(result.trained_ids) == 46
    assert np.isin(task.forget_ids, result.trained_ids).all()
    retain = task.retain()
    retrained = logistic(columns(task.original, retain), retain)
    away = np.linalg.norm(matrix_of(task.original) - retrained)
    assert np.linalg.norm(matrix_of(result.classifier) - retrained) < away / 2


def test_statistics_stay_and_operations_follow_the_iterations():
    task = request(fresh(Noisy(), TRAIN), TRAIN.ids[:20])
    two, four, six = (
        InfluenceUnlearning(iterations=n, tolerance=0.0)(task, Hooks()) for n in (2, 4, 6)
    )
    stats = six.classifier.variables["batch_stats"]
    assert same_bits(stats, task.original.variables["batch_stats"])
    assert not six.solved and 0 < six.residual < two.residual
    assert six.flops - four.flops == pytest.approx(four.flops - two.flops)
    assert four.flops > two.flops > 0
    np.testing.assert_array_equal(np.sort(six.trained_ids), np.sort(TRAIN.ids))


@pytest.mark.parametrize(
    "setting",
    [{"alpha": 0.0}, {"damping": 0.0}, {"samples": 0}, {"iterations": 0}, {"batch_size": 0}],
)
def test_bad_settings_are_refused(setting):
    task = request(fresh(Noisy(), TRAIN), TRAIN.ids[:5])
    with pytest.raises(InputError, match=next(iter(setting))):
        InfluenceUnlearning(**setting)(task, Hooks())
