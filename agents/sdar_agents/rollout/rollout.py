"""Rollouts: groups of episodes played at once by a policy, and kept as trajectories.

    rollout = Rollout(RolloutSettings("sdar/ALFWorld-v0", {"split": "train"}), policy, skills=SkillPrompts(retriever))
    result = rollout.collect(tasks, group_size=8, seed=0, step=12)
    rows = [row for trajectory in result.trajectories for row in make_rows(trajectory)]

All running episodes take a turn together: their prompts are made, the policy answers them at once, each environment
gets its command. An episode that has ended leaves at once; the policy is not asked for it again. Prompts are tokenised
once, and those ids and the sampled ones are what is kept.

What is drawn follows from the seed, the step, the task and the member's number alone, by a hash that is the same
everywhere; no global random state is read or changed. It refuses to send the model a prompt that was cut in the
middle: what is too long loses whole turns of history, or ends the episode.
"""

from __future__ import annotations

import math
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from sdar_agents.engines.policy import Policy, Request, Sampling, Situation
from sdar_agents.rollout.skill_prompts import SkillPrompts, name_skill
from sdar_agents.types import Completion, EndReason, Trajectory, Turn
from sdar_envs import Task, TextEnv
from sdar_envs.core import is_integer
from sdar_envs.errors import InvalidOption, UnknownName, did_you_mean
from sdar_envs.prompt import PromptParts, parse_completion, prompt_parts, style_of, terse
from sdar_envs.prompt import Turn as PastTurn
from sdar_envs.registry import make_text_env
from sdar_envs.rng import derive_seed
from sdar_skills import Skill, TeacherContext, teacher_context
from sdar_skills.context import ContextTooLong, Messages, Placement

__all__ = ["Failure", "Overlong", "Rollout", "RolloutResult", "RolloutSettings"]

Overlong = Literal["shrink", "end", "error"]
"""What becomes of a prompt that is too long. `shrink`: it loses history, oldest turn first, and if that is not enough
the episode ends. `end`: the episode ends. `error`: it is one."""

OnFailure = Literal["raise", "drop"]


@dataclass(frozen=True, slots=True)
class RolloutSettings:
    """What is played, and how it is put to the policy.

    Attributes:
        env_id: a registered `TextEnv`, such as `sdar/ALFWorld-v0`.
        env_kwargs: as for `gymnasium.make`, such as `{"split": "train", "max_steps": 30}`.
        history_length: how many of the latest turns a prompt shows.
        max_prompt_tokens: of a prompt; None is what the policy's context leaves.
        max_new_tokens: of a completion.
        temperature: of the sampling, above 0.
        greedy: take the likeliest tokens.
        stop: strings that end a completion, such as `</action>`.
        overlong: see `Overlong`.
        on_failure: what becomes of an environment that raises, such as one whose search engine is down. `raise`: so
            does the rollout. `drop`: the episode is left out of the result and named in `failures`; if that
            happens to all episodes, the last error is raised.
        terse: leave out who the model is and how to answer, as in the demonstrations of tiny models.
        system: text for a system message; None for no such message.
        prefilled: what the chat template puts at the start of the model's turn, such as `<think>`.

    Raises:
        InvalidOption: a value is out of range.
    """

    env_id: str
    env_kwargs: Mapping[str, Any] = field(default_factory=dict, hash=False)
    history_length: int = 2
    max_prompt_tokens: int | None = None
    max_new_tokens: int = 512
    temperature: float = 1.0
    greedy: bool = False
    stop: tuple[str, ...] = ()
    overlong: Overlong = "shrink"
    on_failure: OnFailure = "raise"
    terse: bool = False
    system: str | None = None
    prefilled: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "env_kwargs", dict(self.env_kwargs))
        object.__setattr__(self, "stop", self.sampling.stop)
        if not is_integer(self.history_length) or self.history_length < 0:
            raise InvalidOption(f"history_length is {self.history_length!r}; wanted 0 or more turns.")
        limit = self.max_prompt_tokens
        if limit is not None and (not is_integer(limit) or limit < 1):
            raise InvalidOption(f"max_prompt_tokens is {limit!r}; wanted None or a number of tokens from 1.")
        for name, choices in (("overlong", get_args(Overlong)), ("on_failure", get_args(OnFailure))):
            value = getattr(self, name)
            if value not in choices:
                raise InvalidOption(
                    f"{name} is {value!r}; wanted one of {', '.join(choices)}.{did_you_mean(value, choices)}"
                )

    @property
    def sampling(self) -> Sampling:
        """What the policy is told."""
        return Sampling(self.max_new_tokens, self.temperature, self.greedy, self.stop)


