"""The cells of Figure 3: a seed and a defence, its networks trained or unlearned once, and kept."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dcmu_jax.applications.mia_defence import defend, exposed_values, few_epochs
from dcmu_jax.applications.output_defence import perturbed_logits
from dcmu_jax.applications.overfitted import overfitted_subset
from dcmu_jax.applications.privacy import private_gradient
from dcmu_jax.applications.recipes import Recipe, train_by
from dcmu_jax.audits.building import measured, random_halves
from dcmu_jax.audits.inversion import inversion_attack, inversion_without_images, known_images
from dcmu_jax.audits.margins import logit_margins
from dcmu_jax.audits.population import Population
from dcmu_jax.condensation.inversion import InversionConfig
from dcmu_jax.data.dataset import Normalisation, Splits
from dcmu_jax.data.requests import ForgetRequest
from dcmu_jax.data.sources import load
from dcmu_jax.errors import InputError, unknown_name
from dcmu_jax.files import write_json
from dcmu_jax.metrics.overfitting import overfitting_metric
from dcmu_jax.reading import read_json
from dcmu_jax.reporting.defence import inversion_figure
from dcmu_jax.runs import stages
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.options import Dtype, NetworkOptions, RemembranceOptions
from dcmu_jax.runs.presets import preset
from dcmu_jax.sweeps import Step
from dcmu_jax.training.checkpoints import load_classifier, save_classifier
from dcmu_jax.training.classifier import Classifier, fresh_classifier
from dcmu_jax.training.keys import named_seed
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.training.population import member as one_of
from dcmu_jax.training.population import population_logits, stack
from dcmu_jax.unlearning.task import Training
from experiments.writing import without_folders

UNLEARNED = {
    "unlearned_otsu": ("otsu", "paper"),
    "unlearned_quantile": ("quantile", "recommended"),
    "unlearned_lira": ("lira", "recommended"),
}
"""Defence by unlearning -> rule of the subset, preset of the online phase."""

GRIDS: dict[str, tuple[float, ...]] = {
    "early_stopping": (2, 4, 7, 12, 20),
    "label_smoothing": (0.1, 0.3, 0.6, 0.9),
    "dropout": (0.3, 0.6, 0.8, 0.95),
    "weight_decay": (0.3, 1.0, 3.0, 10.0),
    "dp_adam": (3e-4, 1e-3, 3e-3),
    "dp_sgd": (0.1, 0.5, 2.0),
}
"""Baseline -> strengths tried: epochs, share, probability, factor; of DP, learning rates."""

DEFENCES = ("original", *UNLEARNED, *GRIDS, "output")
INVERTED = ("original", "dp_adam", "dp_sgd", *UNLEARNED)
_TUNING_SEED = 1000
_NOT_OF_A_CELL = ("seeds", "chunk", "workers")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What is run.

    Attributes:
        dataset: as for `dcmu run`.
        model: mlp or cnn, the latter with group normalisation.
        width: of the network.
        dtype: of the computation; parameters and statistics stay float32.
        epochs: of every network but the private ones.
        batch_size: of the same.
        models: networks of each cell, an even number, 6 or more.
        seeds: cells of each defence.
        epsilon: budget of the private networks.
        delta: of the same.
        clip: of the same.
        private_epochs: of the same.
        private_batch_size: of the same, expected.
        unlearning_epochs: the few epochs of unlearning.
        share: of the samples that are unlearned by the rules quantile and lira.
        matched: the defence whose accuracy the baselines are tuned to.
        inversion_epochs: of the InverterNet.
        chunk: networks that train side by side.
        workers: processes of the worker pool; see ``sweeps.run_in_pool``.
        out: where the cells lie.
    """

    dataset: str
    model: str = "mlp"
    width: float = 0.25
    dtype: Dtype = "float32"
    epochs: int = 30
    batch_size: int = 128
    models: int = 8
    seeds: int = 3
    epsilon: float = 8.0
    delta: float = 1e-5
    clip: float = 1.0
    private_epochs: int = 10
    private_batch_size: int = 256
    unlearning_epochs: int = 5
    share: float = 0.2
    matched: str = "unlearned_otsu"
    inversion_epochs: int = 100
    chunk: int = 4
    workers: int = 1
    out: Path = Path("runs/fig3")


