"""A whole small organisation around the small lender: a home, people with keys, an approved definition. Healthy by default."""

from __future__ import annotations

import random
import shutil
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from compliance_assets.evidence import inbox
from compliance_assets.evidence.home import Home
from compliance_assets.governance.deciding import Kind, Signer, decide_definition, decide_release
from compliance_assets.governance.founding import demonstration_organisation, found
from compliance_assets.governance.proposing import propose_definition
from compliance_assets.pipeline import Advance, River, advance, drive
from compliance_assets.stages.stage import Driver
from compliance_assets_tests.small_lender import write_small_lender

SYSTEM = "small_lender"
OWNER, GOVERNANCE, ENGINEER = "owner-1", "governance-1", "engineer-1"
PEOPLE = {OWNER: "technical_owner", GOVERNANCE: "governance_lead"}
REASON = "Looked at every finding of this small lender and its groups."


def free_ports() -> int:
    """The first of four neighbouring ports on loopback that nobody holds."""
    # A random beginning: other suites may look for ports at the same time. Below those that systems give to outgoing connections
    # (from 32768 on Linux): one of these may be taken between now and when a server wants it.
    for start in (random.SystemRandom().randrange(21000, 32700) for _ in range(1000)):
        held = []
        try:
            for port in range(start, start + 4):
                probe = socket.socket()
                held.append(probe)
                probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        finally:
            for probe in held:
                probe.close()
        return start
    raise OSError("no four neighbouring ports are free")


def founded(root: Path, ledger: str = "", write: Callable[..., Path] = write_small_lender, **changes: object) -> River:
    """A founded project with the small lender, or the system that `write` writes; its definition not yet approved.

    `ledger`: an address in Postgres, else a file.
    """
    write(root, **changes)
    home = Home.create(root / ".compliance")
    organisation = demonstration_organisation(home, "Small Lender", PEOPLE, ENGINEER, "engineer", free_ports(), datetime.now(UTC))
    # Approvers can launch too; then they may not approve what they launched.
    people = tuple(person if person.launchers else person.model_copy(update={"launchers": (person.id,)}) for person in organisation.people)
    return found(root, home, organisation.model_copy(update={"people": people}), datetime.now(UTC), ledger)


def approve_definition(river: River, system: str = SYSTEM) -> None:
    """Everybody who must approves the definition as its files stand."""
    propose_definition(river, system, ENGINEER)
    for person, role in PEOPLE.items():
        decide_definition(river, system, signer(river, person, role), "approve", REASON, opened_seconds=1)
    inbox.admit(river.archive)


def signer(river: River, person: str, role: str | None = None) -> Signer:
    return Signer(person, role or PEOPLE[person], river.home.keys / "people" / person)


def decide(river: River, person: str, decision: Kind = "approve", reason: str = REASON, until: str = "", system: str = SYSTEM) -> Path:
    """One person decides about the release in review; the signed file lies in the inbox."""
    return decide_release(river, system, signer(river, person), decision, reason, opened_seconds=3, due=until)[1]


def someone(run: str = "test-run", launcher: str = "engineer") -> Driver:
    return Driver(run_id=run, launcher=launcher)


def run_to(river: River, stage: str, system: str = SYSTEM, run: str = "test-run") -> list[Advance]:
    """Drive the system up to a stage; every outcome on the way."""
    return list(drive(river, system, someone(run), stop=stage))


def step(river: River, stage: str, run: str = "test-run", system: str = SYSTEM) -> Advance:
    """One stage on what passed last."""
    return advance(river, system, stage, None, someone(run))


def copied(source: Path, target: Path) -> Path:
    """A copy of a founded project, as another moment of the same world."""
    shutil.copytree(source, target, symlinks=True)
    return target
