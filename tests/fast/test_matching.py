import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcmu_jax.condensation import MatchingConfig, cluster_means
from dcmu_jax.core.distribution_matching import match_one_cluster
from dcmu_jax.data.dataset import Normalisation
from dcmu_jax.errors import InputError
from dcmu_jax.fast.chunks import default_chunk
from dcmu_jax.fast.matching import match_clusters

SIZES = (1, 9, 3, 1, 6, 2, 14, 1, 4, 5)
NORMALISATION = Normalisation(np.array([0.4, 0.5, 0.6], np.float32), np.float32([0.2, 0.3, 0.25]))


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(6, (3, 3))(x))
        x = nn.max_pool(x, (2, 2), (2, 2))
        return jnp.tanh(nn.Dense(12)(x.reshape(x.shape[0], -1)))


@dataclasses.dataclass(frozen=True)
class Features:
    def __call__(self, variables, x):
        return Net().apply(variables, x)


@dataclasses.dataclass
class Case:
    variables: object
    pixels: np.ndarray
    features: np.ndarray
    cluster: np.ndarray

    def run(self, config, **kwargs):
        targets = cluster_means(self.features, self.cluster)
        args = Features(), self.variables, self.pixels, targets, self.cluster
        return match_clusters(*args, NORMALISATION, config, **kwargs)


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    cluster = rng.permutation(np.repeat(np.arange(len(SIZES)), SIZES)).astype(np.int32)
    pixels = rng.integers(0, 256, (len(cluster), 8, 8, 3), dtype=np.uint8)
    variables = Net().init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    features = np.asarray(Net().apply(variables, NORMALISATION.apply(pixels)))
    return Case(variables, pixels, features, cluster)


one_cluster = jax.jit(match_one_cluster, static_argnums=(0, 5))


@pytest.mark.parametrize("scale_by_size", [False, True])
@pytest.mark.parametrize("weights", ["free", "sum_to_one", "convex"])
def test_all_at_once_equals_one_cluster_at_a_time(case, scale_by_size, weights):
    settings = {"scale_by_size": scale_by_size, "weights": weights}
    config = MatchingConfig(steps=30, learning_rate=0.01, **settings)
    together = case.run(config)
    x = NORMALISATION.apply(case.pixels)
    for j, size in enumerate(SIZES):
        at = np.flatnonzero(case.cluster == j)
        padded = np.pad(at, (0, 14 - size))
        mask = np.arange(14) < size
        alone, image = one_cluster(
            Features(), case.variables, x[padded], case.features[padded], mask, config
        )
        np.testing.assert_allclose(together.weights[at], alone[:size], atol=1e-5)
        assert (alone[size:] == 0).all()
        np.testing.assert_allclose(
            NORMALISATION.apply(together.images[j]), image, rtol=1e-5, atol=1e-5
        )


