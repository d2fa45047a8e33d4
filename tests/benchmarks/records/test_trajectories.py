"""The index of a run: what it finds, while the run grows, in spite of damage."""

from __future__ import annotations

import json

import pytest
from helpers.run_folders import HOSTILE, config, episode, trajectory, turn, write_lines, write_run

from sdar_benchmarks.records.trajectories import EpisodeId, RunIndex
from sdar_envs.errors import CorruptData, MissingData


def append(folder, name, row) -> None:
    with open(folder / name, "ab") as file:
        file.write(row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n")


def test_episodes_and_their_trajectories(tmp_path) -> None:
    rows = [episode(0), episode(1, is_success=False, stop_reason="step_limit"), episode(0, seed=1)]
    turns = [[turn(observation=f'room {i} "turns": [')] for i in range(3)]
    index = RunIndex(write_run(tmp_path, rows, [trajectory(r, t) for r, t in zip(rows, turns, strict=True)]))
    entries = index.refresh()
    assert [(e.id.task_id[-4:], e.id.seed, e.outcome, e.facts["steps"]) for e in entries] == [
        ("0000", 0, "won", 2),
        ("0001", 0, "lost", 2),
        ("0000", 1, "won", 2),
    ]
    assert [index.trajectory(e)["turns"] for e in entries] == turns
    assert index.notes == []


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_of_keys_and_hostile_text_do_not_matter(tmp_path, order: int) -> None:
    row = episode(0)
    made = trajectory(row, instruction=f'{HOSTILE} "turns": [1], \\"turns": [')
    write_run(tmp_path, [row], [dict(list(made.items())[::order])])
    [entry] = RunIndex(tmp_path).refresh()
    assert entry.instruction == made["instruction"]
    assert RunIndex(tmp_path).trajectory(entry)["turns"] == made["turns"]


def test_only_what_is_shown_is_read(tmp_path, monkeypatch) -> None:
    rows = [episode(i) for i in range(20)]
    big = [turn("x" * 100_000)] * 3
    index = RunIndex(write_run(tmp_path, rows, [trajectory(row, big) for row in rows]))
    parsed = []
    loads = json.loads
    monkeypatch.setattr(json, "loads", lambda text: parsed.append(len(text)) or loads(text))
    entries = index.refresh()
    assert len(entries) == 20
    assert max(parsed) < 1000
    index.trajectory(entries[7])
    assert sum(size > 100_000 for size in parsed) == 1


def test_a_run_that_grows(tmp_path) -> None:
    index = RunIndex(write_run(tmp_path, [episode(0)]))
    assert len(index.refresh()) == 1
    line = json.dumps(trajectory(episode(1))).encode() + b"\n"
    append(tmp_path, "trajectories.jsonl", line[:40])
    assert len(index.refresh()) == 1
    assert "incomplete" in index.notes[0]
    append(tmp_path, "trajectories.jsonl", line[40:])
    entries = index.refresh()
    assert [e.facts.get("steps") for e in entries] == [2, None]
    assert index.notes == []
    append(tmp_path, "episodes.jsonl", episode(1))
    assert [e.facts.get("steps") for e in index.refresh()] == [2, 2]
    assert index.trajectory(index.refresh()[1])["task_id"] == episode(1)["task_id"]


def test_a_last_line_that_was_taken_back(tmp_path) -> None:
    # Going on with a run drops a trajectory whose episode a kill has prevented, and writes another in its place.
    index = RunIndex(write_run(tmp_path, [episode(0)], [trajectory(episode(0)), trajectory(episode(1))]))
    assert len(index.refresh()) == 2
    write_lines(tmp_path / "trajectories.jsonl", [trajectory(episode(0)), trajectory(episode(2), [turn("a" * 5000)])])
    entries = index.refresh()
    assert [e.id.task_id[-4:] for e in entries] == ["0000", "0002"]
    assert index.trajectory(entries[1])["turns"][0]["observation"] == "a" * 5000


def test_damaged_lines_are_left_out_and_named(tmp_path) -> None:
    write_run(tmp_path, [], [])
    for line in (
        b"{nonsense}\n",
        b"[1]\n",
        b'{"env_id": 1}\n',
        b'{"env_id": "e", "task_id": "t", "seed": "x"}\n',
        b"\n",
    ):
        append(tmp_path, "trajectories.jsonl", line)
    append(tmp_path, "trajectories.jsonl", trajectory(episode(3)))
    append(tmp_path, "episodes.jsonl", b"\xff\xfe\n")
    index = RunIndex(tmp_path)
    assert [e.id.task_id[-4:] for e in index.refresh()] == ["0003"]
    first, second = index.notes
    assert first.startswith(
        "4 lines of trajectories.jsonl cannot be read and are left out: numbers 1, 2, 3, 4 (the first: the line is no "
    )
    assert second.startswith("1 line of episodes.jsonl cannot be read and is left out: number 1 (the line is no JSON")


def test_a_trajectory_that_is_damaged_inside(tmp_path) -> None:
    write_run(tmp_path, [episode(0)])
    index = RunIndex(tmp_path)
    [entry] = index.refresh()
    content = (tmp_path / "trajectories.jsonl").read_bytes()
    (tmp_path / "trajectories.jsonl").write_bytes(content.replace(b'"turns": [{', b'"turns": [}'))
    with pytest.raises(CorruptData, match="at byte 0"):
        index.trajectory(entry)


def test_errors_have_no_trajectory_perhaps_and_attempts_are_apart(tmp_path) -> None:
    failed = episode(
        0, status="error", is_success=False, stop_reason="endpoint_error", error={"type": "E", "message": "m"}
    )
    write_run(tmp_path, [failed, episode(0, attempt=2)], [trajectory(episode(0, attempt=2))])
    index = RunIndex(tmp_path)
    by_attempt = {e.id.attempt: e for e in index.refresh()}
    assert {attempt: e.outcome for attempt, e in by_attempt.items()} == {1: "error", 2: "won"}
    with pytest.raises(MissingData, match="no trajectory"):
        index.trajectory(by_attempt[1])


def test_a_training_run_may_play_the_same_again(tmp_path) -> None:
    write_run(tmp_path, [episode(0), episode(0, is_success=False)])
    entries = RunIndex(tmp_path).refresh()
    assert [(e.id.copy, e.facts["is_success"]) for e in entries] == [(0, True), (1, False)]
    assert entries[0].id == EpisodeId("sdar/ALFWorld-v0", "alfworld/valid_unseen/0000", 0, 1)


def test_what_is_no_run(tmp_path) -> None:
    with pytest.raises(MissingData, match="no run folder"):
        RunIndex(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config()))
    assert RunIndex(tmp_path).refresh() == ()
