"""A module is known by what it computes, too: not by its settings alone."""

import functools
import json
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from toys import Noisy, Plain, fresh, toy_splits

from dcmu_jax.errors import InputError
from dcmu_jax.networks.adoption import check_module
from dcmu_jax.networks.behaviour import behaviour_of, differing, fixed_numbers, model_text
from dcmu_jax.runs.saved import DATA
from dcmu_jax.training.checkpoints import load_classifier, save_classifier

SPLITS = toy_splits()
SHAPE = SPLITS.image_shape


def _first(x):
    return x.reshape(len(x), -1)


def _module(act=nn.relu, last=lambda x: x, rate=0.5, momentum=0.9, features=None, call=None):
    """A module whose settings say nothing of what it computes."""

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            x = nn.Dense(6)(_first(x))
            x = nn.BatchNorm(use_running_average=not train, momentum=momentum)(x)
            return nn.Dropout(rate, deterministic=not train)(act(x))

    class Mine(nn.Module):
        def setup(self):
            self.beginning = Block()
            self.intermediate = nn.Sequential([nn.Dense(6), act])
            self.final = nn.Sequential([nn.Dense(3), last])

    for name, method in (("features", features), ("__call__", call)):
        if method is not None:
            method.__name__ = name
            Mine = type("Mine", (Mine,), {name: method})
    return Mine()


OTHERS = {
    "activation": {"act": nn.tanh},
    "a nearly equal activation": {"act": lambda x: nn.leaky_relu(x, 0.03)},
    "rate of dropout": {"rate": 0.3},
    "momentum": {"momentum": 0.5},
    "features": {"features": lambda self, x: self.beginning(x)},
    "outputs": {"last": lambda x: 2 * x},
}


@pytest.mark.parametrize("kind", OTHERS)
def test_modules_of_the_same_settings_differ(kind):
    one, other = _module(), _module(**OTHERS[kind])
    assert differing(behaviour_of(one, SHAPE), behaviour_of(other, SHAPE))
    assert not differing(behaviour_of(one, SHAPE), behaviour_of(_module(), SHAPE))


def test_numbers_are_of_no_generator():
    assert fixed_numbers("images", (3,)).tolist() == pytest.approx(
        [-0.694118, -0.45098, -0.035294], rel=1e-5
    )


@pytest.mark.parametrize("coarse", [False, True])
def test_rounding_is_no_difference(coarse):
    model = _module(act=lambda x: nn.relu(x.astype(jnp.bfloat16)) if coarse else nn.relu(x))
    found = behaviour_of(model, SHAPE)
    off = 1.01 if coarse else 1.0001
    assert found["coarse"] == [float(coarse)]
    moved = {k: v if k == "coarse" else [off * x for x in v] for k, v in found.items()}
    assert not differing(found, moved)
    far = {k: v if k == "coarse" else [1.3 * x for x in v] for k, v in found.items()}
    assert "final" in differing(found, far)


