"""Constrained decoding: score the admissible commands and take the likeliest.

`ConstrainedPolicy` wraps a policy in this process. The model thinks freely up to where the command would begin; then
each admissible command is scored by the sum of the log-probabilities of its tokens and of the closing tag, and the
likeliest is taken, or one is sampled in proportion to their probabilities at the temperature. If the model never opens
the command's tag, the tag is opened for it. So every command is admissible, however badly the model spells.

For evaluation only: commands are not sampled from the model's own distribution, so completions have no
log-probabilities. Environments that list no commands or templates of commands (`search[<your query>]`), and suites
whose tag names the command, are refused.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import torch

from sdar_agents.engines.policy import Messages, Request, Sampling
from sdar_agents.engines.transformers import TransformersPolicy
from sdar_agents.scoring.batch import Sequences
from sdar_agents.scoring.logprobs import score_rows
from sdar_agents.types import Completion
from sdar_envs.errors import InvalidOption
from sdar_envs.prompt import PromptStyle
from sdar_envs.rng import derive_seed

__all__ = ["ConstrainedPolicy", "score_continuations"]

# A command with a blank to fill in, such as `search[<your query>]`.
_TEMPLATE = re.compile(r"\[<[^<>]*>\]$")


class ConstrainedPolicy:
    """A `Policy` that decodes admissible commands only.

    Args:
        policy: generates the thoughts; its model scores the commands.
        max_batch_tokens: tokens in a batch of sequences that are scored together, padding included.
    """

    def __init__(self, policy: TransformersPolicy, *, max_batch_tokens: int = 1 << 15) -> None:
        self._policy = policy
        self._max_batch_tokens = max_batch_tokens

    @property
    def context_length(self) -> int | None:
        """The wrapped policy's context length."""
        return self._policy.context_length

    @property
    def prefilled(self) -> str:
        """What the wrapped policy's chat template writes at the start of the model's turn."""
        return self._policy.prefilled

    def render(self, messages: Messages) -> str:
        """Return messages rendered by the wrapped policy."""
        return self._policy.render(messages)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the wrapped policy's ids of a rendered prompt."""
        return self._policy.encode(text)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Return a completion with an admissible command for each request.

        Raises:
            InvalidOption: a request has no situation, its environment lists no commands or templates of commands, or
                its suite's format has no tag around commands.
        """
        styles = [_style(request) for request in requests]
        thoughts = self._think(requests, styles, sampling)
        begun = [self._begin_command(thought, style) for thought, style in zip(thoughts, styles, strict=True)]
        commands = [self._encode_commands(request, style) for request, style in zip(requests, styles, strict=True)]
        scores = score_continuations(
            self._policy.model,
            [request.prompt_ids + ids for request, ids in zip(requests, begun, strict=True)],
            commands,
            max_batch_tokens=self._max_batch_tokens,
        )
        completions = []
        for request, ids, options, found in zip(requests, begun, commands, scores, strict=True):
            token_ids = ids + options[_pick(found, sampling, request.seed)]
            text = self._policy.tokenizer.decode(list(token_ids), skip_special_tokens=True)
            completions.append(Completion(token_ids, None, text, "stop"))
        return completions

    def _think(
        self, requests: Sequence[Request], styles: Sequence[PromptStyle], sampling: Sampling
    ) -> list[Completion]:
        """Return the beginnings of completions, up to the opened tag; one inside a thought is not the command's."""
        sampling = replace(sampling, stop=(*sampling.stop, *dict.fromkeys(map(_opening, styles))))
        thoughts = self._policy.generate(requests, sampling)
        for i, (request, style) in enumerate(zip(requests, styles, strict=True)):
            while (
                _has_opened(thoughts[i], style)
                and self._is_thinking(thoughts[i])
                and len(thoughts[i].token_ids) < sampling.max_new_tokens
            ):
                ids = thoughts[i].token_ids
                longer = replace(
                    request, prompt_ids=request.prompt_ids + ids, seed=derive_seed(request.seed, f"thought/{len(ids)}")
                )
                (more,) = self._policy.generate(
                    [longer], replace(sampling, max_new_tokens=sampling.max_new_tokens - len(ids))
                )
                ids += more.token_ids
                text = self._policy.tokenizer.decode(list(ids), skip_special_tokens=True)
                thoughts[i] = Completion(ids, None, text, more.stop_reason)
        return thoughts

    def _is_thinking(self, thought: Completion) -> bool:
        text = self.prefilled + thought.text
        return text.rfind("<think>") > text.rfind("</think>")

    def _begin_command(self, thought: Completion, style: PromptStyle) -> tuple[int, ...]:
        """Return a thought's ids up to the opened tag; a thought that ended or was cut before it is closed."""
        is_thinking = self._is_thinking(thought)
        if _has_opened(thought, style) and not is_thinking:
            return thought.token_ids
        ids = thought.token_ids[:-1] if thought.stop_reason == "eos" else thought.token_ids
        closing = "</think>" if is_thinking or "</think>" not in thought.text else ""
        return ids + self._policy.encode(f"{closing}\n{_opening(style)}")

    def _encode_commands(self, request: Request, style: PromptStyle) -> list[tuple[int, ...]]:
        closing = f"</{style.action_tags[0]}>"
        return [self._policy.template.encode_text(f"{command}{closing}") for command in _commands(request, style)]


