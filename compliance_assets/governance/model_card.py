"""A candidate's model card in the field's form, made from evidence alone: nobody writes it, and what is not on record says so.

The nine headings and what belongs below each are those of Mitchell et al. 2019, "Model Cards for Model Reporting". Every line is
read from a signed record, from a file that a record names by digest, or from the declaration that the record was judged under,
and says which ledger entry it comes from. A card of a refused model is a card too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compliance_assets.errors import ComplianceError
from compliance_assets.governance.candidates import Candidate, fate
from compliance_assets.governance.charts.chart import markdown_table
from compliance_assets.governance.charts.findings import plainly
from compliance_assets.governance.charts.reading import between, field, group_words, shown, verdict_word, words
from compliance_assets.governance.documents import in_words
from compliance_assets.governance.finding_rows import rows
from compliance_assets.governance.release_page import filed, opened
from compliance_assets.pipeline import River
from compliance_assets.trust.canonical import Digest, parse_canonical

HEADINGS = ("Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data", "Quantitative analyses",
            "Ethical considerations", "Caveats and recommendations")
TEMPLATE = 1
"""Goes up whenever a heading, or what belongs below it, changes; filed cards name it."""
NOT_ON_RECORD = "not on record"
Wording = Callable[[Any], str]
_RATES = ("accuracy", "precision", "recall", "specificity", "roc_auc", "macro_f1", "mae", "rmse", "bias")


@dataclass(frozen=True)
class Table:
    """Numbers of one kind; `entry` is the ledger index that they are read from."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    entry: int


@dataclass(frozen=True)
class Section:
    """One heading of the card: facts as (what, said, ledger index or None), then tables."""

    title: str
    facts: tuple[tuple[str, str, int | None], ...]
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Card:
    """The whole card. `candidate` is the ledger index of the last record of this candidate."""

    title: str
    system: str
    candidate: int
    sections: tuple[Section, ...]

    def as_markdown(self) -> str:
        """The card as one Markdown document."""
        return "\n".join(_markdown(self))

    def as_json(self) -> dict[str, Any]:
        """The same, for machines."""
        return {"title": self.title, "system": self.system, "candidate": self.candidate, "form": "Mitchell et al. 2019", "sections": [
            {"title": one.title, "facts": [{"what": what, "said": said, "entry": entry} for what, said, entry in one.facts],
             "tables": [{"caption": table.caption, "head": list(table.head), "rows": [list(row) for row in table.rows],
                         "entry": table.entry} for table in one.tables]} for one in self.sections]}


def model_card(river: River, one: Candidate) -> Card:
    """The card of a candidate, however far it came."""
    seen = _Evidence(river, one)
    makers = (_details, _use, _factors, _metrics, _evaluation_data, _training_data, _analyses, _ethics, _caveats)
    title = str(seen.declared["title"]) if seen.declared is not None else one.system
    return Card(title, one.system, one.index, tuple(make(seen) for make in makers))


class _Evidence:
    """What is on record of one candidate, read once."""

    def __init__(self, river: River, one: Candidate) -> None:
        self.river, self.one = river, one
        self.declared = _declaration(river, one)
        self.proposed = _proposal(river, str(one.tip.body.definition))
        self.reports = {asset: report for asset in ("dataset", "features", "candidate_model", "evaluation_report")
                        if asset in one.chain and one.chain[asset].body.outcome != "error"
                        and (report := filed(river, one.chain[asset])) is not None}

    def entry(self, asset: str) -> int | None:
        return self.one.chain[asset].index if asset in self.one.chain else None

    def said(self, *path: str, by: Wording | None = None) -> tuple[str, int | None]:
        """A value of the declaration, put into words `by` that, and the entry in which it was proposed."""
        value: Any = self.declared
        for part in path:
            if not isinstance(value, Mapping) or part not in value or value[part] is None:
                return NOT_ON_RECORD, None
            value = value[part]
        return (by or in_words.plain)(value), self.proposed

    def filed(self, asset: str, *path: str, by: Wording | None = None) -> tuple[str, int | None]:
        """A value of a stage's own report."""
        value: Any = self.reports[asset] if asset in self.reports else None
        for part in path:
            if not isinstance(value, Mapping) or part not in value or value[part] is None:
                return NOT_ON_RECORD, None
            value = value[part]
        return (by or in_words.plain)(value), self.entry(asset)


def _proposal(river: River, definition: str) -> int | None:
    found = river.archive.proposals(Digest.parse(definition))
    return found[-1].index if found else None


def _declaration(river: River, one: Candidate) -> Mapping[str, Any] | None:
    """What was declared when this candidate was judged: from its proposal, or as it stands if that is still the same digest."""
    digest = Digest.parse(str(one.tip.body.definition))
    if river.definition(one.system).digest == digest:
        return river.definition(one.system).system.declaration()
    found = river.archive.proposals(digest)
    if not found:
        return None
    try:
        return dict(parse_canonical(river.archive.artefacts.get_bytes(Digest.parse(found[-1].body.parts)))["declaration"])
    except ComplianceError:
        return None


