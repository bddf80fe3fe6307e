"""Can it be made again? One run's stages 1 to 4, executed anew from the record alone in an empty folder, digest by digest.

The definition is laid out from the bytes that were kept when it was proposed, the source is fetched and held against its digest, the
seed is the recorded one. Nothing that the run made is handed in: each stage takes what the stage before it made just now, and
only what stood outside the run (models it was compared with) is copied, by digest. What differs is named with the level at
which it was claimed: *bytes* of a file, *content* (logical digest of rows, state of a model, predictions on the frozen probe),
or *verdict* of a gate; *effort* (seconds, memory) is shown and never claimed. Bytes are claimed for the recorded environment
only; content and verdicts for any (this project's rule).

Supports Art. 11(1) with Annex IV(2)(g), Art. 12(1), Art. 17(1)(d).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compliance_assets.errors import ComplianceError, Misused
from compliance_assets.evidence.archive import Archive, Record
from compliance_assets.evidence.artefacts import ArtefactStore
from compliance_assets.evidence.provenance import resolve
from compliance_assets.evidence.records import DefinitionProposed, StageExecution
from compliance_assets.evidence.surroundings import environment, environment_digest
from compliance_assets.pipeline import River, judged
from compliance_assets.policy.definition import DECLARATION, Definition, load_definition
from compliance_assets.policy.river import RIVER, StageRule, rule_named
from compliance_assets.policy.system import CsvSource, ParquetSource
from compliance_assets.stages import stage_for
from compliance_assets.stages.stage import Draft, Driver, Report, Value, Work
from compliance_assets.trust.canonical import Digest, canonical_json, parse_canonical

COMPUTING = tuple(rule for rule in RIVER if rule.kind == "compute")
_LEVELS = {"logical": "content", "state": "content", "probe": "content", "verdict": "verdict"}
"""Fields that identify content, whatever file it lies in, or say what was decided; every other one is claimed as bytes."""
_EFFORT = ("seconds", "rss_bytes")
"""Findings about what a computation took: recorded, never claimed to come out the same."""


@dataclass(frozen=True)
class Difference:
    """One thing that is not as recorded: where, at which level it was claimed (or `surroundings`), what it was and what it is."""

    where: str
    level: str
    recorded: str
    now: str
    claimed: bool
    """Whether the record claims it for the environment at hand; one that was not claimed is shown and refutes nothing."""

    def as_json(self) -> dict[str, Any]:
        return {"where": self.where, "level": self.level, "recorded": self.recorded, "now": self.now, "claimed": self.claimed}


@dataclass(frozen=True)
class Reproduction:
    """What came of it. True if every stage was executed and nothing that was claimed differs."""

    asked: str
    system: str
    folder: Path
    same_environment: bool
    stages: tuple[tuple[str, str, str], ...]
    """Asset, recorded digest, digest now; the last is empty where the stage could not be executed."""
    differences: tuple[Difference, ...]
    compared: int

    def __bool__(self) -> bool:
        return bool(self.stages) and all(now for _, _, now in self.stages) and not any(one.claimed for one in self.differences)

    def as_json(self) -> dict[str, Any]:
        return {"run": self.asked, "system": self.system, "reproduced": bool(self), "same_environment": self.same_environment,
                "compared": self.compared, "differences": [one.as_json() for one in self.differences],
                "stages": [{"asset": asset, "recorded": was, "now": now or None} for asset, was, now in self.stages]}


def reproduce(river: River, asked: str, into: Path) -> Reproduction:
    """Execute the stages behind `asked` (a run, release or digest) again in the empty folder `into`, and compare all of it."""
    if into.exists() and any(into.iterdir()):
        raise Misused(f"{into} is not empty.", rule="an empty folder", value=str(into),
                      remedy="Name a folder that is new or empty, so that nothing old can help.")
    archive = river.archive
    recorded = _chain(archive, asked)
    last = list(recorded.values())[-1].body
    into.mkdir(parents=True, exist_ok=True)
    store = ArtefactStore(into / "artefacts")
    definition = load_definition(_laid_out(river, last, into / "project"))
    same = last.environment == environment_digest() and all(r.body.environment == last.environment for r in recorded.values())
    found = [*_surroundings(archive, recorded, definition, same)]
    for record in recorded.values():
        for digest in record.body.references.values():
            _copy(archive, Digest.parse(digest), store)

    values: dict[str, Value] = {}
    stages: list[tuple[str, str, str]] = []
    compared = 0
    for asset, record in recorded.items():
        rule = rule_named(asset)
        given = {name: values[name] for name in rule.needs if name in values}
        if len(given) < len(rule.needs):
            stages.append((asset, record.body.output, ""))
            continue
        try:
            values[asset], gates = _executed(river, definition, rule, record.body, given, store, into)
        except ComplianceError as error:
            found.append(Difference(asset, "execution", record.body.output, f"{type(error).__name__}: {error}", True))
            stages.append((asset, record.body.output, ""))
            continue
        stages.append((asset, record.body.output, str(values[asset].digest)))
        before = parse_canonical(archive.artefacts.get_bytes(Digest.parse(record.body.output)))
        pairs = [*_leaves(asset, before, values[asset].model_dump(mode="json")), *_verdicts(asset, record.body, gates)]
        compared += len(pairs) + 1
        found += [Difference(where, level, was, now, _is_claimed(level, same)) for where, level, was, now in pairs if was != now]
    return Reproduction(asked, last.system, into, same, tuple(stages), tuple(found), compared)


def _chain(archive: Archive, asked: str) -> dict[str, Record]:
    """The records of stages 1 to 4 behind what was asked for, first stage first; walked over inputs, from the furthest made."""
    order = [rule.makes for rule in COMPUTING]
    made: dict[str, Record] = {}
    for output in resolve(archive, asked):
        for record in archive.executions_of(output):
            asset = rule_named(record.body.stage).makes
            if asset in order and record.body.outcome != "error":
                made[asset] = record
    if not made:
        raise Misused(f"{asked} made nothing that is computed.", rule="reproduce", value=asked,
                      remedy="Name a run of stages 1 to 4, or the digest of what one made: `compliance trace`.")
    furthest = made[max(made, key=order.index)]
    walk, chain = [furthest], {}
    while walk:
        record = walk.pop()
        chain[rule_named(record.body.stage).makes] = record
        for name, digest in record.body.inputs.items():
            if name not in chain:
                walk.append(_judged_alike(archive.executions_of(Digest.parse(digest)), record.body.definition))
    return {asset: chain[asset] for asset in order if asset in chain}


def _judged_alike(records: tuple[Record, ...], definition: str) -> Record:
    """Of the records of one output, the last under this definition; else the last of all."""
    alike = [record for record in records if record.body.definition == definition]
    return (alike or list(records))[-1]


def _laid_out(river: River, body: StageExecution, root: Path) -> Path:
    """The system's folder as it was: declaration and code from the store, by the digests of the definition; raw files beside it."""
    archive, digest = river.archive, Digest.parse(body.definition)
    folder, prefix = root / "systems" / body.system, f"systems/{body.system}/"
    proposals = [record.body for record in archive.find(digest, "subject:definition") if isinstance(record.body, DefinitionProposed)]
    if proposals:
        code: Mapping[str, str] = parse_canonical(archive.artefacts.get_bytes(digest))["code"]
        _write(folder / DECLARATION, archive.artefacts.get_bytes(Digest.parse(proposals[-1].declaration)))
        for name, content in code.items():
            if name.startswith(prefix):
                _write(folder / name.removeprefix(prefix), archive.artefacts.get_bytes(Digest.parse(content)))
    else:
        here = river.definition(body.system)
        if here.digest != digest:
            raise Misused(f"Definition {digest.short} was never put on record, and its files are not here any more.", rule="definition",
                          value=digest, remedy="Check out the commit that the record names, and reproduce from there.")
        for path in here.covered:
            if path.is_relative_to(here.folder):
                _write(folder / path.relative_to(here.folder), path.read_bytes())
    system = load_definition(folder).system
    source = system.data.source
    names = [file.path for file in source.files] if isinstance(source, CsvSource) else []
    # Raw data is no part of the definition; its bytes are held against the declared digest when it is fetched.
    for name in [source.path] if isinstance(source, ParquetSource) else names:
        for base, target in ((river.root / "systems" / body.system, folder), (river.root, root)):
            if not Path(name).is_absolute() and (base / name).is_file():
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(base / name, target / name)
                break
    return folder


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _surroundings(archive: Archive, recorded: Mapping[str, Record], definition: Definition, same: bool) -> Iterator[Difference]:
    """What is not as it was around the run: libraries, platform, the package's own code, the seed."""
    present = environment()
    for digest in {} if same else dict.fromkeys(record.body.environment for record in recorded.values()):
        before = parse_canonical(archive.artefacts.get_bytes(Digest.parse(digest)))
        for name in sorted({*before, *present} - {"libraries"}):
            if before.get(name) != present.get(name):
                yield Difference(f"environment.{name}", "surroundings", str(before.get(name, "absent")),
                                 str(present.get(name, "absent")), False)
        was, now = (dict(line.split("==", 1) for line in body["libraries"]) for body in (before, present))
        for name in sorted({*was, *now}):
            if was.get(name) != now.get(name):
                yield Difference(f"environment.{name}", "surroundings", was.get(name, "absent"), now.get(name, "absent"), False)
    for digest in dict.fromkeys(record.body.definition for record in recorded.values()):
        if digest == definition.digest:
            continue
        yield Difference("definition", "surroundings", digest, definition.digest, True)
        if archive.artefacts.exists(Digest.parse(digest)):
            code = parse_canonical(archive.artefacts.get_bytes(Digest.parse(digest)))["code"]
            for name in sorted({*code, *definition.code}):
                if code.get(name) != definition.code.get(name):
                    yield Difference(name, "surroundings", code.get(name, "absent"), str(definition.code.get(name, "absent")), False)
    for asset, record in recorded.items():
        if record.body.seed != definition.system.training.seed:
            yield Difference(f"{asset}.seed", "surroundings", str(record.body.seed), str(definition.system.training.seed), True)


