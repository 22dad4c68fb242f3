"""The condensed model: the swap is real, the phases train what they say, rows are kept."""

import dataclasses
import gc
import json
import re
import shutil
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Block, Plain, fresh, part_of, same_bits, toy_splits

from dcmu_jax.applications import condensed_model, condensed_model_bench, condensed_model_run
from dcmu_jax.applications.condensed_model import (
    AutoencoderLoss,
    attach,
    pretrain,
    train_few,
)
from dcmu_jax.applications.condensed_model_bench import CondensedModelBench
from dcmu_jax.applications.condensed_model_recipes import (
    ROWS,
    Recipe,
    recipe,
    with_gaps,
)
from dcmu_jax.applications.condensed_model_run import CondensedModelConfig, run_condensed_model
from dcmu_jax.applications.condensed_model_settings import (
    Attaching,
    Construction,
    construction,
)
from dcmu_jax.baselines.losses import Distillation
from dcmu_jax.condensation.condenser import CondensedImages
from dcmu_jax.condensation.distribution_matching import DistributionMatching
from dcmu_jax.data.augmentation import Augmentation
from dcmu_jax.data.dataset import channel_statistics
from dcmu_jax.data.remembrance import remembrance_samples, retained_samples
from dcmu_jax.data.requests import parse_request
from dcmu_jax.errors import InputError
from dcmu_jax.fast.matching import MatchingConfig
from dcmu_jax.networks.autoencoder import Architecture, SmallClassifier, condensed_network
from dcmu_jax.networks.catalogue import create
from dcmu_jax.networks.convnet import ConvNet
from dcmu_jax.networks.mlp import MLP
from dcmu_jax.networks.partition import count_parameters, initialise
from dcmu_jax.training.arguments import Objective
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.examples import Examples, cross_entropy
from dcmu_jax.training.loop import Fitted
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.modular import ModularUnlearning, Offline
from dcmu_jax.unlearning.schedule import Step
from dcmu_jax.unlearning.task import Training

RATE = Optimizer(learning_rate=1e-2)
ONLINE = ModularUnlearning(
    rounds=2,
    tail=1,
    round_steps=(
        Step(parts=("beginning",), optimizer=RATE),
        Step(parts=("final",), on="remembrance", batch_size=0, optimizer=RATE),
    ),
    closing_steps=(Step(parts=("intermediate",), optimizer=RATE),),
)
TINY = Construction(
    architecture=Architecture(
        channels=(4, 4),
        head=(8,),
        small_channels=(4,),
        small_hidden=8,
        extra_channels=1,
        conv="lax",
        batch_norm=True,
    ),
    pretraining=Training(epochs=2, batch_size=36, optimizer=RATE),
    per_class=2,
    offline=Offline(
        rounds=1,
        final_epochs=1,
        final_batch_size=6,
        intermediate_epochs=1,
        intermediate_batch_size=36,
        final_optimizer=RATE,
        intermediate_optimizer=RATE,
    ),
    clusters_per_class=6,
    matching=MatchingConfig(steps=1),
    online=ONLINE,
    online_classes=ONLINE,
    attaching=Attaching(steps=4, batch_size=6, optimizer=RATE, flip=True, crop=1, distil=1.0),
)
NAMES = tuple(name for name in ROWS if not name.endswith("through model"))


@pytest.fixture(scope="module")
def splits():
    return toy_splits(classes=3, per_class=24)


def untrained(dataset):
    """A condensed model that is not trained: enough to see what is exchanged for what."""
    height, width, channels = dataset.images.shape[1:]
    shape = (height, width, channels)
    module = condensed_network(TINY.architecture, shape, 3)
    sizes = jax.eval_shape(lambda: initialise(module, jax.random.key(0), shape))
    rng = np.random.default_rng(0)  # compiling an initialisation takes longer than training
    variables = jax.tree.map(
        lambda a: jnp.asarray(rng.uniform(0.1, 0.5, a.shape), a.dtype), dict(sizes)
    )
    return Classifier(module, variables, channel_statistics(dataset.images), shape)


@pytest.fixture(scope="module")
def model(splits):
    return untrained(splits.train)


def target(channels=2, width=0.05):
    return create("mlp", image_shape=(8, 8, channels), num_classes=3, width=width)


def few(splits, per_class=2):
    samples = remembrance_samples(splits.test, per_class, method="random", seed=0)
    return Examples.of(samples.images, samples.labels)


