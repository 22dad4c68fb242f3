"""Variables without compiling an initialisation, for tests that are not about it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.fixture
def random_variables():
    """``(model, image_shape) -> variables`` whose every leaf is random, BatchNorm's included."""

    def draw(model, image_shape):
        x = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
        shapes = jax.eval_shape(model.init, jax.random.key(0), x)
        rng = np.random.default_rng(0)

        def leaf(path, shape):
            name = path[-1].key
            if name in ("scale", "var"):
                return jnp.asarray(rng.uniform(0.5, 1.5, shape.shape), shape.dtype)
            fan_in = max(1, int(np.prod(shape.shape[:-1])))
            return jnp.asarray(rng.normal(size=shape.shape) / np.sqrt(fan_in), shape.dtype)

        variables = jax.tree_util.tree_map_with_path(leaf, shapes)
        return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}

    return draw
