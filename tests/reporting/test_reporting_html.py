import base64
import re
from html.parser import HTMLParser

import pytest
from matplotlib.figure import Figure

from dcmu_jax.errors import InputError
from dcmu_jax.metrics.measurement import METRICS
from dcmu_jax.reporting import html, save_figure, summarise, write_report
from dcmu_jax.reporting.sections import Drawn

VOID = {"meta", "br", "img", "link", "hr", "input"}


class Page(HTMLParser):
    """Tags with their attributes, text; fails when tags are not closed in order."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(source)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data


def figure():
    made = Figure(figsize=(2, 1))
    made.text(0.5, 0.5, "x")
    return made


@pytest.fixture
def page(measurements, tmp_path):
    save_figure(figure(), tmp_path / "a.png")
    path = tmp_path / "report.html"
    write_report(
        path,
        title="digits <script>alert(1)</script>",
        summary=[*summarise(measurements, "class:<b>"), "plain"],
        measurements=measurements,
        settings={
            "seed": 7,
            "train": {"optimizer": {"rate": 0.125}, "none": None},
            "empty": {},
            "list": [1, "<i>"],
        },
        figures=[
            Drawn("", 'first "figure"', figure()),
            Drawn("", "second figure", tmp_path / "a.png"),
        ],
        environment={"python": "3.x", "cmd": "dcmu <run>"},
        notes=["a note & more"],
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "report.html"]
    return path.read_text(encoding="utf-8")


def test_nothing_is_fetched(page):
    assert "http:" not in page and "https:" not in page
    parsed = Page(page)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in parsed.tags}
    for tag, attributes in parsed.tags:
        for name in ("src", "href", "srcset"):
            assert attributes.get(name, "data:").startswith("data:"), (tag, attributes)
    assert "url(" not in page and "@import" not in page
    assert "default-src 'none'" in page


def test_what_is_given_is_text_and_never_markup(page):
    parsed = Page(page)
    assert "<script" not in page and "<b>" not in page and "<i>" not in page
    assert "digits <script>alert(1)</script>" in parsed.text
    assert "dcmu <run>" in parsed.text and "a note & more" in parsed.text


def test_everything_given_is_there(page, measurements):
    parsed = Page(page)
    images = [attributes for tag, attributes in parsed.tags if tag == "img"]
    assert [image["alt"] for image in images] == ['first "figure"', "second figure"]
    for image in images:
        data = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))
        assert data.startswith(b"\x89PNG")
    for measurement in measurements:
        # In the two tables and, but for the original, in the bars.
        assert parsed.text.count(measurement.method) >= 2
    for metric in METRICS:
        assert metric.meaning in parsed.text and parsed.text.count(metric.title) >= 2
    for text in ("seed", "7", "optimizer.rate", "0.125", "none", "empty", "1, <i>", "3.x"):
        assert text in parsed.text


def test_numbers_and_directions(page):
    flat = re.sub(r"\s+", " ", Page(page).text)
    assert "97.30 \N{MINUS SIGN}1.20" in flat or "97.30\N{MINUS SIGN}1.20" in flat
    assert re.search(r"2\.00 ?0\.25\N{MULTIPLICATION SIGN}", flat)
    assert "RA (%)→ R" in flat and "gap↓" in flat and "ToW↑" in flat
    assert "10.00 s" in flat  # 8 s online and 2 s compilation of the retrained model
    assert "nearer the retrained model is better" in flat


def test_a_warning_stands_out(page):
    classes = [a.get("class") for tag, a in Page(page).tags if tag == "p"]
    assert classes.count("warning") == 1


def test_a_report_without_the_retrained_network(tmp_path, original):
    path = tmp_path / "report.html"
    write_report(
        path,
        title="t",
        summary=[],
        measurements=[original],
        settings={},
        figures=[],
        environment={},
    )
    assert "No retrained model was measured" in Page(path.read_text(encoding="utf-8")).text


def test_a_figure_that_is_no_png_is_refused_and_nothing_written(tmp_path):
    other = tmp_path / "a.png"
    other.write_text("no image")
    for path in (other, tmp_path / "missing.png"):
        with pytest.raises(InputError, match="missing or no PNG"):
            write_report(
                tmp_path / "r.html", title="t", summary=[], measurements=[], settings={},
                figures=[Drawn("", "c", path)], environment={},
            )  # fmt: skip
    assert list(tmp_path.iterdir()) == [other]


def test_settings_that_are_empty_have_no_heading_of_their_own():
    settings, _ = html.about({"baselines": (), "settings": {}, "data": {"size": 1}}, {})
    empty = ("", [("baselines", "(empty)"), ("settings", "(empty)")])
    assert settings.pairs == [empty, ("data", [("size", "1")])]


def test_settings_within_lists_are_shown():
    steps = [{"parts": ["final"], "epochs": 8}, {"parts": ["beginning", "final"], "epochs": 2}]
    rows = dict(html.flat_rows({"online": {"closing_steps": steps, "round_steps": []}}))
    assert rows == {
        "online.closing_steps.0.parts": "final",
        "online.closing_steps.0.epochs": "8",
        "online.closing_steps.1.parts": "beginning, final",
        "online.closing_steps.1.epochs": "2",
        "online.round_steps": "(empty)",
    }
