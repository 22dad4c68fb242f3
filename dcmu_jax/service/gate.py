"""The gate before publication: how much accuracy a batch may cost, and by which settings."""

from __future__ import annotations

import dataclasses
import math
import shlex
from pathlib import Path
from typing import Any

import pydantic

from dcmu_jax.errors import InputError
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.presets import PRESETS, preset
from dcmu_jax.service.history import Batch, History, Refusal
from dcmu_jax.unlearning.modular import ModularUnlearning


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """The settings of a batch, where they are not those of the workspace.

    Attributes:
        preset: that the schedules started from.
        online: see ``MethodOptions``.
        online_classes: likewise.
    """

    preset: str
    online: ModularUnlearning
    online_classes: ModularUnlearning

    def to_json(self) -> dict[str, Any]:
        """As the ledger keeps it."""
        return _ADAPTER.dump_python(self, mode="json")

    def applied(self, config: RunConfig) -> RunConfig:
        """``config`` with these schedules; remembrance samples and bank stay the workspace's.

        Raises:
            InputError: a schedule that makes no sense.
        """
        method = dataclasses.replace(
            config.method, online=self.online, online_classes=self.online_classes
        )
        config = dataclasses.replace(config, preset=self.preset, method=method)
        config.check()
        config.check_batches(serving=True)
        return config


_OTHER_VERSION = (
    "Finish the batch with the version of dcmu_jax that began it, or begin it again with settings "
    "of this one: dcmu process with a --preset"
)
_ADAPTER = pydantic.TypeAdapter(BatchSettings)


def settings_of(config: RunConfig, name: str | None = None) -> BatchSettings:
    """The settings of a workspace, or the preset ``name`` for its model.

    >>> settings_of(RunConfig(), "condensed").online.closing_steps[0].epochs
    15
    """
    name = name or config.preset
    method = config.method if name == config.preset else preset(name, config.model)
    return BatchSettings(preset=name, online=method.online, online_classes=method.online_classes)


def read_settings(saved: dict[str, Any]) -> BatchSettings:
    """What ``BatchSettings.to_json`` gave.

    Raises:
        InputError: anything else.
    """
    try:
        found = _ADAPTER.validate_python(saved)
    except (pydantic.ValidationError, InputError) as error:
        raise InputError(
            f"Settings of a batch in the ledger that cannot be read ({str(error).splitlines()[0]})",
            "settings as this version of dcmu_jax knows them",
            _OTHER_VERSION,
        ) from error
    if found.to_json() != saved:
        raise InputError(
            "Settings of a batch in the ledger with fields that are not known here",
            "settings as this version of dcmu_jax knows them",
            _OTHER_VERSION,
        )
    return found


def described(config: RunConfig, batch: Batch) -> str:
    """The settings of a batch in words, as they are typed.

    Args:
        config: of the workspace.
        batch: the batch.
    """
    if batch.settings is None:
        said = f"--preset {config.preset} and the settings of the workspace"
    else:
        said = " ".join(_options(config, batch.settings)[0])
    if batch.accepted_loss is not None:
        said += f" --accept-accuracy-loss {batch.accepted_loss:g}"
    return said


def _options(config: RunConfig, settings: dict[str, Any]) -> tuple[list[str], bool]:
    """The options for settings of a batch, and whether options can give all of them.

    The command line changes the steps that a preset has, but not their number; Python does.
    """
    name = str(settings.get("preset"))
    before = dict(_flat(settings_of(config, name if name in PRESETS else None).to_json()))
    given = dict(_flat(settings))
    own = [
        _typed(name, value)
        for name, value in given.items()
        if name != "preset" and (name not in before or before[name] != value)
    ]
    return [f"--preset {name}", *own], name in PRESETS and given.keys() == before.keys()


def _typed(name: str, value: Any) -> str:
    above, _, last = f"method.{name}".replace("_", "-").rpartition(".")
    if isinstance(value, bool):
        return f"--{above}.{'' if value else 'no-'}{last}"
    return " ".join([f"--{above}.{last}", *map(str, value if isinstance(value, list) else [value])])


