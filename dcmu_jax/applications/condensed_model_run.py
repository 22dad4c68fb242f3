"""One command's worth of the condensed model: settings in, the rows of its table out."""

from __future__ import annotations

import dataclasses
from typing import Any

from dcmu_jax.applications.condensed_model_bench import CondensedModelBench
from dcmu_jax.applications.condensed_model_recipes import (
    CONDENSED,
    RETRAINED,
    ROWS,
    Budget,
    check_target,
    recipe,
    with_gaps,
)
from dcmu_jax.applications.condensed_model_settings import (
    Construction,
    recommended_construction,
)
from dcmu_jax.condensation.distribution_matching import DistributionMatching
from dcmu_jax.data.requests import parse_request
from dcmu_jax.data.sources import load
from dcmu_jax.errors import as_names, check_at_least, check_fraction, check_seed, unknown_name
from dcmu_jax.files import FilePath
from dcmu_jax.training.optimizers import as_optimizer
from dcmu_jax.unlearning.task import Hooks, Training


@dataclasses.dataclass(frozen=True, kw_only=True)
class CondensedModelConfig:
    """Settings of `dcmu condensed-model`.

    Attributes:
        dataset: digits, npz:PATH, npy:FOLDER, cifar10, svhn, tfds:NAME or synthetic.
        target: what replaces the small final: mlp, cnn, convnet, vgg16, vgg16_bn or resnet18.
        forget: what to forget: random:0.1, class:2, ids:FILE, or several joined by +.
        preset: where the construction's settings started from: recommended or paper.
        rows: what the target is compared with; retraining and the construction come first.
        per_class: remembrance samples, or condensed images, of each class for the target.
        width: of the target.
        seed: of everything but the request.
        forget_seed: of what a random request draws.
        dm_iterations: of distribution matching.
        test_fraction: share cut off as test split where the source has none.
        download: fetch a tfds data set that is not there yet.
        directory: where tfds data sets lie.
        training: of the target on the whole retain set.
        construction: see ``Construction``.
    """

    dataset: str = "digits"
    target: str = "convnet"
    forget: str = "random:0.1"
    preset: str = "recommended"
    rows: tuple[str, ...] = ("before unlearning", "small final", "remembrance alone", "fdm", "dm")
    per_class: int = 10
    width: float = 1.0
    seed: int = 0
    forget_seed: int = 0
    dm_iterations: int = 1000
    test_fraction: float = 0.2
    download: bool = False
    directory: str | None = None
    training: Training = Training()
    construction: Construction = dataclasses.field(default_factory=recommended_construction)

    def __post_init__(self):
        object.__setattr__(self, "rows", as_names(self.rows))


def run_condensed_model(
    config: CondensedModelConfig, folder: FilePath, hooks: Hooks | None = None
) -> list[dict[str, Any]]:
    """Make the condensed model, serve the request, train the target every way.

    What is in ``folder`` already, from a run that was interrupted, is not done again.

    Args:
        config: the settings.
        folder: where everything is kept.
        hooks: see ``Hooks``.

    Returns:
        The rows, retraining first, with their gaps to it.

    Raises:
        InputError: any setting that makes no sense, before anything is written.
    """
    for name in ("seed", "forget_seed"):
        check_seed(name, getattr(config, name))
    check_at_least("training.epochs", config.training.epochs, 1)
    check_at_least("training.batch_size", config.training.batch_size, 1)
    as_optimizer(config.training.optimizer).check()
    check_fraction("test_fraction", config.test_fraction)
    for name in config.rows:
        if name not in ROWS:
            raise unknown_name("row", name, ROWS)
    names = tuple(dict.fromkeys((RETRAINED, CONDENSED, *config.rows)))
    wanted = {"target": config.target, "width": config.width, "per_class": config.per_class}
    recipes = {name: recipe(name, **wanted) for name in names}
    splits = load(
        config.dataset,
        test_fraction=config.test_fraction,
        download=config.download,
        data_dir=config.directory,
    )
    for each in recipes.values():
        check_target(config.construction, splits, each)
    bench = CondensedModelBench(
        config.construction,
        Budget(
            training=config.training,
            dm=DistributionMatching(iterations=config.dm_iterations),
            dm_width=config.width,
        ),
        splits,
        parse_request(config.forget, splits.train, config.forget_seed),
        folder,
        seed=config.seed,
        largest=config.per_class,
        hooks=hooks,
    )
    with bench.working():
        return with_gaps([bench.row(name, each) for name, each in recipes.items()])
