"""A simulator is a system's own, documented model of its world: the same seed gives the same rows.

It stands in where real data may not be used (demonstrations, tests, drills). Its rows are named by their logical digest;
its code is part of the definition digest, and its parameters stand in the declaration.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from compliance_assets.errors import SourceError
from compliance_assets.policy.system import SimulatorSource
from compliance_assets.sources.snapshot import Snapshot, require_rows
from compliance_assets.trust.canonical import dataset_digest


def fetch_simulator(source: SimulatorSource, *, load_code: Callable[[str], Callable[..., Any]]) -> Snapshot:
    """What `source.build` makes of rows, seed and knobs.

    SourceError: a knob that the simulator does not know, anything but a polars frame, another number of rows.
    """
    import inspect

    import polars as pl

    build = load_code(source.build)
    try:
        call = inspect.signature(build).bind(rows=source.rows, seed=source.seed, **source.knobs)
    except TypeError as error:
        raise SourceError(f"The simulator {source.build} cannot be called like this: {error}.", rule="simulator knobs",
                          value=", ".join(sorted(source.knobs)), remedy="Declare only knobs that it documents.") from error
    frame = build(*call.args, **call.kwargs)
    if not isinstance(frame, pl.DataFrame):
        raise SourceError(f"The simulator {source.build} made a {type(frame).__name__}, not a polars DataFrame.",
                          rule="source parses", value=type(frame).__name__, remedy="Return one frame.")
    require_rows(frame, source.build)
    if frame.height != source.rows:
        raise SourceError(f"The simulator made {frame.height} rows instead of {source.rows}.", rule="simulator rows",
                          value=str(frame.height), remedy="Make as many rows as asked for.")
    knobs = ", ".join(f"{name}={value}" for name, value in sorted(source.knobs.items())) or "none"
    return Snapshot(frame, dataset_digest(frame),
                    f"simulator {source.build}, seed {source.seed}, knobs {knobs}: {frame.height} rows, "
                    f"{frame.width} columns")
