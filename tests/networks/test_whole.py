"""A module that is not written in three parts: assigned by patterns, frozen by part, given back."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import assert_close, examples_of, part_of, same_bits, toy_splits

import dcmu_jax as dcmu
from dcmu_jax.data.dataset import Normalisation
from dcmu_jax.errors import InputError
from dcmu_jax.networks.patterns import labels_of
from dcmu_jax.training.keys import named_key
from dcmu_jax.training.loop import fit
from dcmu_jax.training.optimizers import Optimizer

PARTS = {
    "beginning": ["Conv_0", "BatchNorm_0"],
    "intermediate": ["Conv_1", "BatchNorm_1"],
    "final": "Dense_*",
}


class Net(nn.Module):
    """As most people write one: a single method, one flag for all of it."""

    classes: int = 3
    dropout: float = 0.25

    @nn.compact
    def __call__(self, x, training=False):
        for features in (4, 6):
            x = nn.Conv(features, (3, 3), strides=2)(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not training, momentum=0.9)(x))
        x = nn.Dense(8)(x.reshape(len(x), -1))
        x = nn.Dropout(self.dropout, deterministic=not training)(nn.relu(x))
        return nn.Dense(self.classes)(x)


@pytest.fixture(scope="module")
def data():
    return toy_splits(per_class=16)


@pytest.fixture(scope="module")
def variables(data):
    return Net().init(jax.random.key(0), jnp.zeros((1, *data.image_shape)))


@pytest.fixture(scope="module")
def network(data, variables):
    return dcmu.adopt(Net(), variables, data, parts=PARTS)


@pytest.mark.parametrize(
    ("without", "shape"),
    [("BatchNorm_0/mean", r"\(4,\)"), ("BatchNorm_1/var", r"\(6,\)"), ("", "")],
)
def test_statistics_that_the_module_has_must_be_given(data, variables, without, shape):
    given = {"params": variables["params"]}
    if without:
        layer, name = without.split("/")
        left = {k: v for k, v in variables["batch_stats"][layer].items() if k != name}
        given["batch_stats"] = variables["batch_stats"] | {layer: left}
    named = without or "BatchNorm_0/mean"
    with pytest.raises(InputError, match=rf"without batch_stats/{named}, which Net has.*{shape}"):
        dcmu.adopt(Net(), given, data, parts=PARTS)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("a", "b"), "A normalisation given as"),
        (((0.5,), (0.0,)), "above 0"),
        (((0.5, 0.5), (0.2, 0.2)), "whose mean is"),
        (((127.0,), (60.0,)), "as of pixels in 0..255"),
    ],
)
def test_a_normalisation_that_is_none(data, variables, given, said):
    with pytest.raises(InputError, match=said):
        dcmu.adopt(Net(), variables, data, parts=PARTS, normalisation=given)


def test_a_normalisation_of_bare_numbers(data, variables):
    network = dcmu.adopt(Net(), variables, data, parts=PARTS, normalisation=(0.25, 0.5))
    assert [np.asarray(x).tolist() for x in network.normalisation] == [[0.25], [0.5]]


def _fit(network, data, **rest):
    options = {"epochs": 2, "key": named_key(0, "t"), "batch_size": 12, **rest}
    optimizer = Optimizer(learning_rate=0.01)
    return fit(network, examples_of(data.train), optimizer=optimizer, **options).classifier


def test_it_computes_what_the_module_does_and_gives_its_tree_back(network, data, variables):
    x = network.normalisation.apply(data.test.images)
    expected = Net().apply(variables, x)
    np.testing.assert_allclose(network.logits(data.test.images), expected, atol=1e-5)
    assert same_bits(dcmu.variables_of(network), jax.tree.map(np.asarray, dict(variables)))


def test_training_all_of_it_is_training_the_module(network, data, variables):
    """One full-batch step against plain JAX on the user's own tree, without dropout."""
    net = Net(dropout=0.0)
    ours = dcmu.adopt(net, variables, data, parts=PARTS)
    trained = dcmu.train(
        ours, data.train, epochs=1, optimizer=optax.sgd(0.1), batch_size=None, key=named_key(0, "")
    )
    x = ours.normalisation.apply(data.train.images)

    def loss(params):
        given = {"params": params, "batch_stats": variables["batch_stats"]}
        logits, new = net.apply(given, x, training=True, mutable=["batch_stats"])
        found = optax.softmax_cross_entropy_with_integer_labels(logits, data.train.labels)
        return found.mean(), new["batch_stats"]

    gradient, stats = jax.grad(loss, has_aux=True)(variables["params"])
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, variables["params"], gradient)
    found = dcmu.variables_of(trained)
    assert_close(found["params"], expected, atol=1e-5)
    assert_close(found["batch_stats"], stats, atol=1e-5)


