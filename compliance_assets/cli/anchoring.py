"""anchor, witness: keeping the ledger's head where nobody here can change it."""

from __future__ import annotations

import signal
from pathlib import Path

import click

from compliance_assets.cli import shown
from compliance_assets.cli.options import json_option, open_project, root_option


@click.command()
@root_option
@json_option
def anchor(root: Path | None, as_json: bool) -> None:
    """Have the ledger's head cosigned by every declared witness, and tagged in the declared repository. Exit 1 if one is missing."""
    from compliance_assets.evidence import anchoring

    river = open_project(root, writer=False)
    made, problems = anchoring.make(river.archive, river.archive.in_force(), river.root)
    if as_json:
        shown.as_json({"anchors": [{"kind": one.kind, "by": one.by, "size": one.head.size, "root": one.head.root.hex(),
                                    "at": one.at.isoformat()} for one in made], "problems": problems})
    else:
        for one in made:
            head = f"{one.head.size}:{one.head.root.hex()}"
            click.echo(f"{click.style('✓', fg='green')} {one.kind:8} {one.by}  {head}  {one.at:%Y-%m-%d %H:%M:%S}Z")
        for problem in problems:
            click.echo(f"{click.style('✗', fg='red')} {problem}")
    if problems or not made:
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--name", required=True, help="The witness's name in its cosignatures, like witness.example/1.")
@click.option("--log", "logs", multiple=True, required=True, metavar="ORIGIN=KEY",
              help="A ledger to witness, and its log key (ed25519:…); may be repeated.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8099, show_default=True, help="The port to listen on; 0 takes a free one.")
def witness(folder: Path, name: str, logs: tuple[str, ...], host: str, port: int) -> None:
    """Run a witness that keeps its key and its memory in FOLDER (made if new), away from the ledgers it witnesses.

    It cosigns a head only if that grew from the one it cosigned before (c2sp.org/tlog-witness). Ctrl-C ends it.
    """
    from compliance_assets.evidence.witness import Witness, server
    from compliance_assets.trust.keys import PublicKey

    known: dict[str, PublicKey] = {}
    for text in logs:
        origin, separator, key = text.partition("=")
        if not separator:
            raise click.BadParameter(f"{text!r} is not ORIGIN=KEY", param_hint="--log")
        known[origin] = PublicKey.parse(key)
    # Whoever started this may have told it to ignore them; it ends on both.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)
    running = Witness.at(folder, name, known)
    with server(running, host, port) as listening:
        click.echo(f"Witness {name} with key {running.key.public.text} on http://{host}:{listening.server_address[1]}")
        try:
            listening.serve_forever()
        except KeyboardInterrupt:
            click.echo("Stopped; its memory stays.")
