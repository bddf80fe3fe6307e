"""The stop switch: people can stop all answers of an environment, whatever the model does (Art. 14(4)(e)-aligned).

It is a file. While it lies there, every server of the environment answers 503 with the reason, also one that was started
afterwards; whoever cannot reach a server can lay it down by hand. Stopping and resuming are appended to a log.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from compliance_assets.serving.inference_log import now_text


@dataclass(frozen=True)
class StopSwitch:
    """The switch of one environment; `folder` is the environment's serving folder."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "stopped.json"

    @property
    def reason(self) -> str | None:
        """Why answers are stopped, or None while they are not. A file that does not read still stops."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError:
            return "the stop switch cannot be read"
        try:
            return str(json.loads(content)["reason"])
        except (ValueError, KeyError, TypeError):
            return "stopped by hand"

    def stop(self, reason: str, by: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        unfinished = self.path.with_name(f".stopped.{os.getpid()}")
        unfinished.write_text(json.dumps({"reason": reason, "by": by, "at": now_text()}))
        unfinished.replace(self.path)
        self._log("stopped", reason, by)

    def resume(self, reason: str, by: str) -> None:
        self.path.unlink(missing_ok=True)
        self._log("resumed", reason, by)

    def _log(self, event: str, reason: str, by: str) -> None:
        line = json.dumps({"time": now_text(), "event": event, "reason": reason, "by": by}).encode() + b"\n"
        descriptor = os.open(self.folder / "switch.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
