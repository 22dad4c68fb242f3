"""Every function of attacks and metrics that takes arrays, given what no array of its kind is.

Run by ``test_doors.py`` in a process of its own, where no type checker stands before the functions;
prints what was not refused by an ``InputError``, or came out otherwise in another dtype.
"""

import itertools
import warnings

import numpy as np

from dcmu_jax.audits.epsilon_bound import epsilon_of_one_run
from dcmu_jax.audits.forgetting_quality import epsilon_of, epsilons, example_quality
from dcmu_jax.audits.klom import klom, klom_null
from dcmu_jax.audits.label_only import gap_attack_scores, label_only_scores
from dcmu_jax.audits.lira import leave_one_out_lira, lira_scores
from dcmu_jax.audits.margins import logit_margins, losses_of
from dcmu_jax.audits.null_band import null_band
from dcmu_jax.audits.rmia import rmia_scores
from dcmu_jax.audits.roc import roc_curve, separation, tpr_at_fpr
from dcmu_jax.audits.shadow import shadow_attack
from dcmu_jax.audits.u_lira import u_lira, u_lira_scores
from dcmu_jax.errors import InputError
from dcmu_jax.metrics.accuracy import accuracies
from dcmu_jax.metrics.membership import control_losses_for, loss_attack
from dcmu_jax.metrics.ranks import rank_methods
from dcmu_jax.metrics.rbe import rbe
from dcmu_jax.metrics.scores import zero_retrain_forgetting

RNG = np.random.default_rng(0)


def whole(*shape):
    """Numbers 0..100, 0 among them, that every dtype but bool holds."""
    numbers = RNG.integers(0, 101, shape).astype(np.float64)
    numbers.flat[0] = 0.0
    return numbers


MODELS = np.tile([True, False], 4)[:, None] ^ (np.arange(6) % 2 == 0)
MEMBER, LABELS = np.arange(8) % 2 == 0, np.arange(6) % 3
# name -> function, arrays, and which of these are scores (not masks, labels or rates)
DOORS = {
    "roc_curve": (roc_curve, [whole(8), MEMBER], [0]),
    "tpr_at_fpr": (lambda s, m: tpr_at_fpr(s, m, 0.5), [whole(8), MEMBER], [0]),
    "separation": (lambda s, m: separation(s, m, resamples=3), [whole(8), MEMBER], [0]),
    "epsilon_of_one_run": (
        lambda s, m: epsilon_of_one_run(s, m, guesses=4),
        [whole(8), MEMBER],
        [0],
    ),
    "epsilon_of": (epsilon_of, [np.array([0.0, 0.5]), np.array([0.5, 0.25])], []),
    "epsilons": (epsilons, [whole(4, 6), whole(5, 6)], [0, 1]),
    "example_quality": (lambda e: example_quality(e, 5), [np.array([0.0, 1.0, 2.0])], [0]),
    "klom": (klom, [whole(4, 6), whole(5, 6)], [0, 1]),
    "klom_null": (lambda o: klom_null(o, repeats=2), [whole(6, 5)], [0]),
    "lira": (lira_scores, [whole(6), whole(8, 6), MODELS], [0, 1]),
    "leave_one_out_lira": (leave_one_out_lira, [whole(8, 6), MODELS], [0]),
    "u_lira_scores": (u_lira_scores, [whole(4, 6), whole(5, 6)], [0, 1]),
    "u_lira": (lambda u, o: u_lira(u, o, resamples=3), [whole(4, 6), whole(5, 6)], [0, 1]),
    "rmia": (rmia_scores, [whole(6), whole(8, 6), MODELS, whole(9), whole(8, 9)], [0, 1, 3, 4]),
    "shadow": (shadow_attack, [whole(6), whole(8, 6), MODELS], [0, 1]),
    "shadow of classes": (
        lambda t, s, m, labels: shadow_attack(t, s, m, labels=labels),
        [whole(6), whole(8, 6), MODELS, LABELS],
        [0, 1],
    ),
    "logit_margins": (logit_margins, [whole(6, 3), LABELS], [0]),
    "losses_of": (losses_of, [whole(6)], [0]),
    "null_band": (null_band, [whole(6)], [0]),
    "label_only": (label_only_scores, [MODELS], []),
    "gap_attack": (gap_attack_scores, [MODELS], []),
    "accuracies": (accuracies, [MEMBER, MEMBER[:4], np.arange(8) < 3, np.arange(4) < 3], []),
    "control_losses_for": (
        lambda losses, labels, gone: control_losses_for("same_class", losses, labels, gone),
        [whole(6), LABELS, np.array([0])],
        [0],
    ),
    "loss_attack": (loss_attack, [whole(30), whole(40)], [0, 1]),
    "rank_methods": (
        lambda s: rank_methods(s, lower_is_better=False),
        [whole(4, 3)],
        [0],
    ),
    "rbe": (rbe, [whole(2, 3) for _ in range(4)], [0, 1, 2, 3]),
    "zrf": (zero_retrain_forgetting, [whole(4, 3), whole(4, 3)], [0, 1]),
}
ANY_LENGTH = {("loss_attack", 0), ("loss_attack", 1), ("control_losses_for", 2), ("shadow", 0)}
"""Sets of any size: a sample less is no mistake."""
NAN_ALLOWED = {("control_losses_for", 0)}
"""What a network that diverged has; the attack refuses it."""
NONE_ALLOWED = {("shadow of classes", 3)}


