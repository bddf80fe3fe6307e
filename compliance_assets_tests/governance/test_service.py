"""What serves is what is on record; a system goes out of service by people's word, once; what is held or must be kept is not deleted."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner

from compliance_assets.cli import cli
from compliance_assets.errors import Misused, OutOfTurn, Waiting
from compliance_assets.evidence import inbox
from compliance_assets.evidence import verify_bundle as vb
from compliance_assets.evidence.authority import serving_authority
from compliance_assets.evidence.deployments import Slot, desired_state
from compliance_assets.evidence.holds import holds_of, require_free, subject_of
from compliance_assets.governance import reconciling
from compliance_assets.governance.deciding import decide_standing, revoke_decision
from compliance_assets.governance.export import export
from compliance_assets.governance.ledger_view import lines
from compliance_assets.governance.retention import retention
from compliance_assets.governance.verification import verify
from compliance_assets.orchestration.reconciling import after_look
from compliance_assets.orchestration.watching import due_before
from compliance_assets.pipeline import River, open_river
from compliance_assets.serving.supervisor import environment_folder, ports_of
from compliance_assets.stages.s8_decommission import decommission
from compliance_assets.stages.s8_decommission import subject_of as decommissioning
from compliance_assets.stages.s8_return import Place, roll_back
from compliance_assets.trust.canonical import Digest
from compliance_assets_tests.evidence.forging import Forger, simulated_rollout
from compliance_assets_tests.project import GOVERNANCE, OWNER, REASON, SYSTEM, copied, decide, signer, someone, step

ENV = "production"


@pytest.fixture(scope="module")
def deployed_world(reviewed_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release in production, on record."""
    root = copied(reviewed_world, tmp_path_factory.mktemp("service") / "world")
    river = open_river(root)
    for person in (OWNER, GOVERNANCE):
        decide(river, person)
    assert step(river, "approval")
    simulated_rollout(river, SYSTEM)
    return root


@pytest.fixture
def river(deployed_world: Path, tmp_path: Path) -> River:
    return open_river(copied(deployed_world, tmp_path / "world"))


# ------------------------------------------------------------------------------------------------------------- reconciliation


def production(river: River) -> Slot:
    slot = desired_state(ENV, river.archive.deployments(ENV)).production
    assert slot is not None
    return slot


@contextmanager
def answering(river: River, name: str, **says: str) -> Iterator[None]:
    """A server at a slot's port that says it is the version in production, or something else; with its start file."""
    slot = production(river)
    said = {"system": slot.system, "release": slot.release, "model": slot.model, "definition": slot.definition, "environment": ENV, **says}

    class Version(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(said).encode())

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", ports_of(river.organisation, ENV).of(name)), Version)  # type: ignore[arg-type]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def start_file(river: River, **says: str) -> None:
    slot = production(river)
    folder = environment_folder(river.home, ENV) / "specs"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{slot.name}.json").write_text(json.dumps({"model": slot.model, "release": slot.release, "authority": slot.approval, **says}))


def seen(river: River) -> tuple[str, ...]:
    return reconciling.look(river, ENV, patience=0).differences


def test_what_answers_as_recorded_agrees_and_nothing_is_written(river: River) -> None:
    start_file(river)
    size = river.archive.ledger.size
    with answering(river, production(river).name):
        found = reconciling.look(river, ENV, patience=0)
    assert found and reconciling.record(river, found, someone()) is None and river.archive.ledger.size == size


def test_each_disagreement_is_named(river: River) -> None:
    start_file(river)
    name = production(river).name
    other = "green" if name == "blue" else "blue"
    assert any("nobody answers" in one for one in seen(river))
    with answering(river, name, model="f" * 64):
        assert any("the server says model ffffffffffff" in one for one in seen(river))
    with answering(river, name), answering(river, other):
        assert seen(river) == (f"{other}: model {production(river).model[:12]} answers, and no deployment record asks for it",)
    with answering(river, name):
        start_file(river, authority="e" * 64)
        assert any(f"{name}.json names authority eeeeeeeeeeee" in one for one in seen(river))
        (environment_folder(river.home, ENV) / "specs" / f"{name}.json").unlink()
        assert any("is not there" in one for one in seen(river))
        start_file(river)
        path = river.archive.artefacts._path(Digest.parse(production(river).model))
        path.chmod(0o600)
        path.write_bytes(b"another model")
        assert seen(river) and production(river).model[:12] in seen(river)[0]


