"""The people, machine keys and environments of an organisation, as `organisation.yaml` declares them: who may say yes to what.

Together they are the *trust policy*; its digest is in every record. People are pseudonymous here and in the ledger: an id, roles,
and the key they sign with. One person fills one place of a quorum, however many roles they hold (Art. 17(1)(m)).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from compliance_assets.errors import ComplianceError, UntrustedEvidence
from compliance_assets.policy.browsers import DeclaredPages, DeclaredPasskey, pages_problems, passkey_problems
from compliance_assets.policy.declared import (
    MACHINE_KEY,
    MOMENT,
    PERIOD,
    PERSON,
    Declared,
    Name,
    Problem,
    Text,
    Where,
    refuse_any,
)
from compliance_assets.policy.reading import read_declared
from compliance_assets.policy.system import RequiredApproval, System
from compliance_assets.trust.canonical import Digest, digest_of

if TYPE_CHECKING:
    from compliance_assets.trust.keys import PublicKey

MachineRole = Literal["pipeline", "gate", "deployer", "log"]
MACHINE_ROLES: tuple[MachineRole, ...] = ("pipeline", "gate", "deployer", "log")

Moment = Annotated[str, Field(pattern=MOMENT)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Person(Declared):
    """One person, under a pseudonym that stays in the ledger for good."""

    id: Annotated[str, Field(pattern=PERSON)] = Field(description="a pseudonym, never reused for somebody else")
    roles: tuple[Name, ...] = Field(min_length=1, description="the roles in which this person may decide")
    git: tuple[Text, ...] = Field((), description="e-mail addresses of this person's commits: nobody approves their own work")
    launchers: tuple[Text, ...] = Field((), description="user names under which this person launches runs")
    allowed_signers: Text | None = Field(
        None, description="the OpenSSH public key this person signs with, as in allowed_signers but without the principal; "
                          "nothing for someone who never signs")
    passkeys: tuple[DeclaredPasskey, ...] = Field((), description="passkeys with which this person signs in the browser, beside or instead")
    demo: bool = Field(False, description="true for a person made up by `compliance demo`")

    @model_serializer(mode="wrap")
    def _as_declared(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A person without passkeys is digested as before there were any: old approvals hold."""
        written: dict[str, Any] = whole(self)
        if not self.passkeys:
            del written["passkeys"]
        return written

    @property
    def signs(self) -> bool:
        """Whether this person holds anything to sign with."""
        return self.allowed_signers is not None or bool(self.passkeys)


class MachineKey(Declared):
    """One key of one machine role. Retired keys stay listed, with their end, so that old records can be verified."""

    role: MachineRole = Field(description="what the key vouches for: runs, verdicts, deployments, or the ledger's checkpoints")
    key: Annotated[str, Field(pattern=MACHINE_KEY)] = Field(description="the public key as ed25519:<base64>")
    valid_from: Moment = Field(description="from when it counts, in UTC")
    valid_until: Moment | None = Field(None, description="until when it counts, in UTC; nothing while it is in use")

    @property
    def public(self) -> PublicKey:
        from compliance_assets.trust.keys import PublicKey

        return PublicKey.parse(self.key)


Secret = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{1,60}$", description="name of an environment variable")]


class Serves(Declared):
    """Where an environment answers: the router's address, its administration, and the two model servers behind it."""

    host: Text = Field(description="address that the router listens on; 127.0.0.1 unless others must reach it")
    port: Port = Field(description="the router's port")
    admin_port: Port = Field(description="the router's administration, on 127.0.0.1 only")
    server_ports: tuple[Port, Port] = Field(description="the model servers behind the router: current and next")

    @property
    def ports(self) -> tuple[int, ...]:
        return (self.port, self.admin_port, *self.server_ports)


class Environment(Declared):
    """A place where a model answers."""

    production: bool = Field(description="whether its answers reach the people concerned")
    promotable: bool = Field(description="whether what was made for it may ever go to production")
    approvals: Literal["declared", "one_person"] = Field(
        description="declared: as the system says; one_person: one person is enough, only outside production")
    serves: Serves = Field(description="addresses of its router and model servers")


