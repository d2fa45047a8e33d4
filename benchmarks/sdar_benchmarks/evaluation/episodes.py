"""Episode runner: an agent plays one task until it ends, reaches a limit or fails, and every turn is recorded."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import gymnasium as gym

from sdar_agents import AsyncAgent, Decision, in_thread
from sdar_agents.settings.checks import check_value
from sdar_agents.skill_use.prompts import name_skill
from sdar_benchmarks.records.runs import ERROR_REASONS, Episode
from sdar_envs import Task
from sdar_envs.core import text_env
from sdar_envs.errors import EndpointError, InvalidAction, InvalidOption, PromptTooLong, UnsolvableGame
from sdar_envs.rng import derive_seed
from sdar_envs.secrets import redact

__all__ = ["Limits", "play_episode"]

_MESSAGE_LENGTH = 1000
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on time, tokens and attempts. An episode that reaches a limit has failed; that is a result, not an error.

    Attributes:
        max_turn_seconds: for one decision of the agent, its waits and retries included; None is no limit.
        episode_seconds: for the episode.
        episode_tokens: read and written in an episode; it ends after the turn in which they are reached.
        attempts: tries at an episode that ends in an error, per call of `evaluate`.

    Raises:
        InvalidOption: a limit is not above 0.
    """

    max_turn_seconds: float | None = None
    episode_seconds: float | None = None
    episode_tokens: int | None = None
    attempts: int = 2

    def __post_init__(self) -> None:
        for name in ("max_turn_seconds", "episode_seconds"):
            seconds = getattr(self, name)
            if seconds is not None and not (seconds > 0 and math.isfinite(seconds)):
                raise InvalidOption(f"{name} is {seconds!r}; wanted seconds above 0, or None for no limit.")
        for name, count in (("episode_tokens", self.episode_tokens), ("attempts", self.attempts)):
            if count is not None:
                check_value(name, count, int, low=1)