def flat(found):
    """All numbers of a result."""
    if hasattr(found, "__dataclass_fields__"):
        found = tuple(vars(found).values())
    if isinstance(found, tuple):
        return np.concatenate([flat(one) for one in found])
    return np.ravel(np.asarray(found, np.float64))


def spoilt(name, at, array, alone):
    """Names and values of what argument ``at`` must not be."""
    if (name, at) not in NONE_ALLOWED:
        yield "None", None
    yield from (("a scalar", array.ravel()[0]), ("a number", 1), ("text", "text"))
    yield "empty", array[:0]
    yield "ragged", [[True], [True, False]]
    yield "of no type", np.full(array.shape, None)
    if array.dtype.kind == "f" and (name, at) not in NAN_ALLOWED:
        with_nan = array.copy()
        with_nan.flat[1] = np.nan
        yield "with NaN", with_nan
    if not alone and (name, at) not in ANY_LENGTH:
        yield "one short", array[..., :-1]
        yield "one only", array[..., :1]  # what broadcasts


def not_refused(name, function, arrays):
    """What of ``spoilt`` gave anything but an ``InputError``."""
    for at, array in enumerate(arrays):
        for how, value in spoilt(name, at, array, len(arrays) == 1):
            given = [value if i == at else other for i, other in enumerate(arrays)]
            try:
                function(*given)
            except InputError:
                continue
            except Exception as error:
                yield f"{name}, argument {at} {how}: {type(error).__name__}: {error}"
            else:
                yield f"{name}, argument {at} {how}: accepted"


def other_in_another_dtype(name, function, arrays, scores):
    """Results that the dtype of the scores changes."""
    kinds = (np.uint8, np.int8, np.uint16, np.int64, np.float32, bool)
    for at, kind in itertools.product(scores, kinds):
        values = [a % 2 if kind is bool and i == at else a for i, a in enumerate(arrays)]
        wanted = flat(function(*values))
        values[at] = values[at].astype(kind)
        try:
            found = flat(function(*values))
        except Exception as error:
            yield f"{name}, argument {at} as {kind.__name__}: {type(error).__name__}: {error}"
            continue
        if not np.array_equal(found, wanted, equal_nan=True):
            yield f"{name}, argument {at} as {kind.__name__}: another result"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for name, (function, arrays, scores) in DOORS.items():
        for fault in itertools.chain(
            not_refused(name, function, arrays),
            other_in_another_dtype(name, function, arrays, scores),
        ):
            print(fault)
