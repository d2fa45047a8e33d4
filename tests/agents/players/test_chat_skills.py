"""Skills in the prompts of a chat agent: placement, limits, and what a turn says about them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from helpers.skill_toys import make_skill
from helpers.toy import CountingEnv

from sdar_agents import ChatAgent, Decision, Request, SkillPrompts
from sdar_agents.engines.policy import join_messages
from sdar_agents.types import Completion
from sdar_envs.errors import InvalidOption, PromptTooLong
from sdar_skills import Library, make_retriever
from sdar_skills.library.skill import arm_of

OWN = [make_skill(f"way-{i}", kind, "word " * 40) for i in range(2) for kind in ("count_up", "count_down")]
OWN = [make_skill(f"{skill.name}-{skill.task_type[-2:]}", skill.task_type, skill.text) for skill in OWN]
LIBRARY = Library([*OWN, make_skill("calm", None, "calm " * 40)])


class Words:
    """A policy that counts words as tokens, and keeps what it was asked."""

    longest_prompt: int | None = None

    def __init__(self) -> None:
        self.asked: list[Request] = []

    def render(self, messages: Any) -> str:
        return join_messages(messages)

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(range(1, len(text.split()) + 1))

    async def complete(self, request: Request) -> Completion:
        self.asked.append(request)
        return Completion((), None, "<think>I count.</think><action>up</action>", "eos")

    async def close(self) -> None: ...


def decide(policy: Words, **settings: Any) -> Decision:
    retriever = make_retriever("task_type", LIBRARY)
    agent = ChatAgent(policy, skills=SkillPrompts(retriever, reader="student", **settings))

    async def play() -> Decision:
        env = CountingEnv()
        observation, info = env.reset(options={"task_id": "toy/valid/0001"})
        await agent.reset(env, observation, info, 0)
        return await agent.act(observation, info)

    return asyncio.run(play())


def test_the_prompt_shows_the_skills_and_the_turn_names_them() -> None:
    decision = decide(Words())
    assert decision.skills is not None
    assert decision.messages is not None
    assert [arm.skill for arm in decision.skills][-1] == "toy/calm"
    assert len(decision.skills) == 3
    for arm in decision.skills:
        assert arm == arm_of(LIBRARY[arm.skill])
        assert f"### {arm.skill.removeprefix('toy/')}\n" in decision.messages[-1]["content"]
    placed = decide(Words(), placement="system", k=1)
    assert placed.messages is not None
    assert [message["role"] for message in placed.messages] == ["system", "user"]


@pytest.mark.parametrize("where", ["max_prompt_tokens", "longest_prompt"])
def test_what_does_not_fit_is_dropped_whole(where: str) -> None:
    free = decide(policy := Words())
    assert free.messages is not None
    assert free.skills is not None
    size = len(policy.encode(policy.render(free.messages)))
    policy = Words()
    limits = {"max_prompt_tokens": size - 1} if where == "max_prompt_tokens" else {}
    policy.longest_prompt = None if limits else size - 1
    tight = decide(policy, **limits)
    assert tight.skills == free.skills[:2]
    assert tight.dropped_skills == free.skills[2:]
    # All of them, if need be: the model acts without any rather than not at all.
    policy = Words()
    policy.longest_prompt = size - 125
    bare = decide(policy)
    assert (bare.skills, bare.dropped_skills) == ((), free.skills)


def test_a_prefix_is_outside_of_the_messages() -> None:
    policy = Words()
    decision = decide(policy, placement="legacy_prefix", k=1)
    [request] = policy.asked
    assert decision.messages == request.messages
    assert "word word" not in policy.render(request.messages)
    assert len(request.prompt_ids) == len(policy.encode(policy.render(request.messages))) + 43


class ShortContext(Words):
    """A policy that refuses prompts with more than one past turn, as servers do with prompts that are too long."""

    async def complete(self, request: Request) -> Completion:
        answer = await super().complete(request)
        if request.messages[-1]["content"].count(", action:") > 1:
            raise PromptTooLong("too long")
        return answer


def test_a_server_that_takes_less_history_is_still_shown_the_skills() -> None:
    policy = ShortContext()
    skills = SkillPrompts(make_retriever("task_type", LIBRARY), reader="student")
    agent = ChatAgent(policy, history_length=2, skills=skills)

    async def play() -> Decision:
        env = CountingEnv()
        observation, info = env.reset(options={"task_id": "toy/valid/0001"})
        await agent.reset(env, observation, info, 0)
        for _ in range(2):
            await agent.act(observation, info)
        return await agent.act(observation, info)

    decision = asyncio.run(play())
    full, shrunk = (request.messages[-1]["content"] for request in policy.asked[-2:])
    assert (full.count(", action:"), shrunk.count(", action:")) == (2, 1)
    assert decision.messages == policy.asked[-1].messages
    assert decision.skills is not None
    for arm in decision.skills:
        heading = f"### {arm.skill.removeprefix('toy/')}\n"
        assert heading in full
        assert heading in shrunk


def test_what_cannot_be_shown_is_refused() -> None:
    retriever = make_retriever("task_type", LIBRARY)
    with pytest.raises(InvalidOption, match="the reader of the skills is 'teacher'"):
        ChatAgent(Words(), skills=SkillPrompts(retriever))
    with pytest.raises(InvalidOption, match="leave them out"):
        ChatAgent(Words(), history="appended", skills=SkillPrompts(retriever, reader="student"))
