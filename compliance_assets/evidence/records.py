"""The statements that are remembered: what was executed, reused, decided, approved, deployed.

Each is an in-toto Statement v1 whose predicate says one thing that happened. Numbers are decimal strings, moments RFC 3339,
keys ASCII, so that the same bytes can be checked by any JSON tool. A failed stage is a statement too. Nothing here signs,
stores or judges.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from compliance_assets.errors import UntrustedEvidence
from compliance_assets.policy.gates import GateReport
from compliance_assets.trust.canonical import Digest, canonical_json, is_text_of, parse_canonical, sha256_bytes

STATEMENT = "https://in-toto.io/Statement/v1"
STAGE = "urn:compliance-assets:stage-execution:v1"
REUSE = "urn:compliance-assets:stage-reuse:v1"
DECISION = "urn:compliance-assets:decision:v1"
DEPLOYMENT = "urn:compliance-assets:deployment:v1"
TRUST_POLICY = "urn:compliance-assets:trust-policy:v1"
DEFINITION = "urn:compliance-assets:definition:v1"
EXCEPTION = "urn:compliance-assets:exception:v1"
ALERT = "urn:compliance-assets:alert:v1"
RECONCILIATION = "urn:compliance-assets:reconciliation:v1"
KINDS: Mapping[str, str] = {STAGE: "stage", REUSE: "reuse", DECISION: "decision", DEPLOYMENT: "deployment",
                            TRUST_POLICY: "trust-policy", DEFINITION: "definition", EXCEPTION: "exception",
                            RECONCILIATION: "reconciliation", ALERT: "alert"}


class Predicate(BaseModel):
    """Base of all predicates: frozen, unknown keys refused, so that nothing unsaid can ride along."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Code(Predicate):
    """The working tree that ran: commit, whether it was changed since, and whose work it is."""

    commit: str
    dirty: bool
    authors: tuple[str, ...]
    under_version_control: bool


class StageExecution(Predicate):
    """One execution of one stage, passed or failed."""

    system: str
    stage: str
    outcome: Literal["passed", "failed", "error"]
    run: str
    dagster_run: str | None
    attempt: int
    launcher: str
    started: str
    finished: str
    key: str
    """A0-3: digest of stage, definition, inputs, references, environment: same key, same verdict."""
    produce_key: str
    """As `key`, without what only judges: same produce key, same bytes."""
    computed: bool
    """False: the bytes were there already and only judged again."""
    output: str
    files: dict[str, str]
    inputs: dict[str, str]
    references: dict[str, str]
    definition: str
    definition_in_force: bool
    trust_policy: str
    environment: str
    residency: str
    code: Code
    seed: int
    gates: tuple[dict[str, Any], ...]
    observations: dict[str, Any]
    published: dict[str, str]
    log: str
    promotable: bool
    demonstration: bool

    @cached_property
    def reports(self) -> tuple[GateReport, ...]:
        return tuple(GateReport.read(body) for body in self.gates)


class StageReuse(Predicate):
    """The same execution was asked for again, and the earlier record answered."""

    system: str
    stage: str
    run: str
    dagster_run: str | None
    launcher: str
    at: str
    key: str
    output: str
    original_index: int
    original_statement: str


class Scope(Predicate):
    """What a decision is about and where it holds."""

    purpose: Literal["release", "definition", "trust-policy", "return", "exception", "condition", "document", "runbook", "decommission",
                     "legal-hold", "alert", "filing"]
    system: str
    environment: str
    rollout: str
    """Digest of the rollout plan for a release; empty otherwise."""


class Head(Predicate):
    """A ledger head that somebody saw: size and root (hex)."""

    size: int
    root: str


class Decision(Predicate):
    """What a person decided, over exactly the digests that are the statement's subjects."""

    decision: Literal["approve", "reject", "defer", "revoke"]
    person: str
    role: str
    scope: Scope
    issued: str
    expires: str
    definition: str
    trust_policy: str
    ledger: Head
    shown: str
    """Digest of what the person was shown."""
    opened_seconds: int
    rationale: str
    conditions: tuple[str, ...] = ()
    due: str = ""
    revokes: str = ""
    nonce: str
    demonstration: bool


class DeploymentStep(Predicate):
    """One step of a rollout. An intent without a result means that the step did not end."""

    system: str
    environment: str
    action: Literal["intent", "shadow_started", "canary_started", "full_rollout", "aborted", "rolled_back", "withdrawn",
                    "decommissioned"]
    release: str
    staged: str
    model: str
    approval: str
    slot: Literal["blue", "green"]
    share: str
    step: int
    previous_model: str
    previous_approval: str
    run: str
    launcher: str
    at: str
    definition: str
    trust_policy: str
    composite_version: str
    evidence: dict[str, Any] = Field(default_factory=dict)
    reason: str = ""
    demonstration: bool


