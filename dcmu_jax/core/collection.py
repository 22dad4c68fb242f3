r"""Algorithm 4: the collection protocol, which assembles the reduced retain set.

.. math::
    \mathcal R_{\mathrm{red}} = \bigcup_{\Gamma \cap \mathcal F = \emptyset} \{\varphi_\Gamma\}
        \;\cup \bigcup_{\Gamma \cap \mathcal F \ne \emptyset} (\Gamma \setminus \mathcal F),
    \qquad \eta = |\mathcal R_{\mathrm{red}}| \,/\, |\mathcal R|

A cluster that loses no sample is replaced by its condensed image; of one that does, the other
samples stay as they are. (As printed, the loop over forgotten images adds the condensed image of a
touched cluster, too, once for every image that is not in it; and of two forgotten images in one
cluster each puts the other back. The authors' code does as here.)

The library runs ``unlearning.protocol.collection_protocol``: by counting, in linear time.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence


def collect_by_cluster(
    clusters: Sequence[Collection[int]], forget: Collection[int]
) -> tuple[list[int], list[int]]:
    """Which samples stay as they are, and which clusters their condensed image stands for.

    Args:
        clusters: the samples of each.
        forget: samples to forget.

    Returns:
        Samples and clusters, ascending. A cluster without samples, or all of whose samples go, is
        in neither.

    >>> collect_by_cluster([{0, 1, 2}, {3, 4}, {5}], forget={1, 5})
    ([0, 2], [1])
    """
    forgotten = set(forget)
    samples: list[int] = []
    condensed: list[int] = []
    for number, cluster in enumerate(clusters):
        if forgotten.isdisjoint(cluster):
            condensed += [number] if cluster else []
        else:
            samples += set(cluster) - forgotten
    return sorted(samples), condensed


def reduction(samples: Collection[int], condensed: Collection[int], retained: int) -> float:
    """Eta: size of the reduced retain set over that of the retain set."""
    return (len(samples) + len(condensed)) / retained
