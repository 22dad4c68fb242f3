"""The page beside a result: each picture with its two sentences, and none without its picture."""

import re

import pytest

from dcmu_jax.errors import InputError
from dcmu_jax.reporting.condensed_model import DIAGRAM
from dcmu_jax.reporting.sections import Conclusion
from experiments.benchmarks import record
from experiments.fig3_dp_competitor import CAPTIONS
from experiments.writing import write_captions

ONE_SENTENCE = re.compile(r"[A-Z][^.]*(\.\d[^.]*)*\.")


def test_every_picture_has_its_two_sentences(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    monkeypatch.setattr("sys.argv", ["experiments/x.py", "--dataset", "npz:/of/mine/y.npz"])
    for name in ("fig_a", "fig_b"):
        (tmp_path / f"{name}.png").write_bytes(b"")
    figures = {"fig_b": Conclusion("B can.", "B cannot."), "fig_a": Conclusion("A can.", "Not.")}
    path = write_captions("fig", "Title", figures)
    assert path == tmp_path / "fig.md"
    text = path.read_text()
    assert (
        text.startswith("# Title\n")
        and "`python -m experiments.x --dataset npz:y.npz`" in text
        and "[fig.json](fig.json)" in text
    )
    places = [
        text.index(part)
        for part in ("(fig_b.png)", "B can.", "B cannot.", "(fig_a.png)", "A can.", "Not.")
    ]
    assert places == sorted(places)
    assert {p.name for p in tmp_path.iterdir()} == {"fig.md", "fig_a.png", "fig_b.png"}


def test_no_page_without_its_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    for figures in ({"gone": Conclusion("a", "b")}, {}):
        with pytest.raises(InputError, match="without a picture"):
            write_captions("fig", "Title", figures)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [*CAPTIONS, "diagram"])
def test_each_part_is_one_sentence(name):
    caption = DIAGRAM if name == "diagram" else CAPTIONS[name]
    assert ONE_SENTENCE.fullmatch(caption.can) and ONE_SENTENCE.fullmatch(caption.cannot)
