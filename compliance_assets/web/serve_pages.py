"""Serves the governance pages as a process of their own, on a socket that `compliance up` bound before it started anything."""

from __future__ import annotations

import logging
import socket
import sys
from pathlib import Path

from compliance_assets.evidence.home import find_home
from compliance_assets.web.pages import run_pages
from compliance_assets.web.ui_users import TOKENS_FILE, read_users


def main(port: str, descriptor: str, root: str, dagster: str) -> None:
    """`port` and the bound socket's file descriptor, the folder above systems/, and where Dagster's pages answer."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    place = Path(root)
    home = find_home(place)
    run_pages(place, "127.0.0.1", int(port), read_users(home / "keys" / TOKENS_FILE), home=home, dagster=dagster,
              listening=socket.socket(fileno=int(descriptor)))


if __name__ == "__main__":
    main(*sys.argv[1:])
