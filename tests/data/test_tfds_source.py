"""TFDS: sets that are really prepared and read without TensorFlow, mocked ones, absent ones."""

import io
import re
import shlex
import sys

import numpy as np
import pytest

from dcmu_jax.data import load, tfds_source
from dcmu_jax.errors import InputError

tfds = pytest.importorskip(
    "tensorflow_datasets", reason="reads sets of tensorflow-datasets, which is not installed here"
)
Image = pytest.importorskip("PIL.Image", reason="TFDS decodes images with Pillow")

SIZES = {"train": 40, "test": 12}


def _pixels(split: str, at: int) -> np.ndarray:
    rng = np.random.default_rng([at, SIZES[split]])
    return rng.integers(0, 256, (8, 9, 3), np.uint8)


class _Tiny:
    """What the sets below share. Images go in as PNG files, which needs no TensorFlow."""

    VERSION = tfds.core.Version("1.0.0")
    SPLITS = ("train", "test")
    ID = "{split}_{at:05d}"

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description="Made-up images",
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "image": tfds.features.Image(shape=(8, 9, 3)),
                    "label": tfds.features.ClassLabel(names=["cat", "dog"]),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in self.SPLITS}

    def _generate_examples(self, split):
        split = "test" if split == "validation" else split
        for at in range(SIZES[split]):
            file = io.BytesIO()
            Image.fromarray(_pixels(split, at)).save(file, "png")
            file.seek(0)
            name = self.ID.format(split=split, at=at)
            yield at, {"id": name, "image": file, "label": at % 2}


class DcmuTiny(_Tiny, tfds.core.GeneratorBasedBuilder):
    """With a test split."""


class DcmuTinyUncut(_Tiny, tfds.core.GeneratorBasedBuilder):
    """Without one, and with names that are no numbers."""

    SPLITS = ("train",)
    ID = "sample"


class DcmuTinyValidation(_Tiny, tfds.core.GeneratorBasedBuilder):
    """With a validation split."""

    SPLITS = ("train", "validation")


class DcmuTable(_Tiny, tfds.core.GeneratorBasedBuilder):
    """Without images."""

    def _info(self):
        features = tfds.features.FeaturesDict({"label": tfds.features.ClassLabel(num_classes=2)})
        return tfds.core.DatasetInfo(builder=self, description="A table", features=features)


def _prepare(name: str, folder, file_format: str = "array_record") -> None:
    builder = tfds.builder(name, data_dir=folder, file_format=file_format)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )


def test_a_prepared_set_is_read_in_its_official_order(tmp_path):
    _prepare("dcmu_tiny", tmp_path)
    splits = load("tfds:dcmu_tiny", data_dir=tmp_path)
    assert (splits.name, splits.image_shape) == ("dcmu_tiny", (8, 9, 3))
    assert splits.class_names == ("cat", "dog")
    np.testing.assert_array_equal(splits.train.ids, np.arange(40))
    np.testing.assert_array_equal(splits.test.ids, 40 + np.arange(12))
    for data, split in ((splits.train, "train"), (splits.test, "test")):
        np.testing.assert_array_equal(data.labels, np.arange(len(data)) % 2)
        expected = np.stack([_pixels(split, at) for at in range(len(data))])
        np.testing.assert_array_equal(data.images, expected)
    assert "tensorflow" not in sys.modules
    # TFDS does shuffle, so that the order above is our doing.
    stored = tfds.data_source("dcmu_tiny", split="train", data_dir=tmp_path, download=False)
    assert [s["id"] for s in stored] != sorted(s["id"] for s in stored)


def test_without_a_test_split_one_is_cut_off(tmp_path):
    _prepare("dcmu_tiny_uncut", tmp_path)
    splits = load("tfds:dcmu_tiny_uncut", data_dir=tmp_path, test_fraction=0.25)
    np.testing.assert_array_equal(np.bincount(splits.test.labels), [5, 5])
    both = np.concatenate([splits.train.ids, splits.test.ids])
    np.testing.assert_array_equal(np.sort(both), np.arange(40))
    again = load("tfds:dcmu_tiny_uncut", data_dir=tmp_path, test_fraction=0.25)
    assert splits.train.fingerprint() == again.train.fingerprint()


