"""The archive: the ledger, the artefact store and the trusted keys, read together, so that every record is authentic or refused.

Signatures are checked here, once for each entry: a stage record needs the pipeline's key (it ran) and the gate's key (it was
judged), a deployment step the deployer's, a decision the key of the very person it names. Keys are those of the trust policy
under which the record was made, and a trust policy counts only if it was the first, or if people of the one before it
approved it (the rule of TUF: version n+1 is vouched for by a threshold of version n).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from compliance_assets.errors import ClockError, ComplianceError, LedgerCorrupt, UntrustedEvidence
from compliance_assets.evidence import records
from compliance_assets.evidence.artefacts import ArtefactStore
from compliance_assets.evidence.deployments import DesiredState, desired_state
from compliance_assets.evidence.home import Home
from compliance_assets.evidence.ledger import Entry, Ledger, NewEntry, Subjects
from compliance_assets.evidence.records import Decision, DefinitionProposed, DeploymentStep, Head, Statement, TrustPolicy
from compliance_assets.policy.organisation import Organisation
from compliance_assets.policy.river import RIVER
from compliance_assets.policy.system import RequiredApproval, places
from compliance_assets.trust.canonical import Digest, parse_rfc3339, rfc3339
from compliance_assets.trust.keys import PublicKey, SigningKey, write_private_file
from compliance_assets.trust.merkle import Checkpoint, verify_consistency
from compliance_assets.trust.passkeys import SCHEME, verify_passkey
from compliance_assets.trust.signatures import Envelope, sign_envelope, verify_envelope, verify_person

if TYPE_CHECKING:
    from compliance_assets.evidence.remembered import Remembered

T = TypeVar("T")
List = tuple[str, str]
"""The name of a list of records: a digest and its role, or `kind:` with a kind, and a system."""
CLOCK_TOLERANCE = timedelta(seconds=5)
SIGNED_BY: Mapping[str, tuple[str, ...]] = {
    "stage": ("pipeline", "gate"), "reuse": ("pipeline",), "deployment": ("deployer",),
    "trust-policy": ("log",), "definition": ("pipeline",), "exception": ("pipeline",), "reconciliation": ("deployer",),
    "alert": ("pipeline",),
}


@dataclass(frozen=True)
class Record:
    """An authentic statement, and where it stands in the ledger."""

    index: int
    statement: Statement
    envelope: Envelope

    @property
    def body(self) -> Any:
        return self.statement.body

    @property
    def digest(self) -> Digest:
        return self.statement.digest

    @cached_property
    def moment(self) -> datetime:
        """When it says that it was made."""
        return parse_rfc3339(_moment(self.body))


class Grow(Protocol[T]):
    """Makes something of records in the order of the ledger, in parts as well as at once.

    `grow(grow(None, first), then)` is what `grow(None, (*first, *then))` is, and a value is never changed once it was given out: others
    are reading it.
    """

    def __call__(self, before: T | None, new: Sequence[Record], /) -> T: ...


@dataclass(frozen=True)
class _Key:
    """A machine's key, and from when until when it vouches for its role."""

    public: PublicKey
    role: str
    since: datetime
    until: datetime | None


@dataclass(frozen=True)
class _TrustPolicy:
    """A trust policy with what every entry asks of it."""

    organisation: Organisation
    digest: Digest
    keys: tuple[_Key, ...]

    @classmethod
    def of(cls, organisation: Organisation) -> _TrustPolicy:
        return cls(organisation, organisation.digest, tuple(
            _Key(key.public, key.role, parse_rfc3339(key.valid_from), None if key.valid_until is None else parse_rfc3339(key.valid_until))
            for key in organisation.machine_keys))


def stage_lists(system: str) -> tuple[List, ...]:
    """The lists of everything that a system's stages made."""
    return tuple(made_list(system, rule.name) for rule in RIVER)


def made_list(system: str, stage: str) -> List:
    """The list of everything that one stage of a system made."""
    return (str(records.made(system, stage)), "made")


def kind_list(kind: str, system: str) -> List:
    """The list of everything of one kind about one system."""
    return (f"kind:{kind}", system)


def environment_lists(environment: str) -> tuple[List, ...]:
    """The list of an environment's deployment steps."""
    return ((str(records.environment(environment)), "environment"),)


def _together(before: tuple[Record, ...] | None, new: Sequence[Record]) -> tuple[Record, ...]:
    return (*(before or ()), *new)


