"""Modules of flax.nnx: adopted by patterns, trained by part, given back to the user's module."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from toys import assert_close, part_of, same_bits, toy_splits

import dcmu_jax as dcmu
from dcmu_jax.errors import InputError
from dcmu_jax.networks import nnx_modules
from dcmu_jax.training.keys import named_key

PARTS = {
    "beginning": ["conv", "norm"],
    "intermediate": "hidden/0",
    "final": ["hidden/1", "out"],
}


class Net(nnx.Module):
    """A list of layers, BatchNorm and dropout, and no argument for the mode."""

    def __init__(self, classes=3, rate=0.25, *, rngs):
        self.conv = nnx.Conv(1, 4, (3, 3), strides=2, rngs=rngs)
        self.norm = nnx.BatchNorm(4, momentum=0.9, rngs=rngs)
        layers = [nnx.Linear(64, 8, rngs=rngs), nnx.Linear(8, 8, rngs=rngs)]
        self.hidden = nnx.List(layers) if hasattr(nnx, "List") else layers
        self.drop = nnx.Dropout(rate, rngs=rngs)
        self.out = nnx.Linear(8, classes, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.conv(x)))
        x = x.reshape(len(x), -1)
        for layer in self.hidden:
            x = nnx.relu(layer(x))
        return self.out(self.drop(x))


def make(rngs):
    return Net(rngs=rngs)


def plain(rngs):
    return Net(rate=0.0, rngs=rngs)


@pytest.fixture(scope="module")
def data():
    return toy_splits(per_class=16)


@pytest.fixture(scope="module")
def net():
    return make(nnx.Rngs(0))


@pytest.fixture(scope="module")
def network(net, data):
    return dcmu.adopt(net, None, data, parts=PARTS, make=make)


def _train(network, data, **rest):
    options = {"epochs": 2, "key": named_key(0, "t"), "batch_size": 12, **rest}
    return dcmu.train(network, data.train, **options)


def test_it_computes_what_the_module_does_and_is_given_back(network, net, data):
    net.eval()
    x = network.normalisation.apply(data.test.images)
    np.testing.assert_allclose(network.logits(data.test.images), net(x), atol=1e-5)
    other = make(nnx.Rngs(7))
    nnx_modules.load(other, dcmu.variables_of(network))
    other.eval()
    np.testing.assert_allclose(other(x), net(x), atol=1e-6)


def test_training_is_that_of_plain_nnx(data):
    net = plain(nnx.Rngs(0))
    network = dcmu.adopt(net, None, data, parts=PARTS, make=plain)
    trained = _train(network, data, epochs=1, batch_size=None, optimizer=optax.sgd(0.1))
    x = network.normalisation.apply(data.train.images)
    net.train()

    def loss(net):
        found = optax.softmax_cross_entropy_with_integer_labels(net(x), data.train.labels)
        return found.mean()

    gradient = nnx.to_pure_dict(nnx.grad(loss)(net))
    params = nnx.to_pure_dict(nnx.state(net, nnx.Param))
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)
    nnx_modules.load(net, dcmu.variables_of(trained))
    assert_close(nnx.to_pure_dict(nnx.state(net, nnx.Param)), expected, atol=1e-5)
    moved = dcmu.variables_of(trained)["batch_stats"]["norm"]["mean"]
    assert not np.allclose(moved, 0)


@pytest.mark.parametrize("parts", [("final",), ("beginning", "final"), ("intermediate",)])
def test_frozen_parts_keep_parameters_and_statistics(network, data, parts):
    trained = _train(network, data, parts=parts)
    for part in ("beginning", "intermediate", "final"):
        same = same_bits(part_of(trained, part), part_of(network, part))
        assert same == (part not in parts)


def test_features(network, net, data):
    net.eval()
    x = network.normalisation.apply(data.test.images)
    h = nnx.relu(net.norm(net.conv(x))).reshape(len(x), -1)
    expected = nnx.relu(net.hidden[0](h))
    np.testing.assert_allclose(network.features(data.test.images), expected, atol=1e-5)
    by_layer = dcmu.adopt(net, None, data, parts=PARTS, make=make, layer="norm")
    expected = net.norm(net.conv(x)).reshape(len(x), -1)
    np.testing.assert_allclose(by_layer.features(data.test.images), expected, atol=1e-5)


def test_it_forgets(network, data):
    original = _train(network, data, epochs=4)
    clusters = dcmu.cluster(original, data.train, per_class=3)
    bank = dcmu.condense(original, data.train, clusters)
    reduced = dcmu.collect(bank, data.train, [0, 3, 7])
    schedule = dcmu.schedules.condensed()
    found = dcmu.unlearn(original, reduced, schedule=schedule, key=jax.random.key(1))
    rows = dcmu.evaluate({"original": original, "modular": found}, data, [0, 3, 7])
    assert len(rows) == 2 and not same_bits(found.variables, original.variables)
    net = make(nnx.Rngs(0))
    nnx_modules.load(net, dcmu.variables_of(found))
    net.eval()
    x = found.normalisation.apply(data.test.images)
    np.testing.assert_allclose(net(x), found.logits(data.test.images), atol=1e-5)


def test_what_cannot_be_adopted(net, data):
    with pytest.raises(InputError, match=r"Net without make.*make=Net"):
        dcmu.adopt(net, None, data, parts=PARTS)
    with pytest.raises(InputError, match=r"which makes another network"):
        dcmu.adopt(net, None, data, parts=PARTS, make=lambda rngs: Net(4, rngs=rngs))
    with pytest.raises(InputError, match=r"make of the NNX module Net fails \(TypeError"):
        dcmu.adopt(net, None, data, parts=PARTS, make=lambda: net)
    with pytest.raises(InputError, match=r"Variables given with the NNX module"):
        dcmu.adopt(net, nnx_modules.variables_of(net), data, parts=PARTS, make=make)
    with pytest.raises(InputError, match=r"given as None"):
        dcmu.adopt(net, None, data, make=make)

    class Counting(Net):
        def __init__(self, *, rngs):
            super().__init__(rngs=rngs)
            self.calls = nnx.Variable(jnp.zeros(()))

    with pytest.raises(InputError, match=r"of other kinds, in calls"):
        dcmu.adopt(
            Counting(rngs=nnx.Rngs(0)), None, data, parts=PARTS, make=lambda r: Counting(rngs=r)
        )


def test_only_all_of_its_variables_are_loaded(network):
    net = make(nnx.Rngs(3))
    whole, before = dcmu.variables_of(network), nnx_modules.variables_of(net)
    part = {**whole, "params": {k: v for k, v in whole["params"].items() if k != "out"}}
    other = nnx_modules.variables_of(Net(4, rngs=nnx.Rngs(0)))
    for given in ({}, whole["params"], {"params": whole["params"]}, part, other, network.variables):
        with pytest.raises(InputError, match=r"Give dcmu\.variables_of\(network\)"):
            nnx_modules.load(net, given)
    assert same_bits(nnx_modules.variables_of(net), before)
    with pytest.raises(InputError, match="an nnx module"):
        nnx_modules.load(Net, whole)


class Flagged(Net):
    """The mode as an argument, which many modules take."""

    def __call__(self, x, train):
        x = nnx.relu(self.norm(self.conv(x), use_running_average=not train))
        x = x.reshape(len(x), -1)
        for layer in self.hidden:
            x = nnx.relu(layer(x))
        return self.out(x)


def flagged(rngs):
    return Flagged(rngs=rngs)


def test_a_mode_that_overrules_its_layers_is_refused(data):
    with pytest.raises(InputError, match=r"Flagged, whose outputs in training mode differ"):
        dcmu.adopt(flagged(nnx.Rngs(0)), None, data, parts=PARTS, make=flagged)
