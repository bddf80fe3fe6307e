"""Every file that a release is made of, kept under the name that only its own bytes have: its sha256.

    root/sha256/ab/cdef…    one object; read-only, never overwritten
    root/incoming/          files being written; a crash leaves some behind, nobody reads them
    root/corrupt/           objects that did not have the bytes of their name, kept as evidence of that

An object appears under its name only when all of it is on disk (write → fsync → link → fsync of the folder), so a crash
leaves either all of it or none. Every read hashes what it reads. What is personal can be deleted here; its digest, in
the ledger, stays.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from compliance_assets.errors import ArtefactCorrupt, HomeUnusable
from compliance_assets.trust.canonical import Digest

_READ_BYTES = 1 << 20
_ABANDONED_SECONDS = 24 * 3600.0


class ArtefactStore:
    """A content-addressed store in a folder. Any number of processes may use it at once."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self._objects = self.root / "sha256"
        self._incoming = self.root / "incoming"
        self._sweep()

    def put_bytes(self, content: bytes) -> Digest:
        """Keep these bytes. Returns when they are on disk; keeping them again changes nothing."""
        return self._put(lambda stream: _write(stream, content))

    def put_file(self, path: Path) -> Digest:
        """Keep a copy of this file's bytes."""
        try:
            with open(path, "rb") as source:
                return self._put(lambda stream: _copy(source, stream))
        except OSError as error:
            raise HomeUnusable(f"{path} cannot be read: {error.strerror}.", rule="artefact source", value=str(path),
                               remedy="Check that the file exists and that you may read it.") from error

    def get_bytes(self, digest: Digest) -> bytes:
        """The bytes that have this digest. Raises `ArtefactCorrupt` if they are missing or are others."""
        with self._opened(digest) as stream:
            content = stream.read()
        if hashlib.sha256(content).hexdigest() != digest:
            raise self._corrupt(digest)
        return content

    def open_path(self, digest: Digest) -> Path:
        """Where the object lies, after hashing all of it (each time: a size and a date can be forged)."""
        if not self._is_intact(digest):
            raise self._corrupt(digest)
        return self._path(digest)

    def copy_to(self, digest: Digest, path: Path) -> None:
        """Write the object to `path`, hashing what is written; replaces `path` only by the right bytes."""
        path = Path(path)
        with _usable(path), _temporary(path.parent) as (stream, temporary):
            with self._opened(digest) as source:
                found = _copy(source, stream)
            if found != digest:
                raise self._corrupt(digest)
            os.fsync(stream.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
            fsync_folder(path.parent)

    def exists(self, digest: Digest) -> bool:
        """Whether an object lies under this digest. Says nothing about its bytes: reading does."""
        return self._path(digest).is_file()

    def __iter__(self) -> Iterator[Digest]:
        """Every digest under which an object lies, sorted."""
        for folder in sorted(self._objects.glob("[0-9a-f][0-9a-f]")):
            for path in sorted(folder.iterdir()):
                yield Digest.parse(folder.name + path.name)

    # How it is done

    def _path(self, digest: Digest) -> Path:
        digest = Digest.parse(digest)  # a path is built from it: nothing but a digest may reach this line
        return self._objects / digest[:2] / digest[2:]

    def _put(self, fill: Callable[[BinaryIO], Digest]) -> Digest:
        with _usable(self.root):
            _make_folder(self._incoming)
            with _temporary(self._incoming) as (stream, temporary):
                # (1) All bytes, hashed as they are written, are on disk before they have a name.
                digest = fill(stream)
                stream.flush()
                os.fchmod(stream.fileno(), 0o444)
                os.fsync(stream.fileno())
                target = self._path(digest)
                _make_folder(target.parent)
                try:
                    # (2) The name is taken at once and by one writer only.
                    os.link(temporary, target)
                except FileExistsError:
                    # (3) What is there already must have these bytes too. If not, it is set aside and replaced: the
                    # right bytes are at hand, and the wrong ones stay to be looked at.
                    if not self._is_intact(digest):
                        self._set_aside(target, digest)
                        os.replace(temporary, target)
                # (4) The name is on disk.
                fsync_folder(target.parent)
                return digest

    def _is_intact(self, digest: Digest) -> bool:
        with self._opened(digest) as stream:
            return _copy(stream, None) == digest

    @contextlib.contextmanager
    def _opened(self, digest: Digest) -> Iterator[BinaryIO]:
        path = self._path(digest)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise ArtefactCorrupt(
                f"Artefact {digest.short}… is not in the store.", rule="artefact present", value=digest,
                remedy=f"Put the original file back with `put_file`; it belongs at {path}.",
            ) from None
        except OSError as error:
            raise ArtefactCorrupt(f"Artefact {digest.short}… cannot be opened: {error.strerror}.",
                                  rule="artefact readable", value=digest,
                                  remedy=f"Check {path}: it must be a plain file that you may read.") from error
        with os.fdopen(handle, "rb") as stream:
            yield stream

    def _corrupt(self, digest: Digest) -> ArtefactCorrupt:
        return ArtefactCorrupt(
            f"The bytes kept as artefact {digest.short}… are others: they were changed or damaged.",
            rule="artefact bytes", value=digest,
            remedy="Find out who wrote to the store; putting the original file again repairs the object.",
        )

    def _set_aside(self, target: Path, digest: Digest) -> None:
        folder = self.root / "corrupt"
        _make_folder(folder)
        with contextlib.suppress(FileExistsError):
            os.link(target, folder / f"{digest}.{target.stat().st_mtime_ns}")

    def _sweep(self) -> None:
        """Remove what crashed writers left behind, once it is so old that nobody can still be writing it."""
        oldest = time.time() - _ABANDONED_SECONDS
        with _usable(self.root), contextlib.suppress(FileNotFoundError), os.scandir(self._incoming) as entries:
            for entry in entries:
                # A reader that may not remove them reads all the same.
                with contextlib.suppress(FileNotFoundError, PermissionError):
                    if entry.stat(follow_symlinks=False).st_mtime < oldest:
                        os.unlink(entry.path)


def _write(stream: BinaryIO, content: bytes) -> Digest:
    stream.write(content)
    return Digest(hashlib.sha256(content).hexdigest())


def _copy(source: BinaryIO, target: BinaryIO | None) -> Digest:
    digest = hashlib.sha256()
    while piece := source.read(_READ_BYTES):
        digest.update(piece)
        if target is not None:
            target.write(piece)
    if target is not None:
        target.flush()
    return Digest(digest.hexdigest())


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
        fsync_folder(folder.parent)


def fsync_folder(folder: Path) -> None:
    """Have the names in this folder on disk, not only the files' bytes."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[tuple[BinaryIO, str]]:
    handle, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=folder)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream, name
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


@contextlib.contextmanager
def _usable(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HomeUnusable(f"{place} cannot be written: {error.strerror}.", rule="artefact store", value=str(place),
                           remedy="Check that the folder exists, that you may write it, and that the disk has room.",
                           ) from error
