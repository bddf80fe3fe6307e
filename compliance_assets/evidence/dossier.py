"""One release's records in order: this module admits none out of turn.

Pure: records come in through a reader, an answer or a refusal comes out. This is the wall; Dagster's checks are the window in
it. A stage consumes only artefacts whose evidence is complete, authentic, passing, judged under the definition at hand, and
rests on a chain of which the same is true down to the raw file. Every consumer asks here, at the moment it consumes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from compliance_assets.errors import OutOfTurn, Superseded
from compliance_assets.evidence.archive import Record
from compliance_assets.policy.gates import GateReport
from compliance_assets.policy.river import StageRule, rule_named
from compliance_assets.trust.canonical import Digest

ExecutionsOf = Callable[[Digest], Sequence[Record]]
"""All authentic stage records whose output has this digest, oldest first."""


@dataclass(frozen=True)
class Excuse:
    """Which failed gates of a record people have excepted (gate → the exception), and why others are not. True: every failed one is."""

    by: Mapping[str, Record]
    because: tuple[str, ...] = ()
    whole: bool = False

    def __bool__(self) -> bool:
        return self.whole and bool(self.by)


ExcuseOf = Callable[[Record], Excuse]


def no_excuse(record: Record) -> Excuse:
    """Nothing is excepted."""
    return Excuse({})


@dataclass(frozen=True)
class Chain:
    """What an artefact rests on: for each asset of the river up to it, its digest and the record that passed it."""

    records: Mapping[str, Record]
    exceptions: tuple[Record, ...] = ()
    """The exceptions without which it would not have been admitted."""

    def digest(self, asset: str) -> Digest:
        return Digest.parse(self.records[asset].body.output)

    @property
    def launchers(self) -> tuple[str, ...]:
        """Everybody who launched a stage of this release."""
        return tuple(sorted({record.body.launcher for record in self.records.values()}))

    @property
    def authors(self) -> tuple[str, ...]:
        """Everybody who wrote what the definition of this release covers."""
        return tuple(sorted({author for record in self.records.values() for author in record.body.code.authors}))


@dataclass(frozen=True)
class Dossier:
    """Order, for one system under one definition."""

    system: str
    definition: Digest
    executions_of: ExecutionsOf
    excuse: ExcuseOf = no_excuse
    """What people have excepted, at the moment that counts for whoever asks."""

    def require(self, rule: StageRule, inputs: Mapping[str, Digest]) -> Chain:
        """Admit exactly the inputs that `rule` needs, each with everything that it rests on; or refuse.

        1. Every input that the river names is given, and nothing else.
        2. Each is admitted by `admit`, down to the raw file.
        3. All of them belong to one release: where two rest on the same asset, it is the same digest.
        """
        # (1)
        missing = [name for name in rule.needs if name not in inputs]
        surplus = [name for name in inputs if name not in rule.needs]
        if missing or surplus:
            said = f"needs {', '.join(missing)}, which does not exist yet" if missing else f"does not take {', '.join(surplus)}"
            before = rule_named(missing[0]).name if missing else rule.name
            raise OutOfTurn(f"{rule.name} {said}.", rule="order", value=", ".join(missing or surplus),
                            remedy=f"Run {before} first: `compliance run {self.system} --to {before}`.")
        found: dict[str, Record] = {}
        excepted: dict[int, Record] = {}
        for name in rule.needs:
            # (2)
            chain = self.admit(name, inputs[name], needed_by=rule.name)
            excepted |= {record.index: record for record in chain.exceptions}
            # (3)
            for asset, record in chain.records.items():
                other = found.setdefault(asset, record)
                if other.body.output != record.body.output:
                    raise OutOfTurn(
                        f"{rule.name} was given parts of two releases: one rests on {asset} {other.body.output[:12]}, the other on "
                        f"{record.body.output[:12]}.", rule="one release", value=record.body.output,
                        remedy="Materialise the stages between them again, so that all rest on the same artefact.")
        return Chain(found, tuple(excepted.values()))

    def admit(self, asset: str, digest: Digest, *, needed_by: str) -> Chain:
        """The passing records of `digest` and of everything it rests on.

        1. There is a record that this very stage of this very system made these bytes.
        2. It was judged under the definition at hand.
        3. No record of these bytes under this definition says that a gate failed: a FAIL is sticky. Unless people have excepted every
           finding that failed, and their exception stands.
        4. Its gates are exactly those that the river names, in their versions, and each may be passed.
        5. Its own inputs are those that the river names, and the same is true of each of them.
        """
        rule = rule_named(asset)
        records = self.executions_of(digest)
        # (1)
        own = [r for r in records if r.body.stage == rule.name and r.body.system == self.system]
        if not own:
            elsewhere = sorted({f"{r.body.system}/{r.body.stage}" for r in records})
            raise OutOfTurn(
                f"{needed_by} needs {asset} {digest.short}, of which no record of {self.system} says that {rule.name} made it"
                + (f" (it belongs to {', '.join(elsewhere)})." if elsewhere else "."), rule="evidence", value=digest,
                remedy=f"Materialise {asset} through the river: `compliance run {self.system} --to {rule.name}`.")
        # (2)
        judged = [r for r in own if r.body.definition == self.definition]
        if not judged:
            raise OutOfTurn(
                f"{needed_by} needs {asset} {digest.short}, which was judged under definition {own[-1].body.definition[:12]}, not under "
                f"{self.definition.short}, which is the one at hand.", rule="definition", value=own[-1].body.definition,
                remedy=f"Have it judged again (nothing is computed twice): `compliance run {self.system} --to {rule.name}`.")
        # (3)
        for record in judged:
            refuse_failed(record, needed_by, asset, self.excuse)
        record = judged[-1]
        # (4)
        complete(record, rule, needed_by, self.excuse)
        # (5)
        if tuple(sorted(record.body.inputs)) != tuple(sorted(rule.needs)):
            raise OutOfTurn(f"{asset} {digest.short} was made from {', '.join(record.body.inputs) or 'nothing'}, not from "
                            f"{', '.join(rule.needs)}.", rule="order", value=digest, remedy="Materialise it again.")
        found: dict[str, Record] = {}
        excepted = {each.index: each for each in self.excuse(record).by.values()} if record.body.outcome == "failed" else {}
        for name in rule.needs:
            chain = self.admit(name, Digest.parse(record.body.inputs[name]), needed_by=needed_by)
            excepted |= {each.index: each for each in chain.exceptions}
            for upstream, upstream_record in chain.records.items():
                other = found.setdefault(upstream, upstream_record)
                if other.body.output != upstream_record.body.output:
                    raise OutOfTurn(f"{asset} {digest.short} rests on two different {upstream}.", rule="one release", value=digest,
                                    remedy="Materialise it again.")
        found[asset] = record
        return Chain(found, tuple(excepted.values()))


def refuse_failed(record: Record, needed_by: str, asset: str, excuse: ExcuseOf = no_excuse) -> None:
    """Refuse an artefact of which a record says that a gate failed and nobody excepted it, naming gate, value and bound."""
    failed = [report for report in record.body.reports if not report]
    if record.body.outcome == "passed" and not failed:
        return
    excused = excuse(record) if record.body.outcome == "failed" else no_excuse(record)
    if excused:
        return
    said = f" No exception covers it: {'; '.join(excused.because)}." if excused.because else ""
    findings = "; ".join(finding.sentence() for report in failed if report.verdict.value != "NOT_RUN" for finding in report.failures)
    raise OutOfTurn(
        f"{needed_by} needs {asset} {record.body.output[:12]}, whose gate failed: {findings or 'no finding was recorded'}."
        f"{said}", rule=f"gate {failed[0].gate if failed else 'outcome'}", value=findings,
        remedy="Mend the data or retrain, or amend the declaration and have it approved.")


def complete(record: Record, rule: StageRule, needed_by: str, excuse: ExcuseOf = no_excuse) -> None:
    """Refuse a record whose gates are not exactly those of the river, or of which one may not be passed."""
    found = [(report.gate, report.version) for report in record.body.reports]
    wanted = [(gate.name, gate.version) for gate in rule.gates]
    if found != wanted:
        lacking = [name for name, version in wanted if (name, version) not in found]
        raise OutOfTurn(
            f"{needed_by} needs {rule.makes} {record.body.output[:12]}, but its record does not hold the gates that the definition "
            f"names (missing or of another version: {', '.join(lacking) or 'none'}; order or surplus differ otherwise).",
            rule="complete evidence", value=", ".join(f"{gate} v{version}" for gate, version in found),
            remedy=f"Run {rule.name} again, so that every gate is judged.")
    refuse_failed(record, needed_by, rule.makes, excuse)


def require_head(asset: str, digest: Digest, head: Digest | None, needed_by: str, system: str) -> None:
    """Refuse a version that passed once but is no longer the latest that passed."""
    if head is not None and head != digest:
        raise Superseded(
            f"{needed_by} was given {asset} {digest.short}, which passed, but {head.short} stands in its place since.",
            rule="latest version", value=digest,
            remedy=f"Materialise {asset} again to make it the latest: `compliance run {system} --to {rule_named(asset).name}`.")


def overtaken(record: Record, executions: Sequence[Record]) -> Record | None:
    """The latest execution of the same stage on the same inputs, under the same definition, if it failed after `record` passed.

    A report has other bytes each time, so its own digest cannot carry that failure; the question that was asked again does.
    """
    asked_again = [later for later in executions if later.body.inputs == record.body.inputs and later.body.outcome != "error"
                   and later.body.definition == record.body.definition]
    latest = asked_again[-1] if asked_again else record
    return latest if latest.index > record.index and latest.body.outcome == "failed" else None


def refuse_overtaken(record: Record, executions: Sequence[Record], needed_by: str, asset: str, excuse: ExcuseOf = no_excuse) -> None:
    """Refuse an artefact that passed, when its stage has been asked again since and a gate failed."""
    later = overtaken(record, executions)
    if later is None or excuse(later):
        return
    findings = "; ".join(finding.sentence() for report in later.body.reports if report.verdict.value != "NOT_RUN"
                         for finding in report.failures)
    raise OutOfTurn(
        f"{needed_by} needs {asset} {record.body.output[:12]}, which passed, but {record.body.stage} was asked again about the same "
        f"inputs since (ledger entry {later.index}), and a gate failed: {findings or 'no finding was recorded'}.",
        rule="latest verdict", value=findings,
        remedy=f"Mend what failed, then run it again: `compliance run {record.body.system} --from {record.body.stage} "
               f"--to {record.body.stage}`.")


def head_of(executions: Sequence[Record], rule: StageRule, definition: Digest, excuse: ExcuseOf = no_excuse) -> Digest | None:
    """The output of the latest execution of a stage that passed every gate under this definition, or whose failures are excepted."""
    for record in reversed(executions):
        if record.body.definition != definition or record.body.outcome == "error":
            continue
        reports: tuple[GateReport, ...] = record.body.reports
        passed = record.body.outcome == "passed" and all(reports)
        if (len(reports) == len(rule.gates) and (passed or (record.body.outcome == "failed" and bool(excuse(record))))
                and not _failed_elsewhere(record, executions, excuse)):
            return Digest.parse(record.body.output)
    return None


def _failed_elsewhere(record: Record, executions: Sequence[Record], excuse: ExcuseOf) -> bool:
    """Whether the same output failed under the same definition in any execution, and nobody excepted that."""
    return any(other.body.outcome == "failed" and other.body.output == record.body.output
               and other.body.definition == record.body.definition and not excuse(other) for other in executions)
