"""The ledger: durable appends, no partial reads, rewinds, concurrent writers, and positions that never move."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from sdar_envs import Task
from sdar_envs.errors import CorruptData, InvalidOption, MissingData
from sdar_envs.prompt import DEFAULT_STYLE, prompt_parts
from sdar_skills.context import teacher_context
from sdar_skills.evidence.ledger import NO_SKILL, Ledger, LedgerUnavailable, Position, Showing, showings_of_group
from sdar_skills.evidence.statistics import Statistics
from sdar_skills.library.skill import Arm, Skill, arm_of

ARM = Arm("alfworld/open-first", "1.0.0", "0" * 64)
TASK = Task("alfworld/train/0001", "sdar/ALFWorld-v0", "train", "pick_and_place_simple", "put a mug in a drawer")
OPEN = Skill("open-first", "alfworld", None, "Opens.", "Open what is closed.")
LOOK = Skill("look-around", "alfworld", None, "Looks.", "Look first.")


def showing(number: int = 0, *, run: str = "run-1", step: int = 0, arm: Arm = ARM) -> Showing:
    return Showing(
        arm, "alfworld", "pick", f"alfworld/train/{number:04d}", run, step, "ucb", number % 2, 0.5, number / 8, 1e9
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "ledger.sqlite"


# -- keeping ----------------------------------------------------------------------------------


def test_what_is_appended_is_read_back(path: Path) -> None:
    showings = [showing(number) for number in range(5)] + [showing(9, arm=NO_SKILL)._replace(gap=None)]
    with Ledger(path) as ledger:
        ledger.append(showings[:3])
        ledger.append(showings[3:])
        assert ledger.showings() == showings
        assert ledger.path == path
    with Ledger(path, create=False) as ledger:
        assert ledger.showings() == showings
        assert ledger.position().row == 6
    assert showings[1].advantage == 0.5


def test_the_view_reads_well_in_any_sqlite_program(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.append([showing(3, step=7)])
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    row = dict(connection.execute("SELECT * FROM showing").fetchone())
    connection.close()
    assert row == {
        "id": 1,
        **ARM._asdict(),
        "suite": "alfworld",
        "task_type": "pick",
        "task": "alfworld/train/0003",
        "run": "run-1",
        "step": 7,
        "strategy": "ucb",
        "reward": 1.0,
        "baseline": 0.5,
        "advantage": 0.5,
        "gap": 0.375,
        "time": 1e9,
    }


def test_numbers_of_numpy_and_the_time_of_appending() -> None:
    with Ledger(None) as ledger:
        before = time.time()
        ledger.append([showing()._replace(reward=np.float32(0.5), step=np.int64(4), time=None)])
        (kept,) = ledger.showings()
    assert (kept.reward, kept.step) == (0.5, 4)
    assert kept.time is not None
    assert before <= kept.time <= time.time()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"reward": float("nan")}, "the reward of a showing is nan; wanted a finite number"),
        ({"baseline": None}, "the baseline of a showing is None"),
        ({"gap": "wide"}, "the gap of a showing is 'wide'"),
        ({"time": float("inf")}, "the time of a showing is inf"),
        ({"step": -1}, "the step of a showing is -1; wanted a whole number from 0"),
        ({"step": 1.0}, "the step of a showing is 1.0"),
        ({"step": 1 << 53}, "below 2"),
        ({"run": ""}, "the run of a showing is ''; wanted text that is not empty"),
        ({"task_type": None}, "the task_type of a showing is None"),
        ({"task": "\ud800"}, "the task of a showing is"),
        ({"arm": Arm("alfworld/x", "", "0")}, "the version of a showing is ''"),
    ],
)
def test_nothing_is_kept_of_a_batch_with_a_bad_showing(change: dict[str, object], match: str) -> None:
    with Ledger(None) as ledger:
        with pytest.raises(InvalidOption, match=match):
            ledger.append([showing(0), showing(1)._replace(**change)])
        assert ledger.showings() == []


def test_a_write_that_fails_leaves_no_name_behind() -> None:
    with Ledger(None) as ledger:
        other = Arm("alfworld/other", "2.0.0", "1" * 64)
        real = ledger._connection

        class Failing:
            def __getattr__(self, name: str) -> object:
                return getattr(real, name)

            def executemany(self, *_: object) -> None:
                raise sqlite3.OperationalError("database or disk is full")

        ledger._connection = Failing()
        with pytest.raises(LedgerUnavailable, match="disk is full"):
            ledger.append([showing(0, arm=other)])
        ledger._connection = real
        assert real.execute("SELECT count(*) FROM arm").fetchone() == (0,)
        ledger.append([showing(0, arm=other)])
        assert ledger.showings() == [showing(0, arm=other)]


# -- files ------------------------------------------------------------------------------------


def test_a_missing_file_is_made_only_if_wanted(path: Path) -> None:
    with pytest.raises(MissingData, match=r"there is no ledger .*wanted the file that a run"):
        Ledger(path, create=False)
    assert not path.parent.exists()


def test_foreign_files_are_refused_and_stay_as_they_are(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but more than a hundred bytes of text. " * 10)
    other = tmp_path / "other.sqlite"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    for foreign, match in ((text, "cannot be read as a ledger"), (other, "SQLite file of another program")):
        before = foreign.read_bytes()
        with pytest.raises(CorruptData, match=match):
            Ledger(foreign)
        assert foreign.read_bytes() == before
    with pytest.raises(LedgerUnavailable):
        Ledger(tmp_path)
    with pytest.raises(LedgerUnavailable, match="folder"):
        Ledger(text / "ledger.sqlite")


def test_a_newer_format_is_refused(path: Path) -> None:
    Ledger(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(CorruptData, match="has format 2; this version of sdar-envs reads format 1"):
        Ledger(path)


def test_a_damaged_file_is_refused(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.append([showing(number) for number in range(2000)])
    content = bytearray(path.read_bytes())
    content[4096 * 3 : -4096] = b"\xff" * (len(content) - 4096 * 4)
    path.write_bytes(content)
    with pytest.raises(CorruptData, match="cannot be read as a ledger"), Ledger(path) as ledger:
        ledger.showings()


def test_an_empty_file_becomes_a_ledger(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    with Ledger(path) as ledger:
        ledger.append([showing()])
    with Ledger(path) as ledger:
        assert ledger.showings() == [showing()]


def test_a_closed_ledger_says_so(path: Path) -> None:
    ledger = Ledger(path)
    ledger.close()
    with pytest.raises(LedgerUnavailable, match="closed"):
        ledger.append([showing()])


# -- positions --------------------------------------------------------------------------------


def test_a_position_stays_valid_while_rows_are_appended(path: Path) -> None:
    with Ledger(path) as ledger:
        start = ledger.position()
        ledger.append([showing(0), showing(1)])
        moment = Position(*json.loads(json.dumps(ledger.position())))
        ledger.append([showing(2, run="run-2")])
        assert ledger.showings(upto=start) == []
        assert ledger.showings(upto=moment) == [showing(0), showing(1)]
        assert ledger.showings(run="run-2") == [showing(2, run="run-2")]
        assert ledger.showings(run="run-3") == []


def test_a_rewind_takes_back_one_run_and_no_other(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.append([showing(0), showing(1, run="run-2")])
        checkpoint = ledger.position()
        ledger.append([showing(2), showing(3, run="run-2"), showing(4)])
        abandoned = ledger.position()
        ledger.rewind("run-1", checkpoint)
        ledger.append([showing(5)])
        assert [row.task[-1] for row in ledger.showings()] == ["0", "1", "3", "5"]
        # The past stays what it was, also on the branch that was given up.
        assert [row.task[-1] for row in ledger.showings(upto=abandoned)] == ["0", "1", "2", "3", "4"]
        assert [row.task[-1] for row in ledger.showings(upto=checkpoint)] == ["0", "1"]
        with pytest.raises(InvalidOption, match="a branch that was given up stays so"):
            ledger.rewind("run-1", abandoned)
        # Of another run, nothing was given up there.
        ledger.rewind("run-2", abandoned)
        # Once more to the same checkpoint, as after a second crash.
        ledger.rewind("run-1", checkpoint)
        assert [row.task[-1] for row in ledger.showings()] == ["0", "1", "3"]
        connection = sqlite3.connect(path)
        assert connection.execute("SELECT count(*) FROM entry").fetchone() == (6,)
        connection.close()


def test_a_rewind_to_the_end_changes_nothing(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.append([showing(0)])
        position = ledger.position()
        ledger.rewind("run-1", position)
        assert ledger.position() == position


def test_positions_of_other_ledgers_and_of_the_future_are_refused(path: Path, tmp_path: Path) -> None:
    with Ledger(path) as ledger, Ledger(tmp_path / "other.sqlite") as other:
        other.append([showing()])
        with pytest.raises(InvalidOption, match=r"the position is of ledger .*open the file that the checkpoint"):
            ledger.showings(upto=other.position())
        future = ledger.position()._replace(row=3)
        with pytest.raises(InvalidOption, match="the ledger ends with row 0"):
            Statistics(ledger, upto=future)
        with pytest.raises(InvalidOption, match="the file is older than the checkpoint"):
            ledger.rewind("run-1", future)


# -- several processes ------------------------------------------------------------------------


def append_many(path: Path, run: str, batches: int, size: int) -> None:
    with Ledger(path) as ledger:
        for batch in range(batches):
            arm = Arm(f"alfworld/skill-{batch % 7}", "1.0.0", "a")
            ledger.append([showing(number, run=run, step=batch, arm=arm) for number in range(size)])


def test_what_a_file_is_is_read_in_one_transaction(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two questions another process may make the file: it would look like another program's."""
    asked: list[bool] = []
    is_new = Ledger._is_new

    def ask(self: Ledger, connection: sqlite3.Connection) -> bool:
        asked.append(connection.in_transaction)
        return is_new(self, connection)

    monkeypatch.setattr(Ledger, "_is_new", ask)
    with Ledger(path):
        pass
    with Ledger(path):
        pass
    assert asked == [True, True, True]


