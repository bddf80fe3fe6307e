"""What surrounded an execution: the environment it ran in and the working tree it ran from.

The environment is Python, platform, the installed libraries and the digest of the lock; a change is recorded and shown, and
voids no verdict by itself. The working tree is the commit, whether it was changed since, and who wrote what is covered by the
definition (Art. 17(1)(c)-(d): who examined must not be who wrote).
"""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from compliance_assets.evidence.records import Code
from compliance_assets.trust.canonical import Digest, digest_of, sha256_bytes

LOCK = "requirements.lock"


@cache
def environment() -> dict[str, Any]:
    """Python, platform and every installed distribution with its version, as JSON without floats."""
    libraries = sorted({(dist.metadata["Name"].lower(), dist.version) for dist in metadata.distributions() if dist.metadata["Name"]})
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": f"{sys.platform}-{platform.machine()}",
        "lock": lock_digest(),
        "libraries": [f"{name}=={version}" for name, version in libraries],
    }


def lock_digest() -> str:
    """sha256 of the lock that this package was installed from; 'absent' where it was installed without one."""
    package = Path(str(resources.files("compliance_assets")))
    lock = package.parent / LOCK
    return sha256_bytes(lock.read_bytes()) if lock.is_file() else "absent"


@cache
def environment_digest() -> Digest:
    """The digest of `environment()`: part of every record, and of the key that decides reuse."""
    return digest_of(environment())


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(("git", "-C", str(root), *arguments), capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def working_tree(root: Path, covered: Sequence[Path], launcher: str) -> Code:
    """Commit, cleanliness and authors of the files that a definition covers.

    Outside version control nobody can be told apart from the person who launched, so that person counts as the author; and
    so for changes that are in no commit yet, beside the authors of what is.
    """
    top = _git(root, "rev-parse", "--show-toplevel")
    commit = _git(root, "rev-parse", "HEAD") if top else None
    inside = [str(path) for path in covered if top and path.resolve().is_relative_to(Path(top).resolve())]
    tracked = _git(root, "ls-files", "--", *inside) if commit and inside else None
    if not commit or not tracked:
        return Code(commit="", dirty=True, authors=(f"launcher:{launcher}",), under_version_control=False)
    changed = _git(root, "status", "--porcelain", "--untracked-files=all", "--", *inside)
    authors = _git(root, "log", "--format=%ae", "--", *inside)
    names = sorted({line.strip().lower() for line in (authors or "").splitlines() if line.strip()})
    dirty = changed != ""
    if dirty or not names:
        names.append(f"launcher:{launcher}")
    return Code(commit=commit, dirty=dirty, authors=tuple(names), under_version_control=True)
