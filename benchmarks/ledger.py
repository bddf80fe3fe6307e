"""How fast is the ledger, and what does trusting nobody cost? Append, verify, proofs, and questions, up to a million records.

    python benchmarks/ledger.py                              # 1,000 to 1,000,000 records; writes benchmarks/ledger.md
    python benchmarks/ledger.py --sizes 1000 10000 --into /somewhere   # smaller, and kept for another look

Records are real ones (`ledger_world`): signed statements of about 4 kB. Verifying counts three things apart: the tree, against
hashing the very same bytes; signatures, on all cores; and what every body says of itself (columns, look-up table).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import ledger_world as world

from compliance_assets.evidence.archive import Archive
from compliance_assets.evidence.ledger import Ledger
from compliance_assets.evidence.provenance import trace
from compliance_assets.trust import merkle
from compliance_assets.trust.canonical import Digest
from compliance_assets.trust.keys import SigningKey

PAGE = Path(__file__).resolve().parent / "ledger.md"


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def reader(root: Path) -> Archive:
    from compliance_assets.evidence.home import Home
    from compliance_assets.policy.organisation import load_organisation

    return Archive.open(Home.open(root / ".compliance"), load_organisation(root / "organisation.yaml"), writer=False)


def made(folder: Path, size: int) -> Path:
    """A ledger of `size` records in `folder`, as it is there already or made now."""
    root = folder / str(size)
    if not (root / "organisation.yaml").is_file():
        print(f"making {size:,} records …", file=sys.stderr, flush=True)
        archive = world.founded(root)
        world.fill(archive, size).close()
        archive.ledger.close()
    return root


def both(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of this process."""
    began, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - cpu


def hashing(archive: Archive) -> tuple[float, float]:
    """One sha256 over each stored body, and nothing else: what the tree's time is held against. Reading stands outside the clock."""
    wall = cpu = 0.0
    with archive.ledger.reading() as (rows, _, head, _):
        for start in range(0, head.size, 4096):
            block = [row[1] for row in rows.bodies(start, start + 4096)]
            spent = both(lambda block=block: [hashlib.sha256(body).digest() for body in block])
            wall, cpu = wall + spent[0], cpu + spent[1]
    return wall, cpu


def reading(archive: Archive) -> None:
    with archive.ledger.reading() as (rows, _, head, _):
        for start in range(0, head.size, 4096):
            for _ in rows.bodies(start, start + 4096):
                pass


def tree(archive: Archive) -> None:
    from compliance_assets.evidence import ledger_audit

    with archive.ledger.reading() as (rows, _, head, _):
        ledger_audit.verify_tree(archive.ledger, rows, head, ())


FORGET = """
import os, sys
descriptor = os.open(sys.argv[1], os.O_RDONLY)
os.fsync(descriptor)
os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
"""


def forgotten(archive: Archive) -> None:
    """The file is no longer in the system's memory: who reads it next reads the disk. In a process of its own, since closing a descriptor
    of the file would end this one's locks."""
    subprocess.run((sys.executable, "-c", FORGET, str(archive.home.ledger_place)), check=True)


def verifying(root: Path, whole: int) -> dict[str, float]:
    """Seconds for each part. Reading, hashing and the tree: the least of five, each time one after the other, from memory; then reading and
    the tree once more, each from the disk. Signatures are those of at most `whole` records."""
    from compliance_assets.evidence import ledger_audit
    from compliance_assets.evidence.verifying import authentic_in_parallel

    archive = reader(root)
    found = {"size": float(archive.ledger.size)}
    reading(archive)
    rounds = [(both(lambda: reading(archive)), hashing(archive), both(lambda: tree(archive))) for _ in range(5)]
    for place, name in enumerate(("read", "hash", "tree")):
        found[name], found[f"{name} cpu"] = min(each[place][0] for each in rounds), min(each[place][1] for each in rounds)
    for name, work in (("read from disk", reading), ("tree from disk", tree)):
        forgotten(archive)
        found[name] = seconds(lambda work=work: work(archive))
    with archive.ledger.reading() as (rows, _, head, _):
        found["checkpoints"] = seconds(lambda: ledger_audit.verify_notes(archive.ledger, rows.all_signed(), head.origin))
    began = time.perf_counter()
    checked = sum(len(record.envelope.signatures) for record in authentic_in_parallel(archive, 0, min(archive.ledger.size, whole))
                  if not isinstance(record, str))
    found["signatures"], found["signatures checked"] = time.perf_counter() - began, float(checked)
    return found