def _copy(archive: Archive, digest: Digest, store: ArtefactStore) -> None:
    """What a comparison stood on: an output of an earlier release, its files, and what it was made from."""
    if store.exists(digest):
        return
    body = archive.executions_of(digest)[-1].body
    for one in (body.output, *body.files.values()):
        store.put_file(archive.artefacts.open_path(Digest.parse(one)))
    for one in body.inputs.values():
        _copy(archive, Digest.parse(one), store)


def _executed(river: River, definition: Definition, rule: StageRule, body: StageExecution, given: Mapping[str, Value],
              store: ArtefactStore, into: Path) -> tuple[Value, list[dict[str, Any]]]:
    """One stage, as it runs in the river but for the ledger: produced, judged, kept in the new folder."""
    stage = stage_for(rule)

    def tell(event: str, **facts: object) -> None:
        for listener in river.listeners:
            listener(event, facts)

    scratch = into / "scratch" / rule.makes
    scratch.mkdir(parents=True)
    work = Work(definition=definition, artefacts=store, scratch=scratch, tell=tell, driver=Driver("reproduction", body.launcher),
                home=river.home, organisation=river.organisation, archive=river.archive, now=river.now, references=body.references)
    draft = stage.produce(work, **given)
    named = body.observations["exceptions"] if "exceptions" in body.observations else {}
    granted = {gate: river.archive.find(Digest.parse(digest), "statement")[-1] for gate, digest in named.items()}
    gates = [report.as_json() for report in judged(stage, work, Draft(draft.value, draft.observations), given, tell, granted)]
    value = draft.value.model_copy(update={"gates": tuple(gates)}) if isinstance(draft.value, Report) else draft.value
    store.put_bytes(value.manifest())
    return value, gates


