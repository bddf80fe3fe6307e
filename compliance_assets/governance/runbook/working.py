"""Doing the stages by hand: start, one step after the other, verification by somebody else, the end; refused out of order.

A step runs its stage through `pipeline.advance`, as Dagster would: the same wall, gates, keys and records. Then the command checks what
came out, hashes every file itself, and the operator signs the entry. What was run elsewhere is entered with `record`, and marked as
recorded after the fact.
"""

from __future__ import annotations

import getpass
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from compliance_assets.errors import ArtefactCorrupt, ComplianceError, Misused, OutOfTurn
from compliance_assets.evidence import inbox
from compliance_assets.evidence.archive import Record
from compliance_assets.evidence.records import Decision, Scope, Statement
from compliance_assets.governance.deciding import Signer, sign_statement
from compliance_assets.governance.runbook.log import SUBJECT, Entry, Log, logs, open_log, others_could
from compliance_assets.governance.runbook.plan import QUARTER, runbook
from compliance_assets.pipeline import River, advance, published
from compliance_assets.policy.organisation import Person
from compliance_assets.policy.river import RIVER, StageRule, rule_named
from compliance_assets.stages.stage import Driver
from compliance_assets.trust.canonical import Digest, canonical_json, parse_rfc3339, rfc3339, sha256_file

LATE_SECONDS = 300
"""An entry made later than this after its step ended is marked as recorded after the fact (ours)."""


def start(river: River, system: str, signer: Signer, reason: str) -> Entry:
    """Begin an execution of the runbook. Refused while one is open; warns when it is not the first within a quarter."""
    _operator(river, signer)
    running = open_log(river, system)
    if running is not None:
        raise OutOfTurn(f"Runbook log {running.id} of {system} is open since {running.start.said['recorded']}.",
                        rule="one log at a time", value=running.id,
                        remedy=f"Go on with `compliance runbook step {system} {running.next_stage or '…'}`, or finish it.")
    now = river.now()
    earlier = sum(now - parse_rfc3339(log.start.said["recorded"]) < QUARTER for log in logs(river, system)[0])
    deviations = [f"run {earlier + 1} within a quarter: a runbook suits a system that is trained again once a quarter or less "
                  "(convention); let an orchestrator drive"] if earlier else []
    return _sign(river, system, signer, reason, secrets.token_hex(8), "", "start", deviations, {"earlier_in_quarter": earlier})


def step(river: River, system: str, stage: str, signer: Signer, reason: str, *, record: int | None = None) -> Entry:
    """Do the next stage and enter it; or, with `record`, enter a stage record that was made elsewhere since the log began.

    Raises `OutOfTurn` where an earlier step is not verified; what the pipeline raises travels on, after it was entered.
    """
    rule = rule_named(stage)
    person = _operator(river, signer)
    log = _going_on(river, system)
    _in_order(log, rule)
    if record is not None:
        return _enter(river, log, rule, signer, reason, _adopted(river, system, rule, log, record), f"entered from ledger #{record}")
    before = _newest(river, system, rule)
    driver = Driver(run_id=f"runbook-{log.id}-{rule.number}-{len(log.entries)}", launcher=_account(person), by_hand=True)
    try:
        outcome = advance(river, system, rule.name, None, driver)
    except ComplianceError:
        made = _newest(river, system, rule)
        if made is not None and (before is None or made.index > before.index):  # it could not compute: evidence too
            _enter(river, log, rule, signer, reason, made, _command(system, rule))
        raise
    found = river.archive.authentic(river.archive.ledger.entry(outcome.record_index))
    return _enter(river, log, rule, signer, reason, found, _command(system, rule), reused=outcome.reused)


