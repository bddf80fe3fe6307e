"""How fast the governance pages answer over real HTTP with a hundred thousand records behind them: every page, cold once and then warm.

The ledger is the two years of `two_years.py` with as many releases as it takes. The pages run as a process of their own, as `compliance up`
runs them; a client with one connection asks. The first page after the start waits until the process has verified every record; that
is stated apart, and so is the memory that the process holds afterwards. Processor ms: what the process itself worked for one visit, whatever
else the machine did.

    python -m benchmarks.pages [FOLDER] [RELEASES]      default: a new folder, 9,000 releases; a folder with a world in it is used as it is
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path

import httpx

from benchmarks.two_years import DAYS, OTHER, lived, project
from compliance_assets.governance.documents import KINDS
from compliance_assets.governance.questions.catalogue import QUESTIONS
from compliance_assets.pipeline import open_river
from compliance_assets.web.pages import run_pages
from compliance_assets.web.ui_users import Role, User, new_token, token_hash
from compliance_assets_tests.project import SYSTEM

VISITS, FEWEST, SLOW = 20, 3, 5000.0
"""Visits to each page; to one that took longer than so many milliseconds, the fewest."""


def world(root: Path, releases: int) -> None:
    """Two years up to now, of two systems."""
    if root.is_dir():
        return
    root.mkdir(parents=True)
    began = datetime.now().astimezone() - timedelta(days=DAYS)
    lived(project(root, began - timedelta(days=1)), began, releases, 1)


def addresses(root: Path) -> list[str]:
    """Every page, with what it takes: a candidate from the middle of its list, a run, an artefact, a question on the other system."""
    archive = open_river(root, writer=False).archive
    head = archive.ledger.size
    entry = next(record for index in range(head // 2, head) if (record := archive.authentic(archive.ledger.entry(index))).statement.kind == "stage"
                 and record.body.system == OTHER and record.body.stage == "model_evaluation")
    body = entry.body
    of = [f"/systems/{name}" for name in (SYSTEM, OTHER)]
    return [
        "/", *(f"{one}/review" for one in of), f"{of[1]}/candidates/{entry.index}", f"{of[1]}/candidates/{entry.index}/card", "/releases",
        f"{of[1]}/releases", f"{of[1]}/releases?before={entry.index}", "/dashboard", *(f"{one}/dashboard" for one in of), "/alerts",
        f"/runs/{body.run}", "/ledger", f"/ledger?before={entry.index}", "/ledger?kind=stage&outcome=failed",
        f"/ledger?kind=decision&system={OTHER}", f"/ledger/{entry.index}", f"/ledger/{entry.index}/envelope", f"/statements/{entry.digest}",
        "/provenance", f"/provenance?what={body.output}", f"/artefacts/{body.output}", "/questions", f"{of[1]}/questions",
        "/definitions", f"/definitions/{OTHER}",
        "/documents", f"/documents/{SYSTEM}/runbook", *(f"/documents/{SYSTEM}/{kind}" for kind in KINDS), "/engineering", "/health",
        *(f"{of[1]}/questions/{one.number}" for one in QUESTIONS),
    ]


def serve(root: Path, port: int, hashed: str) -> None:
    """The pages, until told to stop."""
    run_pages(root, "127.0.0.1", port, [User("ines", Role.READER, hashed)])


def main(root: Path, releases: int) -> None:
    world(root, releases)
    asked = addresses(root)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = new_token()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.pages", "serve", str(root), str(port), token_hash(token)])
    try:
        measure(process.pid, port, token, asked)
    finally:
        process.terminate()
        process.wait()


def measure(pid: int, port: int, token: str, asked: list[str]) -> None:
    headers = {"authorization": f"Bearer {token}", "accept": "text/html"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=3600) as client:
        for _ in range(600):
            try:
                client.get("/health/live")
                break
            except httpx.TransportError:
                time.sleep(0.2)
        clock = time.perf_counter()
        while (answer := client.get("/ledger/0")).status_code == 503:
            time.sleep(1)
        assert answer.status_code == 200, answer.text[:500]
        size = client.get("/health").text.split(" entries, root")[0].rpartition(">")[2]
        clock_of_all = time.perf_counter() - clock
        client.get("/dashboard")  # measured at the start too, beside the pages
        taken_of_all = time.perf_counter() - clock
        before = 0.0
        while (now := worked(pid)) - before > 100:  # what the process does at its start beside the pages is no page's work
            before = now
            time.sleep(2)
        print(f"{size} entries; from the start until all of them were verified and the first page came: {clock_of_all:.0f} s, until the dashboards were "
              f"measured {taken_of_all:.0f} s; "
              f"then {resident(pid)} MB; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors\n")
        print(f"| page | status | kB | first ms | median of {VISITS} ms | worst ms | processor ms |\n|---|---|---|---|---|---|---|")
        for address in asked:
            taken, found, before = [], None, 0.0
            for visit in range(VISITS + 1):
                before = worked(pid) if visit == 1 else before
                if visit > FEWEST and max(taken) > SLOW:
                    break
                clock = time.perf_counter()
                found = client.get(address)
                taken.append(1000 * (time.perf_counter() - clock))
            assert found is not None
            each = (worked(pid) - before) / (len(taken) - 1)
            print(f"| `{address.replace('|', '')[:64]}` | {found.status_code} | {len(found.content) / 1000:.0f} | {taken[0]:.0f} "
                  f"| {statistics.median(taken[1:]):.0f} | {max(taken[1:]):.0f} | {each:.0f} |", flush=True)
        print(f"\nafterwards {resident(pid)} MB")


def worked(pid: int) -> float:
    """Milliseconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return 1000 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> int:
    """Megabytes that a process holds."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) // 1000


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments[:1] == ["serve"]:
        serve(Path(arguments[1]), int(arguments[2]), arguments[3])
    else:
        main(Path(arguments[0]) if arguments else Path(tempfile.mkdtemp()) / "world", int(arguments[1]) if len(arguments) > 1 else 9000)
