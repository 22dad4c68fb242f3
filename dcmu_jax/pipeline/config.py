"""Every setting of a run as one frozen value, and the presets."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, Literal, cast

import pydantic

from dcmu_jax.condensation.inversion import InversionConfig
from dcmu_jax.condensation.matching import MatchingConfig
from dcmu_jax.errors import (
    InputError,
    as_names,
    check_at_least,
    check_fraction,
    check_numbers,
    check_seed,
    unknown_name,
)
from dcmu_jax.models.partition import PARTS
from dcmu_jax.pipeline.meant import check_meant
from dcmu_jax.pipeline.typed import changed_fields
from dcmu_jax.reading import parse_json
from dcmu_jax.theory import best_clusters_per_class
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.modular import Collecting, ModularUnlearning, Offline
from dcmu_jax.unlearning.schedule import Reset, Step
from dcmu_jax.unlearning.task import Training


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions:
    """How the data is read and normalised.

    Attributes:
        download: fetch a tfds data set that is not there yet.
        directory: where tfds data sets lie; its own default if not given.
        test_fraction: share cut off as test split where the source has none.
        statistics: a retrained network takes its normalisation from the ``retain`` set, or,
            like every other, from ``given`` values (``mean`` and ``std``, else the training set's).
        mean: per channel, of pixels in [0, 1].
        std: per channel, likewise.
    """

    download: bool = False
    directory: str | None = None
    test_fraction: float = 0.2
    statistics: Literal["retain", "given"] = "retain"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """How the network is built.

    Attributes:
        init: initialisation as PyTorch's or Flax's defaults.
        dtype: of the computation; parameters and statistics stay float32.
        conv: convolution implementation; auto takes the matrix product on CPU, lax elsewhere.
        width: multiplies the width of every layer.
        norm: of the CNN; group where gradients of single images must mean something.
    """

    init: Literal["torch", "flax"] = "torch"
    dtype: Literal["float32", "bfloat16"] = "float32"
    conv: Literal["auto", "lax", "dot"] = "auto"
    width: float = 1.0
    norm: Literal["batch", "group"] = "batch"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RemembranceOptions:
    """The few test samples that ``final`` may be trained on; no evaluation uses them.

    Attributes:
        per_class: M.
        choice: the first of each class in the test split, or drawn by the unlearning seed.
    """

    per_class: int = 10
    choice: Literal["first", "random"] = "random"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CondensationOptions:
    """The offline phase's condensation.

    Attributes:
        clusters_per_class: K. If not given it follows from ``cluster_size``.
        cluster_size: mean samples per cluster. If neither is given, K is the one that makes the
            reduced retain set smallest at ``expected_fraction`` (``theory``).
        expected_fraction: share of the training set that requests are expected to name.
        clustering: scikit-learn's k-means, the compiled one, in mini-batches, or balanced clusters.
        condenser: fast distribution matching, or model inversion.
        matching: of the former, and of re-condensing.
        inversion: of the latter.
        layer: whose output the features are; the input of final if not given.
        lineage: clean takes features from an untrained network and clusters from the ids, neither
            of which has seen a sample (``clustering`` and ``inversion`` then have no meaning).
    """

    clusters_per_class: int | None = None
    cluster_size: float | None = None
    expected_fraction: float = 0.1
    clustering: Literal["kmeans", "compiled", "minibatch", "balanced"] = "kmeans"
    condenser: Literal["matching", "inversion"] = "matching"
    matching: MatchingConfig = MatchingConfig()
    inversion: InversionConfig = InversionConfig()
    layer: str | None = None
    lineage: Literal["trained", "clean"] = "trained"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MethodOptions:
    """Dataset-condensation-driven unlearning, all of it; what a preset fixes.

    Attributes:
        remembrance: the remembrance samples.
        condensation: clusters and condensed images.
        offline: offline modular training.
        online: collection and online modular training.
        online_classes: used instead where all that must go are whole classes.
        control: test images that the membership attack compares with: all, or those of the
            forgotten class where one is forgotten whole.
    """

    remembrance: RemembranceOptions = RemembranceOptions()
    condensation: CondensationOptions = CondensationOptions()
    offline: Offline = Offline()
    online: ModularUnlearning = ModularUnlearning()
    online_classes: ModularUnlearning = ModularUnlearning()
    control: Literal["all", "same_class"] = "same_class"


def paper_preset(model: str) -> MethodOptions:
    """The method as published (paper section IV and appendix; online settings of Table II).

    Where a class goes whole the settings are those of the published figures: they break the
    paper's own 0 < tau < S, which leaves out every step on the remembrance samples.

    Where it departs from the authors' code:

    - Parts that do not train are in evaluation mode. Their whole network stays in training mode
      online: dropout in ``final`` is active while other parts train, and BatchNorm of frozen parts
      works on batch statistics and moves its running ones.
    - Clusters are condensed with the features of the original. Theirs are those of the network
      that offline training left, as it changes the network in place before condensation.
    - Offline, ``final`` goes back to the original in every round, as the paper says. Theirs of the
      MLP and the CNN does not, as both names hold the same parameters.
    - A step on the remembrance samples averages over them all. Theirs averages the means of
      batches of 32, of which the last has what is left and counts as much.
    - The CNN's ``intermediate`` has the paper's rate of 3e-4 where single samples go; their code
      has 3e-3.
    - Where a class goes, each network has clusters and images of its own. Theirs of the MLP serve
      the CNN, ResNet and VGG too.
    - Remembrance samples are left out of every evaluation, and the online time includes the
      collection. Theirs are in, and out.
    """
    schedules = {  # S1, tau, alpha, alpha3
        "mlp": (15, 15, 1e-3, 1e-4),
        "cnn": (10, 25, 3e-3, 3e-4),
        "resnet18": (15, 15, 1e-3, 1e-4),
        "vgg16": (10, 15, 1e-3, 1e-4),
    }
    steps, tail, alpha, alpha3 = schedules.get(model, schedules["mlp"])
    rate = Optimizer(learning_rate=alpha)
    online = ModularUnlearning(
        collecting=Collecting(drop_forgotten_classes=False),
        rounds=30,
        tail=tail,
        round_steps=(
            Step(parts=("beginning",), optimizer=rate),
            Step(parts=("final",), on="remembrance", epochs=steps, batch_size=0, optimizer=rate),
        ),
        closing_steps=(Step(parts=("intermediate",), optimizer=Optimizer(learning_rate=alpha3)),),
    )
    return MethodOptions(
        remembrance=RemembranceOptions(per_class=10, choice="first"),
        # K = 450 at 5,000 samples per class, and in proportion on smaller sets.
        condensation=CondensationOptions(cluster_size=5000 / 450),
        offline=Offline(rounds=10),
        online=online,
        # As recorded: ten rounds for a class, and tau >= S, so that `final` never trains.
        online_classes=dataclasses.replace(
            online,
            rounds=10,
            tail=0,
            round_steps=(Step(parts=("beginning",), optimizer=Optimizer(learning_rate=1e-3)),),
            closing_steps=(
                Step(
                    parts=("intermediate",),
                    optimizer=Optimizer(learning_rate=1e-3 if model == "cnn" else 1e-4),
                ),
            ),
        ),
        control="all",
    )


CONVOLUTIONAL = ("cnn", "convnet", "vgg16", "resnet18")
"""Networks of the catalogue whose ``beginning`` is convolutions, which memorise little."""


CLASS_STEPS = 500
"""Least steps for a new ``final``: with 165 the other digits fell from 97 to 88 % (test)."""


def recommended_preset(model: str) -> MethodOptions:
    """The method as it comes nearest to retraining for its time.

    Found by ablation on networks and forget sets that no table reports (``experiments/ablation``).
    Convolutional networks keep ``beginning`` and never see again what goes. Of any other, where
    single samples go, all parts have to change, and what goes is looked at once more, to be learnt
    wrong (``forget_weight``).
    """
    cosine = Optimizer(schedule="cosine")
    if model in CONVOLUTIONAL:
        # What was memorised sits above `beginning`: fresh parts learn all that stays, whose
        # features are computed once. An average of images would teach less than each of them.
        online = ModularUnlearning(
            collecting=Collecting(weigh_by_size=True),
            resets=(Reset(part="intermediate"), Reset(part="final")),
            closing_steps=(
                Step(parts=("intermediate", "final"), on="retain", epochs=30, optimizer=cosine),
            ),
        )
    else:
        # Shrink every part towards a fresh one and learn again what stays; what the parts still
        # remember of the rest is driven out by wrong labels that count a third.
        online = ModularUnlearning(
            collecting=Collecting(weigh_by_size=True),
            resets=tuple(Reset(part=part, keep=0.6) for part in PARTS),
            closing_steps=(
                Step(
                    parts=PARTS,
                    on="retain",
                    epochs=10,
                    batch_size=128,
                    min_steps=200,
                    optimizer=cosine,
                ),
            ),
            forget_weight=0.35,
        )
    return MethodOptions(
        condensation=CondensationOptions(
            clustering="balanced", matching=MatchingConfig(solver="newton", steps=3)
        ),
        online=online,
        # A class is served by `final` alone: a new one that never meets it.
        online_classes=ModularUnlearning(
            collecting=Collecting(weigh_by_size=True),
            resets=(Reset(part="final"),),
            closing_steps=(
                Step(
                    parts=("final",),
                    on="retain",
                    epochs=15,
                    batch_size=128,
                    min_steps=CLASS_STEPS,
                    optimizer=cosine,
                ),
            ),
        ),
    )


def condensed_preset(model: str) -> MethodOptions:
    """What condensation alone can do: the reduced retain set, and no look at what goes.

    For those who cannot keep, or not afford to go through, all that stays.
    """
    cosine = Optimizer(schedule="cosine")
    return dataclasses.replace(
        recommended_preset(model),
        # Some real images of every cluster beside its average, which is no memorised sample.
        online=ModularUnlearning(
            collecting=Collecting(weigh_by_size=True, real_per_cluster=2),
            resets=tuple(Reset(part=part, keep=0.3) for part in PARTS),
            closing_steps=(Step(parts=PARTS, epochs=15, batch_size=128, optimizer=cosine),),
        ),
        online_classes=ModularUnlearning(
            collecting=Collecting(weigh_by_size=True),
            resets=(Reset(part="final"),),
            closing_steps=(
                Step(
                    parts=("final",),
                    epochs=150,
                    batch_size=64,
                    min_steps=CLASS_STEPS,
                    optimizer=cosine,
                ),
            ),
        ),
    )


PRESETS = {
    "recommended": recommended_preset,
    "condensed": condensed_preset,
    "paper": paper_preset,
}


def preset(name: str, model: str) -> MethodOptions:
    """The preset ``name`` for a model of the catalogue (or any other name).

    >>> preset("paper", "mlp").offline.rounds, preset("recommended", "mlp").offline.rounds
    (10, 0)
    >>> preset("recommended", "mlp").online.forget_weight
    0.35
    >>> preset("recommended", "cnn").online.forget_weight
    0.0
    """
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return PRESETS[name](model)


_FOLLOWS = "_follows"
"""Mark on a method that nobody gave: no field, so that a changed copy of it has none."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A whole run.

    Attributes:
        dataset: digits, npz:PATH, npy:FOLDER, cifar10, svhn, tfds:NAME or synthetic.
        model: mlp, cnn, convnet, vgg16 or resnet18.
        forget: what must go: random:0.1, class:2, ids:FILE, or several joined by +.
        preset: the method of the run: recommended, condensed or paper.
        rivals: methods to compare with, or the name of one; presets among them have their own
            settings.
        settings: of rivals, where they are not the published ones: method -> setting -> value, as
            in ``{"paper": {"online": {"rounds": 5}}}``.
        seed: of the original network.
        forget_seed: of what a random request draws.
        unlearning_seed: of every unlearning method, retraining included.
        devices: batches and clusters are shared by this many devices, over all processes.
        data: see ``DataOptions``.
        network: see ``NetworkOptions``.
        training: of the original and of the retrained network.
        method: settings of ``preset``, and of no preset among the rivals, see ``MethodOptions``.
            Those of the preset for the model if not given; they then follow when a copy
            (``dataclasses.replace``) has another preset or model. Given ones stay as they are.

    >>> RunConfig(preset="paper").method == preset("paper", "mlp")
    True
    >>> dataclasses.replace(RunConfig(), model="cnn").method == preset("recommended", "cnn")
    True
    """

    dataset: str = "digits"
    model: str = "mlp"
    forget: str = "random:0.1"
    preset: str = "recommended"
    rivals: tuple[str, ...] | str = ("catastrophic_forgetting",)
    settings: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    seed: int = 0
    forget_seed: int = 0
    unlearning_seed: int = 1
    devices: int = 1
    data: DataOptions = DataOptions()
    network: NetworkOptions = NetworkOptions()
    training: Training = Training()
    method: MethodOptions = dataclasses.field(default=cast(MethodOptions, None))

    def __post_init__(self):
        check_meant(self)
        object.__setattr__(self, "rivals", as_names(self.rivals))
        without = () if self.method is not None else ("method",)
        for name, value in changed_fields(self, without=without).items():
            object.__setattr__(self, name, value)
        # An unknown preset is refused by ``check``, in the words that belong to it.
        own = PRESETS.get(self.preset, recommended_preset)(self.model)
        given = cast(MethodOptions | None, self.method)
        if given is None or given == own or getattr(given, _FOLLOWS, False):
            object.__setattr__(own, _FOLLOWS, True)
            object.__setattr__(self, "method", own)

    def check(self) -> None:
        """Raise ``InputError`` for settings that are wrong whatever the data is."""
        check_numbers(self)
        if self.preset not in PRESETS:
            raise unknown_name("preset", self.preset, PRESETS)
        for name in ("seed", "forget_seed", "unlearning_seed"):
            check_seed(name, getattr(self, name))
        self.training.augmentation()  # checks itself
        check_at_least("training.epochs", self.training.epochs, 1)
        check_at_least("training.batch_size", self.training.batch_size, 1)
        self.training.optimizer.check()
        if not 0 <= self.training.label_smoothing < 1:
            raise InputError(
                f"training.label_smoothing = {self.training.label_smoothing!r}",
                "a number from 0, below 1",
                "Set training.label_smoothing within [0, 1)",
            )
        check_fraction("data.test_fraction", self.data.test_fraction)
        check_at_least("method.remembrance.per_class", self.method.remembrance.per_class, 1)
        check_at_least("devices", self.devices, 1)
        condensation = self.method.condensation
        check_fraction("method.condensation.expected_fraction", condensation.expected_fraction)
        if condensation.lineage == "clean" and condensation.condenser == "inversion":
            raise InputError(
                "A clean bank by model inversion, which needs the trained network",
                "condenser matching where lineage is clean",
                "Change one of the two",
            )
        if condensation.clusters_per_class is not None:
            check_at_least(
                "method.condensation.clusters_per_class", condensation.clusters_per_class, 1
            )
        if condensation.cluster_size is not None:
            check_at_least("method.condensation.cluster_size", condensation.cluster_size, 1)
        if (self.data.mean is None) != (self.data.std is None):
            raise InputError(
                "Only one of data.mean and data.std", "both or neither", "Give the other as well"
            )
        for name in self.settings:
            if name == self.preset:
                raise InputError(
                    f"settings of {name!r}, the preset of the run itself",
                    "settings of rivals",
                    "Give them as method",
                )
            if name in PRESETS and name not in self.rivals:
                raise InputError(
                    f"settings of the preset {name!r}, which is not among the rivals",
                    "settings of rivals",
                    f"Give rivals={(*self.rivals, name)!r}, or leave the settings out",
                )
            if name not in ("retrain", *self.rivals):
                raise unknown_name("rival in settings", name, ("retrain", *self.rivals))
        for name in self.rivals:
            if name in PRESETS:
                options = self.options_of(name)
                options.online.check()
                options.online_classes.check()
        check_at_least("method.offline.rounds", self.method.offline.rounds, 0)
        self.method.online.check()
        self.method.online_classes.check()

    def check_batches(self) -> None:
        """Raise ``InputError`` for a batch that does not divide over the devices."""
        sizes = {"--training.batch-size": self.training.batch_size}
        presets = dict.fromkeys((self.preset, *(name for name in self.rivals if name in PRESETS)))
        for name in presets:
            options = self.options_of(name)
            for part in ("online", "online_classes"):
                schedule = getattr(options, part)
                for place in ("round_steps", "closing_steps"):
                    for number, step in enumerate(getattr(schedule, place)):
                        where = f"{part}.{place}.{number}.batch_size".replace("_", "-")
                        own = name == self.preset
                        said = f"--method.{where}" if own else f"{where} of {name}"
                        sizes[said] = step.batch_size
        for said, size in sizes.items():
            if size % self.devices:
                raise InputError(
                    f"A batch of {size} over {self.devices} devices ({said})",
                    "batch sizes that are multiples of devices",
                    f"Set it to {math.ceil(size / self.devices) * self.devices}, or --devices to 1",
                )

    def options_of(self, name: str) -> MethodOptions:
        """The settings of a preset in this run: ``method``, or those of a rival preset.

        Raises:
            InputError: ``settings`` names a setting that the preset lacks, or gives it a value
                that it cannot have.
        """
        if name == self.preset:
            return self.method
        return _changed(preset(name, self.model), self.settings.get(name, {}), name)


def _changed(options: MethodOptions, settings: Mapping[str, Any], name: str) -> MethodOptions:
    """Options with some of their fields changed, as JSON has them."""

    def merged(value: Any, changes: Mapping[str, Any], where: str) -> dict[str, Any]:
        known = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        for field, change in changes.items():
            if field not in known:
                raise unknown_name(f"setting of {where}", field, known)
            inner = known[field]
            if isinstance(change, Mapping) and dataclasses.is_dataclass(inner):
                known[field] = merged(inner, change, f"{where}.{field}")
            else:
                known[field] = change
        return known

    if not settings:
        return options
    try:
        return pydantic.TypeAdapter(MethodOptions).validate_python(merged(options, settings, name))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{where} = {first['input']!r} for the preset {name!r}",
            first["msg"],
            "Change it in RunConfig.settings",
        ) from error


def clusters_per_class(options: CondensationOptions, samples_per_class: float) -> int:
    """K for classes of ``samples_per_class``, by the first of the three ways that is set."""
    if options.clusters_per_class is not None:
        return options.clusters_per_class
    if options.cluster_size is not None:
        return max(1, round(samples_per_class / options.cluster_size))
    return best_clusters_per_class(math.floor(samples_per_class), options.expected_fraction)


_ADAPTER = pydantic.TypeAdapter(RunConfig)


def to_json(config: RunConfig) -> str:
    """The config as indented JSON, every field written out."""
    return _ADAPTER.dump_json(config, indent=2).decode()


def to_file(config: RunConfig) -> str:
    """``to_json`` of settings that ``from_json`` reads back the same.

    Raises:
        InputError: a text that no file can hold.
    """
    try:
        text = to_json(config)
        same = from_json(text, "config.json") == config
    except ValueError as error:
        raise _not_written(str(error)) from error
    if not same:
        raise _not_written("they would be others")
    return text


def _not_written(why: str) -> InputError:
    return InputError(
        f"Settings that config.json cannot hold ({why.splitlines()[0][:160]})",
        "numbers, texts in Unicode, and lists and dictionaries of these",
        "Mend the setting",
    )


def from_json(data: bytes | str, source: str) -> RunConfig:
    """The config that ``to_json`` wrote.

    Args:
        data: JSON; bytes in UTF-8.
        source: where it came from, for the message.

    Raises:
        InputError: anything else.
    """

    def refused(where: str, why: str) -> InputError:
        return InputError(
            f"{source!r} cannot be read as the settings of a run ({where}: {why})",
            "config.json as a run wrote it",
            remedy,
        )

    what, remedy = "the settings of a run", "Restore the file, or start a new run"
    data = data.encode(errors="replace") if isinstance(data, str) else data
    given = parse_json(data, source, what, remedy)
    try:
        config = _ADAPTER.validate_json(data, strict=True)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole file"
        raise refused(where, first["msg"]) from error
    except InputError as error:  # a value that checks itself
        raise refused("the whole file", str(error)) from error
    unknown = _unknown_field(given, json.loads(to_json(config)))
    if unknown:  # not to be passed over: the setting meant would silently have its default
        raise refused(unknown, "no such setting")
    return config


def differing_settings(saved: RunConfig, given: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Dotted name of each setting that is not the same in both -> its values, as JSON has them.

    >>> differing_settings(RunConfig(), RunConfig(seed=3, training=Training(epochs=2)))
    {'seed': (0, 3), 'training.epochs': (30, 2)}
    """

    def found(one: Any, other: Any, name: str) -> dict[str, tuple[Any, Any]]:
        if one == other:
            return {}
        pairs: list[tuple[Any, Any, Any]] = []
        if isinstance(one, dict) and isinstance(other, dict) and set(one) == set(other):
            pairs = [(key, one[key], other[key]) for key in one]
        if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
            pairs = [(at, *both) for at, both in enumerate(zip(one, other, strict=True))]
        inner: dict[str, tuple[Any, Any]] = {}
        for key, a, b in pairs:
            inner |= found(a, b, f"{name}.{key}".lstrip("."))
        return inner or {name: (one, other)}

    return found(json.loads(to_json(saved)), json.loads(to_json(given)), "")


def _unknown_field(given: Any, known: Any) -> str | None:
    """Dotted name of the first field in ``given`` that ``known`` lacks."""
    if not (isinstance(given, dict) and isinstance(known, dict)):
        return None
    for name, value in given.items():
        if name not in known:
            return name
        inner = _unknown_field(value, known[name])
        if inner:
            return f"{name}.{inner}"
    return None
