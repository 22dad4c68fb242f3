"""One run, and a workspace of it for every test to spoil."""

import shutil

import pytest
from service.toy import make_run, opened

from dcmu_jax.service import Workspace


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="session")
def untouched(toy_run, tmp_path_factory):
    """A workspace nobody writes to."""
    directory = tmp_path_factory.mktemp("workspaces") / "untouched"
    Workspace.create(toy_run, directory)
    return directory


@pytest.fixture
def directory(untouched, tmp_path):
    """A copy of it."""
    shutil.copytree(untouched, tmp_path / "w")
    return tmp_path / "w"


@pytest.fixture
def workspace(directory):
    return opened(directory)
