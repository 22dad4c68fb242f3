"""The training loop: what trains, what stays, on what, and that it is the same every time."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import (
    TRACES,
    Noisy,
    Plain,
    assert_close,
    examples_of,
    fresh,
    part_of,
    repeated,
    same_bits,
    toy_splits,
)

from dcmu_jax.data.augmentation import Augmentation, augment
from dcmu_jax.errors import InputError
from dcmu_jax.networks.catalogue import create
from dcmu_jax.networks.partition import PARTS, apply_parts, part_optimizer, partition
from dcmu_jax.training.arguments import Objective, Placement, Trainable
from dcmu_jax.training.examples import Examples, cross_entropy
from dcmu_jax.training.keys import named_key
from dcmu_jax.training.loop import fit
from dcmu_jax.training.optimizers import Optimizer

TRAIN = toy_splits().train
KEY = named_key(0, "test")
SGD = Optimizer(name="sgd", learning_rate=0.05, momentum=0.0)
SUBSETS = [s for n in (1, 2, 3) for s in itertools.combinations(PARTS, n)]


def _fit(model, examples=None, **options):
    start = options.pop("classifier", None) or fresh(model, TRAIN)
    settings = {"epochs": 2, "key": KEY, "optimizer": Optimizer(), "batch_size": 10}
    examples = examples_of(TRAIN) if examples is None else examples
    return fit(start, examples, **{**settings, **options})


def _changed(dataset, at):
    images = dataset.images.copy()
    images[at] = 255 - images[at]
    return Examples.of(images, dataset.labels)


@pytest.mark.parametrize("parts", SUBSETS, ids="+".join)
def test_frozen_parts_and_their_statistics_keep_their_bits(parts):
    before = fresh(Noisy(), TRAIN)
    after = _fit(Noisy(), classifier=before, parts=parts).classifier
    for part in PARTS:
        old, new = part_of(before, part), part_of(after, part)
        if part not in parts:
            assert same_bits(old, new), part
            continue
        leaves = zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True)
        assert all(not np.array_equal(x, y) for x, y in leaves), part


def _by_hand(classifier, transform, steps, trainable, whole, dataset=TRAIN):
    """Full-batch steps; gradients of ``whole`` parameters, or of the trainable sub-tree."""
    x = classifier.normalisation.apply(dataset.images)
    params, stats = classifier.variables["params"], classifier.variables["batch_stats"]
    frozen = {} if whole else partition(params, trainable)[1]
    params = params if whole else partition(params, trainable)[0]

    def objective(params, stats):
        logits, new = apply_parts(
            classifier.model,
            {"params": {**frozen, **params}, "batch_stats": stats},
            x,
            train=trainable,
        )
        return cross_entropy(logits, jnp.asarray(dataset.labels)).mean(), new

    @jax.jit
    def step(params, stats, state):
        grads, new = jax.grad(objective, has_aux=True)(params, stats)
        updates, state = transform.update(grads, state, params)
        return optax.apply_updates(params, updates), {**stats, **new}, state

    state = transform.init(params)
    for _ in range(steps):
        params, stats, state = step(params, stats, state)
    return {"params": {**frozen, **params}, "batch_stats": stats}


@pytest.mark.parametrize("parts", [("intermediate",), ("beginning", "final")], ids="+".join)
def test_optax_view_equals_the_sub_tree_view(parts):
    start = fresh(Noisy(dropout=0.0), TRAIN)
    adam = optax.adamw(1e-2)  # weight decay would show a frozen parameter that moves
    masked = part_optimizer(adam, start.variables["params"], parts)
    view = _by_hand(start, masked, 4, parts, whole=True)
    # Rounding of programs that are compiled apart; and the loop sums the batch in shuffled order.
    near = {"atol": 2e-6, "rtol": 1e-5}
    assert_close(view, _by_hand(start, adam, 4, parts, whole=False), **near)
    ours = _fit(
        start.model,
        classifier=start,
        parts=parts,
        epochs=4,
        batch_size=None,
        optimizer=Optimizer(name="adamw", learning_rate=1e-2),
    ).classifier
    assert_close(view, ours.variables, **near)
    frozen = [part for part in PARTS if part not in parts]
    before = start.variables["params"]
    assert same_bits([view["params"][p] for p in frozen], [before[p] for p in frozen])


def test_cosine_runs_to_zero_over_all_steps_of_the_call():
    optimizer = Optimizer(name="sgd", learning_rate=0.5, momentum=0.0, schedule="cosine")
    start = fresh(Plain(), TRAIN)
    alike = repeated(
        TRAIN, np.zeros(4, int)
    )  # the same batch twice an epoch, however it is shuffled
    options = {"classifier": start, "optimizer": optimizer, "epochs": 3, "batch_size": 2}
    ours = _fit(Plain(), examples_of(alike), **options)
    rates = 0.25 * (1 + np.cos(np.pi * np.arange(6) / 6))
    hand = optax.sgd(lambda step: jnp.asarray(rates, jnp.float32)[step])
    expected = _by_hand(start, hand, 6, PARTS, whole=True, dataset=alike)
    assert_close(expected["params"], ours.classifier.variables["params"], atol=2e-6, rtol=1e-5)


def test_same_key_same_bits_and_another_key_others():
    first, second = _fit(Noisy()), _fit(Noisy())
    assert same_bits(first.classifier.variables, second.classifier.variables)
    assert first.losses == second.losses
    other = _fit(Noisy(), key=named_key(1, "test"))
    assert not same_bits(first.classifier.variables, other.classifier.variables)


def test_masked_parameters_keep_their_bits_and_the_others_train_as_without():
    before = fresh(Plain(), TRAIN)
    params = before.variables["params"]
    mask = jax.tree.map(lambda p: np.zeros(p.shape, bool), params)
    mask["final"] = jax.tree.map(lambda p: np.ones(p.shape, bool), params["final"])
    mask["final"]["kernel"][0, 1] = False
    after = _fit(Plain(), classifier=before, parts=Trainable(mask=mask), optimizer=SGD).classifier
    for part in ("beginning", "intermediate"):
        assert same_bits(part_of(before, part), part_of(after, part))
    old, new = (c.variables["params"]["final"]["kernel"] for c in (before, after))
    assert old[0, 1] == new[0, 1]
    free = mask["final"]["kernel"]
    assert np.asarray(old != new)[free].mean() > 0.5  # a unit that is never active stays
    ones = jax.tree.map(np.ones_like, params)
    assert_close(
        _fit(Plain(), classifier=before, parts=Trainable(mask=ones)).classifier.variables,
        _fit(Plain(), classifier=before).classifier.variables,
        rtol=1e-6,
        atol=1e-7,
    )
    alone = _fit(
        Plain(), classifier=before, parts=Trainable(("final",), mask={"final": ones["final"]})
    ).classifier
    assert not same_bits(part_of(before, "final"), part_of(alone, "final"))


def test_second_call_traces_nothing():
    model = Plain(width=11)
    _fit(model)
    before = len(TRACES)
    # Another key, other data, other parameters: all of them arguments of the same program.
    other = fresh(Plain(width=11), TRAIN, seed=5)  # nor is the initialisation traced again
    _fit(model, _changed(TRAIN, [0]), classifier=other, key=named_key(2, ""))
    _fit(model, classifier=other, epochs=5)
    assert before > 0
    assert len(TRACES) == before


def test_every_example_of_a_ragged_epoch_counts():
    five = TRAIN.take(np.arange(5))  # batches of 4: one is left for the second

    def trained(examples):
        fitted = _fit(Plain(), examples, classifier=start, epochs=1, batch_size=4)
        return fitted.classifier.variables

    start = fresh(Plain(), TRAIN)
    reference = trained(examples_of(five))
    for i in range(len(five)):
        assert not same_bits(reference, trained(_changed(five, [i]))), i


def test_history_is_the_mean_over_the_examples_each_once():
    still = Optimizer(name="sgd", learning_rate=1e-12, momentum=0.0)
    start = fresh(Plain(), TRAIN)
    fitted = _fit(Plain(), classifier=start, optimizer=still, epochs=3)
    truth = start.evaluate(TRAIN)
    assert len(fitted.losses) == len(fitted.accuracies) == 3
    np.testing.assert_allclose(fitted.losses, truth.losses.mean(), rtol=1e-5)
    np.testing.assert_allclose(fitted.accuracies, 100 * truth.correct.mean(), rtol=1e-5)


def test_examples_of_weight_zero_do_not_count():
    weights = np.ones(len(TRAIN), np.float32)
    weights[3:9] = 0
    changed = _changed(TRAIN, range(3, 9))._replace(weights=weights)
    one = _fit(Plain(), examples_of(TRAIN, weights))
    two = _fit(Plain(), changed)
    assert same_bits(one.classifier.variables, two.classifier.variables)
    assert one.losses == two.losses


def test_a_weight_is_a_repetition():
    counts = np.arange(len(TRAIN)) % 3 + 1
    rows = np.repeat(np.arange(len(TRAIN)), counts)
    repeated = Examples.of(TRAIN.images[rows], TRAIN.labels[rows])
    options = {"optimizer": SGD, "batch_size": None, "epochs": 3}
    one = _fit(Plain(), examples_of(TRAIN, counts), **options)
    two = _fit(Plain(), repeated, **options)
    assert_close(one.classifier.variables, two.classifier.variables, atol=1e-6)
    np.testing.assert_allclose(one.losses, two.losses, rtol=1e-5)


@pytest.mark.parametrize("start", ["intermediate", "final"])
def test_cached_inputs_train_as_through_the_frozen_part(start):
    parts = PARTS[PARTS.index(start) :]
    classifier = fresh(Noisy(), TRAIN)
    cached = Examples.of(classifier.inputs_of(start, TRAIN.images), TRAIN.labels)
    through = _fit(Noisy(), classifier=classifier, parts=parts)
    above = _fit(Noisy(), cached, classifier=classifier, parts=Trainable(parts, start))
    # The same sums in another order: float32 rounding, carried through a few Adam steps.
    assert_close(through.classifier.variables, above.classifier.variables, atol=1e-5, rtol=1e-4)


def test_what_is_passed_in_stays_as_it_was():
    classifier = fresh(Noisy(), TRAIN)
    copy = jax.tree.map(np.array, classifier.variables)
    first = _fit(Noisy(), classifier=classifier)
    kept = jax.tree.map(np.array, (first.classifier.variables, first.opt_state))
    inputs = jax.tree.map(jnp.asarray, examples_of(TRAIN))
    going_on = Trainable(opt_state=first.opt_state)
    _fit(Noisy(), inputs, classifier=first.classifier, parts=going_on)
    # Reading a donated array would raise.
    assert same_bits(copy, classifier.variables)
    assert same_bits(kept, (first.classifier.variables, first.opt_state))
    assert int(inputs.labels.sum()) == TRAIN.labels.sum()


def test_an_optimizer_state_goes_on():
    first = _fit(Plain())
    on = _fit(Plain(), classifier=first.classifier, parts=Trainable(opt_state=first.opt_state))
    anew = _fit(Plain(), classifier=first.classifier)
    assert not same_bits(on.classifier.variables, anew.classifier.variables)
    assert int(optax.tree_utils.tree_get(on.opt_state, "count")) == 2 * 2 * 3


@pytest.mark.parametrize("augmentation", [Augmentation(True), Augmentation(False, 2)])
def test_augmentation_is_used(augmentation):
    plain, augmented = _fit(Plain()), _fit(Plain(), loss=Objective(augmentation=augmentation))
    assert not same_bits(plain.classifier.variables, augmented.classifier.variables)


def test_images_are_mirrored_by_turns_from_epoch_to_epoch():
    turns = Augmentation(alternating_flip=True)
    still = Optimizer(name="sgd", learning_rate=1e-30, momentum=0.0)
    network = fresh(Plain(), TRAIN)
    objective = Objective(augmentation=turns)
    fitted = _fit(Plain(), classifier=network, loss=objective, optimizer=still, epochs=3)
    expected = [
        network.evaluate(
            dataclasses.replace(
                TRAIN, images=np.asarray(augment(TRAIN.images, KEY, turns, jnp.int32(epoch)))
            )
        ).losses.mean()
        for epoch in range(3)
    ]
    assert abs(expected[0] - expected[1]) > 1e-3
    np.testing.assert_allclose(fitted.losses, expected, rtol=1e-4)


def test_bfloat16_computes_but_does_not_store():
    shape = TRAIN.images.shape[1:]
    results = {}
    for dtype in ("float32", "bfloat16"):
        model = create("mlp", image_shape=shape, num_classes=3, dtype=dtype, width=0.05)
        results[dtype] = _fit(model)
        leaves = jax.tree.leaves(results[dtype].classifier.variables)
        assert {x.dtype for x in leaves} == {jnp.dtype("float32")}
    assert results["float32"].losses != results["bfloat16"].losses
    np.testing.assert_allclose(results["float32"].losses, results["bfloat16"].losses, rtol=0.05)


def test_eight_devices_train_as_one():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    model = Noisy(dropout=0.25)
    one = _fit(model, batch_size=16, epochs=3, optimizer=SGD)
    eight = _fit(model, batch_size=16, epochs=3, optimizer=SGD, placement=Placement(mesh))
    np.testing.assert_allclose(one.losses, eight.losses, rtol=1e-5)
    assert_close(one.classifier.variables, eight.classifier.variables, atol=1e-5)
    leaf = jax.tree.leaves(eight.classifier.variables)[0]
    assert leaf.sharding.device_set == {jax.devices()[0]}  # where any other program can use it


def test_operations_are_counted_and_fewer_where_less_trains():
    whole = _fit(Plain())
    head = _fit(Plain(), parts=("final",))
    longer = _fit(Plain(), epochs=4)
    assert whole.flops is not None and head.flops is not None
    assert 0 < head.flops < whole.flops
    assert longer.flops == 2 * whole.flops


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_no_epochs_change_nothing(schedule):
    classifier = fresh(Plain(), TRAIN)
    fitted = _fit(Plain(), classifier=classifier, epochs=0, optimizer=Optimizer(schedule=schedule))
    assert same_bits(fitted.classifier.variables, classifier.variables)
    assert fitted.losses == ()


def test_callbacks_see_every_epoch():
    seen, observed = [], []

    def observe(now):
        observed.append((now.number, now.network.evaluate(TRAIN).losses.mean()))

    fitted = _fit(
        Plain(),
        epochs=3,
        callbacks=(lambda now: seen.append((now.number, now.loss, now.accuracy)), observe),
    )
    rows = zip((1, 2, 3), fitted.losses, fitted.accuracies, strict=True)
    assert seen == list(rows)
    assert [epoch for epoch, _ in observed] == [1, 2, 3]
    assert observed[-1][1] == fitted.classifier.evaluate(TRAIN).losses.mean()


def test_a_callback_ends_the_training_where_it_says_true():
    seen = []

    def end(now):
        seen.append((now.number, now.epochs, now.losses))
        return now.number == 2

    short = _fit(Plain(), epochs=5, callbacks=(end, lambda _: "no answer"))
    two = _fit(Plain(), epochs=2)
    assert same_bits(short.classifier.variables, two.classifier.variables)
    assert (short.losses, short.flops) == (two.losses, two.flops)
    assert seen == [(1, 5, two.losses[:1]), (2, 5, two.losses)]


_COSINE = Optimizer(schedule="cosine")
_MESH = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
_OTHER_MESH = jax.make_mesh((8,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
_EMPTY = examples_of(TRAIN.take(np.arange(0)))
_SHORT = examples_of(TRAIN)._replace(labels=TRAIN.labels[:-1])
_LIGHT = examples_of(TRAIN)._replace(weights=np.ones(5, np.float32))

ERRORS = {
    "no examples": ({"examples": _EMPTY}, "No examples to train on"),
    "fewer labels": ({"examples": _SHORT}, r"24 inputs, 23 labels and 24 weights"),
    "fewer weights": ({"examples": _LIGHT}, r"24 inputs, 24 labels and 5 weights"),
    "unknown part": ({"parts": ("finale",)}, r"part of a model 'finale'.*Did you mean 'final'"),
    "unknown start": ({"parts": Trainable(start="finale")}, r"part of a model 'finale'"),
    "no part": ({"parts": ()}, r"Training the parts \[\]"),
    "part below start": (
        {"parts": Trainable(start="final")},
        r"\['beginning', .*from the inputs of 'final'",
    ),
    "augmented features": (
        {
            "parts": Trainable(("final",), "final"),
            "loss": Objective(augmentation=Augmentation(True)),
        },
        r"Augmentation of the inputs of 'final'",
    ),
    "mask of another network": (
        {"parts": Trainable(mask={"final": {}})},
        r"A mask of 0 arrays for \d+ arrays",
    ),
    "negative epochs": ({"epochs": -1}, r"epochs = -1"),
    "batch of none": ({"batch_size": 0}, r"batch_size = 0"),
    "learning rate": ({"optimizer": Optimizer(learning_rate=0.0)}, r"learning_rate = 0"),
    "momentum": ({"optimizer": Optimizer(name="sgd", momentum=-1.0)}, r"momentum = -1"),
    "decay": ({"optimizer": Optimizer(weight_decay=-1.0)}, r"weight_decay = -1"),
    "uneven batch": ({"placement": Placement(_MESH)}, r"A batch of 10 over 8 devices.*16"),
    "mesh of another axis": ({"placement": Placement(_OTHER_MESH)}, r"mesh with the axes 'model'"),
    "callback by itself": ({"callbacks": print}, r"Callbacks given as <built-in.*\(function,\)"),
    "loss of a batch": ({"loss": lambda out, labels: 3.0}, r"loss returned 3.0 for a batch of 10"),
    "mean loss": ({"loss": lambda out, labels: out.mean()}, r"loss returned the shape \(\) for"),
    "loss that fails": ({"loss": lambda out, labels: 1 / 0}, r"loss fails .ZeroDivisionError"),
    "loss of outputs": ({"loss": lambda out: out}, r"loss fails .TypeError"),
    "state and schedule": (
        {"optimizer": _COSINE, "parts": Trainable(opt_state=())},
        r"optimizer state to go on from with the schedule 'cosine'",
    ),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_bad_arguments_are_refused(kind):
    options, message = ERRORS[kind]
    options = dict(options)
    with pytest.raises(InputError, match=message):
        _fit(Plain(), options.pop("examples", None), **options)
