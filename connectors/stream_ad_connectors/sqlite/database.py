"""The file of SqliteStore: its schema, opening it, and the mapping of SQLite's errors to the error tree."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stream_ad.errors import AccessError, ConfigError, DataError, StreamAdError, UnavailableError

__all__ = ["SCHEMA_VERSION", "connect", "reading", "transaction"]

APPLICATION_ID = 0x73614431
SCHEMA_VERSION = 1
_HINT_PATH = "point store.path at another file"
_TRANSIENT = {
    sqlite3.SQLITE_FULL: ("free space on its disk", 5.0),
    sqlite3.SQLITE_BUSY: ("another process has locked it", 1.0),
    sqlite3.SQLITE_LOCKED: ("another process has locked it", 1.0),
    sqlite3.SQLITE_IOERR: ("", 5.0),
    sqlite3.SQLITE_NOMEM: ("", 5.0),
    sqlite3.SQLITE_PROTOCOL: ("", 1.0),
}
_REFUSED = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_CANTOPEN)
_SCHEMA = """
CREATE TABLE series (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, slots INTEGER NOT NULL DEFAULT 0);
CREATE TABLE layout (id INTEGER PRIMARY KEY, channels TEXT NOT NULL UNIQUE);
CREATE TABLE model (id INTEGER PRIMARY KEY, version TEXT NOT NULL UNIQUE);
CREATE TABLE score (
    series_id INTEGER NOT NULL, event_time_ns INTEGER NOT NULL, revision INTEGER NOT NULL, score REAL,
    alert_id TEXT NOT NULL, layout_id INTEGER NOT NULL, model_id INTEGER NOT NULL, detail BLOB NOT NULL,
    PRIMARY KEY (series_id, event_time_ns)
) WITHOUT ROWID;
CREATE TRIGGER count_slots AFTER INSERT ON score
    BEGIN UPDATE series SET slots = slots + 1 WHERE id = NEW.series_id; END;
CREATE TABLE alert (
    id TEXT PRIMARY KEY, series TEXT NOT NULL, start_ns INTEGER NOT NULL, revision INTEGER NOT NULL,
    updated_ns INTEGER NOT NULL, stage INTEGER NOT NULL, body BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX alert_start ON alert (start_ns);
CREATE INDEX alert_series ON alert (series, start_ns);
CREATE TABLE status (series TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE dead_letter (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, record_offset INTEGER NOT NULL, reason TEXT NOT NULL,
    detail TEXT NOT NULL, timestamp_ns INTEGER NOT NULL, key BLOB, value BLOB,
    UNIQUE (topic, partition, record_offset, reason, detail)
);
CREATE TABLE state (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, series TEXT NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (topic, partition, series)
) WITHOUT ROWID;
"""


def connect(path: Path, *, busy_timeout_s: float) -> sqlite3.Connection:
    """A connection to the store's file, which is created if missing.

    ConfigError: another program's file, or one of a newer version; AccessError; UnavailableError. Use the connection
    from any thread, but from one at a time.
    """
    if path.is_dir():
        raise ConfigError(f"store {path}: expected a file, found a directory", hint=_HINT_PATH)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AccessError(
            f"store {path}: its directory cannot be created: {error.strerror}", hint=_HINT_PATH
        ) from error
    with translated(path):
        connection = sqlite3.connect(path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False)
    try:
        with translated(path):
            _prepare(connection, path)
    except StreamAdError:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Checks before it changes anything: a foreign database stays unchanged."""
    if _is_ours(connection, path):
        connection.execute("PRAGMA synchronous = FULL")
        return
    connection.execute("PRAGMA page_size = 8192")  # a row of 100 channels fits into one page
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    with transaction(connection, path):
        if not _is_ours(connection, path):  # another process may have created it first
            for statement in _statements():
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _is_ours(connection: sqlite3.Connection, path: Path) -> bool:
    """True = our schema, False = an empty file; ConfigError for anything else."""
    application = int(connection.execute("PRAGMA application_id").fetchone()[0])
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if application == APPLICATION_ID:
        if version > SCHEMA_VERSION:
            raise ConfigError(
                f"store {path}: expected schema version {SCHEMA_VERSION}, found {version}, written by a newer release",
                hint="upgrade stream-ad, or " + _HINT_PATH,
            )
        return True
    tables = int(connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])
    if application or version or tables:
        raise ConfigError(f"store {path}: a SQLite database of another program", hint=_HINT_PATH)
    return False


def _statements() -> Iterator[str]:
    statement = ""
    for line in _SCHEMA.strip().splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


@contextmanager
def transaction(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    """All or nothing, on disk when it ends.

    IMMEDIATE, so that a second writer waits at the beginning: SQLite rejects a transaction that reads first and takes
    the write lock later at once, whatever the busy timeout.
    """
    with translated(path):
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


@contextmanager
def reading(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    """One consistent view for all queries inside, whatever a worker writes meanwhile."""
    with translated(path):
        connection.execute("BEGIN")
        try:
            yield
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Maps SQLite's errors to the error tree."""
    try:
        yield
    except sqlite3.ProgrammingError:  # a bug here, such as a store used after close
        raise
    except sqlite3.DatabaseError as error:
        raise _translate(error, path) from error


def _translate(error: sqlite3.DatabaseError, path: Path) -> StreamAdError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    what = f"store {path}: {error}"
    if code in _TRANSIENT:
        hint, retry_after_s = _TRANSIENT[code]
        return UnavailableError(what, hint=hint, retry_after_s=retry_after_s)
    if code in _REFUSED:
        return AccessError(what, hint="give this user the right to write the file and its directory")
    if code == sqlite3.SQLITE_NOTADB:
        return ConfigError(f"store {path}: expected a SQLite database, found another file", hint=_HINT_PATH)
    if code == sqlite3.SQLITE_CORRUPT:
        return DataError(f"store {path}: damaged: {error}", hint="restore it from a copy, or " + _HINT_PATH)
    return DataError(what)
