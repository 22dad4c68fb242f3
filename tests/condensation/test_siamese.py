"""Siamese augmentation: plain twins of each strategy, the same draw on both sides, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.ndimage import map_coordinates

from dcmu_jax.condensation.siamese import STRATEGIES, SiameseAugmentation, SiameseTraining
from dcmu_jax.data.augmentation import augment
from dcmu_jax.data.dataset import Normalisation
from dcmu_jax.errors import InputError

ALL = SiameseAugmentation()
change = jax.jit(lambda x, key, a: a(x, key), static_argnums=2)
each = jax.jit(lambda x, key, a: a.each(x, key), static_argnums=2)
transform = jax.jit(SiameseAugmentation.transform, static_argnums=0)


def images(n=3, height=9, width=8, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, height, width, channels)).astype(np.float32)


def turned(image, angle):
    """One image sampled at places turned about its middle, channel by channel."""
    height, width, _ = image.shape
    middle = (height - 1) / 2, (width - 1) / 2
    at = np.zeros((2, height, width))
    for i in range(height):
        for j in range(width):
            y, x = i - middle[0], j - middle[1]
            at[0, i, j] = np.sin(angle) * x + np.cos(angle) * y + middle[0]
            at[1, i, j] = np.cos(angle) * x - np.sin(angle) * y + middle[1]
    return sampled(image, at)


def sampled(image, at):
    planes = [
        map_coordinates(image[..., c], at, order=1, mode="grid-constant")
        for c in range(image.shape[2])
    ]
    return np.stack(planes, axis=-1)


def twin(name, image, numbers):
    """One strategy on one image, step by step, with the published values."""
    a, b, c = map(float, numbers)
    height, width, _ = image.shape
    out = image.astype(np.float64)
    if name == "color":
        out = out + a - 0.5
        for i in range(height):
            for j in range(width):
                grey = out[i, j].mean()
                out[i, j] = grey + 2 * b * (out[i, j] - grey)
        return out.mean() + (c + 0.5) * (out - out.mean())
    if name == "flip":
        return out[:, ::-1] if a < 0.5 else out
    if name == "crop":
        down, right = int(a * 3) - 1, int(b * 3) - 1  # an eighth of 9 and of 8 is 1
        padded = np.pad(out, ((1, 1), (1, 1), (0, 0)))
        return padded[1 + down : 1 + down + height, 1 + right : 1 + right + width]
    if name == "cutout":  # 5 of 9 rows, 4 of 8 columns
        top, left = int(a * 9) - 2, int(b * 9) - 2
        for i in range(max(top, 0), min(top + 5, height)):
            for j in range(max(left, 0), min(left + 4, width)):
                out[i, j] = 0
        return out
    if name == "rotate":
        return turned(out, (a - 0.5) * 2 * np.deg2rad(15))
    assert name == "scale"
    tall, wide = (1 / 1.2 + u * (1.2 - 1 / 1.2) for u in (a, b))
    grid = np.mgrid[:height, :width].astype(float)
    grid[0] = (grid[0] - (height - 1) / 2) * tall + (height - 1) / 2
    grid[1] = (grid[1] - (width - 1) / 2) * wide + (width - 1) / 2
    return sampled(out, grid)


@pytest.mark.parametrize("name", STRATEGIES)
def test_each_strategy_is_its_plain_twin(name):
    x = images()
    index = jnp.int32(ALL.strategies.index(name))
    for numbers in ([0.0, 0.0, 0.0], [0.999, 0.999, 0.999], [0.31, 0.62, 0.87], [0.8, 0.1, 0.4]):
        ours = transform(ALL, x, index, jnp.array(numbers))
        theirs = np.stack([twin(name, image, numbers) for image in x])
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
        assert not np.allclose(ours, x) or name == "flip"


def test_the_same_key_changes_batches_of_any_size_alike():
    cheap = SiameseAugmentation(strategies=("color", "crop", "flip"))
    real, synthetic = images(5, seed=1), images(2, seed=2)
    real[3:] = synthetic[::-1]
    for number in range(12):
        key = jax.random.key(number)
        np.testing.assert_allclose(
            change(real, key, cheap)[3:], change(synthetic, key, cheap)[::-1], atol=1e-6
        )


def test_every_strategy_is_drawn_with_parameters_of_its_own():
    x = images()
    drawn = []
    for number in range(25):
        _, of_parameters = jax.random.split(jax.random.key(number))
        numbers = jax.random.uniform(of_parameters, (3,))
        out = change(x, jax.random.key(number), ALL)
        every = [transform(ALL, x, jnp.int32(i), numbers) for i in range(6)]
        drawn += [i for i in range(6) if np.allclose(out, every[i], atol=1e-6)]
    assert set(drawn) == set(range(6))


def test_each_image_by_its_own_draw():
    x = np.repeat(images(1), 3, axis=0)
    for name in ("color", "rotate"):
        out = np.asarray(each(x, jax.random.key(0), SiameseAugmentation(strategies=(name,))))
        assert len({image.tobytes() for image in out}) == 3


def test_gradients_reach_the_images():
    x = images()
    numbers = jnp.array([0.2, 0.7, 0.4])
    for i, name in enumerate(ALL.strategies):

        def run(x, i=i):
            return transform(ALL, x, jnp.int32(i), numbers)

        assert np.abs(jax.vjp(run, x)[1](jnp.ones_like(x))[0]).sum() > 0, name
        check_grads(run, (x,), 1, ["rev"], eps=1e-2)


def test_nothing_to_draw_from_is_the_identity():
    x, off = jnp.asarray(images()), SiameseAugmentation(strategies=())
    np.testing.assert_array_equal(off(x, jax.random.key(0)), x)
    np.testing.assert_array_equal(off.each(x, jax.random.key(0)), x)
    still = SiameseAugmentation(
        brightness=0.0, crop=0.0, cutout=0.0, flip=0.0, scale=1.0, rotate=0.0
    )
    for i, name in enumerate(still.strategies):
        if name != "color":
            out = transform(still, x, jnp.int32(i), jnp.array([0.3, 0.6, 0.9]))
            np.testing.assert_allclose(out, x, atol=1e-6, err_msg=name)


def test_training_augmentation_acts_on_network_inputs_and_gives_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 9, 8, 3), np.uint8)
    normalisation = Normalisation(np.float32([0.4, 0.5, 0.6]), np.float32([0.2, 0.3, 0.25]))
    turn = SiameseAugmentation(strategies=("rotate",))
    training = SiameseTraining.of(turn, normalisation)
    assert hash(training) == hash(SiameseTraining.of(turn, normalisation))
    key = jax.random.key(4)
    out = normalisation.apply(jax.jit(augment, static_argnums=2)(pixels, key, training))
    expected = each(normalisation.apply(pixels), jax.random.split(key)[1], turn)
    np.testing.assert_allclose(out, expected, atol=1e-5)
    # What comes in at the corners is the mean colour, 0 of the inputs.
    assert np.abs(out[:, 0, 0]).max() < np.abs(normalisation.apply(pixels)[:, 0, 0]).max()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strategies": ("crop", "colour")}, r"augmentation 'colour'.*Did you mean 'color'"),
        ({"scale": 0.9}, r"scale = 0\.9.*1 or more"),
        ({"cutout": -0.1}, r"cutout = -0\.1"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        SiameseAugmentation(**settings)
