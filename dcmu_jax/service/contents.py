"""What a workspace and its versions hold, written to files and read back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from dcmu_jax.condensation.bank import CondensedBank
from dcmu_jax.condensation.building import feature_network
from dcmu_jax.data.dataset import Dataset, Splits
from dcmu_jax.errors import InputError
from dcmu_jax.extensions import is_reference
from dcmu_jax.files import json_text
from dcmu_jax.networks.catalogue import MODELS
from dcmu_jax.reading import parse_json, read_archive, read_json_as
from dcmu_jax.runs import stages
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.config_json import from_json, to_json
from dcmu_jax.service.disk import Disk, archive
from dcmu_jax.service.entries import read_plain
from dcmu_jax.service.history import History
from dcmu_jax.service.ledger import sha256
from dcmu_jax.service.manifest import (
    MANIFEST,
    Manifest,
    check_files,
    decode,
    encode,
    hash_file,
    hash_files,
    not_as_written,
    read_checked,
)
from dcmu_jax.training.checkpoints import load_classifier
from dcmu_jax.training.classifier import Classifier, fresh_classifier

CONFIG, ABOUT, KNOWN, TEST = "config.json", "about.json", "known.npz", "test.npz"
FIXED = (CONFIG, ABOUT, KNOWN, TEST)
"""Files of a workspace that never change."""

VERSIONS, NETWORK, START, BANK, DATA, RECORD = (
    "versions",
    "network",
    "start",
    "bank.npz",
    "train.npz",
    "record.json",
)
KEPT = (RECORD,)
"""What a purge leaves of earlier versions, besides their manifests: numbers, no images."""

_REMEDY = "Restore it from a copy; dcmu verify lists all that has changed"


def version_folder(directory: Path, version: int) -> Path:
    """The folder of a version."""
    return directory / VERSIONS / f"{version:04d}"


def part_of(directory: Path, version: int) -> Path:
    """The temporary folder of a version that is being written."""
    return directory / VERSIONS / f".{version:04d}.part"


@dataclasses.dataclass(frozen=True, eq=False)
class Fixed:
    """What was settled when the workspace was created.

    Attributes:
        config: of the run that it was made from.
        name: of the data.
        class_names: of the data.
        known: every sample of the training set then, without its image.
        test: the test set: remembrance samples, and what accuracies are measured on.
        model: the module of the network.
    """

    config: RunConfig
    name: str
    class_names: tuple[str, ...]
    known: Dataset
    test: Dataset
    model: nn.Module

    def splits(self, train: Dataset) -> Splits:
        """``train`` with the test set."""
        return Splits(self.name, train, self.test, self.class_names)


def write_fixed(disk: Disk, directory: Path, config: RunConfig, splits: Splits) -> dict[str, str]:
    """Write the files that never change; return the hash of each."""
    about = {"name": splits.name, "class_names": list(splits.class_names)}
    texts = {CONFIG: to_json(config) + "\n", ABOUT: json_text(about, indent=1) + "\n"}
    for name, text in texts.items():
        disk.create(directory / name, text.encode())
    known = {"ids": splits.train.ids, "labels": splits.train.labels}
    disk.create(directory / KNOWN, archive(known))
    write_dataset(disk, directory / TEST, splits.test)
    return {name: hash_file(directory / name) for name in FIXED}


def read_fixed(directory: Path, hashes: dict[str, str], model: nn.Module | None) -> Fixed:
    """Read what ``write_fixed`` wrote.

    Args:
        directory: of the workspace.
        hashes: from the first line of the ledger.
        model: the module, where it is not of the catalogue.

    Raises:
        InputError: a file is missing or has changed.
    """
    if sorted(hashes) != sorted(FIXED):
        raise not_as_written("The first line of the ledger", "it names other files")
    for name in FIXED:
        read_checked(directory / name, hashes[name])
    config = from_json(read_plain(directory / CONFIG), str(directory / CONFIG))
    config.check()
    if config.devices > jax.device_count():  # a workspace outlives the machine it was made on
        config = dataclasses.replace(config, devices=1)
    name, class_names = _read_about(directory / ABOUT)
    test = read_dataset(directory / TEST, len(class_names))
    found = _arrays(directory / KNOWN, {"ids": ("i8", 1), "labels": ("i4", 1)})
    known = known_samples(found["ids"], found["labels"], len(class_names))
    if not (len(known) and len(np.unique(known.ids)) == len(known)):
        raise not_as_written(str(directory / KNOWN), "no ids, or ids that occur twice")
    fixed = Fixed(config, name, class_names, known, test, model or nn.Module())
    if model is None:
        if config.model not in MODELS and not is_reference(config.model):
            raise InputError(
                f"The workspace {str(directory)!r} without its module, which came from Python "
                f"({config.model!r} is only a name)",
                "the same module as model; the command line has no way to bring it",
                f"Open it in Python by Workspace({str(directory)!r}, model=model)",
            )
        built = stages.build_model(config.model, fixed.splits(test), config.network)
        fixed = dataclasses.replace(fixed, model=built)
    return fixed


def _read_about(path: Path) -> tuple[str, tuple[str, ...]]:
    about = read_json_as(_About, path, "the description of a workspace", _REMEDY)
    if len(about.class_names) < 2:
        raise not_as_written(str(path), "fewer than two class names")
    return about.name, about.class_names


@dataclasses.dataclass(frozen=True)
class _About:
    name: str
    class_names: tuple[str, ...]


def known_samples(ids: np.ndarray, labels: np.ndarray, num_classes: int) -> Dataset:
    """Samples whose images are not looked at."""
    return Dataset(np.empty((len(ids), 1, 1, 0), np.uint8), labels, ids, num_classes)


def write_dataset(disk: Disk, path: Path, dataset: Dataset) -> None:
    """Images, labels and ids as an archive."""
    arrays: dict[str, Any] = {name: getattr(dataset, name) for name in ("images", "labels", "ids")}
    disk.create(path, archive(arrays))


def read_dataset(path: Path, num_classes: int) -> Dataset:
    """Read what ``write_dataset`` wrote.

    Raises:
        InputError: not such an archive.
    """
    found = _arrays(path, {"images": ("u1", 4), "labels": ("i4", 1), "ids": ("i8", 1)})
    dataset = Dataset(found["images"], found["labels"], found["ids"], num_classes)
    if not (len(dataset) and len(np.unique(dataset.ids)) == len(dataset)):
        raise not_as_written(str(path), "no ids, or ids that occur twice")
    return dataset


def _arrays(path: Path, kinds: dict[str, tuple[str, int]]) -> dict[str, np.ndarray]:
    found = read_archive(path, "a file of a workspace", _REMEDY)
    for name, (kind, rank) in kinds.items():
        array = found.get(name)
        if array is None or array.dtype != np.dtype(kind) or array.ndim != rank:
            raise not_as_written(str(path), f"no array {name} of {np.dtype(kind)}, rank {rank}")
        if len(array) != len(found[next(iter(kinds))]):
            raise not_as_written(str(path), "arrays of different lengths")
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class Samples:
    """What a version can train on, read back.

    Attributes:
        manifest: of the version.
        bank: of ``train``.
        train: the images that this version can still train on: none that it forgot.
        held: the images that lie in the workspace, those forgotten since the last purge among them.
    """

    manifest: Manifest
    bank: CondensedBank
    train: Dataset
    held: Dataset


@dataclasses.dataclass(frozen=True, eq=False)
class Version(Samples):
    """A published version, read back.

    Attributes:
        network: it serves with.
        start: the online phase begins with; the network itself but for version 0 after offline
            training.
        features: the network that the bank was made with.
    """

    network: Classifier
    start: Classifier
    features: Classifier


def read_manifest(directory: Path, history: History, version: int) -> Manifest:
    """The manifest of a version, if it is the one that the ledger names.

    Raises:
        InputError: it is not.
    """
    path = version_folder(directory, version) / MANIFEST
    if path.parent.is_symlink():
        raise not_as_written(str(path), "it is missing")
    manifest = decode(read_checked(path, history.versions[version].manifest), path)
    if manifest.version != version or manifest.change != history.versions[version].change:
        raise not_as_written(str(path), "it is of another version")
    return manifest


def read_network(directory: Path, fixed: Fixed, version: int, name: str = NETWORK) -> Classifier:
    """A network of a version; its files are not checked against the manifest here."""
    like = fresh_classifier(fixed.model, fixed.test, 0)
    path = version_folder(directory, version) / name
    return load_classifier(path, fixed.model, like, _REMEDY)


def current_network(directory: Path, fixed: Fixed, history: History) -> Classifier:
    """The network of the current version.

    Raises:
        InputError: a file of that version has changed.
    """
    number = history.current.version
    manifest = read_manifest(directory, history, number)
    check_files(version_folder(directory, number), manifest)
    network = read_network(directory, fixed, number)
    if network.fingerprint() != manifest.parameters:
        raise not_as_written("The current network", "its parameters have changed")
    return network


def read_held(directory: Path, fixed: Fixed, history: History) -> Dataset:
    """The images in the workspace, including those forgotten since the last purge.

    Raises:
        InputError: their file is not as it was written.
    """
    number = read_manifest(directory, history, history.current.version).data
    path = version_folder(directory, number) / DATA
    wanted = read_manifest(directory, history, number).files.get(DATA)
    if path.is_symlink() or not path.is_file() or hash_file(path) != wanted:
        raise not_as_written(str(path), "its bytes have changed, or it is missing")
    return read_dataset(path, len(fixed.class_names))


def read_samples(
    directory: Path, fixed: Fixed, history: History, number: int | None = None
) -> Samples:
    """Images and bank of a version, its files checked against their manifests first.

    Args:
        directory: of the workspace.
        fixed: see ``Fixed``.
        history: of its ledger.
        number: of the version, not purged; the current one if not given.

    Raises:
        InputError: a file has changed; a forgotten id is among what could be trained on.
    """
    number = history.current.version if number is None else number
    manifest = read_manifest(directory, history, number)
    for needed in sorted({number, manifest.data, manifest.features}):
        folder = version_folder(directory, needed)
        check_files(folder, read_manifest(directory, history, needed))
    held = read_held(directory, fixed, history)
    # What was purged is not held.
    train = held.take(~np.isin(held.ids, history.forgotten_by(number)))
    bank = CondensedBank.load(version_folder(directory, number) / BANK, _REMEDY)
    bank.check(train)
    return Samples(manifest, bank, train, held)


def read_version(
    directory: Path, fixed: Fixed, history: History, number: int | None = None
) -> Version:
    """A version, given and checked as by ``read_samples``, with its networks."""
    found = read_samples(directory, fixed, history, number)
    manifest = found.manifest
    number = manifest.version
    network = read_network(directory, fixed, number)
    folder = version_folder(directory, number)
    start = read_network(directory, fixed, number, START) if (folder / START).is_dir() else network
    original = network
    if manifest.features != number and found.bank.lineage == "trained":
        original = read_network(directory, fixed, manifest.features)
    features = feature_network(found.bank, original, manifest.bank_seed)
    return Version(**vars(found), network=network, start=start, features=features)


def write_version(
    disk: Disk,
    directory: Path,
    manifest: Manifest,
    *,
    network: Classifier,
    bank: CondensedBank,
    record: dict[str, Any],
    start: Classifier | None = None,
    train: Dataset | None = None,
) -> str:
    """Write a version to a temporary folder, rename it, and return the hash of its manifest.

    It is not published by that: only a line of the ledger does it.

    Args:
        disk: see ``Disk``.
        directory: of the workspace.
        manifest: its ``files`` and ``parameters`` are filled in here.
        network: see ``Version``, as for ``bank`` and ``start``.
        bank: likewise.
        record: what is worth knowing of how it came about, JSON.
        start: written where it is not ``network``.
        train: written where the version holds images of its own.
    """
    folder = version_folder(directory, manifest.version)
    aside = part_of(directory, manifest.version)
    disk.make_folder(aside)
    disk.save_network(aside / NETWORK, network)
    if start is not None and start is not network:
        disk.save_network(aside / START, start)
    if train is not None:
        write_dataset(disk, aside / DATA, train)
    disk.create(aside / BANK, archive(dataclasses.asdict(bank)))
    disk.create(aside / RECORD, (json_text(record, indent=1) + "\n").encode())
    manifest = dataclasses.replace(
        manifest, parameters=network.fingerprint(), files=hash_files(aside)
    )
    data = encode(manifest)
    disk.create(aside / MANIFEST, data)
    disk.publish(aside, folder)
    return sha256(data)


def read_record(directory: Path, manifest: Manifest) -> dict[str, Any]:
    """The record of a version, checked against its manifest."""
    path = version_folder(directory, manifest.version) / RECORD
    data = read_checked(path, manifest.files.get(RECORD))
    record = parse_json(data, path, "the record of a version", _REMEDY)
    if not isinstance(record, dict):
        raise InputError(f"The record {str(path)!r}", "a JSON object", _REMEDY)
    return record


def agrees(record: dict[str, Any], history: History, version: int) -> bool:
    """Whether a record names the ids that the ledger has the version's batch forget, if any."""
    if version not in history.batches:
        return True
    return record.get("forgotten") == history.ids_of(history.batches[version].lines).tolist()
