"""The noise of Fisher forgetting against its formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from baselines.convex import TRAIN, flat, request
from toys import Noisy, assert_close, fresh, same_bits

from dcmu_jax.baselines.by_importance import FisherForgetting, scrubbed
from dcmu_jax.errors import InputError
from dcmu_jax.unlearning.task import Hooks

PARAMS = {
    "conv": jnp.full((3, 3, 5, 4), 0.5, jnp.float32),
    "kernel": jnp.full((60, 50), 2.0, jnp.float32),
    "bias": jnp.full(50, -1.0, jnp.float32),
}
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def task():
    return request(fresh(Noisy(), TRAIN), TRAIN.ids[:20])


def fisher(seed=0):
    """Diagonals of 1e-6 to 1e2, and zeros among them."""
    draw = np.random.default_rng(seed)
    return jax.tree.map(
        lambda p: (10 ** draw.uniform(-6, 2, p.shape) * (draw.random(p.shape) > 0.2)).astype("f4"),
        PARAMS,
    )


def noise(values, *settings):
    return jax.tree.map(lambda new, p: new - p, scrubbed(PARAMS, values, KEY, *settings), PARAMS)


def standard():
    """The N(0, 1) numbers behind the noise of ``KEY``."""
    return noise(jax.tree.map(jnp.ones_like, PARAMS), 1.0, 1e3, 1.0, False)


def test_the_noise_is_standard_normal_times_the_root_of_the_variance():
    values = fisher()
    for power in (1.0, 0.5):
        found = noise(values, 1e-2, 1e3, power, False)
        wanted = jax.tree.map(
            lambda f, n, power=power: (
                np.sqrt(1e-2 * np.minimum(1 / np.maximum(f, 1e-30), 1e3) ** power) * n
            ),
            values,
            standard(),
        )
        assert_close(found, wanted, rtol=1e-3, atol=1e-6)
    numbers = flat(standard())
    assert abs(numbers.mean()) < 0.06
    assert abs(numbers.std() - 1) < 0.05
    # Independent from array to array.
    assert abs(np.corrcoef(numbers[:50], numbers[-50:])[0, 1]) < 0.5


def test_the_variance_may_be_averaged_over_the_inputs_of_a_unit():
    values = fisher()
    found = noise(values, 1e-2, 1e3, 1.0, True)

    def wanted(f, n):
        variance = 1e-2 * np.minimum(1 / np.maximum(f, 1e-30), 1e3)
        if f.ndim == 4:
            for row in range(3):
                for column in range(3):
                    for out in range(4):
                        variance[row, column, :, out] = variance[row, column, :, out].mean()
        if f.ndim == 2:
            for out in range(f.shape[1]):
                variance[:, out] = variance[:, out].mean()
        return np.sqrt(variance) * n

    assert_close(found, jax.tree.map(wanted, values, standard()), rtol=1e-3, atol=1e-6)


def test_without_noise_every_layer_is_left(task):
    """The output layer too, which the published code sets to 0."""
    result = FisherForgetting(alpha=1e-16)(task, Hooks())
    assert_close(
        result.classifier.variables["params"], task.original.variables["params"], atol=1e-5
    )
    assert np.abs(flat(task.original.variables["params"]["final"])).max() > 0.1


def test_noise_goes_where_the_retain_set_does_not_care(task):
    """A network that never uses an input of its output layer may lose what it says of it."""
    params = jax.tree.map(jnp.copy, task.original.variables["params"])
    dense = params["beginning"]["Dense_0"]["kernel"]
    params["beginning"]["Dense_0"]["kernel"] = dense.at[:, 3].set(0.0)
    bias = params["beginning"]["BatchNorm_0"]["bias"]
    params["beginning"]["BatchNorm_0"]["bias"] = bias.at[3].set(-1.0)  # dead after the ReLU
    network = task.original
    network = type(network)(
        network.model,
        {**network.variables, "params": params},
        network.normalisation,
        network.image_shape,
    )
    changed = request(network, task.forget_ids)
    result = FisherForgetting(alpha=1e-6, largest=1e6)(changed, Hooks())
    new = result.classifier.variables["params"]["beginning"]["Dense_0"]["kernel"]
    moved = np.abs(np.asarray(new - params["beginning"]["Dense_0"]["kernel"])).mean(0)
    assert moved[3] > 3 * np.delete(moved, 3).mean()
    assert moved[3] == pytest.approx(np.sqrt(2 / np.pi), rel=0.3)  # mean of |N(0, 1)|


def test_statistics_stay_and_only_retained_samples_are_seen(task):
    result = FisherForgetting(samples=7)(task, Hooks())
    stats = result.classifier.variables["batch_stats"]
    assert same_bits(stats, task.original.variables["batch_stats"])
    assert len(np.unique(result.trained_ids)) == 7
    assert not np.isin(result.trained_ids, task.forget_ids).any()
    assert result.reduction == 7 / 40
    whole = FisherForgetting()(task, Hooks())
    assert whole.flops > result.flops > 0
    assert len(whole.trained_ids) == 40


@pytest.mark.parametrize(
    "setting", [{"alpha": 0.0}, {"largest": -1.0}, {"power": 0.0}, {"samples": 0}]
)
def test_bad_settings_are_refused(task, setting):
    with pytest.raises(InputError, match=next(iter(setting))):
        FisherForgetting(**setting)(task, Hooks())
