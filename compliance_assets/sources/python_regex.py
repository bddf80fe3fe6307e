"""A Python regular expression, said again for Polars' engine, where both are sure to mean the same.

Great Expectations searches with Python's `re`; Polars searches with Rust's `regex`. They agree on most of what contracts use
and differ at the edges: `$` before a last newline, what `\\w` takes in, look-around, flags. So the pattern is parsed by
Python's own parser and written anew from what it found, and anything whose meaning is not certainly the same has no
translation. Classes (`\\d`, `\\w`, `\\s`) are translated for ASCII text only; `Translation.ascii_only` says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from re import _constants as sre  # type: ignore[attr-defined]  # the parser's own names, undocumented but stable since 2.0
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

_CLASSES = {
    sre.CATEGORY_DIGIT: "0-9",
    sre.CATEGORY_WORD: "0-9A-Za-z_",
    sre.CATEGORY_SPACE: r"\x09-\x0D\x1C-\x20",
}
_LONGEST_REPEAT = 500
"""Rust unrolls counted repeats; longer ones are left to Python rather than risked."""


@dataclass(frozen=True)
class Translation:
    """The pattern for Polars' `str.contains`, and whether it holds for ASCII text only."""

    pattern: str
    ascii_only: bool


class _Untranslatable(Exception):
    """This pattern says something that the two engines may understand differently."""


def translated(pattern: str) -> Translation | None:
    """`pattern` for Polars, true for exactly the texts in which Python's `re.search` finds it; None where that is not sure."""
    try:
        parsed = parser.parse(pattern)
        if parsed.state.flags != re.UNICODE:
            return None
        writer = _Writer()
        return Translation(writer.alternatives(list(parsed), last=True), writer.ascii_only)
    except (re.error, _Untranslatable, RecursionError, OverflowError):
        return None


class _Writer:
    """Writes what the parser found; remembers whether a class that only ASCII text settles was met."""

    def __init__(self) -> None:
        self.ascii_only = False

    def alternatives(self, items: Sequence[Any], *, last: bool) -> str:
        """A sequence; `last`: nothing of the pattern comes after it, which is where `$` can be said."""
        return "".join(self._one(item, last=last and place == len(items) - 1, first=place == 0) for place, item in enumerate(items))

    def _one(self, item: Any, *, last: bool, first: bool) -> str:
        op, value = item
        if op is sre.LITERAL:
            return _character(value)
        if op is sre.NOT_LITERAL:
            return f"[^{_character(value)}]"
        if op is sre.ANY:
            return r"[^\x0A]"
        if op is sre.IN:
            return self._set(value)
        if op is sre.AT:
            if value in (sre.AT_BEGINNING, sre.AT_BEGINNING_STRING):
                return r"\A"
            if value is sre.AT_END_STRING:
                return r"\z"
            if value is sre.AT_END and last:
                return r"\x0A?\z"  # Python's `$` also stands before a newline that ends the text
        if op is sre.BRANCH:
            return f"(?:{'|'.join(self.alternatives(list(branch), last=last) for branch in value[1])})"
        if op is sre.SUBPATTERN:
            _, added, removed, body = value
            if not added and not removed:
                return f"(?:{self.alternatives(list(body), last=last)})"
        if op in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            low, high, body = value
            if low <= _LONGEST_REPEAT and (high is sre.MAXREPEAT or high <= _LONGEST_REPEAT):
                return f"(?:{self.alternatives(list(body), last=False)}){{{low},{'' if high is sre.MAXREPEAT else high}}}"
        raise _Untranslatable

    def _set(self, items: Sequence[Any]) -> str:
        parts = []
        negated = bool(items) and items[0][0] is sre.NEGATE
        for op, value in items[1:] if negated else items:
            if op is sre.LITERAL:
                parts.append(_character(value))
            elif op is sre.RANGE:
                parts.append(f"{_character(value[0])}-{_character(value[1])}")
            elif op is sre.CATEGORY and value in _CLASSES:
                self.ascii_only = True
                parts.append(_CLASSES[value])
            else:
                raise _Untranslatable
        return f"[{'^' if negated else ''}{''.join(parts)}]"


def _character(code: int) -> str:
    if 0xD800 <= code <= 0xDFFF:
        raise _Untranslatable
    return f"\\x{{{code:X}}}"
