"""What should answer in an environment, as the deployment records say it: a pure fold, oldest record first.

A crash may cut a rollout anywhere, so every prefix of the records has a safe meaning: an intent alone changes nothing; a
shadow never answers; a canary answers for its share; only `full_rollout` makes a version the one in production, and the one
before it stays loaded as the standby that answers again at once. A record that does not follow from those before it is not
obeyed: it is listed under `ignored` with the reason.

`rolled_back` names the version that answers *again*; `aborted` and `withdrawn` name the version that stops answering.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, Protocol

WHOLE = 10_000
"""All requests, in hundredths of a per cent: the unit of weights."""

SlotName = Literal["blue", "green"]
SLOTS: tuple[SlotName, SlotName] = ("blue", "green")


class Step(Protocol):
    """A deployment record's body, as `evidence.records.DeploymentStep` has it."""

    system: str
    environment: str
    action: Any
    release: str
    staged: str
    model: str
    approval: str
    slot: Any
    share: str
    step: int
    previous_model: str
    at: str
    definition: str
    composite_version: str
    evidence: dict[str, Any]
    reason: str


class Recorded(Protocol):
    """A record with its place in the ledger."""

    @property
    def index(self) -> int: ...

    @property
    def body(self) -> Any: ...


@dataclass(frozen=True)
class Slot:
    """One version in one place: everything a server needs to know in order to be started."""

    name: SlotName
    system: str
    model: str
    release: str
    staged: str
    approval: str
    definition: str
    composite_version: str
    evidence: Mapping[str, Any]
    """What the intent recorded: the snapshot of the definition's files, the trusted types, the decision threshold."""
    intent: int
    """Ledger index of the intent under which it was first deployed."""


@dataclass(frozen=True)
class Happened:
    """One record of a rollout."""

    index: int
    action: str
    step: int
    share: str
    at: str
    evidence: Mapping[str, Any]
    reason: str


@dataclass(frozen=True)
class Rollout:
    """Everything that was recorded under one approval, in order."""

    approval: str
    slot: Slot
    previous: Slot | None
    happened: tuple[Happened, ...]

    @property
    def last(self) -> Happened:
        return self.happened[-1]

    @property
    def ended(self) -> bool:
        """Whether this approval can carry no further step."""
        return any(h.action in ("aborted", "rolled_back", "withdrawn", "decommissioned") for h in self.happened)


@dataclass(frozen=True)
class DesiredState:
    """Which versions run, who gets which share, who is mirrored to; and the record that said so."""

    environment: str
    system: str = ""
    production: Slot | None = None
    candidate: Slot | None = None
    standby: Slot | None = None
    candidate_share: int = 0
    """Of `WHOLE`."""
    shadow: bool = False
    index: int = -1
    """Ledger index of the record that brought this state about."""
    rollouts: dict[str, Rollout] = field(default_factory=dict)
    ignored: tuple[tuple[int, str], ...] = ()
    decommissioned: Mapping[str, int] = field(default_factory=dict)
    """Systems that were taken out of service here for good, with the ledger index of the record."""

    def slot(self, name: SlotName) -> Slot | None:
        """The version that runs in a slot; production goes before candidate before standby."""
        return next((s for s in (self.production, self.candidate, self.standby) if s is not None and s.name == name), None)

    @property
    def blue(self) -> Slot | None:
        return self.slot("blue")

    @property
    def green(self) -> Slot | None:
        return self.slot("green")

    @property
    def weights(self) -> Mapping[SlotName, int]:
        """Shares of `WHOLE` by slot. With nothing in production, what the candidate's share leaves goes to nobody."""
        weights: dict[SlotName, int] = {"blue": 0, "green": 0}
        if self.production is not None:
            weights[self.production.name] = WHOLE - self.candidate_share
        if self.candidate is not None:
            weights[self.candidate.name] = self.candidate_share
        return weights

    @property
    def mirrored_to(self) -> SlotName | None:
        return self.candidate.name if self.shadow and self.candidate is not None else None

    @property
    def free_slot(self) -> SlotName:
        """Where a new candidate goes: never where production answers."""
        return "green" if self.production is not None and self.production.name == "blue" else "blue"


