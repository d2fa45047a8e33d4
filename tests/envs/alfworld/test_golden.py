"""What TextWorld said to 480 commands (`record_golden.py`), said again by our engine, without TextWorld."""

import gzip
import json
from pathlib import Path

import gymnasium
import pytest
from helpers.transcripts import first_difference

from sdar_envs.alfworld.official import load_game

EPISODES = json.loads(gzip.decompress((Path(__file__).parent / "golden.json.gz").read_bytes()))


def name(episode):
    return f"{episode['task_id']}-{episode['wording']}"


def test_all_task_types_and_wordings_are_there():
    assert len({name(episode) for episode in EPISODES}) == 12
    assert sum(len(episode["commands"]) for episode in EPISODES) == 480
    assert any(record["won"] for episode in EPISODES for record in episode["transcript"])


@pytest.mark.parametrize("episode", EPISODES, ids=name)
def test_engine_repeats_textworld(episode, tmp_path):
    path = tmp_path / "game.tw-pddl"
    path.write_text(json.dumps(episode["file"]))
    game = load_game(path)
    state = game.initial.copy()
    observation = game.first_observation
    records = []
    for command in [None, *episode["commands"]]:
        if command is not None:
            action = game.parse(state, command.strip(), game.local_actions(state))
            observation = "Nothing happens." if action is None else game.apply(state, action)
        admissible = game.commands(state, game.local_actions(state))
        won = state.won
        records.append(
            {"observation": observation, "score": int(won), "done": won, "won": won, "admissible": admissible}
        )
    # TextWorld gives no score at reset.
    records[0] |= {"score": 0, "done": False}
    assert first_difference(records, episode["transcript"]) is None


@pytest.mark.parametrize("episode", EPISODES, ids=name)
def test_environment_repeats_textworld_until_the_game_is_won(episode):
    """The embedded game of that id, through Gymnasium, is the game that was recorded."""
    env = gymnasium.make("sdar/ALFWorld-v0", wording=episode["wording"])
    observation, info = env.reset(options={"task_id": episode["task_id"]})
    reward, terminated = 0.0, False
    for command, record in zip([None, *episode["commands"]], episode["transcript"], strict=True):
        if command is not None:
            observation, reward, terminated, _, info = env.step(command)
        assert (observation, reward, info["won"]) == (record["observation"], record["score"], record["won"])
        assert info["admissible_commands"] == record["admissible"]
        if terminated:
            break
