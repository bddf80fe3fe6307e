"""The home: the one folder in which everything that must be remembered is kept.

`COMPLIANCE_HOME`, or `.compliance` beside `systems/`. It holds the ledger, the artefact store, the inbox for signed
decisions, the machine keys (0600) and the storage of Dagster and MLflow. A home is made by `compliance init` and by nothing
else: a run that finds none refuses, so that no evidence is ever written to a place that is thrown away.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from compliance_assets.errors import Busy, HomeUnusable

ENVIRONMENT_VARIABLE = "COMPLIANCE_HOME"
MACHINE_ROLES = ("pipeline", "gate", "deployer", "log")


@dataclass(frozen=True)
class Home:
    """Paths and locks; no meaning."""

    path: Path

    @property
    def ledger(self) -> Path:
        return self.path / "ledger.db"

    @property
    def ledger_address(self) -> Path:
        """Holds the address of a ledger in Postgres, where the ledger is not the file beside it (0600)."""
        return self.path / "ledger.url"

    @property
    def ledger_place(self) -> Path | str:
        """Where the ledger is: its file, or its address in Postgres. Refuses a home that names both."""
        if not self.ledger_address.is_file():
            return self.ledger
        if self.ledger.exists():
            raise HomeUnusable(f"The home {self.path} has a ledger of its own and the address of another.", rule="home",
                               value=str(self.ledger_address), remedy="Find out who put ledger.url or ledger.db there; only one may stay.")
        return self.ledger_address.read_text(encoding="utf-8").strip()

    @property
    def artefacts(self) -> Path:
        return self.path / "artefacts"

    @property
    def inbox(self) -> Path:
        return self.path / "inbox"

    @property
    def keys(self) -> Path:
        return self.path / "keys"

    @property
    def dagster(self) -> Path:
        return self.path / "dagster"

    @property
    def mlflow_db(self) -> Path:
        return self.path / "mlflow.db"

    @property
    def mlflow_artifacts(self) -> Path:
        return self.path / "mlartifacts"

    @property
    def serving(self) -> Path:
        return self.path / "serving"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def folders(self) -> tuple[Path, ...]:
        return (self.artefacts, self.inbox, self.keys, self.dagster, self.mlflow_artifacts, self.serving, self.logs,
                self.path / "locks", self.path / "scratch")

    def key_path(self, role: str) -> Path:
        """Where the private key of a machine role lies."""
        return self.keys / f"{role}.key"

    @classmethod
    def create(cls, path: Path) -> Home:
        """Make the folders of a new home, 0700. Refuses a folder that already is a home."""
        home = cls(path.resolve())
        if home.ledger.exists() or home.ledger_address.exists():
            raise HomeUnusable(f"{path} is a home already.", rule="home", value=str(path),
                               remedy="Use it as it is, or choose another folder with COMPLIANCE_HOME.")
        try:
            for folder in (home.path, *home.folders):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            home.keys.chmod(0o700)
        except OSError as error:
            raise HomeUnusable(f"{path} cannot be made a home: {error.strerror}.", rule="home", value=str(path),
                               remedy="Choose a folder that you may write, with COMPLIANCE_HOME.") from error
        home.check_writable()
        return home

    @classmethod
    def open(cls, path: Path) -> Home:
        """The home at `path`. Refuses a folder that `compliance init` did not make."""
        home = cls(path.resolve())
        try:
            there = home.ledger.is_file() or home.ledger_address.is_file()
        except OSError as error:
            raise HomeUnusable(f"The home at {path} cannot be entered: {error.strerror}.", rule="home", value=str(path),
                               remedy="Mend its permissions, or point COMPLIANCE_HOME at your own.") from error
        if not there:
            raise HomeUnusable(f"There is no home at {path}: it has no ledger.", rule="home", value=str(path),
                               remedy="Make one with `compliance init`, or point COMPLIANCE_HOME at the right folder.")
        return home

    def check_writable(self) -> None:
        """Refuse before any work is done when the home cannot be written."""
        for folder in (self.path, *self.folders):
            try:
                with tempfile.TemporaryFile(dir=folder):
                    pass
            except OSError as error:
                raise HomeUnusable(f"The home cannot be written: {folder.name or folder}: {error.strerror}.", rule="home",
                                   value=str(folder), remedy="Free space or mend its permissions; nothing was started.") from error

    @contextmanager
    def lock(self, name: str, *, wait: bool = False, what: str = "another run") -> Iterator[None]:
        """Hold the named lock; released by the kernel when the process dies. Raises `Busy` if it is held and not `wait`."""
        folder = self.path / "locks"
        try:
            folder.mkdir(exist_ok=True)
            descriptor = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise HomeUnusable(f"The home cannot be written: {error.strerror}.", rule="home", value=str(folder),
                               remedy="Mend its permissions; nothing was started.") from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                holder = os.pread(descriptor, 64, 0).decode(errors="replace").strip()
                raise Busy(f"{name} is held by {what}{f' (process {holder})' if holder else ''}.", rule="one at a time",
                           value=name, remedy="Wait until it ends, then do this again; nothing was started.") from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for unfinished bytes, gone afterwards. What a killed run left behind is not trusted by anybody."""
        folder = Path(tempfile.mkdtemp(dir=self.path / "scratch"))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def find_root(start: Path | None = None) -> Path:
    """The folder above `systems/`: COMPLIANCE_ROOT, or the nearest one from here upward."""
    chosen = os.environ.get("COMPLIANCE_ROOT")
    if chosen:
        return Path(chosen).resolve()
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "systems").is_dir():
            return folder
    raise HomeUnusable(f"No folder `systems/` here or above {here}.", rule="root", value=str(here),
                       remedy="Go to your project, or start one with `compliance init`.")


def find_home(root: Path) -> Path:
    """COMPLIANCE_HOME, or `.compliance` beside `systems/`."""
    chosen = os.environ.get(ENVIRONMENT_VARIABLE)
    return Path(chosen).resolve() if chosen else root / ".compliance"
