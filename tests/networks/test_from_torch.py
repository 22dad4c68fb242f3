"""Weights from PyTorch: names, files, layouts and errors; with PyTorch there, the same logits."""

import dataclasses
import json
import re
import types

import jax
import numpy as np
import pytest
import safetensors.numpy
from golden import given, make
from toys import same_bits, toy_splits

import dcmu_jax as dcmu
from dcmu_jax.data import channel_statistics
from dcmu_jax.errors import InputError
from dcmu_jax.networks import torch_files, torch_weights
from dcmu_jax.networks.torch_weights import bring

DATA = toy_splits(classes=3)
SHAPE = (8, 8, 1)
MLP = given.weights_of(
    {
        "features.1.weight": (6, 64),
        "features.1.bias": (6,),
        "features.3.weight": (5, 6),
        "features.3.bias": (5,),
        "features.10.weight": (3, 5),  # after 3, though "10" < "3"
        "features.10.bias": (3,),
    }
)


@pytest.fixture(scope="module")
def resnet():
    """Weights of a ResNet18 by torchvision's names."""
    return given.golden_of("resnet18")[1]


def renamed(weights, *pairs):
    found = {}
    for key, value in weights.items():
        for pattern, replacement in pairs:
            key = re.sub(pattern, replacement, key)
        found[key] = value
    return found


def test_a_file_gives_a_classifier_of_the_data(tmp_path):
    path = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file(MLP, path)
    network = dcmu.from_torch("mlp", path, DATA, normalisation=((0.5,), (0.25,)))
    assert network.model.widths == (6, 5) and network.image_shape == SHAPE
    x = (DATA.test.images / 255 - 0.5).reshape(-1, 64) / 0.25
    for number in (1, 3, 10):
        x = x @ MLP[f"features.{number}.weight"].T + MLP[f"features.{number}.bias"]
        x = np.maximum(x, 0) if number < 10 else x
    np.testing.assert_allclose(network.logits(DATA.test.images), x, rtol=1e-5, atol=1e-5)
    alone = dcmu.from_torch("mlp", str(path), SHAPE, normalisation=((0.5,), (0.25,)))
    assert alone.fingerprint() == network.fingerprint()
    by_data = dcmu.from_torch("mlp", MLP, DATA).normalisation
    assert same_bits(by_data, channel_statistics(DATA.train.images))


def test_half_precision_is_read_as_it_is(tmp_path):
    path = tmp_path / "weights.safetensors"
    numbers = MLP["features.1.weight"]
    bits = (numbers.view(np.uint32) >> 16).astype(np.uint16)  # bfloat16, which NumPy has not
    for kind, stored, expected in (
        ("F16", numbers.astype(np.float16), numbers.astype(np.float16)),
        ("BF16", bits, (bits.astype(np.uint32) << 16).view(np.float32)),
    ):
        whole = {"dtype": kind, "shape": numbers.shape, "data_offsets": [0, stored.nbytes]}
        header = json.dumps({"w": whole}).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header + stored.tobytes())
        assert same_bits(torch_files.read_weights(path), {"w": expected})


def test_what_wraps_weights_is_taken_off():
    plain = bring("mlp", MLP, SHAPE).variables
    parallel = {f"module.{key}": value for key, value in MLP.items()}
    compiled = {f"_orig_mod.{key}": value for key, value in parallel.items()}
    for wrapped in (
        {"epoch": 3, "state_dict": MLP},
        {"net": parallel, "acc": 90.0},
        {"model": compiled},
    ):
        assert same_bits(bring("mlp", wrapped, SHAPE).variables, plain)


NAMES = {
    "shortcut and linear": ((r"downsample", "shortcut"), (r"^fc", "linear")),
    "stages from conv2_x on": (
        (r"^conv1", "conv1.0"),
        (r"^bn1", "conv1.1"),
        (r"\.conv1\.", ".residual_function.0."),
        (r"\.bn1\.", ".residual_function.1."),
        (r"\.conv2\.", ".residual_function.3."),
        (r"\.bn2\.", ".residual_function.4."),
        (r"downsample", "shortcut"),
        (r"^layer(\d)", lambda found: f"conv{int(found[1]) + 1}_x"),
    ),
}


