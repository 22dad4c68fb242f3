"""The certificate of a deletion as a page in the style of the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dcmu_jax.audits.audit import MEMBERSHIP, SHOWN, STATISTICS, possible
from dcmu_jax.data.copies import copies_sentence
from dcmu_jax.errors import InputError
from dcmu_jax.files import FilePath
from dcmu_jax.metrics.telltale import Beside
from dcmu_jax.reporting.audits import few_oracles
from dcmu_jax.reporting.html import about, flat_rows, write_page
from dcmu_jax.reporting.sections import Numbers, Section
from dcmu_jax.service.remains import listed

_SHOWN_IDS = 200


def certificate_sentences(certificate: Mapping[str, Any]) -> list[str]:
    """What a certificate says, in words, and what it does not.

    Args:
        certificate: see ``service.certificate.certificate``.
    """
    record, version = certificate["record"], certificate["version"]
    change = record.get("change")
    sentences = []
    if change == "batch":
        sentences.append(
            f"Version {version}, published {certificate['published']}, forgot "
            f"{len(record.get('forgotten', []))} samples by the method {record.get('method')}; "
            f"{record.get('retained')} stay."
        )
        if record.get("base") is not None:
            sentences.append(
                f"As the network of the version before was of no use, it was made of version "
                f"{record['base']}, and {len(record['forgotten_again'])} samples were forgotten "
                "again."
            )
        if record.get("accuracy_before"):  # records of earlier versions of dcmu_jax lack it
            told = telltale_sentence(record)
            sentences += [accuracy_sentence(record), *([told] if told else ())]
            sentences += _gate_sentences(record)
        if record.get("forgotten"):
            sentences += _copies_sentences(certificate.get("copies"))
        if record.get("looks_at_what_goes"):
            sentences.append(
                "The method looks at the forgotten samples once more, in this version only, to "
                "unlearn them."
            )
    elif change == "purge":
        sentences.append(
            f"Version {version}, published {certificate['published']}, has the network of the "
            f"version before, and a bank made without {record.get('images_removed')} forgotten "
            "images."
        )
    else:
        sentences.append(f"Version {version} is the original network; nothing is forgotten.")
    if change == "purge" or record.get("forgotten"):
        sentences += _remains_sentences(certificate)
    sentences.append(
        "This says what was done. It is no proof that the network remembers nothing: only an "
        "audit speaks of that, and only of what its attacks can see."
    )
    return sentences


def _copies_sentences(copies: Mapping[str, Any] | None) -> list[str]:
    """What became of copies of the forgotten images, as ledger and files say now."""
    if copies is None:
        return ["Copies of the forgotten images under other ids were not looked for."]
    said = [copies_sentence(dict(copies), "No request named them.")]
    for name, what in (
        ("forgotten", "are forgotten, too"),
        ("waiting", "were asked for, too, and wait to be forgotten"),
    ):
        if copies[name]:
            shown = _shown(copies[name])
            said.append(
                f"{len(copies[name])} training sample(s) under other ids with the same images "
                f"{what}: {shown}."
            )
    if not copies["images_read"] and any(said):
        said.append("So the version's record says; its images are not there to be looked at again.")
    return [sentence for sentence in said if sentence]


def _remains_sentences(certificate: Mapping[str, Any]) -> list[str]:
    """Where the forgotten images are, as the files said when the certificate was made."""
    remains = certificate.get("remains") or {}
    where, made = ", ".join(remains.get("files", ())), ", ".join(remains.get("made_of_them", ()))
    if certificate["images_purged"] is False:
        where = f" ({where})" if where else ""
        said = f"The forgotten images still lie in the workspace{where}; nothing trains on them."
    elif made:
        said = f"The forgotten images were removed, but what was made of them was not yet: {made}."
    elif remains.get("unknown"):
        said = "No file that is as the service wrote it holds the forgotten images any more."
    else:
        said = f"The forgotten images have been purged from the workspace{_but_for(certificate)}."
    sentences = [said]
    if remains.get("unknown"):
        sentences.append(
            "What some files in the workspace hold is not known, as they are not what the service "
            f"wrote: {listed(remains['unknown'])}."
        )
    looked = remains.get("looked_at")
    if looked:
        sentences.append(f"This is as of {looked}, by the hashes of its files.")
    return sentences


def _but_for(certificate: Mapping[str, Any]) -> str:
    """What a purge by ids leaves of images: those with the same bytes under other ids."""
    copies = certificate.get("copies")
    if copies is None:
        return " under the ids that were forgotten"
    if any(copies[name] for name in ("train", "waiting", "test")):
        stay = {"train": "in the training set", "waiting": "waiting", "test": "in the test set"}
        named = [f"{len(copies[n])} {where}" for n, where in stay.items() if copies[n]]
        return f" under the ids that were forgotten, but not the copies {' and '.join(named)}"
    return " under the ids that this version forgot" if copies["forgotten"] else ""


def accuracy_sentence(record: Mapping[str, Any]) -> str:
    """What a batch did to accuracy, in words.

    Args:
        record: of a version that forgot a batch.
    """
    before, after = record["accuracy_before"], record["accuracy"]
    parts = [
        f"{what} {_percent(before[name])} before, {_percent(after[name])} after"
        for what, name in (
            ("retained samples", "retained"),
            ("test images of the classes that stay", "test_of_classes_that_stay"),
        )
    ]
    return f"Accuracy on {'; on '.join(parts)}."


def telltale_sentence(record: Mapping[str, Any]) -> str:
    """What follows where forgotten and test images are classified unequally well; else empty.

    Args:
        record: of a version that forgot a batch; those of earlier versions of dcmu_jax say nothing.
    """
    found = record.get("forgotten_beside_test")
    return Beside(**found).sentence() if found else ""


def _percent(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2f} %"


def _gate_sentences(record: Mapping[str, Any]) -> list[str]:
    """Under which limit a batch was published, and what was refused before."""
    sentences = []
    if record["other_settings"]:
        sentences.append(
            "It was forgotten with other settings than those of the workspace, which the record "
            "holds."
        )
    accepted = record["gate"]["accepted_for_this_batch"]
    if accepted is not None:
        sentences.append(
            f"A loss of up to {accepted:g} points of test accuracy was accepted for this batch."
        )
    sentences += [
        f"Refused before, on {refused['time']}: {refused['reason']}."
        for refused in record["refused"]
    ]
    return sentences


def write_certificate(path: FilePath, certificate: Mapping[str, Any], name: str) -> None:
    """Write the page; everything in the certificate is shown as text, never as markup.

    Args:
        path: the file to write.
        certificate: see ``service.certificate.certificate``.
        name: of the data, for the title.

    Raises:
        InputError: its record is not one that the service wrote.
    """
    record, audit = certificate["record"], certificate["audit"]
    try:
        requests = [
            [
                request["text"],
                str(request["samples"]),
                request["acknowledged"],
                request["reference"] or "\N{EN DASH}",
            ]
            for request in record.get("requests", [])
        ]
        headings = ["request", "samples", "acknowledged (UTC)", "reference"]
        ids = f"Ids: {_shown(record.get('forgotten', []))}"
        asked = [Numbers("Requests of this batch", headings, requests, ids)] if requests else []
        numbers = {
            key: record[key]
            for key in ("reduction", "cost", "accuracy_before", "accuracy", "gate", "retained")
            if key in record
        }
        settings = {"method": record.get("method"), "seed": record.get("seed")}
        sections = [
            *(Section("What was forgotten", tables=[table]) for table in asked),
            Section("Cost and accuracy", pairs=[("", flat_rows(numbers, digits=5))]),
            _audit_section(audit),
            Section(
                "Hashes (SHA-256)", pairs=[("", flat_rows(certificate["hashes"]))], look="hashes"
            ),
            *about(settings | record["settings"], record["environment"]),
        ]
        title = f"Certificate of version {certificate['version']}, {name}"
        write_page(path, title, sections, certificate_sentences(certificate))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"A certificate whose record cannot be shown ({type(error).__name__}: {error})",
            "one of a workspace that the service made",
            "Read it as JSON",
        ) from error


def _audit_section(audit: Any) -> Section:
    found = (audit or {}).get("statistics", {})
    statistics = []
    for name in [*(n for n in STATISTICS if n in found), *(n for n in found if n in SHOWN)]:
        low, high = possible(name, found[name]["low"], found[name]["high"])
        within = "yes" if found[name]["within"] else "no"
        decides = within if name in STATISTICS else "decides nothing"
        statistics.append(
            [name, f"{found[name]['value']:.3f}", f"{low:.3f} .. {high:.3f}", decides]
        )
    caption = "The network compared with ones that never saw the forgotten samples"
    headings = ["statistic", "network", "range of one more such network", "within"]
    tables = [Numbers(caption, headings, statistics)] if audit else []
    return Section("Audit", [audit_sentence(audit) or "This version was not audited."], tables)


def _shown(ids: list[int]) -> str:
    more = f", \N{HORIZONTAL ELLIPSIS} ({len(ids)} in all)" if len(ids) > _SHOWN_IDS else ""
    return ", ".join(map(str, ids[:_SHOWN_IDS])) + more


def audit_sentence(audit: Any) -> str:
    """Whether a version passed its audit, and if not in which way; empty where there was none."""
    if not audit:
        return ""
    passed = "passed" if audit["passed"] else "did not pass"
    said = (
        f"The network {passed} the audit, compared with {audit['oracles']} that never saw the "
        "forgotten samples."
    )
    return " ".join(filter(None, [said, _in_which_way(audit), few_oracles(audit["oracles"])]))


def _in_which_way(audit: Mapping[str, Any]) -> str:
    """*Remembers* or *differs*, as the guide to guarantees has it; empty where it passed."""
    deciding = [audit["statistics"][n] for n in MEMBERSHIP if n in audit["statistics"]]
    if audit["passed"] or not deciding:
        return ""
    if any(found["value"] > found["high"] for found in deciding):
        return (
            "It remembers: the forgotten samples look like members beyond what those networks show."
        )
    if any(found["value"] < found["low"] for found in deciding):
        return (
            "It differs: it is less sure of the forgotten samples than those networks, which gives "
            "them away as well."
        )
    return "It differs: it is told from those networks, but not by remembering."
