"""Two models that learned the same thing have the same digest, whatever file they were saved to.

The bytes of a pickle depend on the number of threads it was trained with, and those of a skops file on the clock. So a
model's identity is a canonical walk of its fitted state: the class, then the state in sorted order, arrays as type,
shape and values. What only says how to run it (`n_jobs`, `verbose`, …) is left out. The walk asks each object what
pickle would ask (`__reduce_ex__`), but never writes, loads or calls what it is told.

Shared objects are walked as if they were copies, because saving and loading may merge or split them; an object that
contains itself is written as the distance back to itself. A function or class is its qualified name: a lambda or a
local function has none that another process could find, and is refused.
"""

from __future__ import annotations

import copyreg
import datetime as dt
import decimal
import enum
import functools
import hashlib
import math
import struct
import types
from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np

from compliance_assets.errors import StageError
from compliance_assets.trust.canonical import Digest

HOW_TO_RUN = frozenset({"n_threads", "n_jobs", "verbose", "_sklearn_output_config"})
"""Settings of an object that change how it runs, not what it answers."""

_PLAIN_REPR = (dt.datetime, dt.date, dt.time, dt.timedelta, dt.timezone, decimal.Decimal, complex, range)


def state_digest(estimator: object) -> Digest:
    """The digest of a fitted estimator (scikit-learn's, or anything that pickle could describe).

    Equal across threads, pickle and skops. Raises `StageError` for state that has no reproducible description: frames,
    lambdas, open files, locks.
    """
    return Digest(_Walk().visit(estimator)[0].hex())


class _Walk:
    """One depth-first walk. `visit` gives an object's hash, and the shallowest ancestor that it refers back to."""

    def __init__(self) -> None:
        self.ancestors: dict[int, int] = {}
        # The object is kept beside its hash: a freed object's id would be given to another.
        self.seen: dict[int, tuple[object, bytes]] = {}

    def visit(self, thing: object) -> tuple[bytes, int]:
        """The hash of `thing`; and the depth it refers back to (its own depth or more, if nothing outside it)."""
        leaf = _leaf(thing)
        if leaf is not None:
            return leaf, len(self.ancestors)
        if id(thing) in self.seen:
            return self.seen[id(thing)][1], len(self.ancestors)
        depth = len(self.ancestors)
        if id(thing) in self.ancestors:
            back = self.ancestors[id(thing)]
            return _hash("back", [str(depth - back).encode()]), back
        if depth > 200:
            _refuse(thing, "it is nested deeper than 200 levels")
        self.ancestors[id(thing)] = depth
        try:
            digest, reaches = self.describe(thing)
        finally:
            del self.ancestors[id(thing)]
        if reaches >= depth:  # the hash does not depend on where the walk came from
            self.seen[id(thing)] = (thing, digest)
        return digest, reaches

    def all_of(self, tag: str, things: Iterable[object], *, ordered: bool = True) -> tuple[bytes, int]:
        visited = [self.visit(thing) for thing in things]
        hashes = [digest for digest, _ in visited]
        return _hash(tag, hashes if ordered else sorted(hashes)), min((r for _, r in visited), default=1 << 30)

    def mapping(self, tag: str, pairs: Iterable[tuple[object, object]]) -> tuple[bytes, int]:
        visited = [self.all_of("pair", pair) for pair in pairs]
        return _hash(tag, sorted(digest for digest, _ in visited)), min((r for _, r in visited), default=1 << 30)

    def describe(self, thing: Any) -> tuple[bytes, int]:
        kind = type(thing)
        if kind.__module__.partition(".")[0] in ("polars", "pandas", "pyarrow"):
            _refuse(thing, "a fitted model should not carry its data")
        if kind is list or kind is tuple:
            return self.all_of(kind.__name__, thing)
        if kind is set or kind is frozenset:
            return self.all_of(kind.__name__, thing, ordered=False)
        if kind is dict:
            return self.mapping("dict", thing.items())
        if isinstance(thing, np.ma.MaskedArray):
            return self.all_of("masked", [thing.filled(), np.ma.getmaskarray(thing)])
        if isinstance(thing, np.ndarray):
            return self.array(thing)
        if isinstance(thing, np.random.RandomState):
            return self.all_of("RandomState", [thing.get_state(legacy=False)])
        if isinstance(thing, np.random.Generator):
            return self.all_of("Generator", [thing.bit_generator])
        if isinstance(thing, np.random.BitGenerator):
            return self.all_of("BitGenerator", [kind, dict(thing.state)])
        if isinstance(thing, functools.partial):
            return self.all_of("partial", [thing.func, thing.args, thing.keywords])
        if kind.__module__.startswith("scipy.sparse"):
            return self.sparse(thing)
        if getattr(thing, "__self__", None) is not None and hasattr(thing, "__func__"):
            return self.all_of("method", [thing.__self__, thing.__func__])
        return self.by_reduction(thing)

    def array(self, array: np.ndarray[Any, Any]) -> tuple[bytes, int]:
        shape = [str(array.shape).encode()]
        if array.dtype.names is not None:  # field by field: the padding between fields holds anything
            fields = [(name, array[name]) for name in array.dtype.names]
            digest, reaches = self.all_of("fields", fields)
            return _hash("record array", [*shape, digest]), reaches
        if array.dtype.kind in "OT":
            digest, reaches = self.all_of("items", array.ravel().tolist())
            return _hash("object array", [*shape, digest]), reaches
        plain = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
        return _hash("array", [plain.dtype.str.encode(), *shape, plain.tobytes()]), 1 << 30

    def sparse(self, matrix: Any) -> tuple[bytes, int]:
        rows = matrix.tocsr(copy=True)
        rows.sum_duplicates()
        return self.all_of("sparse", [type(matrix), list(matrix.shape), rows.data, rows.indices.astype(np.int64),
                                      rows.indptr.astype(np.int64)])

    def by_reduction(self, thing: Any) -> tuple[bytes, int]:
        """What pickle would write down: how to rebuild it, from what, and its state."""
        try:
            reduction = thing.__reduce_ex__(4)
        except (TypeError, ValueError, AttributeError) as error:
            _refuse(thing, f"it has no state that can be described ({error})")
        if isinstance(reduction, str):
            return _hash("global", [type(thing).__module__.encode(), reduction.encode()]), 1 << 30
        rebuild, arguments, state, items, pairs = (*reduction, None, None, None)[:5]
        stateless = rebuild is copyreg.__newobj__ and state is None and not hasattr(thing, "__dict__")  # type: ignore[attr-defined]
        if stateless and items is None and pairs is None and len(arguments) == 1:
            _refuse(thing, "it has neither __getstate__ nor __dict__")
        described = [
            self.all_of("made by", [rebuild, *arguments]),
            self.state(state),
            self.all_of("items", items if items is not None else ()),
            self.mapping("pairs", pairs if pairs is not None else ()),
        ]
        return _hash("object", [digest for digest, _ in described]), min(reaches for _, reaches in described)

    def state(self, state: object) -> tuple[bytes, int]:
        if isinstance(state, tuple) and len(state) == 2 and all(p is None or isinstance(p, dict) for p in state):
            both = [self.state(part) for part in state]  # __dict__ and __slots__
            return _hash("slots", [digest for digest, _ in both]), min(reaches for _, reaches in both)
        if isinstance(state, dict):
            return self.mapping("state", ((key, item) for key, item in state.items() if key not in HOW_TO_RUN))
        return self.visit(state)


