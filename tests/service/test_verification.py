"""Every change of a byte is found, and so is what no hash could tell."""

import json
import os
import random

import pytest
from service.toy import bytes_of, forge, write_ledger

from dcmu_jax.errors import InputError
from dcmu_jax.service.contents import version_folder
from dcmu_jax.service.ledger import sha256
from dcmu_jax.service.verification import verify
from dcmu_jax.service.workspace import Workspace


def test_changes_of_a_byte_are_found(copied, purged):
    """Two hundred of them are made by ``experiments/fault_injection.py``."""
    directory = copied(purged)
    assert verify(directory).clean
    rng = random.Random(0)
    files = {name: data for name, data in bytes_of(directory).items() if data}
    assert {"ledger.head", "versions/0003/train.npz", "versions/0000/manifest.json"} <= set(files)
    by_size = [name for name, data in files.items() for _ in range(len(data))]
    for number in range(60):
        name = rng.choice(list(files)) if number % 2 else rng.choice(by_size)
        data = bytearray(files[name])
        at = rng.randrange(len(data))
        data[at] ^= rng.randrange(1, 256)
        (directory / name).write_bytes(data)
        assert not verify(directory).clean, (name, at)
        (directory / name).write_bytes(files[name])
    assert verify(directory).clean


@pytest.mark.parametrize(
    "name", ["test.npz", "versions/0001/bank.npz", "versions/0000/record.json", "ledger.head"]
)
def test_a_file_that_is_gone_is_missed(copied, served, name):
    directory = copied(served)
    (directory / name).unlink()
    assert not verify(directory).clean


def test_a_forgotten_id_in_the_bank_is_found_whatever_the_hashes_say(copied, served, fresh):
    directory = copied(served)
    old = (version_folder(fresh, 0) / "bank.npz").read_bytes()
    forge(directory, "bank.npz", old)
    (problem,) = verify(directory).problems
    assert "A condensed bank of another training set" in problem


def test_a_ledger_that_forgets_a_request_is_found_whatever_the_hashes_say(copied, served):
    directory = copied(served)
    lines = [json.loads(line) for line in (directory / "ledger.jsonl").read_bytes().splitlines()]
    assert lines[2]["kind"] == "request"
    lines[2]["ids"] = lines[2]["ids"][1:]
    write_ledger(directory, lines)
    assert any("names other ids than the ledger" in p for p in verify(directory).problems)
    with pytest.raises(InputError, match="names other ids than the ledger"):
        Workspace(directory).certificate(1)


def test_what_cannot_be_told_from_a_crash_is_a_note(copied, served, tmp_path):
    directory = copied(served)
    lines = (directory / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    kept = b"".join(lines[:-1])
    head = {"bytes": len(kept), "sha256": sha256(lines[-2])}
    (directory / "ledger.head").write_text(json.dumps(head) + "\n")
    (directory / "ledger.jsonl").write_bytes(kept + lines[-1][:50])
    os.link(directory / "ledger.jsonl", tmp_path / "second")
    found = verify(directory)
    assert any("50 bytes" in n and "no whole line" in n for n in found.notes)
    assert any("ledger.jsonl has a second name" in n for n in found.notes)


def test_ids_that_never_were_are_found(copied, served):
    directory = copied(served)
    lines = [json.loads(line) for line in (directory / "ledger.jsonl").read_bytes().splitlines()]
    lines.append({**lines[2], "ids": [10**9]})
    write_ledger(directory, lines)
    assert any("names 1 ids that the workspace never had" in p for p in verify(directory).problems)


def test_what_interrupted_work_left_is_no_damage(copied, served):
    directory = copied(served)
    (directory / "versions" / ".0002.part").mkdir()
    with (directory / "ledger.jsonl").open("ab") as file:
        file.write(b'{"kind":"requ')
    found = verify(directory)
    assert found.clean and len(found.notes) == 2
