"""What is kept how long, counted from what the ledger says, and what may go when: a list; nothing is deleted here.

Documentation (records, artefacts, definitions, approvals, reports): at least ten years after the system was placed on the market or put
into service (Art. 18(1)). The law counts from that day; we count from the day the system went out of service, which is never earlier, and
keep everything while it is in service. Operation logs: an appropriate period, at least six months (Art. 19(1), Art. 26(6)). Rows that
describe people may have to go earlier under data-protection law: their manifests and digests stay. A legal hold overrides all of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from compliance_assets.evidence.holds import holds_of
from compliance_assets.pipeline import River
from compliance_assets.serving.sealing import keep_until
from compliance_assets.serving.supervisor import environment_folder

DOCUMENTATION, LOGS, INPUTS = "documentation (R10)", "operation log (R6m)", "operation log, personal data (R6m)"
STATUTORY_YEARS = 10


@dataclass(frozen=True)
class Kept:
    """One thing that is kept. `until` empty: no end is in sight. `may_go`: nothing of ours would refuse its deletion today."""

    system: str
    what: str
    kind: str
    since: str
    law_until: str
    until: str
    why: str
    may_go: bool

    def as_json(self) -> dict[str, Any]:
        return {"system": self.system, "what": self.what, "class": self.kind, "since": self.since, "law_until": self.law_until,
                "until": self.until, "why": self.why, "may_go": self.may_go}


def retention(river: River, system: str) -> tuple[Kept, ...]:
    """Everything of one system that is kept, with its class and its date."""
    held = any(not hold.released for hold in holds_of(river.archive, system))
    return tuple(_documentation(river, system, held)) + tuple(_logs(river, system, held))


def _documentation(river: River, system: str, held: bool) -> Iterator[Kept]:
    declared = river.definition(system).system
    today = river.now().astimezone(UTC).strftime("%Y-%m-%d")
    years = declared.retention.documentation_years
    steps = [record.body for record in river.archive.deployments(declared.deployment.environment) if record.body.system == system]
    begun = next((body.at[:10] for body in steps if body.action == "full_rollout"), "")
    ended = next((body.at[:10] for body in steps if body.action == "decommissioned"), "")
    law = keep_until(begun, 12 * STATUTORY_YEARS) if begun else ""
    until = keep_until(ended, 12 * years) if ended else ""
    why = (f"{years} years after it went out of service on {ended}" if ended else
           f"in service since {begun}: no end before `compliance decommission`" if begun else
           "never put into service: kept until it is, or until people decide otherwise")
    yield Kept(system, "every ledger entry, and the artefacts that they name", DOCUMENTATION, begun, law, until,
               "legal hold" if held else why, bool(until) and until < today and not held)


def _logs(river: River, system: str, held: bool) -> Iterator[Kept]:
    declared = river.definition(system).system
    today = river.now().astimezone(UTC).strftime("%Y-%m-%d")
    folder = environment_folder(river.home, declared.deployment.environment) / "log"
    for manifest in sorted(folder.rglob("sealed-*.json")):
        body = json.loads(manifest.read_bytes())
        for name, file in sorted(body["files"].items()):
            if "deleted" in file:
                continue
            kind = INPUTS if name.startswith("inputs-") else LOGS
            law, until = keep_until(body["day"], 6), body["keep_until"]
            why = "may go earlier, on its own, once its purpose has ended" if kind == INPUTS else f"declared; the law asks for {law}"
            yield Kept(system, f"{manifest.parent.name}/{name} ({file['rows']} rows)", kind, body["day"], law, until,
                       "legal hold" if held else why, until < today and not held)
