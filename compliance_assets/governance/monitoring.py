"""Is the model still asked about the people it was made for, and is it still right about them? Views over the inference log.

Each day is a window. What callers sent becomes features again, by the code that answered, and is compared with the training rows of the
model in production: every feature and the score, over all and within each protected group, by the population stability index (bins
of the reference; AI Act Art. 72: post-market monitoring; the bound is declared in `retraining.on_drift`). Delayed labels, where people
have recorded outcomes, are compared with the scores given; overrides are counted. A day with too few requests is not measured, and says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compliance_assets.errors import OutOfTurn
from compliance_assets.evidence.deployments import Slot
from compliance_assets.metrics.catalogue import METRICS
from compliance_assets.metrics.drift import measure_drift
from compliance_assets.metrics.profiles import Profile
from compliance_assets.pipeline import River
from compliance_assets.serving.annotations import read_annotations
from compliance_assets.serving.inference_log import ANSWERING, Decision, read_inputs, read_log
from compliance_assets.trust.canonical import Digest

if TYPE_CHECKING:
    import polars as pl

    from compliance_assets.metrics.measurement import Measurement
    from compliance_assets.policy.definition import Definition
    from compliance_assets.policy.system import Bound, Overrides, System

SCORE = "score"
DRAWS = 50
"""Resamplings for an interval that is shown, and decides nothing."""


@dataclass(frozen=True)
class Window:
    """One day of answers beside the training data."""

    day: str
    rows: int
    psi: tuple[tuple[str, float], ...]
    """Feature (or `score`) and its index, largest first; empty if the day was not measured."""
    groups: tuple[tuple[str, int, float | None], ...]
    """`attribute=group`, rows, the largest index within it; None where there are too few rows."""
    drifted: bool | None
    note: str = ""

    @property
    def largest(self) -> float | None:
        return self.psi[0][1] if self.psi else None


@dataclass(frozen=True)
class Reference:
    """The training rows of the model in production, profiled: over all, and for each protected group."""

    whole: Profile
    groups: Mapping[tuple[str, str], Profile]
    definition: Definition


def in_production(river: River, system: str) -> Slot | None:
    """The version of `system` that answers in the environment it declares."""
    environment = river.definition(system).system.deployment.environment
    slot = river.archive.state(environment).production
    return slot if slot is not None and slot.system == system else None


def windows(river: River, system: str, slot: Slot, days: int, until: str) -> tuple[Window, ...]:
    """The last `days` days of answers of this version before the day `until`, oldest first; days without an answer have no window."""
    log = river.home.serving / river.definition(system).system.deployment.environment / "log"
    by_day: dict[str, list[Decision]] = defaultdict(list)
    for one in read_log(log, model=slot.model, role=ANSWERING):
        if one.time[:10] < until:
            by_day[one.time[:10]].append(one)
    chosen = sorted(by_day)[-days:]
    wanted = {one.id for day in chosen for one in by_day[day]}
    inputs = {name: row for name, row in read_inputs(log) if name in wanted} if wanted else {}
    if not inputs:
        return tuple(Window(day, 0, (), (), None, "no input is kept") for day in chosen)
    reference = reference_of(river, slot)
    return tuple(window(reference, day, [one for one in by_day[day] if one.id in inputs], inputs) for day in chosen)


def has_answered(river: River, system: str, slot: Slot, since: str) -> bool:
    """Whether this version has answered anybody since the beginning of a day."""
    log = river.home.serving / river.definition(system).system.deployment.environment / "log"
    return next(read_log(log, since=since, model=slot.model, role=ANSWERING), None) is not None


def reference_of(river: River, slot: Slot) -> Reference:
    """What the answers of this version are compared with."""
    import polars as pl

    from compliance_assets.modelfile import favourable_scores, load
    from compliance_assets.policy.definition import load_definition
    from compliance_assets.serving.spec import restore_snapshot
    from compliance_assets.stages.s2_feature_engineering import FeatureSet, load_features

    archive = river.archive
    candidate = archive.executions_of(Digest.parse(slot.staged))[-1].body.inputs["candidate_model"]
    features = river.value("features", Digest.parse(archive.executions_of(Digest.parse(candidate))[-1].body.inputs["features"]))
    assert isinstance(features, FeatureSet)
    frame, _, people = load_features(archive.artefacts, features, "train")
    model = load(archive.artefacts.get_bytes(Digest.parse(slot.model)), tuple(slot.evidence["trusted_types"]))
    place = river.home.serving / "definitions" / str(slot.evidence["snapshot"])
    definition = load_definition(restore_snapshot(Digest.parse(slot.evidence["snapshot"]), archive.artefacts, place))
    scored = frame.with_columns(pl.Series(SCORE, favourable_scores(model, frame)))
    return profiled(scored, people, definition)


def profiled(scored: pl.DataFrame, people: pl.DataFrame, definition: Definition) -> Reference:
    """Profiles of a frame of features with a column `score`; `people` has a row for each with its protected groups."""
    registry = {feature.name: feature.dtype for feature in definition.system.features.registry}
    categorical = [name for name in scored.columns if name != SCORE and registry[name] in ("bool", "category")]
    numeric = [name for name in scored.columns if name not in categorical]
    groups = {(attribute, group): Profile.of(scored.filter(people[attribute] == group), numeric=numeric, categorical=categorical)
              for attribute in definition.system.data.protected
              for group in sorted(set(people[attribute].drop_nulls().cast(str).to_list()))}
    return Reference(Profile.of(scored, numeric=numeric, categorical=categorical), groups, definition)


def window(reference: Reference, day: str, decisions: Sequence[Decision], inputs: Mapping[str, Mapping[str, Any]]) -> Window:
    """One day's decisions against the reference."""
    import polars as pl

    from compliance_assets.features import serving_features

    system = reference.definition.system
    fewest = system.evaluation.fairness.minimum_group.rows
    if len(decisions) < fewest:
        return Window(day, len(decisions), (), (), None, f"fewer than {fewest} requests")
    frame = serving_features(reference.definition, [inputs[one.id] for one in decisions])
    seen = frame.with_columns(pl.Series(SCORE, [float(one.score) for one in decisions]))
    return measured(reference, day, seen, [one.monitoring for one in decisions])


