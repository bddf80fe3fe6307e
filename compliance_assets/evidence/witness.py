"""A witness of ledgers: remembers the largest head it has seen of each, and cosigns only what grew from that.

It runs as a process of its own, with its own key and its own memory, under another account or on another machine than the ledger.
It answers `POST /add-checkpoint` (c2sp.org/tlog-witness): a head that is shorter, or that does not grow from the one it cosigned
before, is refused, so that nobody can show two histories. It sees heads and proofs, never an entry.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from compliance_assets.errors import ComplianceError, HomeUnusable, UntrustedEvidence
from compliance_assets.evidence.artefacts import fsync_folder
from compliance_assets.trust.cosignature import cosign
from compliance_assets.trust.keys import PublicKey, SigningKey, strict_base64
from compliance_assets.trust.merkle import Checkpoint, open_checkpoint, verify_consistency

LARGEST_REQUEST = 1 << 16
MOST_HASHES = 63


@dataclass(frozen=True)
class Answer:
    """An HTTP answer: status, kind of content, text."""

    status: int
    text: str
    kind: str = "text/plain; charset=utf-8"


@dataclass(frozen=True)
class Witness:
    """A witness that keeps its key and memory in `folder`. `logs`: the key of each log that it knows, by origin."""

    folder: Path
    name: str
    key: SigningKey
    logs: Mapping[str, PublicKey]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    @classmethod
    def at(cls, folder: Path, name: str, logs: Mapping[str, PublicKey]) -> Witness:
        """The witness in `folder`; a new one if the folder is new. One that has lost its memory is refused."""
        key_path, memory = folder / "witness.key", folder / "heads.json"
        try:
            if not folder.exists():
                folder.mkdir(parents=True, mode=0o700)
                SigningKey.generate().save(key_path)
                _write(memory, {})
        except OSError as error:
            raise HomeUnusable(f"The witness's folder {folder} cannot be made: {error.strerror}.", rule="witness", value=str(folder),
                               remedy="Choose a folder that you may write.") from error
        if not memory.is_file():
            raise HomeUnusable(f"The witness in {folder} has lost its memory: it could be made to cosign a second history.",
                               rule="witness memory", value=str(memory),
                               remedy="Restore heads.json, or retire this key and make a new witness.")
        return cls(folder, name, SigningKey.load(key_path), logs)

    def add_checkpoint(self, body: bytes) -> Answer:
        """Cosign the checkpoint of a request, or say why not.

        1. The request is an old size, at most 63 hashes, and a note. 2. The log is known (404), and its key signed the note (403).
        3. The old size is not beyond the new one (400), and is that of the head cosigned last (409, with that size). 4. A head of
        the same size has the same root (409). 5. The proof shows that the old head's entries are the first of the new one's
        (422). 6. The new head is remembered, on disk, before the cosignature leaves.
        """
        # (1)
        try:
            old, proof, note = _read(body)
        except (ValueError, ComplianceError):
            return Answer(400, "The request is not an old size, a proof and a checkpoint.\n")
        # (2)
        origin = note.partition("\n")[0]
        if origin not in self.logs:
            return Answer(404, "This log is not known here.\n")
        try:
            new = open_checkpoint(note, self.logs[origin], origin)
        except UntrustedEvidence as error:
            return Answer(403, f"{error.message}\n")
        with self._memory() as heads:
            last = heads[origin] if origin in heads else Checkpoint(origin, 0, b"")
            # (3)
            if old > new.size:
                return Answer(400, "The old size is beyond the new one.\n")
            if old != last.size:
                return Answer(409, f"{last.size}\n", "text/x.tlog.size")
            # (4)
            if new.size == last.size and new.size and new.root != last.root:
                return Answer(409, f"{last.size}\n", "text/x.tlog.size")
            # (5)
            try:
                if last.size and new.size > last.size:
                    verify_consistency(last.size, new.size, last.root, new.root, proof)
                elif proof:
                    raise UntrustedEvidence("There is nothing to prove.", rule="consistency proof", value="", remedy="Send no hashes.")
            except UntrustedEvidence as error:
                return Answer(422, f"{error.message}\n")
            # (6)
            heads[origin] = new
        return Answer(200, cosign(note, self.name, self.key, self.now()))

    @contextmanager
    def _memory(self) -> Iterator[dict[str, Checkpoint]]:
        """The heads cosigned last, by origin, for this request alone; what it changes is on disk when it ends."""
        path = self.folder / "heads.json"
        with open(self.folder / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            stored = json.loads(path.read_text(encoding="utf-8"))
            heads = {origin: Checkpoint(origin, head["size"], bytes.fromhex(head["root"])) for origin, head in stored.items()}
            before = dict(heads)
            yield heads
            if heads != before:
                _write(path, {origin: {"size": head.size, "root": head.root.hex()} for origin, head in heads.items()})


def _write(path: Path, content: object) -> None:
    draft = path.with_suffix(f".{os.getpid()}")
    with open(draft, "w", encoding="utf-8") as stream:
        json.dump(content, stream, indent=1, sort_keys=True)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(draft, path)
    fsync_folder(path.parent)


def _read(body: bytes) -> tuple[int, list[bytes], str]:
    head, separator, note = body.decode("utf-8").partition("\n\n")
    lines = head.split("\n")
    word, _, size = lines[0].partition(" ")
    if not separator or word != "old" or not size.isascii() or not size.isdigit() or str(int(size)) != size or len(size) > 18 \
            or len(lines) > MOST_HASHES + 1:
        raise ValueError("malformed")
    return int(size), [strict_base64(line, "A hash of the proof") for line in lines[1:]], note


def server(witness: Witness, host: str, port: int) -> ThreadingHTTPServer:
    """The witness's HTTP server, bound and not yet running; `port` 0 takes a free one."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length") or ""
            if self.path != "/add-checkpoint":
                self._say(Answer(404, "Here is only /add-checkpoint.\n"))
            elif not length.isdigit() or int(length) > LARGEST_REQUEST:
                self._say(Answer(400, "A request is at most 64 kB.\n"))
            else:
                self._say(witness.add_checkpoint(self.rfile.read(int(length))))

        def _say(self, answer: Answer) -> None:
            content = answer.text.encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            """Silent: what was cosigned is in the memory, what was refused is in the answer."""

    return ThreadingHTTPServer((host, port), Handler)


def request(old: int, proof: tuple[bytes, ...], note: str) -> bytes:
    """The body of an `add-checkpoint` request."""
    return "".join((f"old {old}\n", *(base64.b64encode(each).decode() + "\n" for each in proof), "\n", note)).encode()
