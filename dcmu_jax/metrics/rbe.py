r"""RBE, the paper's score over a table, as three of its four printed columns were computed.

For network k and method a the four distances are

.. math:: d_{RA} = \max_b RA_b - RA_a, \quad d_{FA} = FA_a - \min_b FA_b, \quad
          d_{UT} = UT_a - \min_b UT_b, \quad
          d_{MIA} = \bigl|\, MIA_a - \min_b |MIA_b - 50| \,\bigr|,

each scaled to 0..1 over all networks and methods together; the score is the mean over networks of
:math:`\hat d_{RA} + \tfrac12 \hat d_{FA} + \hat d_{MIA} + \hat d_{UT}`. Lower is said to be better.
The fourth printed column, of a class of CIFAR-10, is a misprint: it repeats that of random requests
on SVHN (tests/metrics/test_rbe.py).

It misleads, and is never to be shown alone: it takes the lowest forget accuracy for the best, not
the retrained model's; the last term subtracts the smallest *distance from 50* from a percentage;
scaling over all networks lets the slowest one decide about time and one collapsed run about
accuracy. By it, retraining comes sixth of seven where a class is forgotten. ``gap`` and
``tug_of_war`` stand beside it.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from dcmu_jax.data.numbers import as_numbers
from dcmu_jax.errors import InputError

Table = Float[np.ndarray, "networks methods"]


def rbe(
    retain_accuracy: Table, forget_accuracy: Table, mia: Table, seconds: Table
) -> Float[np.ndarray, " methods"]:
    """The score of every method; see the module docstring.

    Args:
        retain_accuracy: RA, %.
        forget_accuracy: FA, %.
        mia: accuracy of the loss attack, %.
        seconds: UT.

    Raises:
        InputError: an empty table, tables of different shapes, or values that are not finite.

    Retraining, a method that keeps 40 % of a class, and one that forgets it:

    >>> scores = rbe(
    ...     np.array([[99.0, 97.0, 97.0]]),
    ...     np.array([[0.0, 40.0, 0.0]]),
    ...     np.array([[60.0, 52.0, 60.0]]),
    ...     np.array([[100.0, 5.0, 5.0]]),
    ... )
    >>> scores.tolist()
    [2.0, 1.5, 2.0]
    """
    tables = {"RA": retain_accuracy, "FA": forget_accuracy, "MIA": mia, "UT": seconds}
    remedy = "Leave out the methods or networks that lack one"
    tables = {
        name: as_numbers(f"RBE of a table {name}", table, "networks methods", remedy=remedy)
        for name, table in tables.items()
    }
    retain_accuracy, forget_accuracy, mia, seconds = tables.values()
    if len({table.shape for table in tables.values()}) > 1:
        shapes = ", ".join(f"{name} {table.shape}" for name, table in tables.items())
        raise InputError(
            f"RBE of tables of different shapes: {shapes}",
            "one shape, networks by methods",
            "Bring the same networks and methods in all",
        )
    nearest = np.abs(mia - 50).min(axis=1, keepdims=True)
    return (
        _scaled(retain_accuracy.max(axis=1, keepdims=True) - retain_accuracy)
        + 0.5 * _scaled(forget_accuracy - forget_accuracy.min(axis=1, keepdims=True))
        + _scaled(np.abs(mia - nearest))
        + _scaled(seconds - seconds.min(axis=1, keepdims=True))
    ).mean(axis=0)


def _scaled(distances: np.ndarray) -> np.ndarray:
    """To 0..1 over the whole table; all 0 where they are equal."""
    low, high = distances.min(), distances.max()
    return (distances - low) / (high - low) if high > low else np.zeros_like(distances)
