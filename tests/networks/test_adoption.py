"""What a user may bring for a network: refused at the door, or trained as it says."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from flax import nnx
from toys import Noisy, Plain, examples_of, fresh, part_of, same_bits, toy_splits

from dcmu_jax.data.dataset import Normalisation, channel_statistics
from dcmu_jax.errors import InputError
from dcmu_jax.networks.adoption import check_module, check_variables
from dcmu_jax.networks.catalogue import create
from dcmu_jax.networks.partition import check_image_shape, initialise
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.options import DataOptions
from dcmu_jax.runs.run import Run
from dcmu_jax.training.checkpoints import load_classifier, save_classifier
from dcmu_jax.training.classifier import Classifier, fresh_classifier
from dcmu_jax.training.keys import named_key
from dcmu_jax.training.loop import fit
from dcmu_jax.training.optimizers import Optimizer

SPLITS = toy_splits()
TRAIN = SPLITS.train
SHAPE = SPLITS.image_shape


class Hidden(nn.Module):
    """A layer whose BatchNorm or dropout is switched by an argument of some name."""

    width: int = 6
    layer: str = "norm"

    def run(self, x, train):
        x = nn.Dense(self.width)(x.reshape(len(x), -1))
        if self.layer == "norm":
            return nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.5)(x))
        return nn.relu(nn.Dropout(0.5, deterministic=not train)(x))


class Training(Hidden):
    @nn.compact
    def __call__(self, x, training=False):
        return self.run(x, training)


class Deterministic(Hidden):
    @nn.compact
    def __call__(self, x, *, deterministic=True):
        return self.run(x, not deterministic)


class RunningAverage(Hidden):
    @nn.compact
    def __call__(self, x, use_running_average):
        return self.run(x, not use_running_average)


class Never(Hidden):
    @nn.compact
    def __call__(self, x):
        return self.run(x, False)


class Always(Hidden):
    @nn.compact
    def __call__(self, x):
        return self.run(x, True)


class Unheard(Hidden):
    """Takes ``train`` and does not pass it on."""

    @nn.compact
    def __call__(self, x, train=False):
        return self.run(x, False)


class FieldFlag(Hidden):
    deterministic: bool = True

    @nn.compact
    def __call__(self, x):
        return self.run(x, not self.deterministic)


class OwnStatistics(nn.Module):
    """Statistics by hand, which no layer of Flax tells of."""

    @nn.compact
    def __call__(self, x):
        mean = self.variable("batch_stats", "mean", lambda: jnp.zeros(()))
        return x.reshape(len(x), -1) - mean.value


class Wide(nn.Module):
    width: int = 5

    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.Dense(self.width)(x.reshape(len(x), -1)))


class Built(nn.Module):
    """Parts given as fields."""

    beginning_of: Any = Wide
    intermediate_of: Any = Wide
    final_of: Any = lambda: nn.Dense(3)
    more: Any = None

    def setup(self):
        self.beginning = self.beginning_of()
        self.intermediate = self.intermediate_of()
        self.final = self.final_of()


class Unsplit(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x.reshape(len(x), -1))


class SharedInside(nn.Module):
    def setup(self):
        layer = nn.Dense(64)
        self.beginning = nn.Sequential([lambda x: x.reshape(len(x), -1), layer])
        self.intermediate = nn.Sequential([layer, nn.relu])
        self.final = nn.Dense(3)


class SamePart(nn.Module):
    def setup(self):
        self.beginning = self.intermediate = Wide(64)
        self.final = nn.Dense(3)


class SharedOutside(nn.Module):
    def setup(self):
        self.layer = nn.Dense(64)
        self.beginning = nn.Sequential([lambda x: x.reshape(len(x), -1), self.layer])
        self.intermediate = nn.Sequential([self.layer])
        self.final = nn.Dense(3)


class Counting(nn.Module):
    @nn.compact
    def __call__(self, x):
        calls = self.variable("cache", "calls", lambda: jnp.zeros(()))
        return nn.Dense(3)(x) + 0 * calls.value


class NoiseOfItsOwn(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x.reshape(len(x), -1) + jax.random.normal(self.make_rng("noise"), ())


class OfNnx(nnx.Module):
    def __init__(self):
        self.layer = nnx.Linear(64, 3, rngs=nnx.Rngs(0))


class torch_like:  # a PyTorch module, where torch is not installed
    __module__ = "torch.nn.modules.module"


class Featured(Plain):
    """Has features of its own, by a function of a batch of them."""

    of: Any = None

    def features(self, x):
        return self.of(self.beginning(x))


class FeaturesOfMode(Plain):
    def features(self, x, train):
        return self.beginning(x)


def _ending(*ends):
    return Built(final_of=lambda: nn.Sequential([nn.Dense(3), *ends]))


BATCHED = nn.Sequential(
    [lambda x: x.reshape(len(x), -1), lambda x: x - x.mean(0, keepdims=True), nn.Dense(5)]
)
REFUSED = {
    "features of the first": (Featured(of=lambda h: h[:1]), r"features of Featured gives.*\(1,"),
    "features of all": (Featured(of=jnp.mean), r"features of Featured gives shape \(\)"),
    "two features": (Featured(of=lambda h: (h, h)), "features of Featured gives a tuple"),
    "features that fail": (Featured(of=lambda h: h @ h), "features of Featured cannot run"),
    "features of a mode": (FeaturesOfMode(), "features of FeaturesOfMode cannot run.*train"),
    "features of a batch": (
        Featured(of=lambda h: h - h.mean(0, keepdims=True)),
        "features for an image depend",
    ),
    "of a batch": (Built(beginning_of=lambda: BATCHED), "outputs and features for an image depend"),
    "a sigmoid": (_ending(nn.sigmoid), "never below 0.*sigmoid"),
    "a ReLU": (_ending(nn.relu), "never below 0.*ReLU"),
    "fewer outputs": (Plain(classes=2), r"\(2, 2\).*3 outputs"),
    "more outputs": (Plain(classes=4), r"\(2, 4\).*3 outputs"),
    "one output for all": (Built(final_of=lambda: jnp.ravel), "without 'final'"),
    "no rank": (Built(final_of=lambda: nn.Sequential([nn.Dense(3), jnp.ravel])), r"\(6,\)"),
    "two outputs": (
        Built(final_of=lambda: nn.Sequential([nn.Dense(3), lambda x: (x, x)])),
        "gives a tuple",
    ),
    "classes, no logits": (
        Built(final_of=lambda: nn.Sequential([nn.Dense(3), lambda x: x.astype(int)])),
        "int32",
    ),
    "statistics without train": (Built(beginning_of=Never), "take|train"),
    "statistics by hand": (Built(beginning_of=OwnStatistics), "beginning.*takes no argument train"),
    "a sequence with BatchNorm": (
        Built(
            intermediate_of=lambda: nn.Sequential(
                [nn.Dense(4), nn.BatchNorm(use_running_average=True)]
            )
        ),
        "intermediate.*evaluation mode while the module is trained",
    ),
    "always training": (Built(beginning_of=Always), "training mode while the module is evaluated"),
    "train not passed on": (Built(beginning_of=Unheard), "evaluation mode while"),
    "dropout not switched": (
        Built(beginning_of=lambda: Never(layer="dropout")),
        "beginning/Dropout_0.*evaluation mode while the module is trained",
    ),
    "a field for a flag": (
        Built(beginning_of=lambda: FieldFlag(layer="dropout")),
        "evaluation mode while the module is trained",
    ),
    "dropout always": (
        Built(beginning_of=lambda: Always(layer="dropout")),
        "training mode while the module is evaluated",
    ),
    "a class": (Plain, r"The class Plain.*Plain\(\)"),
    "a class of another kind": (dict, "has to be a flax.linen module"),
    "NNX": (OfNnx(), r"The NNX module OfNnx.*Give dcmu\.adopt\(module, None, splits, parts="),
    "an NNX class": (OfNnx, "The class OfNnx.*flax.linen"),
    "PyTorch": (torch_like(), "The PyTorch module torch_like"),
    "a function": (lambda x: x, "The function"),
    "a name": ("mlp", "str"),
    "not split": (Unsplit(), r"Unsplit, which is not written .*Give dcmu\.adopt\(.*, parts="),
    "two parts": (
        Built(intermediate_of=lambda: None),
        r"with beginning and final, but without 'intermediate'.*or define the three in setup",
    ),
    "not flattened": (
        Built(
            beginning_of=lambda: nn.Dense(4),
            intermediate_of=lambda: nn.Dense(4),
        ),
        r"\(2, 8, 8, 3\).*Flatten the images .*x\.reshape\(len\(x\), -1\)",
    ),
    "bound": (
        Plain().bind({"params": {"beginning": {}}}),
        r"Plain that is bound .*Give module\.unbind\(\)\[0\]",
    ),
    "a list": (Built(more=[1, 2]), r"field\(s\) more.*tuples"),
    "a dictionary": (Built(more={"a": 1}), r"field\(s\) more"),
    "an array": (Built(more=np.zeros(2)), r"field\(s\) more"),
    "a layer in two parts": (SharedInside(), "share no layer"),
    "one part for two": (SamePart(), "share|without|parts"),
    "a layer outside": (SharedOutside(), "layer"),
    "other state": (Built(final_of=Counting), "cache"),
    "other noise": (Built(beginning_of=NoiseOfItsOwn), "cannot run on images.*noise"),
    "other images": (Built(beginning_of=lambda: nn.Conv(3, (3, 3, 3, 3))), "cannot be initialised"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_before_any_training(tmp_path, kind):
    model, says = REFUSED[kind]
    with pytest.raises(InputError, match=f"(?s){says}") as caught:
        Run.create(tmp_path / "run", RunConfig(model="mine"), model=model, splits=SPLITS)
    assert caught.value.allowed and caught.value.remedy
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "kind", ["a class", "NNX", "PyTorch", "a function", "a list", "fewer outputs"]
)
def test_refused_where_a_network_is_made(kind):
    model, says = REFUSED[kind]
    with pytest.raises(InputError, match=f"(?s){says}"):
        fresh_classifier(model, TRAIN, 0)
    if kind == "fewer outputs":
        return
    network = fresh(Plain(), TRAIN)
    for call in (
        lambda: initialise(model, jax.random.key(0), SHAPE),
        lambda: Classifier(model, network.variables, network.normalisation, SHAPE),
        lambda: load_classifier("nowhere", model, network),
    ):
        with pytest.raises(InputError, match=f"(?s){says}"):
            call()


@pytest.mark.parametrize("part", [Training, Deterministic, RunningAverage])
@pytest.mark.parametrize("layer", ["norm", "dropout"])
def test_flags_of_other_names_are_switched(part, layer):
    model = Built(beginning_of=lambda: part(layer=layer))
    check_module(model, SHAPE, 3)
    network = fresh(model, TRAIN)
    options = {"epochs": 1, "key": named_key(0, "t"), "optimizer": Optimizer(learning_rate=1e-2)}
    trained = fit(network, examples_of(TRAIN), **options).classifier
    if layer == "norm":
        means = part_of(trained, "beginning")["batch_stats"]["BatchNorm_0"]["mean"]
        assert np.abs(np.asarray(means)).max() > 0  # they have moved from where they start
        frozen = fit(network, examples_of(TRAIN), parts=("final",), **options).classifier
        assert same_bits(part_of(frozen, "beginning"), part_of(network, "beginning"))
    else:
        other = fit(network, examples_of(TRAIN), **options | {"key": named_key(1, "t")}).classifier
        assert not same_bits(trained.variables, other.variables)  # its draws are by the key
    np.testing.assert_array_equal(trained.logits(TRAIN.images), trained.logits(TRAIN.images))


ENDS = {
    "tanh": nn.tanh,
    "logarithms": nn.log_softmax,
    "a shift": lambda x: x + 3,
    "softplus": nn.softplus,  # unusual, yet of any size
}


@pytest.mark.parametrize("end", ENDS)
def test_other_ends_are_taken(end):
    check_module(_ending(ENDS[end]), SHAPE, 3)
    check_module(Featured(of=lambda h: h.mean(-1)), SHAPE, 3)


def test_what_is_good_passes_and_is_traced_once(monkeypatch):
    check_module(Noisy(), SHAPE, 3)
    traced = []
    monkeypatch.setattr(jax, "eval_shape", lambda *a, **k: traced.append(1))
    check_module(Noisy(), SHAPE, 3)
    assert not traced


@pytest.mark.parametrize("kind", ["float64", "list", "float32 of JAX"])
def test_a_normalisation_of_another_dtype_is_the_same(tmp_path, kind):
    own = channel_statistics(TRAIN.images)
    convert = {
        "float64": lambda x: np.asarray(x, np.float64),
        "list": lambda x: x.tolist(),
        "float32 of JAX": jnp.asarray,
    }[kind]
    network = fresh_classifier(Plain(), TRAIN, 0, Normalisation(*map(convert, own)))
    assert all(np.asarray(x).dtype == np.float32 for x in network.normalisation)
    assert network.fingerprint() == fresh(Plain(), TRAIN).fingerprint()
    save_classifier(tmp_path / "saved", network)
    again = load_classifier(tmp_path / "saved", Plain(), fresh(Plain(), TRAIN))
    assert again.fingerprint() == network.fingerprint()


def test_variables_of_64_bits_and_frozen_ones_are_the_same():
    network = fresh(Plain(), TRAIN)
    wide = jax.tree.map(lambda x: np.asarray(x, np.float64), network.variables)
    for variables in (wide, nn.FrozenDict(network.variables)):
        brought = Classifier(Plain(), variables, network.normalisation, SHAPE)  # pyright: ignore
        assert brought.fingerprint() == network.fingerprint()


@pytest.mark.parametrize(
    "wrong", [([0.5], [0.0]), ([0.5, 0.5], [1.0, 1.0]), ([float("nan")], [1.0]), ([0.5], [-1.0])]
)
def test_a_normalisation_that_cannot_be(wrong):
    with pytest.raises(InputError, match="normalisation"):
        fresh_classifier(Plain(), TRAIN, 0, Normalisation(*map(np.asarray, wrong)))


@pytest.mark.parametrize("wrong", [{"params": {"other": {}}}, {"params": 3}, [1]])
def test_variables_that_are_not_by_part(wrong):
    with pytest.raises(InputError, match="parts beginning"):
        Classifier(Plain(), wrong, channel_statistics(TRAIN.images), SHAPE)


@pytest.mark.parametrize(
    ("wrong", "remedy"),
    [(([128.0], [0.2]), r"mean = \[0\.502\]"), (([0.5], [64.0]), r"std = \[0\.251\]")],
)
def test_a_normalisation_of_pixels_up_to_255(tmp_path, wrong, remedy):
    says = rf"as of pixels in 0\.\.255.*Divide both by 255: (data\.)?{remedy}"
    for convert in (lambda x: x, np.asarray, lambda x: jnp.asarray(x, jnp.float32)):
        with pytest.raises(InputError, match=says):
            fresh_classifier(Plain(), TRAIN, 0, Normalisation(*map(convert, wrong)))
    given = DataOptions(mean=tuple(wrong[0]), std=tuple(wrong[1]))
    with pytest.raises(InputError, match=says):
        Run.create(tmp_path / "run", RunConfig(data=given), model=Plain(), splits=SPLITS)
    fresh_classifier(Plain(), TRAIN, 0, Normalisation(np.zeros(1), np.ones(1)))


def _variables():
    return jax.tree.map(np.asarray, fresh(Plain(), TRAIN).variables)


def test_variables_without_params():
    with pytest.raises(InputError, match=r"without 'params'.*Give {\"params\": variables}"):
        Classifier(Plain(), _variables()["params"], channel_statistics(TRAIN.images), SHAPE)
    with pytest.raises(InputError, match=r"without 'params'"):
        Classifier(Plain(), {}, channel_statistics(TRAIN.images), SHAPE)


def _changed(change):
    variables = _variables()
    change(variables["params"])
    return variables


UNFIT = {
    "transposed": (
        lambda p: p["final"].update(kernel=p["final"]["kernel"].T),
        r"params/final/kernel of shape \(3, 16\).*shape \(16, 3\)\. Transpose it",
    ),
    "of another width": (
        lambda p: p["final"].update(bias=np.zeros(4)),
        r"params/final/bias of shape \(4,\).*shape \(3,\)\. Bring the variables",
    ),
    "missing": (
        lambda p: p["final"].pop("bias"),
        r"without params/final/bias.*Add params/final/bias, of shape \(3,\)",
    ),
    "a part missing": (lambda p: p.pop("final"), r"without params/final/bias"),
    "too much": (
        lambda p: p["final"].update(scale=np.ones(3)),
        r"with params/final/scale, which Plain has not.*Leave params/final/scale out",
    ),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_variables_that_do_not_fit_the_module(kind):
    change, says = UNFIT[kind]
    check_variables(Plain(), _variables(), SHAPE)
    with pytest.raises(InputError, match=says):
        check_variables(Plain(), _changed(change), SHAPE)


def test_a_network_that_cannot_be_adopted(tmp_path):
    splits = toy_splits(per_class=60)
    config = RunConfig(model="mine", forget="class:1")
    run = Run.create(tmp_path / "run", config, model=Plain(), splits=splits)
    brought = fresh(Plain(), splits.train)
    transposed = _changed(UNFIT["transposed"][0])
    with pytest.raises(InputError, match=UNFIT["transposed"][1]):
        run.adopt(Classifier(Plain(), transposed, brought.normalisation, SHAPE))
    with pytest.raises(InputError, match=r"of images \(16, 4, 1\) for data of \(8, 8, 1\)"):
        run.adopt(Classifier(Plain(), brought.variables, brought.normalisation, (16, 4, 1)))
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(InputError, match=r"given as a dict.*Give dcmu_jax\.Classifier\("):
            run.adopt(brought.variables)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    assert not run.has_original()


@pytest.mark.parametrize(
    ("shape", "remedy"),
    [
        ((8, 8), r"Give \(8, 8, 1\) for grey"),
        ((3, 8, 8), r"Give \(8, 8, 3\): the channels come last"),
        ((5, 8, 8, 1), r"Give \(8, 8, 1\), without the number"),
        ((8.0, 8, 1), r"image_shape = \(8\.0, 8, 1\)"),
        ((8, 0, 1), r"image_shape = \(8, 0, 1\)"),
        ("881", r"image_shape = '881'"),
    ],
)
def test_an_image_shape_that_is_none(shape, remedy):
    with pytest.raises(InputError, match=remedy):
        check_image_shape(shape)
    assert check_image_shape(np.array([8, 8, 1])) == (8, 8, 1)


def test_an_image_shape_is_checked_wherever_one_is_given():
    jaxtyping.config.update("jaxtyping_disable", True)
    network = fresh(Plain(), TRAIN)
    try:
        for call in (
            lambda: initialise(Plain(), jax.random.key(0), (8, 8)),
            lambda: check_module(Plain(), (8, 8), 3),
            lambda: create("mlp", image_shape=(8, 8), num_classes=3),
            lambda: Classifier(Plain(), network.variables, network.normalisation, (8, 8)),
        ):
            with pytest.raises(InputError, match=r"Give \(8, 8, 1\)"):
                call()
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
