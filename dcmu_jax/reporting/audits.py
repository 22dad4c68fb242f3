"""An audit as a table, as sentences, and as a figure of ROC curves on logarithmic axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from dcmu_jax.audits.audit import (
    ENOUGH_ORACLES,
    MEMBERSHIP,
    SHOWN,
    STATISTICS,
    NetworkAudit,
    Statistic,
    possible,
)
from dcmu_jax.audits.class_traces import TRACES, Trace
from dcmu_jax.audits.population import Population
from dcmu_jax.audits.roc import roc_curve
from dcmu_jax.errors import InputError
from dcmu_jax.reporting import style
from dcmu_jax.reporting.sections import Conclusion, Drawn, Numbers, Section
from dcmu_jax.reporting.tables import terminal

TITLES = {
    "loss_auc": "AUC loss",
    "lira_auc": "AUC LiRA",
    "forget_excess": "excess",
    "forget_difference": "diff. forget",
    "retain_difference": "diff. retain",
    "test_difference": "diff. test",
    "forget_accuracy": "FA (%)",
    "retain_accuracy": "RA (%)",
    "test_accuracy": "TeA (%)",
    "lira_tpr_at_1_percent": "TPR at 1 % FPR",
}
"""Statistic -> heading."""

MEANINGS = (
    "A network passes when each of these numbers lies where one more network that never saw the "
    "forgotten samples would (in brackets: its distance from the mean of those, in their standard "
    "deviations). It remembers when the forgotten samples look like members beyond that, and "
    "differs when it does not, but is told from such networks all the same. AUC: of telling "
    "forgotten samples from test samples. Excess: how much surer of forgotten than of test "
    "samples; diff.: mean difference of the margins; both in standard deviations of the margin."
)
"""What the table of an audit shows."""


def audit_numbers(audits: Sequence[NetworkAudit]) -> Numbers:
    """The table of an audit: a row for each network, the oracles' range first.

    Args:
        audits: of one request, one or more.
    """
    names = (*STATISTICS, *SHOWN)
    bands = {name: audits[0].statistics[name].band for name in names}
    ends = [possible(name, band.low, band.high) for name, band in bands.items()]
    lowest = ["oracles", "", *(f"{_rounded(low, 2)}..{_rounded(high, 2)}" for low, high in ends)]
    rows = [
        [audit.kind, _verdict(audit), *(_text(audit.statistics[name]) for name in names)]
        for audit in audits
    ]
    return Numbers(
        "Networks compared with ones that never saw the forgotten samples",
        ["network", "audit", *(TITLES[name] for name in names)],
        [lowest, *rows],
        f"{MEANINGS} The last four columns decide nothing.",
        reference=True,
    )


TRACE_TITLES = {
    "knn_class": "k-NN class",
    "knn_excess": "k-NN excess",
    "knn_rest": "k-NN rest",
    "linear_class": "linear class",
    "linear_excess": "linear excess",
    "linear_rest": "linear rest",
    "relearning_epochs": "relearning",
}
"""Trace -> heading."""

TRACE_MEANINGS = (
    "Accuracy (%) of a nearest-neighbour vote and of a logistic regression fitted to the features "
    "of training images, half of the forgotten ones among them: on the forgotten class, and on "
    "test images of the rest. Excess: on forgotten training images less on test images of their "
    "class, in points. Relearning: epochs on the forgotten class until it is known as before, one "
    "more than tried if it is not. A star marks what lies outside the oracles' range, as one more "
    "oracle's number would with a probability of 2 in (oracles + 1). None of this decides whether "
    "a network passes."
)
"""What the table of a class's traces shows."""


def trace_numbers(traces: Mapping[str, Mapping[str, Trace]]) -> Numbers:
    """The table of a class's traces: a row for each network, the oracles' range first.

    Args:
        traces: by network, one or more.
    """
    first = next(iter(traces.values()))
    bands = (first[name] for name in TRACES)
    ranges = ["oracles", *(f"{_rounded(t.low)}..{_rounded(t.high)}" for t in bands)]
    rows = [
        [kind, *(f"{_rounded(t[name].value)}{'' if t[name].within else ' *'}" for name in TRACES)]
        for kind, t in traces.items()
    ]
    return Numbers(
        "What is left of the forgotten class in features and parameters",
        ["network", *(TRACE_TITLES[name] for name in TRACES)],
        [ranges, *rows],
        TRACE_MEANINGS,
        reference=True,
    )


def trace_sentences(traces: Mapping[str, Mapping[str, Trace]]) -> list[str]:
    """What of a class is left beyond every oracle, a sentence for each that was to forget it."""
    found = []
    for kind, own in traces.items():
        if kind == "original":
            continue
        beyond = [
            TRACE_TITLES[name]
            for name, trace in own.items()
            if (
                trace.value < trace.low if name == "relearning_epochs" else trace.value > trace.high
            )
            and not name.endswith("_rest")
        ]
        if beyond:
            found.append(
                f"{kind} keeps more of the class inside than any of the oracles "
                f"({', '.join(beyond)})."
            )
        else:
            found.append(f"{kind} keeps no more of the class inside than the oracles do.")
    return found


def trace_table(traces: Mapping[str, Mapping[str, Trace]], title: str) -> Table:
    """What is left of a class, for the terminal; 105 columns.

    Args:
        traces: by network, one or more.
        title: printed as it is, without markup.
    """
    return terminal(trace_numbers(traces)._replace(caption=title))


def _verdict(audit: NetworkAudit) -> str:
    return "passed" if audit.passed else "remembers" if audit.remembers else "differs"


