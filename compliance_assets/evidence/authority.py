"""May this model answer here? The last place where evidence is asked for: the server that is about to load it.

A server in the integration environment loads only a staged model that passed; a server that takes part in a rollout or answers
for production loads only a model with a passed approval for exactly this environment and a recorded intent to deploy it there.
Both are judged under the definition and trust policy recorded at the decision, so that a restart years later needs nothing new
(Art. 17(1)(a); this project's rule).
"""

from __future__ import annotations

from typing import Literal

from compliance_assets.errors import OutOfTurn
from compliance_assets.evidence import verification_summary
from compliance_assets.evidence.archive import Archive, Record
from compliance_assets.evidence.dossier import Chain, Dossier
from compliance_assets.evidence.exceptions import excuses
from compliance_assets.trust.canonical import Digest, parse_canonical, parse_rfc3339

Purpose = Literal["integration", "rollout"]


def serving_authority(archive: Archive, environment: str, model: Digest, purpose: Purpose, approval: str | None = None) -> Record:
    """The record that allows `model` to be loaded in `environment`, or a refusal.

    `approval`: the one under which it is to be loaded, for a rollout; the latest that names the model where it is not said.

    integration: 1. the environment is none in which models answer people; 2. a stage record says that these bytes were staged,
    and every gate on the way passed.
    rollout: 1. a deployment intent names this model and environment; 2. the approval that it rests on passed every gate, with
    everything before it; 3. that approval is for this environment and this model, and its deployment
    was neither aborted, withdrawn nor rolled back since; 4. the deployment gate's signed verdict (a SLSA verification summary) lets
    this model be deployed in this environment under this approval.
    """
    if purpose == "integration":
        # (1)
        if environment in archive.in_force().environments:
            raise _refused(model, environment, "there, a model needs people's approval; a test has an environment of its own")
        # (2)
        staged = [record for record in archive.find(model, "file") if record.body.stage == "model_registration"]
        if not staged:
            raise _refused(model, environment, "no record says that it was ever staged")
        record = staged[-1]
        _chain(archive, record, "staged_model")
        return record
    # (1)
    steps = [record for record in archive.find(model, "deployed") if record.body.environment == environment]
    intents = [record for record in steps if record.body.action == "intent" and approval in (None, record.body.approval)]
    if not intents:
        raise _refused(model, environment, "no record says that its deployment was intended")
    intent = intents[-1]
    ended = _ended(archive, intent)
    if ended is not None:
        raise _refused(model, environment, f"its deployment was {ended.body.action.replace('_', ' ')}: "
                                           f"{ended.body.reason or 'no reason was given'}")
    # (2)
    approvals = [record for record in archive.executions_of(Digest.parse(intent.body.approval))
                 if record.body.stage == "pre_deployment_approval"]
    if not approvals:
        raise _refused(model, environment, "nobody approved it")
    chain = _chain(archive, approvals[-1], "approval")
    # (3)
    value = archive.artefacts.get_bytes(Digest.parse(intent.body.approval))
    approved = parse_canonical(value)
    if approved["environment"] != environment or approved["model"] != model:
        raise _refused(model, environment, f"the approval is for {approved['environment']} and model {approved['model'][:12]}")
    if chain.digest("staged_model") != intent.body.staged:
        raise _refused(model, environment, "the intent names another staged model than the approval")
    # (4)
    verification_summary.require(archive, intent, approvals)
    return intent


def _ended(archive: Archive, intent: Record) -> Record | None:
    """The record that ended what `intent` began, unless a later one returned to it."""
    ended: Record | None = None
    for record in archive.deployments(intent.body.environment):
        body = record.body
        if record.index < intent.index:
            continue
        if body.action == "decommissioned" and body.system == intent.body.system:
            return record  # nothing brings it back
        if body.action in ("aborted", "withdrawn") and body.approval == intent.body.approval:
            ended = record
        elif body.action == "rolled_back" and intent.body.approval in (body.approval, body.previous_approval):
            ended = record if body.approval != intent.body.approval else None
    return ended


def _chain(archive: Archive, record: Record, asset: str) -> Chain:
    """Everything the record rests on, judged under the definition, and with the exceptions, that it was itself judged under."""
    dossier = Dossier(record.body.system, Digest.parse(record.body.definition), archive.executions_of,
                      excuses(archive, parse_rfc3339(record.body.finished), record.index))
    return dossier.admit(asset, Digest.parse(record.body.output), needed_by="the model server")


def _refused(model: Digest, environment: str, why: str) -> OutOfTurn:
    return OutOfTurn(f"Model {model.short} may not answer in {environment}: {why}.", rule="serving authority", value=model,
                     remedy="Deploy through the river: `compliance approve`, then `compliance deploy`.")
