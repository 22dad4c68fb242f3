"""What stands beside the figures of the condensed model: what they show, and what they do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dcmu_jax.reporting.condensed_model import interval
from dcmu_jax.reporting.sections import Conclusion

Rows = Sequence[Mapping[str, Any]]

DIAGRAM = Conclusion(
    "The diagram shows which parts train in each stage and on which images, with the small final "
    "thrown away before the target comes.",
    "It shows nothing of how much is learnt or forgotten.",
)
"""Beside figure 11."""


def _values(rows: Rows, name: str, target: str, field: str) -> list[float]:
    return [
        row[field]
        for row in rows
        if row["row"] == name and row["target"] == target and row[field] is not None
    ]


def _shown(values: Sequence[float]) -> str:
    if not values:
        return "not measured"
    mean, half = interval(values)
    return f"{mean:.1f} %" if len(values) < 2 else f"{mean:.1f} ± {half:.1f} %"


def comparison_conclusion(rows: Rows) -> Conclusion:
    """Two sentences beside figure 4, of the first target.

    Args:
        rows: of figure 4.
    """
    target = next(row["target"] for row in rows if row["target"] != "small final")

    def tests(name: str) -> list[float]:
        return _values(rows, name, target, "test_accuracy")

    through, alone = tests("condensed model"), tests("remembrance alone")
    verdict = "with too few seeds to tell them apart"
    if min(len(through), len(alone)) > 1:
        (one, reach), (other, room) = interval(through), interval(alone)
        apart = abs(one - other) > reach + room
        verdict = f"and the intervals of the first two {'do not overlap' if apart else 'overlap'}"
    forgotten = [
        _shown(_values(rows, name, target, "forget_accuracy"))
        for name in ("condensed model", "retrain")
    ]
    ways = {"fdm": "fast distribution matching", "dm": "distribution matching"}
    condensed = "".join(
        f"{_shown(tests(name))} on images condensed by {way}, "
        for name, way in ways.items()
        if tests(name)
    )
    return Conclusion(
        f"Trained on {rows[0]['per_class']} images per class, the target {target} has a test "
        f"accuracy of {_shown(through)} through the unlearned condensed model, "
        f"{_shown(alone)} on the same samples alone, {condensed}beside "
        f"{_shown(tests('retrain'))} when retrained on all that stays, {verdict}.",
        "It cannot be concluded that the request was forgotten "
        f"(FA {forgotten[0]} beside {forgotten[1]} retrained), nor that the target adds to what "
        f"the small final knew "
        f"({_shown(_values(rows, 'small final', 'small final', 'test_accuracy'))}), nor what "
        "other data and wider networks give.",
    )


def curve_conclusion(curve: Rows, small: Sequence[float]) -> Conclusion:
    """Two sentences beside the curve.

    Args:
        curve: its rows.
        small: test accuracies (%) of the unlearned network with its small final.
    """
    counts = sorted({row["per_class"] for row in curve})

    def at(name: str, count: int) -> list[float]:
        return [r["test_accuracy"] for r in curve if r["row"] == name and r["per_class"] == count]

    names = list(dict.fromkeys(r["row"] for r in curve if r["per_class"] == counts[-1]))
    best = max(names, key=lambda name: interval(at(name, counts[-1]))[0])
    return Conclusion(
        f"The best way at {counts[-1]} samples per class ({best}) goes from "
        f"{_shown(at(best, counts[0]))} at {counts[0]} to {_shown(at(best, counts[-1]))}, beside "
        f"{_shown(small)} of the unlearned network with its small final.",
        "It cannot be concluded that the small final's accuracy bounds the target's, nor that "
        "still more samples go on as the curve does, nor which of the ways is better where their "
        "intervals overlap.",
    )
