"""up: everything that people look at and everything that runs by itself, one command, one Ctrl-C.

Dagster's webserver listens on a Unix socket that only its owner can reach; what listens on TCP is the guard, on loopback.
"""

from __future__ import annotations

import getpass
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import click

from compliance_assets.cli.options import open_project, root_option
from compliance_assets.cli.setup import write_dagster_yaml
from compliance_assets.serving.processes import die_with_parent

if TYPE_CHECKING:
    from compliance_assets.policy.organisation import Organisation

STARTING_SECONDS = 120


@dataclass
class Children:
    """Processes that end with this one, in reverse order of their start."""

    folder: Path
    running: list[tuple[str, subprocess.Popen[bytes]]] = field(default_factory=list)

    def start(self, name: str, command: Sequence[str], environment: dict[str, str], *,
              keeps: Sequence[int] = ()) -> subprocess.Popen[bytes]:
        output = (self.folder / f"{name}.log").open("ab")
        # A session of its own, so that Ctrl-C reaches this process alone, which then ends the others in order.
        us = os.getpid()
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, start_new_session=True, pass_fds=keeps,
                                   preexec_fn=lambda: die_with_parent(us))  # no threads run yet
        output.close()
        self.running.append((name, process))
        return process

    def dead(self) -> str | None:
        """The first child that is not there any more."""
        return next((name for name, process in self.running if process.poll() is not None), None)

    def end(self) -> None:
        for _, process in reversed(self.running):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 20
        for _, process in reversed(self.running):
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            # Dagster's code servers live in the group of whoever started them, and would wait for its heartbeat to lapse.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)


@click.command()
@click.option("--port", type=click.IntRange(1024, 65535), default=3000, show_default=True,
              help="Where Dagster's pages answer, behind the guard.")
@click.option("--pages-port", type=click.IntRange(1024, 65535), default=3100, show_default=True,
              help="Where the governance pages answer: what is in production, what waits for whom, reviews, evidence.")
