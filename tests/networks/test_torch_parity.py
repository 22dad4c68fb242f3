"""The same weights give the same logits in PyTorch (needs the extra ``bench``)."""

import jax
import numpy as np
import pytest

from dcmu_jax.networks import apply_parts, create

torch = pytest.importorskip(
    "torch", reason="PyTorch is not installed; it comes with the extra 'bench'"
)

SIDE = 32


def _conv(leaf):
    kernel = np.array(leaf["kernel"]).transpose(3, 2, 0, 1)
    layer = torch.nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1)
    layer.weight.data = torch.from_numpy(kernel.copy())
    layer.bias.data = torch.from_numpy(np.array(leaf["bias"]))
    return layer


def _dense(leaf, after_flatten=None):
    """The layer; ``after_flatten``: (side, channels) of the map whose flattening it sees."""
    kernel = np.array(leaf["kernel"])
    if after_flatten is not None:  # rows run over H, W, C here and over C, H, W in PyTorch
        side, channels = after_flatten
        kernel = kernel.reshape(side, side, channels, -1).transpose(2, 0, 1, 3)
        kernel = kernel.reshape(side * side * channels, -1)
    layer = torch.nn.Linear(*kernel.shape)
    layer.weight.data = torch.from_numpy(kernel.T.copy())
    layer.bias.data = torch.from_numpy(np.array(leaf["bias"]))
    return layer


def _batch_norm(leaf, stats):
    layer = torch.nn.BatchNorm2d(len(leaf["scale"]))
    layer.weight.data = torch.from_numpy(np.array(leaf["scale"]))
    layer.bias.data = torch.from_numpy(np.array(leaf["bias"]))
    layer.running_mean = torch.from_numpy(np.array(stats["mean"]))
    layer.running_var = torch.from_numpy(np.array(stats["var"]))
    return layer


def _compare(model, variables, network):
    x = np.random.default_rng(1).normal(size=(3, SIDE, SIDE, 3)).astype(np.float32)
    with jax.default_matmul_precision("highest"):
        ours, _ = jax.jit(lambda v, x: apply_parts(model, v, x))(variables, x)
    with torch.no_grad():
        theirs = network.eval()(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    assert np.std(theirs) > 1e-3
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max())


def test_cnn(random_variables):
    model = create("cnn", image_shape=(SIDE, SIDE, 3), num_classes=10, width=0.25)
    variables = random_variables(model, (SIDE, SIDE, 3))
    layers = []
    for part in ("beginning", "intermediate"):
        params, stats = variables["params"][part], variables["batch_stats"][part]
        for i in range(2):
            name = f"BatchNorm_{i}"
            layers += [_conv(params[f"Conv_{i}"]), _batch_norm(params[name], stats[name])]
            layers += [torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
    final = variables["params"]["final"]
    layers += [torch.nn.Flatten(), _dense(final["Dense_0"], (2, 64)), torch.nn.ReLU()]
    layers += [torch.nn.Dropout(0.5), _dense(final["Dense_1"])]
    _compare(model, variables, torch.nn.Sequential(*layers))


def test_convnet(random_variables):
    model = create("convnet", image_shape=(SIDE, SIDE, 3), num_classes=10, width=0.25)
    variables = random_variables(model, (SIDE, SIDE, 3))
    layers = []
    for part, count in (("beginning", 1), ("intermediate", 2)):
        params = variables["params"][part]
        for i in range(count):
            leaf = params[f"InstanceNorm_{i}"]
            norm = torch.nn.GroupNorm(len(leaf["scale"]), len(leaf["scale"]))
            norm.weight.data = torch.from_numpy(np.array(leaf["scale"]))
            norm.bias.data = torch.from_numpy(np.array(leaf["bias"]))
            layers += [_conv(params[f"Conv_{i}"]), norm, torch.nn.ReLU(), torch.nn.AvgPool2d(2)]
    dense = _dense(variables["params"]["final"]["Dense_0"], (SIDE // 8, 32))
    _compare(model, variables, torch.nn.Sequential(*layers, torch.nn.Flatten(), dense))


def test_vgg16(random_variables):
    model = create("vgg16", image_shape=(SIDE, SIDE, 3), num_classes=10, width=0.0625, conv="lax")
    variables = random_variables(model, (SIDE, SIDE, 3))
    params = variables["params"]
    convs = [params["beginning"][f"Conv_{i}"] for i in range(4)]
    convs += [params["intermediate"][f"Conv_{i}"] for i in range(5)]
    convs += [params["final"]["convolutions"][f"Conv_{i}"] for i in range(4)]
    layers = []
    for i, leaf in enumerate(convs):  # torchvision's configuration D
        layers += [_conv(leaf), torch.nn.ReLU()]
        layers += [torch.nn.MaxPool2d(2)] if i in (1, 3, 6, 9, 12) else []
    dense = params["final"]["classifier"]
    layers += [torch.nn.Flatten(), _dense(dense["Dense_0"]), torch.nn.ReLU(), torch.nn.Dropout()]
    layers += [_dense(dense["Dense_1"]), torch.nn.ReLU(), torch.nn.Dropout()]
    layers += [_dense(dense["Dense_2"])]
    _compare(model, variables, torch.nn.Sequential(*layers))
