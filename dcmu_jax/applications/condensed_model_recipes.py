"""Rows of the condensed model's table as data: what a target is trained on, and through what."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args

import flax.linen as nn
import numpy as np

from dcmu_jax.applications.condensed_model_settings import Attaching, Construction
from dcmu_jax.condensation.clustered import FastDistributionMatching
from dcmu_jax.condensation.distribution_matching import DistributionMatching
from dcmu_jax.data.dataset import Splits
from dcmu_jax.errors import check_at_least, unknown_name
from dcmu_jax.networks.catalogue import create
from dcmu_jax.unlearning.task import Training

Images = Literal["retain", "remembrance", "retained", "fdm", "dm"]
"""``remembrance``: drawn from the test split; ``retained``: as many out of the retain set."""
Through = Literal["nothing", "condensed model", "before unlearning"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """A row: what a target is trained on, and through what it sees it.

    Attributes:
        target: a network of the catalogue, or ``small final``: the condensed model's own, which
            is not replaced, and nothing is trained.
        images: the whole retain set, remembrance samples of either source, or images condensed
            from the whole retain set by fast distribution matching or distribution matching.
        through: the encoder and decoder after the request, as they were before it, or nothing.
        width: of the target.
        per_class: remembrance samples or condensed images of each class.
        attaching: how it is trained on few images; the construction's way if not given.
    """

    target: str = "cnn"
    images: Images = "remembrance"
    through: Through = "nothing"
    width: float = 1.0
    per_class: int = 10
    attaching: Attaching | None = None

    def check(self) -> None:
        """Raise ``InputError`` where a field makes no sense."""
        if self.images not in get_args(Images):
            raise unknown_name("kind of images", self.images, get_args(Images))
        if self.through not in get_args(Through):
            raise unknown_name("way through", self.through, get_args(Through))
        check_at_least("per_class", self.per_class, 1)
        if self.attaching is not None:
            self.attaching.check()


RETRAINED, CONDENSED, SMALL = "retrain", "condensed model", "small final"
ROWS: dict[str, dict[str, Any]] = {
    RETRAINED: {"images": "retain"},
    CONDENSED: {"through": "condensed model"},
    "before unlearning": {"through": "before unlearning"},
    SMALL: {"target": SMALL, "through": "condensed model"},
    "remembrance alone": {},
    "fdm": {"images": "fdm"},
    "dm": {"images": "dm"},
    "fdm through model": {"images": "fdm", "through": "condensed model"},
    "dm through model": {"images": "dm", "through": "condensed model"},
    "retain through model": {"images": "retain", "through": "condensed model"},
}
"""Name of a row -> what its recipe says beside the target, its width and the number of images."""


def recipe(name: str, **rest: Any) -> Recipe:
    """The recipe of the row ``name``; ``rest``: see ``Recipe``."""
    if name not in ROWS:
        raise unknown_name("row", name, ROWS)
    return Recipe(**(rest | ROWS[name]))


def check_target(construction: Construction, splits: Splits, recipe: Recipe) -> nn.Module | None:
    """The module that a recipe trains for such images; ``None`` for the small final.

    Through the condensed model it sees the extra channels of the decoder as well.

    Raises:
        InputError: an unknown network, or images too small for it.
    """
    recipe.check()
    construction.architecture.check(splits.image_shape)
    if recipe.target == SMALL:
        return None
    height, width, channels = splits.image_shape
    if recipe.through != "nothing":
        channels += construction.architecture.extra_channels
    return create(
        recipe.target,
        image_shape=(height, width, channels),
        num_classes=splits.num_classes,
        width=recipe.width,
        dtype=construction.architecture.dtype,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """What the baselines are given.

    Attributes:
        training: of a target on the whole retain set.
        fdm: fast distribution matching, in the features of the unlearned code, whose unlearning is
            not counted among its seconds.
        dm: distribution matching, in those of random networks ``convnet``,
        dm_width: of this width.
    """

    training: Training = Training()
    fdm: FastDistributionMatching = FastDistributionMatching()
    dm: DistributionMatching = DistributionMatching()
    dm_width: float = 1.0


COMPARED = ("retain_accuracy", "forget_accuracy", "test_accuracy", "mia")
"""What is measured of a row, and compared by ``with_gaps``."""


def with_gaps(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with ``gap``: mean distance over RA, FA, TeA and MIA to the same target retrained.

    ``None`` where that was not measured on the same seed and request, or a network diverged.
    """

    def same(row: dict[str, Any]) -> tuple:
        return tuple(row[k] for k in ("target", "width", "request", "seed"))

    retrained = {same(row): row for row in rows if row["row"] == RETRAINED}
    found = []
    for row in rows:
        reference, gap = retrained.get(same(row)), None
        pairs = [] if reference is None else [(row[k], reference[k]) for k in COMPARED]
        if pairs and not any(None in pair for pair in pairs):
            gap = float(np.mean([abs(a - b) for a, b in pairs]))
        found.append(row | {"gap": gap})
    return found
