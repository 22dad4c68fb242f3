"""The paper step by step, for notebooks: values in, values out, no directory.

``import dcmu_jax as dcmu`` has every function here as ``dcmu.NAME``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from dcmu_jax.condensation.bank import CondensedBank
from dcmu_jax.condensation.building import condense as condense_clusters
from dcmu_jax.condensation.clustering import Clusters, cluster_classes
from dcmu_jax.condensation.features import extract
from dcmu_jax.condensation.inversion import InversionConfig
from dcmu_jax.condensation.own import check_condenser_name, own_condenser
from dcmu_jax.data.dataset import Dataset, Splits
from dcmu_jax.data.requests import ForgetRequest, RequestLike, as_request
from dcmu_jax.errors import InputError, check_seed, kind_of
from dcmu_jax.fast.matching import MatchingConfig
from dcmu_jax.metrics import gradients, overfitting
from dcmu_jax.metrics.frames import frame_of
from dcmu_jax.metrics.membership import Control
from dcmu_jax.metrics.network import measure_classifier
from dcmu_jax.metrics.own import own_metrics
from dcmu_jax.metrics.scores import with_scores
from dcmu_jax.networks.partition import PARTS
from dcmu_jax.prng import Key
from dcmu_jax.training.callbacks import Callback
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.examples import Examples, Loss, cross_entropy
from dcmu_jax.training.loop import fit
from dcmu_jax.training.optimizers import Optimizer, OptimizerLike
from dcmu_jax.unlearning import protocol
from dcmu_jax.unlearning.modular import ModularUnlearning
from dcmu_jax.unlearning.protocol import ReducedRetainSet


def train(
    network: Classifier,
    dataset: Dataset,
    *,
    epochs: int,
    key: Key,
    optimizer: OptimizerLike | None = None,
    batch_size: int | None = 256,
    parts: Collection[str] = PARTS,
    loss: Loss = cross_entropy,
    callbacks: Sequence[Callback] = (),
) -> Classifier:
    """Train a network, or some parts of it, on a data set; see ``training.loop.fit``.

    Guarantee: parts that do not train come back bit-identical. Retraining is this on
    ``dataset.without(request.ids)``, from a fresh network.

    Args:
        network: where training starts; it is not changed.
        dataset: what it is trained on.

    Other Args:
        epochs: passes over it.
        key: of shuffling and dropout.
        optimizer: an optax transformation, a function of the learning rate that returns one, or
            an ``Optimizer``; Adam at 1e-3 if not given.
        batch_size: examples per step; ``None`` for all at once.
        parts: those of beginning, intermediate and final that train.
        loss: per-example loss, a module-level function of outputs and labels.
        callbacks: functions called after every epoch; see ``training.callbacks.EpochEnd`` for what
            they are given. One that returns ``True`` ends the training.

    Raises:
        InputError: see ``fit``.
    """
    fitted = fit(
        network,
        Examples.of(dataset.images, dataset.labels),
        epochs=epochs,
        key=key,
        optimizer=Optimizer() if optimizer is None else optimizer,
        batch_size=batch_size,
        parts=parts,
        loss=loss,
        callbacks=callbacks,
    )
    return fitted.classifier


def cluster(
    network: Classifier,
    dataset: Dataset,
    *,
    per_class: int,
    method: str = "kmeans",
    layer: str | None = None,
    seed: int = 0,
) -> Clusters:
    """Algorithm 1: each class in ``per_class`` groups of near features; see ``cluster_classes``.

    Args:
        network: whose features.
        dataset: the training set.

    Other Args:
        per_class: K.
        method: kmeans, compiled, minibatch or balanced.
        layer: whose output the features are; the input of ``final`` if not given.
        seed: of the random starts.
    """
    seed = check_seed("seed", seed)
    features = np.asarray(extract(network, dataset.images, layer), np.float32)
    return cluster_classes(features, dataset.labels, per_class, method=method, seed=seed)


def condense(
    network: Classifier,
    dataset: Dataset,
    clusters: Clusters,
    *,
    by: str | MatchingConfig | InversionConfig | Any = "matching",
    layer: str | None = None,
    seed: int = 0,
) -> CondensedBank:
    """Every cluster as one image: Algorithm 2 (fast distribution matching) or 3 (inversion).

    Args:
        network: whose features are matched.
        dataset: the training set.
        clusters: of it.

    Other Args:
        by: ``matching``, with the paper's settings; ``inversion``, which has a convolutional
            decoder and a warm start in place of theirs; settings of either; or a condenser of one's
            own, ``condenser(network, members)``, which gets a data set for each cluster and returns
            an image for each, or its name, ``file.py:attribute``: see
            ``condensation.own.own_condenser``.
        layer: as for ``cluster``.
        seed: of inversion; matching draws nothing.

    Raises:
        InputError: an unknown algorithm; a condenser that fails or returns anything else.
    """
    seed = check_seed("seed", seed)
    known = {"matching": MatchingConfig(), "inversion": InversionConfig()}
    if isinstance(by, str) and by not in known:
        check_condenser_name("way to condense", by)
    settings = known.get(by, by) if isinstance(by, str) else by
    matching = settings if isinstance(settings, MatchingConfig) else None
    inversion = settings if isinstance(settings, InversionConfig) else None
    own = own_condenser(settings) if matching is None and inversion is None else None
    return condense_clusters(
        dataset,
        network,
        clusters,
        np.asarray(extract(network, dataset.images, layer), np.float32),
        matching=matching,
        inversion=inversion,
        own=own,
        layer=layer,
        seed=seed,
    )


def forget(what: RequestLike, dataset: Dataset, *, seed: int = 0) -> ForgetRequest:
    """What to forget, by a text (``class:3``, ``random:0.1``, ``ids:5,7``), ids, or a mask.

    Args:
        what: one of these.
        dataset: the training set.

    Other Args:
        seed: of what a text draws at random.
    """
    seed = check_seed("seed", seed)
    return as_request(what, dataset, seed)


def collect(
    bank: CondensedBank,
    dataset: Dataset,
    request: RequestLike,
    *,
    schedule: ModularUnlearning | None = None,
    **options: Any,
) -> ReducedRetainSet:
    """Algorithm 4: the reduced retain set; see ``unlearning.protocol.collect``.

    Args:
        bank: of ``dataset``.
        dataset: the training set.
        request: what to forget.

    Other Args:
        schedule: that will train on it: what it wants collected (``schedule.collecting``) is. The
            paper's collection if not given; other schedules do worse on it.
        **options: ``weigh_by_size``, ``real_per_cluster``, ``stand_in``, ``seed``, ``touched``.
    """
    if schedule is not None:
        names = ("weigh_by_size", "real_per_cluster", "stand_in", "touched")
        options = {name: getattr(schedule.collecting, name) for name in names} | options
    return protocol.collect(bank, dataset, forget(request, dataset).ids, **options)


_SETS = {
    "reduced": "dcmu.collect(bank, train, request, schedule=schedule)",
    "remembrance": "test.first(10)",
    "retain": "train.without(request)",
    "forget": "train.only(request)",
}
"""Set that a schedule trains on -> how it is made."""


def unlearn(
    network: Classifier | Any,
    reduced: ReducedRetainSet | Any = None,
    *,
    schedule: ModularUnlearning | Any,
    key: Key,
    remembrance: Dataset | Any = None,
    retain: Dataset | Any = None,
    forget: Dataset | Any = None,
) -> Classifier:
    """The online phase (section IV-C.2): train a network part by part, as a schedule says.

    Guarantee: a part that no step names comes back bit-identical, unless the schedule resets it.

    Args:
        network: the original, or what the offline phase left of it.
        reduced: what steps on the ``reduced`` set train on.

    Other Args:
        schedule: see ``dcmu.schedules``, and ``ModularUnlearning`` for one's own.
        key: of all that is random in it.
        remembrance: what steps on the remembrance samples train on. Leave out classes that
            are forgotten whole, and evaluate on other test images.
        retain: what steps on the whole ``retain`` set train on.
        forget: the forget set, for a schedule that trains on it under wrong labels.

    Raises:
        InputError: a schedule that makes no sense, or trains on a set that is not given.
    """
    for name, found, kind in (
        ("network", network, Classifier),
        ("schedule", schedule, ModularUnlearning),
        ("reduced", reduced, ReducedRetainSet | None),
        ("remembrance", remembrance, Dataset | None),
        ("retain", retain, Dataset | None),
        ("forget", forget, Dataset | None),
    ):
        if not isinstance(found, kind):
            raise InputError(
                f"{name} given as {kind_of(found)}",
                getattr(kind, "__name__", str(kind).replace("dcmu_jax.", "")),
                "reduced is what dcmu.collect gives, a schedule one of dcmu.schedules, the others "
                "data sets such as train.without(request)",
            )
    schedule.check()
    steps = (*(schedule.round_steps if schedule.rounds else ()), *schedule.closing_steps)
    given = {
        "reduced": None
        if reduced is None
        else Examples.of(reduced.pixels, reduced.labels, reduced.weights),
        "remembrance": _examples(remembrance),
        "retain": _examples(retain),
    }
    used = {step.on for step in steps}
    empty = [name for name in used if (found := given[name]) is not None and not len(found.labels)]
    if empty:
        raise InputError(
            f"A schedule that trains on {', '.join(empty)}, which holds no sample",
            "at least one sample in each set",
            "Forget fewer samples",
        )
    wanted = used | ({"forget"} if schedule.sees_forget_set else set())
    absent = sorted(name for name in wanted if (given | {"forget": forget})[name] is None)
    if absent:
        raise InputError(
            f"The schedule trains on {' and '.join(sorted(wanted))}; not given: "
            f"{', '.join(absent)}",
            "every set that the schedule trains on",
            "Give dcmu.unlearn also " + ", ".join(f"{name}={_SETS[name]}" for name in absent),
        )
    sets = {name: examples for name, examples in given.items() if examples and name in used}
    if schedule.sees_forget_set and forget is not None:
        staying = [examples.labels for name, examples in sets.items() if name != "remembrance"]
        classes = np.unique(np.concatenate([*staying, forget.labels]))
        sets = schedule.with_wrong_labels(sets, forget, classes, key)
    return schedule.train(network, sets, key=key)


def _examples(dataset: Dataset | None) -> Examples | None:
    return None if dataset is None else Examples.of(dataset.images, dataset.labels)


def unlearning_metric(network: Classifier, *, retain: Dataset, forget: Dataset, **options: Any):
    """UM, 0..200; see ``metrics.gradients.unlearning_metric``.

    Args:
        network: any.

    Other Args:
        retain: the retain set.
        forget: the forget set.
        **options: ``per`` (part, layer or class), ``batch_size``.
    """
    return gradients.unlearning_metric(
        network.model,
        network.variables,
        network.normalisation,
        retain.images,
        retain.labels,
        forget.images,
        forget.labels,
        **options,
    )


def overfitting_metric(network: Classifier, dataset: Dataset, **options: Any) -> np.ndarray:
    """OM of each sample, float32 ``(N,)``; see ``metrics.overfitting.overfitting_metric``.

    Args:
        network: any.
        dataset: at least one sample.

    Other Args:
        **options: ``kind`` (paper or squared), ``batch_size``.
    """
    return overfitting.overfitting_metric(network, dataset, **options).values


def evaluate(
    networks: Mapping[str, Classifier],
    data: Splits,
    request: RequestLike,
    *,
    remembrance: Dataset | None = None,
    control: Control = "same_class",
    metrics: Mapping[str, Any] | Any = None,
) -> Any:
    """Accuracies, membership inference and UM of networks: a pandas frame, a row for each.

    Args:
        networks: by name. Where one is named ``retrain``, every row has its distance to it
            (``gap``, ``tug_of_war``).
        data: training and test set.
        request: what to forget.

    Other Args:
        remembrance: test samples that a network may have trained on; none of them is used.
        control: test samples that the membership attack tells the forgotten ones from: of the
            same classes, or all.
        metrics: of one's own, name -> ``metric(network, *, retain, forget, test)``, which returns a
            number: an attack, say, on the network and the three data sets. In the column
            ``own.name`` then.

    Returns:
        A frame with the names as its index and the numbers of a ``Measurement`` as its columns, NaN
        where there is none. ``terminal_table`` and ``own_table`` take it.

    Raises:
        InputError: see ``metrics.own.own_metrics`` and ``measured_by``.
    """
    own = own_metrics(metrics)
    ids = forget(request, data.train).ids
    usable = np.ones(len(data.test), bool)
    if remembrance is not None:
        usable &= ~np.isin(data.test.ids, remembrance.ids)
    gone = np.isin(data.train.ids, ids)
    rows = [
        measure_classifier(
            name, found, data, gone, usable, control=control, metrics=own
        ).measurement
        for name, found in networks.items()
    ]
    return frame_of(with_scores(rows) if "retrain" in networks else rows)
