"""Methods compute what PyTorch does: golden values of ``golden.make``, in every run."""

import functools

import numpy as np
import pytest
from golden import given, make, request

import dcmu_jax as dcmu
from dcmu_jax.audits.klom import klom
from dcmu_jax.audits.lira import lira_scores
from dcmu_jax.audits.margins import logit_margins
from dcmu_jax.audits.rmia import rmia_scores
from dcmu_jax.audits.u_lira import u_lira_scores
from dcmu_jax.condensation.features import FeatureMap
from dcmu_jax.condensation.statistics import cluster_means
from dcmu_jax.data.dataset import Dataset
from dcmu_jax.fast.matching import MatchingConfig, match_clusters
from dcmu_jax.metrics.overfitting import overfitting_metric


@functools.cache
def golden():
    with np.load(given.METHODS) as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def network():
    weights, shape = given.golden_of("mlp")[1], given.model_of("mlp")[1]
    return dcmu.from_torch("mlp", weights, shape, normalisation=(given.MEAN, given.STD))


def close(ours, name, rtol=given.RTOL):
    theirs = golden()[name]
    assert np.std(theirs) > 0 or not theirs.ndim
    atol = given.ATOL * rtol / given.RTOL * np.abs(theirs).max()
    np.testing.assert_allclose(ours, theirs, rtol, atol, err_msg=name)


@pytest.mark.parametrize("steps", given.MATCHING_STEPS)
def test_the_trajectory_of_distribution_matching(network, steps):
    pixels, _ = given.samples()
    matched = match_clusters(
        FeatureMap(network.model),
        network.variables,
        pixels,
        cluster_means(network.features(pixels), given.CLUSTERS),
        given.CLUSTERS,
        network.normalisation,
        MatchingConfig(steps=steps, learning_rate=given.MATCHING_RATE),
    )
    weights, losses = golden()["matching/weights"], golden()["matching/losses"]
    moved = weights[steps] - weights[0]
    assert np.abs(moved).max() > 0.9 * given.MATCHING_RATE
    np.testing.assert_allclose(
        matched.weights - weights[0], moved, given.RTOL, given.ATOL * np.abs(moved).max() + 1e-7
    )
    np.testing.assert_allclose(matched.initial_loss, losses[0], rtol=given.RTOL)
    np.testing.assert_allclose(matched.final_loss, losses[steps], rtol=given.RTOL)
    assert (losses[steps] < losses[0]).all()


def test_the_metrics_by_gradients(network):
    pixels, labels = given.samples()
    data = Dataset(pixels, labels, np.arange(len(labels)), given.CLASSES)
    stays, goes = (data.take(np.arange(len(labels))[rows]) for rows in make.split())
    close(dcmu.unlearning_metric(network, retain=stays, forget=goes), "metrics/um")
    for kind in ("paper", "squared"):
        close(overfitting_metric(network, data, kind=kind, workers=1).values, f"metrics/om_{kind}")


def test_the_formulas_of_the_audits():
    """In double precision on both sides."""
    exact = functools.partial(close, rtol=1e-6)
    target = given.margins("targets", 2, given.EXAMPLES)
    shadows = given.margins("shadows", given.MODELS, given.EXAMPLES)
    population = given.margins("population", 2, given.POPULATION)
    beside = given.margins("population in shadows", given.MODELS, given.POPULATION)
    for variance in ("fixed", "per_example"):
        for online, way in ((True, "online"), (False, "offline")):
            found = lira_scores(target, shadows, given.MEMBER, online=online, variance=variance)
            exact(found, f"audits/lira_{way}_{variance}")
    for online, way in ((True, "online"), (False, "offline")):
        found = rmia_scores(
            target,
            shadows,
            given.MEMBER,
            population,
            beside,
            gamma=given.GAMMA,
            online=online,
            a=given.SHARE,
        )
        exact(found, f"audits/rmia_{way}")
    oracles = given.margins("oracles", given.MODELS - 1, given.EXAMPLES)
    exact(np.concatenate(u_lira_scores(shadows, oracles)), "audits/u_lira")
    exact(klom(shadows, oracles), "audits/klom")
    logits = given.margins("logits", given.EXAMPLES, given.CLASSES)
    exact(logit_margins(logits, np.arange(given.EXAMPLES) % given.CLASSES), "audits/margins")


@pytest.mark.parametrize(
    ("archive", "values"),
    [
        (given.NETWORKS, make.network_values),
        (given.METHODS, make.method_values),
        (request.ARCHIVE, make.unlearning_values),
    ],
    ids=["networks", "methods", "unlearning"],
)
def test_the_golden_values_are_those_of_the_pytorch_that_is_here(archive, values):
    pytest.importorskip("torch", reason="PyTorch is not installed; it comes with the extra 'bench'")
    with np.load(archive) as kept:
        made = values()
        assert made.keys() == set(kept.files)
        for key, value in made.items():
            np.testing.assert_allclose(kept[key], value, rtol=1e-5, atol=1e-7, err_msg=key)
