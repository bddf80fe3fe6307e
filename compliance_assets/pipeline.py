"""The one way a stage runs, whoever drives: require → produce → judge → seal → record.

Dagster, the command line, the runbook and the tests all come through `advance`. It asks the dossier whether the inputs may be
consumed, lets the stage produce (or finds that these very bytes exist already), lets its gates judge, seals the output into
the artefact store and appends one signed record to the ledger, whether or not the gates passed. A failed gate is a value of
this function; being out of order is an error.
"""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compliance_assets.errors import ComplianceError, Misused, OutOfTurn, Rejected, StageError, Waiting
from compliance_assets.evidence import exceptions
from compliance_assets.evidence.archive import Archive, Record
from compliance_assets.evidence.deployments import desired_state
from compliance_assets.evidence.dossier import Chain, Dossier, head_of, overtaken, refuse_overtaken, require_head
from compliance_assets.evidence.home import Home, find_home
from compliance_assets.evidence.records import StageExecution, StageReuse, Statement
from compliance_assets.evidence.surroundings import environment, environment_digest, working_tree
from compliance_assets.policy.definition import Definition, find_systems, load_definition
from compliance_assets.policy.gates import GateReport, not_run
from compliance_assets.policy.organisation import Organisation, load_organisation
from compliance_assets.policy.river import RIVER, StageRule, rule_named
from compliance_assets.stages import stage_for
from compliance_assets.stages.holdout_uses import admit as admit_to_holdout
from compliance_assets.stages.stage import Draft, Driver, Report, Stage, Tell, Value, Work
from compliance_assets.trust.canonical import Digest, canonical_json, digest_of, parse_canonical, parse_rfc3339, rfc3339

