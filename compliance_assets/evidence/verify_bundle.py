#!/usr/bin/env python3
"""Verify an exported bundle of evidence, trusting nobody but one hex string that you hold.

    python verify.py BUNDLE --head SIZE:ROOT          the head of the ledger that somebody outside the provider kept
    python verify.py BUNDLE --policy-sha256 HEX       the digest of the provider's first trust policy

One file, Python's standard library only. Run your own copy of it: the copy in a bundle comes from whoever made the bundle.

What it recomputes, in this order: (1) the RFC 6962 root over the exact bytes of every entry, the signed checkpoint, and the string
that you hold; (2) who was trusted when (each trust policy vouched for by people of the one before); (3) every signature (machines'
by Ed25519; people's OpenSSH signatures by Ed25519, ECDSA, RSA, security keys
and certificates, and their passkeys') and every head that a person signed;
(4) every file in the bundle, by digest; (5) for each passed stage of the system: its gates exactly those of its definition, each
verdict following from its findings and bounds, its inputs passed before it, down to the raw source; (6) every approval: people,
roles, the quorum that follows from how far the definition moved since the one in production, separation, validity, exact digests;
(7) every deployment: its authority, its plan, its order; (8) who acknowledged and closed an alert: answers that do not count are named
as notes, since nothing rests on them; (9) every document that somebody filed: its bytes, the ledger head that it was made from, and
what it was read from. Every file is reported as verified or as uncovered. Exit 0: all of it holds.

It cannot know whether numbers were measured honestly at the source; nor what happened after the newest head you hold.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# <ours> (the exported file holds the text of these modules here, and of those that they need, so that it is one file)
from compliance_assets.evidence.alert_answers import OpenedAlert, SignedAnswer, answers_counted, shown_alert
from compliance_assets.evidence.deployments import desired_state
from compliance_assets.evidence.verify_passkeys import counters_agree, passkey_verify
from compliance_assets.evidence.verify_signatures import Refused, ed25519, key_of_line, moment, no, sha256, ssh_verify, unbase64
from compliance_assets.policy.change import changes, class_of

# </ours>

Json = dict[str, Any]
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
URN = "urn:compliance-assets:"
KINDS = {f"{URN}stage-execution:v1": "stage", f"{URN}stage-reuse:v1": "reuse", f"{URN}decision:v1": "decision",
         f"{URN}deployment:v1": "deployment", f"{URN}trust-policy:v1": "trust-policy", f"{URN}definition:v1": "definition",
         f"{URN}exception:v1": "exception", f"{URN}reconciliation:v1": "reconciliation", f"{URN}alert:v1": "alert"}
SIGNED_BY = {"stage": ("pipeline", "gate"), "reuse": ("pipeline",), "deployment": ("deployer",), "trust-policy": ("log",),
             "definition": ("pipeline",), "exception": ("pipeline",), "reconciliation": ("deployer",), "alert": ("pipeline",)}
SUBJECTS = ("staged-model", "model", "evaluation-report", "integration-report", "dataset", "definition", "environment", "rollout")
SEVERITY = ("PASS", "NOT_APPLICABLE", "NOT_RUN", "INCONCLUSIVE", "INSUFFICIENT_DATA", "FAIL", "ERROR")
LINKS = {"dataset": {}, "features": {"dataset": "dataset"}, "candidate_model": {"features": "features"},
         "evaluation_report": {"candidate_model": "candidate", "features": "features"},
         "staged_model": {"candidate_model": "candidate", "evaluation_report": "evaluation"},
         "integration_report": {"staged_model": "staged", "features": "features"},
         "approval": {"staged_model": "staged_model", "evaluation_report": "evaluation_report", "integration_report": "integration_report"},
         "deployment_record": {"approval": "approval", "staged_model": "staged"}}
"""For each asset, under which key its own bytes name each of its inputs."""
CLASSES = ("ROUTINE", "SIGNIFICANT", "SUBSTANTIAL")
"""How far a definition can have moved, from least to most."""
COMPUTED = ("data_preparation", "feature_engineering", "model_training", "model_evaluation")
CLOCK = timedelta(seconds=60)
SKEW = timedelta(minutes=5)
HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)


# ---------------------------------------------------------------------------------------------- canonical JSON (RFC 8785, narrowed)


def canonical(value: object) -> bytes:
    """The one text of a value without floats: keys are ASCII, so sorting them by code point is RFC 8785's order."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def read_canonical(content: bytes) -> Any:
    """The value of which `content` is the canonical JSON; duplicate keys, floats, large integers and other spellings refuse."""
    def unique(pairs: list[tuple[str, Any]]) -> Json:
        found = dict(pairs)
        return found if len(found) == len(pairs) and all(key.isascii() for key in found) else no("a key occurs twice or is not ASCII")

    def whole(digits: str) -> int:
        return int(digits) if len(digits) <= 17 and abs(int(digits)) < 2**53 else no("an integer is beyond 2**53-1")

    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=unique, parse_int=whole,
                           parse_float=lambda text: no(f"a number is not an integer: {text}"), parse_constant=lambda text: no(text))
        again = canonical(value)
    except (ValueError, RecursionError):
        no("it is not JSON")
    return value if again == content else no("its bytes are not the canonical ones")


# ---------------------------------------------------------------------------------------------- tree (RFC 6962) and note (C2SP)


class Tree:
    """Appends leaves and knows the root of every size it has had."""

    def __init__(self) -> None:
        self.peaks: list[bytes] = []
        self.roots: list[bytes] = [hashlib.sha256(b"").digest()]

    def append(self, content: bytes) -> None:
        leaf, index = hashlib.sha256(b"\x00" + content).digest(), len(self.roots) - 1
        while index & 1:
            leaf, index = hashlib.sha256(b"\x01" + self.peaks.pop() + leaf).digest(), index >> 1
        self.peaks.append(leaf)
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = hashlib.sha256(b"\x01" + peak + root).digest()
        self.roots.append(root)


def open_checkpoint(note: str, public: bytes) -> tuple[str, int, bytes]:
    """Origin, size and root of a checkpoint that its own log's key signed. Witnesses' signatures are left aside."""
    text, separator, tail = note.rpartition("\n\n")
    lines = (text + "\n").split("\n")
    if not separator or not tail.endswith("\n") or len(lines) != 4 or lines[3] or any(c < " " and c != "\n" for c in note):
        no("the checkpoint is not three lines and signatures")
    origin, size = lines[0], lines[1]
    if not re.fullmatch(r"\S+", origin) or "+" in origin or not re.fullmatch(r"0|[1-9][0-9]{0,18}", size, re.ASCII):
        no("the checkpoint's origin or size is malformed")
    wanted = hashlib.sha256(f"{origin}\n".encode() + b"\x01" + public).digest()[:4]
    ours = []
    for line in tail[:-1].split("\n"):
        found = re.fullmatch(r"— (\S+) ([A-Za-z0-9+/]+={0,2})", line)
        if found is None:
            no("the checkpoint has a malformed signature line")
        blob = unbase64(found[2])
        if found[1] == origin and blob[:4] == wanted:
            ours.append(blob[4:])
    if len(ours) != 1 or not ed25519(public, (text + "\n").encode(), ours[0]):
        no("the checkpoint is not signed by the log's key")
    return origin, int(size), unbase64(lines[2])


def _opened_by_any(note: str, keys: Sequence[bytes]) -> tuple[str, int, bytes]:
    """The checkpoint as one of the log's keys signed it, present or retired."""
    for key in keys[:-1]:
        try:
            return open_checkpoint(note, key)
        except Refused:
            continue
    return open_checkpoint(note, keys[-1])


def cosigned_at(note: str, name: str, public: bytes) -> datetime | None:
    """When this witness cosigned the note (cosignature/v1, Ed25519); None if it did not."""
    text = note.rpartition("\n\n")[0] + "\n"
    wanted = hashlib.sha256(f"{name}\n".encode() + b"\x04" + public).digest()[:4]
    for line in note[len(text) + 1:].split("\n"):
        mark, _, rest = line.partition(" ")
        who, _, encoded = rest.partition(" ")
        blob = unbase64(encoded) if mark == "—" and who == name else b""
        time = int.from_bytes(blob[4:12], "big")
        if blob[:4] == wanted and len(blob) == 76 and time < 1 << 36 \
                and ed25519(public, f"cosignature/v1\ntime {time}\n{text}".encode(), blob[12:]):
            return datetime.fromtimestamp(time, UTC)
    return None


# ---------------------------------------------------------------------------------------------------------------- statements


