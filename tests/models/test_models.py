"""The models of the paper: sizes, features, initialisation, what a frozen part keeps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcmu_jax.errors import InputError
from dcmu_jax.models import (
    MODELS,
    PARTS,
    apply_features,
    apply_parts,
    count_parameters,
    create,
    initialise,
)
from dcmu_jax.models.layers import Dropout

SHAPE = (32, 32, 3)


def paper_model(name):
    return create(name, image_shape=SHAPE, num_classes=10)


@pytest.mark.parametrize(
    ("name", "parts", "features"),
    [
        ("mlp", (1_573_376, 65_664, 1_290), 128),
        ("cnn", (19_584, 369_792, 1_059_850), 1024),
        ("vgg16", (260_160, 5_015_296, 28_362_762), 512),
        ("resnet18", (675_392, 2_099_712, 8_398_858), 512),
    ],
)
def test_parameter_counts_and_features_of_the_paper(name, parts, features):
    model = paper_model(name)
    x = jax.ShapeDtypeStruct((2, *SHAPE), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    counts = count_parameters(variables["params"])
    assert tuple(counts[part] for part in PARTS) == parts
    assert jax.eval_shape(model.apply, variables, x).shape == (2, 10)
    run = jax.eval_shape(lambda v, x: apply_features(model, v, x), variables, x)
    assert run.shape == (2, features)


@pytest.mark.parametrize("name", MODELS)
def test_calling_the_model_is_running_its_parts(name):
    model = create(name, image_shape=SHAPE, num_classes=7, width=0.04, init="flax")
    variables = initialise(model, jax.random.key(0), SHAPE)
    x = jax.random.normal(jax.random.key(1), (2, *SHAPE))
    logits, statistics = apply_parts(model, variables, x)
    np.testing.assert_allclose(model.apply(variables, x), logits, rtol=1e-5, atol=1e-5)
    middle = apply_parts(model, variables, x, stop="final")[0]
    on = apply_parts(model, variables, middle, start="final")[0]
    np.testing.assert_allclose(on, logits, rtol=1e-5, atol=1e-5)
    assert statistics == {} and logits.shape == (2, 7) and hash(model) == hash(model)


@pytest.mark.parametrize("name", ["cnn", "resnet18"])
def test_only_parts_in_training_move_their_statistics(name):
    model = create(name, image_shape=(16, 16, 1), num_classes=3, width=0.04)
    variables = initialise(model, jax.random.key(0), (16, 16, 1))
    x = jax.random.normal(jax.random.key(1), (4, 16, 16, 1))
    keys = {"dropout_key": jax.random.key(2)}
    _, statistics = apply_parts(model, variables, x, train=["intermediate", "final"], **keys)
    assert "beginning" not in statistics
    for old, new in zip(
        jax.tree.leaves(variables["batch_stats"]["intermediate"]),
        jax.tree.leaves(statistics["intermediate"]),
        strict=True,
    ):
        assert not np.array_equal(old, new)
    # The output of a frozen beginning does not depend on the rest of the batch.
    alone = apply_parts(model, variables, x[:1], stop="intermediate", train=["final"], **keys)[0]
    beside = apply_parts(model, variables, x, stop="intermediate", train=["final"], **keys)[0]
    np.testing.assert_allclose(alone, beside[:1], rtol=1e-5, atol=1e-6)


def test_bfloat16_keeps_parameters_statistics_and_logits_in_float32():
    model = create("cnn", image_shape=(16, 16, 3), num_classes=3, width=0.1, dtype="bfloat16")
    variables = initialise(model, jax.random.key(0), (16, 16, 3))
    x = jax.random.normal(jax.random.key(1), (4, 16, 16, 3))
    logits, statistics = apply_parts(
        model, variables, x, train=PARTS, dropout_key=jax.random.key(2)
    )
    leaves = jax.tree.leaves((variables, statistics, logits, apply_features(model, variables, x)))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype(jnp.float32)}
    assert apply_parts(model, variables, x, stop="final")[0].dtype == jnp.bfloat16


def test_torch_initialisation_is_uniform_within_its_bounds():
    model = create("cnn", image_shape=SHAPE, num_classes=10)
    params = initialise(model, jax.random.key(0), SHAPE)["params"]
    for layer, fan_in in (
        (params["beginning"]["Conv_0"], 27),
        (params["beginning"]["Conv_1"], 288),
        (params["final"]["Dense_0"], 1024),
    ):
        limit = 1 / np.sqrt(fan_in)
        for leaf in (layer["kernel"], layer["bias"]):
            assert 0.8 * limit < np.abs(leaf).max() <= limit
        assert np.std(layer["kernel"]) == pytest.approx(limit / np.sqrt(3), rel=0.1)


def test_flax_initialisation_has_zero_biases_and_lecun_kernels():
    model = create("cnn", image_shape=SHAPE, num_classes=10, init="flax")
    dense = initialise(model, jax.random.key(0), SHAPE)["params"]["final"]["Dense_0"]
    assert not dense["bias"].any()
    assert np.std(dense["kernel"]) == pytest.approx(1 / np.sqrt(1024), rel=0.05)


def test_vgg_and_resnet_depart_from_the_default_where_torchvision_does():
    vgg = create("vgg16", image_shape=SHAPE, num_classes=10, width=0.125)
    params = initialise(vgg, jax.random.key(0), SHAPE)["params"]
    first, second = params["beginning"]["Conv_0"], params["beginning"]["Conv_1"]
    assert first["bias"].any() and np.abs(first["kernel"]).max() <= 1 / np.sqrt(27)
    assert not second["bias"].any()
    assert np.std(second["kernel"]) == pytest.approx(np.sqrt(2 / (9 * 8)), rel=0.15)
    classifier = params["final"]["classifier"]
    assert np.std(classifier["Dense_1"]["kernel"]) == pytest.approx(0.01, rel=0.05)
    assert not classifier["Dense_1"]["bias"].any()
    assert classifier["Dense_0"]["bias"].any() and classifier["Dense_2"]["bias"].any()

    resnet = create("resnet18", image_shape=(8, 8, 3), num_classes=10, width=0.125)
    params = initialise(resnet, jax.random.key(0), (8, 8, 3))["params"]
    stem = params["beginning"]["Conv_0"]
    assert "bias" not in stem
    assert np.std(stem["kernel"]) == pytest.approx(np.sqrt(2 / (9 * 8)), rel=0.15)
    assert params["final"]["head"]["Dense_0"]["bias"].any()


def test_dropout_drops_half_and_keeps_the_mean():
    x = jnp.ones((100, 1000))
    dropout = Dropout(0.5)
    y = dropout.apply({}, x, True, rngs={"dropout": jax.random.key(0)})
    assert set(np.unique(y)) == {0.0, 2.0}
    assert float(y.mean()) == pytest.approx(1, abs=0.02)
    np.testing.assert_array_equal(dropout.apply({}, x, False), x)


def test_the_mlp_lets_logits_be_negative():
    model = create("mlp", image_shape=(8, 8, 1), num_classes=10)
    variables = initialise(model, jax.random.key(0), (8, 8, 1))
    logits = apply_parts(model, variables, jax.random.normal(jax.random.key(1), (20, 8, 8, 1)))[0]
    assert float(logits.min()) < 0


@pytest.mark.parametrize(("name", "side"), [("mlp", 8), ("cnn", 16), ("vgg16", 32)])
def test_images_too_small_for_a_model_are_refused_with_those_that_take_them(name, side):
    create(name, image_shape=(side, side, 3), num_classes=10)
    with pytest.raises(InputError, match=f"{side}x{side} or more") as caught:
        create(name, image_shape=(side, side - 1, 3), num_classes=10)
    fitting = caught.value.remedy
    assert name not in fitting
    assert ("resnet18" in fitting) == (side > 8)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("cnm", {}, "Unknown model 'cnm'.*Did you mean 'cnn'"),
        ("cnn", {"dtype": "bfloat"}, "Did you mean 'bfloat16'"),
        ("cnn", {"conv": "dots"}, "Did you mean 'dot'"),
        ("cnn", {"init": "torsh"}, "Did you mean 'torch'"),
        ("cnn", {"num_classes": 1}, "num_classes = 1"),
        ("cnn", {"width": 0.0}, "width = 0"),
    ],
)
def test_bad_settings_are_named(name, settings, message):
    with pytest.raises(InputError, match=message):
        create(name, **{"image_shape": SHAPE, "num_classes": 10, **settings})


@pytest.mark.parametrize("shape", [(28, 28, 1), (33, 35, 3)])
def test_models_adapt_to_size_channels_and_classes(shape):
    for name in ("mlp", "cnn", "resnet18", *(["vgg16"] if min(shape[:2]) >= 32 else [])):
        model = create(name, image_shape=shape, num_classes=4)
        x = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
        variables = jax.eval_shape(model.init, jax.random.key(0), x)
        assert jax.eval_shape(model.apply, variables, x).shape == (2, 4)
