"""Technical documentation in the order of Annex IV of the AI Act, from evidence alone: 23 points, each filled, partly filled or a gap.

What a point asks is paraphrased from Annex IV (Art. 11(1)). Nothing here is a default: what no record says and nobody signed stands as a
marked gap. Providers that are small or medium-sized may use the simplified form once there is one; this is the full one.
"""

from __future__ import annotations

from collections.abc import Mapping

from compliance_assets.governance.documents import passages as say
from compliance_assets.governance.documents.gathered import Gathered, release_of
from compliance_assets.governance.documents.human_parts import Part
from compliance_assets.governance.documents.paper import Line, Point

TITLE = "Technical documentation, in the order of Annex IV"
BASIS = "Art. 11(1) and Annex IV of Regulation (EU) 2024/1689 as amended by Regulation (EU) 2026/1744 (law; points paraphrased)"


def points(g: Gathered, standing: Mapping[str, Part]) -> tuple[Point, ...]:
    """All points, 1(a) to 9."""
    write = say.Writer(g, standing)
    return (*_general(g, write), *_development(g, write), *_remaining(g, write))


def _general(g: Gathered, write: say.Writer) -> tuple[Point, ...]:
    staged, model = g.record("staged_model"), g.record("candidate_model")
    release = release_of(g.river, g.one)
    return (
        write.point("1(a)", "intended purpose, name of the provider, version and its relation to previous versions", "◐", {
            "Provider": g.said("Provider", "provider"), "System": g.said("System", "title"),
            "Intended purpose": g.said("Intended purpose", "intended_purpose"),
            "Entry of Annex III": g.said("Entry of Annex III", "risk", "annex_iii"), "Because": g.said("Because", "risk", "basis"),
            "Release": Line("Release", release, g.from_record(staged, str(staged.body.output))) if release and staged else None,
            "Model file, sha256": Line("Model file, sha256", g.one.model, g.from_record(model)) if g.one.model and model else None,
            "Compared with": g.stated("evaluation_report", "Earlier models it was compared with", "references"),
        }, [say.became(g)], parts=["annex-iv/1(a)"]),
        write.point("1(b)", "how it interacts with hardware, software or other AI systems that are not part of it", "◐", {
            "Interface": g.verdict("integration_report", "contract"),
            "Registry": g.output("staged_model", "Listed in the model registry as", "registry_name"),
        }, parts=["annex-iv/1(b)"]),
        write.point("1(c)", "versions of relevant software or firmware, and requirements on version updates", "◐", {
            "Environment": g.stated("candidate_model", "Environment, digest", "environment"),
            "Working tree": g.stated("candidate_model", "Working tree that it ran from", "code"),
        }, grids=[say.libraries(g)], parts=["annex-iv/1(c)"]),
        write.point("1(d)", "the forms in which it is placed on the market or put into service", "◐", {
            "Environment": g.said("Environment it is deployed to", "deployment", "environment"),
            "Rollout": g.said("Rollout", "deployment", "steps"),
        }, parts=["annex-iv/1(d)"]),
        write.point("1(e)", "the hardware on which it is intended to run", "◐", {
            "Latency": g.output("integration_report", "Answer time in the integration test, 95th percentile, ms", "latency_p95_ms"),
            "Size": g.stated("candidate_model", "Model, bytes", "observations", "model_bytes"),
        }, parts=["annex-iv/1(e)"]),
        write.point("1(f)", "photographs or illustrations, where it is a component of a product", "○", parts=["annex-iv/1(f)"]),
        write.point("1(g)", "a basic description of the user interface provided to the deployer", "○", parts=["annex-iv/1(g)"]),
        write.point("1(h)", "instructions for use for the deployer", "◐", grids=[say.for_everybody(g)], parts=["annex-iv/1(h)"]),
    )


