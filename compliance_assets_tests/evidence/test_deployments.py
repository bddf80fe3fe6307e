"""The fold over deployment records: every prefix has a safe meaning, and what does not follow is not obeyed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance_assets.evidence.deployments import WHOLE, DesiredState, desired_state, share_of
from compliance_assets.evidence.records import DeploymentStep
from compliance_assets.trust.canonical import sha256_bytes

ACTIONS = ("intent", "shadow_started", "canary_started", "full_rollout", "aborted", "rolled_back", "withdrawn", "decommissioned")


@dataclass(frozen=True)
class Recorded:
    index: int
    body: DeploymentStep


def step(action: str, model: str = "old", slot: str = "blue", share: str = "0", **changed: Any) -> DeploymentStep:
    given: dict[str, Any] = {
        "system": "lender", "environment": "production", "action": action, "release": "r", "staged": sha256_bytes(model.encode()),
        "model": model, "approval": f"approval of {model}", "slot": slot, "share": share, "step": 0,
        "previous_model": "", "previous_approval": "", "run": "run", "launcher": "me", "at": "2026-11-25T07:00:00Z",
        "definition": "d", "trust_policy": "t", "composite_version": "v", "evidence": {}, "demonstration": True, **changed}
    return DeploymentStep(**given)


def fold(*steps: DeploymentStep) -> DesiredState:
    return desired_state("production", [Recorded(index, body) for index, body in enumerate(steps)])


def rollout(model: str, slot: str) -> tuple[DeploymentStep, ...]:
    return (step("intent", model, slot), step("shadow_started", model, slot), step("canary_started", model, slot, "0.1"),
            step("full_rollout", model, slot, "1"))


FIRST = rollout("old", "blue")


def model_in(slot: Any) -> str | None:
    return None if slot is None else slot.model


def test_nothing_recorded_is_nothing_running() -> None:
    state = fold()
    assert (state.production, state.candidate, state.standby) == (None, None, None)
    assert dict(state.weights) == {"blue": 0, "green": 0}
    assert state.free_slot == "blue"


def test_an_intent_alone_changes_nothing() -> None:
    assert fold(*FIRST, step("intent", "new", "green")).weights == fold(*FIRST).weights
    assert fold(*FIRST, step("intent", "new", "green")).green is None


def test_a_shadow_runs_and_is_mirrored_to_and_answers_nobody() -> None:
    state = fold(*FIRST, *rollout("new", "green")[:2])
    assert model_in(state.green) == "new"
    assert state.mirrored_to == "green"
    assert dict(state.weights) == {"blue": WHOLE, "green": 0}


def test_a_canary_answers_for_its_share_and_is_not_mirrored_to() -> None:
    state = fold(*FIRST, *rollout("new", "green")[:3])
    assert state.mirrored_to is None
    assert dict(state.weights) == {"blue": 9000, "green": 1000}


def test_after_the_full_rollout_the_version_before_stays_as_standby() -> None:
    state = fold(*FIRST, *rollout("new", "green"))
    assert (model_in(state.production), model_in(state.standby), state.candidate) == ("new", "old", None)
    assert dict(state.weights) == {"blue": 0, "green": WHOLE}
    assert state.free_slot == "blue"


def test_the_third_version_takes_the_standbys_slot() -> None:
    state = fold(*FIRST, *rollout("new", "green"), *rollout("third", "blue")[:2])
    assert (model_in(state.production), model_in(state.blue), state.standby) == ("new", "third", None)


def test_an_aborted_rollout_leaves_the_previous_version_alone_and_cannot_go_on() -> None:
    state = fold(*FIRST, *rollout("new", "green")[:3], step("aborted", "new", "green"), step("full_rollout", "new", "green"))
    assert (model_in(state.production), state.candidate) == ("old", None)
    assert dict(state.weights) == {"blue": WHOLE, "green": 0}
    assert state.ignored[0][1] == "its rollout has ended"
    assert state.rollouts["approval of new"].ended


def test_a_rollback_names_what_answers_again_and_stops_what_was_taken_back() -> None:
    state = fold(*FIRST, *rollout("new", "green"), step("rolled_back", "old", "blue"))
    assert (model_in(state.production), state.standby, state.candidate) == ("old", None, None)
    assert state.rollouts["approval of new"].ended
    assert not state.rollouts["approval of old"].ended


def test_a_rollback_to_what_was_never_in_production_is_not_obeyed() -> None:
    state = fold(*FIRST, *rollout("new", "green")[:2], step("rolled_back", "new", "green"))
    assert model_in(state.production) == "old"
    assert state.ignored


def test_a_withdrawn_version_answers_nobody() -> None:
    state = fold(*FIRST, step("withdrawn", "old", "blue"))
    assert state.production is None
    assert dict(state.weights) == {"blue": 0, "green": 0}


@pytest.mark.parametrize(("bad", "why"), [
    (step("shadow_started", "new", "green"), "no intent goes before it"),
    (step("intent", "new", "blue"), "its slot is the one that production answers from"),
    (step("intent", "new", "green", environment="staging"), "it belongs to environment staging"),
    (step("intent", "new", "green", system="other"), "this environment serves lender, not other"),
    (step("full_rollout", "old", "blue"), "its rollout is complete"),
    (step("withdrawn", "new", "green"), "it is not running here"),
])
def test_what_does_not_follow_is_listed_and_changes_nothing(bad: DeploymentStep, why: str) -> None:
    state = fold(*FIRST, bad)
    assert [reason for _, reason in state.ignored] == [why]
    assert (state.production, state.weights) == (fold(*FIRST).production, fold(*FIRST).weights)


def test_a_full_rollout_without_shadow_or_canary_is_not_obeyed() -> None:
    state = fold(*FIRST, step("intent", "new", "green"), step("full_rollout", "new", "green"))
    assert model_in(state.production) == "old"
    assert state.ignored[0][1] == "it is not the candidate that runs"


def test_another_model_under_the_same_approval_is_not_obeyed() -> None:
    state = fold(*FIRST, *rollout("new", "green")[:2], step("canary_started", "forged", "green", "0.5", approval="approval of new"))
    assert state.candidate_share == 0
    assert state.ignored[0][1] == "it names another model or slot than its intent"


def test_a_share_is_read_exactly_or_not_at_all() -> None:
    assert (share_of("0.1"), share_of("1"), share_of("0.0001")) == (1000, 10_000, 1)
    assert [share_of(text) for text in ("1.1", "-0.1", "half", "NaN")] == [None] * 4


_ANY = st.builds(step, st.sampled_from(ACTIONS), st.sampled_from(("old", "new", "third")), st.sampled_from(("blue", "green")),
                 st.sampled_from(("0", "0.1", "0.5", "1", "junk")))


@given(st.lists(_ANY, max_size=14))
def test_whatever_is_recorded_no_one_slot_holds_two_versions_and_shares_are_at_most_everything(steps: list[DeploymentStep]) -> None:
    for cut in range(len(steps) + 1):
        state = fold(*steps[:cut])
        running = [s for s in (state.production, state.candidate, state.standby) if s is not None]
        assert len({s.name for s in running}) == len(running)
        assert 0 <= sum(state.weights.values()) <= WHOLE
        if state.production is not None:
            assert sum(state.weights.values()) == WHOLE
        if state.mirrored_to is not None:
            assert state.weights[state.mirrored_to] == 0
