"""Stage 6: a healthy version passes every suite over HTTP; one broken thing fails the gate that is about it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from compliance_assets.errors import ServingError
from compliance_assets.modelfile import load, store, trusted_types
from compliance_assets.pipeline import River, open_river
from compliance_assets.policy.gates import GateReport, Verdict
from compliance_assets.registry import Registry
from compliance_assets.serving import launching
from compliance_assets.serving.client import Client
from compliance_assets.serving.inference_log import read_log
from compliance_assets.serving.spec import ServerSpec
from compliance_assets.stages import s6_integration_testing as stage_6
from compliance_assets.stages import s6_suites as suites
from compliance_assets.stages.s6_integration_testing import IntegrationReport
from compliance_assets.stages.stage import Draft
from compliance_assets.trust.canonical import Digest
from compliance_assets_tests.project import SYSTEM, step
from compliance_assets_tests.serving.small_server import COMMAND, ROW, TOKEN, SmallLender, people, taken


def latest(river: River, asset: str) -> Any:
    digest = river.head(SYSTEM, asset)
    assert digest is not None
    return river.value(asset, digest)


def judged(river: River, report: IntegrationReport) -> dict[str, GateReport]:
    work: Any = SimpleNamespace(definition=river.definition(SYSTEM))
    staged, features = latest(river, "staged_model"), latest(river, "features")
    return {found.gate: found for found in stage_6.judge(work, Draft(report), staged_model=staged, features=features)}


@pytest.mark.slow
class TestInAWholeWorld:
    """From the staged model of a small project, with its real registry and ledger."""

    def test_a_healthy_version_passes_every_gate_with_real_tests(self, in_review: Path) -> None:
        river = open_river(in_review)
        report = latest(river, "integration_report")
        assert {gate: bool(found) for gate, found in judged(river, report).items()} == dict.fromkeys(
            ("identity", "contract", "parity", "golden", "end_to_end", "latency"), True)
        assert len(report.of("contract")) > 50
        assert {item.name for item in report.of("golden")} >= {"sex=female", "sex=male", "age_band=below_45", "age_band=from_45"}
        assert report.latency_requests >= 100
        assert not (river.home.serving / "integration-small-lender" / "stopped.json").exists()

    def test_another_model_in_the_registry_fails_identity_and_parity(self, in_review: Path,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
        river = open_river(in_review)
        real = Registry.model_bytes

        def swapped(self: Registry, name: str, version: str) -> bytes:
            content = real(self, name, version)
            model = load(content, trusted_types(content))
            last = model[-1] if hasattr(model, "steps") else model
            learned = "intercept_" if hasattr(last, "intercept_") else "_baseline_prediction"
            setattr(last, learned, getattr(last, learned) + 0.1)
            return store(model)

        monkeypatch.setattr(Registry, "model_bytes", swapped)
        outcome = step(river, "integration_report", run="other-bytes")
        assert not outcome
        assert [report.gate for report in outcome.reports if not report] == ["identity", "parity"]

    def test_a_server_that_refuses_is_an_error_in_its_own_words_and_not_a_verdict(self, in_review: Path,
                                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
        river = open_river(in_review)
        real = stage_6.take_snapshot

        def damaged(definition: Any, artefacts: Any) -> Digest:
            snapshot = real(definition, artefacts)
            artefacts.open_path(snapshot).unlink()
            return snapshot

        monkeypatch.setattr(stage_6, "take_snapshot", damaged)
        monkeypatch.setattr("compliance_assets.pipeline._answered", lambda *_, **__: None)  # test again, whatever held before
        with pytest.raises(ServingError, match="is not in the store"):
            step(river, "integration_report", run="damaged")

    @pytest.mark.parametrize("gate", ["identity", "contract", "parity", "golden", "end_to_end"])
    def test_one_failed_item_fails_its_gate_and_a_gate_without_items_is_an_error(self, in_review: Path, gate: str) -> None:
        river = open_river(in_review)
        report = latest(river, "integration_report")
        first = report.of(gate)[0]
        broken = report.model_copy(update={"items": tuple(
            item.model_copy(update={"passed": False}) if item == first else item for item in report.items)})
        assert judged(river, broken)[gate].verdict is Verdict.FAIL
        emptied = report.model_copy(update={"items": tuple(item for item in report.items if item.gate != gate)})
        assert not judged(river, emptied)[gate] or gate == "identity"

    @pytest.mark.parametrize(("changed", "verdict"), [
        ({"latency_p95_ms": "1000.1"}, Verdict.FAIL), ({"latency_p95_ms": ""}, Verdict.ERROR),
        ({"latency_requests": 99}, Verdict.ERROR)])
    def test_too_slow_fails_and_not_measured_is_an_error(self, in_review: Path, changed: dict[str, Any], verdict: Verdict) -> None:
        river = open_river(in_review)
        assert judged(river, latest(river, "integration_report").model_copy(update=changed))["latency"].verdict is verdict


# ------------------------------------------------------------------------------------- the suites, asked of a small server


@pytest.fixture(scope="module")
def lender(tmp_path_factory: pytest.TempPathFactory) -> SmallLender:
    return SmallLender.make(tmp_path_factory.mktemp("suites"))


@pytest.fixture(scope="module")
def served(lender: SmallLender, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, ServerSpec]]:
    spec = lender.spec(lender.train(), server="integration")
    with launching.running_server(spec, tmp_path_factory.mktemp("out"), command=COMMAND) as client:
        yield client, spec


def failed(items: Iterator[suites.Item]) -> list[str]:
    return [f"{item.name}: {item.value}" for item in items if not item.passed]


def test_a_healthy_server_keeps_its_contract(lender: SmallLender, served: tuple[Client, ServerSpec]) -> None:
    client, spec = served
    items = list(suites.contract(client, spec, lender.definition.contract, tuple(ROW), ROW, suites.Asked()))
    assert failed(iter(items)) == []
    assert len(items) > 60


def test_a_wrong_digest_anywhere_fails_identity(served: tuple[Client, ServerSpec]) -> None:
    client, spec = served
    assert failed(suites.identity(client, spec, spec.model, spec.model)) == []
    assert len(failed(suites.identity(client, spec, "0" * 64, spec.model))) == 1
    assert len(failed(suites.identity(client, spec, spec.model, "0" * 64))) == 1
    other = spec.model_copy(update={"release": "1" * 64})
    assert len(failed(suites.identity(client, other, spec.model, spec.model))) == 1


def test_one_changed_bit_fails_parity(lender: SmallLender, served: tuple[Client, ServerSpec]) -> None:
    import math

    client, _ = served
    rows = [taken(row) for row in people(30)]
    scores = client.post_json("/predict", {"rows": rows}).json()["scores"]
    assert failed(suites.parity(client, rows, scores, suites.Asked())) == []
    scores[3] = math.nextafter(scores[3], 1.0)
    assert failed(suites.parity(client, rows, scores, suites.Asked())) == ["registry and server agree to the bit: 29 of 30"]
    scores[3] += 1e-9
    assert failed(suites.parity(client, rows, scores, suites.Asked())) == [
        "registry and server agree to the bit: 29 of 30", "a row alone and in a batch gets the same score to 1e-12: 9 of 10"]
    assert failed(suites.parity(client, [{**rows[0], "debt": -1}], [0.5], suites.Asked()))


def golden_case(sex: str, decision: Any) -> dict[str, Any]:
    return {"name": f"a {sex}", "group": {"sex": sex}, "input": ROW, "expect": {"decision": decision}}


def test_golden_cases_are_decided_as_agreed_in_every_subgroup_or_fail(served: tuple[Client, ServerSpec]) -> None:
    client, _ = served
    decided = client.post_json("/predict", {"rows": [ROW]}).json()["decisions"][0] == "favourable"
    groups = {"sex": ("female", "male")}

    def run(*cases: Any) -> list[str]:
        return failed(suites.golden(client, {"cases": list(cases)}, groups, suites.Asked()))

    assert run(golden_case("female", decided), golden_case("male", decided)) == []
    assert len(run(golden_case("female", decided), golden_case("male", not decided))) == 2
    assert run(golden_case("female", decided)) == ["sex=male: 0 of 0 as agreed"]
    assert run(golden_case("female", decided), golden_case("male", decided), {"name": "half"})
    assert run(golden_case("female", decided), golden_case("male", "maybe"))
    assert len(failed(suites.golden(client, [], groups, suites.Asked()))) == 2, "no cases is not no failures"


def test_every_answer_is_in_the_log_and_a_lost_or_forged_line_is_found(served: tuple[Client, ServerSpec]) -> None:
    client, spec = served
    asked = suites.Asked()
    assert failed(suites.stop_switch(client, TOKEN, ROW, asked)) == []
    timed, errors = suites.latency(client, [ROW], asked)
    assert (len(timed), errors) == (suites.LATENCY_REQUESTS, 0)
    log = [d for d in read_log(spec.folder / "log") if d.id in asked.rows]
    assert failed(suites.logged(asked, log, spec)) == []
    assert failed(suites.logged(asked, log[1:], spec))
    assert failed(suites.logged(asked, [*log[1:], type(log[0])(**{**log[0].__dict__, "score": "0.1"})], spec))
    assert failed(suites.logged(asked, [*log, type(log[0])(**{**log[0].__dict__, "id": "nobody asked"})], spec))
    assert failed(suites.logged(suites.Asked(), [], spec)), "nothing asked is not everything logged"


def test_a_stop_switch_that_does_not_stop_is_found(served: tuple[Client, ServerSpec]) -> None:
    client, _ = served
    assert failed(suites.stop_switch(client, "not-the-token-of-this-server", ROW, suites.Asked()))


def test_the_percentile_is_the_nearest_rank() -> None:
    assert [suites.percentile(range(1, 101), share) for share in (0.5, 0.95, 1.0)] == [50, 95, 100]
    assert suites.percentile([7.0], 0.95) == 7.0
