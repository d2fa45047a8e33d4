"""Rollouts: groups of episodes played in a batch by a policy, recorded as trajectories.

    rollout = Rollout(RolloutSettings("sdar/ALFWorld-v0", {"split": "train"}), policy, skills=SkillPrompts(retriever))
    result = rollout.collect(tasks, group_size=8, seed=0, step=12)
    rows = [row for trajectory in result.trajectories for row in make_rows(trajectory)]

All running episodes take a turn together: their prompts are built, the policy answers them in one batch, each
environment gets its command. An episode that has ended leaves the batch. With an engine that answers requests one by
one (`IndependentPolicy`), each episode goes on as soon as its own request is answered.

What is drawn depends on the seed, the step, the task and the member's number alone, by a hash that is the same on every
machine; no global random state is read or changed.
"""

from __future__ import annotations

import math
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sdar_agents.contexts.base import View
from sdar_agents.engines.policy import CachingPolicy, IndependentPolicy, Policy, Request, Situation
from sdar_agents.parallel import World
from sdar_agents.rollout.episode import RunningEpisode
from sdar_agents.rollout.gathering import Failure, PlayedEpisode, gather_played
from sdar_agents.rollout.independent import play_independently
from sdar_agents.rollout.prompts import PromptBuilder, TurnPrompt
from sdar_agents.rollout.rewards import apply_reward, load_reward
from sdar_agents.rollout.settings import RolloutSettings
from sdar_agents.settings.checks import check_value
from sdar_agents.settings.reader import errors_at
from sdar_agents.skill_use.prompts import SkillPrompts
from sdar_agents.types import Completion, Trajectory, Turn
from sdar_envs import Task, TextEnv
from sdar_envs.errors import EndpointError, InvalidOption, UnknownName
from sdar_envs.registry import make_text_env
from sdar_envs.rng import derive_seed
from sdar_skills import Skill
from sdar_skills.context import ContextTooLong

__all__ = ["Failure", "Rollout", "RolloutResult", "RolloutSettings"]


@dataclass(frozen=True, slots=True)
class RolloutResult:
    """Trajectories of a rollout, and its metrics.

    Attributes:
        trajectories: group by group in the order of the tasks, the members of a group in order.
        metrics: by path, see `Rollout.collect`.
        shown: the skills that stood in prompts of an episode, by its id; none for a control.
        failures: the episodes that are missing.
    """

    trajectories: tuple[Trajectory, ...]
    metrics: Mapping[str, float]
    shown: Mapping[str, tuple[Skill, ...]]
    failures: tuple[Failure, ...] = ()


