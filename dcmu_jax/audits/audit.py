"""The audit of a network: is it told from ones that never saw the forgotten samples.

Every statistic stands beside its null band, in which one more oracle would lie. The band comes from
the oracles themselves, each left out once and compared with the others like the audited network.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np

from dcmu_jax.audits.checks import check_models
from dcmu_jax.audits.null_band import NullBand, null_band
from dcmu_jax.audits.population import Population
from dcmu_jax.audits.roc import separation, tpr_at_fpr
from dcmu_jax.errors import InputError, check_fraction

FEWEST_ORACLES = 4
"""Three must be left to spread when one is left out."""
ENOUGH_ORACLES = 16
"""With fewer the ranges are so wide that a pass says little."""


@dataclasses.dataclass(frozen=True)
class Statistic:
    """A number of one network beside what oracles give.

    Attributes:
        value: of the audited network.
        band: in which one more oracle would lie.
    """

    value: float
    band: NullBand

    @property
    def within(self) -> bool:
        """Whether an oracle might have given the value."""
        return self.band.contains(self.value)

    @property
    def deviations(self) -> float:
        """Distance from the oracles' mean in their standard deviations.

        Infinite where the oracles are all equal and the network is not.
        """
        off = self.value - self.band.mean
        if self.band.std == 0:
            return 0.0 if self.within else math.copysign(math.inf, off)
        return off / self.band.std


@dataclasses.dataclass(frozen=True)
class NetworkAudit:
    """The audit of one network.

    Attributes:
        kind: what the network is.
        statistics: name -> value and band; see ``STATISTICS`` and ``SHOWN``.
        oracles: how many oracles it was compared with.
    """

    kind: str
    statistics: Mapping[str, Statistic]
    oracles: int

    @property
    def passed(self) -> bool:
        """Whether every statistic that decides lies within its band."""
        return all(self.statistics[name].within for name in STATISTICS)

    @property
    def remembers(self) -> bool:
        """Whether the forgotten samples stand out as members beyond what oracles show."""
        return any(
            self.statistics[name].value > self.statistics[name].band.high for name in MEMBERSHIP
        )

    @property
    def distance(self) -> float:
        """The largest deviation of any that decides, in standard deviations of the oracles."""
        return max(abs(self.statistics[name].deviations) for name in STATISTICS)


@dataclasses.dataclass(frozen=True)
class AuditedSets:
    """Positions of the examples in the population: forgotten, kept, never seen, and controls."""

    forget: np.ndarray
    retain: np.ndarray
    test: np.ndarray
    control: np.ndarray


def _standardised(target: np.ndarray, oracles: np.ndarray) -> np.ndarray:
    """Margins over what the oracles give, in their standard deviations pooled over examples."""
    spread = np.sqrt(oracles.var(axis=0, ddof=1, dtype=np.float64).mean())
    return (target - oracles.mean(axis=0, dtype=np.float64)) / max(spread, 1e-12)


def _excess(sets: AuditedSets, margins, correct, z) -> float:
    return float(z[sets.forget].mean() - z[sets.control].mean())


def _difference(name: str) -> Callable:
    def difference(sets: AuditedSets, margins, correct, z) -> float:
        return float(np.abs(z[getattr(sets, name)]).mean())

    return difference


def _told_apart(sets: AuditedSets, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the forgotten samples and the controls, and which of them are forgotten."""
    scores = scores[np.concatenate([sets.forget, sets.control])].astype(np.float64)
    return scores, np.arange(len(scores)) < len(sets.forget)


def _lira_auc(sets: AuditedSets, margins, correct, z) -> float:
    return separation(*_told_apart(sets, z), resamples=1).auc[0]


def _lira_tpr(sets: AuditedSets, margins, correct, z) -> float:
    return tpr_at_fpr(*_told_apart(sets, z), 0.01)


def _loss_auc(sets: AuditedSets, margins, correct, z) -> float:
    return separation(*_told_apart(sets, margins), resamples=1).auc[0]


def _accuracy(name: str) -> Callable:
    def accuracy(sets: AuditedSets, margins, correct, z) -> float:
        return 100 * float(correct[getattr(sets, name)].mean())

    return accuracy


STATISTICS: dict[str, Callable[..., float]] = {
    "loss_auc": _loss_auc,
    "lira_auc": _lira_auc,
    "forget_excess": _excess,
    "forget_difference": _difference("forget"),
    "retain_difference": _difference("retain"),
    "test_difference": _difference("test"),
}
"""Name -> statistic of one network that decides whether it passes.

``loss_auc``: of telling forgotten samples from controls by the loss alone. ``lira_auc``: the same
by offline LiRA, with the oracles as shadow models. ``forget_excess``: how much surer of the
forgotten samples than oracles are, in their standard deviations, less the same of the controls.
``SET_difference``: mean absolute difference from the oracles on a set, in the same unit: also what
was forgotten too thoroughly shows, and what was ruined on the way.
"""

MEMBERSHIP = ("loss_auc", "lira_auc", "forget_excess")
"""Of those, the ones that are high where a network remembers what it was to forget."""

