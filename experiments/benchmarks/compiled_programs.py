"""The programs of the library with abstract arguments, to be compiled for chips that are not there.

Each is made as the library makes it, of shapes and dtypes alone: nothing is computed, and no
image, parameter or key exists.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from dcmu_jax.condensation.features import FeatureMap
from dcmu_jax.data.augmentation import Augmentation
from dcmu_jax.data.dataset import Normalisation
from dcmu_jax.fast import lloyd, matching
from dcmu_jax.fast.chunks import ChunkArrays
from dcmu_jax.fast.sample_gradients import gradient_sums
from dcmu_jax.networks.catalogue import create
from dcmu_jax.networks.partition import PARTS, apply_parts, initialise, partition
from dcmu_jax.networks.whole import adopted
from dcmu_jax.platforms import platform
from dcmu_jax.prng import key_of
from dcmu_jax.training import classifier, derivatives, population
from dcmu_jax.training.arguments import Objective
from dcmu_jax.training.batches import Batches
from dcmu_jax.training.epoch import EpochSettings, TrainState, batch_step, compiled_steps
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.flops import program_flops
from dcmu_jax.training.optimizers import Optimizer

IMAGE = (32, 32, 3)
CLASSES = 10
TRAIN = 50_000


class Traceable(NamedTuple):
    """A program to compile.

    Attributes:
        trace: gives what JAX traced of the arguments.
        arguments: abstract.
        flops: counts those of a step, as convolutions of ``lax``; ``None`` where it is not known.
    """

    trace: Callable[..., Any]
    arguments: tuple[Any, ...]
    flops: Callable[[], float | None] = lambda: None


def _of(shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def _key() -> Any:
    return jax.eval_shape(lambda: key_of(0))


def _statistics() -> Normalisation:
    return Normalisation(_of((3,)), _of((3,)))  # pyright: ignore[reportArgumentType]


@dataclasses.dataclass(frozen=True)
class Net:
    """A network of the catalogue, or ``own``: a Linen module that is not written in parts."""

    name: str = "cnn"
    dtype: str = "bfloat16"
    width: float = 1.0

    def made(self) -> tuple[nn.Module, Any]:
        """The module and its abstract variables."""
        if self.name == "own":
            module = Own(jnp.dtype(self.dtype))
            given = jax.eval_shape(lambda: module.init(key_of(0), jnp.zeros((1, *IMAGE))))
            patterns = {"beginning": "Conv_0", "intermediate": "Conv_1", "final": "Dense_0"}
            patterns["beginning"] = ("Conv_0", "BatchNorm_0")  # pyright: ignore[reportArgumentType]
            patterns["intermediate"] = ("Conv_1", "BatchNorm_1")  # pyright: ignore[reportArgumentType]
            return adopted(module, given, patterns, None)
        module = create(
            self.name, image_shape=IMAGE, num_classes=CLASSES, dtype=self.dtype, width=self.width
        )
        return module, jax.eval_shape(lambda: initialise(module, key_of(0), IMAGE))


class Own(nn.Module):
    """What somebody who has not read this library would write."""

    dtype: Any = jnp.bfloat16

    @nn.compact
    def __call__(self, x, training: bool = False):
        """Logits."""
        for features in (32, 64):
            x = nn.Conv(features, (3, 3), dtype=self.dtype)(x)
            x = nn.relu(nn.BatchNorm(not training, dtype=self.dtype)(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
        return nn.Dense(CLASSES, dtype=self.dtype)(x.reshape(len(x), -1)).astype(jnp.float32)


def _training(
    net: Net, rows: int, batch: int, start: str, mesh: Mesh | None, augmented: bool
) -> tuple[EpochSettings, tuple[Any, ...]]:
    """Settings, and (state, frozen, normalisation, mask, examples, key), as ``fit`` has them."""
    module, variables = net.made()
    parts = PARTS[PARTS.index(start) :]
    augmentation = Augmentation(flip=True, crop_padding=4) if augmented else None
    settings = EpochSettings(
        model=module,
        parts=frozenset(parts),
        start=start,
        objective=Objective(augmentation=augmentation),
        optimizer=Optimizer(),
        total_steps=0,
        batch_size=batch,
        mesh=mesh,
    )
    params = partition(variables["params"], parts)[0]
    stats = partition(variables.get("batch_stats", {}), parts)[0]
    state = jax.eval_shape(
        lambda p, b: TrainState(p, b, Optimizer().build(0).init(p), jnp.zeros((), jnp.int32)),
        params,
        stats,
    )
    inputs: Any = _of((rows, *IMAGE), jnp.uint8)
    if start != PARTS[0]:
        inputs = jax.eval_shape(
            lambda v, x: apply_parts(module, v, x, stop=start)[0], variables, _of((rows, *IMAGE))
        )
    examples = Examples(inputs, _of((rows,), jnp.int32), _of((rows,)))  # pyright: ignore[reportArgumentType]
    frozen = {"params": {}, "batch_stats": {}}
    return settings, (state, frozen, _statistics(), None, examples, _key())


def epoch(
    net: Net, batch: int, *, start: str = PARTS[0], rows: int = TRAIN
) -> Callable[[Mesh | None], Traceable]:
    """A whole epoch: of all parts on pixels, or of those from ``start`` on cached features.

    The order of the epoch comes from another program, which has its sorts.
    """

    def build(mesh: Mesh | None) -> Traceable:
        settings, (*given, examples, key) = _training(net, rows, batch, start, mesh, False)
        steps = math.ceil(rows / batch)
        on_gpu = platform() == "gpu"
        settings = dataclasses.replace(settings, steps=steps if on_gpu else None)
        order = _of((steps * batch,), jnp.int32), _of((steps * batch,))
        return Traceable(
            lambda *a: compiled_steps.trace(settings, *a),
            (*given, examples, *order, _of((), jnp.int32), key),
            functools.partial(_step_flops, net, batch, start),
        )

    return build


def _step_flops(net: Net, batch: int, start: str = PARTS[0]) -> float | None:
    settings, (state, *given, examples, key) = _training(net, batch, batch, start, None, False)
    return program_flops(batch_step, settings, *given, state, examples, key)


def step(net: Net, batch: int, *, augmented: bool = False) -> Callable[[Mesh | None], Traceable]:
    """One step of the optimizer, without the loop around it."""

    def build(mesh: Mesh | None) -> Traceable:
        settings, (state, *given, examples, key) = _training(
            net, batch, batch, PARTS[0], mesh, augmented
        )
        program = jax.jit(batch_step, static_argnums=0, donate_argnums=4)
        return Traceable(
            lambda *a: program.trace(settings, *a),
            (*given, state, examples, key),
            functools.partial(_step_flops, net, batch),
        )

    return build


def several(net: Net, models: int, batch: int) -> Callable[[Mesh | None], Traceable]:
    """An epoch of a population, all of it side by side."""

    def build(_: Mesh | None) -> Traceable:
        settings, (state, frozen, normalisation, _, examples, key) = _training(
            net, batch, batch, PARTS[0], None, False
        )
        stacked = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct((models, *a.shape), a.dtype),
            (state, normalisation, key, _of((batch,), jnp.int32)),
        )
        states, *each = stacked

        def flops() -> float | None:
            one = _step_flops(net, batch)
            return None if one is None else models * one

        return Traceable(
            lambda *a: population._population_epoch.trace(settings, models, None, *a),
            (states, frozen, *each, examples),
            flops,
        )

    return build


def matched(
    net: Net, solver: str, *, clusters: int = 128, samples: int = 1408, steps: int = 20
) -> Callable[[Mesh | None], Traceable]:
    """Steps of distribution matching on one chunk of clusters."""

    def build(_: Mesh | None) -> Traceable:
        module, variables = net.made()
        features = FeatureMap(module)
        width = jax.eval_shape(features, variables, _of((1, *IMAGE))).shape[1]
        arrays: Any = ChunkArrays(
            _of((samples, *IMAGE[:2], 0), jnp.uint8),  # pyright: ignore[reportArgumentType]
            _of((samples,), jnp.int32),  # pyright: ignore[reportArgumentType]
            _of((samples,)),  # pyright: ignore[reportArgumentType]
            _of((samples,)),  # pyright: ignore[reportArgumentType]
            _of((clusters, width)),  # pyright: ignore[reportArgumentType]
            _of((clusters,), jnp.bool_),  # pyright: ignore[reportArgumentType]
        )
        own = matching._Solver(solver, 3, 1e-3, "free")
        moved = _of((samples,))
        state = jax.eval_shape(lambda m, r: matching._begin(own, m, r), moved, arrays.real)
        x = _of((samples, *IMAGE))
        return Traceable(
            lambda *a: matching._advance.trace(features, own, steps, None, *a),
            (moved, state, variables, x, arrays, arrays.real),
        )

    return build


def clustered(samples: int, width: int, clusters: int) -> Callable[[Mesh | None], Traceable]:
    """k-means of all classes at once."""

    def build(_: Mesh | None) -> Traceable:
        keys = jax.eval_shape(lambda: jax.random.split(key_of(0), CLASSES))
        each = _of((CLASSES, samples, width)), _of((CLASSES,), jnp.int32), keys
        return Traceable(
            lambda *a: lloyd._some_classes.trace(a, clusters, True, CLASSES, None), each
        )

    return build


def evaluated(net: Net, batch: int) -> Callable[[Mesh | None], Traceable]:
    """Logits of a batch, evaluation mode."""

    def build(_: Mesh | None) -> Traceable:
        module, variables = net.made()
        given = variables, _statistics(), _of((batch, *IMAGE), jnp.uint8)
        program = module, "logits"
        return Traceable(
            lambda *a: classifier._forward.trace(program, *a),
            given,
            lambda: program_flops(classifier._pass, program, *given),
        )

    return build


def overfitting(net: Net, batch: int) -> Callable[[Mesh | None], Traceable]:
    """OM of a batch."""

    def build(_: Mesh | None) -> Traceable:
        module, variables = net.made()
        images = _of((batch, *IMAGE), jnp.uint8), _of((batch,), jnp.int32)
        return Traceable(
            lambda *a: gradient_sums.trace(module, "paper", *a), (variables, _statistics(), *images)
        )

    return build


def unlearning(net: Net, batches: int, batch: int) -> Callable[[Mesh | None], Traceable]:
    """The two mean gradients of UM."""

    def build(_: Mesh | None) -> Traceable:
        module, variables = net.made()
        rows = batches, batch
        cut: Any = Batches(
            _of((*rows, *IMAGE), jnp.uint8),  # pyright: ignore[reportArgumentType]
            _of(rows, jnp.int32),  # pyright: ignore[reportArgumentType]
            _of(rows),  # pyright: ignore[reportArgumentType]
        )
        given = variables, _statistics(), cut, _of((batches,), jnp.int32)
        return Traceable(lambda *a: derivatives._group_gradients.trace(module, *a, 2), given)

    return build