class Rollout:
    """Batched rollout: plays each task by a group of episodes, all prompts of a turn in one batch.

    Args:
        settings: the environment, the prompt and the sampling.
        policy: answers the prompts.
        skills: which skills are shown to whom; None for no skills and no teacher.
        world: the ranks of a run, each of which plays some of the tasks; all get the whole result. None for one
            process.

    Raises:
        InvalidOption: a prompt and a completion of the allowed lengths do not fit the policy's context together.
        UnknownName: there is no such reward function.
    """

    def __init__(
        self,
        settings: RolloutSettings,
        policy: Policy,
        *,
        skills: SkillPrompts | None = None,
        world: World | None = None,
    ) -> None:
        self.settings = settings
        self._world = world or World()
        self.policy = policy
        self.skills = skills
        self.prompts = PromptBuilder(settings, policy, skills)
        with errors_at("rollout.reward"):
            self._reward = None if settings.reward is None else load_reward(settings.reward)
        self._envs: list[TextEnv[Any]] = []

    def collect(
        self,
        tasks: Sequence[Task],
        *,
        group_size: int,
        seed: int,
        step: int,
        views: Mapping[str, View] = MappingProxyType({}),
        progress: Callable[[int, int], object] | None = None,
    ) -> RolloutResult:
        """Play each task `group_size` times.

        The members of a group start alike; a task that comes twice makes two groups. Group ids are
        `<step>/<task id>`, episode ids `<step>/<task id>/<member>`, with `#2`, `#3`, ... behind a task id that comes
        again.

        Metrics: `rollout/episodes`, `/turns`, `/success`, `/return`, `/score` (means over episodes), `/episode_turns`
        (mean), `/response_length_p50`, `_p90`, `_p99`, `_p100` (percentiles, in tokens), `/malformed` (share of turns
        whose completion broke the format), `/invalid` (share of turns whose command the environment did not accept),
        `/prompt_tokens`, `/response_tokens`, `/cut_responses` (ran into `max_new_tokens`), `/shrunk_prompts`,
        `/dropped_turns` (of history, in these), `/overlong_episodes`, `/step_limit_episodes`, `/failed_episodes`; with
        a reward function `/env_return`, the mean of what the environment itself gave; with skills `skills/prompts`
        (that hold one), `/prompt_tokens`, `/shrunk_prompts`, `/dropped_turns`, `/dropped_skills`, `/misfits` (teacher
        prompts that were given up because not even the best skill fitted); `time/generate`, `time/prompts`, `time/env`,
        in seconds. Counts unless said. What a failed episode did is in the counts of shrunk and dropped things, of
        `skills/` and in the times alone.

        Args:
            tasks: at least one.
            group_size: episodes of each.
            seed: of the run.
            step: of the training, from 0. Another step draws other numbers for the same task.
            views: contexts that the student reads in all turns of a task, by the task's id.
            progress: called with the number of finished episodes and that of all, after each turn.

        Raises:
            InvalidOption: there are no tasks, a number is out of range, or a prompt is too long and that is an error.
            UnknownName: there is no such task, or no skills for it.
            ContextTooLong: not one teacher prompt of the whole rollout has room for a skill.
            EndpointError: an engine behind a server does not answer; the same call may be made again.
            Exception: what an environment raised, with a note that says where.
        """
        counts: Counter[str] = Counter()
        times = dict.fromkeys(("time/generate", "time/prompts", "time/env"), 0.0)
        with _timed(times, "time/env"):
            episodes = self._begin(tasks, group_size, seed, step)
        for episode in episodes:
            episode.view = views.get(episode.task.id)
        problem: EndpointError | None = None
        running = [episode for episode in episodes if episode.is_running]
        if isinstance(self.policy, IndependentPolicy):
            try:
                play_independently(
                    running,
                    ask=self._ask,
                    take=self._take,
                    times=times,
                    in_flight=self.policy.in_flight,
                    counts=counts,
                    progress=progress,
                )
            except EndpointError as error:
                problem = error
            running = []
        with self._caching():
            while running:
                with _timed(times, "time/prompts"):
                    prompts = [self.prompts.build(episode, counts) for episode in running]
                pairs = zip(running, prompts, strict=True)
                asked = [(episode, prompt) for episode, prompt in pairs if prompt is not None]
                with _timed(times, "time/generate"):
                    answers = self._generate(asked)
                with _timed(times, "time/env"):
                    self._step(asked, answers)
                running = [episode for episode in running if episode.is_running]
                if progress is not None:
                    progress(len(episodes) - len(running), len(episodes))
        played = [] if problem else list(map(PlayedEpisode.of, episodes))
        self._world.raise_together(problem)
        return self._result(*gather_played(self._world, played, counts, times, group_size=group_size))

    def close(self) -> None:
        """Close the environments; the next `collect` makes new ones."""
        for env in self._envs:
            env.close()
        self._envs.clear()

    def _caching(self) -> AbstractContextManager[None]:
        """Context in which the engine keeps what it computed for growing chats."""
        if self.settings.history == "appended" and isinstance(self.policy, CachingPolicy):
            return self.policy.caching()
        return nullcontext()

    # -- the parts of a turn ----------------------------------------------------------------

    def _begin(self, tasks: Sequence[Task], group_size: int, seed: int, step: int) -> list[RunningEpisode]:
        self._check_call(tasks, group_size, seed, step)
        while len(self._envs) < len(self._world.share(tasks)) * group_size:
            self._envs.append(make_text_env(self.settings.env_id, **self.settings.env_kwargs))
        episodes: list[RunningEpisode] = []
        seen: Counter[str] = Counter()
        for number, task in enumerate(tasks):
            seen[task.id] += 1
            group_id = f"{step}/{task.id}" + (f"#{seen[task.id]}" if seen[task.id] > 1 else "")
            if number % self._world.size != self._world.rank:
                continue
            group_seed = derive_seed(seed, group_id)
            for member in range(group_size):
                episode_id = f"{group_id}/{member}"
                episode_seed = derive_seed(seed, episode_id)
                env = self._envs[len(episodes)]
                episode = RunningEpisode(
                    task, group_id, episode_id, episode_seed, env, self.prompts.converse(env, task), None
                )
                if self.skills is not None:
                    episode.skills = self.skills.choose(task, member, group_size, (group_seed, episode_seed))
                    episode.acts_with_skills = self.skills.acts(member)
                    episode.counts_as_shown = self.skills.reader != "mixed" or episode.acts_with_skills
                episodes.append(episode)
                with self._failing(episode):
                    episode.observation, episode.info = env.reset(seed=group_seed, options={"task_id": task.id})
                    episode.conversation.observe(episode.observation, episode.info)
                    if not task.instruction:
                        # A plain Gymnasium environment says what its task is only now.
                        episode.task = env.task
        return episodes

    def _check_call(self, tasks: Sequence[Task], group_size: int, seed: int, step: int) -> None:
        for name, value, least in (("group_size", group_size, 1), ("seed", seed, 0), ("step", step, 0)):
            check_value(name, value, int, low=least)
        if not tasks:
            raise InvalidOption("there are no tasks; wanted at least one to play.")
        if self.skills is not None and self.skills.control_members >= group_size:
            raise InvalidOption(
                f"control_members is {self.skills.control_members} in groups of {group_size}; wanted fewer: no member "
                "would be shown a skill."
            )

    def _generate(self, asked: Sequence[tuple[RunningEpisode, TurnPrompt]]) -> list[Completion]:
        requests = [_request(episode, prompt) for episode, prompt in asked]
        return self.policy.generate(requests, self.prompts.sampling) if requests else []

    async def _ask(self, episode: RunningEpisode, counts: Counter[str]) -> tuple[TurnPrompt, Completion] | None:
        """Return the prompt of an episode's next turn and its completion; None if the episode ends without one."""
        assert isinstance(self.policy, IndependentPolicy)
        prompt = self.prompts.build(episode, counts)
        if prompt is None:
            return None
        return prompt, await self.policy.complete_ids(_request(episode, prompt), self.prompts.sampling)

    def _take(self, episode: RunningEpisode, prompt: TurnPrompt, answer: Completion) -> None:
        self._step([(episode, prompt)], [answer])

    def _step(self, asked: Sequence[tuple[RunningEpisode, TurnPrompt]], answers: Sequence[Completion]) -> None:
        if not asked:
            return
        parsed = [self.prompts.parse(episode, answer) for (episode, _), answer in zip(asked, answers, strict=True)]
        envs = [episode.env for episode, _ in asked]
        try:
            type(envs[0]).prepare(envs, [reading.action for reading in parsed])
        except Exception:
            if self.settings.on_failure == "raise":
                raise
            # What fails for the whole batch fails again in the step of the episode that it concerns.
        for (episode, prompt), answer, reading in zip(asked, answers, parsed, strict=True):
            with self._failing(episode):
                seen = episode.observation
                episode.observation, reward, terminated, truncated, episode.info = episode.env.step(reading.action)
                episode.conversation.answer(reading, answer.text)
                episode.conversation.observe(episode.observation, episode.info)
                episode.turns.append(
                    Turn(
                        observation=seen,
                        messages=tuple(prompt.messages),
                        prompt_ids=prompt.ids,
                        completion=answer,
                        action=reading.action,
                        reward=float(reward),
                        is_well_formed=reading.is_well_formed,
                        is_action_valid=bool(episode.info["is_action_valid"]),
                        score=float(episode.info["score"]),
                        teacher_prompt_ids=prompt.teacher_ids,
                        skill_ids=prompt.skill_ids,
                        parts=prompt.parts,
                    )
                )
                if terminated or truncated:
                    episode.stop_reason = "terminated" if terminated else "step_limit"

    @contextmanager
    def _failing(self, episode: RunningEpisode) -> Iterator[None]:
        """Keep what an environment raises, or raise it with a note that says where."""
        try:
            yield
        except Exception as error:
            # A task that does not exist is the caller's mistake.
            if self.settings.on_failure == "raise" or isinstance(error, UnknownName):
                error.add_note(f"in {episode.task.id!r}, turn {len(episode.turns) + 1} of {episode.episode_id!r}")
                raise
            episode.failure = error

    # -- the result -------------------------------------------------------------------------

    def _result(
        self, episodes: Sequence[PlayedEpisode], counts: Counter[str], times: Mapping[str, float]
    ) -> RolloutResult:
        failures = tuple(episode.failure for episode in episodes if episode.failure is not None)
        if len(failures) == len(episodes):
            raise next(episode.error for episode in reversed(episodes) if episode.error is not None)
        self._report_misfits(counts)
        trajectories = tuple(episode.trajectory for episode in episodes if episode.trajectory is not None)
        metrics = _metrics(trajectories, counts)
        if self._reward is not None:
            metrics["rollout/env_return"] = metrics["rollout/return"]
            name = str(self.settings.reward)
            trajectories = tuple(apply_reward(trajectory, self._reward, name) for trajectory in trajectories)
            metrics["rollout/return"] = _mean([trajectory.episode_return for trajectory in trajectories])
        metrics["rollout/failed_episodes"] = float(len(failures))
        if self.skills:
            metrics |= {f"skills/{name}": float(counts[f"skills/{name}"]) for name in _SKILL_COUNTS}
        return RolloutResult(
            trajectories=trajectories,
            metrics={**metrics, **times},
            shown={episode.episode_id: episode.shown for episode in episodes if episode.trajectory is not None},
            failures=failures,
        )

    def _report_misfits(self, counts: Counter[str]) -> None:
        if not counts["skills/misfits"]:
            return
        if self.settings.history == "appended" and counts["skills/prompts"]:
            warnings.warn(
                f"{counts['skills/misfits']} chats with skills have become longer than the teacher's "
                f"{self.prompts.max_teacher_tokens} tokens: raise the skills' max_prompt_tokens, or lower max_steps. "
                "These episodes have no teacher.",
                RuntimeWarning,
                stacklevel=4,
            )
            return
        message = (
            f"{counts['skills/misfits']} teacher prompts have no room for even the best skill in "
            f"{self.prompts.max_teacher_tokens} tokens: raise the skills' max_prompt_tokens, or shorten the skills."
        )
        if not counts["skills/prompts"]:
            raise ContextTooLong(message)
        warnings.warn(f"{message} These turns have no teacher.", RuntimeWarning, stacklevel=4)


