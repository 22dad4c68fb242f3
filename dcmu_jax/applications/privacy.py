"""What differentially private training has spent: the accountant, and its inverse.

The accounting is dp-accounting's; what is done here is to ask it for the steps that are run.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
from typing import Any

from dcmu_jax.errors import InputError, check_at_least, check_fraction, check_positive, unknown_name
from dcmu_jax.training.private import PrivateGradient


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spent:
    """A guarantee: (epsilon, delta), of one example added or removed.

    Attributes:
        epsilon: spent by all steps.
        delta: of the guarantee.
        noise_multiplier: of the noise over the clipping norm.
        rate: q, probability of an example to be in a batch.
        steps: that were run.
    """

    epsilon: float
    delta: float
    noise_multiplier: float
    rate: float
    steps: int


def _library() -> tuple[Any, Any, Any]:
    """dp-accounting's events and accountants, loaded when they are asked for: they take seconds."""
    try:
        event = importlib.import_module("dp_accounting.dp_event")
        pld = importlib.import_module("dp_accounting.pld")
        rdp = importlib.import_module("dp_accounting.rdp")
    except ImportError as error:
        raise InputError(
            "Accounting of differential privacy without the package dp-accounting",
            "an installation with the extra 'privacy'",
            'Install ".[privacy]"',
        ) from error
    return event, pld.PLDAccountant, rdp.RdpAccountant


def epsilon_spent(
    noise_multiplier: float,
    *,
    rate: float,
    steps: int,
    delta: float,
    accountant: str = "pld",
) -> Spent:
    """Epsilon of ``steps`` steps of the Poisson-subsampled Gaussian mechanism.

    ``PrivateGradient`` is that mechanism. Choosing settings by looking at the data, as a grid
    search does, spends more and is not in it.

    Args:
        noise_multiplier: sigma; 0 spends everything.

    Other Args:
        rate: q in (0, 1].
        steps: 0 or more.
        delta: in (0, 1), and below one over the number of examples to mean something.
        accountant: ``pld``, by privacy-loss distributions, tight; or ``rdp``, by Renyi orders.

    Raises:
        InputError: a number outside its range, an unknown accountant, or dp-accounting missing.
    """
    check_at_least("noise_multiplier", noise_multiplier, 0)
    check_fraction("delta", delta)
    check_at_least("steps", steps, 0)
    if not 0 < rate <= 1:
        raise InputError(
            f"rate = {rate!r}", "a number above 0, 1 at most", "Give batch size over examples"
        )
    kinds = {"pld", "rdp"}
    if accountant not in kinds:
        raise unknown_name("accountant", accountant, kinds)
    spent = Spent(
        epsilon=0.0 if steps == 0 else math.inf,
        delta=delta,
        noise_multiplier=noise_multiplier,
        rate=rate,
        steps=steps,
    )
    if not noise_multiplier or not steps:
        return spent
    event, pld, rdp = _library()
    book = pld() if accountant == "pld" else rdp()
    step = event.GaussianDpEvent(noise_multiplier)
    if rate < 1:
        step = event.PoissonSampledDpEvent(rate, step)
    book.compose(event.SelfComposedDpEvent(step, steps))
    return dataclasses.replace(spent, epsilon=float(book.get_epsilon(delta)))


def noise_for(
    epsilon: float, *, rate: float, steps: int, delta: float, tolerance: float = 1e-3
) -> float:
    """The smallest noise multiplier that spends at most ``epsilon``, up to ``tolerance``.

    Args:
        epsilon: above 0.

    Other Args:
        rate: see ``epsilon_spent``.
        steps: 1 or more.
        delta: see ``epsilon_spent``.
        tolerance: relative; the result errs to the private side.
    """
    check_positive("epsilon", epsilon)
    check_at_least("steps", steps, 1)

    def enough(noise: float) -> bool:
        return epsilon_spent(noise, rate=rate, steps=steps, delta=delta).epsilon <= epsilon

    high = 1.0
    while not enough(high):
        high *= 2
    low = high / 2
    # Below some noise the accountant's tables grow without need: no use of less than 0.2.
    while low > 0.2 and enough(low):
        high, low = low, low / 2
    while high / low > 1 + tolerance:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def private_gradient(
    epsilon: float,
    *,
    examples: int,
    batch_size: int,
    epochs: int,
    delta: float,
    clip: float = 1.0,
    chunk: int = 32,
) -> tuple[PrivateGradient, Spent]:
    """The rule for ``fit`` that spends ``epsilon`` over all of its steps, and what it spends.

    Args:
        epsilon: the budget.

    Other Args:
        examples: n.
        batch_size: B, as given to ``fit``.
        epochs: as given to ``fit``.
        delta: see ``epsilon_spent``.
        clip: see ``PrivateGradient``.
        chunk: see ``PrivateGradient``.
    """
    rate = min(batch_size, examples) / examples
    steps = epochs * math.ceil(examples / min(batch_size, examples))
    noise = noise_for(epsilon, rate=rate, steps=steps, delta=delta)
    rule = PrivateGradient(clip=clip, noise_multiplier=noise, chunk=chunk)
    return rule, epsilon_spent(noise, rate=rate, steps=steps, delta=delta)
