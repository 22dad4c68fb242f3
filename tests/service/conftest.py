"""One run, workspaces of it at three points of their lives, and copies for every test to spoil."""

import shutil

import pytest
from service.toy import CONFIG, ids_text

from dcmu_jax.runs.run import Run
from dcmu_jax.service import Workspace


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory):
    run = Run.create(tmp_path_factory.mktemp("runs") / "run", CONFIG)
    run.prepare()
    return run


@pytest.fixture(scope="session")
def ids(toy_run):
    """Ids of the training set, one class after the other in turns."""
    train = toy_run.splits.train
    order = sorted(train.ids.tolist(), key=lambda i: train.labels[train.ids.tolist().index(i)])
    return [order[(n % 3) * 12 + n // 3] for n in range(36)]


@pytest.fixture(scope="session")
def fresh(toy_run, tmp_path_factory):
    """Nothing was asked of it yet; not to be written to, like the two that follow."""
    directory = tmp_path_factory.mktemp("workspaces") / "fresh"
    Workspace.create(toy_run, directory)
    return directory


@pytest.fixture(scope="session")
def served(fresh, ids, tmp_path_factory):
    """One batch of three samples was forgotten."""
    directory = tmp_path_factory.mktemp("workspaces") / "served"
    shutil.copytree(fresh, directory)
    workspace = Workspace(directory)
    workspace.request(ids_text(ids[:3]))
    assert workspace.process() == [1]
    return directory


@pytest.fixture(scope="session")
def purged(served, ids, tmp_path_factory):
    """Two batches, a purge, and a request that is pending."""
    directory = tmp_path_factory.mktemp("workspaces") / "purged"
    shutil.copytree(served, directory)
    workspace = Workspace(directory)
    workspace.request(ids_text(ids[3:5]), reference="ticket 1")
    workspace.request(ids_text(ids[5:6]))
    assert workspace.process() == [2]
    assert workspace.purge() == 3
    workspace.request(ids_text(ids[6:9]))
    return directory


@pytest.fixture
def copied(tmp_path):
    """Gives a workspace of one's own."""

    def copy(directory):
        target = tmp_path / f"w{len(list(tmp_path.iterdir()))}"
        shutil.copytree(directory, target)
        return target

    return copy
