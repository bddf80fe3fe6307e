"""What is expensive is done for one person at a time; whoever comes meanwhile is asked to wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from compliance_assets.errors import Busy

_TURN = threading.Lock()


@contextmanager
def turn(what: str) -> Iterator[None]:
    """Hold the turn; raises `Busy` while somebody else holds it."""
    if not _TURN.acquire(blocking=False):
        raise Busy(f"Somebody else started {what}.", rule="one at a time", value=what, remedy="Wait until it ends, then ask again.")
    try:
        yield
    finally:
        _TURN.release()
