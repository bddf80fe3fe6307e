"""What only people can say, field by field: who is asked, what they signed, and what has changed under their words since.

A part is a text that a person signed with their own key, as a decision of purpose `document`; its digest is in the ledger, its text in the
artefact store. Each new version names the one before, and whoever signed first owns the field in that role: the next version comes from
the same role, as long as anybody holds it. With the text are kept the digests of what it was written about; where one of them has
changed, the text is *stale* and says why. Who is asked while a field is empty, and after how long a text is old, are conventions of
compliance guides, not law; the law asks that the documentation be kept up to date (Art. 11(1)).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from compliance_assets.errors import ComplianceError, Misused
from compliance_assets.evidence.archive import Record
from compliance_assets.evidence.decisions import taken_back
from compliance_assets.evidence.records import Decision, Scope, Statement
from compliance_assets.governance.deciding import Signer, sign_statement
from compliance_assets.governance.documents.bases import basis_of
from compliance_assets.governance.documents.paper import Gap, Source, Words
from compliance_assets.trust.canonical import canonical_json, parse_canonical, parse_rfc3339, rfc3339

if TYPE_CHECKING:
    from compliance_assets.governance.documents.gathered import Gathered
    from compliance_assets.pipeline import River

LONGEST = 200_000
OLD = timedelta(days=60)
MONTH = timedelta(days=31)
_SME, _LEAD, _ASSESSOR, _LEGAL = "Technical SME", "AI Governance Lead", "AI System Assessor", "Legal and Regulatory Advisor"


@dataclass(frozen=True)
class Field:
    """A part that people write. `asked`: who, by convention; `about`: what its text rests on, by the names of `bases`."""

    asks: str
    asked: str
    about: tuple[str, ...]


FIELDS: Mapping[str, Field] = {
    "annex-iv/1(a)": Field("the intended purpose in full: persons affected, context of use, what it must not be used for", _LEAD,
                           ("purpose",)),
    "annex-iv/1(b)": Field("how the system interacts with hardware, software and other AI systems that are not part of it", _SME,
                           ("model",)),
    "annex-iv/1(c)": Field("requirements on version updates of software and firmware", _SME, ("environment",)),
    "annex-iv/1(d)": Field("the forms in which it is placed on the market or put into service", _LEGAL, ("purpose",)),
    "annex-iv/1(e)": Field("the hardware on which it is intended to run", _SME, ("model",)),
    "annex-iv/1(f)": Field("photographs or illustrations where it is a component of a product, or that it is none", _SME, ("purpose",)),
    "annex-iv/1(g)": Field("the user interface provided to the deployer", _SME, ("purpose",)),
    "annex-iv/1(h)": Field("instructions for use for the deployer, beyond the numbers", _LEAD, ("purpose", "metrics")),
    "annex-iv/2(a)": Field("pre-trained systems or tools of third parties: which, and how they were used, integrated or changed; or that "
                           "there are none", _SME, ("model",)),
    "annex-iv/2(b)": Field("general logic, key design choices and trade-offs, with their reasons", _SME, ("model",)),
    "annex-iv/2(c)": Field("the architecture: how components build on each other", _SME, ("model",)),
    "annex-iv/2(d)": Field("how data was selected and labelled, by whom, under which instructions", _SME, ("dataset",)),
    "annex-iv/2(e)": Field("the assessment of the human oversight measures (Art. 14), and of the technical measures that help deployers to "
                           "interpret outputs (Art. 13(3)(d))", _ASSESSOR, ("oversight",)),
    "annex-iv/2(f)": Field("changes that are predetermined, and how requirements stay met after them", _LEAD, ("definition",)),
    "annex-iv/2(g)": Field("the dated and signed statement of whoever is responsible for the tests", _ASSESSOR, ("evaluation",)),
    "annex-iv/2(h)": Field("the threat model and the cybersecurity measures in place", _SME, ("robustness", "environment")),
    "annex-iv/3": Field("foreseeable unintended outcomes and sources of risk; oversight measures; limits of use", _ASSESSOR,
                        ("purpose", "metrics", "risk")),
    "annex-iv/4": Field("why these metrics are appropriate for this system", _ASSESSOR, ("definition",)),
    "annex-iv/5": Field("the risk management system (Art. 9)", _ASSESSOR, ("risk",)),
    "annex-iv/6": Field("for each relevant change: the determination and its author", _ASSESSOR, ("definition", "deployment")),
    "annex-iv/7": Field("harmonised standards applied in full or in part, or the other solutions adopted", _LEGAL, ("definition",)),
    "annex-iv/8": Field("reference and sha256 of the EU declaration of conformity (Art. 47), once there is one", _LEGAL, ("deployment",)),
    "annex-iv/9": Field("the post-market monitoring plan (Art. 72(3))", _LEAD, ("month",)),
    "aisdp/1": Field("classification and intended purpose", _LEAD, ("purpose",)),
    "aisdp/2": Field("development methodology, coding standards and review, beyond the definition", _SME, ("definition",)),
    "aisdp/3": Field("architecture and why it was selected", _SME, ("model",)),
    "aisdp/4": Field("data governance: labelling, representativeness, data protection", _SME, ("dataset",)),
    "aisdp/5": Field("test strategy and pre-deployment validation", _ASSESSOR, ("evaluation",)),
    "aisdp/6": Field("risk register and residual risk; why bounds are where they are", _ASSESSOR, ("risk", "definition")),
    "aisdp/7": Field("human oversight: measures, override, break-glass, competence", _LEAD, ("oversight",)),
    "aisdp/8": Field("transparency: instructions for use", _LEAD, ("metrics",)),
    "aisdp/9": Field("threats, adversarial tests, security measures", _SME, ("robustness", "environment")),
    "aisdp/10": Field("record keeping: retention, access, responsible persons", _LEAD, ("deployment",)),
    "aisdp/11": Field("fundamental rights impact: persons, harms, measures (Art. 27 is a deployer's duty)", _LEGAL, ("population",)),
    "aisdp/12": Field("post-market monitoring plan and change history (Art. 72(3))", _LEAD, ("month",)),
    "instructions/provider": Field("identity and contact details of the provider (Art. 13(3)(a))", _LEGAL, ("purpose",)),
    "instructions/limits": Field("known or foreseeable circumstances of use, and of misuse, that may lead to risks (Art. 13(3)(b)(iii))",
                                 _ASSESSOR, ("purpose", "risk")),
    "instructions/oversight": Field("oversight measures, and what helps deployers to interpret outputs (Art. 13(3)(d))", _LEAD,
                                    ("oversight",)),
    "instructions/explaining": Field("what the system can tell that explains an output (Art. 13(3)(b)(iv))", _SME, ("model",)),
    "instructions/interpreting": Field("how deployers read an output and use it appropriately (Art. 13(3)(b)(vii))", _LEAD, ("metrics",)),
    "instructions/logs": Field("how deployers collect, store and interpret logs (Art. 13(3)(f), Art. 26(6))", _SME, ("definition",)),
    "instructions/lifetime": Field("expected lifetime, maintenance and care (Art. 13(3)(e))", _SME, ("month",)),
    "datasheet/composition": Field("what instances are, what is missing from them and why, known errors", _SME, ("dataset",)),
    "datasheet/labelling": Field("who labelled, under which instructions, and how it was checked", _SME, ("dataset",)),
    "datasheet/uses": Field("for which tasks the data should not be used", _LEAD, ("dataset",)),
    "datasheet/maintenance": Field("who maintains it, and how errors are reported and corrected", _SME, ("dataset",)),
}
"""Every part that people write, under its own name."""


def field_named(part: str) -> Field:
    """The field of that name. Misused where there is none."""
    if part not in FIELDS:
        raise Misused(f"There is no part {part!r}.", rule="document part", value=part, remedy=f"Parts: {', '.join(FIELDS)}")
    return FIELDS[part]


@dataclass(frozen=True)
class Part:
    """One signed version of a part, as its record says it."""

    part: str
    text: str
    version: int
    previous: str
    basis: Mapping[str, str]
    record: Record


def written(river: River, system: str, as_of: datetime | None = None) -> tuple[Mapping[str, Part], tuple[tuple[Record, str], ...]]:
    """The standing version of each part (as it stood at `as_of`), and the signed records that do not count, with the reason."""
    chains, revoked, refused = _chains(river, system, as_of)
    standing = {part: kept[-1] for part, chain in chains.items() if (kept := [one for one in chain if one.record.digest not in revoked])}
    return standing, refused


def _chains(river: River, system: str,
            as_of: datetime | None = None) -> tuple[dict[str, list[Part]], frozenset[str], tuple[tuple[Record, str], ...]]:
    """The versions of each part, which statements their makers took back, and what does not count. Oldest first, a version counts if:

    1. its text is in the store, unharmed, and is about this system and a part that there is;
    2. it names the version before it, and is one higher;
    3. it comes from the role that owns the part, as long as anybody holds that role.
    """
    records = [record for record in river.archive.decided("document", system)
               if as_of is None or parse_rfc3339(record.body.issued) <= as_of]
    revoked = taken_back(records)
    chains: dict[str, list[Part]] = {}
    refused: list[tuple[Record, str]] = []
    for record in records:
        if record.body.decision != "approve":
            continue
        # (1)
        try:
            part = _read(river, record)
        except ComplianceError as error:
            refused.append((record, error.message))
            continue
        # (2)
        chain = chains[part.part] if part.part in chains else []
        if (part.version, part.previous) != (len(chain) + 1, str(chain[-1].record.digest) if chain else ""):
            refused.append((record, f"it does not follow version {len(chain)}"))
            continue
        # (3)
        owner = _owner(river, chain)
        if owner and owner != record.body.role:
            refused.append((record, f"the part is owned by {owner}"))
            continue
        chains.setdefault(part.part, []).append(part)
    return chains, revoked, tuple(refused)


def _owner(river: River, chain: list[Part]) -> str:
    """The role that signs the next version; empty where the part is nobody's yet, or nobody holds that role any more."""
    role = str(chain[-1].record.body.role) if chain else ""
    return role if role in river.organisation.roles else ""


