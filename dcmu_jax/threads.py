"""One thread for OpenMP and BLAS, where the number of threads must not change a result."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator

from threadpoolctl import LibController, ThreadpoolController


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Within, this thread's calls of NumPy, SciPy and scikit-learn compute in one thread each.

    Sums that are divided among threads are rounded in another order with another number of them,
    and OpenMP's add up their parts in the order in which they finish: the last bits change from
    call to call, and k-means carries them on until samples change clusters.

    Enter it in the thread that computes (it also decorates a function): OpenMP, MKL and an
    OpenBLAS made with OpenMP have a limit for each thread that calls them, and a new thread does
    not inherit it. Another BLAS has one limit for the process; it is put back when the last
    ``one_thread`` ends, so that several threads may be within at once. Other code that sets
    BLAS's threads meanwhile can undo it.

    Guarantee: what is computed within does not depend on ``OMP_NUM_THREADS`` and its like, on a
    limit set by ``threadpoolctl``, or on how many cores the process may use. Not covered: another
    processor, whose vector instructions add in another order, other versions of the libraries,
    Apple's Accelerate, which takes no limit, and JAX, whose threads are its own.
    """
    with _FINDING:  # threads that come first together share what is found
        own, shared = _pools()
    with own.limit(limits=1), shared:
        yield


class _Shared:
    """One limit of thread pools for the process: 1 while any thread is in the block."""

    def __init__(self, pools: list[LibController]):
        self._pools = pools
        self._lock = threading.Lock()
        self._within = 0
        self._before: list[int] = []

    def __enter__(self) -> None:
        with self._lock:
            if self._within == 0:
                self._before = [pool.info()["num_threads"] for pool in self._pools]
                self._set([1] * len(self._pools))
            self._within += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._within -= 1
            if self._within == 0:
                self._set(self._before)

    def _set(self, counts: list[int]) -> None:
        for pool, count in zip(self._pools, counts, strict=True):
            # threadpoolctl 3.8 ignores all threads but the first that set this limit, as long as
            # that one lives. The last to leave need not be the first that came.
            release = getattr(pool, "clear_controlling_thread", None)
            if release is not None:
                release(force=True)
            pool.set_num_threads(count)
            if release is not None:
                release()


_FINDING = threading.Lock()


@functools.cache
def _pools() -> tuple[ThreadpoolController, _Shared]:
    """The pools with a limit for each thread that calls them, and those with one in all."""
    # A second's work. It loads scikit-learn's OpenMP and SciPy's BLAS, to be found.
    import sklearn.cluster  # noqa: F401

    every = ThreadpoolController()
    own = every.select(user_api="openmp", internal_api="mkl", threading_layer="openmp")
    return own, _Shared([p for p in every.lib_controllers if p not in own.lib_controllers])