def test_the_loss_is_cross_entropy_plus_a_share_of_the_squared_error():
    logits = np.log(np.array([[0.25, 0.75], [0.5, 0.5]], np.float32))
    decoded = np.zeros((2, 1, 2, 1), np.float32)
    image = np.array([[[[1.0], [3.0]]], [[[0.0], [0.0]]]], np.float32)
    outputs = tuple(map(jnp.asarray, (logits, decoded, image)))
    loss = AutoencoderLoss(0.5)(outputs, jnp.array([1, 0]))
    np.testing.assert_allclose(loss, [-np.log(0.75) + 0.5 * 5.0, -np.log(0.5)], rtol=1e-6)


def test_attaching_replaces_final_and_keeps_the_rest_to_the_bit(model):
    module = target()
    joined = attach(model, module, seed=3)
    assert isinstance(joined.model.final, MLP)
    for part in ("beginning", "intermediate"):
        assert same_bits(part_of(joined, part), part_of(model, part))
    alone = attach(model, target(), seed=3).variables["params"]["final"]
    assert same_bits(joined.variables["params"]["final"], alone)
    counts = count_parameters(joined.variables["params"])
    by_itself = jax.eval_shape(lambda: initialise(module, jax.random.key(0), (8, 8, 2)))
    assert counts["final"] == sum(count_parameters(by_itself["params"]).values())
    assert counts["final"] != count_parameters(model.variables["params"])["final"]


def test_the_logits_are_the_targets_own_on_decoded_images(splits, model):
    """What fails if the old final is still used, however it is called."""
    joined = attach(model, target(), seed=3)
    trained = train_few(joined, few(splits), TINY.attaching, parts=("final",), seed=0).classifier
    decoded = model.inputs_of("final", splits.test.images)
    own = {"params": trained.variables["params"]["final"]}
    expected = jax.jit(target().apply)(own, jnp.asarray(decoded))
    np.testing.assert_allclose(trained.logits(splits.test.images), expected, rtol=1e-4, atol=1e-4)
    assert not np.allclose(trained.logits(splits.test.images), model.logits(splits.test.images))
    assert not same_bits(part_of(trained, "final"), part_of(joined, "final"))
    for part in ("beginning", "intermediate"):
        assert same_bits(part_of(trained, part), part_of(model, part))


def test_only_a_condensed_model_can_be_attached_to(splits):
    with pytest.raises(InputError, match="Plain"):
        attach(fresh(Plain(), splits.train), target(), seed=0)


def test_a_target_with_statistics_brings_its_own(model):
    joined = attach(model, Block(8, 0.0, 3), seed=0)
    statistics = joined.variables["batch_stats"]
    assert set(statistics) == {"beginning", "intermediate", "final"}
    assert set(statistics["final"]) == {"BatchNorm_0"}
    assert same_bits(statistics["beginning"], model.variables["batch_stats"]["beginning"])


@pytest.fixture
def fits(monkeypatch):
    """What the training loop is called with; nothing is trained."""
    calls = []

    def noted(classifier, examples, **settings):
        calls.append((classifier, examples, settings))
        return Fitted(classifier, None, (), (), 0.0, 0.0, None)

    monkeypatch.setattr(condensed_model, "fit", noted)
    return calls


def test_without_augmentation_the_frozen_parts_run_once(splits, model, fits):
    plain = dataclasses.replace(TINY.attaching, flip=False, crop=0, distil=0.0)
    joined, examples = attach(model, target(), seed=0), few(splits)
    train_few(joined, examples, plain, parts=("final",), seed=0, teacher=model)
    train_few(joined, examples, TINY.attaching, parts=("final",), seed=0)
    (_, cached, first), (_, pixels, second) = fits
    assert first["parts"].start == "final" and second["parts"].start == "beginning"
    np.testing.assert_array_equal(cached.inputs, model.inputs_of("final", examples.inputs))
    assert pixels.inputs is examples.inputs and cached.targets is pixels.targets is None
    assert first["loss"] == Objective(cross_entropy)
    assert second["loss"] == Objective(cross_entropy, Augmentation(True, 1))


def test_distillation_takes_its_targets_from_the_teacher(splits, model, fits):
    joined, examples = attach(model, target(), seed=0), few(splits)
    train_few(joined, examples, TINY.attaching, parts=("final",), seed=0, teacher=model)
    ((_, given, settings),) = fits
    np.testing.assert_array_equal(given.targets, model.logits(examples.inputs))
    assert settings["loss"].loss == Distillation(divergence=1.0, temperature=2.0)
    assert settings["parts"].parts == ("final",)


def test_steps_do_not_depend_on_the_number_of_images():
    attaching = Attaching(steps=300, batch_size=50)
    assert [attaching.epochs(n) for n in (10, 50, 100, 101, 100_000)] == [300, 300, 150, 100, 1]


