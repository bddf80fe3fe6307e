"""demo: the whole story on simulated data, headless, on the embedded default, in a folder of its own.

Everything is real: the stages, the signatures, the servers, the traffic, the ledger. Only the people are made up, by the
program, and every record says so.
"""

from __future__ import annotations

import getpass
import json
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from compliance_assets.cli import shown
from compliance_assets.cli.options import driver, progress
from compliance_assets.cli.setup import EXAMPLE, copy_example, write_dagster_yaml

if TYPE_CHECKING:
    from compliance_assets.pipeline import River

PEOPLE = {"demo-owner": "technical_owner", "demo-governance": "governance_lead"}
REASONS = {
    "demo-owner": "Performance and robustness hold with margin; integration answered to the bit. (A demonstration.)",
    "demo-governance": "Selection rates of every declared group keep the four-fifths bound on the lower end. (A demonstration.)",
}
STARTING_SECONDS = 60
WITNESS = "witness.demo/1"


@click.command()
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), default=Path("compliance-demo"), show_default=True,
              help="Where the demo lives; must not exist yet.")
@click.option("--port", type=click.IntRange(1024, 65531), default=8080, show_default=True,
              help="Where the deployed model answers (this port and the next three, on 127.0.0.1).")
@click.option("--rows", type=click.IntRange(5_000, 10_000_000), default=None, help="Applications to simulate (default: as declared).")
def demo(folder: Path, port: int, rows: int | None) -> None:
    """The whole story on simulated data, from a raw file to a deployed model that answers over HTTP.

    Runs stages 1 to 6, shows the review, signs with keys made for the demo and marked so in the evidence, deploys in shadow,
    canary and full under live traffic, verifies everything, and says how to look around.
    """
    from compliance_assets.errors import HomeUnusable

    if folder.exists() and any(folder.iterdir()):
        raise HomeUnusable(f"{folder} exists already.", rule="a folder of its own", value=str(folder),
                           remedy="Look around in it, or give another one with --folder.")
    begun = time.monotonic()
    river = _found(folder, port, rows)
    _train(river)
    _refused_without_approval(river)
    _approve(river)
    with _supervised(river), _witnessed(river):
        _deploy(river)
        answer = _ask(river)
    _verify(river)
    _look_around(folder, river, answer, time.monotonic() - begun)


def _say(text: str) -> None:
    click.echo("\n" + click.style(text, fg="cyan", bold=True))


def _found(folder: Path, port: int, rows: int | None) -> River:
    from compliance_assets.errors import HomeUnusable
    from compliance_assets.evidence import inbox
    from compliance_assets.evidence.home import Home
    from compliance_assets.evidence.witness import Witness
    from compliance_assets.governance.deciding import Signer, decide_definition
    from compliance_assets.governance.founding import demonstration_organisation, found
    from compliance_assets.governance.proposing import propose_definition
    from compliance_assets.policy.organisation import Anchors, DeclaredWitness

    _require_ports(port)
    _say("A home of its own: keys, ledger, organisation with two made-up people")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HomeUnusable(f"{folder} cannot be made: {error.strerror}.", rule="a folder of its own", value=str(folder),
                           remedy="Choose a folder that you may write, with --folder.") from error
    root = folder.resolve()
    copy_example(root)
    if rows is not None:
        _declare_rows(root / "systems" / EXAMPLE / "system.yaml", rows)
    now = datetime.now(UTC)
    home = Home.create(root / ".compliance")
    organisation = demonstration_organisation(home, "Example Lender", PEOPLE, "demo-engineer", getpass.getuser(), port, now)
    witness = Witness.at(root / "witness", WITNESS, {})
    witnesses = (DeclaredWitness(name=WITNESS, key=witness.key.public.text, address=f"http://127.0.0.1:{_free_port()}"),)
    anchors = Anchors(demanded=("witness",), fresh_for="24h", witnesses=witnesses)
    river = found(root, home, organisation.model_copy(update={"anchors": anchors}), now)
    river.listeners = (progress,)
    write_dagster_yaml(home)
    definition = river.definition(EXAMPLE)
    propose_definition(river, EXAMPLE, "demo-engineer")
    for person, role in PEOPLE.items():
        decide_definition(river, EXAMPLE, Signer(person, role, home.keys / "people" / person), "approve",
                          "The example's own bounds, read line by line. (A demonstration.)", opened_seconds=0)
    inbox.admit(river.archive)
    click.echo(f"{definition.system.title}: definition {definition.digest.short}, approved by {' and '.join(PEOPLE)}")
    click.echo(f"Purpose: {definition.system.intended_purpose}")
    return river


