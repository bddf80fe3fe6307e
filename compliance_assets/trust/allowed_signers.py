"""Who may sign, with which key, for what, from when until when: OpenSSH's `allowed_signers` file, read strictly.

Source: ssh-keygen(1), ALLOWED SIGNERS. Stricter than OpenSSH in two places: a line that cannot be read refuses the
whole file (a reviewer believed it to say something), and times must end in `Z` (without it, the same file means another
moment on a machine in another time zone).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from compliance_assets.errors import UntrustedEvidence
from compliance_assets.trust.sshwire import SshKey, read_key

_PRINCIPALS = re.compile(r'(?:"([^"]+)"|([^\s"]+))[ \t]+')
_OPTION = re.compile(r'([A-Za-z-]+)(?:="([^"\\]*)")?(,|[ \t]+)', re.ASCII)
_TIME = re.compile(r"(\d{8})(?:(\d{4})(\d{2})?)?Z", re.ASCII)


@dataclass(frozen=True)
class AllowedSigner:
    """One line: these principals may sign with this key (or with keys that this authority certifies)."""

    principals: str
    key: SshKey
    is_authority: bool
    namespaces: str | None
    valid_after: datetime | None
    valid_before: datetime | None

    def speaks_for(self, principal: str, namespace: str, at: datetime) -> bool:
        """Whether the line covers this person, this purpose and this moment."""
        return (matches(principal, self.principals)
                and (self.namespaces is None or matches(namespace, self.namespaces))
                and (self.valid_after is None or at >= self.valid_after)
                and (self.valid_before is None or at <= self.valid_before))


def matches(name: str, patterns: str) -> bool:
    """OpenSSH's pattern-list: commas, `*`, `?`; any matching `!pattern` says no."""
    found = False
    for pattern in patterns.split(","):
        wanted = pattern.removeprefix("!")
        regex = "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in wanted)
        if re.fullmatch(regex, name, re.DOTALL):
            if pattern != wanted:
                return False
            found = True
    return found


def read_allowed_signers(text: str) -> tuple[AllowedSigner, ...]:
    """Every line of the file. Refuses, naming the line, what cannot be read."""
    return tuple(_lines(text))


def _lines(text: str) -> Iterator[AllowedSigner]:
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.strip(" \t\r")
        if not line or line.startswith("#"):
            continue
        try:
            yield _line(line)
        except (UntrustedEvidence, ValueError) as error:
            raise UntrustedEvidence(
                f"Line {number} of allowed_signers cannot be read: {getattr(error, 'value', error)}.",
                rule="allowed_signers", value=f"line {number}", remedy="Correct the line and have it reviewed.",
            ) from error


def _line(line: str) -> AllowedSigner:
    start = _PRINCIPALS.match(line)
    if start is None:
        raise ValueError("it does not begin with principals")
    principals, rest = start[1] or start[2], line[start.end():]
    options: dict[str, str | None] = {}
    if not _is_key(rest):
        while True:
            option = _OPTION.match(rest)
            if option is None:
                raise ValueError("its options or its key are malformed")
            name = option[1].lower()
            if name in options or name not in ("cert-authority", "namespaces", "valid-after", "valid-before"):
                raise ValueError(f"the option {name} is unknown or repeated")
            if (option[2] is None) != (name == "cert-authority"):
                raise ValueError(f"the option {name} has no value, or one too many")
            options[name] = option[2]
            rest = rest[option.end():]
            if option[3] != ",":
                break
    kind, _, tail = rest.partition(" ")
    encoded = tail.split(None, 1)[0] if tail.strip() else ""
    try:
        key = read_key(base64.b64decode(encoded, validate=True))
    except binascii.Error as error:
        raise ValueError("its key is not base64") from error
    if key.kind != kind:
        raise ValueError("its key is of another kind than it says")
    after, before = (_time(options[n]) if n in options else None for n in ("valid-after", "valid-before"))
    if after is not None and before is not None and before <= after:
        raise ValueError("it is never valid")
    return AllowedSigner(principals, key, "cert-authority" in options, options.get("namespaces"), after, before)


def _is_key(rest: str) -> bool:
    """Whether options are absent: the next word is a kind of key."""
    return rest.partition(" ")[0].startswith(("ssh-", "ecdsa-", "sk-"))


def _time(text: str | None) -> datetime:
    found = _TIME.fullmatch(text or "")
    if found is None:
        raise ValueError(f"{text!r} is not a time like 20261231235959Z")
    return datetime.strptime(found[1] + (found[2] or "0000") + (found[3] or "00"), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
