"""The condensed model beside its baselines: one target, many ways to train it, each measured once.

All that belongs to one data set, request, construction and seed lies in one folder: the condensed
model before and after the request, condensed images, and a file for every finished row, which is
not measured again.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from dcmu_jax.applications.condensed_model import attach, prepare, train_few
from dcmu_jax.applications.condensed_model_files import read_part, run_again
from dcmu_jax.applications.condensed_model_recipes import (
    COMPARED,
    CONDENSED,
    SMALL,
    Budget,
    Images,
    Recipe,
    check_target,
)
from dcmu_jax.applications.condensed_model_settings import Attaching, Construction
from dcmu_jax.condensation.bank import CondensedBank
from dcmu_jax.condensation.condenser import CondensedImages
from dcmu_jax.data.dataset import Dataset, Splits, channel_statistics
from dcmu_jax.data.remembrance import (
    allowed_remembrance,
    remembrance_samples,
    retained_samples,
)
from dcmu_jax.data.requests import RequestLike, as_request
from dcmu_jax.errors import InputError
from dcmu_jax.files import FilePath, write_json
from dcmu_jax.locks import locked_again
from dcmu_jax.metrics.accuracy import measure
from dcmu_jax.networks.autoencoder import condensed_network
from dcmu_jax.networks.catalogue import create
from dcmu_jax.networks.partition import PARTS, count_parameters
from dcmu_jax.reading import is_there
from dcmu_jax.training.checkpoints import load_classifier, save_classifier
from dcmu_jax.training.classifier import Classifier, fresh_classifier
from dcmu_jax.training.environment import arithmetic
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.keys import named_seed
from dcmu_jax.training.timing import Stopwatch
from dcmu_jax.unlearning.task import Hooks, Prepared, UnlearningTask

F = TypeVar("F", bound=Callable[..., Any])


def _one_at_a_time(method: F) -> F:
    """A method of the bench that holds its folder (``working``)."""

    @functools.wraps(method)
    def alone(bench: CondensedModelBench, *args: Any, **kwargs: Any) -> Any:
        with bench.working():
            return method(bench, *args, **kwargs)

    return cast(F, alone)


class CondensedModelBench:
    """One condensed model, one request, and a row at a time.

    Args:
        construction: see ``Construction``.
        budget: see ``Budget``.
        splits: the data.
        request: what to forget.
        folder: where everything is kept.
        seed: of everything but the request.
        largest: most remembrance samples of each class that a row trains on; none of these test
            images is evaluated on in any row.
        hooks: see ``Hooks``.

    Raises:
        InputError: too few samples to compare on or to remember; a folder of something else.
    """

    def __init__(
        self,
        construction: Construction,
        budget: Budget,
        splits: Splits,
        request: RequestLike,
        folder: FilePath,
        *,
        seed: int,
        largest: int | None = None,
        hooks: Hooks | None = None,
    ):
        construction.check()
        construction.architecture.check(splits.image_shape)
        self.construction, self.budget, self.splits = construction, budget, splits
        self.request = request = as_request(request, splits.train)
        self.folder, self.seed = Path(folder), seed
        self.hooks = hooks or Hooks()
        self.largest = max(construction.per_class, largest or 0)
        reserved = self._remembrance(self.largest)
        self.usable = ~np.isin(splits.test.ids, reserved.ids)
        self.forget = np.isin(splits.train.ids, request.ids)
        control = self.usable & np.isin(splits.test.labels, splits.train.labels[self.forget])
        if min(int(self.forget.sum()), int(control.sum())) < 2:
            raise InputError(
                f"A comparison on {int(self.forget.sum())} forgotten samples and "
                f"{int(control.sum())} test samples of their classes",
                "2 or more of each, for the membership attack",
                "Ask for more, or bring more test samples",
            )
        self._prepared: Prepared | None = None
        self._unlearned: tuple[Classifier, dict[str, float]] | None = None
        self._claim()

    def _claim(self) -> None:
        """Note what the folder holds, or raise if it holds something else."""
        train, test = self.splits.train, self.splits.test
        identity = {
            "construction": repr(self.construction),
            "budget": repr(self.budget),
            "request": self.request.text,
            "ids": hashlib.sha256(self.request.ids.tobytes()).hexdigest(),
            "data": train.fingerprint() + test.fingerprint(),
            "seed": self.seed,
            "largest": self.largest,
            "arithmetic": arithmetic(),
        }
        path = self.folder / "identity.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.working():
                found = read_part(path, "identity")
                if found is None:
                    write_json(path, identity)
        except OSError as error:
            raise InputError(
                f"The folder {str(self.folder)!r} cannot be made ({error.strerror})",
                "a folder that can be written to",
                "Choose another one",
            ) from error
        if found is not None and identity | found != identity:
            differs = ", ".join(k for k in identity if (identity | found)[k] != identity[k])
            raise InputError(
                f"{str(self.folder)!r} holds a condensed model with another {differs}",
                "a folder of its own for each",
                "Name another one with --out, or give the settings it was made with",
            )

    def working(self) -> AbstractContextManager[None]:
        """Hold the folder: another process or thread that would work there waits.

        What it waited for it finds done, and does not do again.
        """
        return locked_again(self.folder / "condensed-model.lock")

    def _remembrance(self, per_class: int) -> Dataset:
        return remembrance_samples(
            self.splits.test,
            per_class,
            method="random",
            seed=named_seed(self.seed, "remembrance"),
            setting="--per-class and --construction.per-class",
        )

    def _load(self, folder: Path) -> Classifier:
        splits = self.splits
        model = condensed_network(
            self.construction.architecture, splits.image_shape, splits.num_classes
        )
        like = fresh_classifier(model, splits.train, 0)
        return load_classifier(folder / "network", model, like, run_again(folder))

    @_one_at_a_time
    def prepared(self) -> Prepared:
        """The condensed model before any request, made if it is not there yet."""
        if self._prepared is None:
            folder = self.folder / "prepared"
            remembrance = self._remembrance(self.construction.per_class)
            cost = read_part(folder / "cost.json", "offline")
            if cost is None:
                self._prepared = prepare(
                    self.construction,
                    self.splits.train,
                    remembrance,
                    seed=self.seed,
                    hooks=self.hooks,
                )
                self._prepared.bank.save(folder / "bank.npz")
                save_classifier(folder / "network", self._prepared.classifier)
                made = self._prepared
                cost = {"offline_s": made.offline_s, "compile_s": made.compile_s}
                write_json(folder / "cost.json", cost)
            else:
                bank = CondensedBank.load(folder / "bank.npz", run_again(folder))
                bank.check(self.splits.train)
                network = self._load(folder)
                seconds = cost["offline_s"], cost["compile_s"]
                self._prepared = Prepared(bank, network, remembrance, *seconds)
        return self._prepared

    @_one_at_a_time
    def unlearned(self) -> tuple[Classifier, dict[str, float]]:
        """The condensed model after the request, and what that cost; made if not there yet."""
        if self._unlearned is None:
            folder = self.folder / "unlearned"
            cost = read_part(folder / "cost.json", "online")
            if cost is None:
                prepared = self.prepared()
                labels = self.splits.train.labels[self.forget]
                whole = bool(np.isin(labels, self.request.forgotten_classes).all())
                method = self.construction.online_classes if whole else self.construction.online
                task = UnlearningTask(
                    original=prepared.classifier,
                    train=self.splits.train,
                    forget_ids=self.request.ids,
                    seed=named_seed(self.seed, "unlearning"),
                    training=self.budget.training,
                    prepared=prepared,
                )
                result = method(task, self.hooks)
                cost = {"request_s": result.online_s, "reduction": result.reduction}
                save_classifier(folder / "network", result.classifier)
                write_json(folder / "cost.json", cost)
                self._unlearned = result.classifier, cost
            else:
                self._unlearned = self._load(folder), cost
        return self._unlearned

    @_one_at_a_time
    def few_images(self, kind: Images, per_class: int) -> tuple[np.ndarray, np.ndarray, float]:
        """Pixels, labels, and the seconds that the request cost until they were there."""
        if kind in ("remembrance", "retained"):
            samples = (
                allowed_remembrance(self._remembrance(per_class), self.request)
                if kind == "remembrance"
                else retained_samples(
                    self.splits.train, self.request, per_class, named_seed(self.seed, "retained")
                )
            )
            return samples.images, samples.labels, 0.0
        path = self.folder / "images" / f"{kind}-{per_class}.npz"
        cost = read_part(path.with_suffix(".json"), "images")
        if cost is None or not is_there(path):
            found, seconds = self._condense(kind, per_class)
            found.save(path)
            write_json(path.with_suffix(".json"), {"seconds": seconds})
        else:
            again = f"Delete {str(path)!r} and run again"
            found, seconds = CondensedImages.load(path, again), cost["seconds"]
        return found.images, found.labels, seconds

    def _condense(self, kind: Images, per_class: int) -> tuple[CondensedImages, float]:
        retain, budget = self.splits.train.take(~self.forget), self.budget
        if kind == "fdm":
            method, network = budget.fdm, self.unlearned()[0]
        else:
            shape, classes = self.splits.image_shape, self.splits.num_classes
            model = create(
                "convnet",
                image_shape=shape,
                num_classes=classes,
                width=budget.dm_width,
                dtype=self.construction.architecture.dtype,
            )
            method, network = budget.dm, fresh_classifier(model, retain, self.seed)
        watch = Stopwatch()
        with watch.running(), self.hooks.progress(f"condensing by {kind}", 1):
            found = method(retain, per_class, classifier=network, seed=named_seed(self.seed, kind))
        return found, watch.run_s

    def network(self, recipe: Recipe) -> tuple[Classifier, dict[str, Any]]:
        """The target that a recipe gives, trained, and what it cost; nothing is written."""
        recipe.check()
        settings, splits = self.construction, self.splits
        seed = named_seed(self.seed, f"{recipe.target} target")
        base, request_s = None, 0.0
        if recipe.through == "before unlearning":
            base = self.prepared().classifier
        elif recipe.through == CONDENSED:
            base, cost = self.unlearned()
            request_s = cost["request_s"]
        if recipe.target == SMALL:
            if base is None:
                raise InputError(
                    "The small final by itself", "through the condensed model", "Name a target"
                )
            return base, _cost(base, ("final",), request_s, 0.0, 0)
        target = check_target(settings, splits, recipe)
        assert target is not None
        retain = splits.train.take(~self.forget)
        if base is None:
            start = fresh_classifier(target, retain, seed, channel_statistics(retain.images))
            parts = PARTS
        else:
            start, parts = attach(base, target, seed), ("final",)
        attaching = recipe.attaching or settings.attaching
        teacher = base
        if recipe.images == "retain":
            training = self.budget.training
            images, labels, seconds = retain.images, retain.labels, 0.0
            # The budget of retraining, in the words of the few: as many steps, the same changes.
            attaching = Attaching(
                steps=training.epochs * -(-len(images) // training.batch_size),
                batch_size=training.batch_size,
                optimizer=training.optimizer,
                flip=training.flip,
                crop=training.crop,
            )
        else:
            images, labels, seconds = self.few_images(recipe.images, recipe.per_class)
        fitted = train_few(
            start,
            Examples.of(images, labels),
            attaching,
            parts=parts,
            seed=seed,
            teacher=teacher,
            hooks=self.hooks,
        )
        cost = _cost(fitted.classifier, parts, request_s + seconds, fitted.run_s, len(images))
        return fitted.classifier, cost

    @_one_at_a_time
    def row(self, name: str, recipe: Recipe) -> dict[str, Any]:
        """One row, measured if it is not there yet.

        Args:
            name: of the row; with the target and its number of images it names the file.
            recipe: see ``Recipe``.
        """
        recipe.check()
        slug = f"{name}--{recipe.target}-{recipe.width:g}-{recipe.per_class}".replace(" ", "_")
        # Another recipe under the same name has a file of its own, and loses nobody's row.
        of_recipe = hashlib.sha256(repr(recipe).encode()).hexdigest()[:16]
        for each in (slug, f"{slug}-{of_recipe}"):
            path = self.folder / "rows" / f"{each}.json"
            found = read_part(path, "row")
            if found is None:
                break
            if found["recipe"] == repr(recipe):
                return found
        network, cost = self.network(recipe)
        row = {
            "row": name,
            "target": recipe.target,
            "width": recipe.width,
            "images": recipe.images,
            "through": recipe.through,
            "per_class": recipe.per_class,
            "request": self.request.text,
            "seed": self.seed,
            **self.measure(network),
            "offline_s": self.prepared().offline_s if recipe.through != "nothing" else 0.0,
            **cost,
            "recipe": repr(recipe),
        }
        write_json(path, row)
        return row

    def measure(self, network: Classifier) -> dict[str, float | None]:
        """Accuracies and membership inference (%), on no remembrance sample of any row."""
        train, test = self.splits.train, self.splits.test
        found = measure(
            "condensed model",
            train=network.evaluate(train),
            test=network.evaluate(test),
            train_labels=train.labels,
            test_labels=test.labels,
            forget=self.forget,
            usable=self.usable,
            unlearning_metric=math.nan,
            control="same_class",
        )
        row = {name: getattr(found, name) for name in COMPARED}
        return row | {"mia": None if math.isnan(found.mia) else found.mia}


def _cost(
    network: Classifier, parts: tuple[str, ...], request_s: float, train_s: float, images: int
) -> dict[str, Any]:
    counts = count_parameters(network.variables["params"])
    return {
        "request_s": request_s,
        "train_s": train_s,
        "update_s": request_s + train_s,
        "parameters": sum(counts.values()),
        "trained_parameters": sum(counts[part] for part in parts) if images else 0,
        "trained_images": images,
    }
