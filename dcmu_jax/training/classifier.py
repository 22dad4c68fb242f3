"""A trained network as a value: module, variables and the normalisation it was trained with."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.core
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.errors import FlaxError
from jax.core import Tracer

from dcmu_jax.data.dataset import (
    Dataset,
    Normalisation,
    channel_statistics,
    check_dataset,
    check_normalisation,
)
from dcmu_jax.data.pixels import check_pixels
from dcmu_jax.errors import InputError, check_seed, kind_of, unknown_name
from dcmu_jax.networks.adoption import check_module, check_variables
from dcmu_jax.networks.behaviour import model_text
from dcmu_jax.networks.partition import (
    PARTS,
    apply_features,
    apply_parts,
    check_image_shape,
    check_kind,
    initialise,
)
from dcmu_jax.networks.whole import runs_by_part
from dcmu_jax.platforms import full_precision, on_cpu
from dcmu_jax.training.flops import spend_on
from dcmu_jax.training.keys import named_key


def default_batch() -> int:
    """Rows that are evaluated together: on CPU few, whose activations stay in its caches."""
    return 100 if on_cpu() else 500


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Per-sample results of a model in evaluation mode.

    Attributes:
        losses: float32 ``(N,)``, softmax cross-entropy.
        correct: bool ``(N,)``, whether the largest logit is the label's.
    """

    losses: np.ndarray
    correct: np.ndarray


def _pass(program, variables, normalisation, pixels):
    model, target = program
    x = normalisation.apply(pixels)
    if target == "features":
        return apply_features(model, variables, x)
    return apply_parts(model, variables, x, stop=None if target == "logits" else target)[0]


_forward = functools.partial(jax.jit, static_argnames=("program",))(_pass)


@jax.jit
def _score(logits, labels):
    losses = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), labels)
    return losses, logits.argmax(-1) == labels


def each_batch(
    fun: Callable[..., Any], *arrays: np.ndarray, batch_size: int | None = None
) -> Iterator[tuple[slice, Any]]:
    """What ``in_batches`` joins, one batch after another, for results that are not to be held.

    Args:
        fun: of a batch; arrays with a row for each.
        *arrays: as many rows in each.
        batch_size: rows in a batch, at most; ``default_batch`` if not given.

    Yields:
        The rows that a batch stands for, and the results for them as NumPy.
    """
    count, starts, piece = _dealt(fun, arrays, batch_size)
    for low in starts:
        rows = slice(low, min(low + starts.step, count))
        own = rows.stop - rows.start
        yield rows, jax.tree.map(lambda x, own=own: np.asarray(x)[:own], piece(low))


def _dealt(
    fun: Callable[..., Any], arrays: tuple[np.ndarray, ...], batch_size: int | None
) -> tuple[int, range, Callable[[int], Any]]:
    """How many rows there are, where batches start, and ``fun`` of the batch that starts there.

    The last batch is padded by repeating the first rows, so that ``fun`` compiles once.
    """
    count = len(arrays[0])
    size = min(default_batch() if batch_size is None else batch_size, max(count, 1))

    def rows_of(array: np.ndarray, low: int) -> np.ndarray:
        if low + size <= count:
            rows = array[low : low + size]
        else:
            rows = array[np.arange(low, low + size) % max(count, 1)]
        # A view: JAX need not know of arrays that lie on disk.
        return np.asarray(rows) if isinstance(rows, np.memmap) else rows

    def piece(low: int) -> Any:
        return fun(*(rows_of(array, low) for array in arrays))

    return count, range(0, max(count, 1), size), piece


def in_batches(
    fun: Callable[..., Any],
    *arrays: np.ndarray,
    batch_size: int | None = None,
    workers: int = 1,
    join: Callable[..., Any] = np.concatenate,
) -> Any:
    """``fun`` over the rows of ``arrays`` in batches of one shape; results as NumPy, joined.

    Args:
        fun: of a batch; arrays with a row for each.
        *arrays: as many rows in each.

    Other Args:
        batch_size: rows in a batch, at most; ``default_batch`` if not given.
        workers: threads that have a batch each at a time; memory grows with them, and nothing else
            changes. Worth more than one where ``fun`` leaves cores idle: JAX runs what one thread
            calls one after another, and holds no lock meanwhile. The precision of matrix products
            set by ``jax.default_matmul_precision`` holds in them, too; other such settings do not.
        join: of the results for the batches; ``jnp.concatenate`` leaves them where they are.
    """
    if not len(arrays[0]):  # a row of zeros tells what the results of none are like
        one = [np.zeros((1, *array.shape[1:]), array.dtype) for array in arrays]
        return jax.tree.map(lambda x: join([x])[:0], fun(*one))
    count, starts, piece = _dealt(fun, arrays, batch_size)
    if workers == 1 or len(starts) == 1:
        pieces = [piece(low) for low in starts]
    else:
        # A setting made by ``with`` holds for its thread alone.
        config: Any = jax.config  # whose type does not tell of what it holds
        precision = config.jax_default_matmul_precision

        def in_thread(low: int) -> Any:
            with jax.default_matmul_precision(precision):
                return jax.block_until_ready(piece(low))

        with concurrent.futures.ThreadPoolExecutor(workers) as threads:
            # The first by itself, so that ``fun`` compiles once; each waited for in its thread.
            pieces = [in_thread(starts[0]), *threads.map(in_thread, starts[1:])]
    return jax.tree.map(lambda *xs: join(xs)[:count], *pieces)


