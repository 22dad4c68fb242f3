"""The audit on simulated margins, where what is true is known, and on digits."""

import dataclasses

import numpy as np
import pytest

from dcmu_jax.audits import method_audit
from dcmu_jax.audits.audit import MEMBERSHIP, STATISTICS, audit_networks, audited_sets
from dcmu_jax.audits.method_audit import audit_method
from dcmu_jax.audits.population import Population
from dcmu_jax.errors import InputError

FORGOTTEN, RETAINED, TEST = 60, 240, 200
FORGET_IDS = np.arange(FORGOTTEN)


def _population(count, seed, *, shift=0.0, member=False, common=0.3, kind="oracle"):
    """Models whose margins are hardness + a deviation of the model + noise; ``shift`` on forget."""
    rng = np.random.default_rng(seed)
    total = FORGOTTEN + RETAINED + TEST
    hardness = np.random.default_rng(7).normal(2.0, 2.0, total)
    margins = hardness + common * rng.normal(size=(count, 1)) + rng.normal(size=(count, total))
    margins[:, FORGOTTEN : FORGOTTEN + RETAINED] += 2.0
    margins[:, :FORGOTTEN] += shift
    members = np.zeros((count, total), bool)
    members[:, FORGOTTEN : FORGOTTEN + RETAINED] = True
    members[:, :FORGOTTEN] = member
    forgotten = members & (np.arange(total) < FORGOTTEN) & (kind not in ("oracle", "original"))
    return Population(
        margins=margins.astype(np.float32),
        correct=margins > 0,
        member=members,
        forgotten=forgotten,
        kinds=(kind,) * count,
        ids=np.concatenate([np.arange(FORGOTTEN + RETAINED), np.arange(TEST)]),
        labels=np.tile(np.arange(4, dtype=np.int32), total // 4),
        test=np.arange(total) >= FORGOTTEN + RETAINED,
        data_fingerprint="simulated",
    )


def _audit(target, oracles=None, **options):
    return audit_networks(target, oracles or _population(12, 0), FORGET_IDS, **options)


def test_a_network_that_kept_the_samples_remembers():
    [audit] = _audit(_population(1, 1, shift=2.0, member=True, kind="original"))
    assert audit.remembers and not audit.passed
    assert all(audit.statistics[name].deviations > 4 for name in MEMBERSHIP)


def test_one_that_forgot_too_much_differs_but_does_not_remember():
    [audit] = _audit(_population(1, 1, shift=-3.0, member=True, kind="scrub"))
    assert not audit.passed and not audit.remembers
    assert audit.statistics["forget_excess"].deviations < -4


def test_the_controls_are_test_samples_of_the_forgotten_classes_unless_all_are_asked_for():
    population = _population(12, 0)
    forget = FORGET_IDS[population.labels[:FORGOTTEN] == 2]
    same, every = (
        audited_sets(population, forget, None, control) for control in ("same_class", "all")
    )
    assert set(population.labels[same.control]) == {2} and population.test[same.control].all()
    assert len(same.control) == TEST // 4 and len(every.control) == TEST


def test_the_further_the_less_was_forgotten():
    shifts = (0.0, 1.0, 2.0)
    found = [_audit(_population(1, 3, shift=s, member=True, kind="m"))[0].distance for s in shifts]
    assert found == sorted(found) and found[1] > 4


def test_oracles_pass_as_often_as_stated():
    # Each against oracles of its own; 0.97 is stated, 3 sigma of 100 draws are below it.
    passed = [
        _audit(_population(1, 10_000 + seed), _population(12, seed))[0].passed
        for seed in range(100)
    ]
    assert np.mean(passed) >= 0.97 - 3 * np.sqrt(0.97 * 0.03 / 100)


def test_each_oracle_is_measured_as_a_target_is():
    """An oracle that is left out gives the value that it gives as a target of the others."""
    oracles = _population(6, 0)
    rest = oracles.models(range(5))
    [audit] = _audit(oracles.models([5]), rest)
    # Leaving out one more of five: the mean over the choices lies among its own values.
    values = [
        _audit(oracles.models([5]), rest.models(np.delete(np.arange(5), i)))[0].statistics
        for i in range(5)
    ]
    for name in STATISTICS:
        found = [value[name].value for value in values]
        spread = max(found) - min(found) + 0.05
        assert min(found) - spread <= audit.statistics[name].value <= max(found) + spread


def test_a_ruined_network_is_told_by_what_it_should_have_kept():
    ruined = _population(1, 1)
    margins = ruined.margins.copy()
    margins[:, FORGOTTEN : FORGOTTEN + RETAINED] -= 4
    [audit] = _audit(dataclasses.replace(ruined, margins=margins))
    assert not audit.passed and not audit.remembers
    assert audit.statistics["retain_difference"].deviations > 4


def test_what_cannot_be_audited_is_refused():
    oracles = _population(12, 0)
    with pytest.raises(InputError, match=r"The audit with 3 oracle models.*4 or more"):
        _audit(oracles.models([0]), oracles.models(range(3)))
    with pytest.raises(InputError, match=r"12 of 12 oracles were trained on"):
        _audit(oracles.models([0]), _population(12, 0, member=True))
    with pytest.raises(InputError, match="different examples"):
        _audit(dataclasses.replace(oracles, data_fingerprint="other"))
    with pytest.raises(InputError, match="0 controls"):
        _audit(oracles.models([0]), usable_test_ids=np.array([], np.int64))


def test_a_method_that_does_nothing_is_told_from_oracles_and_retraining_is_not():
    oracles = _population(60, 0)
    nothing, exact = (
        audit_method(
            _population(40, seed, shift=shift, member=True, kind=kind), oracles, FORGET_IDS
        )
        for kind, seed, shift in (("nothing", 1, 3.0), ("exact", 2, 0.0))
    )
    assert nothing.u_lira.auc[0] > 0.9 and not nothing.u_lira_null.contains(0.9)
    assert exact.u_lira_null.contains(exact.u_lira.auc[0])
    assert nothing.klom["forget"] > 2 * exact.klom["forget"]
    for name in ("forget", "retain", "test"):
        assert exact.klom[name] < 1.5 * exact.klom_null[name].high
    assert nothing.klom["retain"] < 1.5 * nothing.klom_null["retain"].high
    assert nothing.quality < exact.quality / 2
    assert (exact.networks, exact.oracles) == (40, 60)


def test_the_band_holds_99_of_100_draws(monkeypatch):
    # F of the draws of oracles are 0, 1, .. 200; between them come those of the method.
    qualities = iter(np.repeat(np.arange(201.0), 2))
    monkeypatch.setattr(method_audit, "example_quality", lambda *_: np.array([next(qualities)]))
    found = method_audit.audit_method(
        _population(3, 2, member=True, kind="m"), _population(6, 0), FORGET_IDS, repeats=201
    )
    band = found.quality_null
    assert (band.low, band.high, band.level) == (pytest.approx(1), pytest.approx(199), 0.99)
    assert band.mean == pytest.approx(100) and band.std == pytest.approx(58.168, abs=1e-3)


def test_a_method_needs_networks_enough():
    with pytest.raises(InputError, match=r"5 oracle models.*6 or more"):
        audit_method(_population(8, 1, member=True, kind="m"), _population(5, 0), FORGET_IDS)
    with pytest.raises(InputError, match=r"2 m models.*3 or more"):
        audit_method(_population(2, 1, member=True, kind="m"), _population(8, 0), FORGET_IDS)


def test_a_method_is_not_audited_by_oracles_of_other_data_or_that_saw_everything():
    method, oracles = _population(8, 1, member=True, kind="m"), _population(8, 0)
    for other in (
        dataclasses.replace(oracles, data_fingerprint="other"),
        dataclasses.replace(oracles, ids=oracles.ids[::-1]),
    ):
        with pytest.raises(InputError, match="of different examples"):
            audit_method(method, other, FORGET_IDS)
    with pytest.raises(InputError, match="8 of 8 oracles were trained on"):
        audit_method(method, _population(8, 0, member=True), FORGET_IDS)
