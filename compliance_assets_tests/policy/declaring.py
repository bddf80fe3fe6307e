"""Break one line of the healthy small lender's declaration, and see what is said about it, and where."""

from __future__ import annotations

import re
from pathlib import Path

from compliance_assets.errors import DeclarationError
from compliance_assets.policy.reading import read_declared
from compliance_assets.policy.system import System
from compliance_assets_tests.small_lender import SYSTEM


def problems_in(path: Path, text: str | bytes, model: type = System) -> tuple[str, ...]:
    """What is wrong with `text` as a file, `path` cut off: `12: key: rule. remedy`."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    try:
        read_declared(path, model)
    except DeclarationError as error:
        return tuple(problem.removeprefix(f"{path}:") for problem in error.problems)
    return ()


def broken(tmp_path: Path, old: str, new: str) -> tuple[str, ...]:
    """The problems after `old` (which stands there once) became `new`."""
    assert SYSTEM.count(old) == 1, old
    return problems_in(tmp_path / "system.yaml", SYSTEM.replace(old, new))


def line_of(text: str) -> int:
    """The line of the healthy declaration on which `text` stands (its only place)."""
    assert SYSTEM.count(text) == 1, text
    return SYSTEM[: SYSTEM.index(text)].count("\n") + 1


def says(problem: str, line: int, key: str, *words: str) -> bool:
    """Whether a problem stands at this line and key, and says these words."""
    return problem.startswith(f"{line}: {key}: ") and all(re.search(re.escape(word), problem) for word in words)
