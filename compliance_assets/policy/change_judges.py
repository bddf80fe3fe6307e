"""One value before, one after: does the promise become weaker, stronger, or something that the text alone cannot tell?

Pure. Numbers are compared as the exact decimals in which a definition holds them; a value that is gone is `GONE`, never a zero.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, Literal

Direction = Literal["weakens", "strengthens", "neutral", "structural"]
"""What a change does to what is promised. `structural`: it cannot be read from the text which way; people must look."""


class Gone(Enum):
    """The value of something that is not there."""

    GONE = "gone"


GONE = Gone.GONE
Judge = Callable[[Any, Any], Direction]


def structural(before: Any, after: Any) -> Direction:
    """No order is known between the two."""
    return "structural"


def wording(before: Any, after: Any) -> Direction:
    """Text for readers: it decides nothing."""
    return "neutral"


def weakens(before: Any, after: Any) -> Direction:
    """Whatever it becomes, a change of this loosens unless somebody shows that it does not."""
    return "weakens"


def _number(value: Any) -> Decimal | None:
    if isinstance(value, bool) or value is GONE or value is None:
        return None
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return None


def smaller_weakens(before: Any, after: Any) -> Direction:
    """Less of it is a weaker promise; without it there is none."""
    low, high = _number(before), _number(after)
    if low is None or high is None:
        return "strengthens" if before is GONE else "weakens" if after is GONE else "structural"
    return "weakens" if high < low else "strengthens" if high > low else "neutral"


def larger_weakens(before: Any, after: Any) -> Direction:
    """More of it is a weaker promise; without it there is none."""
    low, high = _number(before), _number(after)
    if low is None or high is None:
        return "strengthens" if before is GONE else "weakens" if after is GONE else "structural"
    return "weakens" if high > low else "strengthens" if high < low else "neutral"


def wider_weakens(before: Any, after: Any) -> Direction:
    """An accepted interval [low, high], open where None. Wider on either side is weaker, even if narrower on the other."""
    old, new = _interval(before), _interval(after)
    if old is None or new is None:
        return "structural"
    (low, high), (new_low, new_high) = old, new
    if new_low < low or new_high > high:
        return "weakens"
    return "strengthens" if (new_low, new_high) != (low, high) else "neutral"


def _interval(value: Any) -> tuple[Decimal, Decimal] | None:
    ends = [None, None] if value is GONE else value
    if not isinstance(ends, list) or len(ends) != 2:
        return None
    found = [Decimal(open_end) if end is None else _number(end) for end, open_end in zip(ends, ("-Infinity", "Infinity"), strict=True)]
    return None if None in found else (found[0], found[1])  # type: ignore[return-value]  # None is excluded just before


def fewer_weakens(before: Any, after: Any) -> Direction:
    """A collection: what is lost weakens, what only comes in addition strengthens; the same in another order is neutral."""
    old = [] if before is GONE else list(map(str, before))
    new = [] if after is GONE else list(map(str, after))
    if set(old) - set(new):
        return "weakens"
    return "strengthens" if set(new) - set(old) else "neutral"


def more_weakens(before: Any, after: Any) -> Direction:
    """A collection of what is let through: anything more weakens."""
    back: dict[Direction, Direction] = {"weakens": "strengthens", "strengthens": "weakens", "neutral": "neutral"}
    if set(map(str, [] if after is GONE else after)) - set(map(str, [] if before is GONE else before)):
        return "weakens"
    return back[fewer_weakens(before, after)]


def lost_weakens(before: Any, after: Any) -> Direction:
    """Whether something is there at all: taking it away weakens, adding it strengthens."""
    return "weakens" if after is GONE else "strengthens" if before is GONE else "structural"


def gained_weakens(before: Any, after: Any) -> Direction:
    """An exemption or an opening: adding it weakens, taking it away strengthens."""
    return "weakens" if before is GONE else "strengthens" if after is GONE else "structural"


def becomes_weak(*weak: Any) -> Judge:
    """Becoming one of `weak` weakens, ceasing to be strengthens, anything else is structural."""
    def judge(before: Any, after: Any) -> Direction:
        was, is_now = before in weak, after in weak
        return "structural" if was == is_now else "weakens" if is_now else "strengthens"

    return judge


def reordered(before: Any, after: Any) -> Direction:
    """The order of what stands on both sides; what came or went is said elsewhere."""
    if before is GONE or after is GONE:
        return "neutral"
    old, new = [item for item in before if item in after], [item for item in after if item in before]
    return "structural" if old != new else "neutral"


def longer_weakens(before: Any, after: Any) -> Direction:
    """Periods like 48h and 7d."""
    return larger_weakens(_hours(before), _hours(after))


def _hours(period: Any) -> Any:
    return int(period[:-1]) * {"h": 1, "d": 24}[period[-1]] if isinstance(period, str) and period[-1:] in ("h", "d") else period