def _require_ports(port: int) -> None:
    """Say that a port is taken before a minute of work, not after it."""
    import socket

    from compliance_assets.errors import Busy

    for number in range(port, port + 4):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", number))
            except OSError as error:
                raise Busy(f"Port {number} on 127.0.0.1 is taken.", rule="ports", value=str(number),
                           remedy="Give another one with --port; nothing was started.") from error


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _declare_rows(path: Path, rows: int) -> None:
    """Another number of rows is another declaration: written into the file, as an owner would."""
    import re

    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r"(\brows: )[\d_]+", rf"\g<1>{rows}", text, count=1), encoding="utf-8")


def _train(river: River) -> None:
    from compliance_assets.pipeline import drive

    _say("Stages 1 to 6: each makes one thing, and its gates may refuse it")
    for outcome in drive(river, EXAMPLE, driver(), stop="integration_testing"):
        shown.advance_line(outcome)
        if not outcome:
            click.echo("Halted: nothing downstream exists.")
            raise click.exceptions.Exit(1)


def _refused_without_approval(river: River) -> None:
    from compliance_assets.errors import ComplianceError
    from compliance_assets.pipeline import advance

    _say("What happens if somebody deploys now?")
    try:
        advance(river, EXAMPLE, "deployment", None, driver())
    except ComplianceError as error:
        click.echo(f"Refused: {error}")
    else:
        raise AssertionError("a deployment without approval was not refused")


def _approve(river: River) -> None:
    from compliance_assets.governance.deciding import Signer, decide_release
    from compliance_assets.governance.review import review_document
    from compliance_assets.pipeline import advance

    _say("Stage 7: the review, as a person sees it")
    shown.review(review_document(river, EXAMPLE))
    for person, role in PEOPLE.items():
        opened = time.monotonic()
        statement, _ = decide_release(river, EXAMPLE, Signer(person, role, river.home.keys / "people" / person), "approve",
                                      REASONS[person], opened_seconds=int(time.monotonic() - opened))
        click.echo(f"\n{person} ({role}) signs statement {statement.digest.short} with a key made for this demo.")
    shown.advance_line(advance(river, EXAMPLE, "pre_deployment_approval", None, driver()))


@contextmanager
def _supervised(river: River) -> Iterator[None]:
    """`compliance serve production` for as long as the demo needs it."""
    environment = river.definition(EXAMPLE).system.deployment.environment
    log = river.home.logs / "serve.log"
    with log.open("ab") as output:
        process = subprocess.Popen((sys.executable, "-m", "compliance_assets.cli", "serve", environment, "--root", str(river.root)),
                                   stdout=output, stderr=output)
        try:
            _await_supervisor(river, environment, process)
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _witness_command(river: River) -> tuple[str, ...]:
    assert river.organisation.anchors is not None
    address = river.organisation.anchors.witnesses[0].address
    return ("witness", "witness", "--name", WITNESS, "--port", address.rpartition(":")[2],
            "--log", f"{river.archive.ledger.origin}={river.organisation.log_key()}")


@contextmanager
def _witnessed(river: River) -> Iterator[None]:
    """A witness of the ledger's head, for as long as the demo needs it. Its folder would be on another machine."""
    with (river.home.logs / "witness.log").open("ab") as output:
        process = subprocess.Popen((sys.executable, "-m", "compliance_assets.cli", *_witness_command(river)), cwd=river.root,
                                   stdout=output, stderr=output)
        try:
            _await_witness(river, process)
            yield
        finally:
            process.terminate()
            process.wait()


def _await_witness(river: River, process: subprocess.Popen[bytes]) -> None:
    import socket

    from compliance_assets.errors import ServingError

    port = int(_witness_command(river)[5])
    deadline = time.monotonic() + STARTING_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise ServingError("The demo's witness did not come up.", rule="witness", value=str(port),
                       remedy=f"Read {river.home.logs / 'witness.log'}.")