class Definitions(Declared):
    """Who must approve a definition and this file before they count."""

    approved_by: tuple[RequiredApproval, ...] = Field(min_length=1, description="roles, and how many people of each")


AnchorKind = Literal["witness", "git"]


class DeclaredWitness(Declared):
    """Somebody outside who remembers the ledger's head and cosigns only what grew from it (c2sp.org/tlog-witness)."""

    name: Text = Field(description="the witness's own name, as in its cosignatures: witness.example/1")
    key: Annotated[str, Field(pattern=MACHINE_KEY)] = Field(description="its public key as ed25519:<base64>")
    address: Text = Field(description="where it takes checkpoints: https://witness.example")


class GitTags(Declared):
    """A repository that keeps the ledger's heads as tags signed with an SSH key; `git tag -v` verifies them."""

    repository: Text = Field(description="a local clone; a relative path counts from the folder of this file")
    remote: Text | None = Field(None, description="the remote to which tags are pushed; nothing if the clone itself is outside this host")
    signer: Text = Field(description="the OpenSSH public key that signs the tags, as in allowed_signers but without the principal")


class Anchors(Declared):
    """Where heads of the ledger are kept outside this host, and which of these production demands."""

    demanded: tuple[AnchorKind, ...] = Field(description="the kinds without which nothing is deployed to production")
    fresh_for: Annotated[str, Field(pattern=PERIOD)] = Field(description="how old an anchor may be when something is deployed, like 24h")
    witnesses: tuple[DeclaredWitness, ...] = Field((), description="every one of them must have cosigned")
    git: GitTags | None = Field(None, description="the repository of signed tags")


class AlertChannel(Declared):
    """Where alerts go. Secrets are named, not written: each is the name of an environment variable."""

    kind: Literal["email", "webhook", "slack"] = Field(description="email: SMTP; webhook: the alert as JSON; slack: its headline as text")
    url_from: Secret | None = Field(None, description="webhook, slack: the variable that holds the address")
    host: Text | None = Field(None, description="email: the mail server")
    port: Port | None = Field(None, description="email: its port")
    sender: Text | None = Field(None, description="email: who it is from")
    to: tuple[Text, ...] = Field((), description="email: who gets it")
    user: Text | None = Field(None, description="email: name to sign in with, if not the sender")
    password_from: Secret | None = Field(None, description="email: the variable that holds the password; then TLS is used")

    @model_validator(mode="after")
    def _whole(self) -> AlertChannel:
        mail = {"host": self.host, "port": self.port, "sender": self.sender, "to": self.to}
        if self.kind == "email":
            refuse_any([Problem((name,), "is needed for e-mail", "Declare host, port, sender and to.")
                        for name, value in mail.items() if not value])
        elif self.url_from is None:
            refuse_any([Problem(("url_from",), f"is needed for {self.kind}", "Name the environment variable that holds the address.")])
        return self


