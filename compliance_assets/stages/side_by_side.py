"""Independent parts of a stage's work, done at the same time; results come back in the order of the parts.

numpy and polars let go of the interpreter while they sort, hash and count, so threads are enough. What is computed does not depend
on how many there are: each part is computed alone, by the same code.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

_Part = TypeVar("_Part")
_Made = TypeVar("_Made")
_AT_ONCE = 4


def side_by_side(make: Callable[[_Part], _Made], parts: Iterable[_Part]) -> list[_Made]:
    """What `make` gives for each part, in order. The first failure, in that order, is raised."""
    with ThreadPoolExecutor(max_workers=min(_AT_ONCE, os.cpu_count() or 1)) as several:
        return list(several.map(make, parts))


def each_by_name(made: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """What each function gives, by the name and in the order that they are written in."""
    return dict(zip(made, side_by_side(lambda make: make(), made.values()), strict=True))
