"""Does what answers agree with what the ledger says should answer? Servers are asked, files read, and differences named.

The servers are asked one by one at their own ports, whoever started them, and what they say is held against the deployment records;
so are the start files that the supervisor left and the bytes of the model itself. Nothing is mended here: the supervisor does that, and
people find out why. A host whose root user is the liar can answer anything: that is said in the threat model (Art. 12(1), Art. 17(1)(a)).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from compliance_assets.errors import ComplianceError
from compliance_assets.evidence.archive import Archive
from compliance_assets.evidence.deployments import SLOTS, DesiredState, Slot, SlotName
from compliance_assets.evidence.home import Home
from compliance_assets.serving.client import Client
from compliance_assets.serving.router import Ports
from compliance_assets.serving.supervisor import environment_folder
from compliance_assets.serving.switch import StopSwitch
from compliance_assets.trust.canonical import Digest

SECONDS = 5.0
"""How long one server may take to say which version it is."""
SAYS = ("system", "release", "model", "definition", "environment")


@dataclass(frozen=True)
class Compared:
    """What was wanted, what was seen, and every difference in a sentence. True only if there is none."""

    environment: str
    wanted: dict[str, str]
    """Model by slot, as the ledger says."""
    seen: dict[str, str]
    """Model by slot, as the server at that slot's port says; empty where nobody answers."""
    differences: tuple[str, ...]
    stopped: str
    """Why answers are stopped by people; empty while they are not."""

    def __bool__(self) -> bool:
        return not self.differences

    def as_json(self) -> dict[str, Any]:
        return {"environment": self.environment, "agrees": bool(self), "wanted": self.wanted, "seen": self.seen,
                "differences": list(self.differences), "stopped": self.stopped}


def compare(archive: Archive, home: Home, ports: Ports, state: DesiredState) -> Compared:
    """Hold what serves against `state`.

    1. At each slot's port, exactly the version that the ledger asks for there says that it is it; where none is asked for, nobody answers.
    2. The file from which a slot's server is started again names that very version. 3. The model's bytes are those of its digest.
    """
    wanted = {slot.name: slot for slot in (state.standby, state.candidate, state.production) if slot is not None}
    said = {name: _version(ports.of(name)) for name in SLOTS}
    differences = [sentence for name in SLOTS for sentence in _slot(archive, home, state, name, wanted.get(name), said[name])]
    return Compared(state.environment, {name: slot.model for name, slot in wanted.items()},
                    {name: str(answer["model"]) if answer is not None else "" for name, answer in said.items()}, tuple(differences),
                    StopSwitch(environment_folder(home, state.environment)).reason or "")


def _slot(archive: Archive, home: Home, state: DesiredState, name: SlotName, slot: Slot | None,
          said: dict[str, Any] | None) -> Iterator[str]:
    # (1)
    if slot is None:
        if said is not None:
            yield f"{name}: model {said['model'][:12]} answers, and no deployment record asks for it"
        return
    expected = {"system": slot.system, "release": slot.release, "model": slot.model, "definition": slot.definition,
                "environment": state.environment}
    if said is None:
        yield f"{name}: nobody answers, and the ledger asks for model {slot.model[:12]}"
    else:
        yield from (f"{name}: the server says {what} {str(said[what])[:12]}, the ledger {expected[what][:12]}"
                    for what in SAYS if said[what] != expected[what])
    # (2)
    path = environment_folder(home, state.environment) / "specs" / f"{name}.json"
    try:
        spec = json.loads(path.read_bytes())
        found = {"model": str(spec["model"]), "release": str(spec["release"]), "authority": str(spec["authority"])}
        yield from (f"{name}: {path.name} names {what} {found[what][:12]}, the ledger {has[:12]}"
                    for what, has in (("model", slot.model), ("release", slot.release), ("authority", slot.approval)) if found[what] != has)
    except FileNotFoundError:
        yield f"{name}: {path.name}, from which its server is started, is not there"
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield f"{name}: {path.name} cannot be read ({type(error).__name__})"
    # (3)
    try:
        archive.artefacts.open_path(Digest.parse(slot.model))
    except ComplianceError as error:
        yield f"{name}: {error.message}"


def _version(port: int) -> dict[str, Any] | None:
    """What the server at a port says that it is; None if nobody answers there. Whoever answers with something else is seen, too."""
    try:
        with Client(f"http://127.0.0.1:{port}", seconds=SECONDS) as client:
            answer = client.get("/version")
            said = answer.json()
    except ComplianceError as error:
        return None if "does not answer" in error.message else dict.fromkeys(SAYS, "none that can be read")
    whole = answer.status == 200 and isinstance(said, dict)
    return {what: str(said[what]) if whole and what in said else "none that can be read" for what in SAYS}
