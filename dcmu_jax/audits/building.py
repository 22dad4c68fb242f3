"""Training populations: shadow models, oracles, and originals with what methods make of them.

Groups of models are trained at once and measured; a file of margins is kept of them, so that
an interrupted population goes on with the next group.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np
from jax.sharding import Mesh

from dcmu_jax.audits.margins import logit_margins
from dcmu_jax.audits.population import Population, joined
from dcmu_jax.data.dataset import Normalisation, Splits
from dcmu_jax.data.selections import Ids, Mask, as_mask
from dcmu_jax.errors import InputError, check_at_least, check_seed
from dcmu_jax.files import write_json
from dcmu_jax.reading import read_json_as
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.environment import arithmetic
from dcmu_jax.training.keys import named_seed
from dcmu_jax.training.population import member, population_logits, stack
from dcmu_jax.unlearning.task import Training, train_together

Inspect = Callable[[Classifier], Mapping[str, float]]
"""Reads numbers off a trained network."""

Serve = Callable[[Classifier, int], Classifier]
"""Makes an unlearned network of an original and the seed that it was trained with."""


@dataclasses.dataclass(frozen=True)
class Together:
    """A method that serves many originals at once, see ``audits.together``.

    Attributes:
        serve: makes unlearned networks of stacked originals and the seeds of their unlearning.
        settings: what it does besides its name, by which a folder knows its networks again.
    """

    serve: Callable[[Classifier, Sequence[int]], Classifier]
    settings: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rearing:
    """How a population is trained.

    Attributes:
        model: a Linen module in three parts.
        splits: the data; margins are measured on all of it, training set first.
        training: as for an original or a retrained model.
        seed: of the population; that of a model is derived from it and its number.
        normalisation: of the inputs; by default of what each model is trained on.
        group: models that are trained and saved together.
        chunk: models side by side in a group, see ``training.population``.
        mesh: with an axis ``models`` whose size divides ``group``.
        folder: where finished groups are kept; nothing is kept if not given.
        notify: told the number of finished models and of all after each group.
        inspect: reads further numbers off each model, which lie in ``folder`` beside its margins,
            see ``readings``. A finished group that has none is trained again.
    """

    model: nn.Module
    splits: Splits
    training: Training
    seed: int = 0
    normalisation: Normalisation | None = None
    group: int = 16
    chunk: int | None = None
    mesh: Mesh | None = None
    folder: Path | None = None
    notify: Callable[[int, int], None] = lambda done, of: None
    inspect: Inspect | None = None


_UNLEARNING = "unlearning of a population"
"""Under this name the seed of an original gives the one by which methods work on it."""


def random_halves(total: int, count: int, seed: int) -> np.ndarray:
    """Which samples each of ``count`` models is trained on, bool ``(count, total)``.

    Models ``2i`` and ``2i + 1`` have complementary halves.

    Args:
        total: number of samples.
        count: even, 2 or more.
        seed: of the draws.

    Raises:
        InputError: an odd or too small number.
    """
    seed = check_seed("seed", seed)
    check_at_least("count", count, 2)
    if count % 2:
        raise InputError(
            f"{count} shadow models", "an even number: they come in pairs of halves", "Add one"
        )
    member = np.zeros((count, total), bool)
    for pair in range(count // 2):
        rng = np.random.default_rng(named_seed(seed, f"halves {pair}"))
        order = rng.permutation(total)
        # Of an odd number one sample more goes to neither: all models train on equally many.
        member[2 * pair, order[: total // 2]] = True
        member[2 * pair + 1, order[total // 2 : 2 * (total // 2)]] = True
    return member


def shadow_population(rearing: Rearing, count: int) -> Population:
    """Models on random halves of the training set: every example is in exactly half of them.

    Models ``2i`` and ``2i + 1`` have complementary halves (Carlini et al. 2022, section VI).

    Args:
        rearing: see ``Rearing``.
        count: even number of models, 2 or more.

    Raises:
        InputError: an odd or too small number.
    """
    member = random_halves(len(rearing.splits.train), count, rearing.seed)
    return _reared(rearing, "shadow", member, np.zeros_like(member))


def oracle_population(rearing: Rearing, forget_ids: Ids, count: int) -> Population:
    """Models that never saw the forgotten samples: what exact unlearning gives, by other seeds.

    Args:
        rearing: see ``Rearing``.
        forget_ids: what they are not trained on.
        count: number of models.
    """
    check_at_least("count", count, 1)
    train = rearing.splits.train
    member = np.ones((count, len(train)), bool)
    member[:, train.positions(forget_ids)] = False
    return _reared(rearing, "oracle", member, np.zeros_like(member))


def unlearned_population(
    rearing: Rearing,
    forget_ids: Ids,
    count: int,
    methods: Mapping[str, Serve | Together],
    settings: Mapping[str, str] | None = None,
) -> Population:
    """Originals on all of the training set, and what each method makes of each of them.

    The originals are trained at once, and so is what methods make of them that are a plain fit
    (``audits.together``). Other methods run on one original after another, and their compiled
    programs serve all of them; side by side they would need a copy of the images for each.

    Args:
        rearing: see ``Rearing``.
        forget_ids: what must be forgotten.
        count: originals; there are as many models of the kind ``original`` and of each method.
        methods: name -> how an original is made to forget, by a seed that is not the original's.
        settings: name -> what a method does, such as the ``repr`` of its values: by this a folder
            knows its networks again. Needed where there is one; ``Together`` brings its own.

    Raises:
        InputError: a folder, and a method whose settings are not told.
    """
    check_at_least("count", count, 1)
    train = rearing.splits.train
    member = np.ones((count, len(train)), bool)
    forgotten = np.zeros_like(member)
    forgotten[:, train.positions(forget_ids)] = True
    return _reared(rearing, "original", member, forgotten, methods, settings)


def measured(
    networks: Sequence[Classifier],
    kinds: Sequence[str],
    splits: Splits,
    forget_ids: Ids,
    *,
    members: Mask | None = None,
) -> Population:
    """Networks that are there already, as a population.

    Args:
        networks: of one architecture.
        kinds: what each is; one named ``original`` or ``oracle`` has forgotten nothing.
        splits: the data.
        forget_ids: what the others were made to forget.
        members: bool ``(networks, training samples)``: what each was trained on; by default all
            of the training set, for an ``oracle`` without the forgotten samples.
    """
    train = splits.train
    forget = np.zeros(len(train), bool)
    forget[train.positions(forget_ids)] = True
    forgetful = np.array([kind not in ("original", "oracle") for kind in kinds])
    if members is None:
        members = np.ones((len(networks), len(train)), bool)
        members[np.array(kinds) == "oracle"] = ~forget
    members = as_mask("members", members, (len(networks), len(train)), "networks and samples")
    return _measure(stack(networks), splits, kinds, members, forgetful[:, None] & forget & members)


def _reared(
    rearing: Rearing,
    kind: str,
    member: np.ndarray,
    forgotten: np.ndarray,
    methods: Mapping[str, Serve | Together] | None = None,
    settings: Mapping[str, str] | None = None,
) -> Population:
    check_at_least("group", rearing.group, 1)
    count = len(member)
    if rearing.folder is not None:
        _claim(rearing, kind, member, forgotten, _told(methods or {}, settings or {}))
    elif rearing.inspect is not None:
        raise InputError("inspect without a folder", "a folder for what is read", "Name a folder")
    groups = []
    for low in range(0, count, rearing.group):
        path = rearing.folder and rearing.folder / f"{kind}-{low:05d}.npz"
        high = min(low + rearing.group, count)
        read = rearing.inspect is None or (path and path.with_suffix(".json").exists())
        if path and path.exists() and read:
            remedy = f"Delete {str(path)!r} and run again: these models are trained again"
            groups.append(Population.load(path, remedy))
        else:
            numbers = np.arange(low, high)
            groups.append(_train_group(rearing, kind, numbers, member, forgotten, methods or {}))
            if path:
                groups[-1].save(path)
        rearing.notify(high, count)
    return joined(groups)


def readings(rearing: Rearing, kind: str, count: int) -> list[dict[str, float]]:
    """What ``rearing.inspect`` read off each model of a finished population in its folder.

    Args:
        rearing: that the population was trained with.
        kind: ``shadow``, ``oracle`` or ``original``.
        count: number of models.

    Raises:
        InputError: numbers that are missing or damaged.
    """
    found = []
    for low in range(0, count, rearing.group):
        assert rearing.folder is not None
        path = rearing.folder / f"{kind}-{low:05d}.json"
        what = f"what was read off {kind} models"
        remedy = "Delete it, and the group is trained again"
        found += read_json_as(list[dict[str, float]], path, what, remedy)
    return found


def _told(methods: Mapping[str, Serve | Together], settings: Mapping[str, str]) -> dict[str, str]:
    """The settings of each method; raise where nobody told them."""
    known = {name: made.settings for name, made in methods.items() if isinstance(made, Together)}
    known |= settings
    for name in methods:
        if not known.get(name):
            raise InputError(
                f"A folder for what {name!r} makes, whose settings are not told",
                "settings of each method, by which the folder knows its networks again",
                f"Give settings={{{name!r}: repr(...)}} of the values it works with, or no folder",
            )
    return {name: known[name] for name in sorted(methods)}


def _claim(rearing: Rearing, kind: str, member, forgotten, methods: dict[str, str]) -> None:
    """Note what the folder holds groups of, or raise if it holds those of something else."""
    assert rearing.folder is not None
    if " at 0x" in repr(rearing.training):
        raise InputError(
            "An optax transformation for a population that is kept in a folder",
            "an Optimizer of dcmu_jax.training.optimizers, which is known by its settings",
            "Give one, or no folder",
        )
    digest = hashlib.sha256(np.packbits(member).tobytes() + np.packbits(forgotten).tobytes())
    identity = {
        "model": repr(rearing.model),
        "training": repr(rearing.training),
        "seed": rearing.seed,
        "group": rearing.group,
        "normalisation": repr(rearing.normalisation),
        "data": rearing.splits.train.fingerprint(),
        "test": rearing.splits.test.fingerprint(),
        "masks": digest.hexdigest(),
        "methods": list(methods),
        "settings": methods,
        "arithmetic": arithmetic(),
    }
    if methods:
        identity["seeds"] = _UNLEARNING
    rearing.folder.mkdir(parents=True, exist_ok=True)
    path = rearing.folder / f"{kind}.json"
    if path.exists():
        what = "the description of a population"
        remedy = f"Name another folder, or delete {str(rearing.folder)!r}"
        found = read_json_as(dict[str, Any], path, what, remedy)
        for later in ("arithmetic", "test", "settings"):
            found.setdefault(later, identity[later])  # of before it was recorded
        if found != identity:
            differs = sorted(k for k in identity if found.get(k) != identity[k])
            raise InputError(
                f"{rearing.folder} holds a population that differs in {', '.join(differs)}",
                "a folder of its own for each population",
                remedy,
            )
    else:
        write_json(path, identity)


def _train_group(
    rearing: Rearing,
    kind: str,
    numbers: np.ndarray,
    member_of: np.ndarray,
    forgotten: np.ndarray,
    methods: Mapping[str, Serve | Together],
) -> Population:
    train, training = rearing.splits.train, rearing.training
    seeds = [named_seed(rearing.seed, f"{kind} {number}") for number in numbers]
    rows = np.stack([np.flatnonzero(member_of[number]) for number in numbers])
    fitted = train_together(
        rearing.model,
        train,
        rows,
        training,
        seeds,
        normalisation=rearing.normalisation,
        chunk=rearing.chunk,
        mesh=rearing.mesh if divides(rearing.mesh, len(numbers)) else None,
    ).classifiers
    if rearing.inspect is not None and rearing.folder is not None:
        read = [dict(rearing.inspect(member(fitted, i))) for i in range(len(numbers))]
        write_json(rearing.folder / f"{kind}-{numbers[0]:05d}.json", read)
    no_one = np.zeros_like(forgotten[numbers])
    groups = [(fitted, kind, no_one)]
    # Not the originals': a network retrained by them would start where its original did.
    own = [named_seed(seed, _UNLEARNING) for seed in seeds]
    for name, serve in methods.items():
        if isinstance(serve, Together):
            served = serve.serve(fitted, own)
        else:
            served = stack([serve(member(fitted, i), seed) for i, seed in enumerate(own)])
        groups.append((served, name, forgotten[numbers]))
    return joined(
        [
            _measure(
                models,
                rearing.splits,
                [name] * len(numbers),
                member_of[numbers],
                gone,
                chunk=rearing.chunk,
            )
            for models, name, gone in groups
        ]
    )


def divides(mesh: Mesh | None, count: int) -> bool:
    """Whether ``count`` networks can be split over the mesh."""
    return mesh is not None and count % mesh.shape.get("models", 1) == 0


def _measure(
    models: Classifier,
    splits: Splits,
    kinds: Sequence[str],
    member_of: np.ndarray,
    forgotten: np.ndarray,
    **options: Any,
) -> Population:
    train, test = splits.train, splits.test
    labels = np.concatenate([train.labels, test.labels])
    images = np.concatenate([train.images, test.images])
    logits = population_logits(models, images, **options)
    nowhere = np.zeros((len(kinds), len(test)), bool)
    return Population(
        margins=np.stack([logit_margins(each, labels) for each in logits]),
        correct=logits.argmax(-1) == labels,
        member=np.concatenate([member_of, nowhere], axis=1),
        forgotten=np.concatenate([forgotten, nowhere], axis=1),
        kinds=tuple(kinds),
        ids=np.concatenate([train.ids, test.ids]),
        labels=labels,
        test=np.repeat([False, True], [len(train), len(test)]),
        data_fingerprint=splits.train.fingerprint(),
    )