def test_a_validation_split_is_the_test_set(tmp_path):
    _prepare("dcmu_tiny_validation", tmp_path)
    assert len(load("tfds:dcmu_tiny_validation", data_dir=tmp_path).test) == 12


@pytest.mark.parametrize(
    ("source", "name"), [("cifar10", "cifar10"), ("tfds:cifar10", "cifar10"), ("svhn", "svhn")]
)
def test_short_names(source, name):
    with tfds.testing.mock_data(num_examples=200):
        splits = load(source)
    assert (splits.name, splits.num_classes, splits.image_shape) == (name, 10, (32, 32, 3))
    assert len(splits.train) == len(splits.test) == 200
    assert not np.isin(splits.test.ids, splits.train.ids).any()


@pytest.mark.parametrize("source", ["cifar10", "svhn", "tfds:svhn_cropped"])
def test_an_absent_set_says_what_to_run(tmp_path, source):
    with pytest.raises(InputError) as caught:
        load(source, data_dir=tmp_path)
    message = str(caught.value)
    assert "is not prepared in" in message and "--download" in message
    full = "cifar10" if source == "cifar10" else "svhn_cropped"
    line = re.search(r'python -c "(.*?)"', message)
    assert line and f"tfds.builder('{full}', file_format='array_record'" in line.group(1)
    assert repr(str(tmp_path)) in line.group(1)
    program = shlex.split(line.group(0))[2]
    compile(program, "message", "exec")
    assert not list(tmp_path.iterdir())  # nothing is left behind


def test_the_printed_line_prepares_a_set_that_can_be_read(tmp_path):
    with pytest.raises(InputError) as caught:
        load("tfds:dcmu_tiny", data_dir=tmp_path)
    line = re.search(r'python -c ".*?"', str(caught.value))
    exec(shlex.split(line.group(0))[2], {})  # here, where the set is known
    assert len(load("tfds:dcmu_tiny", data_dir=tmp_path).train) == 40


def test_download(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_source, "_has_tensorflow", lambda: True)
    first = load("tfds:dcmu_tiny", data_dir=tmp_path, download=True)
    assert len(first.train) == 40
    # Once it is there nothing is asked of TensorFlow, or of the network.
    monkeypatch.setattr(tfds_source, "_has_tensorflow", lambda: False)
    again = load("tfds:dcmu_tiny", data_dir=tmp_path, download=True)
    assert again.train.fingerprint() == first.train.fingerprint()


def test_download_without_tensorflow_is_refused_beforehand(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_source, "_has_tensorflow", lambda: False)
    with pytest.raises(InputError, match=r"needs TensorFlow, which is absent.*pip install tensor"):
        load("cifar10", data_dir=tmp_path, download=True)
    assert not list(tmp_path.iterdir())


def test_a_failing_download(tmp_path, monkeypatch):
    def fail(*_args, **_kwargs):
        raise ConnectionError("no route\nto the host")

    monkeypatch.setattr(tfds_source, "_has_tensorflow", lambda: True)
    monkeypatch.setattr(DcmuTiny, "_split_generators", fail)
    with pytest.raises(InputError, match=r"Downloading dcmu_tiny failed.*no route to the host"):
        load("tfds:dcmu_tiny", data_dir=tmp_path, download=True)


def test_a_set_prepared_in_another_format(tmp_path):
    _prepare("dcmu_tiny", tmp_path)
    info = tmp_path / "dcmu_tiny" / "1.0.0" / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(InputError, match="is prepared, but not as array_record"):
        load("tfds:dcmu_tiny", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar01", r"Unknown TFDS set 'cifar01'.*Did you mean 'cifar10'\?"),
        ("zzzzzzzz", r"Unknown TFDS set 'zzzzzzzz'.*Look the name up"),
        ("cifar10:9.9.9", r"TFDS cannot open 'cifar10:9\.9\.9'.*only: "),
        ("cifar10/none", r"TFDS cannot open 'cifar10/none'"),
        ("a b", r"TFDS cannot open 'a b'"),
        ("imagenette", r"images of the TFDS set 'imagenette' differ in size"),
        ("dcmu_table", r"'dcmu_table' has no features image and label"),
    ],
)
def test_bad_name(tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        load(f"tfds:{name}", data_dir=tmp_path)
