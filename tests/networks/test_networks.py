"""The models of the paper: sizes, features, initialisation, what a frozen part keeps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcmu_jax.errors import InputError
from dcmu_jax.networks import (
    PARTS,
    apply_features,
    apply_parts,
    count_parameters,
    create,
)
from dcmu_jax.networks.layers import Dropout

SHAPE = (32, 32, 3)


def paper_model(name):
    return create(name, image_shape=SHAPE, num_classes=10)


@pytest.mark.parametrize(
    ("name", "parts", "features"),
    [
        ("mlp", (1_573_376, 65_664, 1_290), 128),
        ("cnn", (19_584, 369_792, 1_059_850), 1024),
        ("convnet", (3_840, 295_680, 20_490), 2048),
        ("vgg16", (260_160, 5_015_296, 28_362_762), 512),
        ("vgg16_bn", (260_928, 5_018_880, 28_366_858), 512),
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


@pytest.mark.parametrize("name", ["cnn", "resnet18"])
def test_only_parts_in_training_move_their_statistics(name, random_variables):
    shape = (16, 16, 1)
    model = create(name, image_shape=shape, num_classes=3, width=0.04, conv="lax")
    variables = random_variables(model, shape)
    x = jax.random.normal(jax.random.key(1), (4, *shape))

    @jax.jit
    def run(x):
        logits, statistics = apply_parts(
            model,
            variables,
            x,
            train=["intermediate", "final"],
            dropout_key=jax.random.key(2),
        )
        below, _ = apply_parts(model, variables, x, stop="intermediate", train=["final"])
        return logits, statistics, below

    _, statistics, beside = run(x)
    assert "beginning" not in statistics
    old, new = (
        jax.tree.leaves(stats["intermediate"]) for stats in (variables["batch_stats"], statistics)
    )
    assert not any(np.array_equal(a, b) for a, b in zip(old, new, strict=True))
    # The output of a frozen beginning does not depend on the rest of the batch.
    alone = run(x[:1])[2]
    np.testing.assert_allclose(alone, beside[:1], rtol=1e-5, atol=1e-6)


def test_bfloat16_keeps_parameters_statistics_and_logits_in_float32():
    shape = (16, 16, 3)
    model = create("cnn", image_shape=shape, num_classes=3, width=0.1, dtype="bfloat16")
    x = jax.ShapeDtypeStruct((4, *shape), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)

    def run(variables, x):
        key = jax.random.key(2)
        logits, statistics = apply_parts(model, variables, x, train=PARTS, dropout_key=key)
        middle, _ = apply_parts(model, variables, x, stop="final")
        return (logits, statistics, apply_features(model, variables, x)), middle

    kept, middle = jax.eval_shape(run, variables, x)
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, kept))} == {jnp.dtype("float32")}
    assert middle.dtype == jnp.bfloat16


def initial(model, method, *shape):
    """Parameters of what ``method`` runs on an input of ``shape``."""
    x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    return model.lazy_init(jax.random.key(0), x, method=method)["params"]


def test_torch_initialisation_is_uniform_within_its_bounds():
    model = paper_model("cnn")
    params = initial(model, lambda m, x: m.beginning(x), *SHAPE)
    params |= initial(model, lambda m, x: m.final(x), 1024)
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
    dense = initial(model, lambda m, x: m.final(x), 1024)["final"]["Dense_0"]
    assert not dense["bias"].any()
    assert np.std(dense["kernel"]) == pytest.approx(1 / np.sqrt(1024), rel=0.05)


def test_vgg_departs_from_the_default_where_torchvision_does():
    model = create("vgg16", image_shape=SHAPE, num_classes=10, width=0.125)
    params = initial(model, lambda m, x: m.beginning(x), *SHAPE)["beginning"]
    first, second = params["Conv_0"], params["Conv_1"]
    assert first["bias"].any() and np.abs(first["kernel"]).max() <= 1 / np.sqrt(27)
    assert not second["bias"].any()
    assert np.std(second["kernel"]) == pytest.approx(np.sqrt(2 / (9 * 8)), rel=0.15)
    dense = initial(model, lambda m, x: m.final.classifier(x), 64)["final"]["classifier"]
    assert np.std(dense["Dense_1"]["kernel"]) == pytest.approx(0.01, rel=0.05)
    assert not dense["Dense_1"]["bias"].any()
    assert dense["Dense_0"]["bias"].any() and dense["Dense_2"]["bias"].any()


def test_resnet_departs_from_the_default_where_torchvision_does():
    model = create("resnet18", image_shape=(8, 8, 3), num_classes=10, width=0.125)
    stem = initial(model, lambda m, x: m.beginning(x), 8, 8, 3)["beginning"]["Conv_0"]
    assert "bias" not in stem
    assert np.std(stem["kernel"]) == pytest.approx(np.sqrt(2 / (9 * 8)), rel=0.15)
    head = initial(model, lambda m, x: m.final.head(x), 64)["final"]["head"]["Dense_0"]
    assert head["bias"].any() and np.abs(head["kernel"]).max() <= 1 / 8


def test_convnet_is_convolution_norm_relu_and_mean(random_variables):
    model = create("convnet", image_shape=(9, 8, 2), num_classes=3, width=0.03, conv="lax")
    variables = random_variables(model, (9, 8, 2))
    x = np.random.default_rng(1).normal(size=(2, 9, 8, 2)).astype(np.float32)
    ours = apply_parts(model, variables, jnp.asarray(x))[0]
    params = jax.tree.map(np.asarray, variables["params"])
    for part, number in (("beginning", 0), ("intermediate", 0), ("intermediate", 1)):
        conv, norm = (params[part][f"{kind}_{number}"] for kind in ("Conv", "InstanceNorm"))
        height, width = x.shape[1:3]
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        x = conv["bias"] + sum(
            padded[:, i : i + height, j : j + width] @ conv["kernel"][i, j]
            for i in range(3)
            for j in range(3)
        )
        mean, variance = (f(x, axis=(1, 2), keepdims=True) for f in (np.mean, np.var))
        x = np.maximum((x - mean) / np.sqrt(variance + 1e-5) * norm["scale"] + norm["bias"], 0)
        height, width = height // 2, width // 2
        x = x[:, : 2 * height, : 2 * width]
        x = x.reshape(len(x), height, 2, width, 2, -1).mean(axis=(2, 4))
    dense = params["final"]["Dense_0"]
    expected = x.reshape(len(x), -1) @ dense["kernel"] + dense["bias"]
    np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-4)


def test_dropout_drops_half_and_keeps_the_mean():
    x = jnp.ones((100, 1000))
    dropout = Dropout(0.5)
    y = dropout.apply({}, x, True, rngs={"dropout": jax.random.key(0)})
    assert set(np.unique(y)) == {0.0, 2.0}
    assert float(y.mean()) == pytest.approx(1, abs=0.02)
    np.testing.assert_array_equal(dropout.apply({}, x, False), x)


def test_the_mlp_lets_logits_be_negative(random_variables):
    model = create("mlp", image_shape=(8, 8, 1), num_classes=10)
    variables = random_variables(model, (8, 8, 1))
    logits = apply_parts(model, variables, jax.random.normal(jax.random.key(1), (20, 8, 8, 1)))[0]
    assert float(logits.min()) < 0


@pytest.mark.parametrize(
    ("name", "side"), [("mlp", 8), ("convnet", 8), ("cnn", 8), ("vgg16", 32), ("vgg16_bn", 32)]
)
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
    for name in ("mlp", "cnn", "convnet", "resnet18", *(["vgg16"] if min(shape[:2]) >= 32 else [])):
        model = create(name, image_shape=shape, num_classes=4)
        x = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
        variables = jax.eval_shape(model.init, jax.random.key(0), x)
        assert jax.eval_shape(model.apply, variables, x).shape == (2, 4)
