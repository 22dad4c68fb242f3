"""A reference stands for the ids that were asked for, whatever file or words named them."""

import inspect
import json

import numpy as np
import pytest
from service.toy import bytes_of, ids_text, write_ledger

from dcmu_jax.cli import main
from dcmu_jax.errors import InputError
from dcmu_jax.service import Workspace


@pytest.fixture
def w(copied, fresh):
    return copied(fresh)


def _files(tmp_path, *lists):
    paths = []
    for number, ids in enumerate(lists):
        path = tmp_path / str(number) / "ids.txt"
        path.parent.mkdir()
        path.write_text("\n".join(map(str, ids)))
        paths.append(f"ids:{path}")
    return paths


def _refused(w, text, reference):
    before = bytes_of(w)
    with pytest.raises(
        InputError, match=r"with another request than before.*Nothing was acknowledged"
    ):
        Workspace(w).request(text, reference=reference)
    assert bytes_of(w) == before


def test_files_of_one_name_that_hold_other_ids(w, ids, tmp_path):
    monday, tuesday, copy = _files(tmp_path, ids[:2], ids[2:4], ids[1::-1])
    first = Workspace(w).request(monday, reference="daily")
    for text in (tuesday, ids_text(ids[:1]), ids_text(ids[:3]), "class:1", "random:0.1"):
        _refused(w, text, "daily")
    for text in (monday, copy, ids_text(ids[:2])):
        again = Workspace(w).request(text, reference="daily")
        assert again.receipt == first.receipt and again.pending.tolist() == sorted(ids[:2])
    assert Workspace(w).request(tuesday, reference="daily 2").accepted.tolist() == sorted(ids[2:4])


def test_a_file_that_was_changed_under_its_name(w, ids, tmp_path):
    (text,) = _files(tmp_path, ids[:2])
    Workspace(w).request(text, reference="daily")
    (tmp_path / "0" / "ids.txt").write_text(str(ids[5]))
    _refused(w, text, "daily")


def test_texts_that_differ_only_where_the_ledger_cuts_them(w, ids, tmp_path):
    one, other = _files(tmp_path, ids[:2], ids[2:3])
    tail = "+".join([""] + [ids_text([ids[8]])] * 300)
    Workspace(w).request(one + tail, reference="long")
    _refused(w, other + tail, "long")


def test_ids_that_were_known_before_are_part_of_what_was_asked(w, ids):
    Workspace(w).request(ids_text(ids[:2]))
    Workspace(w).request(ids_text(ids[1:3]), reference="r")
    _refused(w, ids_text(ids[2:3]), "r")
    _refused(w, ids_text(ids[:3]), "r")
    assert Workspace(w).request(ids_text(ids[1:3]), reference="r").pending.size == 2
    Workspace(w).request(ids_text(ids[:1]), reference="nothing new")
    _refused(w, ids_text(ids[1:2]), "nothing new")


def test_a_draw_is_the_same_request_by_its_fraction_and_by_its_ids(w, ids, tmp_path):
    monday, tuesday = _files(tmp_path, ids[:2], ids[2:4])
    first = Workspace(w).request(f"random:0.1+{monday}", reference="r")
    for text in (f"random:0.1+{monday}", f"{ids_text(ids[:2])} + random:0.10",
                 ids_text(first.accepted)):  # fmt: skip
        again = Workspace(w).request(text, reference="r")
        assert again.receipt == first.receipt
        assert again.pending.tolist() == first.accepted.tolist()
    for text in (f"random:0.1+{tuesday}", f"random:0.2+{monday}", "random:0.1", monday):
        _refused(w, text, "r")


def _without_digests(w):
    """As a ledger was before it said what was asked for."""
    lines = [json.loads(line) for line in (w / "ledger.jsonl").read_bytes().splitlines()]
    for line in lines:
        line.pop("asked", None), line.pop("drawn", None)
    write_ledger(w, lines)


def test_older_ledgers_open_and_their_references_lose_nothing(w, ids, tmp_path):
    monday, tuesday = _files(tmp_path, ids[:2], ids[2:4])
    Workspace(w).request(monday, reference="daily")
    Workspace(w).request(f"random:0.1+{monday}", reference="draw")
    _without_digests(w)
    assert Workspace(w).verify().clean
    for text, reference in ((monday, "daily"), (f"random:0.1+{monday}", "draw")):
        assert len(Workspace(w).request(text, reference=reference).accepted) == 0
    _refused(w, tuesday, "daily")
    _refused(w, f"random:0.1+{tuesday}", "draw")
    _refused(w, f"random:0.2+{monday}", "draw")


@pytest.mark.parametrize("reference", ["", "caf\udce9", "caf\udce8"])
def test_references_that_could_not_be_told_apart_are_refused(w, ids, reference):
    before = bytes_of(w)
    with pytest.raises(
        InputError, match=r"The reference .*Allowed: text that is not empty, in UTF"
    ):
        Workspace(w).request(ids_text(ids[:1]), reference=reference)
    assert bytes_of(w) == before


def test_references_that_only_look_alike_are_two(w, ids):
    for number, reference in enumerate(["e\u0301", "\u00e9", "\u00e9 ", "?", "E\u0301"]):
        answer = Workspace(w).request(ids_text(ids[number : number + 1]), reference=reference)
        assert len(answer.accepted) == 1


def test_a_file_whose_name_is_of_no_encoding_is_read(w, ids, tmp_path):
    for number, letter in enumerate("\udce8\udce9"):
        path = tmp_path / f"ids-{letter}.txt"
        path.write_text(str(ids[number]))
        assert len(Workspace(w).request(f"ids:{path}").accepted) == 1


def test_what_is_no_text(w, ids):
    request = inspect.unwrap(Workspace.request)  # tests check annotations, users do not
    with pytest.raises(InputError, match=r"A request of type list.*Write ids as 'ids:'"):
        request(Workspace(w), ids[:2])
    with pytest.raises(InputError, match="The reference 7"):
        request(Workspace(w), ids_text(ids[:2]), reference=7)


def test_the_command_says_so(w, ids, tmp_path, capsys):
    monday, tuesday = _files(tmp_path, ids[:2], ids[2:4])
    assert main(["request", str(w), monday, "--reference", "daily"]) == 0
    assert main(["request", str(w), tuesday, "--reference", "daily"]) == 2
    assert "Give a new request a reference of its own" in capsys.readouterr().err
    assert np.array_equal(Workspace(w).history().waiting, sorted(ids[:2]))
