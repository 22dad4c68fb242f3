"""The one style of error: three parts, nearest names, numbers shown."""

import pickle

import jaxtyping
import numpy as np
import pytest

from dcmu_jax.data import splits_from_arrays
from dcmu_jax.errors import (
    InputError,
    check_at_least,
    check_fraction,
    check_percentage,
    check_positive,
    check_seed,
    unknown_name,
)
from dcmu_jax.metrics.own import own_metrics
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.options import DataOptions
from dcmu_jax.unlearning.schedule import Step


def test_message_has_three_parts_and_survives_pickling():
    error = InputError("x = 3", "1 or 2", "Set x to 1")
    assert str(error) == "x = 3. Allowed: 1 or 2. Set x to 1"
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.given, copy.allowed, copy.remedy) == ("x = 3", "1 or 2", "Set x to 1")
    assert isinstance(error, ValueError) and str(copy) == str(error)


def test_unknown_names():
    assert "Did you mean 'resnet18'?" in str(unknown_name("model", "resnet", ["mlp", "resnet18"]))
    far = str(unknown_name("model", "zzzzzz", ["mlp", "resnet18"]))
    assert "Did you mean" not in far and "mlp, resnet18" in far


@pytest.mark.parametrize("value", [0, 1, 0.0, 1.0, -0.1, 1.5, float("nan"), float("inf")])
def test_fractions(value):
    with pytest.raises(InputError, match=r"f = .*strictly between 0 and 1"):
        check_fraction("f", value)
    check_fraction("f", 0.5)


@pytest.mark.parametrize("value", [2, 2.9, float("nan"), float("inf"), float("-inf")])
def test_at_least(value):
    with pytest.raises(InputError, match=r"n = .*3 or more.*Raise n to 3"):
        check_at_least("n", value, 3)
    check_at_least("n", 3, 3)


@pytest.mark.parametrize("value", [0, -1e-9, float("nan"), float("inf")])
def test_positive(value):
    with pytest.raises(InputError, match=r"r = .*above 0"):
        check_positive("r", value)
    check_positive("r", 1e-9)


def test_numbers_that_python_refuses_to_write_out():
    for check in (
        lambda value: check_seed("seed", value),
        lambda value: check_at_least("n", value, 1),
        lambda value: check_positive("n", value),
        lambda value: check_fraction("n", value),
        lambda value: check_percentage("n", value),
    ):
        for value in (10**5000, -(10**5000)):
            with pytest.raises(InputError, match="a number of 16610 bits"):
                check(value)


@pytest.fixture
def unchecked():
    """Annotations are not checked, as for users."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("kind", [set, frozenset])
def test_names_in_no_order_are_refused_wherever_they_are_taken(unchecked, kind):
    names = kind(["one.py:b", "two.py:a"])
    for take in (
        lambda: RunConfig(metrics=names),
        lambda: RunConfig(baselines=names),
        lambda: own_metrics(names),
        lambda: Step(parts=kind(["final", "beginning"])),
        lambda: splits_from_arrays(np.zeros((4, 8, 8, 1)), [0, 1] * 2, class_names=kind("ab")),
        lambda: RunConfig(data=DataOptions(mean=kind([0.5, 0.4]), std=(1.0, 1.0))),
    ):
        with pytest.raises(InputError, match=r"no order|given as a (frozen)?set|Give a tuple"):
            take()
