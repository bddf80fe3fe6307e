"""Parquet, SQL, OpenML and simulators: each pinned, each refused when it is not what was declared."""

from __future__ import annotations

import hashlib
import http.server
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from compliance_assets.errors import SourceError
from compliance_assets.policy.system import OpenmlSource, ParquetSource, SimulatorSource, Source, SqlSource
from compliance_assets.sources import Snapshot, declared_digest, fetch
from compliance_assets.sources.arff import parse_arff
from compliance_assets.trust.canonical import dataset_digest

FRAME = pl.DataFrame({"id": [1, 2, 3], "amount": [10.5, 20.0, None], "city": ["Bonn", "Brest", "Ghent"]})
ARFF = b"""% a comment
@RELATION 'small adult'
@ATTRIBUTE age NUMERIC
@ATTRIBUTE 'work class' { Private, 'Self-emp', ?x }
@attribute note string
@attribute years integer
@DATA
25, Private, 'it''s', 3
? , 'Self-emp', ?, 4
% in between
"""


def simulate(*, rows: int, seed: int, shift: float = 0.0) -> pl.DataFrame:
    return pl.DataFrame({"id": range(rows), "x": [seed + shift + i for i in range(rows)]})


def read(source: Source, folder: Path, code: Callable[..., Any] = simulate) -> Snapshot:
    return fetch(source, folder=folder, root=folder, scratch=folder / "scratch", load_code=lambda spec: code)


# ------------------------------------------------------------------------------------------------------------- parquet


def parquet(folder: Path, frame: pl.DataFrame = FRAME) -> ParquetSource:
    frame.write_parquet(folder / "book.parquet")
    content = (folder / "book.parquet").read_bytes()
    return ParquetSource(kind="parquet", path="book.parquet", sha256=hashlib.sha256(content).hexdigest())


def test_a_parquet_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    source = parquet(tmp_path)
    snapshot = read(source, tmp_path)
    assert snapshot.frame.equals(FRAME) and snapshot.digest == source.sha256 == declared_digest(source)


def test_changed_empty_or_broken_parquet_is_refused(tmp_path: Path) -> None:
    source = parquet(tmp_path)
    (tmp_path / "book.parquet").write_bytes(b"PAR1 no longer")
    with pytest.raises(SourceError, match=r"expected .* found"):
        read(source, tmp_path)
    broken = source.model_copy(update={"sha256": hashlib.sha256(b"PAR1 no longer").hexdigest()})
    with pytest.raises(SourceError, match="not a parquet file"):
        read(broken, tmp_path)
    with pytest.raises(SourceError, match="holds no data"):
        read(parquet(tmp_path, FRAME.clear()), tmp_path)


# ----------------------------------------------------------------------------------------------------------------- sql


@pytest.fixture
def book(tmp_path: Path) -> Path:
    connection = sqlite3.connect(tmp_path / "book.db")
    connection.execute("create table loan (id integer primary key, amount real, city text)")
    connection.executemany("insert into loan values (?, ?, ?)", FRAME.rows())
    connection.commit()
    connection.close()
    return tmp_path


def sql(query: str = "select * from loan order by id", url: str = "sqlite:///book.db", digest: str | None = None) -> SqlSource:
    return SqlSource(kind="sql", url=url, query=query, dataset_digest=digest or dataset_digest(FRAME))


def test_a_query_is_pinned_by_what_it_returns(book: Path) -> None:
    snapshot = read(sql(), book)
    assert snapshot.frame.equals(FRAME) and snapshot.digest == dataset_digest(FRAME)


def test_one_changed_cell_of_the_database_refuses(book: Path) -> None:
    connection = sqlite3.connect(book / "book.db")
    connection.execute("update loan set amount = 10.6 where id = 1")
    connection.commit()
    connection.close()
    with pytest.raises(SourceError, match="not the declared data: expected"):
        read(sql(), book)


@pytest.mark.parametrize(("changed", "said"), [
    ({"query": "select * from loan"}, "no ORDER BY"),
    ({"query": "select id, id from loan order by id"}, "repeated column names"),
    ({"query": "select * from loan where id > 9 order by id"}, "holds no data"),
    ({"query": "select * from nowhere order by id"}, "did not answer"),
    ({"query": "delete from loan where id in (select id from loan order by id)"}, "did not answer|attempt to write a readonly"),
    ({"url": "postgresql://me:hunter2@host/db"}, "holds a password"),
    ({"url": "postgresql://me@host/db?password=hunter2"}, "holds a password"),
    ({"url": "sqlite://"}, "in memory"),
    ({"url": "sqlite:///none.db"}, "is not there"),
    ({"url": "no url at all"}, "cannot be read"),
])
def test_a_query_that_cannot_be_relied_upon_is_refused(book: Path, changed: dict[str, str], said: str) -> None:
    with pytest.raises(SourceError, match=said) as refusal:
        read(sql(**changed), book)
    assert "hunter2" not in json.dumps(refusal.value.as_json())
    assert not (book / "none.db").exists()


# -------------------------------------------------------------------------------------------------------------- openml