@dataclasses.dataclass(frozen=True, eq=False)
class Classifier:
    """A network with its parameters and statistics, and how its inputs are normalised.

    Attributes:
        model: a Linen module in three parts (``dcmu_jax.networks.partition``); hashable.
        variables: ``{"params": ..., "batch_stats": ...}`` with the part names on top.
        normalisation: of its inputs.
        image_shape: ``(height, width, channels)`` of its inputs.
    """

    model: nn.Module | Any
    variables: dict[str, Any] | Any
    normalisation: Normalisation
    image_shape: tuple[int, int, int]

    def __post_init__(self):
        check_kind(self.model)
        object.__setattr__(self, "image_shape", check_image_shape(self.image_shape))
        object.__setattr__(self, "variables", _plain(self.variables))
        object.__setattr__(self, "normalisation", _canonical(self.normalisation, self.image_shape))

    def with_params(self, params: Any) -> Classifier:
        """The network with other parameters; its statistics stay as they are."""
        return dataclasses.replace(self, variables={**self.variables, "params": params})

    def _spend(self, pixels: np.ndarray, target: str) -> None:
        """Add a pass to the open tally: as many images, whatever batches they run in."""
        one = jax.ShapeDtypeStruct((1, *pixels.shape[1:]), pixels.dtype)
        program = self.model, target
        spend_on(_pass, program, self.variables, self.normalisation, one, times=len(pixels))

    @full_precision()
    def _run(self, pixels: Any, target: str, join: Any = np.concatenate) -> Any:
        pixels = check_pixels(pixels, self.image_shape, self.normalisation)
        with self._fitting():
            self._spend(pixels, target)
            return in_batches(
                lambda x: _forward((self.model, target), self.variables, self.normalisation, x),
                pixels,
                join=join,
            )

    @contextlib.contextmanager
    def _fitting(self) -> Iterator[None]:
        """Say what the variables lack, where the module fails because of them."""
        try:
            yield
        except (FlaxError, AssertionError, TypeError):
            check_variables(self.model, self.variables, self.image_shape)
            raise

    def logits(self, pixels: np.ndarray | Any) -> np.ndarray:
        """Logits float ``(N, classes)`` of pixels ``(N, H, W, C)`` in 0..255, evaluation mode.

        Raises:
            InputError: what ``check_pixels`` refuses, here as in the other methods.
        """
        return self._run(pixels, "logits")

    def features(self, pixels: np.ndarray | Any) -> np.ndarray:
        """Flattened features ``(N, dim)``, as used for clustering and condensation."""
        return self._run(pixels, "features")

    def inputs_of(
        self, part: str, pixels: np.ndarray | Any, *, on_device: bool = False
    ) -> np.ndarray | Any:
        """What ``part`` (intermediate or final) sees when the model is fed ``pixels``.

        NumPy; with ``on_device`` an array of JAX, which was never copied to the host.
        """
        if part not in PARTS[1:]:
            raise unknown_name("part above the first", part, PARTS[1:])
        if not runs_by_part(self.model):
            raise InputError(
                f"The input of {part!r} of a module that is not written in parts",
                "a module in three parts",
                "Take features, or write the module in three parts",
            )
        return self._run(pixels, part, jnp.concatenate if on_device else np.concatenate)

    @full_precision()
    def evaluate(self, dataset: Dataset) -> Evaluation:
        """Loss and correctness of every sample.

        Raises:
            InputError: also for classes that the network has no output for.
        """
        check_dataset("What a network is evaluated on", dataset)
        images = check_pixels(dataset.images, self.image_shape, self.normalisation)
        most = int(dataset.labels.max()) if len(dataset) else 0

        def score(pixels, labels):
            logits = _forward((self.model, "logits"), self.variables, self.normalisation, pixels)
            if most >= logits.shape[-1]:
                raise InputError(
                    f"Samples of class {most} for a network of {logits.shape[-1]} outputs",
                    f"classes 0..{logits.shape[-1] - 1}",
                    "Leave those samples out, or take a network of as many outputs",
                )
            return _score(logits, labels)

        with self._fitting():
            self._spend(images, "logits")
            losses, correct = in_batches(score, images, dataset.labels)
        return Evaluation(losses, correct)

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the module's settings and every parameter and statistic."""
        digest = hashlib.sha256(model_text(self.model).encode())
        leaves, _ = jax.tree_util.tree_flatten_with_path((self.variables, self.normalisation))
        for path, leaf in leaves:
            digest.update(jax.tree_util.keystr(path).encode())
            digest.update(np.asarray(leaf).tobytes())
        return digest.hexdigest()


