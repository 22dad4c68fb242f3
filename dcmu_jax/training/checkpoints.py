"""Checkpoints through Orbax: networks, part by part, and training runs to resume."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pydantic

from dcmu_jax.errors import InputError, check_at_least
from dcmu_jax.files import FilePath, expanded
from dcmu_jax.networks.behaviour import (
    BEHAVIOUR,
    behaviour_of,
    differing,
    model_text,
    without_addresses,
)
from dcmu_jax.networks.partition import PARTS, check_kind
from dcmu_jax.reading import is_there, opened, system_error, unreadable
from dcmu_jax.training.devices import arrays_from_writer, from_writer, is_writer
from dcmu_jax.training.divergence import all_finite

if TYPE_CHECKING:  # the loop imports this module
    from dcmu_jax.training.callbacks import EpochEnd
    from dcmu_jax.training.classifier import Classifier
    from dcmu_jax.training.epoch import TrainState

_PATIENCE_S = 5.0


def _write(path: Path, items: dict[str, Any], about: dict[str, Any]) -> None:
    """Save named trees and one JSON object; Orbax writes to a temporary folder, then renames it."""
    arguments = {name: ocp.args.StandardSave(_plain(tree)) for name, tree in items.items()}
    try:
        with _checkpointer() as checkpointer:
            checkpointer.save(
                path.absolute(),
                args=ocp.args.Composite(**arguments, about=ocp.args.JsonSave(about)),
                force=True,
            )
    except BaseException as error:  # an interruption, too
        for aside in path.absolute().parent.iterdir():
            if aside.name.startswith(f"{path.name}.orbax-checkpoint-tmp"):
                shutil.rmtree(aside, ignore_errors=True)
        if isinstance(error, ValueError):  # what the layers below Orbax make of a full disk
            system = system_error(error)
            if system is not None:
                raise OSError(system.errno, system.strerror, str(path)) from error
            why = (str(error).strip() or "no room").splitlines()[0][:160]
            raise OSError(None, why, str(path)) from error
        raise


def _plain(tree: Any) -> Any:
    """With NumPy's arrays: of several processes, Orbax takes a JAX array for a part of a whole."""
    return tree if jax.process_count() == 1 else jax.tree.map(np.asarray, tree)


@contextlib.contextmanager
def _checkpointer() -> Iterator[ocp.Checkpointer]:
    """Orbax as process 0 uses it: the others neither write nor read, and are not waited for.

    What fails is raised. What Orbax's threads say of it meanwhile, with their stacks, is not shown,
    and they have ended before the error goes on, so that they write nothing after it.
    """
    alone = ocp.options.MultiprocessingOptions(
        primary_host=0, active_processes={0}, barrier_sync_key_prefix="writer"
    )
    handler = ocp.CompositeCheckpointHandler(
        composite_options=ocp.CompositeOptions(multiprocessing_options=alone)
    )
    log = logging.getLogger("absl")
    level, hook = log.level, sys.unraisablehook
    quiet = functools.partial(_unraisable, hook)
    log.setLevel(logging.CRITICAL + 1)
    sys.unraisablehook = quiet if getattr(hook, "func", None) is not _unraisable else hook
    try:
        with ocp.Checkpointer(handler, multiprocessing_options=alone) as checkpointer:
            yield checkpointer
        sys.unraisablehook = hook
    except BaseException:
        _wait_for_orbax()
        raise  # the hook stays: TensorStore's threads cannot be waited for
    finally:
        log.setLevel(level)


def _unraisable(otherwise: Callable[[Any], object], unraisable: Any) -> None:
    """As ``otherwise``, but for TensorStore that finds Orbax gone: that has been raised already."""
    if unraisable.object is not None or "Event loop is closed" not in str(unraisable.exc_value):
        otherwise(unraisable)


def _wait_for_orbax() -> None:
    """Until the threads of a failed operation have ended, for a few seconds at most."""
    end = time.monotonic() + _PATIENCE_S
    for thread in threading.enumerate():
        if type(thread).__module__.startswith("orbax."):
            thread.join(max(0.0, end - time.monotonic()))


