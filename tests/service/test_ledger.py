"""The ledger: what was acknowledged is there or missed; what was not may be dropped."""

import dataclasses
import itertools
import json

import pytest

from dcmu_jax.errors import InputError
from dcmu_jax.service import ledger as ledger_module
from dcmu_jax.service.disk import Disk
from dcmu_jax.service.faults import FailingDisk, Killed
from dcmu_jax.service.history import replay
from dcmu_jax.service.ledger import (
    HEAD,
    LEDGER,
    Begun,
    Published,
    Requested,
    append,
    create_ledger,
    read_ledger,
    settle,
    sha256,
)

FILES = {"a": "0" * 64}


def _request(*ids, reference=None):
    return Requested(text="ids:1", reference=reference, ids=ids, previous="", time="t")


def _publish(version, change="batch"):
    return Published(version=version, change=change, manifest="1" * 64, previous="", time="t")


def _begin(version, through):
    return Begun(version=version, through=through, previous="", time="t")


@pytest.fixture
def folder(tmp_path):
    ledger = create_ledger(Disk(), tmp_path, FILES)
    for entry in (_publish(0, "created"), _request(1, 5), _request(7)):
        ledger = append(Disk(), tmp_path, ledger, entry)
    return tmp_path


def test_each_line_holds_the_hash_of_the_one_before(folder):
    lines = (folder / LEDGER).read_bytes().splitlines(keepends=True)
    assert len(lines) == 4
    for before, line in itertools.pairwise(lines):
        assert json.loads(line)["previous"] == sha256(before)
    assert json.loads((folder / HEAD).read_text()) == {
        "bytes": sum(map(len, lines)),
        "sha256": sha256(lines[-1]),
    }
    ledger = read_ledger(folder)
    assert ledger.size == ledger.acknowledged and ledger.entries[2].ids == (1, 5)


@pytest.mark.parametrize("name", [LEDGER, HEAD])
def test_every_changed_byte_is_found(folder, name):
    whole = (folder / name).read_bytes()
    for at in range(len(whole)):
        spoiled = bytearray(whole)
        spoiled[at] ^= 1
        (folder / name).write_bytes(spoiled)
        with pytest.raises(InputError, match="The ledger is damaged"):
            read_ledger(folder)
    (folder / name).write_bytes(whole)
    read_ledger(folder)


def test_acknowledged_bytes_that_are_gone_are_missed(folder):
    whole = (folder / LEDGER).read_bytes()
    for length in range(len(whole)):
        (folder / LEDGER).write_bytes(whole[:length])
        with pytest.raises(InputError, match="bytes were acknowledged"):
            read_ledger(folder)


def test_a_torn_line_is_passed_over_and_cut_off(folder):
    whole, before = (folder / LEDGER).read_bytes(), read_ledger(folder)
    line = whole.splitlines(keepends=True)[-1]
    for torn in (line[:-1], line[:10], b"{", b"\xff\x00"):
        (folder / LEDGER).write_bytes(whole + torn)
        found = read_ledger(folder)
        assert found == before
        assert (folder / LEDGER).read_bytes() == whole + torn  # reading changes nothing
        after = append(Disk(), folder, settle(Disk(), folder, found), _request(9))
        assert read_ledger(folder) == after and len(after.entries) == 5
        (folder / LEDGER).write_bytes(whole)
        (folder / HEAD).write_text(json.dumps({"bytes": len(whole), "sha256": sha256(line)}) + "\n")


def _behind(folder, lines):
    """Put back the head of so many lines before the last."""
    whole = (folder / LEDGER).read_bytes().splitlines(keepends=True)[:-lines]
    size = sum(map(len, whole))
    (folder / HEAD).write_text(json.dumps({"bytes": size, "sha256": sha256(whole[-1])}) + "\n")
    return size


