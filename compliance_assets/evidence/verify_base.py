"""Reading what somebody else wrote: one form of JSON, of base64 and of a moment, and nothing else.

First part of the auditor's one file (`verify_file` puts it together): the standard library only.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from datetime import datetime
from typing import Any, NoReturn

Json = dict[str, Any]
HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)


class Refused(Exception):
    """Why something is not believed."""


# ---------------------------------------------------------------------------------------------- canonical JSON (RFC 8785, narrowed)


def no(why: str) -> NoReturn:
    raise Refused(why)


def canonical(value: object) -> bytes:
    """The one text of a value without floats: keys are ASCII, so sorting them by code point is RFC 8785's order."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def read_canonical(content: bytes) -> Any:
    """The value of which `content` is the canonical JSON; duplicate keys, floats, large integers and other spellings refuse."""
    def unique(pairs: list[tuple[str, Any]]) -> Json:
        found = dict(pairs)
        return found if len(found) == len(pairs) and all(key.isascii() for key in found) else no("a key occurs twice or is not ASCII")

    def whole(digits: str) -> int:
        return int(digits) if len(digits) <= 17 and abs(int(digits)) < 2**53 else no("an integer is beyond 2**53-1")

    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=unique, parse_int=whole,
                           parse_float=lambda text: no(f"a number is not an integer: {text}"), parse_constant=lambda text: no(text))
        again = canonical(value)
    except (ValueError, RecursionError):
        no("it is not JSON")
    return value if again == content else no("its bytes are not the canonical ones")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def unbase64(text: str) -> bytes:
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        no("it is not base64")
    return content if base64.b64encode(content).decode() == text else no("it is not the usual base64 of its bytes")


def moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")) if MOMENT.fullmatch(text) else no(f"{text!r:.40} is not a moment in UTC")
    except ValueError:
        no(f"{text!r:.40} is not a moment in UTC")
