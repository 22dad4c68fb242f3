"""The page of a certificate: all of it as text, nothing fetched, nothing that is no certificate."""

import copy
import re

import pytest

from dcmu_jax.errors import InputError
from dcmu_jax.reporting.certificate import certificate_sentences, write_certificate

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


@pytest.mark.parametrize("spoil", [lambda r: r.pop("settings"), lambda r: r.update(requests=[1])])
def test_a_record_of_another_shape_is_refused(tmp_path, spoil):
    certificate = copy.deepcopy(CERTIFICATE)
    spoil(certificate["record"])
    with pytest.raises(InputError, match="A certificate whose record cannot be shown"):
        write_certificate(tmp_path / "c.html", certificate, "digits")
    assert list(tmp_path.iterdir()) == []
