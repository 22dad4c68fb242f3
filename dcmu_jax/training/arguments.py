"""What a training is asked for: what trains, what it minimises, and where it runs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from dcmu_jax.data.augmentation import Augmentation
from dcmu_jax.errors import InputError, check_at_least, counted
from dcmu_jax.extensions import calling
from dcmu_jax.networks.partition import PARTS, check_parts
from dcmu_jax.training.examples import Examples, Loss, cross_entropy
from dcmu_jax.training.private import PrivateGradient

_SHARE = 0.5
"""Of a device's memory, for examples."""
UNDER_WAY = 3
"""Chunks on the device at a time: one that trains, one that waits, one that is being sent."""


@dataclasses.dataclass(frozen=True)
class Objective:
    """What a step descends: the loss, of which images, and how its gradient comes about.

    Attributes:
        loss: per-example loss; see ``Loss``. A module-level function, or a callable that is equal
            where it does the same, since it is part of the compilation key.
        augmentation: of the pixels, fresh for every batch.
        rule: how the gradient of a step comes about where it is not that of a batch's mean loss;
            it then draws the batches too, of the batch size on average, and operations are not
            counted.
    """

    loss: Loss = cross_entropy
    augmentation: Augmentation | Any = None
    rule: PrivateGradient | None = None

    @classmethod
    def of(cls, loss: Loss | Objective) -> Objective:
        """An objective as it is; a loss by itself without augmentation or rule."""
        return loss if isinstance(loss, Objective) else cls(loss)

    def losses(self, outputs: Any, labels: Any, targets: Any) -> Any:
        """The loss of each example of a batch; ``targets`` are ``None`` where there are none.

        Raises:
            InputError: while a program is made of it: it failed, or gives anything else.
        """
        given = (outputs, labels) if targets is None else (outputs, labels, targets)
        returns = "a function of outputs and labels that returns the loss of each example"
        with calling("loss", returns, (InputError,)):
            found = self.loss(*given)
        if getattr(found, "shape", None) != labels.shape:
            shown = f"the shape {found.shape}" if hasattr(found, "shape") else f"{found!r:.40}"
            raise InputError(
                f"The loss returned {shown} for a batch of {counted(len(labels), 'example')}",
                f"one value for each example: {labels.shape}",
                "Leave out the mean over the batch, which training takes itself",
            )
        return found

    def check(self, weights: Any, batch_stats: Any, start: str = PARTS[0]) -> None:
        """Raise ``InputError`` for examples or a network that it cannot serve.

        Args:
            weights: of the examples.
            batch_stats: of the network.
            start: the part that the examples are the input of.
        """
        if self.augmentation is not None and start != PARTS[0]:
            raise InputError(
                f"Augmentation of the inputs of {start!r}",
                "augmentation of pixels, the inputs of 'beginning'",
                "Leave augmentation out, or start at 'beginning'",
            )
        if self.rule is not None:
            self.rule.check(weights, batch_stats)


