"""When is it drift, and not one odd day? In k of the last n windows, and in the last one, as `retraining.on_drift` declares.

The last window must be among them: what is over by itself needs no retraining. A window that could not be measured counts neither
way, and takes its place: absence of requests is no absence of drift. A rule of this project [OURS]; docs/drift-rates.md says how often
it is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

from compliance_assets.policy.system import OnDrift


def is_drift(windows: Sequence[bool | None], declared: OnDrift) -> bool:
    """Whether the windows, oldest first, amount to drift. True: above the bound; False: not; None: not measured."""
    needed, of = declared.windows
    last = windows[-of:]
    return bool(last) and last[-1] is True and sum(1 for one in last if one is True) >= needed
