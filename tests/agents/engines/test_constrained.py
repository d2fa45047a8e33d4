"""Constrained decoding: what is chosen among the admissible commands, and what is refused."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch
from helpers.tiny_models import tiny_policy

import sdar_envs
from sdar_agents.engines.constrained import ConstrainedPolicy, score_continuations
from sdar_agents.engines.policy import Request, Sampling, Situation
from sdar_agents.types import Completion
from sdar_envs.errors import InvalidOption
from sdar_envs.prompt import parse_completion, style_for


class Thinker:
    """A policy that thinks the same things always, in one or more calls, around a random model that scores."""

    def __init__(self, *thoughts: str, prefilled: str = "") -> None:
        self._inner = tiny_policy()
        self._thoughts = thoughts or ("<think>go</think>\n<action>",)
        self._calls = 0
        self.prefilled = prefilled
        self.template = self._inner.template
        self.model, self.tokenizer = self._inner.model, self._inner.tokenizer
        self.context_length = None
        self.render, self.encode = self._inner.render, self._inner.encode

    def generate(self, requests: Any, sampling: Sampling) -> list[Completion]:
        assert "<action>" in sampling.stop
        thought = self._thoughts[self._calls % len(self._thoughts)]
        self._calls += 1
        ids = self.encode(thought)
        return [Completion(ids, (0.0,) * len(ids), thought, "stop") for _ in requests]


def asked(env_id: str, count: int) -> list[Request]:
    requests = []
    for i, task in enumerate(sdar_envs.tasks(env_id, split="train", limit=count)):
        env = sdar_envs.make_vec(env_id, 1).envs[0]
        observation, info = env.reset(options={"task_id": task.id})
        requests.append(Request((1, 2, 3 + i), i, (), Situation(env, observation, info, 0)))
    return requests


def test_scores_are_those_of_each_text_alone() -> None:
    model = tiny_policy().model
    prompts = [(1, 2, 3), (4, 5, 6, 7, 8, 9)]
    choices = [[(5, 6), (7,), (8, 9, 10, 11)], [(12, 13, 14)]]
    found = score_continuations(model, prompts, choices, max_batch_tokens=20)
    for prompt, options, scores in zip(prompts, choices, found, strict=True):
        for option, score in zip(options, scores, strict=True):
            with torch.no_grad():
                logprobs = model(torch.tensor([prompt + option])).logits[0].log_softmax(-1)
            by_hand = sum(logprobs[len(prompt) + j - 1, token].item() for j, token in enumerate(option))
            assert score == pytest.approx(by_hand, abs=1e-4)


@pytest.mark.parametrize("greedy", [True, False])
def test_every_answer_is_a_listed_command(greedy: bool) -> None:
    requests = asked("sdar/ALFWorld-v0", 6)
    policy: Any = ConstrainedPolicy(Thinker())  # type: ignore[arg-type]
    answers = policy.generate(requests, Sampling(greedy=greedy))
    assert answers == policy.generate(requests, Sampling(greedy=greedy))
    for request, answer in zip(requests, answers, strict=True):
        assert request.situation is not None
        parsed = parse_completion(answer.text, style_for("alfworld"))
        assert parsed.is_well_formed
        assert parsed.action in request.situation.info["admissible_commands"]
        assert parsed.action != "help"
        assert answer.logprobs is None


def test_greedy_takes_the_likeliest_and_draws_follow_the_probabilities() -> None:
    (request,) = asked("sdar/ALFWorld-v0", 1)
    assert request.situation is not None
    thinker: Any = Thinker()
    commands = [c for c in request.situation.info["admissible_commands"] if c != "help"]
    prompt = request.prompt_ids + thinker.encode("<think>go</think>\n<action>")
    (scores,) = score_continuations(
        thinker.model, [prompt], [[thinker.encode(f"{c}</action>") for c in commands]], max_batch_tokens=10**5
    )
    policy = ConstrainedPolicy(thinker)
    (likeliest,) = policy.generate([request], Sampling(greedy=True))
    best = commands[max(range(len(commands)), key=scores.__getitem__)]
    assert likeliest.text.endswith(f"<action>{best}</action>")
    # At this temperature the best and the next are about equally likely.
    spread = sorted(scores)[-1] - sorted(scores)[-5]
    sampling = Sampling(temperature=max(spread, 1e-3))
    drawn = Counter(
        answer.text.split("<action>")[1].removesuffix("</action>")
        for answer in policy.generate(
            [Request(request.prompt_ids, seed, (), request.situation) for seed in range(60)], sampling
        )
    )
    weights = [math.exp((score - max(scores)) / sampling.temperature) for score in scores]
    expected = 60 * weights[commands.index(best)] / sum(weights)
    assert abs(drawn[best] - expected) < 4 * math.sqrt(expected)
    assert len(drawn) > 1


def test_a_line_end_behind_the_tag_is_no_obstacle() -> None:
    policy: Any = ConstrainedPolicy(Thinker("<think>go</think>\n<action>\n"))  # type: ignore[arg-type]
    (answer,) = policy.generate(asked("sdar/ALFWorld-v0", 1), Sampling(greedy=True))
    assert parse_completion(answer.text, style_for("alfworld")).is_well_formed


@pytest.mark.parametrize("prefilled", ["", "<think>"])
def test_a_tag_inside_of_the_thought_begins_no_command(prefilled: str) -> None:
    parts = ("<think>I must put it in <action>", " tags, <action>", ".</think>\n<action>")
    thinker: Any = Thinker(parts[0].removeprefix(prefilled), *parts[1:], prefilled=prefilled)
    (request,) = asked("sdar/ALFWorld-v0", 1)
    (answer,) = ConstrainedPolicy(thinker).generate([request], Sampling())
    parsed = parse_completion(answer.text, style_for("alfworld"), prefilled=prefilled)
    assert parsed.is_well_formed
    assert parsed.reasoning == "I must put it in <action> tags, <action>."
    assert request.situation is not None
    assert parsed.action in request.situation.info["admissible_commands"]


@pytest.mark.parametrize(
    "thought", ["<think>and <action>", "<think>and so on", "<think>done</think>", "<think>done</think>\n"]
)
def test_a_thought_that_never_comes_to_a_command_is_closed(thought: str) -> None:
    policy: Any = ConstrainedPolicy(Thinker(thought))  # type: ignore[arg-type]
    (request,) = asked("sdar/ALFWorld-v0", 1)
    (answer,) = policy.generate([request], Sampling())
    assert answer.text.startswith(thought)
    parsed = parse_completion(answer.text, style_for("alfworld"))
    assert parsed.is_well_formed
    assert request.situation is not None
    assert parsed.action in request.situation.info["admissible_commands"]


def test_a_random_model_plays_admissible_commands_only() -> None:
    requests = asked("sdar/ALFWorld-v0", 4)
    answers = ConstrainedPolicy(tiny_policy()).generate(requests, Sampling(8))
    for request, answer in zip(requests, answers, strict=True):
        assert request.situation is not None
        assert parse_completion(answer.text).action in request.situation.info["admissible_commands"]
        # The end token of a thought is not in the middle of a completion.
        assert "<|end|>" not in tiny_policy().tokenizer.decode(answer.token_ids)


def test_what_lists_no_commands_is_refused() -> None:
    policy: Any = ConstrainedPolicy(Thinker())  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match="wanted an environment that lists its admissible commands"):
        policy.generate(asked("sdar/SearchQA-v0", 1), Sampling())
    with pytest.raises(InvalidOption, match=r"'search\[<your query>\]' is a template"):
        policy.generate(asked("sdar/WebShop-v0", 1), Sampling())
    with pytest.raises(InvalidOption, match="needs a situation"):
        policy.generate([Request((1,), 0)], Sampling())
