"""One request being served: its clock, its cost so far, and its progress messages."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from dcmu_jax.training.arguments import Placement
from dcmu_jax.training.callbacks import Callback, EpochEnd, Progress, reporting
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.divergence import Diverged, all_finite, during
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.flops import off_the_tally, tally, total
from dcmu_jax.training.keys import named_key, named_seed
from dcmu_jax.training.loop import Fitted, fit
from dcmu_jax.training.timing import Stopwatch
from dcmu_jax.unlearning.task import Hooks, Unlearned, UnlearningTask


class Serving:
    """What every unlearning method does besides its own idea.

    The clock runs inside the ``with`` block, and the operations of all that runs there are added
    up (``training.flops.tally``); all that depends on the request belongs there.

    >>> def serve(task, hooks):
    ...     with Serving(task, hooks, "my_method") as serving:
    ...         retain = task.retain()
    ...         examples = Examples.of(retain.images, retain.labels)
    ...         network = serving.fit("fine-tuning", task.original, examples, epochs=5)
    ...     return serving.unlearned(network, retain.ids)

    Args:
        task: the request.
        hooks: see ``Hooks``.
        method: name of the method, under which its keys are derived; see ``UnlearningTask.name``.

    Attributes:
        seed: of all that is random in this method, and in no other.
    """

    def __init__(self, task: UnlearningTask, hooks: Hooks, method: str = "unnamed method"):
        self.task, self.hooks = task, hooks
        self.seed = named_seed(task.seed, task.name or method)
        self.watch = Stopwatch()
        self._residuals: list[float] = []
        self._solved = True
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Serving:
        self._flops = self._open.enter_context(tally())
        self._open.enter_context(self.watch.running())
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def key(self, name: str) -> Array:
        """The key of ``name`` under the seed of this method."""
        return named_key(self.seed, name)

    def callbacks(self, progress: Progress) -> tuple[Callback, ...]:
        """For ``fit``: tell ``progress`` of every epoch, and show the network to ``hooks``."""
        return (*reporting(progress), self.observe)

    def observe(self, now: EpochEnd) -> None:
        """A callback of ``fit``: shows the network to ``hooks`` with the clock stopped."""
        self._show(now.network)

    def _show(self, classifier: Classifier) -> None:
        seconds = self.watch.elapsed()
        with self.looking():
            self.hooks.observe(seconds, classifier)

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """Code in this block is measurement: its time and operations are not counted."""
        with self.watch.paused(), off_the_tally():
            yield

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A step of the work that is not training, as the user sees it; may be empty."""
        with self.hooks.progress(name, 1) as progress:
            yield
            progress(1, float("nan"), float("nan"))

    def left(self, residual: float, tolerance: float) -> None:
        """Tell with the result what a system was left with, and whether that is solved.

        Args:
            residual: norm of it over the norm of the right-hand side.
            tolerance: the largest that counts as solved.
        """
        self._residuals.append(residual)
        self._solved &= residual <= tolerance  # False for NaN

    def fit(
        self, name: str, classifier: Classifier, examples: Examples, *, epochs: int, **rest: Any
    ) -> Classifier:
        """``training.loop.fit`` with callbacks, devices and cost taken care of.

        Args:
            name: what the user is shown; the key is derived from it, unless one is given.
            classifier: where training starts.
            examples: what is trained on.

        Other Args:
            epochs: see ``fit``.
            **rest: see ``fit``.
        """
        return self.fitted(name, classifier, examples, epochs=epochs, **rest).classifier

    def fitted(
        self, name: str, classifier: Classifier, examples: Examples, *, epochs: int, **rest: Any
    ) -> Fitted:
        """As ``fit``, with the optimizer's state and the losses."""
        rest.setdefault("key", self.key(name))
        with during(name), self.hooks.progress(name, epochs) as progress:
            return fit(
                classifier,
                examples,
                epochs=epochs,
                placement=Placement(self.task.mesh),
                callbacks=self.callbacks(progress),
                **rest,
            )

    def finished(self, classifier: Classifier) -> Classifier:
        """``classifier`` once the device has computed it, shown to ``hooks`` as the last one.

        For methods that do not end in ``fit``; call it inside the ``with`` block.
        """
        jax.block_until_ready(classifier.variables)
        self._show(classifier)
        return classifier

    def unlearned(
        self, classifier: Classifier, trained_ids: np.ndarray, *, size: int | None = None
    ) -> Unlearned:
        """The result, after the ``with`` block.

        Args:
            classifier: the new network.
            trained_ids: ids of all real training samples that a step may have seen.
            size: number of images trained on, if not as many as ``trained_ids``.

        Raises:
            Diverged: the network is not finite.
        """
        if not all_finite(classifier.variables):
            raise Diverged("the network is not finite")
        retained = len(self.task.train) - len(self.task.forget_ids)
        return Unlearned(
            classifier,
            self.watch.run_s,
            self.watch.compile_s,
            total(self._flops),
            (len(trained_ids) if size is None else size) / retained,
            np.asarray(trained_ids, np.int64),
            float(np.max(self._residuals)) if self._residuals else None,  # NaN if one is
            self._solved,
        )