class TrustPolicy(Predicate):
    """The organisation's people, roles, keys and environments, as they stood."""

    organisation: dict[str, Any]
    previous: str
    at: str


class DefinitionProposed(Predicate):
    """A definition of a system, whole: declaration, river and the digests of its code."""

    system: str
    parts: str
    """Digest of the definition's canonical parts in the artefact store."""
    declaration: str
    """Digest of system.yaml, byte for byte, comments and all."""
    previous: str
    proposed_by: str
    code: Code
    at: str


class ExceptionRequested(Predicate):
    """An exception that people are asked for: exactly these failed findings of one gate of one release, for a time.

    It edits no verdict. It counts once people have approved it (decisions whose subject is this statement), and only while they stand.
    """

    system: str
    stage: str
    gate: str
    gate_version: int
    definition: str
    inputs: dict[str, str]
    """What was judged: the release is told by it (the report has other bytes each time)."""
    failed: str
    """Statement digest of the execution that failed."""
    findings: tuple[dict[str, Any], ...]
    """The findings that are excepted: id, verdict and value as they stand there."""
    severity: Literal["low", "medium", "high"]
    reason: str
    compensating: tuple[str, ...]
    remediation: str
    root_cause: str
    expires: str
    requested_by: str
    """A person's id."""
    launcher: str
    trust_policy: str
    at: str
    demonstration: bool


class Reconciliation(Predicate):
    """What answered in an environment was held against the ledger: a disagreement, or its end. Not written while nothing changes."""

    system: str
    environment: str
    agrees: bool
    wanted: dict[str, str]
    seen: dict[str, str]
    differences: tuple[str, ...]
    stopped: str
    ledger: Head
    run: str
    launcher: str
    at: str
    trust_policy: str
    demonstration: bool


class Alert(Predicate):
    """A trend that a rule found. It states data and names no cause, judges nothing and lets nothing pass.

    People answer it with decisions of purpose `alert` (`evidence.alerts`). A record of another event than `opened` is one that a machine
    wrote for a person, before they signed themselves: it stays readable, and counts for nothing; its `original` names the opening.
    """

    system: str
    rule: Literal["T1", "T2", "T3", "T4", "T5", "T6", "T7", "T8"]
    about: str
    """The series or thing within the system: a gate, an attribute, an exception, a staged model."""
    event: Literal["opened", "acknowledged", "closed"]
    said: str
    window: str
    n: int
    statistic: dict[str, str]
    owner: str
    """Roles that answer for it."""
    newest: int
    """Ledger index of the newest entry that the statistic rests on: a closed alert opens again on newer ones only."""
    original: str = ""
    by: str
    """Who said so: the name of the process that looked."""
    reason: str = ""
    at: str
    demonstration: bool


Body = (StageExecution | StageReuse | Decision | DeploymentStep | TrustPolicy | DefinitionProposed | ExceptionRequested | Reconciliation
        | Alert)
TYPES: Mapping[str, type[Predicate]] = {STAGE: StageExecution, REUSE: StageReuse, DECISION: Decision,
                                        DEPLOYMENT: DeploymentStep, TRUST_POLICY: TrustPolicy,
                                        DEFINITION: DefinitionProposed, EXCEPTION: ExceptionRequested,
                                        RECONCILIATION: Reconciliation, ALERT: Alert}


@dataclass(frozen=True)
class Statement:
    """Who or what it is about (`subjects`: name and sha256), and what is said (`body`)."""

    subjects: tuple[tuple[str, Digest], ...]
    body: Any
    predicate_type: str = field(init=False)

    def __post_init__(self) -> None:
        found = [uri for uri, kind in TYPES.items() if type(self.body) is kind]
        if not found or not self.subjects:
            raise ValueError("a statement needs a known predicate and at least one subject")
        object.__setattr__(self, "predicate_type", found[0])

    @property
    def kind(self) -> str:
        return KINDS[self.predicate_type]

    def subject(self, name: str) -> Digest | None:
        return next((digest for subject, digest in self.subjects if subject == name), None)

    def payload(self) -> bytes:
        """The canonical bytes that are signed."""
        return self._payload

    @cached_property
    def _payload(self) -> bytes:
        return canonical_json(self._said())

    def _said(self) -> dict[str, Any]:
        return {
            "_type": STATEMENT,
            "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in self.subjects],
            "predicateType": self.predicate_type,
            "predicate": self.body.model_dump(mode="json"),
        }

    @cached_property
    def digest(self) -> Digest:
        return sha256_bytes(self.payload())

    @classmethod
    def read(cls, payload: bytes) -> Statement:
        """The statement in these bytes. Anything that is not exactly one of ours is refused."""
        parsed = parse_canonical(payload)
        try:
            if parsed["_type"] != STATEMENT:
                raise KeyError("_type")
            model = TYPES[parsed["predicateType"]]
            subjects = tuple((item["name"], Digest.parse(item["digest"]["sha256"])) for item in parsed["subject"])
            statement = cls(subjects, model.model_validate(parsed["predicate"]))
        except (KeyError, TypeError, ValueError) as error:
            raise UntrustedEvidence(f"This is not one of our statements: {str(error).splitlines()[0]}.", rule="statement",
                                    value=str(error)[:200], remedy="Leave it out: nothing here can be read from it.") from error
        if not is_text_of(payload, statement._said()):
            raise UntrustedEvidence("This statement is not written canonically.", rule="statement",
                                    value=sha256_bytes(payload), remedy="Leave it out: it was not written by this program.")
        statement.__dict__["_payload"] = payload
        return statement


