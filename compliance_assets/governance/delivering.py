"""An alert reaches people by e-mail, webhook or Slack-style webhook, as organisation.yaml declares; secrets come from the environment.

Every alert is written to `logs/alerts.jsonl` of the home first, whatever the channels do, and each delivery that fails is written there
too: an alert that reached nobody is itself on record. A channel whose secret is not set is a failed delivery, never a silent one.
"""

from __future__ import annotations

import json
import os
import smtplib
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path

from compliance_assets.errors import Misused
from compliance_assets.policy.organisation import AlertChannel
from compliance_assets.trust.canonical import rfc3339

ALERTS = "alerts.jsonl"
SECONDS = 10
"""How long a channel may take; a slow mail server must not keep the next alert waiting."""


def deliver(logs: Path, channels: Iterable[AlertChannel], alerts: Iterable[Mapping[str, object]]) -> tuple[str, ...]:
    """Write each alert down and send it through every channel; the failures, in words, which are written down as well."""
    failures: list[str] = []
    for alert in alerts:
        told = {"time": rfc3339(datetime.now(UTC)), **alert}
        record(logs, told)
        for place, channel in enumerate(channels):
            try:
                _send(channel, told)
            except (OSError, smtplib.SMTPException, Misused) as error:
                said = f"{channel.kind} {place + 1}: {type(error).__name__}: {error}"
                record(logs, {"time": rfc3339(datetime.now(UTC)), "event": "alert_not_delivered", "said": said})
                failures.append(said)
    return tuple(failures)


def record(logs: Path, line: Mapping[str, object]) -> None:
    """One line of JSON, appended and flushed."""
    descriptor = os.open(logs / ALERTS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, json.dumps(dict(line), sort_keys=True, default=str).encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def headline(alert: Mapping[str, object]) -> str:
    """One line for people, on what is wrong and where."""
    where = str(alert["system"]) if "system" in alert else "compliance"
    return " ".join(f"[{where}] {str(alert['event']).replace('_', ' ')}: {alert['said'] if 'said' in alert else ''}".split())[:200]


def _send(channel: AlertChannel, alert: Mapping[str, object]) -> None:
    if channel.kind == "email":
        _mail(channel, alert)
    else:
        body = {"text": headline(alert)} if channel.kind == "slack" else dict(alert)
        _post(_secret(channel.url_from or ""), json.dumps(body, sort_keys=True, default=str).encode())


def _mail(channel: AlertChannel, alert: Mapping[str, object]) -> None:
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = headline(alert), channel.sender, ", ".join(channel.to)
    message.set_content("\n".join(f"{name}: {value}" for name, value in sorted(alert.items())))
    with smtplib.SMTP(channel.host or "", channel.port or 0, timeout=SECONDS) as server:
        if channel.password_from is not None:
            # The password goes only to a server whose certificate is in order; smtplib alone would not look at it.
            server.starttls(context=ssl.create_default_context())
            server.login(channel.user or channel.sender or "", _secret(channel.password_from))
        server.send_message(message)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An alert goes where it was declared to go, and nowhere else."""

    def redirect_request(self, *_: object) -> None:
        return None


def _post(url: str, body: bytes) -> None:
    if not url.startswith(("https://", "http://127.0.0.1:")):
        raise Misused("A webhook must be https.", rule="alerts are not sent in the clear", value=url.partition(":")[0],
                      remedy="Use an https address; http is for 127.0.0.1 only.")
    request = urllib.request.Request(url, body, {"content-type": "application/json"}, method="POST")  # noqa: S310  # checked above
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=SECONDS):
            pass
    except urllib.error.HTTPError as error:
        error.close()
        raise OSError(f"answered {error.code}") from None  # without the address, which is a secret


def _secret(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise Misused(f"The environment variable {name} is not set.", rule="secrets come from the environment", value=name,
                      remedy="Set it where Dagster's daemon runs; nothing was sent through this channel.")
    return value
