"""Networks of this library in PyTorch, and their epochs: the baseline of ``accelerator``.

As such it runs in a process of its own, which prints a line of JSON for each way that PyTorch
offers, as soon as it is measured: eager, compiled, and compiled into CUDA graphs.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from typing import Any

import flax.linen as flax_nn
import numpy as np
import torch
from torch import nn

from dcmu_jax.networks import CNN, MLP, ConvNet, create
from dcmu_jax.networks.resnet import ResNet18
from dcmu_jax.networks.vgg import VGG16
from experiments.benchmarks.clock import epoch_summary
from experiments.benchmarks.command import CommandLine
from experiments.benchmarks.images import random_images

MODES = ("eager", "default", "reduce-overhead")
"""Eager, and two modes of ``torch.compile``, of which the second captures CUDA graphs."""
CONVOLUTIONS = (2, 2, 3, 3, 3)
"""Of VGG16's five groups, each of which a pooling ends."""


class _Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.downsample = None
        if stride != 1 or before != after:
            convolution = nn.Conv2d(before, after, 1, stride, bias=False)
            self.downsample = nn.Sequential(convolution, nn.BatchNorm2d(after))

    def forward(self, x):
        y = self.bn2(self.conv2(nn.functional.relu(self.bn1(self.conv1(x)))))
        return nn.functional.relu(y + (x if self.downsample is None else self.downsample(x)))