@pytest.mark.parametrize("parts", [("final",), ("beginning", "final"), ("intermediate",)])
def test_frozen_parts_keep_parameters_and_statistics(network, data, parts):
    trained = _fit(network, data, parts=parts)
    for part in ("beginning", "intermediate", "final"):
        same = same_bits(part_of(trained, part), part_of(network, part))
        assert same == (part not in parts)


def test_frozen_layers_are_in_evaluation_mode(network, data, variables):
    """``final`` alone, no dropout: as a dense network on the frozen layers' features."""
    net = Net(dropout=0.0)
    ours = dcmu.adopt(net, variables, data, parts=PARTS)
    trained = _fit(ours, data, parts=("final",), epochs=1, batch_size=None)
    x = ours.normalisation.apply(data.train.images)

    def loss(head):
        given = {**variables, "params": {**variables["params"], **head}}
        found = net.apply(given, x)  # BatchNorm on its running statistics
        return optax.softmax_cross_entropy_with_integer_labels(found, data.train.labels).mean()

    head = {k: v for k, v in variables["params"].items() if k.startswith("Dense")}
    adam = optax.adam(0.01)
    updates, _ = adam.update(jax.grad(loss)(head), adam.init(head), head)
    found = dcmu.variables_of(trained)["params"]
    assert_close({k: found[k] for k in head}, optax.apply_updates(head, updates), atol=1e-5)


