"""The page of a certificate: all of it as text, nothing fetched, nothing that is no certificate."""

import copy
import re

import pytest

from dcmu_jax.errors import InputError
from dcmu_jax.reporting.certificate import audit_sentence, certificate_sentences, write_certificate

CERTIFICATE = {
    "version": 2,
    "published": "2026-01-02T03:04:05+00:00",
    "forgotten_in_all": 5,
    "images_purged": False,
    "record": {
        "version": 2,
        "change": "batch",
        "method": "recommended",
        "settings": {"online": {"rounds": 3}, "control": "all"},
        "seed": 17,
        "environment": {"jax": "0.10.2"},
        "forgotten": list(range(1000, 1300)),
        "retained": 900,
        "looks_at_what_goes": True,
        "reduction": 0.5,
        "cost": {"online_s": 12.345678901},
        "accuracy": {"retained": 99.5, "test": None},
        "requests": [
            {
                "line": 3,
                "receipt": "ab" * 32,
                "text": "ids:<script>alert(1)</script>",
                "reference": None,
                "acknowledged": "2026-01-01T00:00:00+00:00",
                "samples": 300,
            }
        ],
    },
    "audit": {
        "passed": False,
        "oracles": 16,
        "statistics": {"lira_auc": {"value": 0.71, "low": 0.45, "high": 0.55, "within": False}},
    },
    "hashes": {"ledger": "cd" * 32, "files": {"bank.npz": "ef" * 32}},
}


def test_the_page_holds_everything_and_runs_nothing(tmp_path):
    write_certificate(tmp_path / "c.html", CERTIFICATE, "digits & more")
    page = (tmp_path / "c.html").read_text()
    for text in (
        "Certificate of version 2, digits &amp; more",
        "forgot 300 samples by the method recommended; 900 stay.",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "0.450 .. 0.550",
        "did not pass the audit, compared with 16 that never saw the forgotten samples.",
        "cd" * 32,
        "files.bank.npz",
        "(300 in all)",
        "<dd>12.346</dd>",
        "2026-01-01T00:00:00+00:00",
        "default-src 'none'",
    ):
        assert text in page, text
    assert "<script" not in page and not re.search(r"(src|href)=\"http", page)
    assert "1199" in page and "1200" not in page  # the first 200 ids; all are in the JSON
    assert ".verdict" in page  # the style of the report
    assert [path.name for path in tmp_path.iterdir()] == ["c.html"]


def test_what_is_said_of_each_kind():
    batch = " ".join(certificate_sentences(CERTIFICATE))
    assert (
        "looks at the forgotten samples once more" in batch
        and "still lie in the workspace" in batch
    )
    purged = certificate_sentences(CERTIFICATE | {"images_purged": True})
    ids = "under the ids that were forgotten"
    assert f"The forgotten images have been purged from the workspace {ids}." in purged
    purge = CERTIFICATE | {"record": {"change": "purge", "images_removed": 7}}
    assert "7 forgotten images" in certificate_sentences(purge)[0]
    original = CERTIFICATE | {"record": {"change": "created"}}
    assert "nothing is forgotten" in certificate_sentences(original)[0]
    for certificate in (CERTIFICATE, purge, original):
        assert "no proof" in certificate_sentences(certificate)[-1]


def test_what_gives_the_forget_set_away_is_said():
    record = CERTIFICATE["record"] | {
        "accuracy_before": {"retained": 100.0, "test_of_classes_that_stay": 93.5},
        "accuracy": {"retained": 100.0, "test_of_classes_that_stay": 92.0},
        "forgotten_beside_test": {"forgotten": 0.0, "test": 92.0, "tells": True},
        "other_settings": False,
        "gate": {"accepted_for_this_batch": None},
        "refused": [],
    }
    said = certificate_sentences(CERTIFICATE | {"record": record})
    assert said[2].startswith("Of the forgotten samples 0.0 % are classified correctly, of test")
    record["forgotten_beside_test"] = None
    said = certificate_sentences(CERTIFICATE | {"record": record})
    assert not any("0.0 %" in each for each in said)


@pytest.mark.parametrize(
    ("auc", "says"), [(3.0, "It remembers"), (0.0, "gives them away"), (0.5, "not by remembering")]
)
def test_the_audit_is_said_as_the_guarantees_define_it(auc, says, tmp_path):
    audit = {"passed": False, "oracles": 4}
    audit["statistics"] = {
        "retain_accuracy": {"value": 99.0, "low": 97.7, "high": 101.1, "within": True},
        "lira_auc": {"value": auc, "low": 0.1, "high": 2.7, "within": 0.1 <= auc <= 2.7},
    }
    said = audit_sentence(audit)
    assert says in said and "4 oracles are few" in said
    write_certificate(tmp_path / "c.html", CERTIFICATE | {"audit": audit}, "digits")
    page = (tmp_path / "c.html").read_text()
    assert "0.100 .. 1.000" in page and "97.700 .. 100.000" in page and "decides nothing" in page


@pytest.mark.parametrize("spoil", [lambda r: r.pop("settings"), lambda r: r.update(requests=[1])])
def test_a_record_of_another_shape_is_refused(tmp_path, spoil):
    certificate = copy.deepcopy(CERTIFICATE)
    spoil(certificate["record"])
    with pytest.raises(InputError, match="A certificate whose record cannot be shown"):
        write_certificate(tmp_path / "c.html", certificate, "digits")
    assert list(tmp_path.iterdir()) == []
