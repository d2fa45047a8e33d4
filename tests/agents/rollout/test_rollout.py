"""Rollouts: exact rows, groups, seeds, windows, limits, skills, environments that fail."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
from helpers.skill_toys import make_skill
from helpers.tiny_models import PAD, tiny_policy, tiny_tokenizer
from helpers.toy import CountingEnv, Numbers

import sdar_envs
from sdar_agents.baselines.scripted import ExplorerAgent, OracleAgent, RandomAgent
from sdar_agents.engines.policy import Messages, Request, Sampling
from sdar_agents.engines.scripted import ScriptedPolicy
from sdar_agents.engines.transformers import TransformersPolicy
from sdar_agents.rollout.rollout import Rollout, RolloutResult, RolloutSettings
from sdar_agents.rollout.skill_showings import skill_showings
from sdar_agents.scoring.batch import make_batch
from sdar_agents.scoring.logprobs import score
from sdar_agents.skill_use.prompts import SkillPrompts
from sdar_agents.types import Completion, Row, make_rows
from sdar_envs import Task
from sdar_envs.core import Outcome
from sdar_envs.errors import InvalidOption, UnknownName
from sdar_envs.rng import derive_seed
from sdar_envs.search_qa.retrieval.retriever import RetrievalFailed
from sdar_skills import Library, Skill, make_retriever
from sdar_skills.context import ContextTooLong

TOY = "toy/RolledCounting-v0"
SUITES = {"sdar/ALFWorld-v0": "valid_seen", "sdar/WebShop-v0": "test", "sdar/SearchQA-v0": "test"}
ADVICE = "Compare the numbers, then go up or down."


class FailingEnv(CountingEnv):
    """Its engine is down whenever the number is 3."""

    def _act(self, action: str) -> Outcome:
        if self._number == 3:
            raise RetrievalFailed("the engine is down.")
        return super()._act(action)


@pytest.fixture(scope="module", autouse=True)
def _toys() -> Any:
    gymnasium.register(TOY, "helpers.toy:CountingEnv")
    gymnasium.register("toy/Failing-v0", FailingEnv)
    yield
    for name in (TOY, "toy/Failing-v0"):
        del gymnasium.registry[name]


@pytest.fixture(scope="module")
def policy() -> TransformersPolicy:
    return tiny_policy()


class Says:
    """Answers each turn with a text, and keeps what it was asked."""

    context_length: int | None = None

    def __init__(self, *texts: str, tokens: Sequence[int] = ()) -> None:
        self.texts = texts
        self.tokens = tuple(tokens)
        self.asked: list[list[Request]] = []

    def render(self, messages: Messages) -> str:
        return "".join(f"<{message['role']}>{message['content']}" for message in messages)

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(text.encode())

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        self.asked.append(list(requests))
        texts = [self.texts[len(self.asked) % len(self.texts)] for _ in requests]
        return [Completion(self.tokens, None, text, "eos") for text in texts]


def toy_tasks(count: int) -> list[Task]:
    return [Numbers().task("valid", i) for i in range(count)]


def toy_settings(**settings: Any) -> RolloutSettings:
    return RolloutSettings(TOY, {"max_steps": 3}, **{"max_new_tokens": 8, **settings})


def rows_of(result: RolloutResult) -> list[Row]:
    return [row for trajectory in result.trajectories for row in make_rows(trajectory)]


def library(*extra: Skill) -> Library:
    skills = [make_skill("count-up", "count_up", ADVICE), make_skill("count-down", "count_down", ADVICE), *extra]
    return Library(skills)


def skill_prompts(*extra: Skill, name: str = "task_type", **settings: Any) -> SkillPrompts:
    return SkillPrompts(make_retriever(name, library(*extra)), **settings)


# -- rows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", SUITES)
def test_every_suite_is_played_and_can_be_trained_on(env_id: str, policy: TransformersPolicy) -> None:
    tasks = sdar_envs.tasks(env_id, split=SUITES[env_id], limit=2)
    settings = RolloutSettings(env_id, {"max_steps": 3}, max_new_tokens=6)
    skills = SkillPrompts(make_retriever("task_type", Library.load()), k=2)
    result = Rollout(settings, policy, skills=skills).collect(tasks, group_size=2, seed=0, step=0)
    assert [trajectory.task for trajectory in result.trajectories] == [tasks[0]] * 2 + [tasks[1]] * 2
    batch = make_batch(rows_of(result), pad_id=PAD)
    assert batch.has_teacher.all()
    assert batch.sampler_logprobs is not None
    with torch.no_grad():
        student = score(policy.model, batch.student, batch.mask).logprobs
        assert batch.teacher is not None
        teacher = score(policy.model, batch.teacher, batch.mask).logprobs
    assert (student - batch.sampler_logprobs)[batch.mask].abs().max() < 1e-4
    assert (student - teacher)[batch.mask].abs().max() > 1e-2
    for trajectory in result.trajectories:
        for turn in trajectory.turns:
            # Tokenised once: what was fed is what the messages render to.
            assert turn.prompt_ids == policy.encode(policy.render(turn.messages))
            assert len(turn.skill_ids) == 2
        assert trajectory.stop_reason == "step_limit"


def test_each_turn_is_a_prompt_of_its_own_with_the_last_turns() -> None:
    says = Says("<think>a</think><action>up</action>", "<think>b</think><action>jump</action>")
    says_task = toy_tasks(1)[0]
    result = Rollout(toy_settings(history_length=1), says).collect([says_task], group_size=1, seed=0, step=0)
    first, second, third = (turn.messages[0]["content"] for turn in result.trajectories[0].turns)
    start = says_task.data["start"]
    target = says_task.data["target"]
    role = "You are in an interactive text environment. Each turn you read an observation and give one command."
    ending = (
        "Commands you can give now:\ndouble\ndown\nup\n\nFirst reason step by step inside <think>...</think>. "
        "Then give exactly one command inside <action>...</action>."
    )
    assert first == f"{role}\n\nObservation:\nIt is {start}. Make it {target}.\n\n{ending}"
    assert second == (
        f"{role}\n\nYour task: Make it {target}.\n\nSteps taken so far: 1.\n"
        f"Turn 1, observation: It is {start}. Make it {target}.\nTurn 1, action: jump\n\n"
        f"Observation now, at turn 2:\n'jump' is no command.\n\n{ending}"
    )
    assert third == (
        f"{role}\n\nYour task: Make it {target}.\n\nSteps taken so far: 2. The last one:\n"
        f"Turn 2, observation: 'jump' is no command.\nTurn 2, action: up\n\n"
        f"Observation now, at turn 3:\nIt is {start + 1}.\n\n{ending}"
    )
    assert "a</think>" not in second + third
    assert [turn.action for turn in result.trajectories[0].turns] == ["jump", "up", "jump"]


def test_an_episode_that_has_ended_is_not_asked_for_again() -> None:
    policy = ScriptedPolicy(OracleAgent)
    tasks = sdar_envs.tasks("sdar/ALFWorld-v0", split="valid_seen", limit=8)
    asked: list[int] = []
    generate = policy.generate
    policy.generate = lambda requests, sampling: (asked.append(len(requests)), generate(requests, sampling))[1]  # type: ignore[method-assign]
    result = Rollout(RolloutSettings("sdar/ALFWorld-v0"), policy).collect(tasks, group_size=2, seed=0, step=0)
    lengths = [len(trajectory.turns) for trajectory in result.trajectories]
    assert len(set(lengths)) > 2
    assert asked == [sum(length > turn for length in lengths) for turn in range(max(lengths))]
    assert sum(asked) == len(rows_of_words(result)) == result.metrics["rollout/turns"]
    for trajectory in result.trajectories:
        assert (trajectory.success, trajectory.stop_reason, trajectory.episode_return, trajectory.score) == (
            True,
            "terminated",
            1.0,
            1.0,
        )


def rows_of_words(result: RolloutResult) -> list[Any]:
    return [turn for trajectory in result.trajectories for turn in trajectory.turns]


def test_format_and_environment_are_judged_apart_and_only_a_malformed_completion_is_penalised() -> None:
    # Well-formed and refused, malformed and accepted, well-formed and refused.
    says = Says("<action>up</action>", "<think>a</think><action>jump</action>", tokens=(1, 2))
    result = Rollout(toy_settings(), says).collect(toy_tasks(2)[1:], group_size=1, seed=0, step=0)
    [trajectory] = result.trajectories
    assert [turn.action for turn in trajectory.turns] == ["jump", "up", "jump"]
    assert [turn.is_well_formed for turn in trajectory.turns] == [True, False, True]
    assert [turn.is_action_valid for turn in trajectory.turns] == [False, True, False]
    assert result.metrics["rollout/malformed"] == pytest.approx(1 / 3)
    assert result.metrics["rollout/invalid"] == pytest.approx(2 / 3)
    rows = make_rows(trajectory, invalid_penalty=0.1)
    assert [row.score for row in rows] == pytest.approx([0.0, -0.1, 0.0])
    assert [row.episode_return for row in rows] == [0.0] * 3
    assert result.metrics["rollout/step_limit_episodes"] == 1
    assert trajectory.final_observation == "'jump' is no command."


def test_a_prompt_style_of_ones_own_writes_the_prompt_and_reads_the_completion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "style_of_mine.py").write_text(
        "from sdar_envs.prompt import PromptStyle\n"
        "STYLE = PromptStyle(role='You count.', action_tags=('do',), require_reasoning=False)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    says = Says("<do>up</do>")
    settings = toy_settings(style="style_of_mine:STYLE")
    [trajectory] = Rollout(settings, says).collect(toy_tasks(1), group_size=1, seed=0, step=0).trajectories
    assert all(turn.messages[0]["content"].startswith("You count.\n\n") for turn in trajectory.turns)
    assert {(turn.action, turn.is_well_formed) for turn in trajectory.turns} == {("up", True)}
    with pytest.raises(UnknownName, match="Did you mean 'STYLE'"):
        Rollout(toy_settings(style="style_of_mine:STYLES"), says)


@pytest.mark.parametrize("text", ["no tags at all", "<think>I take <action>up</action>", "up"])
def test_an_unreadable_completion_does_nothing_and_the_history_says_so(text: str) -> None:
    result = Rollout(toy_settings(), Says(text, tokens=(1, 2))).collect(toy_tasks(1), group_size=1, seed=0, step=0)
    turns = result.trajectories[0].turns
    assert [turn.action for turn in turns] == [""] * 3
    assert "Turn 1, action: (no readable action)" in turns[1].messages[0]["content"]
    assert (result.metrics["rollout/malformed"], result.metrics["rollout/invalid"]) == (1.0, 1.0)


@pytest.mark.parametrize("prefilled", [None, "", "<think>"])
def test_a_thought_that_the_template_opens_is_known(prefilled: str | None) -> None:
    class Opens(Says):
        def render(self, messages: Messages) -> str:
            return f"{super().render(messages)}<assistant><think>\n"

    says = Opens("I do not <action>jump</action>.</think><action>up</action>")
    [trajectory] = (
        Rollout(toy_settings(prefilled=prefilled), says)
        .collect(toy_tasks(1), group_size=1, seed=0, step=0)
        .trajectories
    )
    # A setting wins over what the template says.
    assert {turn.is_well_formed for turn in trajectory.turns} == {prefilled != ""}
    assert {turn.action for turn in trajectory.turns} == {"up"}


def test_reasoning_that_came_apart_is_a_thought() -> None:
    class Apart(Says):
        def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
            return [
                replace(answer, reasoning="<action>down</action>") for answer in super().generate(requests, sampling)
            ]

    [trajectory] = (
        Rollout(toy_settings(), Apart("<action>up</action>"))
        .collect(toy_tasks(1), group_size=1, seed=0, step=0)
        .trajectories
    )
    assert {(turn.action, turn.is_well_formed) for turn in trajectory.turns} == {("up", True)}


@pytest.mark.parametrize(("compat", "action"), [("sdar", "search[a]"), ("fixed", "")])
def test_completions_are_read_as_the_environment_asks(compat: str, action: str) -> None:
    settings = RolloutSettings("sdar/SearchQA-v0", {"max_steps": 1, "compat": compat}, max_new_tokens=8)
    tasks = sdar_envs.tasks("sdar/SearchQA-v0", split="test", limit=1)
    says = Says("<search>a</search> then <answer>b</answer>", tokens=(1, 2))
    result = Rollout(settings, says).collect(tasks, group_size=1, seed=0, step=0)
    assert result.trajectories[0].turns[0].action == action


def test_a_cut_response_is_flagged_and_wholly_trained(policy: TransformersPolicy) -> None:
    result = Rollout(toy_settings(max_new_tokens=2), policy).collect(toy_tasks(3), group_size=2, seed=0, step=0)
    rows = rows_of(result)
    cut = [row for row in rows if row.is_truncated]
    assert cut
    assert result.metrics["rollout/cut_responses"] == len(cut)
    assert all(len(row.response_ids) == 2 and policy.tokenizer.eos_token_id not in row.response_ids for row in cut)
    assert make_batch(cut, pad_id=PAD).mask.all()
    assert not make_batch(cut, pad_id=PAD, mask_truncated=True).mask.any()


def test_empty_answers_and_bare_end_tokens_are_turns() -> None:
    for says in (Says(""), Says("", tokens=(7,)), Says("   \n")):
        result = Rollout(toy_settings(), says).collect(toy_tasks(1), group_size=2, seed=0, step=0)
        for turn in rows_of_words(result):
            assert (turn.action, turn.is_well_formed, turn.is_action_valid, turn.reward) == ("", False, False, 0.0)
        batch = make_batch(rows_of(result), pad_id=PAD)
        assert batch.mask.sum() == 6 * len(says.tokens)


# -- groups and seeds -------------------------------------------------------------------------


def test_members_of_a_group_start_alike_and_play_differently(policy: TransformersPolicy) -> None:
    tasks = [*toy_tasks(3), toy_tasks(1)[0]]
    rollout = Rollout(toy_settings(), policy)
    for step in range(5):
        result = rollout.collect(tasks, group_size=4, seed=0, step=step)
        groups = [trajectory.group_id for trajectory in result.trajectories]
        names = [f"{step}/toy/valid/000{i}" for i in range(3)] + [f"{step}/toy/valid/0000#2"]
        assert groups == [name for name in names for _ in range(4)]
        assert [t.episode_id for t in result.trajectories] == [f"{g}/{i}" for g in names for i in range(4)]
        assert len({trajectory.seed for trajectory in result.trajectories}) == 16
        for i in range(0, 16, 4):
            members = result.trajectories[i : i + 4]
            assert len({member.turns[0].observation for member in members}) == 1
            assert len({member.turns[0].prompt_ids for member in members}) == 1
            assert len({member.turns[0].completion.token_ids for member in members}) > 1
        lengths = {len(trajectory.turns) for trajectory in result.trajectories}
        assert lengths <= {1, 2, 3}


def test_what_is_played_follows_from_seed_step_and_task_alone(policy: TransformersPolicy) -> None:
    rollout = Rollout(toy_settings(), policy, skills=skill_prompts(name="random"))
    states = random.getstate(), torch.get_rng_state()
    steps = [rollout.collect(toy_tasks(3), group_size=2, seed=7, step=step) for step in range(3)]
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])
    # A new process goes on at step 2.
    fresh = Rollout(toy_settings(), policy, skills=skill_prompts(name="random"))
    again = fresh.collect(toy_tasks(3), group_size=2, seed=7, step=2)
    assert again.trajectories == steps[2].trajectories
    assert steps[1].trajectories != steps[2].trajectories
    other = fresh.collect(toy_tasks(3), group_size=2, seed=8, step=2)
    assert [t.turns[0].completion for t in other.trajectories] != [t.turns[0].completion for t in again.trajectories]
    # Neither the other tasks nor their order matter.
    [first, _] = fresh.collect(toy_tasks(3)[::-1][:1], group_size=2, seed=7, step=2).trajectories
    assert [t.completion.token_ids for t in first.turns] == [
        t.completion.token_ids for t in steps[2].trajectories[4].turns
    ]
    assert (
        derive_seed(7, "2/toy/valid/0000/1") == steps[2].trajectories[1].seed == 1415545437
    )  # sha256 of '7/2/toy/valid/0000/1'


def test_evaluation_does_not_depend_on_the_batch_and_repeats_itself(policy: TransformersPolicy) -> None:
    settings = toy_settings(greedy=True, max_new_tokens=12)
    tasks = toy_tasks(6)
    whole = Rollout(settings, policy).collect(tasks, group_size=1, seed=0, step=0)
    again = Rollout(settings, policy).collect(tasks, group_size=1, seed=0, step=0)
    assert again.trajectories == whole.trajectories
    small = TransformersPolicy(policy.model, policy.tokenizer, max_batch_tokens=1)
    for one, other in zip(
        whole.trajectories,
        Rollout(settings, small).collect(tasks, group_size=1, seed=0, step=0).trajectories,
        strict=True,
    ):
        assert [t.completion.token_ids for t in one.turns] == [t.completion.token_ids for t in other.turns]
        assert one.success == other.success


# -- prompts that are too long ----------------------------------------------------------------


def prompt_lengths(says: Says) -> list[int]:
    return [len(requests[0].prompt_ids) for requests in says.asked]


def test_a_prompt_at_the_limit_fits_and_one_over_it_loses_history() -> None:
    free = Says("<think></think><action>jump</action>")
    Rollout(toy_settings(), free).collect(toy_tasks(2)[1:], group_size=1, seed=0, step=0)
    lengths = prompt_lengths(free)
    assert lengths[0] < lengths[1] < lengths[2]
    exact = Says(*free.texts)
    result = Rollout(toy_settings(max_prompt_tokens=lengths[2]), exact).collect(
        toy_tasks(2)[1:], group_size=1, seed=0, step=0
    )
    assert prompt_lengths(exact) == lengths
    assert result.metrics["rollout/shrunk_prompts"] == 0
    over = Says(*free.texts)
    result = Rollout(toy_settings(max_prompt_tokens=lengths[2] - 1), over).collect(
        toy_tasks(2)[1:], group_size=1, seed=0, step=0
    )
    assert prompt_lengths(over)[:2] == lengths[:2]
    content = over.asked[2][0].messages[0]["content"]
    assert "Steps taken so far: 2. The last one:\nTurn 2, " in content
    assert "Turn 1" not in content
    assert (result.metrics["rollout/shrunk_prompts"], result.metrics["rollout/dropped_turns"]) == (1, 1)
    assert result.metrics["rollout/prompt_tokens"] == sum(prompt_lengths(over))


def test_what_does_not_fit_without_history_ends_the_episode_or_is_an_error() -> None:
    says = Says("<think></think><action>jump</action>")
    Rollout(toy_settings(history_length=0), says).collect(toy_tasks(1), group_size=1, seed=0, step=0)
    first, second, _ = prompt_lengths(says)
    assert second > first
    for overlong in ("shrink", "end"):
        settings = toy_settings(max_prompt_tokens=first, overlong=overlong)
        result = Rollout(settings, Says(*says.texts)).collect(toy_tasks(1), group_size=2, seed=0, step=0)
        for trajectory in result.trajectories:
            assert (len(trajectory.turns), trajectory.stop_reason, trajectory.success) == (1, "token_limit", False)
        assert result.metrics["rollout/overlong_episodes"] == 2
    settings = toy_settings(max_prompt_tokens=first, overlong="error")
    with pytest.raises(
        InvalidOption, match=rf"a prompt of turn 2 of 'toy/valid/0000' takes \d+ tokens, and {first} are"
    ):
        Rollout(settings, says).collect(toy_tasks(1), group_size=1, seed=0, step=0)
    # Already the first prompt: an episode without a turn.
    settings = toy_settings(max_prompt_tokens=first - 1)
    result = Rollout(settings, says).collect(toy_tasks(1), group_size=2, seed=0, step=0)
    assert [len(trajectory.turns) for trajectory in result.trajectories] == [0, 0]
    assert rows_of(result) == []


def test_the_context_holds_prompt_and_answer(policy: TransformersPolicy) -> None:
    limit = policy.context_length
    assert limit is not None
    with pytest.raises(InvalidOption, match="max_prompt_tokens is 32768 and max_new_tokens 8"):
        Rollout(toy_settings(max_prompt_tokens=limit), policy)
    with pytest.raises(InvalidOption, match="the teacher's max_prompt_tokens is 32768"):
        Rollout(toy_settings(), policy, skills=skill_prompts(max_prompt_tokens=limit))
    assert Rollout(toy_settings(), policy).prompts.max_tokens == limit - 8


# -- skills -----------------------------------------------------------------------------------


def test_a_teacher_without_skills_is_the_student(policy: TransformersPolicy) -> None:
    result = Rollout(toy_settings(), policy, skills=skill_prompts(name="none")).collect(
        toy_tasks(4), group_size=2, seed=0, step=0
    )
    rows = rows_of(result)
    assert len({len(row.prompt_ids) for row in rows}) > 2
    assert all(row.teacher_prompt_ids == row.prompt_ids for row in rows)
    batch = make_batch(rows, pad_id=PAD)
    assert batch.teacher is not None
    with torch.no_grad():
        gap = (
            score(policy.model, batch.teacher, batch.mask).logprobs
            - score(policy.model, batch.student, batch.mask).logprobs
        )
    assert gap.abs().max() < 1e-5
    assert (5 * gap[batch.mask]).sigmoid() == pytest.approx(0.5, abs=1e-5)
    assert result.metrics["skills/prompts"] == 0


@pytest.mark.parametrize("placement", ["user", "system", "legacy_prefix"])
def test_only_the_reader_sees_skills(policy: TransformersPolicy, placement: Any) -> None:
    for reader in ("teacher", "student"):
        skills = skill_prompts(reader=reader, placement=placement)
        result = Rollout(toy_settings(), policy, skills=skills).collect(toy_tasks(2), group_size=2, seed=0, step=0)
        for turn in rows_of_words(result):
            text = policy.tokenizer.decode(turn.prompt_ids)
            told = " ".join(message["content"] for message in turn.messages)
            assert (ADVICE in text) is (reader == "student")
            assert (ADVICE in told) is (reader == "student" and placement != "legacy_prefix")
            assert (turn.teacher_prompt_ids is None) is (reader == "student")
            if turn.teacher_prompt_ids is not None:
                taught = policy.tokenizer.decode(turn.teacher_prompt_ids)
                assert ADVICE in taught
                assert taught.startswith("[Privileged Skill Information]") is (placement == "legacy_prefix")
            assert len(turn.skill_ids) == 1
            assert turn.skill_ids[0].startswith("toy/count-")
            assert turn.skill_ids[0].endswith("@1.0.0")
    bare = Rollout(toy_settings(), policy).collect(toy_tasks(2), group_size=2, seed=0, step=0)
    for turn in rows_of_words(bare):
        assert ADVICE not in policy.tokenizer.decode(turn.prompt_ids)
        assert (turn.skill_ids, turn.teacher_prompt_ids) == ((), None)


def test_the_teacher_changes_nothing_that_the_student_does(policy: TransformersPolicy) -> None:
    bare = Rollout(toy_settings(), policy).collect(toy_tasks(2), group_size=2, seed=0, step=0)
    taught = Rollout(toy_settings(), policy, skills=skill_prompts()).collect(toy_tasks(2), group_size=2, seed=0, step=0)
    without = [
        replace(t, turns=tuple(replace(turn, teacher_prompt_ids=None, skill_ids=()) for turn in t.turns))
        for t in taught.trajectories
    ]
    assert tuple(without) == bare.trajectories


def test_a_teacher_prompt_that_is_too_long_loses_history_and_keeps_its_best_skill(policy: TransformersPolicy) -> None:
    general = make_skill("zz-general", None, "Think twice. " * 20)
    free = Rollout(toy_settings(), policy, skills=skill_prompts(general)).collect(
        toy_tasks(3), group_size=1, seed=0, step=0
    )
    lengths = [len(row.teacher_prompt_ids or ()) for row in rows_of(free)]
    bare = Rollout(toy_settings(history_length=0), policy, skills=skill_prompts(k=1)).collect(
        toy_tasks(3), group_size=1, seed=0, step=0
    )
    # Answers are quoted in at most 20 characters.
    limit = max(len(row.teacher_prompt_ids or ()) for row in rows_of(bare)) + 20
    assert limit < max(lengths)
    skills = skill_prompts(general, max_prompt_tokens=limit)
    result = Rollout(toy_settings(), policy, skills=skills).collect(toy_tasks(3), group_size=1, seed=0, step=0)
    # The student's prompts are as long as before.
    assert [row.prompt_ids for row in rows_of(result)] == [row.prompt_ids for row in rows_of(free)]
    metrics = result.metrics
    assert metrics["skills/dropped_skills"] > 0
    assert metrics["skills/dropped_turns"] > 0
    assert metrics["skills/shrunk_prompts"] > 0
    assert metrics["skills/misfits"] == 0
    for row in rows_of(result):
        assert row.teacher_prompt_ids is not None
        assert len(row.teacher_prompt_ids) <= limit
        assert ADVICE in policy.tokenizer.decode(row.teacher_prompt_ids)
    batch = make_batch(rows_of(result), pad_id=PAD)
    assert batch.teacher is not None
    with torch.no_grad():
        gap = (
            score(policy.model, batch.teacher, batch.mask).logprobs
            - score(policy.model, batch.student, batch.mask).logprobs
        )
    assert gap[batch.mask].abs().mean() > 1e-3


def test_teachers_without_room_for_a_skill_are_counted_and_none_at_all_is_an_error(policy: TransformersPolicy) -> None:
    free = Rollout(toy_settings(history_length=0), policy, skills=skill_prompts()).collect(
        toy_tasks(4), group_size=1, seed=0, step=0
    )
    lengths = sorted(len(row.teacher_prompt_ids or ()) for row in rows_of(free))
    assert lengths[0] < lengths[-1]
    rollout = Rollout(toy_settings(history_length=0), policy, skills=skill_prompts(max_prompt_tokens=lengths[-1] - 1))
    with pytest.warns(RuntimeWarning, match=r"teacher prompts have no room for even the best skill in \d+ tokens"):
        result = rollout.collect(toy_tasks(4), group_size=1, seed=0, step=0)
    misfits = [row for row in rows_of(result) if row.teacher_prompt_ids is None]
    assert len(misfits) == result.metrics["skills/misfits"] == lengths.count(lengths[-1])
    assert sum(turn.skill_ids == () for turn in rows_of_words(result)) == len(misfits)
    rollout = Rollout(toy_settings(), policy, skills=skill_prompts(max_prompt_tokens=lengths[0] - 1))
    with pytest.raises(ContextTooLong, match="no room for even the best skill"):
        rollout.collect(toy_tasks(4), group_size=1, seed=0, step=0)


def test_every_kind_of_household_task_gets_its_own_skills_and_an_unknown_kind_none() -> None:
    tasks = sdar_envs.tasks("sdar/ALFWorld-v0", split="valid_unseen")
    kinds = {task.task_type: task for task in tasks}
    assert len(kinds) == 6
    shelf = Library.load()
    skills = SkillPrompts(make_retriever("task_type", shelf), k=3)
    settings = RolloutSettings("sdar/ALFWorld-v0", {"max_steps": 1})
    result = Rollout(settings, ScriptedPolicy(ExplorerAgent), skills=skills).collect(
        list(kinds.values()), group_size=1, seed=0, step=0
    )
    by_id = {skill.id: skill for skill in shelf.select("alfworld")}
    for trajectory in result.trajectories:
        used = [by_id[name.split("@")[0]] for name in trajectory.turns[0].skill_ids]
        assert used[0].task_type == trajectory.task.task_type
        assert {skill.task_type for skill in used} <= {trajectory.task.task_type, None}
        assert result.shown[trajectory.episode_id] == tuple(used)
    stranger = replace(tasks[0], task_type="pick_and_heat")
    with pytest.raises(UnknownName, match="pick_and_heat"):
        Rollout(settings, ScriptedPolicy(RandomAgent), skills=skills).collect([stranger], group_size=1, seed=0, step=0)


def test_controls_are_shown_nothing_and_the_ledger_is_told_who_was_shown_what() -> None:
    extra = [make_skill(f"hint-{i}", None, f"Hint {i}.") for i in range(6)]
    skills = skill_prompts(*extra, name="random", k=1, varied=True, control_members=2)
    result = Rollout(toy_settings(), ScriptedPolicy(RandomAgent), skills=skills).collect(
        toy_tasks(3), group_size=6, seed=0, step=4
    )
    for i, trajectory in enumerate(result.trajectories):
        is_control = i % 6 >= 4
        assert (result.shown[trajectory.episode_id] == ()) is is_control
        for turn in trajectory.turns:
            assert (turn.skill_ids == ()) is is_control
            assert turn.teacher_prompt_ids is None  # a script in words has no tokens
    assert len(set(result.shown.values())) > 3
    gaps = {trajectory.episode_id: 0.25 for trajectory in result.trajectories}
    showings = skill_showings(result.trajectories, result.shown, run="r", step=4, strategy="random", gaps=gaps)
    assert len(showings) == 18
    for showing, trajectory in zip(showings, result.trajectories, strict=True):
        shown = result.shown[trajectory.episode_id]
        assert showing.arm.skill == (shown[0].id if shown else "none")
        assert (showing.reward, showing.step, showing.gap) == (trajectory.episode_return, 4, 0.25)
        group = [t for t in result.trajectories if t.group_id == trajectory.group_id]
        assert showing.baseline == sum(t.episode_return for t in group[4:]) / 2
    with pytest.raises(InvalidOption, match="gaps has no gap of"):
        skill_showings(result.trajectories, result.shown, run="r", step=4, strategy="random", gaps={})
    with pytest.raises(InvalidOption, match="control_members is 2 in groups of 2"):
        Rollout(toy_settings(), ScriptedPolicy(RandomAgent), skills=skills).collect(
            toy_tasks(1), group_size=2, seed=0, step=0
        )


# -- failures ---------------------------------------------------------------------------------


def test_an_environment_that_raises_stops_the_rollout_and_says_where() -> None:
    rollout = Rollout(RolloutSettings("toy/Failing-v0"), ScriptedPolicy(RandomAgent))
    tasks = [task for task in toy_tasks(30) if task.data["start"] == 3]
    with pytest.raises(RetrievalFailed, match="the engine is down") as caught:
        rollout.collect(tasks, group_size=2, seed=0, step=0)
    assert caught.value.__notes__ == [f"in {tasks[0].id!r}, turn 1 of '0/{tasks[0].id}/0'"]


def test_an_episode_that_its_environment_breaks_off_is_left_out_and_named() -> None:
    settings = RolloutSettings("toy/Failing-v0", on_failure="drop")
    tasks = toy_tasks(8)
    script = ScriptedPolicy(RandomAgent, tokenizer=tiny_tokenizer())
    result = Rollout(settings, script).collect(tasks, group_size=3, seed=0, step=0)
    failed = {failure.episode_id for failure in result.failures}
    assert failed
    assert len(result.trajectories) + len(failed) == 24
    assert not failed & {trajectory.episode_id for trajectory in result.trajectories}
    assert not failed & set(result.shown)
    assert result.metrics["rollout/failed_episodes"] == len(failed)
    assert result.failures[0].error == "RetrievalFailed: the engine is down."
    assert sum(failure.turn_index for failure in result.failures) > 0
    turns = rows_of_words(result)
    assert result.metrics["rollout/turns"] == len(turns)
    assert result.metrics["rollout/response_tokens"] == sum(len(turn.completion.token_ids) for turn in turns)
    # Those that are left are what they would have been without the others.
    plain = Rollout(RolloutSettings(TOY), script).collect(tasks, group_size=3, seed=0, step=0)
    by_id = {trajectory.episode_id: trajectory for trajectory in plain.trajectories}
    assert all(by_id[trajectory.episode_id] == trajectory for trajectory in result.trajectories)
    doomed = [task for task in toy_tasks(30) if task.data["start"] == 3]
    with pytest.raises(RetrievalFailed):
        Rollout(settings, ScriptedPolicy(RandomAgent)).collect(doomed, group_size=2, seed=0, step=0)
    stranger = replace(tasks[0], id="toy/valid/0099")
    with pytest.raises(UnknownName, match="no task 'toy/valid/0099'"):
        Rollout(settings, ScriptedPolicy(RandomAgent)).collect([tasks[0], stranger], group_size=2, seed=0, step=0)


# -- odds and ends ----------------------------------------------------------------------------


def test_progress_is_told_and_metrics_are_recounted(policy: TransformersPolicy) -> None:
    told: list[tuple[int, int]] = []
    result = Rollout(toy_settings(), policy, skills=skill_prompts()).collect(
        toy_tasks(3), group_size=2, seed=0, step=0, progress=lambda done, of: told.append((done, of))
    )
    assert told[-1] == (6, 6)
    assert told == sorted(told)
    turns, metrics = rows_of_words(result), result.metrics
    assert metrics["rollout/prompt_tokens"] == sum(len(turn.prompt_ids) for turn in turns)
    assert metrics["rollout/response_tokens"] == sum(len(turn.completion.token_ids) for turn in turns)
    assert metrics["skills/prompt_tokens"] == sum(len(turn.teacher_prompt_ids) for turn in turns)
    assert metrics["skills/prompts"] == metrics["rollout/turns"] == len(turns)
    assert metrics["rollout/episode_turns"] == len(turns) / 6
    assert metrics["rollout/success"] == sum(t.success for t in result.trajectories) / 6
    assert min(metrics[f"time/{part}"] for part in ("generate", "prompts", "env")) > 0


def test_environments_are_kept_and_closed() -> None:
    rollout = Rollout(toy_settings(), ScriptedPolicy(RandomAgent))
    rollout.collect(toy_tasks(2), group_size=2, seed=0, step=0)
    first = list(rollout._envs)
    rollout.collect(toy_tasks(1), group_size=2, seed=0, step=1)
    assert rollout._envs == first
    rollout.close()
    assert rollout._envs == []
    assert len(rollout.collect(toy_tasks(1), group_size=1, seed=0, step=2).trajectories) == 1


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"history_length": -1}, "history_length is -1"),
        ({"max_prompt_tokens": 0}, "max_prompt_tokens is 0"),
        ({"overlong": "shrnk"}, "Did you mean 'shrink'"),
        ({"on_failure": "dorp"}, "Did you mean 'drop'"),
        ({"temperature": -1}, "temperature is -1"),
        ({"max_new_tokens": 1.5}, r"max_new_tokens is 1\.5"),
    ],
)
def test_bad_settings(wrong: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidOption, match=match):
        toy_settings(**wrong)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"reader": "techer"}, "Did you mean 'teacher'"),
        ({"placement": "usr"}, "Did you mean 'user'"),
        ({"k": -1}, "k is -1"),
        ({"max_prompt_tokens": 0}, "max_prompt_tokens is 0"),
        ({"control_members": -1}, "control_members is -1"),
    ],
)
def test_bad_skill_prompts(wrong: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidOption, match=match):
        skill_prompts(**wrong)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"tasks": []}, "there are no tasks"),
        ({"group_size": 0}, "group_size is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"step": 0.5}, r"step is 0\.5"),
    ],
)
def test_bad_calls(wrong: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidOption, match=match):
        Rollout(toy_settings(), ScriptedPolicy(RandomAgent)).collect(
            **{"tasks": toy_tasks(1), "group_size": 1, "seed": 0, "step": 0, **wrong}
        )
