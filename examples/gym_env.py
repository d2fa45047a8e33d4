"""A plain Gymnasium text environment, without tasks: it plays, evaluates and trains through `sdar_envs.from_gym`.

    sdar eval gym_env:acme/Guess-v0 --agent random --limit 20

In Python: `sdar_envs.make_text_env("gym_env:acme/Guess-v0")`, or `sdar_envs.from_gym(env)` of one that you made.
"""

from typing import Any

import gymnasium

from sdar_envs import Unicode


class GuessEnv(gymnasium.Env[str, str]):
    """Guess a number from 1 to 9 in a few attempts; the answer says whether it is larger or smaller."""

    def __init__(self) -> None:
        self.observation_space = Unicode()
        self.action_space = Unicode()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)  # one seed is one task: the seed must decide the whole episode
        self._secret = int(self.np_random.integers(1, 10))
        return "Guess a number from 1 to 9.", self._info()

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        guess = int(action) if action.isascii() and action.isdigit() and len(action) == 1 else 0
        if guess == self._secret:
            return "Yes.", 1.0, True, False, self._info()
        answer = "Give a digit." if guess == 0 else "It is larger." if guess < self._secret else "It is smaller."
        return answer, 0.0, False, False, self._info()

    def _info(self) -> dict[str, Any]:
        return {"admissible_commands": [str(number) for number in range(1, 10)]}  # optional: agents may choose from it


gymnasium.register("acme/Guess-v0", entry_point="gym_env:GuessEnv", max_episode_steps=5)