def test_oracle_under_vmap(case):
    config = MatchingConfig(steps=10)
    padded = np.stack([np.resize(np.flatnonzero(case.cluster == j), 14) for j in range(len(SIZES))])
    mask = np.arange(14)[None] < np.array(SIZES)[:, None]
    x = NORMALISATION.apply(case.pixels)

    def one(x, features, mask):
        return match_one_cluster(Features(), case.variables, x, features, mask, config)

    _, images = jax.vmap(one)(x[padded], case.features[padded], mask)
    together = NORMALISATION.apply(case.run(config).images)
    np.testing.assert_allclose(images, together, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tolerance", [None, 0.05])
def test_chunks_change_nothing(case, tolerance):
    whole = case.run(MatchingConfig(steps=25, learning_rate=0.01, tolerance=tolerance, chunk=16))
    for chunk in (1, 4):
        config = MatchingConfig(steps=25, learning_rate=0.01, tolerance=tolerance, chunk=chunk)
        parts = case.run(config)
        np.testing.assert_allclose(parts.weights, whole.weights, atol=1e-5)
        np.testing.assert_allclose(parts.images, whole.images, atol=2e-3)
        np.testing.assert_allclose(parts.final_loss, whole.final_loss, rtol=1e-3, atol=1e-6)


def test_a_single_sample_is_its_own_image(case):
    result = case.run(MatchingConfig(steps=20, learning_rate=0.1))
    for j in np.flatnonzero(np.array(SIZES) == 1):
        (at,) = np.flatnonzero(case.cluster == j)
        np.testing.assert_array_equal(result.images[j], case.pixels[at])
        assert result.weights[at] == 1
        assert result.final_loss[j] < 1e-8


def test_losses_are_what_they_say_and_go_down(case):
    start = case.run(MatchingConfig(steps=0))
    result = case.run(MatchingConfig(steps=60, learning_rate=0.005))
    several = np.array(SIZES) > 1
    assert (result.final_loss[several] < result.initial_loss[several]).all()
    assert result.final_loss.sum() < 0.7 * result.initial_loss.sum()
    np.testing.assert_allclose(start.initial_loss, result.initial_loss, rtol=1e-5, atol=1e-9)
    np.testing.assert_array_equal(start.initial_loss, start.final_loss)
    np.testing.assert_allclose(start.weights, (1 / np.array(SIZES))[case.cluster], rtol=1e-6)
    for outcome, losses in ((start, start.initial_loss), (result, result.final_loss)):
        for j in range(len(SIZES)):
            target = case.features[case.cluster == j].mean(axis=0)
            got = Net().apply(case.variables, NORMALISATION.apply(outcome.images[j])[None])[0]
            np.testing.assert_allclose(((got - target) ** 2).sum(), losses[j], rtol=1e-3, atol=1e-8)


def test_scaling_keeps_large_clusters_averages(case):
    sizes = np.array(SIZES)[case.cluster]
    moved = {}
    for scaled in (False, True):
        config = MatchingConfig(steps=1, learning_rate=0.01, scale_by_size=scaled)
        moved[scaled] = np.abs(case.run(config).weights - 1 / sizes)[sizes > 1]
    # The first step of Adam is the learning rate, whatever the gradient.
    np.testing.assert_allclose(moved[False], 0.01, rtol=1e-2)
    np.testing.assert_allclose(moved[True] * sizes[sizes > 1], 0.01, rtol=1e-2)


def test_tolerance_stops_early_cluster_by_cluster(case):
    every = case.run(MatchingConfig(steps=200, learning_rate=0.01))
    loose = case.run(MatchingConfig(steps=200, learning_rate=0.01, tolerance=1e9))
    ten = case.run(MatchingConfig(steps=10, learning_rate=0.01))
    np.testing.assert_array_equal(loose.weights, ten.weights)
    some = case.run(MatchingConfig(steps=200, learning_rate=0.01, tolerance=0.02))
    assert every.final_loss.sum() < some.final_loss.sum() < ten.final_loss.sum()
    tight = case.run(MatchingConfig(steps=37, learning_rate=1e-4, tolerance=1e-9))
    plain = case.run(MatchingConfig(steps=37, learning_rate=1e-4))
    np.testing.assert_allclose(tight.weights, plain.weights, atol=1e-6)


def test_same_bits_and_no_second_trace(case):
    traces = []

    @dataclasses.dataclass(frozen=True)
    class Counting(Features):
        def __call__(self, variables, x):
            traces.append(x.shape)
            return super().__call__(variables, x)

    config = MatchingConfig(steps=12, tolerance=1e-3, chunk=4)
    targets = cluster_means(case.features, case.cluster)
    args = case.variables, case.pixels, targets, case.cluster, NORMALISATION, config
    first = match_clusters(Counting(), *args)
    seen = len(traces)
    second = match_clusters(Counting(), *args)
    assert len(traces) == seen
    np.testing.assert_array_equal(first.weights, second.weights)
    np.testing.assert_array_equal(first.images, second.images)


def test_weights_may_be_given(case):
    sizes = np.array(SIZES)[case.cluster]
    start = np.where(sizes > 2, 0.5 / sizes, 1 / sizes).astype(np.float32)
    for scaled in (False, True):
        kept = case.run(MatchingConfig(steps=0, scale_by_size=scaled), weights=start)
        np.testing.assert_allclose(kept.weights, start, rtol=1e-6)


def test_newton_goes_lower_than_adam(case):
    adam = case.run(MatchingConfig(steps=100))
    few = case.run(MatchingConfig(solver="newton", steps=3))
    many = case.run(MatchingConfig(solver="newton", steps=12, inner=8))
    assert many.final_loss.sum() < few.final_loss.sum() < 0.9 * adam.final_loss.sum()
    np.testing.assert_allclose(many.initial_loss, adam.initial_loss, rtol=1e-5, atol=1e-9)
    assert (many.final_loss <= many.initial_loss + 1e-7).all()


@pytest.mark.parametrize("weights", ["sum_to_one", "convex"])
@pytest.mark.parametrize("solver", ["adam", "newton"])
def test_constraints_hold(case, solver, weights):
    result = case.run(MatchingConfig(solver=solver, steps=6, learning_rate=0.01, weights=weights))
    np.testing.assert_allclose(np.bincount(case.cluster, result.weights), 1, atol=1e-4)
    assert result.final_loss.sum() < result.initial_loss.sum()
    if weights == "convex":
        assert (result.weights > 0).all()


def test_newton_in_chunks_and_with_a_tolerance(case):
    whole = case.run(MatchingConfig(solver="newton", steps=4, chunk=16))
    parts = case.run(MatchingConfig(solver="newton", steps=4, chunk=2))
    np.testing.assert_allclose(parts.final_loss, whole.final_loss, rtol=0.02, atol=1e-5)
    still = case.run(MatchingConfig(solver="newton", steps=50, tolerance=1e9))
    once = case.run(MatchingConfig(solver="newton", steps=1))
    np.testing.assert_allclose(still.weights, once.weights, atol=1e-5)


def test_bad_input(case):
    targets = cluster_means(case.features, case.cluster)
    given = Features(), case.variables, case.pixels
    for cluster, wanted in (
        (case.cluster + 1, "some without samples"),
        (case.cluster // 2, "10 t"),
    ):
        with pytest.raises(InputError, match=wanted):
            match_clusters(*given, targets, cluster, NORMALISATION, MatchingConfig())
    for bad in (
        {"steps": -1},
        {"learning_rate": 0.0},
        {"tolerance": -0.1},
        {"chunk": 0},
        {"inner": 0},
    ):
        with pytest.raises(InputError):
            MatchingConfig(**bad)


def test_default_chunk_is_a_number_of_clusters():
    assert default_chunk() >= 1