@dataclasses.dataclass(frozen=True, eq=False)
class Trainable:
    """What of a network trains.

    Attributes:
        parts: the parts that train. Guarantee: parameters and BatchNorm statistics of the others
            come back bit-identical, and no gradient is computed for them.
        start: the part that the examples are the input of; parts below it do not run.
        mask: like ``params`` of the network (other parts than those that train may be missing or
            there): each update is multiplied by it, so that a parameter with mask 0 keeps its bits.
        opt_state: of an earlier call on the same parts, to go on from.
    """

    parts: Collection[str] = PARTS
    start: str = PARTS[0]
    mask: Any = None
    opt_state: Any = None

    @classmethod
    def of(cls, parts: Collection[str] | Trainable) -> Trainable:
        """What trains as it is; of names of parts, those from pixels on."""
        return parts if isinstance(parts, Trainable) else cls(parts)

    def check(self, optimizer: Any) -> frozenset[str]:
        """The parts that train.

        Args:
            optimizer: of ``as_optimizer``.

        Raises:
            InputError: names that are no parts, a part below ``start`` among those that train, or
                a state to go on from with a schedule, which is laid out for one call.
        """
        trainable = check_parts(self.parts)
        check_parts((self.start,))
        at = PARTS.index(self.start)
        if not trainable or trainable & set(PARTS[:at]):
            raise InputError(
                f"Training the parts {sorted(trainable)} from the inputs of {self.start!r}",
                f"one or more of {', '.join(PARTS[at:])}",
                "Name a part to train, or start at the lowest part that trains",
            )
        if self.opt_state is not None and optimizer.scheduled:
            raise InputError(
                f"An optimizer state to go on from with the schedule {optimizer.schedule!r}"
                + (" and l1" if optimizer.l1 else ""),
                "the schedule 'constant' and no l1 where a call goes on from another",
                "Take the schedule 'constant' and l1 = 0, or leave opt_state out",
            )
        return trainable

    def mask_of(self, params: dict[str, Any]) -> Any:
        """The mask of the parameters that train, if there is one; raises unless they are alike."""
        if self.mask is None:
            return None
        chosen = {part: self.mask[part] for part in params if part in self.mask}
        shapes = [[x.shape for x in jax.tree.leaves(tree)] for tree in (chosen, params)]
        if shapes[0] != shapes[1] or jax.tree.structure(chosen) != jax.tree.structure(params):
            raise InputError(
                f"A mask of {len(shapes[0])} arrays for {len(shapes[1])} arrays of parameters, or "
                "of other shapes",
                "one array for each array of parameters that trains, of its shape",
                "Build the mask from the network's params",
            )
        return jax.tree.map(lambda free, p: jnp.asarray(free, p.dtype), chosen, params)


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where a training runs, and what its devices hold.

    Attributes:
        mesh: for ``fit`` with an axis ``data``, over which each batch is sharded, parameters being
            replicated; for ``fit_population`` with an axis ``models``, over which the networks are
            split. It may span processes, each of which makes the same call. The network that
            ``fit`` gives back or shows to a callback is on one device of this process.
        memory_budget: bytes of examples that a device may hold, for ``fit``. Of more, batches pass
            through it in chunks (``streaming``): the same batches, so the same network up to
            rounding, at the price of sending each. If not given, half of the device's memory; no
            limit where a device does not tell its memory, as a CPU.
        chunk: networks of a population side by side; memory grows with it. See
            ``population.default_chunk``.
    """

    mesh: Mesh | None = None
    memory_budget: int | None = None
    chunk: int | None = None

    def batch_of(self, batch_size: int | None, count: int) -> int:
        """The size of the batches of ``count`` examples; raises unless devices can share one."""
        if batch_size is not None:
            check_at_least("batch_size", batch_size, 1)
        if self.mesh is not None and "data" not in self.mesh.shape:
            raise InputError(
                f"A mesh with the axes {', '.join(map(repr, self.mesh.shape))}",
                "a mesh with an axis 'data'",
                "Name the axis that batches are sharded over 'data'",
            )
        devices = 1 if self.mesh is None else self.mesh.shape["data"]
        size = min(batch_size or count, math.ceil(count / devices) * devices)
        if size % devices:
            raise InputError(
                f"A batch of {size} over {devices} devices",
                f"a multiple of {devices}",
                f"Set the batch size to {math.ceil(size / devices) * devices}",
            )
        return size

    def steps_at_once(self, examples: Examples, batch_size: int) -> int | None:
        """Steps whose batches are sent at once; ``None`` where a device holds all examples.

        Raises:
            InputError: a budget for less than three batches.
        """
        budget = device_budget() if self.memory_budget is None else self.memory_budget
        if budget is None or size_of(examples) <= budget:
            return None
        check_at_least("memory_budget", budget, 1)
        batch = size_of(examples) / len(examples.labels) * batch_size
        steps = int(budget / UNDER_WAY / batch)
        if steps < 1:
            raise InputError(
                f"memory_budget = {budget} bytes, where a batch of {batch_size} takes "
                f"{math.ceil(batch)}",
                f"{UNDER_WAY} batches or more",
                f"Give {UNDER_WAY * math.ceil(batch)} bytes, or lower the batch size",
            )
        return steps

    def check_models(self, models: int) -> None:
        """Raise unless the mesh, if there is one, can share ``models`` networks."""
        mesh = self.mesh
        if mesh is not None and ("models" not in mesh.shape or models % mesh.shape["models"]):
            raise InputError(
                f"{models} networks on a mesh with the axes {dict(mesh.shape)}",
                "an axis 'models' whose size divides the number of networks",
                "Name the axis 'models', and train a multiple of its size",
            )


ONE_DEVICE = Placement()


def device_budget() -> int | None:
    """Bytes of examples that a device should hold, at most; None where it does not say.

    Processors do not: they train from the memory that the examples lie in anyway.
    """
    stats = jax.local_devices()[0].memory_stats()
    limit = (stats or {}).get("bytes_limit")
    return None if limit is None else int(_SHARE * limit)


def size_of(examples: Examples) -> int:
    """Bytes of all arrays."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(examples))
