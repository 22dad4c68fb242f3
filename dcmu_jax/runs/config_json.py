"""The settings of a run in its config.json: written, read back the same, and compared."""

from __future__ import annotations

import json
from typing import Any

import pydantic

from dcmu_jax.errors import InputError
from dcmu_jax.reading import parse_json
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.presets import PRESETS, preset
from dcmu_jax.runs.renamed import RENAMED, new_names

_ADAPTER = pydantic.TypeAdapter(RunConfig)
_METHOD_OF = "method_of"
"""Beside the settings in config.json: the preset and the model that ``method`` was written for."""


def to_json(config: RunConfig) -> str:
    """The config as indented JSON: every field, but ``metrics`` where there are none.

    So files and hashes are those of versions that knew of no metrics of one's own.
    """
    without = None if config.metrics else {"metrics"}
    return _ADAPTER.dump_json(config, indent=2, exclude=without).decode()


def _fields(config: RunConfig) -> dict[str, Any]:
    """Every field of a config as a JSON value."""
    return _ADAPTER.dump_python(config, mode="json")


def to_file(config: RunConfig) -> str:
    """``to_json`` of settings that ``from_json`` reads back the same, and whose ``method`` it is.

    A ``method`` alone does not tell whose it is, as single settings of it may have been given. So
    the file also names the preset and the model that it was written for.

    Raises:
        InputError: a text that no file can hold.
    """
    try:
        fields = json.loads(to_json(config)) | {_METHOD_OF: _whose(config)}
        text = json.dumps(fields, indent=2, ensure_ascii=False)
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
    """The config that ``to_json`` or ``to_file`` wrote.

    Args:
        data: JSON; bytes in UTF-8.
        source: where it came from, for the message.

    Raises:
        InputError: anything else, or a preset or model that was changed without its ``method``.
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
    if isinstance(given, dict) and any(
        old in given and new not in given for old, new in RENAMED.items()
    ):
        given = new_names(given)  # of an earlier version
        data = json.dumps(given, ensure_ascii=False).encode()
    try:
        config = _ADAPTER.validate_json(data, strict=True)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole file"
        raise refused(where, first["msg"]) from error
    except InputError as error:  # a value that checks itself
        raise refused("the whole file", str(error)) from error
    of = given.pop(_METHOD_OF, None)
    if of is not None:  # files of earlier versions, and workspaces, do not say
        _check_whose(config, of, source)
    unknown = _unknown_field(given, _fields(config))
    if unknown:  # not to be passed over: the setting meant would silently have its default
        raise refused(unknown, "no such setting")
    return config


def _whose(config: RunConfig) -> str:
    """What config.json says of ``method``; in words that no search for ``"preset": ...`` finds."""
    return f"{config.preset} for {config.model}"


def _check_whose(config: RunConfig, of: Any, source: str) -> None:
    """Raise where the ``method`` of a config is that of another preset or model.

    Args:
        config: as it was read.
        of: what the file says of its ``method``.
        source: where it came from, for the message.
    """
    now = {"preset": config.preset, "model": config.model}
    name, between, model = of.partition(" for ") if isinstance(of, str) else ("", "", "")
    if of == _whose(config) or config.preset not in PRESETS:
        return  # an unknown preset is refused by ``RunConfig.check``, in its words
    if not between or name not in PRESETS:
        raise InputError(
            f"{source!r} with {_METHOD_OF} = {of!r}",
            "the preset and the model that method was written for",
            f"Set {_METHOD_OF} to {_whose(config)!r} if method is what you want",
        )
    if preset(config.preset, config.model) in (config.method, preset(name, model)):
        return
    was = {field: one for field, one in (("preset", name), ("model", model)) if one != now[field]}
    said = " and ".join(f"{field} = {now[field]!r}" for field in was)
    before = " and ".join(f"{field} = {one!r}" for field, one in was.items())
    options = " ".join(f"--{field} {now[field]}" for field in was)
    raise InputError(
        f"{source!r} with {said}, whose method still has the settings of {before}",
        "a method of that preset and model, or settings of your own",
        f"Put {before} back, and start another run with dcmu train {options} --out ANOTHER and the "
        f"other options of this one. To keep method as it stands, set {_METHOD_OF} to "
        f"{_whose(config)!r}",
    )


def differing_settings(saved: RunConfig, given: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Dotted name of each setting that is not the same in both -> its values, as JSON has them.

    >>> differing_settings(RunConfig(), RunConfig(seed=3, forget="class:2"))
    {'forget': ('random:0.1', 'class:2'), 'seed': (0, 3)}
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

    return found(_fields(saved), _fields(given), "")


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