def _hash(tag: str, parts: Iterable[bytes]) -> bytes:
    """sha256 over the tag and the parts, each with its length, so that no boundary can be moved."""
    digest = hashlib.sha256(b"model-state-1")
    for part in (tag.encode(), *parts):
        digest.update(struct.pack("<Q", len(part)))
        digest.update(part)
    return digest.digest()


def _refuse(thing: object, why: str) -> NoReturn:
    kind = type(thing)
    raise StageError(
        f"A model's state holds a {kind.__module__}.{kind.__qualname__} that cannot be named: {why}.",
        rule="model state", value=f"{kind.__module__}.{kind.__qualname__}",
        remedy="Keep only numbers, text, arrays, estimators and importable functions in the model.",
    )


def _leaf(thing: object) -> bytes | None:
    """The hash of a thing that contains no other; None for all that do."""
    kind = type(thing)
    if thing is None or thing is Ellipsis or thing is NotImplemented:
        return _hash("constant", [repr(thing).encode()])
    if kind is bool or kind is int:
        return _hash(kind.__name__, [repr(thing).encode()])
    if isinstance(thing, enum.Enum):
        return _hash("enum", [_name(kind), thing.name.encode()])
    if kind is str:
        return _hash("str", [str(thing).encode("utf-8", "surrogatepass")])
    if isinstance(thing, float) and kind is float:
        return _hash("float", [struct.pack("<d", math.nan if math.isnan(thing) else thing)])
    if kind is bytes or kind is bytearray:
        return _hash(kind.__name__, [bytes(thing)])  # type: ignore[call-overload]
    if isinstance(thing, np.generic) and thing.dtype.kind not in "OV":
        plain = np.asarray(thing)
        return _hash("scalar", [plain.dtype.newbyteorder("<").str.encode(),
                                plain.astype(plain.dtype.newbyteorder("<")).tobytes()])
    if isinstance(thing, np.dtype):
        return _hash("dtype", [repr(thing.descr if thing.names else thing.str).encode()])
    if isinstance(thing, type) or (hasattr(thing, "__qualname__") and not hasattr(thing, "__func__")):
        return _hash("name", [_name(thing)])
    if isinstance(thing, np.ufunc):
        return _hash("ufunc", [thing.__name__.encode()])
    if kind in _PLAIN_REPR:
        return _hash(kind.__name__, [repr(thing).encode()])
    return None


def _name(thing: Any) -> bytes:
    """module.qualified_name of a function or class that another process could import."""
    name = thing.__qualname__
    module = getattr(thing, "__module__", None)
    owner = getattr(thing, "__self__", None)
    if owner is not None and not isinstance(owner, type | types.ModuleType):
        _refuse(thing, "it is bound to an object whose state would be lost")
    if "<" in name:
        _refuse(thing, f"{name} exists only inside the process that made it")
    if module is None:  # a built-in method: str.upper, or one bound to a module
        module = getattr(thing, "__objclass__", type(owner)).__module__
    return f"{module}:{name}".encode()
