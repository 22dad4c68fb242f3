"""Masks, positions and ids at every public boundary: booleans or an error, never a wrong number."""

import jax.numpy as jnp
import numpy as np
import pytest
from toys import Plain, fresh, toy_splits

from dcmu_jax.applications.mia_defence import exposed_values
from dcmu_jax.applications.overfitted import Overfitted
from dcmu_jax.applications.recipes import Recipe, train_by
from dcmu_jax.audits.building import measured
from dcmu_jax.audits.class_traces import traces_of
from dcmu_jax.audits.epsilon_bound import epsilon_lower_bound, epsilon_of_one_run
from dcmu_jax.audits.label_only import gap_attack_scores, label_only_scores
from dcmu_jax.audits.lira import leave_one_out_lira, lira_scores
from dcmu_jax.audits.population import Population
from dcmu_jax.audits.rmia import rmia_scores
from dcmu_jax.audits.roc import roc_curve, separation, tpr_at_fpr
from dcmu_jax.audits.shadow import shadow_attack
from dcmu_jax.data.dataset import Dataset
from dcmu_jax.data.requests import request_for_ids
from dcmu_jax.data.selections import shape_of
from dcmu_jax.errors import InputError
from dcmu_jax.metrics.accuracy import accuracies, measure
from dcmu_jax.runs.comparable import check_comparable
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.training.classifier import Evaluation
from dcmu_jax.unlearning.protocol import collection_protocol
from dcmu_jax.unlearning.task import Training

SPLITS = toy_splits()
TRAIN, TEST = SPLITS.train, SPLITS.test
NETWORK = fresh(Plain(), TRAIN)
RECIPE = Recipe(model=Plain(), training=Training(epochs=1))
RNG = np.random.default_rng(0)
MODELS, EXAMPLES = 8, 12
MARGINS = RNG.normal(size=(MODELS, EXAMPLES))
MEMBER = np.arange(MODELS)[:, None] % 2 == np.arange(EXAMPLES) % 2
SCORES, ROW = RNG.normal(size=EXAMPLES), np.arange(EXAMPLES) % 3 == 0
FORGET, USABLE = np.arange(len(TRAIN)) % 5 == 0, np.arange(len(TEST)) % 2 == 0
TRAIN_RIGHT, TEST_RIGHT = np.arange(len(TRAIN)) % 3 > 0, np.arange(len(TEST)) % 3 > 0


def _measure(mask):
    losses = np.linspace(0, 1, len(TRAIN), dtype=np.float32)
    return measure(
        "m",
        train=Evaluation(losses, TRAIN_RIGHT),
        test=Evaluation(losses[: len(TEST)], TEST_RIGHT),
        train_labels=TRAIN.labels,
        test_labels=TEST.labels,
        forget=mask,
        usable=USABLE,
        unlearning_metric=1.0,
    )


def _epsilon(mask):
    pytest.importorskip("jax_privacy", reason="needs the extra 'audit'")
    return epsilon_lower_bound(SCORES, mask)


def _comparable(mask):
    request = request_for_ids(TRAIN.ids[:4], TRAIN)
    return check_comparable(RunConfig(), SPLITS, request, mask)


BOUNDARIES = {
    "roc_curve": (lambda m: roc_curve(SCORES, m), ROW),
    "tpr_at_fpr": (lambda m: tpr_at_fpr(SCORES, m, 0.3), ROW),
    "separation": (lambda m: separation(SCORES, m, resamples=5), ROW),
    "separation of many": (lambda m: separation(MARGINS, m, resamples=5), MEMBER),
    "lira": (lambda m: lira_scores(MARGINS[0], MARGINS, m), MEMBER),
    "lira offline": (lambda m: lira_scores(MARGINS[0], MARGINS, m, online=False), MEMBER),
    "leave_one_out_lira": (lambda m: leave_one_out_lira(MARGINS, m), MEMBER),
    "rmia": (lambda m: rmia_scores(MARGINS[0], MARGINS, m, MARGINS[1], MARGINS), MEMBER),
    "rmia population": (
        lambda m: rmia_scores(MARGINS[0], MARGINS, MEMBER, MARGINS[1], MARGINS, m),
        MEMBER,
    ),
    "shadow_attack": (lambda m: shadow_attack(MARGINS[0], MARGINS, m), MEMBER),
    "epsilon_lower_bound": (_epsilon, ROW),
    "epsilon_of_one_run": (lambda m: epsilon_of_one_run(SCORES, m, guesses=6), ROW),
    "exposed_values": (
        lambda m: exposed_values(NETWORK, TRAIN, "lira", margins=SCORES, shadows=MARGINS, member=m),
        MEMBER,
    ),
    "forget of accuracies": (
        lambda m: accuracies(TRAIN_RIGHT, TEST_RIGHT, m, USABLE),
        FORGET,
    ),
    "usable of accuracies": (
        lambda m: accuracies(TRAIN_RIGHT, TEST_RIGHT, FORGET, m),
        USABLE,
    ),
    "forget of measure": (_measure, FORGET),
    "usable of check_comparable": (_comparable, USABLE),
    "collection_protocol": (
        lambda m: collection_protocol(np.arange(EXAMPLES, dtype=np.int32) % 3, 3, m),
        ROW,
    ),
}


