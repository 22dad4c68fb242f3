"""The numbers put into two to four plain sentences, warnings included."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dcmu_jax.metrics.measurement import Measurement
from dcmu_jax.reporting.cells import ORIGINAL, RETRAINED, find, ratio_text, seconds_text

TOLERANCE = 5.0
"""Points of accuracy within which a model counts as being where the retrained model is."""
WARNING = "Warning: "
"""How a sentence begins that a reader must not miss."""


def summarise(measurements: Sequence[Measurement], request_text: str) -> list[str]:
    """What came out, in sentences computed from the numbers.

    The first says how much accuracy on the forgotten images each model has, the second what was
    kept, the third what it took. A last one, beginning with ``Warning:``, names every method that
    did not forget (its forget accuracy is off the retrained model's by more than ``TOLERANCE``
    points and nearer the original's), forgot only in part, forgot more than retraining does, or
    lost test accuracy.

    Args:
        measurements: of the original, the retrained model and the methods; any may be missing.
        request_text: what was to be forgotten, as the user put it.
    """
    original, retrained = find(measurements, ORIGINAL), find(measurements, RETRAINED)
    methods = [m for m in measurements if m.method not in (ORIGINAL, RETRAINED)]
    sentences = [
        _forgotten(original, retrained, methods, request_text),
        _kept(original, retrained, methods),
        _took(retrained, methods),
        _warning(original, retrained, methods),
    ]
    return [sentence for sentence in sentences if sentence]


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
            f"images{listed} have nothing to be held against."
        )
    text = (
        f"{asked}retraining from scratch leaves {_percent(retrained.forget_accuracy)} accuracy "
        "on the forgotten images"
    )
    if rest:
        text += "; " + ", ".join(rest)
    if original and abs(original.forget_accuracy - retrained.forget_accuracy) <= TOLERANCE:
        text += (
            " (original and retrained model are so near each other that forgetting hardly shows "
            "in accuracy: see MIA and the gap)"
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
    if base is not None and not (math.isfinite(base) and base > 0):
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
        if m.offline_s is not None and m.offline_s > 0:
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


def _warning(
    original: Measurement | None, retrained: Measurement | None, methods: list[Measurement]
) -> str:
    if retrained is None:
        return ""
    faults = [fault for m in methods for fault in _faults(m, original, retrained)]
    return f"{WARNING}{'; '.join(faults)}." if faults else ""


def _faults(m: Measurement, original: Measurement | None, retrained: Measurement) -> list[str]:
    """What is wrong with one method, each fault a clause that names it."""
    faults = []
    excess = m.forget_accuracy - retrained.forget_accuracy
    if abs(excess) > TOLERANCE:
        has = f"{_percent(m.forget_accuracy)} on the forgotten images"
        target = f"the retrained model's {_percent(retrained.forget_accuracy)}"
        # Where the original is unknown it is taken to know everything.
        start = original.forget_accuracy if original else 100.0
        if excess * (start - retrained.forget_accuracy) <= 0:
            faults.append(f"{m.method} forgot more than retraining does ({has}, {target})")
        elif abs(m.forget_accuracy - start) < abs(excess) and original:
            faults.append(
                f"{m.method} did not forget ({has}, nearer the original's {_percent(start)} "
                f"than {target})"
            )
        else:
            faults.append(f"{m.method} forgot only in part ({has}, {target})")
    lost = retrained.test_accuracy - m.test_accuracy
    if lost > TOLERANCE:
        faults.append(f"{m.method} lost {lost:.1f} points of test accuracy against retraining")
    return faults
