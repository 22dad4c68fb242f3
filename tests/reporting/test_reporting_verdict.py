import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcmu_jax.metrics.measurement import Measurement
from dcmu_jax.reporting import summarise
from dcmu_jax.reporting.cells import name_of


def warning(sentences):
    return next((s for s in sentences if s.startswith("Warning: ")), "")


def test_what_came_out_in_plain_sentences(measurements):
    first, second, third, last = summarise(measurements, "class:2")
    assert first == (
        "Asked to forget class:2: retraining from scratch leaves 1.0 % accuracy on the forgotten "
        "images; recommended leaves 1.5 %, [red]paper 63.0 %, the original 99.0 %."
    )
    assert "recommended 97.3 % and 88.0 %" in second
    assert "the retrained model 98.5 % and 88.0 %" in second
    assert "retraining 8.00 s: recommended 0.25x that (2.00 s, after 13.00 s" in third
    # 13 s of preparation, 6 s saved at each request.
    assert "preparation made once, repaid at request 3); [red]paper" in third
    assert last.startswith("Warning: [red]paper did not forget (63.0 %")
    assert "recommended" not in last


def test_a_class_that_stays_is_warned_of(original, retrained, method):
    stays = summarise([original, retrained, method("paper", forget_accuracy=99.0)], "class:2")
    assert "paper did not forget" in warning(stays)
    partly = summarise([original, retrained, method("paper", forget_accuracy=37.0)], "class:2")
    assert "paper forgot only in part (37.0 %" in warning(partly)
    gone = summarise([original, retrained, method("good", forget_accuracy=5.9)], "class:2")
    assert not warning(gone) and len(gone) == 3


def test_forgetting_too_much_and_lost_accuracy_are_warned_of(original, retrained, method):
    retrained = dataclasses.replace(retrained, forget_accuracy=80.0)
    over = method("over", forget_accuracy=30.0, test_accuracy=70.0)
    said = warning(summarise([original, retrained, over], "random:0.1"))
    assert "over forgot more than retraining does (30.0 %" in said
    assert "over lost 18.0 points of test accuracy" in said
    assert "did not forget" not in said


def test_accuracy_that_cannot_tell_is_said(original, retrained, method):
    near = dataclasses.replace(retrained, forget_accuracy=96.0)
    first, *_ = summarise([original, near, method("m", forget_accuracy=97.0)], "random:0.1")
    assert "hardly shows in accuracy" in first
    # What forgot far too much shows it.
    first, *_ = summarise([original, near, method("m", forget_accuracy=0.0)], "random:0.1")
    assert "hardly shows" not in first


def test_missing_rows(original, retrained, method):
    one = method("m", online_s=1.5)
    alone = summarise([original, one], "ids")
    assert "no retrained model was measured" in alone[0] and "m leaves 1.0 %" in alone[0]
    assert alone[-1] == "Time from the request to the new model: m 1.50 s."
    assert "no retrained model" in summarise([], "ids")[0]
    assert "the original 99.0 %" in summarise([original, retrained], "ids")[0]
    without_original = summarise([retrained, method("m", forget_accuracy=90.0)], "ids")
    assert "m forgot only in part" in warning(without_original)
    timeless = summarise([retrained, method("m", online_s=None)], "ids")
    assert len(timeless) == 2


def test_preparation_that_never_pays_off(retrained, method):
    slow = method("slow", online_s=9.0, offline_s=1.0)
    assert "1.12x that (9.00 s, after 1.00 s of preparation made once, never repaid)" in " ".join(
        summarise([retrained, slow], "ids")
    )


def said_of(original, retrained, method, **accuracies):
    o, r, m, test = (accuracies[name] for name in ("o", "r", "m", "test"))
    rows = [dataclasses.replace(retrained, forget_accuracy=r)]
    if o is not None:
        rows.insert(0, dataclasses.replace(original, forget_accuracy=o))
    return warning(summarise([*rows, method("m", forget_accuracy=m, test_accuracy=test)], "ids"))


@pytest.mark.parametrize(
    ("o", "r", "m", "test", "says"),
    [
        (90.0, 90.5, 40.0, 88.0, "m forgot more than retraining does (40.0 %"),
        (100.0, 92.9, 0.8, 0.0, "m lost 88.0 points of test accuracy against retraining, so that"),
        (99.0, 1.0, 0.8, 0.0, "0.8 % on the forgotten images, beside the retrained model's 1.0 %"),
        (99.0, 1.0, 40.0, 30.0, "does not show that it forgot"),
        (92.9, 92.9, 100.0, 88.0, "m is above the retrained model and the original (100.0 %"),
        (90.0, 92.9, 100.0, 88.0, "m is above the retrained model and the original (100.0 %"),
        (98.0, 92.9, 100.0, 88.0, "m did not forget (100.0 %"),
        (99.0, 1.0, 63.0, 88.0, "m did not forget (63.0 % on the forgotten images, nearer"),
        (99.0, 1.0, 37.0, 88.0, "m forgot only in part (37.0 %"),
        (99.0, 80.0, 30.0, 70.0, "m forgot more than retraining does (30.0 %"),
        (100.0, 92.9, 84.0, 80.0, "does not show that it forgot"),
        (60.0, 90.0, 62.0, 88.0, "m did not come up to the retrained model (62.0 %"),
        (60.0, 90.0, 40.0, 88.0, "m forgot more than retraining does (40.0 %"),
        (None, 1.0, 90.0, 88.0, "m forgot only in part or not at all (90.0 %"),
        (None, 90.0, 40.0, 88.0, "m forgot more than retraining does (40.0 %"),
        (float("nan"), 1.0, 90.0, 88.0, "m forgot only in part or not at all (90.0 %"),
        (99.0, 1.0, float("nan"), 88.0, "m cannot be judged"),
        (99.0, float("nan"), 1.0, 88.0, "m cannot be judged"),
        (99.0, 1.0, 1.5, 82.0, "m lost 6.0 points of test accuracy against retraining."),
        (99.0, 1.0, 6.04, 88.0, ""),
        (99.0, 1.0, 1.5, 88.0, ""),
    ],
)
def test_the_side_of_the_retrained_model_decides(original, retrained, method, o, r, m, test, says):
    said = said_of(original, retrained, method, o=o, r=r, m=m, test=test)
    assert says in said if says else not said


