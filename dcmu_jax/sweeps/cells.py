"""Cells of the tables: a data set, a network, a request, a method and a seed, measured once each.

Everything of one data set, network, width and seed is a ``Group`` and lies in a folder of its own
under ``out``: the run with its original network and banks, and a file for every finished cell,
which is not measured again. Groups share nothing, so they may run beside each other.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dcmu_jax.baselines.registry import METHODS
from dcmu_jax.data.remembrance import remembrance_samples
from dcmu_jax.data.requests import ForgetRequest
from dcmu_jax.files import write_json
from dcmu_jax.metrics.scores import nomus, zero_retrain_forgetting
from dcmu_jax.programs import keep_programs, make_room
from dcmu_jax.reading import read_json
from dcmu_jax.runs import stages
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.config_json import to_json
from dcmu_jax.runs.options import Dtype, MethodOptions, NetworkOptions
from dcmu_jax.runs.presets import PRESETS
from dcmu_jax.runs.renamed import old_names
from dcmu_jax.runs.run import Run
from dcmu_jax.runs.store import digest, hash_of, plain
from dcmu_jax.sweeps.piece import Piece
from dcmu_jax.training.classifier import fresh_classifier
from dcmu_jax.training.keys import named_seed
from dcmu_jax.training.population import member
from dcmu_jax.unlearning.task import Hooks, Prepared, Training, train_together

AGAIN = "retrain_again"
"""Retraining by another seed: how near a perfect method would come."""

Settings = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Kind of request (``random``, ``class``) -> method -> setting -> value."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """What shares an original network.

    Attributes:
        dataset: as for `dcmu run`.
        model: as for `dcmu run`.
        seed: of the original; the forget set has the same seed, unlearning the seed + 100. Those
            of the tables are below 100, those that settings were chosen by 1000 and above.
        width: of the network.
        epochs: of the original and of retraining.
        dtype: see ``NetworkOptions``.
    """

    dataset: str
    model: str
    seed: int
    width: float = 1.0
    epochs: int = 30
    dtype: Dtype = "float32"

    @property
    def network(self) -> str:
        """Name of the network, the same for all data sets and seeds."""
        return f"{self.model}-{self.width:g}-{self.dtype}"

    @property
    def data(self) -> str:
        """Name of the data set, without folders."""
        return stem_of(self.dataset)

    @functools.cached_property
    def name(self) -> str:
        """Name of the group's folder."""
        of_all = hash_of(old_names(json.loads(to_json(self.config()))))[:8]
        return f"{self.data}-{self.model}-{self.width:g}-{self.epochs}-seed{self.seed}-{of_all}"

    def config(self) -> RunConfig:
        """The settings of the group's run."""
        return RunConfig(
            dataset=self.dataset,
            model=self.model,
            preset="recommended",
            baselines=("paper", "condensed"),
            seed=self.seed,
            forget_seed=self.seed,
            unlearning_seed=self.seed + 100,
            network=NetworkOptions(width=self.width, dtype=self.dtype),
            training=Training(epochs=self.epochs),
        )


def stem_of(dataset: str) -> str:
    """Name of a data set, as files are called by it: without source, folders and ending.

    >>> stem_of("npz:of_mine/cifar10.npz"), stem_of("digits")
    ('cifar10', 'digits')
    """
    return Path(dataset.split(":")[-1]).stem


def kind_of(request: str) -> str:
    """The first word of a request."""
    return request.split(":")[0]


def train_originals_together(groups: Sequence[Group], out: Path, chunk: int | None) -> None:
    """Train the originals that are not there yet, those of one network in one program.

    The tables report no time of an original; those that they do report are of networks that train
    alone. A network trained so is that of its group alone up to rounding.

    Args:
        groups: any; those that differ in the seed only are trained together.
        out: as for ``Bench``.
        chunk: networks side by side, see ``training.population``.
    """
    alike: dict[Group, list[Run]] = {}
    for group in groups:
        run = Bench(group, out).run
        if not run.has_original():
            alike.setdefault(dataclasses.replace(group, seed=0), []).append(run)
    for runs in alike.values():
        train, training = runs[0].splits.train, runs[0].config.training
        networks = train_together(
            runs[0].model,
            train,
            np.tile(np.arange(len(train)), (len(runs), 1)),
            training,
            [run.config.seed for run in runs],
            chunk=chunk,
        ).classifiers
        for number, run in enumerate(runs):
            run.adopt(member(networks, number))


