"""The comparison of a run: every method measured, and its table, figures and report written."""

from __future__ import annotations

import dataclasses
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dcmu_jax.condensation.bank import CondensedBank
from dcmu_jax.data.requests import ForgetRequest, RequestLike
from dcmu_jax.files import FilePath, write_rows, written_aside
from dcmu_jax.metrics.frames import FIELDS, frame_of
from dcmu_jax.metrics.measurement import Measurement
from dcmu_jax.metrics.membership import control_losses_for
from dcmu_jax.metrics.own import own_metrics
from dcmu_jax.metrics.scores import with_scores
from dcmu_jax.metrics.telltale import TelltaleWarning
from dcmu_jax.reporting.audits import audit_section, roc_figure
from dcmu_jax.reporting.figures import cluster_figure, loss_histogram_figure, trajectory_figure
from dcmu_jax.reporting.html import write_report
from dcmu_jax.reporting.sections import Drawn, Section, save_section, saved_sections
from dcmu_jax.reporting.style import save_figure
from dcmu_jax.reporting.verdict import summarise
from dcmu_jax.runs import stages
from dcmu_jax.runs.auditing import RunAudit, audit_stage
from dcmu_jax.runs.cost import short_classes
from dcmu_jax.runs.presets import PRESETS
from dcmu_jax.runs.run import Run, one_at_a_time
from dcmu_jax.runs.saved import Served
from dcmu_jax.runs.store import identity_in, plain
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.devices import from_writer, is_writer
from dcmu_jax.training.divergence import Diverged
from dcmu_jax.training.environment import environment

DEFENCE = "defence"
APPLICATIONS = (DEFENCE, "condensed-model")
"""Folders of a run whose folders each may hold a section of its report."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What a comparison found and where it was written.

    Attributes:
        measurements: the original, the retrained model, then every method.
        summary: the findings in sentences.
        directory: holds table.csv, figures/ and report.html.
    """

    measurements: list[Measurement]
    summary: list[str]
    directory: Path

    def frame(self) -> Any:
        """The measurements as a pandas frame, a row for each network: see ``frame_of``."""
        return frame_of(self.measurements)


@one_at_a_time
def compare(
    run: Run, request: RequestLike, audit: RunAudit | None = None, metrics: Any = None
) -> Comparison:
    """Serve ``request`` by every method of the run that has not yet, measure, and report.

    The run's own request is reported in its directory, any other in its folder under
    ``requests``. The report has a section for an audit of the request; that of the run's own
    request also for every defence and every condensed model that lie in the run.

    Args:
        run: the run.
        request: what to forget: a request, its text, ids or a mask.
        audit: of the run on this request; if not given, the last one that was reported.
        metrics: your own, in addition to those of the run's settings, for this report: see
            ``metrics.own.own_metrics``. The original is measured by them before the others train.

    Of several processes, process 0 alone reports.
    """
    request = run.request(request)
    run.check_comparable(request)  # before any training, not after it
    own = own_metrics(run.config.metrics) | own_metrics(metrics)
    original = run.train()
    usable = run.usable_tests()
    rows = {
        "original": stages.measure_network(
            "original", run.config, original, run.splits, request, usable, metrics=own
        )
    }
    served, failed = _serve_all(run, request)
    for name, result in served.items():
        rows[name] = stages.measure_network(
            name,
            run.config,
            result.unlearned.classifier,
            run.splits,
            request,
            usable,
            unlearned=result.unlearned,
            prepared=run.prepare(name) if name in PRESETS else None,
            metrics=own,
        )
    measurements = with_scores([row.measurement for row in rows.values()])
    by_name = {m.method: m for m in measurements}
    directory = run.request_directory(request)
    for m in measurements:
        run.log(stage=f"compare {directory.name}", **m.row())
    if directory == run.request_directory(run.request(run.config.forget)):
        directory = run.directory
    summary = [*summarise(measurements, request.text), *failed]
    bank = run.prepare().bank
    networks = {"original": original} | {
        name: result.unlearned.classifier for name, result in served.items()
    }
    audited = _audited(run, request, networks)
    if not is_writer():
        return Comparison(measurements, summary, directory)
    write_rows(directory / "table.csv", [m.row() for m in measurements], FIELDS)

    forget = np.isin(run.splits.train.ids, request.ids)
    control = run.config.method.control
    test_labels, train_labels = run.splits.test.labels[usable], run.splits.train.labels[forget]
    losses = {
        name: (
            row.train.losses[forget],
            control_losses_for(control, row.test.losses[usable], test_labels, train_labels),
        )
        for name, row in rows.items()
    }
    figures = [
        Drawn(
            "clusters",
            "Clusters of the training set and the one image that stands for each of them.",
            _clusters(run, bank),
        ),
        Drawn(
            "trajectories",
            "Accuracy on up to 500 retained, forgotten and test images over the online time. Every "
            "line starts at the original, which serves until a method is done.",
            trajectory_figure([s.trajectory for s in served.values()], by_name["retrain"]),
        ),
        Drawn(
            "losses",
            "Losses of the forgotten images beside those of the test images that the membership "
            "attack compares them with. They should differ as "
            "much, and no more, as under the retrained model.",
            loss_histogram_figure(losses, {m.method: m.mia for m in measurements}),
        ),
    ]
    for each in figures:
        assert isinstance(each.figure, Figure)
        save_figure(each.figure, directory / "figures" / f"{each.name}.png")
    sections = _sections(run, request, audit, directory, audited)
    write_report(
        directory / "report.html",
        title=f"Forgetting {request.text} from {run.splits.name}",
        summary=summary,
        measurements=measurements,
        settings=dataclasses.asdict(run.config) | {"of_baselines": _of_baselines(run, request)},
        figures=figures,
        environment=environment(),
        notes=_notes(run, request),
        sections=sections,
    )
    return Comparison(measurements, summary, directory)