def share_of(text: str) -> int | None:
    """A share such as "0.10" in units of `WHOLE`; None if it is not a number within 0 and 1."""
    try:
        share = Decimal(text) * WHOLE
    except InvalidOperation:
        return None
    return int(share) if share.is_finite() and 0 <= share <= WHOLE else None


def desired_state(environment: str, records: Iterable[Recorded], before: DesiredState | None = None) -> DesiredState:
    """The state that an environment's deployment records ask for, oldest record first; `before`: what those before them asked for."""
    listed = tuple(records)
    if before is not None:
        return _folded(replace(before, rollouts=dict(before.rollouts)), listed)
    if len(listed) < _LONG:
        return _folded(DesiredState(environment), listed)
    # The very same records in the same order ask for the same state; kept with them, so that no other object can have their ids.
    name = (environment, tuple(map(id, listed)))
    known = _FOLDED.pop(name, None)
    if known is None:
        while len(_FOLDED) >= _MOST_FOLDED:
            _FOLDED.pop(next(iter(_FOLDED)), None)
        known = (listed, _folded(DesiredState(environment), listed))
    _FOLDED[name] = known
    return known[1]


_LONG, _MOST_FOLDED = 64, 8
_FOLDED: dict[tuple[str, tuple[int, ...]], tuple[tuple[Recorded, ...], DesiredState]] = {}


def _folded(state: DesiredState, records: Iterable[Recorded]) -> DesiredState:
    """`state` after these records. Its dictionary of rollouts must be nobody else's: it is written into."""
    for record in records:
        step = record.body
        if step.environment != state.environment:
            state = _ignore(state, record.index, f"it belongs to environment {step.environment}")
        elif state.system not in ("", step.system):
            state = _ignore(state, record.index, f"this environment serves {state.system}, not {step.system}")
        elif step.system in state.decommissioned:
            state = _ignore(state, record.index, f"{step.system} was taken out of service in entry {state.decommissioned[step.system]}")
        else:
            state = _ACTIONS[step.action](state, record.index, step)
    return state


def _ignore(state: DesiredState, index: int, reason: str) -> DesiredState:
    return replace(state, ignored=(*state.ignored, (index, reason)))


def _noted(state: DesiredState, index: int, step: Step, rollout: Rollout) -> dict[str, Rollout]:
    happened = Happened(index, step.action, step.step, step.share, step.at, dict(step.evidence), step.reason)
    # The dictionary of the state that is being folded, which nobody else has seen yet: a copy for each step would take quadratic time.
    state.rollouts[rollout.approval] = replace(rollout, happened=(*rollout.happened, happened))
    return state.rollouts


def _running(state: DesiredState, step: Step) -> Rollout | str:
    """The rollout that a step continues, or why it continues none."""
    rollout = state.rollouts.get(step.approval)
    if rollout is None:
        return "no intent goes before it"
    if rollout.ended:
        return "its rollout has ended"
    if (rollout.slot.model, rollout.slot.staged, rollout.slot.name) != (step.model, step.staged, step.slot):
        return "it names another model or slot than its intent"
    if state.production is not None and state.production.approval == rollout.approval:
        return "its rollout is complete"
    return rollout


def _intent(state: DesiredState, index: int, step: Step) -> DesiredState:
    known = state.rollouts.get(step.approval)
    if known is not None:
        if (known.slot.model, known.slot.name) != (step.model, step.slot):
            return _ignore(state, index, "its approval already carries a rollout of another model or slot")
        return replace(state, rollouts=_noted(state, index, step, known))  # the same intent after a crash
    if state.production is not None and state.production.name == step.slot:
        return _ignore(state, index, "its slot is the one that production answers from")
    slot = Slot(step.slot, step.system, step.model, step.release, step.staged, step.approval, step.definition,
                step.composite_version, dict(step.evidence), index)
    rollout = Rollout(step.approval, slot, state.production, ())
    return replace(state, system=step.system, rollouts=_noted(state, index, step, rollout))