def _details(seen: _Evidence) -> Section:
    one, model = seen.one, seen.one.model or NOT_ON_RECORD
    trained = one.chain["candidate_model"] if "candidate_model" in one.chain else None
    became = fate(seen.river, one)
    facts = [("Developed by", *seen.said("provider")),
             ("Model file, sha256", model, seen.entry("candidate_model")),
             ("Type", *seen.filed("candidate_model", "estimator")),
             ("Hyperparameters", *seen.filed("candidate_model", "hyperparameters")),
             ("Why this kind", *seen.filed("candidate_model", "rationale")),
             ("Mitigation in training", *seen.filed("candidate_model", "mitigation")),
             ("Trials", str(len(seen.reports["candidate_model"]["trials"])) if "candidate_model" in seen.reports else NOT_ON_RECORD,
              seen.entry("candidate_model")),
             ("Trained", in_words.when(trained.body.finished) if trained is not None else NOT_ON_RECORD, seen.entry("candidate_model")),
             ("Seed", *seen.filed("candidate_model", "seed")),
             ("Reproducibility claimed", *seen.filed("candidate_model", "reproducibility", "claimed")),
             ("Definition", str(one.tip.body.definition), seen.proposed),
             ("Licence of the data", *seen.said("data", "provenance", "licence")),
             ("What became of it", in_words.moments(became.sentence), became.said_by)]
    return Section(HEADINGS[0], tuple(facts))


def _use(seen: _Evidence) -> Section:
    return Section(HEADINGS[1], (
        ("Intended purpose", *seen.said("intended_purpose")), ("Declared entry of Annex III", *seen.said("risk", "annex_iii")),
        ("Why that entry", *seen.said("risk", "basis")), ("Environment", *seen.said("deployment", "environment")),
        ("Out of scope", f"{NOT_ON_RECORD}: no record says what it must not be used for", None)))


def _factors(seen: _Evidence) -> Section:
    groups = seen.reports["dataset"]["preparation"]["after"]["groups"] if "dataset" in seen.reports else {}
    tables: tuple[Table, ...] = ()
    index = seen.entry("dataset")
    if groups and index is not None:
        counted = tuple((group_words(attribute), group_words(name), shown(float(rows_of))) for attribute, found in groups.items()
                        if isinstance(found, Mapping) for name, rows_of in sorted(found.items()))
        tables = (Table("Groups that the data knows", ("attribute", "group", "rows"), counted, index),)
    return Section(HEADINGS[2], (("Protected attributes", *_keys(seen.said("data", "protected"), seen.declared)),
                                 ("Intersections looked at", *seen.said("data", "intersections")),
                                 ("Protected attributes seen by the model", *seen.said("data", "used_as_features"))), tables)


def _metrics(seen: _Evidence) -> Section:
    facts = [("Decision threshold", *seen.said("evaluation", "decision_threshold")),
             ("Fairness criterion that counts most", *seen.said("evaluation", "fairness", "primary", by=words)),
             ("Smallest group that is judged", *seen.said("evaluation", "fairness", "minimum_group", by=in_words.smallest))]
    bounds = tuple(_bounds(seen.declared)) if seen.declared is not None else ()
    tables = (Table("Declared bounds", ("gate", "metric", "over", "bound", "judged on", "because"), bounds, seen.proposed),) \
        if bounds and seen.proposed is not None else ()
    return Section(HEADINGS[3], tuple(facts), tables)


def _evaluation_data(seen: _Evidence) -> Section:
    index = seen.entry("evaluation_report")
    looked = opened(seen.one.chain["evaluation_report"]) if "evaluation_report" in seen.one.chain else ""
    return Section(HEADINGS[4], (
        ("Rows", *seen.filed("evaluation_report", "rows", by=in_words.counted)), ("Split", *seen.said("data", "split", by=in_words.split)),
        ("Out of reach of training", _verdict(seen, "candidate_model", "isolation"), seen.entry("candidate_model")),
        ("Holdout", looked or NOT_ON_RECORD, index if looked else None)))


def _training_data(seen: _Evidence) -> Section:
    told = [(label, *seen.said("data", "provenance", name)) for label, name in (
        ("Collected by", "collected_by"), ("How", "method"), ("When", "period"), ("First collected for", "original_purpose"),
        ("Processed because", "legal_basis"), ("About people who can be identified", "contains_personal_data"))]
    return Section(HEADINGS[5], (
        *told, ("Raw source, sha256", *seen.filed("dataset", "source", "digest")),
        ("Preparation", *seen.filed("dataset", "preparation", "purpose")),
        ("Rows to learn from", *seen.filed("candidate_model", "rows", "train", by=in_words.counted)),
        ("Data contract", _verdict(seen, "dataset", "contract"), seen.entry("dataset")),
        ("Represents the declared population", _verdict(seen, "dataset", "representativeness"), seen.entry("dataset"))))


