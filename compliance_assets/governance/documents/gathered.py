"""Everything that is on record of one candidate, read once, every value with the source it was read from.

A value comes from a signed record, from a file that a record names by digest, or from the declaration as it was put into the ledger.
A declaration that only lies on disk is no evidence, and counts as missing here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from compliance_assets.errors import ArtefactCorrupt, Misused
from compliance_assets.evidence.archive import Record
from compliance_assets.governance.candidates import Candidate, Fate, answering, candidate_at, candidates, fate
from compliance_assets.governance.charts.reading import group_words, verdict_word
from compliance_assets.governance.documents.in_words import plain
from compliance_assets.governance.documents.paper import Gap, Line, Source
from compliance_assets.governance.release_page import FILED, filed
from compliance_assets.pipeline import River
from compliance_assets.trust.canonical import Digest, parse_canonical

Path = tuple[str, ...]
Wording = Callable[[Any], str]


def chosen(river: River, system: str, release: str = "") -> Candidate:
    """The candidate that a document is about: the one asked for, else the one in production, else the newest.

    `release`: the beginning of a release id or of a model's digest (six digits or more), or the ledger index of one of its records.
    """
    river.definition(system)
    found = candidates(river, system)
    if release.isascii() and release.isdigit() and len(release) < 6:
        return candidate_at(river, system, int(release))
    if release:
        matching = [one for one in found if len(release) >= 6
                    and any(name.startswith(release) for name in (release_of(river, one), one.model) if name)]
        if len(matching) != 1:
            raise Misused(f"{release!r} names {len(matching) or 'no'} releases of {system}.", rule="release", value=release,
                          remedy=f"Take one from `compliance dossier {system} aisdp --json`, or the index of a stage record.")
        return matching[0]
    state = answering(river, system)
    if state.production is not None and state.production.system == system:
        approval = state.production.approval
        for tip in found.tips:  # only a line that ends at an approval, or after it, has one
            if approval in (tip.body.output, *tip.body.inputs.values()):
                return found.ending_at(tip)
    if not found:
        raise Misused(f"{system} has no candidate yet.", rule="document", value=system,
                      remedy=f"Run it first: compliance run {system} --to evaluation_report")
    return found[0]


def release_of(river: River, one: Candidate) -> str:
    """The release id of a candidate; empty before it was registered."""
    if "staged_model" not in one.chain or one.chain["staged_model"].body.outcome == "error":
        return ""
    return str(river.value("staged_model", Digest.parse(one.chain["staged_model"].body.output)).model_dump()["release"])


class Gathered:
    """What is on record of one candidate."""

    def __init__(self, river: River, one: Candidate) -> None:
        self.river, self.one = river, one
        self._stated: dict[int, Mapping[str, Any]] = {}
        self._made: dict[str, Mapping[str, Any]] = {}

    # ------------------------------------------------------------------------------------------------------- sources

    @cached_property
    def proposal(self) -> Record | None:
        """The record that put this candidate's definition into the ledger."""
        found = self.river.archive.proposals(Digest.parse(str(self.one.tip.body.definition)))
        return found[-1] if found else None

    @cached_property
    def parts(self) -> Mapping[str, Any] | None:
        """The proposed definition, whole; None where the ledger or the store does not hold it."""
        if self.proposal is None:
            return None
        try:
            return dict(parse_canonical(self.river.archive.artefacts.get_bytes(Digest.parse(self.proposal.body.parts))))
        except ArtefactCorrupt:
            return None

    @property
    def declared(self) -> Mapping[str, Any] | None:
        return None if self.parts is None else dict(self.parts["declaration"])

    @cached_property
    def filed(self) -> Mapping[str, Mapping[str, Any]]:
        """The JSON that stages filed beside their outputs, by asset."""
        return {asset: report for asset in FILED if asset in self.one.chain and self.one.chain[asset].body.outcome != "error"
                and (report := filed(self.river, self.one.chain[asset])) is not None}

    @cached_property
    def fate(self) -> Fate:
        return fate(self.river, self.one)

    def record(self, asset: str) -> Record | None:
        return self.one.chain[asset] if asset in self.one.chain else None

    def from_record(self, record: Record, artefact: str = "") -> Source:
        """`artefact`: the digest of the bytes read, where a line was not read from the statement itself."""
        return Source(record.index, str(record.digest), artefact or str(record.digest))

    def from_declaration(self) -> Source:
        assert self.proposal is not None
        return self.from_record(self.proposal, str(self.proposal.body.parts))

    def from_file(self, asset: str) -> Source:
        record = self.one.chain[asset]
        return self.from_record(record, str(record.body.files[FILED[asset]]))

    def at(self, index: int) -> Source:
        """The source of something that another view read from entry `index`."""
        return self.from_record(self.river.archive.authentic(self.river.archive.ledger.entry(index)))

    # --------------------------------------------------------------------------------------------------------- lines

    def said(self, what: str, *path: str, by: Wording = plain) -> Line | None:
        """A value of the declaration, put into words `by` that."""
        value = _inside(self.declared, path)
        return None if value is None else Line(what, by(value), self.from_declaration())

    def reported(self, asset: str, what: str, *path: str, by: Wording = plain) -> Line | None:
        """A value of a stage's own report."""
        value = _inside(self.filed[asset], path) if asset in self.filed else None
        return None if value is None else Line(what, by(value), self.from_file(asset))

    def output(self, asset: str, what: str, *path: str, by: Wording = plain) -> Line | None:
        """A value of what a stage made."""
        record = self.record(asset)
        if record is None or record.body.outcome == "error":
            return None
        digest = Digest.parse(record.body.output)
        value = _inside(self.made(asset, digest), path)
        return None if value is None else Line(what, by(value), self.from_record(record, digest))

    def stated(self, asset: str, what: str, *path: str, by: Wording = plain) -> Line | None:
        """A value of a stage's signed statement."""
        record = self.record(asset)
        value = _inside(self._statement(record), path) if record is not None else None
        return None if value is None or record is None else Line(what, by(value), self.from_record(record))

    def made(self, asset: str, digest: Digest) -> Mapping[str, Any]:
        """What a stage made, as plain values."""
        if digest not in self._made:
            self._made[digest] = self.river.value(asset, digest).model_dump()
        return self._made[digest]

    def _statement(self, record: Record) -> Mapping[str, Any]:
        if record.index not in self._stated:
            self._stated[record.index] = record.body.model_dump()
        return self._stated[record.index]

    def verdict(self, asset: str, gate: str) -> Line | None:
        """What a gate asks, in the definition's words, and what it said."""
        record = self.record(asset)
        report = next((one for one in record.body.reports if one.gate == gate), None) if record is not None else None
        if report is None or record is None:
            return None
        name, asks = group_words(gate), self._asks(record.body.stage, gate)
        return Line(f"{asks} (gate: {name})" if asks else f"Gate: {name}", verdict_word(report.verdict), self.from_record(record))

    def _asks(self, stage: str, gate: str) -> str:
        found = [one["asks"] for rule in (self.parts["river"] if self.parts is not None else ()) if rule["name"] == stage
                 for one in rule["gates"] if one["name"] == gate]
        return str(found[0]) if found else ""


def lines_or_gaps(point: str, wanted: Mapping[str, Line | None]) -> tuple[tuple[Line, ...], tuple[Gap, ...]]:
    """What is there as lines; what is not as gaps that only a run can fill."""
    return (tuple(line for line in wanted.values() if line is not None),
            tuple(Gap(what, "", point) for what, line in wanted.items() if line is None))


def _inside(value: Any, path: Path) -> Any:
    for part in path:
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value
