"""E28 to E30, E35: who saw protected data, whether the log is whole, whether the documents describe this version, what is not here."""

from __future__ import annotations

from collections.abc import Iterator

from compliance_assets.evidence import anchors
from compliance_assets.evidence.archive import Archive, Record
from compliance_assets.evidence.remembered import Remembered
from compliance_assets.governance.documents.human_parts import written
from compliance_assets.governance.questions.answer import Each, Fact, Gap, Part, fact
from compliance_assets.governance.questions.seen import Facts, Seen, plain
from compliance_assets.trust.canonical import sha256_file
from compliance_assets.trust.merkle import Checkpoint

_GROUPS = ".groups.parquet"


def special_categories(seen: Seen) -> Iterator[Part]:
    """E28."""
    proposal = seen.judged_under
    if proposal is not None:
        data = seen.parts(proposal)["declaration"]["data"]
        yield fact("protected attributes declared", plain(sorted(data["protected"])), proposal)
        yield fact("personal data declared", plain(data["provenance"]["contains_personal_data"]), proposal)
    yield Each(seen.those(_touched), _accesses)
    yield Gap("readings outside of the pipeline are not logged")
    yield Gap("whether these are special categories of personal data (Art. 9 GDPR): nobody declares it")
    yield Gap("deletion: artefacts are kept whole; only inference inputs are deleted, and the sealed day's manifest says so")


def _touched(record: Record, facts: Facts) -> bool:
    return _judged_fairness(record) or any(name.endswith(_GROUPS) for name in record.body.files)


def _judged_fairness(record: Record) -> bool:
    return bool(record.body.stage == "model_evaluation" and record.body.outcome != "error")


def _accesses(record: Record) -> Iterator[Fact]:
    for name, digest in record.body.files.items():
        if name.endswith(_GROUPS):
            yield fact("groups written by", f"{record.body.launcher} at {record.body.finished}: {name}", record, digest)
    if _judged_fairness(record):
        yield fact("groups read by", f"{record.body.launcher} at {record.body.finished}, to judge fairness", record)


def integrity(seen: Seen) -> Iterator[Part]:
    """E29: everything is recomputed for this answer; on the pages it is what their process has verified, and what it has not."""
    archive = seen.river.archive
    last = archive.ledger.last()
    if last is None:
        yield Gap("the ledger is empty")
        return
    record, head = archive.authentic(last), archive.ledger.head()
    yield from _recomputed(archive, record, head) if archive.remembered is None else _verified_here(archive.remembered, record, head)
    kept, wrong = anchors.read(archive, archive.in_force())
    for anchor in kept:
        yield fact(f"kept outside by {anchor.by}", f"{anchor.kind}, {anchor.head.size} entries", record, anchor.head.root.hex())
    for said in wrong:
        yield fact("problem", said, record)
    if not kept:
        yield Gap("a head kept outside of this host: no anchor is here, so a rewrite by whoever holds every key would not show")
    yield fact("verify it yourself", f"compliance export {seen.system}, then python verify.py . --head {head.size}:{head.root.hex()}",
               record)


def _recomputed(archive: Archive, record: Record, head: Checkpoint) -> Iterator[Part]:
    from compliance_assets.governance.verification import verify

    found = verify(archive)
    yield fact("recomputed now", f"{'verified' if found else 'NOT VERIFIED'}: {found.entries} entries, {found.signatures} signatures, "
               f"{found.artefacts} artefacts, {found.chains} chains, {found.heads} heads that people signed", record, head.root.hex())
    for problem in found.problems:
        yield fact("problem", problem, record)


def _verified_here(here: Remembered, record: Record, head: Checkpoint) -> Iterator[Part]:
    yield fact("verified since these pages were started", f"{here.size} entries, each in the tree that was signed, and signed by whom it "
               f"must be under the trust policy of its time; but for {here.strangers} that nobody trusted signed: they count for nothing",
               record, head.root.hex())
    yield fact("every body hashed", f"last at {here.hashed:%Y-%m-%d %H:%M} UTC: each was what had been verified", record, head.root.hex())
    yield Gap("artefacts, chains and the look-up table: they are not recomputed for this page; the page Verification does it, and "
              "`compliance ask E29`")


def documents(seen: Seen) -> Iterator[Part]:
    """E30."""
    proposal = seen.judged_under
    if proposal is None:
        yield Gap("the definition under which it was judged was never put on record")
        return
    aisdp = seen.parts(proposal)["declaration"]["aisdp"]
    yield fact("declared reference", str(aisdp["reference"]), proposal)
    module = seen.river.root / str(aisdp["module_2"])
    if module.is_file():
        yield fact("module 2 as it lies there now", f"{aisdp['module_2']}: not in the ledger, its bytes have this sha256", proposal,
                   sha256_file(module))
    else:
        yield Gap(f"module 2: {aisdp['module_2']} is not there")
    standing = {name: part for name, part in written(seen.river, seen.system, seen.as_of)[0].items() if name.startswith("aisdp/")}
    for name, part in standing.items():
        body = part.record.body
        yield fact(f"module {name.partition('/')[2]} signed", f"version {part.version} by {body.person} ({body.role}) at {body.issued}, "
                   f"about definition {body.definition[:12]}", part.record, body.shown)
    unsigned = [str(number) for number in range(1, 13) if f"aisdp/{number}" not in standing]
    if unsigned:
        yield Gap(f"whether modules {', '.join(unsigned)} described this version at its release: nobody signed their text")


def not_recorded(seen: Seen) -> Iterator[Part]:
    """E35."""
    from compliance_assets.governance.verification import NOT_COVERED

    archive = seen.river.archive
    first = archive.authentic(archive.ledger.entry(0))
    yield fact("records begin", f"{first.body.at}; nothing before it is on record, and nothing is written back", first)
    mine = min((found[0] for found in (seen.stages, seen.definitions) if found), key=lambda one: one.index, default=None)
    if mine is not None:
        yield fact(f"records of {seen.system} begin", str(mine.body.finished if hasattr(mine.body, "finished") else mine.body.at), mine)
    for said in NOT_COVERED:
        yield fact("not covered", said, first)
    loose = seen.those(_uncommitted)
    if loose:
        yield fact("without version control", f"{len(loose)} stage records name no commit; the first is this", loose[0])
    for said in ("the member states and persons that are concerned", "tickets, reports to authorities and the conformity assessment",
                 "readings of stored data outside of the pipeline", "known vulnerabilities of components",
                 "which findings an approver opened", "when an incident was first noticed"):
        yield fact("not recorded", said, first)


def _uncommitted(record: Record, facts: Facts) -> bool:
    return not record.body.code.under_version_control