def _again(folder: Path) -> str:
    """What to do about a cell of which a file is damaged."""
    return f"Delete the folder {str(folder)!r} and run again"


class Cells:
    """Populations by seed and defence, measured if they are not there yet."""

    def __init__(self, options: Options):
        if options.matched not in ("unlearned_otsu", "unlearned_quantile"):
            raise unknown_name(
                "defence to match", options.matched, ("unlearned_otsu", "unlearned_quantile")
            )
        if options.models < 6 or options.models % 2 or options.seeds < 1:
            raise InputError(
                f"models = {options.models}, seeds = {options.seeds}",
                "an even number of models, 6 or more, and one seed or more",
                "LiRA wants shadows in and out of every sample",
            )
        self.options = options
        whole = load(options.dataset)
        # The halves of the test split, class by class: the first to tune on, the second reported.
        rng = np.random.default_rng(named_seed(0, "halves of the test split"))
        tune = np.zeros(len(whole.test), bool)
        for label in range(whole.num_classes):
            rows = rng.permutation(np.flatnonzero(whole.test.labels == label))
            tune[rows[: len(rows) // 2]] = True
        self.tuning = whole.test.take(tune)
        self.splits = dataclasses.replace(whole, test=whole.test.take(~tune))
        channels = whole.image_shape[-1]
        # Fixed, because a private network must not measure it on its training set.
        self.normalisation = Normalisation(
            np.full(channels, 0.5, np.float32), np.full(channels, 0.25, np.float32)
        )
        self.model = self._model()
        self.folder = options.out / self._identity()

    def _model(self, **changes: Any) -> Any:
        norm = "group" if self.options.model == "cnn" else "batch"
        network = NetworkOptions(width=self.options.width, norm=norm, dtype=self.options.dtype)
        model: Any = stages.build_model(self.options.model, self.splits, network)
        return dataclasses.replace(model, **changes) if changes else model

    def settings(self) -> dict[str, Any]:
        """The options, without folders of this machine."""
        found = dataclasses.asdict(self.options)
        del found["out"]
        return found | {"dataset": without_folders(self.options.dataset)}

    def _identity(self) -> str:
        """Name of the folder: other options, another folder; more seeds, the same."""
        told = {k: v for k, v in self.settings().items() if k not in _NOT_OF_A_CELL}
        if told["dtype"] == Options.dtype:  # folders made before there was a choice
            del told["dtype"]
        data = self.splits.train.fingerprint()
        return f"{self.splits.name}-{named_seed(0, json.dumps([told, data], sort_keys=True)):08x}"

    def members(self, seed: int) -> np.ndarray:
        """Masks over the training split, ``(models, samples)``."""
        count = 2 if seed == _TUNING_SEED else self.options.models
        return random_halves(len(self.splits.train), count, named_seed(seed, "fig3"))

    def _folder(self, seed: int, name: str) -> Path:
        return self.folder / f"seed{seed}" / name

    def population(self, seed: int, name: str) -> Population:
        """The networks of a cell, measured on the training split and the reported half."""
        folder = self._folder(seed, name)
        if not (folder / "about.json").exists():
            strength = self.strengths()[name] if name in GRIDS else None
            networks, about = self._networks(seed, name, strength)
            found = self._measured(seed, name, networks)
            correct, member = found.correct, found.member
            about |= {
                "test_accuracy": 100 * float(correct[:, found.test].mean()),
                "member_accuracy": 100 * float(correct[member].mean()),
            }
            found.save(folder / "population.npz")
            write_json(folder / "about.json", about)
        return Population.load(folder / "population.npz", _again(folder))

    def about(self, seed: int, name: str) -> dict[str, Any]:
        """What a finished cell says of itself."""
        return read_json(
            (self._folder(seed, name) / "about.json"), "a measured cell", "Delete it and run again"
        )

    def _measured(self, seed: int, name: str, networks: Classifier) -> Population:
        member, nothing = self.members(seed), np.empty(0, np.int64)
        each = [one_of(networks, i) for i in range(len(member))]
        found = measured(each, [name] * len(member), self.splits, nothing, members=member)
        if name != "output":
            return found
        images = np.concatenate([self.splits.train.images, self.splits.test.images])
        logits = population_logits(networks, images, chunk=self.options.chunk)
        unseen = population_logits(networks, self.tuning.images, chunk=self.options.chunk)
        margins = [
            logit_margins(perturbed_logits(own, of_tuning, seed=i), found.labels)
            for i, (own, of_tuning) in enumerate(zip(logits, unseen, strict=True))
        ]
        return dataclasses.replace(found, margins=np.stack(margins))

    def _like(self, count: int) -> Classifier:
        one = fresh_classifier(self.model, self.splits.train, 0, self.normalisation)
        return stack([one] * count)

    def network(self, name: str) -> Classifier:
        """The first network of the first seed of a defence among ``INVERTED``."""
        self.population(0, name)
        folder = self._folder(0, name)
        like = one_of(self._like(1), 0)
        return load_classifier(folder / "first", self.model, like, _again(folder))

    def _originals(self, seed: int) -> tuple[Classifier, float]:
        path = self._folder(seed, "original") / "all"
        if not path.with_suffix(".json").exists():
            fitted = self._trained(seed, "original", None)[0]
            save_classifier(path, fitted.classifiers)
            write_json(path.with_suffix(".json"), fitted.run_s / len(self.members(seed)))
        done = path.with_suffix(".json")
        like = self._like(len(self.members(seed)))
        networks = load_classifier(path, self.model, like, f"Delete {str(done)!r} and run again")
        return networks, read_json(done, "a measured cell", "Delete it and run again")

    def _recipe(self, name: str, strength: float | None) -> tuple[Recipe, dict[str, Any]]:
        o, about = self.options, {}
        usual = Training(epochs=o.epochs, batch_size=o.batch_size)
        recipe = Recipe(model=self.model, training=usual)
        if name == "early_stopping":
            # A run that ends sooner, its schedule laid out for where it ends.
            fewer = dataclasses.replace(usual, epochs=min(int(strength or 0), o.epochs))
            recipe = dataclasses.replace(recipe, training=fewer)
        elif name == "label_smoothing":
            smooth = dataclasses.replace(usual, label_smoothing=strength or 0.0)
            recipe = dataclasses.replace(recipe, training=smooth)
        elif name == "dropout":
            recipe = dataclasses.replace(recipe, model=self._model(dropout=strength))
        elif name == "weight_decay":
            decay = Optimizer(name="adamw", schedule="cosine", weight_decay=strength or 0.0)
            recipe = dataclasses.replace(
                recipe, training=dataclasses.replace(usual, optimizer=decay)
            )
        elif name in ("dp_adam", "dp_sgd"):
            rule, spent = private_gradient(
                o.epsilon,
                examples=len(self.splits.train) // 2,
                batch_size=o.private_batch_size,
                epochs=o.private_epochs,
                delta=o.delta,
                clip=o.clip,
            )
            kind = "adam" if name == "dp_adam" else "sgd"
            optimizer = Optimizer(name=kind, learning_rate=strength or 1e-3)
            training = Training(
                epochs=o.private_epochs, batch_size=o.private_batch_size, optimizer=optimizer
            )
            recipe = Recipe(model=self.model, training=training, rule=rule)
            about = dataclasses.asdict(spent)
        return recipe, about

    def _trained(self, seed: int, name: str, strength: float | None) -> tuple[Any, dict[str, Any]]:
        recipe, about = self._recipe(name, strength)
        private = recipe.rule is not None
        fitted = train_by(
            recipe,
            self.splits.train,
            self.members(seed),
            normalisation=self.normalisation,
            seed=named_seed(seed, "fig3"),
            chunk=1 if private else self.options.chunk,
        )
        return fitted, about

    def _networks(
        self, seed: int, name: str, strength: float | None
    ) -> tuple[Classifier, dict[str, Any]]:
        """The networks of a cell, and what is to be known of them."""
        if name in GRIDS:
            fitted, about = self._trained(seed, name, strength)
            networks, seconds = fitted.classifiers, fitted.run_s / len(self.members(seed))
            about |= {"class": "training", "strength": strength}
        else:
            networks, seconds = self._originals(seed)
            about = {"class": "output defence" if name == "output" else "none"}
            if name in UNLEARNED:
                networks, about, more = self._unlearned(seed, name, networks)
                seconds += more
            if name == "original" and seed != _TUNING_SEED:
                about |= {"chosen_share_by_rule": self._shares(seed, networks)}
        if seed == 0 and name in INVERTED:
            save_classifier(self._folder(seed, name) / "first", one_of(networks, 0))
        return networks, about | {"seconds": seconds}

    def _shares(self, seed: int, networks: Classifier) -> dict[str, float]:
        """How much of the training set of the first network each rule calls overfitted."""
        train = self.splits.train.take(self.members(seed)[0])
        values = overfitting_metric(one_of(networks, 0), train).values
        rules = ("otsu", "otsu_per_class")
        return {r: overfitted_subset(values, train.labels, rule=r).share for r in rules}

    def _unlearned(
        self, seed: int, name: str, originals: Classifier
    ) -> tuple[Classifier, dict[str, Any], float]:
        rule, preset_name = UNLEARNED[name]
        o, members = self.options, self.members(seed)
        options = preset(preset_name, o.model)
        online = few_epochs(options.online, o.unlearning_epochs)
        # Without the offline phase: it is hundreds of epochs before any request.
        options = dataclasses.replace(
            options,
            online=online,
            online_classes=online,
            offline=dataclasses.replace(options.offline, rounds=0),
            remembrance=RemembranceOptions(per_class=5),
        )
        margins = self.population(seed, "original").margins if rule == "lira" else None
        found, shares, seconds = [], [], []
        for number, mask in enumerate(members):
            original = one_of(originals, number)
            train = self.splits.train.take(mask)
            splits = Splits(self.splits.name, train, self.tuning, self.splits.class_names)
            config = RunConfig(
                model=o.model,
                preset=preset_name,
                method=options,
                unlearning_seed=named_seed(seed, f"unlearning {number}"),
            )
            given = {}
            if margins is not None:
                at = np.flatnonzero(mask)
                rest = np.arange(len(members)) // 2 != number // 2
                given = {
                    "margins": margins[number][at],
                    "shadows": margins[rest][:, at],
                    "member": members[rest][:, at],
                }
            values = exposed_values(original, train, rule, **given)
            cost: list[float] = []

            def unlearn(
                ids, original=original, splits=splits, config=config, train=train, cost=cost
            ) -> Classifier:
                gone = np.setdiff1d(train.labels, train.without(ids).labels)
                request = ForgetRequest("overfitted", ids, tuple(gone.tolist()), "overfitted")
                prepared = stages.prepare(config, original, splits)
                served = stages.unlearn(
                    config.preset, config, original, splits, request, prepared=prepared
                )
                cost.append(prepared.offline_s + served.online_s)
                return served.classifier

            done = defend(original, train, unlearn, values=values, rule=rule, share=o.share)
            found.append(done.classifier)
            shares.append(done.subset.share)
            seconds += cost
        about = {"class": "unlearning", "rule": rule, "preset": preset_name}
        return stack(found), about | {"chosen_share": shares}, float(np.mean(seconds))

    @functools.cache  # noqa: B019, one instance for a process
    def strengths(self) -> dict[str, float]:
        """The strength of each baseline: nearest to the matched accuracy; of DP, the best."""
        wanted = self._tuning_accuracy(self.options.matched, None)
        chosen = {}
        for name, grid in GRIDS.items():
            found = {strength: self._tuning_accuracy(name, strength) for strength in grid}
            if name.startswith("dp_"):
                chosen[name] = max(grid, key=lambda s, found=found: found[s])
            else:
                chosen[name] = min(grid, key=lambda s, found=found: abs(found[s] - wanted))
        return chosen

    def tune(self, name: str) -> None:
        """What ``strengths`` asks of a baseline, or of the defence they are matched to."""
        for strength in GRIDS.get(name, (None,)):
            self._tuning_accuracy(name, strength)

    def _tuning_accuracy(self, name: str, strength: float | None) -> float:
        """Accuracy (%) on the tuning half, of two networks of a seed that nothing else uses."""
        label = name if strength is None else f"{name}-{strength:g}"
        path = self.folder / "tuning" / f"{label}.json"
        if not path.exists():
            networks, _ = self._networks(_TUNING_SEED, name, strength)
            hits = [
                one_of(networks, i).evaluate(self.tuning).correct.mean()
                for i in range(len(self.members(_TUNING_SEED)))
            ]
            value = 100 * float(np.mean(hits))
            if not math.isfinite(value):
                raise InputError(f"{label} diverged", "a finite accuracy", "Lower its strength")
            write_json(path, value)
            print("tuning", label, round(value, 2), flush=True)
        return read_json(path, "a measured cell", "Delete it and run again")

    def first_values(self) -> tuple[np.ndarray, np.ndarray]:
        """OM and classes of the training set of the first network of the first seed."""
        train = self.splits.train.take(self.members(0)[0])
        return overfitting_metric(self.network("original"), train).values, train.labels


def tune(options: Options, name: str) -> None:
    """A step: see ``Cells.tune``."""
    Cells(options).tune(name)


def measure(options: Options, seed: int, name: str) -> None:
    """A step: see ``Cells.population``."""
    Cells(options).population(seed, name)


def steps(options: Options) -> list[Step]:
    """All that is trained, in pieces for several workers."""
    tuned = tuple(("tune", name) for name in (options.matched, *GRIDS))
    found = [Step(key, tune, (options, key[1]), programs=key) for key in tuned]
    for seed in range(options.seeds):
        for name in DEFENCES:
            needs = tuned if name in GRIDS else () if name == "original" else ((seed, "original"),)
            found.append(Step((seed, name), measure, (options, seed, name), needs, name))
    return found


def draw_inversions(cells: Cells) -> Figure:
    """Figure 3: what is drawn from each network, with the known images and without."""
    shown = ("original", "dp_adam", cells.options.matched, "unlearned_lira")
    titles = {"dp_adam": "DP-Adam", "unlearned_otsu": "Otsu", "unlearned_quantile": "lowest OM"}
    train = cells.splits.train.take(cells.members(0)[0])
    networks = {name: cells.network(name) for name in dict.fromkeys(shown)}
    classes = tuple(range(min(6, train.num_classes)))
    config = InversionConfig(epochs=cells.options.inversion_epochs)
    known = known_images(train, classes, 2, networks["original"], seed=0)
    rows = {"known images": known.images}
    for name, network in networks.items():
        title = titles.get(name, name.replace("unlearned_lira", "LiRA"))
        rows[f"{title}, known"] = inversion_attack(network, known, config, seed=0).images
        rows[f"{title}, none"] = inversion_without_images(
            network, classes, 2, config, seed=0
        ).images
    return inversion_figure(rows, known.labels, cells.splits.class_names)