def test_concurrent_writers_lose_nothing(path: Path) -> None:
    processes = [
        multiprocessing.get_context("spawn").Process(target=append_many, args=(path, f"run-{number}", 40, 5))
        for number in range(4)
    ]
    # The file does not exist yet: they also race to make it.
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    with Ledger(path) as ledger:
        rows = ledger.showings()
        assert len(rows) == 4 * 40 * 5
        for number in range(4):
            assert [(row.step, row.task) for row in rows if row.run == f"run-{number}"] == [
                (batch, f"alfworld/train/{i:04d}") for batch in range(40) for i in range(5)
            ]
        # A batch is one transaction: no other writer's rows stand in it.
        runs = [row.run for row in rows]
        assert all(len(set(runs[start : start + 5])) == 1 for start in range(0, len(runs), 5))
        # Names that all of them brought were numbered once.
        assert len({row.arm for row in rows}) == 7
        assert ledger._connection.execute("SELECT count(*) FROM arm").fetchone() == (7,)


def test_a_reader_sees_whole_batches_while_another_process_writes(path: Path) -> None:
    Ledger(path).close()
    process = multiprocessing.get_context("spawn").Process(target=append_many, args=(path, "run-1", 150, 10))
    process.start()
    with Ledger(path) as ledger:
        statistics = Statistics(ledger)
        lengths = []
        is_over = False
        while not is_over:
            is_over = not process.is_alive()
            statistics.refresh()
            total = sum(row.showings for row in statistics.context("alfworld", "pick").values())
            lengths.append(total)
    process.join(60)
    assert process.exitcode == 0
    assert lengths[-1] == 1500
    assert lengths == sorted(lengths)
    assert all(length % 10 == 0 for length in lengths)


