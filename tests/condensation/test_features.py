import dataclasses

import numpy as np
import pytest
from banks import make_dataset

from dcmu_jax.condensation import FeatureMap, MatchingConfig, build_bank, extract, layer_names
from dcmu_jax.errors import InputError
from dcmu_jax.networks.catalogue import create
from dcmu_jax.training.classifier import fresh_classifier


@pytest.fixture(scope="module")
def cnn():
    data = make_dataset()
    images = np.tile(data.images, (1, 3, 3, 1))[:, :16, :16]
    model = create("cnn", image_shape=(16, 16, 1), num_classes=3, width=0.125)
    return fresh_classifier(model, dataclasses.replace(data, images=images), 0), images


def test_layers_are_what_the_model_computes(cnn):
    classifier, images = cnn
    flat = lambda x: x.reshape(len(x), -1)  # noqa: E731
    assert {"beginning", "intermediate", "final", "pixels"} <= set(layer_names(classifier))
    inputs = np.asarray(classifier.normalisation.apply(images))
    for layer, want in (
        (None, classifier.features(images)),
        ("beginning", flat(classifier.inputs_of("intermediate", images))),
        ("intermediate", flat(classifier.inputs_of("final", images))),
        ("final", classifier.logits(images)),
        ("pixels", flat(inputs)),
    ):
        np.testing.assert_allclose(extract(classifier, images, layer), want, rtol=1e-5, atol=1e-5)
    for layer in [name for name in layer_names(classifier) if name.count("/") == 1][::3]:
        got = extract(classifier, images[:2], layer)
        assert got.ndim == 2 and got.dtype == np.float32


def test_unknown_layers(cnn):
    classifier, images = cnn
    with pytest.raises(InputError, match=r"Unknown layer 'begining'.*'beginning'"):
        extract(classifier, images, "begining")
    assert FeatureMap(classifier.model, "final") == FeatureMap(classifier.model, "final")


@pytest.mark.parametrize("layer", ["beginning", "final", "pixels"])
def test_a_bank_of_any_layer(dataset, classifier, layer):
    few = MatchingConfig(steps=4, learning_rate=0.01)
    bank = build_bank(dataset, classifier, clusters_per_class=4, matching=few, layer=layer)
    assert bank.layer == layer
    assert bank.feature_sums.shape[1] == extract(classifier, dataset.images[:1], layer).shape[1]
    if layer == "pixels":  # the mean of the pixels is matched by the mean image
        np.testing.assert_allclose(bank.initial_loss, 0, atol=1e-6)
    else:
        assert bank.final_loss.sum() < bank.initial_loss.sum()