class Bench:
    """The original network of a group, and one cell at a time.

    Args:
        group: which.
        out: the folder that all groups lie in.
        piece: the minutes that are left for it, if they are limited. Every method then raises
            ``NoTimeError`` for what is not there yet and cannot end in them.
    """

    def __init__(self, group: Group, out: Path, piece: Piece | None = None):
        keep_programs()
        self.group, self.folder, self._piece = group, out / group.name, piece
        self.config = group.config()
        self.run = Run.create_or_open(self.folder / "run", self.config)
        self._prepared: dict[Any, Prepared] = {}
        self.usable = self.run.usable_tests()

    def _step(self, *words: str) -> contextlib.AbstractContextManager[None]:
        """Around what takes long, and is done once."""
        if self._piece is None:
            return contextlib.nullcontext()
        return self._piece.step(self.group.network, (self.group.name, *words))

    def prepare(self, presets: Sequence[str] = ()) -> None:
        """Train the original, and run the offline phases of presets, where they are not there."""
        if not self.run.has_original():
            with self._step("original"):
                self.run.train()
        for name in presets:
            if not self.run.has_prepared(name):
                with self._step(name):
                    self.run.prepare(name)

    def leave_out(self, first_per_class: int) -> None:
        """Evaluate on none of the first test samples of each class: a variant remembers them."""
        test = self.run.splits.test
        samples = remembrance_samples(test, first_per_class, method="first", seed=0)
        self.usable = self.usable & ~np.isin(test.ids, samples.ids)

    def once(
        self, kind: str, name: str, made_of: Mapping[str, Any], measure: Callable[[], Any]
    ) -> Any:
        """What ``measure`` gives as JSON has it, measured if it is not there yet.

        Args:
            kind: the folder.
            name: begins the name of the file; the hash of all that determines it ends it.
            made_of: what determines it beside the original, the data and the evaluated samples.
            measure: called at most once.
        """
        known = {
            **made_of,
            "original": self.run.train().fingerprint(),
            "training": self.config.training,
            "unlearning_seed": self.config.unlearning_seed,
            "usable": digest(self.usable),
            "data": self.run.data,
        }
        path = self.folder / kind / f"{name}-{hash_of(plain(known))[:16]}.json"
        if not path.exists():
            write_json(path, measure())
            make_room()
        return read_json(path, "a measured cell", "Delete it and run again")

    def of_method(self, name: str, request: ForgetRequest) -> dict[str, Any]:
        """What determines how a method serves a request: all of its settings."""
        if name not in METHODS and name not in PRESETS:
            return {"name": name}
        method = stages.serving_method(name, self.config, self.run.splits, request)
        options = self.config.options_of(name) if name in PRESETS else None
        return {"name": name, "method": method, "options": options}

    def cell(
        self,
        request: str,
        name: str,
        settings: Mapping[str, Any] | None = None,
        options: MethodOptions | None = None,
        method: str | None = None,
    ) -> dict[str, Any]:
        """One row, measured if it is not there yet, or has other settings.

        Args:
            request: what to forget.
            name: of the row: a method, a preset, ``original``, ``retrain_again``; or any, with
                ``options`` or ``method``.
            settings: of a method, see ``registry.build_method``.
            options: of modular unlearning, for a variant that is no preset.
            method: where the name is not that of the method.
        """
        asked, given = self.run.request(request), dict(settings or {})

        def measure() -> dict[str, Any]:
            with self._step(request, name):
                row = self._measure(asked, method or name, given, options) | {"method": name}
            row = {**dataclasses.asdict(self.group), "request": request, **row}
            return row | {"dataset": self.group.data}

        made_of = {
            "row": name,
            "request": request,
            "ids": digest(asked.ids),
            "settings": given,
            "variant": options,
            **self.of_method(method or name, asked),
        }
        return self.once("cells", f"{asked.slug}--{name}", made_of, measure)

    def _measure(
        self,
        request: ForgetRequest,
        name: str,
        settings: dict[str, Any],
        options: MethodOptions | None,
    ) -> dict[str, Any]:
        run, config = self.run, self.config
        original, splits = run.train(), run.splits
        unlearned = prepared = None
        network = original
        if name != "original":
            method = name
            if options is not None:
                config, method = dataclasses.replace(config, method=options), "recommended"
                prepared = self._prepare(config)
            elif name in PRESETS:
                prepared = run.prepare(name)
            elif name == AGAIN:
                seed = named_seed(config.unlearning_seed, AGAIN)
                config, method = dataclasses.replace(config, unlearning_seed=seed), "retrain"
            if settings:
                config = dataclasses.replace(config, settings={method: settings})
            unlearned = stages.unlearn(
                method, config, original, splits, request, prepared=prepared, hooks=Hooks()
            )
            network = unlearned.classifier
        measured = stages.measure_network(
            name,
            self.config,
            network,
            splits,
            request,
            self.usable,
            unlearned=unlearned,
            prepared=prepared,
        ).measurement
        forgotten = splits.train.take(splits.train.positions(request.ids)).images
        untrained = fresh_classifier(run.model, splits.train, named_seed(self.group.seed, "zrf"))
        both = network.logits(forgotten), untrained.logits(forgotten)
        return measured.row() | {
            "nomus": nomus(measured.test_accuracy, measured.mia),
            "zrf": zero_retrain_forgetting(*both),
            "zrf_authors": zero_retrain_forgetting(*both, unit="authors"),
            "settings": json.dumps(settings),
        }

    def _prepare(self, config: RunConfig) -> Prepared:
        """The offline phase of a variant; variants that differ online share it."""
        options = config.method
        key = (options.condensation, options.remembrance, options.offline)
        if key not in self._prepared:
            self._prepared[key] = stages.prepare(
                config, self.run.train(), self.run.splits, name="recommended"
            )
        return self._prepared[key]
