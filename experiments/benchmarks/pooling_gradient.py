"""Benchmark: the gradient through ``max_pool`` of whole networks, against ``lax.reduce_window``.

Command:  python -m experiments.benchmarks.pooling_gradient   (from the root of the repository)
Needs:    2 CPU cores, 4 GB, about three minutes; no data set.
Aim:      the largest difference of a gradient is rounding, in every case.

No speed is measured: whether the gradient of a compiled step is right. XLA may compute what is
pooled twice, unlike in the last bit; a form that looks for the entry that equals the maximum then
loses the gradient of the window. ``with_maximum`` is that form, as ``max_pool`` was until
30 November 2026; ``shipped`` is ``max_pool``; both are held against ``reduce_window``. A difference
is the largest of any parameter over the largest entry of the gradient. It is of the versions and
the processor that stand beside it: which programs compute twice is the compiler's choice.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterator
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from dcmu_jax.networks import cnn, create, vgg
from dcmu_jax.networks.behaviour import fixed_variables
from dcmu_jax.networks.convolution import max_pool
from dcmu_jax.networks.partition import PARTS, apply_parts
from dcmu_jax.prng import key_of
from dcmu_jax.training.examples import cross_entropy
from experiments.benchmarks.record import write_result


@dataclasses.dataclass(frozen=True)
class Case:
    """A network, its images and their number."""

    name: str
    width: float
    shape: tuple[int, int, int]
    batch: int

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape))
        return f"{self.name} x{self.width:g}, {shape}, batch {self.batch}"


CASES = (
    *(Case("cnn", width, (28, 28, 1), 32) for width in (0.25, 0.5, 1.0)),
    *(Case("cnn", width, (32, 32, 3), 32) for width in (0.25, 0.5, 1.0)),
    Case("cnn", 0.25, (32, 32, 3), 128),
    *(Case("vgg16", 0.125, (32, 32, 3), batch) for batch in (32, 128)),
)


def by_reduce_window(x: jax.Array) -> jax.Array:
    """The maximum as XLA has it."""
    return jax.lax.reduce_window(x, -np.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def with_maximum(x: jax.Array) -> jax.Array:
    """The former form, whose gradient goes where the input equals its maximum."""
    n, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return x.reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))


FORMS = {"shipped": max_pool, "with_maximum": with_maximum}


def gradient(case: Case, pool: Callable[[jax.Array], jax.Array]) -> list[np.ndarray]:
    """Of the parameters, by a compiled step with all parts in training mode."""
    model = create(case.name, image_shape=case.shape, num_classes=10, width=case.width)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(case.batch, *case.shape)).astype(np.float32)
    labels = jnp.arange(case.batch) % 10
    variables = fixed_variables(model, case.shape)

    def loss(params: dict, x: jax.Array) -> jax.Array:
        held = {**variables, "params": params}
        logits, _ = apply_parts(model, held, x, train=PARTS, dropout_key=key_of(0))
        return cross_entropy(logits, labels).mean()

    with mock.patch.object(cnn, "max_pool", pool), mock.patch.object(vgg, "max_pool", pool):
        found = jax.jit(jax.grad(loss))(variables["params"], jnp.asarray(x))
    return jax.tree.leaves(jax.device_get(found))


def differences(cases: tuple[Case, ...] = CASES) -> Iterator[tuple[str, dict[str, float]]]:
    """Of each case, by form, the largest difference over the largest entry of the gradient."""
    for case in cases:
        wanted = gradient(case, by_reduce_window)
        largest = max(float(np.abs(leaf).max()) for leaf in wanted)
        found = {}
        for form, pool in FORMS.items():
            pairs = zip(gradient(case, pool), wanted, strict=True)
            found[form] = max(float(np.abs(a - b).max()) for a, b in pairs) / largest
        yield str(case), found


def main() -> None:
    """Compare, print and write ``experiments/results/pooling_gradient.json``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=len(CASES), help="the first of them only")
    parser.add_argument("--dry", action="store_true", help="print only, write no result")
    args = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    for case, found in differences(CASES[: args.cases]):
        figures[case] = found
        print(case, found, flush=True)
    if args.dry:
        return
    command = "python -m experiments.benchmarks.pooling_gradient"
    if args.cases < len(CASES):
        command += f" --cases {args.cases}"
    print(f"written: {write_result('pooling_gradient', figures, command).name}")


if __name__ == "__main__":
    main()
