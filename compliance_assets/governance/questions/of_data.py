"""E2 to E8: which data, from where, what was done to it, whose it is, and whether the holdout stayed apart."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from compliance_assets.evidence.archive import Record
from compliance_assets.governance.questions.answer import Each, Fact, Gap, Part, fact
from compliance_assets.governance.questions.seen import Facts, Seen, moment, plain
from compliance_assets.trust.canonical import Digest

NO_DATASET = "no dataset of this version is on record"
_TABLES = {"train": "dataset/train.parquet", "validation": "dataset/validation.parquet", "holdout": "dataset/holdout.parquet"}


def rows_and_manifest(seen: Seen) -> Iterator[Part]:
    """E2."""
    if "dataset" not in seen.chain:
        yield Gap(NO_DATASET)
        return
    record = seen.chain["dataset"]
    value = seen.value(record)
    yield fact("dataset version", f"{value['rows']} rows, {len(value['columns'])} columns; its manifest is the artefact of this digest",
               record, record.body.output)
    for part, split in value["splits"].items():
        yield fact(f"rows for {part}", f"{split['rows']} rows, logical digest {split['logical']}", record, split["file"])
    yield fact("raw source", "the bytes that it was made from", record, value["source"])
    if "features" in seen.chain:
        features = seen.chain["features"]
        yield fact("feature set", f"{', '.join(seen.value(features)['names'])}", features, features.body.output)


def origin(seen: Seen) -> Iterator[Part]:
    """E3."""
    proposal = seen.judged_under
    if "dataset" in seen.chain:
        record = seen.chain["dataset"]
        yield fact("raw source", "sha256 of what was read", record, seen.value(record)["source"])
    if proposal is None:
        yield Gap("the definition under which it was judged was never put on record: `compliance definition approve` does it")
        return
    data = seen.parts(proposal)["declaration"]["data"]
    yield fact("source as declared", plain({name: value for name, value in data["source"].items() if value is not None}), proposal)
    for name, said in data["provenance"].items():
        yield fact(name.replace("_", " "), plain(said), proposal)


def done_to_it(seen: Seen) -> Iterator[Part]:
    """E4."""
    if "dataset" not in seen.chain:
        yield Gap(NO_DATASET)
    for asset, name, part in (("dataset", "dataset/quality_report.json", "preparation"), ("features", "features/report.json", "step"),
                              ("candidate_model", "model/training_record.json", "preparation")):
        if asset not in seen.chain:
            continue
        record = seen.chain[asset]
        body = record.body
        yield fact(f"{body.stage.replace('_', ' ')}: by whom and when", f"{body.launcher}, {body.started} to {body.finished}", record)
        report = seen.filed(record, name)
        if report is None or part not in report:
            yield Gap(f"{body.stage} filed no account of what it did")
            continue
        step = report[part]
        for key in ("purpose", "code", "kind", "validated_by", "before", "after", "change", "categories", "missing", "seeded"):
            if key in step:
                yield fact(f"{body.stage.replace('_', ' ')}: {key.replace('_', ' ')}", plain(step[key]), record, body.files[name])
    if "dataset" in seen.chain:
        yield Gap("what was expected before the data were prepared, beyond the declared contract and bounds: nothing else is recorded")


def columns_of_features(seen: Seen) -> Iterator[Part]:
    """E5."""
    if "features" not in seen.chain:
        yield Gap("no feature set of this version is on record")
        return
    record = seen.chain["features"]
    report = seen.filed(record, "features/report.json")
    lineage: dict[str, Any] = report["lineage"] if report is not None else {}
    if seen.about and seen.about not in lineage:
        yield Gap(f"no feature is called {seen.about}; there are {', '.join(lineage)}")
    for name, said in lineage.items():
        if seen.about in ("", name):
            yield fact(name, f"from {', '.join(said['columns'])}, by {said['code']}", record, record.body.files["features/report.json"])


def affected(seen: Seen) -> Iterator[Part]:
    """E6."""
    made = seen.by_stage("data_preparation")
    about = seen.about or (str(seen.value(seen.chain["dataset"])["source"]) if "dataset" in seen.chain else "")
    if not about:
        yield Gap("no source is on record; name one by its digest (--about)")
        return
    resting = [one for one in made if about in (one.body.output, *one.body.files.values()) or seen.source(one).startswith(about)]
    if not resting:
        yield Gap(f"no dataset on record rests on {about[:64]}")
    datasets = {one.body.output: one for one in resting}
    for record in datasets.values():
        yield fact("dataset made from it", f"{seen.value(record)['rows']} rows", record, record.body.output)
    features = {one.body.output for digest in datasets for one in seen.made_from(digest, "feature_engineering")}
    models = [one for digest in features for one in seen.made_from(digest, "model_training")]
    files = {one.body.files["model/model.skops"] for one in models if "model/model.skops" in one.body.files}
    deployed = [one for one in seen.deployments if one.body.model in files]
    yield Each(sorted((*models, *deployed), key=lambda one: one.index), _affected)


def _affected(record: Record) -> Iterator[Fact]:
    if record.statement.kind == "deployment":
        yield fact(f"deployment:{record.body.action.replace('_', ' ')}", f"at {record.body.at}", record, record.body.model)
    else:
        yield fact("model trained on it", f"at {record.body.finished}", record, record.body.output)


def person(seen: Seen) -> Iterator[Part]:
    """E7: looked up in the stored partitions, by the declared key. The answer names the part, and nothing else of the person."""
    proposal = seen.judged_under
    if not seen.about:
        yield Gap("whose record is meant: give the declared key with --about")
        return
    if proposal is None or "dataset" not in seen.chain:
        yield Gap(NO_DATASET)
        return
    key, looked = str(seen.parts(proposal)["declaration"]["data"]["key"]), 0
    holds = cache(lambda digest: _holds(seen, digest, key, seen.about))  # many versions share a part
    for record in {one.body.output: one for one in seen.by_stage("data_preparation")}.values():
        for part, name in _TABLES.items():
            digest = record.body.files[name]
            if holds(digest):
                yield fact(f"used for {part}", "this key is in that part", record, digest)
                looked = -1
            elif looked >= 0:
                looked += 1
    if looked >= 0:
        found = seen.none("not used", f"this key is in none of the {looked} stored parts of any dataset version")
        if found is not None:
            yield found


def _holds(seen: Seen, digest: str, key: str, wanted: str) -> bool:
    import polars as pl

    with seen.river.archive.artefacts.open_path(Digest.parse(digest)).open("rb") as file:
        column = pl.read_parquet(file, columns=[key])[key]
    return bool((column.cast(pl.String) == wanted).any())


def holdout(seen: Seen) -> Iterator[Part]:
    """E8."""
    if "dataset" not in seen.chain:
        yield Gap(NO_DATASET)
        return
    for asset, gate in (("dataset", "leakage"), ("candidate_model", "isolation")):
        if asset in seen.chain:
            record = seen.chain[asset]
            for report in record.body.reports:
                if report.gate == gate:
                    yield fact(f"gate {gate}", f"{report.verdict.value}: {'; '.join(one.sentence() for one in report.findings)}", record)
    if "candidate_model" in seen.chain:
        record = seen.chain["candidate_model"]
        opened = seen.filed(record, "model/training_record.json")
        if opened is not None:
            for name, digest in sorted(opened["opened"].items()):
                yield fact("opened in training", name, record, digest)
    mine = seen.chain["dataset"].body.files["dataset/holdout.parquet"]
    yield fact("the holdout", "its rows", seen.chain["dataset"], mine)
    yield Each(seen.under(_holdout, mine), _evaluated)
    yield Gap("access to the files outside of the pipeline: the store's reads are not logged")


def _holdout(record: Record, facts: Facts) -> tuple[str, ...]:
    """Evaluations, by the holdout that they opened."""
    return (facts(record).holdout,)


def _evaluated(record: Record) -> Iterator[Fact]:
    told = record.body.observations["holdout_opened"]
    yield fact(f"evaluated, time {told['times']}", f"{moment(record):%Y-%m-%d %H:%M} UTC; limit: {told['limit']}", record, told["holdout"])
