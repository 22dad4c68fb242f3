"""Real images, read as a user reads an archive of their own. Skipped where there are none."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dcmu_jax.data import load, parse_request, remembrance_samples

SIBLING = Path(__file__).parents[3] / "shared" / "data"
FOLDER = Path(os.environ.get("DCMU_TEST_DATA", SIBLING))


def _archive(name: str, folder: Path) -> str:
    if not (FOLDER / name).is_dir():
        pytest.skip(f"no real images: {name} is not in DCMU_TEST_DATA or ../shared/data")
    if name.startswith("cifar"):
        pytest.importorskip("PIL", reason="the CIFAR-10 sheets are unpacked with Pillow")
    script = str(FOLDER / "unpack.py")
    subprocess.run([sys.executable, script, name, str(folder)], check=True, capture_output=True)
    return f"npz:{folder / name}.npz"


def test_cifar10_subset(tmp_path):
    splits = load(_archive("cifar10_small", tmp_path))
    assert (splits.name, splits.num_classes) == ("cifar10_small", 10)
    assert splits.train.images.shape == (5000, 32, 32, 3)
    assert splits.test.images.shape == (2000, 32, 32, 3)
    np.testing.assert_array_equal(np.bincount(splits.train.labels), [500] * 10)
    np.testing.assert_array_equal(np.bincount(splits.test.labels), [200] * 10)
    assert not np.isin(splits.test.ids, splits.train.ids).any()
    assert 110 < splits.train.images.mean() < 130  # of CIFAR-10: 120.7
    request = parse_request("random:0.1", splits.train, seed=0)
    assert len(request) == 500 and request.forgotten_classes == ()
    assert len(parse_request("class:2", splits.train, seed=0)) == 500
    assert len(remembrance_samples(splits.test, 10, method="random", seed=0)) == 100


def test_svhn_without_a_test_split(tmp_path):
    splits = load(_archive("svhn_mini", tmp_path))
    assert len(splits.train) + len(splits.test) == 1083
    whole = np.bincount(np.concatenate([splits.train.labels, splits.test.labels]))
    cut = np.bincount(splits.test.labels)
    assert len(whole) == 10 and np.all(np.abs(cut - 0.2 * whole) <= 0.5)
