"""Compiled programs: where they are kept, what is said if they cannot be, when forgotten."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from dcmu_jax import programs
from dcmu_jax.programs import default_folder, keep_programs, make_room

SETTINGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@pytest.fixture
def untold(monkeypatch):
    """JAX as it is where nobody has told it of a folder; put back afterwards."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    jax.jit(lambda x: x + 1)(jnp.zeros(3))  # JAX looks for a folder when it first compiles
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", raising=False)
    jax.config.update(SETTINGS[0], None)
    jax.config.update(SETTINGS[1], 1.0)
    programs._note.cache_clear()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_programs_are_kept_in_one_folder_also_such_as_compile_quickly(
    untold, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = keep_programs()
    assert folder == default_folder() and folder.is_relative_to(tmp_path / "dcmu_jax" / "compiled")
    jax.jit(lambda x: x * 3 - 1)(jnp.zeros(5))
    assert [*folder.glob("*lambda*")]


def test_another_processor_has_another_folder(monkeypatch):
    own = default_folder()
    monkeypatch.setattr(programs.platform, "machine", lambda: "abacus")
    assert own != default_folder() == default_folder()


def test_a_folder_that_jax_was_given_stays(untold, tmp_path, monkeypatch):
    given = tmp_path / "mine"
    jax.config.update(SETTINGS[0], str(given))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "1")
    assert keep_programs(tmp_path / "other") == given and given.is_dir()
    assert getattr(jax.config, SETTINGS[0]) == str(given)
    assert getattr(jax.config, SETTINGS[1]) == 1.0


@pytest.mark.parametrize("given", [False, True])
def test_a_folder_that_cannot_be_written_is_told_of_once_and_work_goes_on(
    untold, tmp_path, capsys, given
):
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "below"
    for _ in range(2):
        if given:
            jax.config.update(SETTINGS[0], str(folder))
        assert keep_programs(None if given else folder) is None
    said = capsys.readouterr().err
    assert said.count("cannot be kept") == 1
    assert str(folder) in said and "JAX_COMPILATION_CACHE_DIR" in said
    assert jax.jit(lambda x: x - 7)(jnp.zeros(2))[0] == -7


def test_no_home_folder_is_told_of(untold, monkeypatch, capsys):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    assert keep_programs() is None and "could not determine" in capsys.readouterr().err


def test_programs_are_forgotten_where_a_process_holds_many(tmp_path, monkeypatch):
    forgotten = []
    monkeypatch.setattr(jax, "clear_caches", lambda: forgotten.append(True))
    monkeypatch.setattr(programs, "_MAPS", tmp_path / "maps")
    monkeypatch.setattr(programs, "_MOST_MAPS", tmp_path / "most")
    make_room()  # no such file: a system without the limit
    (tmp_path / "most").write_text("30\n")
    (tmp_path / "maps").write_text("map\n" * 10)
    make_room()
    assert not forgotten
    (tmp_path / "maps").write_text("map\n" * 11)
    make_room()
    assert forgotten
