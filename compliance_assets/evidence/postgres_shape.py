"""The tables, triggers and roles of a ledger in Postgres, and the check that they are still those it was made with.

Three roles. The *owner* makes the tables and is needed never again. The *writer* may insert and read, and replace the nodes that
seal the look-up table, which are derived. The *reader* may read. Neither may update, delete or truncate; triggers refuse it to
the owner as well, and fire even where a session plays a replica (`ENABLE ALWAYS`). Whoever may disable a trigger can edit: the
tree finds that.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

TABLES = {
    "entry": ("idx bigint PRIMARY KEY CHECK (idx >= 0)", "kind text NOT NULL", 'dedup text COLLATE "C" NOT NULL UNIQUE',
              "system text NOT NULL", "body bytea NOT NULL CHECK (length(body) BETWEEN 1 AND 65535)",
              r"leaf bytea NOT NULL CHECK (leaf = sha256('\x00'::bytea || body))"),
    "node": ("level integer NOT NULL CHECK (level > 0)", "idx bigint NOT NULL CHECK (idx >= 0)",
             "hash bytea NOT NULL CHECK (length(hash) = 32)", "PRIMARY KEY (level, idx)"),
    "checkpoint": ("size bigint PRIMARY KEY CHECK (size >= 0)", "note text NOT NULL", "lookup text NOT NULL"),
    "subject": ('bucket text COLLATE "C" NOT NULL CHECK (length(bucket) = 5)',
                'digest text COLLATE "C" NOT NULL CHECK (length(digest) = 64)', 'role text COLLATE "C" NOT NULL',
                "idx bigint NOT NULL", "PRIMARY KEY (bucket, digest, role, idx)"),
    "seal": ('path text COLLATE "C" PRIMARY KEY', "hashes bytea NOT NULL CHECK (length(hashes) = 512)"),
}

_RAISE = "BEGIN RAISE EXCEPTION 'the ledger is append-only' USING ERRCODE = 'integrity_constraint_violation'; END"


def _unless(condition: str, said: str) -> str:
    return (f"BEGIN IF {condition} THEN RAISE EXCEPTION '{said}' USING ERRCODE = 'integrity_constraint_violation'; END IF;"
            " RETURN NEW; END")


def functions(name: str) -> dict[str, str]:
    """The trigger functions of the ledger in schema `name`, by name: their source as Postgres keeps it."""
    return {
        "append_only": _RAISE,
        "entry_next": _unless(f"NEW.idx IS DISTINCT FROM (SELECT coalesce(max(idx) + 1, 0) FROM {name}.entry)",
                              "an entry must be the next one"),
        "node_new": _unless(f"((NEW.idx + 1) << NEW.level) <= (SELECT max(size) FROM {name}.checkpoint)", "a node must be new"),
        "checkpoint_grows": _unless(
            f"NEW.size <= (SELECT coalesce(max(size), -1) FROM {name}.checkpoint)"
            f" OR NEW.size <> (SELECT coalesce(max(idx) + 1, 0) FROM {name}.entry)", "a checkpoint must grow with the entries"),
        "subject_new": _unless(
            f"NEW.idx > (SELECT max(idx) FROM {name}.entry) OR NEW.idx < (SELECT max(size) FROM {name}.checkpoint)",
            "a subject belongs to a new entry"),
    }


def _triggers() -> dict[tuple[str, str], tuple[str, str]]:
    """(table, trigger) → (when, function)."""
    found = {(table, "no_change"): ("BEFORE UPDATE OR DELETE", "append_only") for table in ("entry", "node", "checkpoint", "subject")}
    found["seal", "no_change"] = ("BEFORE DELETE", "append_only")
    found |= {(table, "no_truncate"): ("BEFORE TRUNCATE", "append_only") for table in TABLES}
    found |= {(table, function): ("BEFORE INSERT", function) for table, function in (
        ("entry", "entry_next"), ("node", "node_new"), ("checkpoint", "checkpoint_grows"), ("subject", "subject_new"))}
    return found


# pg_trigger.tgtype: ROW 1, BEFORE 2, INSERT 4, DELETE 8, UPDATE 16, TRUNCATE 32.
_TYPE = {"BEFORE UPDATE OR DELETE": 1 + 2 + 8 + 16, "BEFORE DELETE": 1 + 2 + 8, "BEFORE TRUNCATE": 2 + 32, "BEFORE INSERT": 1 + 2 + 4}


def lookup_locks(name: str, locked: bool) -> list[str]:
    """Enable or disable the triggers that protect the look-up table: only its owner may, to rebuild it."""
    return [f"ALTER TABLE {name}.{table} {'ENABLE ALWAYS' if locked else 'DISABLE'} TRIGGER {trigger}"
            for table, trigger in _triggers() if table in ("subject", "seal")]


def statements(name: str) -> list[str]:
    """Everything that makes a ledger in schema `name`; the connected role becomes its owner."""
    writer, reader = f"{name}_writer", f"{name}_reader"
    made = [f"CREATE SCHEMA {name}"]
    made += [f"CREATE TABLE {name}.{table} ({', '.join(columns)})" for table, columns in TABLES.items()]
    made += [f"CREATE FUNCTION {name}.{function}() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $${source}$$"
             for function, source in functions(name).items()]
    for (table, trigger), (when, function) in _triggers().items():
        each = "STATEMENT" if "TRUNCATE" in when else "ROW"
        made.append(f"CREATE TRIGGER {trigger} {when} ON {name}.{table} FOR EACH {each} EXECUTE FUNCTION {name}.{function}()")
        made.append(f"ALTER TABLE {name}.{table} ENABLE ALWAYS TRIGGER {trigger}")
    made += [f"CREATE ROLE {role} NOLOGIN" for role in (writer, reader)]
    made += [f"REVOKE ALL ON SCHEMA {name} FROM PUBLIC", f"GRANT USAGE ON SCHEMA {name} TO {writer}, {reader}",
             f"REVOKE ALL ON ALL TABLES IN SCHEMA {name} FROM PUBLIC",
             f"GRANT SELECT ON ALL TABLES IN SCHEMA {name} TO {writer}, {reader}",
             f"GRANT INSERT ON ALL TABLES IN SCHEMA {name} TO {writer}", f"GRANT UPDATE ON {name}.seal TO {writer}",
             f"GRANT {writer}, {reader} TO CURRENT_USER"]
    return made


def problem(database: psycopg.Connection[Any], name: str) -> str:
    """What is no longer as it was made, or an empty string."""
    def rows(sql: str) -> set[tuple[Any, ...]]:
        return set(database.execute(sql, {"name": name}).fetchall())

    columns = rows("SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0"
                   " AND NOT a.attisdropped WHERE c.relnamespace = to_regnamespace(%(name)s) AND c.relkind IN ('r', 'v', 'm', 'p', 'f')")
    wanted = {(table, column.split()[0]) for table, found in TABLES.items() for column in found if not column.startswith("PRIMARY KEY")}
    if columns != wanted:
        return "its tables"
    if rows("SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(%(name)s) AND relkind = 'r'"
            " AND (relrowsecurity OR relhasrules OR relhassubclass OR relispartition)"):
        return "a rule or a row policy"
    triggers = rows("SELECT c.relname, t.tgname, t.tgenabled::text, t.tgtype::int, p.proname, p.pronamespace = c.relnamespace"
                    " FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid"
                    " WHERE c.relnamespace = to_regnamespace(%(name)s) AND NOT t.tgisinternal AND t.tgqual IS NULL")
    if triggers != {(table, trigger, "A", _TYPE[when], function, True) for (table, trigger), (when, function) in _triggers().items()}:
        return "its triggers"
    sources = rows("SELECT proname, md5(prosrc) FROM pg_proc WHERE pronamespace = to_regnamespace(%(name)s)")
    if sources != {(function, hashlib.md5(source.encode(), usedforsecurity=False).hexdigest())
                   for function, source in functions(name).items()}:
        return "its triggers' functions"
    constraints = rows("SELECT c.relname, k.contype::text, count(*) FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid"
                       " WHERE c.relnamespace = to_regnamespace(%(name)s) AND k.convalidated AND k.contype <> 'n' GROUP BY 1, 2")
    if constraints != {(table, "p", 1) for table in TABLES} | {("entry", "u", 1), ("entry", "c", 3), ("node", "c", 3),
                                                               ("checkpoint", "c", 1), ("subject", "c", 2), ("seal", "c", 1)}:
        return "its constraints"
    return _granted(rows)


def _granted(rows: Any) -> str:
    """The role in use may change nothing."""
    changing = rows("SELECT c.relname FROM pg_class c WHERE c.relnamespace = to_regnamespace(%(name)s) AND c.relkind = 'r'"
                    " AND (has_table_privilege(c.oid, 'DELETE, TRUNCATE')"
                    " OR (c.relname <> 'seal' AND has_any_column_privilege(c.oid, 'UPDATE')))")
    return "what its roles may do" if changing else ""
