"""The defence: what is unlearned is what was chosen, and shadows see the defence they attack."""

import dataclasses

import numpy as np
import pytest
from toys import Plain, fresh, toy_splits

from dcmu_jax.applications.exposure import ATTACKS, membership_scores
from dcmu_jax.applications.mia_defence import defend, exposed_values, few_epochs
from dcmu_jax.applications.output_defence import confidences, perturbed_logits
from dcmu_jax.applications.recipes import Recipe, train_by
from dcmu_jax.audits.building import measured, random_halves
from dcmu_jax.audits.lira import lira_scores
from dcmu_jax.audits.population import Population
from dcmu_jax.audits.roc import separation
from dcmu_jax.data.dataset import Normalisation
from dcmu_jax.errors import InputError
from dcmu_jax.metrics.overfitting import overfitting_metric
from dcmu_jax.runs.presets import preset
from dcmu_jax.training.population import member, population_logits
from dcmu_jax.unlearning.task import Training

SPLITS = toy_splits(per_class=12)
ORDER = np.random.default_rng(0).permutation(len(SPLITS.train))
# Ids that are not positions: taking the one for the other must show.
TRAIN = dataclasses.replace(SPLITS.train.take(ORDER), ids=SPLITS.train.ids[ORDER] * 7 + 1000)
GIVEN = Normalisation(np.array([0.5], np.float32), np.array([0.25], np.float32))


def test_what_is_unlearned_is_what_lies_below_the_threshold():
    original = fresh(Plain(), TRAIN)
    values = exposed_values(original, TRAIN, "quantile")
    np.testing.assert_array_equal(values, overfitting_metric(original, TRAIN).values)
    asked = []

    def unlearn(ids):
        asked.append(ids)
        return original

    done = defend(original, TRAIN, unlearn, values=values, rule="quantile", share=0.25)
    assert asked[0] is done.ids and sorted(done.ids) == list(done.ids)
    at = TRAIN.positions(done.ids)
    rest = np.setdiff1d(np.arange(len(TRAIN)), at)
    assert len(at) == 9 and values[at].max() < values[rest].min()
    np.testing.assert_array_equal(np.sort(values)[:9], np.sort(values[at]))


def test_by_lira_the_most_exposed_are_chosen():
    rng = np.random.default_rng(0)
    shadows = rng.normal(size=(8, len(TRAIN))).astype(np.float32)
    inside = random_halves(len(TRAIN), 8, seed=0)
    shadows += 2 * inside
    margins = np.zeros(len(TRAIN), np.float32)
    margins[:5] = 6.0  # far more like a member than the others
    original = fresh(Plain(), TRAIN)
    given = {"margins": margins, "shadows": shadows, "member": inside}
    values = exposed_values(original, TRAIN, "lira", **given)
    np.testing.assert_array_equal(values, -lira_scores(margins, shadows, inside))
    done = defend(original, TRAIN, lambda ids: original, values=values, rule="lira", share=5 / 36)
    assert done.ids.tolist() == np.sort(TRAIN.ids[:5]).tolist() and done.subset.rule == "lira"
    with pytest.raises(InputError, match="without shadow models"):
        exposed_values(original, TRAIN, "lira")
    with pytest.raises(InputError, match="Did you mean 'lira'"):
        exposed_values(original, TRAIN, "lyra")


@pytest.mark.parametrize("name", ["paper", "recommended", "condensed"])
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_few_epochs_are_few_and_the_schedule_still_holds(name, model):
    online = few_epochs(preset(name, model).online, 3)
    online.check()
    assert online.rounds <= 3 and all(step.epochs <= 3 for step in online.closing_steps)
    assert (online.rounds > 0) == (preset(name, model).online.rounds > 0)
    with pytest.raises(InputError, match="epochs = 1"):
        few_epochs(online, 1)


