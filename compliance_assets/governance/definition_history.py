"""What was promised, since when, and on whose word: every definition of a system, and what differs from the approved one.

The difference is between canonical parts (values, not text): a bound that moved is one line, a moved comment none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from compliance_assets.errors import ComplianceError
from compliance_assets.evidence import records
from compliance_assets.evidence.archive import Record
from compliance_assets.evidence.records import DefinitionProposed
from compliance_assets.governance.change_control import compare
from compliance_assets.pipeline import River
from compliance_assets.policy.definition import Definition
from compliance_assets.trust.canonical import Digest

_MOST = 200


@dataclass(frozen=True)
class Change:
    """One value that differs: where, before, after; None where it was not there."""

    where: str
    before: str | None
    after: str | None


def brief(river: River, system: str) -> dict[str, Any]:
    """One line: the definition at hand, the one in force, how many were proposed; or why it cannot be read."""
    force = river.archive.definition_in_force(system)
    proposed = len(_proposals(river, system))
    try:
        definition = river.definition(system)
    except ComplianceError as error:
        return {"system": system, "title": system, "problem": str(error), "at_hand": None, "force": force, "proposed": proposed}
    return {"system": system, "title": definition.system.title, "problem": "", "at_hand": definition.digest, "force": force,
            "proposed": proposed}


def history(river: River, system: str) -> dict[str, Any]:
    """The definition at hand with its bounds and reasons, what differs from the one in force, and every one proposed so far."""
    definition = river.definition(system)
    force = river.archive.definition_in_force(system)
    proposals = [{"record": record, "digest": _digest(record), "decisions": _decisions(river, record), "in_force": _digest(record) == force}
                 for record in reversed(_proposals(river, system))]
    return {"system": system, "title": definition.system.title, "at_hand": definition.digest, "force": force, "proposals": proposals,
            "bounds": list(_bounds(definition)), "code": definition.code, "compared": _compared(river, system, force),
            "declaration": (definition.folder / "system.yaml").read_text(encoding="utf-8"),
            "proposed_at_hand": any(_digest(record) == definition.digest for record in _proposals(river, system)),
            "approved_by": [(need.role, need.people) for need in river.organisation.definitions.approved_by]}


def trust_policies(river: River) -> dict[str, Any]:
    """organisation.yaml: the one at hand, every one that counted, and who is who."""
    reigns = river.archive.reigns()
    at_hand, in_force = river.organisation, reigns[-1][1] if reigns else None
    before = in_force.model_dump(mode="json") if in_force is not None else {}
    said = [record for record in river.archive.decided("trust-policy", "") if record.statement.subject("trust-policy") == at_hand.digest]
    return {"at_hand": at_hand.digest, "in_force": in_force.digest if in_force is not None else None,
            "changes": tuple(differences("", before, at_hand.model_dump(mode="json")))[:_MOST], "decisions": said,
            "approved_by": [(need.role, need.people) for need in (in_force or at_hand).definitions.approved_by],
            "reigns": [(since, organisation.digest, organisation.name) for since, organisation in reversed(reigns)],
            "people": river.organisation.people, "environments": river.organisation.environments}


def _proposals(river: River, system: str) -> list[Record]:
    return [record for record in river.archive.find(records.of_system(system), "definition-of")
            if isinstance(record.body, DefinitionProposed)]


def _digest(record: Record) -> str:
    return str(record.statement.subject("definition"))


def _decisions(river: River, proposal: Record) -> tuple[Record, ...]:
    subject = proposal.statement.subject("definition")
    return tuple(record for record in river.archive.decided("definition", proposal.body.system)
                 if record.statement.subject("definition") == subject)


def _bounds(definition: Definition) -> Iterator[dict[str, Any]]:
    evaluation = definition.system.evaluation
    families = (("performance", evaluation.performance), ("fairness", evaluation.fairness.bounds), ("robustness", evaluation.robustness),
                ("calibration", evaluation.calibration), ("drift", evaluation.drift.bounds),
                ("in every time slice", () if evaluation.time_slices is None else evaluation.time_slices.bounds))
    for gate, bounds in families:
        for bound in bounds:
            yield {"gate": gate, "metric": bound.metric, "over": ", ".join(bound.over), "bound": f"{bound.comparator} {bound.text}",
                   "judged_on": bound.judged_on, "because": bound.because}


def _compared(river: River, system: str, force: Digest | None) -> dict[str, Any] | None:
    """What differs from the one in force, with classes; None where there is none, or its parts cannot be read."""
    if force is None:
        return None
    try:
        return compare(river, system).as_json()
    except ComplianceError:
        return None


def differences(where: str, before: object, after: object) -> Iterator[Change]:
    """Every value that differs between two parsed JSON values, below the path `where`."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            path = f"{where}.{key}" if where else str(key)
            if key not in before:
                yield Change(path, None, _said(after[key]))
            elif key not in after:
                yield Change(path, _said(before[key]), None)
            else:
                yield from differences(path, before[key], after[key])
    elif isinstance(before, list | tuple) and isinstance(after, list | tuple) and len(before) == len(after):
        for place, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from differences(f"{where}.{place}", one, other)
    elif before != after:
        yield Change(where, _said(before), _said(after))


def _said(value: object) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:199]}…"
