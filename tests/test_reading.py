"""The readers of JSON and archives: whatever a file holds, InputError or what was written."""

import dataclasses
import io
import json
import os
import random
import resource
import threading
import zipfile

import numpy as np
import pytest
from damage import COUNT, refused_or_read

from dcmu_jax.audits.population import Population
from dcmu_jax.condensation import CondensedBank
from dcmu_jax.condensation.condenser import CondensedImages
from dcmu_jax.data import load
from dcmu_jax.data.requests import read_ids
from dcmu_jax.errors import InputError
from dcmu_jax.metrics.measurement import Trajectory
from dcmu_jax.reading import parse_json, read_archive, read_json, read_npy
from dcmu_jax.reporting.sections import Numbers, Section, load_section, save_section
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.config_json import from_json, to_json
from dcmu_jax.runs.saved import DATA, PREPARED, SERVED, OnlineCost, ServedNote
from dcmu_jax.runs.store import hash_of, identity_in
from dcmu_jax.service.disk import Disk
from dcmu_jax.service.ledger import create_ledger, read_ledger
from dcmu_jax.service.manifest import Manifest, decode, encode

ABOUT = ("a thing", "Make it again")


def _bank():
    return CondensedBank(
        ids=np.arange(6),
        cluster=np.array([0, 0, 1, 1, 2, 2], np.int32),
        weights=np.full(6, 0.5, np.float32),
        images=np.zeros((3, 8, 8, 1), np.float32),
        labels=np.array([0, 1, 2], np.int32),
        sizes=np.full(3, 2, np.int32),
        initial_loss=np.ones(3, np.float32),
        final_loss=np.zeros(3, np.float32),
        feature_sums=np.zeros((3, 4), np.int64),
        layer="",
        lineage="trained",
        data_fingerprint="0" * 64,
        model_fingerprint="1" * 64,
    )


def _population():
    member = np.array([[True, True, False]] * 2)
    return Population(
        margins=np.zeros((2, 3), np.float32),
        correct=member,
        member=member,
        forgotten=np.zeros((2, 3), bool),
        kinds=("oracle", "original"),
        ids=np.arange(3),
        labels=np.zeros(3, np.int32),
        test=np.array([False, False, True]),
        data_fingerprint="0" * 64,
    )


def _served():
    line = (0.5, 1.0)
    return ServedNote(
        cost=OnlineCost(online_s=1.5, compile_s=0.0, flops=None, reduction=0.25),
        trajectory=Trajectory(method="retrain", seconds=line, retain=line, forget=line, test=line),
        trained_ids=(3, 4, 5),
    )


def _write_data(path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (9, 8, 8, 1), np.uint8)
    np.savez_compressed(path, x_train=images, y_train=np.arange(9) % 3)


def _write_ledger(path):
    create_ledger(Disk(), path.parent, {"config.json": "0" * 64})


def _write_section(path):
    table = Numbers("caption", ["a", "b"], [["1", "2"]], "meaning")
    save_section(Section("Title", ("One.",), (table,)), path.parent)


