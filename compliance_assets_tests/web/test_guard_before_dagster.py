"""Before the real dagster-webserver, from a real browser: another page can start, forge and erase nothing.

First the control: the same page against Dagster without a guard does start a run by GET. Otherwise the attempts would prove
nothing about the guard.
"""

from __future__ import annotations

import json
import os
import signal
import socket as socketlib
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dagster as dg
import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route

from compliance_assets.web.guard import build_guard
from compliance_assets.web.ui_users import Role, User, new_token, token_hash
from compliance_assets_tests.web.browser import chromium
from compliance_assets_tests.web.serving_asgi import free_socket, served

pytestmark = pytest.mark.slow

MODULE = '''
import dagster as dg

@dg.asset(check_specs=[dg.AssetCheckSpec("gate", asset="thing")])
def thing():
    yield dg.Output(1)
    yield dg.AssetCheckResult(check_name="gate", passed=True)

defs = dg.Definitions(assets=[thing], jobs=[dg.define_asset_job("make", selection="*")])
'''
INSTANCE = """
telemetry: {enabled: false}
nux: {enabled: false}
run_coordinator: {module: compliance_assets.orchestration.coordinator, class: NamedRunCoordinator}
"""
LAUNCH = """mutation Launch($tags: [ExecutionTag!]) { launchRun(executionParams: {selector: {repositoryLocationName: "trivial",
repositoryName: "__repository__", jobName: "make"}, runConfigData: {}, executionMetadata: {tags: $tags}}) { __typename
... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
WIPE = 'mutation { wipeAssets(assetPartitionRanges: [{assetKey: {path: ["thing"]}}]) { __typename } }'
REPORT = ('mutation { reportRunlessAssetEvents(eventParams: {eventType: ASSET_MATERIALIZATION, assetKey: {path: ["thing"]}}) '
          '{ __typename } }')

ATTACK = """
(async () => {
  const target = TARGET, launch = LAUNCH, wipe = WIPE, report = REPORT, tried = [];
  const get = q => target + '/graphql?query=' + encodeURIComponent(q);
  const attempt = async (name, act) => { try { await act(); tried.push(name); } catch (error) { tried.push(name + ': ' + error); } };
  for (const query of [launch, wipe, report]) {
    await attempt('image', () => new Promise(done => { const i = new Image(); i.onload = i.onerror = done; i.src = get(query); }));
    await attempt('get', () => fetch(get(query), {mode: 'no-cors', credentials: 'include'}));
    await attempt('text', () => fetch(target + '/graphql', {method: 'POST', mode: 'no-cors', credentials: 'include',
      headers: {'content-type': 'text/plain'}, body: JSON.stringify({query})}));
    await attempt('post with query', () => fetch(get(query), {method: 'POST', mode: 'no-cors', credentials: 'include'}));
    await attempt('json', () => fetch(target + '/graphql', {method: 'POST', credentials: 'include',
      headers: {'content-type': 'application/json'}, body: JSON.stringify({query})}));
    await attempt('beacon', async () => navigator.sendBeacon(target + '/graphql', new Blob([JSON.stringify({query})], {type: 'text/plain'})));
    await attempt('form', () => new Promise(done => { const f = document.createElement('form'), n = document.createElement('iframe');
      n.name = 'n' + Math.random(); document.body.append(n, f); f.target = n.name; f.method = 'POST'; f.action = get(query);
      n.onload = () => setTimeout(done, 200); setTimeout(done, 3000); f.submit(); }));
    await attempt('frame', () => new Promise(done => { const n = document.createElement('iframe'); n.onload = n.onerror = done;
      setTimeout(done, 3000); n.src = get(query); document.body.append(n); }));
    await attempt('socket', () => new Promise(done => { const s = new WebSocket(target.replace('http', 'ws') + '/graphql', 'graphql-ws');
      s.onopen = () => { s.send(JSON.stringify({type: 'connection_init'}));
        s.send(JSON.stringify({type: 'start', id: '1', payload: {query}})); setTimeout(done, 500); }; s.onerror = s.onclose = done; }));
  }
  for (const what of ['materialization', 'observation', 'check'])
    await attempt(what, () => fetch(target + '/report_asset_' + what + '/thing?check_name=gate&passed=false', {method: 'POST', mode: 'no-cors',
      credentials: 'include'}));
  return tried;
})()
"""


@dataclass
class Dagster:
    """A running dagster-webserver without a guard, and its instance."""

    socket: Path
    port: int
    home: Path

    def state(self) -> dict[str, int]:
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            thing = dg.AssetKey("thing")
            checks = instance.event_log_storage.get_asset_check_execution_history(dg.AssetCheckKey(thing, "gate"), limit=50)
            return {"runs": instance.get_runs_count(), "materialisations": len(instance.fetch_materializations(thing, limit=50).records),
                    "observations": len(instance.fetch_observations(thing, limit=50).records), "checks": len(checks)}


@contextmanager
def _process(*command: str, folder: Path, home: Path) -> Iterator[None]:
    process = subprocess.Popen(command, cwd=folder, env={**os.environ, "DAGSTER_HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)},
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)


def _until_up(ask: Any) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            if ask().status_code == 200:
                return
        except httpx.HTTPError:
            pass
        assert time.monotonic() < deadline, "dagster-webserver did not start"
        time.sleep(0.3)


def _until_listening(path: Path) -> None:
    """By hand: httpx leaves its socket open when nobody answers on a Unix socket yet."""
    deadline = time.monotonic() + 120
    while True:
        with socketlib.socket(socketlib.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                return
        assert time.monotonic() < deadline, "the webserver on the socket did not start"
        time.sleep(0.3)


@pytest.fixture(scope="module")
def dagster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dagster]:
    folder = tmp_path_factory.mktemp("d")
    home = folder / "home"
    home.mkdir(mode=0o700)
    folder.chmod(0o700)
    (home / "dagster.yaml").write_text(INSTANCE)
    (folder / "trivial.py").write_text(MODULE)
    (folder / "workspace.yaml").write_text("load_from: [{python_file: {relative_path: trivial.py, location_name: trivial}}]\n")
    with dg.DagsterInstance.from_config(str(home)) as instance:  # its SQLite files, before two processes race to make them
        instance.get_runs_count()
    probe = free_socket()
    port = probe.getsockname()[1]
    probe.close()
    socket = folder / "d.sock"
    bare = (str(Path(sys.executable).parent / "dagster-webserver"), "-h", "127.0.0.1", "-p", str(port), "-w", "workspace.yaml")
    behind = (sys.executable, "-m", "compliance_assets.orchestration.webserver", str(socket))
    with _process(*bare, folder=folder, home=home), _process(*behind, folder=folder, home=home):
        _until_up(lambda: httpx.get(f"http://127.0.0.1:{port}/server_info", trust_env=False))
        _until_listening(socket)
        yield Dagster(socket, port, home)


@dataclass
class Guarded:
    dagster: Dagster
    port: int
    tokens: dict[str, str]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, query: str, name: str = "ada", **variables: Any) -> httpx.Response:
        return httpx.post(f"{self.address}/graphql", json={"query": query, "variables": variables}, trust_env=False, timeout=60,
                          headers={"authorization": f"Bearer {self.tokens[name]}"})


@pytest.fixture(scope="module")
def guarded(dagster: Dagster) -> Iterator[Guarded]:
    tokens = {"ada": new_token(), "otto": new_token()}
    users = [User("ada", Role.OPERATOR, token_hash(tokens["ada"])), User("otto", Role.READER, token_hash(tokens["otto"]))]
    listening = free_socket()
    port = listening.getsockname()[1]
    with served(build_guard(f"unix:{dagster.socket}", "127.0.0.1", port, users), listening):
        yield Guarded(dagster, port, tokens)


@contextmanager
def another_page() -> Iterator[int]:
    """A page that nobody trusts, on another port."""
    with served(Starlette(routes=[Route("/", lambda _: HTMLResponse("<!doctype html><title>elsewhere</title><body></body>"))])) as port:
        yield port


def _attack(target: str) -> str:
    said = {"TARGET": target, "LAUNCH": LAUNCH, "WIPE": WIPE, "REPORT": REPORT}
    script = ATTACK
    for name, value in said.items():
        script = script.replace(f"= {name}", f"= {json.dumps(value)}", 1)
    return script


def test_without_a_guard_another_page_starts_runs_and_forges_events(dagster: Dagster, tmp_path: Path) -> None:
    before = dagster.state()
    with another_page() as elsewhere, chromium(tmp_path / "profile") as page:
        page.open(f"http://localhost:{elsewhere}/")
        page.run(_attack(f"http://127.0.0.1:{dagster.port}"))
    after = dagster.state()
    assert after["runs"] > before["runs"] and after["observations"] > before["observations"] and after["checks"] > before["checks"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest.mark.parametrize("user", ["ada", None])
def test_through_the_guard_another_page_does_nothing(guarded: Guarded, tmp_path: Path, host: str, user: str | None) -> None:
    before = guarded.dagster.state()
    with another_page() as elsewhere, chromium(tmp_path / "profile") as page:
        if user is not None:
            page.open(f"{guarded.address}/guard/login")
            page.act(f"document.getElementById('token').value = {json.dumps(guarded.tokens[user])}; document.forms[0].submit()")
            page.until("document.title !== 'Sign in to Dagster' && document.readyState === 'complete'")
        page.open(f"http://{host}:{elsewhere}/")
        tried = page.run(_attack(guarded.address))
    assert len(tried) == 30
    assert guarded.dagster.state() == before


def test_the_pages_of_dagster_work_through_the_guard_and_say_who_launched(guarded: Guarded, tmp_path: Path) -> None:
    launched = guarded.ask(LAUNCH, tags=[{"key": "user", "value": "eve"}])
    run_id = launched.json()["data"]["launchRun"]["run"]["runId"]
    with dg.DagsterInstance.from_config(str(guarded.dagster.home)) as instance:
        run = instance.get_run_by_id(run_id)
        assert run is not None and run.tags["user"] == "ada"
    with chromium(tmp_path / "profile") as page:
        page.open(f"{guarded.address}/runs")
        assert page.run("document.title") == "Sign in to Dagster"
        page.act(f"document.getElementById('token').value = {json.dumps(guarded.tokens['ada'])}; document.forms[0].submit()")
        page.until("document.body && document.body.innerText.includes('ada')", seconds=60)
        assert page.run("location.pathname").startswith("/runs")
        page.open(f"{guarded.address}/assets/thing")
        page.until("document.body && document.body.innerText.includes('thing')", seconds=60)


def test_the_reader_reads(guarded: Guarded) -> None:
    assert guarded.ask("{ version }", "otto").json()["data"]["version"]
    refused = guarded.ask(LAUNCH, "otto")
    assert refused.status_code == 403 and refused.json()["remedy"] == "Sign in as an operator."


def test_events_cannot_be_reported_by_an_operator_either(guarded: Guarded) -> None:
    before = guarded.dagster.state()
    for query in (WIPE, REPORT):
        assert guarded.ask(query).status_code == 403
    for what in ("materialization", "observation", "check"):
        said = httpx.post(f"{guarded.address}/report_asset_{what}/thing?check_name=gate&passed=true", trust_env=False,
                          headers={"authorization": f"Bearer {guarded.tokens['ada']}", "origin": guarded.address})
        assert said.status_code == 403
    by_get = httpx.get(f"{guarded.address}/graphql?query={quote(LAUNCH)}", trust_env=False,
                       headers={"authorization": f"Bearer {guarded.tokens['ada']}"})
    foreign = httpx.get(f"{guarded.address}/", trust_env=False, headers={"host": "evil.example", "authorization": f"Bearer {guarded.tokens['ada']}"})
    assert (by_get.status_code, foreign.status_code) == (403, 421)
    assert guarded.dagster.state() == before
