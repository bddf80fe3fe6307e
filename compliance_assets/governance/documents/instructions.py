"""The numbers that instructions for use must hold (Art. 13(3)), read from evidence; the words around them are for the provider to write."""

from __future__ import annotations

from collections.abc import Mapping

from compliance_assets.governance.documents import passages as say
from compliance_assets.governance.documents.gathered import Gathered
from compliance_assets.governance.documents.human_parts import Part
from compliance_assets.governance.documents.paper import Point

TITLE = "Instructions for use: what Art. 13(3) asks to state"
BASIS = "Art. 13(3) and Art. 15(3) of Regulation (EU) 2024/1689 (law; points paraphrased)"


def points(g: Gathered, standing: Mapping[str, Part]) -> tuple[Point, ...]:
    """The points of Art. 13(3), in their order."""
    write = say.Writer(g, standing)
    return (
        write.point("13(3)(a)", "identity and contact details of the provider", "◐", {"Provider": g.said("Provider", "provider")},
                    parts=["instructions/provider"]),
        write.point("13(3)(b)(i)", "intended purpose", "●", {"Purpose": g.said("Intended purpose", "intended_purpose")}),
        write.point("13(3)(b)(ii)", "level of accuracy, its metrics, robustness and cybersecurity against which it was tested", "◐", {
            "Threshold": g.said("Decision threshold", "evaluation", "decision_threshold"),
            "Storage": g.verdict("candidate_model", "storage"), "Identity": g.verdict("integration_report", "identity")},
            grids=[say.for_everybody(g), say.findings(g, "evaluation_report", "Tested for", ("performance", "robustness", "calibration"))],
            parts=["annex-iv/2(h)"]),
        write.point("13(3)(b)(iii)", "known or foreseeable circumstances that may lead to risks", "◐", lines=say.small_groups(g),
                    parts=["instructions/limits"]),
        write.point("13(3)(b)(iv)", "capabilities to provide information that explains its output", "◐", {
            "Logged": g.verdict("integration_report", "end_to_end")}, parts=["instructions/explaining"]),
        write.point("13(3)(b)(v)", "performance regarding specific persons or groups", "●", {
            "Smallest": g.said("Smallest group that is judged", "evaluation", "fairness", "minimum_group")},
            grids=[*say.for_groups(g), say.findings(g, "evaluation_report", "Fairness", ("fairness",))]),
        write.point("13(3)(b)(vi)", "specifications of input data, and relevant information on the data used", "●", {
            "Rows": g.reported("candidate_model", "Rows it learned from and was chosen on", "rows")},
            grids=[say.features(g), say.groups_in_data(g)]),
        write.point("13(3)(c)", "changes that were predetermined at the initial assessment", "◐", {
            "Retraining": g.said("Declared retraining", "retraining")}, parts=["annex-iv/2(f)"]),
        write.point("13(3)(d)", "human oversight measures, and what helps to interpret the output", "○", parts=["instructions/oversight"]),
        write.point("13(3)(e)", "resources needed, expected lifetime, maintenance and care", "◐", {
            "Latency": g.output("integration_report", "Answer time in the integration test, 95th percentile, ms", "latency_p95_ms"),
            "Bytes": g.stated("candidate_model", "Model, bytes", "observations", "model_bytes")}, parts=["instructions/lifetime"]),
        write.point("13(3)(f)", "mechanisms to collect, store and interpret logs (Art. 12)", "◐", {
            "Logged": g.verdict("integration_report", "end_to_end"),
            "Kept": g.said("Logs kept, months", "retention", "operation_logs_months")}, parts=["instructions/logs"]),
    )
