"""Core data types: `Completion`, `Turn`, `Trajectory`, and the training `Row` of a turn.

A trajectory is the record of one episode. Each of its turns becomes one training row, which holds exactly the token ids
that the model was fed and exactly those that it sampled: nothing is tokenised twice. Tensors begin in
`sdar_agents.scoring.batch`; this module imports no torch. The JSON form of a trajectory is in
`sdar_agents.rollout.recording`.

Construction refuses values that would silently train something else: log-probabilities that do not pair with tokens, an
empty prompt, numbers that are not finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from sdar_envs import Task
from sdar_envs.chat import ChatMode
from sdar_envs.errors import InvalidOption, did_you_mean
from sdar_envs.prompt import PromptParts
from sdar_envs.tools import ToolCall

__all__ = ["Completion", "EpisodeStopReason", "Row", "StopReason", "Trajectory", "Turn", "make_rows"]

StopReason = Literal["eos", "stop", "length"]
"""Why a completion ended: end-of-sequence token, stop string, limit of new tokens."""

EpisodeStopReason = Literal["terminated", "step_limit", "token_limit"]
"""Why an episode ended: its task did, the environment truncated it, or the next prompt would not have fitted.

The words are those of `stop_reason` in `trajectories.jsonl` and `episodes.jsonl`."""

_THOUGHT_ENDS = "</think>"


@dataclass(frozen=True, slots=True)
class Completion:
    """A model's completion of one prompt: text, and token ids with log-probabilities where the engine gives them.

    Attributes:
        token_ids: the sampled ids, the end token included if it was sampled; empty if the engine returns text alone.
        logprobs: of each id under the distribution that it was sampled from (after temperature), in nats; None if the
            engine does not return them.
        text: the decoded ids, without special tokens.
        stop_reason: see `StopReason`.
        reasoning: the reasoning that a server returns apart from `text`; None if it does not.
        prompt_tokens: length of the prompt; None if it is not known.
        completion_tokens: length of the completion; None if it is not known.
        tool_calls: the tool calls that a server returns apart from `text`, as they came; see `Request.tools`.
        refusal: what a server says instead of answering; None if it does not refuse.
        cached_tokens: the part of `prompt_tokens` that a server had in its cache; None if it is not known.
        cost: what a server asks for the answer, in its currency; None if it does not say.
        version: number of the training steps that made the weights which it was sampled from; None if the engine does
            not say.

    Raises:
        InvalidOption: log-probabilities do not pair with ids or are not finite, an id is no int from 0, or the stop
            reason is unknown.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...] | None
    text: str
    stop_reason: StopReason
    reasoning: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    refusal: str | None = None
    cached_tokens: int | None = None
    cost: float | None = None
    version: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tool_calls", tuple(self.tool_calls))
        _freeze_ids(self, "token_ids")
        _freeze_logprobs(self, "logprobs", len(self.token_ids))
        _check_choice("stop_reason", self.stop_reason, get_args(StopReason))

    def to_json(self) -> dict[str, Any]:
        """Return the completion as a dictionary of JSON values, without optional fields that are None."""
        fields: dict[str, Any] = {
            "token_ids": list(self.token_ids),
            "logprobs": None if self.logprobs is None else list(self.logprobs),
            "text": self.text,
            "stop_reason": self.stop_reason,
        }
        names = ("reasoning", "prompt_tokens", "completion_tokens", "refusal", "cached_tokens", "cost", "version")
        optional = {name: getattr(self, name) for name in names}
        fields |= {name: value for name, value in optional.items() if value is not None}
        return fields | ({"tool_calls": [call.to_json() for call in self.tool_calls]} if self.tool_calls else {})

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Completion:
        """Restore a completion from `to_json`'s dictionary."""
        calls = tuple(ToolCall(**call) for call in fields.get("tool_calls", ()))
        return cls(**{**fields, "tool_calls": calls})


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange of an episode: observation, prompt, completion, command, reward.

    Attributes:
        observation: the environment's text before the command.
        messages: the chat messages of the prompt, each with `role` and `content`.
        prompt_ids: the token ids that the model was fed; empty if the policy has no tokens, and nothing can be trained.
        completion: the model's answer.
        action: the command that the environment got.
        reward: what is trained on: the environment's reward, or that of `rollout.reward`.
        is_well_formed: whether the completion kept the format of the prompt style.
        is_action_valid: whether the environment accepted the command (`info["is_action_valid"]`); None if it is not
            known, as in files of format 1.
        score: the environment's score after the command (`info["score"]`).
        env_reward: the environment's own reward where `reward` is that of `rollout.reward`; else None.
        teacher_prompt_ids: the teacher's prompt, which holds skills; None if there is no teacher.
        skill_ids: the skills in the teacher's prompt (or in the student's, if the method shows them to the student).
        parts: the student's prompt in parts, with the history that it showed, so that a context can be inserted after
            the episode; None in recordings. It has no JSON form and takes no part in comparisons.
    """

    observation: str
    messages: tuple[Mapping[str, str], ...]
    prompt_ids: tuple[int, ...]
    completion: Completion
    action: str
    reward: float
    is_well_formed: bool
    is_action_valid: bool | None
    score: float = 0.0
    env_reward: float | None = None
    teacher_prompt_ids: tuple[int, ...] | None = None
    skill_ids: tuple[str, ...] = ()
    parts: PromptParts | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "messages", tuple(dict(message) for message in self.messages))
        object.__setattr__(self, "skill_ids", tuple(self.skill_ids))
        _freeze_ids(self, "prompt_ids")
        if self.teacher_prompt_ids is not None:
            _freeze_ids(self, "teacher_prompt_ids")
        _check_finite("reward", self.reward)
        _check_finite("score", self.score)


@dataclass(frozen=True, slots=True)
class Trajectory:
    """The record of one episode.

    Attributes:
        task: the task that was played.
        seed: of everything that was drawn in this episode.
        group_id: shared by the episodes that are compared with each other: same task, same start.
        episode_id: unique in the run.
        turns: oldest first; a finished episode has no turn after its end.
        success: whether the task was solved.
        stop_reason: see `EpisodeStopReason`.
        score: the environment's score at the end.
        final_observation: the environment's text after the last command.
        mode: `appended` if the prompt of each turn begins with that of the turn before and its completion.
    """

    task: Task
    seed: int
    group_id: str
    episode_id: str
    turns: tuple[Turn, ...]
    success: bool
    stop_reason: EpisodeStopReason
    score: float = 0.0
    final_observation: str = ""
    mode: ChatMode = "windowed"

    def __post_init__(self) -> None:
        object.__setattr__(self, "turns", tuple(self.turns))
        _check_choice("mode", self.mode, get_args(ChatMode))
        _check_choice("stop_reason", self.stop_reason, get_args(EpisodeStopReason))
        _check_finite("score", self.score)

    @property
    def episode_return(self) -> float:
        """The undiscounted sum of the rewards."""
        return sum(turn.reward for turn in self.turns)

    @property
    def read_tokens(self) -> int:
        """Number of prompt tokens; those of a growing chat count once."""
        if self.mode == "windowed":
            return sum(len(turn.prompt_ids) for turn in self.turns)
        sampled = sum(len(turn.completion.token_ids) for turn in self.turns[:-1])
        return len(self.turns[-1].prompt_ids) - sampled if self.turns else 0


@dataclass(frozen=True, slots=True)
class Row:
    """One training example: a turn's prompt, its sampled response and its episode's return.

    Attributes:
        prompt_ids: what the model was fed; at least one token, which predicts the first of the response.
        response_ids: what was sampled, the end token included. An empty response trains nothing.
        sampler_logprobs: log-probability of each response id when it was sampled, in nats; None if the engine does not
            return them.
        group_id: rows with the same one are compared with each other.
        episode_id: rows with the same one are turns of one episode.
        turn_index: 0 for the first turn.
        episode_return: of the whole episode; the same in all its rows.
        invalid_penalty: what a malformed completion costs this row alone; 0 or more, subtracted from its score.
        is_truncated: the response ran into the token limit.
        teacher_prompt_ids: the prompt with skills; None if this row has no teacher.
        turn_reward: of this turn alone.
        state: the observation that the turn answers; rows with the same one are at the same state.
        is_success: whether the episode solved its task.
        given_advantage: the row's advantage, which no group normalises; None to compare the row with its group.
        is_trained: whether the policy gradient, the KL penalty and the entropy bonus apply; False for a row that is
            distilled alone, such as another prompt's response.
        teacher_weight: factor of the row's distillation; 0 or more.
        token_weights: factors of the distillation of each response token, 0 or more; None for 1.
        more_teacher_prompts: the second and further prompts of a teacher that reads several; None where one is missing.
        answer_start: index of the first response token behind the thought, the length of the response if the thought
            has not ended; None if it is not known.
        token_turns: of a row that is a whole episode: the turn in which each response token was sampled, -1 for tokens
            of the chat between completions, which are not trained; None for a row of one turn.
    """

    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    sampler_logprobs: tuple[float, ...] | None = None
    group_id: str = ""
    episode_id: str = ""
    turn_index: int = 0
    episode_return: float = 0.0
    invalid_penalty: float = 0.0
    is_truncated: bool = False
    teacher_prompt_ids: tuple[int, ...] | None = None
    turn_reward: float = 0.0
    state: str = ""
    is_success: bool = False
    given_advantage: float | None = None
    is_trained: bool = True
    teacher_weight: float = 1.0
    token_weights: tuple[float, ...] | None = None
    more_teacher_prompts: tuple[tuple[int, ...] | None, ...] = ()
    answer_start: int | None = None
    token_turns: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("prompt_ids", "response_ids", "teacher_prompt_ids"):
            if getattr(self, name) is not None:
                _freeze_ids(self, name)
        _freeze_logprobs(self, "sampler_logprobs", len(self.response_ids))
        for name in ("prompt_ids", "teacher_prompt_ids"):
            if getattr(self, name) == ():
                raise InvalidOption(f"{name} is empty; the first response token needs a token before it.")
        for name in ("episode_return", "invalid_penalty", "turn_reward", "teacher_weight"):
            _check_finite(name, getattr(self, name))
        if self.invalid_penalty < 0:
            raise InvalidOption(f"invalid_penalty is {self.invalid_penalty}; wanted 0 or more: it is subtracted.")
        if self.given_advantage is not None:
            _check_finite("given_advantage", self.given_advantage)
        self._check_teacher()
        if self.token_turns is not None:
            object.__setattr__(self, "token_turns", tuple(self.token_turns))
            if len(self.token_turns) != len(self.response_ids) or min(self.token_turns, default=0) < -1:
                raise InvalidOption(
                    f"token_turns must have a number from -1 for each of the {len(self.response_ids)} response tokens: "
                    f"got {len(self.token_turns)} numbers from {min(self.token_turns, default=0)}."
                )
        if self.answer_start is not None and not 0 <= self.answer_start <= len(self.response_ids):
            raise InvalidOption(
                f"answer_start is {self.answer_start}; wanted 0 to {len(self.response_ids)}, the response's length."
            )

    def _check_teacher(self) -> None:
        """Check the weights and the further prompts of the teacher."""
        _freeze_logprobs(self, "token_weights", len(self.response_ids))
        if self.teacher_weight < 0 or min(self.token_weights or (0.0,)) < 0:
            raise InvalidOption(
                "teacher_weight or one of token_weights is negative; wanted 0 or more: they are shares."
            )
        if self.more_teacher_prompts:
            prompts = tuple(prompt if prompt is None else tuple(prompt) for prompt in self.more_teacher_prompts)
            for prompt in prompts:
                if prompt is not None:
                    _check_ids("more_teacher_prompts", prompt)
                    if not prompt:
                        raise InvalidOption("one of more_teacher_prompts is empty; wanted token ids, or None for none.")
            object.__setattr__(self, "more_teacher_prompts", prompts)

    @property
    def score(self) -> float:
        """Return minus penalty, before normalisation: `episode_return - invalid_penalty`."""
        return self.episode_return - self.invalid_penalty


def make_rows(
    trajectory: Trajectory, *, invalid_penalty: float = 0.0, decode: Callable[[int], str] | None = None
) -> tuple[Row, ...]:
    """Return the training rows of an episode: one for each turn, or one for all turns of a growing chat.

    Args:
        trajectory: the episode.
        invalid_penalty: what each malformed completion costs its own row; 0 or more. In a row of several turns it is
            the mean of what the turns cost. The episode's return stays as it is. A well-formed command that the
            environment does not accept costs nothing.
        decode: returns the text of one token, to find where the thought of a turn ends; None leaves `Row.answer_start`
            unknown, as it is in a row of several turns.

    Raises:
        InvalidOption: a prompt of a growing chat does not begin with the tokens before it.

    Source: the reference writes the return to every row of the episode and the penalty to one row
        (agent_system/reward_manager/episode.py, verl/trainer/ppo/ray_trainer.py).
    """
    if trajectory.mode == "appended":
        return (_chat_row(trajectory, invalid_penalty),) if trajectory.turns else ()
    episode_return = trajectory.episode_return
    return tuple(
        Row(
            prompt_ids=turn.prompt_ids,
            response_ids=turn.completion.token_ids,
            sampler_logprobs=turn.completion.logprobs,
            group_id=trajectory.group_id,
            episode_id=trajectory.episode_id,
            turn_index=index,
            episode_return=episode_return,
            invalid_penalty=0.0 if turn.is_well_formed else invalid_penalty,
            is_truncated=turn.completion.stop_reason == "length",
            teacher_prompt_ids=turn.teacher_prompt_ids,
            turn_reward=turn.reward,
            state=turn.observation,
            is_success=trajectory.success,
            answer_start=None if decode is None else _answer_start([decode(i) for i in turn.completion.token_ids]),
        )
        for index, turn in enumerate(trajectory.turns)
    )


def _chat_row(trajectory: Trajectory, invalid_penalty: float) -> Row:
    """Return the row of a growing chat: the first prompt, then all that follows it as the response."""
    turns = trajectory.turns
    prompt = turns[0].prompt_ids
    ids: list[int] = list(prompt)
    logprobs: list[float] = []
    places: list[int] = []
    for index, turn in enumerate(turns):
        said = turn.prompt_ids[len(ids) :]
        if turn.prompt_ids != (*ids, *said):
            raise InvalidOption(
                f"the prompt of turn {index + 1} of {trajectory.episode_id!r} does not begin with the tokens before "
                "it: it is no growing chat."
            )
        sampled = turn.completion.token_ids
        ids += [*said, *sampled]
        logprobs += [0.0] * len(said) + list(turn.completion.logprobs or [0.0] * len(sampled))
        places += [-1] * len(said) + [index] * len(sampled)
    malformed = sum(not turn.is_well_formed for turn in turns)
    has_logprobs = all(turn.completion.logprobs is not None for turn in turns)
    return Row(
        prompt_ids=prompt,
        response_ids=tuple(ids[len(prompt) :]),
        sampler_logprobs=tuple(logprobs) if has_logprobs else None,
        group_id=trajectory.group_id,
        episode_id=trajectory.episode_id,
        episode_return=trajectory.episode_return,
        invalid_penalty=invalid_penalty * malformed / len(turns),
        is_truncated=any(turn.completion.stop_reason == "length" for turn in turns),
        # A teacher whose prompt has become too long is none of the episode.
        teacher_prompt_ids=None if turns[-1].teacher_prompt_ids is None else turns[0].teacher_prompt_ids,
        turn_reward=trajectory.episode_return,
        state=turns[0].observation,
        is_success=trajectory.success,
        token_turns=tuple(places),
    )


def _answer_start(pieces: Sequence[str]) -> int:
    """Return the index of the first token behind the last thought; the number of tokens if that has not ended."""
    text = "".join(pieces)
    end = text.rfind(_THOUGHT_ENDS)
    if "<think>" in text[max(end, 0) :]:
        return len(pieces)
    reached, count = 0, 0
    while end >= 0 and reached < end + len(_THOUGHT_ENDS):
        reached += len(pieces[count])
        count += 1
    return count


def _freeze_ids(owner: object, name: str) -> None:
    given: Iterable[int] = getattr(owner, name)
    ids = tuple(given)
    _check_ids(name, ids)
    object.__setattr__(owner, name, ids)


def _check_ids(name: str, ids: tuple[int, ...]) -> None:
    # By type, not value: a tensor's elements or numpy integers would not survive JSON. Whole at first: it is faster.
    if ids and (set(map(type, ids)) != {int} or min(ids) < 0):
        wrong = next(token for token in ids if type(token) is not int or token < 0)
        raise InvalidOption(
            f"{name} holds {wrong!r} ({type(wrong).__name__}); wanted token ids as int from 0. Call .tolist() first."
        )


def _freeze_logprobs(owner: object, name: str, count: int) -> None:
    given: Sequence[float] | None = getattr(owner, name)
    if given is None:
        return
    logprobs = tuple(map(float, given))
    if len(logprobs) != count:
        raise InvalidOption(f"{name} must pair with the tokens: got {len(logprobs)}, expected {count}.")
    if not all(map(math.isfinite, logprobs)):
        raise InvalidOption(f"{name} holds {next(x for x in logprobs if not math.isfinite(x))}; wanted finite numbers.")
    object.__setattr__(owner, name, logprobs)


def _check_finite(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InvalidOption(f"{name} is {value!r}; wanted a finite number.")


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidOption(f"{name} is {value!r}; wanted one of {', '.join(choices)}.{did_you_mean(value, choices)}")
