"""What the records say about one version of a system as of a moment: the one in production then, else the newest candidate."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from compliance_assets.evidence.archive import Record
from compliance_assets.evidence.deployments import DesiredState, desired_state
from compliance_assets.evidence.records import DefinitionProposed
from compliance_assets.governance.questions.answer import Fact, fact
from compliance_assets.pipeline import River
from compliance_assets.policy.river import RIVER, rule_named
from compliance_assets.trust.canonical import Digest, parse_canonical


@dataclass(frozen=True)
class Seen:
    """The records of one system up to `as_of`. `about`: the one thing that the question is about, where it is about one."""

    river: River
    system: str
    as_of: datetime
    about: str = ""

    def until(self, found: Iterable[Record]) -> tuple[Record, ...]:
        """Those that were made by then, oldest first."""
        return tuple(sorted((one for one in found if moment(one) <= self.as_of), key=lambda one: one.index))

    def _listed(self, name: str, read: Callable[[], Iterable[Record]]) -> tuple[Record, ...]:
        """As `until` of a list of records: the list as it is, where all of it was made by then."""
        whole, newest = self.river.archive.derived(("seen", name, self.system), lambda: _in_order(read()))
        return whole if newest is None or newest <= self.as_of else self.until(whole)

    @cached_property
    def stages(self) -> tuple[Record, ...]:
        """Every stage record of the system."""
        archive = self.river.archive
        return self._listed("stages", lambda: (record for rule in RIVER for record in archive.made_by(self.system, rule.name)))

    @cached_property
    def by_output(self) -> Mapping[str, list[Record]]:
        """The stage records that made something, by what they made."""
        archive, stages = self.river.archive, self.stages
        whole, _ = archive.derived(("seen", "stages", self.system), lambda: _in_order(stages))
        return archive.derived(("seen", "outputs", self.system), lambda: _outputs(stages)) if whole is stages else _outputs(stages)

    @cached_property
    def environment(self) -> str:
        return self.river.definition(self.system).system.deployment.environment

    @cached_property
    def all_steps(self) -> tuple[Record, ...]:
        """Every deployment step in the environment that the system is deployed to."""
        return self._listed(f"steps in {self.environment}", lambda: self.river.archive.deployments(self.environment))

    @cached_property
    def steps(self) -> tuple[Record, ...]:
        return tuple(record for record in self.all_steps if record.body.system == self.system)

    @cached_property
    def state(self) -> DesiredState:
        return desired_state(self.environment, self.all_steps)

    @cached_property
    def decisions(self) -> tuple[Record, ...]:
        return self._listed("decisions", lambda: self.river.archive.of_kind("decision", self.system))

    @cached_property
    def definitions(self) -> tuple[Record, ...]:
        return self.until(self.river.archive.of_kind("definition", self.system))

    @cached_property
    def chain(self) -> Mapping[str, Record]:
        """By asset in river order: the records of the version asked about; empty where nothing was run."""
        tip = self._tip()
        if tip is None:
            return {}
        by_output = self.by_output
        found, todo = {rule_named(tip.body.stage).makes: tip}, [tip]
        while todo:
            record = todo.pop()
            for asset, digest in record.body.inputs.items():
                made = [one for one in by_output.get(digest, ()) if one.index < record.index and rule_named(one.body.stage).makes == asset]
                same = [one for one in made if one.body.definition == record.body.definition] or made
                if asset not in found and same:
                    found[asset] = same[-1]
                    todo.append(same[-1])
        return {rule.makes: found[rule.makes] for rule in RIVER if rule.makes in found}

    def _tip(self) -> Record | None:
        production = self.state.production
        if production is not None and production.system == self.system:
            made = [one for one in self.stages if one.body.output == production.approval] if production.approval not in self.by_output \
                else self.by_output[production.approval]
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
        newest = max((*self.stages, *self.steps, *self.decisions, *self.definitions), key=lambda one: one.index, default=None)
        return fact(what, f"{said} (entries 0 to {newest.index} looked at)", newest) if newest is not None else None


def _in_order(found: Iterable[Record]) -> tuple[tuple[Record, ...], datetime | None]:
    """Records oldest first, and the newest moment that one of them names."""
    ordered = tuple(sorted(found, key=lambda one: one.index))
    return ordered, max((moment(one) for one in ordered), default=None)


def _outputs(stages: Iterable[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in stages:
        if record.body.outcome != "error":
            found.setdefault(record.body.output, []).append(record)
    return found


def moment(record: Record) -> datetime:
    """When a record says that it was made."""
    return record.moment


def plain(value: object) -> str:
    """A value of a JSON file in one line."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
