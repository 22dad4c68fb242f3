"""Modular unlearning (MU): the offline and online phases of the paper's second framework."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import jax
import numpy as np
from jax.sharding import Mesh

from dcmu_jax.condensation.building import feature_network
from dcmu_jax.condensation.deletion import recondense
from dcmu_jax.data.dataset import Dataset
from dcmu_jax.errors import InputError, check_at_least, check_seed
from dcmu_jax.fast.matching import MatchingConfig
from dcmu_jax.prng import Key, key_of
from dcmu_jax.training.callbacks import Callback, Progress, reporting
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.divergence import during
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.keys import folded, named_key, named_seed
from dcmu_jax.training.optimizers import Optimizer, OptimizerField, as_optimizer
from dcmu_jax.unlearning.protocol import ReducedRetainSet, StandIn, collect
from dcmu_jax.unlearning.schedule import CachedInputs, Reset, Step, reset_parts, train_step
from dcmu_jax.unlearning.serving import Serving
from dcmu_jax.unlearning.task import (
    Hooks,
    Unlearned,
    UnlearningTask,
    need_prepared,
)
from dcmu_jax.unlearning.wrong_labels import wrong_labels_among


@dataclasses.dataclass(frozen=True, kw_only=True)
class Offline:
    """The offline phase of modular training (paper section IV-C.1).

    In each round ``final`` goes back to the original's parameters and is trained on the
    remembrance samples, then ``intermediate`` is trained on the whole training set.

    Attributes:
        rounds: how many rounds there are (R in the paper); 0 leaves the original as it is.
        final_epochs: passes over the remembrance samples in a round (L1 in the paper).
        final_batch_size: examples per step there.
        final_optimizer: there.
        intermediate_epochs: passes over the training set in a round (L2 in the paper).
        intermediate_batch_size: examples per step there.
        intermediate_optimizer: there.
    """

    rounds: int = 0
    final_epochs: int = 20
    final_batch_size: int = 32
    final_optimizer: OptimizerField = Optimizer(learning_rate=1e-4)
    intermediate_epochs: int = 20
    intermediate_batch_size: int = 256
    intermediate_optimizer: OptimizerField = Optimizer(learning_rate=1e-5)


def train_offline(
    original: Classifier,
    train: Dataset,
    remembrance: Dataset,
    config: Offline,
    *,
    seed: int,
    mesh=None,
    hooks: Hooks | None = None,
) -> Classifier:
    """Run the offline phase and return the network it leaves."""
    seed = check_seed("seed", seed)
    check_at_least("rounds", config.rounds, 0)
    if config.rounds == 0:
        return original
    hooks = hooks or Hooks()
    final = Step(
        parts=("final",),
        on="remembrance",
        epochs=config.final_epochs,
        batch_size=config.final_batch_size,
        optimizer=config.final_optimizer,
    )
    intermediate = Step(
        parts=("intermediate",),
        epochs=config.intermediate_epochs,
        batch_size=config.intermediate_batch_size,
        optimizer=config.intermediate_optimizer,
    )
    remember = Examples.of(remembrance.images, remembrance.labels)
    everything = Examples.of(train.images, train.labels)
    classifier, cached = original, CachedInputs()
    for number in range(config.rounds):
        with hooks.progress(f"offline round {number + 1}", config.intermediate_epochs) as progress:
            classifier = _with_part_of(classifier, original, "final")
            for name, step, examples, shown in (
                ("final", final, remember, None),
                ("intermediate", intermediate, everything, progress),
            ):
                key = named_key(seed, f"offline {number} {name}")
                option = f"{name}_optimizer.learning_rate"
                with during(f"round {number + 1}, {name}", option=option):
                    told = reporting(shown)
                    classifier = train_step(
                        step,
                        classifier,
                        examples,
                        key=key,
                        mesh=mesh,
                        callbacks=told,
                        cached=cached,
                    ).classifier
    jax.block_until_ready(classifier.variables)
    return classifier


def _with_part_of(classifier: Classifier, other: Classifier, part: str) -> Classifier:
    """``classifier`` with the parameters and statistics of ``part`` taken from ``other``."""
    variables = {
        name: {**trees, **({part: other.variables[name][part]} if part in trees else {})}
        for name, trees in classifier.variables.items()
    }
    return dataclasses.replace(classifier, variables=variables)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collecting:
    """What the online phase trains on, of each cluster (paper section IV-B, algorithm 4).

    Attributes:
        touched: of a cluster that lost samples, its surviving ``members`` as they are, or one
            image re-condensed (``recondense``) from them.
        weigh_by_size: a condensed image counts as many times as its cluster has samples.
        real_per_cluster: this many real samples of each untouched cluster besides its image.
        stand_in: what stands for an untouched cluster: its ``condensed`` image, or a ``member``
            drawn at random, as a control.
        drop_forgotten_classes: leave wholly forgotten classes out of the remembrance samples.
        matching: for re-condensing.
    """

    touched: Literal["members", "recondense"] = "members"
    weigh_by_size: bool = False
    real_per_cluster: int = 0
    stand_in: StandIn = "condensed"
    drop_forgotten_classes: bool = True
    matching: MatchingConfig = MatchingConfig(steps=20)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModularUnlearning:
    """The online phase (paper section IV-C.2) as a schedule.

    First ``resets``; then ``rounds`` (S) rounds of ``round_steps``, of which those on the
    remembrance samples are left out of the last ``tail`` (tau) rounds; then ``closing_steps``.

    Attributes:
        collecting: what the reduced retain set is made of.
        resets: parts to shrink or re-initialise first.
        rounds: how many rounds there are (S in the paper).
        tail: the last rounds, in which remembrance samples are left out (tau in the paper): fewer
            than all, and at least one wherever the rounds train on remembrance samples.
        round_steps: what each round trains.
        closing_steps: what is trained once, at the end.
        forget_weight: how much a forgotten sample, under a wrong label drawn at random, counts in
            the steps on the reduced or the whole retain set. Above 0 the method looks at the
            forget set, as the published one never does.
    """

    collecting: Collecting = Collecting()
    resets: tuple[Reset, ...] = ()
    rounds: int = 0
    tail: int = 0
    round_steps: tuple[Step, ...] = ()
    closing_steps: tuple[Step, ...] = ()
    forget_weight: float = 0.0

    @property
    def sees_forget_set(self) -> bool:
        """Whether the schedule trains on forgotten samples (under wrong labels)."""
        return self.forget_weight > 0

    @property
    def remembers(self) -> bool:
        """Whether a step trains on the remembrance samples."""
        return any(step.on == "remembrance" for step in (*self.round_steps, *self.closing_steps))

    def check(self) -> None:
        """Raise ``InputError`` where the schedule makes no sense."""
        for piece in (*self.resets, *self.round_steps, *self.closing_steps):
            piece.check()
        parts = [reset.part for reset in self.resets]
        for part in parts:
            if parts.count(part) > 1:
                raise InputError(
                    f"The part {part!r} is reset twice", "one reset for each part", "Leave one out"
                )
        check_at_least("rounds", self.rounds, 0)
        check_at_least("forget_weight", self.forget_weight, 0)
        check_at_least("collecting.real_per_cluster", self.collecting.real_per_cluster, 0)
        for step in self.round_steps:
            optimizer = as_optimizer(step.optimizer)
            if self.rounds > 1 and optimizer.scheduled:
                raise InputError(
                    f"The schedule {optimizer.schedule!r} in a step of {self.rounds} rounds",
                    "'constant' without l1, as a round goes on from the last one's optimizer state",
                    "Take 'constant', or a closing step of several epochs",
                )
        if not (self.rounds and self.round_steps) and not self.closing_steps:
            raise InputError(
                "A schedule that trains nothing",
                "rounds with round_steps, or closing_steps",
                "Start from a preset, whose schedule does something",
            )
        remembers = any(step.on == "remembrance" for step in self.round_steps)
        if self.rounds and remembers and not 0 < self.tail < self.rounds:
            raise InputError(
                f"tail = {self.tail} with rounds = {self.rounds}",
                "0 < tail < rounds, or the remembrance samples are never, or always, trained on",
                f"Set tail between 1 and {self.rounds - 1}",
            )

    def __call__(self, task: UnlearningTask, hooks: Hooks) -> Unlearned:
        """Collect the reduced retain set, then train by part."""
        self.check()
        prepared = need_prepared(task)
        with Serving(task, hooks, "modular") as serving:
            remembrance = prepared.remembrance
            if self.collecting.drop_forgotten_classes:
                staying = task.train.labels[~np.isin(task.train.ids, task.forget_ids)]
                left = np.isin(remembrance.labels, staying)
                remembrance = remembrance.take(left)
            sets = {"remembrance": Examples.of(remembrance.images, remembrance.labels)}
            used = {step.on for step in (*self.round_steps, *self.closing_steps)}
            trained, condensed = np.empty(0, np.int64), 0
            if "reduced" in used:
                reduced = self._collect(task, serving.seed)
                sets["reduced"] = Examples.of(reduced.pixels, reduced.labels, reduced.weights)
                trained, condensed = reduced.ids, int(reduced.is_condensed.sum())
            if "retain" in used:
                retain = task.retain()
                sets["retain"] = Examples.of(retain.images, retain.labels)
                trained = retain.ids
            if self.forget_weight:
                trained = np.union1d(trained, task.forget().ids)
                known = np.unique(task.train.labels)
                sets = self.with_wrong_labels(sets, task.forget(), known, key_of(serving.seed))
            classifier = self.train(
                prepared.classifier,
                sets,
                key=key_of(serving.seed),
                mesh=task.mesh,
                hooks=hooks,
                callbacks=(serving.observe,),
            )
        return serving.unlearned(classifier, trained, size=len(trained) + condensed)

    def with_wrong_labels(
        self, sets: Mapping[str, Examples], forget: Dataset, classes: np.ndarray, key: Key
    ) -> dict[str, Examples]:
        """The sets, with the forget set under wrong labels in all but the remembrance samples.

        Args:
            sets: see ``train``.
            forget: the forget set.
            classes: see ``wrong_labels_among``.
            key: see ``train``.
        """
        wrong = wrong_labels_among(forget, classes, folded(key, "wrong labels"))
        weights = np.full(len(wrong), self.forget_weight, np.float32)
        return {
            name: examples
            if name == "remembrance"
            else Examples.of(
                np.concatenate([examples.inputs, forget.images]),
                np.concatenate([examples.labels, wrong]),
                np.concatenate([examples.weights, weights]),
            )
            for name, examples in sets.items()
        }

    def train(
        self,
        classifier: Classifier,
        sets: Mapping[str, Examples],
        *,
        key: Key,
        mesh: Mesh | None = None,
        hooks: Hooks | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> Classifier:
        """The schedule, on sets that are at hand: resets, rounds, closing steps.

        Args:
            classifier: where training starts.
            sets: the reduced retain set, the remembrance samples and the retain set, as far as
                steps train ``on`` them.

        Other Args:
            key: what is random in the resets and in every step depends on it.
            mesh: see ``fit``.
            hooks: told of progress.
            callbacks: called after every epoch of a step that is not on the remembrance samples.
        """
        hooks = hooks or Hooks()
        opt_states, cached = dict[int, object](), CachedInputs()
        classifier = reset_parts(classifier, self.resets, folded(key, "reset"))

        def run(index: int, step: Step, name: str, progress: Progress, last: bool) -> Classifier:
            after = index - len(self.round_steps)
            where = f"round_steps.{index}." if after < 0 else f"closing_steps.{after}."
            with during(name, within=where):
                fitted = train_step(
                    step,
                    classifier,
                    sets[step.on],
                    key=folded(key, name),
                    opt_state=opt_states.get(index),
                    mesh=mesh,
                    callbacks=(*reporting(progress), *(callbacks if last else ())),
                    cached=cached,
                )
            opt_states[index] = fitted.opt_state
            return fitted.classifier

        with hooks.progress("unlearning, rounds", self.rounds) as progress:
            for number in range(self.rounds):
                for index, step in enumerate(self.round_steps):
                    if step.on != "remembrance" or number < self.rounds - self.tail:
                        classifier = run(
                            index,
                            step,
                            f"online {number} {index}",
                            lambda _, loss, accuracy, n=number: progress(n + 1, loss, accuracy),
                            step.on != "remembrance",
                        )
        for number, step in enumerate(self.closing_steps):
            title = f"unlearning, {' and '.join(step.parts)}"
            with hooks.progress(title, step.epochs) as progress:
                index = len(self.round_steps) + number
                classifier = run(index, step, f"closing {number}", progress, True)
        jax.block_until_ready(classifier.variables)
        return classifier

    def _collect(self, task: UnlearningTask, seed: int) -> ReducedRetainSet:
        options, bank = self.collecting, need_prepared(task).bank
        again = None
        if options.touched == "recondense":
            network = task.features or feature_network(bank, task.original, task.seed)
            again = recondense(
                bank, task.train, network, task.forget_ids, options.matching, mesh=task.mesh
            )
        return collect(
            bank,
            task.train,
            task.forget_ids,
            touched=options.touched,
            recondensed=again,
            weigh_by_size=options.weigh_by_size,
            real_per_cluster=options.real_per_cluster,
            stand_in=options.stand_in,
            seed=named_seed(seed, "collection"),
        )
