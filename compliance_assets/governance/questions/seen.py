"""What the records say about one version of a system as of a moment: the one in production then, else the newest candidate."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from itertools import accumulate
from typing import Any

from compliance_assets.evidence import records
from compliance_assets.evidence.archive import List, Record, environment_lists, in_order, kind_list, stage_lists
from compliance_assets.evidence.deployments import DesiredState, desired_state
from compliance_assets.evidence.records import DefinitionProposed
from compliance_assets.governance.questions.answer import Fact, fact
from compliance_assets.governance.stage_facts import StageFacts, stage_facts
from compliance_assets.pipeline import River
from compliance_assets.policy.river import RIVER, rule_named
from compliance_assets.trust.canonical import Digest, parse_canonical

Facts = Callable[[Record], StageFacts]
Fits = Callable[[Record, Facts], bool]
Filing = Callable[[Record, Facts], Iterable[Hashable]]
"""Under which names a stage record is filed, from its words and facts alone."""


@dataclass(frozen=True)
class Past:
    """Records oldest first, and at each the newest moment that it or one before it names: clocks differ, and people date for themselves."""

    records: tuple[Record, ...] = ()
    newest: tuple[datetime, ...] = ()

    def and_then(self, new: Sequence[Record]) -> Past:
        """These and newer ones."""
        later = accumulate((*self.newest[-1:], *map(moment, new)), max)
        return Past((*self.records, *new), (*self.newest[:-1], *later))

    def until(self, as_of: datetime) -> tuple[Record, ...]:
        """Those that were made by then: all of them, as a rule."""
        surely = bisect_right(self.newest, as_of)
        if surely == len(self.records):
            return self.records
        return (*self.records[:surely], *(one for one in self.records[surely:] if one.moment <= as_of))


@dataclass(frozen=True)
class Seen:
    """The records of one system up to `as_of`. `about`: the one thing that the question is about, where it is about one."""

    river: River
    system: str
    as_of: datetime
    about: str = ""

    def until(self, found: Iterable[Record]) -> tuple[Record, ...]:
        """Those that were made by then, oldest first."""
        return Past().and_then(sorted(found, key=lambda one: one.index)).until(self.as_of)

    def _past(self, lists: Sequence[List]) -> Past:
        return self.river.archive.grown(("past", *lists), lists, _longer)

    def under(self, filing: Filing, name: Hashable) -> tuple[Record, ...]:
        """The stage records that `filing` files under `name`, oldest first. Each record is filed once, however often that is asked."""
        return self._under(filing, name, stage_lists(self.system))

    def _under(self, filing: Filing, name: Hashable, lists: Sequence[List]) -> tuple[Record, ...]:
        archive = self.river.archive
        filed = archive.grown(("filed", filing, *lists), lists, partial(_filed, filing, lambda record: archive.fact(record, stage_facts)))
        return filed[name].until(self.as_of) if name in filed else ()

    def those(self, fits: Fits) -> tuple[Record, ...]:
        """The stage records that fit, oldest first. Each is looked at once, as in `under`."""
        return self.under(_Fitting(fits), True)

    def by_stage(self, stage: str) -> tuple[Record, ...]:
        """Everything that a stage made, oldest first."""
        return self.under(_stage, stage)

    def made(self, digest: str) -> tuple[Record, ...]:
        """The stage records that made this."""
        return self.under(_output, digest)

    def made_from(self, digest: str, stage: str) -> tuple[Record, ...]:
        """What a stage made from this."""
        return self.under(_inputs, (digest, stage))

    @cached_property
    def stages(self) -> tuple[Record, ...]:
        """Every stage record of the system."""
        return self._past(stage_lists(self.system)).until(self.as_of)

    @cached_property
    def environment(self) -> str:
        return self.river.definition(self.system).system.deployment.environment

    @cached_property
    def steps(self) -> tuple[Record, ...]:
        """Every deployment step of the system in the environment that it is deployed to."""
        return self._under(_system, self.system, environment_lists(self.environment))

    def acted(self, *actions: str) -> tuple[Record, ...]:
        """Those of these actions."""
        return in_order(self._under(_action, (self.system, action), environment_lists(self.environment)) for action in actions)

    @cached_property
    def state(self) -> DesiredState:
        """What should have answered there then."""
        past = self._past(environment_lists(self.environment))
        steps = past.until(self.as_of)
        return self.river.archive.state(self.environment) if steps is past.records else desired_state(self.environment, steps)

    @cached_property
    def decisions(self) -> tuple[Record, ...]:
        return self._past([kind_list("decision", self.system)]).until(self.as_of)

    @cached_property
    def deployments(self) -> tuple[Record, ...]:
        """Every deployment step of the system, in whichever environment."""
        return self._past([kind_list("deployment", self.system)]).until(self.as_of)

    @cached_property
    def undone(self) -> tuple[Record, ...]:
        """The steps by which a version stopped answering, or never came to."""
        return self.acted("aborted", "rolled_back", "withdrawn")

    def decided(self, purpose: str) -> tuple[Record, ...]:
        """The decisions of one purpose about the system."""
        return self._past([(str(records.of_system(self.system)), f"decided:{purpose}")]).until(self.as_of)

    def source(self, dataset: Record) -> str:
        """The raw source that a dataset was made from: named by its digest, so that it never changes and is read once."""
        return self.river.archive.known(("source", dataset.body.output), lambda: str(self.value(dataset)["source"]))

    @cached_property
    def definitions(self) -> tuple[Record, ...]:
        return self._past([kind_list("definition", self.system)]).until(self.as_of)

    @cached_property
    def chain(self) -> Mapping[str, Record]:
        """By asset in river order: the records of the version asked about; empty where nothing was run."""
        tip = self._tip()
        if tip is None:
            return {}
        found, todo = {rule_named(tip.body.stage).makes: tip}, [tip]
        while todo:
            record = todo.pop()
            for asset, digest in record.body.inputs.items():
                made = [one for one in self.made(digest) if one.index < record.index and rule_named(one.body.stage).makes == asset]
                same = [one for one in made if one.body.definition == record.body.definition] or made
                if asset not in found and same:
                    found[asset] = same[-1]
                    todo.append(same[-1])
        return {rule.makes: found[rule.makes] for rule in RIVER if rule.makes in found}

    def _tip(self) -> Record | None:
        production = self.state.production
        if production is not None and production.system == self.system:
            made = self.made(production.approval)
            return made[-1] if made else None
        return next((one for one in reversed(self.stages) if one.body.outcome != "error"), None)

    @property
    def version(self) -> str:
        """Which version is meant, in words."""
        if not self.chain:
            return "none: nothing was run"
        tip = list(self.chain.values())[-1]
        production = self.state.production
        answers = production is not None and production.system == self.system
        return (f"entry #{tip.index} ({tip.body.stage.replace('_', ' ')}), "
                + ("in production" if answers else "the newest candidate; none is in production"))

    def value(self, record: Record) -> dict[str, Any]:
        """What a stage made, read back by its digest; refuses where it is lost or changed."""
        return dict(parse_canonical(self.river.archive.artefacts.get_bytes(Digest.parse(record.body.output))))

    def filed(self, record: Record, name: str) -> dict[str, Any] | None:
        """A JSON file that a record names; None where it names none of that name."""
        if name not in record.body.files:
            return None
        return dict(json.loads(self.river.archive.artefacts.get_bytes(Digest.parse(record.body.files[name]))))

    def proposal(self, definition: str) -> Record | None:
        """The record in which a definition was put on record first."""
        return next((one for one in self.definitions if str(one.statement.subject("definition")) == definition
                     and isinstance(one.body, DefinitionProposed)), None)

    def parts(self, proposal: Record) -> dict[str, Any]:
        """A definition as it was proposed, whole."""
        return dict(parse_canonical(self.river.archive.artefacts.get_bytes(Digest.parse(proposal.body.parts))))

    @cached_property
    def judged_under(self) -> Record | None:
        """The proposal of the definition under which the version asked about was judged."""
        return self.proposal(list(self.chain.values())[-1].body.definition) if self.chain else None

    def none(self, what: str, said: str) -> Fact | None:
        """That no record says something, as of the newest entry looked at: the look-up table's seal shows that none was left out."""
        lists = (self.stages, self.steps, self.decisions, self.definitions)
        newest = max((found[-1] for found in lists if found), key=lambda one: one.index, default=None)
        return fact(what, f"{said} (entries 0 to {newest.index} looked at)", newest) if newest is not None else None