WANTED = {"target": "mlp", "width": 0.05, "per_class": 2}
CONFIG = CondensedModelConfig(
    dataset="synthetic:classes=3,per_class=24,size=8,channels=1",
    rows=NAMES,
    seed=1,
    dm_iterations=1,
    training=Training(epochs=1, batch_size=36),
    construction=TINY,
    **WANTED,
)


class Noted(CondensedModelBench):
    """Notes the networks that its rows are measured on, with their costs."""

    made: ClassVar[list] = []

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.networks = {}
        self.made.append(self)

    def network(self, recipe):
        self.networks[recipe] = super().network(recipe)
        return self.networks[recipe]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """All of it once: what pretraining gave, the bench, and the rows."""
    starts = []

    def noted(*arguments, **settings):
        starts.append(pretrain(*arguments, **settings))
        return starts[-1]

    def first(_, retain, per_class, **settings):
        """A stand-in for distribution matching, which takes a third of all the time."""
        assert isinstance(settings["classifier"].model, ConvNet)
        at = np.argsort(retain.labels, kind="stable")[: 3 * per_class]
        return CondensedImages(retain.images[at].astype(np.float32), retain.labels[at])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DistributionMatching, "__call__", first)
        patch.setattr(condensed_model, "pretrain", noted)
        patch.setattr(condensed_model_run, "CondensedModelBench", Noted)
        rows = run_condensed_model(CONFIG, tmp_path_factory.mktemp("bench"))
    (fitted,), (bench,) = starts, Noted.made
    return fitted, bench, rows


@pytest.fixture(scope="module")
def bench(measured):
    return measured[1]


def again(bench, **changes):
    given = {
        "construction": TINY,
        "budget": bench.budget,
        "splits": bench.splits,
        "request": bench.request,
        "folder": bench.folder,
        "seed": 1,
        "largest": 2,
    } | changes
    return CondensedModelBench(**given)


def test_the_offline_phase_keeps_the_encoder_and_trains_the_rest(measured):
    pretrained, bench, _ = measured
    made, start = bench.prepared(), pretrained.classifier
    assert pretrained.losses[-1] < pretrained.losses[0]
    assert isinstance(start.model.final, SmallClassifier)
    assert same_bits(part_of(made.classifier, "beginning"), part_of(start, "beginning"))
    for part in ("intermediate", "final"):
        assert not same_bits(part_of(made.classifier, part), part_of(start, part))
    # The clusters are of codes: 4 channels of 2x2.
    assert made.bank.feature_sums.shape == (18, 16)


def test_every_row_is_measured_and_kept(measured, monkeypatch):
    _, bench, rows = measured
    by_name = {row["row"]: row for row in rows}
    assert list(by_name) == list(NAMES)
    assert by_name["retrain"]["gap"] == 0 and by_name["fdm"]["gap"] > 0
    assert by_name["small final"]["trained_parameters"] == 0
    alone, joined = by_name["remembrance alone"], by_name["condensed model"]
    assert joined["parameters"] > joined["trained_parameters"]
    assert joined["trained_images"] == alone["trained_images"] == 6
    assert by_name["retrain"]["trained_images"] == len(bench.splits.train) - len(bench.request)
    # The request is paid for by whoever uses the unlearned model, and by condensing.
    assert joined["request_s"] > 0 and by_name["dm"]["request_s"] > 0
    assert alone["request_s"] == by_name["before unlearning"]["request_s"] == 0
    monkeypatch.setattr(condensed_model_bench, "train_few", None)
    monkeypatch.setattr(condensed_model_bench, "prepare", None)
    kept = again(bench)
    found = [kept.row(name, recipe(name, **WANTED)) for name in NAMES]
    assert json.loads(json.dumps(with_gaps(found))) == json.loads(json.dumps(rows))
    assert same_bits(kept.unlearned()[0].variables, bench.unlearned()[0].variables)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of Orbax
@pytest.mark.parametrize("part", ["prepared/network", "prepared/bank.npz", "unlearned/network"])
def test_the_remedy_of_a_damaged_part(bench, tmp_path, monkeypatch, part):
    shutil.copytree(bench.folder, tmp_path / "copy")
    path = tmp_path / "copy" / part
    for file in [path] if path.is_file() else list((path / "final").rglob("*")):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:3])

    def work():
        copy = again(bench, folder=tmp_path / "copy")
        return copy.prepared(), copy.unlearned()

    with pytest.raises(InputError) as caught:
        work()
    assert caught.value.remedy == f"Delete the folder {str(path.parent)!r} and run again"
    shutil.rmtree(path.parent)
    made = bench.prepared()
    monkeypatch.setattr(condensed_model_bench, "prepare", lambda *_, **__: made)
    work()
    gc.collect()


