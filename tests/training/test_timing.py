"""The clock, against a clock of our own: work, compilation and pauses kept apart."""

import types

import jax
import jax.monitoring
import pytest

from dcmu_jax.training import timing
from dcmu_jax.training.timing import Stopwatch


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self):
        self.now = 1e6

    def work(self, seconds):
        self.now += seconds

    def compile(self, seconds):
        self.now += seconds
        jax.monitoring.record_event_duration_secs("/jax/core/compile/test", float(seconds))


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, "time", types.SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(timing, "_compiling", [])
    return clock


def _seconds(watch):
    return round(watch.run_s, 6), round(watch.compile_s, 6)


def test_compilation_is_kept_apart(clock):
    watch = Stopwatch()
    clock.compile(100)  # before it runs
    with watch.running():
        clock.work(3)
        clock.compile(2)
        clock.work(1)
    clock.work(50)
    assert _seconds(watch) == (4, 2)
    with watch.running():
        clock.work(5)
    assert _seconds(watch) == (9, 2)


def test_nested_compilations_count_once(clock):
    watch = Stopwatch()
    with watch.running():
        clock.compile(2)  # within the next: tracing inside lowering, say
        clock.now += 1
        jax.monitoring.record_event_duration_secs("/jax/core/compile/outer", 3.0)
        jax.monitoring.record_event_duration_secs("/jax/other", 3.0)
    assert _seconds(watch) == (0, 3)


def test_a_pause_is_not_counted_nor_its_compilation(clock):
    watch = Stopwatch()
    with watch.running():
        clock.work(3)
        clock.compile(1)
        with watch.paused():
            clock.work(10)
            clock.compile(20)
        assert watch.elapsed() == pytest.approx(3)
        clock.work(2)
        assert watch.elapsed() == pytest.approx(5)
    assert _seconds(watch) == (5, 1)
    assert watch.elapsed() == pytest.approx(5)


def test_an_exception_stops_the_watch(clock):
    watch = Stopwatch()
    with pytest.raises(ZeroDivisionError), watch.running():
        clock.work(3)
        raise ZeroDivisionError
    clock.work(9)
    assert _seconds(watch) == (3, 0)
    assert watch.elapsed() == pytest.approx(3)


def test_jax_reports_its_compilations():
    watch = Stopwatch()
    with watch.running():
        jax.jit(lambda x: x * 3 + 1)(2.0).block_until_ready()
    assert watch.compile_s > 0
    once = watch.compile_s
    function = jax.jit(lambda x: x * 5 + 1)
    function(2.0).block_until_ready()
    with watch.running():
        function(3.0).block_until_ready()
    assert watch.compile_s == once
