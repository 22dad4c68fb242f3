"""The files of a finished stage: written by process 0, checked when read."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from dcmu_jax.condensation.bank import CondensedBank
from dcmu_jax.data.dataset import Dataset
from dcmu_jax.files import write_json
from dcmu_jax.metrics.measurement import Trajectory
from dcmu_jax.runs.saved import PreparedNote
from dcmu_jax.runs.store import damaged, moved
from dcmu_jax.training.checkpoints import save_classifier
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.devices import from_writer, is_writer
from dcmu_jax.unlearning.task import Prepared, Unlearned


def save_prepared(folder: Path, prepared: Prepared, original: Classifier) -> dict[str, Any]:
    """Write the bank, the network if it is not the original, and cost.json, which is returned."""
    trained, bank = prepared.classifier is not original, prepared.bank
    cost = {
        "offline_s": prepared.offline_s,
        "compile_s": prepared.compile_s,
        "trained": trained,
        "matching_loss_start": float(bank.initial_loss.mean()),
        "matching_loss_end": float(bank.final_loss.mean()),
        "clusters": len(bank.labels),
        "bank": bank.fingerprint(),
    }
    if is_writer():
        bank.save(folder / "bank.npz")
        write_json(folder / "cost.json", cost)
    if trained:
        save_classifier(folder / "network", prepared.classifier)
    return cost


def load_bank(folder: Path, note: PreparedNote, train: Dataset) -> CondensedBank:
    """The bank of an offline phase.

    Raises:
        InputError: it is damaged, of other data, or another than its note says.
    """
    file = folder / "bank.npz"
    data = from_writer(lambda: CondensedBank.load(file, moved(folder)).to_bytes())
    bank = CondensedBank.from_bytes(data)
    bank.check(train)
    if bank.fingerprint() != note.bank:
        raise damaged(file, ValueError("its contents do not match its fingerprint"))
    return bank


def save_served(folder: Path, unlearned: Unlearned, trajectory: Trajectory) -> dict[str, Any]:
    """Write the network and result.json, whose cost is returned."""
    cost = {
        "online_s": unlearned.online_s,
        "compile_s": unlearned.compile_s,
        "flops": unlearned.flops,
        "reduction": unlearned.reduction,
        "residual": unlearned.residual,
        "solved": unlearned.solved,
    }
    save_classifier(folder / "network", unlearned.classifier)
    result = {
        "cost": cost,
        "trajectory": dataclasses.asdict(trajectory),
        "trained_ids": unlearned.trained_ids.tolist(),
    }
    if is_writer():
        write_json(folder / "result.json", result)
    return cost