class Organisation(Declared):
    """organisation.yaml, whole."""

    profile: Literal["development", "organisation"] = Field(
        description="development: one laptop, nothing may be promoted; organisation: several people")
    name: Text = Field(description="the provider, as the documents name it")
    demonstration: bool = Field(description="true if any person is made up; every record then says so")
    people: tuple[Person, ...] = Field(min_length=1, description="everyone who may decide, launch or commit")
    machine_keys: tuple[MachineKey, ...] = Field(min_length=4, description="public keys of the four machine roles")
    environments: dict[Name, Environment] = Field(min_length=1, description="where models answer, by name")
    definitions: Definitions = Field(description="who approves definitions and this file")
    anchors: Anchors | None = Field(None, description="where heads of the ledger are kept outside this host")
    alerts: tuple[AlertChannel, ...] = Field((), description="who is told when something fails, drifts or does not happen")
    pages: DeclaredPages | None = Field(None, description="where the governance pages answer, if not on http://localhost of this host")

    @model_validator(mode="after")
    def _sound(self) -> Organisation:
        refuse_any((*_people_problems(self.people), *_key_problems(self), *_environment_problems(self), *_anchor_problems(self),
                    *(pages_problems(self.pages) if self.pages is not None else ()),
                    *_quorum_problems(self.definitions.approved_by, self.people, ("definitions", "approved_by"))))
        if self.demonstration != any(person.demo for person in self.people):
            refuse_any([Problem(("demonstration",), "must be true exactly if a person is marked demo",
                                "Mark made-up people with demo: true, and the whole file with demonstration: true.")])
        return self

    @model_serializer(mode="wrap")
    def _as_declared(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A policy that declares no anchors, alerts or pages is digested as before there were any: old approvals still hold."""
        written: dict[str, Any] = whole(self)
        if self.anchors is None:
            del written["anchors"]
        if not self.alerts:
            del written["alerts"]
        if self.pages is None:
            del written["pages"]
        return written

    @property
    def digest(self) -> Digest:
        """The trust policy's digest: over the resolved values, so that comments and the order of keys do not matter."""
        return digest_of(self.model_dump(mode="json"))

    @property
    def roles(self) -> frozenset[str]:
        return frozenset(role for person in self.people for role in person.roles)

    def person(self, id: str) -> Person:
        """The person called `id`. UntrustedEvidence if there is none: whoever signed is nobody here."""
        for person in self.people:
            if person.id == id:
                return person
        raise UntrustedEvidence(f"organisation.yaml knows nobody called {id!r:.70}.", rule="people", value=f"{id!r:.70}",
                                remedy=f"Known: {', '.join(person.id for person in self.people)}.")

    def allowed_signers_text(self, person_id: str) -> str:
        """This person's line of an OpenSSH allowed_signers file; the principal is their id."""
        person = self.person(person_id)
        if person.allowed_signers is None:
            raise UntrustedEvidence(f"{person_id} has no SSH key to sign with.", rule="people", value=person_id,
                                    remedy="Add allowed_signers for this person, and have organisation.yaml approved.")
        return f"{person.id} {person.allowed_signers}\n"

    def machine_key(self, role: MachineRole, keyid: str) -> MachineKey:
        """The listed key with this id in this role. UntrustedEvidence if it is listed for another role, or not at all."""
        for key in self.machine_keys:
            if key.role == role and key.public.keyid == keyid:
                return key
        raise UntrustedEvidence(f"{keyid!r:.20} is no {role} key of organisation.yaml.", rule="machine keys",
                                value=f"{keyid!r:.70}",
                                remedy="Use the home's own keys, or add the key and have organisation.yaml approved.")

    def current_key(self, role: MachineRole) -> PublicKey:
        """The key of a role that is in use: the one without an end, else the one that ends last."""
        of_role = [key for key in self.machine_keys if key.role == role]
        return max(of_role, key=lambda key: (key.valid_until is None, key.valid_until or "", key.valid_from)).public

    def log_key(self) -> PublicKey:
        """The key that signs the ledger's checkpoints."""
        return self.current_key("log")


def load_organisation(path: Path) -> Organisation:
    """organisation.yaml at `path`. DeclarationError with every problem found."""
    return read_declared(path, Organisation)


def check_against(system: System, organisation: Organisation) -> tuple[Problem, ...]:
    """What `system` asks of the organisation and does not find there; keys are those of system.yaml."""
    return tuple(_demands(system, organisation))


def _demands(system: System, organisation: Organisation) -> Iterator[Problem]:
    wanted = system.deployment.environment
    where: Where = ("approval", "requires")
    environment = organisation.environments.get(wanted)
    if environment is None:
        yield Problem(("deployment", "environment"), f"organisation.yaml has no environment {wanted!r}",
                      f"Known: {', '.join(organisation.environments)}.")
    if environment is not None and environment.approvals == "one_person":
        yield from _role_problems(system.approval.requires, organisation.people, where)
    else:
        yield from _quorum_problems(system.approval.requires, organisation.people, where)
        for change in system.approval.by_change or ():
            needs = tuple(RequiredApproval(role=role, people=people) for role, people in system.approval.required(change).items())
            yield from _quorum_problems(needs, organisation.people, ("approval", "by_change", change))
    if system.approval.exceptions is not None:
        yield from _quorum_problems(system.approval.exceptions.approved_by, organisation.people, ("approval", "exceptions", "approved_by"))


def _people_problems(people: Sequence[Person]) -> Iterator[Problem]:
    for name, what in (("id", "id"), ("git", "git address"), ("launchers", "launcher name")):
        owner: dict[str, str] = {}
        for index, person in enumerate(people):
            values = (person.id,) if name == "id" else person.git if name == "git" else person.launchers
            for value in sorted({value.lower() for value in values}):
                if value in owner:
                    yield Problem(("people", index, name), f"the {what} {value} is already that of {owner[value]}",
                                  "People must be told apart: give each their own.")
                owner.setdefault(value, person.id)


AN_AUTHORITY = "an authority that certifies keys"


def _key_problems(organisation: Organisation) -> Iterator[Problem]:
    from compliance_assets.trust.allowed_signers import read_allowed_signers

    owners: dict[bytes, str] = {}
    for index, person in enumerate(organisation.people):
        if person.allowed_signers is None:
            continue
        where: Where = ("people", index, "allowed_signers")
        try:
            signers = read_allowed_signers(f"{person.id} {person.allowed_signers}")
        except ComplianceError as error:
            yield Problem(where, f"is not an OpenSSH public key: {error.message}",
                          "Paste the line of the .pub file: its kind and its base64.")
            continue
        if len(signers) != 1 or "\n" in person.allowed_signers or signers[0].principals != person.id:
            yield Problem(where, "must be one key on one line, without a principal", "List one key for each person.")
            continue
        key = signers[0].key
        # The raw key at the end, so that a machine key wrapped as an SSH key is recognised.
        identity = key.blob[-32:] if key.kind == "ssh-ed25519" else key.blob
        # An authority may certify several people: its certificates say for whom they are. It is nobody's own key.
        owner = AN_AUTHORITY if signers[0].is_authority else person.id
        if identity in owners and not (signers[0].is_authority and owners[identity] == AN_AUTHORITY):
            yield Problem(where, f"is the key of {owners[identity]} too", "A key speaks for one person: make another.")
        owners.setdefault(identity, owner)
    yield from passkey_problems([(person.id, person.passkeys) for person in organisation.people])
    yield from _machine_key_problems(organisation.machine_keys, owners)


def _machine_key_problems(keys: Sequence[MachineKey], owners: dict[bytes, str]) -> Iterator[Problem]:
    for index, key in enumerate(keys):
        where: Where = ("machine_keys", index)
        try:
            raw = key.public.raw
        except ComplianceError as error:
            yield Problem((*where, "key"), error.message, error.remedy)
            continue
        if raw in owners:
            yield Problem((*where, "key"), f"is the key of {owners[raw]} too",
                          "Each role has a key of its own, and people hold none of them: make another.")
        owners.setdefault(raw, f"the {key.role} machine")
        if key.valid_until is not None and key.valid_until <= key.valid_from:
            yield Problem((*where, "valid_until"), "ends before it begins", "Write the later moment.", key.valid_until)
    for role in MACHINE_ROLES:
        if not any(key.role == role for key in keys):
            yield Problem(("machine_keys",), f"no key for the role {role}", "`compliance init` makes one for each role.")


def _anchor_problems(organisation: Organisation) -> Iterator[Problem]:
    from compliance_assets.trust.allowed_signers import read_allowed_signers

    anchors = organisation.anchors
    if not organisation.demonstration and (anchors is None or not anchors.demanded) \
            and any(environment.production for environment in organisation.environments.values()):
        yield Problem(("anchors",), "a production environment demands at least one anchor of the ledger outside this host",
                      "Declare a witness or a repository of signed tags, and name it under anchors.demanded.")
    if anchors is None:
        return
    declared = {"witness": bool(anchors.witnesses), "git": anchors.git is not None}
    for index, kind in enumerate(anchors.demanded):
        if not declared[kind]:
            yield Problem(("anchors", "demanded", index), f"no anchor of the kind {kind} is declared",
                          "Declare it below, or do not demand it.")
    names: set[str] = set()
    machines = {key.key for key in organisation.machine_keys}
    for index, witness in enumerate(anchors.witnesses):
        where: Where = ("anchors", "witnesses", index)
        if witness.name in names or witness.key in machines:
            yield Problem(where, "is not a witness of its own", "A witness has a name and a key that nobody else here has.")
        if not witness.address.startswith(("http://", "https://")):
            yield Problem((*where, "address"), "must begin with https:// or http://", "", witness.address)
        if any(letter.isspace() or letter == "+" for letter in witness.name):
            yield Problem((*where, "name"), "must have no blank and no plus", "Write it like witness.example/1.")
        names.add(witness.name)
        machines.add(witness.key)
    if anchors.git is not None:
        try:
            lines = read_allowed_signers(f"anchor {anchors.git.signer}")
            if len(lines) != 1 or "\n" in anchors.git.signer or lines[0].principals != "anchor":
                yield Problem(("anchors", "git", "signer"), "must be one key on one line, without a principal",
                              "Paste the .pub file's line.")
        except ComplianceError as error:
            yield Problem(("anchors", "git", "signer"), f"is not an OpenSSH public key: {error.message}",
                          "Paste the .pub file's line.")


def _environment_problems(organisation: Organisation) -> Iterator[Problem]:
    signing = [person for person in organisation.people if person.signs]
    taken: dict[int, str] = {}
    for name, environment in organisation.environments.items():
        where: Where = ("environments", name)
        if environment.production:
            if organisation.profile == "development":
                yield Problem((*where, "production"), "the development profile has no production environment",
                              "Set profile: organisation, with at least two people.")
            if len(signing) < 2:
                yield Problem((*where, "production"), "a production environment needs at least two people with a key",
                              "Add a second person: nobody approves their own work.", str(len(signing)))
            if environment.approvals == "one_person":
                yield Problem((*where, "approvals"), "one_person is only allowed outside production", "Write declared.")
        if environment.promotable and organisation.profile == "development":
            yield Problem((*where, "promotable"), "nothing made under the development profile may be promoted", "Write false.")
        for port in environment.serves.ports:
            if port in taken:
                yield Problem((*where, "serves"), f"the port {port} is already taken by {taken[port]}", "Give each its own.")
            taken.setdefault(port, name)


def _role_problems(requires: Sequence[RequiredApproval], people: Sequence[Person], where: Where) -> Iterator[Problem]:
    for index, need in enumerate(requires):
        if not any(need.role in person.roles for person in people):
            yield Problem((*where, index, "role"), f"nobody in organisation.yaml holds the role {need.role!r}",
                          f"Roles held: {', '.join(sorted({role for person in people for role in person.roles}))}.")


def _quorum_problems(requires: Sequence[RequiredApproval], people: Sequence[Person], where: Where) -> Iterator[Problem]:
    """Unknown roles; else, a quorum that the people who can sign cannot fill, each of them one place."""
    missing = tuple(_role_problems(requires, people, where))
    yield from missing
    places = [need.role for need in requires for _ in range(need.people)]
    able = [person for person in people if person.signs]
    if not missing and not _can_fill(places, able):
        wanted = ", ".join(f"{need.people} {need.role}" for need in requires)
        yield Problem(where, f"{wanted} cannot be met by {len(able)} distinct {'person' if len(able) == 1 else 'people'} "
                      "with these roles and a key", "Add people or roles to organisation.yaml, or require fewer.")


def _can_fill(places: Sequence[str], people: Sequence[Person]) -> bool:
    """Whether every place can have a person of its role, nobody twice (augmenting paths: Kuhn 1955)."""
    filled: dict[str, int] = {}

    def seat(place: int, asked: set[str]) -> bool:
        for person in people:
            if places[place] in person.roles and person.id not in asked:
                asked.add(person.id)
                if person.id not in filled or seat(filled[person.id], asked):
                    filled[person.id] = place
                    return True
        return False

    return len(places) <= len(people) and all(seat(place, set()) for place in range(len(places)))


def render_organisation(organisation: Organisation) -> str:
    """organisation.yaml as text with comments, the same for the same organisation; reading it gives it back."""
    from compliance_assets.policy.rendering import rendered_organisation

    return rendered_organisation(organisation)
