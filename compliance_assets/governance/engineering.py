"""For engineers: how long stages take, what they use, where the time goes, and which change stands behind a stage that failed.

Everything is read from stage records. A failure is compared with the last execution of the same stage that passed before it: what differs
(raw source, an input, a value of the definition, code, environment) is named, and a changed input is followed upstream to what changed
there. That something differs is a fact; that it is the cause is for people to judge. Nothing differing is said too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from compliance_assets.errors import ComplianceError
from compliance_assets.evidence.archive import Record, kind_list, made_list
from compliance_assets.governance.candidates import error_said
from compliance_assets.governance.charts.findings import plainly
from compliance_assets.governance.definition_history import differences
from compliance_assets.governance.documents import in_words
from compliance_assets.governance.stage_facts import stage_facts
from compliance_assets.pipeline import River
from compliance_assets.policy.river import RIVER, StageRule, rule_named
from compliance_assets.trust.canonical import Digest, parse_canonical

MOST_CHANGES = 12
RESOURCES = (("training_seconds", "training, by the clock", in_words.in_seconds), ("cpu_seconds", "processor time", in_words.in_seconds),
             ("peak_rss_bytes", "largest memory", in_words.in_bytes), ("threads", "threads", in_words.plain),
             ("gpu", "GPUs", in_words.plain), ("model_bytes", "model", in_words.in_bytes))


@dataclass(frozen=True)
class Timing:
    """How one stage of one system has run. Seconds of wall time; `computed`: executions that made their bytes anew."""

    rule: StageRule
    passed: int
    failed: int
    errors: int
    reused: int
    computed: int
    median: float | None
    slowest: float | None
    last: float | None
    share: float | None
    """Of the time that the last executions of all stages took together: the largest is the bottleneck."""
    resources: tuple[tuple[str, str], ...]
    latest: int | None
    """Ledger index of the last execution."""


@dataclass(frozen=True)
class Difference:
    """One thing that differs between a failed execution and the last one that passed: where, before, now, and the entry that says so."""

    kind: str
    where: str
    before: str
    now: str
    entry: int


@dataclass(frozen=True)
class Failure:
    """One execution that did not pass. `compared`: the index of the execution that passed before it, or None."""

    record: Record
    said: tuple[str, ...]
    compared: int | None
    differences: tuple[Difference, ...]

    @property
    def sentence(self) -> str:
        """What stands behind it, as far as records tell."""
        if self.compared is None:
            return "No execution of this stage passed before it: there is nothing to compare with."
        if not self.differences:
            return f"Nothing differs from #{self.compared}, which passed: same source, inputs, definition, code and environment."
        kinds = ", ".join(dict.fromkeys(one.kind for one in self.differences))
        return f"Since #{self.compared}, which passed, changed: {kinds}."


def timings(river: River, system: str) -> tuple[Timing, ...]:
    """Each of the eight stages, in order."""
    reused = river.archive.grown(("reused", system), [kind_list("reuse", system)], _reused)
    found = [(rule, _runs_of(river, system, rule)) for rule in RIVER]
    whole = sum(runs.last for _, runs in found if runs.newest is not None)
    return tuple(_timing(rule, runs, reused[rule.name], whole) for rule, runs in found)


@dataclass(frozen=True)
class _Runs:
    """Everything that was ever executed of one stage, counted."""

    outcomes: Counter[str]
    computed: tuple[float, ...] = ()
    """Seconds of each execution that made its bytes anew, shortest first."""
    newest: Record | None = None
    last: float = 0.0
    """Seconds of the newest."""


def _runs_of(river: River, system: str, rule: StageRule) -> _Runs:
    def further(before: _Runs | None, new: Sequence[Record]) -> _Runs:
        known = before or _Runs(Counter())
        if not new:
            return known
        took = [river.archive.fact(record, stage_facts).seconds for record in new]
        anew = (one for record, one in zip(new, took, strict=True) if record.body.computed)
        return _Runs(known.outcomes + Counter(record.body.outcome for record in new), tuple(sorted((*known.computed, *anew))),
                     new[-1], took[-1])

    return river.archive.grown(("runs", system, rule.name), [made_list(system, rule.name)], further)


def _reused(before: Counter[str] | None, new: Sequence[Record]) -> Counter[str]:
    return (before or Counter()) + Counter(record.body.stage for record in new)


def seconds(record: Record) -> float:
    """How long an execution took, as its record says."""
    return stage_facts(record).seconds


def _timing(rule: StageRule, runs: _Runs, reused: int, whole: float) -> Timing:
    took, newest = runs.computed, runs.newest
    last, index = (runs.last, newest.index) if newest is not None else (None, None)
    seen: dict[str, Any] = newest.body.observations if newest is not None else {}
    return Timing(rule, runs.outcomes["passed"], runs.outcomes["failed"], runs.outcomes["error"], reused, len(took),
                  median(took) if took else None, took[-1] if took else None, last, last / whole if last is not None and whole else None,
                  tuple((words, said(seen[name])) for name, words, said in RESOURCES if name in seen), index)


def failures(river: River, system: str, most: int = 10) -> tuple[Failure, ...]:
    """The newest executions that did not pass, newest first, each with what differs from the last that did."""
    return tuple(_failure(river, record) for record in river.archive.stopped(system)[:-most - 1:-1])


def _failure(river: River, record: Record) -> Failure:
    said = (error_said(river, record),) if record.body.outcome == "error" else tuple(
        plainly(finding, report.gate) for report in record.body.reports if report.verdict.value != "NOT_RUN" for finding in report.failures)
    before = next((one for one in reversed(river.archive.made_by(record.body.system, record.body.stage))
                   if one.index < record.index and one.body.outcome == "passed"), None)
    if before is None:
        return Failure(record, said, None, ())
    found = {(one.kind, one.where, one.before, one.now): one for one in _differences(river, before, record)}
    return Failure(record, said, before.index, tuple(found.values()))


def _differences(river: River, before: Record, now: Record) -> Iterator[Difference]:
    """What differs, the raw source first; a changed input is followed to the records that made both of them."""
    for asset in now.body.inputs:
        was, this = before.body.inputs[asset] if asset in before.body.inputs else "", now.body.inputs[asset]
        if was != this:
            makers = _maker(river, was), _maker(river, this)
            deeper = list(_differences(river, *makers)) if makers[0] is not None and makers[1] is not None else []  # type: ignore[arg-type]
            yield from deeper or [Difference("an input", asset.replace("_", " "), was[:12] or "none", this[:12], now.index)]
    if now.body.stage == "data_preparation":
        sources = _source(river, before), _source(river, now)
        if sources[0] != sources[1]:
            yield Difference("the raw source", "source", sources[0][:12], sources[1][:12], now.index)
    if before.body.definition != now.body.definition:
        yield from _definition(river, before, now)
    if before.body.environment != now.body.environment:
        yield from _environment(river, before, now)
    if before.body.seed != now.body.seed:
        yield Difference("the seed", "training.seed", str(before.body.seed), str(now.body.seed), now.index)
    for role, digest in now.body.references.items():
        was = before.body.references[role] if role in before.body.references else "none"
        if was != digest:
            yield Difference("the model it is compared with", role, was[:12], digest[:12], now.index)


def _maker(river: River, digest: str) -> Record | None:
    found = river.archive.executions_of(Digest.parse(digest)) if digest else ()
    return found[-1] if found else None


def _source(river: River, record: Record) -> str:
    """The raw source of a dataset's record; unknown where it could not be read."""
    if record.body.outcome == "error":
        return "unknown"
    try:
        return str(river.value(rule_named(record.body.stage).makes, Digest.parse(record.body.output)).model_dump()["source"])
    except ComplianceError:
        return "unknown"


