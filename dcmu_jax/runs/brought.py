"""What a user brings to a run: data, modules and networks, metrics and condensers by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np

from dcmu_jax.condensation.own import OURS, own_condenser
from dcmu_jax.data.dataset import Normalisation, Splits, check_normalisation
from dcmu_jax.data.sources import SOURCES
from dcmu_jax.errors import InputError, kind_of
from dcmu_jax.extensions import load_reference, said_of
from dcmu_jax.metrics.own import own_metrics
from dcmu_jax.networks.adoption import check_variables
from dcmu_jax.networks.behaviour import differing, differing_initial, model_text
from dcmu_jax.networks.catalogue import MODELS
from dcmu_jax.networks.whole import name_of
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.config_json import differing_settings
from dcmu_jax.runs.saved import DataNote
from dcmu_jax.training.classifier import Classifier, module_of

_KINDS = {name.partition(":")[0] for name in SOURCES}


def check_own(config: RunConfig, presets: Collection[str]) -> None:
    """Raise unless metrics and condensers of the user's own are there: before a run is begun.

    Args:
        config: its settings.
        presets: those whose offline phase it has.
    """
    own_metrics(config.metrics)
    for name in presets:
        condenser = config.options_of(name).condensation.condenser
        if condenser not in OURS:
            own_condenser(condenser)


def check_brought(
    directory: Path, config: RunConfig, note: DataNote, given: Mapping[str, Any]
) -> None:
    """Raise where a run is opened without the data or module it was started with from Python.

    Args:
        directory: of the run.
        config: its settings.
        note: its data.json.
        given: the arguments that it is opened with.

    Raises:
        InputError: no ``splits`` or no ``model``; or a module for a run of the catalogue's.
    """
    named_source = config.dataset.strip().partition(":")[0] in _KINDS
    lacking = {
        "splits": not named_source if note.own_data is None else note.own_data,
        "model": config.model not in MODELS if note.own_module is None else note.own_module,
    }
    for name, brought in lacking.items():
        if brought and given.get(name) is None:
            what = "data" if name == "splits" else "module"
            shown = config.dataset if name == "splits" else config.model
            raise InputError(
                f"The run {str(directory)!r} without its {what}, which came from Python "
                f"({shown!r} is only a name)",
                f"the same {what} as {name}; the command line has no way to bring it",
                f"Open it in Python by Run.open({str(directory)!r}, {name}={name})",
            )
    if given.get("model") is not None and note.own_module is False:
        raise InputError(
            f"A module for the run {str(directory)!r}, which was started with {config.model!r} of "
            "the catalogue",
            "no module",
            "Leave out model, or start a new run",
        )


def check_the_same(directory: Path, config: RunConfig, note: DataNote, now: DataNote) -> None:
    """Raise where a run is opened with other data, or a module that computes something else.

    Args:
        directory: of the run.
        config: its settings.
        note: its data.json.
        now: what data.json would say of what it is opened with.

    Raises:
        InputError: one of the two.
    """
    if note.fingerprint != now.fingerprint:
        raise InputError(
            f"The data of {config.dataset!r} is not what the run {str(directory)!r} "
            "was started with",
            "the same images, labels and ids",
            "Restore the data, or give arrays that came from Python as splits, or start a new run",
        )
    other = differing(note.behaviour, now.behaviour)
    if other:
        raise InputError(
            f"The module of the run {str(directory)!r} computes something else than the one it was "
            f"started with ({', '.join(other)})",
            "the module that it was started with",
            "Restore the code of the module, or start a new run",
        )
    other = differing_initial(note.initial, now.initial)
    if other:
        shown = ", ".join(other[:3]) + (", ..." if len(other) > 3 else "")
        raise InputError(
            f"The module of the run {str(directory)!r} starts from other parameters than the one "
            f"it was started with ({shown})",
            "the module that it was started with",
            "Restore the code of the module, or start a new run",
        )


def check_same_settings(directory: Path, was: RunConfig, given: RunConfig) -> None:
    """Raise where a run is gone on with by other settings than it was started with."""
    others = differing_settings(was, given)
    if others:
        said = [f"{name} = {was!r}, not {now!r}" for name, (was, now) in others.items()]
        shown = ", ".join(said[:5]) + (", ..." if len(said) > 5 else "")
        raise InputError(
            f"The run {str(directory)!r} was started with other settings ({shown})",
            "the settings that it was started with",
            "Give those, choose another --out, or --resume, which takes the saved ones",
        )


def check_adopted(network: Any, model: nn.Module, splits: Splits) -> None:
    """Raise unless a network that was trained elsewhere can be the original of a run.

    Args:
        network: what was brought.
        model: the module of the run.
        splits: its data.

    Raises:
        InputError: no ``Classifier``, one of other images, or variables of other shapes or types.
    """
    if not isinstance(network, Classifier):
        raise InputError(
            f"A network given as {kind_of(network)}",
            "a Classifier",
            "Give dcmu_jax.Classifier(module, variables, normalisation, splits.image_shape), or "
            "what dcmu.adopt or dcmu.from_torch returned",
        )
    if network.image_shape != splits.image_shape:
        raise InputError(
            f"A network of images {network.image_shape} for data of {splits.image_shape}",
            "a network of such images",
            f"Give image_shape={splits.image_shape} to the Classifier if it takes them",
        )
    check_variables(model, network.variables, splits.image_shape)
    if model_text(network.model) != model_text(model):
        raise InputError(
            f"A network of the module {name_of(network.model)} with other settings or parts than "
            "those of the module of the run",
            "a network of the module that the run was created with",
            "Create the run with the module of this network: Run.create(..., model=network)",
        )


def own_module(name: str, splits: Splits) -> nn.Module:
    """The module that a reference (``file.py:attribute``) leads to; see ``stages.build_model``."""
    found = module_of(load_reference(name, "network"))
    if isinstance(found, nn.Module):
        return found
    given = {"image_shape": splits.image_shape, "num_classes": splits.num_classes}
    allowed = "a Flax module, or a function of image_shape and num_classes that returns one"
    remedy = "Write def make(image_shape, num_classes): ... that returns the module"
    kind = kind_of(found)
    if callable(found) and not (isinstance(found, type) and issubclass(found, nn.Module)):
        try:
            found = module_of(found(**given))
        except Exception as error:  # whatever a user's function may raise
            raise InputError(
                f"The network {name!r} fails ({said_of(error)})", allowed, remedy
            ) from error
        if isinstance(found, nn.Module):
            return found
        kind = f"a function that returned {kind_of(found)}"
    raise InputError(f"The network {name!r}, which is {kind}", allowed, remedy)


def given_normalisation(config: RunConfig, splits: Splits) -> Normalisation | None:
    """The normalisation in the settings, if given."""
    if config.data.mean is None or config.data.std is None:
        return None
    channels = splits.image_shape[-1]
    for name in ("mean", "std"):
        check_normalisation(f"data.{name}", np.asarray(getattr(config.data, name)), channels)
    return Normalisation(
        np.asarray(config.data.mean, np.float32), np.asarray(config.data.std, np.float32)
    )


def check_crop(config: RunConfig, splits: Splits) -> None:
    """Raise unless the images are larger than the shifts of the augmentation."""
    side = min(splits.image_shape[:2])
    if config.training.crop >= side:
        raise InputError(
            f"training.crop = {config.training.crop} on images of {side} pixels",
            f"0..{side - 1}",
            "Lower training.crop",
        )
