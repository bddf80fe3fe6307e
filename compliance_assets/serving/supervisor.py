"""`compliance serve ENV`: keeps an environment's servers and router at what the deployment records ask for.

Nobody tells the supervisor what to do; it reads the records, compares, and moves one small step at a time, so that a crash of
anything, itself included, is mended by starting it again. A new version gets its share only when its server answers with the
right digest; an old one is stopped only when nothing is routed to it any more. A server that refuses to load is reported, and
not started again until the records change. Its children end with it. What it did, and when a rollout step began to hold, is
appended to `applied.jsonl`; what is so now stands in `status.json`.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from compliance_assets.errors import Busy, ComplianceError, Misused, ServingError
from compliance_assets.evidence.deployments import SLOTS, WHOLE, DesiredState, Slot, SlotName, desired_state
from compliance_assets.evidence.home import Home
from compliance_assets.serving import processes
from compliance_assets.serving.client import Client
from compliance_assets.serving.inference_log import now_text
from compliance_assets.serving.launching import SERVER
from compliance_assets.serving.router import Ports, Router
from compliance_assets.serving.server import PORT_TAKEN, REFUSED, listen
from compliance_assets.serving.spec import ServerSpec

if TYPE_CHECKING:
    import subprocess

    from compliance_assets.policy.organisation import Organisation

POLL_SECONDS = 0.5
REASSERT_SECONDS = 3.0
ROUTER_CHECKS_SECONDS = 1.5
LONGEST_BACKOFF_SECONDS = 30.0
HEALTHY_AFTER_SECONDS = 60.0
STARTING_SECONDS = 120.0


@dataclass
class _Running:
    """One server process of one slot, over all its restarts."""

    slot: Slot
    process: subprocess.Popen[bytes] | None = None
    state: str = "stopped"
    """stopped, starting, ready, crashed, refused."""
    reason: str = ""
    since: str = ""
    started: float = 0.0
    ready_at: float = 0.0
    crashes: int = 0
    not_before: float = 0.0
    refused_at: int | None = None


@dataclass
class Supervisor:
    """Reconciles one environment. `step` makes one pass; `run` makes them until told to stop."""

    home: Home
    root: Path
    environment: str
    ports: Ports
    desired: Callable[[], DesiredState]
    command: Sequence[str] = SERVER
    _servers: dict[SlotName, _Running] = field(default_factory=dict)
    _routed: tuple[Any, ...] | None = None
    _applied: int | None = None
    _state: DesiredState | None = None
    _problem: str = ""
    _status: dict[str, Any] = field(default_factory=dict)
    _written: float = 0.0
    _router_not_before: float = 0.0
    _routed_at: float = 0.0

    def __post_init__(self) -> None:
        self.folder = environment_folder(self.home, self.environment)
        self.router = Router(self.folder / "router", self.ports)

    # ------------------------------------------------------------------------------------------------------- its life

    def start(self) -> None:
        """Start the router, with nothing behind it yet. Raises `Busy` naming a port that is taken."""
        for directory in ("specs", "out"):
            (self.folder / directory).mkdir(parents=True, exist_ok=True, mode=0o700)
        for port in (self.ports.blue, self.ports.green):
            listen("127.0.0.1", port).close()
        self._note("supervisor_started", pid=os.getpid())
        self.router.start()
        self._write_status(force=True)

    def run(self, stop: threading.Event) -> None:
        """Reconcile until `stop` is set; then drain and end every child."""
        try:
            self.start()
            while not stop.is_set():
                self.step()
                stop.wait(POLL_SECONDS)
        finally:
            self.close()

    def close(self) -> None:
        """Take no new requests, let the running ones end, then end the router and the servers."""
        self.router.drain()
        self.router.stop()
        for running in self._servers.values():
            if running.process is not None:
                processes.stop(running.process)
        self._servers.clear()
        self._routed = self._applied = None
        if self.folder.is_dir():
            self._note("supervisor_stopped", pid=os.getpid())
            self._write_status(force=True)

    # ------------------------------------------------------------------------------------------------------- one pass

    def step(self) -> None:
        """Compare what is with what the records ask for, and move towards it. Never waits for a server."""
        try:
            self._state = self.desired()
            self._problem = ""
        except ComplianceError as error:
            # What answers was allowed to when it was loaded; a ledger that cannot be read now must not end it silently.
            self._problem = str(error)
        state = self._state
        if state is not None:
            self._keep_router()
            wanted = {name: state.slot(name) for name in SLOTS}
            for name in SLOTS:
                self._watch(name, state.index)
            settled = self._route(state)
            for name, slot in wanted.items():
                self._replace(name, slot, settled)
                if slot is not None:
                    self._ensure(name, slot, state.index)
        self._write_status()

    def _keep_router(self) -> None:
        if self.router.pid is None and time.monotonic() >= self._router_not_before:
            self._router_not_before = time.monotonic() + 2.0
            self._note("router_restarted")
            self._routed = None
            try:
                self.router.stop()
                self.router.start()
            except (ServingError, Busy) as error:
                self._problem = str(error)

    def _watch(self, name: SlotName, index: int) -> None:
        """What became of a server since the last pass."""
        running = self._servers.get(name)
        if running is None or running.process is None:
            return
        code = running.process.poll()
        if code is None:
            if running.state == "starting":
                self._ask_ready(name, running)
            elif time.monotonic() - running.started > HEALTHY_AFTER_SECONDS:
                running.crashes = 0
            return
        said = processes.last_line(self._output(name))
        running.process = None
        if code == REFUSED:
            running.state, running.reason, running.refused_at = "refused", _message(said), index
        else:
            running.crashes += 1
            running.state = "crashed"
            running.reason = _message(said) if code == PORT_TAKEN else f"exit status {code}: {said}"
            running.not_before = time.monotonic() + min(0.25 * 2 ** running.crashes, LONGEST_BACKOFF_SECONDS)
        self._note(f"server_{running.state}", slot=name, model=running.slot.model, reason=running.reason)

    def _ask_ready(self, name: SlotName, running: _Running) -> None:
        try:
            with Client(f"http://127.0.0.1:{self.ports.of(name)}", seconds=1.0) as client:
                answer = client.get("/v2/health/ready")
            digest = answer.json()["model"] if answer.status in (200, 503) else ""
        except (ServingError, KeyError, TypeError):
            digest = ""
        if digest == running.slot.model:  # also while people have stopped it: 503, but it is the right one
            running.state, running.since, running.ready_at = "ready", now_text(), time.monotonic()
            self._note("server_ready", slot=name, model=digest, pid=running.process.pid if running.process else None)
        elif time.monotonic() - running.started > STARTING_SECONDS and running.process is not None:
            self._note("server_too_slow", slot=name, model=running.slot.model)
            running.process.kill()

    def _replace(self, name: SlotName, slot: Slot | None, settled: bool) -> None:
        """Stop a server whose version is not wanted in its slot any more, once nothing is routed to it."""
        running = self._servers.get(name)
        if running is None or (slot is not None and _same(running.slot, slot)):
            return
        if not settled:  # it answers until the version that takes its place is ready
            return
        if running.process is not None:
            processes.stop(running.process)
        del self._servers[name]
        self._note("server_stopped", slot=name, model=running.slot.model)

    def _ensure(self, name: SlotName, slot: Slot, index: int) -> None:
        running = self._servers.get(name)
        if running is None:
            running = self._servers[name] = _Running(slot)
        elif not _same(running.slot, slot):
            return  # the version before it has not left the slot yet
        if running.process is not None or time.monotonic() < running.not_before or running.refused_at == index:
            return
        try:
            spec = self._spec(slot).write(self.folder / "specs" / f"{name}.json")
        except (KeyError, ValidationError) as error:
            running.state, running.refused_at = "refused", index
            running.reason = f"its deployment records do not say enough to start it ({error!r:.200})"
            return
        self._output(name).unlink(missing_ok=True)
        running.process = processes.start((*self.command, "--spec", str(spec), "--parent", str(os.getpid())),
                                          output=self._output(name), environment={"OMP_NUM_THREADS": "1"})
        running.state, running.started, running.refused_at = "starting", time.monotonic(), None
        self._note("server_starting", slot=name, model=slot.model, pid=running.process.pid)

    def _spec(self, slot: Slot) -> ServerSpec:
        said = slot.evidence
        return ServerSpec(
            home=str(self.home.path), root=str(self.root), environment=self.environment, purpose="rollout", server=slot.name,
            system=slot.system, release=slot.release, model=slot.model, definition=slot.definition, snapshot=said["snapshot"],
            trusted_types=tuple(said["trusted_types"]), feature_names=tuple(said["feature_names"]),
            port=self.ports.of(slot.name), token=stop_token(self.home, self.environment), authority=slot.approval)

    def _output(self, name: SlotName) -> Path:
        return self.folder / "out" / f"{name}.log"

    # --------------------------------------------------------------------------------------------------------- routing

    def _ready(self, slot: Slot | None) -> bool:
        running = self._servers.get(slot.name) if slot is not None else None
        return running is not None and slot is not None and _same(running.slot, slot) and running.state == "ready"

    def _known_to_router(self, slot: Slot) -> bool:
        """Whether the router's own health check, one a second, has had the time to find the server."""
        return time.monotonic() - self._servers[slot.name].ready_at > ROUTER_CHECKS_SECONDS

    def _route(self, state: DesiredState) -> bool:
        """Give weights to what is ready; say so when the state that the records ask for holds in full.

        False while the routes of the state before are kept, because who answers next is still on its way.
        """
        candidate = self._ready(state.candidate)
        if state.production is not None and not self._ready(state.production) and self._routed is not None:
            running = self._servers.get(state.production.name)
            if running is None or not _same(running.slot, state.production) or running.state == "starting":
                return not any(self._routed[:2])
        if self.router.pid is None:
            return False
        weights = dict(state.weights)
        if state.candidate is not None and not candidate:
            weights[state.candidate.name] = 0
            if state.production is not None:
                weights[state.production.name] = WHOLE
        stand_in = tuple(slot.name for slot in (state.production, state.standby) if slot is not None and self._ready(slot))
        shadow = state.mirrored_to if candidate else None
        routed = (weights["blue"], weights["green"], stand_in, shadow)
        # Said again every few seconds: whoever else can reach the admin port must not be believed for longer.
        if routed != self._routed or time.monotonic() - self._routed_at > REASSERT_SECONDS:
            try:
                self.router.set_weights(weights["blue"], weights["green"], stand_in=stand_in)
                self.router.set_shadow(shadow)
            except ServingError as error:
                self._problem = str(error)
                return False
            if routed != self._routed:
                self._note("routed", blue=weights["blue"], green=weights["green"], stand_in=list(stand_in), shadow=shadow)
            self._routed, self._routed_at = routed, time.monotonic()
        wanted = [slot for slot in (state.production, state.candidate) if slot is not None]
        if self._applied != state.index and all(self._ready(slot) and self._known_to_router(slot) for slot in wanted):
            self._applied = state.index
            self._note("applied", index=state.index, at=now_text())
        return True

    # ---------------------------------------------------------------------------------------------------------- telling

    def _note(self, event: str, **facts: Any) -> None:
        line = json.dumps({"time": now_text(), "event": event, "environment": self.environment, **facts}).encode() + b"\n"
        descriptor = os.open(self.folder / "applied.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _write_status(self, *, force: bool = False) -> None:
        state = self._state
        servers = {
            name: {"model": running.slot.model, "release": running.slot.release, "approval": running.slot.approval,
                   "state": running.state, "since": running.since, "reason": running.reason, "crashes": running.crashes,
                   "pid": running.process.pid if running.process is not None else None, "port": self.ports.of(name)}
            for name, running in self._servers.items()}
        blue, green, _, shadow = self._routed if self._routed is not None else (0, 0, (), None)
        status = {
            "environment": self.environment, "pid": os.getpid(), "address": f"http://{self.ports.host}:{self.ports.callers}",
            "router": {"pid": self.router.pid, "port": self.ports.callers, "admin_port": self.ports.admin},
            "servers": servers, "weights": {"blue": blue, "green": green}, "shadow": shadow,
            "wanted_index": state.index if state else -1, "applied_index": self._applied,
            "production": state.production.model if state and state.production else None,
            "problem": self._problem, "ignored": [list(item) for item in state.ignored] if state else [],
        }
        if not force and status == self._status and time.monotonic() - self._written < 5:
            return
        self._status, self._written = status, time.monotonic()
        unfinished = self.folder / f".status.{os.getpid()}"
        unfinished.write_text(json.dumps({**status, "written": now_text()}, indent=1))
        unfinished.replace(self.folder / "status.json")


def _same(one: Slot, other: Slot) -> bool:
    """Whether a running server of `one` serves `other`."""
    return (one.model, one.approval, one.definition, one.name) == (other.model, other.approval, other.definition, other.name)


def _message(said: str) -> str:
    """The message in a refusal that a server printed as JSON."""
    try:
        return str(json.loads(said)["message"])
    except (ValueError, KeyError, TypeError):
        return said


def environment_folder(home: Home, environment: str) -> Path:
    """Where an environment's logs, status, switch and token lie."""
    return home.serving / environment


def stop_token(home: Home, environment: str) -> str:
    """The token of the environment's stop switch, made when it is first needed; only its owner can read it."""
    path = environment_folder(home, environment) / "token"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    with open(descriptor, "w", encoding="ascii") as stream:
        stream.write(secrets.token_urlsafe(32))
    return path.read_text()


def read_status(home: Home, environment: str) -> Mapping[str, Any] | None:
    """What the supervisor last wrote, or None if it never did. Says nothing about whether it still runs."""
    try:
        found: dict[str, Any] = json.loads((environment_folder(home, environment) / "status.json").read_bytes())
    except FileNotFoundError:
        return None
    return found


def is_supervised(home: Home, environment: str) -> bool:
    """Whether a supervisor of this environment runs now: the lock is held, and the status is a living process's own."""
    try:
        with home.lock(f"serve-{environment}"):
            return False
    except Busy:
        status = read_status(home, environment)
    if status is None:
        return False  # it is only just starting
    try:
        os.kill(status["pid"], 0)
    except ProcessLookupError:
        return False  # what a killed one left; the next has the lock and has not told yet
    except PermissionError:
        return True
    return True


@dataclass(frozen=True)
class Holding:
    """A span of time in which a rollout step was in force; `end` is empty while it still is."""

    start: str
    end: str


def holdings(home: Home, environment: str, index: int) -> tuple[Holding, ...]:
    """When the state that ledger entry `index` asks for held in full, from the supervisor's own log."""
    path = environment_folder(home, environment) / "applied.jsonl"
    spans: list[Holding] = []
    if not path.is_file():
        return ()
    begun = ""
    for line in path.read_bytes().split(b"\n")[:-1]:
        event = json.loads(line)
        if event["event"] == "applied" and event["index"] == index:
            begun = begun or event["time"]
        elif event["event"] in ("applied", "supervisor_started", "supervisor_stopped") and begun:
            spans.append(Holding(begun, event["time"]))
            begun = ""
    return (*spans, Holding(begun, "")) if begun else tuple(spans)


def ports_of(organisation: Organisation, environment: str) -> Ports:
    """The addresses that organisation.yaml gives an environment. `Misused` if it has no such environment."""
    found = organisation.environments.get(environment)
    if found is None:
        raise Misused(f"organisation.yaml has no environment {environment!r}.", rule="environment", value=environment,
                      remedy=f"Known: {', '.join(organisation.environments)}.")
    serves = found.serves
    return Ports(serves.host, serves.port, serves.admin_port, *serves.server_ports)


def recorded(home: Home, root: Path, environment: str) -> Callable[[], DesiredState]:
    """A reader of the environment's deployment records that asks the ledger again only when it has grown."""
    from compliance_assets.evidence.archive import Archive
    from compliance_assets.policy.organisation import load_organisation

    archive = Archive.open(home, load_organisation(root / "organisation.yaml"), writer=False)
    known: list[Any] = [-1, None]

    def read() -> DesiredState:
        size = archive.ledger.size
        if size != known[0]:
            known[:] = [size, desired_state(environment, archive.deployments(environment))]
        found: DesiredState = known[1]
        return found
    return read


@contextlib.contextmanager
def _only_one(home: Home, environment: str) -> Iterator[None]:
    """Hold the environment's lock. Whoever asks `is_supervised` holds it for a moment too: that is waited for."""
    with contextlib.ExitStack() as held:
        for attempt in range(20):
            try:
                held.enter_context(home.lock(f"serve-{environment}", what=f"another supervisor of {environment}"))
                break
            except Busy:
                if attempt == 19:
                    raise
                time.sleep(0.05)
        yield


def run_supervisor(home: Home, root: Path, environment: str, *, ports: Ports | None = None,
                   desired: Callable[[], DesiredState] | None = None, command: Sequence[str] = SERVER,
                   stop: threading.Event | None = None) -> None:
    """Supervise until SIGTERM or SIGINT (or until `stop` is set). Raises `Busy` for a second supervisor or a taken port."""
    from compliance_assets.policy.organisation import load_organisation

    told = stop or threading.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: told.set())
    where = ports or ports_of(load_organisation(root / "organisation.yaml"), environment)
    with _only_one(home, environment):
        (environment_folder(home, environment) / "status.json").unlink(missing_ok=True)  # it told of another process
        Supervisor(home, root, environment, where, desired or recorded(home, root, environment), command).run(told)
