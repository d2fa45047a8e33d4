"""Random chat episodes of all suites and styles, whose prompts are compared by their digest."""

import asyncio
import hashlib
import json
import random

from sdar_agents.baselines.scripted import filled
from sdar_agents.engines.policy import join_messages
from sdar_agents.players.chat import ChatAgent
from sdar_agents.rollout.rollout import Rollout, RolloutSettings
from sdar_agents.types import Completion
from sdar_envs import make_text_env, tasks

REFERENCE = "sdar_envs.search_qa.reference:STYLE"
SEARCH_R1 = "sdar_envs.search_qa.search_r1:STYLE"

CASES = [
    # env_id, env_kwargs, style, history_length, system
    ("sdar/ALFWorld-v0", {"split": "valid_seen", "max_steps": 9}, None, 2, None),
    ("sdar/ALFWorld-v0", {"split": "valid_unseen", "max_steps": 9}, "verl-agent/alfworld", 5, None),
    ("sdar/ALFWorld-v0", {"split": "valid_seen", "max_steps": 7}, "default", 0, "Be brief."),
    ("sdar/WebShop-v0", {"split": "test", "max_steps": 12}, None, 2, None),
    ("sdar/WebShop-v0", {"split": "test", "max_steps": 9}, "verl-agent/webshop", 9, "Be brief."),
    ("sdar/WebShop-v0", {"split": "test", "max_steps": 6, "observation": "text_rich"}, "webshop", 3, None),
    ("sdar/SearchQA-v0", {"corpus": "facts", "split": "test", "max_steps": 5}, None, 2, None),
    ("sdar/SearchQA-v0", {"corpus": "facts", "split": "test", "max_steps": 5, "compat": "sdar"}, None, 4, None),
    (
        "sdar/SearchQA-v0",
        {"corpus": "facts", "split": "test", "max_steps": 5, "compat": "search-r1"},
        None,
        4,
        "Be brief.",
    ),
    ("sdar/SearchQA-v0", {"corpus": "facts", "split": "test", "compat": "sdar"}, REFERENCE, 1, None),
    ("sdar/SearchQA-v0", {"corpus": "facts", "split": "test", "compat": "search-r1"}, SEARCH_R1, 0, None),
]
"""Environments, styles and windows; each suite in its own style, in parity styles and in others."""


def draw_completion(env, observation, info, rng):
    """Return what a model might write: mostly a command in some form, well formed or not."""
    command = filled(rng.choice(info["admissible_commands"] or ["look"]), observation, info, rng)
    tag, _, rest = command.partition("[")
    tagged = f"<{tag}>{rest[:-1]}</{tag}>" if tag in ("search", "answer") and rest else f"<answer>{command}</answer>"
    block = rng.choice([f"<action>{command}</action>", tagged])
    return rng.choice(
        [
            f"<think>I try this.</think>\n{block}",
            f"<think>I try <action>look</action>.</think>{block}",
            f"<think>  twice </think> {block} {block}",
            f"<think>红色</think>{block.upper()}",
            f"<think>never ended {block}",
            f"A thought that it did not begin.</think>{block}",
            block,
            command,
            f'<think>quoted</think>"{block}"',
            "\n \t",
        ]
    )


class RandomWriter:
    """A policy of both forms that writes random completions, by the request's seed."""

    prefilled = ""
    context_length = None

    def render(self, messages):
        return join_messages(messages)

    def encode(self, text):
        return ()

    def generate(self, requests, sampling):
        return [self._write(request) for request in requests]

    async def complete(self, request):
        return self._write(request)

    def _write(self, request):
        situation = request.situation
        rng = random.Random(request.seed)
        return Completion((), None, draw_completion(situation.env, situation.observation, situation.info, rng), "eos")


def agent_prompts(case, episodes):
    """Return the prompts and actions of the chat agent's episodes."""
    env_id, env_kwargs, style, history_length, system = case

    async def play():
        env = make_text_env(env_id, **env_kwargs)
        agent = ChatAgent(RandomWriter(), style=style, history_length=history_length, system=system)
        for seed in range(episodes):
            observation, info = env.reset(seed=seed)
            await agent.reset(env, observation, info, 1000 * seed)
            is_over = False
            while not is_over:
                decision = await agent.act(observation, info)
                yield [decision.messages, decision.action, decision.is_well_formed]
                observation, _, terminated, truncated, info = env.step(decision.action)
                is_over = terminated or truncated

    async def collect():
        return [item async for item in play()]

    return asyncio.run(collect())


def rollout_prompts(case, episodes, *, terse):
    """Return the prompts and actions of a rollout."""
    env_id, env_kwargs, style, history_length, system = case
    settings = RolloutSettings(
        env_id, env_kwargs, style=style, history_length=history_length, system=system, terse=terse, prefilled=""
    )
    rollout = Rollout(settings, RandomWriter())
    played = tasks(env_id, split=env_kwargs["split"], limit=episodes)
    try:
        result = rollout.collect(played, group_size=2, seed=5, step=0)
    finally:
        rollout.close()
    return [
        [list(turn.messages), turn.action, turn.is_well_formed]
        for trajectory in result.trajectories
        for turn in trajectory.turns
    ]


def digest(prompts):
    """Return the SHA-256 of prompts, shortened."""
    return hashlib.sha256(json.dumps(prompts).encode()).hexdigest()[:16]
