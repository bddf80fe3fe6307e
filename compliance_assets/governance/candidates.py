"""Every candidate that a system ever had, the refused ones too: how far each came, on what evidence, and why it went no further.

A candidate is a line of stage records from the raw file to wherever it ended. It is read from the records alone: what a later
stage consumed belongs to the same line; what nothing consumed is where a line ends. Answers from earlier records (reuse) are no
candidates of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Literal, overload

from compliance_assets.errors import ComplianceError, Misused
from compliance_assets.evidence.archive import Record, stage_lists
from compliance_assets.evidence.deployments import DesiredState
from compliance_assets.governance.charts.findings import plainly
from compliance_assets.governance.review import open_review
from compliance_assets.pipeline import River
from compliance_assets.policy.gates import Verdict
from compliance_assets.policy.river import RIVER, rule_named
from compliance_assets.trust.canonical import Digest, parse_canonical, parse_rfc3339

_MAKES = {rule.name: rule.makes for rule in RIVER}
_STAGE = {rule.makes: rule.name for rule in RIVER}
State = Literal["production", "rollout", "approved", "waiting", "refused", "rejected", "error", "undone", "past", "expired", "stopped"]


@dataclass(frozen=True)
class Candidate:
    """One line of records. `chain`: by asset in river order; its last is `tip`."""

    system: str
    chain: Mapping[str, Record]
    tip: Record

    @property
    def index(self) -> int:
        """The ledger index of its last record: what names this candidate in an address."""
        return self.tip.index

    @property
    def model(self) -> str:
        """The digest of its model file; empty before there is one."""
        files = self.chain["candidate_model"].body.files if "candidate_model" in self.chain else {}
        return str(files["model/model.skops"]) if "model/model.skops" in files else ""

    @property
    def failures(self) -> tuple[str, ...]:
        """One sentence for each finding that stopped it."""
        return tuple(plainly(finding, report.gate) for report in self.tip.body.reports if report.verdict is not Verdict.NOT_RUN
                     for finding in report.failures)


@dataclass(frozen=True)
class Fate:
    """What became of a candidate: one word for the eye, one sentence for the reader, the ledger index that says so."""

    state: State
    sentence: str
    said_by: int


Named = tuple[str, str, str]
"""Definition, asset and digest: what a later stage consumes."""


class Candidates(Sequence[Candidate]):
    """Every candidate of a system, newest first; each line is followed to its raw file only when it is looked at.

    It is never changed: newer records make another one (`and_then`).
    """

    def __init__(self, system: str) -> None:
        self.system = system
        self.by_index: dict[int, Record] = {}
        self._made: dict[str, tuple[Record, ...]] = {}
        self._consumed: set[Named] = set()
        self._ends: dict[Named, Record] = {}
        """What nothing has consumed so far."""
        self._errors: dict[Named, Record] = {}

    def and_then(self, new: Iterable[Record]) -> Candidates:
        """These, and what newer records make of them."""
        grown = Candidates(self.system)
        grown.by_index, grown._made = dict(self.by_index), dict(self._made)
        grown._consumed, grown._ends, grown._errors = set(self._consumed), dict(self._ends), dict(self._errors)
        for record in new:
            grown._add(record)
        return grown

    def _add(self, record: Record) -> None:
        body = record.body
        self.by_index[record.index] = record
        self._made[body.output] = (*self._made.get(body.output, ()), record)
        for asset, digest in body.inputs.items():
            self._consumed.add((body.definition, asset, digest))
            self._ends.pop((body.definition, asset, digest), None)
        name = (body.definition, _MAKES[body.stage], body.output)
        if body.outcome == "error":
            self._errors[name] = record
        elif name not in self._consumed:  # what failed is consumed only under an exception
            self._ends[name] = record

    @cached_property
    def tips(self) -> list[Record]:
        """The last record of each line, newest first."""
        return sorted((*self._ends.values(), *self._errors.values()), key=lambda record: record.index, reverse=True)

    def __len__(self) -> int:
        return len(self.tips)

    @overload
    def __getitem__(self, place: int) -> Candidate: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[Candidate, ...]: ...

    def __getitem__(self, place: int | slice) -> Candidate | tuple[Candidate, ...]:
        if isinstance(place, slice):
            return tuple(self.ending_at(tip) for tip in self.tips[place])
        return self.ending_at(self.tips[place])

    def ending_at(self, tip: Record) -> Candidate:
        """The line that ends at, or goes through, this record."""
        return Candidate(self.system, _chain(tip, self._made), tip)


def candidates(river: River, system: str) -> Candidates:
    """Every candidate of a system, newest first."""
    def further(before: Candidates | None, new: Sequence[Record]) -> Candidates:
        return (before or Candidates(system)).and_then(new)

    return river.archive.grown(("candidates", system), stage_lists(system), further)


def candidate_at(river: River, system: str, index: int) -> Candidate:
    """The line that ends at, or goes through, the stage record at this ledger index. Misused where there is none."""
    known = candidates(river, system)
    if index not in known.by_index:
        raise Misused(f"Ledger entry {index} is no stage record of {system}.", rule="candidate", value=str(index),
                      remedy="Take one from the list of its releases and runs.")
    return known.ending_at(known.by_index[index])


def latest(river: River, system: str) -> Candidate | None:
    """The candidate that the pipeline is at: the newest line under the definition at hand, or None."""
    definition = river.definition(system).digest
    known = candidates(river, system)
    return next((known.ending_at(tip) for tip in known.tips if tip.body.definition == definition), None)


def _chain(tip: Record, by_output: Mapping[str, Sequence[Record]]) -> dict[str, Record]:
    """What a record rests on, as it stood when that record was made."""
    found = {rule_named(tip.body.stage).makes: tip}
    todo = [tip]
    while todo:
        record = todo.pop()
        for asset, digest in record.body.inputs.items():
            made = [other for other in by_output.get(digest, ()) if other.index < record.index
                    and other.body.stage == _STAGE[asset] and other.body.outcome != "error"]
            same = [other for other in made if other.body.definition == record.body.definition]
            if asset not in found and made:
                found[asset] = (same or made)[-1]
                todo.append(found[asset])
    return {rule.makes: found[rule.makes] for rule in RIVER if rule.makes in found}


def answering(river: River, system: str) -> DesiredState:
    """What the deployment records say should answer in the environment that the system is deployed to."""
    name = river.definition(system).system.deployment.environment
    return river.archive.state(name)


def fate(river: River, one: Candidate, state: DesiredState | None = None) -> Fate:
    """What became of a candidate, as the records say it now."""
    state = state or answering(river, one.system)
    body, index = one.tip.body, one.index
    rule = rule_named(body.stage)
    rollout = _rolled_out(one, state)
    if rollout is not None:
        return rollout
    if body.outcome == "error":
        return Fate("error", f"{rule.title} could not be computed: {error_said(river, one.tip)}", index)
    if body.outcome == "failed":
        word: State = "rejected" if body.stage == "pre_deployment_approval" else "refused"
        return Fate(word, f"{'Rejected by people' if word == 'rejected' else f'Refused at {rule.title.lower()}'}: "
                          f"{'; '.join(one.failures[:3]) or 'no finding was recorded'}", index)
    head = river.archive.once(("head", one.system, rule.makes), lambda: river.head(one.system, rule.makes))
    if body.definition != river.definition(one.system).digest or head != body.output:
        return Fate("past", f"Ended after {rule.title.lower()}: a later candidate or definition stands in its place.", index)
    if body.stage == "integration_testing":
        return _before_people(river, one)
    if body.stage == "pre_deployment_approval":
        return _before_deployment(river, one)
    return Fate("stopped", f"Passed {rule.title.lower()}; the next stage was not run.", index)


def approvers(river: River, approval: str) -> str:
    """Who approved, in which role, as the approval says it: `owner-1 (technical_owner), …`."""
    said = river.value("approval", Digest.parse(approval)).model_dump()["approvers"]
    return ", ".join(f"{person} ({role})" for person, role in said) or "nobody"


def error_said(river: River, record: Record) -> str:
    """The words of a stage that could not compute; unknown where they cannot be read."""
    try:
        return str(parse_canonical(river.archive.artefacts.get_bytes(Digest.parse(record.body.output)))["message"])
    except ComplianceError as error:
        return f"unknown ({error})"


def _rolled_out(one: Candidate, state: DesiredState) -> Fate | None:
    if "approval" not in one.chain:
        return None
    approval = one.chain["approval"].body.output
    if approval not in state.rollouts:
        return None
    rollout = state.rollouts[approval]
    last = rollout.last
    where = f"in {state.environment}"
    if state.production is not None and state.production.approval == approval:
        since = next((h for h in reversed(rollout.happened) if h.action in ("full_rollout", "rolled_back")), last)
        return Fate("production", f"Answers {where} since {since.at}.", since.index)
    if state.candidate is not None and state.candidate.approval == approval:
        return Fate("rollout", f"Rollout {where} under way: {last.action.replace('_', ' ')} at {last.at}.", last.index)
    if last.action in ("aborted", "rolled_back", "withdrawn", "decommissioned"):
        return Fate("undone", f"Its rollout {where} was undone ({last.action.replace('_', ' ')}): "
                              f"{last.reason or 'no reason was recorded'}", last.index)
    if any(h.action == "full_rollout" for h in rollout.happened):
        return Fate("past", f"Was in production {where} until another release took its place.", last.index)
    return Fate("rollout", f"Its rollout {where} has not ended: {last.action.replace('_', ' ')} at {last.at}.", last.index)


def _before_people(river: River, one: Candidate) -> Fate:
    try:
        _, _, found = open_review(river, one.system)
    except ComplianceError as error:
        return Fate("stopped", str(error), one.index)
    if found.rejected:
        who = ", ".join(record.body.person for record in found.rejected)
        return Fate("rejected", f"Rejected by {who}; the approval stage has not recorded it yet.", found.rejected[-1].index)
    if found:
        return Fate("approved", "Enough people approved; the approval stage has not admitted it yet.", found.counted[-1].index)
    return Fate("waiting", f"Waits for people: {found.waiting_for()}.", one.index)


def _before_deployment(river: River, one: Candidate) -> Fate:
    """An approval on record counts for nothing once it has lapsed or somebody took it back: what people say now decides."""
    now = _before_people(river, one)
    approval = one.tip.body.output
    expires = str(river.value("approval", Digest.parse(approval)).model_dump()["expires"])
    if now.state == "approved":
        return Fate("approved", f"Approved by {approvers(river, approval)}; not deployed yet. Valid until {expires}.", one.index)
    if now.state != "waiting":
        return now
    why = f"the approval expired at {expires} before anything was deployed" if parse_rfc3339(expires) <= river.now() else \
        "somebody took it back or put it off, or who may approve has changed"
    return Fate("expired", f"Approved once, but {why}. {now.sentence}", one.index)


def _refused(river: River, system: str) -> list[Record]:
    known = candidates(river, system)
    return river.archive.derived(("refused", system), lambda: [tip for tip in known.tips if tip.body.outcome != "passed"])


def refused_since(river: River, systems: Iterable[str], since: datetime, most: int) -> tuple[tuple[tuple[Candidate, Fate], ...], int]:
    """What the pipeline refused or could not compute since a moment, newest first: at most so many, and how many there are."""
    found = [(tip, system) for system in systems for tip in _refused(river, system) if tip.moment >= since]
    shown = sorted(found, key=lambda pair: pair[0].index, reverse=True)[:most]
    states = {system: answering(river, system) for system in {system for _, system in shown}}
    return tuple((one, fate(river, one, states[system])) for tip, system in shown
                 for one in (candidates(river, system).ending_at(tip),)), len(found)