def asking(root: Path, count: int = 30) -> dict[str, float]:
    """Milliseconds of a `trace` and of a `trace` as of a moment, each by an archive that has read nothing yet."""
    chance = random.Random(7)
    size = reader(root).ledger.size
    releases = (size - 1) // len(world.STAGES)
    spent: dict[str, list[float]] = {"trace": [], "trace by the beginning of a digest": [], "as of": [], "every execution of a digest": []}
    for _ in range(count):
        release = chance.randrange(releases)
        archive = reader(root)
        archive.artefacts.put_bytes(world.manifest(release))
        digest = world.output(release, chance.randrange(len(world.STAGES)))
        whole = trace_in(spent["trace"], archive, digest)
        assert len(whole.upstream) + len(whole.downstream) >= len(world.STAGES)
        trace_in(spent["trace by the beginning of a digest"], reader(root), digest[:16])
        moment = world.BEGAN + timedelta(seconds=6 * release + 3)
        earlier = trace_in(spent["as of"], reader(root), world.output(release, 0), moment)
        assert len(earlier.upstream) + len(earlier.downstream) < len(world.STAGES)
        archive = reader(root)
        spent["every execution of a digest"].append(seconds(lambda a=archive, d=digest: a.executions_of(Digest.parse(d))))
    cpu = {"cpu median": 1000 * statistics.median(CPU), "cpu worst": 1000 * max(CPU)}
    CPU.clear()
    return cpu | {f"{name} {which}": 1000 * value for name, found in spent.items()
            for which, value in (("median", statistics.median(found)), ("worst", max(found)))}


def trace_in(spent: list[float], archive: Archive, text: str, moment: object = None) -> object:
    began, cpu = time.perf_counter(), time.process_time()
    found = trace(archive, text, moment)
    spent.append(time.perf_counter() - began)
    CPU.append(time.process_time() - cpu)
    return found


CPU: list[float] = []
"""CPU seconds of every trace since it was emptied: what other work on the machine does not change."""


