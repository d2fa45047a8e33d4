import gymnasium
import pytest

import sdar_envs
from sdar_agents.baselines.explorer import Explorer
from sdar_envs.alfworld.instruction import Mission, read_instruction
from sdar_envs.errors import UnsupportedGame

ID = "sdar/ALFWorld-v0"


@pytest.mark.parametrize(
    ("instruction", "mission"),
    [
        ("put a mug in desk.", Mission("mug", "desk", None, None, 1)),
        ("put some vase on safe.", Mission("vase", "safe", None, None, 1)),
        ("put a clean egg in microwave.", Mission("egg", "microwave", None, "clean", 1)),
        ("cool some pan and put it in countertop.", Mission("pan", "countertop", None, "cool", 1)),
        ("heat some cup and put it in fridge.", Mission("cup", "fridge", None, "hot", 1)),
        ("put two book in bed.", Mission("book", "bed", None, None, 2)),
        ("find two soapbar and put them in cabinet.", Mission("soapbar", "cabinet", None, None, 2)),
        ("look at cd under the desklamp.", Mission("cd", None, "desklamp", None, 1)),
        ("examine the pen with the desklamp.", Mission("pen", None, "desklamp", None, 1)),
    ],
)
def test_instructions(instruction, mission):
    assert read_instruction(instruction) == mission


def test_every_embedded_instruction_is_understood_as_its_goal():
    for task in sdar_envs.tasks(ID, split="valid_unseen"):
        mission = read_instruction(task.instruction)
        kind = {None: "simple", "hot": "heat", "cool": "cool", "clean": "clean"}[mission.treatment]
        kind = "two" if mission.count == 2 else "look" if mission.lamp_class else kind
        assert kind in task.task_type


def test_a_sentence_of_a_person_is_refused():
    with pytest.raises(UnsupportedGame, match="Chill the egg"):
        read_instruction("Chill the egg, then warm it.")


def play(env, observation, info):
    """Let the explorer finish the episode; return whether it won. It must never try what is impossible."""
    explorer = Explorer()
    explorer.reset(observation, info)
    over = False
    while not over:
        observation, _, terminated, truncated, info = env.step(explorer.act(observation, info))
        assert info["is_action_valid"], explorer._action
        over = terminated or truncated
    return info["won"]


class Blindfold(gymnasium.Wrapper):
    """Lets only what a player sees through to the explorer: everything else in info is gone."""

    def reset(self, **arguments):
        observation, info = self.env.reset(**arguments)
        return observation, self._visible(info)

    def step(self, action):
        *result, info = self.env.step(action)
        return (*result, self._visible(info) | {key: info[key] for key in ("won", "is_action_valid")})

    @staticmethod
    def _visible(info):
        return {key: info[key] for key in ("instruction", "admissible_commands")}


@pytest.mark.parametrize("wording", ["move", "put"])
def test_explorer_wins_at_least_nine_of_ten(wording):
    env = Blindfold(gymnasium.make(ID, split="valid_unseen", wording=wording))
    tasks = sdar_envs.tasks(ID, split="valid_unseen")
    won = [play(env, *env.reset(options={"task_id": task.id})) for task in tasks]
    assert sum(won) / len(won) >= 0.9


def test_explorer_takes_over_in_the_middle():
    """After 12 random commands of somebody else, without having seen them."""
    env = gymnasium.make(ID, split="valid_seen", max_steps=70)
    won = []
    for number, task in enumerate(sdar_envs.tasks(ID, split="valid_seen", limit=60)):
        _, info = env.reset(options={"task_id": task.id})
        terminated = False
        for step in range(12):
            commands = [c for c in info["admissible_commands"] if not c.startswith(("look", "help", "inv", "exam"))]
            observation, _, terminated, _, info = env.step(commands[(number * 7 + step * 13) % len(commands)])
            if terminated:
                break
        if not terminated:
            won.append(play(env, observation, info))
    assert len(won) >= 50
    assert sum(won) / len(won) >= 0.9
