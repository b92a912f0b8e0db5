"""One thread for NumPy's matrix products while the reference back end runs.

OpenBLAS, which NumPy's wheels bring along, cuts a product differently for every number of threads, and so rounds
differently; its waiting threads also slow a busy machine down. With one thread the bits depend on the values alone.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from threading import RLock

import numpy as np

_SUFFIXES = ("64_", "")  # the library is built with 64-bit integers on 64-bit machines


def _controls() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """How to read and set the number of threads of the OpenBLAS that NumPy loaded; None where there is another one."""
    folder = Path(np.__file__).parent
    for path in (*folder.parent.glob("numpy.libs/*openblas*"), *folder.glob(".dylibs/*openblas*")):
        library = ctypes.CDLL(str(path))
        for suffix in _SUFFIXES:
            get = getattr(library, f"scipy_openblas_get_num_threads{suffix}", None)
            put = getattr(library, f"scipy_openblas_set_num_threads{suffix}", None)
            if get is not None and put is not None:
                put.argtypes, put.restype = [ctypes.c_int], None
                return get, put
    return None


_CONTROLS = _controls()


class OneThread:
    """A block in which matrix products use one thread; the number from before holds again when the last one ends.

    A class, not a generator: one that is cut by an interrupt is closed by the garbage collector, at any time.
    """

    def __init__(self) -> None:
        """No block runs."""
        self._lock = RLock()
        self._running = 0
        self._before = 1

    def __enter__(self) -> None:
        """Take the threads away, unless another block did."""
        if _CONTROLS is None:
            return
        get, put = _CONTROLS
        with self._lock:
            if not self._running:
                self._before = get()
                put(1)
            self._running += 1

    def __exit__(self, *error: object) -> None:
        """Give them back, if this is the last block."""
        if _CONTROLS is None:
            return
        with self._lock:
            self._running -= 1
            if not self._running:
                _CONTROLS[1](self._before)


ONE_THREAD = OneThread()
