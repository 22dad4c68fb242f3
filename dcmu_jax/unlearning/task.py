"""What every unlearning method is given and what it gives back."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int

from dcmu_jax.condensation.bank import CondensedBank
from dcmu_jax.data.augmentation import Augmentation
from dcmu_jax.data.dataset import Dataset
from dcmu_jax.errors import InputError, check_at_least, check_seed
from dcmu_jax.training.arguments import Objective, Placement
from dcmu_jax.training.callbacks import Callback, Progress
from dcmu_jax.training.classifier import Classifier, fresh_classifier
from dcmu_jax.training.examples import Examples, LabelSmoothing, cross_entropy
from dcmu_jax.training.keys import named_key
from dcmu_jax.training.loop import Fitted, fit
from dcmu_jax.training.optimizers import Optimizer, OptimizerField
from dcmu_jax.training.population import FittedPopulation, fit_population, stack
from dcmu_jax.training.private import PrivateGradient


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """How a network is trained from scratch: the original, and the retrained one alike.

    Attributes:
        epochs: passes over the data.
        batch_size: examples per step.
        optimizer: Adam at 1e-3 as in the paper, but with a cosine schedule: at a constant rate the
            last epoch is as likely as not a spike, and retraining no fixed reference. Or any
            optax transformation, but not in a run: its settings lie in a file.
        flip: flip each image horizontally with probability one half.
        crop: pixels by which an image is shifted at random, at most; 0 for none.
        alternating_flip: flip by turns instead, see ``Augmentation``.
        label_smoothing: share of each label that is spread over all classes.
    """

    epochs: int = 30
    batch_size: int = 256
    optimizer: OptimizerField = Optimizer(schedule="cosine")
    flip: bool = False
    crop: int = 0
    alternating_flip: bool = False
    label_smoothing: float = 0.0

    def augmentation(self) -> Augmentation | None:
        """The augmentation asked for, if any."""
        asked = Augmentation(self.flip, self.crop, self.alternating_flip)
        return None if asked == Augmentation() else asked

    def objective(self, rule: PrivateGradient | None = None) -> Objective:
        """The loss and the augmentation asked for, and how gradients come about."""
        smoothed = LabelSmoothing(self.label_smoothing) if self.label_smoothing else cross_entropy
        return Objective(smoothed, self.augmentation(), rule)


@contextlib.contextmanager
def _silent(name: str, epochs: int):
    yield lambda epoch, loss, accuracy: None


def _unobserved(seconds: float, classifier: Classifier) -> None:
    pass


@dataclasses.dataclass(frozen=True)
class Hooks:
    """What a run is to be told on the way; the defaults do nothing.

    Attributes:
        progress: given a name and a number of epochs, a context manager yielding the callback
            that ``fit`` calls after every epoch.
        observe: called off the clock with the online seconds so far and the network then, valid
            only during the call.
    """

    progress: Callable[[str, int], AbstractContextManager[Progress]] = _silent
    observe: Callable[[float, Classifier], None] = _unobserved


@dataclasses.dataclass(frozen=True)
class Prepared:
    """All that the offline phase leaves for the online phase.

    Attributes:
        bank: the clusters and their condensed images.
        classifier: the network after offline training; the original where there is none.
        remembrance: the few test samples ``final`` may be trained on.
        offline_s: seconds of clustering, condensation and offline training.
        compile_s: seconds of compilation among them, not counted in ``offline_s``.
    """

    bank: CondensedBank
    classifier: Classifier
    remembrance: Dataset
    offline_s: float
    compile_s: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnlearningTask:
    """A request to forget, with everything a method may use.

    Attributes:
        original: the network trained on all of ``train``.
        train: the training set, the forget set included.
        forget_ids: int64, the ids that must not be there afterwards.
        seed: of the unlearning; apart from the original's and the forget set's. Retraining is
            trained by it as the original is by its own, so the two must differ. Every other method
            derives a seed of its own from it and its name: none shares an initialisation, an
            order of batches or a draw with the retrained model, or with another method.
        training: how the original was trained; retraining does the same.
        prepared: the offline phase's result, for methods that have one.
        statistics: whether a network trained from scratch takes its normalisation from the
            retain set or as the original has it (``given``).
        mesh: devices to shard batches over.
        gone_before: those of ``forget_ids`` that ``original`` was made to forget by an earlier
            request. No method looks at them: to work against a sample once more, request after
            request, would leave it less known than a sample that was never seen.
        features: the network that the prepared bank was made with; where it is not given, the
            original, or the untrained one that ``seed`` gives for a clean bank.
        name: under which a method other than retraining derives its seed, if not under its own:
            that of a preset, as all presets are the method ``modular``.
    """

    original: Classifier
    train: Dataset
    forget_ids: np.ndarray
    seed: int
    training: Training
    prepared: Prepared | None = None
    statistics: str = "retain"
    mesh: Mesh | None = None
    gone_before: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))
    features: Classifier | None = None
    name: str = ""

    def __post_init__(self):
        check_seed("seed", self.seed)

    def retain(self) -> Dataset:
        """The retained samples."""
        return self.train.without(self.forget_ids)

    def forget(self) -> Dataset:
        """The samples to forget now."""
        ids = self.forget_ids[~np.isin(self.forget_ids, self.gone_before)]
        return self.train.only(ids)

    def known(self) -> Dataset:
        """The samples that ``original`` has seen and not yet forgotten."""
        return self.train.without(self.gone_before)


@dataclasses.dataclass(frozen=True)
class Unlearned:
    """What a method gives back.

    Attributes:
        classifier: the new network.
        online_s: seconds from the request to it, compilation apart.
        compile_s: seconds of compilation meanwhile.
        flops: operations of all that the request caused (``training.flops.tally``): passes,
            training, systems of equations; ``None`` where not counted.
        reduction: size of what was trained on over the size of the retain set; ``None`` where that
            is not known.
        trained_ids: ids of the real training samples that any batch may have held.
        residual: of a method that solves systems of equations, the largest relative residual that
            one was left with, measured on the solution itself; ``None`` for others.
        solved: whether every system was solved to the tolerance that the method has for it. Where
            not, the network is not what the method's formula says, and tables mark it.
    """

    classifier: Classifier
    online_s: float
    compile_s: float
    flops: float | None
    reduction: float | None
    trained_ids: np.ndarray
    residual: float | None = None
    solved: bool = True


@runtime_checkable
class Method(Protocol):
    """An unlearning method: settings as fields, called with a task."""

    @property
    def sees_forget_set(self) -> bool:
        """Whether the method may look at the pixels of the forget set.

        One that declares it does not gives the same result whatever those pixels are.
        """
        ...

    def __call__(self, task: UnlearningTask, hooks: Hooks) -> Unlearned:
        """Forget ``task.forget_ids``."""
        ...


def train_from_scratch(
    model: Any,
    dataset: Dataset,
    training: Training,
    seed: int,
    *,
    normalisation: Any = None,
    mesh: Mesh | None = None,
    callbacks: Sequence[Callback] = (),
) -> Fitted:
    """Train a fresh network of ``model`` on ``dataset``; see ``Training`` and ``fit``."""
    seed = check_seed("seed", seed)
    check_at_least("epochs", training.epochs, 1)
    return fit(
        fresh_classifier(model, dataset, seed, normalisation),
        Examples.of(dataset.images, dataset.labels),
        epochs=training.epochs,
        key=named_key(seed, "training"),
        optimizer=training.optimizer,
        batch_size=training.batch_size,
        loss=training.objective(),
        placement=Placement(mesh),
        callbacks=callbacks,
    )


def train_together(
    model: Any,
    dataset: Dataset,
    rows: Int[np.ndarray, "models n"],
    training: Training,
    seeds: Sequence[int],
    *,
    normalisation: Any = None,
    rule: PrivateGradient | None = None,
    chunk: int | None = None,
    mesh: Mesh | None = None,
) -> FittedPopulation:
    """Fresh networks of one architecture in one program, each on rows of ``dataset`` of its own.

    Network ``i`` is that of ``train_from_scratch`` on those rows with ``seeds[i]``, up to the
    rounding of another compiled program.

    Args:
        model: a Linen module in three parts.
        dataset: what holds all the rows.
        rows: of each network, as many for each.
        training: see ``Training``.
        seeds: one for each network.
        normalisation: of the inputs; by default of what each network is trained on.
        rule: see ``Objective``.
        chunk: see ``Placement``.
        mesh: see ``Placement``.
    """
    networks = [
        fresh_classifier(model, dataset.take(chosen), seed, normalisation)
        for chosen, seed in zip(rows, seeds, strict=True)
    ]
    return fit_population(
        stack(networks),
        Examples.of(dataset.images, dataset.labels),
        rows,
        epochs=training.epochs,
        keys=jnp.stack([named_key(seed, "training") for seed in seeds]),
        optimizer=training.optimizer,
        batch_size=training.batch_size,
        loss=training.objective(rule),
        placement=Placement(mesh, chunk=chunk),
    )


def need_prepared(task: UnlearningTask) -> Prepared:
    """The offline phase's result, or ``InputError`` if there is none."""
    if task.prepared is None:
        raise InputError(
            "Modular unlearning without an offline phase",
            "a task with prepared set",
            "Run prepare first",
        )
    return task.prepared