Listener = Callable[[str, Mapping[str, object]], None]
SECTIONS: Mapping[str, tuple[str, ...]] = {
    "data_preparation": ("system", "data"),
    "feature_engineering": ("system", "data", "features"),
    "model_training": ("system", "data", "features", "training"),
}
"""The parts of the declaration that decide a stage's bytes; the others only judge them. Not listed: all of it."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass
class River:
    """One project opened: its systems, its home, its archive."""

    root: Path
    home: Home
    organisation: Organisation
    archive: Archive
    now: Callable[[], datetime] = _utc_now
    listeners: tuple[Listener, ...] = ()
    _definitions: dict[str, Definition] = field(default_factory=dict, repr=False)

    def definition(self, system: str) -> Definition:
        """The declared system as its files stand now."""
        known = self._definitions.get(system)
        if known is None:
            folder = self.root / "systems" / system
            if not (folder / "system.yaml").is_file():
                names = ", ".join(path.name for path in find_systems(self.root))
                raise Misused(f"There is no system {system!r}.", rule="system", value=system,
                              remedy=f"Declared here: {names or 'none; `compliance init` makes a first one'}.")
            known = self._definitions[system] = load_definition(folder)
        return known

    @property
    def systems(self) -> tuple[str, ...]:
        return tuple(path.name for path in find_systems(self.root))

    def dossier(self, system: str, at: datetime | None = None) -> Dossier:
        """The order of one system under its definition as it stands, with what people have excepted (`at`: then; else now)."""
        return Dossier(system, self.definition(system).digest, self.archive.executions_of,
                       exceptions.excuses(self.archive, at or self.now()))

    def head(self, system: str, asset: str) -> Digest | None:
        """The latest output of a stage that passed every gate, or whose failures people excepted, under the definition as it stands."""
        rule = rule_named(asset)
        return head_of(self.archive.made_by(system, rule.name), rule, self.definition(system).digest,
                       exceptions.excuses(self.archive, self.now()))

    def value(self, asset: str, digest: Digest) -> Value:
        """The value that a digest names, read from the artefact store and verified."""
        makes = stage_for(rule_named(asset)).makes
        return makes.model_validate(parse_canonical(self.archive.artefacts.get_bytes(digest)))

    def references_of(self, system: str, rule: StageRule) -> dict[str, str]:
        """What this stage compares its output with: approved models for the evaluation, their datasets for a bounded shift."""
        if rule.name == "model_evaluation":
            return self.references(system)
        data = self.definition(system).system.data
        wanted = {bound.against for bound in data.shift} | ({data.rows_change.against} if data.rows_change is not None else set())
        if rule.name != "data_preparation" or not wanted:
            return {}
        return {role: self._dataset_of(candidate) for role, candidate in self.references(system).items() if role in wanted}

    def _dataset_of(self, candidate: str) -> str:
        features = self.archive.executions_of(Digest.parse(candidate))[-1].body.inputs["features"]
        return str(self.archive.executions_of(Digest.parse(features))[-1].body.inputs["dataset"])

    def references(self, system: str) -> dict[str, str]:
        """The candidate models that stand outside a release: in production now, and first assessed (the baseline)."""
        target = self.definition(system).system.deployment.environment
        steps = [record for record in self.archive.deployments(target) if record.body.system == system]
        first = next((record.body.staged for record in steps if record.body.action == "full_rollout"), None)
        production = desired_state(target, steps).production
        found: dict[str, str] = {}
        for role, staged in (("production", production.staged if production else None), ("baseline", first)):
            if staged is not None:
                found[role] = self.archive.executions_of(Digest.parse(staged))[-1].body.inputs["candidate_model"]
        return found


def open_river(root: Path, home: Path | None = None, *, writer: bool = True, listeners: tuple[Listener, ...] = ()) -> River:
    """Open the project above `systems/`, with its home and its people."""
    where = Home.open(home or find_home(root))
    organisation = load_organisation(root / "organisation.yaml")
    return River(root, where, organisation, Archive.open(where, organisation, writer=writer), listeners=listeners)


@dataclass(frozen=True)
class Advance:
    """What one execution came to. True only if every gate may be passed, or its failure is excepted by people."""

    stage: StageRule
    value: Value
    digest: Digest
    reports: tuple[GateReport, ...]
    record_index: int
    record_digest: Digest
    reused: bool
    computed: bool
    observations: Mapping[str, Any]
    published: Mapping[str, str]
    seconds: float
    excepted: Mapping[str, str] = field(default_factory=dict)
    """Gates that failed and go on under an exception, with its digest. Their verdicts stay what they are."""

    def __bool__(self) -> bool:
        return bool(self.reports) and all(report or report.gate in self.excepted for report in self.reports)

    @property
    def failures(self) -> tuple[str, ...]:
        """One sentence for each finding that failed."""
        return tuple(finding.sentence() for report in self.reports for finding in report.failures)


@dataclass
class _Telling:
    """Collects what a stage says while it works, hands it to the listeners, and becomes the record's log."""

    listeners: tuple[Listener, ...]
    context: Mapping[str, object]
    now: Callable[[], datetime]
    lines: list[bytes] = field(default_factory=list)

    def __call__(self, event: str, **facts: object) -> None:
        line = {"time": rfc3339(self.now()), "event": event, **self.context, **facts}
        self.lines.append(json.dumps(line, default=str, sort_keys=True).encode())
        for listener in self.listeners:
            listener(event, {**self.context, **facts})


def advance(river: River, system: str, stage: str, inputs: Mapping[str, Digest] | None, driver: Driver) -> Advance:
    """Run one stage of one system, leaving evidence whether or not its gates pass.

    `inputs`: digest by asset name, for exactly the assets that the stage needs; None takes the latest that passed.
    Raises `OutOfTurn` for what has not passed, `Waiting` for what people have not done yet, `Busy` while another run of the
    same system holds it, `StageError` and its kin where nothing could be computed; never for a failed gate.
    """
    rule = rule_named(stage)
    river.home.check_writable()
    with river.home.lock(f"run-{system}", what=f"another run of {system}"):
        return _advance(river, system, stage_for(rule), inputs, driver)


