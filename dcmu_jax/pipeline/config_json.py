"""The settings of a run in its config.json: written, read back the same, and compared."""

from __future__ import annotations

import json
from typing import Any

import pydantic

from dcmu_jax.errors import (
    InputError,
)
from dcmu_jax.pipeline.config import RunConfig
from dcmu_jax.reading import parse_json

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
