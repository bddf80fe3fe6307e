"""An alert arrives by real SMTP and real HTTP on loopback; what does not arrive is written down, and nobody is sent a secret."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
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


PASSWORD = "correct horse battery"


def certified(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that its own key signed, with the key, in one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mail")])
    built = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
             .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
             .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
             .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).sign(key, hashes.SHA256()))
    path = folder / "mail.pem"
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
                     + built.public_bytes(serialization.Encoding.PEM))
    return path


@contextmanager
def mail_with_tls(pem: Path, *, offers: bool = True) -> Iterator[tuple[int, list[str], list[str]]]:
    """A mail server that takes a message only over TLS and after a password (RFC 3207, RFC 4954); what it heard, before and after."""
    plain: list[str] = []
    secret: list[str] = []
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(5)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)

    def talk(caller: socket.socket, heard: list[str], features: bytes) -> bool:
        """Until QUIT, the end, or STARTTLS (then True)."""
        with caller.makefile("rwb", buffering=0) as stream:
            if heard is plain:
                stream.write(b"220 ready\r\n")
            while line := stream.readline():
                heard.append(line.decode().strip())
                verb = line[:8].upper()
                if verb.startswith(b"STARTTLS"):
                    stream.write(b"220 go on\r\n")
                    return True
                stream.write(features if verb.startswith(b"EHLO") else b"235 welcome\r\n" if verb.startswith(b"AUTH") else
                             b"354 go on\r\n" if verb.startswith(b"DATA") else b"221 bye\r\n" if verb.startswith(b"QUIT") else b"250 ok\r\n")
                if verb.startswith(b"DATA"):
                    while (line := stream.readline()) != b".\r\n":
                        heard.append(line.decode().strip())
                    stream.write(b"250 taken\r\n")
        return False

    def serve() -> None:
        caller, _ = listening.accept()
        caller.settimeout(5)
        with caller, suppress(OSError):  # a client that does not like the certificate goes away
            if talk(caller, plain, b"250-mail\r\n250 STARTTLS\r\n" if offers else b"250 mail\r\n"):
                with context.wrap_socket(caller, server_side=True) as safe:
                    talk(safe, secret, b"250-mail\r\n250 AUTH PLAIN\r\n")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listening.getsockname()[1], plain, secret
    finally:
        thread.join(6)
        listening.close()


def mailed(port: int, logs: Path) -> tuple[str, ...]:
    channel = AlertChannel(kind="email", host="127.0.0.1", port=port, sender="river@example.org", to=("owner@example.org",),
                           password_from="ALERT_MAIL_PASSWORD")
    return deliver(logs, [channel], [ALERT])


def test_a_password_is_told_only_over_tls_and_the_alert_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pem = certified(tmp_path)
    monkeypatch.setenv("ALERT_MAIL_PASSWORD", PASSWORD)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    with mail_with_tls(pem) as (port, plain, secret):
        assert mailed(port, tmp_path) == ()
    assert [line.split()[0].upper() for line in plain] == ["EHLO", "STARTTLS"]
    (told,) = [line.split()[2] for line in secret if line.upper().startswith("AUTH PLAIN")]
    assert base64.b64decode(told) == f"\0river@example.org\0{PASSWORD}".encode()
    assert any("Subject: [small_lender] run failed" in line for line in secret)


@pytest.mark.parametrize("wrong", ["a certificate that nobody vouches for", "no TLS at all"])
def test_a_password_is_told_to_no_server_that_cannot_show_who_it_is(wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALERT_MAIL_PASSWORD", PASSWORD)
    with mail_with_tls(certified(tmp_path), offers=wrong != "no TLS at all") as (port, plain, secret):
        (failure,) = mailed(port, tmp_path)
    assert ("CERTIFICATE_VERIFY_FAILED" if "certificate" in wrong else "STARTTLS") in failure
    assert not secret and not any("AUTH" in line.upper() or "MAIL FROM" in line.upper() for line in plain)
    assert [line["event"] for line in lines(tmp_path)] == ["run_failed", "alert_not_delivered"]
    assert PASSWORD not in (tmp_path / ALERTS).read_text()


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