def _development(g: Gathered, write: say.Writer) -> tuple[Point, ...]:
    return (
        write.point("2(a)", "methods and steps of development, including pre-trained systems or tools of third parties", "●", {
            "Definition": g.stated("candidate_model", "Pipeline definition, digest", "definition"),
            "Kind of model": g.output("candidate_model", "Kind of model", "estimator"),
            "Types": g.output("candidate_model", "Types that the model file may hold", "trusted_types"),
            "Libraries": g.stated("candidate_model", "Libraries that trained it", "observations", "libraries"),
        }, say.stage_lines(g), [say.gates_of_definition(g), say.code_files(g)]),
        write.point("2(b)", "design: logic, key choices with rationale and assumptions, groups, what it optimises for, trade-offs", "◐", {
            "Label": g.said("Label", "data", "target"), "Rationale": g.said("Why this kind of model", "training", "rationale"),
            "Hyperparameters": g.reported("candidate_model", "Hyperparameters", "hyperparameters"),
            "Decision threshold": g.said("Decision threshold", "evaluation", "decision_threshold"),
            "Protected attributes": g.said("Protected attributes and how groups are made", "data", "protected"),
            "Seen by the model": g.said("Protected attributes seen by the model", "data", "used_as_features"),
            "Mitigation": g.reported("candidate_model", "Mitigation in training", "mitigation"),
            "Trials": g.reported("candidate_model", "Trials of hyperparameters", "trials"),
            "Primary fairness metric": g.said("Fairness criterion that counts most", "evaluation", "fairness", "primary"),
        }, grids=[say.features(g), say.assessed_proxies(g)], parts=["annex-iv/2(b)"]),
        write.point("2(c)", "system architecture; computational resources used to develop, train, test and validate", "◐", {
            "Training": g.stated("candidate_model", "Training, wall seconds", "observations", "training_seconds"),
            "Processor": g.stated("candidate_model", "Training, processor seconds", "observations", "cpu_seconds"),
            "Memory": g.stated("candidate_model", "Largest memory, bytes", "observations", "peak_rss_bytes"),
            "Threads": g.stated("candidate_model", "Threads", "observations", "threads"),
            "GPU": g.stated("candidate_model", "GPUs", "observations", "gpu"),
            "Preparation": g.stated("dataset", "Data preparation, seconds", "observations", "seconds"),
            "Features": g.stated("features", "Feature engineering, seconds", "observations", "seconds"),
            "Evaluation": g.stated("evaluation_report", "Evaluation, seconds", "observations", "scoring_and_measuring_seconds"),
            "Integration": g.stated("integration_report", "Integration test, seconds", "observations", "seconds"),
        }, parts=["annex-iv/2(c)"]),
        write.point("2(d)", "data: training methods, datasets, provenance, scope, characteristics, selection, labelling, cleaning", "◐", {
            "Raw source": g.output("dataset", "Raw source, sha256", "source"), "Dataset": g.stated("dataset", "Dataset, digest", "output"),
            "Rows": g.output("dataset", "Rows", "rows"), "Collected by": g.said("Collected by", "data", "provenance", "collected_by"),
            "Method": g.said("Collected how", "data", "provenance", "method"), "Period": g.said("Period", "data", "provenance", "period"),
            "Purpose": g.said("First collected for", "data", "provenance", "original_purpose"),
            "Basis": g.said("Processed because", "data", "provenance", "legal_basis"),
            "Split": g.said("Split", "data", "split"), "Preparation": g.reported("dataset", "Preparation", "preparation", "purpose"),
            "Population": g.said("Declared population", "data", "reference_population"),
        }, grids=[say.splits(g), say.groups_in_data(g), say.findings(g, "dataset", "Gates of the data"), say.input_columns(g)],
            parts=["annex-iv/2(d)"]),
        write.point("2(e)", "assessment of the human oversight measures needed (Art. 14)", "○", parts=["annex-iv/2(e)"]),
        write.point("2(f)", "predetermined changes, and solutions that keep requirements met", "◐", {
            "Retraining": g.said("Declared retraining", "retraining"),
            "Rollout": g.said("Rollout undoes itself when", "deployment", "abort_when"),
        }, parts=["annex-iv/2(f)"]),
        write.point("2(g)", "validation and testing: data, metrics for accuracy, robustness and potentially discriminatory impacts; "
                    "reports dated and signed", "◐", {
                        "Holdout": g.stated("evaluation_report", "Holdout opened", "observations", "holdout_opened"),
                        "Isolation": g.verdict("candidate_model", "isolation"),
                    }, say.stage_lines(g, ("model_evaluation", "integration_testing")),
                    [say.bounds(g), say.findings(g, "evaluation_report", "Findings of the evaluation"), *say.for_groups(g)],
                    parts=["annex-iv/2(g)"]),
        write.point("2(h)", "cybersecurity measures", "◐", {
            "Storage": g.verdict("candidate_model", "storage"),
            "Identity": g.verdict("integration_report", "identity"),
        }, grids=[say.findings(g, "evaluation_report", "Robustness", ("robustness",))], parts=["annex-iv/2(h)"]),
    )


def _remaining(g: Gathered, write: say.Writer) -> tuple[Point, ...]:
    return (
        write.point("3", "monitoring, functioning, control: capabilities and limits, accuracy for persons and groups, overall expected "
                    "accuracy, foreseeable unintended outcomes, oversight, input data", "◐", {
                        "Threshold": g.said("Decision threshold", "evaluation", "decision_threshold"),
                        "Smallest group": g.said("Smallest group that is judged", "evaluation", "fairness", "minimum_group"),
                    }, say.small_groups(g),
                    [say.for_everybody(g), *say.for_groups(g, ("accuracy", "recall", "specificity")), say.features(g)],
                    parts=["annex-iv/3"]),
        write.point("4", "why the performance metrics are appropriate for this system", "◐", grids=[say.bounds(g)], parts=["annex-iv/4"]),
        write.point("5", "the risk management system (Art. 9)", "○", lines=(*say.refusals(g), *say.excepted(g)), parts=["annex-iv/5"]),
        write.point("6", "relevant changes made by the provider through the lifecycle", "◐",
                    lines=(*say.definitions(g), *say.approvals(g), *say.deployments(g)), parts=["annex-iv/6"]),
        write.point("7", "harmonised standards applied, or the other solutions adopted", "○", parts=["annex-iv/7"]),
        write.point("8", "a copy of the EU declaration of conformity (Art. 47)", "○", parts=["annex-iv/8"]),
        write.point("9", "the system that evaluates performance after placing on the market, and its plan (Art. 72(3))", "◐", {
            "Drift rule": g.said("Declared: a run starts by itself on drift", "retraining", "on_drift"),
            "Watched": g.said("A rollout ends itself when", "deployment", "abort_when"),
            "Logs kept": g.said("Retention", "retention"),
        }, parts=["annex-iv/9"]),
    )
