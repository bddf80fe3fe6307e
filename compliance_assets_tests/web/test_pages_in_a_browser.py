"""The governance pages in a real browser: signed in by the form, from phone to desk, with nothing fetched from elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from compliance_assets.web.pages import build_pages
from compliance_assets.web.ui_users import Role, User, new_token, token_hash
from compliance_assets_tests.project import SYSTEM
from compliance_assets_tests.web.browser import chromium
from compliance_assets_tests.web.serving_asgi import free_socket, served

PATHS = ("/", f"/systems/{SYSTEM}/review", "/dashboard", "/releases", "/ledger", "/ledger/7", "/ledger/verification", "/provenance", "/definitions",
         f"/definitions/{SYSTEM}", "/health", "/runs/test-run")


@pytest.mark.slow
def test_pages_fit_every_width_load_their_style_and_fetch_nothing_from_elsewhere(reviewed_world: Path, tmp_path: Path) -> None:
    token, listening = new_token(), free_socket()
    port = listening.getsockname()[1]
    origin = f"http://127.0.0.1:{port}"
    app = build_pages(reviewed_world, "127.0.0.1", port, [User("ines", Role.READER, token_hash(token))])
    with served(app, listening), chromium(tmp_path / "profile") as page:
        page.open(f"{origin}/ledger")
        page.act(f"document.getElementById('token').value = {token!r}; document.getElementById('token').form.submit()")
        page.until("document.querySelector('h1').textContent === 'Ledger'")
        for path in PATHS:
            for width in (390, 820, 1280):
                page.send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
                page.open(f"{origin}{path}")
                assert page.run("document.documentElement.scrollWidth") <= width, (path, width)
            assert page.run("getComputedStyle(document.querySelector('.top')).borderBottomStyle") == "solid", path  # the style sheet came
            fetched = page.run("performance.getEntriesByType('resource').map(one => one.name)")
            assert all(address.startswith((f"{origin}/", "data:")) for address in fetched), (path, fetched)
        page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
        page.open(f"{origin}/")
        assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(17, 21, 27)"
        page.act("document.querySelector('.who form').submit()")
        page.until("document.title.startsWith('Sign in')")
        page.open(f"{origin}/ledger")
        assert page.run("document.title").startswith("Sign in")
