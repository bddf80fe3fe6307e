"""verify, trace, datasets: looking at evidence, trusting nobody."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from compliance_assets.cli import shown
from compliance_assets.cli.options import json_option, open_project, root_option


@click.command()
@click.option("--head", "heads", multiple=True, metavar="SIZE:ROOT", help="A ledger head that you kept elsewhere; may be repeated.")
@root_option
@json_option
def verify(heads: tuple[str, ...], root: Path | None, as_json: bool) -> None:
    """Recompute every root, signature, chain and artefact of this home; say what is not covered. Exit 1 on any problem."""
    from compliance_assets.governance.verification import verify as verify_all
    from compliance_assets.trust.merkle import Checkpoint

    river = open_project(root, writer=False)
    kept = []
    for text in heads:
        size, _, digest = text.partition(":")
        if not size.isdigit() or len(digest) != 64:
            raise click.BadParameter(f"{text!r} is not SIZE:ROOT with a root of 64 hexadecimal digits", param_hint="--head")
        kept.append(Checkpoint(river.archive.ledger.origin, int(size), bytes.fromhex(digest)))
    found = verify_all(river.archive, tuple(kept), progress=lambda what: None if as_json else click.echo(f"  {what} …", err=True))
    if as_json:
        shown.as_json(found.as_json())
    else:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(found.by_kind.items()))
        click.echo(f"Ledger       {found.entries} entries ({kinds}), root {found.root}")
        click.echo(f"Checkpoints  {found.checkpoints} signed, {found.heads} heads that people signed or you kept")
        newest = f", the newest of {found.anchored} entries" if found.anchors else ""
        click.echo(f"Anchors      {found.anchors} outside this host{newest}")
        click.echo(f"Signatures   {found.signatures} verified")
        click.echo(f"Artefacts    {found.artefacts} files, {found.artefact_bytes:,} bytes, each with the bytes of its digest")
        click.echo(f"Chains       {found.chains} passed outputs, each down to its raw source")
        if found.unreferenced:
            click.echo(f"Unreferenced {len(found.unreferenced)} artefacts that no record names (left by runs that did not end)")
        for what in found.not_covered:
            click.echo(click.style(f"Not covered: {what}", dim=True))
        for problem in found.problems:
            click.echo(click.style(f"PROBLEM  {problem}", fg="red"))
        if found:
            click.echo(click.style("Verified. ", fg="green") + f"Keep this head elsewhere: {found.entries}:{found.root}")
        else:
            click.echo(click.style(f"Not verified: {len(found.problems)} problem(s).", fg="red", bold=True))
    if not found:
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("what")
@click.option("--as-of", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"]), help="As the records stood then (UTC).")
@root_option
@json_option
def trace(what: str, as_of: datetime | None, root: Path | None, as_json: bool) -> None:
    """Provenance of WHAT (a digest or its beginning, a release, a Dagster, MLflow or CLI run): upstream and downstream."""
    from datetime import UTC

    from compliance_assets.evidence.provenance import trace as trace_it

    river = open_project(root, writer=False)
    found = trace_it(river.archive, what, as_of.replace(tzinfo=UTC) if as_of else None)
    if as_json:
        shown.as_json({"asked": what, "source": found.source,
                       **{name: [{"what": node.what, "digest": node.digest, "ledger_index": node.record.index,
                                  "statement": node.record.digest, "when": node.when,
                                  "run": getattr(node.record.body, "run", ""),
                                  "by": getattr(node.record.body, "launcher", getattr(node.record.body, "person", ""))}
                                 for node in nodes] for name, nodes in (("upstream", found.upstream), ("downstream", found.downstream))}})
        return
    shown.heading("Upstream, down to the raw source")
    click.echo(f"  source              {found.source or 'unknown: the records do not reach it'}")
    for title, nodes in (("", found.upstream), ("Downstream, up to production", found.downstream)):
        if title:
            shown.heading(title)
        if not nodes:
            click.echo("  nothing recorded")
        shown.table([(f"  {node.what}", node.digest[:12], f"#{node.record.index}", node.when[:19],
                      getattr(node.record.body, "outcome", ""), getattr(node.record.body, "run",
                                                                        getattr(node.record.body, "person", ""))[:40])
                     for node in nodes], ("", "digest", "ledger", "when", "outcome", "run or person"))


@click.command()
@click.argument("system", required=False)
@root_option
@json_option
def dashboard(system: str | None, root: Path | None, as_json: bool) -> None:
    """Trends of SYSTEM (of all, if none is named), each with its number of cases, interval, window and formula."""
    from compliance_assets.governance.dashboard.summary import dashboard as measure
    from compliance_assets.governance.dashboard.summary import percent

    river = open_project(root, writer=False)
    found = [measure(river, name) for name in ((system,) if system else river.systems)]
    if as_json:
        shown.as_json({"systems": [one.as_json() for one in found]})
        return
    for one in found:
        shown.heading(f"{one.history.system}")
        for what, number, basis in one.tiles:
            click.echo(f"  {what:<34} {click.style(number, bold=True):<18} {click.style(basis, dim=True)}")
        if one.gates:
            shown.table([(f"  {name}", percent(window.value), shown.interval(window.interval), window.n, percent(ever.value), ever.n)
                         for name, window, ever in one.gates], ("  gate", "passed", "95 % interval", "n", "ever", "n"))
        for line in one.measures:
            said = click.style(f"unknown ({line.missing})", dim=True) if line.missing else line.found
            click.echo(f"  {line.number:<4} {line.name}: {said}")


@click.command()
@click.argument("inference")
@root_option
@json_option
def explain(inference: str, root: Path | None, as_json: bool) -> None:
    """Rebuild the decision INFERENCE (an inference_id that an answer carried) from stored bytes.

    Says whether input, features, score and decision come out as they were logged (exit 1 if not), and how far each feature moved the
    score from its usual value. The answer holds what the person sent: hand it to nobody else.
    """
    from compliance_assets.governance.explaining import explain as explain_it

    found = explain_it(open_project(root, writer=False), inference)
    if as_json:
        shown.as_json(found.as_json())
    else:
        shown.explanation(found)
    if not found:
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("system")
@click.option("--fetch", metavar="DIGEST", help="Copy the files of this dataset version out of the store.")
@click.option("--into", type=click.Path(path_type=Path, file_okay=False), default=None, help="Where to copy them.")
@root_option
@json_option
def datasets(system: str, fetch: str | None, into: Path | None, root: Path | None, as_json: bool) -> None:
    """List the registered dataset versions of SYSTEM, or fetch one by its digest."""
    from compliance_assets.errors import Misused
    from compliance_assets.stages.s1_data_preparation import Dataset
    from compliance_assets.trust.canonical import Digest

    river = open_project(root, writer=False)
    river.definition(system)
    found: dict[str, dict[str, object]] = {}
    values: dict[str, Dataset] = {}
    for record in river.archive.made_by(system, "data_preparation"):
        if record.body.outcome == "error":
            continue
        value = river.value("dataset", Digest.parse(record.body.output))
        assert isinstance(value, Dataset)
        values[record.body.output] = value
        found[record.body.output] = {"digest": record.body.output, "outcome": record.body.outcome, "rows": value.rows,
                                     "source": value.source, "when": record.body.finished, "ledger_index": record.index}
    if fetch is not None:
        matching = [digest for digest in found if digest.startswith(fetch)]
        if len(matching) != 1:
            raise Misused(f"{len(matching)} dataset versions of {system} begin with {fetch}.", rule="datasets", value=fetch,
                          remedy=f"Known: {', '.join(digest[:12] for digest in found) or 'none'}.")
        folder = into or Path(f"{system}-{matching[0][:12]}")
        folder.mkdir(parents=True, exist_ok=True)
        copied = []
        for name, digest in values[matching[0]].files().items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            river.archive.artefacts.copy_to(Digest.parse(digest), path)
            copied.append(str(path))
        (folder / "manifest.json").write_bytes(values[matching[0]].manifest())
        if as_json:
            shown.as_json({"digest": matching[0], "files": [*copied, str(folder / "manifest.json")]})
        else:
            click.echo(f"Dataset {matching[0][:12]} ({found[matching[0]]['rows']} rows) is in {folder}: {len(copied)} files, verified.")
        return
    if as_json:
        shown.as_json({"system": system, "datasets": list(found.values())})
        return
    shown.table([(str(entry["digest"])[:12], entry["outcome"], entry["rows"], str(entry["source"])[:12], str(entry["when"])[:19])
                 for entry in found.values()], ("digest", "gates", "rows", "raw source", "when"))
    if not found:
        click.echo(f"None yet: compliance run {system} --to dataset")


@click.command()
@click.argument("system")
@click.option("--candidate", type=click.IntRange(min=0), default=None, metavar="INDEX",
              help="Ledger index of a stage record of the candidate (default: the newest under the definition at hand).")
@root_option
@json_option
def modelcard(system: str, candidate: int | None, root: Path | None, as_json: bool) -> None:
    """Write the model card of SYSTEM's candidate as Markdown: nine headings, every line from a record, what is missing named."""
    from compliance_assets.errors import Misused
    from compliance_assets.governance.candidates import candidate_at, latest
    from compliance_assets.governance.model_card import model_card

    river = open_project(root, writer=False)
    one = latest(river, system) if candidate is None else candidate_at(river, system, candidate)
    if one is None:
        raise Misused(f"{system} has no candidate under its definition.", rule="model card", value=system,
                      remedy=f"Run it first: compliance run {system} --to evaluation_report")
    card = model_card(river, one)
    if as_json:
        shown.as_json(card.as_json())
        return
    click.echo(card.as_markdown())