def _candidate(state: DesiredState, index: int, step: Step) -> DesiredState:
    """A shadow or a canary begins; another candidate, or the standby in this slot, makes way."""
    rollout = _running(state, step)
    if isinstance(rollout, str):
        return _ignore(state, index, rollout)
    if state.production is not None and state.production.name == rollout.slot.name:
        return _ignore(state, index, "its slot is the one that production answers from")
    share = share_of(step.share) if step.action == "canary_started" else 0
    if share is None:
        return _ignore(state, index, f"{step.share!r} is not a share")
    standby = state.standby if state.standby is not None and state.standby.name != rollout.slot.name else None
    return replace(state, candidate=rollout.slot, candidate_share=share, shadow=step.action == "shadow_started",
                   standby=standby, index=index, rollouts=_noted(state, index, step, rollout))


def _full_rollout(state: DesiredState, index: int, step: Step) -> DesiredState:
    rollout = _running(state, step)
    if isinstance(rollout, str):
        return _ignore(state, index, rollout)
    if state.candidate != rollout.slot:
        return _ignore(state, index, "it is not the candidate that runs")
    return replace(state, production=rollout.slot, standby=state.production, candidate=None, candidate_share=0, shadow=False,
                   index=index, rollouts=_noted(state, index, step, rollout))


def _aborted(state: DesiredState, index: int, step: Step) -> DesiredState:
    rollout = _running(state, step)
    if isinstance(rollout, str):
        return _ignore(state, index, rollout)
    noted = _noted(state, index, step, rollout)
    if state.candidate != rollout.slot:
        return replace(state, rollouts=noted)
    return replace(state, candidate=None, candidate_share=0, shadow=False, index=index, rollouts=noted)


def _rolled_back(state: DesiredState, index: int, step: Step) -> DesiredState:
    """An earlier production version answers again, from the slot it had."""
    target = state.rollouts.get(step.approval)
    if target is None or not any(h.action == "full_rollout" for h in target.happened) or target.slot.model != step.model:
        return _ignore(state, index, "the version to return to was never in production here")
    taken_back = state.production
    rollouts = state.rollouts
    if taken_back is not None and taken_back.approval != step.approval:
        rollouts = _noted(state, index, step, state.rollouts[taken_back.approval])
    slot = target.slot
    if taken_back is not None and taken_back.name == slot.name and taken_back != slot:
        slot = replace(slot, name="green" if slot.name == "blue" else "blue")
    # What was taken back is stopped, not kept as a standby: nobody may fail over to it.
    return replace(state, production=slot, candidate=None, candidate_share=0, shadow=False, standby=None, index=index,
                   rollouts=rollouts)


def _withdrawn(state: DesiredState, index: int, step: Step) -> DesiredState:
    """A version stops answering and nothing takes its place."""
    named = [s for s in (state.production, state.candidate, state.standby) if s is not None and s.model == step.model]
    if not named:
        return _ignore(state, index, "it is not running here")
    rollouts = state.rollouts
    if step.approval in rollouts:
        rollouts = _noted(state, index, step, rollouts[step.approval])
    keep = {name: None if slot in named else slot
            for name, slot in (("production", state.production), ("candidate", state.candidate), ("standby", state.standby))}
    gone = keep["candidate"] is None
    return replace(state, **keep, candidate_share=0 if gone else state.candidate_share,  # type: ignore[arg-type]  # three slots by name
                   shadow=state.shadow and not gone, index=index, rollouts=rollouts)


def _decommissioned(state: DesiredState, index: int, step: Step) -> DesiredState:
    """Nothing of the system answers here any more; the environment is free for another."""
    rollouts = {approval: _noted(state, index, step, rollout)[approval] for approval, rollout in state.rollouts.items()
                if rollout.slot.system == step.system}
    return replace(state, system="", production=None, candidate=None, standby=None, candidate_share=0, shadow=False, index=index,
                   rollouts={**state.rollouts, **rollouts}, decommissioned={**state.decommissioned, step.system: index})


_ACTIONS: Mapping[str, Any] = {
    "intent": _intent, "shadow_started": _candidate, "canary_started": _candidate, "full_rollout": _full_rollout,
    "aborted": _aborted, "rolled_back": _rolled_back, "withdrawn": _withdrawn,
    "decommissioned": _decommissioned,
}