def _read_about(path: Path) -> dict[str, Any]:
    for folder, _, names in os.walk(path):
        for name in names:
            if not os.path.isfile(os.path.join(folder, name)):  # Orbax would wait for a FIFO
                raise ValueError(f"{name} is no plain file")
    with _checkpointer() as checkpointer:
        return checkpointer.restore(
            path.absolute(), args=ocp.args.Composite(about=ocp.args.JsonRestore())
        )["about"]


def _read(path: Path, like: dict[str, Any]) -> dict[str, Any]:
    """The named trees, each with the structure, shapes and dtypes of its twin in ``like``.

    As arrays like those of a fresh network. Orbax would bind JAX's arrays to their device, which
    what is computed besides them is not: every program would be compiled a second time.
    """
    arguments = {
        name: ocp.args.StandardRestore(jax.tree.map(np.asarray, tree))
        for name, tree in like.items()
    }
    with _checkpointer() as checkpointer:
        restored = checkpointer.restore(path.absolute(), args=ocp.args.Composite(**arguments))
    return {name: jax.tree.map(jnp.asarray, restored[name]) for name in like}


def _describe(tree: Any) -> dict[str, str]:
    """Path -> shape and dtype of every leaf, comparable as JSON."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(p): f"{np.dtype(x.dtype)}{list(x.shape)}" for p, x in leaves}


def _part_item(variables: dict[str, Any], part: str) -> dict[str, Any]:
    """One part as an Orbax item; the marker keeps a part without parameters from being empty."""
    stats = variables.get("batch_stats", {})
    item = {"params": variables["params"][part], "marker": np.zeros((), np.int32)}
    return {**item, "batch_stats": stats[part]} if stats.get(part) else item


def save_classifier(path: FilePath, classifier: Classifier) -> None:
    """Save a network under ``path``: one Orbax item per part, one for the normalisation.

    Only process 0 does.

    Raises:
        InputError: a parameter, a statistic or the normalisation is not finite.
        OSError: it cannot be written.
    """
    if not all_finite((classifier.variables, classifier.normalisation)):
        raise InputError(
            "A network with numbers that are not finite",
            "finite parameters, statistics and normalisation; nothing was saved",
            "Train it again with a lower learning rate",
        )
    if not is_writer():
        return
    items = {part: _part_item(classifier.variables, part) for part in PARTS}
    items["normalisation"] = {
        k: np.asarray(v) for k, v in classifier.normalisation._asdict().items()
    }
    about = {
        "model": model_text(classifier.model),
        "behaviour": behaviour_of(classifier.model, classifier.image_shape),
        "fingerprint": classifier.fingerprint(),
        "shapes": _describe(items),
    }
    _write(Path(path), items, about)


def load_classifier(
    path: FilePath, model: nn.Module | Any, like: Classifier, remedy: str = ""
) -> Classifier:
    """Load a network saved by ``save_classifier``.

    Args:
        path: the checkpoint's directory.
        model: the module that it was saved from.
        like: any network of that module, for the structure (``fresh_classifier``).
        remedy: what to do where it is missing, damaged or of something else, where the caller
            knows.

    Raises:
        InputError: no checkpoint there, one of another model, one whose contents changed, or one
            that may not be read.
    """
    check_kind(model)

    def arrays(classifier: Classifier) -> Any:
        stats = classifier.variables.get("batch_stats", {})
        variables = {
            "params": {part: classifier.variables["params"][part] for part in PARTS},
            "batch_stats": {part: stats[part] for part in PARTS if stats.get(part)},
        }
        return variables, classifier.normalisation

    variables, normalisation = arrays_from_writer(
        lambda: arrays(_load_classifier(Path(path), model, like, remedy)), arrays(like)
    )
    return dataclasses.replace(like, model=model, variables=variables, normalisation=normalisation)


def _load_classifier(path: Path, model: nn.Module, like: Classifier, remedy: str) -> Classifier:
    """As ``load_classifier``, in the process that reads."""
    otherwise = f"or {remedy[0].lower()}{remedy[1:]}" if remedy else "or train again"
    if not (is_there(path) and path.is_dir()):
        raise InputError(
            f"No checkpoint at {str(path)!r}",
            "a directory written by save_classifier",
            remedy or "Check the path, or train first",
        )
    items = {part: _part_item(like.variables, part) for part in PARTS}
    items["normalisation"] = {k: np.asarray(v) for k, v in like.normalisation._asdict().items()}
    try:
        about = _read_about(path)
        saved_model, shapes = without_addresses(str(about["model"])), about["shapes"]
        fingerprint = about["fingerprint"]
        # Those of earlier versions say nothing of it.
        behaviour = BEHAVIOUR.validate_python(about.get("behaviour"))
    except Exception as error:
        raise _damaged(path, error, remedy or _SAVE_AGAIN) from error
    if saved_model != model_text(model) or shapes != _describe(items):
        raise InputError(
            f"The checkpoint {str(path)!r} is of another model",
            "a checkpoint of the model that is asked for",
            f"Saved from {' '.join(saved_model.split())[:160]!r}; take that model, {otherwise}",
        )
    other = differing(behaviour, behaviour_of(model, like.image_shape))
    if other:
        raise InputError(
            f"The checkpoint {str(path)!r} is of a module that computes something else "
            f"({', '.join(other)})",
            "the module that it was saved from; this one has the same settings and parameters",
            f"Take that module, {otherwise}",
        )
    try:
        restored = _read(path, items)
    except Exception as error:
        raise _damaged(path, error, remedy or _SAVE_AGAIN) from error
    variables = {
        "params": {part: restored[part]["params"] for part in PARTS},
        "batch_stats": {
            part: restored[part]["batch_stats"] for part in PARTS if "batch_stats" in restored[part]
        },
    }
    loaded = dataclasses.replace(
        like,
        model=model,
        variables=variables,
        normalisation=type(like.normalisation)(**restored["normalisation"]),
    )
    if loaded.fingerprint() != fingerprint:
        raise _damaged(path, ValueError(_OTHER_CONTENTS), remedy or _SAVE_AGAIN)
    return loaded


_OTHER_CONTENTS = "its contents do not match its fingerprint"
_SAVE_AGAIN = "Train again and save the network in its place, or take a copy of it"
_BEGIN_AGAIN = "Delete it, and the training starts from scratch"


def _damaged(path: Path, error: Exception, remedy: str) -> InputError:
    """The error for a checkpoint whose contents cannot be read."""
    shown = f"The checkpoint {str(path)!r}"
    hindered = unreadable(shown, error) or unreadable(shown, _refused_file(path))
    if hindered is not None:
        return hindered
    said = error.errors()[0]["msg"] if isinstance(error, pydantic.ValidationError) else str(error)
    why = (said.strip() or type(error).__name__).splitlines()[0][:160]
    return InputError(
        f"{shown} cannot be read ({why})", "a complete checkpoint as it was written", remedy
    )


def _refused_file(path: Path) -> Exception | None:
    """What the system says of the first file that it does not read: the libraries often do not."""

    def stop(error: OSError) -> None:
        raise error

    try:
        for folder, _, names in os.walk(path, onerror=stop):
            for name in names:
                with opened(os.path.join(folder, name)) as file:
                    while file.read(2**24):
                        pass
    except (OSError, MemoryError) as error:
        return error
    return None


@dataclasses.dataclass(frozen=True)
class FitCheckpoint:
    """A callback of ``fit`` and ``fit_population`` that saves the call as it goes, and resumes it.

    Guarantee: a call stopped at any moment and made again with the same arguments ends with the
    same bits as one that ran through.

    Attributes:
        path: the directory of the checkpoint; made when first saved.
        every: epochs between two saves.
        identity: what the run is of; a checkpoint of anything else is refused.
    """

    path: FilePath
    every: int
    identity: str

    def __post_init__(self):
        check_at_least("every", self.every, 1)

    @property
    def _folder(self) -> Path:
        return expanded(self.path)

    def __call__(self, now: EpochEnd) -> None:
        """Save after an epoch, if one is due; the last epoch is left to the caller to save.

        Only process 0 does. A state that is not finite is not saved: the loss of the next epoch
        tells of it.
        """
        state = now.state  # for processes that share it, in each of them
        due = now.number % self.every == 0 and now.number < now.epochs
        if is_writer() and due and all_finite((state.params, state.batch_stats)):
            items = {"state": jax.tree.map(np.asarray, state)._asdict()}
            items["state"]["opt_state"] = jax.tree.leaves(items["state"]["opt_state"])
            items["state"]["marker"] = np.zeros((), np.int32)
            about = {
                "identity": self.identity,
                "history": np.asarray(now.history, float).tolist(),
                "seconds": now.seconds,
            }
            items = _drop_empty(items)
            _write(self._folder, items, {**about, "fingerprint": _fingerprint(about, items)})

    def restore(self, state: TrainState) -> tuple[TrainState, list[tuple[Any, Any]], float]:
        """The saved state, history and seconds; or ``state``, none and 0 if nothing was saved."""
        about = json.loads(from_writer(lambda: json.dumps(self._begun()).encode()))
        if about is None:
            return state, [], 0.0
        state = arrays_from_writer(lambda: self._saved(state, about), state)
        return state, [(a, b) for a, b in about["history"]], about["seconds"]

    def is_of_another(self) -> bool:
        """Whether the checkpoint is of another run."""
        found = from_writer(lambda: json.dumps(self._about()).encode())
        about = json.loads(found)
        return about is not None and about["identity"] != self.identity

    def _about(self) -> dict[str, Any] | None:
        """What is written with the state that was saved, if one was."""
        if not self._folder.is_dir():
            return None
        try:
            about = _read_about(self._folder)
            about["identity"]
        except Exception as error:
            raise _damaged(self._folder, error, _BEGIN_AGAIN) from error
        return about

    def _begun(self) -> dict[str, Any] | None:
        """The same, but an error if it is of another run."""
        about = self._about()
        if about is not None and about["identity"] != self.identity:
            raise InputError(
                f"The unfinished run at {str(self._folder)!r} is of other settings or data",
                "the settings it was started with",
                "Use those, or start in another directory",
            )
        return about

    def _saved(self, state: TrainState, about: dict[str, Any]) -> TrainState:
        """The state that was saved, of the structure, shapes and dtypes of ``state``."""
        like = state._asdict()
        structure = jax.tree.structure(like["opt_state"])
        like["opt_state"] = jax.tree.leaves(like["opt_state"])
        like["marker"] = np.zeros((), np.int32)
        try:
            items = _read(self._folder, _drop_empty({"state": like}))
            rest = {k: v for k, v in about.items() if k != "fingerprint"}
            if _fingerprint(rest, items) != about.get("fingerprint"):
                raise ValueError(_OTHER_CONTENTS)
        except Exception as error:
            raise _damaged(self._folder, error, _BEGIN_AGAIN) from error
        saved = items["state"]
        return type(state)(
            params=saved["params"],
            batch_stats=saved.get("batch_stats", {}),
            opt_state=jax.tree.unflatten(structure, saved.get("opt_state", [])),
            epoch=saved["epoch"],
        )

    def discard(self) -> None:
        """Remove the checkpoint of a finished run."""
        if is_writer() and self._folder.is_dir():
            shutil.rmtree(self._folder)


def _fingerprint(about: dict[str, Any], items: dict[str, Any]) -> str:
    """SHA-256 (hex) over a JSON object and every array of named trees."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    leaves, _ = jax.tree_util.tree_flatten_with_path(items)
    for path, leaf in leaves:
        digest.update(f"{jax.tree_util.keystr(path)} {np.dtype(leaf.dtype)}".encode())
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def _drop_empty(items: dict[str, Any]) -> dict[str, Any]:
    """Without empty containers, which Orbax does not store."""
    return {
        name: {k: v for k, v in item.items() if jax.tree.leaves(v)} for name, item in items.items()
    }
