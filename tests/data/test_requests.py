"""Forget requests: what each form selects, and that every bad one is refused by its message."""

import dataclasses
import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dcmu_jax.data import Dataset, parse_request, request_for_ids
from dcmu_jax.data.requests import as_request, read_ids
from dcmu_jax.errors import InputError

IDS = np.random.default_rng(1).permutation(1000)[:60].astype(np.int64)


def _train() -> Dataset:
    """60 samples, 4 classes of which the last has none (a subset may lack some)."""
    labels = np.arange(60, dtype=np.int32) % 3
    return Dataset(np.zeros((60, 8, 8, 1), np.uint8), labels, IDS, 4)


def _write(path, content: str):
    path.write_text(content)
    return f"ids:{path}"


def test_a_class_is_all_its_samples():
    request = parse_request("class:2", _train(), seed=0)
    np.testing.assert_array_equal(request.ids, np.sort(IDS[2::3]))
    assert request.ids.dtype == np.int64
    assert (request.text, request.slug) == ("class:2", "class-2")
    assert request.forgotten_classes == (2,)
    assert len(request) == 20


@pytest.mark.parametrize(
    ("fraction", "count"), [("0.1", 6), ("0.05", 3), ("0.99", 59), ("5e-2", 3)]
)
def test_random_draws_the_floor_of_the_fraction(fraction, count):
    request = parse_request(f"random:{fraction}", _train(), seed=3)
    assert len(request) == len(np.unique(request.ids)) == count
    assert np.all(np.diff(request.ids) > 0) and np.isin(request.ids, IDS).all()


def test_rounding_errors_lose_no_sample():
    labels = np.arange(90, dtype=np.int32) % 3
    train = Dataset(np.zeros((90, 8, 8, 1), np.uint8), labels, np.arange(90), 3)
    assert int(0.7 * 90) == 62  # of 62.99999999999999
    assert len(parse_request("random:0.7", train, seed=0)) == 63


def test_random_is_drawn_by_seed_and_not_by_order():
    train = _train()
    shuffled = train.take(np.random.default_rng(5).permutation(60))
    first = parse_request("random:0.3", train, seed=3).ids
    np.testing.assert_array_equal(first, parse_request("random:0.3", train, seed=3).ids)
    np.testing.assert_array_equal(first, parse_request("random:0.3", shuffled, seed=3).ids)
    assert not np.array_equal(first, parse_request("random:0.3", train, seed=4).ids)
    assert np.isin(first, parse_request("random:0.5", train, seed=3).ids).all()


def test_random_forgets_no_sample_more_often():
    counts = np.zeros(60)
    for seed in range(400):
        counts += np.isin(IDS, parse_request("random:0.25", _train(), seed).ids)
    # 400 draws of probability 1/4: mean 100, deviation 8.7.
    assert counts.sum() == 400 * 15 and 60 < counts.min() and counts.max() < 140


@pytest.mark.parametrize("separator", ["\n", ",", " ", ", ", "\r\n", "\t"])
def test_ids_from_text(tmp_path, separator):
    chosen = IDS[[7, 3, 11]]
    text = _write(tmp_path / "mine.txt", separator.join(map(str, chosen)) + "\n")
    request = parse_request(text, _train(), seed=0)
    np.testing.assert_array_equal(request.ids, np.sort(chosen))
    assert (request.slug, request.forgotten_classes) == ("ids-mine", ())


def test_ids_from_json_and_npy(tmp_path):
    chosen = IDS[[7, 3, 11]]
    (tmp_path / "a.json").write_text(json.dumps(chosen.tolist()))
    np.save(tmp_path / "a.npy", chosen.astype(np.uint16))
    for name in ("a.json", "a.npy"):
        request = parse_request(f"ids:{tmp_path / name}", _train(), seed=0)
        np.testing.assert_array_equal(request.ids, np.sort(chosen))
        assert request.ids.dtype == np.int64


def test_terms_join_and_random_draws_from_what_they_leave(tmp_path):
    text = _write(tmp_path / "a+b.txt", " ".join(map(str, IDS[[0, 1, 2]])))  # a + in the name
    request = parse_request(f"class:2 + {text}+random:0.5", _train(), seed=0)
    named = np.union1d(IDS[2::3], IDS[:3])
    assert np.isin(named, request.ids).all()
    assert len(request) == 22 + 30  # id 2 of the file is of class 2: counted once
    assert request.forgotten_classes == (2,)
    assert request.slug == "class-2+ids-a+b+random-0.5"


def test_two_random_terms_do_not_overlap():
    assert len(parse_request("random:0.2+random:0.3", _train(), seed=0)) == 30


