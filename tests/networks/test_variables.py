"""Variables of other types than a module has: refused where a run adopts them, until converted."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Noisy, Plain, fresh, toy_splits

from dcmu_jax.errors import InputError
from dcmu_jax.networks.adoption import check_variables
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.run import Run
from dcmu_jax.training.classifier import Classifier

SPLITS = toy_splits(per_class=60)


@pytest.mark.parametrize(
    ("kind", "dtype"), [("params", "float16"), ("params", "bfloat16"), ("batch_stats", "int32")]
)
def test_variables_of_another_type_are_refused_until_they_are_converted(tmp_path, kind, dtype):
    config = RunConfig(model="mine", forget="class:1")
    run = Run.create(tmp_path / "run", config, model=Noisy(), splits=SPLITS)
    network = fresh(Noisy(), SPLITS.train)
    other = jax.tree.map(lambda x: np.asarray(x).astype(dtype), network.variables[kind])

    def brought(variables):
        return Classifier(Noisy(), variables, network.normalisation, SPLITS.image_shape)

    says = rf"{kind}/\S+ of {dtype} for the module Noisy.*float32, as the module makes it"
    with pytest.raises(InputError, match=says) as caught:
        run.adopt(brought({**network.variables, kind: other}))
    typed = re.search(r"np\.asarray\(array, '\w+'\)", caught.value.remedy)
    assert typed is not None
    mended = jax.tree.map(lambda array: eval(typed[0], {"np": np, "array": array}), other)
    run.adopt(brought({**network.variables, kind: mended}))
    assert run.has_original()


def test_a_shape_is_said_before_a_type():
    variables = jax.tree.map(
        lambda x: x.astype(jnp.float16), fresh(Plain(), SPLITS.train).variables
    )
    variables["params"]["final"]["bias"] = np.zeros(4, np.float16)
    with pytest.raises(InputError, match=r"params/final/bias of shape \(4,\)"):
        check_variables(Plain(), variables, SPLITS.image_shape)
