"""Every way this package says no.

One base class. A refusal names the *rule* that was broken, the *value* that broke it and the *remedy*; the doors (`cli`,
`web`, `orchestration`) each have one `except ComplianceError` and print all three. A failed gate is not an error: it is a
verdict, and it is recorded as one. Errors are for what must not be possible, and for what cannot be decided yet.
"""

from __future__ import annotations

from collections.abc import Iterable


class ComplianceError(Exception):
    """A refusal. `str(error)` is one sentence; `rule`, `value` and `remedy` are its parts."""

    exit_code = 1

    def __init__(self, message: str, *, rule: str, value: str = "", remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.rule = rule
        self.value = value
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()

    def as_json(self) -> dict[str, str]:
        """The refusal as a machine reads it."""
        return {
            "error": type(self).__name__,
            "message": self.message,
            "rule": self.rule,
            "value": self.value,
            "remedy": self.remedy,
        }


class Misused(ComplianceError):
    """The command or call itself is wrong (unknown system, missing option)."""

    exit_code = 2


class DeclarationError(ComplianceError):
    """What people declared cannot be read as a promise. Carries every problem found, each with file and line."""

    def __init__(self, message: str, *, problems: tuple[str, ...] = (), rule: str = "declaration", value: str = "",
                 remedy: str = "") -> None:
        super().__init__(message, rule=rule, value=value, remedy=remedy)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join((super().__str__(), *self.problems))


class SourceError(ComplianceError):
    """The raw data is not there, not readable, or not the bytes that were declared."""


class StageError(ComplianceError):
    """A stage could not compute its output (not a verdict: nothing was judged)."""


class UnsafeModel(StageError):
    """The model cannot be stored or loaded without running code that nobody reviewed."""


class OutOfTurn(ComplianceError):
    """A stage was asked to consume what has not passed, or not under the definition in force."""


class Superseded(OutOfTurn):
    """The artefact passed once, but a newer version of it stands in its place."""


class UntrustedEvidence(ComplianceError):
    """A record exists, but it is not authentic: unknown key, wrong signature, wrong place in the ledger."""


class LedgerCorrupt(UntrustedEvidence):
    """The ledger disagrees with its own signed checkpoint, or with a head kept elsewhere."""


class ArtefactCorrupt(UntrustedEvidence):
    """The bytes found under a digest are not the bytes that have this digest."""


class ConflictingRecord(ComplianceError):
    """A record with the same execution key, but other content, is already in the ledger."""


class Waiting(ComplianceError):
    """Something people must do first has not happened yet. Not a verdict: nothing was judged."""


def no_environment(name: str, system: str, known: Iterable[str]) -> Waiting:
    """A release that is meant for an environment which organisation.yaml does not have."""
    return Waiting(
        f"There is no environment {name!r} in organisation.yaml to approve anything for (there is: {', '.join(known)}).",
        rule="environment", value=name,
        remedy=f"Set deployment.environment in systems/{system}/system.yaml to one that exists, and approve that "
               f"(`compliance definition approve {system}`); or add {name!r}, and a second person, to organisation.yaml, and have it "
               "approved (`compliance definition approve --trust-policy`).")


class Rejected(ComplianceError):
    """People said no to exactly these artefacts."""


class Busy(ComplianceError):
    """Somebody else holds what this needs (another run, a port)."""


class HomeUnusable(ComplianceError):
    """The home is missing, not writable, or not made by `compliance init`."""


class ClockError(ComplianceError):
    """The clock stands before what the ledger already recorded."""


class RegistryError(ComplianceError):
    """The model registry does not hold what the evidence says it holds."""


class ServingError(ComplianceError):
    """A model server or the router did not come up, or did not answer as it must."""