TRIPLES = [(r, m, 2 * m - r) for r in range(1, 420, 7) for m in range(r + 51, 500, 9)]


def points(*tenths):
    """Of original, retrained model and method."""
    return dict(zip("orm", (t / 10 for t in tenths), strict=True), test=88.0)


def test_no_rounding_decides_where_a_method_lies(original, retrained, method):
    """In tenths of a point; at the middle, at a distance of 5.0, and a tenth beside either."""
    for r, m, o in [(501, 602, 703), *TRIPLES]:  # 70.3 - 60.2 < 60.2 - 50.1 in floats
        rows = original, retrained, method
        assert "m forgot only in part (" in said_of(*rows, **points(o, r, m))
        assert "m forgot only in part (" in said_of(*rows, **points(o, r, m - 1)) or m - 1 == r + 50
        assert "m did not forget (" in said_of(*rows, **points(o, r, m + 1))
        assert not said_of(*rows, **points(o, r, r + 50)), r
        assert said_of(*rows, **points(o, r, r + 51)), r
        assert "is above the retrained model and the original" in said_of(*rows, **points(r, r, m))
        assert "forgot more" in said_of(*rows, **points(o, m, r))
        near = said_of(*rows, **points(m - 50, m, m - 51))  # the original is near the retrained
        assert "forgot more" in near
        lower = said_of(*rows, **points(r, m, r - 50)) if r >= 50 else "did not come up"
        assert "did not come up" in lower


ROW = {name: 50.0 for name in ("retain_accuracy", "train_accuracy", "mia", "unlearning_metric")}
ORIGINAL = Measurement(method="original", forget_accuracy=99.0, test_accuracy=90.0, **ROW)
RETRAINED = Measurement(method="retrain", forget_accuracy=1.0, test_accuracy=88.0, **ROW)
PERCENT = st.one_of(st.floats(0, 100), st.integers(0, 1000).map(lambda tenths: tenths / 10))


@settings(max_examples=400, deadline=None)
@given(o=st.none() | PERCENT, r=PERCENT, m=PERCENT, test=PERCENT)
def test_no_clause_contradicts_the_numbers(o, r, m, test):
    """Each clause is checked against the numbers that are printed, never against the code."""

    def method(name, **fields):
        return dataclasses.replace(RETRAINED, method=name, **fields)

    said = said_of(ORIGINAL, RETRAINED, method, o=o, r=r, m=m, test=test)
    o, r, m, test = (None if x is None else round(x, 1) for x in (o, r, m, test))
    best, near = RETRAINED.test_accuracy, 5.0 + 1e-9
    clauses = said.removeprefix("Warning: ").removesuffix(".").split("; ") if said else []
    words = [next(w for w in WORDS if w in clause) for clause in clauses]
    assert len(words) == len(set(words))
    ruined = "does not show that it forgot" in said
    assert (best - test > near) == ("lost" in words)
    if test < best / 2 - 1e-9:
        assert ruined and words == ["lost"]
    if ruined:
        assert words == ["lost"]
        return
    if abs(m - r) <= near:
        assert not set(words) - {"lost"}
    else:
        assert len(set(words) - {"lost"}) == 1
    if "forgot more" in words:
        assert m < r - 5 and (o is None or m < o or abs(o - r) <= near)
    if "did not come up" in words:
        assert m < r - 5 and o < r - 5 and m >= o - near
    if "did not forget" in words:
        assert m > r + 5 and o > r and (m >= o or o - m < m - r + 1e-9)
    if "forgot only in part" in words:
        assert m > r + 5 and (o is None or (m < o and o - m >= m - r - 1e-9))
    if "is above" in words:
        assert m > r + 5 and m > o


WORDS = (
    "lost",
    "forgot more",
    "did not come up",
    "did not forget",
    "forgot only in part",
    "is above",
)


def test_equations_left_unsolved_are_told_and_marked(measurements, method):
    rows = [*measurements, method("influence", unsolved=0.25)]
    said = summarise(rows, "class:1")
    assert [text for text in said if "influence (0.25)" in text and text.startswith("Warning:")]
    assert not [text for text in summarise(measurements, "class:1") if "equations" in text]
    assert [name_of(m) for m in rows[-2:]] == [rows[-2].method, "influence *"]
    assert "its damping (RunConfig.settings)" in said[-1]


def test_the_guide_has_every_warning():
    guide = Path(__file__).parents[2] / "docs" / "guides" / "reading_the_report.md"
    text = " ".join(guide.read_text().split())
    assert not [words for words in (*WORDS, "cannot be judged", "not solved") if words not in text]