def _await_supervisor(river: River, environment: str, process: subprocess.Popen[bytes]) -> None:
    from compliance_assets.errors import ServingError
    from compliance_assets.serving.supervisor import is_supervised, read_status

    deadline = time.monotonic() + STARTING_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if is_supervised(river.home, environment) and read_status(river.home, environment) is not None:
            return
        time.sleep(0.2)
    raise ServingError(f"The supervisor of {environment} did not come up.", rule="supervisor", value=environment,
                       remedy=f"Read {river.home.logs / 'serve.log'}.")


def _address(river: River) -> str:
    served = river.organisation.environments[river.definition(EXAMPLE).system.deployment.environment].serves
    return f"http://{served.host}:{served.port}"


def _deploy(river: River) -> None:
    from compliance_assets.governance.callers import callers
    from compliance_assets.pipeline import advance
    from compliance_assets.serving.traffic import Tally, send

    _say("Stage 8: shadow → canary → full, under live traffic")
    rows, groups = callers(river, EXAMPLE, "holdout", 2_000)
    tally, ended = Tally(), threading.Event()
    caller = threading.Thread(target=send, args=(_address(river), rows), daemon=True,
                              kwargs={"groups": groups, "count": 50_000, "seconds": 900.0, "per_second": 60.0, "threads": 4,
                                      "stop": ended, "tally": tally})
    caller.start()
    try:
        outcome = advance(river, EXAMPLE, "deployment", None, driver())
    finally:
        ended.set()
        caller.join()
    shown.advance_line(outcome)
    click.echo(f"    before it began, the witness {WITNESS} cosigned the ledger's head: nobody can rewrite what led here unnoticed")
    said = ", ".join(f"{count} × {status or 'no answer'}" for status, count in sorted(tally.statuses.items()))
    click.echo(f"    traffic meanwhile: {said} (503 until the first model answers: nothing was in production before)")
    if not outcome:
        click.echo("The rollout undid itself for the finding above, as declared. On a machine that is busy with other work, servers can\n"
                   f"answer too late for the bounds. Everything is on record in {river.root}:\n`compliance up` there shows what was "
                   "refused and why; `compliance demo --folder OTHER` tries again.")
        raise click.exceptions.Exit(1)


def _ask(river: River) -> Mapping[str, Any]:
    """One application, as a caller would send it."""
    from compliance_assets.governance.callers import callers
    from compliance_assets.serving.client import Client

    rows, _ = callers(river, EXAMPLE, "holdout", 1)
    with Client(_address(river), seconds=20) as client:
        answer = client.post_json("/predict", {"rows": rows}, {})
    body: Mapping[str, Any] = json.loads(answer.body)
    _say("The deployed model answers over HTTP")
    click.echo(f"POST {_address(river)}/predict  {answer.status}")
    click.echo(json.dumps(body, indent=2))
    return body


def _verify(river: River) -> None:
    from compliance_assets.governance.verification import verify

    _say("compliance verify: everything recomputed, trusting nobody")
    found = verify(river.archive)
    click.echo(f"{found.entries} ledger entries, {found.signatures} signatures, {found.artefacts} artefacts, {found.chains} chains down "
               f"to the raw source, {found.heads} heads that people signed, {found.anchors} anchored")
    for problem in found.problems:
        click.echo(click.style(f"PROBLEM  {problem}", fg="red"))
    if not found:
        raise click.exceptions.Exit(1)
    click.echo(click.style("Verified.", fg="green") + f" Head: {found.entries}:{found.root}")


def _look_around(folder: Path, river: River, answer: Mapping[str, Any], seconds: float) -> None:
    peak = max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    release = str(answer["version"]["release"])
    _say(f"Done in {seconds:.0f} s, at most {peak / 1024:.0f} MB in one process. The servers have been stopped.")
    click.echo(f"""Look around:
  cd {folder}
  compliance up                           the governance pages in your browser, Dagster behind its guard, the model answering again
  compliance status                       where the system stands
  compliance dossier {EXAMPLE} annex-iv   its technical documentation, from evidence, gaps marked
  compliance trace {release[:12]}           from the raw file to production
  compliance verify                       recompute everything yourself
  compliance datasets {EXAMPLE}      fetch the very data by digest
  compliance {' '.join(_witness_command(river))}
                                          the witness, which a next deployment demands
  ls .compliance                          ledger.db, artefacts/, keys/, logs/""")