def test_a_disagreement_goes_on_record_once_and_so_does_its_end(river: River) -> None:
    start_file(river)
    first = reconciling.record(river, reconciling.look(river, ENV, patience=0), someone())
    assert first is not None and not first.body.agrees
    assert reconciling.record(river, reconciling.look(river, ENV, patience=0), someone()) is None
    with answering(river, production(river).name):
        end = reconciling.record(river, reconciling.look(river, ENV, patience=0), someone())
    assert end is not None and end.body.agrees and verify(river.archive)
    assert [one.said for one in lines(river, kind="reconciliation")[0]] == [
        "what serves in production agrees with the ledger again", "what serves in production is not what the ledger says"]


def test_patience_waits_for_a_server_that_is_on_its_way(river: River) -> None:
    start_file(river, model="f" * 64)
    with answering(river, production(river).name):
        assert not reconciling.look(river, ENV, patience=0, sleep=lambda _: start_file(river))
        assert reconciling.look(river, ENV, patience=5, sleep=lambda _: start_file(river))


def test_the_sensor_alerts_what_differs_twice_in_a_row_and_only_once(river: River) -> None:
    start_file(river)
    told: list[Mapping[str, object]] = []

    def tick(cursor: str | None) -> str | None:
        context = dg.build_sensor_context(cursor=cursor)

        def tell(found: Sequence[Mapping[str, object]]) -> None:
            told.extend(found)
        result = after_look(context, river, ENV, tell)
        return result.cursor if isinstance(result, dg.SensorResult) else cursor

    cursor = tick(None)
    assert not told, "a step under way differs once"
    cursor = tick(cursor)
    assert [one["event"] for one in told] == ["serving_disagrees"]
    tick(cursor)
    assert len(told) == 1


def test_the_command_refuses_with_one_and_says_where_it_is_on_record(river: River) -> None:
    start_file(river)
    arguments = ["reconcile", ENV, "--patience", "0", "--root", str(river.root), "--json"]
    done = CliRunner().invoke(cli, arguments)
    said = json.loads(done.stdout)
    assert done.exit_code == 1 and not said["agrees"] and said["ledger_index"] == river.archive.ledger.size - 1
    assert "serving_disagrees" in (river.home.logs / "alerts.jsonl").read_text()
    with answering(river, production(river).name):
        assert CliRunner().invoke(cli, arguments).exit_code == 0


# ------------------------------------------------------------------------------------------------------------- out of service


def place(river: River) -> Place:
    return Place(river.archive, river.organisation, river.home, SYSTEM, ENV, someone(), river.now)


def say(river: River, person: str, decision: Any = "approve") -> Digest:
    statement, _ = decide_standing(river, SYSTEM, "decommission", decommissioning(SYSTEM, ENV), ENV, {"decommission": SYSTEM},
                                   signer(river, person), decision, REASON)
    inbox.admit(river.archive)
    return statement.digest


def test_without_enough_people_a_system_stays_in_service(river: River) -> None:
    with pytest.raises(Waiting, match="1 × technical_owner; 1 × governance_lead"):
        decommission(place(river), REASON)
    own = say(river, OWNER)
    say(river, GOVERNANCE)
    revoke_decision(river, SYSTEM, str(own), signer(river, OWNER), REASON)
    inbox.admit(river.archive)
    with pytest.raises(Waiting, match="1 × technical_owner"):
        decommission(place(river), REASON)
    say(river, OWNER)
    say(river, GOVERNANCE, "reject")
    with pytest.raises(Waiting, match=f"{GOVERNANCE} said no"):
        decommission(place(river), REASON)


def test_out_of_service_nothing_answers_and_nothing_is_deployed_any_more(river: River) -> None:
    slot = production(river)
    for person in (OWNER, GOVERNANCE):
        say(river, person)
    decommission(place(river), REASON)
    state = desired_state(ENV, river.archive.deployments(ENV))
    assert (state.production, state.standby, state.candidate, state.system) == (None, None, None, "")
    with pytest.raises(OutOfTurn, match="was decommissioned"):
        serving_authority(river.archive, ENV, Digest.parse(slot.model), "rollout")
    for stage in ("model_registration", "approval", "deployment_record"):
        with pytest.raises(OutOfTurn, match="was taken out of service in production"):
            step(river, stage, run="again")
    with pytest.raises(Misused, match="Nothing of small_lender answers in production"):
        roll_back(place(river), REASON)
    with pytest.raises(Misused, match="out of service in production already"):
        decommission(place(river), REASON)
    simulated_rollout_ignored(river)
    assert not seen(river)