def subjects_of(statement: Statement) -> tuple[tuple[Digest, str], ...]:
    """By which digests, in which role, a statement must be findable. The ledger's look-up table is checked against this."""
    body = statement.body
    roles: list[tuple[Digest, str]] = [(statement.digest, "statement")]
    if isinstance(body, StageExecution):
        roles.append((Digest.parse(body.output), "output"))
        roles += [(Digest.parse(digest), "file") for digest in body.files.values()]
        roles += [(Digest.parse(digest), "input") for digest in body.inputs.values()]
        roles += [(Digest.parse(body.key), "key"), (Digest.parse(body.produce_key), "produce-key"),
                  (Digest.parse(body.definition), "definition"), (made(body.system, body.stage), "made"), (run(body.run), "run"),
                  (Digest.parse(body.log), "log")]
        if body.dagster_run:
            roles.append((run(body.dagster_run), "run"))
        roles += [(run(reference), "run") for name, reference in sorted(body.published.items()) if name == "mlflow_run"]
    elif isinstance(body, StageReuse):
        roles += [(Digest.parse(body.output), "reused"), (run(body.run), "run")]
        if body.dagster_run:
            roles.append((run(body.dagster_run), "run"))
    elif isinstance(body, DeploymentStep):
        roles += [(Digest.parse(body.model), "deployed"), (Digest.parse(body.approval), "authorised-by"),
                  (environment(body.environment), "environment"), (run(body.run), "run")]
    else:
        roles += [(digest, f"subject:{name}") for name, digest in statement.subjects]
        if isinstance(body, Decision):
            roles.append((of_system(body.scope.system), f"decided:{body.scope.purpose}"))
            if body.shown:
                roles.append((Digest.parse(body.shown), "shown"))
            if body.revokes:
                roles.append((Digest.parse(body.revokes), "revoked"))
        elif isinstance(body, DefinitionProposed):
            roles += [(of_system(body.system), "definition-of"), (Digest.parse(body.declaration), "declaration")]
    return tuple(dict.fromkeys(roles))


def made(system: str, stage: str) -> Digest:
    """The look-up name of everything that one stage of one system has made."""
    return sha256_bytes(f"made:{system}/{stage}".encode())


def run(run_id: str) -> Digest:
    """The look-up name of a Dagster, MLflow or CLI run."""
    return sha256_bytes(f"run:{run_id}".encode())


def environment(name: str) -> Digest:
    """The look-up name of an environment's deployments."""
    return sha256_bytes(f"environment:{name}".encode())


def of_system(name: str) -> Digest:
    """The look-up name of a system."""
    return sha256_bytes(f"system:{name}".encode())


def execution_of(statement: Statement) -> str:
    """The ledger's idempotency key, derived from what a statement says: what must not be recorded twice.

    The same key with other content is refused by the ledger, so no execution can have two outcomes.
    """
    body = statement.body
    if isinstance(body, StageExecution):
        parts = [body.system, body.stage, body.run, str(body.attempt), body.key, body.outcome if body.outcome == "error" else ""]
    elif isinstance(body, StageReuse):
        parts = [body.system, body.stage, body.run, body.key, body.at]
    elif isinstance(body, DeploymentStep):
        parts = [body.system, body.environment, body.approval, body.action, str(body.step), body.run]
    else:
        parts = [statement.digest]
    return sha256_bytes(canonical_json([statement.kind, *parts]))


def system_of(statement: Statement) -> str:
    """The system that a statement is about; empty for what concerns all of them."""
    body = statement.body
    return body.scope.system if isinstance(body, Decision) else "" if isinstance(body, TrustPolicy) else str(body.system)
