"""What is given in the place of a network's variables, its data, a request or a run."""

from pathlib import Path

import jax
import jaxtyping
import numpy as np
import pytest
from toys import Plain, fresh, toy_splits

from dcmu_jax.data import load, parse_request
from dcmu_jax.data.dataset import Normalisation
from dcmu_jax.errors import InputError
from dcmu_jax.reporting.comparison import compare
from dcmu_jax.training.classifier import Classifier, fresh_classifier

SPLITS = toy_splits()
TRAIN, SHAPE = SPLITS.train, SPLITS.image_shape
NETWORK = fresh(Plain(), TRAIN)
PARAMS = NETWORK.variables["params"]
FORGET = TRAIN.labels == 1


@pytest.fixture(autouse=True)
def as_users_have_it():
    """Without the checks of annotations, which the tests alone have (``conftest``)."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def _logits(params=PARAMS, normalisation=NETWORK.normalisation):
    return Classifier(Plain(), {"params": params}, normalisation, SHAPE).logits(TRAIN.images)


def _each(change):
    return jax.tree.map(lambda leaf: change(np.asarray(leaf)), PARAMS)


WITHOUT = {name: PARAMS[name] for name in ("beginning", "intermediate")}
WRONG = {
    "a part missing": (lambda: _logits(WITHOUT), "without params/final/"),
    "a part empty": (lambda: _logits({**PARAMS, "final": {}}), "without params/final/"),
    "None": (lambda: _logits(_each(lambda leaf: None)), "without params/"),
    "lists": (lambda: _logits(_each(np.ndarray.tolist)), "type float.*np.asarray"),
    "integers": (lambda: _logits(_each(lambda leaf: leaf.astype(int))), "of int64.*np.asarray"),
    "texts": (lambda: _logits(_each(lambda leaf: "a")), "type str"),
    "no normalisation": (lambda: _logits(normalisation=None), "channel_statistics"),
    "one number": (lambda: _logits(normalisation=3), "channel_statistics"),
    "in words": (lambda: _logits(normalisation=Normalisation(("a",), ("b",))), "mean = "),
    "evaluate images": (lambda: NETWORK.evaluate(TRAIN.images), "ndarray.*splits_from_arrays"),
    "evaluate splits": (lambda: NETWORK.evaluate(SPLITS), "Splits.*splits.train"),
    "evaluate None": (lambda: NETWORK.evaluate(None), "given as None"),
    "for splits": (lambda: fresh_classifier(Plain(), SPLITS, 0), "Splits.*splits.train"),
    "request of splits": (lambda: parse_request("class:1", SPLITS, 0), "Splits.*splits.train"),
    "request of images": (lambda: parse_request([1], TRAIN.images, 0), "ndarray"),
    "no request": (lambda: parse_request(None, TRAIN, 0), "given as None"),
    "a request in bytes": (lambda: parse_request(b"class:1", TRAIN, 0), "Give 'class:1'"),
    "an unknown id": (lambda: parse_request([5000], TRAIN, 0), "Unknown id"),
    "no source": (lambda: load(None), "given as None.*'digits'"),
    "a number for a source": (lambda: load(3), "given as 3"),
    "a path for a source": (lambda: load(Path("a.npz")), "'npz:a.npz'"),
    "a path for a run": (lambda: compare(Path("run"), "class:1"), "compare of a .*Run.open"),
    "a request for a run": (lambda: compare("class:1", None), "compare of a str.*Run.open"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_of_another_kind_is_refused_in_words(kind):
    call, message = WRONG[kind]
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize("asked", [FORGET, FORGET.tolist(), TRAIN.ids[FORGET].tolist()], ids=str)
def test_a_request_is_parsed_from_whatever_names_samples(asked):
    wanted = parse_request("class:1", TRAIN, 0)
    assert parse_request(asked, TRAIN, 0).ids.tolist() == wanted.ids.tolist()
    assert parse_request(wanted, TRAIN, 0) is wanted
