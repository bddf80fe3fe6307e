"""E18, E20, E22 to E25: who approved what and on which evidence, which definition counted, what changed since, from when on."""

from __future__ import annotations

from collections.abc import Iterator

from compliance_assets.evidence.archive import Record
from compliance_assets.evidence.conditions import conditions_of
from compliance_assets.governance.questions.answer import Each, Fact, Gap, Part, fact
from compliance_assets.governance.questions.of_gates import approved
from compliance_assets.governance.questions.seen import Facts, Seen
from compliance_assets.governance.stage_facts import distances
from compliance_assets.policy.change import changes, class_of, direction_of
from compliance_assets.trust.canonical import Digest, parse_rfc3339

LATE = parse_rfc3339("2027-12-02T00:00:00Z")
"""Art. 111(2) as amended: from here on a significant change of the design brings an older system under the Act."""


def approval(seen: Seen) -> Iterator[Part]:
    """E18."""
    if "approval" not in seen.chain:
        yield Gap("no approval of this version is on record")
        return
    record = seen.chain["approval"]
    value = seen.value(record)
    yield fact("approval", f"for {value['environment']}, valid until {value['expires']}", record, record.body.output)
    launchers = sorted({one.body.launcher for one in seen.chain.values()})
    authors = sorted({author for one in seen.chain.values() for author in one.body.code.authors})
    names = {person.id: {*person.launchers, *person.git} for person in seen.river.archive.in_force().people}
    for one in seen.until(found for digest in value["decisions"] for found in seen.river.archive.find(Digest.parse(digest), "statement")):
        body = one.body
        yield fact(f"{body.decision} by {body.person}", f"as {body.role} at {body.issued}: {body.rationale}", one, body.shown)
        yield fact(f"{body.person}: time", f"the evidence was open for {body.opened_seconds} seconds before", one, body.shown)
        own = names[body.person] if body.person in names else set()
        mixed = sorted(own & {*launchers, *authors, *(f"launcher:{name}" for name in launchers)})
        yield fact(f"{body.person}: independence", f"launched or wrote a part of it as {', '.join(mixed)}" if mixed else
                   "neither among those who launched a stage nor among the authors on record", one)
        for condition in conditions_of(seen.river.archive, [one]):
            met = next(iter(seen.until(() if condition.met is None else (condition.met,))), None)
            yield fact(f"{body.person}: condition", f"{condition.text}; due {condition.due}; " + (
                "nobody has signed that it is met" if met is None else f"met, says {met.body.person} at {met.body.issued}"), met or one)
    yield fact("launched by", ", ".join(launchers), record)
    yield fact("authors of what was run", ", ".join(authors) or "none on record", record)
    yield Gap("which of the shown findings each of them opened: only that the whole document was open, and how long, is recorded")


def definition(seen: Seen) -> Iterator[Part]:
    """E20."""
    if not seen.chain:
        yield Gap("no run of this version is on record")
        return
    tip = list(seen.chain.values())[-1]
    digest = str(tip.body.definition)
    yield fact("in force when it was run", f"{'yes' if tip.body.definition_in_force else 'NO'}: {digest}", tip, digest)
    proposal = seen.judged_under
    if proposal is None:
        yield Gap("the definition was never put on record, so nobody approved it")
        return
    yield fact("proposed", f"{proposal.body.at} by {proposal.body.proposed_by}", proposal, digest)
    yield from approved(seen, digest)
    before = [one for one in seen.definitions if one.index < proposal.index and str(one.statement.subject("definition")) != digest]
    if not before:
        yield fact("the one before it", "none: it is the first on record", proposal)
        return
    yield from _difference(seen, before[-1], proposal)


def _difference(seen: Seen, old: Record, new: Record) -> Iterator[Part]:
    found = changes(seen.parts(old), seen.parts(new))
    yield fact(f"against entry {old.index}", f"{len(found)} changes, {direction_of(found)}, class proposed by the rules: "
               f"{class_of(found).value}", new, str(new.statement.subject("definition")))
    for change in found:
        yield fact(change.where, change.sentence(), new)


def changes_since(seen: Seen) -> Iterator[Part]:
    """E22: since the version that was first in production, the baseline on record."""
    first = next(iter(seen.acted("full_rollout")), None)
    if first is None:
        yield Gap("nothing was in production, so there is no baseline to count from")
        return
    yield fact("counted from", f"the first full rollout, {first.body.at}", first, first.body.definition)
    base = seen.proposal(first.body.definition)
    later = [one for one in seen.definitions if one.index > first.index]
    parts = seen.parts(base) if base is not None and later else None
    for one in later:
        if parts is not None:
            found = changes(parts, seen.parts(one))
            yield fact(f"definition proposed {one.body.at}", f"{direction_of(found)}, class proposed by the rules: "
                       f"{class_of(found).value}; " + "; ".join(change.sentence() for change in found[:5]), one,
                       str(one.statement.subject("definition")))
    if not later:
        yield fact("definitions proposed since", "none", first)
    yield from drift_since(seen)
    yield Gap("the conformity assessment itself: when it was made, and whether people determined a change to be a substantial modification "
              "(Art. 3(23)), is written in no record of this kind")


def envelope(seen: Seen) -> Iterator[Part]:
    """E23."""
    yield Gap("a predetermined-change envelope (Annex IV(2)(f)): no record declares one, so no change can be held against it")


def drift_since(seen: Seen) -> Iterator[Part]:
    """E24: each evaluation's distance from the baseline, as its drift gate found it."""
    found = seen.those(_compared)
    yield Each(found, _distances)
    if not found:
        yield Gap("a distance from the baseline: no evaluation had one to be compared with")


def _compared(record: Record, facts: Facts) -> bool:
    return bool(facts(record).baseline)


def _distances(record: Record) -> Iterator[Fact]:
    for finding in distances(record):
        yield fact(finding.id, f"{finding.sentence()}; evaluated {record.body.finished}", record, record.body.output)


def service(seen: Seen) -> Iterator[Part]:
    """E25."""
    full = seen.acted("full_rollout")
    if full:
        yield fact("first in production", f"{full[0].body.at} in {full[0].body.environment}", full[0], full[0].body.model)
    else:
        nothing = seen.none("in production", "it never was")
        if nothing is not None:
            yield nothing
    for one in seen.acted("decommissioned"):
        yield fact("taken out of service", f"{one.body.at}: {one.body.reason}", one)
    late = [one for one in seen.definitions if parse_rfc3339(one.body.at) >= LATE]
    for one in late:
        yield fact("definition proposed after 2 December 2027", one.body.at, one, str(one.statement.subject("definition")))
    if not late and (newest := seen.none("changes of the design after 2 December 2027", "none")) is not None:
        yield newest
    yield Gap("placing on the market and putting into service are legal acts that no record states; a rollout is not their proof")