def verify(river: River, system: str, stage: str, signer: Signer, reason: str) -> Entry:
    """Somebody else says that a step was done as entered. The checks are made again first."""
    rule = rule_named(stage)
    river.organisation.person(signer.person)
    log = _going_on(river, system)
    done = log.step(rule.name)
    if done is None or done.said["result"] != "verified":
        raise OutOfTurn(f"{rule.name} has no step that passed its checks.", rule="runbook", value=rule.name, remedy="Do the step first.")
    deviations = []
    if done.person == signer.person:
        if others_could(river):
            raise Misused(f"{signer.person} did {rule.name}, and does not verify it.", rule="second person", value=signer.person,
                          remedy="Have it verified by somebody else.")
        deviations.append(f"{rule.name} was verified by its operator: nobody else has a key here")
    failed = [check for check in _checks(river, system, rule, river.archive.authentic(river.archive.ledger.entry(done.said["record"])))[0]
              if check["result"] != "holds"]
    if failed:
        raise OutOfTurn(f"{rule.name} does not hold any more: {failed[0]['check']}: {failed[0]['found']}.", rule="runbook",
                        value=rule.name, remedy="Do the step again.")
    return _sign(river, system, signer, reason, log.id, str(log.last), "verification", deviations,
                 {"stage": rule.name, "of": str(done.record.digest), "operator": done.person})


def finish(river: River, system: str, signer: Signer, reason: str) -> Entry:
    """End the log: a statement of what is complete, with all deviations. A log that stops early says so."""
    _operator(river, signer)
    log = _going_on(river, system, same_definition=False)
    missing = [f"{rule.name}: {why}" for rule in RIVER if (why := log.why_not(rule.name))]
    return _sign(river, system, signer, reason, log.id, str(log.last), "finish", missing,
                 {"complete": not missing, "steps": {rule.name: str(done.said["output"]) for rule in RIVER
                                                     if (done := log.step(rule.name)) is not None and not log.why_not(rule.name)}})


# ----------------------------------------------------------------------------------------------------------- the parts


def _operator(river: River, signer: Signer) -> Person:
    """The person who works, on an account that is theirs: else separation of duties could be walked around by hand."""
    person = river.organisation.person(signer.person)
    account = getpass.getuser()
    if account not in person.launchers:
        raise Misused(f"organisation.yaml does not say that the account {account!r} is {signer.person}'s.", rule="operator", value=account,
                      remedy=f"Add it to the launchers of {signer.person} and have the file approved, or work on your own account.")
    return person


def _account(person: Person) -> str:
    return next(name for name in person.launchers if name == getpass.getuser())


def _going_on(river: River, system: str, *, same_definition: bool = True) -> Log:
    log = open_log(river, system)
    if log is None:
        raise OutOfTurn(f"No runbook log of {system} is open.", rule="runbook", value=system,
                        remedy=f"Begin with `compliance runbook start {system}`.")
    now = runbook(river, system).digest
    if same_definition and log.start.said["runbook"] != now:
        raise OutOfTurn(f"The definition changed since log {log.id} began: its runbook was {log.start.said['runbook'][:12]}, now it is "
                        f"{now.short}.", rule="definition", value=now,
                        remedy="Finish this log (it will say what is missing) and start anew.")
    return log


def _in_order(log: Log, rule: StageRule) -> None:
    """Step n+1 waits until n is verified."""
    for earlier in RIVER[:rule.number - 1]:
        if why := log.why_not(earlier.name):
            raise OutOfTurn(f"Step {rule.number} ({rule.name}) comes after step {earlier.number} ({earlier.name}), which does not "
                            f"count: {why}.", rule="order", value=earlier.name, remedy=f"Go on with step {earlier.number} first.")


def _newest(river: River, system: str, rule: StageRule) -> Record | None:
    made = river.archive.made_by(system, rule.name)
    return made[-1] if made else None


def _adopted(river: River, system: str, rule: StageRule, log: Log, index: int) -> Record:
    found = next((record for record in river.archive.made_by(system, rule.name) if record.index == index), None)
    if found is None or index < log.start.record.index:
        raise Misused(f"Ledger entry {index} is no record of {rule.name} of {system} made since this log began.", rule="runbook",
                      value=str(index), remedy="Name the record of that stage, or do the step with this command.")
    return found


def _command(system: str, rule: StageRule) -> str:
    return f"compliance runbook step {system} {rule.name}"