def _read(river: River, record: Record) -> Part:
    subject = record.statement.subject("document-part")
    if subject is None or str(subject) != record.body.shown:
        raise Misused("It names another text than it is about.", rule="document part", value=str(record.index), remedy="Sign it again.")
    said = parse_canonical(river.archive.artefacts.get_bytes(subject))
    try:
        if said["system"] != record.body.scope.system:
            raise KeyError("system")
        field_named(str(said["part"]))
        return Part(str(said["part"]), str(said["text"]), int(said["version"]), str(said["previous"]),
                    {str(name): str(digest) for name, digest in said["basis"].items()}, record)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Misused("Its text is no part of a document.", rule="document part", value=str(record.index),
                      remedy="Sign it again.") from error


def write(gathered: Gathered, part: str, text: str, signer: Signer, reason: str) -> tuple[Statement, Path]:
    """Sign `text` as the next version of a part, about the candidate at hand, and put it into the inbox."""
    river, system = gathered.river, gathered.one.system
    field = field_named(part)
    if not text.strip() or len(text) > LONGEST:
        raise Misused(f"A text has 1 to {LONGEST} characters, not {len(text)}.", rule="document part", value=str(len(text)),
                      remedy="Put the text into the file that you name with --text.")
    chains, _, _ = _chains(river, system)
    chain = chains[part] if part in chains else []
    owner = _owner(river, chain)
    if owner and owner != signer.role:
        raise Misused(f"{part} is owned by the role {owner}.", rule="owner", value=signer.role,
                      remedy=f"Have somebody sign it as {owner}.")
    basis = basis_of(gathered, field.about)
    missing = [name for name in field.about if name not in basis]
    if missing:
        raise Misused(f"{part} is about {', '.join(missing)}, of which nothing is on record yet.", rule="document part", value=part,
                      remedy=f"Run {system} further first.")
    content = canonical_json({"form": "document part", "system": system, "part": part, "text": text.strip() + "\n",
                              "version": len(chain) + 1,
                              "previous": str(chain[-1].record.digest) if chain else "", "basis": basis})
    digest = river.archive.artefacts.put_bytes(content)
    body = Decision(
        decision="approve", person=signer.person, role=signer.role,
        scope=Scope(purpose="document", system=system, environment="", rollout=""), issued=rfc3339(river.now()), expires="",
        definition=str(gathered.one.tip.body.definition), trust_policy=river.organisation.digest, ledger=river.archive.head(), shown=digest,
        opened_seconds=0, rationale=reason.strip(), nonce=secrets.token_hex(16), demonstration=river.organisation.demonstration)
    return sign_statement(river, Statement((("document-part", digest),), body), signer)


