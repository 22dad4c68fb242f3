"""Matrix-free products and systems against dense matrices."""

import jax
import jax.flatten_util
import numpy as np
import pytest
from baselines.convex import TRAIN, Linear, dense, flat
from toys import TRACES, Noisy, Plain, fresh

from dcmu_jax.baselines.curvature import Curvature
from dcmu_jax.errors import InputError
from dcmu_jax.networks.partition import apply_parts
from dcmu_jax.training.derivatives import conjugate_gradients
from dcmu_jax.training.examples import cross_entropy
from dcmu_jax.training.flops import tally

SOME = TRAIN.take(np.arange(0, 60, 6))
LOSSES = ("squared", "cross_entropy")
nets = pytest.mark.parametrize("model", [Plain(width=4), Noisy()], ids=["plain", "noisy"])


def random_like(classifier, seed=0):
    theta, unravel = jax.flatten_util.ravel_pytree(classifier.variables["params"])
    return unravel(jax.random.normal(jax.random.key(seed), theta.shape))


@nets
@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_and_product_are_those_of_the_dense_matrix(model, loss):
    classifier = fresh(model, TRAIN)
    weights = np.random.default_rng(0).random(len(SOME)).astype(np.float32)
    curvature = Curvature.of(classifier, SOME, loss, target=2.0, weights=weights, batch_size=4)
    gradient, matrix = dense(classifier, SOME, loss, weights, 2.0)
    vector = random_like(classifier)
    product = matrix @ flat(vector) + 0.3 * flat(vector)
    for found, wanted in (
        (curvature.gradient(), gradient),
        (curvature.product(vector, 0.3), product),
    ):
        np.testing.assert_allclose(flat(found), wanted, rtol=1e-3, atol=1e-4 * abs(wanted).max())


def test_weights_are_those_of_a_mean_unless_given():
    classifier = fresh(Linear(), TRAIN)
    gradient, _ = dense(classifier, SOME, "cross_entropy")
    for size in (4, 256):
        found = Curvature.of(classifier, SOME, "cross_entropy", batch_size=size).gradient()
        np.testing.assert_allclose(flat(found), gradient, atol=1e-5)


def test_where_the_logits_are_linear_it_is_the_hessian():
    classifier = fresh(Linear(), TRAIN)
    theta, unravel = jax.flatten_util.ravel_pytree(classifier.variables["params"])

    def loss(theta):
        x = classifier.normalisation.apply(SOME.images)
        logits, _ = apply_parts(classifier.model, {"params": unravel(theta)}, x)
        return cross_entropy(logits, jax.numpy.asarray(SOME.labels)).mean()

    vector = random_like(classifier)
    wanted = jax.jvp(jax.grad(loss), (theta,), (jax.flatten_util.ravel_pytree(vector)[0],))[1]
    found = Curvature.of(classifier, SOME, "cross_entropy").product(vector)
    np.testing.assert_allclose(flat(found), wanted, rtol=1e-3, atol=1e-4 * abs(wanted).max())


@pytest.mark.parametrize("loss", LOSSES)
def test_conjugate_gradients_solve_the_system(loss):
    classifier = fresh(Noisy(), TRAIN)
    curvature = Curvature.of(classifier, SOME, loss, batch_size=4)
    _, matrix = dense(classifier, SOME, loss)
    right = random_like(classifier)
    damping = float(np.linalg.eigvalsh(matrix).max() / 50)
    solution = curvature.solve(right, damping=damping, iterations=300, tolerance=1e-5)
    wanted = np.linalg.solve(matrix + damping * np.eye(len(matrix)), flat(right))
    error = np.linalg.norm(flat(solution.vector) - wanted) / np.linalg.norm(wanted)
    assert error < 1e-3
    assert float(solution.residual) <= 1e-5
    # With a condition number of 51 at most, by Chebyshev's bound; descent alone needs hundreds.
    assert 1 < int(solution.iterations) < 50


def test_iterations_end_at_the_limit_and_at_the_tolerance():
    classifier = fresh(Linear(), TRAIN)
    curvature = Curvature.of(classifier, TRAIN, "cross_entropy")
    right = random_like(classifier)
    three = curvature.solve(right, damping=1e-3, iterations=3, tolerance=0.0)
    assert int(three.iterations) == 3
    rough, fine = (
        curvature.solve(right, damping=1e-3, iterations=200, tolerance=t) for t in (0.1, 1e-3)
    )
    assert 0 < int(rough.iterations) < int(fine.iterations) < 200
    left = flat(curvature.product(rough.vector, 1e-3)) - flat(right)
    np.testing.assert_allclose(
        np.linalg.norm(left) / np.linalg.norm(flat(right)), rough.residual, rtol=1e-2
    )