def _advance(river: River, system: str, stage: Stage, inputs: Mapping[str, Digest] | None, driver: Driver) -> Advance:
    rule, archive = stage.rule, river.archive
    started, clock = river.now(), time.monotonic()
    definition = river.definition(system)
    archive.check_clock(started)
    archive.require_trust_policy()
    if definition.system.retraining.driven_by == "runbook" and not driver.by_hand:
        raise OutOfTurn(f"{system} is declared to be driven by its runbook, step by step, and {rule.name} was started otherwise.",
                        rule="driven_by", value="runbook", remedy=f"`compliance runbook step {system} {rule.name}`; to let the pipeline "
                        "drive, declare retraining.driven_by: pipeline and have the definition approved.")
    tell = _Telling(river.listeners, {"system": system, "stage": rule.name, "run": driver.run_id, "attempt": driver.attempt,
                                      "launcher": driver.launcher, "definition": definition.digest.short}, river.now)
    tell("stage_entered")

    # require
    given = inputs if inputs is not None else {name: digest for name in rule.needs if (digest := river.head(system, name))}
    chain = require(river, system, rule, given)
    if rule.kind == "act":
        _refuse_decommissioned(archive, definition)
    in_force = archive.definition_in_force(system) == definition.digest
    if rule.kind == "act" and not in_force:
        raise Waiting(f"{rule.name} acts only under an approved definition; {definition.digest.short} of {system} is not approved.",
                      rule="definition in force", value=definition.digest,
                      remedy=f"Have it approved: `compliance definition approve {system}`. Stages 1 to 4 run without.")
    references = river.references_of(system, rule)

    # produce, or find that it was produced
    declaration = definition.system.declaration()
    parts = {"stage": rule.name, "code": dict(definition.code), "inputs": dict(given), "references": references,
             "environment": environment_digest(), "seed": definition.system.training.seed}
    sections = SECTIONS[rule.name] if rule.name in SECTIONS else tuple(declaration)
    produce_key = digest_of({**parts, "declaration": {name: declaration[name] for name in sections}})
    granted = exceptions.in_force(archive, system, rule.name, definition.digest, given, started)
    # An exception does not change what was judged; it is another question, since the gates behind the excepted one are judged too.
    asked = {"exceptions": {gate: record.digest for gate, record in granted.items()}} if granted else {}
    key = digest_of({**parts, "definition": definition.digest, **asked})
    earlier = _answered(archive, key, failed_too=rule.kind == "compute") if rule.kind == "compute" or stage.holds else None
    if earlier is not None and rule.kind == "compute":
        return _reuse(river, stage, earlier, driver, tell, clock)
    opened = admit_to_holdout(archive, definition.system, given["features"]) if rule.name == "model_evaluation" else {}

    with river.home.scratch() as scratch:
        work = Work(definition=definition, artefacts=archive.artefacts, scratch=scratch, tell=tell, driver=driver, home=river.home,
                    organisation=river.organisation, archive=archive, now=river.now, references=references)
        if earlier is not None and stage.holds is not None and stage.holds(work, _value_of(river, stage, earlier)):
            return _reuse(river, stage, earlier, driver, tell, clock)
        values = {name: _checked(river.value(name, digest), system, name) for name, digest in given.items()}
        draft = _produced_before(archive, stage, produce_key) if rule.kind == "compute" else None
        computed = draft is None
        reports: tuple[GateReport, ...] = ()
        try:
            if draft is None:
                draft = stage.produce(work, **values)
                tell("produced", seconds=f"{time.monotonic() - clock:.3f}")
            # judge
            reports = tuple(judged(stage, work, draft, values, tell, granted))
            # seal
            value = draft.value
            if isinstance(value, Report):
                value = value.model_copy(update={"gates": tuple(report.as_json() for report in reports)})
            digest = archive.artefacts.put_bytes(value.manifest())
            published = dict(stage.publish(work, Draft(value, draft.observations), reports, **values)) if stage.publish else {}
        except (Waiting, Rejected):
            raise
        except ComplianceError as error:
            tell("stage_failed", error=type(error).__name__, message=str(error))
            _record_error(river, rule, error, driver, started, tell, chain, given, definition, key, produce_key, in_force)
            raise
        except (Exception, SystemExit) as error:  # the system's own code may raise anything; what is not its fault travels on
            refusal = _own_code_broke(error, definition, rule)
            if refusal is None:
                raise
            tell("stage_failed", error=type(error).__name__, message=str(refusal))
            _record_error(river, rule, refusal, driver, started, tell, chain, given, definition, key, produce_key, in_force)
            raise refusal from error

    # record
    body = _execution(river, rule, "passed" if reports and all(reports) else "failed", driver, started, tell, given, definition, key,
                      produce_key, in_force, output=digest, files=dict(value.files()), references=references, reports=reports,
                      observations={**draft.observations, **opened, **asked}, published=published, computed=computed)
    record = archive.append(Statement(((rule.makes, digest),), body))
    excuse = exceptions.excuse_for(archive, record, river.now())
    for gate, exception in excuse.by.items():
        tell("gate_excepted", gate=gate, exception=exception.digest, expires=exception.body.expires)
    tell("stage_completed" if body.outcome == "passed" else "gate_failed", output=digest, record=record.index,
         verdicts={report.gate: report.verdict.value for report in reports}, seconds=f"{time.monotonic() - clock:.3f}")
    _write_log(river, driver, tell)
    return Advance(rule, value, digest, reports, record.index, record.digest, False, computed, body.observations, published,
                   time.monotonic() - clock, {gate: exception.digest for gate, exception in excuse.by.items()})


