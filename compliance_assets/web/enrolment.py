"""How a passkey gets into organisation.yaml: a browser makes it, signs once with it, and the page prints the line to add.

Nothing is stored here, and nobody is given anything: the line counts once the people who approve organisation.yaml have approved it.
What is proved is that whoever made the line holds the passkey, and that it verifies its user; who that is, those people must know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from compliance_assets.errors import Misused
from compliance_assets.policy.browsers import DeclaredPasskey
from compliance_assets.policy.declared import BASE64, PASSKEY, PERSON
from compliance_assets.policy.rendering import passkey_line
from compliance_assets.trust.passkeys import verify_assertion
from compliance_assets.web.people import People, assertion_of


def made(form: Mapping[str, str], people: People, valid_from: str = "") -> tuple[str, DeclaredPasskey]:
    """The person and the passkey that a form names. Refuses one that organisation.yaml would refuse."""
    person, credential, key = (form.get(name, "").strip() for name in ("person", "credential", "key"))
    if re.fullmatch(PERSON, person) is None:
        raise Misused("Give the pseudonym under which organisation.yaml knows you.", rule="people", value=person[:70],
                      remedy="2 to 63 lower-case letters, digits, _ and -, a letter first.")
    if max(len(credential), len(key)) > 1500 or not re.fullmatch(BASE64, credential) or not re.fullmatch(PASSKEY, key):
        raise Misused("No passkey was made.", rule="passkey", value=key[:40], remedy="Use a browser that runs this page's script.")
    declared = DeclaredPasskey(credential=credential, key=key, relying_party=people.party, origin=people.origin,
                               valid_from=valid_from or f"{people.now():%Y-%m-%dT%H:%M:%SZ}", valid_until=None)
    declared.public.check()
    return person, declared


def sentence(person: str, declared: DeclaredPasskey) -> str:
    """What the new passkey signs, to show that it works: its own line, for this person."""
    return f"Enrol a passkey for {person}: {passkey_line(declared)}"


def proved(form: Mapping[str, str], people: People) -> tuple[str, DeclaredPasskey]:
    """The person and the passkey, once it has signed its own line. Refuses it otherwise."""
    person, declared = made({**form, "credential": form.get("new_credential", "")}, people, form.get("valid_from", ""))
    public = declared.public
    verify_assertion(sentence(person, declared).encode(), assertion_of(dict(form)), [public], max(people.now(), public.valid_from))
    return person, declared
