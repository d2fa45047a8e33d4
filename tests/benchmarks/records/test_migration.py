"""Run folders of format 1, as release e307e3b wrote them: read by everything that reads runs, and never misread.

`format_1/scripted` and `format_1/model` were played with that commit: two tasks of four turns each. The script's
second command is one that the environment does not accept. The model's third answer is well-formed with such a command;
its fourth is malformed, and happens to be a command.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.viewers import visiting

from sdar_agents import AgentPool, Decision
from sdar_benchmarks.analysis.compare import compare_runs
from sdar_benchmarks.analysis.summary import summarize
from sdar_benchmarks.evaluation.evaluate import Plan, evaluate
from sdar_benchmarks.evaluation.panels import PanelSpec
from sdar_benchmarks.leaderboard.adding import add_run
from sdar_benchmarks.records.provenance import versions
from sdar_benchmarks.records.runs import FORMAT, read_config, read_episodes, read_trajectories
from sdar_benchmarks.records.trajectories import RunIndex
from sdar_benchmarks.reports.report import write_comparison, write_report
from sdar_envs.errors import InvalidOption

OLD = Path(__file__).parent / "format_1"
ALFWORLD = "sdar/ALFWorld-v0"


@pytest.fixture
def old(tmp_path):
    shutil.copytree(OLD, tmp_path / "old")
    return tmp_path / "old"


def verdicts(folder: Path) -> list[tuple[bool | None, bool | None]]:
    [first, _] = read_trajectories(folder)
    return [(turn["is_well_formed"], turn["is_action_valid"]) for turn in first["turns"]]


def test_the_fixture_is_of_format_1() -> None:
    for name in ("scripted", "model"):
        assert json.loads((OLD / name / "config.json").read_text())["format"] == 1
        row = json.loads((OLD / name / "episodes.jsonl").read_text().splitlines()[0])
        assert "malformed_answers" not in row


def test_a_scripted_agents_flag_was_the_environments_word(old) -> None:
    assert verdicts(old / "scripted") == [(None, True), (None, False), (None, True), (None, True)]
    assert [(e.invalid_actions, e.malformed_answers) for e in read_episodes(old / "scripted")] == [(1, None)] * 2
    numbers = summarize(read_episodes(old / "scripted"))
    assert (numbers.invalid_share, numbers.malformed_share) == (0.25, None)


def test_a_models_flag_says_which_only_where_it_was_true(old) -> None:
    assert verdicts(old / "model") == [(True, True), (True, True), (None, None), (None, None)]
    assert [(e.invalid_actions, e.malformed_answers) for e in read_episodes(old / "model")] == [(None, None)] * 2
    numbers = summarize(read_episodes(old / "model"))
    assert (numbers.invalid_share, numbers.malformed_share) == (None, None)


def test_an_episode_without_its_trajectory_is_not_guessed_at(old) -> None:
    (old / "scripted" / "trajectories.jsonl").unlink()
    assert [e.invalid_actions for e in read_episodes(old / "scripted")] == [None, None]


def test_a_models_episode_without_a_fault_has_none_of_either_kind(old) -> None:
    path = old / "model" / "episodes.jsonl"
    path.write_text(path.read_text().replace('"invalid_actions": 2', '"invalid_actions": 0'))
    assert [(e.invalid_actions, e.malformed_answers) for e in read_episodes(old / "model")] == [(0, 0)] * 2


def test_a_training_runs_flag_was_the_format_alone(tmp_path) -> None:
    turn = {"observation": "A room.", "response": "look", "prompt_ids": [1], "is_action_valid": False}
    row = {"env_id": "e", "task_id": "t", "seed": 0, "instruction": "", "turns": [turn]}
    (tmp_path / "trajectories.jsonl").write_text(json.dumps(row) + "\n")
    index = RunIndex(tmp_path)
    [entry] = index.refresh()
    [migrated] = index.trajectory(entry)["turns"]
    assert (migrated["is_well_formed"], migrated["is_action_valid"]) == (False, None)
    assert "is_usable" not in migrated


def test_the_configuration_says_where_it_comes_from(old) -> None:
    config = read_config(old / "model")
    assert (config["format"], config["migrated_from"]) == (FORMAT, 1)
    assert config["panels"][0]["env_id"] == ALFWORLD
    assert "suites" not in config


def test_reports_and_comparisons_read_it_and_say_so(old) -> None:
    text = write_report(old / "model").read_text()
    assert "begun in format 1" in text
    assert "malformed or invalid" in text
    assert "25.0%" in write_report(old / "scripted").read_text()
    write_comparison([old / "model", old / "scripted"], old / "both.html")
    assert compare_runs(old / "model", old / "scripted").differences[0].episodes == 2


def test_the_viewer_shows_it_without_a_guess(old) -> None:
    with visiting(old / "model") as client:
        text = client.get("/episode?env=sdar/ALFWorld-v0&task=alfworld/valid_unseen/0000&seed=0").text
    assert text.count('<span class="tag bad">malformed or invalid</span>') == 2
    assert "malformed answer" not in text
    assert "invalid action" not in text
    assert "malformed or invalid 2" in text


def test_a_record_wants_the_invalid_actions_alone(old, tmp_path) -> None:
    [path] = add_run(old / "scripted", tmp_path)
    assert json.loads(path.read_text())["metrics"]["invalid"] == 0.25
    with pytest.raises(InvalidOption, match=r"format 1 counts malformed answers and invalid actions as one"):
        add_run(old / "model", tmp_path)


class Mumbler:
    """The agent that played `format_1/scripted`."""

    async def reset(self, *_):
        self.turn = 0

    async def act(self, observation, info):
        self.turn += 1
        return Decision("polish the moon" if self.turn == 2 else info["admissible_commands"][0])


def test_resuming_appends_rows_of_the_new_format(old, monkeypatch) -> None:
    folder = old / "scripted"
    # The run is of the time when a limit took the first tasks; today its panel would have another fingerprint.
    monkeypatch.setattr("sdar_benchmarks.evaluation.panels.sample_indices", lambda source, split, limit: range(limit))
    config = json.loads((folder / "config.json").read_text())
    config["versions"] = versions()  # another version of this package would be refused
    config["agent"]["name"] = "mumbler"
    (folder / "config.json").write_text(json.dumps(config))
    for file in ("episodes.jsonl", "trajectories.jsonl"):
        first, _ = (folder / file).read_text().splitlines()
        (folder / file).write_text(first + "\n")
    agents = AgentPool("mumbler", Mumbler)
    plan = Plan([PanelSpec(ALFWORLD, "valid_unseen", 2, {"max_steps": 4})])
    evaluation = evaluate(plan, agents, out=folder, resume=True)
    assert [(e.invalid_actions, e.malformed_answers) for e in evaluation.episodes] == [(1, None)] * 2
    assert read_episodes(folder) == list(evaluation.episodes)
    kept, appended = [json.loads(line) for line in (folder / "trajectories.jsonl").read_text().splitlines()]
    assert "is_well_formed" not in kept["turns"][0]
    assert appended["turns"][0]["is_well_formed"] is None
    # What was played then is what is played now.
    assert list(read_trajectories(folder)) == list(read_trajectories(OLD / "scripted"))
    assert json.loads((folder / "config.json").read_text())["migrated_from"] == 1
