"""Stage 1 makes a dataset out of a declared source, and says everything that is known about it before anyone learns from it.

What happens, in order: the source is fetched and its digest checked; text becomes the contract's types; the system's own
`prepare` cleans (what it does and what it changed is recorded before and after); protected groups are derived; rows are split
by a hash of the declared column; each part is sorted by the key and kept as parquet; the contract is run.

Refused (a gate fails) when the bytes are not the declared ones, an expectation of the contract does not hold, a key repeats, the
label is incomplete or one-sided, groups are not represented as declared or too small to be judged, or somebody stands in two
parts; where that is bounded, also when gaps gather in a group, rows are too old or the data moved away from an approved model's.
Supports AI Act Art. 9(8), Art. 10(2)-(4), Art. 15(5), Art. 17(1)(f), Annex IV(2)(d).
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, ConfigDict

from compliance_assets.errors import StageError
from compliance_assets.features import source_columns
from compliance_assets.metrics import quality
from compliance_assets.policy.gates import GateReport, conclude
from compliance_assets.policy.river import rule_named
from compliance_assets.policy.system import Bands
from compliance_assets.sources import fetch
from compliance_assets.sources.columns import cast_columns
from compliance_assets.sources.expectations import validate
from compliance_assets.sources.partition import PARTS, counts, derived, group_column, part_of_each, with_groups
from compliance_assets.stages import s1_gates
from compliance_assets.stages.outcomes import is_good
from compliance_assets.stages.s1_gates import declared_source
from compliance_assets.stages.side_by_side import side_by_side
from compliance_assets.stages.stage import Draft, Stage, Value, Work
from compliance_assets.trust.canonical import Digest, canonical_json, dataset_digest, decimal_string, parse_canonical, sha256_bytes
from compliance_assets.trust.cds1 import logical_type

if TYPE_CHECKING:
    import polars as pl

    from compliance_assets.evidence.artefacts import ArtefactStore
    from compliance_assets.policy.system import Data

RULE = rule_named("data_preparation")
ROW_GROUP = 1 << 17


class Column(BaseModel):
    """A column of the dataset: its name and its logical type (`trust.cds1`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    dtype: str


class SplitFile(BaseModel):
    """One part: sha256 of its parquet file, its logical digest, its rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    file: str
    logical: str
    rows: int


class Dataset(Value):
    """A prepared, split, measured version of a source. `source` is the digest of the raw snapshot."""

    source: str
    rows: int
    columns: tuple[Column, ...]
    splits: dict[str, SplitFile]
    quality_report: str
    groups: dict[str, dict[str, int]]

    def files(self) -> Mapping[str, str]:
        return {f"dataset/{part}.parquet": self.splits[part].file for part in PARTS} | {
            "dataset/quality_report.json": self.quality_report}


def produce(work: Work) -> Draft:
    """Fetch, cast, clean, group, split, keep, measure. `SourceError` or `StageError` when there is nothing to judge."""
    system, started = work.definition.system, time.perf_counter()
    data = system.data
    snapshot = fetch(data.source, folder=work.definition.folder, root=work.definition.root, scratch=work.scratch,
                     load_code=work.definition.load_code)
    work.tell("fetched", rows=snapshot.frame.height, source=snapshot.description)
    raw = cast_columns(snapshot.frame, work.definition.contract)
    prepared = _prepared(work, raw)
    before = _profile(raw, data)
    after = before if prepared is raw else _profile(prepared, data)
    source_digest, source_description = snapshot.digest, snapshot.description
    # Sorting copies every row; what was read goes before the next copy is made, or a large table is held three times.
    prepared = prepared.sort(data.key, maintain_order=True)
    del snapshot, raw
    suite = work.definition.file(data.contract).read_bytes()
    contract = {"suite_sha256": str(sha256_bytes(suite)), **validate(prepared, suite)}
    work.tell("validated", success=contract["success"])
    frame = with_groups(prepared, data.protected)
    parts = _split(frame, data)
    work.tell("split", **{name: part.height for name, part in parts.items()})
    rows = frame.height
    columns = tuple(Column(name=name, dtype=logical_type(dtype)) for name, dtype in frame.schema.items())
    groups = {attribute: counts(frame[group_column(attribute)]) for attribute in data.protected}
    del prepared, frame
    profiles = side_by_side(lambda part: _profile(part, data), parts.values())
    report = {
        "report": "data quality", "version": 1, "system": system.system,
        "source": {"digest": str(source_digest), "description": source_description, "declared": declared_source(system)},
        "preparation": {
            "code": data.prepare or "none", "purpose": _purpose(work, data), "validated_by": data.contract,
            "before": before, "after": after, "change": _change(before, after),
        },
        "contract": contract,
        "parts": dict(zip(parts, profiles, strict=True)),
        "identical_rows_across_parts": _identical_rows(parts, data),
    }
    value = Dataset(
        system=system.system, source=str(source_digest), rows=rows, columns=columns,
        splits={name: _keep(work.artefacts, part) for name, part in parts.items()},
        quality_report=str(work.artefacts.put_bytes(canonical_json(report))),
        groups=groups,
    )
    return Draft(value, {"seconds": decimal_string(round(time.perf_counter() - started, 3))})


def judge(work: Work, draft: Draft) -> Iterator[GateReport]:
    """The ten gates of stage 1, from the sealed files and the declaration now in force."""
    dataset = cast(Dataset, draft.value)
    system = work.definition.system
    report = parse_canonical(work.artefacts.get_bytes(Digest(dataset.quality_report)))
    parts = {name: read_part(work.artefacts, dataset, name) for name in PARTS}
    frame = _together(parts)
    findings = (
        s1_gates.source(dataset, report, system),
        s1_gates.contract(work, report, frame),
        s1_gates.completeness(frame, system.data),
        s1_gates.uniqueness(frame, system.data),
        chain(s1_gates.label(frame, system.data), s1_gates.conflicting(frame, system.data, source_columns(system.features.registry))),
        s1_gates.representativeness(frame, system.data),
        s1_gates.cell_sizes(frame, system.data),
        s1_gates.leakage(parts, system.data, source_columns(system.features.registry)),
        s1_gates.currentness(frame, system.data),
        s1_gates.shift(work, frame, lambda digest: _rows_of(work.artefacts, digest)),
    )
    for gate, found in zip(RULE.gates, findings, strict=True):
        yield conclude(gate.name, gate.version, found)


def _rows_of(artefacts: ArtefactStore, digest: str) -> pl.DataFrame:
    """Every row of the dataset that a digest names."""
    dataset = Dataset.model_validate(parse_canonical(artefacts.get_bytes(Digest(digest))))
    return _together({part: read_part(artefacts, dataset, part) for part in PARTS})


def read_part(artefacts: ArtefactStore, dataset: Dataset, part: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """One part of the dataset, bytes checked: `columns`, or all prepared ones and one `group.<attribute>` per attribute."""
    import polars as pl

    return pl.read_parquet(artefacts.open_path(Digest(dataset.splits[part].file)), columns=None if columns is None else list(columns))


def parquet_bytes(frame: pl.DataFrame) -> bytes:
    """The one way this package writes parquet: zstd, fixed row groups, statistics; the same rows give the same bytes."""
    stream = io.BytesIO()
    frame.rechunk().write_parquet(stream, compression="zstd", compression_level=3, statistics=True, row_group_size=ROW_GROUP)
    return stream.getvalue()


def _prepared(work: Work, raw: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    data = work.definition.system.data
    if data.prepare is None:
        prepared = raw
    else:
        lazy = work.definition.load_code(data.prepare)(raw.lazy())
        if not isinstance(lazy, pl.LazyFrame):
            raise StageError(f"{data.prepare} returned a {type(lazy).__name__}.", rule="prepare is lazy",
                             value=type(lazy).__name__, remedy="Return a polars LazyFrame.")
        try:
            prepared = lazy.collect()
        except pl.exceptions.PolarsError as error:
            raise StageError(f"{data.prepare} cannot be computed: {str(error).splitlines()[0][:300]}.", rule="prepare code",
                             value=type(error).__name__, remedy="Mend the expression; check it on a few raw rows.") from error
    needed = (data.key, data.target.column, data.split.by)
    absent = [name for name in needed if name not in prepared.columns]
    if absent:
        raise StageError(f"The prepared data has no column {', '.join(absent)}.", rule="declared columns exist",
                         value=", ".join(absent), remedy="Correct data.key, data.target.column or data.split.by.")
    if prepared.height == 0:
        raise StageError("Nothing is left after prepare.", rule="prepared data has rows", value="0",
                         remedy="Check what prepare removes.")
    return prepared


def _purpose(work: Work, data: Data) -> str:
    """What the cleaning is meant to do, in its author's words: the pre-step record."""
    if data.prepare is None:
        return "the source is used as it is"
    return " ".join((work.definition.load_code(data.prepare).__doc__ or "not documented").split())


def _split(frame: pl.DataFrame, data: Data) -> dict[str, pl.DataFrame]:
    """The parts of a frame that is sorted by key, each in its order."""
    part = part_of_each(frame[data.split.by], data.split)
    return {name: frame.filter(part == place) for place, name in enumerate(PARTS)}


def _keep(artefacts: ArtefactStore, part: pl.DataFrame) -> SplitFile:
    return SplitFile(file=str(artefacts.put_bytes(parquet_bytes(part))), logical=str(dataset_digest(part)), rows=part.height)


def _profile(frame: pl.DataFrame, data: Data) -> dict[str, Any]:
    """Rows, gaps per column, group sizes and label counts: compared before and after a step. What cannot be told yet says so."""
    target = data.target.column
    labels = is_good(frame[target], data.target) if target in frame.columns else None
    return {
        "rows": frame.height,
        "missing": {name: count for name, count in zip(frame.columns, frame.null_count().row(0), strict=True) if count}
        if frame.height else {},
        "favourable": int(labels.sum()) if labels is not None else "the target does not exist yet",
        "groups": {
            attribute: counts(frame[group_column(attribute)]) if group_column(attribute) in frame.columns
            else counts(derived(frame, attribute, declared))
            if _derivable(frame, data.column_of(attribute), isinstance(declared, Bands)) else "not derivable yet"
            for attribute, declared in data.protected.items()
        },
    }


def _change(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What a step did to the share of favourable labels and of each group, as differences of shares; absent where a side has none."""
    def share(count: int, rows: int) -> float | None:
        return count / rows if rows else None

    def moved(first: float | None, second: float | None) -> dict[str, str]:
        if first is None or second is None:
            return {}
        return {"before": f"{first:.6f}", "after": f"{second:.6f}", "change": f"{second - first:+.6f}"}

    rows = int(before["rows"]), int(after["rows"])
    labels = before["favourable"], after["favourable"]
    groups: dict[str, Any] = {}
    for attribute, now in after["groups"].items():
        then = before["groups"][attribute]
        if isinstance(now, str) or isinstance(then, str):
            groups[attribute] = "not derivable before or after"
            continue
        names = sorted({*then, *now})
        groups[attribute] = {name: moved(share(sum(then[one] for one in then if one == name), rows[0]),
                                         share(sum(now[one] for one in now if one == name), rows[1])) for name in names}
    return {"rows": rows[1] - rows[0], "group_shares": groups,
            "favourable_share": "the target does not exist before" if any(isinstance(one, str) for one in labels) else
            moved(share(labels[0], rows[0]), share(labels[1], rows[1]))}


def _derivable(frame: pl.DataFrame, column: str, as_number: bool) -> bool:
    return column in frame.columns and (frame[column].dtype.is_numeric() or not as_number)


def _identical_rows(parts: Mapping[str, pl.DataFrame], data: Data) -> int:
    """Distinct rows that are equal in everything but key and split column, in more than one part. Reported, not judged:
    two people may well look alike in coarse columns."""
    first = next(iter(parts.values()))
    columns = [name for name in first.columns if name not in (data.key, data.split.by, data.target.column)]
    measured = quality.split_row_overlap(parts, columns)
    return int(measured.value) if measured.value is not None else 0


def _together(parts: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    import polars as pl

    return pl.concat(list(parts.values()))


STAGE = Stage(RULE, Dataset, produce, judge)
