"""Whether methods can be compared on a request: there are samples enough."""

from __future__ import annotations

import numpy as np

from dcmu_jax.data.dataset import Splits
from dcmu_jax.data.requests import ForgetRequest
from dcmu_jax.data.selections import Mask, as_mask
from dcmu_jax.errors import InputError
from dcmu_jax.runs.config import RunConfig

_WITHOUT = (
    "To forget without a comparison: dcmu train --out RUN, then dcmu forget RUN --forget REQUEST "
    "(in Python run.unlearn), for any number of samples"
)


def check_comparable(
    config: RunConfig,
    splits: Splits,
    request: ForgetRequest,
    usable: Mask,
    instead: str = _WITHOUT,
) -> None:
    """Raise unless there are enough samples for a comparison.

    Args:
        config: whose control says which test samples count.
        splits: the data.
        request: what is forgotten.
        usable: which test samples may be used.
        instead: what to do where a comparison is not possible.

    Raises:
        InputError: fewer than two forgotten samples, or test samples to hold them against.
    """
    labels = splits.train.labels[splits.train.positions(request.ids)]
    if len(request.ids) < 2:
        raise InputError(
            "One forgotten sample is too few for a comparison",
            "2 or more, for the membership attack",
            f"Ask for more. {instead}",
        )
    control = usable = as_mask("usable mask", usable, (len(splits.test),), "test samples")
    remedy = "Bring more test samples"
    if config.method.control == "same_class":
        control = usable & np.isin(splits.test.labels, labels)
        if usable.sum() > 1:
            remedy += ", or take those of all classes, in a new run: --method.control all"
    count = int(control.sum())
    if count < 2:
        found = "There is 1 test sample" if count else "There are no test samples"
        raise InputError(
            f"{found} to tell the forgotten ones from, too few for a comparison",
            "2 or more, for the membership attack",
            f"{remedy}. {instead}",
        )
