"""Folders of ``.npy`` files: the sets of an archive, images left on disk, bad ones refused."""

import re
import zipfile

import numpy as np
import pytest
from bad_archives import BAD_ARCHIVES, good_arrays

from dcmu_jax.data import load
from dcmu_jax.errors import InputError


def _write(folder, **arrays):
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def _is_mapped(array):
    while array is not None and not isinstance(array, np.memmap):
        array = getattr(array, "base", None)
    return array is not None


@pytest.mark.parametrize("grey", [False, True])
def test_the_sets_are_those_of_the_archive(tmp_path, grey):
    arrays = {**good_arrays(), "ids": 7 * np.arange(24)[::-1]}
    if grey:
        arrays |= {name: arrays[name][..., 0] for name in ("x_train", "x_test")}
    np.savez(tmp_path / "mine.npz", **arrays)
    archive = load(f"npz:{tmp_path / 'mine.npz'}")
    splits = load(f"npy:{_write(tmp_path / 'mine', **arrays)}")
    assert (splits.name, splits.class_names) == (archive.name, archive.class_names)
    for found, expected in ((splits.train, archive.train), (splits.test, archive.test)):
        assert found.fingerprint() == expected.fingerprint()
        assert found.num_classes == expected.num_classes
        assert _is_mapped(found.images) and not _is_mapped(expected.images)
        assert not found.images.flags.writeable


def test_a_test_set_is_cut_off_as_from_an_archive(tmp_path):
    arrays = {name: good_arrays()[name] for name in ("x_train", "y_train")}
    np.savez(tmp_path / "mine.npz", **arrays)
    archive = load(f"npz:{tmp_path / 'mine.npz'}", test_fraction=0.3)
    splits = load(f"npy:{_write(tmp_path / 'mine', **arrays)}", test_fraction=0.3)
    assert splits.train.fingerprint() == archive.train.fingerprint()
    assert splits.test.fingerprint() == archive.test.fingerprint()


_OF_FILES = {
    "missing file",
    "folder",
    "text",
    "empty file",
    "pickle",
    "plain npy",
    "truncated",
    "flipped byte",
    "zip of texts",
}
_OF_NAMES = {"no x_train", "no y_train", "misspelt"}
_OF_FLOATS = {"NaN", "inf", "NaN in test", "above 1", "below 0"}


@pytest.mark.parametrize(
    "kind", [kind for kind in BAD_ARCHIVES if kind not in _OF_FILES | _OF_NAMES | _OF_FLOATS]
)
def test_arrays_that_an_archive_may_not_have(tmp_path, kind):
    write, message = BAD_ARCHIVES[kind]
    write(tmp_path / "bad.npz")
    with zipfile.ZipFile(tmp_path / "bad.npz") as archive:
        archive.extractall(tmp_path / "bad")  # an archive is such a folder in one file
    with pytest.raises(InputError, match=message):
        load(f"npy:{tmp_path / 'bad'}")


def _change(file, change):
    def damage(folder):
        path = folder / file
        content = path.read_bytes()
        path.unlink()
        change(path, content)

    return damage


BAD_FOLDERS = {
    "no file": (
        _change("x_train.npy", lambda *_: None),
        r"has no array x_train\.npy; it has .*Add",
    ),
    "no labels": (_change("y_train.npy", lambda *_: None), r"has no array y_train\.npy"),
    "misspelt": (
        _change("y_train.npy", lambda path, c: path.with_name("y_tran.npy").write_bytes(c)),
        r"Rename y_tran\.npy to y_train\.npy",
    ),
    "truncated": (
        _change("x_train.npy", lambda path, c: path.write_bytes(c[:-1])),
        r"x_train\.npy is a damaged or truncated array",
    ),
    "cut in the header": (
        _change("y_test.npy", lambda path, c: path.write_bytes(c[:20])),
        r"y_test\.npy is a damaged or truncated array",
    ),
    "empty": (
        _change("ids.npy", lambda path, _: path.write_bytes(b"")),
        r"ids\.npy is a damaged or truncated array",
    ),
    "folder for a file": (
        _change("x_test.npy", lambda path, _: path.mkdir()),
        r"x_test\.npy is a damaged or truncated array \(IsADirectory",
    ),
    "floats": (
        _change("x_test.npy", lambda path, _: np.save(path, np.zeros((9, 8, 10, 3), np.float32))),
        r"x_test\.npy holds float32\. Allowed: uint8",
    ),
    "objects": (
        _change("x_train.npy", lambda path, _: np.save(path, np.array([None, "a"], object))),
        r"x_train in .*x_train\.npy is an array of Python objects, which is never unpickled",
    ),
}


@pytest.mark.parametrize("kind", BAD_FOLDERS)
def test_bad_folder_is_refused(tmp_path, kind):
    damage, message = BAD_FOLDERS[kind]
    folder = _write(tmp_path / "bad", **good_arrays(), ids=np.arange(24))
    damage(folder)
    with pytest.raises(InputError) as caught:
        load(f"npy:{folder}")
    assert re.search(message, str(caught.value)), str(caught.value)


def test_no_folder_at_all(tmp_path):
    with pytest.raises(InputError, match=r"There is no folder .*none"):
        load(f"npy:{tmp_path / 'none'}")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file is a file.*Give the path of the folder"):
        load(f"npy:{tmp_path / 'file'}")
