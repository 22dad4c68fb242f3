"""Benchmark: the collection protocol at 50,000 samples, 4,500 clusters, 5,000 forgotten.

Command:  python -m experiments.benchmarks.collection_protocol   (from the root of the repository)
Needs:    2 CPU cores, 2 GB, about half a minute; no data set.
Holds:    the decision (which real samples, which condensed images) takes under 10 ms.

Three ways to the same answer, checked to be the same:
- the library's boolean masks and counts, O(samples + clusters);
- plain Python with sets, O(samples);
- plain nested loops, every forgotten sample against every cluster's list of members, as the
  method's first implementation goes about it (there with tensors, more slowly still), run once.

All are single-threaded and timed in CPU time, so that other work on the machine counts less.
"""

from __future__ import annotations

import statistics
from types import SimpleNamespace

import numpy as np

from dcmu_jax.unlearning.protocol import collect, collection_protocol
from experiments.benchmarks.clock import timed
from experiments.benchmarks.command import CommandLine
from experiments.benchmarks.images import dataset_of, random_images

CLASSES, SAMPLES, CLUSTERS, FORGOTTEN = 10, 50_000, 4_500, 5_000
REPEATS = 101


def problem(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Clusters of unequal sizes, none empty, none mixing classes; and the forget mask."""
    rng = np.random.default_rng(seed)
    per_class, within = SAMPLES // CLASSES, CLUSTERS // CLASSES
    cluster = np.empty(SAMPLES, np.int32)
    for c in range(CLASSES):
        share = rng.dirichlet(np.full(within, 2.0))
        drawn = rng.choice(within, per_class - within, p=share)
        cluster[c * per_class : (c + 1) * per_class] = c * within + rng.permutation(
            np.concatenate([np.arange(within), drawn])
        )
    forget = np.zeros(SAMPLES, bool)
    forget[rng.choice(SAMPLES, FORGOTTEN, replace=False)] = True
    return cluster, forget


def members_of(cluster: np.ndarray) -> list[list[int]]:
    """The members of each cluster as lists; both plain versions start from these."""
    members: list[list[int]] = [[] for _ in range(CLUSTERS)]
    for sample, j in enumerate(cluster.tolist()):
        members[j].append(sample)
    return members


def by_sets(members: list[list[int]], forgotten: list[int]) -> tuple[list[int], list[int]]:
    """Survivors of touched clusters and untouched clusters, in plain Python with one set."""
    gone = set(forgotten)
    survivors, condensed = [], []
    for j, inside in enumerate(members):
        staying = [sample for sample in inside if sample not in gone]
        if len(staying) < len(inside):
            survivors += staying
        else:
            condensed.append(j)
    return sorted(survivors), condensed


def by_nested_loops(members: list[list[int]], forgotten: list[int]) -> tuple[list[int], list[int]]:
    """The same, looking for every forgotten sample in every cluster."""
    touched = []
    for sample in forgotten:
        for j, inside in enumerate(members):
            if sample in inside and j not in touched:
                touched.append(j)
    survivors = [s for j in touched for s in members[j] if s not in forgotten]
    return sorted(survivors), [j for j in range(len(members)) if j not in touched]


def median_ms(fun, repeats: int = REPEATS) -> float:
    """Median CPU time of a call in milliseconds."""
    return 1000 * statistics.median(timed(fun)[1]["cpu_s"] for _ in range(repeats))


def main() -> None:
    """Time the three versions, and the copying of pixels apart; write the result."""
    line = CommandLine("collection_protocol", __doc__)
    options = line.parse()
    cluster, forget = problem()
    found = collection_protocol(cluster, CLUSTERS, forget)
    members, forgotten = members_of(cluster), np.flatnonzero(forget).tolist()

    nested, seconds = timed(lambda: by_nested_loops(members, forgotten))
    nested_ms = 1000 * seconds["cpu_s"]
    sets = by_sets(members, forgotten)
    assert nested == sets == (found.survivors.tolist(), found.condensed.tolist())

    protocol_ms = median_ms(lambda: collection_protocol(cluster, CLUSTERS, forget))
    sets_ms = median_ms(lambda: by_sets(members, forgotten), 11)

    # The whole of the request's first step at CIFAR-10's size: ids looked up, pixels gathered.
    labels = np.repeat(np.arange(CLASSES, dtype=np.int32), SAMPLES // CLASSES)
    dataset = dataset_of(random_images(SAMPLES)[0], labels)
    bank = SimpleNamespace(
        ids=dataset.ids,
        cluster=cluster,
        images=np.zeros((CLUSTERS, 32, 32, 3), np.float32),
        labels=np.repeat(np.arange(CLASSES, dtype=np.int32), CLUSTERS // CLASSES),
    )
    forget_ids = np.flatnonzero(forget)
    collect_ms = median_ms(lambda: collect(bank, dataset, forget_ids), 5)

    figures = {
        "samples": SAMPLES,
        "clusters": CLUSTERS,
        "forgotten": FORGOTTEN,
        "largest_cluster": int(np.bincount(cluster).max()),
        "survivors": len(found.survivors),
        "condensed": len(found.condensed),
        "reduction": found.reduction,
        "protocol_cpu_ms_median": protocol_ms,
        "plain_python_sets_cpu_ms_median": sets_ms,
        "nested_loops_cpu_ms_once": nested_ms,
        "nested_loops_over_protocol": nested_ms / protocol_ms,
        "sets_over_protocol": sets_ms / protocol_ms,
        "collect_with_pixels_cpu_ms_median": collect_ms,
    }
    line.write("collection_protocol", figures, options)
    for name, value in figures.items():
        print(f"{name:32s} {value:.4g}" if isinstance(value, float) else f"{name:32s} {value}")


if __name__ == "__main__":
    main()