def _longer(before: Past | None, new: Sequence[Record]) -> Past:
    return (before or Past()).and_then(new)


def _filed(filing: Filing, facts: Facts, before: Mapping[Hashable, Past] | None, new: Sequence[Record]) -> Mapping[Hashable, Past]:
    since: dict[Hashable, list[Record]] = {}
    for record in new:
        for name in filing(record, facts):
            since.setdefault(name, []).append(record)
    filed = dict(before or {})
    return filed | {name: filed.get(name, Past()).and_then(found) for name, found in since.items()}


@dataclass(frozen=True)
class _Fitting:
    """Files what fits under True."""

    fits: Fits

    def __call__(self, record: Record, facts: Facts) -> Iterable[Hashable]:
        return (True,) if self.fits(record, facts) else ()


def _system(record: Record, facts: Facts) -> Iterable[Hashable]:
    return (record.body.system,)


def _action(record: Record, facts: Facts) -> Iterable[Hashable]:
    return ((record.body.system, record.body.action),)


def _stage(record: Record, facts: Facts) -> Iterable[Hashable]:
    return (record.body.stage,) if record.body.outcome != "error" else ()


def _output(record: Record, facts: Facts) -> Iterable[Hashable]:
    return (record.body.output,) if record.body.outcome != "error" else ()


def _inputs(record: Record, facts: Facts) -> Iterable[Hashable]:
    return {(digest, record.body.stage) for digest in record.body.inputs.values()} if record.body.outcome != "error" else ()


def moment(record: Record) -> datetime:
    """When a record says that it was made."""
    return record.moment


def plain(value: object) -> str:
    """A value of a JSON file in one line."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