def _serve_all(run: Run, request: ForgetRequest) -> tuple[dict[str, Served], list[str]]:
    """What each method gave, and a sentence for each baseline that came to no network."""
    served, failed = {}, []
    for name in run.methods:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", TelltaleWarning)  # the summary says more
                served[name] = run.unlearn(request, name)
        except Diverged as error:
            if name in ("retrain", run.config.preset):  # without which there is no table
                raise
            failed.append(f"FAILED: {name} has no row. {error.given}.")
    return served, failed


def _audit_section(run: Run, request: ForgetRequest, audit: RunAudit) -> Section:
    test = run.splits.test
    forgotten = run.splits.train.labels[run.splits.train.positions(request.ids)]
    controls = test.ids[run.usable_tests() & np.isin(test.labels, forgotten)]
    curves = roc_figure(audit.targets, audit.oracles, request.ids, controls)
    return audit_section(audit.audits, audit.traces, curves)


def _sections(
    run: Run, request: ForgetRequest, audit: RunAudit | None, directory: Path, audited: list[Path]
) -> list[Section]:
    """The audit of the request; in the report of the run's own request its applications, too."""
    found = []
    if audit is not None:
        found.append(save_section(_audit_section(run, request, audit), audit.directory))
        with written_aside(directory / "figures" / "audit.png") as aside:
            aside.write_bytes((audit.directory / "audit.png").read_bytes())
    else:
        found += saved_sections(audited)
    if directory == run.directory:
        original = run.train().fingerprint()
        for name in APPLICATIONS:
            folders = (run.directory / name).glob("*")
            found += saved_sections(each for each in folders if _is_of(each, original))
    return found


def _audited(run: Run, request: ForgetRequest, networks: Mapping[str, Classifier]) -> list[Path]:
    """The folder of the audit of these very networks with the most oracles, if there is one."""
    folder = run.request_directory(request)

    def counts() -> bytes:
        names = (path.parent.name for path in folder.glob("audit-*/section.json"))
        found = {int(name[1]) for each in names if (name := re.match(r"audit-(\d+)", each))}
        return json.dumps(sorted(found)).encode()

    stages_there = [
        audit_stage(run, request, count, networks) for count in json.loads(from_writer(counts))
    ]
    return [stage.path for stage in stages_there if stage.there][-1:]


def _is_of(folder: Path, original: str) -> bool:
    """Whether a section may stand in the report: not if it is of another original than it.

    A condensed model is made without the original of the run, and its section says of what.
    """
    if folder.parent.name == DEFENCE and (folder / "section.json").is_file():
        return identity_in(folder).made_of.get("original") == original
    return True


def renew_report(run: Run, folder: FilePath) -> Path | None:
    """Write the report of a run's own request again if it is older than the section in ``folder``.

    Returns:
        The report, or ``None`` for a run that was not compared yet: that would train baselines.
    """
    report, section = run.directory / "report.html", Path(folder) / "section.json"
    if not report.is_file():
        return None
    if section.is_file() and report.stat().st_mtime_ns <= section.stat().st_mtime_ns:
        compare(run, run.request(run.config.forget))
    return report


def _clusters(run: Run, bank: CondensedBank, shown: int = 8) -> Figure:
    """Clusters of various classes, of the size that is most worth a look."""
    rng = np.random.default_rng(0)
    worth = np.flatnonzero(bank.sizes >= min(3, bank.sizes.max()))
    picked: list[int] = []
    for label in np.resize(np.unique(bank.labels), shown):
        choice = np.setdiff1d(worth[bank.labels[worth] == label], picked)
        if len(choice):
            picked.append(int(rng.choice(choice)))
    members = [run.splits.train.images[bank.cluster == j] for j in picked]
    names = run.splits.class_names
    titles = [f"{names[bank.labels[j]]}\n{bank.sizes[j]} images" for j in picked]
    return cluster_figure(members, bank.images[picked], titles)


def _of_baselines(run: Run, request: ForgetRequest) -> dict[str, Any]:
    """All settings of every method but the run's own preset, defaults included."""
    return {
        name: plain({"of": run.config.options_of(name)})["of"]
        if name in PRESETS
        else plain({"of": stages.serving_method(name, run.config, run.splits, request)})["of"]
        for name in run.methods
        if name != run.config.preset
    }


def _notes(run: Run, request: ForgetRequest) -> list[str]:
    splits = run.splits
    short = (short_classes(run.config, name, splits) for name in run.presets)
    return [
        f"{len(request.ids)} of {len(splits.train)} training images are forgotten; "
        f"{int(run.usable_tests().sum())} of {len(splits.test)} test images are evaluated on, the "
        "rest are remembrance samples.",
        "One original, one forget set and one unlearning seed: differences of a point or two lie "
        "within what another seed changes.",
        "Online time runs from the request to the new model and holds the collection protocol; "
        "offline time is spent once, before any request; compilation is in neither.",
        "Membership inference compares losses by one logistic regression. That it finds nothing "
        "does not show that a stronger attack would not.",
        *filter(None, short),
    ]
