"""UM: known angles on a linear model, a direct computation, no retrace, zero gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dcmu_jax.data.dataset import Normalisation
from dcmu_jax.errors import InputError
from dcmu_jax.metrics.gradients import unlearning_metric
from dcmu_jax.networks.partition import PARTS, initialise

PLAIN = Normalisation(np.zeros(1, np.float32), np.ones(1, np.float32))


class Flatten(nn.Module):
    def __call__(self, x):
        return x.reshape(len(x), -1)


class Linear(nn.Module):
    """Logits ``W x``: at W = 0 the gradient of a sample is (1/2, -1/2) times x, signed by class."""

    def setup(self):
        self.beginning, self.intermediate = Flatten(), Flatten()
        self.final = nn.Dense(2, use_bias=False, kernel_init=nn.initializers.zeros)


def _linear_metric(retain, forget, retain_class=0, forget_class=0, **kwargs):
    """UM for sets of two-pixel images of one class each."""
    sets = [np.array(s, np.float32).reshape(len(s), 1, 2, 1) for s in (retain, forget)]
    labels = [
        np.full(len(s), c, np.int32)
        for s, c in zip(sets, (retain_class, forget_class), strict=True)
    ]
    model = Linear()
    variables = initialise(model, jax.random.key(0), (1, 2, 1))
    return unlearning_metric(
        model, variables, PLAIN, sets[0], labels[0], sets[1], labels[1], **kwargs
    )


@pytest.mark.parametrize("scale", [1.0, 1e-19])  # at the second, squares of gradients underflow
@pytest.mark.parametrize(
    ("forget", "forget_class", "expected"),
    [
        ([[100, 0]], 0, 0),
        ([[0, 100]], 0, 100),
        ([[100, 0]], 1, 200),
        ([[100, 100]], 0, 100 * (1 - 0.5**0.5)),
        ([[0, 0]], 0, 100),  # a zero gradient has no direction
    ],
)
def test_known_angles(forget, forget_class, expected, scale):
    forget = np.array(forget) * scale
    found = _linear_metric([[200, 0], [50, 0]], forget, forget_class=forget_class)
    assert found == pytest.approx(expected, abs=1e-4)


def test_padding_does_not_count():
    # Batches of two: the third retain image stands alone in a padded batch. Its mean with the
    # others points along (1, 1); were the padding counted, it would not.
    retain = [[30, 0], [30, 0], [0, 60]]
    found = _linear_metric(retain, [[10, 10]], batch_size=2)
    assert found == pytest.approx(0, abs=1e-4)


class Block(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.Dense(self.features)(x.reshape(len(x), -1))
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.relu(nn.Dropout(0.5, deterministic=not train)(x))


TRACES = []


class Counted(nn.Module):
    """Two blocks with BatchNorm and dropout, counting how often they are traced."""

    def setup(self):
        self.beginning, self.intermediate, self.final = Block(7), Block(5), Head()


class Head(nn.Module):
    @nn.compact
    def __call__(self, x):
        TRACES.append(1)
        return nn.Dense(3)(x)


def _problem(seed):
    rng = np.random.default_rng(seed)
    model = Counted()
    variables = initialise(model, jax.random.key(seed), (4, 4, 1))
    stats = jax.tree.map(lambda x: x + rng.random(x.shape, np.float32), variables["batch_stats"])
    sets = []
    for count in (23, 6):
        sets += [
            rng.integers(0, 256, (count, 4, 4, 1)).astype(np.uint8),
            rng.integers(0, 3, count).astype(np.int32),
        ]
    normalisation = Normalisation(np.array([0.4], np.float32), np.array([0.3], np.float32))
    return model, {**variables, "batch_stats": stats}, normalisation, *sets


def _direct(model, variables, normalisation, pixels, labels):
    """The gradient without batches, scan or partition helpers."""

    def run(module, x):
        x = module.intermediate(module.beginning(x, train=False), train=False)
        return module.final(x)

    def loss(params):
        logits = model.apply(
            {**variables, "params": params}, normalisation.apply(pixels), method=run
        )
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    return jax.jit(jax.grad(loss))(variables["params"])


def _metric_of(a, b):
    a, b = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(t)]).astype(float) for t in (a, b))
    return 100 * (1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("batch_size", [4, 64])
def test_equals_a_direct_computation_for_any_batch_size(batch_size):
    model, variables, normalisation, *sets = _problem(0)
    retain = _direct(model, variables, normalisation, *sets[:2])
    forget = _direct(model, variables, normalisation, *sets[2:])
    arguments = model, variables, normalisation, *sets
    whole = unlearning_metric(*arguments, batch_size=batch_size)
    parts = unlearning_metric(*arguments, batch_size=batch_size, per="part")
    assert whole == pytest.approx(_metric_of(retain, forget), abs=1e-3)
    assert list(parts) == list(PARTS)
    for part in PARTS:
        assert parts[part] == pytest.approx(_metric_of(retain[part], forget[part]), abs=1e-3)


def test_per_layer_from_shallow_to_deep():
    model, variables, normalisation, *sets = _problem(0)
    retain = _direct(model, variables, normalisation, *sets[:2])
    forget = _direct(model, variables, normalisation, *sets[2:])
    found = unlearning_metric(model, variables, normalisation, *sets, batch_size=4, per="layer")
    order = ["beginning/Dense_0", "beginning/BatchNorm_0"]
    order += ["intermediate/Dense_0", "intermediate/BatchNorm_0", "final/Dense_0"]
    assert list(found) == order
    for name, value in found.items():
        part, layer = name.split("/")
        assert value == pytest.approx(
            _metric_of(retain[part][layer], forget[part][layer]), abs=2e-3
        )
    assert list(_linear_metric([[1, 0]], [[1, 0]], per="layer")) == ["final"]  # a part by itself


def test_per_class_over_the_classes_of_both_sets():
    model, variables, normalisation, rx, ry, fx, fy = _problem(0)
    fy[:] = [0, 1, 0, 1, 1, 0]
    sets = rx, ry, fx, fy
    found = unlearning_metric(model, variables, normalisation, *sets, batch_size=4, per="class")
    assert list(found) == [0, 1]
    for label, value in found.items():
        gradients = [
            _direct(model, variables, normalisation, x[y == label], y[y == label])
            for x, y in (sets[:2], sets[2:])
        ]
        assert value == pytest.approx(_metric_of(*gradients), abs=2e-3)


def test_parts_without_parameters_are_left_out():
    assert list(_linear_metric([[1, 0]], [[1, 0]], per="part")) == ["final"]


def test_second_model_does_not_trace_again():
    other = _problem(2)
    unlearning_metric(*_problem(1), batch_size=8)
    before = len(TRACES)
    unlearning_metric(*other, batch_size=8)
    # Nor does a request that moves a sample from one set to the other.
    model, variables, normalisation, rx, ry, fx, fy = other
    moved = [np.concatenate([fx, rx[:1]]), np.concatenate([fy, ry[:1]])]
    unlearning_metric(model, variables, normalisation, rx[1:], ry[1:], *moved, batch_size=8)
    assert len(TRACES) == before


def test_diverged_model_gives_nan():
    model, variables, *rest = _problem(3)
    broken = jax.tree.map(lambda x: x * jnp.nan, variables["params"])
    assert np.isnan(unlearning_metric(model, {**variables, "params": broken}, *rest))


def test_refusals():
    with pytest.raises(InputError, match="0 forgotten samples"):
        _linear_metric([[1, 0]], np.zeros((0, 2)))
    with pytest.raises(InputError, match="batch_size = 0"):
        _linear_metric([[1, 0]], [[1, 0]], batch_size=0)
    with pytest.raises(InputError, match="Did you mean 'layer'"):
        _linear_metric([[1, 0]], [[1, 0]], per="layers")
    with pytest.raises(InputError, match=r"Retained classes \[0\].*at least one class in both"):
        _linear_metric([[1, 0]], [[1, 0]], forget_class=1, per="class")