@dataclass(frozen=True, slots=True)
class Failure:
    """An episode that its environment broke off."""

    task: Task
    episode_id: str
    turn_index: int
    error: str


@dataclass(frozen=True, slots=True)
class RolloutResult:
    """What a rollout brought.

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


@dataclass(slots=True, eq=False)
class _Episode:
    """An episode that is being played."""

    task: Task
    group_id: str
    episode_id: str
    seed: int
    env: TextEnv[Any]
    skills: tuple[Skill, ...] | None
    observation: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)
    past: list[PastTurn] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    shown: dict[str, Skill] = field(default_factory=dict)
    end_reason: EndReason | None = None
    failure: Exception | None = None

    @property
    def is_running(self) -> bool:
        return self.end_reason is None and self.failure is None

    def trajectory(self) -> Trajectory:
        assert self.end_reason is not None
        return Trajectory(
            task=self.task,
            seed=self.seed,
            group_id=self.group_id,
            episode_id=self.episode_id,
            turns=tuple(self.turns),
            success=bool(self.info["is_success"]),
            end_reason=self.end_reason,
            score=float(self.info["score"]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Prompt:
    """The prompts of one turn."""

    messages: Messages
    ids: tuple[int, ...]
    teacher_ids: tuple[int, ...] | None
    skill_ids: tuple[str, ...]


class Rollout:
    """Plays tasks in groups.

    Args:
        settings: what is played and how.
        policy: plays.
        skills: which skills are shown to whom; None for no skills and no teacher.

    Raises:
        InvalidOption: a prompt and a completion of the allowed lengths do not fit the policy's context together.
    """

    def __init__(self, settings: RolloutSettings, policy: Policy, *, skills: SkillPrompts | None = None) -> None:
        self.settings = settings
        self.policy = policy
        self.skills = skills
        self._max_prompt_tokens = self._limit("max_prompt_tokens", settings.max_prompt_tokens)
        self._max_teacher_tokens = None
        if skills is not None and skills.reader == "teacher":
            self._max_teacher_tokens = self._limit("the teacher's max_prompt_tokens", skills.max_prompt_tokens)
        self._envs: list[TextEnv[Any]] = []

    def collect(
        self,
        tasks: Sequence[Task],
        *,
        group_size: int,
        seed: int,
        step: int,
        progress: Callable[[int, int], object] | None = None,
    ) -> RolloutResult:
        """Play each task `group_size` times.

        The members of a group start alike; a task that comes twice makes two groups. Group ids are
        `<step>/<task id>`, episode ids `<step>/<task id>/<member>`, with `#2`, `#3`, ... behind a task id that comes
        again.

        Metrics: `rollout/episodes`, `/turns`, `/success`, `/return`, `/score` (means over episodes), `/episode_turns`
        (mean), `/invalid` (share of turns), `/prompt_tokens`, `/response_tokens`, `/cut_responses` (ran into
        `max_new_tokens`), `/shrunk_prompts`, `/dropped_turns` (of history, in these), `/overlong_episodes`,
        `/step_limit_episodes`, `/failed_episodes`; with skills `skills/prompts` (that hold one), `/prompt_tokens`,
        `/shrunk_prompts`, `/dropped_turns`, `/dropped_skills`, `/misfits` (teacher prompts that were given up because
        not even the best skill fitted); `time/generate`, `time/prompts`, `time/env`, in seconds. Counts unless said.
        What a failed episode did is in the counts of shrunk and dropped things, of `skills/` and in the times alone.

        Args:
            tasks: at least one.
            group_size: episodes of each.
            seed: of the run.
            step: of the training, from 0. Another step draws other numbers for the same task.
            progress: called with the number of finished episodes and that of all, after each turn.

        Raises:
            InvalidOption: there are no tasks, a number is out of range, or a prompt is too long and that is an error.
            UnknownName: there is no such task, or no skills for it.
            ContextTooLong: not one teacher prompt of the whole rollout has room for a skill.
            Exception: what an environment raised, with a note that says where.
        """
        counts: Counter[str] = Counter()
        times = dict.fromkeys(("time/generate", "time/prompts", "time/env"), 0.0)
        with _timed(times, "time/env"):
            episodes = self._begin(tasks, group_size, seed, step)
        running = [episode for episode in episodes if episode.is_running]
        while running:
            with _timed(times, "time/prompts"):
                prompts = [self._prompt(episode, counts) for episode in running]
            asked = [(episode, prompt) for episode, prompt in zip(running, prompts, strict=True) if prompt is not None]
            with _timed(times, "time/generate"):
                answers = self._generate(asked)
            with _timed(times, "time/env"):
                self._step(asked, answers)
            running = [episode for episode in running if episode.is_running]
            if progress is not None:
                progress(len(episodes) - len(running), len(episodes))
        return self._result(episodes, counts, times)

    def close(self) -> None:
        """Close the environments; the next `collect` makes new ones."""
        for env in self._envs:
            env.close()
        self._envs.clear()

    # -- the parts of a turn ----------------------------------------------------------------

    def _begin(self, tasks: Sequence[Task], group_size: int, seed: int, step: int) -> list[_Episode]:
        for name, value, least in (("group_size", group_size, 1), ("seed", seed, 0), ("step", step, 0)):
            if not is_integer(value) or value < least:
                raise InvalidOption(f"{name} is {value!r}; wanted a number from {least}.")
        if not tasks:
            raise InvalidOption("there are no tasks; wanted at least one to play.")
        if self.skills is not None and self.skills.control_members >= group_size:
            raise InvalidOption(
                f"control_members is {self.skills.control_members} in groups of {group_size}; wanted fewer: nobody "
                "would be shown a skill."
            )
        kwargs = self.settings.env_kwargs
        while len(self._envs) < len(tasks) * group_size:
            self._envs.append(make_text_env(self.settings.env_id, **kwargs))
        episodes: list[_Episode] = []
        seen: Counter[str] = Counter()
        for task in tasks:
            seen[task.id] += 1
            group_id = f"{step}/{task.id}" + (f"#{seen[task.id]}" if seen[task.id] > 1 else "")
            group_seed = derive_seed(seed, group_id)
            for member in range(group_size):
                episode_id = f"{group_id}/{member}"
                episode_seed = derive_seed(seed, episode_id)
                skills = None
                if self.skills is not None:
                    skills = self.skills.choose(task, member, group_size, (group_seed, episode_seed))
                env = self._envs[len(episodes)]
                episode = _Episode(task, group_id, episode_id, episode_seed, env, skills)
                episodes.append(episode)
                with self._failing(episode):
                    episode.observation, episode.info = env.reset(seed=group_seed, options={"task_id": task.id})
        return episodes

    def _prompt(self, episode: _Episode, counts: Counter[str]) -> _Prompt | None:
        """Return the prompts of an episode's turn; None if that ended the episode."""
        settings, info = self.settings, episode.info
        style = style_of(episode.env, episode.task)
        parts = prompt_parts(
            terse(style) if settings.terse else style,
            info["instruction"],
            episode.past,
            episode.observation,
            info["admissible_commands"],
            history_length=settings.history_length,
            system=settings.system,
        )
        is_student = self.skills is not None and self.skills.reader == "student"
        skills = episode.skills or () if is_student else ()
        placement = self.skills.placement if self.skills is not None and is_student else "user"
        try:
            limit = self._max_prompt_tokens if settings.overlong == "shrink" else None
            context, ids = self._fitted(parts, skills, placement, limit)
            if self._max_prompt_tokens is not None and len(ids) > self._max_prompt_tokens:
                raise ContextTooLong(
                    f"a prompt of turn {len(episode.turns) + 1} of {episode.task.id!r} takes {len(ids)} tokens, and "
                    f"{self._max_prompt_tokens} are allowed: raise max_prompt_tokens, lower history_length, or let it "
                    "lose history by overlong='shrink'."
                )
        except ContextTooLong as error:
            if settings.overlong == "error":
                raise InvalidOption(str(error)) from error
            episode.end_reason = "overlong"
            counts["rollout/overlong_episodes"] += 1
            return None
        counts["rollout/shrunk_prompts"] += context.dropped_turns > 0
        counts["rollout/dropped_turns"] += context.dropped_turns
        teacher_ids: tuple[int, ...] | None = None
        if self.skills is not None and not is_student and episode.skills is not None:
            # The teacher is to know skills, not more history than the student.
            seen = replace(parts, history_length=parts.shown_turns - context.dropped_turns)
            try:
                context, teacher_ids = self._fitted(
                    seen, episode.skills, self.skills.placement, self._max_teacher_tokens
                )
            except ContextTooLong:
                counts["skills/misfits"] += 1
                return _Prompt(context.messages, ids, None, ())
            student_messages = seen.messages()
        else:
            student_messages = context.messages
        if self.skills is not None and episode.skills is not None:
            self._count_skills(episode, context, ids if teacher_ids is None else teacher_ids, counts)
        return _Prompt(student_messages, ids, teacher_ids or None, tuple(map(name_skill, context.skills)))

    def _count_skills(
        self, episode: _Episode, context: TeacherContext, ids: tuple[int, ...], counts: Counter[str]
    ) -> None:
        used = {arm.skill for arm in context.skills}
        episode.shown.update({skill.id: skill for skill in episode.skills or () if skill.id in used})
        counts["skills/prompts"] += bool(used)
        counts["skills/prompt_tokens"] += len(ids)
        counts["skills/shrunk_prompts"] += bool(context.dropped_turns or context.dropped_skills)
        counts["skills/dropped_turns"] += context.dropped_turns
        counts["skills/dropped_skills"] += len(context.dropped_skills)

    def _fitted(
        self, parts: PromptParts, skills: Sequence[Skill], placement: Placement, limit: int | None
    ) -> tuple[TeacherContext, tuple[int, ...]]:
        """Return a prompt that fits a limit, and its ids; nothing is encoded twice."""
        last: tuple[str, tuple[int, ...]] = ("", ())

        def count_tokens(text: str) -> int:
            nonlocal last
            last = text, self.policy.encode(text)
            return len(last[1])

        render = self.policy.render
        context = teacher_context(
            parts, skills, placement, token_budget=limit, count_tokens=count_tokens, render=render
        )
        if limit is None:
            count_tokens(context.render(render))
        return context, last[1]

    def _generate(self, asked: Sequence[tuple[_Episode, _Prompt]]) -> list[Completion]:
        requests = [
            Request(
                prompt.ids,
                derive_seed(episode.seed, str(len(episode.turns))),
                prompt.messages,
                Situation(episode.env, episode.observation, episode.info, len(episode.turns)),
            )
            for episode, prompt in asked
        ]
        return self.policy.generate(requests, self.settings.sampling) if requests else []

    def _step(self, asked: Sequence[tuple[_Episode, _Prompt]], answers: Sequence[Completion]) -> None:
        parsed = [
            parse_completion(answer.text, style_of(episode.env, episode.task), prefilled=self.settings.prefilled)
            for (episode, _), answer in zip(asked, answers, strict=True)
        ]
        if asked:
            envs = [episode.env for episode, _ in asked]
            try:
                type(envs[0]).prepare(envs, [reading.action for reading in parsed])
            except Exception:
                if self.settings.on_failure == "raise":
                    raise
                # What fails for all at once fails again for whom it concerns, in its own step.
        for (episode, prompt), answer, reading in zip(asked, answers, parsed, strict=True):
            with self._failing(episode):
                seen = episode.observation
                episode.observation, reward, terminated, truncated, episode.info = episode.env.step(reading.action)
                episode.past.append(PastTurn(seen, reading.action))
                episode.turns.append(
                    Turn(
                        observation=seen,
                        messages=tuple(prompt.messages),
                        prompt_ids=prompt.ids,
                        completion=answer,
                        action=reading.action,
                        reward=float(reward),
                        is_action_valid=reading.is_well_formed,
                        teacher_prompt_ids=prompt.teacher_ids,
                        skill_ids=prompt.skill_ids,
                    )
                )
                if terminated or truncated:
                    episode.end_reason = "terminated" if terminated else "truncated"

    @contextmanager
    def _failing(self, episode: _Episode) -> Iterator[None]:
        """Note what an environment raises, or say where it did."""
        try:
            yield
        except Exception as error:
            # A task that does not exist is the caller's mistake.
            if self.settings.on_failure == "raise" or isinstance(error, UnknownName):
                error.add_note(f"in {episode.task.id!r}, turn {len(episode.turns) + 1} of {episode.episode_id!r}")
                raise
            episode.failure = error

    # -- the result -------------------------------------------------------------------------

    def _result(self, episodes: Sequence[_Episode], counts: Counter[str], times: Mapping[str, float]) -> RolloutResult:
        failed = [episode for episode in episodes if episode.failure is not None]
        if len(failed) == len(episodes):
            assert failed[-1].failure is not None
            raise failed[-1].failure
        finished = [episode for episode in episodes if episode.failure is None]
        trajectories = tuple(episode.trajectory() for episode in finished)
        if counts["skills/misfits"]:
            message = (
                f"{counts['skills/misfits']} teacher prompts have no room for even the best skill in "
                f"{self._max_teacher_tokens} tokens: raise the skills' max_prompt_tokens, or shorten the skills."
            )
            if not counts["skills/prompts"]:
                raise ContextTooLong(message)
            warnings.warn(f"{message} These turns have no teacher.", RuntimeWarning, stacklevel=3)
        turns = [turn for trajectory in trajectories for turn in trajectory.turns]
        of_rollout = ("dropped_turns", "overlong_episodes", "shrunk_prompts")
        of_skills = ("dropped_skills", "dropped_turns", "misfits", "prompt_tokens", "prompts", "shrunk_prompts")
        metrics = {
            "rollout/episodes": float(len(trajectories)),
            "rollout/failed_episodes": float(len(failed)),
            "rollout/turns": float(len(turns)),
            "rollout/success": _mean([trajectory.success for trajectory in trajectories]),
            "rollout/return": _mean([trajectory.episode_return for trajectory in trajectories]),
            "rollout/score": _mean([trajectory.score for trajectory in trajectories]),
            "rollout/episode_turns": len(turns) / len(trajectories),
            "rollout/invalid": sum(not turn.is_action_valid for turn in turns) / max(len(turns), 1),
            "rollout/prompt_tokens": float(sum(len(turn.prompt_ids) for turn in turns)),
            "rollout/response_tokens": float(sum(len(turn.completion.token_ids) for turn in turns)),
            "rollout/cut_responses": float(sum(turn.completion.stop_reason == "length" for turn in turns)),
            "rollout/step_limit_episodes": float(sum(t.end_reason == "truncated" for t in trajectories)),
            **{f"rollout/{name}": float(counts[f"rollout/{name}"]) for name in of_rollout},
            **({f"skills/{name}": float(counts[f"skills/{name}"]) for name in of_skills} if self.skills else {}),
            **times,
        }
        return RolloutResult(
            trajectories=trajectories,
            metrics=metrics,
            shown={episode.episode_id: tuple(episode.shown.values()) for episode in finished},
            failures=tuple(
                Failure(
                    episode.task,
                    episode.episode_id,
                    len(episode.turns),
                    f"{type(episode.failure).__name__}: {episode.failure}",
                )
                for episode in failed
            ),
        )

    def _limit(self, name: str, tokens: int | None) -> int | None:
        """Return how long a prompt may be."""
        context, new = self.policy.context_length, self.settings.max_new_tokens
        if context is None:
            return tokens
        if (tokens or 1) + new > context:
            raise InvalidOption(
                f"{name} is {tokens} and max_new_tokens {new}, but the policy's context has {context} tokens: lower "
                "one of them."
            )
        return context - new if tokens is None else tokens


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


@contextmanager
def _timed(times: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    times[name] += time.perf_counter() - start
