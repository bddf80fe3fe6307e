"""The four gates of stage 3: did it converge, is it recorded, is it stored safely, was the holdout out of reach?

Each takes what was sealed and gives findings; which files and values these are, the stage says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import TYPE_CHECKING, Any

from compliance_assets.modelfile import favourable_scores, load, store, trusted_types
from compliance_assets.policy.gates import Finding, Verdict, fact
from compliance_assets.trust.canonical import sha256_bytes, state_digest

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    from compliance_assets.stages.s3_model_training import CandidateModel

PROBE_ROWS = 256
"""The first validation rows by key; what the model answers on them is part of its identity."""
_RECORDED = ("seed", "hyperparameters", "preparation", "mitigation", "trials", "validation", "rationale")
_MAY_BE_EMPTY = ("seed", "hyperparameters", "trials")
_OBSERVED = ("training_seconds", "cpu_seconds", "peak_rss_bytes", "threads", "libraries", "determinism")


def probe_bytes(scores: npt.NDArray[np.float64]) -> bytes:
    """The scores of the probe rows as raw little-endian float64."""
    return scores[:PROBE_ROWS].astype("<f8").tobytes()


def convergence(record: Mapping[str, Any]) -> Iterator[Finding]:
    """No ConvergenceWarning, no score and no loss that is not a finite number."""
    found = record["convergence"]
    yield fact("convergence.warnings", not found["warnings"], value=len(found["warnings"]), bound=0,
               note="; ".join(found["warnings"]),
               because="an estimator that stopped before it converged is not the one that was declared")
    yield fact("convergence.finite_scores", found["not_finite"] == 0 and found["scores"] > 0, value=found["not_finite"], bound=0,
               n=found["scores"], because="a score that is not a number decides nothing")
    curves = found["loss"]
    if curves:
        broken = sum(item in ("nan", "inf", "-inf") for curve in curves.values() for item in curve)
        yield fact("convergence.finite_loss", broken == 0, value=broken, bound=0, n=sum(map(len, curves.values())))
    else:
        yield Finding("convergence.finite_loss", Verdict.NOT_APPLICABLE, note="this estimator keeps no loss by iteration")


def recorded(record: Mapping[str, Any], observations: Mapping[str, Any]) -> Iterator[Finding]:
    """Every field that must be found again is there, and says something."""
    for name in _RECORDED:
        yield fact(f"record.{name}", name in record and (name in _MAY_BE_EMPTY or bool(record[name])))
    for name in _OBSERVED:
        there = name in observations and observations[name] not in ("", None, {})
        shown = observations[name] if there and isinstance(observations[name], int | str) else None
        yield fact(f"record.{name}", there, value=shown)


def storage(content: bytes, candidate: CandidateModel, validation: pl.DataFrame) -> Iterator[Finding]:
    """The file comes back with the same state, the same answers to the bit and the same bytes, from reviewed types only."""
    back = load(content, candidate.trusted_types)
    state = state_digest(back)
    yield fact("storage.same_state", state == candidate.state, value=state, bound=candidate.state)
    probe = sha256_bytes(probe_bytes(favourable_scores(back, validation.head(PROBE_ROWS))))
    yield fact("storage.same_predictions", probe == candidate.probe, value=probe, bound=candidate.probe,
               n=min(PROBE_ROWS, validation.height), because="what is stored must answer as what was trained, to the bit")
    again = sha256_bytes(store(back))
    yield fact("storage.same_bytes", again == candidate.model, value=again, bound=candidate.model)
    yield fact("storage.reviewed_types", trusted_types(content) == candidate.trusted_types,
               value=", ".join(candidate.trusted_types) or "none beyond skops' own")


def fitted_on_train(estimator: Any, rows: int) -> Finding:
    """What prepares the columns has seen as many rows as the training part holds, by its own count (G2.4)."""
    import numpy as np

    seen = sorted({int(np.max(part.n_samples_seen_)) for part in _fitted_parts(estimator) if hasattr(part, "n_samples_seen_")})
    id = "isolation.transformers_on_train"
    if not seen:
        return Finding(id, Verdict.NOT_APPLICABLE, note="nothing in this model counts the rows that it was fitted on")
    return fact(id, max(seen) <= rows, value=max(seen), bound=rows, comparator="<=",
                because="a mean that knows the holdout has seen what the model is tested on")


def _fitted_parts(estimator: Any) -> Iterator[Any]:
    yield estimator
    for _, step in getattr(estimator, "steps", ()):
        yield from _fitted_parts(step)
    for _, transformer, _ in getattr(estimator, "transformers_", ()):
        yield from _fitted_parts(transformer)


def isolation(opened: Set[str], own: Set[str], holdout: Set[str]) -> Iterator[Finding]:
    """Digests that training opened, those that were its own (train, validation), and those of the holdout."""
    seen = opened & (holdout - own)
    yield fact("isolation.holdout_unopened", bool(opened) and not seen, value=len(seen), bound=0, n=len(opened),
               because="what a model is tested on must not have been seen while it was made")
    yield fact("isolation.own_files_only", bool(opened) and opened <= own, value=len(opened - own), bound=0, n=len(opened))
    yield fact("isolation.holdout_is_another", not holdout & own, value=len(holdout & own), bound=0,
               because="a holdout file that is also a training file hides nothing")
