"""Tool classes for `environment_factory`, and data sets of tasks."""

from __future__ import annotations

from typing import Any

from sdar_envs.control_tokens import break_control_tokens
from sdar_envs.importing import import_extra
from sdar_envs.integrations.episodes import ScoredEpisode
from sdar_envs.registry import tasks
from sdar_envs.tools import ANSWER, CLICK, FIND, SEARCH

__all__ = ["ALFWorldTools", "CommandTools", "SearchQATools", "WebShopTools", "make_dataset"]

OVER = "The episode is over: nothing more can be done."


def make_dataset(
    env_id: str, *, split: str, limit: int | None = None, for_rollouts: bool = False, **kwargs: Any
) -> Any:
    """Return the tasks of a split as a `datasets.Dataset`, for `train_dataset` and `eval_dataset`.

    Its columns are `prompt`, `task_id`, `task_type` and `environment`, the suite; for several suites in one run,
    concatenate their datasets and give `environment_factory` a dictionary with these names.

    Args:
        env_id: a registered id or `module:id`.
        split: the split's name.
        limit: only the first so many tasks; needed for a split without end.
        for_rollouts: the prompts name the tasks, because `EpisodeRollouts` is given nothing else. With tools
            they are empty, and the environment's `reset` writes them.
        **kwargs: arguments of the environment.

    Raises:
        MissingExtra: datasets is not installed.
        InvalidOption: the split has no end and no limit was given.
    """
    datasets = import_extra("datasets", extra="trl", purpose="a data set of tasks")
    return datasets.Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": task.id if for_rollouts else ""}],
                "task_id": task.id,
                "task_type": task.task_type,
                "environment": task.suite,
            }
            for task in tasks(env_id, split=split, limit=limit, **kwargs)
        ]
    )


class _Tools:
    """Base of the tool classes: one episode after the other, whose commands come as calls of tools.

    TRL makes a tool of each public method but `reset` and `get_reward`, so nothing else here is public.

    Args:
        env_id: a registered id or `module:id`.
        **env_kwargs: arguments of the environment.
    """

    def __init__(self, env_id: str, **env_kwargs: Any) -> None:
        self._episode = ScoredEpisode(env_id, mode="appended", action_format="tools", **env_kwargs)

    def reset(self, task_id: str | None = None, **_: Any) -> str:
        """Start an episode and return its prompt, which TRL appends to the row's.

        Args:
            task_id: the task; None for the split's next one.
            **_: the other columns of the row.
        """
        step = self._episode.reset(task_id=task_id)
        return break_control_tokens(step.messages[-1]["content"])

    def get_reward(self) -> float:
        """Return the sum of the rewards of the episode so far."""
        return self._episode.episode_return

    def _act(self, command: str) -> str:
        if self._episode.last is None or self._episode.last.is_over:
            return OVER
        step = self._episode.act(command)
        return break_control_tokens(step.observation if step.is_over else step.new_messages[-1]["content"])


class CommandTools(_Tools):
    """An environment whose commands are the argument of one tool, `act`: ALFWorld, and most of your own.

    Args:
        env_id: a registered id or `module:id`.
        **env_kwargs: arguments of the environment.
    """

    def act(self, command: str) -> str:
        """Give one command.

        Args:
            command: The command, word for word as it is listed.
        """
        return self._act(command)


class ALFWorldTools(CommandTools):
    """ALFWorld with the tool `act`; arguments are those of the environment."""

    def __init__(self, **env_kwargs: Any) -> None:
        super().__init__("sdar/ALFWorld-v0", **env_kwargs)


class WebShopTools(_Tools):
    """WebShop with the tools `search` and `click`; arguments are those of the environment."""

    def __init__(self, **env_kwargs: Any) -> None:
        super().__init__("sdar/WebShop-v0", **env_kwargs)

    def search(self, query: str) -> str:
        """Look for products; shows ten to a page.

        Args:
            query: Words to look for.
        """
        return self._act(FIND.command(query))

    def click(self, element: str) -> str:
        """Follow a link or press a button of the page, such as a product's code, an option's value or buy now.

        Args:
            element: The link or button, word for word as it is listed.
        """
        return self._act(CLICK.command(element))


class SearchQATools(_Tools):
    """Search-QA with the tools `search` and `answer`; arguments are those of the environment."""

    def __init__(self, **env_kwargs: Any) -> None:
        super().__init__("sdar/SearchQA-v0", **env_kwargs)

    def search(self, query: str) -> str:
        """Search the encyclopedia; shows a few passages.

        Args:
            query: What to search for.
        """
        return self._act(SEARCH.command(query))

    def answer(self, text: str) -> str:
        """Answer the question, which ends the task.

        Args:
            text: The bare answer: a name, number or date, and no sentence.
        """
        return self._act(ANSWER.command(text))
