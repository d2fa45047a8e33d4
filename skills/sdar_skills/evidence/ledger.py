"""Ledger of skill use: an append-only SQLite log of which skill was shown when, with the reward of the episode.

The ledger is a file of its own; skill files hold no statistics. SQLite was chosen by measurement: appending a million
showings took half the CPU time of JSON lines (1.6 s against 3.2 s), reading a third (0.7 s against 1.8 s), and the file
37 % of the space; its write-ahead log handles concurrent writers and processes that die while writing. Repeated texts
are stored once and numbered; the view `showing` joins them for the `sqlite3` program.

Data is on disk when `append` returns. Processes and threads on one machine may share a ledger; a network file system is
not safe, because SQLite's write-ahead log needs shared memory.

Files of other programs, files of newer versions of this package, and positions of another ledger are errors.
"""

from __future__ import annotations

import math
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from sdar_envs import Task
from sdar_envs.core import is_integer
from sdar_envs.errors import CorruptData, InvalidOption, MissingData, SdarError
from sdar_skills.library.skill import Arm, Skill, arm_of

__all__ = [
    "NO_SKILL",
    "Batch",
    "Ledger",
    "LedgerUnavailable",
    "Position",
    "Showing",
    "showings_of_group",
]

_APPLICATION = 0x53444152  # "SDAR": tells our files from other programs'
_FORMAT = 1
_TIMEOUT = 60.0  # seconds to wait for another writer
_ROWS_AT_ONCE = 50_000
_SCHEMA = """
CREATE TABLE identity (ledger TEXT NOT NULL);
CREATE TABLE arm (
    id INTEGER PRIMARY KEY, skill TEXT NOT NULL, version TEXT NOT NULL, sha256 TEXT NOT NULL,
    UNIQUE (skill, version, sha256));
CREATE TABLE context (
    id INTEGER PRIMARY KEY, suite TEXT NOT NULL, task_type TEXT NOT NULL, UNIQUE (suite, task_type));
CREATE TABLE run (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE strategy (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE entry (
    id INTEGER PRIMARY KEY AUTOINCREMENT, arm INTEGER NOT NULL, context INTEGER NOT NULL, task TEXT NOT NULL,
    run INTEGER NOT NULL, step INTEGER NOT NULL, strategy INTEGER NOT NULL, reward REAL NOT NULL,
    baseline REAL NOT NULL, gap REAL, time REAL NOT NULL);
CREATE TABLE rewind (
    id INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL, after INTEGER NOT NULL, until INTEGER NOT NULL);
CREATE VIEW showing AS
    SELECT entry.id, skill, version, sha256, suite, task_type, task, run.name AS run, step, strategy.name AS strategy,
        reward, baseline, reward - baseline AS advantage, gap, time
    FROM entry JOIN arm ON arm.id = entry.arm JOIN context ON context.id = entry.context
        JOIN run ON run.id = entry.run JOIN strategy ON strategy.id = entry.strategy;
"""
# Rows that this package can have written. SQLite checks no types, and a file may come from elsewhere.
_SOUND = """typeof(entry.step) = 'integer' AND entry.step BETWEEN 0 AND 9007199254740991
AND typeof(reward) = 'real' AND abs(reward) <= 1e100 AND typeof(baseline) = 'real' AND abs(baseline) <= 1e100
AND (gap IS NULL OR typeof(gap) = 'real' AND abs(gap) <= 1e100)
AND entry.arm IN (SELECT id FROM arm WHERE 'text' = typeof(skill) AND 'text' = typeof(version)
    AND 'text' = typeof(sha256))
AND entry.context IN (SELECT id FROM context WHERE 'text' = typeof(suite) AND 'text' = typeof(task_type))"""
_INSERT = """INSERT INTO entry (arm, context, task, run, step, strategy, reward, baseline, gap, time)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""


class LedgerUnavailable(SdarError, OSError):
    """The file cannot be opened, read or written now: full disk, no permission, or locked by another writer."""


NO_SKILL = Arm("none", "", "")
"""Control arm: no skill was shown."""


class Showing(NamedTuple):
    """Entry of the ledger: one skill, or the control `NO_SKILL`, shown in one episode.

    Attributes:
        arm: the skill in its exact wording.
        suite: suite of the task, such as `alfworld`.
        task_type: task type, the context of the bandits.
        task: id of the task.
        run: name of the training run or experiment.
        step: training step, from 0; statistics are discounted by it.
        strategy: name of the retriever, such as `ucb`.
        reward: reward of the episode.
        baseline: reward to compare with, such as the mean of the group.
        gap: mean log-probability of the teacher minus the student's, in nats per token; None without a teacher.
        time: seconds since 1970; None is replaced by the time of appending.
    """

    arm: Arm
    suite: str
    task_type: str
    task: str
    run: str
    step: int
    strategy: str
    reward: float
    baseline: float
    gap: float | None = None
    time: float | None = None

    @property
    def advantage(self) -> float:
        """Reward minus baseline."""
        return self.reward - self.baseline


class Batch(NamedTuple):
    """Batch of ledger rows, as `Statistics` reads them.

    Attributes:
        rows: (row, arm number, context number, step, reward, baseline, gap), in order of writing.
        position: position after these rows.
        starts_anew: the rows begin with the ledger's first; at the start, and when a rewind has excluded earlier rows.
        is_last: whether there are no more rows.
    """

    rows: list[tuple[int, int, int, int, float, float, float | None]]
    position: Position
    starts_anew: bool
    is_last: bool


class Position(NamedTuple):
    """Position in a ledger, for checkpoints. In JSON it is a list: `Position(*values)` restores it.

    Attributes:
        ledger: id of the file.
        row: number of the last row.
        rewinds: number of rewinds so far, of any run.
    """

    ledger: str
    row: int
    rewinds: int


class Ledger:
    """Append-only log of showings in a SQLite file.

    Args:
        path: the file; created with its folder if it is missing. None keeps the ledger in memory.
        create: whether to create a missing file.

    Raises:
        MissingData: the file is missing and `create` is False.
        CorruptData: the file is no ledger, is damaged, or comes from a newer version.
        LedgerUnavailable: the file cannot be opened.
    """

    def __init__(self, path: str | Path | None, *, create: bool = True) -> None:
        self._path = None if path is None else Path(path).expanduser().absolute()
        if self._path is not None and not self._path.exists():
            if not create:
                raise MissingData(f"there is no ledger {self._path}; wanted the file that a run has written.")
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise LedgerUnavailable(f"the folder of {self._path} cannot be made ({error})") from error
        self._lock = threading.RLock()
        self._numbers: dict[tuple[str, ...], int] = {}
        self._process = os.getpid()
        with self._errors():
            self._connection = self._open()

    def __reduce__(self) -> tuple[Any, ...]:
        if self._path is None:
            raise TypeError("a ledger in memory cannot be sent to another process: give it a path.")
        return Ledger, (self._path,)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def path(self) -> Path | None:
        """Path of the file; None for a ledger in memory."""
        return self._path

    def close(self) -> None:
        """Close the file. Appended data is on disk already."""
        with self._lock:
            self._connection.close()

    # -- writing ----------------------------------------------------------------------------

    def append(self, showings: Iterable[Showing]) -> None:
        """Append showings in one transaction. One call per training step is fast, one per row is slow.

        Raises:
            InvalidOption: a showing has a value that cannot be stored.
            LedgerUnavailable: the file cannot be written.
        """
        now = time.time()
        showings = [_checked(showing) for showing in showings]
        with self._transaction("IMMEDIATE") as connection:
            connection.executemany(_INSERT, [self._row(connection, showing, now) for showing in showings])

    def rewind(self, run: str, position: Position) -> None:
        """Rewind a run to a checkpoint: rows that it wrote after `position` are excluded from now on.

        The rows stay in the file, and other runs are not affected. A trainer that resumes calls it before it appends.

        Raises:
            InvalidOption: the position is of another ledger, beyond the end, or in a branch of this run that an earlier
                rewind has excluded.
        """
        with self._transaction("IMMEDIATE") as connection:
            end = self._position(connection)
            _check_position(position, end)
            number = self._number(connection, "run", run)
            given_up = connection.execute(
                "SELECT count(*) FROM rewind WHERE run = ? AND id > ? AND after < ?",
                (number, position.rewinds, position.row),
            ).fetchone()[0]
            if given_up:
                raise InvalidOption(
                    f"run {run!r} cannot go back to row {position.row}: it was set back to before that row since, and "
                    "a branch that was given up stays so. Resume from a later checkpoint, or as a new run."
                )
            if end.row > position.row:
                connection.execute(
                    "INSERT INTO rewind (run, after, until) VALUES (?, ?, ?)", (number, position.row, end.row)
                )

    # -- reading ----------------------------------------------------------------------------

    def position(self) -> Position:
        """Return the current position, for a checkpoint."""
        with self._transaction("DEFERRED") as connection:
            return self._position(connection)

    def showings(self, *, upto: Position | None = None, run: str | None = None) -> list[Showing]:
        """Return the showings that no rewind has excluded, in order of writing.

        Args:
            upto: the ledger as it was at this position; None for the present.
            run: only this run; None for all.

        Raises:
            InvalidOption: the position is of another ledger, or beyond the end.
        """
        with self._transaction("DEFERRED") as connection:
            end = self._position(connection)
            upto = end if upto is None else _check_position(upto, end)
            where, values = self._counted(connection, 0, upto, run)
            rows = connection.execute(
                "SELECT skill, version, sha256, suite, task_type, task, run.name, step, strategy.name, reward, "
                "baseline, gap, time FROM entry JOIN arm ON arm.id = entry.arm JOIN context ON "
                "context.id = entry.context JOIN run ON run.id = entry.run JOIN strategy ON "
                f"strategy.id = entry.strategy WHERE {where} ORDER BY entry.id",
                values,
            )
            return [Showing(Arm(*row[:3]), *row[3:]) for row in rows]

    def read(self, since: Position | None, upto: Position | None, run: str | None) -> Batch:
        """Return the next batch of rows that no rewind has excluded, for statistics.

        Args:
            since: position after which to read; None for the beginning.
            upto: the ledger as it was at this position; None for the present.
            run: only this run; None for all.

        Raises:
            InvalidOption: a position is of another ledger, or beyond the end.
        """
        with self._transaction("DEFERRED") as connection:
            end = self._position(connection)
            upto = end if upto is None else _check_position(upto, end)
            # Rows that a rewind excludes cannot be subtracted from floating-point sums exactly: start over.
            starts_anew = since is None or since.rewinds != upto.rewinds or since.row > upto.row
            first = 0 if since is None or starts_anew else _check_position(since, end).row
            where, values = self._counted(connection, first, upto, run)
            rows = connection.execute(
                "SELECT entry.id, arm, context, step, reward, baseline, gap FROM entry "
                f"WHERE {where} ORDER BY entry.id LIMIT {_ROWS_AT_ONCE}",
                values,
            ).fetchall()
        reached = rows[-1][0] if len(rows) == _ROWS_AT_ONCE else upto.row
        return Batch(rows, upto._replace(row=reached), starts_anew, is_last=len(rows) < _ROWS_AT_ONCE)

    def left_out(self) -> int:
        """Return how many rows no reader gets: their values have other types, or are out of range."""
        with self._transaction("DEFERRED") as connection:
            count: int = connection.execute(f"SELECT count(*) FROM entry WHERE NOT coalesce({_SOUND}, 0)").fetchone()[0]
        return count

    def arm(self, number: int) -> Arm:
        """Return the arm with this number in the file."""
        return Arm(*self._texts("SELECT skill, version, sha256 FROM arm WHERE id = ?", number))

    def context(self, number: int) -> tuple[str, str]:
        """Return the suite and task type with this number in the file."""
        suite, task_type = self._texts("SELECT suite, task_type FROM context WHERE id = ?", number)
        return suite, task_type

    def _texts(self, query: str, number: int) -> tuple[str, ...]:
        with self._transaction("DEFERRED") as connection:
            texts: tuple[str, ...] = connection.execute(query, (number,)).fetchone()
        return texts

    # -- the file ---------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path or ":memory:", timeout=_TIMEOUT, isolation_level=None, check_same_thread=False
        )
        try:
            # Checked before anything is written, so that a file of another program stays as it is; in one transaction,
            # because another process may create the file between two queries.
            connection.execute("BEGIN")
            is_new = self._is_new(connection)
            connection.execute("COMMIT")
            if self._path is not None:
                _set_journal(connection, self._path)
            connection.execute("PRAGMA synchronous = FULL")
            if is_new:
                connection.execute("BEGIN IMMEDIATE")
                if self._is_new(connection):  # else another process was faster
                    for statement in _SCHEMA.split(";")[:-1]:
                        connection.execute(statement)
                    connection.execute("INSERT INTO identity VALUES (?)", (secrets.token_hex(8),))
                    connection.execute(f"PRAGMA application_id = {_APPLICATION}")
                    connection.execute(f"PRAGMA user_version = {_FORMAT}")
                connection.execute("COMMIT")
            identity = connection.execute("SELECT ledger FROM identity").fetchone()
            if identity is None:
                raise CorruptData(f"{self._path} is a ledger without an identity: name another file.")
            self._id: str = identity[0]
        except BaseException:
            connection.close()
            raise
        return connection

    def _is_new(self, connection: sqlite3.Connection) -> bool:
        """Return whether the file is empty; raise an error if it is not a ledger."""
        application, version, tables = (
            connection.execute(query).fetchone()[0]
            for query in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
        )
        if (application, version, tables) == (0, 0, 0):
            return True
        if application != _APPLICATION:
            raise CorruptData(f"{self._path} is a SQLite file of another program: name another file for the ledger.")
        if version != _FORMAT:
            raise CorruptData(
                f"{self._path} has format {version}; this version of sdar-envs reads format {_FORMAT}: use the "
                "version that wrote it, or name another file."
            )
        return False

    @contextmanager
    def _transaction(self, kind: Literal["DEFERRED", "IMMEDIATE"]) -> Iterator[sqlite3.Connection]:
        """Context of one transaction."""
        with self._lock, self._errors():
            if self._path is not None and self._process != os.getpid():
                # A connection must not cross a fork. The parent's stays open: closing it here would drop its locks.
                _inherited.append(self._connection)
                self._process = os.getpid()
                self._connection = self._open()
            connection = self._connection
            try:
                connection.execute(f"BEGIN {kind}")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                self._numbers.clear()  # some may be of this transaction
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.OperationalError, sqlite3.ProgrammingError) as error:
            raise LedgerUnavailable(f"the ledger {self._path or 'in memory'} cannot be used: {error}.") from error
        except sqlite3.DatabaseError as error:
            raise CorruptData(f"{self._path} cannot be read as a ledger ({error}): name another file.") from error

    def _position(self, connection: sqlite3.Connection) -> Position:
        row, rewinds = connection.execute(
            "SELECT coalesce((SELECT max(id) FROM entry), 0), coalesce((SELECT max(id) FROM rewind), 0)"
        ).fetchone()
        return Position(self._id, row, rewinds)

    def _counted(
        self, connection: sqlite3.Connection, first: int, upto: Position, run: str | None
    ) -> tuple[str, list[Any]]:
        """Return the SQL condition for rows after `first` that are not excluded at a position, with its values."""
        where = f"entry.id > ? AND entry.id <= ? AND {_SOUND}"
        values: list[Any] = [first, upto.row]
        if run is not None:
            where += " AND entry.run = (SELECT id FROM run WHERE name = ?)"
            values.append(run)
        # Without rewinds, the condition has no further terms.
        rewinds = connection.execute("SELECT run, after, until FROM rewind WHERE id <= ?", (upto.rewinds,))
        for number, after, until in rewinds.fetchall():
            where += " AND NOT (entry.run = ? AND entry.id > ? AND entry.id <= ?)"
            values += [number, after, until]
        return where, values

    def _row(self, connection: sqlite3.Connection, showing: Showing, now: float) -> tuple[Any, ...]:
        return (
            self._number(connection, "arm", *showing.arm),
            self._number(connection, "context", showing.suite, showing.task_type),
            showing.task,
            self._number(connection, "run", showing.run),
            showing.step,
            self._number(connection, "strategy", showing.strategy),
            showing.reward,
            showing.baseline,
            showing.gap,
            now if showing.time is None else showing.time,
        )

    def _number(self, connection: sqlite3.Connection, table: str, *texts: str) -> int:
        """Return the number of these texts in a table, inserting them if they are new."""
        number = self._numbers.get((table, *texts))
        if number is None:
            columns = _COLUMNS[table]
            connection.execute(
                f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", texts
            )
            where = " AND ".join(f"{column} = ?" for column in columns)
            number = int(connection.execute(f"SELECT id FROM {table} WHERE {where}", texts).fetchone()[0])
            self._numbers[table, *texts] = number
        return number


def showings_of_group(
    task: Task,
    shown: Sequence[Sequence[Skill | Arm]],
    rewards: Sequence[float],
    baseline: Literal["control", "group"] | float,
    *,
    run: str,
    step: int,
    strategy: str,
    gaps: Sequence[float] | None = None,
) -> list[Showing]:
    """Return the ledger entries of a group of episodes of one task (credit assignment).

    Each skill that a member was shown is credited with the member's whole reward, whatever the number of skills; a
    member that was shown nothing counts for `NO_SKILL`. The member is the acting policy: rewards of a student that
    never sees skills say nothing about its teacher's (see `sdar_skills.retrieval.bandits`).

    Choice of the baseline: leave one member of each group without skills and pass `control`; advantages are then the
    gain of a skill, in units of reward, whatever the other members were shown. With `group`, as in GRPO, they shrink
    with the variety in the group: if one of n members is the control and the others see the same skill, to 1/n,
    standard error included, and UCB's constant has to shrink likewise. In the study `skill_strategies`, with groups of
    8, UCB behind the task type captured 66 % of the possible uplift with `control`, 31 % with `group`, and 67 % with
    `group` and its constant divided by 8. All members of a group share the error of its control episodes, which a
    standard error over showings does not include; trials are paired instead (`sdar_skills.evidence.trial`).

    Args:
        task: the task of the group.
        shown: skills that each member read: `TeacherContext.skills`, not the retrieved ones, some of which may have
            been dropped for a budget.
        rewards: reward of each member.
        baseline: `control`: mean reward of the members that were shown nothing. `group`: mean of all members. A number:
            known otherwise, such as the control's mean in the statistics.
        run: as in `Showing`.
        step: as in `Showing`.
        strategy: as in `Showing`.
        gaps: gap of each member, as in `Showing`.

    Raises:
        InvalidOption: the lists differ in length or are empty; or the baseline cannot tell skills apart: all members
            were shown the same (their advantages over the group's mean sum to 0), or there is no control.
    """
    if not len(shown) == len(rewards) > 0 or (gaps is not None and len(gaps) != len(rewards)):
        raise InvalidOption(
            f"the group has {len(shown)} lists of skills, {len(rewards)} rewards and "
            f"{'no' if gaps is None else len(gaps)} gaps; wanted one of each per member, and a member at least."
        )
    arms = [[skill if isinstance(skill, Arm) else arm_of(skill) for skill in skills] or [NO_SKILL] for skills in shown]
    if baseline == "group":
        if all(set(member) == set(arms[0]) for member in arms):
            raise InvalidOption(
                f"all {len(arms)} members of the group were shown the same, so their advantages over its mean sum to 0 "
                "and say nothing about a skill. Vary the skills within a group, or pass baseline='control' or a number."
            )
        base = math.fsum(rewards) / len(rewards)
    elif baseline == "control":
        control = [reward for member, reward in zip(arms, rewards, strict=True) if member == [NO_SKILL]]
        if not control:
            raise InvalidOption(
                f"baseline is 'control', but none of the {len(arms)} members is without skills: leave one or more "
                "without skills, or pass baseline='group' or a number."
            )
        base = math.fsum(control) / len(control)
    elif isinstance(baseline, str):
        raise InvalidOption(f"baseline is {baseline!r}; wanted 'group', 'control' or a number.")
    else:
        base = baseline
    return [
        Showing(
            arm,
            task.suite,
            task.task_type,
            task.id,
            run,
            step,
            strategy,
            reward,
            base,
            None if gaps is None else gaps[number],
        )
        for number, (member, reward) in enumerate(zip(arms, rewards, strict=True))
        for arm in member
    ]


_TEXTS = ("suite", "task_type", "task", "run", "strategy")
_COLUMNS = {
    "arm": ("skill", "version", "sha256"),
    "context": ("suite", "task_type"),
    "run": ("name",),
    "strategy": ("name",),
}
_inherited: list[sqlite3.Connection] = []
"""Connections of a parent process, referenced so that they are not closed by garbage collection."""


def _checked(showing: Showing) -> Showing:
    """Return a showing in plain Python types; raise an error for values that cannot be stored."""
    for name in _TEXTS:
        _check_text(name, getattr(showing, name))
    if showing.arm != NO_SKILL:
        for name, text in zip(Arm._fields, showing.arm, strict=True):
            _check_text(name, text)
    if not is_integer(showing.step) or not 0 <= showing.step < 1 << 53:
        raise InvalidOption(f"the step of a showing is {showing.step!r}; wanted a whole number from 0, below 2^53.")
    reward, baseline = _number("reward", showing.reward), _number("baseline", showing.baseline)
    gap = None if showing.gap is None else _number("gap", showing.gap)
    moment = None if showing.time is None else _number("time", showing.time)
    return Showing(showing.arm, *showing[1:5], int(showing.step), showing.strategy, reward, baseline, gap, moment)


def _check_text(name: str, text: object) -> None:
    # Lone surrogates cannot be encoded.
    if not isinstance(text, str) or not text or not text.encode("utf-8", "replace").decode() == text:
        raise InvalidOption(f"the {name} of a showing is {text!r}; wanted text that is not empty.")


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InvalidOption(f"the {name} of a showing is {value!r}; wanted a finite number.")
    return number


def _check_position(position: Position, end: Position) -> Position:
    if position.ledger != end.ledger:
        raise InvalidOption(
            f"the position is of ledger {position.ledger!r}, this is {end.ledger!r}: open the file that the checkpoint "
            "was written with."
        )
    if not (0 <= position.row <= end.row and 0 <= position.rewinds <= end.rewinds):
        raise InvalidOption(
            f"the position is row {position.row} after {position.rewinds} rewinds, but the ledger ends with row "
            f"{end.row} after {end.rewinds}: the file is older than the checkpoint."
        )
    return position


def _set_journal(connection: sqlite3.Connection, path: Path) -> None:
    """Switch the file to write-ahead logging, in which readers do not wait for writers."""
    deadline = time.monotonic() + _TIMEOUT
    while True:
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            # SQLite's own timeout does not apply when two processes open a new file at once.
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            if mode != "wal":
                raise LedgerUnavailable(f"the file system of {path} has no write-ahead log: use a local disk.")
            return
