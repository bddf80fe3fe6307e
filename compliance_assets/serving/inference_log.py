"""Every decision that a server gives is written down before it is given (AI Act Art. 12(1), Art. 19).

One JSON line per decision, in one file per day and server process, so that a crash can tear only the last line of a file.
What a person sent stands in a second file beside it, joined by the inference id: it can be deleted on its own when its
purpose ends, and the record that a decision was made stays. Numbers are text (`repr`), so that the log says the same bits
as the answer.
"""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from json.encoder import encode_basestring_ascii as _word
from pathlib import Path
from typing import Any

from compliance_assets.errors import ServingError, UntrustedEvidence
from compliance_assets.serving.log_files import bodies, files, holds
from compliance_assets.serving.row_texts import as_sent
from compliance_assets.trust.canonical import parse_rfc3339, rfc3339

_encoded = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, check_circular=False).encode
ANSWERING = "answering"
SHADOW = "shadow"


@dataclass(frozen=True)
class Decision:
    """One decision about one row, as the log keeps it."""

    id: str
    time: str
    request_id: str
    row: int
    model: str
    release: str
    environment: str
    server: str
    role: str
    input: str
    """Digest of the row as it was sent."""
    features: str
    """Digest of the features that the model saw."""
    score: str
    decision: str
    microseconds: int
    """From the first byte read to the moment before logging, for the whole request."""
    monitoring: Mapping[str, str] = field(default_factory=dict)

    def line(self) -> bytes:
        """Its line in the log: JSON with sorted keys, ASCII. Written out by hand: a thousand may go into one answer."""
        monitoring = _encoded(dict(self.monitoring)) if self.monitoring else "{}"
        return (f'{{"decision":{_word(self.decision)},"environment":{_word(self.environment)},"features":{_word(self.features)},'
                f'"id":{_word(self.id)},"input":{_word(self.input)},"microseconds":{self.microseconds},"model":{_word(self.model)},'
                f'"monitoring":{monitoring},"release":{_word(self.release)},"request_id":{_word(self.request_id)},'
                f'"role":{_word(self.role)},"row":{self.row},"score":{_word(self.score)},"server":{_word(self.server)},'
                f'"time":{_word(self.time)}}}\n').encode()


@dataclass(frozen=True)
class Answered:
    """The decisions of one answer, column by column: what they share is written once, which counts where there are a thousand."""

    time: str
    request_id: str
    model: str
    release: str
    environment: str
    server: str
    role: str
    microseconds: int
    ids: Sequence[str]
    inputs: Sequence[str]
    features: Sequence[str]
    scores: Sequence[str]
    decisions: Sequence[str]
    monitoring: Sequence[Mapping[str, str]]
    sent: Sequence[str]
    """Each row as JSON text."""

    def __post_init__(self) -> None:
        columns = (self.ids, self.inputs, self.features, self.scores, self.decisions, self.monitoring, self.sent)
        if len({len(column) for column in columns}) != 1:
            raise ValueError("the columns of an answer differ in length")

    def lines(self) -> bytes:
        """`Decision.line` of each, in the order of the rows."""
        to_features = f',"environment":{_word(self.environment)},"features":'
        to_monitoring = f',"microseconds":{self.microseconds},"model":{_word(self.model)},"monitoring":'
        to_row = f',"release":{_word(self.release)},"request_id":{_word(self.request_id)},"role":{_word(self.role)},"row":'
        to_end = f',"server":{_word(self.server)},"time":{_word(self.time)}}}\n'
        groups: dict[tuple[tuple[str, str], ...], str] = {(): "{}"}  # a few, for a thousand rows
        named = [tuple(group.items()) for group in self.monitoring]
        for group in {*named} - {*groups}:
            groups[group] = _encoded(dict(group))
        columns = zip(self.decisions, self.features, self.ids, self.inputs, map(groups.__getitem__, named), self.scores, strict=True)
        return "".join([
            f'{{"decision":{_word(decision)}{to_features}{_word(features)},"id":{_word(id)},"input":{_word(input)}{to_monitoring}'
            f'{group}{to_row}{row},"score":{_word(score)}{to_end}'
            for row, (decision, features, id, input, group, score) in enumerate(columns)]).encode()

    def input_lines(self) -> bytes:
        """What each decision was about, with its id."""
        return "".join([f'{{"id":{_word(id)},"row":{row}}}\n' for id, row in zip(self.ids, self.sent, strict=True)]).encode()