class Drawing(nn.Module):
    """Draws by itself in training."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(5)(_first(x))
        return x + jax.random.normal(self.make_rng("dropout"), x.shape) if train else x


class OfDraws(nn.Module):
    def setup(self):
        self.beginning, self.intermediate, self.final = Drawing(), nn.Dense(4), nn.Dense(3)


def test_what_draws_in_training_is_known_by_the_rest():
    assert "training" in behaviour_of(Noisy(), SHAPE)
    assert set(behaviour_of(OfDraws(), SHAPE)) & {"training", "final"} == {"final"}


class WithFunction(nn.Module):
    act: Any = nn.relu

    def setup(self):
        self.beginning, self.final = nn.Sequential([_first, nn.Dense(4)]), nn.Dense(3)
        self.intermediate = nn.Sequential([nn.Dense(4), self.act])


def test_functions_among_the_settings_have_no_address(tmp_path):
    one, other = (WithFunction(functools.partial(lambda x: nn.leaky_relu(x, 0.1))) for _ in "ab")
    assert repr(one) != repr(other) and model_text(one) == model_text(other)
    network = fresh(one, SPLITS.train)
    save_classifier(tmp_path / "saved", network)
    again = load_classifier(tmp_path / "saved", other, fresh(other, SPLITS.train))
    assert again.fingerprint() == network.fingerprint()


def test_a_saved_network_is_of_what_its_module_computes(tmp_path):
    module, other = _module(), _module(nn.tanh)
    network = fresh(module, SPLITS.train)
    save_classifier(tmp_path / "saved", network)
    again = load_classifier(tmp_path / "saved", module, fresh(_module(), SPLITS.train))
    assert again.fingerprint() == network.fingerprint()
    with pytest.raises(InputError, match=r"computes something else \(beginning, "):
        load_classifier(tmp_path / "saved", other, fresh(other, SPLITS.train))


def test_a_network_that_an_earlier_version_saved_is_found(tmp_path):
    network = fresh(Plain(), SPLITS.train)
    save_classifier(tmp_path / "saved", network)
    file = tmp_path / "saved" / "about" / "metadata"
    about = json.loads(file.read_text())
    del about["behaviour"]
    file.write_text(json.dumps(about))
    again = load_classifier(tmp_path / "saved", Plain(), fresh(Plain(), SPLITS.train))
    assert again.fingerprint() == network.fingerprint()


def _without(name):
    return lambda found: found.pop(name)


@pytest.mark.parametrize(
    "change",
    [dict.clear, _without("features"), lambda found: found.update(coarse=[], final=[1.0])],
    ids=["nothing", "no features", "an empty list"],
)
def test_a_file_that_tells_too_little_of_a_module_is_damaged(tmp_path, change):
    network = fresh(Plain(), SPLITS.train)
    save_classifier(tmp_path / "saved", network)
    file = tmp_path / "saved" / "about" / "metadata"
    about = json.loads(file.read_text())
    change(about["behaviour"])
    file.write_text(json.dumps(about))
    note = {"fingerprint": "x", "behaviour": about["behaviour"]}
    (tmp_path / "data.json").write_text(json.dumps(note))
    with pytest.raises(InputError, match=r"cannot be read \(.*it has no numbers of "):
        load_classifier(tmp_path / "saved", Plain(), network)
    with pytest.raises(InputError, match=r"behaviour.*it has no numbers of "):
        DATA.read(tmp_path / "data.json")


def test_what_one_module_has_and_the_other_lacks_is_a_difference():
    found = behaviour_of(Plain(), SHAPE)
    less = {name: numbers for name, numbers in found.items() if name != "training"}
    assert differing(found, less) == differing(less, found) == ["training"]


def _parts(self, x):
    return self.final(self.intermediate(self.beginning(x)))


CALLS = {
    "more": (lambda self, x: _parts(self, x) + 1, "computes something else than its three parts"),
    "a part left out": (lambda self, x: self.final(self.beginning(x)), "computes something else"),
    "a tuple": (lambda self, x: (_parts(self, x), x), "computes something else"),
    "another argument": (lambda self, x, much: much * _parts(self, x), "fails where .*TypeError"),
}


@pytest.mark.parametrize("kind", CALLS)
def test_a_call_that_is_not_the_parts_in_turn(kind):
    call, says = CALLS[kind]
    with pytest.raises(InputError, match=f"(?s)The __call__ of Mine {says}"):
        check_module(_module(call=call), SHAPE, 3)


def test_a_call_that_is_the_parts_in_turn():
    check_module(_module(call=_parts), SHAPE, 3)
    check_module(_module(call=lambda self, x, train: _parts(self, x)), SHAPE, 3)
    check_module(_module(), SHAPE, 3)


@pytest.mark.parametrize("last", [nn.softmax, lambda x: nn.softmax(x.astype(jnp.bfloat16))])
def test_probabilities_are_no_logits(last):
    with pytest.raises(InputError, match=r"outputs are probabilities.*Leave out the softmax"):
        check_module(_module(last=last), SHAPE, 3)
    check_module(_module(last=nn.log_softmax), SHAPE, 3)