def spoken(gathered: Gathered, standing: Mapping[str, Part], part: str, where: str) -> Words | Gap:
    """A part as it stands, with why it is stale; or the gap that it leaves."""
    field = field_named(part)
    if part not in standing:
        return Gap(field.asks, field.asked, where)
    found = standing[part]
    body = found.record.body
    return Words(part, found.text.strip(), body.person, body.role, found.version, body.issued,
                 tuple(_stale(gathered, found, field, gathered.river.now())),
                 Source(found.record.index, str(found.record.digest), body.shown))


def _stale(gathered: Gathered, part: Part, field: Field, now: datetime) -> list[str]:
    current = basis_of(gathered, field.about)
    changed = [name for name in field.about if name != "month"
               and (name not in part.basis or name not in current or part.basis[name] != current[name])]
    said = [f"{_CHANGED[name]} since version {part.version} was signed" for name in changed]
    age = now - parse_rfc3339(part.record.body.issued)
    if "month" in field.about and age > MONTH:
        said.append(f"signed {age.days} days ago; it is due every month (convention)")
    elif age > OLD:
        said.append(f"signed {age.days} days ago, more than {OLD.days} (convention)")
    return said


_CHANGED: Mapping[str, str] = {
    "purpose": "the declared purpose or population changed", "definition": "the pipeline definition changed",
    "model": "features, training or the model changed", "dataset": "there is another version of the dataset",
    "evaluation": "there is another evaluation", "metrics": "the measured numbers changed", "robustness": "the robustness results changed",
    "oversight": "what people oversee, approve or stop changed",
    "risk": "a gate refused something, an exception was asked for, or bounds changed",
    "deployment": "something was deployed or undone", "population": "the population or a proxy assessment changed",
    "environment": "Python or a library changed",
}


