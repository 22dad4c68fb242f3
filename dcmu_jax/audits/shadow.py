"""The shadow-model attack: a classifier learns from shadow models what a member looks like.

Shokri, Stronati, Song, Shmatikov (2017), "Membership inference attacks against machine learning
models", section V, with a logistic regression for the attack model.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Int
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dcmu_jax.data.numbers import as_classes, as_numbers
from dcmu_jax.data.selections import Mask, as_mask
from dcmu_jax.errors import InputError
from dcmu_jax.threads import one_thread


@one_thread()
def shadow_attack(
    target_features: Float[np.ndarray, "examples *features"],
    shadow_features: Float[np.ndarray, "models shadow_examples *_"],
    shadow_member: Mask,
    *,
    labels: Int[np.ndarray, "..."] | None = None,
    shadow_labels: Int[np.ndarray, "..."] | None = None,
) -> Float64[np.ndarray, " examples"]:
    """Log-odds of membership in the target from what its outputs have in common with the shadows'.

    A logistic regression (scikit-learn's defaults) on standardised features is fitted to all pairs
    of shadow model and example; a logit is returned, so that sure answers do not tie.

    Args:
        target_features: what the target says of the examples: margins ``(examples,)``, or several
            features of each ``(examples, d)``.
        shadow_features: the same features in the shadow models, ``(models, shadow_examples)`` with
            or without ``d``; these may be other examples.
        shadow_member: whether a shadow model was trained on a shadow example.

    Other Args:
        labels: classes of the examples; one attack model is then fitted for each of them.
        shadow_labels: classes of the shadow examples, ``labels`` if left out.

    Raises:
        InputError: a mask that is not boolean, shapes that do not match, features that are not
            finite, or shadows without members or without non-members, of a class where labels are
            given.
    """
    target_features = as_numbers("Features of the target", target_features)
    shadow_features = as_numbers("Features of the shadow models", shadow_features)
    axes = target_features.ndim, shadow_features.ndim
    if axes not in ((1, 2), (2, 3)) or target_features.shape[1:] != shadow_features.shape[2:]:
        raise InputError(
            f"Features of shape {target_features.shape} of the target and "
            f"{shadow_features.shape} of the shadow models",
            "(examples,) and (models, examples), or both with one more axis of equal length",
            "Take the same features of both",
        )
    examples, shadow_examples = len(target_features), shadow_features.shape[1]
    shadow_member = as_mask("Membership", shadow_member, shadow_features.shape[:2], "shadows")
    if labels is None:
        labels = np.zeros(examples, np.int64)
        shadow_labels = np.zeros(shadow_examples, np.int64)
    elif shadow_labels is None:
        shadow_labels = labels
    assert shadow_labels is not None
    labels = as_classes("Labels", labels, examples, "target examples")
    shadow_labels = as_classes("Labels", shadow_labels, shadow_examples, "shadow examples")

    target = target_features.reshape(examples, -1)
    shadow = shadow_features.reshape(*shadow_member.shape, -1)
    scores = np.empty(examples)
    for label in np.unique(labels):
        known = shadow_member[:, shadow_labels == label].ravel()
        if known.all() or not known.any():
            raise InputError(
                f"A shadow attack on class {label} with {int(known.sum())} members and "
                f"{int((~known).sum())} non-members among the shadows",
                "at least one of each in every class that the target has",
                "Train more shadow models, or fit all classes together",
            )
        model = make_pipeline(StandardScaler(), LogisticRegression())
        model.fit(shadow[:, shadow_labels == label].reshape(known.size, -1), known)
        scores[labels == label] = model.decision_function(target[labels == label])
    return scores
