"""Streamed epochs: the batches, losses and network of resident ones, and bounded chunks."""

import jax
import numpy as np
import pytest
from toys import Noisy, Plain, assert_close, examples_of, fresh, toy_splits

from dcmu_jax.data.augmentation import Augmentation
from dcmu_jax.errors import InputError
from dcmu_jax.training import streaming
from dcmu_jax.training.arguments import Objective, Placement, device_budget, size_of
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.keys import named_key
from dcmu_jax.training.loop import fit
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.training.private import PrivateGradient

TRAIN = toy_splits(per_class=60).train  # 180 samples: 22 batches of 8 and a rest
EXAMPLES = examples_of(TRAIN, np.linspace(0.5, 1.5, len(TRAIN), dtype=np.float32))
BATCH = 8
# An augmentation that knows the epoch, too.
MOVED = Objective(augmentation=Augmentation(crop_padding=1, alternating_flip=True))
ONE = size_of(EXAMPLES) / len(TRAIN) * BATCH


def _fitted(examples=EXAMPLES, **options):
    return fit(
        fresh(Noisy(), TRAIN),
        examples,
        epochs=2,
        key=named_key(0, "streaming"),
        optimizer=Optimizer(learning_rate=1e-2, schedule="cosine"),
        batch_size=BATCH,
        **options,
    )


@pytest.fixture(scope="module")
def resident():
    return _fitted(loss=MOVED)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_streamed_network_is_the_resident_one(resident, steps, monkeypatch):
    """Dropout, BatchNorm, augmentation, weights, a rest that is padded, and two epochs.

    Up to rounding: of a chunk of one step, the rest of two, the compiler makes another program.
    """
    sizes = []
    chunk = streaming.compiled_chunk

    def noted(*arguments):
        sizes.append(arguments[5].labels.shape)
        return chunk(*arguments)

    monkeypatch.setattr(streaming, "compiled_chunk", noted)
    budget = int(3 * ONE * (steps + 0.5))
    streamed = _fitted(loss=MOVED, placement=Placement(memory_budget=budget))
    np.testing.assert_allclose(streamed.losses, resident.losses, rtol=1e-5)
    assert streamed.accuracies == pytest.approx(resident.accuracies, abs=1e-3)
    assert_close(streamed.classifier.variables, resident.classifier.variables, rtol=1e-4, atol=1e-5)
    assert (streamed.flops, len(sizes)) == (resident.flops, 2 * -(-23 // steps))
    assert max(sizes) == (steps, BATCH)


def test_images_on_disk_are_read_row_by_row_and_split_over_a_mesh(resident, tmp_path):
    path = tmp_path / "images.npy"
    np.save(path, TRAIN.images)
    on_disk = Examples(np.load(path, mmap_mode="r"), EXAMPLES.labels, EXAMPLES.weights)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    streamed = _fitted(on_disk, loss=MOVED, placement=Placement(mesh, int(13 * ONE)))
    np.testing.assert_allclose(streamed.losses, resident.losses, rtol=1e-4)


def test_what_fits_stays_and_a_device_that_tells_nothing_has_room(monkeypatch):
    def refused(*_):
        raise AssertionError("streamed")

    monkeypatch.setattr(streaming, "compiled_chunk", refused)
    _fitted(placement=Placement(memory_budget=size_of(EXAMPLES)))
    assert device_budget() is None  # a CPU


def test_refusals():
    with pytest.raises(InputError, match=r"memory_budget = 100 bytes, where a batch of 8 takes"):
        _fitted(placement=Placement(memory_budget=100))
    with pytest.raises(InputError, match="memory_budget = 0"):
        _fitted(placement=Placement(memory_budget=0))
    plain = examples_of(TRAIN)
    with pytest.raises(InputError, match="Gradients of single examples"):
        fit(
            fresh(Plain(), TRAIN),
            plain,
            epochs=1,
            key=named_key(0, "streaming"),
            optimizer=Optimizer(),
            batch_size=BATCH,
            loss=Objective(rule=PrivateGradient(clip=1.0, noise_multiplier=1.0, chunk=8)),
            placement=Placement(memory_budget=int(3 * ONE)),
        )
