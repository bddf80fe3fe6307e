"""The guard's own two pages: where one signs in, and what a refusal looks like to a person.

Both are whole in themselves: no script, no outside resource, nothing cached, not to be framed. The style's hash stands in
the policy, so that no other style can be added.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape

from starlette.responses import HTMLResponse, JSONResponse, Response

from compliance_assets.web.forwarding import EVERY_ANSWER
from compliance_assets.web.request_rules import LOGIN, LOGOUT, Refused
from compliance_assets.web.sessions import Session

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;color:#1d2733;background:#f5f6f8;margin:0;display:grid;min-height:100vh;"
    "place-items:center}main{background:#fff;border:1px solid #d5dae1;border-radius:8px;padding:2rem;max-width:30rem}"
    "h1{font-size:1.25rem;margin:0 0 .5rem}label{display:block;margin:1rem 0 .25rem;font-weight:600}"
    "input{font:inherit;padding:.5rem;width:100%;box-sizing:border-box;border:1px solid #6b7685;border-radius:4px}"
    "button{font:inherit;margin-top:1rem;padding:.5rem 1.25rem;border:0;border-radius:4px;background:#1f4f8f;color:#fff}"
    "button:focus-visible,input:focus-visible{outline:3px solid #e0a100;outline-offset:2px}"
    ".said{border-left:4px solid #b3261e;padding-left:.75rem}dt{font-weight:600}dd{margin:0 0 .5rem;overflow-wrap:anywhere}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

PRIVATE = {
    **EVERY_ANSWER,
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; base-uri 'none'; "
                               "frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
}


def _page(title: str, body: str, status: int) -> HTMLResponse:
    return HTMLResponse(f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
                        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
                        f"<body><main><h1>{escape(title)}</h1>{body}</main></body></html>", status_code=status, headers=PRIVATE)


def login_page(status: int, *, following: str = "/", said: str = "") -> HTMLResponse:
    """The sign-in form. `following` is where to go afterwards, already checked to be one of our own paths."""
    note = f'<p class="said" role="alert">{escape(said)}</p>' if said else ""
    return _page("Sign in to Dagster", f"""{note}<p>Dagster's own pages have no lock; this is it. <code>compliance up</code> printed
a token for operators, who may launch, and one for auditors, who may look.</p>
<form method="post" action="{LOGIN}"><label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<input type="hidden" name="next" value="{escape(following)}"><button>Sign in</button></form>""", status)


def signed_in_page(session: Session) -> HTMLResponse:
    """Who is signed in, and the way out."""
    return _page("Signed in", f"""<p>You are <strong>{escape(session.user.name)}</strong>, {escape(session.user.role.value)}.</p>
<p><a href="/">Dagster</a></p><form method="post" action="{LOGOUT}"><button>Sign out</button></form>""", 200)


def refusal(error: Refused, *, as_page: bool) -> Response:
    """A refusal for people (HTML) or machines (JSON; `errors` is where GraphQL clients look for the message)."""
    if as_page:
        return _page("Refused", f"""<p class="said" role="alert">{escape(error.message)}</p><dl>
<dt>Rule</dt><dd>{escape(error.rule)}</dd>
<dt>Value</dt><dd>{escape(error.value) or "none"}</dd><dt>Remedy</dt><dd>{escape(error.remedy)}</dd></dl>""", error.status)
    return JSONResponse({**error.as_json(), "errors": [{"message": str(error)}]}, status_code=error.status, headers=PRIVATE)
