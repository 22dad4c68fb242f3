"""The accountant against closed forms and published values, and an audit of private training."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import gammaln, logsumexp
from scipy.stats import norm
from toys import Plain, examples_of, fresh, toy_splits

from dcmu_jax.applications import privacy
from dcmu_jax.applications.privacy import (
    epsilon_spent,
    noise_for,
    private_gradient,
)
from dcmu_jax.audits.epsilon_bound import epsilon_of_one_run
from dcmu_jax.errors import InputError
from dcmu_jax.training.arguments import Objective, Placement
from dcmu_jax.training.keys import named_key
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.training.population import fit_population, stack
from dcmu_jax.training.private import PrivateGradient


def _gaussian_epsilon(sigma, delta):
    """Balle & Wang 2018, theorem 8: the exact curve of the Gaussian mechanism."""

    def excess(epsilon):
        first = norm.cdf(0.5 / sigma - epsilon * sigma)
        return first - math.exp(epsilon) * norm.cdf(-0.5 / sigma - epsilon * sigma) - delta

    return brentq(excess, 0.0, 50.0)


@pytest.mark.parametrize(("sigma", "steps"), [(1.0, 1), (4.0, 16), (8.0, 20)])
def test_full_batches_are_the_gaussian_mechanism(sigma, steps):
    found = epsilon_spent(sigma, rate=1.0, steps=steps, delta=1e-5)
    # Steps on everything add up like one with the noise divided by the root of their number.
    assert found.epsilon == pytest.approx(
        _gaussian_epsilon(sigma / math.sqrt(steps), 1e-5), rel=2e-3
    )


def _moments_accountant(sigma, rate, steps, delta, *, improved=False):
    """Integer moments (Mironov et al. 2019, section 3.3), classical or improved conversion.

    Improved: Canonne, Kamath, Steinke 2020, proposition 12.
    """
    best = math.inf
    for order in range(2, 65):
        k = np.arange(order + 1)
        choose = gammaln(order + 1) - gammaln(k + 1) - gammaln(order - k + 1)
        terms = choose + k * math.log(rate) + (order - k) * math.log1p(-rate)
        moment = logsumexp(terms + k * (k - 1) / (2 * sigma**2)) / (order - 1)
        converted = math.log(1 / delta) / (order - 1)
        if improved:
            converted += math.log1p(-1 / order) - math.log(order) / (order - 1)
        best = min(best, steps * moment + converted)
    return best


def test_the_published_example_of_the_moments_accountant():
    """Abadi et al., section 3.2: q = 0.01, sigma = 4, 10,000 steps, delta 1e-5: epsilon 1.26."""
    settings = {"rate": 0.01, "steps": 10_000, "delta": 1e-5}
    assert _moments_accountant(4.0, **settings) == pytest.approx(1.26, abs=0.01)
    rdp = epsilon_spent(4.0, accountant="rdp", **settings).epsilon
    pld = epsilon_spent(4.0, **settings).epsilon
    assert 0.8 < pld < rdp < 1.26


def test_more_steps_than_were_accounted_for_cost_what_they_cost():
    """The recorded run: noise for epsilon 10 of one epoch, then 70 epochs at twice the batch."""
    one = {"rate": 256 / 50_000, "steps": 196, "delta": 1e-5}
    run = {"rate": 512 / 50_000, "steps": 70 * 98, "delta": 1e-5}
    assert _moments_accountant(0.484, improved=True, **one) == pytest.approx(10, abs=0.1)
    assert _moments_accountant(0.484, improved=True, **run) == pytest.approx(61, abs=1)
    # Tighter accounting does not save it: four times the claim.
    assert epsilon_spent(0.484, **one).epsilon < 6
    assert epsilon_spent(0.484, **run).epsilon == pytest.approx(39.9, abs=0.5)


def test_noise_is_the_smallest_that_keeps_the_budget():
    settings = {"rate": 0.1, "steps": 50, "delta": 1e-5}
    noise = noise_for(1.0, tolerance=1e-2, **settings)
    assert epsilon_spent(noise, **settings).epsilon <= 1.0
    assert epsilon_spent(noise / 1.02, **settings).epsilon > 1.0


def test_the_budget_is_that_of_the_steps_that_fit_runs(monkeypatch):
    coarse = functools.partial(noise_for, tolerance=0.05)  # each trial takes the accountant a while
    monkeypatch.setattr(privacy, "noise_for", coarse)
    rule, spent = private_gradient(2.0, examples=50, batch_size=20, epochs=2, delta=1e-3)
    assert (spent.rate, spent.steps) == (0.4, 6)  # ceil(50 / 20) steps in each epoch
    assert rule.noise_multiplier == spent.noise_multiplier and 1.8 < spent.epsilon <= 2.0


def test_no_noise_spends_everything_and_no_steps_nothing():
    assert epsilon_spent(0.0, rate=0.5, steps=1, delta=1e-5).epsilon == math.inf
    assert epsilon_spent(1.0, rate=0.5, steps=0, delta=1e-5).epsilon == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": 0.0}, "rate = 0.0"),
        ({"rate": 1.5}, "rate = 1.5"),
        ({"delta": 0.0}, "delta = 0.0"),
        ({"steps": -1}, "steps = -1"),
        ({"accountant": "rpd"}, "Did you mean 'rdp'"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_bad_settings_of_the_accountant(change, message):
    with pytest.raises(InputError, match=message):
        epsilon_spent(1.0, **{"rate": 0.1, "steps": 1, "delta": 1e-5, **change})


def _audited(noise_multiplier, each=100):
    """Lower bound from networks with and without a canary, by an attacker who sees all steps."""
    train = toy_splits(per_class=4).train
    count = len(train)
    images = np.concatenate([train.images, 255 - train.images[:1]])
    labels = np.append(train.labels, (train.labels[0] + 1) % 3).astype(np.int32)
    weights = np.ones(count + 2, np.float32)
    weights[count + 1] = 0  # stands where the canary would: as many coins, and nothing to see
    examples = examples_of(
        type(train)(
            np.concatenate([images, images[-1:]]),
            np.append(labels, labels[-1]),
            np.arange(count + 2),
            3,
        ),
        weights,
    )
    member = np.random.default_rng(0).random(2 * each) < 0.5
    rows = np.tile(np.arange(count + 1), (2 * each, 1))
    rows[~member, count] = count + 1
    start = fresh(Plain(width=2), train)
    fitted = fit_population(
        stack([start] * (2 * each)),
        examples,
        rows,
        epochs=2,
        keys=jnp.stack([named_key(i, "audit") for i in range(2 * each)]),
        optimizer=Optimizer(name="sgd", learning_rate=0.02, momentum=0.0),
        batch_size=count + 1,
        loss=Objective(
            rule=PrivateGradient(clip=1.0, noise_multiplier=noise_multiplier, chunk=count + 1)
        ),
        placement=Placement(chunk=2 * each),
    ).classifiers

    def flat(network):
        leaves = jax.tree.leaves(network.variables["params"])
        return np.concatenate([np.reshape(x, (len(leaves[0]), -1)) for x in leaves], axis=1)

    moved = flat(fitted) - flat(stack([start] * (2 * each)))
    # What a canary adds, learnt from half of the networks; the other half is judged.
    seen, judged = np.arange(2 * each) < each, np.arange(2 * each) >= each
    direction = moved[seen & member].mean(0) - moved[seen & ~member].mean(0)
    scores = moved @ direction
    return epsilon_of_one_run(scores[judged], member[judged], guesses=each, delta=1e-5)


def test_an_audit_stays_below_the_claim_and_finds_what_has_no_noise():
    claimed = epsilon_spent(4.0, rate=1.0, steps=2, delta=1e-5).epsilon
    assert claimed < 1.8
    assert _audited(4.0) <= claimed
    assert _audited(0.01) > claimed + 0.5