@click.option("--mlflow-port", type=click.IntRange(1024, 65535), default=5000, show_default=True, help="Where MLflow's pages answer.")
@click.option("--mlflow/--no-mlflow", default=False, show_default=True, help="Start MLflow's pages too (they take about 1 GB).")
@click.option("--serve/--no-serve", default=True, show_default=True, help="Supervise the environments' model servers too.")
@click.option("--read-only", is_flag=True, help="Refuse every mutation, for everybody.")
@root_option
def up(port: int, pages_port: int, mlflow_port: int, mlflow: bool, serve: bool, read_only: bool, root: Path | None) -> None:
    """The governance pages, Dagster's UI behind the guard, its daemon and the model servers. One Ctrl-C ends all.

    Prints your token as operator (runs you launch carry your name) and an auditor's. Everything listens on 127.0.0.1 only.
    """
    from compliance_assets.web.guard import run_guard
    from compliance_assets.web.ui_users import TOKENS_FILE, Role, issue_tokens, read_users

    river = open_project(root)
    river.home.check_writable()
    with river.home.lock("up", what="another `compliance up`"), _listening(port) as listening, \
            _listening(pages_port, "--pages-port") as pages_listening, tempfile.TemporaryDirectory(prefix="compliance-") as sockets:
        environment = {**os.environ, "DAGSTER_HOME": str(river.home.dagster), "COMPLIANCE_HOME": str(river.home.path),
                       "COMPLIANCE_ROOT": str(river.root), "COMPLIANCE_PAGES_URL": _pages_address(river.archive.in_force(), pages_port),
                       "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
        if not (river.home.dagster / "dagster.yaml").is_file():
            write_dagster_yaml(river.home)
        workspace = _workspace(Path(sockets))
        tokens_file = river.home.keys / TOKENS_FILE
        tokens = issue_tokens(tokens_file, ((getpass.getuser(), Role.OPERATOR), ("auditor", Role.READER)))
        children = Children(river.home.logs)
        # uvicorn ends by raising the signal again; as KeyboardInterrupt it unwinds through here and ends the children too.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            click.echo("Preparing Dagster's storage …", err=True)
            # Webserver and daemon started together on fresh files race for the schema; one process makes it first.
            subprocess.run((sys.executable, "-m", "dagster", "instance", "info"), env=environment, check=True, capture_output=True)
            at = Path(sockets) / "dagster.sock"
            children.start("dagster-webserver", (sys.executable, "-m", "compliance_assets.orchestration.webserver", str(at),
                                                 "--workspace", str(workspace), *(("--read-only",) if read_only else ())), environment)
            children.start("dagster-daemon", (sys.executable, "-m", "dagster._daemon", "run", "-w", str(workspace)), environment)
            descriptor = pages_listening.fileno()
            children.start("pages", (sys.executable, "-m", "compliance_assets.web.serve_pages", str(pages_port), str(descriptor),
                                     str(river.root), f"http://127.0.0.1:{port}"), environment, keeps=(descriptor,))
            if serve:
                for name in river.organisation.environments:
                    children.start(f"serve-{name}", (sys.executable, "-m", "compliance_assets.cli", "serve", name, "--root",
                                                     str(river.root)), environment)
            if mlflow:
                children.start("mlflow", (sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(mlflow_port),
                                          "--workers", "1", "--backend-store-uri", f"sqlite:///{river.home.mlflow_db}",
                                          "--artifacts-destination", str(river.home.mlflow_artifacts)), environment)
            _await(at, children)
            _addresses(river.root, port, _pages_address(river.archive.in_force(), pages_port), tokens, mlflow_port if mlflow else None,
                       river.organisation.environments if serve else {})
            run_guard(f"unix:{at}", "127.0.0.1", port, read_users(tokens_file), listening=listening)
        except KeyboardInterrupt:
            click.echo("\nStopping …", err=True)
        finally:
            children.end()
    click.echo("Stopped.")


def _listening(port: int, option: str = "--port") -> socket.socket:
    """A port of our own, taken before anything is started."""
    from compliance_assets.errors import Busy

    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind(("127.0.0.1", port))
    except OSError as error:
        taken.close()
        raise Busy(f"Port {port} on 127.0.0.1 is taken.", rule="ports", value=str(port),
                   remedy=f"Give another one with {option}; nothing was started.") from error
    return taken


def _workspace(folder: Path) -> Path:
    """The workspace file: the project's own where it was cloned, the same words otherwise."""
    ours = Path(str(resources.files("compliance_assets"))).parent / "workspace.yaml"
    if ours.is_file():
        return ours
    path = folder / "workspace.yaml"
    path.write_text("load_from:\n  - python_module:\n      module_name: compliance_assets.definitions\n", encoding="utf-8")
    return path


def _await(at: Path, children: Children) -> None:
    """Until the webserver answers on its socket; refuses when a child ended instead, with where to read why."""
    from compliance_assets.errors import ServingError

    deadline = time.monotonic() + STARTING_SECONDS
    while time.monotonic() < deadline:
        dead = children.dead()
        if dead is not None:
            raise ServingError(f"{dead} ended while starting.", rule="start", value=dead, remedy=f"Read {children.folder / dead}.log.")
        if at.exists():
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(str(at)) == 0:
                    return
        time.sleep(0.2)
    raise ServingError("Dagster's webserver did not answer in time.", rule="start", value=str(STARTING_SECONDS),
                       remedy=f"Read {children.folder / 'dagster-webserver'}.log.")


def _pages_address(organisation: Organisation, port: int) -> str:
    """Where people open the governance pages: the declared address, or a name of this host that browsers keep passkeys for."""
    return organisation.pages.origin if organisation.pages is not None else f"http://localhost:{port}"


def _addresses(root: Path, port: int, pages: str, tokens: dict[str, str], mlflow_port: int | None, environments: object) -> None:
    click.echo(f"Project {root}")
    click.echo(f"  Governance  {pages}    what is in production, what waits for whom, and why")
    click.echo(f"  Dagster     http://127.0.0.1:{port}    sign in to both with a token:")
    for name, token in tokens.items():
        click.echo(f"              {name:<10} {token}")
    if mlflow_port:
        click.echo(f"  MLflow      http://127.0.0.1:{mlflow_port}")
    assert isinstance(environments, dict)
    for name, served in environments.items():
        click.echo(f"  {name:<11} http://{served.serves.host}:{served.serves.port}    what the ledger says answers here")
    click.echo("Ctrl-C ends everything. Logs are in the home's logs/.")