@pytest.mark.parametrize("name", BOUNDARIES)
def test_a_list_and_a_jax_array_of_booleans_are_the_mask(name):
    call, mask = BOUNDARIES[name]
    wanted = repr(call(mask))
    assert repr(call(mask.tolist())) == wanted
    assert repr(call(jnp.asarray(mask))) == wanted


WRONG = {
    "integers": lambda mask: mask.astype(int),
    "bytes": lambda mask: mask.astype(np.uint8),
    "floats": lambda mask: mask.astype(float),
    "NaN": lambda mask: np.where(mask, np.nan, 0.0),
    "a list of integers": lambda mask: mask.astype(int).tolist(),
    "integers of JAX": lambda mask: jnp.asarray(mask.astype(np.int32)),
    "text": lambda mask: mask.astype(str),
    "one too few": lambda mask: mask[..., :-1],
    "one too many": lambda mask: np.concatenate([mask, mask[..., :1]], axis=-1),
    "another rank": lambda mask: mask[None],
    "ragged": lambda mask: [[True], [True, False]],
    "positions": lambda mask: np.flatnonzero(mask),
}


@pytest.mark.parametrize("name", BOUNDARIES)
def test_what_is_no_mask_is_refused(name):
    call, mask = BOUNDARIES[name]
    for kind, wrong in WRONG.items():
        with pytest.raises(InputError) as caught:
            call(wrong(mask))
        assert caught.value.remedy, kind
        if kind in ("integers", "floats", "NaN"):
            assert ".astype(bool)" in caught.value.remedy


@pytest.mark.parametrize("name", [n for n in BOUNDARIES if n not in ("collection_protocol",)])
def test_a_mask_of_one_kind_only_is_refused_where_two_are_needed(name):
    call, mask = BOUNDARIES[name]
    if name in ("epsilon_of_one_run", "rmia population", "usable of accuracies"):
        with pytest.raises(InputError):
            call(np.stack([mask, mask]))
        return
    refused = 0
    for only in (np.ones_like(mask), np.zeros_like(mask)):
        try:
            call(only)
        except InputError:
            refused += 1
    assert refused >= 1  # LiRA offline does without members, a comparison with every test sample


@pytest.mark.parametrize("scores_of", [label_only_scores, gap_attack_scores])
def test_answers_that_are_no_booleans(scores_of):
    right = np.array([[True, False], [True, True]])
    np.testing.assert_array_equal(scores_of(right.tolist()), scores_of(right))
    for wrong in (right.astype(int), right.astype(float), right[None]):
        with pytest.raises(InputError):
            scores_of(wrong)


def _population(**changed):
    arrays = {
        "margins": np.zeros((2, 3), np.float32),
        "correct": np.ones((2, 3), bool),
        "member": np.array([[True, True, False]] * 2),
        "forgotten": np.zeros((2, 3), bool),
        "kinds": ("oracle", "oracle"),
        "ids": np.array([4, 7, 9]),
        "labels": np.zeros(3, np.int32),
        "test": np.array([False, False, True]),
        "data_fingerprint": "x",
    }
    return Population(**(arrays | changed))


@pytest.mark.parametrize("name", ["correct", "member", "forgotten", "test"])
def test_a_population_takes_no_numbers_for_masks(name):
    mask = getattr(_population(), name)
    for kind in (int, np.uint8, float):
        with pytest.raises(InputError, match="of dtype"):
            _population(**{name: mask.astype(kind)})