MANIFEST = Manifest(
    version=1,
    change="batch",
    previous="0" * 64,
    parameters="1" * 64,
    data=0,
    features=0,
    bank_seed=2,
    files={"network/about": "2" * 64},
)
KINDS = {
    "bank": ("bank.npz", lambda path: _bank().save(path), CondensedBank.load),
    "images": (
        "images.npz",
        lambda path: CondensedImages(np.zeros((2, 8, 8, 1), np.float32), np.arange(2)).save(path),
        CondensedImages.load,
    ),
    "population": ("p.npz", lambda path: _population().save(path), Population.load),
    "data": ("data.npz", _write_data, lambda path: load(f"npz:{path}")),
    "ids npy": ("ids.npy", lambda path: np.save(path, np.arange(50)), lambda p: read_ids(str(p))),
    "ids json": ("ids.json", lambda p: p.write_text("[1, 20, 300]"), lambda p: read_ids(str(p))),
    "ids text": ("ids.txt", lambda p: p.write_text("1, 20\n300\n"), lambda p: read_ids(str(p))),
    "config": (
        "config.json",
        lambda path: path.write_text(to_json(RunConfig())),
        lambda path: from_json(path.read_bytes(), str(path)).check(),
    ),
    "data note": ("data.json", lambda p: p.write_text('{"fingerprint": "0011"}'), DATA.read),
    "prepared": (
        "cost.json",
        lambda path: path.write_text('{"offline_s": 1.5, "compile_s": 2, "trained": true}'),
        PREPARED.read,
    ),
    "identity": (
        "identity.json",
        lambda path: path.write_text(
            json.dumps({"hash": hash_of({"seed": 1}), "made_of": {"seed": 1}, "made_with": {}})
        ),
        lambda path: identity_in(path.parent),
    ),
    "served": (
        "result.json",
        lambda path: path.write_text(json.dumps(dataclasses.asdict(_served()))),
        SERVED.read,
    ),
    "section": ("section.json", _write_section, lambda path: load_section(path.parent)),
    "ledger": ("ledger.jsonl", _write_ledger, lambda path: read_ledger(path.parent)),
    "head": ("ledger.head", _write_ledger, lambda path: read_ledger(path.parent)),
    "manifest": (
        "manifest.json",
        lambda path: path.write_bytes(encode(MANIFEST)),
        lambda path: decode(path.read_bytes(), path),
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_changed_bytes(kind, tmp_path):
    name, write, read = KINDS[kind]
    path = tmp_path / name
    write(path)
    read(path)
    assert refused_or_read(path, lambda: read(path), seed=len(kind)) > COUNT / 10


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind not in ("config", "ledger", "head", "manifest")]
)
@pytest.mark.parametrize("instead", ["folder", "fifo", "loop", "empty", "nothing"])
def test_something_else_in_its_place(kind, instead, tmp_path):
    name, _, read = KINDS[kind]
    path = tmp_path / name
    if instead == "folder":
        path.mkdir()
    elif instead == "fifo":
        os.mkfifo(path)
    elif instead == "loop":
        path.symlink_to(path)
    elif instead == "empty":
        path.touch()
    if instead == "empty" and kind == "ids text":
        return  # no ids, which the request refuses
    if instead in ("nothing", "loop") and kind in ("data note", "prepared", "served"):
        return  # a stage that was not done
    with pytest.raises(InputError):
        read(path)


def _deep(opening, closing):
    return (opening * 100_000 + closing * 100_000).encode()


STRANGE = {
    "NaN": b'{"a": NaN}',
    "Infinity": b"[Infinity]",
    "-Infinity": b"-Infinity",
    "too large": b'{"a": 1e999}',
    "beyond 64 bits": b"[18446744073709551616]",
    "below 64 bits": b"[-9223372036854775809]",
    "5,000 digits": b"1" * 5000,
    "a key twice": b'{"a": {"b": 1, "b": 2}}',
    "deep": _deep("[", "]"),
    "deep objects": _deep('{"a":', "}"),
    "half a character": b'["\\ud800"]',
    "half a character as a key": b'{"\\udfff": 1}',
    "no UTF-8": b'["\xff"]',
    "a mark before it": b"\xef\xbb\xbf{}",
    "UTF-16": "{}".encode("utf-16"),
    "cut off": b'{"a": 1',
    "two values": b"{} {}",
    "nothing": b"",
    "zeros": b"\0" * 10,
}


@pytest.mark.parametrize("kind", STRANGE)
def test_strange_json(kind, tmp_path):
    with pytest.raises(InputError, match=r"'x\.json' cannot be read as a thing .*Make it again"):
        parse_json(STRANGE[kind], "x.json", *ABOUT)
    for name in ("prepared", "served", "config", "section", "ids json"):
        file, _, read = KINDS[name]
        (tmp_path / file).write_bytes(STRANGE[kind])
        with pytest.raises(InputError):
            read(tmp_path / file)


def test_plain_json_is_read(tmp_path):
    value = {"a": [1, -2.5, None, True, "\N{SNOWMAN} \N{GRINNING FACE}"], "b": {"a": 2**63}}
    (tmp_path / "x.json").write_text(json.dumps(value))
    assert read_json(tmp_path / "x.json", *ABOUT) == value


OTHERS = [None, True, -1, 2**70, 0.5, "x", "\0", [], [None], {}, {"a": []}, [[1]]]


def _places(value, at=()):
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items if isinstance(value, dict | list) else ():
        if isinstance(inner, dict | list):
            yield from _places(inner, (*at, key))
        else:
            yield (*at, key)


def _replaced(value, place, new):
    if not place:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = _replaced(copy[place[0]], place[1:], new)
    return copy


@pytest.mark.parametrize("kind", ["prepared", "served", "data note", "config", "section"])
def test_other_types_at_any_depth(kind, tmp_path):
    name, write, read = KINDS[kind]
    write(tmp_path / name)
    value = json.loads((tmp_path / name).read_text())
    rng = random.Random(0)
    for place in _places(value):
        for new in rng.sample(OTHERS, 3):
            (tmp_path / name).write_text(json.dumps(_replaced(value, place, new)))
            try:
                read(tmp_path / name)
            except InputError:
                pass


