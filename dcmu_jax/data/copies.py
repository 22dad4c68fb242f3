"""Finding the same image under several ids, byte for byte."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np

from dcmu_jax.data.dataset import Dataset


@dataclasses.dataclass(frozen=True, eq=False)
class Copies:
    """Samples whose images have the same bytes as those of a request, under other ids.

    Attributes:
        train: int64, ids of training samples that the request does not name; ascending.
        test: int64, ids of test samples, remembrance samples among them.
        remembrance: int64, ids of those that the method may train on.
    """

    train: np.ndarray
    test: np.ndarray
    remembrance: np.ndarray

    def __bool__(self) -> bool:
        return bool(len(self.train) or len(self.test))

    def plain(self) -> dict[str, list[int]]:
        """As JSON takes it."""
        return {name: ids.tolist() for name, ids in dataclasses.asdict(self).items()}


def image_digest(image: np.ndarray) -> bytes:
    """A digest of an image, where the images themselves may exceed memory."""
    return hashlib.sha256(image.tobytes()).digest()


def same_images(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which of ``images`` are, byte for byte, among ``others``: a mask, bool ``(N,)``."""
    known = {image_digest(image) for image in others}
    return np.array([image_digest(image) in known for image in images], bool)


def copies_of(
    ids: np.ndarray, train: Dataset, test: Dataset, remembrance_ids: np.ndarray
) -> Copies:
    """What has the same bytes as the images of a request.

    Args:
        ids: of the request, all in ``train``.
        train: the samples that may be asked for.
        test: the test split.
        remembrance_ids: of the test samples that the method may train on.

    >>> from dcmu_jax.data.sources import load
    >>> splits = load("synthetic:classes=2,per_class=8,size=8,channels=1")
    >>> copies_of(splits.train.ids[:2], splits.train, splits.test, splits.test.ids[:1]).plain()
    {'train': [], 'test': [], 'remembrance': []}
    """
    asked = np.isin(train.ids, ids)
    gone = train.images[asked]
    in_train = np.zeros(len(train), bool)
    in_train[~asked] = same_images(train.images[~asked], gone)
    in_test = test.ids[same_images(test.images, gone)]
    return Copies(
        np.sort(train.ids[in_train]), np.sort(in_test), np.intersect1d(in_test, remembrance_ids)
    )


def copies_sentence(found: dict[str, list[int]], remedy: str = "") -> str:
    """What was found, in words; empty where there are no copies.

    Args:
        found: ``Copies.plain``.
        remedy: said where training samples were found.
    """
    parts = []
    if found["train"]:
        parts.append(
            f"{len(found['train'])} training sample(s) under other ids have the same images and "
            f"stay: {_shown(found['train'])}.{f' {remedy}' if remedy else ''}"
        )
    if found["test"]:
        parts.append(
            f"{len(found['test'])} test sample(s) have the same images: {_shown(found['test'])}; "
            "accuracies count them as unseen."
        )
    if found["remembrance"]:
        parts.append(
            f"Of them {len(found['remembrance'])} would be remembrance samples, which nothing "
            "trains on here."
        )
    return " ".join(parts)


def _shown(ids: list[int]) -> str:
    return ", ".join(map(str, ids[:20])) + (", ..." if len(ids) > 20 else "")
