"""The numbers that instructions for use must hold (Art. 13(3)), read from evidence; the words around them are for the provider to write."""

from __future__ import annotations

from collections.abc import Mapping

from compliance_assets.governance.documents import in_words
from compliance_assets.governance.documents import passages as say
from compliance_assets.governance.documents.annex_iv import THRESHOLD
from compliance_assets.governance.documents.gathered import Gathered
from compliance_assets.governance.documents.human_parts import Part
from compliance_assets.governance.documents.paper import Point

TITLE = "Instructions for use: what Art. 13(3) asks to state"
BASIS = "Art. 13(3) and Art. 15(3) of Regulation (EU) 2024/1689 (law; points paraphrased)"


def points(g: Gathered, standing: Mapping[str, Part]) -> tuple[Point, ...]:
    """The points of Art. 13(3), in their order."""
    write = say.Writer(g, standing)
    return (
        write.point("13(3)(a)", "identity and contact details of the provider and, where there is one, its authorised representative", "◐",
                    {"Provider": g.said("Provider", "provider")}, parts=["instructions/provider"]),
        write.point("13(3)(b)(i)", "intended purpose", "●", {"Intended purpose": g.said("Intended purpose", "intended_purpose")}),
        write.point("13(3)(b)(ii)", "level of accuracy, its metrics, robustness and cybersecurity against which it was tested", "◐", {
            "Decision threshold": g.said(THRESHOLD, "evaluation", "decision_threshold"),
            "Storage of the model": g.verdict("candidate_model", "storage"), "Server": g.verdict("integration_report", "identity"),
            "Tests against attacks (made to mislead the model, or to find out who was in its data)": say.attacks(g)},
            grids=[say.for_everybody(g), say.findings(g, "evaluation_report", "Tested for", ("performance", "robustness", "calibration"))],
            parts=["annex-iv/2(h)"]),
        write.point("13(3)(b)(iii)", "known or foreseeable circumstances that may lead to risks", "◐", lines=say.small_groups(g),
                    parts=["instructions/limits"]),
        write.point("13(3)(b)(iv)", "technical capabilities and characteristics to provide information that explains its output", "○",
                    parts=["instructions/explaining"]),
        write.point("13(3)(b)(v)", "performance regarding specific persons or groups", "●", {
            "Smallest group that is judged": g.said("Smallest group that is judged", "evaluation", "fairness", "minimum_group",
                                                    by=in_words.smallest)},
            grids=[*say.for_groups(g), say.findings(g, "evaluation_report", "Fairness", ("fairness",))]),
        write.point("13(3)(b)(vi)", "specifications of input data, and relevant information on the data used", "●", {
            "Rows": g.reported("candidate_model", "Rows it learned from and was chosen on", "rows")},
            grids=[say.features(g), say.groups_in_data(g)]),
        write.point("13(3)(b)(vii)", "information that enables deployers to interpret its output and to use it appropriately", "◐", {
            "Decision threshold": g.said(THRESHOLD, "evaluation", "decision_threshold"),
            "Calibration": g.verdict("evaluation_report", "calibration")}, parts=["instructions/interpreting"]),
        write.point("13(3)(c)", "changes that the provider predetermined at the moment of the initial conformity assessment", "◐", {
            "Declared retraining": g.said("Declared retraining", "retraining", by=in_words.retraining)}, parts=["annex-iv/2(f)"]),
        write.point("13(3)(d)", "human oversight measures, and what helps to interpret the output", "○", parts=["instructions/oversight"]),
        write.point("13(3)(e)", "resources needed, expected lifetime, maintenance and care", "◐", {
            "Answer time": g.output("integration_report", "Answer time in the integration test, 95th percentile", "latency_p95_ms",
                                    by=in_words.in_milliseconds),
            "Size of the model": g.stated("candidate_model", "Size of the model", "observations", "model_bytes", by=in_words.in_bytes)},
            parts=["instructions/lifetime"]),
        write.point("13(3)(f)", "mechanisms to collect, store and interpret logs (Art. 12)", "◐", {
            "Logged": g.verdict("integration_report", "end_to_end"),
            "Logs kept for": g.said("Logs kept for", "retention", "operation_logs_months", by=in_words.months)},
            parts=["instructions/logs"]),
    )
