"""The audit of a run: its networks compared with oracles, which never saw the forget set."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np

from dcmu_jax.audits.audit import FEWEST_ORACLES, NetworkAudit, audit_networks
from dcmu_jax.audits.building import Rearing, measured, oracle_population, readings
from dcmu_jax.audits.checks import check_models
from dcmu_jax.audits.class_traces import Trace, beside_oracles, traces_of
from dcmu_jax.audits.population import Population
from dcmu_jax.data.dataset import Splits
from dcmu_jax.data.requests import ForgetRequest, RequestLike
from dcmu_jax.files import write_json
from dcmu_jax.runs import stages
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.run import Run, one_at_a_time
from dcmu_jax.runs.store import Stage, digest, find_stage, hash_of, making, plain
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.keys import named_seed


@dataclasses.dataclass(frozen=True)
class RunAudit:
    """The findings of an audit.

    Attributes:
        audits: of the original, the retrained model, and every method.
        targets: the audited networks as a population.
        oracles: what they were compared with.
        directory: holds audit.json.
        traces: where a whole class was forgotten: by network, what is left of it in its features
            and how soon it comes back, see ``audits.class_traces``. Else empty.
    """

    audits: tuple[NetworkAudit, ...]
    targets: Population
    oracles: Population
    directory: Path
    traces: Mapping[str, Mapping[str, Trace]] = dataclasses.field(default_factory=dict)


@one_at_a_time
def audit_run(
    run: Run,
    request: RequestLike,
    *,
    oracles: int = 16,
    chunk: int | None = None,
    notify: Callable[[int, int], None] = lambda done, of: None,
) -> RunAudit:
    """Audit the original and every method of a run on a request.

    Methods that have not served the request do so first. The oracles are trained as the retrained
    network is, by other seeds, and kept in the request's folder: another audit finds them there
    unless a setting has changed that they depend on.
    Where a class is forgotten whole, every network and oracle is probed for it and learns it again.

    Args:
        run: the run.
        request: what to forget.

    Other Args:
        oracles: how many, 4 or more; the more, the narrower the bands.
        chunk: networks that train side by side, see ``training.population``.
        notify: told the number of trained oracles and of all.

    Raises:
        InputError: too few oracles, or a request that methods cannot be compared on.
    """
    request = run.request(request)
    run.check_comparable(request)
    check_models("oracle", oracles, FEWEST_ORACLES, "The audit")  # before any training
    config, splits = run.config, run.splits
    original = run.train()
    networks = {"original": original} | {
        name: run.unlearn(request, name).unlearned.classifier for name in run.methods
    }
    usable = run.usable_tests()
    read = None
    if request.forgotten_classes:
        read = traces_of(splits, request, original, usable=usable)
    folder = _oracles_folder(run, request, oracles, networks)
    audits, targets, rearing, population = compared(
        config,
        run.model,
        splits,
        request.ids,
        networks,
        usable=usable,
        oracles=oracles,
        chunk=chunk,
        folder=folder,
        notify=notify,
        inspect=read,
    )
    traces = {}
    if read is not None:
        of_oracles = readings(rearing, "oracle", oracles)
        traces = {name: beside_oracles(read(n), of_oracles) for name, n in networks.items()}
    stage = audit_stage(run, request, oracles, networks)
    if not stage.there:
        with making(stage) as folder:
            write_json(
                folder / "audit.json",
                [plain_audit(audit, traces.get(audit.kind, {})) for audit in audits],
            )
    return RunAudit(audits, targets, population, stage.path, traces)


def compared(
    config: RunConfig,
    model: nn.Module,
    splits: Splits,
    ids: np.ndarray,
    networks: Mapping[str, Classifier],
    *,
    usable: np.ndarray,
    oracles: int,
    **rest: Any,
) -> tuple[tuple[NetworkAudit, ...], Population, Rearing, Population]:
    """Train oracles as a retrained model is, by other seeds, and compare networks with them.

    Args:
        config: how the networks were trained and unlearned.
        model: their module.
        splits: the data.
        ids: what they should have forgotten.
        networks: by name; the normalisation of the first is the oracles', where it is a given one.
        usable: the test samples that no method remembers.
        oracles: how many.
        rest: see ``Rearing``.

    Returns:
        The findings, the networks as a population, how the oracles were trained, and the oracles.
    """
    first = next(iter(networks.values()))
    given = stages.statistics_of(config) == "given"
    rearing = Rearing(
        model=model,
        splits=splits,
        training=config.training,
        seed=named_seed(config.unlearning_seed, "audit"),
        normalisation=first.normalisation if given else None,
        group=min(oracles, 16),
        **rest,
    )
    population = oracle_population(rearing, ids, oracles)
    targets = measured(list(networks.values()), list(networks), splits, ids)
    audits = audit_networks(
        targets,
        population,
        ids,
        usable_test_ids=splits.test.ids[usable],
        control=config.method.control,
    )
    return audits, targets, rearing, population


def audit_stage(
    run: Run, request: ForgetRequest, oracles: int, networks: Mapping[str, Classifier]
) -> Stage:
    """The stage of an audit of these networks with this many oracles; see ``find_stage``.

    Args:
        run: the run.
        request: what had to be forgotten.
        oracles: how many.
        networks: name -> network, the original among them.
    """
    made_of = _of_oracles(run, request, oracles, networks) | {
        "networks": {name: network.fingerprint() for name, network in networks.items()},
        "control": run.config.method.control,
    }
    return find_stage(run.request_directory(request), f"audit-{oracles}", made_of)


def _of_oracles(
    run: Run, request: ForgetRequest, oracles: int, networks: Mapping[str, Classifier]
) -> dict[str, Any]:
    return {
        "oracles": oracles,
        "original": networks["original"].fingerprint(),  # and its normalisation, and features
        "statistics": stages.statistics_of(run.config),
        "training": run.config.training,
        "unlearning_seed": run.config.unlearning_seed,
        "ids": digest(request.ids),
        "usable_tests": digest(run.usable_tests()),
        "data": run.data,
    }


def _oracles_folder(
    run: Run, request: ForgetRequest, oracles: int, networks: Mapping[str, Classifier]
) -> Path:
    """Where the oracles are kept, group by group, for other networks to be compared with later."""
    made_of = _of_oracles(run, request, oracles, networks)
    name = f"oracles-{oracles}-{hash_of(plain(made_of))[:16]}"
    return run.request_directory(request) / name


def plain_audit(audit: NetworkAudit, traces: Mapping[str, Trace] | None = None) -> dict:
    """An audit as JSON values."""
    found: dict = {
        "kind": audit.kind,
        "passed": audit.passed,
        # Infinite where the oracles are all equal and the network is not; JSON has no word for it.
        "distance": audit.distance if math.isfinite(audit.distance) else None,
        "oracles": audit.oracles,
        "statistics": {
            name: {
                "value": statistic.value,
                "low": statistic.band.low,
                "high": statistic.band.high,
                "oracles_mean": statistic.band.mean,
                "oracles_std": statistic.band.std,
                "within": statistic.within,
            }
            for name, statistic in audit.statistics.items()
        },
    }
    if traces:
        found["traces"] = {
            name: {**dataclasses.asdict(trace), "within": trace.within}
            for name, trace in traces.items()
        }
    return found
