"""The collection protocol against plain-Python sets, its identity, and what it never contains."""

import dataclasses

import numpy as np
import pytest

from dcmu_jax.data.dataset import Dataset
from dcmu_jax.errors import InputError
from dcmu_jax.unlearning.protocol import collect, collection_protocol, forget_mask


@dataclasses.dataclass(frozen=True)
class ToyBank:
    ids: np.ndarray
    cluster: np.ndarray
    images: np.ndarray
    labels: np.ndarray


def _by_sets(cluster, num_clusters, forgotten):
    """The rule in plain Python: survivors of touched clusters, and untouched clusters."""
    members = {j: {i for i, c in enumerate(cluster) if c == j} for j in range(num_clusters)}
    touched = {j for j in members if members[j] & forgotten}
    survivors = {i for j in touched for i in members[j] - forgotten}
    return members, touched, survivors, {j for j in members if members[j] and j not in touched}


def _draw(seed, count=200, num_clusters=40):
    """Clusters of very unequal sizes, singletons and maybe empty ones among them."""
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.full(num_clusters, 0.4))
    cluster = rng.choice(num_clusters, count, p=share).astype(np.int32)
    return cluster, rng.random(count) < rng.choice([0.01, 0.1, 0.5, 0.95])


@pytest.mark.parametrize("seed", range(40))
def test_equals_sets_and_identity_on_every_draw(seed):
    cluster, forget = _draw(seed)
    if forget.all():
        forget[0] = False
    forgotten = set(np.flatnonzero(forget).tolist())
    members, touched, survivors, condensed = _by_sets(cluster.tolist(), 40, forgotten)
    found = collection_protocol(cluster, 40, forget)
    assert set(np.flatnonzero(found.touched).tolist()) == touched
    assert found.survivors.tolist() == sorted(survivors)
    assert found.condensed.tolist() == sorted(condensed)
    assert found.remaining.tolist() == [len(members[j] - forgotten) for j in range(40)]
    assert found.recondensable.tolist() == sorted(j for j in touched if members[j] - forgotten)
    retained = len(cluster) - len(forgotten)
    reduced = retained - sum(len(members[j]) - 1 for j in condensed)
    assert len(found.survivors) + len(found.condensed) == reduced
    assert found.reduction == reduced / retained


def test_draws_have_singletons_and_every_kind_of_cluster():
    # Otherwise the test above would not test what it says.
    draws = [_draw(seed)[0] for seed in range(40)]
    assert all((np.bincount(cluster, minlength=40) == 1).any() for cluster in draws)
    assert any((np.bincount(cluster, minlength=40) == 0).any() for cluster in draws)


@pytest.mark.parametrize(("per_class", "clusters_per_class"), [(50, 5), (40, 4), (30, 30)])
def test_class_forgetting_reduces_to_clusters_over_class_size(per_class, clusters_per_class):
    classes = 4
    inside = np.concatenate(
        [np.arange(clusters_per_class), np.zeros(per_class - clusters_per_class)]
    ).astype(np.int32)
    cluster = np.concatenate([c * clusters_per_class + inside for c in range(classes)])
    forget = np.repeat(np.arange(classes) == 2, per_class)
    found = collection_protocol(cluster, classes * clusters_per_class, forget)
    assert len(found.survivors) == 0
    assert found.reduction == clusters_per_class / per_class