def require(river: River, system: str, rule: StageRule, inputs: Mapping[str, Digest]) -> Chain:
    """Admit these inputs for this stage, now; or refuse. The wall of the house: everything consumed comes through here."""
    excuse = exceptions.excuses(river.archive, river.now())
    chain = river.dossier(system, _approved_at(river, inputs)).require(rule, inputs)
    for name, digest in inputs.items():
        require_head(name, digest, river.head(system, name), rule.name, system)
        if name != "approval":  # a later *no* is judged by stage 8 itself, which must be entered to end a rollout under way
            refuse_overtaken(chain.records[name], river.archive.made_by(system, rule_named(name).name), rule.name, name, excuse)
    return chain


def _refuse_decommissioned(archive: Archive, definition: Definition) -> None:
    """A system that was taken out of service is registered, approved and deployed no more; stages 1 to 4 may still be looked at."""
    name, system = definition.system.deployment.environment, definition.system.system
    gone = desired_state(name, archive.deployments(name)).decommissioned
    if system in gone:
        raise OutOfTurn(f"{system} was taken out of service in {name} (ledger entry {gone[system]}).", rule="decommissioned", value=system,
                        remedy="A system that comes back is another one: declare it under a name of its own.")


def _approved_at(river: River, inputs: Mapping[str, Digest]) -> datetime | None:
    """Under an approval, exceptions count as when it was given: whether they still stand is judged by stage 8, which ends a rollout."""
    if "approval" not in inputs:
        return None
    given = river.archive.executions_of(inputs["approval"])
    return parse_rfc3339(given[-1].body.finished) if given else None


def published(river: River, system: str, asset: str, digest: Digest) -> Record:
    """The record under which this output of a stage may be shown as made; refuses what has none, or a failed one."""
    return river.dossier(system).admit(asset, digest, needed_by=f"publishing {asset}").records[asset]


def drive(river: River, system: str, driver: Driver, *, start: str = "data_preparation", stop: str = "deployment") -> Iterator[Advance]:
    """Advance stage after stage in river order, from `start` to `stop`, ending after the first whose gate fails."""
    first, last = rule_named(start).number, rule_named(stop).number
    for rule in RIVER[first - 1:last]:
        outcome = advance(river, system, rule.name, None, driver)
        yield outcome
        if not outcome:
            return