class Openml:
    """OpenML's API for one dataset, on loopback."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        outer = self

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = outer.files.get(self.path)
                self.send_response(200 if body is not None else 404)
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def publish(self, arff: bytes, *, parquet: bytes | None = None, **changed: Any) -> OpenmlSource:
        self.files["/data/1590.arff"] = arff
        description = {"id": "1590", "name": "adult", "version": "2", "format": "ARFF", "url": f"{self.address}/data/1590.arff",
                       "md5_checksum": hashlib.md5(arff).hexdigest()} | changed
        if parquet is not None:
            self.files["/data/1590.pq"] = parquet
            description["parquet_url"] = f"{self.address}/data/1590.pq"
        self.files["/api/v1/json/data/1590"] = json.dumps({"data_set_description": description}).encode()
        return OpenmlSource(kind="openml", id=1590, sha256=hashlib.sha256(arff).hexdigest(), server=self.address)


@pytest.fixture
def openml() -> Iterator[Openml]:
    server = Openml()
    yield server
    server.server.shutdown()
    server.server.server_close()


def test_an_openml_dataset_is_found_by_number_checked_and_parsed(openml: Openml, tmp_path: Path) -> None:
    source = openml.publish(ARFF)
    snapshot = read(source, tmp_path)
    assert snapshot.frame.to_dict(as_series=False) == {
        "age": [25.0, None], "work class": ["Private", "Self-emp"], "note": ["it's", None], "years": [3, 4]}
    assert snapshot.digest == source.sha256 and "adult, version 2" in snapshot.description


def test_a_checked_download_is_used_again_without_a_network(openml: Openml, tmp_path: Path) -> None:
    source = openml.publish(ARFF)
    read(source, tmp_path)
    openml.files.clear()
    assert read(source, tmp_path).frame.height == 2
    next((tmp_path / "scratch").iterdir()).write_bytes(b"tampered")
    with pytest.raises(SourceError, match="HTTP 404"):
        read(source, tmp_path)


def test_the_parquet_version_may_be_the_declared_one(openml: Openml, tmp_path: Path) -> None:
    content = (tmp_path / parquet(tmp_path).path).read_bytes()
    source = openml.publish(ARFF, parquet=content).model_copy(update={"sha256": hashlib.sha256(content).hexdigest()})
    assert read(source, tmp_path).frame.equals(FRAME)


@pytest.mark.parametrize(("md5", "said"), [("", "the md5 that OpenML publishes agrees"), ("0" * 32, "damaged download")])
def test_other_bytes_than_declared_are_refused_with_both_digests(openml: Openml, tmp_path: Path, md5: str, said: str) -> None:
    source = openml.publish(ARFF, **({"md5_checksum": md5} if md5 else {})).model_copy(update={"sha256": "0" * 64})
    with pytest.raises(SourceError, match=rf"expected 0{{64}}, found url {hashlib.sha256(ARFF).hexdigest()}.*{said}"):
        read(source, tmp_path)


@pytest.mark.parametrize("changed", [{"id": "61"}, {"url": "file:///etc/hostname"}, {"url": "http://127.0.0.1:9/none"}])
def test_an_answer_about_something_else_is_refused(openml: Openml, tmp_path: Path, changed: dict[str, str]) -> None:
    with pytest.raises(SourceError, match=r"cannot be read|not a web address|did not answer"):
        read(openml.publish(ARFF, **changed), tmp_path)


def test_a_dataset_that_is_not_there_is_refused(openml: Openml, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="HTTP 404"):
        read(openml.publish(ARFF).model_copy(update={"id": 7}), tmp_path)


@pytest.mark.parametrize(("content", "said"), [
    (ARFF.replace(b"25, Private", b"25, Pirate"), "does not list"),
    (ARFF.replace(b"25,", b"old,"), "not a number"),
    (ARFF.replace(b", 3\n", b"\n"), "3 values for 4"),
    (ARFF.replace(b"25, Private, 'it''s', 3", b"{0 25}"), "sparse"),
    (ARFF.split(b"@DATA")[0], "no @data"),
    (ARFF.split(b"25,")[0], "no data rows"),
    (ARFF.replace(b"NUMERIC", b"date"), "attribute type date"),
    (b"\xff" + ARFF, "not UTF-8"),
])
def test_arff_that_is_not_dense_and_whole_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        parse_arff(content, "small")


# ----------------------------------------------------------------------------------------------------------- simulator


def simulator(**changes: Any) -> SimulatorSource:
    return SimulatorSource(**{"kind": "simulator", "build": "systems.x.simulator:simulate", "rows": 100, "seed": 3} | changes)


def test_a_simulator_is_named_by_its_rows(tmp_path: Path) -> None:
    first, again = read(simulator(), tmp_path), read(simulator(), tmp_path)
    assert first.digest == again.digest == dataset_digest(first.frame)
    assert read(simulator(seed=4), tmp_path).digest != first.digest
    assert read(simulator(knobs={"shift": 1.5}), tmp_path).digest != first.digest
    assert declared_digest(simulator()) is None


def test_a_simulator_is_refused_what_it_does_not_know_or_make(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="documents"):
        read(simulator(knobs={"weather": 1}), tmp_path)
    with pytest.raises(SourceError, match="not a polars DataFrame"):
        read(simulator(), tmp_path, lambda rows, seed: [1, 2])
    with pytest.raises(SourceError, match="99 rows instead of 100"):
        read(simulator(), tmp_path, lambda rows, seed: simulate(rows=rows - 1, seed=seed))
    with pytest.raises(SourceError, match="holds no data"):
        read(simulator(), tmp_path, lambda rows, seed: pl.DataFrame())