@pytest.mark.parametrize("lines", [1, 2])
def test_an_earlier_head_loses_no_line(folder, lines):
    """Whole lines count; a change of any byte stops all, but for a last line that stays one."""
    before, whole = read_ledger(folder), (folder / LEDGER).read_bytes()
    size, last = _behind(folder, lines), len(whole.splitlines(keepends=True)[-1])
    assert read_ledger(folder).entries == before.entries
    for at in range(size, len(whole)):
        spoiled = bytearray(whole)
        spoiled[at] ^= 1
        (folder / LEDGER).write_bytes(spoiled)
        try:
            assert len(read_ledger(folder).entries) == 4 and at >= len(whole) - last
        except InputError as error:
            assert "no crash leaves such a line" in str(error)
    (folder / LEDGER).write_bytes(whole)
    assert settle(Disk(), folder, read_ledger(folder)) == before


@pytest.mark.parametrize("tail", [b"\n", b'{"kind":"request"}\n', b"[]x", b'{"kind":"r\n{"kin'])
def test_what_no_crash_leaves_is_damage(folder, tail):
    with (folder / LEDGER).open("ab") as file:
        file.write(tail)
    with pytest.raises(InputError, match="line 5 is not as it was written"):
        read_ledger(folder)


def test_a_ledger_that_grows_while_it_is_read_is_read_again(folder, monkeypatch):
    """The head is read first: by then others may have added a line and be writing another."""
    earlier, raw = read_ledger(folder), (folder / HEAD).read_bytes()
    after = append(Disk(), folder, earlier, _request(9))
    with (folder / LEDGER).open("ab") as file:
        file.write(b'{"kind":"req')
    heads = [raw]
    plain = ledger_module.read_plain
    monkeypatch.setattr(
        ledger_module, "read_plain", lambda p: heads.pop() if p.name == HEAD and heads else plain(p)
    )
    assert read_ledger(folder) == after


def test_a_whole_line_beyond_the_head_is_acknowledged_before_anything_else(folder):
    before = read_ledger(folder)
    with pytest.raises(Killed):
        append(FailingDisk(4), folder, before, _request(9))  # dies before the head is written
    found = read_ledger(folder)
    assert found.size > found.acknowledged == before.acknowledged and len(found.entries) == 5
    settled = settle(Disk(), folder, found)
    assert settled.acknowledged == settled.size and read_ledger(folder) == settled


def test_text_of_any_kind_comes_back(folder):
    entry = dataclasses.replace(_request(9), text='a\n"\\\u2028\x00ü')
    append(Disk(), folder, read_ledger(folder), entry)
    assert read_ledger(folder).entries[-1].text == entry.text
    assert len((folder / LEDGER).read_bytes().splitlines()) == 5


def test_a_history(folder):
    ledger = read_ledger(folder)
    for entry in (_begin(1, 2), _request(8), _publish(1), _begin(2, 4 + 1)):
        ledger = append(Disk(), folder, ledger, entry)
    history = replay(ledger)
    assert history.forgotten.tolist() == [1, 5] and history.waiting.tolist() == [7, 8]
    assert history.open is not None and history.open.lines == (3, 5)
    assert history.pending == () and history.current.version == 1
    assert history.forgotten_by(0).tolist() == []


def test_the_digest_is_of_ids_alone_and_of_their_order(tmp_path):
    def digest(name, *entries):
        (tmp_path / name).mkdir()
        ledger = create_ledger(Disk(), tmp_path / name, FILES)
        for entry in (_publish(0, "created"), *entries):
            ledger = append(Disk(), tmp_path / name, ledger, entry)
        return replay(ledger).digest()

    later = dataclasses.replace(_request(1, 5), time="later", text="class:1")
    one = digest("a", _request(1, 5), _request(7))
    assert one == digest("b", later, _request(reference="x"), _request(7))
    assert one != digest("c", _request(1), _request(5, 7))
    assert one != digest("d", _request(7), _request(1, 5))


@pytest.mark.parametrize(
    "entries",
    [
        [_request(1)],
        [_request(3, 2)],
        [_request()],
        [_publish(1)],
        [_publish(2, "purge")],
        [_publish(0, "created")],
        [_begin(2, 3)],
        [_begin(1, 1)],
        [_begin(1, 3), _begin(2, 3)],
        [_begin(1, 3), _publish(1, "purge")],
    ],
    ids=str,
)
def test_lines_that_contradict_each_other_are_damage(folder, entries):
    ledger = read_ledger(folder)
    for entry in entries:
        ledger = append(Disk(), folder, ledger, entry)
    with pytest.raises(InputError, match="does not follow from those before"):
        replay(ledger)