def test_a_class_forgotten_sample_by_sample_counts_as_forgotten():
    request = request_for_ids(IDS[1::3].tolist(), _train())
    assert request.forgotten_classes == (1,)
    assert request_for_ids(IDS[1:58:3], _train()).forgotten_classes == ()


@pytest.mark.parametrize("kind", [list, tuple, set, np.array, jnp.array, iter])
def test_ids_from_python(kind):
    chosen = IDS[[7, 3, 11]]
    request = request_for_ids(kind(chosen.tolist()), _train())
    np.testing.assert_array_equal(request.ids, np.sort(chosen))
    assert request.text.startswith("3 ids (") and request.slug.startswith("ids-")
    assert request.slug == request_for_ids(chosen[::-1], _train()).slug
    assert request.slug != request_for_ids(chosen[:2], _train()).slug


def test_one_number_written_in_several_ways_is_one_request():
    for texts in (
        ("random:0.1", "random:0.10", "random:1e-1", "random:.1"),
        ("class:1", "class:01"),
    ):
        found = [parse_request(text, _train(), seed=0) for text in texts]
        assert len({request.slug for request in found}) == 1
        assert all(np.array_equal(request.ids, found[0].ids) for request in found)


def test_a_slug_is_fit_for_a_folder(tmp_path):
    text = _write(tmp_path / ("a b$;\N{SNOWMAN}" + "x" * 90 + ".txt"), str(IDS[0]))
    slug = parse_request(text, _train(), seed=0).slug
    assert slug.startswith("ids-a-b-x") and len(slug) <= 60


BAD_REQUESTS = {
    "": r"Forget request '' is empty",
    "  ": r"is empty",
    "class:3": r"There is no class '3'\. Allowed: one of the 3 classes.*: 0, 1, 2\.",
    "class:-1": r"There is no class '-1'",
    "class:one": r"There is no class 'one'",
    "class:": r"There is no class ''",
    "class:2+": r"'class:2\+' has no term after the \+ of 'class:2\+'.*Leave the \+ out",
    "class:0++class:1": r"has no term after the \+ of 'class:0\+'",
    "random:0.1 +": r"has no term after the \+",
    "ids:3,17+": r"has no term after the \+",
    "+class:0": r"begins with a \+",
    "class:0+1": r"joins '1', which has no kind.*as in class:0\+class:1",
    "clas:2+": r"Unknown kind of forget request 'clas'",
    "random:+1.5": r"random:\+1\.5\. Allowed",
    "random:inf": r"random:inf\. Allowed",
    "random:1e+0": r"random:1e\+0\. Allowed",
    "random:1e-400": r"random:1e-400 of 60 samples is no sample",
    "class:0+class:1+class:2": r"asks for all 60 training samples",
    "random:0.5+random:0.5": r"asks for all 60",
    "random:0": r"random:0\. Allowed: a number strictly between 0 and 1",
    "random:1": r"random:1\. Allowed",
    "random:-0.1": r"random:-0\.1\. Allowed",
    "random:nan": r"random:nan\. Allowed",
    "random:10%": r"random:10%\. Allowed: a number strictly between 0 and 1",
    "random:\u0660.\u0661": r"in the digits 0 to 9\. Write random:0\.1",
    "random:\uff10.1": r"in the digits 0 to 9",
    "random:0_1": r"in the digits 0 to 9",
    "class:\u0662": r"There is no class '\u0662'",
    "random:": r"random:\. Allowed: a number",
    "random:1.00000001e-2": r"random:1\.00000001e-2 of 60 samples is no sample",
    "random:0.01": r"random:0\.01 of 60 samples is no sample\. Allowed: a fraction of 0\.0167",
    "class:0+random:0.7": r"draws 42 samples at random\. Allowed: at most the 40",
    "clas:2": r"Unknown kind of forget request 'clas'.*Did you mean 'class'\?",
    "class:2+rndom:0.1": r"Unknown kind of forget request 'rndom'.*Did you mean 'random'\?",
    "2": r"Unknown kind of forget request '2'\. Allowed: class, ids, random",
    "ids:": r"There is no file of ids ''",
    "ids:nowhere.txt": r"There is no file of ids 'nowhere\.txt'",
}


@pytest.mark.parametrize("text", BAD_REQUESTS)
def test_bad_request(text):
    with pytest.raises(InputError, match=BAD_REQUESTS[text]):
        parse_request(text, _train(), seed=0)