def score_continuations(
    model: Any,
    prompts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[Sequence[int]]],
    *,
    max_batch_tokens: int,
) -> list[list[float]]:
    """Return the log-probability of each continuation of its prompt: the sum over its tokens, in nats.

    Args:
        model: a Hugging Face causal language model.
        prompts: token ids, none empty.
        continuations: for each prompt, the token ids of what may follow.
        max_batch_tokens: tokens in a batch of sequences that are scored together, padding included.
    """
    pairs = [
        (list(prompt), list(ids)) for prompt, options in zip(prompts, continuations, strict=True) for ids in options
    ]
    if not pairs:
        return [[] for _ in prompts]
    lengths = torch.tensor([(len(prompt), len(ids)) for prompt, ids in pairs])
    input_ids = torch.zeros(len(pairs), int(lengths.sum(dim=1).max()), dtype=torch.long)
    for row, (prompt, ids) in zip(input_ids, pairs, strict=True):
        row[: len(prompt) + len(ids)] = torch.tensor(prompt + ids)
    mask = torch.arange(int(lengths[:, 1].max())) < lengths[:, 1:]
    sequences = Sequences(input_ids, lengths[:, 0], lengths[:, 1])
    sums = score_rows(model, sequences, mask, max_tokens=max_batch_tokens).logprobs.double().sum(dim=1).tolist()
    ends = list(accumulate(len(options) for options in continuations))
    return [sums[end - len(options) : end] for end, options in zip(ends, continuations, strict=True)]


def _style(request: Request) -> PromptStyle:
    if request.situation is None:
        raise InvalidOption(
            "constrained decoding needs a situation, which holds the admissible commands; wanted a turn of an episode."
        )
    task_id = request.situation.info["task_id"]
    style = request.situation.style
    commands = _commands(request, style)
    if style.tag_is_command or style.parse is not None or style.action_format != "tags" or not commands:
        raise InvalidOption(
            f"constrained decoding cannot be used in {task_id!r}; wanted an environment that lists its admissible "
            f"commands, in the tags <{style.action_tags[0]}>."
        )
    template = next(filter(_TEMPLATE.search, commands), None)
    if template is not None:
        raise InvalidOption(
            f"constrained decoding cannot be used in {task_id!r}: {template!r} is a template, and the model "
            "has to write its words."
        )
    return style


def _opening(style: PromptStyle) -> str:
    return f"<{style.action_tags[0]}>"


def _has_opened(thought: Completion, style: PromptStyle) -> bool:
    # Some tokenizers have the tag's end and a line's in one token.
    return thought.text.rstrip().endswith(_opening(style))


def _commands(request: Request, style: PromptStyle) -> list[str]:
    assert request.situation is not None
    commands: list[str] = request.situation.info["admissible_commands"]
    return [command for command in commands if command not in style.hidden_commands]


def _pick(scores: Sequence[float], sampling: Sampling, seed: int) -> int:
    if sampling.greedy:
        return max(range(len(scores)), key=scores.__getitem__)
    weights = (torch.tensor(scores, dtype=torch.float64) / sampling.temperature).softmax(dim=0).tolist()
    # Another stream than the thought's, which was sampled with the seed itself.
    return random.Random(f"choice/{seed}").choices(range(len(scores)), weights)[0]