def _request(episode: RunningEpisode, prompt: TurnPrompt) -> Request:
    return Request(
        prompt.ids,
        derive_seed(episode.seed, str(len(episode.turns))),
        prompt.messages,
        Situation(episode.env, episode.observation, episode.info, len(episode.turns), episode.conversation.style),
        chat=episode.episode_id if episode.conversation.mode == "appended" else "",
    )


_ROLLOUT_COUNTS = ("dropped_turns", "overlong_episodes", "shrunk_prompts")
_PERCENTS = (50, 90, 99, 100)
_SKILL_COUNTS = ("dropped_skills", "dropped_turns", "misfits", "prompt_tokens", "prompts", "shrunk_prompts")


def _metrics(trajectories: Sequence[Trajectory], counts: Counter[str]) -> dict[str, float]:
    """Return the metrics of `Rollout.collect` that trajectories tell, and its counts of prompts."""
    turns = [turn for trajectory in trajectories for turn in trajectory.turns]
    return {
        "rollout/episodes": float(len(trajectories)),
        "rollout/turns": float(len(turns)),
        "rollout/success": _mean([trajectory.success for trajectory in trajectories]),
        "rollout/return": _mean([trajectory.episode_return for trajectory in trajectories]),
        "rollout/score": _mean([trajectory.score for trajectory in trajectories]),
        "rollout/episode_turns": len(turns) / len(trajectories),
        "rollout/malformed": sum(not turn.is_well_formed for turn in turns) / max(len(turns), 1),
        "rollout/invalid": sum(not turn.is_action_valid for turn in turns) / max(len(turns), 1),
        "rollout/prompt_tokens": float(sum(trajectory.read_tokens for trajectory in trajectories)),
        "rollout/response_tokens": float(sum(len(turn.completion.token_ids) for turn in turns)),
        **_percentiles([len(turn.completion.token_ids) for turn in turns]),
        "rollout/cut_responses": float(sum(turn.completion.stop_reason == "length" for turn in turns)),
        "rollout/step_limit_episodes": float(sum(t.stop_reason == "step_limit" for t in trajectories)),
        **{f"rollout/{name}": float(counts[f"rollout/{name}"]) for name in _ROLLOUT_COUNTS},
    }


def _percentiles(lengths: Sequence[int]) -> dict[str, float]:
    """Return the lengths that so many percent of the completions do not exceed."""
    ordered = sorted(lengths)
    if not ordered:
        return {}
    places = {percent: math.ceil(percent / 100 * len(ordered)) - 1 for percent in _PERCENTS}
    return {f"rollout/response_length_p{percent}": float(ordered[place]) for percent, place in places.items()}


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


@contextmanager
def _timed(times: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    times[name] += time.perf_counter() - start
