"""Which requests may come near Dagster at all: whom they name, where they come from, what path and method they use.

Dagster's webserver answers any page that the operator's browser has open: it looks at neither Host nor Origin. These rules
do, in this order, each with its own refusal:

1. Host is one of the guard's own names (421): a page that rebinds its DNS name to 127.0.0.1 still sends its own name.
2. The path can be read one way only (403); nothing below `/report_asset…` is reachable by any method (403).
3. The method is GET or HEAD; POST at the GraphQL endpoint and the guard's own pages only (405); no header may rename it.
4. The request comes from our own page, from an address typed in, or is a plain link to a page (Origin, Fetch Metadata: 403).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from starlette.datastructures import Headers

from compliance_assets.errors import ComplianceError

GRAPHQL = "/graphql"
LOGIN = "/guard/login"
LOGOUT = "/guard/logout"
POSTABLE = frozenset({GRAPHQL, LOGIN, LOGOUT})
_OVERRIDES = ("x-http-method-override", "x-http-method", "x-method-override")


class Refused(ComplianceError):  # the guard says no; nothing went wrong
    """The guard's no, with the HTTP status that says which kind."""

    def __init__(self, message: str, *, status: int, rule: str, value: str = "", remedy: str = "") -> None:
        super().__init__(message, rule=rule, value=value, remedy=remedy)
        self.status = status


@dataclass(frozen=True)
class OwnNames:
    """The `host:port` names under which the guard may be addressed, lowercase; and the address that a proxy before it answers at."""

    names: frozenset[str]
    origin: str = ""

    def behind(self, origin: str) -> OwnNames:
        """The same names, and those under which `origin` (`https://governance.example`) is asked for."""
        return OwnNames(self.names | {origin.partition("://")[2].lower()}, origin.lower())

    def origin_of(self, host: str) -> str:
        """The origin that a page of ours under this Host has."""
        return self.origin if self.origin and self.origin.partition("://")[2] == host else f"http://{host}"

    @classmethod
    def of(cls, host: str, port: int) -> OwnNames:
        hosts = {host.lower()} | ({"127.0.0.1", "localhost"} if host in ("127.0.0.1", "localhost", "::1") else set())
        names = {f"[{name}]:{port}" if ":" in name else f"{name}:{port}" for name in hosts}
        if port == 80:  # browsers leave the scheme's own port out
            names |= {name.removesuffix(":80") for name in names}
        return cls(frozenset(names))

    def check(self, headers: Headers) -> str:
        """The one Host that was named; refuses any other, none, or several (421)."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self.names:
            raise Refused("This address is not the guard's own.", status=421, rule="Host is the guard's own name",
                          value=f"{hosts!r:.80}", remedy=f"Open http://{min(self.names)}/ instead.")
        return hosts[0].lower()


def read_path(raw_path: bytes) -> str:
    """The path as sent, if it can be read one way only. Refuses what hides a name (encoding, case, slashes, dots)."""
    def refuse(why: str) -> Refused:
        return Refused(f"This path cannot be read without doubt: {why}.", status=403, rule="paths are read one way",
                       value=f"{raw_path[:60]!r}", remedy="Use the address as Dagster's own pages write it.")

    if not raw_path.startswith(b"/") or not raw_path.isascii():
        raise refuse("it is not an absolute path in ASCII")
    plain = raw_path
    for _ in range(8):
        once = unquote_to_bytes(plain)
        if once == plain:
            break
        plain = once
    else:
        raise refuse("it is encoded over and over")
    if any(byte < 0x20 or byte == 0x7F for byte in plain):
        raise refuse("it holds control characters")
    folded = plain.replace(b"\\", b"/").lower()
    segments = [segment for segment in folded.split(b"/") if segment not in (b"", b".")]
    if any(segment.startswith(b"report_asset") for segment in segments):
        raise Refused("Events are reported by stages, never over HTTP.", status=403, rule="no report_* endpoint",
                      value=f"{raw_path[:60]!r}", remedy="Run the stage; its record is the report.")
    if b"//" in folded or any(segment in (b".", b"..") for segment in folded.split(b"/")):
        raise refuse("it holds double slashes or dots")
    path = raw_path.decode("ascii")
    if segments and segments[0].split(b";")[0] == b"graphql" and path != GRAPHQL:
        raise refuse(f"it resembles {GRAPHQL}")
    return path


def check_method(method: str, path: str, headers: Headers, *, posts: bool = False) -> None:
    """Reading everywhere, POST at three addresses (and where `posts` says that this is a form's), nothing else."""
    override = [name for name in _OVERRIDES if name in headers]
    if override:
        raise Refused("A header may not rename the method.", status=403, rule="no method override", value=override[0],
                      remedy="Send the method itself.")
    if method not in ("GET", "HEAD") and not (method == "POST" and (posts or path in POSTABLE)):
        raise Refused(f"{method} is not answered here.", status=405, rule="methods", value=f"{method} {path}"[:80],
                      remedy=f"Pages are read with GET; Dagster is asked with POST {GRAPHQL}.")
    if method != "POST" and (headers.get("content-length", "0") != "0" or "transfer-encoding" in headers):
        raise Refused(f"A {method} request came with a body.", status=403, rule="no body in a reading request", value=method,
                      remedy=f"Use POST {GRAPHQL}.")


def comes_from_own_page(headers: Headers, host: str, names: OwnNames = OwnNames(frozenset())) -> bool:
    """Whether Origin says so. False where there is none; another one is refused (403)."""
    origins = headers.getlist("origin")
    if not origins:
        return False
    if origins != [names.origin_of(host)]:
        raise Refused("This request was sent by another page.", status=403, rule="Origin is the guard's own",
                      value=f"{origins!r:.80}", remedy="Nothing was executed. Use the guard's own pages.")
    return True


def check_fetch_site(method: str, path: str, headers: Headers, *, changes: bool) -> None:
    """Fetch Metadata (W3C): browsers say where a request comes from, and a page cannot make them say otherwise."""
    sites: Iterable[str] = headers.getlist("sec-fetch-site")
    allowed = {"same-origin"} if changes else {"same-origin", "none"}
    if set(sites) <= allowed:
        return
    link = (not changes and method == "GET" and path != GRAPHQL and headers.get("sec-fetch-mode") == "navigate"
            and headers.get("sec-fetch-dest") == "document")
    if not link:
        raise Refused("This request was sent by another page.", status=403, rule="Sec-Fetch-Site is same-origin",
                      value=", ".join(sites)[:80], remedy="Nothing was executed. Use the guard's own pages.")
