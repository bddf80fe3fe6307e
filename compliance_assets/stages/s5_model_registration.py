"""Stage 5, Model Registration: CandidateModel + EvaluationReport → StagedModel (registry: staging).

Attaches everything that Art. 11 and Annex IV ask to be findable from a model version, then moves it to `staging`. Halts while
one required field is missing, when the registry holds other bytes than were evaluated, or when what ran was not a committed,
approved definition. Art. 12(1), Art. 17(1)(k), Art. 18.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from compliance_assets.errors import OutOfTurn, RegistryError
from compliance_assets.evidence.dossier import Chain, Dossier
from compliance_assets.evidence.exceptions import excuses
from compliance_assets.evidence.records import Code
from compliance_assets.policy.gates import GateReport, conclude, fact
from compliance_assets.policy.river import rule_named
from compliance_assets.registry import REQUIRED_METADATA, Registry
from compliance_assets.stages.s3_model_training import CandidateModel
from compliance_assets.stages.s4_model_evaluation import EvaluationReport
from compliance_assets.stages.stage import Draft, Stage, Value, Work
from compliance_assets.trust.canonical import Digest, canonical_json, digest_of, sha256_bytes

RULE = rule_named("model_registration")
UNBOUND = "none: first release"


class StagedModel(Value):
    """A registered version in staging, with all its metadata."""

    candidate: str
    evaluation: str
    model: str
    """sha256 of the model file: what the server will load."""
    release: str
    registry_name: str
    registry_version: str
    metadata: str
    """Digest of every attached field, as JSON."""
    definition: str

    def files(self) -> Mapping[str, str]:
        return {"model": self.model, "metadata": self.metadata}


def release_id(chain: Chain) -> Digest:
    """The release: the digest of the definition and of everything that the candidate was made from."""
    candidate = chain.records["candidate_model"].body
    return digest_of({"system": candidate.system, "definition": candidate.definition, "dataset": chain.digest("dataset"),
                      "features": chain.digest("features"), "candidate_model": chain.digest("candidate_model")})


def produce(work: Work, *, candidate_model: CandidateModel, evaluation_report: EvaluationReport) -> Draft:
    """Attach the metadata to the candidate's registered version. Safe to repeat: the same fields are written again."""
    if evaluation_report.candidate != candidate_model.digest:
        raise OutOfTurn("The evaluation report is about another candidate.", rule="one release", value=evaluation_report.candidate,
                        remedy="Evaluate this candidate first.")
    system = work.definition.system
    chain = Dossier(system.system, work.definition.digest, work.archive.executions_of, excuses(work.archive, work.now())).require(
        RULE, {"candidate_model": candidate_model.digest, "evaluation_report": evaluation_report.digest})
    registry = Registry(work.home)
    version = registry.version_of(system.system, candidate_model.digest)
    if version is None:
        raise RegistryError(f"The registry of {system.system} does not list candidate {candidate_model.digest.short}.",
                            rule="registry lists the candidate", value=candidate_model.digest,
                            remedy="Train again: its registration is part of stage 3 and safe to repeat.")
    tags = metadata(work, chain, candidate_model, evaluation_report)
    registry.describe(system.system, version, tags)
    work.tell("metadata_attached", version=version, fields=len(tags))
    kept = work.artefacts.put_bytes(canonical_json(tags))
    return Draft(StagedModel(
        system=system.system, candidate=candidate_model.digest, evaluation=evaluation_report.digest, model=candidate_model.model,
        release=release_id(chain), registry_name=system.system, registry_version=version, metadata=kept,
        definition=work.definition.digest))


def metadata(work: Work, chain: Chain, candidate: CandidateModel, report: EvaluationReport) -> dict[str, str]:
    """Every field of `REQUIRED_METADATA`, from the records of this release and from nothing else."""
    system = work.definition.system
    trained, evaluated = chain.records["candidate_model"].body, chain.records["evaluation_report"].body
    features = work.artefacts.get_bytes(chain.digest("features"))
    findings = {gate.gate: [finding.as_json() for finding in gate.findings] for gate in report.reports}
    bounds = system.declaration()["evaluation"]
    return {
        "aisdp.dataset_version": chain.digest("dataset"),
        "aisdp.feature_set_version": chain.digest("features"),
        "aisdp.holdout_version": digest_of(json.loads(features)["splits"]["holdout"]),
        "aisdp.candidate": candidate.digest,
        "aisdp.artefact_sha256": candidate.model,
        "aisdp.model_state": candidate.state,
        "aisdp.release": release_id(chain),
        "aisdp.hyperparameters": canonical_json(system.declaration()["training"]["hyperparameters"]).decode(),
        "aisdp.seed": str(candidate.seed),
        "aisdp.code_commit": _commit(trained.code),
        "aisdp.pipeline_execution_id": trained.run,
        "aisdp.definition": trained.definition,
        "aisdp.thresholds": digest_of(bounds),
        "aisdp.environment": trained.environment,
        "aisdp.evaluation_report": report.digest,
        "aisdp.performance_metrics": canonical_json(_brief(findings["performance"])).decode(),
        "aisdp.fairness_metrics": canonical_json(_brief(findings["fairness"])).decode(),
        "aisdp.production_model": evaluated.references["production"] if "production" in evaluated.references else UNBOUND,
        "aisdp.baseline_model": evaluated.references["baseline"] if "baseline" in evaluated.references else UNBOUND,
        "aisdp.approval_status": "pending",
    }


