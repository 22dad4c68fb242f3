"""The sentences of an audit; the table and the sentences of a class's traces."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcmu_jax.audits.audit import SHOWN, STATISTICS, NetworkAudit, Statistic
from dcmu_jax.audits.class_traces import TRACES, Trace
from dcmu_jax.audits.null_band import NullBand
from dcmu_jax.reporting.audits import (
    audit_numbers,
    audit_sentences,
    few_oracles,
    trace_numbers,
    trace_sentences,
)

INSIDE = {name: Trace(50.0, 40.0, 60.0) for name in TRACES}


def traces(**other):
    return INSIDE | {name: Trace(value, 40.0, 60.0) for name, value in other.items()}


def test_the_oracles_range_is_first_and_what_lies_outside_has_a_star():
    _, headings, rows, *_ = trace_numbers({"original": traces(knn_class=60.4), "retrain": traces()})
    assert headings[:2] == ["network", "k-NN class"] and len(headings) == 1 + len(TRACES)
    assert rows[0] == ["oracles"] + ["40..60"] * len(TRACES)
    assert rows[1] == ["original", "60 *"] + ["50"] * (len(TRACES) - 1)
    assert rows[2] == ["retrain"] + ["50"] * len(TRACES)


def test_what_is_rounded_to_zero_has_no_sign():
    _, _, rows, *_ = trace_numbers({"one": INSIDE | {"knn_excess": Trace(-0.4, -0.3, 0.2)}})
    assert [row[2] for row in rows] == ["0..0", "0 *"]
    _, _, rows, *_ = audit_numbers([audit(loss_auc=-0.001)])
    assert rows[1][2] == "0.00 (+0.0)"


def test_more_of_the_class_is_what_counts():
    found = trace_sentences(
        {
            "original": traces(knn_class=90.0),
            "one": traces(linear_excess=61.0, relearning_epochs=39.0),
            # Less of the class, slower relearning and better features of the rest are no trace.
            "other": traces(knn_class=10.0, relearning_epochs=90.0, knn_rest=99.0),
        }
    )
    assert found == [
        "one keeps more of the class inside than any of the oracles (linear excess, relearning).",
        "other keeps no more of the class inside than the oracles do.",
    ]


def test_a_range_is_cut_to_what_the_number_can_be():
    _, headings, rows, *_ = audit_numbers([audit()])
    shown = dict(zip(headings, rows[0], strict=True))
    assert shown["AUC LiRA"] == "0.00..1.00" and shown["excess"] == "-2.00..2.00"
    assert shown["diff. test"] == shown["FA (%)"] == "0.00..2.00"
    assert "4 oracles are few" in few_oracles(4) and not few_oracles(16)


BAND = NullBand(-2.0, 2.0, 0.0, 1.0, 8, 0.99)


def audit(**values):
    statistics = {n: Statistic(values.get(n, 0.0), BAND) for n in (*STATISTICS, *SHOWN)}
    return NetworkAudit("m", statistics, 8)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "is not told from 8 networks"),
        # The number that is furthest off is no sign of remembering where it points the other way.
        ({"lira_auc": 3.0, "loss_auc": -9.0}, "remembers.*AUC LiRA is [+]3.0"),
        ({"forget_excess": 3.0, "retain_difference": 50.0}, "remembers.*excess is [+]3.0"),
        ({"loss_auc": -4.0, "test_difference": 9.0}, "differs.*less sure.*AUC loss is -4.0"),
        ({"retain_difference": 7.0}, "differs: it does not remember.*diff. retain is [+]7.0"),
    ],
)
def test_the_number_in_a_sentence_shows_what_the_sentence_says(values, says):
    [sentence] = audit_sentences([audit(**values)])
    assert re.search(says, sentence)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-9, 9), min_size=6, max_size=6))
def test_a_sentence_never_says_what_its_number_does_not(values):
    found = audit(**dict(zip(STATISTICS, values, strict=True)))
    [sentence] = audit_sentences([found])
    number = re.search(r"is ([+-][0-9.]+) of their", sentence)
    if found.passed:
        assert number is None and "is not told" in sentence
        return
    assert number is not None and abs(float(number[1])) >= 2.0
    assert ("remembers" in sentence) == found.remembers
    assert not found.remembers or float(number[1]) > 0
    assert "less sure" not in sentence or float(number[1]) < 0
