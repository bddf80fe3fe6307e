"""What people and time add to a decision afterwards: that a person overrode it, and how it turned out.

One JSON line each in a file per day beside the decisions, flushed to the disk before anything is said to have been recorded; the
decision itself is never changed. Neither needs a model nor a running server (AI Act Art. 14(4)(d): to disregard, override or reverse).
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from compliance_assets.errors import Misused, ServingError, UntrustedEvidence
from compliance_assets.serving.inference_log import Decision, decisions_of_request, now_text

DECISIONS = ("favourable", "unfavourable")
FEWEST_WORDS = 20
"""Characters of a reason; below that it says nothing."""


@dataclass(frozen=True)
class Annotation:
    """One line: `override` (a person decided otherwise) or `outcome` (what really happened)."""

    id: str
    kind: Literal["override", "outcome"]
    inference: str
    time: str
    said: str
    """favourable or unfavourable."""
    by: str
    reason: str
    model_said: str


def override(log: Path, inference: str, decision: str, by: str, reason: str) -> Annotation:
    """Record that `by` decided otherwise than the model, and why. Misused: no reason, no such decision, or the model's own."""
    if len(reason.strip()) < FEWEST_WORDS or not by.strip():
        raise Misused("An override needs a person and a reason in their own words.", rule="overrides have reasons", value=reason,
                      remedy=f"Say who decided and why, in {FEWEST_WORDS} characters or more.")
    decided = _decided(log, inference)
    if decision == decided.decision:
        raise Misused(f"The model said {decision} itself: there is nothing to override.", rule="overrides differ", value=decision,
                      remedy="Record an outcome instead, if that is what you mean.")
    return _append(log, decided, "override", decision, by, reason)


def outcome(log: Path, inference: str, happened: str, by: str) -> Annotation:
    """Record what really happened to the subject of a decision, months later perhaps."""
    return _append(log, _decided(log, inference), "outcome", happened, by, "")


def log_of(serving: Path, inference: str) -> Path:
    """The log of the environment that answered `inference`; ServingError if no log of the home holds it."""
    for log in sorted(serving.glob("*/log")):
        if decisions_of_request(log, inference):
            return log
    raise _unknown(inference)


def _decided(log: Path, inference: str) -> Decision:
    for one in decisions_of_request(log, inference):
        if one.id == inference:
            return one
    raise _unknown(inference)


def _unknown(inference: str) -> ServingError:
    return ServingError(f"No inference log holds {inference!r:.80}.", rule="annotations belong to decisions", value=f"{inference!r:.80}",
                        remedy="Give the inference_id as the answer gave it.")


def _append(log: Path, decided: Decision, kind: Literal["override", "outcome"], said: str, by: str, reason: str) -> Annotation:
    if said not in DECISIONS:
        raise Misused(f"{said!r} is neither favourable nor unfavourable.", rule="known decisions", value=said,
                      remedy="Say favourable or unfavourable, from the side of the person concerned.")
    note = Annotation(uuid.uuid4().hex, kind, decided.id, now_text(), said, by, reason, decided.decision)
    write([note], log)
    return note


def write(notes: list[Annotation], log: Path) -> None:
    """Append whole lines to the file of the day; on the disk when it returns."""
    log.mkdir(parents=True, exist_ok=True, mode=0o700)
    lines = b"".join(json.dumps(asdict(note), sort_keys=True, separators=(",", ":")).encode() + b"\n" for note in notes)
    descriptor = os.open(log / f"annotations-{now_text()[:10]}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, lines)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_annotations(log: Path, kind: str | None = None) -> Iterator[Annotation]:
    """Everything that was added, oldest file first. A torn last line is passed over; any other that does not read refuses."""
    for path in sorted(log.glob("annotations-*.jsonl")):
        content = path.read_bytes()
        for line in content[:content.rfind(b"\n") + 1].splitlines():
            try:
                body: dict[str, Any] = json.loads(line)
                note = Annotation(**body)
            except (ValueError, TypeError) as error:
                raise UntrustedEvidence(f"A line of {path.name} is not one that was recorded.", rule="inference log", value=str(path),
                                        remedy="Restore the file from its copy; do not edit logs.") from error
            if kind in (None, note.kind):
                yield note
