"""What is kept under a digest has that digest, after crashes and after tampering."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compliance_assets.errors import ArtefactCorrupt, HomeUnusable, UntrustedEvidence
from compliance_assets.evidence.artefacts import ArtefactStore
from compliance_assets.trust.canonical import Digest, sha256_bytes

CONTENT = b"a model's bytes"


@pytest.fixture
def store(tmp_path: Path) -> ArtefactStore:
    return ArtefactStore(tmp_path / "store")


def tampered(store: ArtefactStore, digest: Digest, content: bytes) -> Path:
    """Somebody with access to the disk changes an object."""
    path = store.open_path(digest)
    path.chmod(0o644)
    path.write_bytes(content)
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(content=st.binary(max_size=200))
def test_bytes_come_back_under_their_sha256(store: ArtefactStore, content: bytes) -> None:
    digest = store.put_bytes(content)
    assert digest == sha256_bytes(content)
    assert store.exists(digest) and store.get_bytes(digest) == content == store.open_path(digest).read_bytes()


def test_a_file_is_kept_read_only_where_its_digest_says(store: ArtefactStore, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(CONTENT)
    digest = store.put_file(tmp_path / "f")
    path = store.open_path(digest)
    assert path == store.root / "sha256" / digest[:2] / digest[2:]
    assert path.stat().st_mode & 0o777 == 0o444 and list(store) == [digest]
    (tmp_path / "f").write_bytes(b"changed afterwards")
    assert store.get_bytes(digest) == CONTENT


def test_keeping_the_same_again_changes_nothing_and_leaves_nothing_behind(store: ArtefactStore) -> None:
    digest = store.put_bytes(CONTENT)
    before = store.open_path(digest).stat()
    assert store.put_bytes(CONTENT) == digest
    after = store.open_path(digest).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns) and after.st_nlink == 1
    assert list((store.root / "incoming").iterdir()) == []


@pytest.mark.parametrize("content", [b"", CONTENT[:-1], CONTENT + b"\n", CONTENT.upper()])
def test_changed_bytes_are_never_handed_out(store: ArtefactStore, tmp_path: Path, content: bytes) -> None:
    digest = store.put_bytes(CONTENT)
    tampered(store, digest, content)
    for read in (store.get_bytes, store.open_path, lambda d: store.copy_to(d, tmp_path / "out")):
        with pytest.raises(ArtefactCorrupt) as refused:
            read(digest)
        assert refused.value.value == digest
    assert not (tmp_path / "out").exists()


def test_a_change_that_restores_size_and_date_is_found_too(store: ArtefactStore) -> None:
    digest = store.put_bytes(CONTENT)
    before = store.open_path(digest).stat()
    path = tampered(store, digest, CONTENT[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ArtefactCorrupt):
        store.open_path(digest)


def test_putting_the_original_again_repairs_it_and_keeps_the_wrong_bytes_as_evidence(store: ArtefactStore) -> None:
    digest = store.put_bytes(CONTENT)
    tampered(store, digest, b"forged")
    assert store.put_bytes(CONTENT) == digest
    assert store.get_bytes(digest) == CONTENT and list(store) == [digest]
    assert [path.read_bytes() for path in (store.root / "corrupt").iterdir()] == [b"forged"]


def test_a_link_in_the_place_of_an_object_is_refused(store: ArtefactStore, tmp_path: Path) -> None:
    digest = store.put_bytes(CONTENT)
    path = store.open_path(digest)
    (tmp_path / "elsewhere").write_bytes(CONTENT)
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtefactCorrupt):
        store.get_bytes(digest)


def test_what_is_missing_is_refused_with_a_remedy(store: ArtefactStore) -> None:
    absent = sha256_bytes(b"never kept")
    assert not store.exists(absent)
    with pytest.raises(ArtefactCorrupt) as refused:
        store.get_bytes(absent)
    assert refused.value.rule == "artefact present" and "put" in refused.value.remedy


@pytest.mark.parametrize("text", ["../../etc/passwd", "", "..", "A" * 64])
def test_only_a_digest_becomes_a_path(store: ArtefactStore, text: str) -> None:
    for use in (store.get_bytes, store.open_path, store.exists):
        with pytest.raises(UntrustedEvidence):
            use(text)  # type: ignore[arg-type]  # what a caller without types could do


def test_a_copy_replaces_a_file_by_the_right_bytes(store: ArtefactStore, tmp_path: Path) -> None:
    digest = store.put_bytes(CONTENT)
    (tmp_path / "out").write_bytes(b"old")
    store.copy_to(digest, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == CONTENT
    with pytest.raises(HomeUnusable):
        store.copy_to(digest, tmp_path / "no such folder" / "out")


def test_a_source_that_cannot_be_read_and_a_store_that_cannot_be_written_say_so(tmp_path: Path) -> None:
    with pytest.raises(HomeUnusable):
        ArtefactStore(tmp_path / "store").put_file(tmp_path / "missing")
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeUnusable):
        ArtefactStore(tmp_path / "file").put_bytes(CONTENT)


def test_only_old_leavings_are_swept_when_the_store_is_opened(store: ArtefactStore) -> None:
    store.put_bytes(CONTENT)
    old, new = store.root / "incoming" / ".old.part", store.root / "incoming" / ".new.part"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 90_000,) * 2)
    ArtefactStore(store.root)
    assert not old.exists() and new.exists()


def _put_all(root: Path, start: int) -> None:
    store = ArtefactStore(root)
    for i in range(40):
        store.put_bytes(b"shared %d" % ((i + start) % 40))


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_processes_that_keep_the_same_files_at_once_do_not_disturb_each_other(store: ArtefactStore, how: str) -> None:
    context: Any = multiprocessing.get_context(how)
    writers = [context.Process(target=_put_all, args=(store.root, i * 10)) for i in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert {store.get_bytes(digest) for digest in store} == {b"shared %d" % i for i in range(40)}
    assert list((store.root / "incoming").iterdir()) == []


_WRITER = """
import hashlib, sys
from pathlib import Path
from compliance_assets.evidence.artefacts import ArtefactStore
store = ArtefactStore(Path(sys.argv[1]))
number = int(sys.argv[2])
while True:
    print(store.put_bytes(b"%d" % number * 20000), flush=True)
    number += 1
"""


def killed(root: Path, rounds: int) -> None:
    """Kill a writer in the middle of its work, again and again: all it acknowledged is there, nothing by half."""
    acknowledged: set[str] = set()
    for number in range(rounds):
        writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(root), str(number * 100_000)], text=True,
                                  stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
        assert writer.stdout is not None
        acknowledged.add(writer.stdout.readline().strip())
        time.sleep(0.05 + 0.013 * (number % 7))
        writer.send_signal(signal.SIGKILL)
        acknowledged |= {line.strip() for line in writer.stdout if line.endswith("\n")}
        writer.stdout.close()
        writer.wait()
    store = ArtefactStore(root)
    assert acknowledged and acknowledged <= set(store)
    for digest in store:
        assert hashlib.sha256(store.get_bytes(digest)).hexdigest() == digest


def test_three_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    killed(tmp_path / "store", 3)


@pytest.mark.slow
def test_thirty_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    killed(tmp_path / "store", 30)