class _ResNet(nn.Module):
    def __init__(self, model: ResNet18, channels: int):
        super().__init__()
        before = model.channels[0]
        self.conv1 = nn.Conv2d(channels, before, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(before)
        for number, (after, stride) in enumerate(zip(model.channels, (1, 2, 2, 2), strict=True)):
            stage = nn.Sequential(_Block(before, after, stride), _Block(after, after, 1))
            self.add_module(f"layer{number + 1}", stage)
            before = after
        self.fc = nn.Linear(before, model.num_classes)

    def forward(self, x):
        x = nn.functional.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


class _Sequential(nn.Module):
    """``features``, flattened, and ``classifier``."""

    def __init__(self, features: list[nn.Module], classifier: list[nn.Module]):
        super().__init__()
        self.features, self.classifier = nn.Sequential(*features), nn.Sequential(*classifier)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def _vgg(model: VGG16, channels: int, fields: int) -> nn.Module:
    before, layers = channels, []
    for after, count in zip(model.channels, CONVOLUTIONS, strict=True):
        for _ in range(count):
            layers.append(nn.Conv2d(before, after, 3, padding=1))
            layers += [nn.BatchNorm2d(after)] if model.batch_norm else []
            layers.append(nn.ReLU())
            before = after
        layers.append(nn.MaxPool2d(2))
    hidden = model.hidden
    dense = [nn.Linear(before * fields, hidden), nn.ReLU(), nn.Dropout(0.5)]
    dense += [nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(0.5)]
    return _Sequential(layers, [*dense, nn.Linear(hidden, model.num_classes)])


def _cnn(model: CNN, channels: int, side: int) -> nn.Module:
    before, layers = channels, []
    for after in model.channels:
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if side > 1 else []
        before, side = after, max(1, side // 2)
    dense = [nn.Linear(before * side**2, model.hidden), nn.ReLU(), nn.Dropout(model.dropout)]
    return _Sequential(layers, [*dense, nn.Linear(model.hidden, model.num_classes)])


def _convnet(model: ConvNet, channels: int, side: int) -> nn.Module:
    before, layers, after = channels, [], model.channels
    for _ in range(3):
        # A group to each channel is instance norm, here with scale and shift.
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(after, after)]
        layers += [nn.ReLU(), nn.AvgPool2d(2)]
        before = after
    return _Sequential(layers, [nn.Linear(after * (side // 8) ** 2, model.num_classes)])


def _mlp(model: MLP, inputs: int) -> nn.Module:
    first, second = model.widths
    dense = [nn.Linear(inputs, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU()]
    return _Sequential([], [*dense, nn.Linear(second, model.num_classes)])


def twin(model: flax_nn.Module, side: int, channels: int = 3) -> nn.Module:
    """The network in PyTorch: the same layers of the same sizes, PyTorch's own initialisation.

    Layers have torchvision's names, by which ``dcmu.from_torch`` takes their weights.

    Args:
        model: a network of the catalogue.
        side: height and width of its images.
        channels: of its images.

    Raises:
        ValueError: another network.
    """
    if isinstance(model, ResNet18):
        return _ResNet(model, channels)
    if isinstance(model, VGG16):
        return _vgg(model, channels, (side // 2 ** len(CONVOLUTIONS)) ** 2)
    if isinstance(model, CNN):
        return _cnn(model, channels, side)
    if isinstance(model, ConvNet):
        return _convnet(model, channels, side)
    if isinstance(model, MLP):
        return _mlp(model, channels * side**2)
    raise ValueError(f"No twin of {type(model).__name__}")


def parameters(network: nn.Module) -> int:
    """Numbers that train."""
    return sum(p.numel() for p in network.parameters())


def epoch_of(
    network: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    batch: int,
    dtype: str,
    device: str,
    mode: str,
    layout: str = "channels_last",
) -> Callable[[], float]:
    """A function that trains the network for one epoch and returns its mean loss.

    The work is that of ``fit``: uint8 images on the device, gathered, normalised, forward,
    backward, Adam; the last batch padded, so that every step has the same shape.

    Args:
        network: a twin.
        images: uint8 ``(N, side, side, 3)``.
        labels: int32 ``(N,)``.

    Other Args:
        batch: images of a step.
        dtype: ``bfloat16`` (autocast) or ``float32``.
        device: ``cuda`` or ``cpu``.
        mode: one of ``MODES``.
        layout: of images and kernels in memory: ``channels_last`` or ``contiguous``.
    """
    last = layout == "channels_last"
    memory_format = torch.channels_last if last else torch.contiguous_format
    network = network.to(device=device, memory_format=memory_format).train()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3, fused=device == "cuda")
    # Rows of height, width, channels, seen as channels first: that is what channels_last is.
    pixels = torch.from_numpy(images if last else images.transpose(0, 3, 1, 2).copy()).to(device)
    classes = torch.from_numpy(labels.astype(np.int64)).to(device)
    mean = torch.full((1, 3, 1, 1), 0.5, device=device)
    std = torch.full((1, 3, 1, 1), 0.25, device=device)
    count = len(labels)
    steps = math.ceil(count / batch)

    def loss_of(x, y):
        inputs = ((x.permute(0, 3, 1, 2) if last else x).float() / 255 - mean) / std
        with torch.autocast(device, dtype=torch.bfloat16, enabled=dtype == "bfloat16"):
            logits = network(inputs)
        return nn.functional.cross_entropy(logits.float(), y)

    compiled = mode != "eager"
    loss_function = torch.compile(loss_of, mode=mode, dynamic=False) if compiled else loss_of

    def epoch() -> float:
        order = torch.randperm(count, device=device).repeat(math.ceil(steps * batch / count))
        total = torch.zeros((), device=device)
        for index in order[: steps * batch].split(batch):
            if compiled:
                torch.compiler.cudagraph_mark_step_begin()
            optimizer.zero_grad()
            loss = loss_function(pixels[index], classes[index])
            loss.backward()
            optimizer.step()
            total += loss.detach()
        return float(total) / steps  # which waits for the device

    return epoch


def main() -> None:
    """Measure every mode, and print each as it is there."""
    sizes = {"images": int, "batch": int, "size": int, "epochs": int}
    line = CommandLine(
        "torch_twins", __doc__, model=str, width=float, dtype=str, device=str, **sizes
    )
    options = line.parse()
    # As JAX has it by default: float32 products by the matrix units, in less than float32.
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    shape = (options.size, options.size, 3)
    model = create(options.model, image_shape=shape, num_classes=10, width=options.width)
    images, labels = random_images(options.images, options.size)
    for mode in MODES:
        torch.compiler.reset()
        row: dict[str, Any] = {"mode": mode}
        try:
            network = twin(model, options.size)
            row["parameters"] = parameters(network)
            epoch = epoch_of(
                network,
                images,
                labels,
                batch=min(options.batch, options.images),
                dtype=options.dtype,
                device=options.device,
                mode=mode,
            )
            seconds = []
            for _ in range(options.epochs):
                started = time.perf_counter()
                row["loss"] = epoch()
                seconds.append(time.perf_counter() - started)
            # The first compiles, or chooses among cuDNN's algorithms.
            row |= {"first_s": seconds[0], **epoch_summary(seconds[1:])}
        except Exception as error:  # of the compiler, whatever it is: the other modes still count
            message = next(iter(str(error).splitlines()), "")
            row["failed"] = f"{type(error).__name__}: {message}"[:300]
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