WRITER = """
import sys
from test_ledger import showing
from sdar_skills.evidence.ledger import Ledger
ledger = Ledger(sys.argv[1])
for step in range(10**6):
    ledger.append([showing(number, run=sys.argv[2], step=step) for number in range(40)])
    sys.stdout.write(f"{step}\\n")
    sys.stdout.flush()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_writer_loses_nothing_that_was_appended(path: Path) -> None:
    rng = random.Random(0)
    said: Counter[str] = Counter()
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    for attempt in range(3):
        run = f"run-{attempt}"
        command = [sys.executable, "-c", WRITER, str(path), run]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(rng.random() / 20)
            process.kill()
            said[run] = 1 + len(process.stdout.read().splitlines())
        with Ledger(path) as ledger:
            steps = Counter(row.step for row in ledger.showings(run=run))
        # Every append that returned is there, and of the one that was cut off all or nothing.
        assert set(steps.values()) == {40}
        assert len(steps) in (said[run], said[run] + 1)
        assert sorted(steps) == list(range(len(steps)))
    with Ledger(path) as ledger:
        assert ledger._connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert {row.run for row in ledger.showings()} == set(said)


def test_a_ledger_can_be_sent_to_another_process(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.append([showing()])
        with pickle.loads(pickle.dumps(ledger)) as copy:
            assert copy.showings() == [showing()]
    with Ledger(None) as ledger, pytest.raises(TypeError, match="in memory"):
        pickle.dumps(ledger)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_ledger_outlives_a_fork(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.append([showing(0)])
        # A plain fork in a fresh interpreter: this one has threads of its own.
        code = (
            "import os, sys\n"
            "from test_ledger import showing\n"
            "from sdar_skills.evidence.ledger import Ledger\n"
            "ledger = Ledger(sys.argv[1])\n"
            "ledger.append([showing(1)])\n"
            "before = ledger._connection\n"
            "child = os.fork()\n"
            "ledger.append([showing(2 if child else 3)])\n"
            # SQLite forbids to carry a connection over a fork, even where it seems to work.
            "assert (ledger._connection is before) == (child != 0)\n"
            "if child: sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        )
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
        subprocess.run([sys.executable, "-c", code, str(path)], check=True, env=environment)
        assert sorted(row.task[-1] for row in ledger.showings()) == ["0", "1", "2", "3"]


# -- groups -----------------------------------------------------------------------------------


def group(
    shown: list[list[Skill]], rewards: list[float], baseline: object = "group", gaps: list[float] | None = None
) -> list[Showing]:
    return showings_of_group(TASK, shown, rewards, baseline, run="run-1", step=3, strategy="ucb", gaps=gaps)


def test_each_skill_shown_gets_its_members_reward() -> None:
    rows = group([[OPEN, LOOK], [OPEN], []], [1.0, 0.0, 0.5], gaps=[0.1, 0.2, 0.0])
    assert [(row.arm, row.reward, row.baseline, row.gap) for row in rows] == [
        (arm_of(OPEN), 1.0, 0.5, 0.1),
        (arm_of(LOOK), 1.0, 0.5, 0.1),
        (arm_of(OPEN), 0.0, 0.5, 0.2),
        (NO_SKILL, 0.5, 0.5, 0.0),
    ]
    assert {(row.suite, row.task_type, row.task, row.run, row.step, row.strategy) for row in rows} == {
        ("alfworld", "pick_and_place_simple", TASK.id, "run-1", 3, "ucb")
    }


def test_credit_is_for_what_the_context_held_not_for_what_was_retrieved() -> None:
    prompt = prompt_parts(DEFAULT_STYLE, "put a mug in a drawer", [], "a room", ["look"])
    count = {"count_tokens": lambda text: len(text.split()), "render": lambda messages: messages[-1]["content"]}
    whole = teacher_context(prompt, [OPEN, LOOK], token_budget=1000, **count)
    assert whole.tokens is not None
    context = teacher_context(prompt, [OPEN, LOOK], token_budget=whole.tokens - 1, **count)
    assert context.dropped_skills == (arm_of(LOOK),)
    rows = showings_of_group(TASK, [context.skills, ()], [1.0, 0.0], "control", run="r", step=0, strategy="ucb")
    assert [(row.arm, row.advantage) for row in rows] == [(arm_of(OPEN), 1.0), (NO_SKILL, 0.0)]


def test_baselines() -> None:
    shown, rewards = [[OPEN], [], []], [1.0, 0.0, 0.5]
    assert {row.baseline for row in group(shown, rewards, baseline="control")} == {0.25}
    assert {row.baseline for row in group(shown, rewards, baseline=0.125)} == {0.125}


def test_a_group_that_can_teach_nothing_is_refused() -> None:
    with pytest.raises(InvalidOption, match=r"all 2 members of the group were shown the same.*sum to 0"):
        group([[OPEN, LOOK], [LOOK, OPEN]], [1.0, 0.0])
    with pytest.raises(InvalidOption, match="none of the 2 members is without skills"):
        group([[OPEN], [LOOK]], [1.0, 0.0], baseline="control")
    with pytest.raises(InvalidOption, match="2 lists of skills, 1 rewards and no gaps"):
        group([[OPEN], [LOOK]], [1.0])
    with pytest.raises(InvalidOption, match="baseline is 'mean'"):
        group([[OPEN], [LOOK]], [1.0, 0.0], baseline="mean")


def test_another_text_or_version_is_another_arm() -> None:
    changed = Skill("open-first", "alfworld", None, "Opens.", "Open what is closed. Look into it.")
    bumped = Skill("open-first", "alfworld", None, "Opens.", "Open what is closed.", version="1.0.1")
    assert len({arm_of(skill) for skill in (OPEN, changed, bumped)}) == 3
    assert arm_of(OPEN) == Arm("alfworld/open-first", "1.0.0", OPEN.sha256)
