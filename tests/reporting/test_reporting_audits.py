"""The table and the sentences of a class's traces."""

from dcmu_jax.attacks.class_traces import TRACES, Trace
from dcmu_jax.reporting.audits import trace_rows, trace_sentences

INSIDE = {name: Trace(50.0, 40.0, 60.0) for name in TRACES}


def traces(**other):
    return INSIDE | {name: Trace(value, 40.0, 60.0) for name, value in other.items()}


def test_the_oracles_range_is_first_and_what_lies_outside_has_a_star():
    headings, rows = trace_rows({"original": traces(knn_class=60.4), "retrain": traces()})
    assert headings[:2] == ["network", "k-NN class"] and len(headings) == 1 + len(TRACES)
    assert rows[0] == ["oracles"] + ["40..60"] * len(TRACES)
    assert rows[1] == ["original", "60 *"] + ["50"] * (len(TRACES) - 1)
    assert rows[2] == ["retrain"] + ["50"] * len(TRACES)


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