def measured(reference: Reference, day: str, seen: pl.DataFrame, groups: Sequence[Mapping[str, str]]) -> Window:
    """Features and scores of one day (as many as the minimum, at least) against the reference."""
    import polars as pl

    system = reference.definition.system
    fewest = system.evaluation.fairness.minimum_group.rows
    found = _psi(reference.whole, seen)
    within: list[tuple[str, int, float | None]] = []
    for (attribute, group), profile in reference.groups.items():
        members = seen.filter(pl.Series([one.get(attribute) == group for one in groups], dtype=pl.Boolean))
        largest = _psi(profile, members) if members.height >= fewest else ()
        within.append((f"{attribute}={group}", members.height, largest[0][1] if largest else None))
    if not found:
        return Window(day, seen.height, (), tuple(within), None, "a column has no value on one side")
    bound = system.retraining.on_drift
    drifted = None if bound is None else found[0][1] > bound.psi
    return Window(day, seen.height, found, tuple(within), drifted)


def _psi(profile: Profile, seen: pl.DataFrame) -> tuple[tuple[str, float], ...]:
    """Each column's index, largest first; () where one of them has none: the others do not speak for it."""
    (found,) = measure_drift(["psi"], profile, seen, draws=DRAWS)
    if found.value is None:
        return ()
    named = [(group.name, group.value) for group in found.groups if group.value is not None]
    return tuple(sorted(named, key=lambda pair: (-pair[1], pair[0])))


def labelled(river: River, system: str, slot: Slot) -> Iterator[tuple[Decision, bool]]:
    """Decisions of this version whose outcome is known by now, and whether it was favourable; the last word on each counts."""
    log = river.home.serving / river.definition(system).system.deployment.environment / "log"
    known = {note.inference: note.said == "favourable" for note in read_annotations(log, "outcome")}
    if known:
        for one in read_log(log, model=slot.model, role=ANSWERING):
            if one.id in known:
                yield one, known[one.id]


def calibration(labels: Sequence[tuple[Decision, bool]], declared: System) -> tuple[Measurement, ...]:
    """The declared calibration metrics on delayed labels; OutOfTurn if there are fewer than the smallest group that may be judged.

    Outcomes are usually known only for those who were decided on favourably: this is calibration among them, not among all.
    """
    import numpy as np

    from compliance_assets.metrics.calibration import measure_calibration

    fewest = declared.evaluation.fairness.minimum_group.rows
    if len(labels) < fewest:
        raise OutOfTurn(f"{len(labels)} outcomes are known, {fewest} are needed.", rule="enough labels", value=str(len(labels)),
                        remedy="Record outcomes: `compliance outcome ID favourable`.")
    if not watched_bounds(declared):
        return ()
    return measure_calibration([bound.metric for bound in watched_bounds(declared)],
                               np.array([happened for _, happened in labels], dtype=np.int64),
                               np.array([float(one.score) for one, _ in labels]))


def watched_bounds(declared: System) -> tuple[Bound, ...]:
    """The calibration bounds over everybody on the score of a favourable outcome: callers need not say who belongs to which group, and
    people record whether an outcome was favourable, so bounds over groups, on the class that was named or on a predicted number are not
    watched.
    """
    return tuple(bound for bound in declared.evaluation.calibration
                 if (not bound.over or bound.over == ("all",)) and declared.data.target.task != "regression"
                 and "binary" in METRICS[bound.metric].task)


def overridden(found: tuple[int, int, tuple[float, float] | None], declared: Overrides | None) -> tuple[str, bool]:
    """What the overrides say, in words, and whether they are surely not as often as declared: the whole interval lies outside."""
    _, of, interval = found
    if declared is None:
        return "shown only: deployment.overrides declares no expected share", False
    lowest, highest = declared.between
    expected = f"expected between {lowest:g} and {highest:g}"
    if interval is None or of < declared.decisions:
        return f"{of} decisions, {declared.decisions} are needed; {expected}", False
    if interval[0] > highest:
        return f"surely more often than declared ({expected}): the model does not serve the people who decide", True
    if interval[1] < lowest:
        return f"surely more seldom than declared ({expected}): does anybody still look?", True
    return f"not surely outside; {expected}", False


def overrides(river: River, system: str, slot: Slot) -> tuple[int, int, tuple[float, float] | None]:
    """How many decisions of this version people overrode, of how many, and the Wilson interval of the rate."""
    from compliance_assets.metrics.intervals import wilson

    log = river.home.serving / river.definition(system).system.deployment.environment / "log"
    answered = {one.id for one in read_log(log, model=slot.model, role=ANSWERING)}
    against = {note.inference for note in read_annotations(log, "override")} & answered
    interval = wilson(len(against), len(answered))
    return len(against), len(answered), None if interval is None else (interval[0], interval[1])