def _is_claimed(level: str, same_environment: bool) -> bool:
    return level in ("content", "verdict") or (level == "bytes" and same_environment)


def _leaves(where: str, before: Any, after: Any) -> Iterator[tuple[str, str, str, str]]:
    """Every leaf, recorded and now, with its level; the gates inside a report are compared with those of its record."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted({*before, *after} - {"gates"}):
            yield from _leaves(f"{where}.{name}", before.get(name, "absent"), after.get(name, "absent"))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for place, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _leaves(f"{where}.{place}", one, other)
    else:
        yield where, _LEVELS.get(where.rpartition(".")[2], "bytes"), str(before), str(after)


def _verdicts(asset: str, body: StageExecution, gates: list[dict[str, Any]]) -> Iterator[tuple[str, str, str, str]]:
    """What each gate found, recorded and now: its verdict, and as bytes every number that it rests on."""
    for was, now in zip(body.gates, gates, strict=True):
        where = f"{asset}.gate.{was['gate']}"
        found = [parse_canonical(canonical_json(list(one["findings"]))) for one in (was, now)]
        yield where, "verdict", str(was["verdict"]), str(now["verdict"])
        if len(found[0]) != len(found[1]):
            yield f"{where}.findings", "verdict", str(len(found[0])), str(len(found[1]))
        for before, after in zip(*found, strict=False):
            for place, level, one, other in _leaves(f"{where}.{before['id']}", before, after):
                effort = before["id"].endswith(_EFFORT) and place.endswith(".value")
                yield place, "effort" if effort else level, one, other