def proofs(root: Path) -> dict[str, float]:
    ledger = reader(root).ledger
    head, chance = ledger.head(), random.Random(7)
    indices = [chance.randrange(head.size) for _ in range(50)]
    making = statistics.median(1000 * seconds(lambda i=index: ledger.inclusion_proof(i)) for index in indices)
    proof = max((ledger.inclusion_proof(index) for index in indices), key=len)
    entry = ledger.entry(indices[0])
    path = ledger.inclusion_proof(indices[0])
    checking = statistics.median(1000 * seconds(lambda: merkle.verify_inclusion(entry.index, head.size, entry.leaf, path, head.root))
                                 for _ in range(50))
    file = len("c2sp.org/tlog-proof@v1\nindex 1000000\n\n") + 45 * len(proof) + len(ledger.note.encode())
    return {"hashes": len(proof), "bytes": file, "make": making, "check": checking,
            "consistency": len(ledger.consistency_proof(head.size // 3, head.size))}


def _append(place: Path | str, root: Path, number: int, count: int) -> None:
    from compliance_assets.evidence.home import Home
    from compliance_assets.policy.organisation import load_organisation

    archive = Archive.open(Home.open(root / ".compliance"), load_organisation(root / "organisation.yaml"))
    batch = list(world.entries(archive, count, 6_000_000 + 6 * 10_000 * number + 1))
    ledger = Ledger.open(place, archive.organisation.log_key(), SigningKey.load(archive.home.key_path("log")))
    for new in batch:
        ledger.append([new])
    ledger.close()


def appending(root: Path, place: Path | str, writers: int, count: int) -> float:
    """Acknowledged records a second, appended one by one by this many processes at once, imports and signing of records included."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_append, args=(place, root, random.randrange(10_000), count)) for _ in range(writers)]
    return writers * count / seconds(lambda: ([each.start() for each in processes], [each.join() for each in processes]))


def singly(root: Path, place: Path | str, count: int) -> tuple[float, float, float]:
    """Milliseconds of one append, median and 99th percentile; and records a second in batches of 100."""
    from compliance_assets.evidence.home import Home
    from compliance_assets.policy.organisation import load_organisation

    archive = Archive.open(Home.open(root / ".compliance"), load_organisation(root / "organisation.yaml"))
    new = list(world.entries(archive, count + 1000, 6_000_000 + 6 * random.randrange(10_000, 90_000) * 100 + 1))
    with Ledger.open(place, archive.organisation.log_key(), SigningKey.load(archive.home.key_path("log"))) as ledger:
        spent = sorted(1000 * seconds(lambda each=each: ledger.append([each])) for each in new[:count])
        batched = seconds(lambda: [ledger.append(new[start:start + 100]) for start in range(count, count + 1000, 100)])
    archive.ledger.close()
    return statistics.median(spent), spent[int(0.99 * len(spent))], 1000 / batched


def appends(folder: Path, largest: Path) -> list[str]:
    lines = ["| store | records already there | one append, ms (median / 99 %) | batches of 100, records/s | 1 / 2 / 4 / 8 processes, records/s |",
             "|---|---|---|---|---|"]

    def measure(name: str, root: Path, place: Path | str, size: int, *, processes: bool) -> None:
        middle, slow, batched = singly(root, place, 300)
        rates = " / ".join(f"{appending(root, place, writers, 100):.0f}" for writers in (1, 2, 4, 8)) if processes else "not measured"
        lines.append(f"| {name} | {size:,} | {middle:.2f} / {slow:.2f} | {batched:,.0f} | {rates} |")

    small = world.founded(folder / "append-sqlite")
    small.ledger.close()
    measure("SQLite, synchronous=FULL", folder / "append-sqlite", small.home.ledger_place, 1, processes=True)
    copy = reader(largest)
    measure("SQLite, synchronous=FULL", largest, copy.home.ledger_place, copy.ledger.size, processes=False)
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from compliance_assets_tests.evidence.ledger_places import PROGRAMS, _program, cluster

    if all(_program(name) for name in PROGRAMS):
        with cluster() as server:
            archive = world.founded(folder / "append-postgres", server.fresh())
            place = archive.home.ledger_place
            archive.ledger.close()
            measure("Postgres, synchronous_commit=on, Unix socket", folder / "append-postgres", place, 1, processes=True)
    else:
        lines.append("| Postgres | not measured: not installed here | | | |")
    return lines


def machine() -> str:
    import sqlite3

    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    return f"{os.cpu_count()} cores, {model}; Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--into", type=Path, help="keep the ledgers there (7 GB for a million records)")
    parser.add_argument("--signatures", type=int, default=20_000, help="check the signatures of at most this many records")
    parser.add_argument("--questions", action="store_true", help="ask again only; the rest of the page stays")
    given = parser.parse_args()
    if given.questions:
        roots = [given.into / str(size) for size in given.sizes]
        text = "\n".join(questions([float(reader(root).ledger.size) for root in roots], [asking(root) for root in roots]))
        before, _, after = PAGE.read_text(encoding="utf-8").partition("\n## Questions")
        PAGE.write_text(before + text + "\n\n## Appending" + after.partition("\n## Appending")[2], encoding="utf-8")
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.into or Path(scratch)
        roots = [made(folder, size) for size in given.sizes]
        verified, asked, proved = [], [], []
        for root in roots:
            print(f"{root.name} …", file=sys.stderr, flush=True)
            verified.append(verifying(root, given.signatures))
            asked.append(asking(root))
            proved.append(proofs(root))
        appended = appends(Path(scratch), roots[-1])
    PAGE.write_text("\n".join(page(verified, asked, proved, appended)) + "\n", encoding="utf-8")
    print(json.dumps({"verified": verified, "asked": asked, "proved": proved}, indent=1))


def questions(sizes: list[float], asked: list[dict[str, float]]) -> list[str]:
    lines = ["", "## Questions, asked by a process that has read nothing yet", "",
             f"Milliseconds, median / worst of 30, at a load of {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores; CPU is that of the three kinds of trace",
             "together. Every record that answers is proved to be in the tree, its signatures are verified, and the look-up table is shown to",
             "have left none out.", "",
             "| records | trace | by the beginning of a digest | as of a moment | every execution of a digest | CPU of one trace |", "|---|---|---|---|---|---|"]
    for size, each in zip(sizes, asked, strict=True):
        cells = " | ".join(f"{each[f'{name} median']:.1f} / {each[f'{name} worst']:.1f}" for name in
                           ("trace", "trace by the beginning of a digest", "as of", "every execution of a digest", "cpu"))
        lines.append(f"| {size:,.0f} | {cells} |")
    return lines


def page(verified: list[dict[str, float]], asked: list[dict[str, float]], proved: list[dict[str, float]], appended: list[str]) -> list[str]:
    lines = ["# The ledger, measured", "",
             "Made by `python benchmarks/ledger.py`; do not edit. Records are signed statements of about 4 kB, as stages write them.", "",
             f"Machine: {machine()}. Other work ran beside it: seconds vary; ratios within one run are what counts.", "",
             "## Verifying all of it", "",
             "*Hashing* is one sha256 over each stored body. *Tree* is everything that the tree asks: reading the file, leaves, every node",
             "recomputed and compared, the root at every checkpoint. Wall / CPU seconds, the least of five, the file in the system's memory;",
             "then from the disk, where the tree is held against reading and hashing. *Signatures* are those of records (two each, and their",
             "statement read and held against the trust policy of its time), on all cores.", "",
             "| records | reading, s | hashing, s | tree, s | **tree / hashing** (wall, CPU) | from disk: reading, s | from disk: tree, s | "
             "tree / (reading + hashing) | checkpoints' signatures, s | records' signatures/s |", "|---|---|---|---|---|---|---|---|---|---|"]
    for each in verified:
        parts = " | ".join(f"{each[name]:.2f} / {each[f'{name} cpu']:.2f}" for name in ("read", "hash", "tree"))
        lines.append(f"| {each['size']:,.0f} | {parts} | **{each['tree'] / each['hash']:.2f}**, {each['tree cpu'] / each['hash cpu']:.2f} | "
                     f"{each['read from disk']:.2f} | {each['tree from disk']:.2f} | "
                     f"{each['tree from disk'] / (each['hash'] + each['read from disk']):.2f} | {each['checkpoints']:.2f} | "
                     f"{each['signatures checked'] / each['signatures']:,.0f} |")
    lines += ["", "## Proofs", "", "| records | hashes | proof file with its checkpoint, bytes | make, ms | check, ms | consistency proof, hashes |",
              "|---|---|---|---|---|---|"]
    for size, each in zip(verified, proved, strict=True):
        lines.append(f"| {size['size']:,.0f} | {each['hashes']} | {each['bytes']:,} | {each['make']:.2f} | {each['check']:.2f} | {each['consistency']} |")
    lines += questions([each["size"] for each in verified], asked)
    return [*lines, "", "## Appending", "", *appended]


if __name__ == "__main__":
    main()
