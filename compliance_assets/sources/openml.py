"""A dataset of OpenML by its number: found through OpenML's JSON API, used only if its bytes are the declared ones.

Steps: (1) ask `<server>/api/v1/json/data/<id>` for the description; (2) download the file it names, ARFF first, parquet
where that is not the declared one; (3) hold the sha256 of what came against the declaration; (4) only then parse. OpenML
publishes an md5 per dataset; it helps to see a broken download, but it is not what is relied upon.
A download that had the declared digest is kept in the scratch folder under that digest and checked again when used.
"""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from compliance_assets.errors import SourceError
from compliance_assets.policy.system import OpenmlSource
from compliance_assets.sources.arff import parse_arff
from compliance_assets.sources.parquet import parse_parquet
from compliance_assets.sources.snapshot import Snapshot, require_rows
from compliance_assets.trust.canonical import Digest, sha256_bytes

_SECONDS = 60.0
_PARQUET = b"PAR1"


def fetch_openml(source: OpenmlSource, *, scratch: Path) -> Snapshot:
    """The dataset's rows. SourceError: no answer, no such dataset, other bytes than declared, not parseable, no rows."""
    kept = scratch / f"openml-{source.sha256}"
    if kept.is_file() and sha256_bytes(kept.read_bytes()) == source.sha256:
        content, label = kept.read_bytes(), f"openml dataset {source.id}"
    else:
        content, label = _declared_bytes(source)
        scratch.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(content)
    name = f"OpenML {source.id}"
    frame = parse_parquet(content, name) if content.startswith(_PARQUET) else parse_arff(content, name)
    require_rows(frame, name)
    return Snapshot(frame, Digest(source.sha256), f"{label}: {frame.height} rows, {frame.width} columns")


def _declared_bytes(source: OpenmlSource) -> tuple[bytes, str]:
    body = _get(f"{source.server.rstrip('/')}/api/v1/json/data/{source.id}")
    description = _description(body, source)
    found: list[str] = []
    for field in ("url", "parquet_url"):
        if not description.get(field):
            continue
        content = _get(str(description[field]))
        if sha256_bytes(content) == source.sha256:
            return content, f"openml dataset {source.id} ({description['name']}, version {description['version']})"
        found.append(f"{field} {sha256_bytes(content)}{_md5_note(field, content, description)}")
    raise SourceError(
        f"OpenML {source.id} is not the declared data: expected {source.sha256}, found {'; '.join(found) or 'no file'}.",
        rule="declared digest", value="; ".join(found),
        remedy="Download the file once, review it, and declare its sha256; OpenML itself publishes only an md5.",
    )


def _md5_note(field: str, content: bytes, description: dict[str, Any]) -> str:
    """Whether the download is at least what OpenML says it is (the md5 belongs to the file under `url`)."""
    if field != "url" or not description.get("md5_checksum"):
        return ""
    agrees = hashlib.md5(content, usedforsecurity=False).hexdigest() == description["md5_checksum"]
    return " (the md5 that OpenML publishes agrees)" if agrees else " (OpenML publishes another md5: damaged download)"


def _description(body: bytes, source: OpenmlSource) -> dict[str, Any]:
    try:
        description = json.loads(body)["data_set_description"]
        if int(description["id"]) != source.id:
            raise ValueError(f"answered for dataset {description['id']}")
        return {**description, "name": str(description["name"]), "version": str(description["version"])}
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"OpenML's answer for dataset {source.id} cannot be read: {error}.", rule="source answers",
                          value=str(source.id), remedy="Check the server and the id.") from error


def _get(url: str) -> bytes:
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise SourceError(f"{url} is not a web address.", rule="source answers", value=url,
                          remedy="Declare a server that answers over http or https.")
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:  # noqa: S310  # the scheme is checked just above
            return bytes(answer.read())
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = f"HTTP {error.code}" if isinstance(error, urllib.error.HTTPError) else str(error)
        raise SourceError(f"{url} did not answer: {reason}.", rule="source answers", value=url,
                          remedy="Check the network and the declared server, or use the files with kind: csv.") from error
