"""Rollout settings: environment, prompts, sampling, reward function, limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sdar_agents.engines.policy import Sampling
from sdar_agents.settings.checks import check_settings, path_setting, setting
from sdar_envs.chat import ChatMode
from sdar_envs.errors import InvalidOption
from sdar_envs.importing import is_import_path
from sdar_envs.prompt import STYLES

__all__ = ["OnFailure", "Overlong", "RolloutSettings"]

Overlong = Literal["shrink", "end", "error"]
"""What becomes of a prompt that is too long. `shrink`: it loses history, oldest turn first, and if that is not enough
the episode ends. `end`: the episode ends. `error`: an exception."""

OnFailure = Literal["raise", "drop"]
"""What becomes of an episode whose environment raises, such as one whose search engine is down. `raise`: the rollout
raises it too. `drop`: the episode is left out of the result and named in `failures`; if all episodes fail, the last
exception is raised."""


@dataclass(frozen=True, slots=True)
class RolloutSettings:
    """Environment, prompt and sampling of a rollout.

    Attributes:
        env_id: a registered `TextEnv`, such as `sdar/ALFWorld-v0`; `module:acme/Up-v0` imports the module that
            registers it.
        env_kwargs: as for `gymnasium.make`, such as `{"split": "train", "max_steps": 30}`.
        reward: `module:function`, a reward function of your own (`sdar_agents.rollout.rewards.RewardFunction`), such as
            `my_rewards:shaped`; null trains on the environment's reward.
        style: prompt style: one of `sdar_envs.prompt.STYLES`, `module:STYLE` or a YAML file; null is the environment's
            own, or that of its suite.
        history: `windowed` builds each prompt anew; with `appended` an episode is one growing chat and one training
            row, and the rollout computes keys and values of each token once. A chat that becomes too long ends its
            episode.
        history_length: how many of the latest turns a windowed prompt shows.
        max_prompt_tokens: limit of a prompt, of a growing chat as a whole; null is what the policy's context leaves.
        max_new_tokens: limit of a completion.
        temperature: of the sampling, above 0.
        greedy: take the likeliest tokens.
        stop: strings that end a completion, such as `</action>`.
        overlong: see `Overlong`.
        on_failure: see `OnFailure`.
        terse: leave out the role and the answer format, as in the demonstrations of tiny models.
        system: text of a system message; null for no such message.
        prefilled: what the chat template puts at the start of the model's turn, such as `<think>`; null is what the
            policy's template says, and for an endpoint what its completions show.

    Raises:
        InvalidOption: a value has a wrong type or is out of range.
    """

    env_id: str
    env_kwargs: Mapping[str, Any] = field(default_factory=dict, hash=False)
    reward: str | None = None
    style: str | None = path_setting(None, names=("default", *STYLES))
    history: ChatMode = "windowed"
    history_length: int = setting(2, low=0)
    max_prompt_tokens: int | None = setting(None, low=1)
    max_new_tokens: int = setting(512, low=1)
    temperature: float = setting(1.0, above=0)
    greedy: bool = False
    stop: tuple[str, ...] = ()
    overlong: Overlong = "shrink"
    on_failure: OnFailure = "raise"
    terse: bool = False
    system: str | None = None
    prefilled: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", self.sampling.stop)
        check_settings(self)
        object.__setattr__(self, "env_kwargs", dict(self.env_kwargs))
        if self.reward is not None and not is_import_path(self.reward):
            raise InvalidOption(f"reward is {self.reward!r}; wanted module:function, such as my_rewards:shaped.")

    @property
    def sampling(self) -> Sampling:
        """The part of the settings that the policy gets."""
        return Sampling(self.max_new_tokens, self.temperature, self.greedy, self.stop)
