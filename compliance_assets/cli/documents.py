"""dossier, documents, sign-part: documents made from evidence, versions that people filed, and the parts that only people can write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from compliance_assets.cli import shown
from compliance_assets.cli.options import json_option, open_project, people_keys, root_option, signer_options

if TYPE_CHECKING:
    from compliance_assets.governance.documents.paper import Paper

NAMES = ("annex-iv", "aisdp", "instructions", "datasheet")


@click.command()
@click.argument("system")
@click.argument("document", type=click.Choice(NAMES), required=False)
@click.option("--release", default="", metavar="R", help="A release id or model digest (its beginning), or the ledger index of a record "
              "(default: the one in production, else the newest candidate).")
@click.option("--format", "form", type=click.Choice(("text", "html", "json")), default="text", show_default=True,
              help="html: one self-contained file, to print.")
@click.option("--into", type=click.Path(path_type=Path, dir_okay=False), default=None, help="Write it to this file instead.")
@root_option
@json_option
def dossier(system: str, document: str | None, release: str, form: str, into: Path | None, root: Path | None, as_json: bool) -> None:
    """Write SYSTEM's DOCUMENT from evidence alone: Annex IV, the twelve AISDP modules, instructions for use, a datasheet.

    Every line names the ledger entry, statement and bytes it was read from; what no record says and nobody signed is a marked gap.
    Without DOCUMENT: how much of each is filled, and who is asked for what is missing.
    """
    from compliance_assets.governance.documents import document as make

    river = open_project(root, writer=False)
    if document is None:
        _standing([make(river, name, system, release) for name in NAMES], as_json or form == "json")
        return
    paper = make(river, document, system, release)
    if as_json or form == "json":
        text = json.dumps(paper.as_json(), indent=2, ensure_ascii=False)
    elif form == "html":
        from compliance_assets.web.rendering import on_paper

        text = on_paper(paper)
    else:
        text = paper.as_text()
    if into is None:
        click.echo(text)
    else:
        shown.write_file(into, text)
        click.echo(f"{paper.title}: {paper.filled} of {len(paper.points)} points filled, {len(paper.gaps)} gaps, {paper.stale} stale. "
                   f"In {into}, document digest {paper.digest}.")


def _standing(papers: list[Paper], as_json: bool) -> None:
    if as_json:
        shown.as_json({"documents": [{"document": paper.kind, "title": paper.title, "candidate": paper.candidate, "digest": paper.digest,
                                      "points_filled": paper.filled, "points_total": len(paper.points), "stale": paper.stale,
                                      "gaps": [gap.as_json() for gap in paper.gaps]} for paper in papers]})
        return
    shown.table([(paper.kind, f"{paper.filled} of {len(paper.points)}", len(paper.gaps), paper.stale, f"#{paper.candidate}",
                  str(paper.digest)[:12]) for paper in papers], ("document", "filled", "gaps", "stale", "candidate", "digest"))
    asked = sorted({(gap.asked or "a run", gap.said) for paper in papers for gap in paper.gaps})
    for who in dict.fromkeys(name for name, _ in asked):
        click.echo(f"  {who}: {sum(name == who for name, _ in asked)} gaps")


@click.group()
def documents() -> None:
    """File a version of a document with your signature, or list those that were filed and say whether one made now would differ."""


@documents.command("list")
@click.argument("system")
@root_option
@json_option
def list_(system: str, root: Path | None, as_json: bool) -> None:
    """Every filed version of SYSTEM's documents, newest first; of the newest of each, what one filed now would say otherwise."""
    from compliance_assets.governance.documents.filing import differences, draft, filed

    river = open_project(root, writer=False)
    river.definition(system)
    found, refused = filed(river.archive, system)
    newest = {one.kind: one for one in reversed(found)}
    differs = {kind: differences(one, draft(river, kind, system)) for kind, one in newest.items()}
    if as_json:
        shown.as_json({"filed": [{**one.as_json(), "would_differ_in": list(differs[one.kind]) if one is newest[one.kind] else None}
                                 for one in found],
                       "not_counted": [{"ledger_index": record.index, "why": why} for record, why in refused]})
        return
    for one in found:
        body = one.record.body
        click.echo(f"  {one.kind} version {one.version}  {one.document.short}  filed by {body.person} as {body.role} at {body.issued[:19]} "
                   f"(#{one.record.index}), from the ledger's first {one.head.size} entries: {body.rationale}")
        if one is newest[one.kind]:
            said = differs[one.kind]
            click.echo(click.style(f"    a version filed now would differ in {', '.join(said)}", fg="yellow") if said
                       else "    a version filed now would say the same")
    for record, why in refused:
        click.echo(click.style(f"  what was filed in ledger entry {record.index} does not count: {why}", fg="yellow"))
    if not found:
        click.echo(f"Nobody has filed a document of {system}.")