def test_flags_set_as_fields_and_by_position_are_switched(data):
    class Flagged(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            x = nn.Dense(4, name="a")(x.reshape(len(x), -1))
            x = nn.BatchNorm(name="b")(x, not train)
            return nn.Dense(3, name="d")(nn.Dense(4, name="c")(x))

    start = Flagged().init(jax.random.key(0), jnp.zeros((1, *data.image_shape)))
    parts = {"beginning": ["a", "b"], "intermediate": "c", "final": "d"}
    network = dcmu.adopt(Flagged(), start, data, parts=parts)
    trained = _fit(network, data, parts=("final",))
    assert same_bits(part_of(trained, "beginning"), part_of(network, "beginning"))
    moved = _fit(network, data, parts=("beginning",))
    assert not same_bits(
        moved.variables["batch_stats"]["beginning"], network.variables["batch_stats"]["beginning"]
    )


@pytest.mark.parametrize("flag", ["train", "deterministic"])
def test_a_flag_without_a_default_is_given(data, flag):
    class Strict(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            x = nn.Dense(4, name="a")(x.reshape(len(x), -1))
            x = nn.Dropout(0.5, deterministic=not train)(nn.Dense(4, name="b")(x))
            return nn.Dense(3, name="c")(x)

    class Other(nn.Module):
        @nn.compact
        def __call__(self, x, deterministic):
            x = nn.Dense(4, name="a")(x.reshape(len(x), -1))
            x = nn.Dropout(0.5, deterministic=deterministic)(nn.Dense(4, name="b")(x))
            return nn.Dense(3, name="c")(x)

    net, off = (Strict(), {"train": False}) if flag == "train" else (Other(), {flag: True})
    image = jnp.zeros((1, *data.image_shape))
    start = net.init(jax.random.key(0), image, **off)
    parts = {"beginning": "a", "intermediate": "b", "final": "c"}
    network = dcmu.adopt(net, start, data, parts=parts)
    x = network.normalisation.apply(data.test.images)
    expected = net.apply(start, x, **off)
    np.testing.assert_allclose(network.logits(data.test.images), expected, atol=1e-5)


class Drawing(nn.Module):
    """Dropout by hand, which nothing but the module's flag switches."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(8, name="a")(x.reshape(len(x), -1))
        if train:
            x = x * jax.random.bernoulli(self.make_rng("dropout"), 0.5, x.shape)
        return nn.Dense(3, name="c")(nn.Dense(8, name="b")(x))


def test_a_layer_that_cannot_be_switched_by_part_is_refused(data):
    start = Drawing().init(jax.random.key(0), jnp.zeros((1, *data.image_shape)))
    parts = {"beginning": "a", "intermediate": "b", "final": "c"}
    with pytest.raises(InputError, match=r"Drawing, whose outputs in training mode differ"):
        dcmu.adopt(Drawing(), start, data, parts=parts)


def test_features_are_the_input_of_final_or_a_layers_output(network, data, variables):
    x = network.normalisation.apply(data.test.images)
    found = network.features(data.test.images)
    assert found.shape == (len(data.test), 2 * 2 * 6)
    by_layer = dcmu.adopt(Net(), variables, data, parts=PARTS, layer="Dense_0")
    _, state = Net().apply(variables, x, capture_intermediates=True)
    expected = state["intermediates"]["Dense_0"]["__call__"][0]
    np.testing.assert_allclose(by_layer.features(data.test.images), expected, atol=1e-5)
    with pytest.raises(InputError, match=r"Did you mean 'Dense_0'|Did you mean 'Dense_1'"):
        dcmu.adopt(Net(), variables, data, parts=PARTS, layer="Dense_7")


def test_the_paper_on_it(network, data):
    """Clusters, images, reduced set, online phase, metrics; then the user's own tree."""
    original = _fit(network, data)
    clusters = dcmu.cluster(original, data.train, per_class=3)
    bank = dcmu.condense(original, data.train, clusters)
    request = dcmu.forget([0, 3, 7], data.train)
    reduced = dcmu.collect(bank, data.train, request)
    found = dcmu.unlearn(
        original,
        reduced,
        schedule=dataclasses.replace(dcmu.schedules.paper(), rounds=2, tail=1),
        remembrance=data.test.first(2),
        key=jax.random.key(1),
    )
    retain, forget = data.train.without(request.ids), data.train.only(request.ids)
    assert 0 <= dcmu.unlearning_metric(found, retain=retain, forget=forget) <= 200
    assert np.isfinite(dcmu.overfitting_metric(found, forget)).all()
    rows = dcmu.evaluate({"original": original, "modular": found}, data, request)
    assert len(rows) == 2
    tree = dcmu.variables_of(found)
    Net().apply(tree, jnp.zeros((1, *data.image_shape)))
    assert jax.tree.structure(tree) == jax.tree.structure(dcmu.variables_of(network))


def test_the_overfitting_metric_is_that_of_plain_gradients(network, data):
    x = network.normalisation.apply(data.test.images)
    tree = dcmu.variables_of(network)

    def one(x, label):
        def loss(params):
            logits = Net().apply({**tree, "params": params}, x[None])
            found = optax.softmax_cross_entropy_with_integer_labels(logits, label[None])
            return found[0]

        value, gradient = jax.value_and_grad(loss)(tree["params"])
        leaves = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(gradient)])
        return jnp.abs(value - jnp.abs(leaves).mean())

    expected = jax.vmap(one)(x, jnp.asarray(data.test.labels))
    np.testing.assert_allclose(dcmu.overfitting_metric(network, data.test), expected, rtol=1e-4)


def test_its_own_normalisation(data, variables):
    given = ([0.25], [0.5])
    network = dcmu.adopt(Net(), variables, data, parts=PARTS, normalisation=given)
    assert network.normalisation.std == pytest.approx(0.5)
    assert isinstance(network.normalisation, Normalisation)


