"""Model inversion as an attack (paper, §IV-D, Figure 3): what does an unlearned network give away?

Command:   python -m experiments.inversion_attack --dataset npz:cifar10_small.npz
Data:      a subset of CIFAR-10, 500 training images per class
Hardware:  2 CPU cores, some 5 minutes, most of them training three quarter-width networks
Expected:  the original puts all images into the forgotten class; the unlearned and the retrained
           network are to be like each other, and need not be brought to it even where the known
           images are given. A share or a distance of one network alone proves nothing: another
           network may name the class for any smooth picture

Attacks the original network, what `recommended` made of it, and one retrained without the class, by
the same images, settings and seed. Only the difference to the retrained model is evidence: with
the reconstruction term the attacker holds the images already. Beside the share that the attacked
network puts into the class stands that of an original of another seed, which an image made to
deceive the first cannot deceive. The same is told of a class that stays. Writes
experiments/results/inversion_attack.json and .png.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from dcmu_jax.audits.inversion import (
    InversionAttack,
    KnownImages,
    inversion_attack,
    inversion_without_images,
    known_images,
    nearest_training_image,
)
from dcmu_jax.condensation.inversion import InversionConfig
from dcmu_jax.data.dataset import Dataset
from dcmu_jax.errors import InputError
from dcmu_jax.runs.options import Dtype
from dcmu_jax.sweeps import Bench, Group
from dcmu_jax.training.classifier import Classifier
from experiments import plots
from experiments.arguments import parse
from experiments.writing import of_dtype, without_folders, write

WAYS = ("known images", "no images")
NAMES = {"original": "original", "recommended": "unlearned", "retrain": "retrained"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What is run.

    Attributes:
        dataset: as for `dcmu run`.
        model: as for `dcmu run`.
        width: of the network.
        dtype: of the computation; parameters and statistics stay float32.
        training_epochs: of the original and of retraining.
        request: the class that is forgotten.
        kept: a class that stays, attacked as well.
        images: drawn for each class.
        epochs: of the InverterNet.
        seed: see ``Group``; also of the InverterNet.
        out: where the networks lie.
    """

    dataset: str
    model: str = "cnn"
    width: float = 0.25
    dtype: Dtype = "float32"
    training_epochs: int = 30
    request: str = "class:2"
    kept: int = 0
    images: int = 8
    epochs: int = 150
    seed: int = 1
    out: Path = Path("runs/inversion_attack")


def networks_of(settings: Settings, bench: Bench) -> dict[str, Classifier]:
    """The three that are attacked."""
    request = bench.run.request(settings.request)
    found = {"original": bench.run.train()}
    for name in ("recommended", "retrain"):
        found[name] = bench.run.unlearn(request, name).unlearned.classifier
    return found


def numbers(attack: InversionAttack, stranger: Classifier, train: Dataset) -> dict[str, float]:
    """What is reported of some images; the distance as ``Nearest`` has it."""
    nearest = nearest_training_image(attack.images, attack.labels, train)
    return {
        "in_class_percent": attack.in_class,
        "recognised_by_another_seed_percent": attack.recognised_by(stranger),
        "distance_to_nearest_training_image": float(nearest.distances.mean()),
    }


def of_known(known: KnownImages, network: Classifier) -> InversionAttack:
    """The attacker's own images, to be reported like the outcome."""
    hits = network.logits(known.images).argmax(axis=1) == known.labels
    return InversionAttack(known.images, known.labels, hits)


def beside_nearest(attack: InversionAttack, train: Dataset) -> np.ndarray:
    """An attack's images and the nearest training images, ``(2, images, H, W, C)``."""
    nearest = nearest_training_image(attack.images, attack.labels, train)
    return np.stack([attack.images, train.images[nearest.positions]])


def main() -> None:
    """Train, forget, attack, draw."""
    settings = parse(Settings, __doc__)
    group = Group(
        dataset=settings.dataset,
        model=settings.model,
        seed=settings.seed,
        width=settings.width,
        dtype=settings.dtype,
        epochs=settings.training_epochs,
    )
    bench = Bench(group, settings.out)
    forgotten = bench.run.request(settings.request).forgotten_classes
    if not forgotten or settings.kept in forgotten:
        raise InputError(
            f"The request {settings.request!r} beside the class {settings.kept} that stays",
            "a request for whole classes, and another class",
            "Ask for class:2, say, and keep 0",
        )
    train = bench.run.splits.train
    networks = networks_of(settings, bench)
    stranger = Bench(dataclasses.replace(group, seed=group.seed + 1), settings.out).run.train()

    classes = (*forgotten, settings.kept)
    config = InversionConfig(epochs=settings.epochs)
    known = known_images(train, classes, settings.images, networks["original"], seed=settings.seed)
    shown = {"known images": of_known(known, networks["original"])}
    for way in WAYS:
        for name, network in networks.items():
            if way == "known images":
                attack = inversion_attack(network, known, config, seed=settings.seed)
            else:
                count = settings.images
                attack = inversion_without_images(
                    network, classes, count, config, seed=settings.seed
                )
            shown[f"{NAMES[name]}, {way}"] = attack
            print(f"{NAMES[name]}, {way}", numbers(attack, stranger, train), flush=True)

    results = {
        name: {
            "forgotten": numbers(attack.of_classes(forgotten), stranger, train),
            "kept": numbers(attack.of_classes((settings.kept,)), stranger, train),
        }
        for name, attack in shown.items()
    }
    drawn = dataclasses.asdict(settings) | {"dataset": without_folders(settings.dataset)}
    del drawn["out"]
    unit = "root of the mean squared difference of a pixel's channels, 0..255"
    figures = {"settings": drawn, "distance_unit": unit, "attacks": results}
    pairs = {
        name: beside_nearest(attack.of_classes(forgotten), train) for name, attack in shown.items()
    }
    name = of_dtype("inversion_attack", settings.dtype)
    write(name, figures, pictures={name: plots.drawn_and_nearest(pairs)})


if __name__ == "__main__":
    main()