def test_the_residual_told_is_the_true_one_where_rounding_keeps_it_up():
    """The iterations' own one falls on, to below the tolerance."""
    diagonal = np.geomspace(1e-3, 1e4, 40).astype(np.float32)
    right = np.random.default_rng(0).normal(size=40).astype(np.float32)
    found = jax.jit(lambda b: conjugate_gradients(lambda x: diagonal * x, b, 10_000, 1e-6))(right)
    left = right - diagonal.astype(np.float64) * np.asarray(found.vector, np.float64)
    true = np.linalg.norm(left) / np.linalg.norm(right)
    assert int(found.iterations) < 10_000 and true > 5e-6
    np.testing.assert_allclose(found.residual, true, rtol=0.1)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-8])
def test_the_residual_told_is_known_as_well_as_is_said(tolerance):
    classifier = fresh(Plain(width=4), TRAIN)
    curvature = Curvature.of(classifier, SOME, "squared", batch_size=4)
    matrix = np.asarray(dense(classifier, SOME, "squared")[1], np.float64)
    largest = np.linalg.eigvalsh(matrix).max()
    damping, right = float(largest / 50), random_like(classifier)
    found = curvature.solve(right, damping=damping, iterations=100, tolerance=tolerance)
    x, b = (np.asarray(flat(tree), np.float64) for tree in (found.vector, right))
    left = b - matrix @ x - damping * x
    known = 1e-7 * (largest + damping) * np.linalg.norm(x)
    told = float(found.residual) * np.linalg.norm(b)
    np.testing.assert_allclose(told, np.linalg.norm(left), rtol=0, atol=known)


def test_nothing_on_the_right_gives_nothing():
    classifier = fresh(Plain(), TRAIN)
    zero = jax.tree.map(np.zeros_like, classifier.variables["params"])
    solution = Curvature.of(classifier, SOME, "squared").solve(zero, damping=1.0, iterations=5)
    assert not flat(solution.vector).any()
    assert (int(solution.iterations), float(solution.residual)) == (0, 0)


def test_operations_grow_with_the_batches_and_nothing_is_traced_twice():
    classifier = fresh(Plain(), TRAIN)
    right = random_like(classifier)

    def run(damping, dataset=TRAIN):
        curvature = Curvature.of(classifier, dataset, "cross_entropy", batch_size=30)
        with tally() as found:
            curvature.gradient(), curvature.product(right, damping)
            curvature.solve(right, damping=damping, iterations=4, tolerance=0.0)
            curvature.gradient(right)
        return found

    found = run(0.1)
    before = len(TRACES)
    assert run(0.2) == found
    assert len(TRACES) == before
    gradient, product, solve, moved = found
    assert solve == 4 * product
    assert gradient < product < 3 * gradient
    assert product == pytest.approx(moved, rel=0.05)
    assert found == [2 * flops for flops in run(0.1, TRAIN.take(np.arange(30)))]
    assert found == run(0.1, TRAIN.take(np.arange(31)))  # the last batch is padded, and counts so


@nets
@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradient_of_the_linearised_loss_elsewhere(model, loss):
    classifier = fresh(model, TRAIN)
    curvature = Curvature.of(classifier, SOME, loss, batch_size=4)
    vector = random_like(classifier)
    gradient, matrix = dense(classifier, SOME, loss)
    wanted = gradient + matrix @ flat(vector)
    np.testing.assert_allclose(
        flat(curvature.gradient(vector)), wanted, rtol=1e-3, atol=1e-4 * abs(wanted).max()
    )


def test_bad_settings_are_refused():
    classifier = fresh(Plain(), TRAIN)
    curvature = Curvature.of(classifier, SOME, "squared")
    right = random_like(classifier)
    with pytest.raises(InputError, match="damping = 0"):
        curvature.solve(right, damping=0.0, iterations=3)
    with pytest.raises(InputError, match="iterations = 0"):
        curvature.solve(right, damping=1.0, iterations=0)
    with pytest.raises(InputError, match="tolerance"):
        curvature.solve(right, damping=1.0, iterations=1, tolerance=-1.0)
    with pytest.raises(InputError, match="batch_size"):
        Curvature.of(classifier, SOME, "squared", batch_size=0)
    with pytest.raises(InputError, match="no samples"):
        Curvature.of(classifier, TRAIN.take(np.arange(0)), "squared")