def in_order(lists: Iterable[Iterable[Record]]) -> tuple[Record, ...]:
    """The records of some lists, each once, oldest first."""
    found = sorted((record for records in lists for record in records), key=lambda record: record.index)
    return tuple(record for place, record in enumerate(found) if not place or record.index != found[place - 1].index)


@dataclass
class Archive:
    """Authentic records of one home. `organisation` is the file people can edit; the ledger says whether it may count."""

    home: Home
    organisation: Organisation
    ledger: Ledger
    artefacts: ArtefactStore
    _authentic: dict[int, Record] = field(default_factory=dict, repr=False)
    _reigns: tuple[int, tuple[tuple[int, Organisation], ...]] = field(default=(-1, ()), repr=False)
    _policies: dict[int, _TrustPolicy] = field(default_factory=dict, repr=False)
    """By the id of the object, which each holds: nothing else can come to have it."""
    _once: dict[tuple[str, str], tuple[Record, ...]] | None = field(default=None, repr=False)
    """Lists that were read and proved already; only in a copy `for_one_reading`."""
    _noted: dict[object, Any] | None = field(default=None, repr=False)
    """What else was found out; only in such a copy."""
    _remembered: Remembered | None = field(default=None, repr=False)
    """What this process verified before; only in a copy `for_one_reading`."""

    @classmethod
    def open(cls, home: Home, organisation: Organisation, *, writer: bool = True) -> Archive:
        """Open an existing home. A reader holds no key."""
        log_key = SigningKey.load(home.key_path("log")) if writer and home.key_path("log").is_file() else None
        ledger = Ledger.open(home.ledger_place, organisation.log_key(), log_key, subjects_of=_subjects, columns_of=_columns)
        return cls(home, organisation, ledger, ArtefactStore(home.artefacts))

    def for_one_reading(self, remembered: Remembered | None = None) -> Archive:
        """A copy that reads and proves each list once: for somebody who looks at one moment, such as a page. Never for a stage.

        `remembered`: what this process verified before; it is brought up to date first, and refuses a ledger that was changed.
        """
        if remembered is not None:
            remembered.catch_up(self)
        return replace(self, _once={}, _noted={}, _remembered=remembered)

    def one_reading(self) -> Archive:
        """This archive, if it is a copy `for_one_reading` already; else such a copy."""
        return self if self._noted is not None else self.for_one_reading()

    @property
    def remembered(self) -> Remembered | None:
        """What this process verified before, where this copy reads from it."""
        return self._remembered

    # ------------------------------------------------------------------------------------------------ authenticity

    def reigns(self) -> tuple[tuple[int, Organisation], ...]:
        """Every trust policy that ever counted, with the ledger index from which it did."""
        size = self.ledger.size
        if self._reigns[0] == size:
            return self._reigns[1]
        admitted: list[tuple[int, Organisation]] = []
        for entry in self.ledger.by_kind("trust-policy"):
            envelope, statement = _opened(entry.body)
            proposed = Organisation.model_validate(statement.body.organisation)
            if statement.subject("trust-policy") != proposed.digest:
                raise UntrustedEvidence(f"Ledger entry {entry.index} names another trust policy than it holds.",
                                        rule="trust policy", value=str(entry.index), remedy="The ledger has been tampered with.")
            if not admitted:
                if entry.index != 0:
                    raise LedgerCorrupt("The ledger does not begin with a trust policy.", rule="trust policy",
                                        value=str(entry.index), remedy="This ledger was not made by `compliance init`.")
                self._signed_by_role(envelope, statement, proposed, entry.index)
                admitted.append((0, proposed))
                continue
            before = admitted[-1][1]
            self._signed_by_role(envelope, statement, before, entry.index)
            since = self._approved_since("trust-policy", proposed.digest, before.definitions.approved_by, admitted)
            if since is not None:
                admitted.append((max(since, entry.index), proposed))
        self._policies.clear()  # of the objects that were read for the reigns before
        self._reigns = (size, tuple(admitted))
        return self._reigns[1]

    def _approved_since(self, purpose: str, subject: Digest, requires: Iterable[RequiredApproval],
                        reigns: Sequence[tuple[int, Organisation]]) -> int | None:
        """The ledger index at which enough people had approved `subject`, or None."""
        people: dict[str, str] = {}
        for entry in self.ledger.by_subject(subject, f"subject:{purpose}"):
            if entry.kind != "decision":
                continue  # the proposal itself
            record = self._decision(entry, reigns)
            if record.body.decision == "reject":
                return None
            if record.body.decision == "revoke":
                people.pop(record.body.person, None)
            if record.body.decision == "approve" and record.body.scope.purpose == purpose:
                people[record.body.person] = record.body.role
                if quorum(people, requires):
                    return entry.index
        return None

    def _signed_by_role(self, envelope: Envelope, statement: Statement, organisation: Organisation, index: int) -> None:
        kind = statement.kind
        wanted = SIGNED_BY[kind]
        at = parse_rfc3339(_moment(statement.body))
        # A key vouches for nothing before its first or after its last moment.
        valid = [key for key in self._read(organisation).keys if key.since <= at and (key.until is None or at <= key.until)]
        keys: dict[str, PublicKey] = {key.public.keyid: key.public for key in valid}
        roles: dict[str, str] = {key.public.keyid: key.role for key in valid}
        signers = {roles[keyid] for keyid in verify_envelope(envelope, keys)}
        missing = [role for role in wanted if role not in signers]
        if missing:
            raise UntrustedEvidence(
                f"Ledger entry {index} ({kind}) is not signed by the {' and the '.join(missing)} key of the trust policy in force.",
                rule="signature", value=f"entry {index}",
                remedy="Do not use it. Run the stage again with the home's own keys, or approve the new organisation.yaml.")

    def _read(self, organisation: Organisation) -> _TrustPolicy:
        """The digest and keys of a trust policy: read once, and asked of every entry made under it."""
        known = self._policies.get(id(organisation))
        if known is None:
            known = self._policies[id(organisation)] = _TrustPolicy.of(organisation)
        return known

    def _decision(self, entry: Entry, reigns: Sequence[tuple[int, Organisation]]) -> Record:
        envelope, statement = _opened(entry.body)
        organisation = _organisation_at(reigns, entry.index)
        check_decision(envelope, statement, organisation)
        return Record(entry.index, statement, envelope)

    def authentic(self, entry: Entry) -> Record:
        """The record in a ledger entry, if it is signed by whom it must be under the trust policy of its time."""
        known = self._authentic.get(entry.index)
        if known is not None and known.envelope.to_bytes() == entry.body:
            return known
        record = self.verified(entry)
        if len(self._authentic) >= _MOST_AUTHENTIC:
            self._authentic.clear()
        self._authentic[entry.index] = record
        return record

    def verified(self, entry: Entry, reigns: Sequence[tuple[int, Organisation]] | None = None) -> Record:
        """As `authentic`, verified now and not kept. `reigns`: those of this ledger, for who asks about many entries of it."""
        envelope, statement = _opened(entry.body)
        if statement.kind != entry.kind:
            raise UntrustedEvidence(f"Ledger entry {entry.index} is filed as {entry.kind} but says {statement.kind}.",
                                    rule="statement", value=str(entry.index), remedy="The ledger has been tampered with.")
        organisation = _organisation_at(self.reigns() if reigns is None else reigns, entry.index)
        if statement.kind == "decision":
            check_decision(envelope, statement, organisation)
        else:
            self._signed_by_role(envelope, statement, organisation, entry.index)
        if (statement.kind in ("stage", "deployment", "exception", "reconciliation")
                and statement.body.trust_policy != self._read(organisation).digest):
            raise UntrustedEvidence(f"Ledger entry {entry.index} was made under another trust policy than the one in force there.",
                                    rule="trust policy", value=statement.body.trust_policy,
                                    remedy="Run the stage again under the approved organisation.yaml.")
        return Record(entry.index, statement, envelope)

    def subjects_said(self, entry: Entry) -> Subjects:
        """What an entry says that it is about, whoever signed it; nothing if it cannot be read."""
        try:
            return _subjects(entry.body)
        except ComplianceError:
            return ()

    def in_force(self) -> Organisation:
        """The trust policy that counts now, as the ledger holds it; organisation.yaml may say something else by now."""
        reigns = self.reigns()
        if not reigns:
            raise LedgerCorrupt("The ledger holds no trust policy.", rule="trust policy", value="none",
                                remedy="This ledger was not made by `compliance init`.")
        return reigns[-1][1]

    def require_trust_policy(self) -> Organisation:
        """organisation.yaml as it stands, if the ledger says that it counts."""
        reigns = self.reigns()
        if not reigns or reigns[-1][1].digest != self.organisation.digest:
            raise UntrustedEvidence(
                f"organisation.yaml ({self.organisation.digest.short}) is not the trust policy in force "
                f"({reigns[-1][1].digest.short if reigns else 'none'}).", rule="trust policy", value=self.organisation.digest,
                remedy="Restore it, or have the new one approved: `compliance definition approve --trust-policy`.")
        return self.organisation

    # ----------------------------------------------------------------------------------------------------- reading

    def find(self, digest: Digest, role: str) -> tuple[Record, ...]:
        """Authentic records that mention `digest` in that role, oldest first; refuses if one of them is not authentic."""
        if self._once is None:
            return tuple(self.authentic(entry) for entry in self.ledger.by_subject(digest, role))
        if self._remembered is not None and self._remembered.keeps(role):
            return self._remembered.found(digest, role)
        if (f"find:{digest}", role) not in self._once:
            self._once[f"find:{digest}", role] = tuple(self.authentic(entry) for entry in self.ledger.by_subject(digest, role))
        return self._once[f"find:{digest}", role]

    def _listed(self, digest: Digest, role: str) -> tuple[Record, ...]:
        """As `find`, but a record that nobody trusted signed is passed over, as if it were not there.

        For lists ("everything this stage made"): a stranger's entry must not keep everybody from working, and passing it over
        can never make anything pass, since only authentic records do. `verify` reports it. A damaged ledger still refuses.
        """
        if self._once is None:
            return self._trusted(self.ledger.by_subject(digest, role))
        if self._remembered is not None and self._remembered.keeps(role):
            return self._remembered.listed(digest, role)
        if (digest, role) not in self._once:
            self._once[digest, role] = self._trusted(self.ledger.by_subject(digest, role))
        return self._once[digest, role]

    def _trusted(self, entries: Iterable[Entry]) -> tuple[Record, ...]:
        found: list[Record] = []
        for entry in entries:
            try:
                found.append(self.authentic(entry))
            except LedgerCorrupt:
                raise
            except UntrustedEvidence:
                continue
        return tuple(found)

    def entries(self) -> Iterator[Record]:
        """Every record, oldest first."""
        for index in range(self.ledger.size):
            yield self.authentic(self.ledger.entry(index))

    def executions_of(self, digest: Digest) -> tuple[Record, ...]:
        """Stage records whose output is `digest`."""
        return self.find(digest, "output")

    def made_by(self, system: str, stage: str) -> tuple[Record, ...]:
        """Every execution of one stage of one system."""
        return self._listed(records.made(system, stage), "made")

    def of_kind(self, kind: str, system: str) -> tuple[Record, ...]:
        """Every record of one kind about one system, oldest first; a stranger's entry is passed over, as in `_listed`."""
        if self._once is None:
            return self._trusted(self.ledger.by_kind(kind, system))
        if self._remembered is not None:
            return self._remembered.of_kind(kind, system)
        if (f"kind:{kind}", system) not in self._once:
            self._once[f"kind:{kind}", system] = self._trusted(self.ledger.by_kind(kind, system))
        return self._once[f"kind:{kind}", system]

    def with_key(self, key: Digest, role: str = "key") -> tuple[Record, ...]:
        return self._listed(key, role)

    def deployments(self, environment: str) -> tuple[Record, ...]:
        """Every deployment step of an environment, oldest first."""
        return self._listed(records.environment(environment), "environment")

    def fact(self, record: Record, reader: Callable[[Record], T]) -> T:
        """What `reader` reads from a record; where it was read and kept before, that."""
        return reader(record) if self._remembered is None else self._remembered.fact(record, reader)

    def once(self, key: object, make: Callable[[], T]) -> T:
        """What `make` finds: found once in one reading, else each time."""
        if self._noted is None:
            return make()
        if key not in self._noted:
            self._noted[key] = make()
        found: T = self._noted[key]
        return found

    def newest(self, before: int, kind: str, system: str, outcome: str) -> Iterator[int] | None:
        """Indices of what fits below `before`, newest first; None where nothing is remembered, and each entry must be looked at."""
        return None if self._remembered is None else self._remembered.newest(before, kind, system, outcome)

    def derived(self, key: object, make: Callable[[], T]) -> T:
        """What `make` derives from the records alone, of this size of the ledger; where it was derived before, that."""
        return make() if self._remembered is None else self._remembered.derived(key, make)

    def decided(self, purpose: str, system: str) -> tuple[Record, ...]:
        """Every decision of one purpose about one system, oldest first."""
        return self._listed(records.of_system(system), f"decided:{purpose}")

    def proposals(self, definition: Digest) -> tuple[Record, ...]:
        """The records that put a definition on record; the decisions on every release name it, too."""
        def further(before: tuple[Record, ...] | None, new: Sequence[Record]) -> tuple[Record, ...]:
            return _together(before, [record for record in new if isinstance(record.body, DefinitionProposed)])

        return self.grown(("proposals", definition), [(str(definition), "subject:definition")], further)

    def stages(self, system: str) -> tuple[Record, ...]:
        """Every stage record of a system, oldest first."""
        return self.grown(("stages", system), stage_lists(system), _together)

    def stopped(self, system: str) -> tuple[Record, ...]:
        """Every stage record of a system that did not pass, oldest first."""
        def further(before: tuple[Record, ...] | None, new: Sequence[Record]) -> tuple[Record, ...]:
            return _together(before, [record for record in new if record.body.outcome != "passed"])

        return self.grown(("stopped", system), stage_lists(system), further)

    def steps(self, environment: str, system: str) -> tuple[Record, ...]:
        """Every deployment step of one system in an environment, oldest first."""
        def of_system(before: tuple[Record, ...] | None, new: Sequence[Record]) -> tuple[Record, ...]:
            return _together(before, [record for record in new if record.body.system == system])

        return self.grown(("steps", environment, system), environment_lists(environment), of_system)

    def state(self, environment: str) -> DesiredState:
        """What an environment's deployment steps ask for."""
        def further(before: DesiredState | None, new: Sequence[Record]) -> DesiredState:
            return desired_state(environment, new, before)

        return self.grown(("state", environment), environment_lists(environment), further)

    def grown(self, key: object, lists: Sequence[List], grow: Grow[T]) -> T:
        """What `grow` makes of all records in these lists, oldest first. Where it was made before, only what is new is added to it."""
        if self._remembered is not None:
            return self._remembered.grown(key, lists, grow)
        return self.once(("grown", key), lambda: grow(None, in_order(map(self._named, lists))))

    def _named(self, name: List) -> tuple[Record, ...]:
        first, second = name
        return self.of_kind(first[5:], second) if first.startswith("kind:") else self._listed(Digest.parse(first), second)

    def known(self, key: object, make: Callable[[], T]) -> T:
        """What `make` reads of bytes that `key` names by digest: it is the same for ever, and need not be read twice."""
        return self.once(key, make) if self._remembered is None else self._remembered.known(key, make)

    def decisions_on(self, digest: Digest, name: str) -> tuple[Record, ...]:
        """Every decision in which `digest` is the subject called `name`."""
        return self._listed(digest, f"subject:{name}")

    def policy_at(self, index: int) -> Organisation:
        """The trust policy that counted when entry `index` was written."""
        return _organisation_at(self.reigns(), index)

    def definition_in_force(self, system: str, before: int | None = None) -> Digest | None:
        """The definition that enough people approved last, or None. A rejected or revoked one is not in force.

        `before`: as it was when the ledger had this many entries.
        """
        reigns = self.reigns()
        approved: dict[Digest, dict[str, str]] = {}
        order: list[Digest] = []
        for record in self.decided("definition", system):
            digest = record.statement.subject("definition")
            if digest is None or (before is not None and record.index >= before):
                continue
            people = approved.setdefault(digest, {})
            organisation = _organisation_at(reigns, record.index)
            if record.body.decision == "approve":
                already = quorum(people, organisation.definitions.approved_by)
                people[record.body.person] = record.body.role
                if not already and quorum(people, organisation.definitions.approved_by):
                    order = [*[d for d in order if d != digest], digest]
            elif record.body.decision in ("reject", "revoke"):
                people.clear()
                order = [d for d in order if d != digest]
        return order[-1] if order else None

    # ----------------------------------------------------------------------------------------------------- writing

    def check_clock(self, now: datetime) -> None:
        """Refuse when the clock stands before what the ledger has recorded.

        Decisions are passed over: people date them on their own machines, and nobody else's work may hang on those clocks.
        """
        last = self.ledger.last()
        while last is not None and last.kind == "decision":
            last = self.ledger.entry(last.index - 1) if last.index else None
        if last is None:
            return
        body = _opened(last.body)[1].body
        moment = parse_rfc3339(_moment(body))
        if now + CLOCK_TOLERANCE < moment:
            raise ClockError(f"The clock says {now.isoformat(timespec='seconds')}, but entry {last.index} of the ledger was written at "
                             f"{moment.isoformat(timespec='seconds')}.", rule="clock", value=now.isoformat(),
                             remedy="Set the clock right (NTP); nothing was started.")

    def head(self) -> Head:
        """The ledger's signed head, as decisions embed it."""
        checkpoint = self.ledger.head()
        return Head(size=checkpoint.size, root=checkpoint.root.hex())

    def append(self, statement: Statement) -> Record:
        """Sign with the machine keys that this kind of statement needs, and append it to the ledger."""
        keys = [SigningKey.load(self.home.key_path(role)) for role in SIGNED_BY[statement.kind]]
        return self.append_envelope(sign_envelope(statement.payload(), keys))

    def append_envelope(self, envelope: Envelope) -> Record:
        """Append an envelope that somebody else signed (a person's decision), or that `append` just did."""
        statement = Statement.read(envelope.payload)
        new = NewEntry(kind=statement.kind, dedup=records.execution_of(statement), system=records.system_of(statement),
                       body=envelope.to_bytes(), subjects=records.subjects_of(statement))
        (entry,) = self.ledger.append([new])
        return Record(entry.index, statement, envelope)

    def append_deployment(self, step: DeploymentStep) -> Record:
        """Append one step of a rollout; the same step of the same run is never recorded twice."""
        return self.append(Statement((("model", Digest.parse(step.model)),), step))

    def require_head(self, seen: Head, by: str) -> None:
        """Refuse to go on when a head that somebody signed is not a head of this ledger: its tail was cut, or it was rewritten."""
        if seen.size == 0:
            return
        now = self.ledger.head()
        if seen.size > now.size:
            raise LedgerCorrupt(
                f"{by} saw a ledger of {seen.size} entries; it has {now.size}: entries were cut off, or an older copy was restored.",
                rule="kept head", value=f"{seen.size}:{seen.root}", remedy="Restore the newest copy; find out who cut it.")
        proof = self.ledger.consistency_proof(seen.size, now.size)
        try:
            verify_consistency(seen.size, now.size, bytes.fromhex(seen.root), now.root, proof)
        except (ComplianceError, ValueError) as error:
            raise LedgerCorrupt(f"{by} saw another ledger of {seen.size} entries than this one was then: it was rewritten.",
                                rule="kept head", value=f"{seen.size}:{seen.root}",
                                remedy="Restore the genuine ledger; find out who rewrote it.") from error

    def heads(self) -> tuple[Checkpoint, ...]:
        """Ledger heads that people signed: each decision holds the one its signer saw."""
        return tuple(Checkpoint(self.ledger.origin, record.body.ledger.size, bytes.fromhex(record.body.ledger.root))
                     for entry in self.ledger.by_kind("decision") for record in (self.authentic(entry),)
                     if record.body.ledger.size > 0)