class Entry:
    """One entry of the ledger: its envelope, its statement, and whether it is believed."""

    def __init__(self, index: int, content: bytes) -> None:
        self.index = index
        outer = read_canonical(content)
        if not isinstance(outer, dict) or outer.keys() != {"payload", "payloadType", "signatures"} or outer["payloadType"] != PAYLOAD_TYPE:
            no("it is not an envelope around a statement")
        self.payload = unbase64(outer["payload"])
        kind = PAYLOAD_TYPE.encode()
        self.signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(self.payload), self.payload)
        self.signatures: list[tuple[str, str, bytes]] = []
        for one in outer["signatures"]:
            if one.keys() != {"keyid", "scheme", "sig"} or one["scheme"] not in ("ed25519", "sshsig", "webauthn"):
                no("it has a signature of another form")
            self.signatures.append((one["keyid"], one["scheme"], unbase64(one["sig"])))
        if not self.signatures or len({keyid for keyid, *_ in self.signatures}) != len(self.signatures):
            no("nobody signed it, or somebody twice")
        statement = read_canonical(self.payload)
        if statement.keys() != {"_type", "subject", "predicateType", "predicate"} or statement["_type"] != STATEMENT:
            no("it is not a statement")
        if statement["predicateType"] not in KINDS or not statement["subject"]:
            no("it says something of an unknown kind, or about nothing")
        self.kind = KINDS[statement["predicateType"]]
        self.body: Json = statement["predicate"]
        self.subjects: dict[str, str] = {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
        if len(self.subjects) != len(statement["subject"]) or not all(HEX.fullmatch(digest) for digest in self.subjects.values()):
            no("its subjects are not digests, each under its own name")
        self.digest = sha256(self.payload)

    @property
    def system(self) -> str:
        if self.kind == "trust-policy":
            return ""
        return str(self.body["scope"]["system"] if self.kind == "decision" else self.body["system"])

    @property
    def when(self) -> datetime:
        for name in ("finished", "at", "issued"):
            if name in self.body:
                return moment(self.body[name])
        no("it does not say when")


UNJUDGED = "stages computed under a definition that was never put on record (nothing can be released from them)"


class Bundle:
    """Everything in the folder, and what was found out about it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, bytes] = {}
        self.problems: list[str] = []
        self.verified: set[str] = set()
        self.tree = Tree()
        self.entries: list[Entry] = []
        self.reigns: list[tuple[int, Json, str]] = []
        self.definitions: dict[str, Json] = {}
        self.counts: dict[str, int] = {}
        self.notes: list[str] = []
        self.passkeys: list[tuple[str, datetime, int]] = []
        self.filed: dict[str, list[str]] = {}
        self.system = ""
        for path in sorted(folder.rglob("*")):
            if path.is_symlink():
                self.problems.append(f"{path.relative_to(folder).as_posix()}: it is a link")
            elif path.is_file():
                self.files[path.relative_to(folder).as_posix()] = path.read_bytes()

    def attempt(self, what: str, check: Any, *arguments: Any) -> bool:
        """Run one check; what it refuses becomes a problem, and the rest is still looked at."""
        try:
            check(*arguments)
        except Refused as why:
            self.problems.append(f"{what}: {why}")
            return False
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, InvalidOperation, StopIteration) as error:
            self.problems.append(f"{what}: it is not of the form that it must have ({type(error).__name__}: {error})")
            return False
        return True

    def artefact(self, digest: str) -> bytes | None:
        return self.files.get(f"artefacts/sha256/{digest}")

    def value(self, digest: str) -> Json:
        content = self.artefact(digest)
        if content is None:
            no(f"the artefact {digest[:12]} that it rests on is not in the bundle")
        found = read_canonical(content)
        return found if isinstance(found, dict) else no(f"the artefact {digest[:12]} is not a record")

    # (1) -------------------------------------------------------------------------------------------------------- the ledger

    def read_ledger(self) -> None:
        count = sum(1 for name in self.files if name.startswith("entries/"))
        if not count:
            no("there are no entries")
        for index in range(count):
            name = f"entries/{index}.json"
            if name not in self.files:
                no(f"{name} is missing, though {count} entries are there")
            self.tree.append(self.files[name])
            self.verified.add(name)
            if self.attempt(f"entry {index}", lambda i=index, n=name: self.entries.append(Entry(i, self.files[n]))) is False:
                no("the entries cannot all be read")

    def check_checkpoint(self) -> None:
        note = self.files.get("checkpoint.note")
        text = note.decode("utf-8", "replace") if note is not None else no("checkpoint.note is missing")
        keys = [key for key in self.reigns[-1][1]["machine_keys"] if key["role"] == "log"]
        current = max(keys, key=lambda key: (key["valid_until"] is None, key["valid_until"] or "", key["valid_from"]))
        _, size, root = open_checkpoint(text, _machine_key(current))
        if size != len(self.entries) or root != self.tree.roots[size]:
            no(f"the checkpoint signs {size} entries with root {root.hex()[:16]}, the bundle holds {len(self.entries)} with root "
               f"{self.tree.roots[-1].hex()[:16]}")
        self.verified.add("checkpoint.note")

    def check_anchors(self) -> None:
        """Heads that witnesses cosigned (c2sp.org/tlog-cosignature): each is a head of this ledger, each witness one of a policy."""
        keys = [key for _, policy, *_ in self.reigns for key in policy["machine_keys"] if key["role"] == "log"]
        known = {each["name"]: unbase64(each["key"].removeprefix("ed25519:"))
                 for _, policy, *_ in self.reigns for each in (policy.get("anchors") or {"witnesses": ()})["witnesses"]}
        for name in sorted(name for name in self.files if name.startswith("anchors/")):
            note = self.files[name].decode("utf-8", "replace")
            _, size, root = _opened_by_any(note, [_machine_key(key) for key in keys])
            if size >= len(self.tree.roots) or self.tree.roots[size] != root:
                no(f"{name}: a witness saw {size} entries of another ledger than this one: it was rewritten, or cut")
            found = [(who, at) for who, raw in known.items() if (at := cosigned_at(note, who, raw)) is not None]
            if not found:
                no(f"{name}: no witness of a trust policy cosigned it")
            for who, at in found:
                self.counts[f"entries that {who} had seen at {at:%Y-%m-%d %H:%M}Z (cosigned)"] = size
            self.verified.add(name)

    def check_held(self, head: str | None, policy: str | None) -> None:
        if head:
            size, _, root = head.partition(":")
            if not size.isdigit() or int(size) >= len(self.tree.roots) or int(size) == 0:
                no(f"the head that you hold is of {size} entries, the bundle has {len(self.entries)}: the tail was cut off")
            if self.tree.roots[int(size)].hex() != root.lower():
                no(f"the first {size} entries are not those whose root you hold: the ledger was rewritten")
            self.counts["entries newer than the head you hold (they rest on the log's key)"] = len(self.entries) - int(size)
        if policy and sha256(canonical(self.entries[0].body["organisation"])) != policy.lower():
            no("the ledger does not begin with the trust policy whose digest you hold")

    # (2) -------------------------------------------------------------------------------------------------- who was trusted when

    def read_policies(self) -> None:
        for entry in self.entries:
            if entry.kind != "trust-policy":
                continue
            organisation = entry.body["organisation"]
            digest = sha256(canonical(organisation))
            if entry.subjects.get("trust-policy") != digest:
                no(f"entry {entry.index} names another trust policy than it holds")
            check_policy(organisation)
            if not self.reigns:
                if entry.index != 0:
                    no("the ledger does not begin with a trust policy")
                _signed_by_machines(entry, organisation)
                self.reigns.append((0, organisation, digest))
                continue
            before = self.reigns[-1][1]
            _signed_by_machines(entry, before)
            since = self._approved_since(digest, before)
            if since is not None:
                self.reigns.append((max(since, entry.index), organisation, digest))
        if not self.reigns:
            no("the ledger does not begin with a trust policy")
        if any(policy["demonstration"] for _, policy, _ in self.reigns):
            self.notes.append("A demonstration: some people in its trust policy were made up by the program.")

    def _approved_since(self, digest: str, before: Json) -> int | None:
        people: dict[str, str] = {}
        for entry in self.entries:
            if entry.kind != "decision" or entry.subjects.get("trust-policy") != digest or entry.body["scope"]["purpose"] != "trust-policy":
                continue
            _signed_by_person(entry, self.policy_at(entry.index))
            if entry.body["decision"] == "reject":
                return None
            if entry.body["decision"] == "revoke":
                people.pop(entry.body["person"], None)
            if entry.body["decision"] == "approve":
                people[entry.body["person"]] = entry.body["role"]
                if _quorum(people, before["definitions"]["approved_by"]):
                    return entry.index
        return None

    def policy_at(self, index: int) -> Json:
        """The trust policy that counted when entry `index` was written."""
        return next((policy for since, policy, _ in reversed(self.reigns) if since < index or index == 0), self.reigns[0][1])

    # (3) ----------------------------------------------------------------------------------------------------------- signatures

    def check_entry(self, entry: Entry, latest: datetime | None) -> None:
        policy = self.policy_at(entry.index)
        if entry.kind == "decision":
            passkey = _signed_by_person(entry, policy)
            if passkey is not None and not counters_agree(self.passkeys, passkey[0], moment(entry.body["issued"]), passkey[1]):
                no(f"the counter of {entry.body['person']}'s passkey contradicts an earlier one: there are two copies of it")
            head = entry.body["ledger"]
            if head["size"] > entry.index or self.tree.roots[head["size"]].hex() != head["root"]:
                no(f"{entry.body['person']} saw another ledger of {head['size']} entries than this one was then: it was rewritten")
        elif entry.index:
            _signed_by_machines(entry, policy if entry.kind != "trust-policy" else self._reign_before(entry.index))
        if entry.kind in ("stage", "deployment", "exception", "reconciliation") and entry.body["trust_policy"] != sha256(canonical(policy)):
            no("it was made under another trust policy than the one in force there")
        if entry.kind != "decision" and latest is not None and entry.when + CLOCK < latest:
            no(f"it is dated {entry.body.get('finished', entry.body.get('at'))}, before an earlier entry: the clock was set back")
        self.counts["signatures"] = self.counts.get("signatures", 0) + len(entry.signatures)

    def _reign_before(self, index: int) -> Json:
        """A proposal is signed by the log key of the policy before it, whatever it came to."""
        return next((policy for since, policy, _ in reversed(self.reigns) if since < index), self.reigns[0][1])

    # (4) ---------------------------------------------------------------------------------------------------------------- files

    def check_files(self) -> None:
        """Every artefact has the bytes of its name, and is named by a record of this system; the rest is recomputed."""
        named = named_artefacts(self.entries, self.system, self._parsed)
        for name, content in self.files.items():
            if name.startswith("artefacts/"):
                digest = name.rpartition("/")[2]
                if name != f"artefacts/sha256/{digest}" or sha256(content) != digest:
                    self.problems.append(f"{name}: its bytes are others than its name says")
                elif digest in named:
                    self.verified.add(name)
        derived = derived_files(self.entries, [(policy, digest) for _, policy, digest in self.reigns])
        given = [entry.index for entry in self.entries if f"proofs/{entry.index}.tlog-proof" in self.files]
        derived |= proofs([self.files[f"entries/{entry.index}.json"] for entry in self.entries], given, self.files["checkpoint.note"])
        derived |= verdicts(self.entries, self.system, self._parsed) | sbom(self.entries, self.system, self._parsed)
        for name, wanted in derived.items():
            if name in self.files and self.files[name] != wanted:
                self.problems.append(f"{name}: it does not follow from the ledger")
            elif name in self.files:
                self.verified.add(name)
        missing = sorted(digest for digest in named if self.artefact(digest) is None)
        self.counts["artefacts named by records and not in the bundle"] = len(missing)
        wanted = manifest(self.system, len(self.entries), self.tree.roots[-1].hex(), self.reigns[0][2], self.files, missing)
        if self.files["manifest.json"] != wanted:
            listed = read_canonical(self.files["manifest.json"])
            differs = [name for name in sorted({*listed["files"], *self.files} - {"manifest.json"})
                       if name not in self.files or listed["files"].get(name) != sha256(self.files[name])]
            no(f"the manifest does not describe this bundle{': ' if differs else ''}{', '.join(differs[:5])}")
        self.verified.add("manifest.json")

    def _parsed(self, digest: str) -> Any:
        content = self.artefact(digest)
        try:
            return json.loads(content) if content is not None and content[:1] in (b"{", b"[") else None
        except ValueError:
            return None

    # (5) --------------------------------------------------------------------------------------------------------------- stages

    def definition(self, digest: str) -> Json:
        if digest not in self.definitions:
            found = self.value(digest)
            if found["declaration"]["system"] != self.system:
                no(f"the definition {digest[:12]} is of another system")
            self.definitions[digest] = found
        return self.definitions[digest]

    def in_force(self, before: int) -> str | None:
        """The definition that enough people had approved last, when the ledger had `before` entries."""
        approved: dict[str, dict[str, str]] = {}
        order: list[str] = []
        for entry in self.entries[:before]:
            if entry.kind != "decision" or entry.system != self.system or entry.body["scope"]["purpose"] != "definition":
                continue
            digest = entry.subjects.get("definition")
            if digest is None:
                continue
            people = approved.setdefault(digest, {})
            wanted = self.policy_at(entry.index)["definitions"]["approved_by"]
            if entry.body["decision"] == "approve":
                already = _quorum(people, wanted)
                people[entry.body["person"]] = entry.body["role"]
                if not already and _quorum(people, wanted):
                    order = [*(other for other in order if other != digest), digest]
            elif entry.body["decision"] in ("reject", "revoke"):
                people.clear()
                order = [other for other in order if other != digest]
        return order[-1] if order else None

    def own(self, kind: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.kind == kind and entry.system == self.system]

    def passing(self, asset: str, digest: str, definition: str, before: int, asof: Entry) -> Entry:
        """The latest record, before `before`, that this stage made these bytes, under this definition, all gates passed or excepted."""
        rule = _stage_rule(self.definition(definition), asset)
        same = [e for e in self.own("stage") if e.body["output"] == digest and e.body["stage"] == rule["name"]
                and e.body["definition"] == definition]
        for e in same:
            if e.body["outcome"] != "passed":
                because = self.not_excepted(e, asof)
                if because:
                    no(f"entry {e.index} says that a gate of {asset} {digest[:12]} failed, and a failure stays one ({because})")
        earlier = [e for e in same if e.index < before]
        if not earlier:
            no(f"no earlier record says that {asset} {digest[:12]} passed under this definition")
        asked_again = [e for e in self.own("stage") if earlier[-1].index < e.index < before and e.body["stage"] == rule["name"]
                       and e.body["definition"] == definition and e.body["inputs"] == earlier[-1].body["inputs"]
                       and e.body["outcome"] != "error"]
        if asked_again and asked_again[-1].body["outcome"] != "passed" and self.not_excepted(asked_again[-1], asof):
            no(f"{asset} {digest[:12]} passed, but was asked again about the same inputs, and failed (entry {asked_again[-1].index})")
        return earlier[-1]

    def chain(self, entry: Entry, asof: Entry | None = None) -> dict[str, Entry]:
        """Every record that this one rests on, by asset, each passed before what rests on it; one release. Exceptions count as they
        stood when `asof` was made."""
        asof = asof or entry
        river = self.definition(entry.body["definition"])
        rule = _stage_rule(river, entry.body["stage"])
        if sorted(entry.body["inputs"]) != sorted(rule["needs"]):
            no(f"{rule['makes']} was made from {', '.join(entry.body['inputs']) or 'nothing'}, not from {', '.join(rule['needs'])}")
        found: dict[str, Entry] = {}
        for asset, digest in entry.body["inputs"].items():
            for name, other in self.chain(self.passing(asset, digest, entry.body["definition"], entry.index, asof), asof).items():
                if found.setdefault(name, other).body["output"] != other.body["output"]:
                    no(f"it rests on two different {name}")
        found[rule["makes"]] = entry
        return found

    # (5b) An exception edits no verdict: what failed stays failed, and goes on only where people said so, exactly and in time.

    def not_excepted(self, failed: Entry, asof: Entry) -> str:
        """Why what failed may not go on, as things stood when `asof` was made; empty if every failed gate was excepted."""
        if failed.body["stage"] != "model_evaluation" or failed.body["outcome"] != "failed":
            return "no exception can be given"
        gates = [gate for gate in failed.body["gates"] if gate["verdict"] not in ("PASS", "NOT_APPLICABLE")]
        for gate in gates:
            found = [e for e in self.own("exception") if e.index < asof.index and e.body["gate"] == gate["gate"]]
            reasons = [self._exception_fails(e, failed, gate, asof) for e in found]
            if not found or all(reasons):
                return f"{gate['gate']}: {reasons[-1] if reasons else 'nobody excepted it'}"
        return "" if gates else "no gate failed"

    def _exception_fails(self, exception: Entry, failed: Entry, gate: Json, asof: Entry) -> str:
        """Why this exception does not cover this gate of what failed; empty if it does."""
        said, who = exception.body, f"the exception in entry {exception.index}"
        if any(said[name] != failed.body[name] for name in ("stage", "definition", "inputs")) or said["gate_version"] != gate["version"]:
            return f"{who} is for another release, definition or gate"
        approval = self.definition(said["definition"])["declaration"]["approval"]
        allowed = approval.get("exceptions")
        if not allowed:
            return f"{who} was given under a definition that allows none"
        original = next((e for e in self.own("stage") if e.digest == said["failed"] and e.index < exception.index), None)
        if original is None:
            return f"{who} rests on no failed execution before it"
        before = {f["id"]: (f["verdict"], f.get("value", "")) for g in original.body["gates"] if g["gate"] == said["gate"]
                  for f in g["findings"]}
        named = {f["id"]: (f["verdict"], f["value"]) for f in said["findings"]}
        if any(before.get(name) != what or what[0] not in allowed["covers"] or what[0] not in ("INCONCLUSIVE", "INSUFFICIENT_DATA", "FAIL")
               for name, what in named.items()):
            return f"{who} names what did not fail so, or what its definition does not let be excepted"
        if any(named.get(f["id"]) != (f["verdict"], f.get("value", "")) for f in gate["findings"]
               if f["verdict"] not in ("PASS", "NOT_APPLICABLE")):
            return f"{who} does not name every finding that failed"
        asked, expires = moment(said["at"]), moment(said["expires"])
        if expires > asked + min(_period(allowed["longest"]), timedelta(days=30)):
            return f"{who} lasts longer than declared"
        if not asked <= asof.when < expires:
            return f"{who} had expired at {said['expires']}"
        return self._exception_unapproved(exception, original, approval, asof.index)

    def _exception_unapproved(self, exception: Entry, failed: Entry, approval: Json, before: int) -> str:
        """Why too few people stood behind an exception when the ledger had `before` entries; empty if enough did."""
        who = f"the exception in entry {exception.index}"
        people: dict[str, str] = {}
        for e in self.own("decision"):
            said = e.body
            if e.index >= before or e.subjects.get("exception") != exception.digest or said["scope"]["purpose"] != "exception":
                continue
            if said["decision"] == "reject" and not self._revoked(e, before):
                return f"{said['person']} rejected {who}"
            if said["decision"] != "approve":
                continue
            if self._revoked(e, before):
                people.pop(said["person"], None)
                continue
            person = next(one for one in self.policy_at(e.index)["people"] if one["id"] == said["person"])
            theirs = set(person["launchers"])
            mine = {mail.lower() for mail in person["git"]} | {f"launcher:{name}" for name in theirs}
            if not (said["person"] == exception.body["requested_by"] or exception.body["launcher"] in theirs
                    or ("not_launcher" in approval["separation"] and failed.body["launcher"] in theirs)
                    or ("not_author" in approval["separation"] and mine & set(failed.body["code"]["authors"]))):
                people[said["person"]] = said["role"]
        return "" if _quorum(people, approval["exceptions"]["approved_by"]) else f"not enough people of the declared roles approved {who}"

    def check_excepted(self, entry: Entry) -> None:
        """A failed evaluation on which something rests: whole, and every gate judged, as one that passed."""
        used = [e for e in self.own("stage") if e.body["outcome"] == "passed" and entry.body["output"] in e.body["inputs"].values()]
        if used:
            self.check_stage(entry, used[0])
            self.counts["failed evaluations that went on under an exception"] = self.counts.get(
                "failed evaluations that went on under an exception", 0) + 1

    def check_stage(self, entry: Entry, used: Entry | None = None) -> None:
        """`used`: what was made from it although a gate failed; only where people had excepted that."""
        body = entry.body
        if used is not None and (why := self.not_excepted(entry, used)):
            no(f"a gate failed, and entry {used.index} was made from it nonetheless ({why})")
        definition = self.definition(body["definition"])
        rule = _stage_rule(definition, body["stage"])
        # a. Exactly the definition's gates, in their versions and order, each verdict following from its findings.
        if [(gate["gate"], gate["version"]) for gate in body["gates"]] != [(gate["name"], gate["version"]) for gate in rule["gates"]]:
            no(f"its gates are not exactly those of its definition: {', '.join(gate['name'] for gate in rule['gates'])}")
        for gate in body["gates"]:
            _check_gate(gate, excepted=used is not None)
        # b. What was measured is held against what was declared.
        if body["stage"] == "model_evaluation":
            _check_bounds(definition["declaration"]["evaluation"], body)
            deployed = [e.index for e in self.own("deployment") if e.index < entry.index and e.body["action"] == "full_rollout"]
            if deployed and "baseline" not in body["references"]:
                no(f"it was compared with nothing, though entry {deployed[0]} says that a model was deployed before")
        # c. An acting stage acts only under what people approved.
        if rule["kind"] == "act" and body["definition"] != self.in_force(entry.index):
            no("it acted under a definition that people had not approved then")
        # d. Its chain; and its own bytes name the same inputs.
        self.chain(entry)
        value = self.value(body["output"])
        if value["system"] != self.system:
            no("its output is of another system")
        for asset, key in LINKS[rule["makes"]].items():
            # A link that is missing on either side is a broken one.
            if asset not in body["inputs"] or key not in value or value[key] != body["inputs"][asset]:
                no(f"its output names another {asset} than its record")
        if rule["reports"] and value["gates"] != body["gates"]:
            no("the verdicts in its report are not those in its record")
        for digest in _digests([value.get(name) for name in ("splits", "model", "report", "scores", "quality_report", "probe")]):
            if rule["kind"] == "compute" and digest not in body["files"].values() and digest not in _logical(value):
                no(f"its record does not name the file {digest[:12]} of its output")

    # (6) ------------------------------------------------------------------------------------------------------------ approvals

    def check_approval(self, entry: Entry) -> None:
        """People approved exactly this: digests, roles, quorum by person, separation, validity, nobody's rejection."""
        body, value = entry.body, self.value(entry.body["output"])
        definition = self.definition(body["definition"])
        declared, policy = definition["declaration"], self.policy_at(entry.index)
        environment = policy["environments"][value["environment"]]
        chain, at = self.chain(entry), moment(body["finished"])
        evaluation, staged = chain["evaluation_report"], chain["staged_model"]
        model = self.value(staged.body["output"])["model"]
        subjects = {"staged-model": staged.body["output"], "model": model, "evaluation-report": evaluation.body["output"],
                    "integration-report": chain["integration_report"].body["output"], "dataset": chain["dataset"].body["output"],
                    "definition": evaluation.body["definition"], "environment": evaluation.body["environment"],
                    "rollout": sha256(canonical(declared["deployment"]))}
        wanted = (declared["deployment"]["environment"], model, subjects["rollout"])
        if (value["environment"], value["model"], value["rollout"]) != wanted:
            no("it is for another environment, model or rollout plan than was declared and staged")
        if value["trust_policy"] != sha256(canonical(policy)) or value["definition"] != body["definition"]:
            no("it names another trust policy or definition than it was made under")
        if environment["production"] and environment["approvals"] != "declared":
            no("one person is not enough for production")
        people: dict[str, str] = {}
        launchers = {e.body["launcher"] for e in chain.values() if e is not entry}
        authors = {author for e in chain.values() if e is not entry for author in e.body["code"]["authors"]}
        expiries = []
        for digest in value["decisions"]:
            decision = next((e for e in self.own("decision") if e.digest == digest and e.index < entry.index), None)
            if decision is None:
                no(f"the decision {digest[:12]} that it counts is not in the ledger before it")
            said, who = decision.body, f"the decision of {decision.body['person']} (entry {decision.index})"
            scope = said["scope"]
            if said["decision"] != "approve" or (scope["purpose"], scope["environment"]) != ("release", value["environment"]):
                no(f"{who} is no approval of a release for {value['environment']}")
            if decision.subjects != subjects or scope["rollout"] != subjects["rollout"]:
                different = [name for name in SUBJECTS if decision.subjects.get(name) != subjects[name]]
                no(f"{who} is bound to another {', '.join(different) or 'rollout'}")
            if said["trust_policy"] != value["trust_policy"]:
                no(f"{who} was made under another trust policy")
            if any(all(e.index > decision.index for e in self.own("stage") if e.body["output"] == other.body["output"])
                   for other in chain.values() if other is not entry):
                no(f"{who} is about something that was not on record yet")
            if self._revoked(decision, entry.index):
                no(f"{who} had been revoked")
            if any(e.body["decision"] == "defer" and e.body["person"] == said["person"] and e.subjects.get("model") == model
                   and decision.index < e.index < entry.index for e in self.own("decision")):
                no(f"{who} had been put off since")
            issued, expires = moment(said["issued"]), moment(said["expires"])
            if issued > at + SKEW or expires <= at or expires > issued + _period(declared["approval"]["valid_for"]):
                no(f"{who} had expired, is dated into the future, or claims a longer validity than declared")
            person = next(one for one in policy["people"] if one["id"] == said["person"])
            separation = declared["approval"]["separation"]
            if environment["approvals"] == "declared":
                if "not_launcher" in separation and launchers & set(person["launchers"]):
                    no(f"{who} does not count: they launched a run of this release")
                if "not_author" in separation and authors & ({mail.lower() for mail in person["git"]}
                                                             | {f"launcher:{name}" for name in person["launchers"]}):
                    no(f"{who} does not count: they wrote what is approved")
            if said["person"] in people and "distinct_people" in separation:
                no(f"{who} fills a second place")
            people[said["person"]] = said["role"]
            if any(e.body["requested_by"] == said["person"] and not self._exception_is_foreign(e, evaluation) for e in self.own("exception")
                   if e.index < entry.index) and evaluation.body["outcome"] == "failed":
                no(f"{who} does not count: they asked for an exception that it rests on")
            expiries.append(expires)
        # Who must approve follows from how far the definition moved, which is computed here; a record may say graver, never less.
        follows = self.change_since_production(entry, value)
        if value["change"] not in ("FIRST", *CLASSES):
            no("it does not say how much its definition changed")
        if "FIRST" in (value["change"], follows) and value["change"] != follows:
            no(f"it says {value['change']}, that something was in production before it, and nothing was" if follows == "FIRST"
               else "it says that nothing was in production before it, and something was")
        if value["change"] != "FIRST" and CLASSES.index(value["change"]) < CLASSES.index(follows):
            no(f"it says that its definition's change is {value['change']}, and from the two definitions follows {follows}")
        besides = [(declared["approval"].get("by_change") or {}).get(kind, []) for kind in {value["change"], follows}]
        if environment["approvals"] == "declared":
            if not _quorum(people, declared["approval"]["requires"]) or not all(_quorum(people, more) for more in besides if more):
                no("not enough people of the declared roles approved")
            if value["change"] == "SUBSTANTIAL" and len({need["role"] for need in (*declared["approval"]["requires"],
                                                                                   *(need for more in besides for need in more))}) < 2:
                no("a substantial change was approved by one role")
        if not people or sorted(map(tuple, value["approvers"])) != sorted(people.items()) or moment(value["expires"]) != min(expiries):
            no("nobody approved, or it names other approvers or another expiry than the decisions")
        for decision in self.own("decision"):
            if (decision.body["decision"] == "reject" and decision.index < entry.index and not self._revoked(decision, entry.index)
                    and all(decision.subjects.get(name) == subjects[name] for name in ("model", "evaluation-report"))):
                no(f"{decision.body['person']} had rejected this model and report (entry {decision.index})")

    def change_since_production(self, entry: Entry, value: Json) -> str:
        """How far this approval's definition had moved since the one in production then, from the bytes of both; what the bundle does not
        hold cannot be compared, and counts as the gravest."""
        state = desired_state(value["environment"], [
            SimpleNamespace(index=e.index, body=SimpleNamespace(**e.body)) for e in self.own("deployment")
            if e.index < entry.index and e.body["environment"] == value["environment"]])
        production = state.production
        if production is not None and production.staged == value["staged_model"]:  # counted again since: as it was the first time
            production = state.rollouts[production.approval].previous
        if production is None:
            return "FIRST"
        if production.definition == entry.body["definition"]:
            return "ROUTINE"
        if self.artefact(production.definition) is None:
            return "SUBSTANTIAL"
        return class_of(changes(self.definition(production.definition), self.definition(entry.body["definition"]))).value

    @staticmethod
    def _exception_is_foreign(exception: Entry, evaluation: Entry) -> bool:
        return any(exception.body[name] != evaluation.body[name] for name in ("stage", "definition", "inputs"))

    def _revoked(self, decision: Entry, before: int) -> bool:
        return any(e.body["decision"] == "revoke" and e.body["revokes"] == decision.digest and e.body["person"] == decision.body["person"]
                   and e.index < before for e in self.own("decision"))

    # (7) ---------------------------------------------------------------------------------------------------------- deployments

    def check_deployment(self, step: Entry) -> None:
        """An intent needs an approval in force; each step what the plan puts before it; a return only what once was in production."""
        body = step.body
        approval = self._approval(body["approval"], step.index)
        value = self.value(body["approval"])
        if (value["environment"], value["model"], value["staged_model"]) != (body["environment"], body["model"], body["staged"]):
            no("its approval is for another environment or model")
        if step.subjects.get("model") != body["model"]:
            no("it is about another model than it names")
        earlier = [e for e in self.own("deployment") if e.index < step.index and e.body["environment"] == body["environment"]
                   and e.body["approval"] == body["approval"] and e.body["model"] == body["model"]]
        begun = [e for e in earlier if e.body["action"] in ("shadow_started", "canary_started", "full_rollout")]
        taken_back = [e for e in self.own("deployment") if e.index < step.index and e.body["environment"] == body["environment"]
                      and e.body["action"] == "rolled_back" and e.body["previous_approval"] == body["approval"] != e.body["approval"]]
        ended = [e for e in (*earlier, *taken_back) if e.body["action"] in ("aborted", "withdrawn") or e in taken_back]
        if body["action"] == "rolled_back":
            if not any(e.body["action"] == "full_rollout" for e in earlier):
                no("the version to return to was never in production here")
            if ended:
                no("the version to return to was withdrawn, aborted or taken back itself")
            self._require_standing(approval, value, step.index)
            return
        gone = [e.index for e in self.own("deployment") if e.index < step.index and e.body["environment"] == body["environment"]
                and e.body["action"] == "decommissioned"]
        if gone:
            no(f"the system had been taken out of service (entry {gone[0]})")
        if body["action"] == "decommissioned":
            self._require_decommission(step)
            return
        if body["action"] in ("aborted", "withdrawn"):
            return  # a version stops answering: that needs no authority
        if ended:
            no("its rollout had ended, and a new approval is needed")
        if body["action"] == "intent":
            at = moment(body["at"])
            if not earlier and moment(value["expires"]) <= at:
                no("its approval had expired")
            if value["trust_policy"] != body["trust_policy"] or value["definition"] != self.in_force(step.index):
                no("its approval was given under another trust policy or definition than those in force")
            self._require_standing(approval, value, step.index)
            self._require_conditions(value, step)
            self._require_reviews(step)
            self.check_verdict(step)
            return
        plan = self.definition(value["definition"])["declaration"]["deployment"]["steps"]
        if not any(e.body["action"] == "intent" for e in earlier):
            no("no intent goes before it")
        ((kind, settings),) = plan[body["step"]].items()
        wanted = {"shadow": "shadow_started", "canary": "canary_started", "full": "full_rollout"}[kind]
        share = {"shadow": "0", "canary": settings.get("share", ""), "full": "1"}[kind]
        if body["action"] != wanted or Decimal(body["share"]) != Decimal(share):
            no(f"the approved plan has {kind} with share {share} as its step {body['step']}")
        self._require_standing(approval, value, step.index)
        self._require_conditions(value, step)
        if body["step"]:
            if body["step"] - 1 not in {e.body["step"] for e in begun}:
                no("the step before it was skipped")
            judged = body["evidence"]["judged"]
            if judged["step"] != body["step"] - 1 or judged["verdict"] != "PASS":
                no("the step before it was not judged, or did not pass")
            for finding in judged["findings"]:
                _check_finding(finding)
                if finding["verdict"] not in ("PASS", "NOT_APPLICABLE"):
                    no("the step before it did not pass")

    def check_verdict(self, intent: Entry) -> None:
        """The gate's signed verdict (a SLSA verification summary) lets this model be deployed there, under an approval before it."""
        body, policy = intent.body, self.policy_at(intent.index)
        if "verification_summary" not in body["evidence"]:
            no("it names no verdict of the deployment gate")
        outer = self.value(body["evidence"]["verification_summary"])
        if outer.keys() != {"payload", "payloadType", "signatures"} or outer["payloadType"] != PAYLOAD_TYPE:
            no("the gate's verdict is not an envelope around a statement")
        payload, kind = unbase64(outer["payload"]), PAYLOAD_TYPE.encode()
        statement = read_canonical(payload)
        made = moment(statement["predicate"].pop("timeVerified"))
        signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
        gates = [_machine_key(key) for key in policy["machine_keys"] if key["role"] == "gate" and moment(key["valid_from"]) <= made
                 and (key["valid_until"] is None or made <= moment(key["valid_until"]))]
        if not any(one["keyid"] == sha256(key) and one["scheme"] == "ed25519" and ed25519(key, signed, unbase64(one["sig"]))
                   for key in gates for one in outer["signatures"]):
            no("the verdict on it is not signed by the gate's key of the trust policy in force")
        wanted = [{"_type": STATEMENT, "subject": [{"name": "model", "digest": {"sha256": body["model"]}}],
                   "predicateType": "https://slsa.dev/verification_summary/v1", "predicate": {
                       "verifier": {"id": f"{URN}deployment-gate:v1"},
                       "resourceUri": f"{URN}system:{body['system']}:environment:{body['environment']}",
                       "policy": {"uri": f"{URN}definition", "digest": {"sha256": body["definition"]}},
                       "inputAttestations": [{"uri": f"{URN}pre-deployment-approval", "digest": {"sha256": approval.digest}}],
                       "verificationResult": "PASSED", "verifiedLevels": ["COMPLIANCE_ASSETS_APPROVED_FOR_DEPLOYMENT"],
                       "slsaVersion": "1.1"}} for approval in self.own("stage") if approval.index < intent.index
                  and (approval.body["output"], approval.body["stage"]) == (body["approval"], "pre_deployment_approval")]
        if statement not in wanted or made > intent.when:
            no("the gate's verdict is for another model, system, environment, definition or approval, did not pass, or is younger")

    def _approval(self, digest: str, before: int) -> Entry:
        found = [e for e in self.own("stage") if e.index < before
                 and (e.body["output"], e.body["stage"]) == (digest, "pre_deployment_approval")]
        if not found or any(e.body["outcome"] != "passed" for e in found):
            no("nobody approved it: no passed approval stands before it in the ledger")
        return found[-1]

    def _require_decommission(self, step: Entry) -> None:
        """Enough of the people who approve definitions had signed that the system goes out of service here, and nobody against it."""
        wanted = sha256(canonical({"decommission": step.body["system"], "environment": step.body["environment"]}))
        said = [e for e in self.own("decision") if e.index < step.index and e.subjects.get("decommission") == wanted
                and not self._revoked(e, step.index)]
        people = {e.body["person"]: e.body["role"] for e in said if e.body["decision"] == "approve"}
        if any(e.body["decision"] == "reject" for e in said) or not _quorum(
                people, self.policy_at(step.index)["definitions"]["approved_by"]):
            no("not enough people decided that the system goes out of service")

    def _require_conditions(self, value: Json, step: Entry) -> None:
        """Every condition of a counted approval whose day was over had been met, in the word of who set it or of their role."""
        for decision in (e for e in self.own("decision") if e.digest in value["decisions"]):
            said = decision.body
            late = not said["due"] or step.when >= moment(f"{said['due']}T00:00:00Z") + timedelta(days=1)
            for text in said["conditions"] if late else ():
                wanted = sha256(canonical({"approval": decision.digest, "condition": text}))
                if not any(e.index < step.index and e.subjects.get("condition") == wanted and e.body["decision"] == "approve"
                           and not self._revoked(e, step.index)
                           and (e.body["person"] == said["person"] or e.body["role"] == said["role"]) for e in self.own("decision")):
                    no(f"a condition of {said['person']}'s approval was due {said['due'] or 'at once'} and had not been met")

    def _require_standing(self, approval: Entry, value: Json, before: int) -> None:
        for e in self.own("decision"):
            if approval.index < e.index < before and (
                    (e.body["decision"] == "revoke" and e.body["revokes"] in value["decisions"])
                    or (e.body["decision"] == "reject" and e.subjects.get("model") == value["model"]
                        and e.body["scope"]["environment"] == value["environment"] and not self._revoked(e, before))):
                no(f"{e.body['person']} had revoked or rejected it (entry {e.index})")

    def _require_reviews(self, intent: Entry) -> None:
        """No emergency act before it had been left unreviewed, by anybody but its author, beyond its date."""
        for act in self.own("deployment"):
            due = act.body["evidence"].get("review_due")
            if act.index < intent.index and due and act.body["environment"] == intent.body["environment"] and moment(due) < intent.when:
                author = {person["id"] for person in self.policy_at(act.index)["people"] if act.body["launcher"] in person["launchers"]}
                if not any(e.subjects.get("return") == act.digest and e.body["person"] not in author and e.index < intent.index
                           for e in self.own("decision")):
                    no(f"the emergency act in entry {act.index} had not been reviewed in time")

    def check_deployed(self, entry: Entry) -> None:
        value = self.value(entry.body["output"])
        names = ("approval", "model", "environment")
        rolled = [e for e in self.own("deployment") if e.index < entry.index and e.body["action"] == "full_rollout"
                  and all(e.body[name] == value[name] for name in names)]
        if value["outcome"] != "production" or not rolled:
            no("it says that a model is in production, and no full rollout of it is in the ledger before it")

    # (8) --------------------------------------------------------------------------------------------------------------- alerts

    def check_alerts(self) -> None:
        """Each alert is acknowledged and closed by people of the roles that own it, with their own signatures, or it stays open."""
        opened = [e for e in self.own("alert") if e.body["event"] == "opened"]
        alerts = [OpenedAlert(e.index, e.digest, frozenset(e.body["owner"].split(", ")),
                              sha256(canonical(shown_alert(e.index, e.digest, e.body)))) for e in opened]
        said = [SignedAnswer(e.index, e.digest, tuple(e.subjects.items()), e.body["decision"], e.body["person"], e.body["role"],
                             e.body["shown"], e.body["revokes"],
                             frozenset(need["role"] for need in self.policy_at(e.index)["definitions"]["approved_by"]))
                for e in self.own("decision") if e.body["scope"]["purpose"] == "alert"]
        counted, refused = answers_counted(alerts, said)
        if opened:
            self.counts["alerts opened"] = len(opened)
            self.counts["alerts acknowledged by a person who signed"] = sum(event == "acknowledged" for _, event in counted)
            self.counts["alerts closed by a person who signed"] = sum(event == "closed" for _, event in counted)
        self.notes += [f"The answer of {one.person} in entry {one.index} to an alert does not count: {why}." for one, why in refused]
        self.notes += [f"The answer in entry {e.index} to an alert does not count: a machine wrote it, and no person signed it."
                       for e in self.own("alert") if e.body["event"] != "opened"]

    # (9) ----------------------------------------------------------------------------------------------------- filed documents

    def check_filed(self, entry: Entry) -> None:
        """A filed document: its bytes, the head that it was made from, every source it names. Role and version are noted only."""
        if entry.subjects.get("filed-document") != entry.body["shown"]:
            no("it names another note than it is about")
        note = self.value(entry.body["shown"])
        if note["form"] != "filed document" or note["system"] != self.system or note["content"] != entry.subjects.get("document"):
            no("its note is none of this document")
        document = self.value(note["content"])
        if any(document[name] != note[name] for name in ("document", "system", "candidate", "ledger")):
            no("its note says another document, candidate or head than the document")
        size, root = note["ledger"]["size"], note["ledger"]["root"]
        if not 0 < size <= entry.index or self.tree.roots[size].hex() != root:
            no(f"this ledger never had the head of {size} entries that it was made from")
        for one in note["sources"]:
            if not 0 <= one["ledger_index"] < size or self.entries[one["ledger_index"]].digest != one["evidence_id"]:
                no(f"entry {one['ledger_index']} is not what it says that it was read from")
        person, kind = entry.body["person"], note["document"]
        if self._revoked(entry, len(self.entries)):
            self.notes.append(f"{person} took back {kind} version {note['version']}, filed in entry {entry.index}.")
        if entry.body["role"] not in {need["role"] for need in self.policy_at(entry.index)["definitions"]["approved_by"]}:
            self.notes.append(f"{kind} in entry {entry.index} does not count as filed: the role {entry.body['role']} files no documents.")
            return
        before = self.filed.setdefault(kind, [])
        if (note["version"], note["previous"]) != (len(before) + 1, before[-1] if before else ""):
            self.notes.append(f"{kind} in entry {entry.index} does not count as filed: it does not follow version {len(before)}.")
            return
        before.append(entry.digest)
        self.counts["filed documents: bytes, ledger head and sources"] = sum(map(len, self.filed.values()))

    # -------------------------------------------------------------------------------------------------------------------- all

    def verify(self, head: str | None, policy: str | None) -> None:
        """Everything, in order; later parts need the earlier ones."""
        if not (self.attempt("manifest.json", self._read_system) and self.attempt("ledger", self.read_ledger)):
            return
        self.attempt("what you hold", self.check_held, head, policy)
        if not self.attempt("trust policies", self.read_policies):
            return
        self.attempt("checkpoint", self.check_checkpoint)
        self.attempt("anchors", self.check_anchors)
        latest: datetime | None = None
        for entry in self.entries:
            if self.attempt(f"entry {entry.index} ({entry.kind})", self.check_entry, entry, latest) and entry.kind != "decision":
                latest = max(latest or entry.when, entry.when)
        self.attempt("files", self.check_files)
        if not any(entry.system == self.system for entry in self.entries):
            self.problems.append(f"nothing in the ledger is about {self.system!r:.60}")
        known = {e.subjects.get("definition") for e in self.own("definition")}
        for entry in self.own("stage"):
            self.attempt(f"entry {entry.index} (stage)", self._check_passed, entry, known)
        for step in self.own("deployment"):
            self.attempt(f"entry {step.index} (deployment)", self.check_deployment, step)
            self.counts["deployment steps"] = self.counts.get("deployment steps", 0) + 1
        self.attempt("alerts", self.check_alerts)
        for entry in self.own("decision"):
            if (entry.body["scope"]["purpose"], entry.body["decision"]) == ("filing", "approve"):
                self.attempt(f"entry {entry.index} (filed document)", self.check_filed, entry)
        self.counts.setdefault(UNJUDGED, 0)
        self.counts["entries of other systems (signatures and tree only)"] = sum(e.system not in ("", self.system) for e in self.entries)

    def _check_passed(self, entry: Entry, known: set[str | None]) -> None:
        """A stage that passed, down to what it rests on; one that did not is evidence of that and nothing rests on it."""
        stage = entry.body["stage"]
        if entry.body["outcome"] == "failed" and stage == "model_evaluation":
            self.attempt(f"entry {entry.index} ({stage})", self.check_excepted, entry)
        if entry.body["outcome"] != "passed":
            return
        if entry.body["definition"] not in known and stage in COMPUTED:
            self.counts[UNJUDGED] = self.counts.get(UNJUDGED, 0) + 1  # its definition was never proposed
            return
        self.attempt(f"entry {entry.index} ({stage})", self.check_stage, entry)
        if stage == "pre_deployment_approval":
            self.attempt(f"entry {entry.index} (approval)", self.check_approval, entry)
        elif stage == "deployment":
            self.attempt(f"entry {entry.index} (deployment)", self.check_deployed, entry)
        self.counts["passed stages, down to the raw source"] = self.counts.get("passed stages, down to the raw source", 0) + 1

    def _read_system(self) -> None:
        self.system = str(read_canonical(self.files["manifest.json"])["system"])


# -------------------------------------------------------------------------------------- what the exporter and the verifier share


def named_artefacts(entries: Iterable[Entry], system: str, parsed: Any) -> dict[str, str]:
    """Every artefact that records of a system name, and where; a definition also names the files that it covers."""
    named: dict[str, str] = {}
    for entry in entries:
        body = entry.body
        if entry.system not in ("", system):
            continue
        if entry.kind == "stage":
            for name, digest in {"output": body["output"], "log": body["log"], "environment": body["environment"], **body["files"]}.items():
                named.setdefault(digest, f"entry {entry.index}, {name}")
        elif entry.kind == "decision" and body["shown"]:
            named.setdefault(body["shown"], f"entry {entry.index}, shown")
            if body["scope"]["purpose"] == "filing" and "document" in entry.subjects:
                named.setdefault(entry.subjects["document"], f"entry {entry.index}, the filed document")
        elif entry.kind == "deployment":
            for name in ("snapshot", "verification_summary"):
                if name in body["evidence"]:
                    named.setdefault(body["evidence"][name], f"entry {entry.index}, {name}")
        elif entry.kind == "definition":
            named.setdefault(body["declaration"], f"entry {entry.index}, declaration")
            named.setdefault(body["parts"], f"entry {entry.index}, parts")
            parts = parsed(body["parts"])
            for name, digest in (parts["code"].items() if isinstance(parts, dict) and isinstance(parts.get("code"), dict) else ()):
                named.setdefault(digest, f"entry {entry.index}, {name}")
    return named


def derived_files(entries: Sequence[Entry], reigns: Sequence[tuple[Json, str]]) -> dict[str, bytes]:
    """Files that say in other forms what the ledger says: trust policies, allowed signers, in-toto attestations."""
    found = {f"trust/policy-{number}.json": canonical(policy) for number, (policy, _) in enumerate(reigns)}
    found["trust/allowed_signers"] = "".join(f"{person['id']} {person['allowed_signers']}\n" for person in reigns[-1][0]["people"]
                                             if person["allowed_signers"]).encode()
    lines = [canonical({"payload": base64.b64encode(entry.payload).decode(), "payloadType": PAYLOAD_TYPE, "signatures": [
        {"keyid": keyid, "sig": base64.b64encode(sig).decode()} for keyid, scheme, sig in entry.signatures if scheme == "ed25519"]}) + b"\n"
        for entry in entries if entry.kind != "decision"]
    return {**found, "attestations.intoto.jsonl": b"".join(lines)}


def proofs(bodies: Sequence[bytes], wanted: Iterable[int], note: bytes) -> dict[str, bytes]:
    """proofs/N.tlog-proof: entry N alone can be shown to be in the ledger (c2sp.org/tlog-proof): its way to the root of this checkpoint."""
    hashes = {(index, index + 1): hashlib.sha256(b"\x00" + body).digest() for index, body in enumerate(bodies)}

    def middle(start: int, end: int) -> int:
        return start + (1 << (end - start - 1).bit_length() - 1)

    def subtree(start: int, end: int) -> bytes:
        if (start, end) not in hashes:
            between = middle(start, end)
            hashes[start, end] = hashlib.sha256(b"\x01" + subtree(start, between) + subtree(between, end)).digest()
        return hashes[start, end]

    def way(index: int, start: int, end: int) -> list[bytes]:
        if end - start == 1:
            return []
        between = middle(start, end)
        left = index < between
        return [*way(index, *((start, between) if left else (between, end))), subtree(*((between, end) if left else (start, between)))]

    written: dict[str, bytes] = {}
    for index in wanted:
        lines = [base64.b64encode(one).decode() + "\n" for one in way(index, 0, len(bodies))]
        written[f"proofs/{index}.tlog-proof"] = f"c2sp.org/tlog-proof@v1\nindex {index}\n{''.join(lines)}\n".encode() + note
    return written


def verdicts(entries: Sequence[Entry], system: str, parsed: Any) -> dict[str, bytes]:
    """verdicts.intoto.jsonl: the deployment gate's signed verdicts as plain DSSE, one a line, in the order of the intents."""
    found = [parsed(entry.body["evidence"].get("verification_summary", "")) for entry in entries
             if entry.kind == "deployment" and entry.system == system and entry.body["action"] == "intent"]
    lines = [canonical({**one, "signatures": [{"keyid": sig["keyid"], "sig": sig["sig"]} for sig in one["signatures"]]}) + b"\n"
             for one in found if isinstance(one, dict) and one.keys() == {"payload", "payloadType", "signatures"}]
    return {"verdicts.intoto.jsonl": b"".join(lines)} if lines else {}


def sbom(entries: Sequence[Entry], system: str, parsed: Any) -> dict[str, bytes]:
    """sbom.cdx.json (CycloneDX 1.6 with the model as a component), from the records of the last model that was evaluated and passed.

    Derived, so that it can be recomputed: libraries are those of the recorded environment, metrics those of the recorded gates.
    """
    passed = [entry for entry in entries if entry.kind == "stage" and entry.system == system and entry.body["outcome"] == "passed"]
    evaluated = [entry for entry in passed if entry.body["stage"] == "model_evaluation"]
    if not evaluated:
        return {}
    body = evaluated[-1].body
    candidate = parsed(body["inputs"]["candidate_model"])
    surroundings = parsed(body["environment"])
    if not isinstance(candidate, dict) or not isinstance(surroundings, dict):
        return {}
    measured = [{"type": one["id"], "value": one["value"], **(
        {"confidenceInterval": {"lowerBound": one["lower"], "upperBound": one["upper"]}} if one.get("lower") and one.get("upper") else {})}
                for gate in body["gates"] for one in gate["findings"] if one.get("value")]
    model = {"type": "machine-learning-model", "bom-ref": f"model:{candidate['model']}", "name": system,
             "version": body["inputs"]["candidate_model"], "hashes": [{"alg": "SHA-256", "content": candidate["model"]}],
             "modelCard": {"modelParameters": {"modelArchitecture": candidate["estimator"]},
                           "quantitativeAnalysis": {"performanceMetrics": measured}}}
    libraries = [line.split("==") for line in surroundings["libraries"]]
    refs = [(name, version, f"pkg:pypi/{name}@{version.replace('+', '%2B')}") for name, version in libraries]
    number = sha256(f"{body['output']} {body['environment']}".encode())
    document = {
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "serialNumber": f"urn:uuid:{number[:8]}-{number[8:12]}-{number[12:16]}-{number[16:20]}-{number[20:32]}",
        "metadata": {"component": {"type": "application", "bom-ref": f"system:{system}", "name": system, "version": body["definition"]},
                     "properties": [{"name": f"compliance-assets:{name}", "value": str(surroundings[name])}
                                    for name in ("python", "implementation", "platform", "lock")]},
        "components": [model, *({"type": "library", "bom-ref": ref, "name": name, "version": version, "purl": ref}
                                for name, version, ref in dict.fromkeys(refs))],
        "dependencies": [{"ref": f"system:{system}",
                          "dependsOn": [f"model:{candidate['model']}", *dict.fromkeys(ref for *_, ref in refs)]}],
    }
    return {"sbom.cdx.json": canonical(document)}


def manifest(system: str, size: int, root: str, policy: str, files: Mapping[str, bytes], missing: Sequence[str]) -> bytes:
    """manifest.json: every file but itself with its sha256, and every artefact that was left out."""
    return canonical({"format": "compliance-assets-bundle:v1", "system": system, "head": {"size": size, "root": root},
                      "first_trust_policy": policy, "not_included": list(missing),
                      "files": {name: sha256(content) for name, content in sorted(files.items()) if name != "manifest.json"}})


# ------------------------------------------------------------------------------------------------------------------- small rules


def check_policy(policy: Json) -> None:
    """A key speaks for one person, or for one machine's role."""
    held: list[tuple[object, str]] = [(_machine_key(key), f"the {key['role']} machine") for key in policy["machine_keys"]]
    for person in policy["people"]:
        if person["allowed_signers"] is not None:
            key, authority = key_of_line(person["allowed_signers"])
            held.append((key, "an authority that certifies keys" if authority else person["id"]))
        for passkey in person["passkeys"] if "passkeys" in person else ():
            held += [(passkey["credential"], person["id"]), (passkey["key"], person["id"])]
    owners: dict[object, str] = {}
    for each, holder in held:
        if owners.setdefault(each, holder) != holder:
            no(f"{owners[each]} and {holder} share a key in a trust policy: nobody can tell which of them signed")


def _machine_key(key: Json) -> bytes:
    raw = unbase64(str(key["key"]).removeprefix("ed25519:"))
    return raw if len(raw) == 32 else no("a machine's key does not have 32 bytes")


def _signed_by_machines(entry: Entry, policy: Json) -> None:
    """Every role that must sign did, with a key of that role that counted at the statement's moment."""
    at, roles, keys = entry.when, {}, {}
    for key in policy["machine_keys"]:
        if moment(key["valid_from"]) <= at and (key["valid_until"] is None or at <= moment(key["valid_until"])):
            raw = _machine_key(key)
            roles[sha256(raw)], keys[sha256(raw)] = key["role"], raw
    signers = set()
    for keyid, scheme, sig in entry.signatures:
        if keyid in keys:
            if scheme != "ed25519" or not ed25519(keys[keyid], entry.signed, sig):
                no(f"the signature by {keyid[:12]} does not fit")
            signers.add(roles[keyid])
    lacking = [role for role in SIGNED_BY[entry.kind] if role not in signers]
    if lacking:
        no(f"it is not signed by the {' and the '.join(lacking)} key of the trust policy in force")


def _signed_by_person(entry: Entry, policy: Json) -> tuple[str, int] | None:
    """The very person whom it names signed it, in a role that they hold. Gives the passkey and its counter, where one was used."""
    who = entry.body["person"]
    person = next((one for one in policy["people"] if one["id"] == who), None)
    if person is None or (person["allowed_signers"] is None and "passkeys" not in person):
        no(f"the trust policy knows nobody called {who!r:.60} who can sign")
    if entry.body["role"] not in person["roles"]:
        no(f"{who} decided as {entry.body['role']}, which is not their role")
    theirs = [(scheme, sig) for keyid, scheme, sig in entry.signatures if keyid == who and scheme in ("sshsig", "webauthn")]
    at = moment(entry.body["issued"])
    if len(theirs) != 1:
        no(f"{who} did not sign it")
    if theirs[0][0] == "webauthn":
        return passkey_verify(entry.signed, theirs[0][1], person["passkeys"] if "passkeys" in person else [], at)
    ssh_verify(entry.signed, theirs[0][1], person["allowed_signers"] or no(f"{who} has no SSH key"), at, who)
    return None


def _quorum(people: Mapping[str, str], requires: Sequence[Json]) -> bool:
    """Distinct people fill every place; requirements of the same role add up; no requirement is never fulfilled."""
    wanted = {need["role"]: sum(other["people"] for other in requires if other["role"] == need["role"]) for need in requires}
    return bool(wanted) and all(sum(held == role for held in people.values()) >= needed for role, needed in wanted.items())


def _period(text: str) -> timedelta:
    return timedelta(hours=int(text[:-1]) * {"h": 1, "d": 24}[text[-1]])


def _stage_rule(definition: Json, name: str) -> Json:
    for rule in definition["river"]:
        if name in (rule["name"], rule["makes"]):
            return dict(rule)
    no(f"its definition knows no stage {name}")


def _check_gate(gate: Json, *, excepted: bool = False) -> None:
    """The verdict follows from the findings, each finding from its numbers, and it may be passed (`excepted`: that was settled before)."""
    verdicts = [finding["verdict"] for finding in gate["findings"]]
    for finding in gate["findings"]:
        _check_finding(finding)
    worst = max(verdicts, key=SEVERITY.index, default="ERROR")
    worst = "PASS" if worst == "NOT_APPLICABLE" and "PASS" in verdicts else worst
    if gate["verdict"] != worst or (worst not in ("PASS", "NOT_APPLICABLE") and not excepted):
        no(f"gate {gate['gate']}: the verdict {gate['verdict']} does not follow from its findings ({worst}), or did not pass")


def _check_finding(finding: Json) -> None:
    """A PASS whose own numbers miss its own bound is a lie; a NOT_APPLICABLE needs a reason."""
    if finding["verdict"] == "NOT_APPLICABLE" and not finding.get("note"):
        no(f"{finding['id']} is not applicable without a reason")
    if finding["verdict"] != "PASS" or finding.get("comparator") not in (">=", "<=", "in"):
        return
    end = {"lower": "lower", "upper": "upper"}.get(finding.get("judged_on", "point"), "value")
    try:
        value = Decimal(finding[end])
        edges = [Decimal(edge) for edge in finding["bound"].strip("[]").split(",")]
    except (InvalidOperation, KeyError):
        if finding.get("judged_on"):
            no(f"{finding['id']} passed without the number that it is judged on")
        return  # a fact, such as a digest or a moment
    holds = value >= edges[0] if finding["comparator"] == ">=" else value <= edges[-1] if finding["comparator"] == "<=" else (
        edges[0] <= value <= edges[-1])
    if not holds:
        no(f"{finding['id']} is said to pass, but {end} {finding[end]} is not {finding['comparator']} {finding['bound']}")


def _expected(evaluation: Json) -> Iterator[tuple[str, str, Json]]:
    """Every finding that a declared evaluation owes: its id, its gate, its bound."""
    for family in ("performance", "fairness", "robustness", "calibration"):
        bounds = evaluation[family]["bounds"] if family == "fairness" else evaluation[family]
        for bound in bounds:
            for over in bound["over"] or (None,):
                name = f"{family}.{over}.{bound['metric']}" if over else f"{family}.{bound['metric']}"
                yield name + (_strength(bound) if family == "robustness" else ""), family, bound
    for role in evaluation["drift"]["against"]:
        for bound in evaluation["drift"]["bounds"]:
            for over in bound["over"] or (None,):
                yield f"drift.{role}.{over}.{bound['metric']}" if over else f"drift.{role}.{bound['metric']}", "drift", bound


def _strength(bound: Json) -> str:
    """How a disturbance is told apart in a finding's id: its level, seeds or rows, its attribute or feature, and the rest."""
    level = f"{float(bound['level']):g}" if bound["level"] is not None else str(bound.get("seeds") or bound.get("rows") or "")
    parts = [part for part in (level, bound.get("attribute"), "proxies" if bound.get("with_proxies") else "", bound.get("feature"),
                               bound.get("expected")) if part]
    return f"@{'-'.join(parts)}" if parts else ""


def _check_bounds(evaluation: Json, body: Json) -> None:
    """Every declared bound was judged, as declared; what does not apply does so only where nothing was deployed before."""
    found: dict[str, list[Json]] = {}
    for gate in body["gates"]:
        for finding in gate["findings"]:
            found.setdefault(finding["id"], []).append(finding)
    for name, family, bound in _expected(evaluation):
        comparator = ">=" if bound["at_least"] is not None else "<=" if bound["at_most"] is not None else "in"
        edges = [Decimal(edge) for edge in (bound["between"] or [bound["at_least"] if bound["at_least"] is not None else bound["at_most"]])]
        matching = [one for one in found.get(name, []) if one.get("comparator") == comparator
                    and [Decimal(edge) for edge in one["bound"].strip("[]").split(",")] == edges]
        if not matching:
            no(f"the declared bound on {name} was not judged")
        for one in matching:
            if one["verdict"] == "NOT_APPLICABLE":
                role = name.split(".")[1]
                compared = family == "fairness" and bound["metric"].endswith("_change") and "production" not in body["references"]
                if (family == "drift" and role in body["references"]) or (family in ("fairness", "calibration") and not compared):
                    no(f"{name} is said not to apply, though it does")
            elif one.get("judged_on") != bound["judged_on"]:
                no(f"{name} was judged on {one.get('judged_on')}, not on {bound['judged_on']} as declared")


def _digests(value: object) -> list[str]:
    if isinstance(value, str):
        return [value] if HEX.fullmatch(value) else []
    if isinstance(value, dict):
        return [digest for item in value.values() for digest in _digests(item)]
    return [digest for item in value for digest in _digests(item)] if isinstance(value, list) else []


def _logical(value: Json) -> set[str]:
    """Digests of what tables mean, beside those of their files."""
    splits = value.get("splits")
    return {part["logical"] for part in splits.values() if "logical" in part} if isinstance(splits, dict) else set()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Verify an exported bundle of evidence, trusting one hex string that you hold.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--head", metavar="SIZE:ROOT", help="a head of the ledger that was kept outside the provider")
    parser.add_argument("--policy-sha256", metavar="HEX", help="the digest of the provider's first trust policy")
    parser.add_argument("--json", action="store_true", help="answer as JSON")
    given = parser.parse_args(arguments)
    if not given.head and not given.policy_sha256:
        parser.error("give --head or --policy-sha256: without something that you hold, anybody's bundle would do")
    if not given.bundle.is_dir():
        parser.error(f"{given.bundle} is not a folder")
    bundle = Bundle(given.bundle)
    bundle.verify(given.head, given.policy_sha256)
    uncovered = sorted(set(bundle.files) - bundle.verified)
    if given.json:
        print(json.dumps({"verified": not bundle.problems, "system": bundle.system, "entries": len(bundle.entries),
                          "root": bundle.tree.roots[-1].hex(), "counts": bundle.counts, "notes": bundle.notes, "problems": bundle.problems,
                          "verified_files": sorted(bundle.verified), "uncovered_files": uncovered}, indent=2))
        return 1 if bundle.problems else 0
    print(f"System {bundle.system}: {len(bundle.entries)} entries, root {bundle.tree.roots[-1].hex()}")
    for what, count in bundle.counts.items():
        print(f"  {count:6}  {what}")
    for note in bundle.notes:
        print(f"  NOTE       {note}")
    for name in sorted(bundle.verified):
        print(f"  verified   {name}")
    for name in uncovered:
        print(f"  UNCOVERED  {name}: nothing signed names it")
    for problem in bundle.problems:
        print(f"  PROBLEM    {problem}")
    print("Verified, except for what is named as uncovered or not included." if not bundle.problems
          else f"NOT VERIFIED: {len(bundle.problems)} problem(s).")
    return 1 if bundle.problems else 0


if __name__ == "__main__":
    sys.exit(main())
