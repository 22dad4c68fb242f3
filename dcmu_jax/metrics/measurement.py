"""What is measured of one method, and what each number means: the row of every table."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Literal

Better = Literal["nearer the retrained model", "lower", "higher", "for information"]

OWN = "own."
"""Begins the name of a metric of the user's own, where it stands among those of this library."""


@dataclasses.dataclass(frozen=True)
class Metric:
    """How one number is to be read.

    Attributes:
        name: the field of ``Measurement``.
        title: short column heading.
        unit: unit, empty for ratios.
        better: which way is better.
        digits: decimals shown.
        meaning: one sentence for the report.
    """

    name: str
    title: str
    unit: str
    better: Better
    digits: int
    meaning: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """All that is measured of one model after one request.

    Accuracies and membership inference are in percent, times in seconds (compilation apart).
    ``None`` stands for what a method does not have (the original model has no online time).

    Attributes:
        method: registered name of the method, or ``original``.
        retain_accuracy: on the retain set (RA).
        forget_accuracy: on the forget set (FA). Its target is the retrained model's.
        train_accuracy: on the whole training set (TrA).
        test_accuracy: on the test split less the remembrance samples (TeA).
        mia: accuracy of the loss attack, forget against test. Target: the retrained model's.
        unlearning_metric: 100 (1 - cos) between the gradients on retain and forget set (UM).
        reduction: size of what the online phase trained on over the size of the retain set (eta).
        online_s: all that depends on the request: protocol and training (UT).
        offline_s: all that was done before any request.
        compile_s: compilation, in neither of the two.
        online_flops: floating-point operations of all that the request caused, convolutions
            counted alike on every machine.
        unsolved: relative residual of a method's systems of equations, where they were not solved
            to its tolerance; ``None`` where they were, or it has none.
        gap: mean absolute difference to the retrained model over RA, FA, TeA and MIA.
        tug_of_war: product over forget, retain and test of (1 - |accuracy difference|).
        own: metrics of the user's own by name (``metrics.own``).
    """

    method: str
    retain_accuracy: float
    forget_accuracy: float
    train_accuracy: float
    test_accuracy: float
    mia: float
    unlearning_metric: float
    reduction: float | None = None
    online_s: float | None = None
    offline_s: float | None = None
    compile_s: float | None = None
    online_flops: float | None = None
    unsolved: float | None = None
    gap: float | None = None
    tug_of_war: float | None = None
    own: Mapping[str, float] = dataclasses.field(default_factory=dict, hash=False)

    def value(self, name: str) -> Any:
        """A field by name, or as ``own.NAME`` a metric of the user's own; ``None`` if not there.

        Args:
            name: of a field, or of one in ``own``.
        """
        return self.own.get(name[len(OWN) :]) if name.startswith(OWN) else getattr(self, name)

    def row(self) -> dict[str, Any]:
        """All of it as one flat row of names and values, as files have it."""
        fields = dataclasses.asdict(self)
        own = fields.pop("own")
        return fields | {OWN + name: value for name, value in own.items()}


_NEAR: Better = "nearer the retrained model"
METRICS: tuple[Metric, ...] = (
    Metric("retain_accuracy", "RA", "%", _NEAR, 2, "accuracy on the retained samples"),
    Metric(
        "forget_accuracy",
        "FA",
        "%",
        _NEAR,
        2,
        "accuracy on the forgotten samples; neither 0 nor 100 is the goal but the retrained value",
    ),
    Metric("train_accuracy", "TrA", "%", _NEAR, 2, "accuracy on the whole training set"),
    Metric("test_accuracy", "TeA", "%", _NEAR, 2, "accuracy on test images never trained on"),
    Metric(
        "mia",
        "MIA",
        "%",
        _NEAR,
        2,
        "accuracy of telling forgotten from test images by their loss; 50 is chance",
    ),
    Metric(
        "unlearning_metric",
        "UM",
        "",
        "for information",
        2,
        "100 (1 - cosine) between the loss gradients on retain and forget set",
    ),
    Metric(
        "reduction",
        "eta",
        "",
        "lower",
        3,
        "images the online phase trains on, over the size of the retain set",
    ),
    Metric("online_s", "UT", "s", "lower", 2, "seconds from the request to the new model"),
    Metric("offline_s", "offline", "s", "lower", 2, "seconds spent before any request"),
    Metric("compile_s", "compile", "s", "for information", 2, "compilation, in neither time"),
    Metric("online_flops", "FLOPs", "", "lower", 0, "operations that a request costs"),
    Metric("gap", "gap", "", "lower", 2, "mean distance to the retrained RA, FA, TeA and MIA"),
    Metric(
        "tug_of_war", "ToW", "", "higher", 3, "closeness to the retrained accuracies, 1 at best"
    ),
)
"""Every number of a ``Measurement``, in the order of the columns."""


def own_columns(measurements: Iterable[Measurement]) -> tuple[Metric, ...]:
    """The metrics of the user's own that some row has, in the order in which they first occur."""
    names = dict.fromkeys(name for measurement in measurements for name in measurement.own)
    meaning = "a metric of your own"
    return tuple(Metric(OWN + name, name, "", _NEAR, 4, meaning) for name in names)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trajectory:
    """Accuracies over the online time of one method (clock stopped while measuring).

    Attributes:
        method: as in ``Measurement``.
        seconds: online seconds passed at each point, rising, starting at 0.
        retain: retain accuracy (%) at each point; ``forget`` and ``test`` likewise.
    """

    method: str
    seconds: tuple[float, ...]
    retain: tuple[float, ...]
    forget: tuple[float, ...]
    test: tuple[float, ...]
