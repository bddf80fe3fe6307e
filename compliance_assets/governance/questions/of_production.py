"""E1, E19, E26, E27, E31, E32: what answered when, whether it is what was approved, and what happened while it did."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from functools import partial

from compliance_assets.errors import ComplianceError
from compliance_assets.evidence.alerts import Alert, alerts_at
from compliance_assets.evidence.archive import Record
from compliance_assets.governance.questions.answer import Each, Fact, Gap, Part, fact
from compliance_assets.governance.questions.seen import Seen, plain

NEVER = "no deployment of this system is on record"


def in_production(seen: Seen) -> Iterator[Part]:
    """E1."""
    slot = seen.state.production
    if slot is None or slot.system != seen.system:
        nothing = seen.none("in production", f"nothing of {seen.system} answered in {seen.environment} then")
        if nothing is not None:
            yield nothing
        else:
            yield Gap(NEVER)
        return
    rollout = seen.state.rollouts[slot.approval]
    since = next(one for one in reversed(rollout.happened) if one.action in ("full_rollout", "rolled_back"))
    record = next(one for one in seen.steps if one.index == since.index)
    yield fact("model", f"answered in {seen.environment} since {since.at} ({since.action.replace('_', ' ')})", record, slot.model)
    yield fact("release", slot.release, record)
    yield fact("composite version", slot.composite_version, record)
    yield fact("approval", "on whose word", record, slot.approval)
    if seen.state.candidate is not None:
        candidate = next(one for one in seen.steps if one.index == seen.state.rollouts[seen.state.candidate.approval].last.index)
        yield fact("beside it", f"a candidate under way: {candidate.body.action.replace('_', ' ')}", candidate, seen.state.candidate.model)
    tip = list(seen.chain.values())[-1] if seen.chain else None
    if tip is not None:
        yield fact("residency", f"data and evidence are declared to be kept in: {tip.body.residency}", tip)
    yield Gap("the member states in which it answers: no record names them")


def same_bytes(seen: Seen) -> Iterator[Part]:
    """E19."""
    found: list[tuple[str, str]] = []
    for asset, read in (("candidate_model", "model"), ("staged_model", "model"), ("integration_report", "model"), ("approval", "model")):
        if asset in seen.chain:
            record = seen.chain[asset]
            digest = str(seen.value(record)[read])
            found.append((asset, digest))
            yield fact(f"model in {asset.replace('_', ' ')}", digest, record, digest)
    slot = seen.state.production
    if slot is None or slot.system != seen.system or not seen.chain:
        yield Gap("nothing is in production, so there is nothing to compare with")
        return
    record = next(one for one in reversed(seen.steps)
                  if one.body.approval == slot.approval and one.body.action in ("full_rollout", "rolled_back"))
    found.append(("deployment", slot.model))
    yield fact("model deployed", slot.model, record, slot.model)
    different = sorted({digest for _, digest in found})
    yield fact("compared", "the same sha256 everywhere" if len(different) == 1 else f"DIFFERENT: {', '.join(different)}", record,
               slot.model)
    if "integration_report" in seen.chain:
        tested = seen.chain["integration_report"]
        for report in tested.body.reports:
            if report.gate == "identity":
                found_there = "; ".join(one.sentence() for one in report.findings)
                yield fact("at load time", f"gate identity {report.verdict.value}: {found_there}", tested)


def inference(seen: Seen) -> Iterator[Part]:
    """E26: rebuilt from stored bytes, and held against the deployment that let its model answer."""
    from compliance_assets.governance.explaining import explain
    from compliance_assets.serving.annotations import log_of, read_annotations

    if not seen.about:
        yield Gap("which inference is meant: give its inference_id with --about")
        return
    found = explain(seen.river, seen.about)
    logged, record = found.decision, found.deployed
    yield fact("answered", f"{logged.decision}, score {logged.score}, at {logged.time} by server {logged.server} ({logged.role})", record,
               logged.model)
    yield fact("release and composite version", f"{logged.release}, {record.body.composite_version}", record)
    yield fact("decision rule", f"favourable from a score of {found.threshold}", record, record.body.definition)
    yield fact("features and input", f"digests {logged.features} and {logged.input}", record)
    yield fact("rebuilt", "; ".join(f"{one.what} {'the same' if one.same else 'DIFFERS'}" for one in found.comparisons), record)
    for one in found.contributions:
        yield fact(f"moved by {one.feature}", f"{one.moves} from its usual value", record)
    if found.why_no_contributions:
        yield Gap(f"what moved it: {found.why_no_contributions}")
    notes = [one for one in read_annotations(log_of(seen.river.home.serving, seen.about)) if one.inference == seen.about]
    for note in notes:
        yield fact(note.kind, f"{note.said} by {note.by} at {note.time}", record)
    if not any(note.kind == "override" for note in notes):
        yield fact("overridden", "no override of it is logged", record)


def incidents(seen: Seen) -> Iterator[Part]:
    """E27."""
    found = seen.undone
    yield Each(found, partial(_incident, seen))
    if not found:
        nothing = seen.none("incidents", "no rollout was aborted, rolled back or withdrawn")
        if nothing is not None:
            yield nothing
        else:
            yield Gap(NEVER)
    else:
        yield Gap("when each incident was first noticed: a record begins with the act, not with the suspicion")


def _incident(seen: Seen, record: Record) -> Iterator[Fact]:
    body = record.body
    place = bisect_left(seen.steps, record.index, key=lambda one: one.index)
    started = next((seen.steps[at] for at in range(place - 1, -1, -1) if seen.steps[at].body.action != body.action), None)
    step = f"{started.body.action.replace('_', ' ')} at {started.body.at} (entry {started.index})" if started else "none"
    yield fact(body.action.replace("_", " "), f"{body.at} by {body.launcher}: {body.reason or 'no reason recorded'}; the step before "
               f"it: {step}", record, body.model)
    for name, said in sorted(body.evidence.items()):
        yield fact(f"kept with it: {name.replace('_', ' ')}", plain(said)[:500], record)
    for one in seen.decided("return"):
        if str(one.statement.subject("return")) == str(record.digest):
            yield fact("reviewed afterwards", f"{one.body.decision} by {one.body.person}: {one.body.rationale}", one)


def monitoring(seen: Seen) -> Iterator[Part]:
    """E31: what was acted on is in the ledger; the log of answers is read as it lies."""
    from compliance_assets.governance.monitoring import labelled, overrides

    alerts = alerts_at(seen.river.archive, seen.system, seen.as_of)
    yield Each(tuple(alert.opened for alert in reversed(alerts)), _alert)
    answers = {one.index: (alert, one) for alert in alerts for one in (alert.acknowledged, alert.closed) if one is not None}
    yield Each(tuple(answers[index][1] for index in sorted(answers)), lambda one: _answered(answers[one.index][0], one))
    slot = seen.state.production
    if slot is None or slot.system != seen.system:
        yield Gap("monitoring: nothing is in production")
        return
    record = next(one for one in reversed(seen.steps) if one.body.approval == slot.approval)
    try:
        against, of, _ = overrides(seen.river, seen.system, slot)
        labels = sum(1 for _ in labelled(seen.river, seen.system, slot))
    except ComplianceError as error:
        yield Gap(f"the log of answers cannot be read: {error}")
        return
    yield fact("answers logged", f"{of} by the version that entry {record.index} let answer, {against} overridden by people, "
               f"{labels} with a known outcome", record, slot.model)
    yield Each(seen.undone, _acted_on)
    if not alerts:
        nothing = seen.none("alerts", "none of this system is on record")
        if nothing is not None:
            yield nothing
    yield Gap("tickets and reports to authorities (Art. 20, 72, 73): they live outside of these records")


def _alert(record: Record) -> Iterator[Fact]:
    yield fact(f"alert {record.body.rule} opened", f"{record.body.at}: {record.body.said}", record)


def _answered(alert: Alert, record: Record) -> Iterator[Fact]:
    body, event = record.body, "closed" if record is alert.closed else "acknowledged"
    yield fact(f"alert {alert.opened.body.rule} {event}", f"{body.issued} by {body.person} as {body.role}, who signed: {body.rationale}",
               record)


def _acted_on(one: Record) -> Iterator[Fact]:
    yield fact("acted on", f"{one.body.action.replace('_', ' ')} at {one.body.at}: {one.body.reason or 'no reason recorded'}", one)


def rollouts(seen: Seen) -> Iterator[Part]:
    """E32."""
    if not seen.steps:
        yield Gap(NEVER)
        return
    yield Each(seen.acted("shadow_started", "canary_started", "full_rollout", "aborted"), _step)
    yield Gap("which persons met a canary: the inference log holds who answered each request, and no ledger entry names a person")


def _step(record: Record) -> Iterator[Fact]:
    body = record.body
    share = f", {float(body.share):.0%} of requests" if body.action == "canary_started" and body.share else ""
    yield fact(body.action.replace("_", " "), f"{body.at} in {body.environment}{share}{'; ' + body.reason if body.reason else ''}",
               record, body.model)
    if "judged" in body.evidence:
        judged = body.evidence["judged"]
        yield fact("the step before it was judged", f"{judged['verdict']}: {plain(judged['findings'])[:500]}", record)