def simulated_rollout_ignored(river: River) -> None:
    """Somebody with the deployer's key writes an intent nonetheless: it is not obeyed."""
    last = next(one for one in river.archive.deployments(ENV) if one.body.action == "intent")
    river.archive.append_deployment(last.body.model_copy(update={"run": "nonetheless"}))
    state = desired_state(ENV, river.archive.deployments(ENV))
    assert state.production is None and "was taken out of service" in state.ignored[-1][1]


def test_what_never_served_needs_no_decommissioning(in_review: Path) -> None:
    with pytest.raises(Misused, match="was never in service"):
        decommission(place(open_river(in_review)), REASON)


def test_the_auditors_verifier_asks_for_people_and_refuses_what_comes_after(river: River, tmp_path: Path) -> None:
    for person in (OWNER, GOVERNANCE):
        say(river, person)
    decommission(place(river), REASON)
    export(river.archive, SYSTEM, tmp_path / "bundle")

    def problems(name: str, attack: Callable[[Forger], object]) -> list[str]:
        forger = Forger(tmp_path / "bundle", river.home.keys)
        attack(forger)
        found = vb.Bundle(forger.write(tmp_path / name)[0])
        found.verify(None, None)
        return found.problems

    assert not problems("honest", lambda forger: None)
    alone = problems("alone", lambda forger: forger.entries.remove(forger.decisions("decommission")[0]))
    assert any("not enough people decided that the system goes out of service" in one for one in alone)
    after = problems("after", lambda forger: forger.copy(forger.deployment("intent")))
    assert any("the system had been taken out of service" in one for one in after)


# --------------------------------------------------------------------------------------------------------- kept, and held


def hold(river: River, person: str, decision: Any = "approve", subject: Digest | None = None) -> Digest:
    statement, _ = decide_standing(river, SYSTEM, "legal-hold", subject or subject_of(SYSTEM), "", {"legal-hold": SYSTEM},
                                   signer(river, person), decision, REASON)
    inbox.admit(river.archive)
    return statement.digest


def test_one_person_holds_and_it_takes_the_quorum_to_let_go(river: River) -> None:
    held = hold(river, OWNER)
    with pytest.raises(OutOfTurn, match=f"{OWNER} holds all evidence of {SYSTEM}"):
        require_free(river.archive, SYSTEM, "A day of the log")
    hold(river, OWNER, "reject", held)
    with pytest.raises(OutOfTurn, match="holds all evidence"):
        require_free(river.archive, SYSTEM, "A day of the log")
    letting_go = hold(river, GOVERNANCE, "reject", held)
    require_free(river.archive, SYSTEM, "A day of the log")
    revoke_decision(river, SYSTEM, str(letting_go), signer(river, GOVERNANCE), REASON)
    assert not inbox.admit(river.archive)[1]
    with pytest.raises(OutOfTurn, match=f"{OWNER} holds all evidence"):
        require_free(river.archive, SYSTEM, "A day of the log")
    hold(river, GOVERNANCE, "reject", held)
    require_free(river.archive, SYSTEM, "A day of the log")
    assert [one.record.body.person for one in holds_of(river.archive, SYSTEM) if one.released] == [OWNER]
    hold(river, GOVERNANCE)
    with pytest.raises(OutOfTurn, match=f"{GOVERNANCE} holds"):
        require_free(river.archive, SYSTEM, "A day of the log")


def test_only_a_persons_yes_to_a_hold_is_a_hold(river: River) -> None:
    hold(river, GOVERNANCE, "reject")
    assert holds_of(river.archive, SYSTEM) == ()
    held = hold(river, OWNER)
    revoke_decision(river, SYSTEM, str(held), signer(river, OWNER), REASON)
    assert not inbox.admit(river.archive)[1]
    assert [one.id for one in holds_of(river.archive, SYSTEM)] == [held], "its setter alone does not take it back: it takes the quorum"
    with pytest.raises(OutOfTurn, match=f"{OWNER} holds all evidence"):
        require_free(river.archive, SYSTEM, "A day of the log")


