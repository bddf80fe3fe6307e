"""Realistic requests for demonstrations and tests: rows that were really declared, at a rate, for a bounded time.

Loopback only: this is for trying a rollout out on one machine, not for asking anybody else's server.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from compliance_assets.errors import Misused
from compliance_assets.serving.client import Client, Unanswered

MOST_REQUESTS = 100_000
LONGEST_SECONDS = 3600.0


@dataclass
class Tally:
    """What came back: HTTP status (0 = nobody answered) and which model answered."""

    statuses: Counter[int] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def count(self, status: int, model: str) -> None:
        with self._lock:
            self.statuses[status] += 1
            if model:
                self.models[model] += 1

    @property
    def sent(self) -> int:
        return sum(self.statuses.values())

    @property
    def answered(self) -> int:
        return self.statuses[200]


def send(address: str, rows: Sequence[Mapping[str, Any]], *, groups: Sequence[Mapping[str, str]] | None = None, count: int,
         seconds: float, per_second: float = 50.0, threads: int = 2, stop: threading.Event | None = None,
         tally: Tally | None = None, name: str = "traffic") -> Tally:
    """Send `count` requests of one row each, cycling through `rows`, at most `per_second`, for at most `seconds`.

    `groups`: the protected groups of each row, for monitoring. Each request has a subject of its own (the row's place), so
    that the router keeps a row on one side. Ends early when `stop` is set. Returns (and updates) the tally.
    """
    if not address.startswith("http://127.0.0.1:"):
        raise Misused(f"Traffic goes to 127.0.0.1 only, not to {address}.", rule="loopback", value=address,
                      remedy="Give the router's address on this machine.")
    if not rows or not 0 < count <= MOST_REQUESTS or not 0 < seconds <= LONGEST_SECONDS or per_second <= 0 or threads < 1:
        raise Misused("Traffic needs rows, a count, a rate and a time, each within bounds.", rule="bounded traffic",
                      value=f"{len(rows)} rows, {count} requests, {seconds} s", remedy="Ask for less.")
    if groups is not None and len(groups) != len(rows):
        raise Misused("Not every row has its groups.", rule="bounded traffic", value=f"{len(groups)} for {len(rows)}",
                      remedy="Give one mapping for each row.")
    counted = tally or Tally()
    ended = stop or threading.Event()
    client = Client(address, seconds=20)
    begun = time.monotonic()
    places = iter(range(count))
    lock = threading.Lock()

    def work() -> None:
        while not ended.is_set():
            with lock:
                place = next(places, None)
            if place is None or time.monotonic() - begun > seconds:
                break
            ended.wait(max(0.0, begun + place / per_second - time.monotonic()))
            body: dict[str, Any] = {"rows": [dict(rows[place % len(rows)])]}
            if groups is not None:
                body["monitoring"] = [dict(groups[place % len(rows)])]
            try:
                headers = {"x-subject": f"{name}-{place}", "x-request-id": f"{name}-{begun}-{place}"}
                answer = client.post_json("/predict", body, headers)
                counted.count(answer.status, json.loads(answer.body)["version"]["model"] if answer.status == 200 else "")
            except Unanswered:
                counted.count(0, "")
        client.close()

    workers = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return counted