def _analyses(seen: _Evidence) -> Section:
    if "evaluation_report" not in seen.reports:
        return Section(HEADINGS[6], (("Measured on the holdout", NOT_ON_RECORD, None),))
    record, report = seen.one.chain["evaluation_report"], seen.reports["evaluation_report"]
    index = record.index
    found = tuple((row.gate, row.what, row.over, row.value, row.interval, row.n, row.bound, row.word) for row in rows(record))
    tables = [Table("Every finding, against its declared bound",
                    ("gate", "what", "over", "value", "95 % interval", "n", "bound", "verdict"), found, index)]
    if "performance" in report:
        everybody = tuple(map(_measured, report["performance"]))
        tables.append(Table("All rows", ("metric", "value", "95 % interval", "n", "method"), everybody, index))
    for over, groups in report["groups"].items() if "groups" in report else ():
        kind = "Unitary" if "*" not in over else "Intersectional"
        lines = tuple((group_words(name), shown(float(group["rows"])), words(one["metric"]), shown(field(one, "value")),
                       between(field(one, "lower"), field(one, "upper"))) for name, group in groups.items()
                      for one in group["performance"] if one["metric"] in _RATES)
        tables.append(Table(f"{kind}: {group_words(over)}", ("group", "n", "metric", "value", "95 % interval"), lines, index))
    refused = (("Could not be measured", str(report["refused"]), index),) if "refused" in report else ()
    return Section(HEADINGS[6], refused, tuple(tables))


def _ethics(seen: _Evidence) -> Section:
    registry: Sequence[Mapping[str, Any]] = seen.declared["features"]["registry"] if seen.declared is not None else ()
    assessed = tuple((str(feature["name"]), str(feature["proxy"]["note"])) for feature in registry if feature["proxy"] is not None)
    tables = (Table("Features that may stand in for a protected attribute, and why they stay", ("feature", "assessment"), assessed,
                    seen.proposed),) if assessed and seen.proposed is not None else ()
    return Section(HEADINGS[7], (
        ("Fairness", _verdict(seen, "evaluation_report", "fairness"), seen.entry("evaluation_report")),
        ("Proxies assessed", _verdict(seen, "features", "proxies"), seen.entry("features")),
        ("Protected attributes kept out", _verdict(seen, "features", "prohibited"), seen.entry("features")),
        ("Risks beyond what is measured", f"{NOT_ON_RECORD}: no record speaks of them; they belong to the provider's risk management "
         "(Art. 9)", None)), tables)


def _caveats(seen: _Evidence) -> Section:
    stopped = [(f"{words(report.gate)}: {verdict_word(finding.verdict)}", plainly(finding, report.gate), record.index)
               for record in seen.one.chain.values() for report in record.body.reports for finding in report.failures]
    small = [("Too small to be judged", plainly(finding, report.gate), record.index) for record in seen.one.chain.values()
             for report in record.body.reports for finding in report.findings if finding.verdict.value == "INSUFFICIENT_DATA"]
    demo = [("Demonstration", "people and keys were made by the program", seen.one.index)] if seen.one.tip.body.demonstration else []
    return Section(HEADINGS[8], (
        *demo, *(stopped or [("Gates that stopped it", "none so far", seen.one.index)]), *(one for one in small if one not in stopped),
        ("What a card cannot say", "whether numbers were measured honestly at the source; this card shows evidence and claims no "
         "conformity", None)))


def _verdict(seen: _Evidence, asset: str, gate: str) -> str:
    if asset not in seen.one.chain:
        return NOT_ON_RECORD
    return next((verdict_word(report.verdict) for report in seen.one.chain[asset].body.reports if report.gate == gate), NOT_ON_RECORD)


def _keys(said: tuple[str, int | None], declared: Mapping[str, Any] | None) -> tuple[str, int | None]:
    return said if declared is None else (", ".join(map(group_words, declared["data"]["protected"])), said[1])


def _bounds(declared: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    evaluation = declared["evaluation"]
    for gate, bounds in (("performance", evaluation["performance"]), ("fairness", evaluation["fairness"]["bounds"]),
                         ("robustness", evaluation["robustness"]), ("calibration", evaluation["calibration"]),
                         ("drift", evaluation["drift"]["bounds"])):
        for bound in bounds:
            over = ", ".join(map(group_words, bound["over"])) or "all rows"
            yield gate, words(bound["metric"]), over, in_words.bound(bound), bound["judged_on"], bound["because"]


def _measured(one: Mapping[str, Any]) -> tuple[str, ...]:
    return (words(one["metric"]), shown(field(one, "value")), between(field(one, "lower"), field(one, "upper")), in_words.counted(one["n"]),
            str(one["method"] if "method" in one else one["note"] if "note" in one else ""))


def _markdown(card: Card) -> Iterator[str]:
    yield f"# Model card: {card.title}"
    yield f"\nSystem {card.system}, candidate {card.candidate}. Made from ledger entries; [n] is the entry that a line is read from."
    for section in card.sections:
        yield f"\n## {section.title}\n"
        yield markdown_table(("what", "on record", "entry"), [(what, said, "" if entry is None else f"[{entry}]")
                                                              for what, said, entry in section.facts]) if section.facts else ""
        for table in section.tables:
            yield f"{table.caption} [{table.entry}]\n"
            yield markdown_table(table.head, table.rows)
