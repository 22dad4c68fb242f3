"""Workspaces in which classes became empty: batches and purges go on to the last sample."""

import dataclasses

import numpy as np
import pytest
from service.toy import CONFIG, ids_text

from dcmu_jax.runs import stages
from dcmu_jax.runs.options import CondensationOptions
from dcmu_jax.runs.run import Run
from dcmu_jax.service import Workspace


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A workspace whose number of clusters follows from the number of samples."""
    method = dataclasses.replace(CONFIG.method, condensation=CondensationOptions())
    folder = tmp_path_factory.mktemp("few")
    run = Run.create(folder / "run", dataclasses.replace(CONFIG, method=method))
    Workspace.create(run, folder / "w", max_accuracy_loss=100)
    return folder / "w"


@pytest.mark.parametrize(
    "stay",
    [(1, 0, 0), (1, 1, 0), (2, 0, 0), (1, 1, 1), (0, 12, 0), (12, 1, 0)],
    ids=["one", "one_of_two", "two_of_one", "one_of_each", "a_class", "one_beside_a_class"],
)
def test_a_purge_of_nearly_everything(stay, directory, copied):
    workspace = Workspace(copied(directory))
    known = workspace.fixed.known
    left = [known.ids[known.labels == c][:n] for c, n in enumerate(stay)]
    workspace.request(ids_text(np.setdiff1d(known.ids, np.concatenate(left))))
    assert workspace.process() == [1]
    assert workspace.purge() == 2
    assert workspace.verify().clean
    version = workspace.version()
    assert len(version.train) == sum(stay)
    assert np.array_equal(np.unique(version.bank.labels), np.flatnonzero(stay))
    if sum(stay) > 1:
        workspace.request(ids_text(np.concatenate(left)[:1]))
        assert workspace.process() == [3] and workspace.verify().clean


def test_the_number_of_clusters_follows_from_the_classes_that_have_samples(toy_run):
    config = dataclasses.replace(
        CONFIG, method=dataclasses.replace(CONFIG.method, condensation=CondensationOptions())
    )
    splits = toy_run.splits
    one = splits.train.take(splits.train.labels == 1)
    prepared = stages.prepare(config, toy_run.train(), dataclasses.replace(splits, train=one))
    whole = stages.prepare(config, toy_run.train(), splits)
    assert len(prepared.bank.labels) == np.sum(whole.bank.labels == 1)