@pytest.mark.parametrize("names", NAMES)
def test_names_of_other_repositories(resnet, names):
    _, shape = given.model_of("resnet18")
    others = renamed(resnet, *NAMES[names])
    assert set(others) != set(resnet)
    counts = {"bn1.num_batches_tracked": np.int64(7)}
    mean = {"normalize.mean": np.float32(given.MEAN), "normalize.std": np.float32(given.STD)}
    brought = bring("resnet18", others | counts | mean, shape, given.CLASSES)
    assert same_bits(brought.variables, bring("resnet18", resnet, shape).variables)
    np.testing.assert_array_equal(brought.normalisation.std, mean["normalize.std"])


@pytest.mark.parametrize("name", ["resnet18", "vgg16_bn", "cnn"])
@pytest.mark.parametrize("bare", [False, True], ids=["", "no biases"])
def test_weights_go_back_under_their_names(name, bare):
    """Of a network that was changed since: what is given back makes the same network."""
    weights, shape = given.golden_of(name)[1], given.model_of(name)[1]
    weights = {f"module.{key}": value for key, value in weights.items()}
    if bare and name == "vgg16_bn":
        convs = {key[:-6] for key, value in weights.items() if value.ndim == 4}
        weights = {k: v for k, v in weights.items() if k not in {f"{c}bias" for c in convs}}
    network = dcmu.from_torch(name, weights, shape, normalisation=(given.MEAN, given.STD))
    changed = jax.tree.map(lambda x: x * 0.9 + 0.01, network.variables)
    network = dataclasses.replace(network, variables=changed)
    back = dcmu.to_torch(network, {"state_dict": weights})
    assert list(back) == list(weights)
    again = dcmu.from_torch(name, back, shape, normalisation=(given.MEAN, given.STD))
    images = given.images_of(shape[0])[0]
    np.testing.assert_allclose(again.logits(images), network.logits(images), rtol=1e-5, atol=1e-5)


def test_convolutions_without_bias_have_one_of_zeros():
    weights, shape = given.golden_of("vgg16_bn")[1], given.model_of("vgg16_bn")[1]
    bare = {
        key: value
        for key, value in weights.items()
        if not (key.endswith("bias") and weights[key.replace("bias", "weight")].ndim == 4)
    }
    assert len(bare) == len(weights) - 13
    params = bring("vgg16_bn", bare, shape).variables["params"]
    assert not params["intermediate"]["Conv_3"]["bias"].any()
    assert params["intermediate"]["BatchNorm_3"]["bias"].any()