def _subjects(body: bytes) -> Subjects:
    """How the ledger checks its look-up table: by what the entry itself says."""
    return _said(body)[1]


def _columns(body: bytes) -> tuple[str, str, str]:
    """How the ledger checks its columns (kind, execution key, system): by what the entry itself says."""
    return _said(body)[0]


def _said(body: bytes) -> tuple[tuple[str, str, str], Subjects]:
    """What an entry says of itself. The same bytes say the same, and every read asks: kept under the sha256 of the bytes."""
    name = hashlib.sha256(body).digest()
    said = _SAID.get(name)
    if said is None:
        _, statement = _opened(body)
        said = (statement.kind, records.execution_of(statement), records.system_of(statement)), records.subjects_of(statement)
        if len(_SAID) >= _MOST_SAID:
            _SAID.clear()
        _SAID[name] = said
    return said


@lru_cache(maxsize=512)
def _opened(body: bytes) -> tuple[Envelope, Statement]:
    """An entry's envelope and statement, read once for all who ask one after the other."""
    envelope = Envelope.from_bytes(body)
    return envelope, Statement.read(envelope.payload)


_SAID: dict[bytes, tuple[tuple[str, str, str], Subjects]] = {}
_MOST_SAID = 50_000
_MOST_AUTHENTIC = 50_000