def _flat(value: Any, name: str = "") -> list[tuple[str, Any]]:
    """Name, joined by dots, and value of every setting within."""
    if isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return [(name, value)]
    return [
        pair for key, inner in value.items() for pair in _flat(inner, f"{name}.{key}".lstrip("."))
    ]


class NotPublished(InputError):
    """A batch that the gate refused: its samples stay pending.

    Attributes:
        published: versions that the same call published before.
    """

    published: tuple[int, ...] = ()


def limit_of(history: History, batch: Batch) -> float:
    """Points of test accuracy that a batch may cost."""
    return history.max_accuracy_loss if batch.accepted_loss is None else batch.accepted_loss


def loss_of(before: float | None, after: float | None) -> float:
    """Points that were lost; none where there are no images to measure them on."""
    return 0.0 if before is None or after is None else before - after


def too_much(before: float | None, after: float | None, limit: float) -> str | None:
    """Why a batch cannot pass, in words; None where it can.

    Args:
        before: test accuracy (%) on the classes that stay, of the network before.
        after: the same of the new one.
        limit: points that may be lost.
    """
    loss = loss_of(before, after)
    if loss <= limit:
        return None
    return (
        f"test accuracy on the classes that stay would fall by {loss:.2f} points, from "
        f"{before:.2f} to {after:.2f} %, and {limit:g} are allowed"
    )


def not_published(
    directory: Path, config: RunConfig, history: History, published: tuple[int, ...] = ()
) -> NotPublished:
    """The error for the last refusal, with a remedy that can be typed.

    Args:
        directory: of the workspace.
        config: of the workspace.
        history: whose last refusal it is.
        published: versions that the same call published before.
    """
    refusal = history.refusals[-1]
    tried = refusal.batch.settings
    settings = [earlier.batch.settings or {} for earlier in history.refusals]
    refused = {given.get("preset", config.preset) for given in settings}
    other = next((name for name in PRESETS if name not in refused), "")
    command = f"dcmu process {shlex.quote(str(directory))}"
    remedy = "Process them "
    remedy += f"by another method ({command} --preset {other}) or " if other else ""
    remedy += f"with other settings ({command} --help lists them)"
    before, after = refusal.entry.before, refusal.entry.after
    if after is not None:
        # Rounded up, so that what was measured lies within it.
        points = min(100, math.ceil(loss_of(before, after)))
        options, typed = ([], True) if tried is None else _options(config, tried)
        options = " ".join([command, *options, f"--accept-accuracy-loss {points}"])
        if not typed:
            options = "dcmu_jax.service.Workspace.process with the same settings and "
            options += f"accept_accuracy_loss={points}"
        remedy += f", or accept the loss once ({options})"
    samples = len(history.ids_of(refusal.batch.lines))
    error = NotPublished(
        f"The batch of {samples} samples was not published: {refusal.entry.reason}",
        f"a finite network that loses at most {refusal.entry.limit:g} points; the current network "
        "goes on serving, and the samples stay pending",
        remedy,
    )
    error.published = published
    return error


def refused_again(history: History, batch: Batch) -> Refusal | None:
    """The refusal that a batch would get again, to the bit; None where it may pass.

    Args:
        history: in which the batch is not begun yet.
        batch: as it would be begun.
    """
    if not history.refusals:
        return None
    last = history.refusals[-1]
    same = dataclasses.replace(batch, accepted_loss=last.batch.accepted_loss) == last.batch
    allowed = last.entry.after is not None and (
        loss_of(last.entry.before, last.entry.after) <= limit_of(history, batch)
    )
    return last if same and not allowed else None


def told(refusals: tuple[Refusal, ...]) -> list[dict[str, Any]]:
    """What was refused, for the record of the version that forgot the same requests."""
    return [
        {
            "time": refusal.entry.time,
            "reason": refusal.entry.reason,
            "preset": (refusal.batch.settings or {}).get("preset"),
            "settings": refusal.batch.settings,
        }
        for refusal in refusals
    ]
