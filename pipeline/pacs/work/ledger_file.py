"""The ledger's SQLite file: its tables, what older ones lack, and what is said of a damaged one."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from pipeline.core.errors import ConfigError, is_disk_full

FILE = "ledger.db"
#: A file for each piece of work there ever was, which its worker locks.
LOCKS = "locks"
_BUSY_MS = 30_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS work (
    id TEXT PRIMARY KEY,
    digest TEXT NOT NULL,
    model TEXT NOT NULL,
    study_uid TEXT NOT NULL,
    series_uid TEXT NOT NULL,
    origin TEXT NOT NULL,
    rule TEXT NOT NULL,
    instances INTEGER NOT NULL,
    state TEXT NOT NULL,
    stopped_in TEXT NOT NULL DEFAULT '',
    failures INTEGER NOT NULL DEFAULT 0,
    starts INTEGER NOT NULL DEFAULT 0,
    due REAL NOT NULL,
    note TEXT NOT NULL DEFAULT '',
    changed REAL NOT NULL,
    priority INTEGER NOT NULL DEFAULT 1,
    UNIQUE (digest, model)
);
CREATE TABLE IF NOT EXISTS event (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    at REAL NOT NULL,
    state TEXT NOT NULL,
    note TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS delivery (
    work TEXT NOT NULL,
    destination TEXT NOT NULL,
    state TEXT NOT NULL,
    failures INTEGER NOT NULL,
    due REAL NOT NULL,
    note TEXT NOT NULL,
    PRIMARY KEY (work, destination)
);
"""
#: After the columns that version 0.1.0 lacks were added.
_INDEXES = """
CREATE INDEX IF NOT EXISTS work_order ON work (priority, state, due, id);
CREATE INDEX IF NOT EXISTS work_series ON work (series_uid);
CREATE INDEX IF NOT EXISTS work_changed ON work (state, changed, id);
CREATE INDEX IF NOT EXISTS work_failing ON work (state) WHERE failures > 0;
DROP INDEX IF EXISTS work_due;
DROP INDEX IF EXISTS work_next;
"""
_ADDED_COLUMNS = {"priority": "INTEGER NOT NULL DEFAULT 1"}


def open_ledger(folder: Path) -> sqlite3.Connection:
    """Open the ledger in a folder, made where there is none; each statement commits by itself.

    Raises ConfigError, with what to do, where the file cannot be used, or was emptied.
    """
    path = folder / FILE
    _refuse_emptied(path)
    try:
        database = sqlite3.connect(path, isolation_level=None)
        database.row_factory = sqlite3.Row
        database.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        database.execute("PRAGMA journal_mode = WAL")
        # WAL's default, NORMAL, may lose the last changes when the power fails.
        database.execute("PRAGMA synchronous = FULL")
        database.executescript(_SCHEMA)
        _add_columns(database)
        database.executescript(_INDEXES)
    except sqlite3.Error as error:
        raise ConfigError(f"cannot use the ledger {path}: {error}{_what_to_do(error)}") from error
    return database


def is_no_space(error: BaseException) -> bool:
    """Whether there is no space: for a file, or for the ledger itself."""
    code = getattr(error, "sqlite_errorcode", None) or 0
    return is_disk_full(error) or code & 0xFF == sqlite3.SQLITE_FULL


def _add_columns(database: sqlite3.Connection) -> None:
    known = {row["name"] for row in database.execute("PRAGMA table_info(work)")}
    for name, kind in _ADDED_COLUMNS.items():
        if name not in known:
            try:
                database.execute(f"ALTER TABLE work ADD COLUMN {name} {kind}")
            except sqlite3.OperationalError as error:
                if "duplicate column" not in str(error):  # another process was faster
                    raise


def _refuse_emptied(path: Path) -> None:
    """SQLite would take an empty file for a new ledger, and all work would be found again."""
    locks = path.with_name(LOCKS)
    worked = locks.is_dir() and _holds_anything(locks)
    if worked and (not path.exists() or not path.stat().st_size):
        fault = "is empty" if path.exists() else "is gone"
        raise ConfigError(f"the ledger {path} {fault}, but work was done with it; {_MEND}")


def _holds_anything(folder: Path) -> bool:
    """Without a list of all that it holds, as Path.iterdir makes."""
    with os.scandir(folder) as entries:
        return next(entries, None) is not None


def _what_to_do(error: sqlite3.Error) -> str:
    damaged = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return f"; {_MEND}" if code in damaged else ""


_MEND = (
    "restore it from a backup, or move it and the folder `locks` beside it away: series are then "
    "found and derived again, and what the destination has is not sent again"
)