def origin_of(organisation: Organisation) -> str:
    """The name under which an organisation's ledger signs its heads; a checkpoint's first line takes no blank and no plus."""
    name = re.sub(r"[^a-z0-9]+", "-", organisation.name.lower()).strip("-") or "organisation"
    return f"{name}/ledger"


def create_archive(home: Home, organisation: Organisation, now: datetime, address: str = "") -> Archive:
    """The ledger of a new home, with its trust policy as entry 0, signed by the log's key. `address`: of Postgres; else a file."""
    log_key = SigningKey.load(home.key_path("log"))
    Ledger.create(address or home.ledger, origin_of(organisation), log_key, subjects_of=_subjects, columns_of=_columns).close()
    if address:
        write_private_file(home.ledger_address, f"{address}\n".encode())
    archive = Archive.open(home, organisation)
    propose_trust_policy(archive, organisation, "", now)
    return archive


def propose_trust_policy(archive: Archive, organisation: Organisation, previous: str, now: datetime) -> Record:
    """Put a trust policy into the ledger. The first counts at once; a later one when people of the one before approve it."""
    body = TrustPolicy(organisation=organisation.model_dump(mode="json"), previous=previous, at=rfc3339(now))
    return archive.append(Statement((("trust-policy", organisation.digest),), body))


