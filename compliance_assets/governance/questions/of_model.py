"""E9 to E11, E33, E34: how the model was made, whether it can be made again, what else was tried, from which components."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from compliance_assets.evidence.archive import Record
from compliance_assets.governance.questions.answer import Each, Fact, Gap, Part, fact
from compliance_assets.governance.questions.seen import Seen, plain
from compliance_assets.trust.canonical import Digest

NO_MODEL = "no model of this version is on record"
_RECORD = "model/training_record.json"


def training(seen: Seen) -> Iterator[Part]:
    """E9."""
    if "candidate_model" not in seen.chain:
        yield Gap(NO_MODEL)
        return
    record = seen.chain["candidate_model"]
    body = record.body
    if body.code.commit:
        yield fact("commit", f"{body.code.commit}, working tree {'changed since' if body.code.dirty else 'clean'}", record)
    else:
        yield Gap("the commit: the project was not under version control when it was trained")
    yield fact("environment", "Python, platform and every library, as JSON", record, body.environment)
    yield fact("seed", body.seed, record)
    filed = seen.filed(record, _RECORD)
    if filed is None:
        yield Gap("the training record")
        return
    yield fact("estimator", filed["estimator"], record, body.files[_RECORD])
    yield fact("hyperparameters", plain(filed["hyperparameters"]), record, body.files[_RECORD])
    yield fact("launched by", body.launcher, record)


def reproduction(seen: Seen) -> Iterator[Part]:
    """E10."""
    if "candidate_model" not in seen.chain:
        yield Gap(NO_MODEL)
        return
    record = seen.chain["candidate_model"]
    value = seen.value(record)
    filed = seen.filed(record, _RECORD)
    if filed is not None:
        yield fact("what is claimed", filed["reproducibility"]["claimed"], record, record.body.files[_RECORD])
        yield fact("probe in training", filed["reproducibility"]["probe"], record, record.body.files[_RECORD])
    yield fact("state of the model to come out again", "canonical digest of the fitted model", record, value["state"])
    yield fact("predictions to come out again", "on the frozen probe", record, value["probe"])
    yield Gap(f"whether it does come out again: `compliance reproduce {record.body.run}` executes it anew; its result is no record")


def alternatives(seen: Seen) -> Iterator[Part]:
    """E11."""
    if "candidate_model" not in seen.chain:
        yield Gap(NO_MODEL)
        return
    record = seen.chain["candidate_model"]
    filed = seen.filed(record, _RECORD)
    if filed is None:
        yield Gap("the training record")
        return
    digest = record.body.files[_RECORD]
    yield fact("search", plain(filed["search"]) if filed["search"] else "none declared", record, digest)
    for place, trial in enumerate(filed["trials"]):
        yield fact(f"trial {place + 1}", plain(trial), record, digest)
    yield fact("why this kind of model", filed["rationale"], record, digest)
    others = {one.body.output: one for one in seen.by_stage("model_training") if one.body.output != record.body.output}
    yield Each(sorted(others.values(), key=lambda one: one.index), _other)
    yield Gap("alternatives that were considered outside of the pipeline")


def _other(record: Record) -> Iterator[Fact]:
    yield fact("another candidate", f"trained {record.body.finished}, {record.body.outcome}", record, record.body.output)


def components(seen: Seen) -> Iterator[Part]:
    """E33."""
    if not seen.chain:
        yield Gap(NO_MODEL)
        return
    for record in {one.body.environment: one for one in seen.chain.values()}.values():
        surroundings = _environment(seen, record)
        yield fact("Python and platform", f"{surroundings['python']} on {surroundings['platform']}", record, record.body.environment)
        yield fact("lock", surroundings["lock"], record)
        yield fact("libraries", ", ".join(surroundings["libraries"]), record, record.body.environment)
    if "candidate_model" in seen.chain:
        record = seen.chain["candidate_model"]
        yield fact("types inside of the model file", ", ".join(seen.value(record)["trusted_types"]), record, seen.value(record)["model"])
    yield Gap("known vulnerabilities at release: none were looked up; the bundle's sbom.cdx.json can be handed to a scanner")


def _environment(seen: Seen, record: Record) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(seen.river.archive.artefacts.get_bytes(Digest.parse(record.body.environment)))
    return found


def shared(seen: Seen) -> Iterator[Part]:
    """E34: every declared system, with the versions of one library (--about), or the digest of all its libraries."""
    for name in seen.river.systems:
        evaluations = Seen(seen.river, name, seen.as_of).by_stage("model_evaluation")
        if not evaluations:
            yield Gap(f"{name}: it was never evaluated")
            continue
        before = environment = ""
        for record in evaluations:
            if record.body.environment == environment:
                continue  # the same digest: the same libraries
            environment = record.body.environment
            libraries = _environment(seen, record)["libraries"]
            said = [one for one in libraries if one.partition("==")[0] == seen.about.lower()] if seen.about else [record.body.environment]
            version = ", ".join(said) or f"{seen.about} is no component of it"
            if version != before:
                yield fact(f"{name}: first evaluated with", version, record, record.body.environment)
            before = version
    if not seen.about:
        yield Gap("which component is meant: name a library with --about; here are all of them together")
    yield Gap("components outside of the library list: shared services and data suppliers are not recorded")
