"""What is said before a stage begins: the cost of unlearning beside retraining's, small classes."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np

from dcmu_jax.data.dataset import Splits
from dcmu_jax.data.requests import ForgetRequest
from dcmu_jax.networks.partition import (
    PARTS,
    Part,
    apply_parts,
    count_parameters,
    initialise,
    partition,
)
from dcmu_jax.networks.whole import runs_by_part
from dcmu_jax.prng import key_of
from dcmu_jax.runs import stages
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.theory.reduction import untouched_probability
from dcmu_jax.training.flops import program_flops
from dcmu_jax.unlearning.modular import ModularUnlearning
from dcmu_jax.unlearning.schedule import Step, batch_size_for


class CostWarning(UserWarning):
    """Unlearning that is about to begin costs more than retraining."""


class _Piece(NamedTuple):
    """A step of a schedule: where its settings lie, and how often it runs."""

    place: str
    step: Step
    times: int


def _pieces(method: ModularUnlearning) -> Iterator[_Piece]:
    for number, step in enumerate(method.round_steps):
        times = method.rounds - (method.tail if step.on == "remembrance" else 0)
        longer = f"round_steps.{number}.epochs" if step.epochs > 1 else "rounds"
        yield _Piece(longer, step, times)
    for number, step in enumerate(method.closing_steps):
        yield _Piece(f"closing_steps.{number}.epochs", step, 1)


def _forward(run: tuple[nn.Module, Part, Part], variables, x):
    model, start, stop = run
    return apply_parts(model, variables, x, start=start, stop=stop)[0]


def _gradients(run: tuple[nn.Module, Part, tuple[Part, ...]], variables, x):
    model, lowest, parts = run
    trained, frozen = partition(variables["params"], parts)

    def of_logits(trained):
        whole = {**variables, "params": {**frozen, **trained}}
        return apply_parts(model, whole, x, start=lowest)[0].sum()

    return jax.grad(of_logits)(trained)


@functools.lru_cache(maxsize=64)
def _operations(
    model: nn.Module, image_shape: tuple[int, int, int], parts: tuple[Part, ...]
) -> tuple[float, float]:
    """Of one image: those of a pass of training of these parts, and of the features below them.

    Parameters stand for them where JAX cannot count.
    """
    variables = jax.eval_shape(lambda: initialise(model, key_of(0), image_shape))
    x, features = jax.ShapeDtypeStruct((1, *image_shape), np.float32), 0.0
    lowest = min(parts, key=PARTS.index) if runs_by_part(model) else PARTS[0]
    if lowest != PARTS[0]:
        below = (model, PARTS[0], lowest)
        features = program_flops(_forward, below, variables, x) or 0.0
        x = jax.eval_shape(functools.partial(_forward, below), variables, x)
    passes = program_flops(_gradients, (model, lowest, parts), variables, x)
    if not passes:
        sizes = count_parameters(variables["params"])
        passes = float(sum(sizes[part] for part in parts))
    return passes, features


def _of_training(
    step: Step, count: float | int, model: nn.Module, image_shape: tuple[int, int, int]
) -> float:
    """Operations of a step on this many images; parts below it run once.

    The last batch of an epoch is padded, and costs as much as a full one.
    """
    passes, features = _operations(model, image_shape, step.parts)
    whole = max(1, math.ceil(count))
    size = batch_size_for(step.epochs, step.batch_size, step.min_steps, whole) or whole
    size = min(size, whole)
    return step.epochs * passes * math.ceil(whole / size) * size + features * count


def _images(
    method: ModularUnlearning, config: RunConfig, name: str, splits: Splits, request: ForgetRequest
) -> dict[str, float]:
    """How many images each set that a step may train on will have; the reduced one as expected.

    In each class as many samples as go are taken to be drawn at random, of clusters of one size.
    """
    train = splits.train
    n = np.bincount(train.labels, minlength=train.num_classes)
    forgotten = train.labels[train.positions(request.ids)]
    gone = np.bincount(forgotten, minlength=train.num_classes)
    n, gone = n[n > 0], gone[n > 0]
    clusters = np.minimum(stages.clusters_of(config, name, train), n)
    untouched = clusters * [
        untouched_probability(np.asarray(size), int(of), int(lost))
        for size, of, lost in zip(n / clusters, n, gone, strict=True)
    ]
    real = np.minimum(method.collecting.real_per_cluster, n / clusters - 1)
    survivors = n - gone - untouched * n / clusters
    if method.collecting.touched == "recondense":
        survivors = np.minimum(survivors, clusters - untouched)
    shown = n > gone if method.collecting.drop_forgotten_classes else n > 0
    looked_at = len(request.ids) if method.sees_forget_set else 0
    return {
        "reduced": float((survivors + untouched * (1 + real)).sum()) + looked_at,
        "retain": len(train) - len(request.ids) + looked_at,
        "remembrance": config.options_of(name).remembrance.per_class * int(shown.sum()),
    }


def _costs(
    config: RunConfig,
    splits: Splits,
    request: ForgetRequest,
    name: str,
    model: nn.Module | None,
) -> dict[str, float]:
    """The expected cost of each step of a preset's schedule, in retrainings, by its place.

    Counted are the operations of all steps, and of the features that they train on; collecting and
    condensing again are not.
    """
    method = stages.serving_method(name, config, splits, request)
    if not isinstance(method, ModularUnlearning):
        return {}
    network = model or stages.build_model(config.model, splits, config.network)
    images = _images(method, config, name, splits, request)
    training = config.training
    everything = Step(parts=PARTS, epochs=training.epochs, batch_size=training.batch_size)
    retained = len(splits.train) - len(request.ids)
    unit = _of_training(everything, retained, network, splits.image_shape)
    costs: dict[str, float] = {}
    for piece in _pieces(method):
        each = _of_training(piece.step, images[piece.step.on], network, splits.image_shape)
        costs[piece.place] = costs.get(piece.place, 0.0) + piece.times * each / unit
    return costs


def cost_warning(
    config: RunConfig,
    splits: Splits,
    request: ForgetRequest,
    place: str = " in a new run",
    *,
    name: str | None = None,
    model: nn.Module | None = None,
) -> str:
    """A sentence where unlearning will cost more than retraining; empty where it will not.

    Args:
        config: of the run.
        splits: of the data.
        request: to be served.
        place: where its settings can be changed.
        name: a preset, if not the run's own.
        model: a network of one's own; that of the catalogue if not given.
    """
    name = name or config.preset
    costs = _costs(config, splits, request, name, model)
    times = sum(costs.values())
    if times <= 1:
        return ""
    dearest = max(costs, key=lambda place: costs[place])
    whole = "online_classes" if stages.of_whole_classes(splits, request) else "online"
    setting = f"{stages.settings_of(config, name)}{whole}.{dearest}"
    epochs = config.training.epochs
    trained = f"{epochs} epoch{'s' * (epochs != 1)}"
    return (
        f"Forgetting by {name} will cost about {times:.2f} retrainings: its schedule is "
        f"for networks that were trained longer than {trained}. Retraining "
        f"is cheaper, and exact; or lower {setting.replace('_', '-')}{place}."
    )


def warn_of_cost(
    config: RunConfig, splits: Splits, request: ForgetRequest, name: str, model: nn.Module
) -> None:
    """Warn with ``cost_warning``, if there is one, where the caller's caller was called."""
    dear = cost_warning(config, splits, request, name=name, model=model)
    if dear:
        warnings.warn(dear, CostWarning, stacklevel=4)


def short_classes(config: RunConfig, name: str, splits: Splits) -> str | None:
    """A note on classes with fewer samples than clusters; ``None`` if there are none."""
    counts = np.bincount(splits.train.labels, minlength=splits.num_classes)
    clusters = stages.clusters_of(config, name, splits.train)
    short = np.flatnonzero((counts > 0) & (counts < clusters))
    if not len(short):
        return None
    shown = ", ".join(f"{splits.class_names[c]} ({counts[c]})" for c in short[:5])
    return (
        f"{name}: {len(short)} class(es) have fewer samples than the {clusters} clusters per "
        f"class: {shown}{', ...' if len(short) > 5 else ''}. Each of their samples is a cluster "
        "of its own and stands for itself."
    )