class _Stopped(Exception):
    """The episode is stopped before the environment ends it."""

    def __init__(self, reason: str, error: BaseException | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error


class _Clock:
    """Time limits of one episode, and the time that its agent took."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.started = time.perf_counter()
        self.agent_seconds = 0.0

    async def wait_for(self, method: Callable[..., Awaitable[ResultT]], *arguments: Any) -> ResultT:
        """Await a method of the agent; its errors and timeouts become `_Stopped`."""
        limits = self._limits
        started = time.perf_counter()
        left = math.inf if limits.max_turn_seconds is None else limits.max_turn_seconds
        if limits.episode_seconds is not None:
            left = min(left, self.started + limits.episode_seconds - started)
        timeout = asyncio.timeout(None if left == math.inf else left)
        try:
            async with timeout:
                result = await method(*arguments)
        except UnsolvableGame as error:
            raise _Stopped("gave_up") from error
        except EndpointError as error:
            raise _Stopped("endpoint_error", error) from error
        except PromptTooLong as error:
            raise _Stopped("token_limit", error) from error
        except Exception as error:
            if timeout.expired():
                raise _Stopped("time_limit") from error
            raise _Stopped("agent_error", error) from error
        finally:
            self.agent_seconds += time.perf_counter() - started
        if time.perf_counter() - started > left:
            # The agent blocked the event loop, so the timeout could not interrupt it.
            raise _Stopped("time_limit")
        return result


class _Record:
    """Turns of an episode so far, and its present state."""

    def __init__(self) -> None:
        self.turns: list[dict[str, Any]] = []
        self.observation = ""
        self.info: Mapping[str, Any] = {"is_success": False, "score": 0.0}
        self.episode_return = 0.0
        self.terminated = self.truncated = False
        self.decisions: list[Decision] = []

    def total(self, name: str) -> Any:
        """Return the sum of a count of tokens or of `cost` over the turns; None if one is unknown."""
        counts = [getattr(decision, name) for decision in self.decisions]
        return None if not counts or None in counts else sum(counts)

    def cached_tokens(self) -> int | None:
        """Return how many tokens a server had in its cache; None if it never said. Servers may leave out a 0."""
        known = [decision.cached_tokens for decision in self.decisions if decision.cached_tokens is not None]
        return sum(known) if known else None

    def malformed(self) -> int | None:
        """Return how many completions did not keep the format; None if no model was asked."""
        answers = [turn["is_well_formed"] for turn in self.turns if turn["is_well_formed"] is not None]
        return answers.count(False) if answers else None

    def count(self, is_one: Callable[[Decision], bool]) -> int | None:
        """Return how many of the completions are such; None if no model was asked."""
        asked = [decision for decision in self.decisions if decision.finish_reason is not None]
        return sum(map(is_one, asked)) if asked else None


async def play_episode(
    env: gym.Env[str, str],
    agent: AsyncAgent,
    task: Task,
    *,
    env_id: str,
    seed: int,
    attempt: int = 1,
    limits: Limits = Limits(),
) -> tuple[Episode, dict[str, Any]]:
    """Play one episode and record it.

    Args:
        env: the environment, which no other episode uses meanwhile.
        agent: the agent that plays.
        task: the task to reset the environment to.
        env_id: id under which the episode is recorded.
        seed: seed of the run; environment and agent get `derive_seed` of it and the task.
        attempt: number of the attempt, from 1.
        limits: limits on time and tokens.

    Returns:
        The episode's row and its trajectory, as `records.runs` describes them. Errors do not raise; they are recorded.
    """
    clock, record = _Clock(limits), _Record()
    error: BaseException | None = None
    try:
        reason = await _play(
            env,
            agent,
            task,
            seed=derive_seed(seed, task.id),
            clock=clock,
            record=record,
            episode_tokens=limits.episode_tokens,
        )
    except _Stopped as stopped:
        reason, error = stopped.reason, stopped.error
    identity: dict[str, Any] = {
        "env_id": env_id,
        "task_id": task.id,
        "task_type": task.task_type,
        "split": task.split,
        "seed": seed,
        "attempt": attempt,
    }
    result: dict[str, Any] = {
        "is_success": bool(record.info["is_success"]),
        "score": float(record.info["score"]),
        "stop_reason": reason,
    }
    episode = Episode(
        **identity,
        **result,
        status="error" if reason in ERROR_REASONS else "ok",
        episode_return=record.episode_return,
        steps=len(record.turns),
        invalid_actions=sum(not turn["is_action_valid"] for turn in record.turns),
        malformed_answers=record.malformed(),
        terminated=record.terminated,
        truncated=record.truncated,
        error=None
        if error is None
        else {"type": type(error).__name__, "message": redact(str(error))[:_MESSAGE_LENGTH]},
        prompt_tokens=record.total("prompt_tokens"),
        completion_tokens=record.total("completion_tokens"),
        cost=record.total("cost"),
        seconds=time.perf_counter() - clock.started,
        agent_seconds=clock.agent_seconds,
        data_set=task.data.get("data_set"),
        metrics=record.info.get("metrics"),
        data_flags=dict(text_env(env).data_flags) or None,
        truncated_answers=record.count(lambda decision: decision.finish_reason == "length"),
        refusals=record.count(lambda decision: decision.refusal is not None),
        cached_tokens=record.cached_tokens(),
    )
    trajectory = {
        **identity,
        # A plain Gymnasium environment says only after the reset what its task is.
        "instruction": task.instruction or record.info.get("instruction", ""),
        **result,
        "turns": record.turns,
        "final_observation": record.observation,
    }
    return episode, trajectory


async def _play(
    env: gym.Env[str, str],
    agent: AsyncAgent,
    task: Task,
    *,
    seed: int,
    clock: _Clock,
    record: _Record,
    episode_tokens: int | None,
) -> str:
    """Play an episode into a record and return why it ended.

    Raises:
        _Stopped: it ended before the environment ended it.
    """
    try:
        reset = partial(env.reset, seed=seed, options={"task_id": task.id})
        record.observation, record.info = await _call(env, reset)
    except Exception as problem:
        raise _Stopped("env_error", problem) from problem
    await clock.wait_for(agent.reset, env, record.observation, record.info, seed)
    while not (record.terminated or record.truncated):
        decision = await clock.wait_for(agent.act, record.observation, record.info)
        await _step(env, record, decision)
        if episode_tokens is not None and not (record.terminated or record.truncated):
            _check_tokens(record, episode_tokens)
    return "terminated" if record.terminated else "step_limit"


async def _step(env: gym.Env[str, str], record: _Record, decision: Decision) -> None:
    """Step the environment with the agent's command and record the turn."""
    if not isinstance(decision, Decision) or not isinstance(decision.action, str):
        raise _Stopped(
            "agent_error",
            InvalidAction(f"the agent returned {decision!r:.100}; wanted a Decision with a command as str."),
        )
    record.decisions.append(decision)
    turn: dict[str, Any] = {
        "observation": record.observation,
        "messages": decision.messages,
        "response": decision.response,
        "reasoning": decision.reasoning,
        "action": decision.action,
        "is_well_formed": None if decision.response is None else bool(decision.is_well_formed),
        "admissible_commands": record.info["admissible_commands"],
    }
    if decision.finish_reason is not None:
        turn["finish_reason"] = decision.finish_reason
    if decision.refusal is not None:
        turn["refusal"] = decision.refusal
    if decision.tool_calls:
        turn["tool_calls"] = [call.to_json() for call in decision.tool_calls]
    if decision.skills is not None:
        turn["skills"] = list(map(name_skill, decision.skills))
        turn["skill_hashes"] = [arm.sha256 for arm in decision.skills]
        turn["dropped_skills"] = list(map(name_skill, decision.dropped_skills))
    try:
        result = await _call(env, partial(env.step, decision.action))
        record.observation, reward, record.terminated, record.truncated, record.info = result
    except Exception as problem:
        raise _Stopped("env_error", problem) from problem
    record.episode_return += float(reward)
    turn["reward"] = float(reward)
    turn["is_action_valid"] = bool(record.info["is_action_valid"])
    turn["score"] = float(record.info["score"])
    record.turns.append(turn)


async def _call(env: gym.Env[str, str], method: Callable[[], ResultT]) -> ResultT:
    """Call a method of the environment, in a thread if it may wait for I/O: other episodes go on meanwhile."""
    return await in_thread(method) if text_env(env).blocks_on_io else method()


def _check_tokens(record: _Record, limit: int) -> None:
    counts = [record.total(name) for name in ("prompt_tokens", "completion_tokens")]
    if None in counts:
        raise _Stopped(
            "agent_error",
            InvalidOption(
                "this agent does not report how many tokens a turn took: leave out the limit episode_tokens."
            ),
        )
    if sum(counts) >= limit:
        raise _Stopped("token_limit")
