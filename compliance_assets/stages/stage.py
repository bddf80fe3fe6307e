"""What a stage is: a rule, a way to produce, a way to judge; and what it may reach for while it works.

`produce` and `judge` of the computing stages are pure in the sense that matters here: the same declaration and inputs give
the same bytes. `judge` works from the sealed value alone, so that the same bytes can be judged again under another
definition without being computed again. The world (registry, servers, people) is handed to the acting stages by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel, ConfigDict

from compliance_assets.policy.gates import GateReport
from compliance_assets.policy.river import StageRule
from compliance_assets.trust.canonical import Digest, canonical_json, sha256_bytes

if TYPE_CHECKING:
    from compliance_assets.evidence.archive import Archive
    from compliance_assets.evidence.artefacts import ArtefactStore
    from compliance_assets.evidence.home import Home
    from compliance_assets.policy.definition import Definition
    from compliance_assets.policy.organisation import Organisation


class Value(BaseModel):
    """Base of what flows between stages: small, frozen, naming its bytes by digest; no clock, no float, no path inside."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    system: str
    """Every value carries its system, so that no record of one system fits another."""

    def manifest(self) -> bytes:
        """The canonical bytes whose sha256 is this value's digest."""
        return canonical_json(self.model_dump(mode="json"))

    @property
    def digest(self) -> Digest:
        return sha256_bytes(self.manifest())

    def files(self) -> Mapping[str, str]:
        """Every artefact that this value names, by role; what a verifier must find in the store."""
        return {}


class Report(Value):
    """A value whose bytes include what its own gates found."""

    gates: tuple[dict[str, Any], ...] = ()

    @property
    def reports(self) -> tuple[GateReport, ...]:
        return tuple(GateReport.read(body) for body in self.gates)


@dataclass(frozen=True)
class Draft:
    """What `produce` made: the value, and what was observed while making it (durations, resources; not part of identity)."""

    value: Value
    observations: Mapping[str, Any] = field(default_factory=dict)
    """JSON without floats: numbers as decimal strings. Kept in the stage record."""


class Tell(Protocol):
    """A listener for progress: `tell("trained", rows=30_000, seconds="2.1")`."""

    def __call__(self, event: str, **facts: object) -> None: ...


@dataclass(frozen=True)
class Driver:
    """Who runs this stage: one execution, whoever drives (Dagster, the CLI, a test)."""

    run_id: str
    launcher: str
    attempt: int = 0
    dagster_run_id: str | None = None
    by_hand: bool = False
    """True: a person works through the runbook, and signs each step."""


@dataclass(frozen=True)
class Work:
    """What a stage may reach for. Computing stages use `definition`, `artefacts`, `scratch`, `tell` and nothing else."""

    definition: Definition
    artefacts: ArtefactStore
    scratch: Path
    tell: Tell
    driver: Driver
    home: Home
    organisation: Organisation
    archive: Archive
    now: Callable[[], datetime]
    references: Mapping[str, str] = field(default_factory=dict)
    """Digests of what stands outside this release: `production` and `baseline` candidate models, by role."""


@dataclass(frozen=True)
class Stage:
    """One of the eight, bound to its code."""

    rule: StageRule
    makes: type[Value]
    produce: Callable[..., Draft]
    """`produce(work, **inputs) -> Draft`; inputs are the values of `rule.needs`, by asset name."""
    judge: Callable[..., Iterator[GateReport]]
    """`judge(work, draft, **inputs)` yields one report for each gate of `rule.gates`, in order. For rules with
    `ordered_gates` the caller stops asking at the first gate that may not be passed."""
    publish: Callable[..., Mapping[str, str]] | None = None
    """`publish(work, draft, reports, **inputs)` tells the world what was decided (MLflow); safe to repeat; called for passed
    and failed gates alike, before the record is written. Returns references for the record (run id, version)."""
    holds: Callable[..., bool] | None = None
    """For an acting stage that need not act twice: `holds(work, value)` says whether the world still is as its earlier passed
    record left it. None: the stage acts every time (approvals and deployments are never answered from the past)."""
