"""The second way to decode: the model thinks freely, then the likeliest of the admissible commands is taken.

`ChoicePolicy` wraps a policy in this process. It stops the model where the command would begin, scores each command
that the environment lists by the sum of the log-probabilities of its tokens and of the closing tag, and takes the
likeliest, or draws among them in proportion to their probabilities at the temperature. A model that thinks well and
spells badly never gives a command that is not there.

For evaluation only: what is drawn is not the model's own distribution, so completions have no log-probabilities. It
refuses environments that list no commands, and suites whose tag names the command.
"""

from __future__ import annotations

import random
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
from sdar_envs.prompt import PromptStyle, style_of

__all__ = ["ChoicePolicy", "score_choices"]


class ChoicePolicy:
    """Answers with admissible commands.

    Args:
        policy: thinks and scores.
        max_batch_tokens: of sequences that are scored together, padding included.
    """

    def __init__(self, policy: TransformersPolicy, *, max_batch_tokens: int = 1 << 15) -> None:
        self._policy = policy
        self._max_batch_tokens = max_batch_tokens

    @property
    def context_length(self) -> int | None:
        """That of the policy."""
        return self._policy.context_length

    def render(self, messages: Messages) -> str:
        """Return the policy's rendering."""
        return self._policy.render(messages)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the policy's ids."""
        return self._policy.encode(text)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Think, then choose. A completion that never comes to a command is left as it is.

        Raises:
            InvalidOption: a request has no situation, its environment lists no commands, or its style is another.
        """
        styles = [_style(request) for request in requests]
        openings = dict.fromkeys(f"<{style.action_tags[0]}>" for style in styles)
        thoughts = self._policy.generate(requests, replace(sampling, stop=(*sampling.stop, *openings)))
        answers = list(thoughts)
        places = [
            i
            for i, (thought, style) in enumerate(zip(thoughts, styles, strict=True))
            # Some tokenizers have the tag's end and a line's in one token.
            if thought.text.rstrip().endswith(f"<{style.action_tags[0]}>")
        ]
        prompts, choices = [], []
        for i in places:
            closing = f"</{styles[i].action_tags[0]}>"
            prompts.append(requests[i].prompt_ids + thoughts[i].token_ids)
            choices.append(
                [self._policy.encode(f"{command}{closing}") for command in _commands(requests[i], styles[i])]
            )
        scores = score_choices(self._policy.model, prompts, choices, max_batch_tokens=self._max_batch_tokens)
        for i, options, found in zip(places, choices, scores, strict=True):
            chosen = options[_pick(found, sampling, requests[i].seed)]
            token_ids = thoughts[i].token_ids + chosen
            text = self._policy.tokenizer.decode(list(token_ids), skip_special_tokens=True)
            answers[i] = Completion(token_ids, None, text, "stop")
        return [replace(answer, logprobs=None) for answer in answers]


def score_choices(
    model: Any,
    prompts: Sequence[Sequence[int]],
    choices: Sequence[Sequence[Sequence[int]]],
    *,
    max_batch_tokens: int,
) -> list[list[float]]:
    """Return the log-probability of each choice behind its prompt: the sum over its tokens, in nats.

    Args:
        model: a Hugging Face causal language model.
        prompts: token ids, none empty.
        choices: for each prompt, the token ids of what may follow.
        max_batch_tokens: of sequences that are scored together, padding included.
    """
    pairs = [
        (list(prompt), list(choice)) for prompt, options in zip(prompts, choices, strict=True) for choice in options
    ]
    if not pairs:
        return [[] for _ in prompts]
    lengths = torch.tensor([(len(prompt), len(choice)) for prompt, choice in pairs])
    input_ids = torch.zeros(len(pairs), int(lengths.sum(dim=1).max()), dtype=torch.long)
    for row, (prompt, choice) in zip(input_ids, pairs, strict=True):
        row[: len(prompt) + len(choice)] = torch.tensor(prompt + choice)
    mask = torch.arange(int(lengths[:, 1].max())) < lengths[:, 1:]
    sequences = Sequences(input_ids, lengths[:, 0], lengths[:, 1])
    sums = score_rows(model, sequences, mask, max_tokens=max_batch_tokens).logprobs.double().sum(dim=1).tolist()
    ends = list(accumulate(len(options) for options in choices))
    return [sums[end - len(options) : end] for end, options in zip(ends, choices, strict=True)]


def _style(request: Request) -> PromptStyle:
    if request.situation is None:
        raise InvalidOption("a choice needs a situation: which commands are admissible stands there.")
    style = style_of(request.situation.env, request.situation.env.task)
    if style.tag_is_command or style.parse is not None or not _commands(request, style):
        raise InvalidOption(
            f"there is nothing to choose from in {request.situation.info['task_id']!r}; wanted an environment that "
            f"lists its commands, in the tags <{style.action_tags[0]}>."
        )
    return style


def _commands(request: Request, style: PromptStyle) -> list[str]:
    assert request.situation is not None
    commands: list[str] = request.situation.info["admissible_commands"]
    return [command for command in commands if command not in style.hidden_commands]


def _pick(scores: Sequence[float], sampling: Sampling, seed: int) -> int:
    if sampling.greedy:
        return max(range(len(scores)), key=scores.__getitem__)
    weights = (torch.tensor(scores, dtype=torch.float64) / sampling.temperature).softmax(dim=0).tolist()
    # The thought was drawn from the seed itself.
    return random.Random(f"choice/{seed}").choices(range(len(scores)), weights)[0]