def _problem(seed, count=120, num_clusters=20):
    rng = np.random.default_rng(seed)
    cluster = np.concatenate(
        [np.arange(num_clusters), rng.choice(num_clusters // 2, count - num_clusters)]
    ).astype(np.int32)
    labels = np.arange(num_clusters, dtype=np.int32) % 3
    ids = rng.permutation(10_000)[:count].astype(np.int64)
    bank = ToyBank(
        ids, cluster, rng.uniform(0, 255, (num_clusters, 4, 3, 1)).astype(np.float32), labels
    )
    # The dataset holds the same samples in another order: ids are what names them.
    order = rng.permutation(count)
    images = rng.integers(0, 256, (count, 4, 3, 1)).astype(np.uint8)
    dataset = Dataset(images, labels[cluster][order], ids[order], 3)
    forget_ids = rng.permutation(ids)[: rng.integers(1, count // 4)]
    return bank, dataset, forget_ids


OPTIONS = [
    {},
    {"weigh_by_size": True},
    {"real_per_cluster": 2, "weigh_by_size": True},
    {"real_per_cluster": 1},
    {"stand_in": "member", "weigh_by_size": True},
    {"stand_in": "member", "real_per_cluster": 2, "weigh_by_size": True},
    {"touched": "recondense"},
    {"touched": "recondense", "real_per_cluster": 3, "weigh_by_size": True},
]


def _recondensed(bank, forget_ids, options):
    """The options with a made-up bank of what is left: image j of touched clusters is 300 + j."""
    if options.get("touched") != "recondense":
        return options
    stays = ~forget_mask(bank, forget_ids)
    split = collection_protocol(bank.cluster, len(bank.images), ~stays)
    images = bank.images.copy()
    images[split.touched] = 300 + np.flatnonzero(split.touched).reshape(-1, 1, 1, 1)
    left = np.flatnonzero(split.remaining)
    cluster = np.searchsorted(left, bank.cluster[stays]).astype(np.int32)
    return options | {
        "recondensed": ToyBank(bank.ids[stays], cluster, images[left], bank.labels[left])
    }


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_never_a_forgotten_id_and_every_row_is_what_it_says(options, seed):
    bank, dataset, forget_ids = _problem(seed)
    found = collect(bank, dataset, forget_ids, **_recondensed(bank, forget_ids, options))
    real = ~found.is_condensed
    assert len(found.ids) == real.sum() == len(set(found.ids.tolist()))
    assert not np.isin(found.ids, forget_ids).any()
    assert real.tolist() == sorted(real.tolist(), reverse=True)
    at = [dataset.ids.tolist().index(i) for i in found.ids.tolist()]
    np.testing.assert_array_equal(found.pixels[real], dataset.images[at].astype(np.float32))
    np.testing.assert_array_equal(found.labels[real], dataset.labels[at])
    assert (found.pixels.dtype, found.labels.dtype) == (np.float32, np.int32)
    retained = len(bank.ids) - len(forget_ids)
    assert found.reduction == len(found) / retained == len(found.weights) / retained
    if options.get("weigh_by_size"):
        assert found.weights.sum() == retained
        assert (found.weights > 0).all()
    else:
        assert (found.weights == 1).all()


@pytest.mark.parametrize("seed", range(4))
def test_default_set_is_that_of_the_protocol(seed):
    bank, dataset, forget_ids = _problem(seed)
    forgotten = set(np.flatnonzero(np.isin(bank.ids, forget_ids)).tolist())
    _, _, survivors, condensed = _by_sets(bank.cluster.tolist(), 20, forgotten)
    found = collect(bank, dataset, forget_ids)
    assert set(found.ids.tolist()) == set(bank.ids[sorted(survivors)].tolist())
    np.testing.assert_array_equal(found.pixels[found.is_condensed], bank.images[sorted(condensed)])
    np.testing.assert_array_equal(found.labels[found.is_condensed], bank.labels[sorted(condensed)])


@pytest.mark.parametrize("options", OPTIONS[:4], ids=str)
def test_pixels_of_forgotten_images_change_nothing(options):
    bank, dataset, forget_ids = _problem(0)
    before = collect(bank, dataset, forget_ids, **options)
    gone = np.isin(dataset.ids, forget_ids)
    changed = dataclasses.replace(
        dataset,
        images=np.where(gone[:, None, None, None], 255 - dataset.images, dataset.images),
        labels=np.where(gone, 2 - dataset.labels, dataset.labels),
    )
    # Nor does the condensed image of any cluster they were in.
    dirty = np.isin(np.arange(20), bank.cluster[np.isin(bank.ids, forget_ids)])
    spoilt = dataclasses.replace(
        bank, images=np.where(dirty[:, None, None, None], np.float32(-1), bank.images)
    )
    after = collect(spoilt, changed, forget_ids, **options)
    for name in ("pixels", "labels", "weights", "ids", "is_condensed"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    # And that is not because pixels never mattered.
    stays = dataclasses.replace(dataset, images=255 - dataset.images)
    assert (collect(bank, stays, forget_ids, **options).pixels != before.pixels).any()


def test_recondensed_clusters_keep_the_set_at_one_image_per_cluster():
    bank, dataset, forget_ids = _problem(1)
    vanishing = bank.ids[bank.cluster == 19]  # a singleton
    forget_ids = np.union1d(forget_ids, vanishing)
    options = _recondensed(bank, forget_ids, {"touched": "recondense"})
    found = collect(bank, dataset, forget_ids, **options)
    split = collection_protocol(bank.cluster, 20, forget_mask(bank, forget_ids))
    assert found.is_condensed.all() and len(found.ids) == 0
    clusters = np.flatnonzero(split.remaining).tolist()
    assert 19 not in clusters and len(split.recondensable) > 0
    assert found.labels.tolist() == bank.labels[clusters].tolist()
    for image, j in zip(found.pixels, clusters, strict=True):
        assert (image == (300 + j if split.touched[j] else bank.images[j])).all()


def test_real_members_are_drawn_per_cluster_by_seed():
    bank, dataset, forget_ids = _problem(2)
    plain = collect(bank, dataset, forget_ids)
    found = collect(bank, dataset, forget_ids, real_per_cluster=2, seed=5)
    split = collection_protocol(bank.cluster, 20, forget_mask(bank, forget_ids))
    added = np.setdiff1d(found.ids, plain.ids)
    drawn = np.bincount(bank.cluster[np.isin(bank.ids, added)], minlength=20)
    expected = np.where(split.touched, 0, np.minimum(split.remaining, 2))
    assert drawn.tolist() == expected.tolist()
    # Clusters all of whose members were drawn need no condensed image.
    kept = split.condensed[split.remaining[split.condensed] > 2]
    np.testing.assert_array_equal(found.pixels[found.is_condensed], bank.images[kept])
    again = collect(bank, dataset, forget_ids, real_per_cluster=2, seed=5)
    other = collect(bank, dataset, forget_ids, real_per_cluster=2, seed=6)
    assert again.ids.tolist() == found.ids.tolist() != other.ids.tolist()


@pytest.mark.parametrize("real", [0, 2])
def test_a_member_stands_in_for_each_condensed_image_and_weighs_as_much(real):
    bank, dataset, forget_ids = _problem(2)
    options = {"real_per_cluster": real, "weigh_by_size": True, "seed": 5}
    condensed = collect(bank, dataset, forget_ids, **options)
    members = collect(bank, dataset, forget_ids, stand_in="member", **options)
    assert len(members) == len(condensed)
    assert not members.is_condensed.any() and condensed.is_condensed.any()
    added = members.ids[len(condensed.ids) :]
    assert members.ids[: len(condensed.ids)].tolist() == condensed.ids.tolist()
    split = collection_protocol(bank.cluster, 20, forget_mask(bank, forget_ids))
    cluster = [int(bank.cluster[bank.ids == i][0]) for i in added]
    assert cluster == split.condensed[split.remaining[split.condensed] > real].tolist()
    np.testing.assert_array_equal(members.weights, condensed.weights)


def test_mask_and_cluster_refusals():
    cluster = np.array([0, 1, 1], np.int32)
    with pytest.raises(
        InputError, match=r"mask of shape \(2,\) for samples of the bank of shape \(3,\)"
    ):
        collection_protocol(cluster, 2, np.zeros(2, bool))
    with pytest.raises(InputError, match="forget all 3 samples"):
        collection_protocol(cluster, 2, np.ones(3, bool))
    with pytest.raises(InputError, match=r"Cluster numbers 0\.\.1"):
        collection_protocol(cluster, 1, np.zeros(3, bool))
    with pytest.raises(InputError, match=r"Cluster numbers -1\.\.0"):
        collection_protocol(cluster - 1, 2, np.zeros(3, bool))


def test_option_refusals():
    bank, dataset, forget_ids = _problem(0)
    again = _recondensed(bank, forget_ids, {"touched": "recondense"})
    with pytest.raises(InputError, match="real_per_cluster = -1"):
        collect(bank, dataset, forget_ids, real_per_cluster=-1)
    with pytest.raises(InputError, match="No re-condensed bank"):
        collect(bank, dataset, forget_ids, touched="recondense")
    with pytest.raises(InputError, match="bank with touched='members'"):
        collect(bank, dataset, forget_ids, recondensed=again["recondensed"])
    with pytest.raises(InputError, match="made for another request"):
        collect(bank, dataset, forget_ids[1:], **again)
    others = dataclasses.replace(again["recondensed"], ids=again["recondensed"].ids[::-1])
    with pytest.raises(InputError, match="made for another request"):
        collect(bank, dataset, forget_ids, touched="recondense", recondensed=others)
    fewer = dataclasses.replace(again["recondensed"], images=again["recondensed"].images[1:])
    with pytest.raises(InputError, match="made for another request"):
        collect(bank, dataset, forget_ids, touched="recondense", recondensed=fewer)


def test_request_refusals():
    bank, dataset, forget_ids = _problem(0)
    with pytest.raises(InputError, match=r"2 id\(s\) to forget .* 20000, 20001"):
        collect(bank, dataset, np.append(forget_ids, [20_001, 20_000]))
    with pytest.raises(InputError, match="forget all 120 samples"):
        collect(bank, dataset, bank.ids)
    with pytest.raises(InputError, match="Unknown id"):  # a survivor without pixels
        collect(bank, dataset.without(collect(bank, dataset, forget_ids).ids[:1]), forget_ids)
