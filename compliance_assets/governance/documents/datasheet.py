"""A datasheet of the dataset that a candidate rests on, from evidence, in the order of Gebru et al. 2021, "Datasheets for Datasets"."""

from __future__ import annotations

from collections.abc import Mapping

from compliance_assets.governance.documents import in_words
from compliance_assets.governance.documents import passages as say
from compliance_assets.governance.documents.gathered import Gathered
from compliance_assets.governance.documents.human_parts import Part
from compliance_assets.governance.documents.paper import Point

TITLE = "Datasheet of the dataset"
BASIS = "order of Gebru et al. 2021 (convention); supports Art. 10(2)-(4) and Annex IV(2)(d)"


def points(g: Gathered, standing: Mapping[str, Part]) -> tuple[Point, ...]:
    """Seven headings: motivation, composition, collection, preprocessing, uses, distribution, maintenance."""
    write = say.Writer(g, standing)
    return (
        write.point("Motivation", "for which purpose it was made, and by whom", "●", {
            "First collected for": g.said("First collected for", "data", "provenance", "original_purpose"),
            "Collected by": g.said("Collected by", "data", "provenance", "collected_by")}),
        write.point("Composition", "what it holds: rows, columns, groups, labels, what is missing, whether about people", "◐", {
            "Dataset": g.stated("dataset", "Dataset, digest", "output"), "Rows": g.output("dataset", "Rows", "rows", by=in_words.counted),
            "Columns": g.output("dataset", "Columns and their types", "columns", by=in_words.columns),
            "Label": g.said("Label, what is learned from it", "data", "target", by=in_words.label),
            "People": g.said("About people who can be identified", "data", "provenance", "contains_personal_data"),
            "Missing values": g.reported("dataset", "Missing values, by column", "preparation", "after", "missing"),
            "Rows with the favourable label": g.reported("dataset", "Rows with the favourable label", "preparation", "after", "favourable",
                                                         by=in_words.counted),
            "Declared population": g.said("Declared population", "data", "reference_population", by=in_words.population)},
            grids=[say.splits(g), say.groups_in_data(g)], parts=["datasheet/composition"]),
        write.point("Collection", "how and when it was collected, on which legal basis, how it was labelled", "◐", {
            "Method": g.said("How", "data", "provenance", "method"), "Period": g.said("Period", "data", "provenance", "period"),
            "Basis": g.said("Processed because", "data", "provenance", "legal_basis"),
            "Source": g.output("dataset", "Raw source, sha256", "source"), "Declared": g.said("Declared source", "data", "source")},
            parts=["datasheet/labelling"]),
        write.point("Preprocessing", "what was done to it, and what was checked", "●", {
            "Purpose": g.reported("dataset", "Preparation", "preparation", "purpose"),
            "Code": g.reported("dataset", "Code of the preparation", "preparation", "code"),
            "Change": g.reported("dataset", "Rows added or removed", "preparation", "change", "rows"),
            "Split": g.said("Split", "data", "split", by=in_words.split)},
            grids=[say.checks_of_data(g), say.input_columns(g)]),
        write.point("Uses", "what it is used for here, and what it should not be used for", "◐", {
            "Used for": g.said("Used for", "intended_purpose"), "Kept out": g.verdict("features", "prohibited")},
            parts=["datasheet/uses"]),
        write.point("Distribution", "under which licence", "●", {"Licence": g.said("Licence", "data", "provenance", "licence"),
                                                                 "Residency": g.said("Where it is kept", "residency")}),
        write.point("Maintenance", "who maintains it, how long it is kept", "◐", {
            "Kept for": g.said("Kept for", "retention", by=in_words.retention)},
                    parts=["datasheet/maintenance"]),
    )
