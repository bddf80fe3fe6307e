"""A day that is over becomes one parquet file of decisions and one of inputs, with a manifest; the journals go.

Kept as *operation logs* (AI Act Art. 19(1): at least six months; how long exactly is declared in `retention.operation_logs_months`), in
two classes: decisions hold no input and stay for the whole time; inputs are personal data and may be deleted on their own as soon as
their purpose ends. That they were, and how many there were, stays in the manifest. Every step can be repeated after a crash.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from compliance_assets.errors import ServingError
from compliance_assets.serving.log_files import KINDS, bodies, day_of, manifest_of
from compliance_assets.trust.canonical import sha256_file

CLASSES: Mapping[str, str] = {"decisions": "operation log", "inputs": "operation log, personal data"}
MARGIN = timedelta(hours=1)
"""After midnight UTC: an answer that was begun before it is written by then."""


def seal(log: Path, months: int, now: datetime) -> tuple[str, ...]:
    """Seal every day below `log` that is over; the days that were sealed now, each with its folder."""
    last = (now.astimezone(UTC) - MARGIN).strftime("%Y-%m-%d")
    days = sorted({(path.parent, day_of(path)) for kind in KINDS for path in log.rglob(f"{kind}-*.jsonl") if day_of(path) < last})
    return tuple(f"{folder.name}/{day}" for folder, day in days if _seal_day(folder, day, months))


def _seal_day(folder: Path, day: str, months: int) -> bool:
    """Whether the day was sealed now; where it already was, only what a crash left is cleared away."""
    journals = {kind: sorted(folder.glob(f"{kind}-{day}-*.jsonl")) for kind in KINDS}
    manifest = manifest_of(folder, day)
    fresh = not manifest.is_file()
    if fresh:
        files = {f"{kind}-{day}.parquet": _write(folder / f"{kind}-{day}.parquet", kind, paths) for kind, paths in journals.items()}
        body = {"day": day, "keep_until": keep_until(day, months), "files": files}
        _replace(manifest, json.dumps(body, indent=1, sort_keys=True).encode())
    for path in (path for paths in journals.values() for path in paths):
        path.unlink()
    return fresh


def _write(target: Path, kind: str, journals: list[Path]) -> dict[str, Any]:
    import polars as pl

    lines = [body for path in journals for body in bodies(path)]
    columns: dict[str, list[str]] = {"line": [json.dumps(body, separators=(",", ":"), sort_keys=True) for body in lines],
                                     "id": [body["id"] for body in lines]}
    if kind == "decisions":  # what people look for; the line holds everything
        for name in ("time", "model", "role", "decision", "score"):
            columns[name] = [str(body[name]) for body in lines]
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String)).write_parquet(unfinished, compression="zstd")
    if pl.read_parquet(unfinished)["line"].to_list() != columns["line"]:
        raise ServingError(f"{target.name} does not read as it was written; the journals stay.", rule="sealed logs are whole",
                           value=str(target), remedy="Check the disk, and seal again.")
    _replace(target, unfinished.read_bytes())
    unfinished.unlink()
    return {"class": CLASSES[kind], "rows": len(lines), "sha256": sha256_file(target)}


def expire(log: Path, now: datetime, inputs_before: str = "") -> tuple[str, ...]:
    """Delete what need not be kept any longer, and inputs of days before `inputs_before` in any case; the names that are gone."""
    today = now.astimezone(UTC).strftime("%Y-%m-%d")
    gone: list[str] = []
    for manifest in sorted(log.rglob("sealed-*.json")):
        body = json.loads(manifest.read_bytes())
        over = body["keep_until"] < today
        for name in sorted(body["files"]):
            path = manifest.parent / name
            if path.is_file() and (over or (name.startswith("inputs-") and body["day"] < inputs_before)):
                body["files"][name]["deleted"] = today
                _replace(manifest, json.dumps(body, indent=1, sort_keys=True).encode())
                path.unlink()
                gone.append(f"{manifest.parent.name}/{name}")
    return tuple(gone)


def keep_until(day: str, months: int) -> str:
    """The same day of the month, `months` later (the last of a shorter month), as text."""
    year, month, number = (int(part) for part in day.split("-"))
    year, month = year + (month - 1 + months) // 12, (month - 1 + months) % 12 + 1
    last = (datetime(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)).day
    return f"{year:04d}-{month:02d}-{min(number, last):02d}"


def _replace(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
