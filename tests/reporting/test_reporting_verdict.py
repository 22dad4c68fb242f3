import dataclasses

from dcmu_jax.reporting import summarise


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
