"""Modular training as data: which part trains, on what, how long, and what is reset before."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import jax
import numpy as np
from jax.sharding import Mesh

from dcmu_jax.errors import InputError, as_names, check_at_least, unknown_name
from dcmu_jax.networks.partition import PARTS, Part, apply_parts, check_parts, initialise
from dcmu_jax.networks.whole import runs_by_part
from dcmu_jax.platforms import on_cpu
from dcmu_jax.prng import Key, typed_key
from dcmu_jax.training.arguments import Placement, Trainable, device_budget
from dcmu_jax.training.callbacks import Callback
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.loop import Fitted, fit
from dcmu_jax.training.optimizers import Optimizer, OptimizerField, as_optimizer

On = Literal["reduced", "remembrance", "retain"]


def batch_size_for(
    epochs: int, batch_size: int, min_steps: int, count: int, devices: int = 1
) -> int:
    """``batch_size`` halved until ``epochs`` over ``count`` examples hold ``min_steps`` steps.

    No batch gets smaller than 16 examples, or indivisible over ``devices``; 0 stays 0.
    """
    while (
        epochs * math.ceil(count / max(batch_size, 1)) < min_steps
        and batch_size >= 32
        and batch_size % (2 * devices) == 0
    ):
        batch_size //= 2
    return batch_size


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One piece of modular training.

    Attributes:
        parts: the parts that train; the others stay bit-identical.
        on: the reduced retain set, the remembrance samples, or the whole retain set.
        epochs: passes over it.
        batch_size: examples per step; 0 for all in one batch.
        min_steps: halve the batch until the epochs hold this many steps (``batch_size_for``): a
            small set needs as many steps as a large one, and gets them at no more passes. No batch
            gets smaller than 16 examples, so that a very small set still gets fewer steps.
        optimizer: an ``Optimizer`` or any optax transformation; its state lives on through the
            rounds.
    """

    parts: tuple[Part, ...]
    on: On = "reduced"
    epochs: int = 1
    batch_size: int = 256
    min_steps: int = 0
    optimizer: OptimizerField = dataclasses.field(default_factory=Optimizer)

    def __post_init__(self):
        object.__setattr__(self, "parts", as_names(self.parts))

    def check(self) -> None:
        """Raise ``InputError`` where a field makes no sense."""
        check_parts(self.parts)
        if not self.parts:
            raise InputError(
                "A step that trains no part",
                f"one or more of {', '.join(PARTS)}",
                "Name a part or leave the step out",
            )
        if self.on not in get_args(On):
            raise unknown_name("set to train on", self.on, get_args(On))
        check_at_least("epochs", self.epochs, 1)
        check_at_least("batch_size", self.batch_size, 0)
        check_at_least("min_steps", self.min_steps, 0)
        as_optimizer(self.optimizer).check()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reset:
    """Shrink a part towards a fresh initialisation: theta <- keep theta + (1 - keep) fresh.

    Attributes:
        part: which part; its BatchNorm statistics are shrunk likewise.
        keep: share of the trained value that stays; 0 re-initialises, 1 changes nothing.
    """

    part: Part
    keep: float = 0.0

    def check(self) -> None:
        """Raise ``InputError`` where a field makes no sense."""
        check_parts((self.part,))
        if not 0 <= self.keep <= 1:
            raise InputError(
                f"keep = {self.keep}", "a number from 0 to 1", "Set keep within [0, 1]"
            )


def reset_parts(classifier: Classifier, resets: tuple[Reset, ...], key: Key) -> Classifier:
    """Apply ``resets`` with one fresh initialisation drawn from ``key``."""
    key = typed_key(key)
    if not resets:
        return classifier
    for reset in resets:
        reset.check()
    fresh = initialise(classifier.model, key, classifier.image_shape)
    keep = {reset.part: reset.keep for reset in resets}

    def shrunk(collection: str, part: str, tree: Any) -> Any:
        if part not in keep:
            return tree
        share = keep[part]
        return jax.tree.map(
            lambda old, new: share * old + (1 - share) * new, tree, fresh[collection][part]
        )

    variables = {
        collection: {part: shrunk(collection, part, tree) for part, tree in trees.items()}
        for collection, trees in classifier.variables.items()
    }
    return dataclasses.replace(classifier, variables=variables)


class CachedInputs:
    """Inputs of parts, for a schedule that comes back to them.

    Kept as long as the pixels and the parts below are the same arrays, and on the device: those of
    45,000 images for the second part of a ResNet18 are 5.9 GB. On the host where the device cannot
    hold them beside the rest (``arguments.device_budget``), and on CPU.
    """

    def __init__(self):
        self._kept: dict[tuple[int, str], tuple[list[Any], Any]] = {}

    def of(self, classifier: Classifier, part: str, pixels: Any) -> Any:
        """What ``part`` sees of the pixels; see ``Classifier.inputs_of``."""
        below = PARTS[: PARTS.index(part)]
        made_of = [
            pixels,
            *jax.tree.leaves([[trees.get(p) for p in below] for trees in _trees(classifier)]),
        ]
        key = id(pixels), part
        last, inputs = self._kept.get(key, ([], None))
        if len(last) == len(made_of) and all(a is b for a, b in zip(last, made_of, strict=True)):
            return inputs
        self._kept.pop(key, None)  # two of them need not be held at a time
        del inputs
        kept = _stays_on_device(classifier, part, pixels)
        inputs = classifier.inputs_of(part, np.asarray(pixels), on_device=kept)
        self._kept[key] = made_of, inputs
        return inputs


def _trees(classifier: Classifier) -> tuple[Any, Any]:
    return classifier.variables["params"], classifier.variables.get("batch_stats", {})


def _stays_on_device(classifier: Classifier, part: str, pixels: Any) -> bool:
    """Whether the inputs of a part for all pixels are to stay where they are computed."""
    if on_cpu():
        return False
    one = jax.ShapeDtypeStruct((1, *classifier.image_shape), np.float32)
    found = jax.eval_shape(
        lambda v, x: apply_parts(classifier.model, v, x, stop=part)[0], classifier.variables, one
    )
    budget = device_budget()
    # Twice, while they are joined.
    return budget is None or 2 * len(pixels) * found.size * found.dtype.itemsize <= budget


def train_step(
    step: Step,
    classifier: Classifier,
    examples: Examples,
    *,
    key: Key,
    opt_state: Any = None,
    mesh: Mesh | None = None,
    callbacks: Sequence[Callback] = (),
    cached: CachedInputs | None = None,
) -> Fitted:
    """Run one ``Step`` on ``examples`` of pixels.

    What lies below the lowest part that trains is frozen and its input fixed, so it runs once,
    forward, and training goes on from cached features: exact, and the prize of training by part.
    With ``cached``, once for all steps that are given the same.
    """
    devices = 1 if mesh is None else mesh.shape["data"]
    count = len(examples.labels)
    size = batch_size_for(step.epochs, step.batch_size, step.min_steps, count, devices)
    # The parts of a module that is not split cannot be run one by one: masks alone freeze them.
    lowest = min(step.parts, key=PARTS.index) if runs_by_part(classifier.model) else PARTS[0]
    if lowest != PARTS[0]:
        cached = cached or CachedInputs()
        examples = examples._replace(inputs=cached.of(classifier, lowest, examples.inputs))
    return fit(
        classifier,
        examples,
        epochs=step.epochs,
        key=key,
        optimizer=step.optimizer,
        batch_size=size or None,
        parts=Trainable(step.parts, lowest, opt_state=opt_state),
        placement=Placement(mesh),
        callbacks=callbacks,
    )