@click.command()
@click.argument("system")
@click.option("--into", type=click.Path(path_type=Path, file_okay=False), required=True, help="A new or empty folder.")
@click.option("--with-data", is_flag=True, help="Put the tables of data in too: rows about people leave the home with it.")
@root_option
@json_option
def export(system: str, into: Path, with_data: bool, root: Path | None, as_json: bool) -> None:
    """Write an auditor's bundle of SYSTEM: the whole ledger, what its records name, and a verifier that needs none of this.

    Tables of data are left out unless asked for, and listed as left out.
    """
    from compliance_assets.governance.export import export as export_it

    found = export_it(open_project(root, writer=False).archive, system, into, with_data=with_data)
    if as_json:
        shown.as_json(found.as_json())
        return
    click.echo(f"{found.files} files in {found.folder}; {len(found.left_out)} artefacts left out"
               + ("." if with_data else " (tables of data, unless missing)."))
    click.echo(f"The auditor needs one string from you, by another way than the bundle: {found.size}:{found.root}")
    click.echo(f"  python verify.py {found.folder} --head {found.size}:{found.root}")
    click.echo(f"  or, held since the beginning: --policy-sha256 {found.first_trust_policy}")


@click.command()
@click.argument("run")
@click.option("--into", type=click.Path(path_type=Path, file_okay=False), required=True, help="A new or empty folder.")
@root_option
@json_option
def reproduce(run: str, into: Path, root: Path | None, as_json: bool) -> None:
    """Execute stages 1 to 4 of RUN (a run, release or digest) again from the record alone, and compare every digest.

    Says what differs and at which level it was claimed. Exit 1 when a stage cannot be executed or something claimed differs.
    """
    from compliance_assets.governance.reproducing import reproduce as reproduce_it

    found = reproduce_it(open_project(root, writer=False), run, into)
    if as_json:
        shown.as_json(found.as_json())
    else:
        shown.table([(asset, was[:12], now[:12] or "not executed", "same" if was == now else "differs" if now else "")
                     for asset, was, now in found.stages], ("asset", "recorded", "now", ""))
        shown.table([(one.where, one.level if one.claimed else f"{one.level}, not claimed here", one.recorded[:40], one.now[:60])
                     for one in found.differences], ("differs", "level", "recorded", "now"))
        click.echo(f"{found.compared} things compared, {len(found.differences)} differ; the environment is "
                   + ("the recorded one." if found.same_environment else "another than recorded, so bytes are not claimed."))
        click.echo("Reproduced." if found else click.style("Not reproduced.", fg="red"))
    if not found:
        raise click.exceptions.Exit(1)