def module_of(model: Any) -> Any:
    """The module of a network, where what is asked for is a module and a ``Classifier`` came."""
    return model.model if isinstance(model, Classifier) else model


def _plain(variables: Any) -> dict[str, Any]:
    """Variables as plain dictionaries, those of 64 bits in NumPy as float32."""
    params = variables.get("params") if isinstance(variables, Mapping) else None
    if not isinstance(params, Mapping) or not set(params) <= set(PARTS):
        shown = f"the parameters of {sorted(params)}" if isinstance(params, Mapping) else ""
        remedy = "Put the parameters of each part under its name"
        if isinstance(variables, Mapping) and set(variables) and set(variables) <= set(PARTS):
            remedy = 'Give {"params": variables}'
        raise InputError(
            f"Variables with {shown}" if shown else "Variables without 'params'",
            '{"params": {part: ...}, "batch_stats": {part: ...}}, parts beginning, intermediate '
            "and final",
            remedy,
        )
    plain = flax.core.unfreeze(dict(variables))
    for path, leaf in jax.tree_util.tree_flatten_with_path(plain["params"])[0]:
        if not jnp.issubdtype(getattr(leaf, "dtype", object), jnp.floating):
            kind = getattr(leaf, "dtype", f"type {type(leaf).__name__}")
            raise InputError(
                f"The parameters params{jax.tree_util.keystr(path)} of {kind}",
                "arrays of floats",
                "Give np.asarray(numbers, np.float32) for each",
            )
    if any(isinstance(x, np.ndarray) and x.dtype == np.float64 for x in jax.tree.leaves(plain)):
        plain = jax.tree.map(lambda x: x.astype(np.float32) if x.dtype == np.float64 else x, plain)
    return plain


def _canonical(given: Normalisation, image_shape: tuple[int, int, int]) -> Normalisation:
    """Mean and standard deviation as float32, which is what networks compute in."""
    found = []
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise _no_normalisation(kind_of(given))
    for name, value in zip(("mean", "std"), given, strict=True):
        if not (isinstance(value, jax.Array) and value.dtype == jnp.float32):
            try:
                value = np.asarray(value, np.float32)
            except (ValueError, TypeError) as error:
                raise _no_normalisation(f"{name} = {value!r}") from error
        known = not isinstance(value, Tracer)
        if known and (isinstance(value, np.ndarray) or value.is_fully_addressable):
            check_normalisation(name, np.asarray(value), image_shape[-1])
        found.append(value)
    same = all(one is other for one, other in zip(found, given, strict=True))
    return given if same else Normalisation(*found)


def _no_normalisation(shown: str) -> InputError:
    return InputError(
        f"A normalisation given as {shown}",
        "a Normalisation: mean and standard deviation of each channel, of pixels in [0, 1]",
        "Take dcmu_jax.data.dataset.channel_statistics(splits.train.images)",
    )


def fresh_classifier(
    model: nn.Module | Any, dataset: Dataset, seed: int, normalisation: Any = None
) -> Classifier:
    """An untrained network for ``dataset``.

    Args:
        model: a Linen module in three parts.
        dataset: gives the image shape and, unless ``normalisation`` is given, the statistics.
        seed: of the initialisation.
        normalisation: of the inputs.

    Raises:
        InputError: what ``check_module`` refuses.

    >>> from dcmu_jax.data import load
    >>> from dcmu_jax.networks import create
    >>> train = load("synthetic:classes=2,per_class=8,size=8,channels=1").train
    >>> model = create("mlp", image_shape=(8, 8, 1), num_classes=2, width=0.02)
    >>> network = fresh_classifier(model, train, seed=0)
    >>> network.logits(train.images).shape, network.evaluate(train).losses.shape
    ((16, 2), (16,))
    """
    seed = check_seed("seed", seed)
    key = named_key(seed, "initialisation")
    check_dataset("What a network is made for", dataset)
    height, width, channels = dataset.images.shape[1:]
    shape = (height, width, channels)
    check_module(model, shape, dataset.num_classes, more=True)
    return Classifier(
        model,
        initialise(model, key, shape),
        normalisation or channel_statistics(dataset.images),
        shape,
    )
