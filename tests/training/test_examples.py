"""What is trained on, and the losses on it."""

import jax.numpy as jnp
import numpy as np
import pytest

from dcmu_jax.errors import InputError
from dcmu_jax.training.examples import LabelSmoothing


def test_label_smoothing_by_hand():
    logits, labels = np.array([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]]), np.array([0, 2], np.int32)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    targets = np.full((2, 3), 0.1) + 0.7 * np.eye(3)[labels]
    found = LabelSmoothing(0.3)(jnp.asarray(logits, jnp.float32), jnp.asarray(labels))
    np.testing.assert_allclose(found, -(targets * log_p).sum(1), rtol=1e-5)
    assert LabelSmoothing(0.3) == LabelSmoothing(0.3)  # part of the compilation key
    with pytest.raises(InputError, match="share = 1"):
        LabelSmoothing(1.0)
