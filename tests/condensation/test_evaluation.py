"""Evaluation: accuracies of networks trained on condensed images alone, by seed; bad input."""

import numpy as np
import pytest
from toys import Plain, toy_splits

from dcmu_jax.condensation.condenser import CondensedImages
from dcmu_jax.condensation.coresets import RandomCoreset
from dcmu_jax.condensation.evaluation import evaluate_condensed
from dcmu_jax.condensation.siamese import SiameseAugmentation
from dcmu_jax.data.dataset import channel_statistics
from dcmu_jax.errors import InputError
from dcmu_jax.training.optimizers import Optimizer

SPLITS = toy_splits(per_class=20)
CONDENSED = RandomCoreset()(SPLITS.train, 4)
QUICK = {
    "normalisation": channel_statistics(SPLITS.train.images),
    "epochs": 30,
    "optimizer": Optimizer(learning_rate=0.02),
}


def test_accuracies_by_seed():
    score = evaluate_condensed(CONDENSED, SPLITS.test, Plain(), seeds=(1, 2, 1), **QUICK)
    assert score.accuracies[0] == score.accuracies[2]
    assert score.mean == pytest.approx(np.mean(score.accuracies))
    assert score.mean > 60 and score.run_s > 0
    wrong = CondensedImages(CONDENSED.images, (CONDENSED.labels + 1) % 3)
    assert evaluate_condensed(wrong, SPLITS.test, Plain(), seeds=(1, 2), **QUICK).mean < 40


def test_augmentation_reaches_the_training_alone():
    wild = SiameseAugmentation(strategies=("cutout",), cutout=3.0)  # nothing is left of an image
    score = evaluate_condensed(
        CONDENSED, SPLITS.test, Plain(), seeds=(0,), augmentation=wild, **QUICK
    )
    plain = evaluate_condensed(CONDENSED, SPLITS.test, Plain(), seeds=(0,), **QUICK)
    assert score.mean < plain.mean


def test_bad_input():
    with pytest.raises(InputError, match="No seeds"):
        evaluate_condensed(CONDENSED, SPLITS.test, Plain(), seeds=(), **QUICK)
    other = CondensedImages(CONDENSED.images[:, :6], CONDENSED.labels)
    with pytest.raises(InputError, match=r"\(6, 8, 1\).*\(8, 8, 1\)"):
        evaluate_condensed(other, SPLITS.test, Plain(), **QUICK)
