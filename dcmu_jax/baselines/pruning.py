"""Prune, then unlearn (P+U): which weights SynFlow cuts, found without data; the rest trains."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dcmu_jax.baselines.masks import largest
from dcmu_jax.baselines.one_fit import Fit, OneFit, on
from dcmu_jax.errors import check_at_least, check_fraction
from dcmu_jax.networks.partition import PARTS, Variables, apply_parts
from dcmu_jax.networks.whole import runs_by_part
from dcmu_jax.training.arguments import Trainable
from dcmu_jax.training.flops import spend_on
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.serving import Serving

_NORMS = (nn.BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm, nn.RMSNorm)


def _is_none(value: Any) -> bool:
    return value is None


def _name(path: tuple) -> Any:
    return getattr(path[-1], "key", None)


def _kernels(params: Any) -> Any:
    """Masks of ones for the arrays that are pruned, kernels; ``None`` for the others."""

    def mask(path, p):
        return jnp.ones(p.shape, bool) if p.ndim >= 2 and _name(path) != "bias" else None

    return jax.tree_util.tree_map_with_path(mask, params)


def _only_scale(next_fun, args, kwargs, context):
    """Stands in for a normalising layer: multiplies by its scale and does nothing else."""
    module = context.module
    if not isinstance(module, _NORMS) or context.method_name != "__call__":
        return next_fun(*args, **kwargs)
    x = args[0] if args else kwargs["x"]
    if not module.has_variable("params", "scale"):
        return x
    scale = module.get_variable("params", "scale")
    return x * scale.astype(x.dtype).reshape((1,) * (x.ndim - 1) + (-1,))


def _unit(x: Array) -> Array:
    """``x`` divided by its largest value, which counts as a constant."""
    top = jax.lax.stop_gradient(x.max())
    return x / jnp.where(top > 0, top, 1)


def _flow(model: nn.Module, image_shape, params, rest) -> Float[Array, ""]:
    x = jnp.ones((1, *image_shape), jnp.float32)
    starts = PARTS if runs_by_part(model) else PARTS[:1]
    with nn.intercept_methods(_only_scale):
        for part, stop in zip(starts, (*starts[1:], None), strict=True):
            x, _ = apply_parts(model, {"params": params, **rest}, x, start=part, stop=stop)
            # Every path from input to output passes here, so all scores get one factor: it keeps
            # deep networks within float32 and changes no order.
            x = _unit(x)
    return _unit(x.astype(jnp.float32).sum())


@functools.partial(jax.jit, static_argnames=("model", "image_shape"))
def synflow_scores(
    model: nn.Module, variables: Variables, image_shape: tuple[int, int, int], mask: Any = None
) -> Any:
    r"""The share of the flow through a network that passes each weight.

    .. math::
        S(\theta) = \Big| \theta \odot \frac{\partial R}{\partial \theta} \Big| / R, \qquad
        R = 1^\top \Big( \prod_l |\theta_l| \Big) 1

    (Tanaka et al., 2020; theirs without the division.) R is the sum of the outputs
    for an input of ones, in evaluation mode, with every kernel replaced by its absolute value.
    A ReLU does nothing there, since nothing is negative. Biases are 0. A normalising layer of Flax
    multiplies by the absolute value of its scale and neither subtracts nor divides by a statistic:
    subtracting a mean would make values negative, and dividing by an image's own spread would undo
    the scores' meaning. So R is linear in each kernel, and the scores of a layer that all paths
    pass add up to 1, whichever it is (layer-wise conservation).

    For networks of ReLUs, averages and maxima; with another activation the sums need not agree.

    Args:
        model: a Linen module in three parts.
        variables: its parameters; statistics are not used by Flax's own layers.
        image_shape: of its input.
        mask: like the result; a weight counts as 0 where its mask is.

    Returns:
        A tree like ``params`` with ``None`` for what is not pruned: biases, and all that is no
        kernel (fewer than two axes).
    """
    params = variables["params"]
    mask = _kernels(params) if mask is None else mask
    rest = {name: tree for name, tree in variables.items() if name != "params"}

    def positive(path, p):
        return jnp.zeros_like(p) if _name(path) == "bias" else jnp.abs(p)

    def masked(free, p):
        return p if free is None else jnp.where(free, p, jnp.zeros_like(p))

    params = jax.tree_util.tree_map_with_path(positive, params)
    params = jax.tree.map(masked, mask, params, is_leaf=_is_none)
    gradient = jax.grad(_flow, argnums=2)(model, image_shape, params, rest)
    return jax.tree.map(
        lambda free, p, g: None if free is None else jnp.abs(p * g),
        mask,
        params,
        gradient,
        is_leaf=_is_none,
    )


def _scores(network, variables, mask):
    model, image_shape = network
    return synflow_scores(model, variables, image_shape, mask)


@functools.partial(jax.jit, static_argnames=("network",))
def _prune(network, variables, mask, keep):
    """One round: of the weights that are left, the ``keep`` with the largest scores."""
    scores = _scores(network, variables, mask)
    # Below 0, because a weight whose paths are all cut scores 0 as a pruned one does.
    return largest(jax.tree.map(lambda free, s: jnp.where(free, s, -1.0), mask, scores), keep)


def synflow_mask(
    model: nn.Module,
    variables: Variables,
    image_shape: tuple[int, int, int],
    *,
    density: float = 0.05,
    rounds: int = 100,
) -> Any:
    r"""Prune in rounds, scoring again after each (Tanaka et al., 2020, algorithm 1).

    After round k of n the share :math:`density^{k / n}` of all kernel weights is left, of the
    whole network together. A single round would cut off whole layers.

    Args:
        model: see ``synflow_scores``.
        variables: likewise.
        image_shape: likewise.
        density: share of the kernel weights that is left at the end.
        rounds: n, each a call of one compiled program.

    Returns:
        A tree of booleans like ``params``: False where a weight is pruned.
    """
    check_fraction("density", density)
    check_at_least("rounds", rounds, 1)
    params = variables["params"]
    mask = _kernels(params)
    total = sum(m.size for m in jax.tree.leaves(mask))
    for number in range(1, rounds + 1):
        keep = np.int32(max(1, round(total * density ** (number / rounds))))
        spend_on(_scores, (model, image_shape), variables, mask)
        mask = _prune((model, image_shape), variables, mask, keep)
    return jax.tree.map(
        lambda free, p: jnp.ones(p.shape, bool) if free is None else free,
        mask,
        params,
        is_leaf=_is_none,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PruneAndUnlearn(OneFit):
    """SynFlow on the original, then fine-tuning of what is left of it (Jia et al., 2023).

    P+U of the paper's section V-A.2. A pruned weight is 0 and stays 0. Biases and the parameters
    of normalising layers are not pruned.

    The authors' code meant SynFlow, but its scores were never found by the pruner, which fell
    back to magnitudes; and their network was left in evaluation mode, without dropout and with
    BatchNorm at its old statistics. Here it is SynFlow, and training mode.

    Attributes:
        density: share of the kernel weights that is left.
        rounds: of scoring and pruning.
        epochs: passes over the retain set; the paper has 30, or 10 when a class is forgotten.
        batch_size: examples per step.
        optimizer: Adam at 1e-3 as in the paper, with the schedule that retraining has.
    """

    sees_forget_set: ClassVar[bool] = False
    _names: ClassVar[tuple[str, str]] = ("prune_and_unlearn", "training what is left")
    density: float = 0.05
    rounds: int = 100
    epochs: int = 30
    batch_size: int = 256
    optimizer: Optimizer = Optimizer(schedule="cosine")

    def check(self) -> None:
        """Raise ``InputError`` where a field makes no sense."""
        check_fraction("density", self.density)
        check_at_least("rounds", self.rounds, 1)

    def _fit(self, serving: Serving) -> Fit:
        network = serving.task.original
        with serving.step("pruning"):
            mask = synflow_mask(
                network.model,
                network.variables,
                network.image_shape,
                density=self.density,
                rounds=self.rounds,
            )
            params = jax.tree.map(
                lambda free, p: jnp.where(free, p, jnp.zeros_like(p)),
                mask,
                network.variables["params"],
            )
        return on(serving.task.retain(), network.with_params(params), parts=Trainable(mask=mask))
