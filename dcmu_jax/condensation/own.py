"""Condensers of the user's own: the members of every cluster in, one image for each out."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import numpy as np

from dcmu_jax.condensation.clustering import Clusters
from dcmu_jax.data.dataset import Dataset, lent
from dcmu_jax.data.pixels import check_pixels
from dcmu_jax.errors import InputError, counted, kind_of
from dcmu_jax.extensions import calling, check_takes, is_reference, named_object, unknown_own
from dcmu_jax.training.classifier import Classifier

GROUP = "dcmu_jax.condensers"
"""Entry points of this group, of any installed package, are condensers by their names."""

OURS = ("matching", "inversion")
"""The paper's two, Algorithms 2 and 3."""


def check_condenser_name(kind: str, name: str) -> None:
    """Raise unless a name is one of ``OURS``, or may be that of one's own; that is not loaded.

    Args:
        kind: what the name is of, for the message.
        name: as it was given.
    """
    entries = [entry.name for entry in importlib.metadata.entry_points(group=GROUP)]
    if name not in (*OURS, *entries) and not is_reference(name):
        raise unknown_own(kind, name, (*OURS, *entries))


def own_condenser(given: Any) -> Any:
    """A condenser of one's own, checked as far as can be without calling it.

    It is called with a network and a list of data sets, the members of each cluster,
    ``condenser(network, members)``, and returns as many images, one for each cluster, in their
    order: ``(clusters, height, width, channels)``, pixels on the scale 0..255, which need not be
    whole nor within it. One that draws at random makes its own key.

    Args:
        given: a callable; or a name: ``file.py:attribute``, ``package.module:attribute``, or that
            of an entry point of the group ``dcmu_jax.condensers``.

    Raises:
        InputError: a name of nothing, or what cannot be called so.
    """
    named = isinstance(given, str)
    target = named_object(given, "condenser", GROUP) if named else given
    check_takes(
        f"condenser {given!r}" if named else "condenser",
        target,
        ["network", "members"],
        [],
        write="Write def condenser(network, members): ..., which returns one image for each data "
        "set in the list members",
    )
    return target


def condensed_by(
    condenser: Any, network: Classifier, dataset: Dataset, clusters: Clusters
) -> np.ndarray:
    """The images of clusters by a condenser of one's own, float32; see ``own_condenser``.

    Args:
        condenser: as ``own_condenser`` gives it.
        network: whose features the clusters are of.
        dataset: the training set.
        clusters: of it.

    Raises:
        InputError: it raised, or returned anything but an image for each cluster.
    """
    order = np.argsort(clusters.assignment, kind="stable")
    rows = np.split(order, np.cumsum(clusters.sizes)[:-1])
    members = [dataset.take(at) for at in rows]  # copies
    shape = (len(members), *network.image_shape)
    returns = f"an array of pixels {shape}: one image for each cluster"
    with calling("condenser of your own", returns):
        found = condenser(lent(network), members)
        if hasattr(found, "__array__"):  # which a tensor may refuse
            found = np.asarray(found)
    if not isinstance(found, np.ndarray | list | tuple):
        raise InputError(
            f"The condenser of your own returned {kind_of(found)}",
            returns,
            "Return np.stack(images), with one image for each data set in members",
        )
    try:
        images = check_pixels(found, network.image_shape, network.normalisation)
    except InputError as error:
        raise InputError(
            f"The condenser of your own returned: {error.given}", returns, error.remedy
        ) from error
    if images.shape != shape:
        raise InputError(
            f"The condenser of your own returned {counted(len(images), 'image')} for "
            f"{counted(len(members), 'cluster')}",
            returns,
            "Return one for each data set in members, in their order",
        )
    return images.astype(np.float32)