KNOWN = str(IDS[0])
BAD_FILES = {
    "unknown": ("a.txt", f"{KNOWN} 5000 -3", r"Unknown id\(s\): -3, 5000\."),
    "duplicates": ("a.txt", f"{KNOWN} {IDS[1]} {KNOWN}", rf"duplicates: {KNOWN}\."),
    "empty": ("a.txt", " \n", r"a\.txt holds no id: the request is empty"),
    "fraction": ("a.txt", f"{KNOWN} 1.5", r"something other than ids: '1\.5'"),
    "words": ("a.txt", "id\n1", r"something other than ids: 'id'"),
    "underscore": ("a.txt", "1_0", r"something other than ids: '1_0'"),
    "too long": ("a.txt", "9" * 5000, r"something other than ids: '9{39}"),
    "beyond int64": ("a.txt", "9" * 19, r"something other than ids: 9{19}"),
    "json object": ("a.json", '{"ids": [1]}', r"something other than ids: dict"),
    "json empty": ("a.json", "[]", r"holds no id: the request is empty"),
    "json float": ("a.json", "[1.0]", r"something other than ids: 1\.0"),
    "json boolean": ("a.json", "[true]", r"something other than ids: True"),
    "json nested": ("a.json", "[[1]]", r"something other than ids: \[1\]"),
    "json deep": ("a.json", "[" * 100_000, r"something other than ids: "),
    "json broken": ("a.json", "[1, 2", r"something other than ids: JSONDecodeError"),
    "json unknown": ("a.json", "[5000]", r"Unknown id\(s\): 5000"),
    "npy of text": ("a.npy", "1 2 3", r"something other than ids: ValueError"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_file_of_ids(tmp_path, kind):
    name, content, message = BAD_FILES[kind]
    with pytest.raises(InputError, match=message):
        parse_request(_write(tmp_path / name, content), _train(), seed=0)


BAD_NPY = {
    "floats": (np.array([1.0]), r"something other than ids: an array of float64"),
    "rank 2": (IDS[:4].reshape(2, 2), r"an array of int64, shape \(2, 2\)"),
    "rank 0": (np.array(IDS[0]), r"an array of int64, shape \(\)"),
    "booleans": (np.ones(60, bool), r"nothing but 0 and 1 \(bool\)"),
    "empty": (np.zeros(0, np.int64), r"holds no id"),
    "unknown": (np.array([2**63 + 1], np.uint64), r"ids with 9223372036854775809"),
}


@pytest.mark.parametrize("kind", BAD_NPY)
def test_bad_array_of_ids(tmp_path, kind):
    array, message = BAD_NPY[kind]
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError, match=message):
        parse_request(f"ids:{tmp_path / 'a.npy'}", _train(), seed=0)
    with pytest.raises(InputError, match=message):
        request_for_ids(array, _train())


def test_objects_are_not_unpickled(tmp_path):
    from bad_archives import Trap

    np.save(tmp_path / "a.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="something other than ids: ValueError"):
        parse_request(f"ids:{tmp_path / 'a.npy'}", _train(), seed=0)


def test_a_file_that_is_not_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe1\x00")
    with pytest.raises(InputError, match="UnicodeDecodeError"):
        parse_request(f"ids:{tmp_path / 'a.txt'}", _train(), seed=0)
    with pytest.raises(InputError, match="is no plain file"):
        parse_request(f"ids:{tmp_path}", _train(), seed=0)
    with pytest.raises(InputError, match="There is no file"):
        parse_request(f"ids:{tmp_path / 'b.txt'}", _train(), seed=0)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], "ids holds no id"),
        ([int(IDS[0])] * 2, "ids holds duplicates"),
        ([5000], "Unknown id"),
        (IDS, "asks for all 60"),
        (set(map(float, IDS[:3])), "something other than ids"),
        ([2**63], "something other than ids: 9223372036854775808"),
        ([-(2**63), int(IDS[0])], "Unknown id"),
    ],
)
def test_bad_ids_from_python(ids, message):
    with pytest.raises(InputError, match=message):
        # A generator: the test run checks the items of lists before the library does.
        request_for_ids(ids if isinstance(ids, np.ndarray) else (i for i in ids), _train())


@settings(
    max_examples=80,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    suffix=st.sampled_from([".txt", ".json", ".npy"]),
    content=st.one_of(
        st.binary(max_size=200),
        st.text(alphabet='0123456789-, \n[]{}:e."', max_size=60).map(str.encode),
        st.binary(max_size=100).map(lambda tail: b"\x93NUMPY\x01\x00" + tail),
    ),
)
def test_arbitrary_files_of_ids_raise_only_input_errors(tmp_path, suffix, content):
    path = tmp_path / f"any{suffix}"
    path.write_bytes(content)
    try:
        request = parse_request(f"ids:{path}", _train(), seed=0)
    except InputError:
        return
    assert np.isin(request.ids, IDS).all()


