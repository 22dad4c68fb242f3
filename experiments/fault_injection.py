"""The deletion service, killed and starved of disk at every turn: does it lose anything?

Command:   python -m experiments.fault_injection
Data:      digits
Hardware:  1 CPU core, some 15 minutes; the result is written after each of the sections
Expected:  every count of losses is 0: no acknowledged request lost, no forgotten id back, `verify`
           clean after each fault, and in the end the network of an undisturbed run, bit for bit

A client works through a script (requests, a batch that the gate refuses, the same batch with other
settings, requests again, a batch, a purge) and starts each step again until it succeeds. Three
kinds of fault hit it:

- kills at operations on files and at epochs drawn at random, in the process (``FailingDisk``:
  nothing has an effect from there on, and a write leaves a random share of its bytes);
- kills of a process of its own, by SIGKILL at random times, so that they fall inside Orbax and
  inside compiled programs, too;
- failures of every single operation on files: alone, after half of a write, or a disk that stays
  full until the client makes room.

Links and named pipes are put in the place of what a workspace holds, or may hold, which every
command has to refuse without reaching through them. Then random single bytes of finished
workspaces are changed, which ``verify`` has to find. Writes
experiments/results/fault_injection.json. A power cut, which takes what was not synced, is not
among the faults.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from dcmu_jax.condensation.bank import CondensedBank
from dcmu_jax.errors import InputError
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.run import Run
from dcmu_jax.service import Workspace
from dcmu_jax.service.contents import BANK, read_manifest, version_folder
from dcmu_jax.service.faults import FailingDisk, Fault, Killed
from dcmu_jax.service.gate import BatchSettings, NotPublished
from dcmu_jax.service.manifest import files_below
from dcmu_jax.service.verification import verify
from dcmu_jax.unlearning.modular import ModularUnlearning
from dcmu_jax.unlearning.schedule import Reset, Step
from dcmu_jax.unlearning.task import Hooks
from experiments.arguments import parse
from experiments.writing import write

SCRIPT = (
    ("request", "ids:0,1,2,3,4,6,7,8,10,11", "one"),
    ("refused",),
    ("process",),
    ("request", "ids:0,13,15,18,20", None),
    ("request", "random:0.01", "two"),
    ("process",),
    ("purge",),
)
"""What the client does. ``ids`` without a reference can be asked again as it is: ids that are
pending are answered as such."""

SHORT = SCRIPT[:3]
"""The first batch alone, refused and made again: most kills, which are then cheap."""

RUIN = ModularUnlearning(
    resets=tuple(Reset(part=part, keep=0.0) for part in ("beginning", "intermediate", "final")),
    closing_steps=(Step(parts=("final",), batch_size=256, epochs=1),),
)
"""Settings with which nothing is left of a network: what the gate is for."""

PLACES = (
    "versions",
    "versions/0000",
    "versions/0000/network/final",
    "versions/0000/train.npz",
    "versions/.0001.part",
    "versions/0001",
    "ledger.jsonl",
    "ledger.head",
    ".ledger.head.part",
    "ledger.lock",
    "work.lock",
    "config.json",
    "test.npz",
    "audits",
)
"""Where links and pipes are put."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How much is broken.

    Attributes:
        name: of the file in experiments/results.
        kills: in the process, at random operations of the first batch.
        long_kills: likewise, of the whole script.
        deaths: that one client may suffer.
        signals: processes of their own that are killed.
        every: of the operations on files, one in this many fails; 1 for all.
        changes: single bytes that are changed.
        seed: of all that is random.
        worker: a workspace; for the process that will be killed.
    """

    name: str = "fault_injection"
    kills: int = 160
    long_kills: int = 40
    deaths: int = 5
    signals: int = 20
    every: int = 1
    changes: int = 200
    seed: int = 0
    worker: Path | None = None


@dataclasses.dataclass
class Losses:
    """What must all stay 0, and how often it was looked for."""

    trials: int = 0
    faults: int = 0
    requests_lost: int = 0
    forgotten_back: int = 0
    verify_not_clean: int = 0
    network_differs: int = 0
    not_finished: int = 0

    def add(self, other: Losses) -> None:
        """Sum up."""
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


def take_step(workspace: Workspace, step: Sequence, hooks: Hooks) -> list[int]:
    """One step of the script; gives the ids that were acknowledged."""
    if step[0] == "request":
        answer = workspace.request(step[1], reference=step[2])
        return [*answer.accepted.tolist(), *answer.pending.tolist(), *answer.forgotten.tolist()]
    if step[0] == "process":
        workspace.process(hooks)
    elif step[0] == "refused":
        ruin = BatchSettings(preset="recommended", online=RUIN, online_classes=RUIN)
        with contextlib.suppress(NotPublished):
            workspace.process(hooks, settings=ruin)
    else:
        workspace.purge(hooks)
    return []


def examine(directory: Path, acknowledged: set[int], forgotten: set[int], losses: Losses) -> None:
    """Look for losses in a workspace as a fault left it."""
    found = verify(directory)
    losses.verify_not_clean += not found.clean
    if not found.clean:
        print("NOT CLEAN", found.problems, flush=True)
    history = Workspace(directory).history()
    gone = set(history.forgotten.tolist())
    losses.requests_lost += not acknowledged <= gone | set(history.waiting.tolist())
    folder = version_folder(directory, history.current.version)
    trainable = set(CondensedBank.load(folder / BANK).ids.tolist())
    losses.forgotten_back += bool(trainable & gone) or not forgotten <= gone
    forgotten |= gone


def work_through(
    directory: Path, script: Sequence, *disks: FailingDisk, acknowledged: set[int] | None = None
) -> Losses:
    """The client: every step until it succeeds, with a look at the workspace after every fault.

    Each fault ends a process, or is mended; the next of ``disks`` is then that of the next.
    """
    losses = Losses(trials=1)
    disk, later = disks[0], list(disks[1:])
    acknowledged, forgotten = set(acknowledged or ()), set()
    for step in script:
        for _ in range(len(disks) + 3):
            try:
                acknowledged |= set(take_step(Workspace(directory, disk=disk), step, disk.hooks))
                break
            except (Killed, InputError) as error:
                if isinstance(error, InputError) and disk.hit is None:
                    raise
                losses.faults += 1
                disk = later.pop(0) if later else FailingDisk()
                examine(directory, acknowledged, forgotten, losses)
        else:
            losses.not_finished += 1
    examine(directory, acknowledged, forgotten, losses)
    return losses


class Bench:
    """A fresh workspace to copy, and how undisturbed runs of the scripts end."""

    def __init__(self, folder: Path):
        self.folder, self.template = folder, folder / "template"
        run = Run.create(folder / "run", RunConfig(baselines=()))
        Workspace.create(run, self.template)
        self.ends: dict[Sequence, str] = {}
        self.operations: dict[Sequence, list[tuple[str, str]]] = {}
        for script in (SHORT, SCRIPT):
            disk = FailingDisk()
            directory = self.copy()
            work_through(directory, script, disk)
            self.ends[script] = Workspace(directory).network().fingerprint()
            self.operations[script] = disk.done
            shutil.rmtree(directory)

    def copy(self) -> Path:
        """A fresh workspace."""
        directory = Path(tempfile.mkdtemp(dir=self.folder)) / "w"
        shutil.copytree(self.template, directory)
        return directory

    def finish(self, directory: Path, script: Sequence, losses: Losses) -> None:
        """Compare with the undisturbed run, and clear away."""
        history = Workspace(directory).history()
        # That the network has these parameters was just verified.
        end = read_manifest(directory, history, history.current.version).parameters
        losses.network_differs += end != self.ends[script]
        shutil.rmtree(directory.parent)

    def trial(self, script: Sequence, *disks: FailingDisk) -> Losses:
        """One client, and the faults that hit it."""
        directory = self.copy()
        losses = work_through(directory, script, *disks)
        self.finish(directory, script, losses)
        return losses


def total(name: str, trial: Callable[[], Losses], enough: Callable[[Losses], bool]) -> dict:
    """Repeat a trial until there were enough; sum up."""
    losses, start = Losses(), time.monotonic()
    while not enough(losses):
        losses.add(trial())
        if losses.trials % 10 == 0 or enough(losses):
            took = time.monotonic() - start
            print(f"{name}: {took:.0f} s, {losses}", flush=True)
    return dataclasses.asdict(losses) | {"seconds": round(time.monotonic() - start)}


def worker(directory: Path) -> None:
    """The process that is killed: says what it was answered, step by step."""
    workspace = Workspace(directory)
    print("READY", flush=True)
    for step in SCRIPT:
        print("ACK", *take_step(workspace, step, Hooks()), flush=True)


def killed_by_signal(bench: Bench, rng: random.Random, longest: float) -> Losses:
    """Start a process on a fresh workspace, kill it, and finish its script here."""
    directory = bench.copy()
    command = [sys.executable, "-m", "experiments.fault_injection", "--worker", str(directory)]
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(bench.folder / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        acknowledged: set[int] = set()
        steps, dies = 0, float("inf")
        while True:
            # Lines are read as they come: what was said before the kill was acknowledged.
            ready, _, _ = select.select(
                [process.stdout], [], [], max(0.0, min(60.0, dies - time.monotonic()))
            )
            if ready:
                line = process.stdout.readline()
                if not line:
                    break
                if line.startswith("READY"):
                    dies = time.monotonic() + rng.random() * longest
                elif line.startswith("ACK"):
                    steps += 1
                    acknowledged |= set(map(int, line.split()[1:]))
            elif time.monotonic() >= dies:
                break
        process.kill()
        rest = process.stdout.read()
        for line in rest.splitlines():
            if line.startswith("ACK"):
                steps += 1
                acknowledged |= set(map(int, line.split()[1:]))
    losses = Losses()
    examine(directory, acknowledged, set(), losses)
    losses.add(work_through(directory, SCRIPT[steps:], FailingDisk(), acknowledged=acknowledged))
    losses.faults += steps < len(SCRIPT)
    bench.finish(directory, SCRIPT, losses)
    return losses


def kills_of(script: Sequence, field: str) -> Callable[[Bench, Options, random.Random], dict]:
    """A section: clients that are killed several times each, at random operations."""

    def section(bench: Bench, options: Options, rng: random.Random) -> dict:
        count = len(bench.operations[script])

        def trial() -> Losses:
            deaths = [
                FailingDisk(rng.randint(1, count), "kill", rng.random())
                for _ in range(options.deaths)
            ]
            return bench.trial(script, *deaths)

        return total(field, trial, lambda losses: losses.faults >= getattr(options, field))

    return section


def failures(bench: Bench, options: Options, rng: random.Random) -> dict:
    """A section: every operation on files of the first batch fails once."""
    kinds: tuple[Fault, ...] = ("error", "half", "full")
    points = [
        (at, kinds[at % 3])
        for at, (what, _) in enumerate(bench.operations[SHORT], 1)
        if what != "epoch" and at % options.every == 0
    ]
    del rng
    left = list(points)

    def trial() -> Losses:
        return bench.trial(SHORT, FailingDisk(*left.pop(0)))

    return total("failures", trial, lambda _: not left)


def signals(bench: Bench, options: Options, rng: random.Random) -> dict:
    """A section: processes of their own, killed by SIGKILL at random times."""
    start = time.monotonic()
    bench.trial(SCRIPT, FailingDisk())
    # A process of its own compiles, or reads compiled programs, on its way: it is slower.
    longest = 3 * (time.monotonic() - start)
    return total(
        "SIGKILL",
        lambda: killed_by_signal(bench, rng, longest),
        lambda losses: losses.faults >= options.signals,
    )


def strangers(bench: Bench, options: Options, rng: random.Random) -> dict:
    """A section: a link or a pipe in every place, nothing touched, and then the batch goes on."""
    del options, rng
    directory = bench.copy()
    losses = work_through(directory, SHORT[:1], FailingDisk())
    victim, kept = directory.parent / "victim", directory.parent / "kept"
    (victim / "0000").mkdir(parents=True)
    (victim / "0000" / "thesis").write_text("ten years")
    (victim / "file").write_text("twenty years")
    counts = Counter()
    for name in PLACES:
        path = directory / name
        there = path.exists()
        for kind in ("folder", "file", "nowhere", "pipe"):
            if there:
                path.rename(kept)
            if kind == "pipe":
                os.mkfifo(path)
            else:
                path.symlink_to(victim / {"folder": "", "file": "file"}.get(kind, kind))
            for step in (*SCRIPT[:3], ("purge",)):
                counts["tried"] += 1
                try:
                    take_step(Workspace(directory), step, Hooks())
                except InputError:
                    counts["refused"] += 1
            counts["found"] += not verify(directory).clean
            path.unlink()
            if there:
                kept.rename(path)
            texts = {str(p.relative_to(victim)): p.read_text() for p in victim.rglob("*[es]")}
            counts["touched"] += texts != {"file": "twenty years", "0000/thesis": "ten years"}
    losses.add(work_through(directory, SHORT, FailingDisk()))
    bench.finish(directory, SHORT, losses)
    return dataclasses.asdict(losses) | dict(counts)


def tampering(bench: Bench, options: Options, rng: random.Random) -> dict:
    """Change single bytes of a workspace with a history, one at a time; count what is found."""
    directory = bench.copy()
    work_through(directory, SCRIPT, FailingDisk())
    Workspace(directory).request("class:1")  # something acknowledged that is not forgotten yet
    files = {name: path for name, path in files_below(directory).items() if path.stat().st_size}
    by_size = [path for path in files.values() for _ in range(path.stat().st_size)]
    found = Counter()
    for number in range(options.changes):
        # Half of them in a file drawn first, or nearly all would fall into images.
        path = rng.choice(list(files.values())) if number % 2 else rng.choice(by_size)
        data = bytearray(path.read_bytes())
        at = rng.randrange(len(data))
        data[at] ^= rng.randrange(1, 256)
        before = path.read_bytes()
        path.write_bytes(data)
        clean = verify(directory).clean
        if clean:
            print("MISSED", path.relative_to(directory), at, flush=True)
        found["found"] += not clean
        path.write_bytes(before)
    clean_again = verify(directory).clean
    return {"changes": options.changes, "found": found["found"], "clean_again": int(clean_again)}


SECTIONS = {
    "kills_first_batch": kills_of(SHORT, "kills"),
    "failures_of_every_operation": failures,
    "kills_by_signal": signals,
    "links_and_pipes": strangers,
    "tampering": tampering,
    "kills_script": kills_of(SCRIPT, "long_kills"),
}
"""Name -> what is done; the result is written after each."""


def main() -> None:
    """Break it, and count."""
    options = parse(Options, __doc__)
    if options.worker is not None:
        worker(options.worker)
        return
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_compilation_cache_dir", f"{folder}/cache")
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
        bench = Bench(Path(folder))
        figures: dict[str, Any] = {
            "operations": {
                "first_batch": len(bench.operations[SHORT]),
                "script": len(bench.operations[SCRIPT]),
                "kinds": dict(Counter(what for what, _ in bench.operations[SCRIPT])),
            }
        }
        print(figures, flush=True)
        for name, section in SECTIONS.items():
            figures[name] = section(bench, options, rng)
            write(options.name, figures)
    lost = [
        name
        for name, group in figures.items()
        for field in (
            "requests_lost",
            "forgotten_back",
            "verify_not_clean",
            "network_differs",
            "touched",
        )
        if group.get(field)
    ]
    print("LOST" if lost else "nothing lost", lost, figures["tampering"])


if __name__ == "__main__":
    main()
