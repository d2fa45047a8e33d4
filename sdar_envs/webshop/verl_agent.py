"""WebShop as verl-agent and SDAR run it: groups of workers, each with goals of its own, and their draws of goals.

    envs = VerlAgentWebShop(seed=0, env_num=16, group_n=8)
    observations, infos = envs.reset()

Differences from verl-agent's `WebshopMultiProcessEnv`: workers share one process and one shop; `step` takes None for a
finished worker, or ignores its command; after the end, `available_actions` are those of the last page (none), while
verl-agent shows the first page of the random session that it has begun. Prompts are not part of it: the style
`verl-agent/webshop` reads completions as its projection does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gymnasium.vector import AutoresetMode

from sdar_envs.core import is_integer
from sdar_envs.errors import InvalidOption
from sdar_envs.vector import TextVectorEnv
from sdar_envs.webshop.env import WebShopEnv
from sdar_envs.webshop.goals import VERL_AGENT_SPLITS, verl_agent_indices

__all__ = ["VerlAgentWebShop"]

_VALIDATION_SEED = 1000


class VerlAgentWebShop(TextVectorEnv):
    """Vector of `env_num` groups of `group_n` workers, with verl-agent's seeds, goals and rewards.

    Group g loads the shop with the seed `seed + g`, for validation `seed + 1000 + g`, which decides its prices, price
    limits and order of goals. Each `reset()` gives each group the index that verl-agent draws; the same index is
    another goal in each group. The reward is 10 for a score of 1, else 0.

    Args:
        seed: the trainer's `env.seed`.
        is_train: play the training pool (goals from 500); otherwise the validation pool (0 to 499).
        env_num: groups: verl-agent's `train_batch_size` or `val_batch_size`.
        group_n: workers of a group; 1 for validation.
        max_steps: step limit.
        reward_scale: the reward of a score of 1.
        **arguments: of `WebShopEnv`: `data`, `data_dir`, `goals`, `observation`, ...

    Raises:
        InvalidOption: a number is out of range, or an argument is one that the protocol sets.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        is_train: bool = True,
        env_num: int = 16,
        group_n: int = 8,
        max_steps: int = 15,
        reward_scale: float = 10.0,
        **arguments: Any,
    ) -> None:
        for name, number, least in (("seed", seed, 0), ("env_num", env_num, 1), ("group_n", group_n, 1)):
            if not is_integer(number) or number < least:
                raise InvalidOption(f"{name} is {number!r}; wanted an integer of at least {least}.")
        fixed = sorted({"split", "protocol", "worker_seed", "reward"} & arguments.keys())
        if fixed:
            raise InvalidOption(f"{', '.join(fixed)} cannot be given, because verl-agent's protocol sets it.")
        self.split = "train" if is_train else "valid"
        first_seed = seed if is_train else seed + _VALIDATION_SEED
        envs = [
            WebShopEnv(
                split=self.split,
                protocol="verl-agent",
                worker_seed=first_seed + worker // group_n,
                reward="success",
                reward_scale=reward_scale,
                max_steps=max_steps,
                **arguments,
            )
            for worker in range(env_num * group_n)
        ]
        super().__init__(envs, group_size=group_n, autoreset_mode=AutoresetMode.DISABLED, ignore_finished=True)
        self._start, end = VERL_AGENT_SPLITS[self.split]
        count = len(envs[0].source.goals)
        # Every group has as many goals: only their order and their prices differ.
        self._indices = verl_agent_indices(first_seed, env_num, self._start, count if end is None else min(end, count))

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> tuple[tuple[str, ...], dict[str, Any]]:
        """Start an episode in every worker, with the goals that verl-agent draws next; `options` as elsewhere.

        Raises:
            InvalidOption: a seed was given: it belongs to the vector.
        """
        if seed is not None:
            raise InvalidOption(f"seed is {seed!r}, but verl-agent seeds workers when they are made: pass it there.")
        if options is not None:
            return super().reset(options=options)
        members = self.envs[:: self.group_size]
        ids = [
            env.source.task(self.split, index - self._start).id
            for env, index in zip(members, next(self._indices), strict=True)
        ]
        return super().reset(options={"task_id": ids})
