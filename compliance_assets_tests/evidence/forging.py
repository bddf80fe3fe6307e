"""An insider with the pipeline's, the gate's, the deployer's and the log's keys, who rewrites a bundle and signs all of it again.

People's keys are used only where an attack says so (a person who colludes, or who was shown something false). Everything that
can be made consistent is made consistent: digests, references, tree, checkpoint, manifest. What is left is the lie itself.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from compliance_assets.evidence import verify_bundle as vb
from compliance_assets.evidence.verification_summary import NAMED, issue, resource
from compliance_assets.pipeline import River
from compliance_assets.registry import Registry
from compliance_assets.trust.canonical import Digest, canonical_json
from compliance_assets.trust.dsse import PAYLOAD_TYPE, Envelope, pae, sign_envelope
from compliance_assets.trust.keys import SigningKey
from compliance_assets.trust.merkle import Checkpoint, sign_checkpoint
from compliance_assets.trust.sshsig import APPROVAL_NAMESPACE, generate_ssh_key, person_signature, ssh_sign

Json = dict[str, Any]


def simulated_rollout(river: River, system: str, served: Json | None = None, *, until: str = "full_rollout") -> None:
    """The records of a rollout as stage 8 writes them, without servers: intent, shadow, canary, full; and the registry after it.

    `served`: what the intent says about serving (snapshot, trusted types), where something is to be computed from it. `until`: the
    last action on record; a rollout that ends before everybody is under way.
    """
    from compliance_assets.evidence.deployments import desired_state
    from compliance_assets.evidence.records import DeploymentStep
    from compliance_assets.trust.canonical import digest_of, rfc3339

    approval = river.archive.made_by(system, "pre_deployment_approval")[-1]
    value = json.loads(river.archive.artefacts.get_bytes(type(approval.digest)(approval.body.output)))
    steps = river.definition(system).system.declaration()["deployment"]["steps"]
    staged = river.value("staged_model", type(approval.digest)(value["staged_model"])).model_dump()
    slot = desired_state(value["environment"], river.archive.deployments(value["environment"])).free_slot
    plan = [("intent", "0", 0), ("shadow_started", "0", 0), ("canary_started", steps[1]["canary"]["share"], 1), ("full_rollout", "1", 2)]
    for action, share, step in plan:
        judged = {"judged": {"step": step - 1, "verdict": "PASS", "findings": []}} if step else dict(served or {})
        if action == "intent":
            judged[NAMED] = issue(river.archive, approval, Digest(value["model"]), value["environment"], (), river.now())
        river.archive.append_deployment(DeploymentStep(
            system=system, environment=value["environment"], action=action, release=staged["release"], staged=value["staged_model"],  # type: ignore[arg-type]
            model=value["model"], approval=approval.body.output, slot=slot, share=share, step=step, previous_model="", previous_approval="",
            run="deploying", launcher="engineer", at=rfc3339(river.now()), definition=value["definition"], trust_policy=river.organisation.digest,
            composite_version=digest_of({"system": system}), evidence=judged, reason="", demonstration=True))
        if action == until and until != "full_rollout":
            return
    Registry(river.home).promote(staged["registry_name"], staged["registry_version"])


class Forger:
    """A bundle taken apart. `entries`: statements in order; `signers`: how each is to be signed."""

    def __init__(self, bundle: Path, keys: Path) -> None:
        self.bundle, self.keys = bundle, keys
        self.files = {path.relative_to(bundle).as_posix(): path.read_bytes() for path in sorted(bundle.rglob("*")) if path.is_file()}
        count = sum(name.startswith("entries/") for name in self.files)
        self.raw = [self.files.pop(f"entries/{index}.json") for index in range(count)]
        self.entries: list[Json] = [json.loads(Envelope.from_bytes(raw).payload) for raw in self.raw]
        self.original = [json.dumps(entry, sort_keys=True) for entry in self.entries]
        self.kept: dict[int, bytes] = {id(entry): raw for entry, raw in zip(self.entries, self.raw, strict=True)}
        self.text = {id(entry): text for entry, text in zip(self.entries, self.original, strict=True)}
        self.only: dict[int, tuple[str, ...]] = {}
        self.people = False
        """True: people sign whatever is put before them; False: only decisions that the attack makes or changes are signed anew, by whoever
        they name, with the ledger's head that they had."""
        self.signed_by: dict[int, str] = {}
        self.approved: list[Json] = []
        """Trust policies after the first that people approved in this forgery."""
        self.verdicts = True
        """Whether the gate's verdict on a deployment is made to fit again what it rests on."""

    # finding things

    def kind(self, entry: Json) -> str:
        return vb.KINDS[entry["predicateType"]]

    def stage(self, name: str) -> Json:
        return next(e for e in self.entries if self.kind(e) == "stage" and e["predicate"]["stage"] == name)

    def deployment(self, action: str) -> Json:
        return next(e for e in self.entries if self.kind(e) == "deployment" and e["predicate"]["action"] == action)

    def decisions(self, purpose: str = "release") -> list[Json]:
        return [e for e in self.entries if self.kind(e) == "decision" and e["predicate"]["scope"]["purpose"] == purpose]

    def value(self, digest: str) -> Json:
        return json.loads(self.files[f"artefacts/sha256/{digest}"])  # type: ignore[no-any-return]

    # changing things

    def copy(self, entry: Json, at: int | None = None) -> Json:
        """Another entry like this one, at the end or in front of entry `at`."""
        made: Json = json.loads(json.dumps(entry))
        self.entries.insert(len(self.entries) if at is None else at, made)
        return made

    def replaced_value(self, old: str, value: Json) -> str:
        """Other bytes for an artefact, and every reference to it, in statements and in artefacts, made to follow."""
        new = hashlib.sha256(canonical_json(value)).hexdigest()
        pending = {old: canonical_json(value)}
        while pending:
            digest, content = pending.popitem()
            after = hashlib.sha256(content).hexdigest()
            if after == digest:
                continue
            del self.files[f"artefacts/sha256/{digest}"]
            self.files[f"artefacts/sha256/{after}"] = content
            self._renamed(digest, after)
            for name in [name for name in self.files if name.startswith("artefacts/") and self.files[name][:1] == b"{"]:
                found = name.rpartition("/")[2]
                text = pending.get(found, self.files[name])
                if digest.encode() in text:
                    pending[found] = text.replace(digest.encode(), after.encode())
        return new

    def _renamed(self, old: str, new: str) -> None:
        for entry in self.entries:
            text = json.dumps(entry)
            if old in text:
                entry.update(json.loads(text.replace(old, new)))

    def renamed(self, old: str, new: str, since: int = 0) -> None:
        """Every statement from entry `since` on names `new` where it named `old`; so do artefacts, where all of them do."""
        if not since:
            for name in [name for name in self.files if name.startswith("artefacts/") and old.encode() in self.files[name]]:
                self.replaced_value(name.rpartition("/")[2], json.loads(self.files[name].replace(old.encode(), new.encode())))
        for entry in self.entries[since:]:
            text = json.dumps(entry)
            if old in text:
                entry.update(json.loads(text.replace(old, new)))

    def resigned(self, entry: Json, before: str, role: str) -> None:
        """A decision as it reads now (`before`: the digest that it had) under a machine's signature, or under the one that it had;
        whoever counts it names it."""
        envelope = json.loads(self.kept[id(entry)])
        payload = canonical_json(entry)
        if role:
            key = SigningKey.load(self.keys / f"{role}.key")
            signed = sign_envelope(payload, [key]).to_bytes()
        else:
            signed = canonical_json({**envelope, "payload": base64.b64encode(payload).decode()})
        self.kept[id(entry)], self.text[id(entry)] = signed, json.dumps(entry, sort_keys=True)
        self.renamed(before, hashlib.sha256(payload).hexdigest())

    def new_key(self, name: str) -> str:
        """Another SSH key, of which the attacker has no use: a line for `allowed_signers`."""
        return " ".join(generate_ssh_key(self.keys / "people" / f"new-{name}", name).split()[:2])

    def edit_output(self, entry: Json, **changed: Any) -> None:
        """Change what a record's output says, and everything that names it."""
        self.replaced_value(entry["predicate"]["output"], {**self.value(entry["predicate"]["output"]), **changed})

    def edit_gates(self, entry: Json, edit: Any) -> None:
        """Change a record's gates, and the report that holds them too."""
        gates = entry["predicate"]["gates"]
        edit({gate["gate"]: gate for gate in gates}, gates)
        if "gates" in self.value(entry["predicate"]["output"]):
            self.edit_output(entry, gates=gates)

    # signing everything again

    def _signed(self, entry: Json, tree: vb.Tree) -> bytes:
        if json.dumps(entry, sort_keys=True) == self.text.get(id(entry)) and not (self.people and self.kind(entry) == "decision") \
                and id(entry) not in self.only and id(entry) not in self.signed_by:
            return self.kept[id(entry)]
        if self.kind(entry) == "decision":
            if self.people:
                entry["predicate"]["ledger"] = {"size": len(tree.roots) - 1, "root": tree.roots[-1].hex()}
            payload = canonical_json(entry)
            person = entry["predicate"]["person"]
            armored = ssh_sign(pae(PAYLOAD_TYPE, payload), self.keys / "people" / self.signed_by.get(id(entry), person), APPROVAL_NAMESPACE)
            return Envelope(payload, PAYLOAD_TYPE, (person_signature(person, armored),)).to_bytes()
        roles = self.only.get(id(entry), vb.SIGNED_BY[self.kind(entry)])
        return sign_envelope(canonical_json(entry), [SigningKey.load(self.keys / f"{role}.key") for role in roles]).to_bytes()

    def write(self, folder: Path) -> tuple[Path, str, str]:
        """The forged bundle; its own head (SIZE:ROOT) and its own first trust policy."""
        tree, bodies = vb.Tree(), []
        was = {entry: hashlib.sha256(base64.b64decode(json.loads(raw)["payload"])).hexdigest() for entry, raw in self.kept.items()}
        digests: dict[int, str] = {}
        for entry in self.entries:
            if self.verdicts and self.kind(entry) == "deployment" and entry["predicate"]["action"] == "intent":
                self._judged_again(entry, digests)
            body = self._signed(entry, tree)
            after = hashlib.sha256(base64.b64decode(json.loads(body)["payload"])).hexdigest()
            digests[id(entry)] = after
            old = was.get(id(entry))
            if old is not None and old != after and self.kind(entry) == "decision":
                # A decision that was signed anew has another digest: whoever counts it must name that one.
                for name in [n for n in self.files if n.startswith("artefacts/") and old.encode() in self.files[n]]:
                    content = json.loads(self.files[name].replace(old.encode(), after.encode()))
                    self.replaced_value(name.rpartition("/")[2], content)
                self._renamed(old, after)
            tree.append(body)
            bodies.append(body)
        files = {name: content for name, content in self.files.items() if name.startswith("artefacts/") or name in ("README.md", "verify.py")}
        files |= {f"entries/{index}.json": body for index, body in enumerate(bodies)}
        origin = self.files["checkpoint.note"].decode().partition("\n")[0]
        files["checkpoint.note"] = sign_checkpoint(Checkpoint(origin, len(bodies), tree.roots[-1]), SigningKey.load(self.keys / "log.key")).encode()
        entries = [vb.Entry(index, body) for index, body in enumerate(bodies)]
        first = entries[0].body["organisation"] if "organisation" in entries[0].body else {}
        policy = hashlib.sha256(canonical_json(first)).hexdigest()
        if first:
            reigns = [first, *self.approved]
            files |= vb.derived_files(entries, [(each, vb.sha256(canonical_json(each))) for each in reigns])
        system = self.value_of_manifest()
        files |= vb.sbom(entries, system, lambda digest: _parsed(files, digest))
        files |= vb.verdicts(entries, system, lambda digest: _parsed(files, digest))
        named = vb.named_artefacts(entries, system, lambda digest: _parsed(files, digest))
        missing = sorted(digest for digest in named if f"artefacts/sha256/{digest}" not in files)
        files["manifest.json"] = vb.manifest(system, len(bodies), tree.roots[-1].hex(), policy, files, missing)
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder, f"{len(bodies)}:{tree.roots[-1].hex()}", policy

    def verdict_of(self, intent: Json, **changed: Any) -> None:
        """Another verdict of the gate, signed with its key, with other words in its predicate or, for `_type` and `subject`, around it."""
        statement = self._verdict(intent)
        statement["predicate"].update({name: value for name, value in changed.items() if name not in statement})
        statement.update({name: value for name, value in changed.items() if name in statement})
        content = sign_envelope(canonical_json(statement), [SigningKey.load(self.keys / f"{self.judges}.key")]).to_bytes()
        intent["predicate"]["evidence"][NAMED] = hashlib.sha256(content).hexdigest()
        self.files[f"artefacts/sha256/{intent['predicate']['evidence'][NAMED]}"] = content

    judges = "gate"

    def _verdict(self, intent: Json) -> Json:
        return json.loads(base64.b64decode(self.value(intent["predicate"]["evidence"][NAMED])["payload"]))  # type: ignore[no-any-return]

    def _judged_again(self, intent: Json, digests: dict[int, str]) -> None:
        """The gate's verdict names what the forged ledger holds before the intent."""
        body, statement = intent["predicate"], self._verdict(intent)
        approvals = [digests[id(e)] for e in self.entries if id(e) in digests and self.kind(e) == "stage"
                     and e["predicate"]["output"] == body["approval"]]
        wanted = {"subject": [{"name": "model", "digest": {"sha256": body["model"]}}], "resourceUri": resource(body["system"], body["environment"]),
                  "policy": {"uri": "urn:compliance-assets:definition", "digest": {"sha256": body["definition"]}},
                  "inputAttestations": [{"uri": "urn:compliance-assets:pre-deployment-approval", "digest": {"sha256": digest}}
                                        for digest in approvals[-1:]]}
        if any({**statement, **statement["predicate"]}[name] != value for name, value in wanted.items()):
            self.verdict_of(intent, **wanted)

    def value_of_manifest(self) -> str:
        return str(json.loads(self.files["manifest.json"])["system"])


def _parsed(files: dict[str, bytes], digest: str) -> Any:
    content = files.get(f"artefacts/sha256/{digest}")
    try:
        return json.loads(content) if content is not None and content[:1] in (b"{", b"[") else None
    except ValueError:
        return None