def _text(statistic: Statistic) -> str:
    off = statistic.deviations
    beside = f"{round(off, 1) + 0.0:+.1f}" if math.isfinite(off) else "inf"
    return f"{_rounded(statistic.value, 2)} ({beside})"


def _rounded(value: float, digits: int = 0) -> str:
    """A number that is rounded to zero has no sign, which would read as a difference."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def audit_table(audits: Sequence[NetworkAudit], title: str) -> Table:
    """The audit for the terminal: verdict, distance and the numbers that decide; 105 columns.

    Args:
        audits: of one request, one or more.
        title: printed as it is, without markup.
    """
    whole, shown = audit_numbers(audits), 2 + len(STATISTICS)
    rows = [row[:shown] for row in whole.rows]
    return terminal(Numbers(title, whole.headings[:shown], rows, MEANINGS), words=2)


def audit_sentences(audits: Sequence[NetworkAudit]) -> list[str]:
    """What the audit found, a sentence for each network that was made to forget.

    The number in a sentence is one that shows what the sentence says: for "remembers" the largest
    above its band of those that are high where a network remembers, and so on.
    """
    found = []
    for audit in audits:
        if audit.kind == "original":
            continue
        s = audit.statistics
        above = [name for name in MEMBERSHIP if s[name].value > s[name].band.high]
        below = [name for name in MEMBERSHIP if s[name].value < s[name].band.low]
        outside = [name for name in STATISTICS if not s[name].within]
        if audit.passed:
            text = (
                f"is not told from {audit.oracles} networks that never saw the forgotten samples "
                "by any of the tests; a stronger one might."
            )
        elif above:
            text = "remembers: the forgotten samples look like members beyond what networks show "
            text += f"that never saw them ({_furthest(audit, above)})."
        elif below:
            text = "differs: it is less sure of the forgotten samples than networks that never saw "
            text += f"them ({_furthest(audit, below)}), which gives them away as well."
        else:
            text = "differs: it does not remember the forgotten samples, but is told from "
            text += f"networks that never saw them ({_furthest(audit, outside)})."
        found.append(f"{audit.kind} {text}")
    return found


def few_oracles(count: int) -> str:
    """A sentence where there are too few oracles for a pass to say much; else empty."""
    if count >= ENOUGH_ORACLES:
        return ""
    return (
        f"{count} oracles are few: the ranges are so wide that a pass says little. Take "
        f"{ENOUGH_ORACLES} or more."
    )


def _furthest(audit: NetworkAudit, names: Sequence[str]) -> str:
    """The one of these statistics that lies furthest off, with its distance."""
    worst = max(names, key=lambda name: abs(audit.statistics[name].deviations))
    off = audit.statistics[worst].deviations
    return f"{TITLES[worst]} is {off:+.1f} of their standard deviations off"


def audit_section(
    audits: Sequence[NetworkAudit], traces: Mapping[str, Mapping[str, Trace]], curves: Figure
) -> Section:
    """The section of an audit.

    Args:
        audits: of one request, one or more.
        traces: of a class, by network; empty where none was forgotten.
        curves: from ``roc_figure``.
    """
    drawn = Drawn(
        "audit",
        "Telling forgotten samples from test samples of their classes by offline LiRA.",
        curves,
        Conclusion(
            "A network that lies above all the grey lines, which never saw the forgotten samples, "
            "gives them away to this attack.",
            "That a network lies among them does not show that it forgot: they are few, and "
            "another attack may see more.",
        ),
    )
    tables = [audit_numbers(audits), *([trace_numbers(traces)] if traces else [])]
    return Section("Audit", audit_sentences(audits) + trace_sentences(traces), tables, [drawn])


def roc_figure(
    targets: Population, oracles: Population, forget_ids: np.ndarray, test_ids: np.ndarray
) -> Figure:
    """ROC curves of offline LiRA on logarithmic axes, each network with the oracles' in grey.

    Args:
        targets: the audited networks.
        oracles: networks that never saw the forgotten samples.
        forget_ids: members.
        test_ids: non-members: test samples of the same classes.

    Raises:
        InputError: no forgotten samples or no test samples.
    """
    if not len(forget_ids) or not len(test_ids):
        raise InputError(
            f"ROC curves of {len(forget_ids)} forgotten and {len(test_ids)} test samples",
            "one or more of each",
            "Forget something, and leave test samples of its classes",
        )
    at = np.concatenate([oracles.positions(forget_ids), oracles.positions(test_ids, test=True)])
    member = np.arange(len(at)) < len(forget_ids)
    known = oracles.margins[:, at].astype(np.float64)
    least = 1 / len(test_ids)
    figure, (axes,) = style.panels((6.2, 5.0))
    for number, margins in enumerate(known):
        others = np.delete(known, number, axis=0)
        rates = roc_curve(margins - others.mean(axis=0), member)
        axes.plot(*rates, color="#cccccc", linewidth=0.8, label=None if number else "oracles")
    colors = style.method_colors(targets.kinds)
    for kind, margins in zip(targets.kinds, targets.margins[:, at], strict=True):
        rates = roc_curve(margins.astype(np.float64) - known.mean(axis=0), member)
        axes.plot(*rates, color=colors[kind], linewidth=1.6, label=kind)
    axes.plot([least, 1], [least, 1], color=style.INK, linewidth=0.8, linestyle=":", label="chance")
    axes.set(xscale="log", yscale="log", xlim=(least, 1), ylim=(1 / len(forget_ids), 1.05))
    axes.set_xlabel("false positives: test samples taken for forgotten ones")
    axes.set_ylabel("true positives: forgotten samples found")
    axes.legend(fontsize=style.TEXT_SIZE, frameon=False, loc="lower right")
    return figure