# ----------------------------------------------------------------------------------------------------------- the parts


def judged(stage: Stage, work: Work, draft: Draft, values: Mapping[str, Value], tell: Tell,
           granted: Mapping[str, Record]) -> Iterator[GateReport]:
    """Every gate of the rule, once, in order; after a halt the rest as NOT_RUN. `granted`: exceptions, behind which it goes on."""
    asked = stage.judge(work, draft, **values)
    halted_by = ""
    for gate in stage.rule.gates:
        if halted_by:
            yield not_run(gate.name, gate.version, halted_by)
            continue
        report = next(asked, None)
        if report is None or (report.gate, report.version) != (gate.name, gate.version):
            raise StageError(f"{stage.rule.name} did not judge its gate {gate.name}.", rule="complete evidence",
                             value="nothing" if report is None else report.gate, remedy="Mend the stage's code; nothing was recorded.")
        tell("gate_judged", gate=report.gate, verdict=report.verdict.value, findings=[f.sentence() for f in report.failures])
        yield report
        excepted = report.gate in granted and not exceptions.uncovered(granted[report.gate], report)
        if stage.rule.ordered_gates and not report and not excepted:
            halted_by = report.gate


def _own_code_broke(error: BaseException, definition: Definition, rule: StageRule) -> StageError | None:
    """What the system's own code raised, as a refusal that names its line; None if `error` did not come through that code."""
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(definition.folder)]
    if not lines:
        return None
    where = f"{Path(lines[-1].filename).relative_to(definition.root)}:{lines[-1].lineno}"
    said = f"{type(error).__name__}: {error}".strip(": ")
    return StageError(f"{rule.name} could not be computed: {where} raised {said[:300]}.", rule="the system's own code", value=where,
                      remedy=f"Mend {where}; the definition changes with it, and what it computes is judged again.")


def _answered(archive: Archive, key: Digest, *, failed_too: bool) -> Record | None:
    """The latest record that answers this very key: same inputs, code, definition, environment. A verdict is not retried.

    `failed_too`: a computed verdict stays what it was; what an acting stage found of the world may be asked again. A pass
    answers nothing once the same question was asked again, in another environment or beside another model, and failed.
    """
    outcomes = ("passed", "failed") if failed_too else ("passed",)
    for record in reversed([record for record in archive.with_key(key) if record.body.outcome in outcomes]):
        if record.body.outcome == "passed" and overtaken(record, archive.made_by(record.body.system, record.body.stage)):
            return None
        if all(archive.artefacts.exists(Digest.parse(d)) for d in (record.body.output, *record.body.files.values())):
            return record
    return None


def _value_of(river: River, stage: Stage, record: Record) -> Value:
    return stage.makes.model_validate(parse_canonical(river.archive.artefacts.get_bytes(Digest.parse(record.body.output))))


def _produced_before(archive: Archive, stage: Stage, produce_key: Digest) -> Draft | None:
    """The bytes that the same inputs, code and environment made before, if they are all still there and unharmed."""
    for record in reversed(archive.with_key(produce_key, "produce-key")):
        if record.body.outcome == "error" or stage.rule.reports:
            continue
        digests = (record.body.output, *record.body.files.values())
        if all(archive.artefacts.exists(Digest.parse(digest)) for digest in digests):
            value = stage.makes.model_validate(parse_canonical(archive.artefacts.get_bytes(Digest.parse(record.body.output))))
            return Draft(value, record.body.observations)
    return None


