"""Large libraries are imported when they are first needed, and without looking for garbage among their objects.

An import makes hundreds of thousands of objects that live as long as the process. Python's collector would look through them dozens
of times while they are made (a second of a cold run), and three times more when the process ends (a second and a half). So it
rests during the import, and at the end it is told that nothing is left to find. In between it works as ever: tables that only a
cycle still holds must not outlive their stage.
"""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_rests() -> Iterator[None]:
    """Around work that makes many small objects and keeps none: what it drops goes at once, and nothing else is looked through for it."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def heavy_import(name: str) -> Iterator[None]:
    """Around the first import of the module `name`; around a later one it does nothing."""
    if name in sys.modules or not gc.isenabled():
        yield
        return
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
    with collector_rests():
        yield


def settled() -> None:
    """For a server that has loaded all it needs: what is there stays to the end, so no answer waits while it is looked through."""
    gc.collect()
    gc.freeze()
