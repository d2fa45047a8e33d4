"""Whole episodes as a `rollout_func`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sdar_envs.chat import Messages
from sdar_envs.control_tokens import break_control_tokens
from sdar_envs.errors import InvalidOption
from sdar_envs.importing import import_extra
from sdar_envs.integrations.episodes import METRICS, ScoredEpisode
from sdar_envs.prompt import PromptStyle

__all__ = ["EpisodeRollouts", "check_version", "episode_return"]

VERSION = "1.16"
"""The minor version of TRL whose private methods are used."""

_MARK = "WHERE-A-COMPLETION-ENDS"


class EpisodeRollouts:
    """A `rollout_func` that plays whole episodes, each one growing chat and one sequence.

    The rows are those of `make_dataset(..., for_rollouts=True)`. An episode ends as the environment says, or when
    `max_completion_length` or the model's context is full. `episode_return` is the reward function that goes with it;
    others get `episode_return` and the metrics of `sdar_envs.integrations.episodes.ScoredEpisode` by these names.

    Args:
        env_id: a registered id or `module:id`.
        turn_tokens: tokens that the model may write in a turn.
        style: see `sdar_envs.ChatEpisode`.
        prefilled: see `sdar_envs.ChatEpisode`.
        **env_kwargs: arguments of the environment.

    Attributes:
        episodes: one for each row of the largest batch so far.

    Raises:
        InvalidOption: `turn_tokens` is not positive, or (when it is called) TRL is of another version.
    """

    def __init__(
        self,
        env_id: str,
        *,
        turn_tokens: int = 512,
        style: str | PromptStyle | None = None,
        prefilled: str = "",
        **env_kwargs: Any,
    ) -> None:
        if turn_tokens < 1:
            raise InvalidOption(f"turn_tokens is {turn_tokens}; wanted 1 or more.")
        self.turn_tokens = turn_tokens
        self._make = partial(ScoredEpisode, env_id, mode="appended", style=style, prefilled=prefilled, **env_kwargs)
        self.episodes = [self._make()]

    def __call__(self, prompts: list[Messages], trainer: Any) -> dict[str, Any]:
        """Play the episodes of a batch, in lockstep.

        Args:
            prompts: name the tasks.
            trainer: generates.
        """
        check_version("EpisodeRollouts")
        self.episodes += [self._make() for _ in range(len(prompts) - len(self.episodes))]
        return _play(self.episodes[: len(prompts)], [p[-1]["content"] for p in prompts], trainer, self.turn_tokens)


def episode_return(completions: Sequence[Any], episode_return: Sequence[float], **_: Any) -> list[float]:
    """Reward function of `EpisodeRollouts`: the sum of their rewards."""
    return list(episode_return)


def check_version(what: str) -> None:
    """Refuse a TRL whose private methods were not tried.

    Args:
        what: needs them; the subject of the error message.

    Raises:
        MissingExtra: TRL is not installed.
        InvalidOption: it is of another minor version.
    """
    found = import_extra("trl", extra="trl", purpose=what).__version__
    if found.split(".")[:2] != VERSION.split("."):
        raise InvalidOption(
            f"{what} is written against TRL {VERSION}, and {found} is installed: pip install 'trl=={VERSION}.*'"
        )


@dataclass
class _Row:
    """An episode in play, as one sequence of tokens."""

    episode: ScoredEpisode
    prompt_ids: list[int]
    completion_ids: list[int] = field(default_factory=list)
    env_mask: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    def extend(self, ids: list[int], logprobs: Sequence[float] | None, by_model: bool) -> None:
        self.completion_ids += ids
        self.env_mask += [int(by_model)] * len(ids)
        self.logprobs += [0.0] * len(ids) if logprobs is None else logprobs[: len(ids)]


def _play(episodes: list[ScoredEpisode], task_ids: list[str], trainer: Any, turn_tokens: int) -> dict[str, Any]:
    """Play an episode of each task, in lockstep, and return what a `rollout_func` does."""
    steps = [episode.reset(task_id=task_id) for episode, task_id in zip(episodes, task_ids, strict=True)]
    prompts, _, _ = trainer._tokenize_prompts([_plain(step.messages) for step in steps])
    rows = [_Row(episode, list(ids)) for episode, ids in zip(episodes, prompts, strict=True)]
    context = trainer.model.config.get_text_config().max_position_embeddings
    for row, task_id in zip(rows, task_ids, strict=True):
        if len(row.prompt_ids) >= context:
            raise InvalidOption(
                f"the prompt of {task_id} has {len(row.prompt_ids)} tokens, and the model reads {context}: choose a "
                "model with a longer context."
            )
    running, has_logprobs = list(rows), True
    while running:
        with _turn_limit(trainer, turn_tokens):
            texts, logprobs = trainer._generate_single_turn(
                [row.prompt_ids + row.completion_ids for row in running], None, {}, 1
            )
        has_logprobs = has_logprobs and logprobs is not None
        for number, row in enumerate(running):
            room = min(trainer.max_completion_length, context - len(row.prompt_ids)) - len(row.completion_ids)
            _take(row, texts[number][:room], None if logprobs is None else logprobs[number], room, trainer)
        running = [row for row in running if row.env_mask[-1] == 0]
    metrics = [row.episode.metrics() for row in rows]
    return {
        **{name: [getattr(row, name) for row in rows] for name in ("prompt_ids", "completion_ids", "env_mask")},
        "logprobs": [row.logprobs for row in rows] if has_logprobs else None,
        "episode_return": [row.episode.episode_return for row in rows],
        **{name: [numbers[name] for numbers in metrics] for name in METRICS},
    }


def _take(row: _Row, ids: list[int], logprobs: Sequence[float] | None, room: int, trainer: Any) -> None:
    """Take a turn; what the environment says follows if there is room for an answer to it."""
    row.extend(ids, logprobs, by_model=True)
    step = row.episode.step(trainer.processing_class.decode(ids, skip_special_tokens=True))
    if step.is_over:
        return
    said = _later_ids(_plain(step.new_messages), trainer, is_closed=ids[-1] in trainer.eos_token_ids)
    if len(ids) + len(said) < room:
        row.extend(said, None, by_model=False)


def _later_ids(messages: Messages, trainer: Any, *, is_closed: bool) -> list[int]:
    """Return the tokens between two completions: the end of the first, unless the model wrote it, and the messages."""
    before = [{"role": "user", "content": "Go on."}, {"role": "assistant", "content": _MARK}]
    text = trainer.processing_class.apply_chat_template(
        before + messages,
        tokenize=False,
        add_generation_prompt=True,
        chat_template=trainer.chat_template,
        **trainer.chat_template_kwargs,
    )
    ids: list[int] = trainer.processing_class(text.partition(_MARK)[2], add_special_tokens=False)["input_ids"]
    for place, token in enumerate(ids):
        if token in trainer.eos_token_ids:
            return ids[place + is_closed :]
    raise InvalidOption(
        "the chat template ends completions without an end-of-sequence token, so that turns cannot be told apart: give "
        "the tokenizer another chat_template."
    )


def _plain(messages: Messages) -> Messages:
    return [{**message, "content": break_control_tokens(message["content"])} for message in messages]


@contextmanager
def _turn_limit(trainer: Any, tokens: int) -> Iterator[None]:
    """Context in which the trainer generates at most so many tokens."""
    of_vllm = (trainer.vllm_generation, "max_completion_length") if trainer.use_vllm else None
    owner, name = of_vllm or (trainer.generation_config, "max_new_tokens")
    limit = getattr(owner, name)
    setattr(owner, name, min(tokens, limit))
    try:
        yield
    finally:
        setattr(owner, name, limit)