def _reuse(river: River, stage: Stage, earlier: Record, driver: Driver, tell: _Telling, clock: float) -> Advance:
    """Answer with an earlier record, and record that this was done; never a second verdict."""
    body: StageExecution = earlier.body
    value = _value_of(river, stage, earlier)
    reuse = StageReuse(system=body.system, stage=body.stage, run=driver.run_id, dagster_run=driver.dagster_run_id,
                       launcher=driver.launcher, at=rfc3339(river.now()), key=body.key, output=body.output,
                       original_index=earlier.index, original_statement=earlier.digest)
    record = river.archive.append(Statement(((stage.rule.makes, Digest.parse(body.output)),), reuse))
    tell("stage_reused", output=body.output, original=earlier.index, record=record.index)
    _write_log(river, driver, tell)
    excuse = exceptions.excuse_for(river.archive, earlier, river.now())
    return Advance(stage.rule, value, Digest.parse(body.output), body.reports, earlier.index, earlier.digest, True, False,
                   body.observations, body.published, time.monotonic() - clock,
                   {gate: exception.digest for gate, exception in excuse.by.items()})


def _checked(value: Value, system: str, asset: str) -> Value:
    if value.system != system:
        raise OutOfTurn(f"{asset} {value.digest.short} belongs to {value.system}, not to {system}.", rule="system",
                        value=value.system, remedy=f"Materialise {asset} of {system}.")
    return value


def _execution(river: River, rule: StageRule, outcome: str, driver: Driver, started: datetime, tell: _Telling,
               inputs: Mapping[str, Digest], definition: Definition, key: Digest, produce_key: Digest, in_force: bool, *,
               output: Digest, files: Mapping[str, str], references: Mapping[str, str], reports: Sequence[GateReport],
               observations: Mapping[str, Any], published: Mapping[str, str], computed: bool) -> StageExecution:
    artefacts = river.archive.artefacts
    artefacts.put_bytes(canonical_json(environment()))
    return StageExecution(
        system=definition.system.system, stage=rule.name, outcome=outcome, run=driver.run_id,
        dagster_run=driver.dagster_run_id, attempt=driver.attempt, launcher=driver.launcher, started=rfc3339(started),
        finished=rfc3339(river.now()), key=key, produce_key=produce_key, computed=computed, output=output, files=dict(files),
        inputs=dict(inputs), references=dict(references), definition=definition.digest, definition_in_force=in_force,
        trust_policy=river.organisation.digest, environment=environment_digest(), residency=definition.system.residency,
        code=working_tree(river.root, definition.covered, driver.launcher), seed=definition.system.training.seed,
        gates=tuple(report.as_json() for report in reports), observations=dict(observations), published=dict(published),
        log=artefacts.put_bytes(b"\n".join(tell.lines) + b"\n"), promotable=_promotable(river, definition),
        demonstration=river.organisation.demonstration)


def _promotable(river: River, definition: Definition) -> bool:
    """Whether anything made here may ever go to production."""
    target = river.organisation.environments.get(definition.system.deployment.environment)
    return target is not None and target.promotable


def _record_error(river: River, rule: StageRule, error: ComplianceError, driver: Driver, started: datetime, tell: _Telling,
                  chain: Chain, inputs: Mapping[str, Digest], definition: Definition, key: Digest, produce_key: Digest,
                  in_force: bool) -> None:
    """A stage that could not compute is evidence too; it is no verdict, and nothing can be made from it."""
    said = canonical_json({"system": definition.system.system, "stage": rule.name, **error.as_json()})
    output = river.archive.artefacts.put_bytes(said)
    body = _execution(river, rule, "error", driver, started, tell, inputs, definition, key, produce_key, in_force, output=output,
                      files={}, references={}, reports=(), observations={}, published={}, computed=True)
    river.archive.append(Statement((("error", output),), body))
    _write_log(river, driver, tell)


def _write_log(river: River, driver: Driver, tell: _Telling) -> None:
    """Structured JSON, one line an event, appended to the day's file; the record holds its own copy by digest."""
    name = river.home.logs / f"{river.now():%Y-%m-%d}.jsonl"
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, b"\n".join(tell.lines) + b"\n")
    finally:
        os.close(descriptor)
