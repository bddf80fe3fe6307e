"""What an organisation declares about people's browsers: their passkeys, the pages' own address, and a proxy that signs people in.

A passkey is pinned here, never taken from a signature; an address is part of what a passkey signs, so it is fixed here too.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from pydantic import Field

from compliance_assets.errors import ComplianceError
from compliance_assets.policy.declared import BASE64, HEADER, MOMENT, PASSKEY, Declared, Problem, Text, Where

if TYPE_CHECKING:
    from compliance_assets.trust.passkeys import Passkey

Moment = Annotated[str, Field(pattern=MOMENT)]


class DeclaredPasskey(Declared):
    """The public half of a passkey that a person enrolled on the governance pages; those print these lines."""

    credential: Annotated[str, Field(pattern=BASE64)] = Field(description="the credential's id, in base64")
    key: Annotated[str, Field(pattern=PASSKEY)] = Field(description="its public key as ES256:<base64>, EdDSA:<base64> or RS256:<base64>")
    relying_party: Text = Field(description="the host for which it was made: localhost, or the pages' own name")
    origin: Text = Field(description="the only address of the pages on which it may sign: http://localhost:3100, or https://…")
    valid_from: Moment = Field(description="from when it counts, in UTC")
    valid_until: Moment | None = Field(None, description="until when it counts, in UTC; nothing while it is in use")

    @property
    def public(self) -> Passkey:
        from compliance_assets.trust.canonical import parse_rfc3339
        from compliance_assets.trust.passkeys import Passkey

        return Passkey(self.credential, self.key, self.relying_party, self.origin, parse_rfc3339(self.valid_from),
                       parse_rfc3339(self.valid_until) if self.valid_until is not None else None)


class TrustedProxy(Declared):
    """A proxy of the organisation's own that has signed people in, and says in a header who they are."""

    addresses: tuple[Text, ...] = Field(min_length=1, description="IP addresses of the proxy: the header is believed from nowhere else")
    header: Annotated[str, Field(pattern=HEADER)] = Field(description="the header that names the person: an id or a launcher name")


class DeclaredPages(Declared):
    """The governance pages' own address, where they are not only on this host."""

    origin: Text = Field(description="the address that browsers see: https://governance.example, or http://localhost:3100")
    proxy: TrustedProxy | None = Field(None, description="who signs people in before they come here; nothing: passkeys and tokens only")


def passkey_problems(people: Sequence[tuple[str, Sequence[DeclaredPasskey]]]) -> Iterator[Problem]:
    """Each passkey can sign, is in use for some time, and is one person's."""
    owners: dict[str, str] = {}
    for index, (person, passkeys) in enumerate(people):
        for place, declared in enumerate(passkeys):
            where: Where = ("people", index, "passkeys", place)
            try:
                declared.public.check()
            except ComplianceError as error:
                yield Problem(where, f"cannot sign: {error.message}", "Enrol it again on the governance pages, and copy the lines whole.")
                continue
            ends = declared.public.valid_until
            if ends is not None and ends <= declared.public.valid_from:
                yield Problem((*where, "valid_until"), "ends before it begins", "Write the later moment.", str(declared.valid_until))
            for value in (declared.credential, declared.key):
                if value in owners:
                    yield Problem(where, f"is the passkey of {owners[value]} already", "A passkey speaks for one person.")
                owners.setdefault(value, person)


def pages_problems(pages: DeclaredPages) -> Iterator[Problem]:
    """The address is one that browsers keep passkeys for, and the proxy's addresses are addresses."""
    try:
        place = urlsplit(pages.origin)
        plain = f"{place.scheme}://{place.hostname or ''}" + (f":{place.port}" if place.port else "")
    except ValueError:
        plain = ""
    secure = plain.startswith("https://") or plain == "http://localhost" or plain.startswith("http://localhost:")
    if plain != pages.origin or not secure:
        yield Problem(("pages", "origin"), "must be https://host or http://localhost:port, and nothing after it",
                      "Browsers keep passkeys for no other address.", pages.origin)
    for index, address in enumerate(pages.proxy.addresses if pages.proxy is not None else ()):
        try:
            ipaddress.ip_address(address)
        except ValueError:
            yield Problem(("pages", "proxy", "addresses", index), "must be an IP address", "Write the proxy's own address.", address)
