"""The deployment gate's verdict in a form that other tools read: a SLSA Verification Summary Attestation, signed by the gate.

An in-toto statement about exactly one model: this system may be deployed to this environment, under this definition, because of this
approval. It is kept as an artefact that the deployment's intent names, so that two keys stand behind every deployment: the gate's says
that it may be, the deployer's that it is meant. A server that takes part in a rollout loads nothing without it.
Format: SLSA VSA v1.1 in DSSE. The environment stands in `resourceUri`: a verdict for one environment is none for another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from compliance_assets.errors import OutOfTurn, UntrustedEvidence
from compliance_assets.evidence.archive import Archive, Record
from compliance_assets.evidence.records import STATEMENT
from compliance_assets.policy.gates import Finding
from compliance_assets.trust.canonical import Digest, canonical_json, parse_canonical, parse_rfc3339, rfc3339
from compliance_assets.trust.dsse import Envelope, sign_envelope, verify_envelope
from compliance_assets.trust.keys import SigningKey

PREDICATE = "https://slsa.dev/verification_summary/v1"
VERIFIER = "urn:compliance-assets:deployment-gate:v1"
LEVEL = "COMPLIANCE_ASSETS_APPROVED_FOR_DEPLOYMENT"
"""Ours; SLSA keeps names that begin with SLSA_ to itself."""
NAMED = "verification_summary"
"""Under which name an intent's evidence gives the artefact."""


def resource(system: str, environment: str) -> str:
    """What the verdict is about: one system in one environment."""
    return f"urn:compliance-assets:system:{system}:environment:{environment}"


def issue(archive: Archive, approval: Record, model: Digest, environment: str, authority: Iterable[Finding], now: datetime) -> Digest:
    """The gate's signed verdict, in the artefact store. Refused unless every finding of the authority passed."""
    failed = [finding.sentence() for finding in authority if not finding]
    if failed:
        raise OutOfTurn(f"No verdict lets {model.short} be deployed: {'; '.join(failed)}.", rule="verification summary", value=model,
                        remedy="Have what failed put right, and approved.")
    statement = {"_type": STATEMENT, "subject": [{"name": "model", "digest": {"sha256": model}}], "predicateType": PREDICATE,
                 "predicate": {**_verdict(approval.body.system, environment, approval.body.definition, approval.digest),
                               "timeVerified": rfc3339(now)}}
    key = SigningKey.load(archive.home.key_path("gate"))
    return archive.artefacts.put_bytes(sign_envelope(canonical_json(statement), [key]).to_bytes())


def _verdict(system: str, environment: str, definition: str, approval: str) -> dict[str, Any]:
    return {"verifier": {"id": VERIFIER}, "resourceUri": resource(system, environment),
            "policy": {"uri": "urn:compliance-assets:definition", "digest": {"sha256": definition}},
            "inputAttestations": [{"uri": "urn:compliance-assets:pre-deployment-approval", "digest": {"sha256": approval}}],
            "verificationResult": "PASSED", "verifiedLevels": [LEVEL], "slsaVersion": "1.1"}


def require(archive: Archive, intent: Record, approvals: Iterable[Record]) -> None:
    """Refuse unless the verdict that `intent` names lets exactly its model be deployed exactly there.

    (1) The intent names one, and its bytes are there. (2) A gate's key that counted at that moment, under the trust policy of the
    intent, signed it. (3) It is a SLSA verification summary about this model and nothing else. (4) It names this system, environment,
    definition and one of these approvals, and says PASSED. (5) It was made before the intent.
    """
    body = intent.body
    # (1)
    if not isinstance(body.evidence.get(NAMED), str):
        raise _refused(body, "its intent names no verdict of the deployment gate")
    envelope = Envelope.from_bytes(archive.artefacts.get_bytes(Digest.parse(body.evidence[NAMED])))
    # (2)
    statement: Mapping[str, Any] = parse_canonical(envelope.payload)
    try:
        made = parse_rfc3339(statement["predicate"]["timeVerified"])
        told = {name: value for name, value in statement["predicate"].items() if name != "timeVerified"}
        about = (statement["_type"], statement["predicateType"], statement["subject"])
    except (KeyError, TypeError, AttributeError) as error:
        raise _refused(body, "the verdict that it names is not of the form of one") from error
    organisation = next(each for _, each in archive.reigns() if each.digest == body.trust_policy)
    gates = {str(key.public.keyid): key.public for key in organisation.machine_keys if key.role == "gate"
             and parse_rfc3339(key.valid_from) <= made and (key.valid_until is None or made <= parse_rfc3339(key.valid_until))}
    try:
        verify_envelope(envelope, gates)
    except UntrustedEvidence as error:
        raise _refused(body, f"the verdict that it names is not the gate's: {error}") from error
    # (3)
    if about != (STATEMENT, PREDICATE, [{"name": "model", "digest": {"sha256": body.model}}]):
        raise _refused(body, "the verdict that it names is about something else")
    # (4)
    if told not in [_verdict(body.system, body.environment, body.definition, approval.digest) for approval in approvals
                    if approval.index < intent.index]:
        raise _refused(body, "the verdict that it names is for another system, environment, definition or approval, or did not pass")
    # (5)
    if made > parse_rfc3339(body.at):
        raise _refused(body, "the verdict that it names was made after it")


def _refused(intent: Any, why: str) -> OutOfTurn:
    return OutOfTurn(f"Model {intent.model[:12]} may not answer in {intent.environment}: {why}.", rule="verification summary",
                     value=intent.model, remedy="Deploy through the river: `compliance deploy` asks the gate and records its verdict.")
