"""SynFlow: scores by hand, conservation of the flow, no collapse; what is pruned stays pruned."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from baselines.setting import FAST, make_task
from toys import TRACES, Noisy, assert_close

from dcmu_jax.baselines.pruning import PruneAndUnlearn, synflow_mask, synflow_scores
from dcmu_jax.errors import InputError
from dcmu_jax.networks.catalogue import create
from dcmu_jax.networks.partition import PARTS, initialise
from dcmu_jax.training.timing import Stopwatch
from dcmu_jax.unlearning.task import Hooks


class Chain(nn.Module):
    """Dense layers, each followed by a ReLU; ``widths`` of the layers of each part."""

    widths: tuple[tuple[int, ...], ...]
    use_bias: bool = False

    def setup(self):
        def part(widths, first=False):
            layers = [lambda x: x.reshape(x.shape[0], -1)] if first else []
            for width in widths:
                layers += [nn.Dense(width, use_bias=self.use_bias), nn.relu]
            return nn.Sequential(layers or [lambda x: x])

        one, two, three = self.widths
        self.beginning, self.intermediate, self.final = part(one, True), part(two), part(three)


class Normed(nn.Module):
    """Dense layers with every kind of normalising layer of Flax between them, and dropout."""

    def setup(self):
        self.beginning = Layers((nn.BatchNorm, nn.LayerNorm))
        self.intermediate = Layers((nn.InstanceNorm, nn.RMSNorm))
        self.final = Layers((nn.GroupNorm,))


class Layers(nn.Module):
    norms: tuple

    @nn.compact
    def __call__(self, x, train=False):
        for norm in self.norms:
            # Scales of both signs and biases away from 0.
            init = nn.initializers.normal(1.0)
            options = {"scale_init": init}
            if norm is not nn.RMSNorm:
                options["bias_init"] = init
            if norm is nn.BatchNorm:
                options["use_running_average"] = not train
            if norm is nn.GroupNorm:
                options["num_groups"] = 4
            x = norm(**options)(nn.Dense(8, bias_init=init)(x))
            x = nn.Dropout(0.5, deterministic=not train)(nn.relu(x))
        return x


def scores_of(model, shape=(1, 1, 2), seed=0):
    variables = initialise(model, jax.random.key(seed), shape)
    return synflow_scores(model, variables, shape), variables


def sums(scores):
    return np.array([float(s.sum()) for s in jax.tree.leaves(scores)])


def test_two_layers_by_hand():
    model = Chain(((2,), (), (1,)))
    variables = {
        "params": {
            "beginning": {"layers_1": {"kernel": jnp.array([[1.0, -2.0], [3.0, 0.0]])}},
            "intermediate": {},
            "final": {"layers_0": {"kernel": jnp.array([[-0.5], [4.0]])}},
        }
    }
    scores = synflow_scores(model, variables, (1, 1, 2))
    # R = 0.5 (1 + 3) + 4 (2 + 0) = 10
    first, second = scores["beginning"]["layers_1"], scores["final"]["layers_0"]
    np.testing.assert_allclose(first["kernel"] * 10, [[0.5, 8], [1.5, 0]], rtol=1e-6)
    np.testing.assert_allclose(second["kernel"] * 10, [[2], [8]], rtol=1e-6)


def test_any_chain_by_matrix_products():
    scores, variables = scores_of(Chain(((5,), (4, 3), (2,))), (1, 2, 3))
    params = variables["params"]
    kernels = [np.abs(np.asarray(k, np.float64)) for p in PARTS for k in jax.tree.leaves(params[p])]
    ours_all = [s for p in PARTS for s in jax.tree.leaves(scores[p])]
    flow = np.ones(6)
    for index, (kernel, ours) in enumerate(zip(kernels, ours_all, strict=True)):
        after = np.ones(2)
        for later in kernels[:index:-1]:
            after = later @ after
        whole = flow[:, None] * kernel * after
        np.testing.assert_allclose(ours, whole / whole.sum(), rtol=1e-5)
        flow = flow @ kernel


@pytest.mark.parametrize("use_bias", [False, True])
def test_layers_of_a_chain_have_the_same_sum(use_bias):
    model = Chain(((7, 5), (6,), (4, 3)), use_bias)
    scores, variables = scores_of(model, (2, 2, 1))
    np.testing.assert_allclose(sums(scores), 1, rtol=1e-5)
    # Biases take no part: neither as scores nor in those of the kernels.
    moved = jax.tree.map(lambda p: p + 5 if p.ndim == 1 else p, variables)
    assert_close(synflow_scores(model, moved, (2, 2, 1)), scores, rtol=0, atol=0)


def test_normalising_layers_scale_and_do_nothing_else():
    scores, variables = scores_of(Normed(), (4, 4, 3))
    np.testing.assert_allclose(sums(scores), 1, rtol=1e-5)
    assert len(sums(scores)) == 5
    # By hand: a chain of |kernel| diag(|scale|).
    params = variables["params"]
    part, names = params["beginning"], ("Dense_0", "BatchNorm_0", "Dense_1", "LayerNorm_0")
    flow = np.ones(3)
    for kernel, scale in (names[:2], names[2:]):
        flow = flow @ np.abs(part[kernel]["kernel"]) * np.abs(part[scale]["scale"])
    for kernel, scale in (("Dense_0", "InstanceNorm_0"), ("Dense_1", "RMSNorm_0")):
        part = params["intermediate"]
        flow = flow @ np.abs(part[kernel]["kernel"]) * np.abs(part[scale]["scale"])
    last = params["final"]
    whole = flow[:, None] * np.abs(last["Dense_0"]["kernel"]) * np.abs(last["GroupNorm_0"]["scale"])
    np.testing.assert_allclose(scores["final"]["Dense_0"]["kernel"], whole / whole.sum(), rtol=1e-5)


def test_statistics_and_signs_change_nothing():
    model, shape = Noisy(), (8, 8, 1)
    scores, variables = scores_of(model, shape)
    np.testing.assert_allclose(sums(scores), 1, rtol=1e-5)
    other = {
        "params": jax.tree.map(lambda p: -p if p.ndim == 2 else p, variables["params"]),
        "batch_stats": jax.tree.map(lambda s: 3 * s + 2, variables["batch_stats"]),
    }
    assert_close(synflow_scores(model, other, shape), scores, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["cnn", "mlp"])
def test_the_papers_networks_conserve_the_flow(name):
    shape = (32, 32, 3)
    scores, _ = scores_of(create(name, image_shape=shape, num_classes=10, width=0.1), shape)
    np.testing.assert_allclose(sums(scores), 1, rtol=1e-4)


def _share_left(mask):
    kernels = [np.asarray(m) for m in jax.tree.leaves(mask) if m.ndim >= 2]
    return sum(m.sum() for m in kernels) / sum(m.size for m in kernels), kernels


DEEP = Chain(((64, 32), (48, 32), (32, 8)), True)


def test_five_percent_without_collapse():
    variables = initialise(DEEP, jax.random.key(0), (8, 8, 1))
    mask = synflow_mask(DEEP, variables, (8, 8, 1), density=0.05, rounds=100)
    share, kernels = _share_left(mask)
    assert abs(share - 0.05) < 1e-4
    assert all(kernel.any() for kernel in kernels)
    assert all(m.all() for m in jax.tree.leaves(mask) if m.ndim == 1)
    # A path is left: the pruned network still has a flow.
    pruned = jax.tree.map(lambda p, m: p * m, variables["params"], mask)
    left = synflow_scores(DEEP, {"params": pruned}, (8, 8, 1))
    np.testing.assert_allclose(sums(left), 1, rtol=1e-5)


def test_each_round_prunes_what_the_last_one_left():
    variables = initialise(DEEP, jax.random.key(0), (8, 8, 1))
    few = synflow_mask(DEEP, variables, (8, 8, 1), density=0.5**0.5, rounds=5)
    more = synflow_mask(DEEP, variables, (8, 8, 1), density=0.5, rounds=10)
    for a, b in zip(jax.tree.leaves(few), jax.tree.leaves(more), strict=True):
        assert not (b & ~a).any()
    assert abs(_share_left(few)[0] - 0.5**0.5) < 1e-3
    once = synflow_mask(DEEP, variables, (8, 8, 1), density=0.5, rounds=1)
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (once, more)), strict=True))


def test_a_pruned_weight_does_not_come_back_when_others_score_nothing_too():
    """First 1, then 0.1 is pruned, the last way out of 2: it scores 0 now, and is still there."""
    kernels = {"beginning": [[1.0, 9.0], [2.0, 9.0]], "final": [[0.1], [9.0]]}
    params = {
        "beginning": {"layers_1": {"kernel": jnp.array(kernels["beginning"])}},
        "intermediate": {},
        "final": {"layers_0": {"kernel": jnp.array(kernels["final"])}},
    }
    model = Chain(((2,), (), (1,)))
    mask = synflow_mask(model, {"params": params}, (1, 1, 2), density=4 / 6, rounds=50)
    assert mask["beginning"]["layers_1"]["kernel"].tolist() == [[False, True], [True, True]]
    assert mask["final"]["layers_0"]["kernel"].tolist() == [[False], [True]]


def test_rounds_share_one_program():
    network = make_task().original
    synflow_mask(network.model, network.variables, (8, 8, 1), density=0.5, rounds=1)
    before, watch = len(TRACES), Stopwatch()
    with watch.running():
        synflow_mask(network.model, network.variables, (8, 8, 1), density=0.1, rounds=20)
    assert len(TRACES) == before > 0
    assert watch.compile_s == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"density": 0.0}, "density = 0"),
        ({"density": 1.0}, "density = 1"),
        ({"rounds": 0}, "rounds = 0"),
    ],
)
def test_settings_without_sense_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        PruneAndUnlearn(**settings)(make_task(), Hooks())


def test_pruned_weights_are_zero_and_stay_so_and_all_else_trains():
    task = make_task(model=Noisy())
    method = PruneAndUnlearn(density=0.2, rounds=10, epochs=4, batch_size=16, optimizer=FAST)
    new = method(task, Hooks()).classifier
    old = task.original
    mask = synflow_mask(old.model, old.variables, old.image_shape, density=0.2, rounds=10)
    zero = jax.tree.map(lambda p: np.asarray(p == 0), new.variables["params"])
    for free, pruned in zip(jax.tree.leaves(mask), jax.tree.leaves(zero), strict=True):
        if free.ndim >= 2:
            np.testing.assert_array_equal(pruned, ~np.asarray(free))
        else:
            assert not pruned.all()
    moved = jax.tree.map(
        lambda a, b: bool((a != b).any()),
        old.variables["batch_stats"],
        new.variables["batch_stats"],
    )
    assert all(jax.tree.leaves(moved))  # training mode
