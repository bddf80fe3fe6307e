"""The project as it stands on disk at this moment, opened for reading: pages must not show yesterday's declaration.

The archive stays open between requests (what it proved once it need not prove again); organisation.yaml and the declarations are read
again as soon as a file that they cover changed. Nothing here can append: a reader holds no key.
"""

from __future__ import annotations

import gc
import json
import logging
import threading
from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from pathlib import Path

from compliance_assets.errors import ComplianceError
from compliance_assets.evidence.remembered import Remembered
from compliance_assets.governance.dashboard.measured import measured
from compliance_assets.governance.engineering import timings
from compliance_assets.governance.questions.catalogue import QUESTIONS, ask
from compliance_assets.governance.stage_facts import stage_facts
from compliance_assets.pipeline import River, open_river
from compliance_assets.policy.browsers import DeclaredPages
from compliance_assets.policy.definition import JUDGING_FILES, JUDGING_ROOMS, PACKAGE_ROOT, find_systems
from compliance_assets.trust.canonical import Digest

log = logging.getLogger("compliance_assets.pages")
Stamp = tuple[tuple[str, int, int], ...]


class PageRiver(River):
    """A river that is only read: what follows from the records alone is found once for each size of the ledger."""

    def head(self, system: str, asset: str) -> Digest | None:
        """As `River.head`. An exception counts for a time; where none was ever asked for, the records and the definition decide alone."""
        key = ("head", system, asset, str(self.definition(system).digest))
        find = super().head
        if self.archive.of_kind("exception", system):
            return self.archive.once(key, lambda: find(system, asset))
        return self.archive.derived(key, lambda: find(system, asset))


class ProjectReading:
    """Opens one project, and reads it again when its people or its declarations have changed."""

    def __init__(self, root: Path, home: Path | None = None) -> None:
        self.root, self._home = root, home
        self._lock = threading.Lock()
        self._river: River | None = None
        self._remembered: tuple[object, Remembered] | None = None
        self._people: Stamp = ()
        self._declared: Stamp = ()

    def river(self) -> River:
        """The project now. Raises what opening it raises (an unreadable organisation.yaml, a damaged ledger)."""
        with self._lock:
            people, declared = _stamp((self.root / "organisation.yaml",)), _stamp(self._covered())
            if self._river is None or people != self._people:
                self._river = open_river(self.root, self._home, writer=False)
            elif declared != self._declared:
                self._river = replace(self._river, _definitions={})
            self._people, self._declared = people, declared
            return self._river

    def now(self) -> River:
        """The project as a page reads it: its archive brought up to date, with everything that this process verified before."""
        river = self.river()
        ledger = river.archive.ledger
        with self._lock:
            whose = (ledger.store.where, ledger.log_public)
            if self._remembered is None or self._remembered[0] != whose:
                self._remembered = (whose, Remembered((stage_facts,)))
            remembered = self._remembered[1]
        known = {one.name: getattr(river, one.name) for one in fields(river)}
        return PageRiver(**{**known, "archive": river.archive.for_one_reading(remembered)})

    def warm(self) -> None:
        """Verify everything, measure the dashboards and ask the questions, before anybody does. What refuses here refuses again then."""
        try:
            river = self.now()
            for system in river.systems:
                measured(river, system)
                timings(river, system)
                for question in QUESTIONS:
                    ask(river, system, question.number)
            gc.freeze()  # what was verified stays: looking through all of it for garbage took seconds, now and then
        except (ComplianceError, OSError) as error:
            log.warning("%s", json.dumps({"event": "not read at the start", "said": str(error)[:200]}))

    def declared_pages(self) -> DeclaredPages | None:
        """Where the trust policy in force says that these pages answer. None where it says nothing, or cannot be read now."""
        try:
            return self.river().archive.in_force().pages
        except ComplianceError as error:
            log.warning("%s", json.dumps({"event": "trust policy not read", "rule": error.rule}))
            return None

    def _covered(self) -> Iterator[Path]:
        """Every file that some definition covers, whether or not it can be read as one: the systems' own and the judging code."""
        for folder in find_systems(self.root):
            yield from (path for path in sorted(folder.rglob("*")) if "__pycache__" not in path.parts)
        for room in JUDGING_ROOMS:
            yield from sorted((PACKAGE_ROOT / room).rglob("*.py"))
        yield from (PACKAGE_ROOT / name for name in JUDGING_FILES)


def _stamp(paths: Iterable[Path]) -> Stamp:
    """Name, size and moment of change of each file; a file that is gone has none."""
    found = []
    for path in paths:
        try:
            state = path.stat()
        except FileNotFoundError:
            continue
        found.append((str(path), state.st_size, state.st_mtime_ns))
    return tuple(found)
