"""The results in two to four plain sentences, with warnings.

A method is judged by the side of the retrained model on which it lies, not by the size of a
difference alone. With o, r and m for the accuracy on the forgotten images of the original, the
retrained model and the method, each rounded as it is shown, and "near" for 5 points or less:

====================================  ==========================================================
where the method lies                 what is said of it
====================================  ==========================================================
m near r                              nothing
m above r, o unknown                  forgot only in part or not at all
m above r, o at or below r            is above the retrained model and the original
m above r, o above r, m at or over o  did not forget
m above r, m under o, nearer to o     did not forget
m above r, m under o, else, the       forgot only in part
middle included
m below r, o unknown                  forgot more than retraining does
m below r, o below r and not near,
m not below o or near it              did not come up to the retrained model
m below r, else                       forgot more than retraining does
====================================  ==========================================================

Test accuracy comes first: a method that lost more than 5 points of it against retraining is said to
have lost them. Nothing of the table is said, but that its accuracy on the forgotten images does not
show that it forgot, where less than half of the test accuracy is left, or where the loss explains
what is missing on the forgotten images: of retraining's accuracy there if the method is below it by
more than 5 points, of the original's if it is not above the retrained model by more than 5 points
and the original is above the retrained model by more than 5 points; "explains": m is near or above
that accuracy times the share of test accuracy that is left. Where a number is not finite, it is
said that the method cannot be judged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from dcmu_jax.metrics.measurement import Measurement
from dcmu_jax.metrics.telltale import TOLERANCE
from dcmu_jax.reporting.cells import ORIGINAL, RETRAINED, find, ratio_text, seconds_text

_NEAR = round(10 * TOLERANCE)
WARNING = "Warning: "
"""The start of a sentence that a reader must not miss."""


def summarise(measurements: Sequence[Measurement], request_text: str) -> list[str]:
    """The results in sentences computed from the numbers.

    The first says how much accuracy on the forgotten images each model has, the second what was
    kept, the third what it took. A last one, beginning with ``Warning:``, names every method whose
    forget accuracy is off the retrained model's by more than ``TOLERANCE`` points, and on which
    side, and every one that lost as much test accuracy: see the table above. One more
    names those whose equations were left unsolved.

    Args:
        measurements: of the original, the retrained model and the methods; any may be missing.
        request_text: what was to be forgotten, as the user put it.
    """
    original, retrained = find(measurements, ORIGINAL), find(measurements, RETRAINED)
    methods = [m for m in measurements if m.method not in (ORIGINAL, RETRAINED)]
    faults = [f for m in methods if retrained for f in _faults(m, original, retrained)]
    sentences = [
        _forgotten(original, retrained, methods, request_text),
        _kept(original, retrained, methods),
        _took(retrained, methods),
        f"{WARNING}{'; '.join(faults)}." if faults else "",
        _unsolved(methods),
    ]
    return [sentence for sentence in sentences if sentence]


def _unsolved(methods: list[Measurement]) -> str:
    left = [f"{m.method} ({m.unsolved:.2g})" for m in methods if m.unsolved is not None]
    if not left:
        return ""
    return (
        f"{WARNING}the systems of equations of {', '.join(left)} were not solved to the tolerance "
        "asked for (in brackets: what is left, as a share of the right-hand side); the rows "
        "marked * are not what the method's formula says. Raise its iterations or its damping "
        "(RunConfig.settings); for NTK scrubbing, lower its tolerance."
    )


def _percent(value: float) -> str:
    return f"{value:.1f} %" if math.isfinite(value) else "an unknown share"


def _forgotten(
    original: Measurement | None,
    retrained: Measurement | None,
    methods: list[Measurement],
    request: str,
) -> str:
    rest = [f"{m.method} leaves {_percent(m.forget_accuracy)}" for m in methods[:1]]
    rest += [f"{m.method} {_percent(m.forget_accuracy)}" for m in methods[1:]]
    if original:
        rest.append(f"the original {_percent(original.forget_accuracy)}")
    asked = f"Asked to forget {request}: "
    if retrained is None:
        listed = f" ({', '.join(rest)})" if rest else ""
        return (
            f"{asked}no retrained model was measured, so the accuracies on the forgotten "
            f"images{listed} have nothing to be compared with."
        )
    text = (
        f"{asked}retraining from scratch leaves {_percent(retrained.forget_accuracy)} accuracy "
        "on the forgotten images"
    )
    if rest:
        text += "; " + ", ".join(rest)
    ends = [m.forget_accuracy for m in (original, *methods) if m]
    target = retrained.forget_accuracy
    if (
        original
        and all(map(math.isfinite, [target, *ends]))
        and all(abs(_tenths(each) - _tenths(target)) <= _NEAR for each in ends)
    ):
        text += (
            " (the original and all others are so near the retrained model that forgetting hardly "
            "shows in accuracy: see MIA and the gap)"
        )
    return text + "."


def _kept(
    original: Measurement | None, retrained: Measurement | None, methods: list[Measurement]
) -> str:
    if not methods:
        return ""
    named = [(m.method, m) for m in methods]
    named += [("the retrained model", retrained)] if retrained else []
    named += [("the original", original)] if original else []
    listed = ", ".join(
        f"{name} {_percent(m.retain_accuracy)} and {_percent(m.test_accuracy)}" for name, m in named
    )
    return f"Accuracy on the images that stay and on test images: {listed}."


def _took(retrained: Measurement | None, methods: list[Measurement]) -> str:
    base = retrained.online_s if retrained else None
    if base is not None and not 0 < base < math.inf:
        base = None
    parts = []
    for m in methods:
        if m.online_s is None or not math.isfinite(m.online_s):
            continue
        seconds = f"{seconds_text(m.online_s)} s"
        if base is None:
            parts.append(f"{m.method} {seconds}")
            continue
        inside = [seconds]
        if m.offline_s is not None and 0 < m.offline_s < math.inf:
            inside.append(f"after {seconds_text(m.offline_s)} s of preparation made once")
            saved = base - m.online_s
            inside.append(
                f"repaid at request {math.ceil(m.offline_s / saved)}"
                if saved > 0
                else "never repaid"
            )
        parts.append(f"{m.method} {ratio_text(m.online_s / base)} that ({', '.join(inside)})")
    if not parts:
        return ""
    against = f", retraining {seconds_text(base)} s" if base is not None else ""
    return f"Time from the request to the new model{against}: {'; '.join(parts)}."


def _faults(m: Measurement, original: Measurement | None, retrained: Measurement) -> list[str]:
    """What is wrong with one method, each fault a clause that names it."""
    numbers = [m.forget_accuracy, retrained.forget_accuracy, m.test_accuracy]
    numbers.append(retrained.test_accuracy)
    if not all(map(math.isfinite, numbers)):
        return [f"{m.method} cannot be judged, as an accuracy of its or of retraining is unknown"]
    forget, target, test, best = map(_tenths, numbers)
    start = original.forget_accuracy if original else math.nan
    start = _tenths(start) if math.isfinite(start) else None
    lost = best - test
    loss = f"{m.method} lost {lost / 10:.1f} points of test accuracy against retraining"
    if lost > _NEAR and _ruined(forget, target, test, best, start):
        return [
            f"{loss}, so that its {_shown(forget)} on the forgotten images, beside the retrained "
            f"model's {_shown(target)}, does not show that it forgot"
        ]
    faults = [f"{m.method} {said}" for said in [_side(forget, target, start)] if said]
    return faults + [loss] * (lost > _NEAR)


def _tenths(accuracy: float) -> int:
    """An accuracy as it is shown, in tenths of a point: whole numbers have no rounding to decide.

    Else 5.04 points off would be called off beside numbers 5.0 apart, and 60.2 would be nearer to
    70.3 than to 50.1.
    """
    return round(10 * round(accuracy, 1))


def _shown(tenths: int) -> str:
    return _percent(tenths / 10)


def _ruined(forget: int, target: int, test: int, best: int, start: int | None) -> bool:
    """Whether lost test accuracy, of which ``test / best`` is left, explains what is missing."""
    if 2 * test < best or forget < target - _NEAR:
        return 2 * test < best or (forget + _NEAR) * best >= target * test
    if start is None or not forget <= target + _NEAR < start:
        return False
    return (forget + _NEAR) * best >= start * test


def _side(forget: int, target: int, start: int | None) -> str:
    """Where the method lies, in words; empty where it is near the retrained model."""
    excess = forget - target
    if abs(excess) <= _NEAR:
        return ""
    beside = f"{_shown(forget)} on the forgotten images, the retrained model's {_shown(target)}"
    if start is None:
        far = (
            "forgot only in part or not at all"
            if excess > 0
            else "forgot more than retraining does"
        )
        return f"{far} ({beside})"
    with_original = f"({beside}, the original's {_shown(start)})"
    if excess > 0:
        if start <= target:
            return f"is above the retrained model and the original {with_original}"
        if forget >= start:
            return f"did not forget {with_original}"
        if start - forget < excess:
            nearer = f"nearer the original's {_shown(start)} than the retrained model's"
            has = f"{_shown(forget)} on the forgotten images"
            return f"did not forget ({has}, {nearer} {_shown(target)})"
        return f"forgot only in part ({beside})"
    if start < target - _NEAR and forget >= start - _NEAR:
        return f"did not come up to the retrained model {with_original}"
    return f"forgot more than retraining does ({beside})"
