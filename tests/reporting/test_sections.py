"""Sections of the report: what was saved is found again, and the page shows all of it as text."""

import json

import numpy as np
import pytest
from matplotlib.figure import Figure
from reporting.test_condensed_model_figures import ROWS

from dcmu_jax.applications.condensed_model_settings import construction
from dcmu_jax.applications.overfitted import overfitted_subset
from dcmu_jax.errors import InputError
from dcmu_jax.reporting import write_report
from dcmu_jax.reporting.condensed_model import condensed_section
from dcmu_jax.reporting.defence import (
    AFTER,
    BEFORE,
    attack_conclusion,
    defence_section,
    threshold_conclusion,
)
from dcmu_jax.reporting.sections import (
    Conclusion,
    Drawn,
    Numbers,
    Section,
    load_section,
    save_section,
    saved_sections,
)

VALUES = np.concatenate([np.linspace(0, 1, 30), np.linspace(8, 9, 10)])


def section(title="A <b>"):
    return Section(
        title,
        ["Found <i>."],
        [Numbers("Table &", ["name", "x"], [["one", "1 < 2"], ["two", "3"]], "Meaning.", True)],
        [Drawn("drawn", "What is drawn.", Figure(figsize=(1, 1)), Conclusion("It can.", "Not."))],
    )


def test_a_section_is_found_again(tmp_path):
    saved = save_section(section(), tmp_path / "b")
    assert saved.figures[0].figure == tmp_path / "b" / "drawn.png"
    assert saved.figures[0].figure.read_bytes().startswith(b"\x89PNG")
    found = load_section(tmp_path / "b")
    assert (found.title, *found.sentences) == ("A <b>", "Found <i>.")
    assert found.tables == tuple(saved.tables) and found.figures == tuple(saved.figures)
    assert str(found.figures[0].conclusion) == "It can. Not."
    save_section(section("first"), tmp_path / "a")
    (tmp_path / "c").mkdir()  # a folder of something unfinished
    assert [s.title for s in saved_sections(tmp_path.iterdir())] == ["first", "A <b>"]
    save_section(found, tmp_path / "b")  # its figures lie there already
    with pytest.raises(InputError, match="lies elsewhere"):
        save_section(found, tmp_path / "d")
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.pop("title"),
        lambda text: text.update(sentences=[3]),
        lambda text: text["tables"][0]["rows"].append(["short"]),
        lambda text: text["tables"][0].update(more=1),
        lambda text: text["figures"][0].update(name="../drawn"),
        lambda text: text["figures"][0].update(conclusion="one"),
    ],
)
def test_a_damaged_section_is_refused(tmp_path, change):
    save_section(section(), tmp_path)
    path = tmp_path / "section.json"
    text = json.loads(path.read_text())
    change(text)
    path.write_text(json.dumps(text))
    with pytest.raises(InputError, match=r"section\.json' cannot be read"):
        load_section(tmp_path)


def test_the_page_shows_a_section_as_text(tmp_path):
    saved = save_section(section(), tmp_path)
    write_report(
        tmp_path / "page.html",
        title="t",
        summary=[],
        measurements=[],
        sections=[saved],
        settings={},
        figures=[],
        environment={},
    )
    page = (tmp_path / "page.html").read_text()
    assert "<h2>A &lt;b&gt;</h2>" in page and "Found &lt;i&gt;." in page
    assert "1 &lt; 2" in page and "Table &amp;" in page and "Meaning." in page
    assert page.count('class="reference"') == 1
    assert page.count('<img src="data:image/png;base64,') == 1
    assert "What can be concluded.</b> It can." in page and "What cannot.</b> Not." in page
    assert "Comparison" not in page and "What the numbers mean" not in page


def test_the_section_of_a_defence_has_its_numbers():
    labels = (np.arange(40) % 2).astype(np.int32)
    subset = overfitted_subset(VALUES, labels)
    own = {"train_accuracy": 99.0, "test_accuracy": 60.0, "test_samples": 20}
    own |= {"threshold_auc": (0.9, 0.85, 0.95), "threshold_tpr_at_1_percent": (0.1, 0.05, 0.2)}
    after = own | {"threshold_auc": (0.6, 0.55, 0.65), "test_accuracy": 61.5}
    scores = {BEFORE: np.linspace(1, 0, 60), AFTER: np.tile([0.0, 1.0], 30)}
    found = defence_section(
        "Defence",
        subset,
        scores,
        np.arange(60) < 40,
        {BEFORE: own, AFTER: after},
        {"online_s": 1.5, "offline_s": 2.25},
    )
    (table,) = found.tables
    assert table.rows[0][:3] == [BEFORE, "99.00", "60.00"]
    assert table.rows[1][2:4] == ["61.50", "0.600 (0.550 to 0.650)"]
    assert "1.50 s online and 2.25 s" in table.meaning
    assert "60.00 % -> 61.50 %" in found.sentences[1]
    assert [drawn.name for drawn in found.figures] == ["histogram", "attack"]
    curve = {line.get_label(): line for line in found.figures[1].figure.axes[0].lines}[BEFORE]
    assert max(curve.get_ydata()[curve.get_xdata() == 0]) == 1  # it tells all of them apart


def test_the_sentences_beside_the_figures_of_a_defence():
    labels = np.zeros(40, np.int32)
    text = threshold_conclusion(overfitted_subset(VALUES, labels))
    assert "30 of 40 training samples (75.0 %) lie at or left of the dashed line" in text.can
    most = threshold_conclusion(overfitted_subset(VALUES, labels, rule="quantile", share=0.95))
    assert "(95.0 %, nearly all of them)" in most.can
    before = {"threshold_auc": (0.7, 0.6, 0.8), "test_samples": 50}
    assert "do not overlap" in attack_conclusion(before, {"threshold_auc": (0.5, 0.4, 0.59)}).can
    beside = attack_conclusion(before, {"threshold_auc": (0.5, 0.4, 0.61)})
    assert "samples overlap" in beside.can and "rates below 0.02" in beside.cannot


def test_the_section_of_a_condensed_model_has_every_row():
    found = condensed_section(ROWS, construction("recommended"), "Condensed model")
    (table,) = found.tables
    assert [row[0] for row in table.rows][::2] == [
        "R: target on all that stays",
        "condensed model + target",
        "final not replaced",
    ]
    assert table.caption == "The target cnn, trained in each way" and table.rows[2][1] == "70.00"
    assert table.reference and all(len(row) == len(table.headings) for row in table.rows)
    assert [drawn.name for drawn in found.figures] == ["comparison", "construction"]
    assert "through the unlearned condensed model" in found.figures[0].conclusion.can
