"""A server loads nothing that it cannot account for: the right to answer first, then the bytes, then the interface.

Numbered as they happen; each refuses on its own. The definition comes from its snapshot, not from the working tree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compliance_assets.errors import OutOfTurn, ServingError
from compliance_assets.serving.interface import needed_columns, request_model, row_model
from compliance_assets.serving.spec import ServerSpec, restore_snapshot
from compliance_assets.trust.canonical import Digest

if TYPE_CHECKING:
    from pydantic import BaseModel

    from compliance_assets.evidence.records import DeploymentStep
    from compliance_assets.policy.definition import Definition
    from compliance_assets.serving.prepared import Scores, Types

Authorise = Callable[[ServerSpec], object]


@dataclass(frozen=True)
class Loaded:
    """A model that may answer, with everything that it needs for it."""

    spec: ServerSpec
    definition: Definition
    row: type[BaseModel]
    request: type[BaseModel]
    columns: tuple[str, ...]
    schema: Mapping[str, Any]
    """Column types, as the feature code takes them."""
    types: Types
    """Name and type of every registered feature, in order."""
    scores: Scores
    """What the model gives for a frame of them."""
    threshold: float

    @property
    def version(self) -> dict[str, str]:
        return {"system": self.spec.system, "release": self.spec.release, "model": self.spec.model,
                "definition": self.spec.definition, "environment": self.spec.environment}


def authorise(spec: ServerSpec) -> object:
    """The record that lets this version answer in this environment for this purpose. Raises `OutOfTurn` if there is none."""
    from compliance_assets.evidence.archive import Archive
    from compliance_assets.evidence.authority import serving_authority
    from compliance_assets.evidence.home import Home
    from compliance_assets.policy.organisation import load_organisation

    organisation = load_organisation(Path(spec.root) / "organisation.yaml")
    archive = Archive.open(Home.open(Path(spec.home)), organisation, writer=False)
    approval = spec.authority if spec.purpose == "rollout" else None
    record = serving_authority(archive, spec.environment, Digest.parse(spec.model), spec.purpose, approval)
    if spec.purpose == "rollout":
        _require_same(spec, record.body)
    return record


def _require_same(spec: ServerSpec, intent: DeploymentStep) -> None:
    """Refuse a spec that differs from the recorded intent: another snapshot would decide at another threshold, or by other code."""
    told = {"system": spec.system, "release": spec.release, "definition": spec.definition, "snapshot": spec.snapshot,
            "trusted_types": list(spec.trusted_types), "feature_names": list(spec.feature_names)}
    recorded = {"system": intent.system, "release": intent.release, "definition": intent.definition,
                **{name: intent.evidence[name] for name in ("snapshot", "trusted_types", "feature_names")}}
    for name, value in recorded.items():
        if told[name] != value:
            raise OutOfTurn(f"The server's spec names another {name.replace('_', ' ')} than the deployment's record.",
                            rule="spec is the recorded one", value=str(told[name])[:200],
                            remedy="Let `compliance serve` write the spec, from the records.")


def load_served(spec: ServerSpec, authorise: Authorise = authorise) -> Loaded:
    """Everything that a server needs, or a refusal.

    1. The ledger lets exactly this model answer in this environment, for this purpose.
    2. The definition's files are those of the snapshot, and they declare this system.
    3. The data contract covers every column that the features are computed from.
    4. The model's bytes have the digest of the spec, and need no types beyond those its evidence names.
    5. The model takes the declared features, in their order.
    """
    from compliance_assets.evidence.artefacts import ArtefactStore
    from compliance_assets.features import registry_types, serving_schema
    from compliance_assets.modelfile import load
    from compliance_assets.policy.contract import read_contract
    from compliance_assets.policy.definition import load_definition
    from compliance_assets.serving.prepared import scores_of

    # (1)
    authorise(spec)
    # (2)
    artefacts = ArtefactStore(Path(spec.home) / "artefacts")
    folder = restore_snapshot(Digest.parse(spec.snapshot), artefacts, spec.folder / "definitions" / spec.snapshot)
    definition = load_definition(folder)
    if definition.system.system != spec.system:
        raise ServingError(f"The snapshot declares {definition.system.system}, not {spec.system}.", rule="one system",
                           value=definition.system.system, remedy="Deploy again: the spec and its evidence do not belong together.")
    # (3)
    row = row_model(definition.system, read_contract(definition.file(definition.system.data.contract)))
    # (4)
    model = load(artefacts.get_bytes(Digest.parse(spec.model)), spec.trusted_types)
    # (5)
    declared = tuple(feature.name for feature in definition.system.features.registry)
    if declared != spec.feature_names:
        raise ServingError("The model was trained on other features than this definition declares.", rule="feature order",
                           value=", ".join(spec.feature_names), remedy="Deploy the release that belongs to this definition.")
    types = registry_types(definition.system.features.registry)
    return Loaded(spec, definition, row, request_model(row, tuple(definition.system.data.protected)), needed_columns(definition.system),
                  serving_schema(definition), types, scores_of(model, types), definition.system.evaluation.decision_threshold)
