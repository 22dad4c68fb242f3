"""Operations that each method states, against those of its passes reckoned by hand."""

import dataclasses

import numpy as np
import pytest
from baselines.setting import FAST, METHODS, TRAINING, make_task

from dcmu_jax.baselines import registry
from dcmu_jax.unlearning.modular import ModularUnlearning
from dcmu_jax.unlearning.schedule import Step
from dcmu_jax.unlearning.task import Hooks

RETAIN, FORGET, ALL = 48, 24, 72
BELOW_INTERMEDIATE, INTERMEDIATE, FINAL = (2 * n * m for n, m in ((64, 16), (16, 16), (16, 3)))
FORWARD = BELOW_INTERMEDIATE + INTERMEDIATE + FINAL
"""Of one image through ``Plain``: two for each weight."""
BACK = 2 * FORWARD - BELOW_INTERMEDIATE
"""By all parameters, hence by all inputs but the image."""
TRAIN = FORWARD + BACK
PRODUCT = FORWARD + 2 * FORWARD - BELOW_INTERMEDIATE + BACK
"""Of a Gauss-Newton matrix and a vector: the logits, their change, and back."""
PARAMETERS = FORWARD // 2
STEP = 20 * PARAMETERS
"""Of Adam."""
STEPS = 3  # of conjugate gradients, and rounds of pruning

ONCE = {"epochs": 1, "batch_size": ALL, "optimizer": FAST}
_LAST = ModularUnlearning(closing_steps=(Step(parts=("final",), on="retain", batch_size=ALL),))
SOLVED = {"iterations": STEPS, "tolerance": 0.0}

CHANGES = {
    "retrain": {},
    "fast_retraining": {
        "training": dataclasses.replace(TRAINING, epochs=1, batch_size=ALL),
        "min_steps": 0,
    },
    "scrub": {**ONCE, "forget_batch_size": ALL, "max_epochs": 1},
    "prune_and_unlearn": {**ONCE, "rounds": STEPS},
    "fisher_forgetting": {},
    "ntk_scrubbing": SOLVED,
    "selective_synaptic_dampening": {"batch_size": 8},
    "influence": SOLVED,
}
"""One epoch in one batch, where nothing else is said."""

EXPECTED = {
    "retrain": RETAIN * TRAIN,
    "fast_retraining": RETAIN * TRAIN,
    "catastrophic_forgetting": RETAIN * TRAIN,
    "distillation": RETAIN * (FORWARD + TRAIN),
    "bad_teaching": (FORGET + RETAIN // 2) * (FORWARD + TRAIN),
    "sparsity": RETAIN * TRAIN,
    # An absolute value and a product for each weight, of one image in each round.
    "prune_and_unlearn": RETAIN * TRAIN + STEPS * (TRAIN + 3 * PARAMETERS),
    # A square, its factor and the sum for each parameter, image and class.
    "fisher_forgetting": RETAIN * (FORWARD + 3 * (BACK + 3 * PARAMETERS)),
    "ntk_scrubbing": ALL * (TRAIN + (STEPS + 1) * PRODUCT) + RETAIN * STEPS * PRODUCT,
    "selective_synaptic_dampening": (ALL + FORGET) * (TRAIN + 3 * PARAMETERS / 8),
    "gradient_ascent": FORGET * TRAIN,
    "negative_gradient": ALL * TRAIN,
    "random_labels": ALL * TRAIN,
    "scrub": ALL * (FORWARD + TRAIN),
    "saliency": FORGET * TRAIN + ALL * TRAIN,
    # Forward, back to the image, forward from where that leads.
    "boundary_shrink": FORGET * (3 * FORWARD + TRAIN),
    "influence": FORGET * TRAIN + RETAIN * STEPS * PRODUCT,
    "eu_k": RETAIN * (FORWARD - FINAL + 2 * FINAL),
    "cf_k": RETAIN * (FORWARD - FINAL + 2 * FINAL),
    "modular": RETAIN * (FORWARD - FINAL + 2 * FINAL),
}

BATCHES = {
    "scrub": 2,
    "fisher_forgetting": 0,
    "ntk_scrubbing": 0,
    "selective_synaptic_dampening": 0,
    "influence": 0,
    "eu_k": FINAL / FORWARD,
    "cf_k": FINAL / FORWARD,
    "modular": FINAL / FORWARD,
}
"""Steps of the optimizer, where they are not one; a part's are its share."""


@pytest.fixture(scope="module")
def task():
    found = make_task()
    return dataclasses.replace(
        found, training=dataclasses.replace(TRAINING, epochs=1, batch_size=ALL)
    )


def test_every_registered_method_is_reckoned():
    assert set(EXPECTED) == set(registry.METHODS)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_method_states_what_its_passes_cost(task, name):
    method = (
        _LAST
        if name == "modular"
        else dataclasses.replace(METHODS[name], **CHANGES.get(name, ONCE))
    )
    found = method(task, Hooks()).flops
    expected = EXPECTED[name] + STEP * BATCHES.get(name, 1)
    # Activations and losses come on top.
    assert 0.97 * expected < found < 1.15 * expected


def test_what_watches_is_not_counted(task):
    method = dataclasses.replace(METHODS["scrub"], **CHANGES["scrub"])

    def observe(_, network):
        network.evaluate(task.train)

    watched = method(task, Hooks(observe=observe)).flops
    assert watched == method(task, Hooks()).flops


def test_condensing_again_costs_the_same_in_any_chunks():
    task = make_task(request="random:0.2")
    method = METHODS["modular, condensed, re-condensed"]

    def cost(**changes):
        collecting = method.collecting
        matching = dataclasses.replace(collecting.matching, **changes)
        again = dataclasses.replace(
            method, collecting=dataclasses.replace(collecting, matching=matching)
        )
        return again(task, Hooks()).flops

    by_two, by_five, longer = cost(chunk=2), cost(chunk=5), cost(steps=10)
    assert by_two == by_five
    # Five steps more of each touched cluster, at least forward to the features and back.
    bank, forget = task.prepared.bank, np.isin(task.train.ids, task.forget_ids)
    touched = np.intersect1d(bank.cluster[forget], bank.cluster[~forget])
    assert longer - by_two > 5 * len(touched) * 2 * (BELOW_INTERMEDIATE + INTERMEDIATE) > 0
