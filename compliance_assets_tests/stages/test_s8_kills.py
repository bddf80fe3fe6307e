"""kill -9 during a rollout, under load: of the run that deploys at each step, of the new server, of the router; every request is accounted for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from compliance_assets.governance.verification import verify
from compliance_assets.pipeline import River, open_river
from compliance_assets.serving.inference_log import ANSWERING, read_log
from compliance_assets.serving.router import read_access
from compliance_assets.serving.supervisor import ports_of, read_status
from compliance_assets_tests.project import GOVERNANCE, OWNER, copied, decide, step
from compliance_assets_tests.stages.test_s8_deployment import actions, asked, state, supervised, version_answering

pytestmark = pytest.mark.slow
TOP = Path(__file__).resolve().parents[2]
DEPLOYS = ("import sys; from pathlib import Path; from compliance_assets.pipeline import advance, open_river; "
           "from compliance_assets.stages.stage import Driver; from compliance_assets_tests.project import SYSTEM; "
           "river = open_river(Path(sys.argv[1])); "
           "done = advance(river, SYSTEM, 'deployment', None, Driver(run_id=sys.argv[2], launcher='engineer')); sys.exit(0 if done else 1)")


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to that in time"
        time.sleep(0.02)


def test_whatever_is_killed_during_a_rollout_it_ends_as_approved_and_no_request_is_lost(reviewed_world: Path, tmp_path: Path) -> None:
    root = copied(reviewed_world, tmp_path / "world")
    river = open_river(root)
    for person in (OWNER, GOVERNANCE):
        decide(river, person)
    assert step(river, "approval")
    runs = 0

    def deploying() -> subprocess.Popen[bytes]:
        nonlocal runs
        runs += 1
        with (tmp_path / f"run-{runs}").open("wb") as said:
            return subprocess.Popen([sys.executable, "-c", DEPLOYS, str(root), f"run-{runs}"], env=os.environ | {"PYTHONPATH": str(TOP)}, stderr=said)

    with supervised(river), asked(river) as tally:
        for after in ("intent", "shadow_started", "canary_started"):
            run = deploying()
            until(lambda after=after: after in actions(river))  # type: ignore[misc]
            run.kill()
            run.wait()
            if after == "canary_started":
                until(lambda: bool(pids(river)))
                os.kill(pids(river)[0], signal.SIGKILL)
        before = tally.sent
        last = deploying()
        until(lambda: tally.sent > before + 20)
        os.kill((read_status(river.home, "production") or {})["router"]["pid"], signal.SIGKILL)
        assert last.wait(90) == 0, (tmp_path / f"run-{runs}").read_text()[-600:]
        until(lambda: tally.answered > before + 100)
        full = state(river).production
        assert full is not None and version_answering(river)["model"] == full.model
    assert actions(river) == ["intent", "shadow_started", "canary_started", "full_rollout"], "no step was taken twice"
    _accounted_for(river, tally.statuses)
    assert verify(river.archive).problems == []


def pids(river: River) -> list[int]:
    """The processes that serve this release: in a first rollout there is no other."""
    servers = (read_status(river.home, "production") or {})["servers"].values()
    return [one["pid"] for one in servers if one["pid"] is not None]


def _accounted_for(river: River, statuses: Counter[int]) -> None:
    """Who was answered stands in the log, once; who stands there and was not answered had his answer cut off by a kill."""
    place = river.home.serving / "production"
    logged = Counter(one.request_id for one in read_log(place / "log") if one.role == ANSWERING)
    assert set(statuses) <= {200, 503, 0}, "refused in order or cut off, never a broken answer"
    assert max(logged.values()) == 1, "nobody was decided about twice"
    assert 0 <= len(logged) - statuses[200] <= statuses[503] + statuses[0]
    by_router = {one.request_id for one in read_access(place / "router" / "access.jsonl", ports_of(river.organisation, "production")) if one.status == 200}
    assert by_router <= set(logged), "the router passed on an answer that nobody can find again"