@documents.command("file")
@click.argument("system")
@click.argument("document", type=click.Choice((*NAMES, "model-card")))
@click.option("--release", default="", metavar="R", help="The release it is about (default: as in `dossier`).")
@signer_options
@root_option
@json_option
def file(system: str, document: str, release: str, person: str, role: str, key: Path | None, reason: str, root: Path | None,
         as_json: bool) -> None:
    """File SYSTEM's DOCUMENT as it is now: sign its digest, its template, the ledger head and everything it was read from.

    Filing keeps a version; it approves nothing. To take it back: `compliance revoke`.
    """
    from compliance_assets.evidence import inbox
    from compliance_assets.governance.deciding import Signer, private_key
    from compliance_assets.governance.documents.filing import file as file_it

    river = open_project(root)
    signer = Signer(person, role, private_key(river, person, key, people_keys(river)))
    signed, _ = file_it(river, document, system, release, signer, reason)
    admitted, refused = inbox.admit(river.archive)
    at = next((record.index for record in admitted if record.digest == signed.digest), None)
    digest = signed.subject("document")
    if as_json:
        shown.as_json({"document": document, "digest": digest, "statement": signed.digest, "ledger_index": at, "refused": refused})
        return
    click.echo(f"{person} filed {document} {digest} as {role}: statement {signed.digest.short}, ledger entry {at}.")


@click.command("sign-part")
@click.argument("system")
@click.argument("part")
@click.option("--text", type=click.Path(path_type=Path, dir_okay=False, exists=True), required=True, help="A UTF-8 file with your text.")
@click.option("--release", default="", metavar="R", help="The release you write about (default: as in `dossier`).")
@signer_options
@root_option
@json_option
def sign_part(system: str, part: str, text: Path, release: str, person: str, role: str, key: Path | None, reason: str, root: Path | None,
              as_json: bool) -> None:
    """Sign the text of PART (`annex-iv/1(g)`, `aisdp/7`, …) of SYSTEM's documents, as its next version, with your SSH key.

    The first signature makes your role the owner of the part. The text turns stale when what it is about changes. To take it back:
    `compliance revoke`.
    """
    from compliance_assets.evidence import inbox
    from compliance_assets.governance.deciding import Signer, private_key
    from compliance_assets.governance.documents.gathered import Gathered, chosen
    from compliance_assets.governance.documents.human_parts import write

    try:
        said = text.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise click.BadParameter(f"{text} is no UTF-8 text", param_hint="--text") from error
    river = open_project(root)
    signer = Signer(person, role, private_key(river, person, key, people_keys(river)))
    signed, _ = write(Gathered(river, chosen(river, system, release)), part, said, signer, reason)
    admitted, refused = inbox.admit(river.archive)
    indices = [record.index for record in admitted if record.digest == signed.digest]
    if as_json:
        shown.as_json({"part": part, "statement": signed.digest, "shown": signed.body.shown, "admitted": indices, "refused": refused})
        return
    click.echo(f"{person} signed {part} as {role}: statement {signed.digest}, ledger entry {indices[0] if indices else 'not yet'}.")