def test_models_and_examples_of_a_population_are_named_once():
    population = _population()
    assert population.positions([7, 4]).tolist() == [1, 0]
    assert len(population.models(np.array([False, True]))) == 1
    for wrong in ([7, 7], [5], [-1], [True, False], [4.0]):
        with pytest.raises(InputError):
            population.positions(wrong)
    for wrong in ([0, 0], [2], [-1], [True], [0.0]):
        with pytest.raises(InputError):
            population.models(wrong)


def test_masks_that_many_networks_are_trained_by():
    for wrong in (
        np.ones((2, len(TRAIN)), int),
        np.ones((2, 3), bool),
        np.zeros((2, len(TRAIN)), bool),
    ):
        with pytest.raises(InputError):
            train_by(RECIPE, TRAIN, wrong, normalisation=NETWORK.normalisation, seed=0)
    with pytest.raises(InputError, match="members of dtype"):
        measured(
            [NETWORK, NETWORK], ["a", "b"], SPLITS, TRAIN.ids[:2], members=np.ones((2, 3), int)
        )


def test_usable_tests_of_traces():
    request = request_for_ids(TRAIN.ids[TRAIN.labels == 0], TRAIN)
    for wrong in (USABLE.astype(int), np.flatnonzero(USABLE), USABLE[:-1]):
        with pytest.raises(InputError, match="usable mask"):
            traces_of(SPLITS, request, NETWORK, usable=wrong)


def test_chosen_samples_are_a_mask():
    with pytest.raises(InputError, match="chosen of dtype"):
        Overfitted("otsu", np.zeros(3), np.zeros(1), np.array([0, 1, 1]))


@pytest.mark.parametrize(
    "wrong",
    [
        [0, 0],
        [-1],
        [10_000],
        [0.0],
        [[0, 1]],
        [True, False],
        FORGET.astype(int),
        ["0"],
        [[1], [2, 3]],
        [2**70],
    ],
    ids=str,
)
def test_samples_are_named_once_and_only_if_they_are_there(wrong):
    for selection in (TRAIN.take, TRAIN.only, TRAIN.without, TRAIN.positions):
        with pytest.raises(InputError) as caught:
            selection(wrong)
        assert caught.value.remedy


def test_selections_as_they_should_be():
    assert TRAIN.take(FORGET.tolist()).ids.tolist() == TRAIN.ids[FORGET].tolist()
    assert TRAIN.take(jnp.asarray(FORGET)).ids.tolist() == TRAIN.ids[FORGET].tolist()
    assert TRAIN.take([3, 1]).ids.tolist() == TRAIN.ids[[3, 1]].tolist()
    gone = TRAIN.ids[FORGET]
    assert TRAIN.only(gone[::-1].tolist()).ids.tolist() == gone[::-1].tolist()
    assert TRAIN.without(jnp.asarray(gone)).ids.tolist() == TRAIN.ids[~FORGET].tolist()
    assert len(TRAIN.take([])) == len(TRAIN.only([])) == 0 and len(TRAIN.without([])) == len(TRAIN)
    with pytest.raises(InputError, match="mask"):
        TRAIN.only(FORGET)
    with pytest.raises(InputError, match="mask"):
        TRAIN.without(FORGET)


@pytest.mark.parametrize(
    "changed",
    [
        {"labels": TRAIN.labels[:-1]},
        {"labels": TRAIN.labels.astype(float)},
        {"labels": TRAIN.labels - 1},
        {"labels": TRAIN.labels + 1},
        {"labels": TRAIN.labels[:, None]},
        {"ids": TRAIN.ids * 0},
        {"ids": TRAIN.ids[1:]},
        {"ids": TRAIN.ids.astype(float)},
        {"images": TRAIN.images[0]},
        {"images": TRAIN.images[..., 0]},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_dataset_holds_what_it_says(changed):
    whole = {name: getattr(TRAIN, name) for name in ("images", "labels", "ids", "num_classes")}
    with pytest.raises(InputError):
        Dataset(**(whole | changed))


def test_the_shape_of_a_list_and_of_what_is_no_array():
    assert shape_of("images", [[1, 2, 3]]) == (1, 3) == shape_of("images", np.zeros((1, 3)))
    with pytest.raises(InputError, match=r"images that is no array.*Give rows of one length"):
        shape_of("images", [[1], [1, 2]])
