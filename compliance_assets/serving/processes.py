"""Child processes that never outlive their parent, and that are stopped by their own pid and nothing else.

`python -m compliance_assets.serving.processes --parent PID -- PROGRAM ARGUMENTS…` becomes PROGRAM, after asking the kernel to
end it when its parent ends (Linux `PR_SET_PDEATHSIG`; it survives exec). On other systems children are only stopped in order.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1
ORPHANED = 5


def die_with_parent(parent: int) -> None:
    """Have the kernel send this process SIGTERM when `parent` ends; end now if it has ended already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it ended between starting us and the line above
            sys.exit(ORPHANED)


def start(command: Sequence[str], *, output: Path, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a child with its output appended to a file, in a session of its own (a terminal's Ctrl-C stays with us)."""
    with open(output, "ab") as stream:
        return subprocess.Popen(list(command), stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, close_fds=True,
                                start_new_session=True, env={**os.environ, **(environment or {})})


def stop(child: subprocess.Popen[bytes], seconds: float = 8.0) -> int:
    """Ask the child to end, wait, and kill it if it does not. Returns its exit status."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.kill()
    return child.wait()


def last_line(output: Path) -> str:
    """The last line that is not empty of a child's output, at most 2000 characters of it."""
    try:
        with open(output, "rb") as stream:
            stream.seek(max(0, output.stat().st_size - 16_384))
            lines = [line for line in stream.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        return ""
    return lines[-1][:2000] if lines else ""


if __name__ == "__main__":
    separator = sys.argv.index("--")
    die_with_parent(int(sys.argv[sys.argv.index("--parent") + 1]))
    os.execv(sys.argv[separator + 1], sys.argv[separator + 1:])  # noqa: S606  # a fixed list, no shell is wanted
