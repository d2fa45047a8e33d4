"""Recorded trajectories: read back equal, of both formats, shown by the viewer, safe against kills."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_models import tiny_policy
from helpers.viewers import visiting
from hypothesis import given
from hypothesis import strategies as st

import sdar_envs
from sdar_agents.rollout.recording import (
    FILE,
    TrajectoryWriter,
    read_trajectories,
    trajectory_from_row,
    trajectory_row,
)
from sdar_agents.rollout.rollout import Rollout, RolloutResult, RolloutSettings
from sdar_agents.skill_use.prompts import SkillPrompts
from sdar_agents.types import Completion, Trajectory, Turn
from sdar_benchmarks.records.trajectories import RunIndex
from sdar_benchmarks.reports.episode_html import episode_address
from sdar_envs import Task
from sdar_envs.errors import CorruptData, InvalidOption, MissingData
from sdar_skills import Library, make_retriever

POLICY = tiny_policy()


TASK = Task("acme/train/0", "acme/Up-v0", "train", "up", "go up.", {"seed": 3}, suite="ladders")
IDS = st.lists(st.integers(0, 200_000), max_size=6).map(tuple)


@st.composite
def turns(draw: st.DrawFn) -> Turn:
    ids = draw(IDS)
    logprobs = draw(st.none() | st.lists(st.floats(-50, 0), min_size=len(ids), max_size=len(ids)).map(tuple))
    return Turn(
        observation=draw(st.text()),
        messages=({"role": "user", "content": draw(st.text())},),
        prompt_ids=draw(IDS),
        completion=Completion(ids, logprobs, draw(st.text()), draw(st.sampled_from(["eos", "stop", "length"]))),
        action=draw(st.text()),
        reward=draw(st.floats(-1, 10)),
        is_well_formed=draw(st.booleans()),
        is_action_valid=draw(st.none() | st.booleans()),
        score=draw(st.floats(0, 1)),
        env_reward=draw(st.none() | st.floats(0, 1)),
        teacher_prompt_ids=draw(st.none() | IDS),
        skill_ids=draw(st.lists(st.text(), max_size=2).map(tuple)),
    )


@st.composite
def trajectories(draw: st.DrawFn) -> Trajectory:
    return Trajectory(
        task=TASK,
        seed=1,
        group_id="g",
        episode_id="e",
        turns=tuple(draw(st.lists(turns(), max_size=3))),
        success=draw(st.booleans()),
        stop_reason=draw(st.sampled_from(["terminated", "step_limit", "token_limit"])),
        score=draw(st.floats(0, 1)),
        final_observation=draw(st.text()),
    )


@given(trajectories())
def test_a_trajectory_survives_json(original: Trajectory) -> None:
    line = json.dumps(trajectory_row(original), allow_nan=False)
    assert trajectory_from_row(json.loads(line)) == original


@pytest.fixture(scope="module")
def result() -> RolloutResult:
    tasks = sdar_envs.tasks("sdar/WebShop-v0", split="test", limit=2)
    settings = RolloutSettings("sdar/WebShop-v0", {"max_steps": 2}, max_new_tokens=6)
    skills = SkillPrompts(make_retriever("task_type", Library.load()), k=1, control_members=1)
    return Rollout(settings, POLICY, skills=skills).collect(tasks, group_size=2, seed=0, step=3)


def test_what_is_written_is_read_back_equal(result: RolloutResult, tmp_path: Path) -> None:
    with TrajectoryWriter(tmp_path / "run") as writer:
        writer.append(trajectory_row(trajectory, details={"step": 3}) for trajectory in result.trajectories)
        assert writer.size == (tmp_path / "run" / FILE).stat().st_size
    assert tuple(read_trajectories(tmp_path / "run")) == result.trajectories
    assert tuple(read_trajectories(tmp_path / "run" / FILE)) == result.trajectories
    assert [t.turns[0].teacher_prompt_ids is None for t in result.trajectories] == [False, True] * 2


def test_the_viewer_shows_it_with_the_teachers_prompt_gaps_and_gates(result: RolloutResult, tmp_path: Path) -> None:
    with TrajectoryWriter(tmp_path) as writer:
        for trajectory in result.trajectories:
            tokens = [
                [{"text": POLICY.decode(token), "gap": 0.5, "gate": 0.9} for token in turn.completion.token_ids]
                for turn in trajectory.turns
            ]
            row = trajectory_row(trajectory, tokens=tokens, decode=POLICY.tokenizer.decode, details={"step": 3})
            writer.append([row])
    index = RunIndex(tmp_path)
    entries = index.refresh()
    assert index.notes == []
    assert [entry.id.task_id for entry in entries] == [trajectory.task.id for trajectory in result.trajectories]
    assert {entry.stop_reason for entry in entries} == {"step_limit"}
    shown = index.trajectory(entries[0])
    assert shown["step"] == 3
    with visiting(tmp_path) as visitor:
        page = visitor.get(episode_address(entries[0].id)).text
    name = result.trajectories[0].turns[0].skill_ids[0]
    title = Library.load()[name.split("@")[0]].name
    for text in ("gap +0.500 nats", "gate 0.900", "mean gap", name, f"### {title}"):
        assert text in page
    assert tuple(read_trajectories(tmp_path)) == result.trajectories


def test_a_kill_loses_at_most_the_line_it_tore(result: RolloutResult, tmp_path: Path) -> None:
    rows = [trajectory_row(trajectory) for trajectory in result.trajectories]
    with TrajectoryWriter(tmp_path) as writer:
        writer.append(rows[:2])
        checkpoint = writer.size
        writer.append(rows[2:])
    path = tmp_path / FILE
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    assert tuple(read_trajectories(tmp_path)) == result.trajectories[:3]
    with TrajectoryWriter(tmp_path) as writer:
        writer.append(rows[3:])
    assert path.read_bytes() == whole
    # A trainer goes on from its checkpoint: what came after it is played again.
    with TrajectoryWriter(tmp_path, size=checkpoint) as writer:
        assert tuple(read_trajectories(tmp_path)) == result.trajectories[:2]
        writer.append(rows[2:])
    assert path.read_bytes() == whole
    with pytest.raises(InvalidOption, match=r"bytes, and 999999999 were wanted"):
        TrajectoryWriter(tmp_path, size=999_999_999)
    assert path.read_bytes() == whole


def test_text_that_is_no_text_survives(result: RolloutResult, tmp_path: Path) -> None:
    row: dict[str, Any] = trajectory_row(result.trajectories[0])
    row["turns"][0]["response"] = "lone \ud83d surrogate, \u2028, 漢"
    with TrajectoryWriter(tmp_path) as writer:
        writer.append([row])
    [read] = read_trajectories(tmp_path)
    assert read.turns[0].completion.text == "lone \ud83d surrogate, \u2028, 漢"


def test_format_1_is_migrated_and_not_misread(result: RolloutResult) -> None:
    row = trajectory_row(result.trajectories[0])
    for turn, is_well_formed in zip(row["turns"], (True, False), strict=True):
        # Format 1 kept the format's verdict under this name, and nothing of the environment's.
        turn["is_action_valid"] = is_well_formed
        for name in ("is_well_formed", "score", "env_reward"):
            del turn[name]
    row["end_reason"] = "truncated"
    for name in ("suite", "final_observation"):
        del row[name]
    read = trajectory_from_row(row)
    assert [turn.is_well_formed for turn in read.turns] == [True, False]
    assert [turn.is_action_valid for turn in read.turns] == [None, None]
    assert read.stop_reason == "step_limit"
    assert read.task == result.trajectories[0].task


def test_the_teachers_text_is_written_where_there_is_a_teacher(result: RolloutResult) -> None:
    taught, control = (trajectory_row(t, decode=POLICY.tokenizer.decode)["turns"] for t in result.trajectories[:2])
    skill = Library.load()[result.trajectories[0].turns[0].skill_ids[0].split("@")[0]]
    assert all(skill.text[:40] in turn["teacher_prompt"] for turn in taught)
    assert all("teacher_prompt" not in turn for turn in control)


def test_what_is_no_trajectory_is_refused(result: RolloutResult, tmp_path: Path) -> None:
    row = json.loads(json.dumps(trajectory_row(result.trajectories[0])))
    assert trajectory_from_row(row) == result.trajectories[0]
    for wrong in ({**row, "stop_reason": "bored"}, {"task_id": "x"}, {**row, "turns": [{"action": "look"}]}):
        with pytest.raises(CorruptData, match="this is not the trajectory of a rollout"):
            trajectory_from_row(wrong)
    with pytest.raises(MissingData, match="there are no trajectories"):
        list(read_trajectories(tmp_path))
    with pytest.raises(InvalidOption, match="'seed' is one of the trajectory's own"):
        trajectory_row(result.trajectories[0], details={"seed": 1})
    with pytest.raises(InvalidOption, match="tokens has 1 turns, the trajectory 2"):
        trajectory_row(result.trajectories[0], tokens=[None])
