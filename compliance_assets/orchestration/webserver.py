"""Dagster's webserver on a Unix socket, where no page of any browser can reach it.

`dagster-webserver` itself only listens on a TCP port, and whoever guesses that port on loopback stands behind the guard: a page
in the operator's browser could (it executes mutations by GET). A socket in a folder that only its owner may enter has no such
address. Run as `python -m compliance_assets.orchestration.webserver SOCKET [--workspace workspace.yaml]`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from compliance_assets.errors import Busy, ComplianceError, HomeUnusable


def free_socket_path(path: Path) -> Path:
    """`path`, ready to be bound: its folder private, no server answering there, no stale socket left."""
    import socket

    if len(str(path).encode()) > 100:
        raise HomeUnusable(f"The path of the socket is too long for a Unix socket: {path}.", rule="socket path", value=str(path),
                           remedy="Choose a home with a shorter path, with COMPLIANCE_HOME.")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.parent.stat().st_mode & 0o077:
        raise HomeUnusable(f"{path.parent} can be entered by others.", rule="socket folder", value=str(path.parent),
                           remedy=f"chmod 700 {path.parent}")
    if path.exists():
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                raise Busy(f"A webserver answers at {path} already.", rule="one at a time", value=str(path),
                           remedy="Stop it, or use it.")
        path.unlink()
    return path


def serve(path: Path, workspace: Path, *, read_only: bool = False) -> None:
    """Serve Dagster's pages and GraphQL on the socket at `path` until told to stop. DAGSTER_HOME says which instance."""
    import uvicorn
    from dagster import DagsterInstance
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import WorkspaceFileTarget
    from dagster_webserver.app import create_app_from_workspace_process_context
    from dagster_webserver.version import __version__

    os.umask(0o077)
    with DagsterInstance.get() as instance:
        instance.optimize_for_webserver(statement_timeout=15_000, pool_recycle=3600, max_overflow=20)
        with WorkspaceProcessContext(instance, WorkspaceFileTarget([str(workspace)]), version=__version__,
                                     read_only=read_only) as context:
            app = create_app_from_workspace_process_context(context, "", 2000)
            config = uvicorn.Config(app, uds=str(free_socket_path(path)), log_level="warning", proxy_headers=False)
            uvicorn.Server(config).run()


@click.command()
@click.argument("socket", type=click.Path(path_type=Path))
@click.option("--workspace", type=click.Path(path_type=Path, exists=True, dir_okay=False), default=Path("workspace.yaml"),
              show_default=True, help="What Dagster loads.")
@click.option("--read-only", is_flag=True, help="Refuse every mutation, also behind the guard.")
def main(socket: Path, workspace: Path, read_only: bool) -> None:
    """Serve Dagster's pages on the Unix socket SOCKET, for the guard to stand before."""
    try:
        serve(socket, workspace, read_only=read_only)
    except ComplianceError as error:
        click.echo(str(error), err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