PATHS = ["Conv_0/kernel", "Conv_0/bias", "Dense_0/kernel"]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"beginning": "Conv_0", "intermediate": "Dense_0"}, r"without 'final'"),
        (
            {"beginning": "Conv_0/kernel", "intermediate": "Conv_0/bias", "final": "Dense_1"},
            r"Unknown parameters of N \(pattern for final\) 'Dense_1'.*Did you mean 'Dense_0'",
        ),
        (
            {"beginning": "Conv_0", "intermediate": "*/bias", "final": "Dense_0"},
            r"'Conv_0/bias' of N is in beginning .*Conv_0.*and in intermediate",
        ),
        (
            {"beginning": "*/bias", "intermediate": "Conv_0/k*", "final": "Conv_0/k*"},
            r"in intermediate .* and in final",
        ),
        (
            {"beginning": "Conv_0", "intermediate": "*", "final": "Dense_0"},
            r"Make the pattern '\*' narrower",
        ),
        (
            {"beginning": "*", "intermediate": "Conv_0", "final": "Dense_0"},
            r"Make the pattern '\*' narrower",
        ),
        (
            {"beginning": "Conv_0", "intermediate": 3, "final": "Dense_0"},
            r"patterns for intermediate given as 3.*\{\"intermediate\": \"Dense_0\"\}",
        ),
        (
            {"begining": "*/bias", "intermediate": "Conv_0/k*", "final": "Dense_0"},
            r"Did you mean 'beginning'",
        ),
        (["Conv_0"], r"given as a list"),
    ],
)
def test_patterns_that_make_no_parts(parts, message):
    with pytest.raises(InputError, match=message):
        labels_of(PATHS, parts, "N")


def test_parameters_in_no_part():
    parts = {"beginning": "Conv_0/kernel", "intermediate": "Dense_0", "final": "Dense_0"}
    with pytest.raises(InputError, match=r"is in intermediate .* and in final"):
        labels_of(PATHS, parts, "N")
    parts["final"] = "Conv_0/b*"
    assert set(labels_of(PATHS, parts, "N").values()) == {"beginning", "intermediate", "final"}
    with pytest.raises(InputError, match=r"1 parameter of N in no part: Extra/scale"):
        labels_of([*PATHS, "Extra/scale"], parts, "N")


SHAPED = r"^params/Dense_1/kernel of shape \(8, 4\) for the module Net.*shape \(8, 3\)"
NAN = "^params/Dense_1/kernel of the network, which is not all finite"


class Counting(nn.Module):
    """Keeps a count, which no collection that is kept holds."""

    @nn.compact
    def __call__(self, x, train=False):
        count = self.variable("cache", "count", lambda: jnp.zeros(()))
        count.value = count.value + 1
        return nn.Dense(3)(x.reshape(len(x), -1))


class Two(nn.Module):
    """Gives more than logits."""

    @nn.compact
    def __call__(self, x, train=False):
        for size in (4, 4, 3):
            h, x = x, nn.Dense(size)(x.reshape(len(x), -1))
        return x, h


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Counting(), "Counting, which keeps variables in cache.*Keep no other state"),
        (Two(), "a tuple for 2 images of 3 classes.*Return the logits alone"),
    ],
    ids=["other state", "a tuple"],
)
def test_modules_that_cannot_be_kept_or_trained(data, module, message):
    given = module.init(jax.random.key(0), jnp.zeros((1, *data.image_shape)))
    parts = {"beginning": "Dense_0", "intermediate": "Dense_1", "final": "Dense_2"}
    with pytest.raises(InputError, match=message):
        dcmu.adopt(module, {"params": given["params"]}, data, parts=parts)


def test_variables_that_do_not_fit(data, variables):
    with pytest.raises(InputError, match="of the kinds cache"):
        dcmu.adopt(Net(), {**variables, "cache": {}}, data, parts=PARTS)
    with pytest.raises(InputError, match="without 'params'"):
        dcmu.adopt(Net(), variables["params"], data, parts=PARTS)
    for change, message in (
        (lambda p: p | {"Extra": {"scale": jnp.ones(2)}}, "with params/Extra/scale, .*Leave"),
        (lambda p: p | {"Dense_1": {"kernel": jnp.ones((8, 4)), "bias": jnp.ones(3)}}, SHAPED),
        (
            lambda p: p | {"Dense_1": {"kernel": jnp.full((8, 3), jnp.nan), "bias": jnp.ones(3)}},
            NAN,
        ),
    ):
        wrong = {**variables, "params": change(variables["params"])}
        with pytest.raises(InputError, match=message):
            dcmu.adopt(Net(), wrong, data, parts=PARTS)
    few = Net(2).init(jax.random.key(0), jnp.zeros((1, *data.image_shape)))
    with pytest.raises(InputError, match="for 2 images of 3 classes"):
        dcmu.adopt(Net(2), few, data, parts=PARTS)
