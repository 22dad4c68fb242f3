"""Locks: one holder at a time, let go at the end, and a clear word where there are none."""

import threading
import time

import pytest

from dcmu_jax import locks
from dcmu_jax.errors import InputError
from dcmu_jax.locks import locked, locked_again


def test_a_second_holder_waits_in_vain(tmp_path):
    with (
        locked(tmp_path / "lock", wait_s=0.0),
        pytest.raises(InputError, match="Another process is at work"),
        locked(tmp_path / "lock", wait_s=0.05),
    ):
        pass
    with locked(tmp_path / "lock", wait_s=0.0):
        pass


def test_a_failure_lets_go(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path / "lock", wait_s=0.0):
        raise KeyError
    with locked(tmp_path / "lock", wait_s=0.0):
        pass


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError), locked(tmp_path / "lock", wait_s=0.0):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_platform_without_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)
    with (
        pytest.raises(InputError, match="a platform without file locks"),
        locked(tmp_path / "lock", wait_s=0.0),
    ):
        pass


def test_the_same_thread_holds_it_again_and_another_waits(tmp_path, caplog):
    said = []

    def other():
        with locked_again(tmp_path / "lock"):
            said.append("other")

    with locked_again(tmp_path / "lock"):
        with locked_again(tmp_path / "lock"):
            thread = threading.Thread(target=other)
            thread.start()
            while not caplog.messages:
                time.sleep(0.01)
        said.append("first")
    thread.join()
    assert said == ["first", "other"]
    assert caplog.messages[0].startswith("Another process is at work in")


def test_a_folder_in_place_of_the_lock(tmp_path):
    (tmp_path / "lock").mkdir()
    with pytest.raises(InputError, match="cannot be opened"), locked_again(tmp_path / "lock"):
        pass
