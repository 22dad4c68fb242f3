"""Membership inference by loss: can an attacker tell forgotten samples from unseen ones."""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from dcmu_jax.data.numbers import Numbers, as_classes, as_numbers
from dcmu_jax.errors import InputError, check_at_least, check_seed, unknown_name
from dcmu_jax.threads import one_thread
from dcmu_jax.training.keys import sklearn_state

Control = Literal["all", "same_class"]
"""Which test samples the forgotten ones are told from."""

# exp(-1e4) is 0 in any precision: losses beyond it carry no more evidence, only an ill-conditioned
# fit. Infinite losses (a probability of exactly 0) land here too.
_LARGEST_LOSS = 1e4


def control_losses_for(
    control: Control,
    test_losses: Float[np.ndarray, " test"],
    test_labels: Int[np.ndarray, " test"],
    forget_labels: Int[np.ndarray, " forget"],
) -> Float[np.ndarray, " control"]:
    """The losses of the samples that were never trained on, to hold the forgotten ones against.

    Args:
        control: ``"all"`` takes every test sample, as the paper does. ``"same_class"`` takes those
            whose class occurs in the forget set: when one class is forgotten, like is compared
            with like, while ``"all"`` would tell the class and not the membership. When the forget
            set has every class the two are the same; class proportions are not matched.
        test_losses: per-sample losses of the test samples that may be used.
        test_labels: their classes.
        forget_labels: classes of the forgotten samples.

    Returns:
        The chosen losses, in their order.

    Raises:
        InputError: an unknown control, or no test sample of the forgotten classes.
    """
    if control not in get_args(Control):
        raise unknown_name("membership-inference control", control, get_args(Control))
    test_losses = as_numbers("Losses of the test samples", test_losses, "test", nan=True)
    test_labels = as_classes("Test labels", test_labels, len(test_losses), "test samples")
    if control == "all":
        return test_losses
    forget_labels = as_classes("Forgotten labels", forget_labels)
    chosen = test_losses[np.isin(test_labels, forget_labels)]
    if not len(chosen):
        classes = np.unique(forget_labels).tolist()
        raise InputError(
            f"A test set without samples of the forgotten class(es) {classes}",
            "at least two test samples of those classes for a same-class control",
            "Set the control to 'all', or bring such test samples",
        )
    return chosen


def loss_attack(
    forget_losses: Float[np.ndarray, " forget"],
    control_losses: Float[np.ndarray, " control"],
    *,
    splits: int = 10,
    seed: int = 0,
) -> float:
    """Accuracy (%) of telling forgotten from control samples by their loss: the paper's MIA.

    Both sets are cut to the smaller size after a shuffle; on the balanced set a logistic
    regression with one feature (scikit-learn's defaults) is fitted on 90 % and scored on 10 %,
    over stratified random splits; the mean is returned. 50 is chance, or a little less (below);
    the value to reach is the retrained model's, which is far from 50 when a class is forgotten and
    the control is ``"all"``.

    The losses are not scaled, as the authors do not, and the regression is penalised: so the result
    depends on their scale and not on their order alone. One draw of losses of exponential law with
    means .01 and .05, 500 each (AUC .82), is told apart with 74.1 %; a tenth of them with 73.9, a
    hundredth with 50.0 (the penalty holds the slope near 0), a hundred times them with 75.2. A
    result near 50 where all losses are tiny is thus no sign that nothing can be told: see
    ``audits`` for AUCs.

    Of the 2n samples a tenth is scored, rounded up to m. Where m is odd, the fit has one sample
    more of one kind and the scored part one more of the other; what knows nothing says the kind
    that it saw more of, and is wrong by half a sample more than half: chance is then 50 - 50 / m.

    The scored part never has fewer than two samples, one of each kind, so sets of two samples and
    up work; below some twenty samples the result is mostly noise (two samples scored per split).
    Losses above 1e4, infinite ones included, count as 1e4.

    Args:
        forget_losses: per-sample losses of the forgotten samples.
        control_losses: those of samples never trained on (see ``control_losses_for``).
        splits: number of random splits.
        seed: of the shuffles and splits; same seed, same result, whatever the number of threads.

    Raises:
        InputError: fewer than two samples on a side, a loss that is NaN or -inf, no splits.

    >>> members, others = np.full(30, 0.1), np.full(30, 5.0)
    >>> loss_attack(members, others)
    100.0
    """
    seed = check_seed("seed", seed)
    check_at_least("splits", splits, 1)
    forget_losses = _losses("forgotten", forget_losses)
    control_losses = _losses("control", control_losses)
    size = min(len(forget_losses), len(control_losses))
    if size < 2:
        raise InputError(
            f"A membership attack on {len(forget_losses)} forgotten and {len(control_losses)} "
            "control samples",
            "at least 2 of each",
            "Forget more samples or use a larger test set",
        )
    # A second's import.
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedShuffleSplit

    rng = np.random.default_rng(seed)
    pair = [rng.permutation(losses)[:size] for losses in (forget_losses, control_losses)]
    feature = np.concatenate(pair).clip(None, _LARGEST_LOSS)[:, None]
    member = np.repeat([1, 0], size)

    scored = max(2, math.ceil(0.1 * len(member)))
    folds = StratifiedShuffleSplit(splits, test_size=scored, random_state=sklearn_state(seed))
    with one_thread():
        accuracies = [
            LogisticRegression().fit(feature[fit], member[fit]).score(feature[test], member[test])
            for fit, test in folds.split(feature, member)
        ]
    return 100 * float(np.mean(accuracies))


def _losses(name: str, given: Numbers) -> np.ndarray:
    """Losses in float64; infinite ones are those of a probability of 0."""
    remedy = "The model has diverged: lower its learning rate"
    losses = as_numbers(
        f"Losses of the {name} samples", given, "examples", infinite=True, empty=True, remedy=remedy
    )
    if np.isneginf(losses).any():
        raise InputError(
            f"Losses of the {name} samples, {int(np.isneginf(losses).sum())} of {len(losses)} of "
            "them -inf",
            "numbers and plus infinity",
            "Pass losses; of log-likelihoods, the negative",
        )
    return losses