def _commit(code: Code) -> str:
    if not code.under_version_control:
        return "not under version control"
    return f"{code.commit} (changed since)" if code.dirty else code.commit


def _brief(findings: list[dict[str, object]]) -> list[dict[str, object]]:
    """A finding without its groups: a registry tag holds 5,000 characters; the report holds the rest."""
    return [{key: value for key, value in finding.items() if key in ("id", "value", "lower", "upper", "n", "bound", "verdict")}
            for finding in findings]


def judge(work: Work, draft: Draft, *, candidate_model: CandidateModel,
          evaluation_report: EvaluationReport) -> Iterator[GateReport]:
    """Definition, metadata, integrity."""
    staged = draft.value
    assert isinstance(staged, StagedModel)
    gates = {gate.name: gate.version for gate in RULE.gates}
    chain = Dossier(staged.system, work.definition.digest, work.archive.executions_of, excuses(work.archive, work.now())).require(
        RULE, {"candidate_model": candidate_model.digest, "evaluation_report": evaluation_report.digest})
    in_force = work.archive.definition_in_force(staged.system)
    environment = work.organisation.environments.get(work.definition.system.deployment.environment)
    strict = environment is not None and environment.production and not work.organisation.demonstration
    dirty = sorted(asset for asset, record in chain.records.items() if record.body.code.dirty)
    yield conclude("definition", gates["definition"], [
        fact("definition.approved", in_force == work.definition.digest, value=work.definition.digest.short,
             bound=in_force.short if in_force else "none approved"),
        fact("definition.committed", not dirty or not strict, value=", ".join(dirty) or "all stages",
             because="a production release comes from a committed tree (not asked of a demonstration or development environment)"),
    ])
    registry = Registry(work.home)
    missing = registry.missing_metadata(staged.registry_name, staged.registry_version)
    yield conclude("metadata", gates["metadata"], [
        fact(f"metadata.{name.removeprefix('aisdp.')}", name not in missing, note=what) for name, what in REQUIRED_METADATA.items()])
    held = sha256_bytes(registry.model_bytes(staged.registry_name, staged.registry_version))
    yield conclude("integrity", gates["integrity"], [
        fact("integrity.registry_bytes", held == staged.model, value=held, bound=staged.model),
        fact("integrity.evaluated_bytes", candidate_model.model == staged.model, value=candidate_model.model, bound=staged.model),
        fact("integrity.report_is_about_it", evaluation_report.candidate == candidate_model.digest,
             value=evaluation_report.candidate, bound=candidate_model.digest),
    ])


def publish(work: Work, draft: Draft, reports: tuple[GateReport, ...], **_: object) -> Mapping[str, str]:
    """experimental → staging, once every gate has passed."""
    staged = draft.value
    assert isinstance(staged, StagedModel)
    registry = Registry(work.home)
    if all(reports) and registry.lifecycle(staged.registry_name, staged.registry_version) == "experimental":
        registry.stage(staged.registry_name, staged.registry_version)
    return {"registry_name": staged.registry_name, "registry_version": staged.registry_version,
            "lifecycle": registry.lifecycle(staged.registry_name, staged.registry_version)}


def holds(work: Work, staged: StagedModel) -> bool:
    """Whether the registry still lists the staged version, beyond experimental, with all its fields and these very bytes."""
    registry = Registry(work.home)
    if registry.version_of(staged.registry_name, staged.candidate) != staged.registry_version:
        return False
    name, version = staged.registry_name, staged.registry_version
    return (registry.lifecycle(name, version) in ("staging", "production", "archived") and not registry.missing_metadata(name, version)
            and sha256_bytes(registry.model_bytes(name, version)) == staged.model)


STAGE = Stage(RULE, StagedModel, produce, judge, publish, holds)