@pytest.mark.parametrize(
    ("height", "width", "fields", "told"),
    [
        (64, 64, 1, True),
        (64, 64, 3, True),
        (96, 96, 7, True),
        (96, 96, 3, True),
        (96, 96, 2, False),  # windows of two pixels or of one and a half
        (96, 32, 7, True),
        (96, 32, 1, True),
        (96, 32, 3, False),
        (128, 32, 2, False),  # as many fields as pixels, if they are 2 by 2 at all
    ],
)
def test_what_was_averaged_before_the_first_dense_layer(height, width, fields, told):
    out, channels, pixels = 5, 3, (height // 32, width // 32)
    rows = channels * pixels[0] * pixels[1]
    drawn = given.numbers("dense", out, channels * fields**2)

    def brought():
        shape = (height, width, 2)
        return torch_weights._after_flattening("dense", drawn, (rows, out), shape, "vgg16")

    if not told:
        with pytest.raises(InputError, match=r"do not tell which pixels .*dcmu\.adopt"):
            brought()
        return
    summed = brought().reshape(*pixels, channels, out).sum((0, 1))
    wanted = drawn.reshape(out, channels, fields**2).sum(-1).T
    np.testing.assert_allclose(summed, wanted, atol=1e-5)


def without(weights, key):
    return {name: value for name, value in weights.items() if name != key}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: without(w, "fc.bias"), r"without 'fc.bias' for 'resnet18'.*\(or linear\)"),
        (lambda w: without(w, "layer3.0.downsample.0.weight"), "without 'layer3.0.downsample.0.w"),
        (lambda w: without(w, "bn1.running_var"), "without 'bn1.running_var'"),
        (lambda w: w | {"layer1.2.conv1.weight": w["conv1.weight"]}, "with layer1.2.conv1.weight"),
        (lambda w: w | {"linear.weight": w["fc.weight"]}, "'linear.weight' beside others"),
        (
            lambda w: w | {"conv1.weight": np.ones((3, 2, 7, 7))},
            r"\(3, 2, 7, 7\).*Allowed: shape \(3, 2, 3, 3\).*for small images",
        ),
        (lambda w: w | {"conv1.weight": np.ones((3, 1, 3, 3))}, r"\(3, 1, 3, 3\).*of this shape"),
        (lambda w: w | {"bn1.weight": np.ones((4, 1))}, r"bn1.weight of shape \(4, 1\)"),
        (
            lambda w: w | {"bn1.bias": np.ones(4)},
            r"bn1.bias of shape \(4,\).*Allowed: shape \(3,\)",
        ),
        (
            lambda w: w | {"fc.weight": np.ones((10, 6))},
            r"of 10 classes \(fc.weight\) for data of 3",
        ),
        (lambda w: w | {"fc.bias": np.full(3, np.nan)}, "'fc.bias'.*not all finite"),
        (lambda w: w | {"fc.bias": np.ones(0)}, r"'fc.bias', of shape \(0,\)"),
        (lambda w: w | {"epoch": "many"}, "'epoch' given as a str"),
        (lambda w: [w], "given as a list.*Give the path"),
        (lambda w: {}, "without 'conv1.weight'.*among none"),
        (lambda w: w | {"normalize.mean": np.ones(3), "normalize.std": np.ones(3)}, "3 channels"),
    ],
)
def test_what_is_wrong_with_weights_is_named(resnet, change, message):
    _, shape = given.model_of("resnet18")
    with pytest.raises(InputError, match=message):
        bring("resnet18", change(resnet), shape, given.CLASSES)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("mlp", {"features.12.weight": np.ones((3, 3))}, r"4 dense layers.*Allowed: 3"),
        ("mlp", {"features.3.weight": None, "last.weight": np.ones((5, 6))}, "numbers alone"),
        ("vgg16", {}, "0 convolution layers for 'vgg16'.*Allowed: 13.*dcmu.adopt"),
        ("resnet", {}, "Unknown model 'resnet'.*Did you mean 'resnet18'"),
    ],
)
def test_layers_in_order_are_counted(name, change, message):
    weights = {k: v for k, v in (MLP | change).items() if v is not None}
    with pytest.raises(InputError, match=message):
        bring(name, weights, (32, 32, 1))


def test_vgg_without_batchnorm_is_told_from_that_with(resnet):
    weights, shape = given.golden_of("vgg16_bn")[1], given.model_of("vgg16_bn")[1]
    with pytest.raises(InputError, match=r"13 normalisation layers.*Take 'vgg16_bn'"):
        bring("vgg16", weights, shape)


def test_files_that_hold_no_weights(tmp_path, monkeypatch):
    path = tmp_path / "weights.safetensors"
    for content in (b"", b"garbage" * 20, safetensors.numpy.save(MLP)[:-8]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"cannot be read as a file of weights.*save_file"):
            dcmu.from_torch("mlp", path, DATA)
    with pytest.raises(InputError, match="No file of weights at"):
        dcmu.from_torch("mlp", tmp_path / "other.safetensors", DATA)
    with pytest.raises(InputError, match=r"Allowed: a file that ends in \.safetensors, \.pt"):
        dcmu.from_torch("mlp", tmp_path / "weights.npz", DATA)
    monkeypatch.setattr(torch_files.importlib, "import_module", _absent)
    with pytest.raises(InputError, match=r"not installed.*safetensors\.torch\.save_file"):
        dcmu.from_torch("mlp", tmp_path / "weights.pt", DATA)
    with pytest.raises(InputError, match=r"no normalisation.*Give normalisation="):
        dcmu.from_torch("mlp", MLP, SHAPE)


