import pytest
from banks import FEW, Net, make_dataset

from dcmu_jax.condensation import build_bank
from dcmu_jax.training.classifier import fresh_classifier


@pytest.fixture(scope="module")
def dataset():
    return make_dataset()


@pytest.fixture(scope="module")
def classifier(dataset):
    return fresh_classifier(Net(), dataset, 0)


@pytest.fixture(scope="module")
def bank(dataset, classifier):
    return build_bank(dataset, classifier, clusters_per_class=6, matching=FEW, seed=0)
