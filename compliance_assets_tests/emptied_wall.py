"""Shows what the wall holds: runs tests with `require` emptied, so that every test of a way around it must fail.

    python -m compliance_assets_tests.emptied_wall compliance_assets_tests/orchestration/test_bypasses.py

The one rule is that a stage consumes only what has complete, authentic, passing evidence. Emptied, all that enforces it admits
whatever it is asked about: `pipeline.require` and `published`, `Dossier.require` and `admit`, the signatures on records, their place
in the ledger's tree and look-up table, the bytes of artefacts, the system that a value names, the server's authority; in this process and in each Python that it starts.
Ends with 1 if a test that is no control still passes. Nothing here is loaded by the ordinary suite.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest

CONTROLS = ("test_good_data_passes_across_separate_runs", "test_a_mended_bound_lets_the_same_world_pass", "test_nothing_but_digests_is_handed_on")
"""Tests that must pass with the wall and without it: they go through the gates, not around them."""


def empty_the_wall(patch: pytest.MonkeyPatch) -> None:
    """Make everything that admits or refuses evidence admit it, wherever it was imported to."""
    from compliance_assets import pipeline
    from compliance_assets.evidence import authority, dossier
    from compliance_assets.evidence.archive import Archive, Record
    from compliance_assets.evidence.artefacts import ArtefactStore
    from compliance_assets.evidence.dossier import Chain, Dossier
    from compliance_assets.evidence.ledger import Entry
    from compliance_assets.evidence.ledger_reading import LedgerReader
    from compliance_assets.evidence.lookup import Sealing
    from compliance_assets.evidence.records import Statement
    from compliance_assets.governance import review
    from compliance_assets.orchestration import io
    from compliance_assets.policy.river import StageRule, rule_named
    from compliance_assets.trust import merkle
    from compliance_assets.trust.canonical import Digest
    from compliance_assets.trust.dsse import Envelope

    def walked(executions_of: Any, asset: str, digest: Digest, found: dict[str, Record]) -> dict[str, Record]:
        """The records there happen to be, passed or failed, of whatever system and definition."""
        records = executions_of(digest)
        if records:
            found.setdefault(asset, records[-1])
            for name, value in records[-1].body.inputs.items():
                walked(executions_of, name, Digest.parse(value), found)
        return found

    def admit(self: Dossier, asset: str, digest: Digest, *, needed_by: str) -> Chain:
        return Chain(walked(self.executions_of, asset, digest, {}))

    def require(self: Dossier, rule: StageRule, inputs: Mapping[str, Digest]) -> Chain:
        found: dict[str, Record] = {}
        for name, digest in inputs.items():
            walked(self.executions_of, name, digest, found)
        return Chain(found)

    def serving(archive: Archive, *_: object) -> Record:
        return archive.authentic(archive.ledger.entry(0))

    def authentic(self: Archive, entry: Entry) -> Record:
        envelope = Envelope.from_bytes(entry.body)
        return Record(entry.index, Statement.read(envelope.payload), envelope)

    patch.setattr(merkle, "verify_inclusion", lambda *_: None)
    patch.setattr(merkle, "inclusion_proof", lambda *_: ())
    patch.setattr(Sealing, "leads_to", lambda *_: True)
    patch.setattr(LedgerReader, "_looked_up", lambda self, rows, signed, bucket: rows.bucket(bucket))
    patch.setattr(LedgerReader, "_listed", lambda self, rows, indices, head, node: list(rows.listed(sorted(indices))))
    patch.setattr(Archive, "authentic", authentic)
    patch.setattr(ArtefactStore, "_is_intact", lambda *_: True)
    patch.setattr(ArtefactStore, "get_bytes", lambda self, digest: self._path(digest).read_bytes())
    patch.setattr(pipeline, "_checked", lambda value, system, asset: value)
    patch.setattr(pipeline, "refuse_overtaken", lambda *_: None)
    patch.setattr(Dossier, "admit", admit)
    patch.setattr(Dossier, "require", require)
    patch.setattr(dossier, "require_head", lambda *_: None)
    patch.setattr(pipeline, "require_head", lambda *_: None)
    patch.setattr(authority, "serving_authority", serving)
    for module in (pipeline, review):
        patch.setattr(module, "require", lambda river, system, rule, inputs: river.dossier(system).require(rule_named(rule.name), inputs))
    for module in (pipeline, io):
        patch.setattr(module, "published", lambda *_: None)


class Emptied:
    """A pytest plugin: the wall is down for every test, and what still passed is told at the end."""

    def __init__(self) -> None:
        self.passed: list[str] = []
        self.failed: list[str] = []
        self.not_tried: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None, object, object]:
        """The worlds are prepared with the wall up; it is down while somebody tries."""
        with pytest.MonkeyPatch.context() as patch:
            empty_the_wall(patch)
            return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.partition("::")[2]
        if report.when == "call":
            (self.passed if report.passed else self.failed).append(name)
        elif report.failed:
            self.not_tried.append(name)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        terminalreporter.section("with the wall emptied")
        for name in self.failed:
            terminalreporter.write_line(f"fails, as it must    {name}")
        for name in self.passed:
            terminalreporter.write_line(f"{'STILL PASSES' if name in self.still_passing else 'passes, as a control'} {name}")
        for name in self.not_tried:
            terminalreporter.write_line(f"NOT TRIED             {name}: its world could not be prepared or put away")
        terminalreporter.write_line(f"{len(self.failed)} fail, {len(self.still_passing)} still pass, "
                                    f"{len(self.passed) - len(self.still_passing)} controls pass")

    @property
    def still_passing(self) -> list[str]:
        return [name for name in self.passed if not name.startswith(CONTROLS)]


if __name__ == "__main__":
    emptied = Emptied()
    with tempfile.TemporaryDirectory() as folder:
        # Every Python that a test starts (webserver, daemon, command lines) loads this before anything else.
        Path(folder, "sitecustomize.py").write_text(
            "import pytest\nfrom compliance_assets_tests.emptied_wall import empty_the_wall\nempty_the_wall(pytest.MonkeyPatch())\n")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
        pytest.main([*sys.argv[1:], "--tb=no", "-q", "-p", "no:cacheprovider"], plugins=[emptied])
    sys.exit(1 if emptied.still_passing or emptied.not_tried or not emptied.failed else 0)
