"""A network of NaN that was published: said, and made again of the last that is finite."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from service.toy import ids_text

from dcmu_jax.cli import main
from dcmu_jax.errors import InputError
from dcmu_jax.reporting.certificate import certificate_sentences
from dcmu_jax.runs import stages
from dcmu_jax.service import Workspace, work
from dcmu_jax.service.gate import NotPublished
from dcmu_jax.training.divergence import all_finite


def _ruin(workspace, monkeypatch, value=jnp.nan):
    """Publish NaN, or huge numbers, as was possible before there was a gate."""
    made = work.forget_batch

    def forget_batch(*given):
        found = made(*given)
        variables = jax.tree.map(lambda x: jnp.full_like(x, value), found.network.variables)
        network = dataclasses.replace(found.network, variables=variables)
        return dataclasses.replace(found, network=network)

    with monkeypatch.context() as patch:
        patch.setattr(work, "forget_batch", forget_batch)
        patch.setattr("dcmu_jax.training.checkpoints.all_finite", lambda tree: True)
        return workspace.process()


@pytest.fixture
def ruined(copied, served, ids, monkeypatch):
    """Of its three versions the last is of no number."""
    directory = copied(served)
    workspace = Workspace(directory)
    workspace.request(ids_text(ids[3:5]))
    assert _ruin(workspace, monkeypatch) == [2]
    return directory


@pytest.mark.parametrize("pending", [False, True])
def test_the_next_batch_starts_from_the_last_that_was_finite(ruined, ids, pending):
    workspace, told = Workspace(ruined), []
    assert not all_finite(workspace.network().variables)
    (problem,) = workspace.verify().problems
    assert "network of version 2 is not finite: dcmu process makes a new one" in problem
    with pytest.raises(InputError, match=r"not finite.*Run dcmu process first"):
        workspace.purge()
    if pending:
        workspace.request(ids_text(ids[5:6]))
    assert workspace.process(notify=told.append) == [3]
    assert told[0].startswith("The network of version 2 is not finite: this batch starts from "
                              "version 1, and forgets again the 2 samples")  # fmt: skip
    assert all_finite(workspace.network().variables)
    version, gone = workspace.version(), ids[: 6 if pending else 5]
    for held in (version.train.ids, version.bank.ids):
        assert sorted(held) == sorted(set(range(36)) - set(gone))
    certificate = workspace.certificate(3)
    record = certificate["record"]
    assert record["forgotten"] == (ids[5:6] if pending else [])
    assert record["base"] == 1 and record["forgotten_again"] == sorted(ids[3:5])
    assert "it was made of version 1, and 2 samples were forgotten again" in " ".join(
        certificate_sentences(certificate)
    )
    assert workspace.verify().clean and workspace.process() == []
    assert workspace.purge() == 4 and workspace.verify().clean
    assert np.array_equal(workspace.version().train.ids, np.sort(version.train.ids))


def test_the_command_says_what_to_do_and_does_it(ruined, capsys):
    assert main(["verify", str(ruined)]) == 2
    assert "dcmu process makes a new one" in capsys.readouterr().err
    assert main(["process", str(ruined), "--quiet"]) == 0
    assert "starts from version 1" in capsys.readouterr().out
    assert main(["verify", str(ruined)]) == 0


def test_a_workspace_without_any_finite_network(ruined, monkeypatch):
    monkeypatch.setattr("dcmu_jax.service.work.fault_of", lambda *_: "is not finite")
    with pytest.raises(InputError, match=r"No network in .* is finite.*dcmu workspace RUN --out"):
        Workspace(ruined).process()


def test_a_network_whose_features_are_too_large_for_a_bank(copied, served, ids, monkeypatch):
    """It is refused; and one that was published before is made again, or no purge could be."""
    workspace = Workspace(copied(served))
    workspace.request(ids_text(ids[3:5]))
    unlearn = stages.unlearn

    def huge(*given, **rest):
        found = unlearn(*given, **rest)
        variables = jax.tree.map(lambda x: jnp.full_like(x, 1e6), found.classifier.variables)
        network = dataclasses.replace(found.classifier, variables=variables)
        return dataclasses.replace(found, classifier=network)

    with monkeypatch.context() as patch:
        patch.setattr(stages, "unlearn", huge)
        with pytest.raises(NotPublished, match=r"as large as .*of which no bank can be made"):
            workspace.process(accept_accuracy_loss=100)
    assert workspace.status().version == 1 and workspace.status().pending == 2
    workspace.request(ids_text(ids[5:6]))  # or it would not be tried again
    assert _ruin(workspace, monkeypatch, 1e6) == [2] and all_finite(workspace.network().variables)
    assert "gives features as large as" in workspace.verify().problems[0]
    with pytest.raises(InputError, match=r"no bank can be made.*Run dcmu process first"):
        workspace.purge()
    assert workspace.process() == [3] and workspace.purge() == 4 and workspace.verify().clean
