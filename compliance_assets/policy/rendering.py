"""Writes organisation.yaml for people: one line for each thing, with a comment on what it means; the same every time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from compliance_assets.policy.browsers import DeclaredPages, DeclaredPasskey
    from compliance_assets.policy.organisation import Anchors, MachineKey, Organisation, Person


def rendered_organisation(organisation: Organisation) -> str:
    """The YAML text; `load_organisation` reads it back as the same organisation."""
    return "\n".join(_lines(organisation)) + "\n"


def _lines(organisation: Organisation) -> Iterator[str]:
    yield "# Who may say yes to what: people, machine keys and environments. This file is the trust policy: its digest stands in"
    yield "# every record, and a change counts only once the people under `definitions` have approved it."
    yield f"profile: {organisation.profile}" + (
        "   # one laptop: everything runs, nothing may be promoted, no production" if organisation.profile == "development" else "")
    yield f"name: {_text(organisation.name)}"
    yield f"demonstration: {_text(organisation.demonstration)}   # true if any person is made up; every record then says so"
    yield ""
    yield "# Ids are pseudonyms, kept in the ledger for good; keep the list of names elsewhere. A person signs with the OpenSSH key"
    yield "# under allowed_signers, or in the browser with one of their passkeys. git and launchers tell whose"
    yield "# work is whose, so that nobody approves their own."
    yield "people:"
    for person in organisation.people:
        yield from _person(person)
    yield ""
    yield "# One key for each role. A retired key stays, with valid_until, so that what it signed can still be verified."
    yield "machine_keys:"
    for key in organisation.machine_keys:
        yield from _machine_key(key)
    yield ""
    yield "environments:"
    for name, place in organisation.environments.items():
        yield f"  {_text(name)}:"
        yield f"    production: {_text(place.production)}   # do its answers reach the people concerned?"
        yield f"    promotable: {_text(place.promotable)}   # may what was made for it ever go to production?"
        yield f"    approvals: {place.approvals}   # declared: as the system says; one_person: only outside production"
        yield "    serves:"
        yield f"      host: {_text(place.serves.host)}"
        yield f"      port: {place.serves.port}"
        yield f"      admin_port: {place.serves.admin_port}"
        yield f"      server_ports: [{place.serves.server_ports[0]}, {place.serves.server_ports[1]}]"
    yield ""
    yield "# Who must approve a system's definition, and this file, before they count."
    yield "definitions:"
    yield "  approved_by:"
    for need in organisation.definitions.approved_by:
        yield f"    - {{role: {_text(need.role)}, people: {need.people}}}"
    if organisation.anchors is not None:
        yield from _anchors(organisation.anchors)
    if organisation.pages is not None:
        yield from _pages(organisation.pages)
    if organisation.alerts:
        yield ""
        yield "# Who is told when something fails, drifts or does not happen. Secrets are names of environment variables."
        yield "alerts:"
        for channel in organisation.alerts:
            yield f"  - {json.dumps(channel.model_dump(mode='json', exclude_defaults=True), ensure_ascii=False)}"


def _anchors(anchors: Anchors) -> Iterator[str]:
    yield ""
    yield "# Where heads of the ledger are kept outside this host, so that nobody here can rewrite it or cut it off unnoticed."
    yield "anchors:"
    yield f"  demanded: {_list(anchors.demanded)}   # without a fresh one of each kind nothing is deployed to production"
    yield f"  fresh_for: {_text(anchors.fresh_for)}"
    if anchors.witnesses:
        yield "  witnesses:"
    for witness in anchors.witnesses:
        yield f"    - name: {_text(witness.name)}"
        yield f"      key: {_text(witness.key)}"
        yield f"      address: {_text(witness.address)}"
    if anchors.git is not None:
        yield "  git:"
        yield f"    repository: {_text(anchors.git.repository)}"
        if anchors.git.remote is not None:
            yield f"    remote: {_text(anchors.git.remote)}"
        yield f"    signer: {_text(anchors.git.signer)}"


def _pages(pages: DeclaredPages) -> Iterator[str]:
    yield ""
    yield "# The governance pages' own address, which passkeys are bound to; and a proxy that signs people in, if there is one."
    yield "pages:"
    yield f"  origin: {_text(pages.origin)}"
    if pages.proxy is not None:
        yield "  proxy:"
        yield f"    addresses: {_list(pages.proxy.addresses)}"
        yield f"    header: {_text(pages.proxy.header)}"


def _person(person: Person) -> Iterator[str]:
    yield f"  - id: {_text(person.id)}"
    yield f"    roles: {_list(person.roles)}"
    if person.git:
        yield f"    git: {_list(person.git)}"
    if person.launchers:
        yield f"    launchers: {_list(person.launchers)}"
    if person.allowed_signers is not None:
        yield f"    allowed_signers: {_text(person.allowed_signers)}"
    if person.passkeys:
        yield "    passkeys:"
        yield from (f"      - {passkey_line(passkey)}" for passkey in person.passkeys)
    if person.demo:
        yield "    demo: true   # made up by `compliance demo`"


def passkey_line(passkey: DeclaredPasskey) -> str:
    """One passkey on one line, as organisation.yaml lists it under a person's `passkeys`."""
    return "{" + ", ".join(f"{name}: {_text(value)}" for name, value in passkey.model_dump(exclude_none=True).items()) + "}"


def _machine_key(key: MachineKey) -> Iterator[str]:
    yield f"  - role: {key.role}"
    yield f"    key: {_text(key.key)}"
    yield f"    valid_from: {_text(key.valid_from)}"
    if key.valid_until is not None:
        yield f"    valid_until: {_text(key.valid_until)}"


def _text(value: str | bool) -> str:
    """Quoted as JSON, which YAML reads alike: no word becomes a truth value, no key another number."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\x7f").replace("\x85", "\\x85")


def _list(values: Sequence[str]) -> str:
    return "[" + ", ".join(_text(value) for value in values) + "]"
