"""What a defence found, as a section: the threshold, and a loss attack before and after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dcmu_jax.applications.overfitted import Overfitted
from dcmu_jax.reporting.defence import attack_figure, threshold_figure
from dcmu_jax.reporting.sections import Conclusion, Drawn, Numbers, Section

CAUTION = (
    "A loss threshold is the weakest of attacks: that it finds little proves no privacy, and its "
    "test samples are few at a false-positive rate of 1 %. Hold the network against shadow "
    "networks that were defended in the same way before it is trusted."
)
"""What can be concluded from a run alone, and what cannot."""

BEFORE, AFTER = "original", "defended"


def threshold_conclusion(subset: Overfitted) -> Conclusion:
    """Beside the histogram."""
    count, of = int(subset.chosen.sum()), len(subset.chosen)
    size = ", nearly all of them" if subset.share > 0.9 else ""
    how = "line" if len(set(subset.thresholds[~np.isnan(subset.thresholds)])) == 1 else "lines"
    small = (
        "the surer an attack with shadow models is of it"
        if subset.rule == "lira"
        else "the better the network fits it"
    )
    return Conclusion(
        f"{count} of {of} training samples ({100 * subset.share:.1f} %{size}) lie at or left of "
        f"the dashed {how}, which is the side that the rule {subset.rule} calls overfitted: the "
        f"smaller the value of a sample, {small}.",
        "It cannot be concluded that an attacker finds these samples and not the others, nor, from "
        "the threshold alone, that there are two kinds of samples: it parts any histogram.",
    )


def attack_conclusion(before: Mapping[str, Any], after: Mapping[str, Any]) -> Conclusion:
    """Beside the ROC curves.

    Args:
        before: of the original: ``threshold_auc`` and ``threshold_tpr_at_1_percent``, each a value
            and its interval, and ``test_samples``.
        after: of the defended network.
    """
    (old, low, high), (new, *ends) = before["threshold_auc"], after["threshold_auc"]
    apart = high < ends[0] or ends[1] < low
    return Conclusion(
        "An attacker who sees losses alone tells training from test samples with an AUC of "
        f"{old:.3f} before and {new:.3f} after the defence, 0.5 being chance, and the intervals "
        f"over samples {'do not overlap' if apart else 'overlap'}.",
        "It cannot be concluded that an attacker with shadow models finds no more, nor, from "
        f"{before['test_samples']} test samples, anything of rates below "
        f"{1 / before['test_samples']:.2g}.",
    )


def defence_section(
    title: str,
    subset: Overfitted,
    scores: Mapping[str, np.ndarray],
    member: np.ndarray,
    numbers: Mapping[str, Mapping[str, Any]],
    cost: Mapping[str, float],
    class_names: tuple[str, ...],
) -> Section:
    """The section of one defence.

    Args:
        title: its heading.
        subset: what was unlearned.
        scores: of the loss attack, by ``BEFORE`` and ``AFTER``, float ``(samples,)``.
        member: bool ``(samples,)``.
        numbers: by the same names, see ``attack_conclusion``; also ``train_accuracy`` and
            ``test_accuracy`` (%).
        cost: ``online_s`` and ``offline_s``, seconds.
        class_names: of the data.
    """
    before, after = numbers[BEFORE], numbers[AFTER]
    rows = [
        [
            name,
            f"{own['train_accuracy']:.2f}",
            f"{own['test_accuracy']:.2f}",
            _interval(own["threshold_auc"]),
            _interval(own["threshold_tpr_at_1_percent"]),
        ]
        for name, own in numbers.items()
    ]
    headings = ["network", "TrA (%)", "TeA (%)", "AUC loss", "TPR at 1 % FPR"]
    meaning = (
        "AUC and true-positive rate of telling training from test samples by a threshold on their "
        "loss, with 95 % intervals over samples; 0.5 and 0.01 are chance. Unlearning took "
        f"{cost['online_s']:.2f} s online and {cost['offline_s']:.2f} s before any request."
    )
    curves = {name: own[None] for name, own in scores.items()}
    return Section(
        title,
        sentences=[
            subset.sentence(),
            f"Test accuracy {before['test_accuracy']:.2f} % -> {after['test_accuracy']:.2f} %, "
            f"training accuracy {before['train_accuracy']:.2f} % -> "
            f"{after['train_accuracy']:.2f} %.",
            f"A loss threshold tells training from test samples with an AUC of "
            f"{before['threshold_auc'][0]:.3f} -> {after['threshold_auc'][0]:.3f}; true positives "
            f"at 1 % false ones {before['threshold_tpr_at_1_percent'][0]:.3f} -> "
            f"{after['threshold_tpr_at_1_percent'][0]:.3f}.",
            CAUTION,
        ],
        tables=[Numbers("The network before and after", headings, rows, meaning, reference=True)],
        figures=[
            Drawn(
                "histogram",
                "Histogram of what the samples are chosen by, with its threshold.",
                threshold_figure(subset, class_names),
                threshold_conclusion(subset),
            ),
            Drawn(
                "attack",
                "A threshold on the loss against the network before and after the defence.",
                attack_figure(curves, member[None]),
                attack_conclusion(before, after),
            ),
        ],
    )


def _interval(values: list[float] | tuple[float, float, float]) -> str:
    value, low, high = values
    return f"{value:.3f} ({low:.3f} to {high:.3f})"
