"""Shows what the wall holds: runs tests with `require` emptied, so that every test of a way around it must fail.

    python -m compliance_assets_tests.emptied_wall compliance_assets_tests/orchestration/test_bypasses.py -m "not slow"

`pipeline.require` and `published`, `Dossier.require` and `admit`, and the server's authority then admit everything that they
are asked about, and check nothing. Whatever test still passes does so because another layer refuses: each is listed with that
layer, and one that passes for no known reason makes this end with 1. Nothing here is loaded by the ordinary suite.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import pytest

OTHER_LAYERS: dict[str, str] = {
    "test_running_barrier_and_target_again": "the barrier's own gate fails again, and Dagster runs nothing after a failed step",
    "test_running_again_from_the_failure": "the barrier's own gate fails again, and Dagster runs nothing after a failed step",
    "test_checks_cannot_be_left_out": "Dagster refuses to select a plain asset without its checks",
    "test_no_run_config_reaches_a_gate_a_threshold_or_an_io_manager": "Dagster refuses a config for what has none",
    "test_a_forged_materialisation_that_names_no_digest": "a pointer that is no digest is not read (trust.canonical.Digest)",
    "test_a_forged_observation_is_not_even_read": "the IO manager looks at materialisations only",
    "test_an_artefact_swapped_on_disk": "the artefact store hashes what it reads",
    "test_evidence_of_another_system_is_refused[as it is]": "every value carries its system (pipeline)",
    "test_an_edited_ledger_lets_nothing_through": "the ledger's signed tree",
    "test_good_data_passes": "a control: it must pass",
    "test_a_mended_bound": "a control: it must pass",
    "test_a_failed_verdict_is_not_retried": "a verdict is answered from its record",
    "test_nothing_but_digests": "a control: it must pass",
}
"""Tests that do not fail without the wall, by the beginning of their names, and what refuses in its place."""


def empty_the_wall(patch: pytest.MonkeyPatch) -> None:
    """Make everything that admits or refuses evidence admit it, wherever it was imported to."""
    from compliance_assets import pipeline
    from compliance_assets.evidence import authority, dossier
    from compliance_assets.evidence.archive import Archive, Record
    from compliance_assets.evidence.dossier import Chain, Dossier
    from compliance_assets.governance import review
    from compliance_assets.orchestration import io
    from compliance_assets.policy.river import StageRule, rule_named
    from compliance_assets.trust.canonical import Digest

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

    def serving(archive: Archive, environment: str, model: Digest, purpose: str) -> Record:
        return archive.authentic(archive.ledger.entry(0))

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

    @pytest.fixture(autouse=True)
    def _wall_is_down(self, request: pytest.FixtureRequest) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            empty_the_wall(patch)
            yield

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.failed:
            (self.passed if report.passed else self.failed).append(report.nodeid.partition("::")[2])

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        terminalreporter.section("with the wall emptied")
        for name in self.failed:
            terminalreporter.write_line(f"fails, as it must   {name}")
        for name in self.passed:
            terminalreporter.write_line(f"still passes        {name}: {layer_of(name) or 'NOBODY KNOWS WHY'}")
        terminalreporter.write_line(f"{len(self.failed)} fail, {len(self.passed)} still pass")

    @property
    def unexplained(self) -> list[str]:
        return [name for name in self.passed if not layer_of(name)]


def layer_of(name: str) -> str:
    """What refuses in the wall's place, or "" if nobody has said."""
    return next((layer for beginning, layer in OTHER_LAYERS.items() if name.startswith(beginning)), "")


if __name__ == "__main__":
    emptied = Emptied()
    pytest.main([*sys.argv[1:], "--tb=no", "-q", "-p", "no:cacheprovider"], plugins=[emptied])
    sys.exit(1 if emptied.unexplained or not emptied.failed else 0)
