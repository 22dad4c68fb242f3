"""A run on disk: each stage is done once, saved, and found again."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import flax.linen as nn
import numpy as np

from dcmu_jax.baselines.own import name_of
from dcmu_jax.data.copies import Copies, copies_of
from dcmu_jax.data.dataset import Splits
from dcmu_jax.data.requests import ForgetRequest, RequestLike, as_request
from dcmu_jax.data.sources import load
from dcmu_jax.errors import InputError, kind_of, unknown_name
from dcmu_jax.extensions import is_reference
from dcmu_jax.files import FilePath
from dcmu_jax.locks import locked_again
from dcmu_jax.metrics.telltale import warn_of_telltale
from dcmu_jax.networks.adoption import check_module
from dcmu_jax.networks.behaviour import behaviour_of, initial_of, model_text
from dcmu_jax.runs import brought, facts, saved, stages, store
from dcmu_jax.runs.comparable import check_comparable
from dcmu_jax.runs.config import RunConfig, check_method_name
from dcmu_jax.runs.config_json import to_file
from dcmu_jax.runs.cost import warn_of_cost
from dcmu_jax.runs.directory import check_new, make_directory, read_settings
from dcmu_jax.runs.meant import as_path, check_splits
from dcmu_jax.runs.presets import PRESETS
from dcmu_jax.runs.recording import TrajectoryRecorder, logged
from dcmu_jax.runs.typed import refused
from dcmu_jax.training.checkpoints import load_classifier, save_classifier
from dcmu_jax.training.classifier import Classifier, fresh_classifier, module_of
from dcmu_jax.training.devices import by_writer, check_platform, check_same, device_mesh, is_writer
from dcmu_jax.training.divergence import Diverged, during
from dcmu_jax.unlearning.task import Hooks, Prepared

F = TypeVar("F", bound=Callable[..., Any])
_in_another_run = functools.partial(during, place=" in a new run (another --out)")
"""Says which setting made a stage diverge; the settings of a run cannot be changed."""


def one_at_a_time(function: F) -> F:
    """A function whose first argument is a run, and which holds its directory (``working``)."""

    @functools.wraps(function)
    def alone(run: Run, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(run, Run):
            raise InputError(
                f"{function.__name__} of {kind_of(run)}",
                "a Run, and a request after it",
                "Give Run.open(DIRECTORY) first",
            )
        with run.working():
            return function(run, *args, **kwargs)

    return cast(F, alone)


class Run:
    """A run directory: settings, the original, the offline phases, the requests served.

    Every stage returns what an earlier call left on disk, if that was made of the same settings,
    seeds, data and networks (``store``); else it is made, beside what is there. So after a change
    of config.json nothing is reused that the change touches, and nothing is lost. An interrupted
    training resumes to the same bits. Of several processes, all make the same calls; process 0
    alone reads and writes the directory, and the others are told what it holds.

    Args:
        directory: where it lies.
        config: its settings.
        progress: as in ``Hooks``; shown while training.
        model: a Flax module of the user's own, in place of the catalogue's: in three parts, or
            what ``dcmu.adopt`` or ``dcmu.from_torch`` gave, whose module alone is taken. ``adopt``
            takes its parameters.
        splits: data of the user's own, in place of what ``config.dataset`` names.
    """

    splits: Splits
    model: nn.Module

    def __init__(
        self,
        directory: FilePath,
        config: RunConfig,
        *,
        progress: Any = None,
        model: nn.Module | Classifier | Any = None,
        splits: Splits | None = None,
        _saved: bool = False,
    ):
        if not isinstance(config, RunConfig):
            refused(RunConfig, config, "config")
        check_splits(splits)
        config.check()
        self.directory, self.config = as_path(directory), config
        self._original: Classifier | None = None
        self._progress = progress if is_writer() else None
        self._brought = saved.DataNote(
            fingerprint="", own_data=splits is not None, own_module=model is not None
        )

        def settle() -> bytes:
            self.splits = splits or load(
                config.dataset,
                test_fraction=config.data.test_fraction,
                download=config.data.download,
                data_dir=config.data.directory,
            )
            shape = self.splits.image_shape
            self.model = module_of(model) or stages.build_model(
                config.model, self.splits, config.network
            )
            if model is not None or is_reference(config.model):
                check_module(self.model, shape, self.splits.num_classes)
                self._brought = dataclasses.replace(
                    self._brought,
                    behaviour=behaviour_of(self.model, shape),
                    initial=initial_of(self.model, shape),
                )
            device_mesh(config.devices)
            config.check_batches(saved=_saved)
            brought.given_normalisation(config, self.splits)  # which checks it
            brought.check_crop(config, self.splits)
            self.usable_tests()
            return (to_file(config) + model_text(self.model) + self._fingerprint).encode()

        check_same("settings or data", settle)

    @classmethod
    def create(cls, directory: FilePath, config: RunConfig, **rest: Any) -> Run:
        """A new run; nothing is written unless settings, data and request are all good."""
        check_platform()
        by_writer(lambda: check_new(as_path(directory)))
        run = cls(directory, config, **rest)
        brought.check_own(config, run.presets)
        run.check_comparable(run.request(config.forget))
        by_writer(lambda: make_directory(run.directory, config, run._note()))
        return run

    @classmethod
    def open(cls, directory: FilePath, *, devices: int | None = None, **rest: Any) -> Run:
        """A run that was created before, with the same data.

        Args:
            directory: where it lies.
            devices: how many share the work now; as it was created with if not given.
            rest: as for ``Run``.
        """
        check_platform()
        directory = as_path(directory)
        config = read_settings(directory)
        if devices is not None:
            config = dataclasses.replace(config, devices=devices)
        note = saved.DATA.read(directory / "data.json")
        brought.check_brought(directory, config, note, rest)
        run = cls(directory, config, _saved=True, **rest)
        brought.check_the_same(directory, config, note, run._note())
        return run

    @classmethod
    def create_or_open(cls, directory: FilePath, config: RunConfig, **rest: Any) -> Run:
        """A run that was created before with these settings, or a new one if there is none.

        So one command both starts a run and goes on with it, as a scheduler needs it; with other
        devices, if it has to.

        Raises:
            InputError: the run that is there has other settings; see ``create`` and ``open``.
        """
        directory = as_path(directory)
        if not store.is_there(directory):
            try:
                return cls.create(directory, config, **rest)
            except InputError:
                if not store.is_there(directory):
                    raise
        run = cls.open(directory, devices=config.devices, **rest)
        brought.check_same_settings(directory, run.config, config)
        return run

    @functools.cached_property
    def data(self) -> facts.Data:
        """The identity of the data."""
        return facts.Data.of(self.splits)

    def _note(self) -> saved.DataNote:
        """What data.json says of this run."""
        return dataclasses.replace(self._brought, fingerprint=self._fingerprint)

    @property
    def _fingerprint(self) -> str:
        return self.data.train + self.data.test

    @property
    def presets(self) -> tuple[str, ...]:
        """The presets this run compares: its own and those among its baselines."""
        baselines = (name for name in self.config.baselines if name in PRESETS)
        return tuple(dict.fromkeys((self.config.preset, *baselines)))

    @property
    def methods(self) -> tuple[str, ...]:
        """Every method of the table, retraining first."""
        return tuple(dict.fromkeys(("retrain", *self.config.baselines, self.config.preset)))

    def request(self, asked: RequestLike) -> ForgetRequest:
        """The request for samples of this run's training set; see ``as_request``.

        All methods that take a request take the same: a text, ids, a mask, or a request.
        """
        if isinstance(asked, ForgetRequest):
            return as_request(asked, self.splits.train)
        found: list[ForgetRequest] = []

        def parse() -> bytes:
            found.append(as_request(asked, self.splits.train, self.config.forget_seed))
            return found[0].ids.tobytes()

        check_same("ids to forget", parse)
        return found[0]

    def copies(self, request: RequestLike) -> Copies:
        """Samples with the same images as those of a request, under other ids.

        A request is by id: what is found in the training set stays unless it is named, too.
        """
        request, splits = self.request(request), self.splits
        remembrance = stages.remembrance_of(self.config, self.config.preset, splits)
        return copies_of(request.ids, splits.train, splits.test, remembrance.ids)

    def check_comparable(self, request: RequestLike) -> None:
        """Raise ``InputError`` unless methods can be compared on ``request``."""
        asked = self.request(request)
        check_comparable(self.config, self.splits, asked, self.usable_tests())

    def log(self, **entry: Any) -> None:
        """Append a line to metrics.jsonl."""
        if is_writer():
            store.add_line(self.directory / "metrics.jsonl", entry)

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Lock the run directory: another process or thread that wants to write there waits.

        What it waited for it finds done, and does not do again.
        """
        with contextlib.ExitStack() as stack:
            by_writer(lambda: stack.enter_context(locked_again(self.directory / "run.lock")))
            yield

    def _hooks(self, stage: str, observe: Any = None) -> Hooks:
        return logged(stage, self._progress, self.log, observe)

    def _load(self, path: Path, remedy: str = "") -> Classifier:
        like = fresh_classifier(self.model, self.splits.train, 0)
        return load_classifier(path, self.model, like, remedy)

    def _network_in(self, folder: Path) -> Classifier:
        return self._load(folder / "network", store.moved(folder))

    def _original_stage(self) -> store.Stage:
        made_of = facts.of_original(self.config, self.model, self.data)
        return store.find_stage(self.directory, "original", made_of)

    def has_original(self) -> bool:
        """Whether the original network exists, so that ``train`` trains nothing."""
        return self._original_stage().there

    @one_at_a_time
    def train(self) -> Classifier:
        """The original network, trained if it does not exist yet."""
        if self._original is None:
            self._original = self._found_or_trained()
        return self._original

    def _found_or_trained(self) -> Classifier:
        stage = self._original_stage()
        if stage.there:
            return self._load(stage.path, store.moved(stage.path))
        checkpoint = saved.unfinished(stage, self.config.training.epochs)
        try:
            with _in_another_run():
                fitted = stages.train_original(
                    self.config,
                    self.model,
                    self.splits,
                    hooks=self._hooks("train"),
                    checkpoint=checkpoint,
                )
        except Diverged:
            checkpoint.discard()  # to go on from there would end there again
            raise
        with store.making(stage, devices=self.config.devices) as folder:
            save_classifier(folder, fitted.classifier)
        checkpoint.discard()
        self.log(stage="train", run_s=fitted.run_s, compile_s=fitted.compile_s, flops=fitted.flops)
        return fitted.classifier

    @one_at_a_time
    def adopt(self, network: Classifier) -> None:
        """Make a network that was trained elsewhere the original of this run.

        Args:
            network: of this run's module, trained on its training set as its settings say: the
                retrained model is trained by them.

        Raises:
            InputError: another module, or the run has its original already.
        """
        brought.check_adopted(network, self.model, self.splits)
        stage = self._original_stage()
        if stage.there:
            raise InputError(
                f"A network for the run {str(self.directory)!r}, whose original is there",
                "a run that has no original yet",
                "Create another run for it",
            )
        with store.making(stage, devices=self.config.devices, adopted=True) as folder:
            save_classifier(folder, network)
            self._load(folder)  # says so if it is of another module
        self.log(stage="train", adopted=True)

    def _once(self, stage: store.Stage, label: str, *, load: Any, make: Any, save: Any) -> Any:
        """See ``store.once``."""
        log = functools.partial(self.log, stage=label)
        make = _in_another_run()(make)
        return store.once(stage, load, make, save, log, devices=self.config.devices)

    def _prepared_stage(self, name: str) -> store.Stage:
        made_of = facts.of_prepared(self.config, name, self.splits, self.data, self.train())
        return store.find_stage(self.directory / "prepared", name, made_of)

    def has_prepared(self, name: str) -> bool:
        """Whether the offline phase of a preset exists, so that ``prepare`` runs nothing."""
        return self._prepared_stage(name).there

    @one_at_a_time
    def prepare(self, name: str | None = None) -> Prepared:
        """The offline phase of a preset (the run's own by default), run if not done yet."""
        name = name or self.config.preset
        if name not in PRESETS:
            raise unknown_name("preset", name, PRESETS)
        original, stage = self.train(), self._prepared_stage(name)
        config, splits, label = self.config, self.splits, f"prepare {name}"
        remembrance = stages.remembrance_of(config, name, splits)
        hooks = self._hooks(label)
        return self._once(
            stage,
            label,
            load=lambda at: saved.load_prepared(
                at, original, splits.train, remembrance, self._network_in
            ),
            make=lambda: stages.prepare(config, original, splits, name=name, hooks=hooks),
            save=lambda folder, prepared: saved.save_prepared(folder, prepared, original),
        )

    def request_directory(self, request: RequestLike) -> Path:
        """The folder of one request; a request of other ids has another one."""
        return store.request_folder(self.directory / "requests", self.request(request))

    def usable_tests(self) -> np.ndarray:
        """The test samples that the table of this run may use."""
        return stages.usable_tests(self.config, self.splits, self.presets)

    @one_at_a_time
    def unlearn(self, request: RequestLike, name: str | Any = None) -> saved.Served:
        """Serve a request with a method (the run's own preset if not named), or find it served.

        Args:
            request: what to forget.
            name: of the method; or one of your own as it is, which has the name of its function or
                class from then on, as if by ``register_method``.

        Warns:
            CostWarning: before it begins, where retraining is cheaper.
            TelltaleWarning: the network shows which samples were forgotten (``metrics.telltale``).
        """
        name = self.config.preset if name is None else name_of(name)
        request = self.request(request)
        check_method_name("method", name)
        original = self.train()
        prepared = self.prepare(name) if name in PRESETS else None
        usable = self.usable_tests()
        made_of = facts.of_served(
            self.config, name, self.splits, self.data, request, original, prepared, usable
        )
        asked = self.request_directory(request)
        stage = store.find_stage(asked, name, made_of)
        if not stage.there and is_writer():
            warn_of_cost(self.config, self.splits, request, name, self.model)
        label = f"forget {asked.name} {name}"

        def make() -> saved.Served:
            recorder = TrajectoryRecorder(name, self.splits, request, usable, original)
            unlearned = stages.unlearn(
                name,
                self.config,
                original,
                self.splits,
                request,
                prepared=prepared,
                hooks=self._hooks(label, recorder),
            )
            trajectory = recorder.finish(unlearned.online_s, unlearned.classifier)
            store.keep_request(asked, request)
            return saved.Served(unlearned, trajectory, stage.path)

        load = functools.partial(saved.load_served, network=self._network_in)
        served = self._once(stage, label, load=load, make=make, save=saved.save_served)
        warn_of_telltale(served.unlearned.classifier, self.splits, request, usable)
        return served
