"""An alert arrives by real SMTP and real HTTP on loopback; what does not arrive is written down, and nobody is sent a secret."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from compliance_assets.governance.delivering import ALERTS, deliver
from compliance_assets.policy.organisation import AlertChannel, load_organisation, render_organisation

ALERT = {"event": "run_failed", "system": "small_lender", "said": "fairness.sex 0.61 < 0.80\r\nBcc: everybody@example.org"}


class Web(BaseHTTPRequestHandler):
    """Keeps what is posted; answers what its path says."""

    taken: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        self.taken.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(int(self.path.rpartition("/")[2]))
        self.send_header("location", "/moved/200")
        self.end_headers()

    def log_message(self, format: str, *_: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    taken: list[tuple[str, bytes]] = []
    server = HTTPServer(("127.0.0.1", 0), type("Kept", (Web,), {"taken": taken}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", taken
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def mail() -> Iterator[tuple[int, list[str]]]:
    """A mail server that takes one message (RFC 5321, as far as smtplib needs it)."""
    taken: list[str] = []
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(5)

    def serve() -> None:
        with listening.accept()[0] as caller, caller.makefile("rwb", buffering=0) as stream:
            stream.write(b"220 ready\r\n")
            while line := stream.readline():
                verb = line[:4].upper()
                stream.write(b"354 go on\r\n" if verb == b"DATA" else b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
                if verb == b"DATA":
                    lines = []
                    while (line := stream.readline()) != b".\r\n":
                        lines.append(line.decode())
                    taken.append("".join(lines))
                    stream.write(b"250 taken\r\n")

    thread = threading.Thread(target=serve)
    thread.start()
    yield listening.getsockname()[1], taken
    thread.join(6)
    listening.close()


def lines(logs: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (logs / ALERTS).read_text().splitlines()]


def test_an_alert_arrives_by_mail_with_its_headline_and_no_header_of_its_own(tmp_path: Path, mail: tuple[int, list[str]]) -> None:
    port, taken = mail
    channel = AlertChannel(kind="email", host="127.0.0.1", port=port, sender="river@example.org", to=("owner@example.org",))
    assert deliver(tmp_path, [channel], [ALERT]) == ()
    (message,) = taken
    assert "Subject: [small_lender] run failed: fairness.sex 0.61 < 0.80" in message and "To: owner@example.org" in message
    assert "\nBcc:" not in message.partition("\r\n\r\n")[0]


def test_an_alert_arrives_at_a_webhook_whole_and_at_slack_as_text(tmp_path: Path, web: tuple[str, list[tuple[str, bytes]]],
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    address, taken = web
    monkeypatch.setenv("ALERT_HOOK", f"{address}/hook/200")
    both = [AlertChannel(kind="webhook", url_from="ALERT_HOOK"), AlertChannel(kind="slack", url_from="ALERT_HOOK")]
    assert deliver(tmp_path, both, [ALERT]) == ()
    whole, text = (json.loads(body) for _, body in taken)
    assert whole["system"] == "small_lender" and whole["time"] and set(text) == {"text"}


@pytest.mark.parametrize(("value", "said"), [
    (None, "not set"), ("http://example.org/hook/200", "must be https"), ("/hook/500", "answered 500"), ("/hook/302", "answered 302")])
def test_what_does_not_arrive_is_written_down_without_the_address(tmp_path: Path, web: tuple[str, list[tuple[str, bytes]]], value: str | None,
                                                                  said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALERT_HOOK", raising=False)
    if value is not None:
        monkeypatch.setenv("ALERT_HOOK", web[0] + value if value.startswith("/") else value)
    (failure,) = deliver(tmp_path, [AlertChannel(kind="webhook", url_from="ALERT_HOOK")], [ALERT])
    first, second = lines(tmp_path)
    assert first["event"] == "run_failed" and second["event"] == "alert_not_delivered"
    assert said in failure and "/hook" not in (tmp_path / ALERTS).read_text()
    assert all(path != "/moved/200" for path, _ in web[1]), "a redirect is not followed"


def test_a_channel_that_is_not_whole_is_refused() -> None:
    for body in ({"kind": "email", "host": "mail.example.org"}, {"kind": "slack"}, {"kind": "webhook", "url_from": "https://x"}):
        with pytest.raises(ValueError, match="AlertChannel"):
            AlertChannel.model_validate(body)


def test_channels_are_read_back_as_declared_and_their_absence_changes_no_digest(project: Path) -> None:
    path = project / "organisation.yaml"
    without = load_organisation(path)
    assert "alerts" not in without.model_dump()
    changed = without.model_copy(update={"alerts": (AlertChannel(kind="slack", url_from="ALERT_HOOK"),)})
    path.write_text(render_organisation(changed))
    assert load_organisation(path) == changed and changed.digest != without.digest