SHOWN: dict[str, Callable[..., float]] = {
    "forget_accuracy": _accuracy("forget"),
    "retain_accuracy": _accuracy("retain"),
    "test_accuracy": _accuracy("test"),
    "lira_tpr_at_1_percent": _lira_tpr,
}
"""Name -> what is shown beside its band and decides nothing.

These take few values, so that oracles may all give the same, and a band of a normal distribution
means little. Accuracies are in percent.
"""


def possible(name: str, low: float, high: float) -> tuple[float, float]:
    """The part of a band that its statistic can reach, for showing: what lies within is the same.

    >>> possible("lira_auc", -1.5, 2.5), possible("retain_accuracy", 97.5, 101.0)
    ((0.0, 1.0), (97.5, 100.0))
    """
    if name.endswith("_difference"):
        return max(low, 0.0), high
    if name == "forget_excess":
        return low, high
    most = 100.0 if name.endswith("_accuracy") else 1.0
    return max(low, 0.0), min(high, most)


def audit_networks(
    targets: Population,
    oracles: Population,
    forget_ids: np.ndarray,
    *,
    usable_test_ids: np.ndarray | None = None,
    control: str = "same_class",
    confidence: float = 0.97,
) -> tuple[NetworkAudit, ...]:
    """Audit each network of ``targets``.

    Guarantee: a network that is drawn as the oracles are passes with a probability of at least
    ``confidence``, as far as the statistics of oracles are normal; the bands are wide enough for
    all statistics together (Bonferroni).

    Args:
        targets: the networks, measured on the same examples as the oracles.
        oracles: networks that were not trained on the forgotten samples, 4 or more.
        forget_ids: the forgotten samples.

    Other Args:
        usable_test_ids: of the test split: remembrance samples, which a method may have trained
            on, are left out. All if not given.
        control: ``same_class``: the test samples of the forgotten classes are what the forgotten
            samples are told from; or ``all``.
        confidence: see above.

    Raises:
        InputError: fewer oracles than that, none without the forgotten samples, other examples in
            one population than in the other.
    """
    check_fraction("confidence", confidence)
    check_models("oracle", len(oracles), FEWEST_ORACLES, "The audit")
    check_alike(targets, oracles)
    sets = audited_sets(oracles, forget_ids, usable_test_ids, control)
    level = 1 - (1 - confidence) / len(STATISTICS)
    others = [np.delete(oracles.margins, i, axis=0) for i in range(len(oracles))]
    bands = {}
    left_out = [_standardised(oracles.margins[i], others[i]) for i in range(len(oracles))]
    every = {**STATISTICS, **SHOWN}
    for name, statistic in every.items():
        values = [
            statistic(sets, oracles.margins[i], oracles.correct[i], left_out[i])
            for i in range(len(oracles))
        ]
        bands[name] = null_band(np.array(values), level=level)
    audits = []
    for number, kind in enumerate(targets.kinds):
        margins, correct = targets.margins[number], targets.correct[number]
        # Against as many oracles as each oracle was compared with, on the average over the choices.
        against = [_standardised(margins, rest) for rest in others]
        statistics = {
            name: Statistic(
                float(np.mean([statistic(sets, margins, correct, z) for z in against])),
                bands[name],
            )
            for name, statistic in every.items()
        }
        audits.append(NetworkAudit(kind, statistics, len(oracles)))
    return tuple(audits)


def check_alike(targets: Population, oracles: Population) -> None:
    """Raise unless both were measured on the same examples of the same training set."""
    same = all(np.array_equal(getattr(targets, n), getattr(oracles, n)) for n in ("ids", "test"))
    if not same or targets.data_fingerprint != oracles.data_fingerprint:
        raise InputError(
            "Audited networks and oracles of different examples",
            "both measured on the same examples of the same training set",
            "Measure both on the same splits",
        )


def audited_sets(
    oracles: Population, forget_ids: np.ndarray, usable_test_ids: np.ndarray | None, control: str
) -> AuditedSets:
    """The sets of an audit; see ``audit_networks``, and for what it raises."""
    forget = oracles.positions(forget_ids)
    seen = oracles.member[:, forget].any(axis=1)
    if seen.any():
        raise InputError(
            f"A forget set that {int(seen.sum())} of {len(oracles)} oracles were trained on",
            "oracles that never saw the forgotten samples",
            "Train oracles without them",
        )
    retain = np.setdiff1d(np.flatnonzero(~oracles.test), forget)
    test = np.flatnonzero(oracles.test)
    if usable_test_ids is not None:
        test = oracles.positions(usable_test_ids, test=True)
    chosen = test
    if control == "same_class":
        chosen = test[np.isin(oracles.labels[test], oracles.labels[forget])]
    if not len(chosen) or not len(retain):
        raise InputError(
            f"An audit with {len(retain)} retained samples and {len(chosen)} controls",
            "one or more of each",
            "Bring test samples of the forgotten classes, or set the control to 'all'",
        )
    return AuditedSets(forget, retain, test, chosen)