@settings(max_examples=80, deadline=None, database=None)
@given(st.one_of(st.text(max_size=30), st.text(alphabet="clasrndomi:+0.129 ", max_size=30)))
def test_arbitrary_requests_raise_only_input_errors(text):
    try:
        parse_request(text, _train(), seed=0)
    except InputError:
        pass


MASK = np.arange(60) % 7 == 0


@pytest.mark.parametrize(
    "asked",
    [
        MASK,
        MASK.tolist(),
        jnp.asarray(MASK),
        IDS[MASK],
        IDS[MASK].tolist(),
        tuple(IDS[MASK][::-1].tolist()),
        set(IDS[MASK].tolist()),
        frozenset(IDS[MASK].tolist()),
        "ids:" + ",".join(map(str, IDS[MASK])),
        request_for_ids(IDS[MASK], _train()),
    ],
    ids=lambda asked: type(asked).__name__,
)
def test_whatever_names_samples_is_a_request(asked):
    found = as_request(asked, _train())
    np.testing.assert_array_equal(found.ids, np.sort(IDS[MASK]))


NUMBERS = {
    "integers": lambda mask: mask.astype(int),
    "bytes": lambda mask: mask.astype(np.uint8),
    "floats": lambda mask: mask.astype(float),
    "objects": lambda mask: mask.astype(object),
    "a list": lambda mask: mask.astype(int).tolist(),
    "a list of floats": lambda mask: mask.astype(float).tolist(),
    "of JAX": lambda mask: jnp.asarray(mask.astype(np.int32)),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_a_mask_in_numbers_is_told_from_ids_and_positions(tmp_path, kind):
    train, mask = _train(), NUMBERS[kind](MASK)
    wanted = sorted(train.ids[MASK].tolist())
    called = {
        "take": lambda mask: train.take(mask).ids,
        "positions": lambda ids: train.ids[train.positions(ids)],
        "only": lambda ids: train.only(ids).ids,
        "without": lambda ids: np.setdiff1d(train.ids, train.without(ids).ids),
        "as_request": lambda asked: as_request(asked, train).ids,
        "request_for_ids": lambda ids: request_for_ids(ids, train).ids,
    }
    for name, call in called.items():
        if name == "request_for_ids" and isinstance(mask, list):
            continue  # which checks one item after another
        with pytest.raises(InputError, match="nothing but 0 and 1") as caught:
            call(mask)
        # What the message says, typed.
        typed = re.search(
            r"(dataset\.ids\[)?np\.asarray\(mask\)\.astype\(bool\)\]?", caught.value.remedy
        )
        given = eval(typed[0], {"np": np, "mask": mask, "dataset": train})
        assert sorted(call(given).tolist()) == wanted, name
    if not isinstance(mask, list) and mask.dtype != object:
        np.save(tmp_path / "mask.npy", mask)
        with pytest.raises(InputError, match=r"nothing but 0 and 1.*dataset\.ids\[np\.asarray\("):
            parse_request(f"ids:{tmp_path / 'mask.npy'}", train, seed=0)


def test_what_is_no_mask_in_numbers_is_told_by_its_fault():
    for wrong in ([3, 3, 5], [0, 0], np.array([1, "a", 0], object)):
        with pytest.raises(InputError) as caught:
            _train().take(wrong)
        assert "mask" not in str(caught.value)
    assert len(_train().take([0, 1])) == 2
    with pytest.raises(InputError, match=r"with repeats: 0\. .*np\.arange\(len\(images\)\)"):
        dataclasses.replace(_train(), ids=np.zeros(60, int))


@pytest.mark.parametrize(
    "asked",
    [
        MASK.astype(float),
        MASK[:-1],
        np.zeros(60, bool),
        np.ones(60, bool),
        [],
        set(),
        [IDS[0], IDS[0]],
        [-1],
        [True, 3],
        ["a"],
        "nonsense",
        {1.5},
        dataclasses.replace(request_for_ids(IDS[:3], _train()), ids=np.array([5000, 5001])),
    ],
    ids=str,
)
def test_what_names_no_samples_is_refused(asked):
    with pytest.raises(InputError) as caught:
        as_request(asked, _train())
    assert caught.value.remedy


def test_ranges_of_ids_are_said_not_to_be_known():
    with pytest.raises(InputError, match=r"no file of ids '3-7'.*there are no ranges"):
        read_ids("3-7")
