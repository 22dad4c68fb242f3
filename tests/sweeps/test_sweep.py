"""A sweep: every variant of every cell once, in whatever order its steps are taken."""

import dataclasses
import pickle

import pytest

from dcmu_jax.runs.run import Run
from dcmu_jax.sweeps import Bench, Group, Sweep, Variant, means
from dcmu_jax.training.divergence import Diverged

GROUP = Group(dataset="digits", model="mlp", seed=3, width=0.05, epochs=1)
PERCENT = ("retain_accuracy", "forget_accuracy", "train_accuracy", "test_accuracy", "mia")


def variants(bench, request):
    """Retraining beside another method, which says by what it is varied."""
    other = Variant(name=f"two of {bench.group.seed}", method="cf_k", columns={"k": 2})
    return [Variant(name="retrain"), other]


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """Two seeds by two requests, whose rows are made up."""

    def cell(self, request, name, settings, options, method):
        seed = self.group.seed
        if (seed, request, method) == (4, "class:4", "cf_k"):
            raise Diverged("a loss that is not finite")
        value = 50.0 if name == "retrain" else 50.0 + seed
        row = dict.fromkeys(PERCENT, value) | {"unlearning_metric": 1.0, "online_s": value}
        row |= dataclasses.asdict(self.group) | {"request": request, "method": name}
        return row | {"online_flops": None}

    monkeypatch.setattr(Bench, "cell", cell)
    groups = [dataclasses.replace(GROUP, seed=seed) for seed in (3, 4)]
    cells = tuple((group, request) for group in groups for request in ("class:3", "class:4"))
    return Sweep(cells=cells, variants=variants, out=tmp_path)


def test_a_row_is_scored_against_the_reference_of_its_cell(sweep):
    rows = sweep.rows()
    assert len(rows) == 7  # what diverged has no row
    assert [(r["gap"], r["time_over_retraining"]) for r in rows[:2]] == [(0, 1), (3, 1.06)]
    assert [r.get("k") for r in rows[:2]] == [None, 2] and rows[1]["method"] == "two of 3"
    assert [len(found) for found in sweep.so_far()] == [4, 7] and [*sweep.so_far()][-1] == rows
    found = means(rows, ["request", "method"], ["gap", "online_flops"], count="seeds")
    assert found["class:3"]["retrain"] == {"seeds": 2, "gap": {"mean": 0, "ci95": 0}}


def test_steps_are_what_a_group_shares_and_then_its_requests(sweep, monkeypatch):
    first, last = sweep.groups
    steps = pickle.loads(pickle.dumps(sweep.steps()))
    names = [(g.name, *rest) for g in (first, last) for rest in ((), ("class:3",), ("class:4",))]
    assert [s.name if isinstance(s.name, tuple) else (s.name,) for s in steps] == names
    assert [step.after for step in steps[:3]] == [(), (first.name,), (first.name,)]
    assert {step.programs for step in steps[:3]} == {step.programs for step in steps[3:]}
    trained = []
    monkeypatch.setattr(Run, "train", lambda run: trained.append(run.config.seed))
    for step in steps:
        step.call(*step.arguments)
    assert trained == [3, 4]
    assert len(sweep.measure(first, "class:3")) == 2


def test_a_mean_says_of_how_many_rows_it_is_and_skips_what_has_no_number():
    rows = [{"a": 1, "x": 1.0}, {"a": 1, "x": None}, {"a": 2, "x": None}]
    assert means(rows, ["a"], ["x"], "rows") == {1: {"rows": 2, "x": {"mean": 1.0}}, 2: {"rows": 1}}
