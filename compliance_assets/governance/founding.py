"""A home is founded: keys are made where they will stay, people are named, the ledger gets its first entry.

Machine keys are generated here and written 0600; their public halves go into organisation.yaml, which becomes entry 0 of the
ledger. On one laptop a development profile names one person: everything runs, nothing may be promoted, and no production
environment exists until a second person does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from compliance_assets.evidence.archive import create_archive
from compliance_assets.evidence.home import MACHINE_ROLES, Home
from compliance_assets.pipeline import River, open_river
from compliance_assets.policy.organisation import (
    Definitions,
    Environment,
    MachineKey,
    Organisation,
    Person,
    Serves,
    load_organisation,
    render_organisation,
)
from compliance_assets.policy.system import RequiredApproval
from compliance_assets.trust.canonical import rfc3339
from compliance_assets.trust.keys import SigningKey
from compliance_assets.trust.sshsig import generate_ssh_key


def make_machine_keys(home: Home, now: datetime) -> tuple[MachineKey, ...]:
    """One new key for each machine role, private halves 0600 in the home."""
    made = []
    for role in MACHINE_ROLES:
        key = SigningKey.generate()
        key.save(home.key_path(role))
        made.append(MachineKey(role=role, key=key.public.text, valid_from=rfc3339(now)))
    return tuple(made)


def make_person_key(home: Home, person: str) -> str:
    """A new SSH key for a person of a development or demo home; returns the public line without its comment."""
    folder = home.keys / "people"
    folder.mkdir(exist_ok=True, mode=0o700)
    line = generate_ssh_key(folder / person, person)
    return " ".join(line.split()[:2])


def serves(port: int) -> Serves:
    """Four neighbouring ports on loopback: the router, its administration, two model servers."""
    return Serves(host="127.0.0.1", port=port, admin_port=port + 1, server_ports=(port + 2, port + 3))


def development_organisation(home: Home, name: str, person: str, roles: Sequence[str], launcher: str, git: Sequence[str], port: int,
                             now: datetime) -> Organisation:
    """One person with every role, one environment that is not production, nothing promotable."""
    return Organisation(
        profile="development", name=name, demonstration=False,
        people=(Person(id=person, roles=tuple(roles), git=tuple(git), launchers=(launcher,),
                       allowed_signers=make_person_key(home, person)),),
        machine_keys=make_machine_keys(home, now),
        environments={"development": Environment(production=False, promotable=False, approvals="one_person", serves=serves(port))},
        definitions=Definitions(approved_by=(RequiredApproval(role=roles[0], people=1),)))


def demonstration_organisation(home: Home, name: str, people: Mapping[str, str], engineer: str, launcher: str, port: int,
                               now: datetime) -> Organisation:
    """People made up by the program, each with one role and a key of their own, and an engineer who launches but cannot approve."""
    approvers = tuple(Person(id=person, roles=(role,), allowed_signers=make_person_key(home, person), demo=True)
                      for person, role in people.items())
    engineers = (Person(id=engineer, roles=("ml_engineer",), launchers=(launcher,),
                        allowed_signers=make_person_key(home, engineer), demo=True),)
    return Organisation(
        profile="organisation", name=name, demonstration=True, people=(*approvers, *engineers),
        machine_keys=make_machine_keys(home, now),
        environments={"production": Environment(production=True, promotable=True, approvals="declared", serves=serves(port))},
        definitions=Definitions(approved_by=tuple(RequiredApproval(role=role, people=1) for role in people.values())))


def found(root: Path, home: Home, organisation: Organisation, now: datetime, ledger: str = "") -> River:
    """Write organisation.yaml, make the ledger (in Postgres, where its address is given), and open the project."""
    path = root / "organisation.yaml"
    path.write_text(render_organisation(organisation), encoding="utf-8")
    create_archive(home, load_organisation(path), now, ledger)
    return open_river(root, home.path)