def test_an_output_defence_keeps_labels_and_answers_like_unseen_samples():
    rng = np.random.default_rng(0)
    sure = rng.normal(0, 8, (400, 5)).astype(np.float32)
    unseen = rng.normal(0, 1, (300, 5)).astype(np.float32)
    found = perturbed_logits(sure, unseen, seed=1)
    np.testing.assert_array_equal(found.argsort(1), sure.argsort(1))
    for label in range(5):
        ours = confidences(found[sure.argmax(1) == label])
        theirs = confidences(unseen[unseen.argmax(1) == label])
        assert np.abs(ours[:, None] - theirs[None]).min(1).max() < 1e-4  # each is one of theirs
    assert confidences(sure).mean() > confidences(found).mean() + 0.2
    np.testing.assert_array_equal(found, perturbed_logits(sure, unseen, seed=1))
    assert not np.array_equal(found, perturbed_logits(sure, unseen, seed=2))
    with pytest.raises(InputError, match="0 unseen samples"):
        perturbed_logits(sure, unseen[:0], seed=1)


def _population(margins, member):
    count, total = margins.shape
    return Population(
        margins=margins.astype(np.float32),
        correct=margins > 0,
        member=member,
        forgotten=np.zeros_like(member),
        kinds=("a",) * count,
        ids=np.arange(total),
        labels=np.zeros(total, np.int32),
        test=np.zeros(total, bool),
        data_fingerprint="same",
    )


def test_attackers_find_members_where_they_show_and_nothing_where_they_do_not():
    rng = np.random.default_rng(0)
    inside = random_halves(400, 8, seed=1)
    noise = rng.normal(size=(8, 400))
    leaking = _population(noise + 3 * inside, inside)
    hiding = _population(rng.normal(size=(8, 400)), inside)
    for found, low, high in (
        (membership_scores(leaking, leaking), 0.9, 1.0),
        (membership_scores(hiding, hiding), 0.47, 0.53),
    ):
        assert set(found) == set(ATTACKS)
        for name, scores in found.items():
            assert low < separation(scores, inside, resamples=1).auc[0] < high, name
    # Shadows without the defence mislead LiRA where the defence moves all margins alike.
    moved = dataclasses.replace(leaking, margins=leaking.margins - 6)
    scores = membership_scores(moved, leaking)
    aucs = {name: separation(s, inside, resamples=1).auc[0] for name, s in scores.items()}
    assert aucs["lira"] > 0.9 > aucs["lira_plain"]


def test_populations_of_other_halves_are_refused():
    rng = np.random.default_rng(0)
    one, other = random_halves(40, 6, seed=1), random_halves(40, 6, seed=2)
    margins = rng.normal(size=(6, 40))
    with pytest.raises(InputError, match="complementary halves"):
        membership_scores(_population(margins, one), _population(margins, other))
    unpaired = one[[0, 2, 1, 3, 4, 5]]
    with pytest.raises(InputError, match="complementary halves"):
        membership_scores(_population(margins, unpaired), _population(margins, unpaired))


def test_recipes_of_one_seed_start_alike_and_train_on_their_halves():
    inside = random_halves(len(TRAIN), 2, seed=0)
    still = Training(epochs=0)
    plain = Recipe(model=Plain(), training=dataclasses.replace(still, epochs=1, batch_size=6))
    fitted = train_by(plain, TRAIN, inside, normalisation=GIVEN, seed=3)
    again = train_by(plain, TRAIN, inside, normalisation=GIVEN, seed=3)
    np.testing.assert_array_equal(fitted.losses, again.losses)
    smooth = dataclasses.replace(
        plain, training=dataclasses.replace(plain.training, label_smoothing=0.9)
    )
    other = train_by(smooth, TRAIN, inside, normalisation=GIVEN, seed=3)
    assert not np.array_equal(fitted.losses, other.losses)
    # The second network's half changes nothing in the first network.
    changed = TRAIN.images.copy()
    changed[inside[1]] = 255 - changed[inside[1]]
    blind = train_by(
        plain, dataclasses.replace(TRAIN, images=changed), inside, normalisation=GIVEN, seed=3
    )
    one, same = (population_logits(f.classifiers, TRAIN.images) for f in (fitted, blind))
    np.testing.assert_array_equal(one[0], same[0])
    assert not np.array_equal(one[1], same[1])
    found = measured(
        [member(fitted.classifiers, i) for i in range(2)],
        ["a", "a"],
        dataclasses.replace(SPLITS, train=TRAIN),
        np.empty(0, np.int64),
        members=inside,
    )
    assert not found.forgotten.any()
    with pytest.raises(InputError, match="members of shape"):
        train_by(plain, TRAIN, inside[:, :-1], normalisation=GIVEN, seed=3)