def _npy(header, data=b""):
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def _zip(*members, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, data in members:
            file.writestr(name, data)
    return buffer.getvalue()


HEADER = "{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}"
HUGE = [
    _npy(HEADER.format("|u1", "(1000000000000,)")),
    _npy(HEADER.format("<f8", "(4294967296, 4294967296, 4)"), b"\0" * 8),
    _npy(HEADER.format("<U0", "(1000000000000,)")),
    _npy(HEADER.format("<U2000000000", "(100,)")),
    _npy(HEADER.format("|u1", "(-1, -8)"), b"\0" * 8),
    _npy(HEADER.format("|u1", "(" * 900 + "1" + ")" * 900)),
    _npy(HEADER.format("|O", "(1,)"), b"\x80\x04N."),
    _npy(HEADER.format("|u1", "(3,)"), b"\0" * 4),
]


@pytest.mark.parametrize("number", range(len(HUGE)))
def test_absurd_arrays_take_no_memory(number, tmp_path):
    (tmp_path / "a.npy").write_bytes(HUGE[number])
    (tmp_path / "a.npz").write_bytes(_zip(("a.npy", HUGE[number])))
    (tmp_path / "b.npz").write_bytes(_zip(("x_train.npy", HUGE[number]), ("y_train.npy", b"")))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for read in (
        lambda: read_npy(tmp_path / "a.npy", *ABOUT),
        lambda: read_archive(tmp_path / "a.npz", *ABOUT),
        lambda: load(f"npz:{tmp_path / 'b.npz'}"),
    ):
        with pytest.raises(InputError):
            read()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_an_archive_larger_than_it_says(tmp_path):
    bomb = _npy(HEADER.format("|u1", "(50000000,)"), bytes(50_000_000))
    packed = _zip(("x_train.npy", bomb), compression=zipfile.ZIP_DEFLATED)
    (tmp_path / "a.npz").write_bytes(packed)
    with pytest.raises(InputError, match="arrays are compressed"):
        read_archive(tmp_path / "a.npz", *ABOUT)
    lying = packed.replace(len(bomb).to_bytes(4, "little"), (2**31).to_bytes(4, "little"))
    assert lying != packed
    for name in ("x_train", "y_train"):
        (tmp_path / "b.npz").write_bytes(lying.replace(b"x_train", name.encode()))
        with pytest.raises(InputError):
            load(f"npz:{tmp_path / 'b.npz'}")


def test_a_name_that_occurs_twice(tmp_path):
    array = _npy(HEADER.format("|u1", "(1,)"), b"\0")
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = _zip(("a.npy", array), ("a.npy", array))
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(InputError, match="occurs twice"):
        read_archive(tmp_path / "a.npz", *ABOUT)


def test_text_that_is_none(tmp_path):
    layer = np.frombuffer((0x110000).to_bytes(4, "little"), "<U1")[0:1].reshape(())
    np.savez(tmp_path / "bank.npz", **(dataclasses.asdict(_bank()) | {"layer": layer}))
    with pytest.raises(InputError, match="layer is not a string"):
        CondensedBank.load(tmp_path / "bank.npz")


def test_threads_that_write_one_file(tmp_path):
    from dcmu_jax.files import write_json

    def write(number):
        for _ in range(50):
            write_json(tmp_path / "x.json", [number] * 1000)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = read_json(tmp_path / "x.json", *ABOUT)
    assert len(found) == 1000 and len(set(found)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), MemoryError()])
def test_what_the_machine_does_not_read_is_not_called_damaged(tmp_path, monkeypatch, error):
    def refuse(_):
        raise error

    for name in ("bank", "images", "population", "ids npy", "ids json", "ids text", "data note",
                 "prepared", "identity", "served", "section"):  # fmt: skip
        file, write, read = KINDS[name]
        (tmp_path / name).mkdir()
        write(tmp_path / name / file)
        read(tmp_path / name / file)
        with monkeypatch.context() as patch:
            patch.setattr("dcmu_jax.reading.opened", refuse)
            with pytest.raises(InputError, match="Nothing says that it is damaged"):
                read(tmp_path / name / file)


def test_an_archive_that_is_cut_off_is_no_want_of_memory(tmp_path):
    whole = _zip(("a.npy", _npy(HEADER.format("|u1", "(3,)"), b"\0" * 3)))
    size = len(_npy(HEADER.format("|u1", "(3,)"), b"\0" * 3)).to_bytes(4, "little")
    lying = whole.replace(size, (2**31).to_bytes(4, "little"))
    assert lying != whole
    (tmp_path / "a.npz").write_bytes(lying)
    with pytest.raises(InputError, match=r"larger than the archive.*Make it again"):
        read_archive(tmp_path / "a.npz", *ABOUT)
