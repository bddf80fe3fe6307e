"""A translated pattern finds exactly the texts that Python's own search finds; what is not surely the same has no translation."""

from __future__ import annotations

import re

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from compliance_assets.sources.python_regex import translated

ATOMS = st.sampled_from(["a", "b", "[a-c]", "[^a]", ".", r"\d", r"\w", r"\s", r"[\d.]", "ü", r"\.", "(?:ab|b)", "(a|)", " ", r"\n", "-"])
PIECES = st.tuples(ATOMS, st.sampled_from(["", "", "*", "+?", "?", "{2}", "{1,3}"])).map("".join)
PATTERNS = st.tuples(st.sampled_from(["", "^", r"\A"]), st.lists(PIECES, max_size=4).map("".join), st.sampled_from(["", "$", r"\Z", "|b$"])).map("".join)


@given(PATTERNS, st.text("ab.1 -ü\n_٣", max_size=6))
@example("^a$", "a\n")
@example("a$", "a\nb")
@example(r"^\d+$", "٣")
@example(r"^\s$", "\x1c")
def test_a_translation_finds_what_python_finds(pattern: str, text: str) -> None:
    said = translated(pattern)
    if said is None or (said.ascii_only and not text.isascii()):
        return
    assert pl.Series([text]).str.contains(said.pattern)[0] == bool(re.search(pattern, text)), (pattern, said.pattern)


@pytest.mark.parametrize("pattern", [r"(?i)a", r"(?m)^a$", r"a(?=b)", r"(?<!a)b", r"\bA", r"(a)\1", r"a$b", r"(?:a$)b", r"[\D]", r"\S", r"x{600}", r"(?s).", "["])
def test_what_the_engines_may_understand_differently_is_left_to_python(pattern: str) -> None:
    assert translated(pattern) is None


def test_classes_are_translated_for_ascii_text_only() -> None:
    said = translated(r"^id-\d{4}$")
    assert said is not None
    assert said.ascii_only
    plain = translated(r"^id-[0-9]{4}$")
    assert plain is not None
    assert not plain.ascii_only
