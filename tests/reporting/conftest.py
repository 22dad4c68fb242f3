import dataclasses

import pytest

from dcmu_jax.metrics.measurement import Measurement

ORIGINAL = Measurement(
    method="original",
    retain_accuracy=99.5,
    forget_accuracy=99.0,
    train_accuracy=99.45,
    test_accuracy=90.0,
    mia=63.0,
    unlearning_metric=12.5,
    gap=34.125,
    tug_of_war=0.01,
)
RETRAINED = Measurement(
    method="retrain",
    retain_accuracy=98.5,
    forget_accuracy=1.0,
    train_accuracy=88.75,
    test_accuracy=88.0,
    mia=50.5,
    unlearning_metric=80.0,
    reduction=1.0,
    online_s=8.0,
    offline_s=0.0,
    compile_s=2.0,
    online_flops=1.25e12,
    gap=0.0,
    tug_of_war=1.0,
)


@pytest.fixture
def original():
    return ORIGINAL


@pytest.fixture
def retrained():
    return RETRAINED


@pytest.fixture
def method():
    """Makes a method's measurement that is the retrained model's but for the given fields."""

    def make(name, **fields):
        return dataclasses.replace(RETRAINED, method=name, **fields)

    return make


@pytest.fixture
def measurements(method):
    """Original, retrained, one method that forgot and one that did not."""
    good = method(
        "recommended",
        retain_accuracy=97.3,
        forget_accuracy=1.5,
        reduction=0.125,
        online_s=2.0,
        offline_s=13.0,
        online_flops=2.5e11,
        gap=0.75,
        tug_of_war=0.97,
    )
    bad = method("[red]paper", forget_accuracy=63.0, online_s=1.0, offline_s=20.0, compile_s=None)
    return [ORIGINAL, RETRAINED, good, bad]
