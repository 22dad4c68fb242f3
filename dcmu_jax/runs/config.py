"""Every setting of a run as one frozen value, checked."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, cast

import pydantic
import pydantic_core

from dcmu_jax.baselines.own import unknown_method
from dcmu_jax.baselines.registry import METHODS, build_method, is_method, trained_batches
from dcmu_jax.condensation.own import check_condenser_name
from dcmu_jax.errors import (
    InputError,
    as_names,
    check_at_least,
    check_fraction,
    check_numbers,
    check_seed,
    unknown_name,
)
from dcmu_jax.runs.meant import check_meant
from dcmu_jax.runs.options import CondensationOptions, DataOptions, MethodOptions, NetworkOptions
from dcmu_jax.runs.presets import PRESETS, preset, recommended_preset
from dcmu_jax.runs.renamed import accept_old_names
from dcmu_jax.runs.typed import changed_fields
from dcmu_jax.training.optimizers import as_optimizer
from dcmu_jax.unlearning.modular import ModularUnlearning
from dcmu_jax.unlearning.task import Training

_FOLLOWS = "_follows"
"""Marks a method that was not given. Not a field, so a changed copy does not have it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A whole run.

    Attributes:
        dataset: digits, npz:PATH, npy:FOLDER, cifar10, svhn, tfds:NAME or synthetic.
        model: mlp, cnn, convnet, vgg16, vgg16_bn or resnet18.
        forget: what to forget: random:0.1, class:2, ids:FILE, or several joined by +.
        preset: the method of the run: recommended, condensed or paper.
        baselines: methods to compare with, or the name of one; presets among them have their own
            settings. The old name, rivals, works too.
        settings: of baselines, where they are not the published ones: method -> setting -> value,
            as in ``{"paper": {"online": {"rounds": 5}}}``.
        metrics: your own, besides those of the table: file.py:attribute, or the name of an
            entry point. They are looked up where a comparison measures.
        seed: of the original network.
        forget_seed: of what a random request draws.
        unlearning_seed: of every unlearning method, retraining included.
        devices: batches and clusters are shared by this many devices, over all processes.
        data: how the data is read and normalised.
        network: how the network is built.
        training: of the original and of the retrained model.
        method: settings of ``preset``, and of no preset among the baselines, see ``MethodOptions``.
            Those of the preset for the model if not given; they then follow when a copy
            (``dataclasses.replace``) has another preset or model. So do given ones that are the
            preset's to the last value; others stay as they are.

    >>> RunConfig(preset="paper").method == preset("paper", "mlp")
    True
    >>> dataclasses.replace(RunConfig(), model="cnn").method == preset("recommended", "cnn")
    True
    """

    dataset: str = "digits"
    model: str = "mlp"
    forget: str = "random:0.1"
    preset: str = "recommended"
    baselines: tuple[str, ...] | str = ("catastrophic_forgetting",)
    settings: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    metrics: tuple[str, ...] | str = ()
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
        object.__setattr__(self, "baselines", as_names(self.baselines))
        object.__setattr__(self, "metrics", as_names(self.metrics))
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
        as_optimizer(self.training.optimizer).check()
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
        _check_condenser("method.condensation.condenser", condensation)
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
                    "settings of baselines",
                    "Give them as method",
                )
            if name in PRESETS and name not in self.baselines:
                raise InputError(
                    f"settings of the preset {name!r}, which is not among the baselines",
                    "settings of baselines",
                    f"Give baselines={(*self.baselines, name)!r}, or leave the settings out",
                )
            if name not in ("retrain", *self.baselines):
                raise unknown_name("baseline in settings", name, ("retrain", *self.baselines))
        self._check_baselines()
        check_at_least("method.offline.rounds", self.method.offline.rounds, 0)
        self.method.online.check()
        self.method.online_classes.check()

    def _check_baselines(self) -> None:
        for name in self.baselines:
            check_method_name("baseline method", name)
            if name in PRESETS:
                options = self.options_of(name)
                _check_condenser(f"condenser of {name}", options.condensation)
                options.online.check()
                options.online_classes.check()
        for name in dict.fromkeys((*self.baselines, *self.settings)):
            if name not in PRESETS:
                build_method(name, self.settings.get(name))  # which checks its settings

    def check_batches(self, *, saved: bool = False, serving: bool = False) -> None:
        """Raise ``InputError`` for a batch that does not divide over the devices.

        Args:
            saved: whether the run is there already, so that nothing but its devices can change.
            serving: whether nothing is meant but what serves requests: no training of an original,
                no offline phase, no baselines.
        """
        sizes = self._batches(serving)
        for (name, where), size in sizes.items():
            if size % self.devices == 0:
                continue
            fewer = next(
                d for d in range(self.devices - 1, 0, -1) if not any(s % d for s in sizes.values())
            )
            more = math.ceil(size / self.devices) * self.devices
            if saved:
                remedy = f"Set --devices to {fewer}"
            elif name == self.preset:
                remedy = f"Set it to {more}, or --devices to {fewer}"
            else:
                remedy = (
                    f"Set --devices to {fewer}, leave {name} out of --baselines, or set it to "
                    f"{more} (RunConfig.settings)"
                )
            where = where.replace("_", "-")
            said = f"--{where}" if name == self.preset else f"{where} of {name}"
            raise InputError(
                f"A batch of {size} over {self.devices} devices ({said})",
                "batch sizes that are multiples of devices",
                remedy,
            )

    def _batches(self, serving: bool) -> dict[tuple[str, str], int]:
        """All training batch sizes, by method and setting."""
        sizes: dict[tuple[str, str], int] = {}
        if not serving:
            sizes[self.preset, "training.batch_size"] = self.training.batch_size
        for name in (self.preset, *(() if serving else self.baselines)):
            if name not in PRESETS:
                method = build_method(name, self.settings.get(name))
                sizes |= {(name, where): size for where, size in trained_batches(method).items()}
                continue
            options = self.options_of(name)
            within = "method." if name == self.preset else ""
            if options.offline.rounds and not serving:
                for part in ("final", "intermediate"):
                    where = f"{within}offline.{part}_batch_size"
                    sizes[name, where] = getattr(options.offline, f"{part}_batch_size")
            for part in ("online", "online_classes"):
                for place in ("round_steps", "closing_steps"):
                    for number, step in enumerate(getattr(getattr(options, part), place)):
                        where = f"{within}{part}.{place}.{number}.batch_size"
                        sizes[name, where] = step.batch_size
        return sizes

    def options_of(self, name: str) -> MethodOptions:
        """The settings of a preset in this run: ``method``, or those of a baseline preset.

        Raises:
            InputError: ``settings`` names a setting that the preset lacks, or gives it a value
                that it cannot have.
        """
        if name == self.preset:
            return self.method
        return _changed(preset(name, self.model), self.settings.get(name, {}), name)


accept_old_names(RunConfig)


def _check_condenser(kind: str, options: CondensationOptions) -> None:
    check_condenser_name(kind, options.condenser)
    if options.lineage == "clean" and options.condenser != "matching":
        raise InputError(
            f"A clean bank by {options.condenser} ({kind}), which may use the trained network",
            "condenser matching where lineage is clean",
            "Change one of the two",
        )


def check_method_name(kind: str, name: str) -> None:
    """Raise unless ``name`` is of a method that a run can serve a request with.

    Args:
        kind: what the name is of, for the message.
        name: of a preset, or of a registered method other than the schedule that presets fill in.
    """
    if METHODS.get(name) is ModularUnlearning:
        raise InputError(
            f"The {kind} {name!r}, whose schedule is not said",
            f"a preset ({', '.join(PRESETS)}) or another method",
            "Name the preset that it shall follow",
        )
    served = [one for one, method in METHODS.items() if method is not ModularUnlearning]
    if name not in PRESETS and not is_method(name):
        raise unknown_method(kind, name, (*PRESETS, *served))


def _changed(options: MethodOptions, settings: Mapping[str, Any], name: str) -> MethodOptions:
    """Options with some fields replaced by JSON values."""

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
        changed = pydantic_core.to_json(merged(options, settings, name))
        return pydantic.TypeAdapter(MethodOptions).validate_json(changed, strict=True)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{where} = {first['input']!r} for the preset {name!r}",
            first["msg"].removeprefix("Input should be "),
            "Change it in RunConfig.settings",
        ) from error
