"""Takes one check out of a function: the `if` that refuses with certain words, and nothing else.

So that it can be shown of an attack which check holds it off: without that one, it succeeds. What is left of the function is its own text.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable
from typing import Any


class _Taker(ast.NodeTransformer):
    def __init__(self, words: tuple[str, ...]) -> None:
        self.taken = dict.fromkeys(words, 0)

    def visit_If(self, node: ast.If) -> Any:
        self.generic_visit(node)
        found = [words for words in self.taken if isinstance(node.body[-1], ast.Return | ast.Raise | ast.Expr) and words in _said(node.body[-1])]
        for words in found:
            self.taken[words] += 1
        return node.orelse or ast.Pass() if found else node


def _said(node: ast.AST) -> str:
    """The literal words of a refusal, in order."""
    return "".join(str(part.value) for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str))


@functools.cache
def without(function: Callable[..., Any], *words: str) -> Callable[..., Any]:
    """The same function without the one check that refuses with these words; of several words, without each of these checks."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    taker = _Taker(words)
    tree = ast.fix_missing_locations(taker.visit(tree))
    for said, times in taker.taken.items():
        if times != 1:
            raise LookupError(f"{function.__qualname__} refuses {times} times with {said!r}, not once")
    made: dict[str, Any] = {}
    exec(compile(tree, inspect.getfile(function), "exec"), function.__globals__, made)
    return made[function.__name__]  # type: ignore[no-any-return]