def test_the_remedy_of_damaged_images(bench, tmp_path, monkeypatch):
    shutil.copytree(bench.folder, tmp_path / "copy")
    copy = again(bench, folder=tmp_path / "copy")
    file = sorted((tmp_path / "copy" / "images").glob("*.npz"))[0]
    kind, per_class = file.stem.rsplit("-", 1)
    before = CondensedImages.load(file)
    nan = np.full_like(before.images, np.nan)
    for damage in (b"", b"no archive", None):
        file.write_bytes(damage) if damage is not None else np.savez(
            file, images=nan, labels=before.labels
        )
        with pytest.raises(InputError, match=re.escape(f"Delete {str(file)!r} and run again")):
            copy.few_images(kind, int(per_class))
    file.unlink()
    monkeypatch.setattr(CondensedModelBench, "_condense", lambda *_: (before, 1.0))
    np.testing.assert_array_equal(copy.few_images(kind, int(per_class))[0], before.images)


def test_the_row_of_the_model_holds_the_target_on_the_unlearned_parts(bench):
    network, cost = bench.networks[recipe("condensed model", **WANTED)]
    assert isinstance(network.model.final, MLP)
    unlearned, before = bench.unlearned()[0], bench.prepared().classifier
    for part in ("beginning", "intermediate"):
        assert same_bits(part_of(network, part), part_of(unlearned, part))
        assert not same_bits(part_of(unlearned, part), part_of(before, part))
    counts = count_parameters(network.variables["params"])
    assert cost["trained_parameters"] == counts["final"]
    assert cost["parameters"] == sum(counts.values())
    earlier = bench.networks[recipe("before unlearning", **WANTED)][0]
    assert same_bits(part_of(earlier, "beginning"), part_of(before, "beginning"))


def test_no_remembrance_sample_is_evaluated_on_or_of_a_forgotten_class(bench, tmp_path):
    reserved = bench.splits.test.ids[~bench.usable]
    assert len(reserved) == 3 * 2
    request = parse_request("class:1", bench.splits.train, 0)
    other = again(bench, request=request, folder=tmp_path, largest=3)
    pixels, labels, _ = other.few_images("remembrance", 3)
    assert set(labels) == {0, 2} and len(labels) == 6
    chosen = {image.tobytes() for image in pixels}
    evaluated = bench.splits.test.take(other.usable)
    assert not chosen & {image.tobytes() for image in evaluated.images}
    _, labels, _ = other.few_images("retained", 2)
    assert sorted(labels) == [0, 0, 2, 2]


def test_samples_out_of_the_retain_set_are_never_forgotten_ones(splits):
    request = parse_request("random:0.5", splits.train, 0)
    drawn = retained_samples(splits.train, request, 3, seed=1)
    assert not np.isin(drawn.ids, request.ids).any()
    assert np.bincount(drawn.labels).tolist() == [3, 3, 3]
    fewer = retained_samples(splits.train, request, 2, seed=1)
    assert np.isin(fewer.ids, drawn.ids).all()
    with pytest.raises(InputError, match="out of the retain set"):
        retained_samples(splits.train, request, 24, seed=1)


def test_bad_input_is_refused(bench, tmp_path):
    with pytest.raises(InputError, match="another seed"):
        again(bench, seed=2)
    with pytest.raises(InputError, match="per_class"):
        Recipe(per_class=0).check()
    with pytest.raises(InputError, match="by itself"):
        bench.network(Recipe(target="small final"))
    with pytest.raises(InputError, match="Unknown row 'fmd'"):
        recipe("fmd")
    one = parse_request("ids:" + str(_ids(tmp_path, bench)), bench.splits.train, 0)
    with pytest.raises(InputError, match="1 forgotten"):
        again(bench, request=one, folder=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def _ids(folder, bench):
    file = folder / "one.txt"
    file.write_text(str(bench.splits.train.ids[0]))
    return file


@pytest.mark.parametrize("name", ["recommended", "paper"])
def test_constructions_check_out(name):
    construction(name).check()


def test_the_published_construction_is_the_authors():
    paper = construction("paper")
    assert paper.architecture == Architecture() and not paper.architecture.batch_norm
    assert paper.per_class == 10 and paper.offline.rounds == 10
    assert (paper.online.rounds, paper.online.tail) == (10, 2)
    assert paper.attaching.distil == 0 and paper.attaching.augmentation() is None
