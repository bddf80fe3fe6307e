"""Alerts: each rule fires on its cause and not without it; each alert is a signed record that people answer; nobody is told twice."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from compliance_assets.cli import cli
from compliance_assets.errors import Misused
from compliance_assets.evidence.alerts import alerts_of
from compliance_assets.evidence.records import Alert
from compliance_assets.governance.alerts import statistics
from compliance_assets.governance.alerts.keeping import look
from compliance_assets.governance.alerts.rules import RULES, Found, trends
from compliance_assets.governance.dashboard.history import Decided, Excepted, FromBaseline, History, Judged, StagedWaiting, history_of
from compliance_assets.governance.delivering import ALERTS
from compliance_assets.governance.questions.catalogue import ask
from compliance_assets.governance.verification import verify
from compliance_assets.pipeline import open_river
from compliance_assets.policy.gates import Verdict
from compliance_assets.trust.canonical import Digest
from compliance_assets_tests.governance.answering import WHY, answered
from compliance_assets_tests.project import OWNER, SYSTEM
from compliance_assets_tests.web.visitor import Visitor

NOW = datetime(2028, 6, 1, tzinfo=UTC)


def days(before: float) -> datetime:
    return NOW - timedelta(days=before)


def judged(before: float, passed: bool = True, *, gate: str = "contract", bounds: str = "", margin: float | None = None, over: str = "sex") -> Judged:
    return Judged(4 if gate == "fairness" else 1, gate, 1, ((gate, bounds),), Verdict.PASS if passed else Verdict.FAIL, days(before),
                  int(10_000 - 10 * before), () if passed else ((over, "selection_rate_ratio"),), margin)


EMPTY = History(SYSTEM, NOW, (), 0, (), frozenset(), (), (), (), (), (), (), (), 0, 0, {})
HEALTHY = tuple(judged(200 - number) for number in range(60))


def series(*passed: bool, bounds: str = "") -> tuple[Judged, ...]:
    return tuple(judged(len(passed) - at, one, bounds=bounds) for at, one in enumerate(passed))


def margins(*values: float) -> tuple[Judged, ...]:
    return tuple(judged(len(values) - at, gate="fairness", margin=value) for at, value in enumerate(values))


def decided(hours: float, before: float) -> Decided:
    return Decided(OWNER, "approve", days(before), hours, 600, int(1000 - before))


PLANTED: dict[str, History] = {
    "T1": replace(EMPTY, judged=series(*[True] * 40, *[True, False] * 10)),
    "T2": replace(EMPTY, judged=margins(0.20, 0.19, 0.17, 0.16, 0.13, 0.12, 0.10, 0.08)),
    "T3": replace(EMPTY, judged=(judged(3, gate="fairness"), judged(2, False, gate="fairness"), judged(1, False, gate="fairness"))),
    "T4": replace(EMPTY, decisions=tuple(decided(90, before) for before in (50, 45, 40, 20, 15, 10))),
    "T5": replace(EMPTY, judged=tuple(replace(judged(one, gate="performance"), stage=4) for one in range(1, 9)),
                  exceptions=(Excepted("fairness: a", days(5), 7, True, NOW),)),
    "T6": replace(EMPTY, baseline=(FromBaseline("psi", "all", 0.21, days(1), 77),)),
    "T8": replace(EMPTY, staged_waiting=(StagedWaiting("a" * 64, days(61), 8),)),
}
SPARED: dict[str, History] = {
    "T1": replace(EMPTY, judged=series(*[True] * 58, False, True)),
    "T1 whose bound was changed since": replace(EMPTY, judged=(*series(*[True] * 40), *series(*[True, False] * 10, bounds="tighter"))),
    "T2": replace(EMPTY, judged=margins(0.15, 0.14, 0.16, 0.15, 0.13, 0.16, 0.15, 0.14)),
    "T2 with few runs": replace(EMPTY, judged=margins(0.20, 0.15, 0.10, 0.05)),
    "T3": replace(EMPTY, judged=(judged(2, False, gate="fairness"), judged(1, False, gate="fairness", over="age_band"))),
    "T4": replace(EMPTY, decisions=tuple(decided(hours, before) for hours, before in ((20, 50), (20, 45), (20, 40), (90, 20), (90, 15), (90, 10)))),
    "T5": replace(PLANTED["T5"], exceptions=(Excepted("fairness: a", days(5), 7, False, NOW),)),
    "T6": replace(EMPTY, baseline=(FromBaseline("psi", "all", 0.3, days(9), 70), FromBaseline("psi", "all", 0.1, days(1), 77))),
    "T8": replace(EMPTY, staged_waiting=(StagedWaiting("a" * 64, days(59), 8),)),
}


@pytest.mark.parametrize("rule", PLANTED)
def test_a_rule_fires_on_its_cause_and_says_window_n_and_statistic(rule: str) -> None:
    (found,) = trends(PLANTED[rule])
    assert found.rule == rule and found.window and found.n > 0 and found.statistic and found.newest > 0
    assert all(value == value and isinstance(value, str) for value in found.statistic.values())


@pytest.mark.parametrize("case", SPARED)
def test_a_rule_is_silent_without_its_cause(case: str) -> None:
    assert trends(SPARED[case]) == ()


def test_a_rate_near_one_is_held_against_all_verdicts_before_not_only_against_twenty() -> None:
    recent = [False] * 6 + [True] * 14
    (found,) = trends(replace(EMPTY, judged=series(*[True] * 160, *[True] * 18, False, False, *recent)))
    assert found.rule == "T1" and float(found.statistic["fisher_p"]) > 0.05 and float(found.statistic["fisher_p_of_all"]) < 0.0003
    assert float(found.statistic["ewma"]) > float(found.statistic["ewma_limit"])
    assert trends(replace(EMPTY, judged=series(*[True] * 18, False, False, *recent))) == (), "twenty before say too little"


def test_what_does_not_verify_is_an_alert_and_every_rule_is_explained() -> None:
    (found,) = trends(EMPTY, ["artefact 3f9c: other bytes"], 40)
    assert (found.rule, found.newest) == ("T7", 40) and "3f9c" in found.said
    assert trends(EMPTY) == () and list(RULES) == [f"T{number}" for number in range(1, 9)]


def test_the_same_exception_given_three_times_and_drift_at_two_levels() -> None:
    thrice = replace(EMPTY, exceptions=tuple(Excepted("fairness: sex", days(600 - 200 * one), one + 5, True, NOW) for one in range(3)))
    assert [one.statistic for one in trends(thrice)] == [{"renewals": "2"}]
    abouts = [trends(replace(EMPTY, baseline=(FromBaseline("roc_auc_change", "all", -value, days(1), 7),))) for value in (0.01, 0.016, 0.025)]
    assert [one[0].about if one else "" for one in abouts] == ["", "roc_auc_change above 50%", "roc_auc_change above 80%"]


# ---------------------------------------------------------------------------------------------------------- statistics


@settings(deadline=None)
@given(st.integers(0, 20), st.integers(0, 20))
def test_fisher_is_that_of_scipy(recent: int, earlier: int) -> None:
    from scipy.stats import fisher_exact

    expected = fisher_exact([[recent, 20 - recent], [earlier, 20 - earlier]], alternative="less")[1]
    assert statistics.fisher_fewer(recent, 20, earlier, 20) == pytest.approx(expected)


@settings(deadline=None)
@given(st.lists(st.floats(-1, 1, width=32), min_size=8, max_size=12, unique=True))
def test_mann_kendall_and_the_median_line_are_those_of_scipy(values: list[float]) -> None:
    from scipy.stats import kendalltau, theilslopes

    expected = kendalltau(range(len(values)), values, alternative="less", method="exact").pvalue
    assert statistics.mann_kendall_falling(values) == pytest.approx(expected)
    assert statistics.theil_sen(values) == pytest.approx(theilslopes(values)[0], abs=1e-12)


def test_the_moving_averages_limit_is_as_rare_as_it_says() -> None:
    draw = random.Random(5)  # a simulation
    for rate in (0.8, 0.95):
        limit = statistics.ewma_limit(rate, 20, 0.01)
        below = sum(statistics.ewma(rate, [draw.random() < rate for _ in range(20)]) < limit for _ in range(20_000)) / 20_000
        assert 0 < below <= 0.01 + 4 * math.sqrt(0.01 / 20_000)


# ------------------------------------------------------------------------------------------------------- in the ledger


def test_an_alert_is_opened_once_answered_by_people_and_opens_again_on_newer_evidence(in_review: Path) -> None:
    river = replace(open_river(in_review), now=lambda: datetime.now(UTC) + timedelta(days=70))
    (told,) = look(river, SYSTEM, thorough=True)
    assert told["rule"] == "T8" and "staged for" in str(told["said"])
    assert look(river, SYSTEM, thorough=True) == (), "nobody is told twice"
    (one,) = alerts_of(river.archive, SYSTEM)
    assert one.state == "open" and one.opened.body.owner == "technical_owner, governance_lead" and one.opened.index == told["ledger_index"]
    answered(river, one.opened.index, "acknowledged")
    with pytest.raises(Misused, match="acknowledged already"):
        answered(river, one.opened.index, "acknowledged")
    answered(river, one.opened.index, "closed")
    assert [one.state for one in alerts_of(river.archive, SYSTEM)] == ["closed"] and look(river, SYSTEM, thorough=False) == ()
    assert verify(river.archive), "answers are decisions like every other"
    assert {fact.what for fact in ask(river, SYSTEM, "E31").facts} >= {"alert T8 opened", "alert T8 acknowledged", "alert T8 closed"}


def test_damaged_bytes_are_an_alert_even_where_it_cannot_be_written_down(in_review: Path) -> None:
    river = open_river(in_review)
    path = river.archive.artefacts.open_path(Digest.parse(river.archive.made_by(SYSTEM, "data_preparation")[-1].body.output))
    path.chmod(0o600)
    path.write_bytes(path.read_bytes() + b" ")
    (told,) = look(open_river(in_review), SYSTEM, thorough=True)
    assert told["rule"] == "T7" and "artefact" in str(told["said"]) and "ledger_index" in told
    (one,) = alerts_of(open_river(in_review).archive, SYSTEM)
    assert isinstance(one.opened.body, Alert) and one.opened.body.n == history_size(in_review) - 1


def history_size(root: Path) -> int:
    return open_river(root, writer=False).archive.ledger.size


def test_an_unreadable_history_is_itself_the_alert(in_review: Path) -> None:
    import sqlite3

    database = in_review / ".compliance" / "ledger.db"
    with sqlite3.connect(database) as connection:
        guards = connection.execute("select name, sql from sqlite_master where type = 'trigger'").fetchall()
        for name, _ in guards:
            connection.execute(f'drop trigger "{name}"')
        connection.execute("update entry set body = cast(replace(body, 'payload', 'payloud') as blob) where kind = 'stage'")
        for _, sql in guards:
            connection.execute(sql)
    told = look(open_river(in_review), SYSTEM, thorough=True)
    assert [one["rule"] for one in told] == ["T7"]


def test_the_command_the_page_and_the_channel_say_the_same(in_review: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from compliance_assets.governance.alerts import keeping

    def run(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(cli, ["alerts", *arguments], catch_exceptions=False)
        assert done.exit_code == code, done.output
        return done.output

    at = ("--root", str(in_review))
    assert "No alert is open" in run(*at) and "Nothing new" in run("look", *at)
    hostile = Found("T3", "<script>alert(1)</script>", "fairness failed twice", "last 2 verdicts", 2, {"failed": "2"}, 5)
    monkeypatch.setattr(keeping, "trends", lambda *_: (hostile,))
    new = json.loads(run("look", *at, "--json", code=1))["new"]
    index = str(new[0]["ledger_index"])
    assert json.loads((in_review / ".compliance" / "logs" / ALERTS).read_text().splitlines()[-1])["rule"] == "T3"
    assert "T3" in run(*at) and "two fairness verdicts running" in run(*at)
    page = Visitor(in_review).see("/alerts")
    page.check()
    assert "fairness failed twice" in page.text and f"/ledger/{index}" in page.links
    for did in ("acknowledge", "close"):
        assert "signed" in run(did, index, "--as", OWNER, "--role", "technical_owner", "--reason", WHY, *at)
    assert "No alert is open" in run(*at) and json.loads(run(*at, "--all", "--json"))["alerts"][0]["state"] == "closed"
    assert WHY in Visitor(in_review).see("/alerts").text
    Visitor(in_review).see(f"/ledger/{index}").check()


def test_a_real_world_has_no_trend_worth_an_alert(reviewed_world: Path) -> None:
    assert trends(history_of(open_river(reviewed_world, writer=False), SYSTEM)) == ()