def test_an_old_reader_of_pytorch_is_not_used(tmp_path, monkeypatch):
    old = types.SimpleNamespace(__version__="2.9.1+cpu")
    bringing = dcmu.from_torch  # found by the same function, the first time
    monkeypatch.setattr(torch_files.importlib, "import_module", lambda _: old)
    with pytest.raises(InputError, match=r"PyTorch 2\.9\.1\+cpu, whose reader.*torch>=2\.10"):
        bringing("mlp", tmp_path / "weights.pt", DATA)


@pytest.mark.parametrize("kind", [np.complex64, np.int8, bool, object])
def test_what_is_no_floating_point_number_is_no_weight(kind):
    name = next(iter(MLP))
    with pytest.raises(InputError, match=rf"The weights '{name}' given as an ndarray"):
        bring("mlp", MLP | {name: MLP[name].astype(kind)}, SHAPE)


@pytest.mark.parametrize("key", ["mean", "std"])
def test_half_a_normalisation_is_refused(key):
    with pytest.raises(InputError, match=rf"normalize\.{key}"):
        bring("mlp", MLP | {f"normalize.{key}": np.float32([0.5])}, SHAPE)


def _absent(name):
    raise ImportError(name)


def _torch():
    return pytest.importorskip(
        "torch", reason="PyTorch is not installed; it comes with the extra 'bench'"
    )


@pytest.mark.parametrize(("name", "ending"), [("vgg16_bn", ".pt"), ("resnet18", ".safetensors")])
def test_logits_are_those_of_pytorch(name, ending, tmp_path):
    torch = _torch()
    network, _ = make.torch_network(name)
    network = network.float().eval()
    path = tmp_path / f"weights{ending}"
    if ending == ".pt":
        torch.save({"state_dict": network.state_dict(), "epoch": 3}, path)
    else:
        import safetensors.torch

        safetensors.torch.save_file(network.state_dict(), path)
    _, shape = given.model_of(name)
    brought = dcmu.from_torch(name, path, shape, normalisation=(given.MEAN, given.STD))
    with torch.no_grad():
        theirs = network(make.inputs_of(shape[0])[0].float()).numpy()
    ours = brought.logits(given.images_of(shape[0])[0])
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    changed = jax.tree.map(lambda x: x * np.float32(0.9), brought.variables)
    brought = dataclasses.replace(brought, variables=changed)
    back = dcmu.to_torch(brought, like=path)
    network.load_state_dict({key: torch.from_numpy(value) for key, value in back.items()})
    with torch.no_grad():
        theirs = network(make.inputs_of(shape[0])[0].float()).numpy()
    ours = brought.logits(given.images_of(shape[0])[0])
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_file_of_pytorch_that_holds_code_is_not_run(tmp_path):
    torch = _torch()
    path = tmp_path / "weights.pt"
    torch.save(torch.nn.Linear(2, 2), path)
    whole = r"cannot be read as a file of weights \(it holds objects besides tensors, [^\x1b]*$"
    with pytest.raises(InputError, match=whole):
        dcmu.from_torch("mlp", path, DATA)
    path.write_bytes(b"junk")
    with pytest.raises(InputError, match=r"as a file of weights \([^\x1b\n]*\)"):
        dcmu.from_torch("mlp", path, DATA)
    with pytest.raises(InputError, match=r"Give network\.state_dict\(\)"):
        dcmu.from_torch("mlp", torch.nn.Linear(2, 2), DATA)