def test_documentation_has_no_end_in_service_and_ten_years_from_the_day_it_ended(river: River) -> None:
    first = retention(river, SYSTEM)[0]
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    assert (first.since, first.until, first.may_go) == (today, "", False) and first.law_until[:4] == str(int(today[:4]) + 10)
    for person in (OWNER, GOVERNANCE):
        say(river, person)
    decommission(place(river), REASON)
    ended = retention(river, SYSTEM)[0]
    assert ended.until[:4] == str(int(today[:4]) + 10) and not ended.may_go and "out of service" in ended.why
    later = replace(river, now=lambda: datetime(int(today[:4]) + 11, 1, 1, tzinfo=UTC))
    assert retention(later, SYSTEM)[0].may_go
    hold(river, OWNER)
    assert not retention(later, SYSTEM)[0].may_go and retention(later, SYSTEM)[0].why == "legal hold"


def sealed(river: River, day: str) -> Path:
    """One day of the log with one decision, not sealed yet."""
    folder = environment_folder(river.home, ENV) / "log" / "blue"
    folder.mkdir(parents=True)
    line = {"id": "a", "time": f"{day}T10:00:00Z", "model": "m", "role": "answering", "decision": "favourable", "score": "0.5"}
    (folder / f"decisions-{day}-blue.jsonl").write_text(json.dumps(line) + "\n")
    (folder / f"inputs-{day}-blue.jsonl").write_text(json.dumps({"id": "a", "row": {}}) + "\n")
    return folder


def test_the_commands_delete_nothing_within_its_time_nor_under_a_hold(river: River) -> None:
    folder = sealed(river, "2024-01-10")
    root = ("--root", str(river.root), "--json")

    def said(*arguments: str, exit_code: int = 0) -> Any:
        done = CliRunner().invoke(cli, [*arguments, *root])
        assert done.exit_code == exit_code, (done.output, done.exception)
        return json.loads(done.stdout) if not exit_code else done

    who = ("--as", OWNER, "--role", "technical_owner", "--reason", REASON)
    (held,) = said("hold", "set", SYSTEM, *who)
    assert held["stands"]
    result = said("seal-log", ENV)
    assert result["sealed"] and not result["deleted"] and "holds all evidence" in result["held"]
    assert isinstance(said("seal-log", ENV, "--forget-inputs-before", "2026-01-01", exit_code=1).exception, OutOfTurn)
    assert len(list(folder.glob("*.parquet"))) == 2
    kept = said("retention", SYSTEM)
    assert [one["class"] for one in kept] == ["documentation (R10)", "operation log (R6m)", "operation log, personal data (R6m)"]
    assert [one["law_until"] for one in kept[1:]] == ["2024-07-10"] * 2 and not any(one["may_go"] for one in kept)
    said("hold", "release", SYSTEM, held["hold"][:12], *who)
    (now,) = said("hold", "release", SYSTEM, held["hold"], "--as", GOVERNANCE, "--role", "governance_lead", "--reason", REASON)
    assert not now["stands"] and said("hold", "list", SYSTEM) == [now]
    assert all(one["may_go"] for one in said("retention", SYSTEM)[1:])
    assert len(said("seal-log", ENV)["deleted"]) == 2 and not list(folder.glob("*.parquet"))
    assert [one["class"] for one in said("retention", SYSTEM)] == ["documentation (R10)"], "what is gone is not kept"


def test_the_decommission_command_takes_each_signature_and_acts_on_the_last(river: River, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "engineer")
    said = []
    for person, role in ((OWNER, "technical_owner"), (GOVERNANCE, "governance_lead")):
        done = CliRunner().invoke(cli, ["decommission", SYSTEM, "--as", person, "--role", role, "--reason", REASON, "--root",
                                        str(river.root), "--json"], catch_exceptions=False)
        said.append(json.loads(done.stdout))
    assert said[0]["missing"] == "1 × governance_lead" and said[0]["ledger_index"] is None
    assert said[1]["missing"] == "" and said[1]["ledger_index"] is not None


@pytest.mark.parametrize(("cron", "moment", "due"), [
    ("0 6 * * 1", "2026-11-25T12:00", "2026-11-23T06:00"), ("0 6 * * 1", "2026-11-23T06:00", "2026-11-23T06:00"),
    ("*/15 * * * *", "2026-11-23T06:07", "2026-11-23T06:00"), ("0 6 1 1 *", "2026-11-23T06:07", "2026-01-01T06:00")])
def test_when_a_scheduled_run_was_last_due(cron: str, moment: str, due: str) -> None:
    assert due_before(cron, datetime.fromisoformat(f"{moment}+00:00")) == datetime.fromisoformat(f"{due}+00:00")
