"""What people recorded of work done by hand: signed entries in order, each naming the one before; what does not follow counts for nothing.

An entry is a canonical JSON text in the artefact store, and a person's signature over its digest in the ledger (a decision of purpose
`runbook`). Together the entries of one log are the manual execution log that Module 5 of the documentation keeps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from compliance_assets.errors import ComplianceError, Misused
from compliance_assets.evidence.archive import Record
from compliance_assets.governance.runbook.plan import SECOND_PERSON
from compliance_assets.pipeline import River
from compliance_assets.policy.river import RIVER
from compliance_assets.trust.canonical import Digest, parse_canonical

SUBJECT = "runbook-entry"


@dataclass(frozen=True)
class Entry:
    """One signed entry. `said`: its content, as it was signed."""

    record: Record
    said: Mapping[str, Any]

    @property
    def kind(self) -> str:
        return str(self.said["entry"])

    @property
    def stage(self) -> str:
        return str(self.said["stage"])

    @property
    def person(self) -> str:
        return str(self.record.body.person)


@dataclass
class Log:
    """One execution of the runbook, from its start to its end or to now."""

    entries: list[Entry] = field(default_factory=list)

    @property
    def id(self) -> str:
        return str(self.entries[0].said["log"])

    @property
    def start(self) -> Entry:
        return self.entries[0]

    @property
    def finished(self) -> bool:
        return self.entries[-1].kind == "finish"

    @property
    def last(self) -> Digest:
        return self.entries[-1].record.digest

    def step(self, stage: str) -> Entry | None:
        """The latest step of a stage."""
        return next((entry for entry in reversed(self.entries) if entry.kind == "step" and entry.stage == stage), None)

    def verification(self, step: Entry) -> Entry | None:
        """The second person's verification of exactly this step."""
        return next((entry for entry in self.entries if entry.kind == "verification" and entry.said["of"] == step.record.digest), None)

    def why_not(self, stage: str) -> str:
        """Why a stage does not count as verified; empty if it does."""
        step = self.step(stage)
        if step is None:
            return "it was not done"
        if step.said["result"] != "verified":
            return f"its last attempt is {step.said['result']} (ledger #{step.record.index})"
        return "another person has not verified it yet" if stage in SECOND_PERSON and self.verification(step) is None else ""

    @property
    def next_stage(self) -> str:
        """The first stage that does not count as verified; empty at the end."""
        return next((rule.name for rule in RIVER if self.why_not(rule.name)), "")

    @property
    def deviations(self) -> tuple[str, ...]:
        """Everything that was not as planned, in order."""
        return tuple(str(text) for entry in self.entries for text in entry.said["deviations"])


def logs(river: River, system: str) -> tuple[tuple[Log, ...], tuple[tuple[Record, str], ...]]:
    """Every log of a system, oldest first, and the signed entries that do not count, with the reason."""
    found: dict[str, Log] = {}
    refused: list[tuple[Record, str]] = []
    for record in river.archive.decided("runbook", system):
        try:
            said = _read(river, record)
            log = found[said["log"]] if said["log"] in found else Log()
            previous = str(log.last) if log.entries else ""
            if said["previous"] != previous or (said["entry"] == "start") == bool(log.entries) or (log.entries and log.finished):
                raise Misused("it does not follow the entry before it", rule="runbook", value=str(record.index), remedy="Leave it out.")
            _hold_against_ledger(river, log, said, str(record.body.person))
        except ComplianceError as error:
            refused.append((record, error.message))
            continue
        log.entries.append(Entry(record, said))
        found[str(said["log"])] = log
    return tuple(found.values()), tuple(refused)


def open_log(river: River, system: str) -> Log | None:
    """The log that was started last and has not ended, or None."""
    return next((log for log in reversed(logs(river, system)[0]) if not log.finished), None)


def others_could(river: River) -> bool:
    """Whether more than one person here can sign."""
    return sum(person.allowed_signers is not None for person in river.organisation.people) > 1


def _hold_against_ledger(river: River, log: Log, said: Mapping[str, Any], person: str) -> None:
    """Refuse an entry that claims more than the ledger says, or in which somebody verifies their own step though others could."""
    why = ""
    if said["entry"] == "step":
        made = [record for record in river.archive.made_by(str(said["system"]), str(said["stage"])) if record.index == said["record"]]
        if not made or str(made[0].digest) != said["statement"] or made[0].body.output != said["output"]:
            why = "it names another record than the ledger holds"
        elif said["result"] == "verified" and made[0].body.outcome != "passed":
            why = "it calls verified what did not pass"
    elif said["entry"] == "verification":
        done = next((entry for entry in log.entries if entry.kind == "step" and entry.record.digest == said["of"]), None)
        if done is None or (done.person == person and others_could(river)):
            why = "it verifies no step, or the signer's own"
    if why:
        raise Misused(why, rule="runbook", value=person, remedy="Leave it out.")


_KEYS = {"form", "entry", "system", "log", "previous", "runbook", "definition", "recorded", "deviations"}
_MORE = {"start": {"earlier_in_quarter"}, "finish": {"complete", "steps"},
         "verification": {"stage", "of", "operator"},
         "step": {"stage", "attempt", "command", "exit_code", "begun", "ended", "delay_seconds", "recorded_after_the_fact", "inputs",
                  "output", "files", "record", "statement", "expected", "checks", "result"}}


def _read(river: River, record: Record) -> Mapping[str, Any]:
    subject = record.statement.subject(SUBJECT)
    if record.body.decision != "approve" or subject is None or str(subject) != record.body.shown:
        raise Misused("it signs another text than it is about", rule="runbook", value=str(record.index), remedy="Leave it out.")
    said = parse_canonical(river.archive.artefacts.get_bytes(subject))
    kind = said["entry"] if isinstance(said, Mapping) and "entry" in said else ""
    if kind not in _MORE or set(said) != _KEYS | _MORE[kind] or said["system"] != record.body.scope.system:
        raise Misused("its text is no entry of a runbook's log", rule="runbook", value=str(record.index), remedy="Leave it out.")
    return dict(said)


def lines(log: Log) -> Iterator[tuple[Entry, str]]:
    """Each entry as a sentence."""
    for entry in log.entries:
        said = entry.said
        if entry.kind == "start":
            yield entry, f"started by {entry.person}, under runbook {said['runbook'][:12]}"
        elif entry.kind == "step":
            late = f", recorded {said['delay_seconds']} s after the fact" if said["recorded_after_the_fact"] else ""
            yield entry, (f"{said['stage']}, attempt {said['attempt']}, by {entry.person}: {said['begun']} to {said['ended']}, "
                          f"{said['result']}, {len(said['files'])} files hashed{late}")
        elif entry.kind == "verification":
            yield entry, f"{said['stage']} verified by {entry.person}; done by {said['operator']}"
        else:
            yield entry, f"ended by {entry.person}: {'complete' if said['complete'] else 'not complete'}"