def check_decision(envelope: Envelope, statement: Statement, organisation: Organisation) -> None:
    """Refuse a decision that is not signed, with their own key, by the person whom it names in a role that they hold."""
    body = statement.body
    if not isinstance(body, Decision):
        raise UntrustedEvidence("This is not a decision.", rule="decision", value=statement.kind, remedy="Leave it out.")
    person = organisation.person(body.person)
    if body.role not in person.roles:
        raise UntrustedEvidence(f"{body.person} decided as {body.role}, a role that organisation.yaml does not give them.",
                                rule="role", value=body.role, remedy="Decide in a role you hold, or have organisation.yaml amended.")
    _check_words(body)
    at = parse_rfc3339(body.issued)
    if any(one.keyid == body.person and one.scheme == SCHEME for one in envelope.signatures):
        verify_passkey(envelope, body.person, [declared.public for declared in person.passkeys], at)
    else:
        verify_person(envelope, body.person, organisation.allowed_signers_text(body.person), at)


def _check_words(body: Decision) -> None:
    """Refuse a decision whose moments, digests or ledger head are none, before it can be recorded for good."""
    parse_rfc3339(body.issued)
    if body.expires or (body.decision == "approve" and body.scope.purpose == "release"):
        parse_rfc3339(body.expires)
    if body.revokes or body.decision == "revoke":
        Digest.parse(body.revokes)
    if body.conditions:
        try:
            date.fromisoformat(body.due)
        except ValueError as error:
            raise UntrustedEvidence(f"The conditions of {body.person} are due on no day: {body.due!r:.40}.", rule="decision",
                                    value=body.due, remedy="Leave it out; approve again with --by YYYY-MM-DD.") from error
    if body.ledger.size < 0:
        raise UntrustedEvidence("No ledger has fewer than no entries.", rule="decision", value=str(body.ledger.size),
                                remedy="Leave it out.")
    Digest.parse(body.ledger.root)


def quorum(people: Mapping[str, str], requires: Iterable[RequiredApproval]) -> bool:
    """Whether distinct people in their signed roles fill every place. No requirement is never fulfilled."""
    wanted = places(requires)
    return bool(wanted) and all(sum(1 for held in people.values() if held == role) >= needed for role, needed in wanted.items())


def _organisation_at(reigns: Sequence[tuple[int, Organisation]], index: int) -> Organisation:
    """The trust policy that counted when entry `index` was written."""
    for since, organisation in reversed(reigns):
        if since < index or index == 0:
            return organisation
    if reigns and index == reigns[0][0]:
        return reigns[0][1]
    raise UntrustedEvidence("No trust policy was in force.", rule="trust policy", value=str(index),
                            remedy="This ledger was not made by `compliance init`.")


def _moment(body: Any) -> str:
    """When a statement says that it was made."""
    for name in ("finished", "at", "issued"):
        if hasattr(body, name):
            return str(getattr(body, name))
    raise UntrustedEvidence("A statement without a moment.", rule="statement", value=type(body).__name__, remedy="Leave it out.")
