"""Parts that are done at the same time: their order stays, the first failure in that order is the one that is raised."""

from __future__ import annotations

import time

import pytest

from compliance_assets.stages.side_by_side import each_by_name, side_by_side


def test_results_come_in_the_order_of_the_parts_whoever_is_done_first() -> None:
    def slow_first(part: int) -> int:
        time.sleep(0.02 if part == 0 else 0)
        return part * 10

    assert side_by_side(slow_first, range(5)) == [0, 10, 20, 30, 40]
    assert list(each_by_name({"b": lambda: slow_first(0), "a": lambda: 1})) == ["b", "a"]
    assert side_by_side(slow_first, ()) == []


def test_the_first_failure_by_order_is_raised() -> None:
    def fails(part: int) -> int:
        time.sleep(0.02 if part == 1 else 0)
        if part:
            raise ValueError(f"part {part}")
        return part

    with pytest.raises(ValueError, match="part 1"):
        side_by_side(fails, range(4))