def _definition(river: River, before: Record, now: Record) -> Iterator[Difference]:
    parts = [_parts(river, record.body.definition) for record in (before, now)]
    if parts[0] is None or parts[1] is None:
        yield Difference("the definition", "not on record in whole: it was never proposed", before.body.definition[:12],
                         now.body.definition[:12], now.index)
        return
    changes = list(differences("", parts[0], parts[1]))
    for one in changes[:MOST_CHANGES]:
        kind = "code" if one.where.startswith("code.") else "the definition"
        yield Difference(kind, one.where, one.before or "not there", one.after or "not there", now.index)
    if len(changes) > MOST_CHANGES:
        yield Difference("the definition", f"{len(changes) - MOST_CHANGES} further values", before.body.definition[:12],
                         now.body.definition[:12], now.index)


def _parts(river: River, definition: str) -> Any:
    found = river.archive.proposals(Digest.parse(definition))
    try:
        return parse_canonical(river.archive.artefacts.get_bytes(Digest.parse(found[-1].body.parts))) if found else None
    except ComplianceError:
        return None


def _environment(river: River, before: Record, now: Record) -> Iterator[Difference]:
    try:
        was, this = (parse_canonical(river.archive.artefacts.get_bytes(Digest.parse(one.body.environment))) for one in (before, now))
    except ComplianceError:
        yield Difference("the environment", "not readable", before.body.environment[:12], now.body.environment[:12], now.index)
        return
    libraries = [dict(str(one).split("==", 1) for one in said["libraries"]) for said in (was, this)]
    pairs = [(name, *(one[name] if name in one else "not there" for one in libraries)) for name in sorted({*libraries[0], *libraries[1]})]
    pairs += [(name, str(was[name]), str(this[name])) for name in ("python", "platform")]
    different = [pair for pair in pairs if pair[1] != pair[2]]
    for name, old, new in different[:MOST_CHANGES]:
        yield Difference("the environment", name, old, new, now.index)


def as_json(river: River, system: str) -> dict[str, Any]:
    """Both views, for machines."""
    return {"system": system, "failures": [_failure_json(one) for one in failures(river, system)], "stages": [
        {"stage": one.rule.name, "passed": one.passed, "failed": one.failed, "errors": one.errors, "reused": one.reused,
         "computed": one.computed, "median_seconds": one.median, "slowest_seconds": one.slowest, "last_seconds": one.last,
         "share_of_last_executions": one.share, "resources": dict(one.resources), "ledger_index": one.latest}
        for one in timings(river, system)]}


def _failure_json(one: Failure) -> dict[str, Any]:
    body = one.record.body
    return {"stage": body.stage, "outcome": body.outcome, "ledger_index": one.record.index, "evidence_id": one.record.digest,
            "at": body.finished, "said": list(one.said), "compared_with": one.compared, "behind_it": one.sentence,
            "differences": [{"kind": two.kind, "where": two.where, "before": two.before, "now": two.now} for two in one.differences]}