class InferenceLog:
    """The writer: appends whole batches, and returns only when they are on the disk.

    Threads that arrive while the disk is busy share the next flush. A log that cannot be written is a `ServingError`: the
    server then does not answer, because an answer that nobody can find again must not be given.
    """

    def __init__(self, folder: Path, server: str) -> None:
        self.folder = folder
        self._suffix = f"{server}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._writing = threading.Lock()
        self._second = ThreadPoolExecutor(1, thread_name_prefix="flush")
        self._day = ""
        self._inputs, self._decisions = _Lines("inputs"), _Lines("decisions")
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise _cannot_write(folder, error) from error

    def append(self, batch: Iterable[tuple[Decision, Mapping[str, Any]]]) -> None:
        """Write decisions and what they were about."""
        pairs = list(batch)
        self._append(b"".join([as_sent({"id": decision.id, "row": row}).encode() + b"\n" for decision, row in pairs]),
                     lambda: b"".join([decision.line() for decision, _ in pairs]))

    def append_answer(self, answered: Answered) -> None:
        """Write the decisions of one answer and what they were about."""
        self._append(answered.input_lines(), answered.lines)

    def _append(self, inputs: bytes, decisions: Callable[[], bytes]) -> None:
        try:
            # Inputs first, so that no decision ever lacks its input; while the disk takes them, the decisions are put into words.
            mine = self._write(self._inputs, inputs)
            inputs_kept = self._second.submit(self._inputs.flush, mine)
            try:
                self._decisions.flush(self._write(self._decisions, decisions()))
            finally:
                inputs_kept.result()
        except OSError as error:
            raise _cannot_write(self.folder, error) from error

    def _write(self, lines: _Lines, content: bytes) -> int:
        with self._writing:
            day = datetime.now(UTC).strftime("%Y-%m-%d")
            if day != self._day:
                self.close()
                for one in (self._inputs, self._decisions):
                    one.open(self.folder / f"{one.kind}-{day}-{self._suffix}.jsonl")
                self._day = day
            return lines.write(content)

    def close(self) -> None:
        """Flush and close what is open. Safe to call twice."""
        self._day = ""
        for one in (self._inputs, self._decisions):
            one.close()


class _Lines:
    """One kind of lines of one day: how many batches were written to its file, and how many of them are on the disk."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._file: int | None = None
        self._written = 0
        self._flushed = 0
        self._flushing = threading.Lock()

    def open(self, path: Path) -> None:
        self._file = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)

    def write(self, content: bytes) -> int:
        """Append a batch, one caller at a time; its number is what `flush` takes."""
        assert self._file is not None
        _write(self._file, content)
        self._written += 1
        return self._written

    def flush(self, mine: int) -> None:
        """Return when batch `mine` is on the disk."""
        with self._flushing:
            if self._flushed >= mine or self._file is None:  # another thread's flush covered ours, or a new day did
                return
            covered = self._written
            os.fdatasync(self._file)
            self._flushed = covered

    def close(self) -> None:
        with self._flushing:
            if self._file is not None:
                os.fdatasync(self._file)
                os.close(self._file)
                self._file = None


def _write(file: int, content: bytes) -> None:
    while content:
        content = content[os.write(file, content):]


def _cannot_write(folder: Path, error: OSError) -> ServingError:
    return ServingError(f"The inference log in {folder} cannot be written: {error.strerror}.", rule="every answer is logged",
                        value=str(folder), remedy="Free space or fix the permissions; no answer is given until then.")


def new_decision_ids(count: int) -> list[str]:
    """128 random bits for each decision, in hexadecimal."""
    letters = os.urandom(16 * count).hex()
    return [letters[start:start + 32] for start in range(0, len(letters), 32)]


def now_text() -> str:
    return rfc3339(datetime.now(UTC))


def read_log(folder: Path, *, since: str = "", model: str | None = None, role: str | None = None) -> Iterator[Decision]:
    """Decisions under `folder` (of all servers below it, or one file), file by file, each in the order it was written.

    `since` is an RFC 3339 moment as the log writes it; `model` a digest; `role` "answering" or "shadow". A last line
    without its end is what a crash leaves and is passed over; anything else that does not read is `UntrustedEvidence`.
    """
    for path in files(folder, "decisions", since):
        for body in bodies(path):
            decision = _decision(path, body)
            if decision.time >= since and model in (None, decision.model) and role in (None, decision.role):
                yield decision


def read_inputs(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Inference ids with the row that was sent, as far as it has not been deleted."""
    for path in files(folder, "inputs"):
        for body in bodies(path):
            yield body["id"], body["row"]


def decisions_of_request(folder: Path, inference: str) -> tuple[Decision, ...]:
    """The decision `inference` with all that were given in the same answer, in the order of their rows; () if no log holds it.

    A request that was mirrored to a second server is answered twice; only the one answer is meant.
    """
    if not inference:
        return ()
    for path in files(folder, "decisions"):
        if not holds(path, inference):
            continue
        decisions = [_decision(path, body) for body in bodies(path)]
        wanted = next((one for one in decisions if one.id == inference), None)
        if wanted is not None:
            same = [one for one in decisions if (one.request_id, one.time, one.role) == (wanted.request_id, wanted.time, wanted.role)]
            return tuple(sorted(same, key=lambda one: one.row))
    return ()


def input_of(folder: Path, decision: Decision) -> dict[str, Any] | None:
    """The row that a decision was about, or None if it is no longer kept."""
    decided = parse_rfc3339(decision.time).date()
    for day in (decided, decided + timedelta(days=1)):  # what is decided just before midnight may be written just after
        for path in files(folder, "inputs", day=day.isoformat()):
            for body in bodies(path) if holds(path, decision.id) else ():
                if body["id"] == decision.id:
                    row: dict[str, Any] = body["row"]
                    return row
    return None


def _decision(path: Path, body: dict[str, Any]) -> Decision:
    try:
        return Decision(**body)
    except TypeError as error:
        raise UntrustedEvidence(f"An entry of {path.name} has other fields than a decision: {error}.", rule="inference log",
                                value=str(path), remedy="Restore the file from its copy; do not edit logs.") from error
