"""The user's own methods, besides those of the registry: by object, by name, or by entry point."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable
from typing import Any, cast

from dcmu_jax.errors import InputError, kind_of
from dcmu_jax.extensions import (
    calling,
    entry_names,
    entry_point,
    is_reference,
    load_reference,
    unknown_own,
)
from dcmu_jax.own_code import source_of
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.unlearning.serving import Serving
from dcmu_jax.unlearning.task import Hooks, Unlearned, UnlearningTask

GROUP = "dcmu_jax.methods"
"""Entry points of this group, of any installed package, are methods by their names."""

_REGISTERED: dict[str, Any] = {}


@dataclasses.dataclass(frozen=True, eq=False)
class OwnMethod:
    """A user's callable as a ``Method``.

    It is called with the task and the hooks. What it returns is the new network, which is then
    timed: what it was trained on is not known, and its operations are those of ``fit`` and of
    passes by ``Classifier``, unknown where there were none. Or it returns an ``Unlearned``
    (``Serving`` makes one), which says all that.

    Attributes:
        name: under which it is asked for.
        source: SHA-256 of the file it stands in: after a change of the file it is another method.
        settings: of its instance, as JSON has them.
        call: the callable.
    """

    name: str
    source: str
    settings: Any
    call: dataclasses.InitVar[Callable[[UnlearningTask, Hooks], Any]]

    def __post_init__(self, call: Callable[[UnlearningTask, Hooks], Any]):
        object.__setattr__(self, "_call", call)

    @property
    def sees_forget_set(self) -> bool:
        """What the callable says; True where it says nothing."""
        return bool(getattr(self._call, "sees_forget_set", True))  # type: ignore[attr-defined]

    def __call__(self, task: UnlearningTask, hooks: Hooks) -> Unlearned:
        """Forget ``task.forget_ids``.

        Raises:
            InputError: it raised, or returned anything but a ``Classifier`` or an ``Unlearned``.
        """
        with Serving(task, hooks, self.name) as serving:
            with calling(
                f"method {self.name!r}", "a function that returns the new network", (InputError,)
            ):
                found = self._call(task, hooks)  # type: ignore[attr-defined]
            if isinstance(found, Classifier):
                found = serving.finished(found)
        if isinstance(found, Unlearned):
            return found
        if isinstance(found, Classifier):
            told = serving.unlearned(found, task.known().ids)
            return dataclasses.replace(told, reduction=None, flops=told.flops or None)
        raise InputError(
            f"The method {self.name!r} returned {kind_of(found)}",
            "the new network, a Classifier, or an Unlearned",
            "Return the network: dataclasses.replace(task.original, variables=...)",
        )


def register_method(name: Any, target: Any) -> None:
    """Give a method of one's own a name, for this process.

    Args:
        name: that no preset and no other method has; letters, digits, ``_``, ``-`` and ``.``.
        target: a class whose instances are called with task and hooks, its fields being settings
            if it is a dataclass; such an instance; or a function.

    Raises:
        InputError: such a name, or nothing that can be called.
    """
    from dcmu_jax.baselines.registry import METHODS  # which looks methods up here

    fits = isinstance(name, str) and name and all(c.isalnum() or c in "_-." for c in name)
    if not fits or name in METHODS or name[0] in ".-":
        raise InputError(
            f"The name {name!r} for a method of your own",
            "letters, digits, _, - and ., and no method's name",
            "Choose another name",
        )
    check_callable(name, target)
    _REGISTERED[name] = target


def own_names() -> list[str]:
    """The names of all methods of the user's own that have one."""
    return sorted({*_REGISTERED, *entry_names(GROUP)})


def unknown_method(kind: str, name: Any, known: Iterable[str]) -> InputError:
    """An error for a name of no method, neither of those known nor of the user's own."""
    also = "; dcmu.register_method gives a name in Python"
    return unknown_own(kind, name, [*known, *own_names()], also)


def name_of(method: Any) -> str:
    """The name of a method: a text itself; an object is registered by its own name.

    Raises:
        InputError: see ``register_method``.
    """
    if isinstance(method, str):
        return method
    name = getattr(method, "__name__", type(method).__name__)
    check_callable(name, method)
    if not name.isidentifier():
        raise InputError(
            f"A method of your own that has no name ({method!r:.80})",
            "a function or class with a name",
            "Give it one: dcmu.register_method('mine', method), and then 'mine'",
        )
    if _REGISTERED.get(name) is not method:
        register_method(name, method)
    return name


def check_callable(name: str, target: Any) -> None:
    """Raise unless a target can be a method."""
    called = target
    if inspect.isclass(target):
        called = target.__call__ if "__call__" in dir(target) else None
    if not callable(called):
        raise InputError(
            f"The method {name!r}, which is {kind_of(target)}",
            "a function of a task and hooks, or a class whose instances are called with them",
            "Write def forget(task, hooks): ... that returns the new network",
        )
    try:
        given = (None, None, None) if inspect.isclass(target) else (None, None)
        inspect.signature(called).bind(*given)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"The method {name!r} cannot be called with a task and hooks ({error})",
            "two arguments, (task, hooks)",
            "Write def forget(task, hooks): ... that returns the new network",
        ) from error


def own_target(name: str) -> Any:
    """What a name stands for, ``None`` where it is no method of the user's own.

    Raises:
        InputError: a reference (``file.py:attribute``) that names no method.
    """
    if name in _REGISTERED:
        return _REGISTERED[name]
    target = load_reference(name, "method") if is_reference(name) else entry_point(GROUP, name)
    if target is not None:
        check_callable(name, target)
    return target


def wrapped(name: str, target: Any, instance: Any) -> OwnMethod:
    """A user's instance or function as a ``Method``."""
    settings: Any = {}
    if dataclasses.is_dataclass(instance) and not isinstance(instance, type):
        settings = dataclasses.asdict(instance)
    return OwnMethod(name, source_of(name, target), settings, cast(Any, instance))
