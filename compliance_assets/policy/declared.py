"""What everything that people declare has in common: frozen, unknown keys refused, and a problem says where it is.

A `Problem` is one thing that is wrong, at one key. Models raise several at once with `refuse`; `policy.reading` gives each
its file and line.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, NoReturn

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

NAME = r"^[a-z][a-z0-9_]{1,62}$"
SHA256 = r"^[0-9a-f]{64}$"
CODE = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"
ESTIMATOR = r"^[A-Za-z_][\w.]*[.:][A-Za-z_]\w*$"
PERIOD = r"^\d+[hd]$"
CRON = r"^(\S+\s+){4}\S+$"
PERSON = r"^[a-z][a-z0-9_-]{1,62}$"
MACHINE_KEY = r"^ed25519:[A-Za-z0-9+/]{43}=$"
HEADER = r"^[A-Za-z][A-Za-z0-9]*(-[A-Za-z0-9]+)+$"
BASE64 = r"^[A-Za-z0-9+/]{4,}={0,2}$"
PASSKEY = r"^(ES256|EdDSA|RS256):[A-Za-z0-9+/]{40,}={0,2}$"
MOMENT = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$"

IN_WORDS = {
    NAME: ("must be a name: 2 to 63 lower-case letters, digits and _, a letter first", "Rename it."),
    SHA256: ("must be a sha256: 64 lower-case hexadecimal digits", "Take it from `sha256sum FILE`, and put it in quotes."),
    CODE: ("must be module:function", "Write it like systems.my_system.features:build."),
    ESTIMATOR: ("must be a class or module:function",
                "Write it like sklearn.linear_model.LogisticRegression or systems.my_system.model:make."),
    PERIOD: ("must be a number of hours or days", "Write it like 48h or 7d."),
    CRON: ("must be five cron fields", 'Write it like "0 6 * * 1" (Mondays at six).'),
    PERSON: ("must be a pseudonymous id: 2 to 63 lower-case letters, digits, _ and -, a letter first",
             "Keep names and addresses out of it: it is kept in the ledger for good."),
    MACHINE_KEY: ("must be a public key as ed25519:<base64 of its 32 bytes>", "Copy the line that `compliance init` printed."),
    HEADER: ("must be the name of a header of its own", "Write it like X-Forwarded-User or Remote-User."),
    BASE64: ("must be base64", "Copy the lines that the governance pages printed."),
    PASSKEY: ("must be a public key as ES256:<base64>, EdDSA:<base64> or RS256:<base64>", "Copy the line that the pages printed."),
    MOMENT: ("must be a moment in UTC", "Write it like 2026-11-25T07:05:00Z."),
}
"""What each pattern demands, for people, and how to meet it."""

Name = Annotated[str, Field(pattern=NAME)]
Sha256 = Annotated[str, Field(pattern=SHA256)]
Code = Annotated[str, Field(pattern=CODE, description="module:function, imported from the folder above systems/")]
Reason = Annotated[str, Field(min_length=10, description="why, for the reader of the record")]
Share = Annotated[float, Field(ge=0, le=1)]
Text = Annotated[str, Field(min_length=1)]

Where = tuple[str | int, ...]


class Declared(BaseModel):
    """Base of everything people declare: frozen, unknown keys refused. `policy.reading` reads it strictly, without coercion."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: `where` (keys and positions from the top), the rule in words, what stood there, the way out."""

    where: Where
    rule: str
    remedy: str = ""
    got: str = ""

    @property
    def key(self) -> str:
        """`evaluation.performance[0].metric`."""
        text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.where)
        return text.removeprefix(".")

    def __str__(self) -> str:
        said = self.rule + (f" (got {self.got})" if self.got else "")
        said += "" if said.endswith((".", "?")) else "."
        return ": ".join(part for part in (self.key, said) if part) + (f" {self.remedy}" if self.remedy else "")


def refuse(*problems: Problem) -> NoReturn:
    """From within a model's validator: say everything that is wrong at once. `where` counts from that model."""
    raise PydanticCustomError("declared", "{said}", {"said": " ".join(map(str, problems)), "problems": problems})


def refuse_any(problems: Iterable[Problem]) -> None:
    """`refuse`, if there is anything to refuse."""
    found = tuple(problems)
    if found:
        refuse(*found)


def plain(value: float) -> str:
    """A number as people wrote it, never rounded: 25 for 25.0, 0.7999999 for 0.7999999."""
    return str(int(value)) if math.isfinite(value) and value == int(value) and abs(value) < 2**53 else repr(value)