def _checks(river: River, system: str, rule: StageRule, record: Record) -> tuple[list[dict[str, str]], dict[str, str]]:
    """What was verified, and the hash of every file as this command computed it just now."""
    checks: list[dict[str, str]] = []
    output = Digest.parse(record.body.output)
    try:
        published(river, system, rule.makes, output)
        standing = river.head(system, rule.makes)
        checks.append({"check": "evidence complete, signed, in order; every gate may be passed", "result": "holds", "found": "admitted"})
        checks.append({"check": "it is the latest that passed", "found": str(standing),
                       "result": "holds" if standing == output else "does not hold"})
    except ComplianceError as error:
        checks.append({"check": "evidence complete, signed, in order; every gate may be passed", "result": "does not hold",
                       "found": error.message})
    hashed: dict[str, str] = {}
    for name, digest in {"output": str(output), **record.body.files}.items():
        try:
            hashed[name] = sha256_file(river.archive.artefacts.open_path(Digest.parse(digest)))
        except ArtefactCorrupt as error:
            hashed[name] = f"unreadable: {error.message}"
    wrong = [name for name, digest in {"output": str(output), **record.body.files}.items() if hashed[name] != digest]
    checks.append({"check": "every file hashed again", "result": "does not hold" if wrong else "holds",
                   "found": f"differ: {', '.join(wrong)}" if wrong else f"{len(hashed)} files"})
    return checks, hashed


def _enter(river: River, log: Log, rule: StageRule, signer: Signer, reason: str, record: Record, command: str, *,
           reused: bool = False) -> Entry:
    system, body = record.body.system, record.body
    checks, hashed = _checks(river, system, rule, record)
    verified = all(check["result"] == "holds" for check in checks)
    now = river.now()
    delay = max(0, int((now - parse_rfc3339(body.finished)).total_seconds()))
    late = not reused and (delay > LATE_SECONDS or not body.run.startswith(f"runbook-{log.id}-"))
    deviations = [f"{rule.name}: {check['check']}: {check['found']}" for check in checks if check["result"] != "holds"]
    if late:
        deviations.append(f"{rule.name}: recorded {delay} s after the fact, from ledger #{record.index} (run {body.run})")
    if reused:
        deviations.append(f"{rule.name}: answered by an earlier record (#{record.index}); nothing was computed again")
    attempt = 1 + sum(entry.kind == "step" and entry.stage == rule.name for entry in log.entries)
    return _sign(river, system, signer, reason, log.id, str(log.last), "step", deviations, {
        "stage": rule.name, "attempt": attempt, "command": command, "exit_code": 0 if body.outcome == "passed" else 1,
        "begun": body.started, "ended": body.finished, "delay_seconds": delay, "recorded_after_the_fact": late,
        "inputs": dict(body.inputs), "output": body.output, "files": hashed, "record": record.index, "statement": str(record.digest),
        "expected": {"makes": rule.makes, "gates": [gate.name for gate in rule.gates]}, "checks": checks,
        "result": "verified" if verified else "not verified"})


def _sign(river: River, system: str, signer: Signer, reason: str, log: str, previous: str, kind: str, deviations: Sequence[str],
          more: Mapping[str, Any]) -> Entry:
    """Sign one entry with the person's own key, and admit it to the ledger."""
    if not reason.strip():
        raise Misused("An entry says what was seen.", rule="runbook", remedy="Name anomalies with --reason, or that there were none.")
    now, book = river.now(), runbook(river, system)
    said = {"form": "runbook entry", "entry": kind, "system": system, "log": log, "previous": previous, "runbook": str(book.digest),
            "definition": book.definition, "recorded": rfc3339(now), "deviations": list(deviations), **more}
    digest = river.archive.artefacts.put_bytes(canonical_json(said))
    body = Decision(
        decision="approve", person=signer.person, role=signer.role,
        scope=Scope(purpose="runbook", system=system, environment="", rollout=""), issued=rfc3339(now), expires="",
        definition=book.definition, trust_policy=river.organisation.digest, ledger=river.archive.head(), shown=digest, opened_seconds=0,
        rationale=reason.strip(), nonce=secrets.token_hex(16), demonstration=river.organisation.demonstration)
    statement, _ = sign_statement(river, Statement(((SUBJECT, digest),), body), signer)
    admitted, _ = inbox.admit(river.archive)
    found = next((record for record in admitted if record.digest == statement.digest), None)
    if found is None:
        raise OutOfTurn("The entry was signed and lies in the inbox, but was not admitted.", rule="runbook", value=str(statement.digest),
                        remedy="Look into inbox/refused for the reason.")
    return Entry(found, said)


