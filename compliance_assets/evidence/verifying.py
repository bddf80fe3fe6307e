"""Checking the signatures of many records on all cores: each process opens the ledger for itself and reads its own share."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from compliance_assets.errors import ComplianceError
from compliance_assets.evidence.archive import Archive, Record
from compliance_assets.evidence.home import Home
from compliance_assets.policy.organisation import Organisation

ALONE = 2_000
"""Fewer records than this are checked here: starting processes would take longer."""
_SHARE = 500


def authentic_in_parallel(archive: Archive, start: int = 0, end: int | None = None) -> Iterator[Record | str]:
    """Every record from `start` up to `end`, in ledger order: authentic, or the words of its refusal."""
    last = archive.ledger.size if end is None else end
    if last - start < ALONE:
        yield from _checked(archive, start, last)
        return
    shares = [(archive.home, archive.organisation, first, min(first + _SHARE, last)) for first in range(start, last, _SHARE)]
    # spawn: a forked child would inherit threads and connections that it must not use.
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as processes:
        for found in processes.map(_share, shares):
            yield from found


def _share(asked: tuple[Home, Organisation, int, int]) -> list[Record | str]:
    home, organisation, start, end = asked
    archive = _OPENED.get(home.path) or Archive.open(home, organisation, writer=False)
    _OPENED[home.path] = archive
    return list(_checked(archive, start, end))


_OPENED: dict[object, Archive] = {}


def _checked(archive: Archive, start: int, end: int) -> Iterator[Record | str]:
    for entry in archive.ledger.entries(start, end):
        try:
            yield archive.authentic(entry)
        except ComplianceError as error:
            yield f"entry {entry.index}: {error}"
