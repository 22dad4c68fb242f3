"""Benchmark: a bank of images and features that stay on disk, against one with both in memory.

Command:  python -m experiments.benchmarks.out_of_core
          (from the root of the repository)
Needs:    1 CPU core, 2 GB of memory, 1 GB of disk, some 5 minutes beside other work.
Aim:      the same bank, bit for bit, in memory that grows far less than the images.

Every bank is made in a process of its own: of synthetic 32x32x3 images in a folder of ``.npy``
files, the features of an untrained MLP (256-d), ``minibatch`` clusters, few matching steps.

Memory is the most that a process had at any time, in two ways. ``anonymous_mib`` is what it cannot
give back (samples of Linux's ``RssAnon``). ``resident_mib`` (``ru_maxrss``) also counts pages of
mapped files, which the system leaves in memory while there is room and takes back when there is
none: it says what was touched, not what is needed. ``idle`` is a process that has done everything
once on 1,000 images. Times hold only for a machine without other work, which was not made sure of;
memory does not depend on it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from dcmu_jax.condensation import CondensedBank, MatchingConfig, build_bank
from dcmu_jax.data import Dataset, load
from dcmu_jax.networks.mlp import MLP
from dcmu_jax.training.classifier import fresh_classifier
from experiments.benchmarks.clock import peak_mib
from experiments.benchmarks.command import CommandLine, in_a_process

CLASSES, CLUSTERS, SHAPE = 10, 50, (32, 32, 3)
SHARD = 5000
TEST = 100


def write_images(folder: Path, count: int) -> None:
    """Noise around a pattern of each class and of some groups in it, written shard by shard."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(60, 196, (CLASSES, 40, *SHAPE), dtype=np.int16)
    for split, length in (("train", count), ("test", TEST)):
        labels = np.arange(length) % CLASSES
        np.save(folder / f"y_{split}.npy", labels)
        with (folder / f"x_{split}.npy").open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (length, *SHAPE)}
            np.lib.format.write_array_header_1_0(file, header)
            for low in range(0, length, SHARD):
                own = labels[low : low + SHARD]
                noise = rng.integers(-60, 60, (len(own), *SHAPE), dtype=np.int16)
                noise += patterns[own, rng.integers(40, size=len(own))]
                file.write(noise.astype(np.uint8).tobytes())


class MostAnonymous:
    """The most anonymous memory of this process in MiB, looked at every few milliseconds."""

    def __init__(self) -> None:
        self.mib = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MostAnonymous:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("RssAnon"):
                    self.mib = max(self.mib, int(line.split()[1]) / 1024)
            if self._over.wait(0.005):
                return


def bank_of(data: Dataset, scratch: Path | None) -> CondensedBank:
    """The bank that is measured, network and all."""
    model = MLP(CLASSES, widths=(64, 256))
    return build_bank(
        data,
        fresh_classifier(model, data, 0),
        clusters_per_class=CLUSTERS,
        method="minibatch",
        matching=MatchingConfig(steps=2, chunk=1),
        scratch=scratch,
    )


def measure(folder: Path, kind: str) -> dict[str, Any]:
    """Seconds, memory and the hash of a bank; to be called in a process of its own.

    Args:
        folder: of the images.
        kind: ``memory``, ``scratch``, or ``idle``: a small bank and no other.
    """
    data = load(f"npy:{folder}").train
    bank_of(data.take(np.arange(1000)), None)  # compiles, and imports what is imported late
    with MostAnonymous() as most:
        begun = time.perf_counter()
        found: dict[str, Any] = {}
        if kind == "memory":
            data = dataclasses.replace(data, images=np.array(data.images))
        if kind != "idle":
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                bank = bank_of(data, Path(scratch) if kind == "scratch" else None)
            found["seconds"] = time.perf_counter() - begun
            found["hash"] = hashlib.sha256(bank.to_bytes()).hexdigest()
            found["bank_mib"] = len(bank.to_bytes()) / 2**20
    return {**found, "anonymous_mib": most.mib, "resident_mib": peak_mib()}


def apart(folder: Path, kind: str) -> dict[str, Any]:
    """``measure`` in a new process."""
    return in_a_process("out_of_core", "--child", kind, "--folder", folder)


def main() -> None:
    """Run what the module's docstring says."""
    line = CommandLine(
        "out_of_core",
        __doc__,
        images=[50_000, 200_000],
        child={"choices": ("idle", "memory", "scratch"), "help": "measure and print"},
        folder=(Path, "of the images; a temporary one by default"),
    )
    args = line.parse()
    if args.child:
        print(json.dumps(measure(args.folder, args.child)))
        return
    cases: dict[str, Any] = {}
    for count in args.images:
        with tempfile.TemporaryDirectory(dir=args.folder) as name:
            folder = Path(name)
            write_images(folder, count)
            if "idle" not in cases:
                cases["idle"] = apart(folder, "idle")
            memory, scratch = (apart(folder, kind) for kind in ("memory", "scratch"))
        same = memory.pop("hash") == scratch.pop("hash")
        idle = cases["idle"]["anonymous_mib"]
        extra = [found["anonymous_mib"] - idle for found in (memory, scratch)]
        cases[f"{count} images"] = {
            "images_mib": float(count * np.prod(SHAPE) / 2**20),
            "features_mib": count * 256 * 4 / 2**20,
            "in_memory": memory,
            "out_of_core": scratch,
            "same_bank": same,
            "ratio_anonymous": scratch["anonymous_mib"] / memory["anonymous_mib"],
            "ratio_anonymous_above_idle": extra[1] / extra[0],
            "ratio_seconds": scratch["seconds"] / memory["seconds"],
        }
        print(json.dumps({count: cases[f"{count} images"]}, indent=2), flush=True)
    line.write("out_of_core", cases, args)


if __name__ == "__main__":
    main()
