"""Rollouts of growing chats: exact tokens, kept keys and values, one row an episode that scores as its turns do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium
import pytest
import torch
from helpers.skill_toys import make_skill
from helpers.tiny_models import PAD, tiny_policy
from helpers.toy import Numbers

from sdar_agents.engines.chat.appended import AppendedMessages
from sdar_agents.engines.decoding import Decoder
from sdar_agents.engines.policy import Request, Sampling
from sdar_agents.engines.transformers import TransformersPolicy
from sdar_agents.rollout.recording import trajectory_from_row, trajectory_row
from sdar_agents.rollout.rollout import Rollout, RolloutResult, RolloutSettings
from sdar_agents.scoring.batch import make_batch
from sdar_agents.scoring.logprobs import score
from sdar_agents.skill_use.prompts import SkillPrompts
from sdar_agents.types import Completion, Row, make_rows
from sdar_envs.errors import InvalidOption
from sdar_skills import Library, make_retriever

TOY = "toy/GrowingCounting-v0"


@pytest.fixture(scope="module", autouse=True)
def _toys() -> Any:
    gymnasium.register(TOY, "helpers.toy:CountingEnv")
    yield
    del gymnasium.registry[TOY]


@pytest.fixture(scope="module")
def policy() -> TransformersPolicy:
    return tiny_policy()


def skills() -> SkillPrompts:
    advice = [make_skill(f"count-{way}", f"count_{way}", "Compare, then go on.") for way in ("up", "down")]
    return SkillPrompts(make_retriever("task_type", Library(advice)))


def play(policy: Any, *, count: int = 2, with_skills: bool = False, **settings: Any) -> RolloutResult:
    chosen = RolloutSettings(TOY, {"max_steps": 4}, **{"max_new_tokens": 12, "history": "appended", **settings})
    rollout = Rollout(chosen, policy, skills=skills() if with_skills else None)
    tasks = [Numbers().task("valid", i) for i in range(count)]
    return rollout.collect(tasks, group_size=3, seed=0, step=0)


def test_each_prompt_begins_with_the_tokens_before_it(policy: TransformersPolicy) -> None:
    result = play(policy, count=4, max_new_tokens=48)
    template = AppendedMessages(policy)
    reasons = set()
    for trajectory in result.trajectories:
        first, *later = trajectory.turns
        assert first.prompt_ids == policy.encode(policy.render(first.messages))
        before = first
        for turn in later:
            known = (*before.prompt_ids, *before.completion.token_ids)
            assert turn.prompt_ids[: len(known)] == known
            # What the model wrote stands in the chat as text, and in the prompt as the sampled ids.
            assert turn.messages[: len(before.messages)] == before.messages
            assert turn.messages[len(before.messages)]["content"] == before.completion.text
            end = "" if before.completion.stop_reason == "eos" else "<|end|>"
            said = f"{end}<|user|>{turn.messages[-1]['content']}<|end|><|assistant|>"
            assert turn.prompt_ids[len(known) :] == policy.encode(said)
            assert template.ids(turn.messages[-1:], before.completion) == turn.prompt_ids[len(known) :]
            reasons.add(before.completion.stop_reason)
            before = turn
    assert reasons == {"eos", "length"}
    reads = sum(
        len(t.turns[-1].prompt_ids) - sum(len(turn.completion.token_ids) for turn in t.turns[:-1])
        for t in result.trajectories
    )
    assert result.metrics["rollout/prompt_tokens"] == reads


def test_kept_keys_and_values_change_nothing_but_the_work(
    policy: TransformersPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed: list[int] = []
    forward, prefill = TransformersPolicy.forward, Decoder.prefill

    def listen(self: Any, ids: Any, mask: Any, positions: Any, cache: Any) -> Any:
        if ids.shape[1] > 1:
            fed.append(ids.shape[0] * ids.shape[1])
        return forward(self, ids, mask, positions, cache)

    def listen_to_trees(self: Decoder, ids: Any, tree: Any, last: Any) -> Any:
        fed.append(len(ids))
        return prefill(self, ids, tree, last)

    monkeypatch.setattr(TransformersPolicy, "forward", listen)
    monkeypatch.setattr(Decoder, "prefill", listen_to_trees)
    kept = play(policy)
    fed_kept, fed[:] = sum(fed), []
    monkeypatch.setattr("sdar_agents.rollout.rollout.CachingPolicy", int)  # an engine that keeps nothing
    anew = play(policy)
    assert policy.kept is None
    assert fed_kept < 0.6 * sum(fed)
    assert len(kept.trajectories) == len(anew.trajectories)
    for left, right in zip(kept.trajectories, anew.trajectories, strict=True):
        assert [turn.completion.token_ids for turn in left.turns] == [turn.completion.token_ids for turn in right.turns]
        for one, other in zip(left.turns, right.turns, strict=True):
            assert one.completion.logprobs == pytest.approx(other.completion.logprobs, abs=1e-5)


@pytest.mark.parametrize("forward", [0, 100])
def test_a_chat_that_is_told_otherwise_is_encoded_from_there(
    policy: TransformersPolicy, forward: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdar_agents.engines.decoding_batches._FORWARD_TOKENS", forward)  # 0: each length by itself
    first = play(policy, count=1).trajectories[0].turns[1]
    ids = first.prompt_ids
    sampling = Sampling(6)
    # The last is the first turn of a chat.
    others = [ids[:-1], ids, (*ids[:5], 7, *ids[6:], 9, 9), ids[:3], ids[:9]]
    with policy.caching():
        policy.generate([Request(ids, 1, chat=str(i)) for i in range(4)], sampling)
        again = policy.generate([Request(each, i, chat=str(i)) for i, each in enumerate(others)], sampling)
    fresh = policy.generate([Request(each, i) for i, each in enumerate(others)], sampling)
    assert [answer.token_ids for answer in again] == [answer.token_ids for answer in fresh]
    for left, right in zip(again, fresh, strict=True):
        assert left.logprobs == pytest.approx(right.logprobs, abs=1e-5)


def test_the_row_of_an_episode_scores_as_its_turns_do(policy: TransformersPolicy) -> None:
    result = play(policy, with_skills=True)
    [*rows] = [make_rows(trajectory)[0] for trajectory in result.trajectories]
    batch = make_batch(rows, pad_id=PAD)
    assert batch.teacher is not None
    assert batch.token_turns is not None
    assert batch.sampler_logprobs is not None
    with torch.no_grad():
        student = score(policy.model, batch.student, batch.mask).logprobs
        teacher = score(policy.model, batch.teacher, batch.mask).logprobs
    for i, trajectory in enumerate(result.trajectories):
        turns = [
            Row(turn.prompt_ids, turn.completion.token_ids, teacher_prompt_ids=turn.teacher_prompt_ids)
            for turn in trajectory.turns
        ]
        alone = make_batch(turns, pad_id=PAD)
        assert alone.teacher is not None
        assert int(batch.mask[i].sum()) == int(alone.mask.sum())
        with torch.no_grad():
            for whole, sequences in ((student, alone.student), (teacher, alone.teacher)):
                found = score(policy.model, sequences, alone.mask).logprobs[alone.mask]
                torch.testing.assert_close(whole[i][batch.mask[i]], found, atol=2e-5, rtol=0)
        sampled = [value for turn in trajectory.turns for value in turn.completion.logprobs or ()]
        torch.testing.assert_close(student[i][batch.mask[i]], torch.tensor(sampled), atol=2e-5, rtol=0)
    assert (batch.sampler_logprobs[~batch.mask] == 0).all()


def test_the_teacher_reads_skills_in_its_first_message_and_then_the_same(policy: TransformersPolicy) -> None:
    result = play(policy, with_skills=True)
    plain = play(policy)
    assert [[turn.action for turn in t.turns] for t in result.trajectories] == [
        [turn.action for turn in t.turns] for t in plain.trajectories
    ]
    for trajectory in result.trajectories:
        first = trajectory.turns[0]
        assert first.teacher_prompt_ids is not None
        assert len(first.teacher_prompt_ids) > len(first.prompt_ids)
        for turn in trajectory.turns:
            assert turn.teacher_prompt_ids is not None
            assert turn.teacher_prompt_ids[len(first.teacher_prompt_ids) :] == turn.prompt_ids[len(first.prompt_ids) :]
            assert turn.skill_ids == first.skill_ids
        [row] = make_rows(trajectory)
        assert row.teacher_prompt_ids == first.teacher_prompt_ids


def test_a_row_has_the_facts_of_its_episode(policy: TransformersPolicy) -> None:
    [*trajectories] = play(policy).trajectories
    trajectory = max(trajectories, key=lambda each: len(each.turns))
    turns = (replace(trajectory.turns[0], is_well_formed=True, reward=2.0), *trajectory.turns[1:])
    trajectory = replace(trajectory, turns=turns)
    [row] = make_rows(trajectory, invalid_penalty=0.5)
    malformed = sum(not turn.is_well_formed for turn in turns)
    assert row.invalid_penalty == pytest.approx(0.5 * malformed / len(turns))
    assert row.episode_return == trajectory.episode_return
    assert row.prompt_ids + row.response_ids == turns[-1].prompt_ids + turns[-1].completion.token_ids
    assert row.token_turns is not None
    for index, turn in enumerate(turns):
        own = [token for token, place in zip(row.response_ids, row.token_turns, strict=True) if place == index]
        assert tuple(own) == turn.completion.token_ids
    places = make_batch([row], pad_id=PAD).token_places()
    assert places[0][0].tolist() == list(row.token_turns)
    counts = [len(turn.completion.token_ids) for turn in turns]
    of_turns = places[1][0][torch.tensor(row.token_turns) >= 0].tolist()
    assert of_turns == [place for count in counts for place in range(count)]
    assert trajectory_from_row(trajectory_row(trajectory)) == replace(
        trajectory, turns=tuple(replace(turn, parts=None) for turn in turns)
    )
    with pytest.raises(InvalidOption, match="does not begin with the tokens before"):
        make_rows(replace(trajectory, turns=(turns[0], *(replace(t, prompt_ids=t.prompt_ids[1:]) for t in turns[1:]))))


def test_a_chat_that_is_too_long_ends_its_episode_or_is_an_error(policy: TransformersPolicy) -> None:
    longest = [len(trajectory.turns[1].prompt_ids) for trajectory in play(policy).trajectories]
    ended = play(policy, max_prompt_tokens=max(longest))
    assert ended.metrics["rollout/overlong_episodes"] > 0
    assert all(t.stop_reason == "token_limit" for t in ended.trajectories if len(t.turns) == 2 and not t.success)
    with pytest.raises(InvalidOption, match=r"at turn \d.*overlong='end'"):
        play(policy, max_prompt_tokens=max(longest), overlong="error")


def test_a_teacher_whose_prompt_becomes_too_long_is_none_of_the_episode(policy: TransformersPolicy) -> None:
    room = max(len(t.turns[0].teacher_prompt_ids or ()) for t in play(policy, with_skills=True).trajectories)
    rollout = Rollout(
        RolloutSettings(TOY, {"max_steps": 4}, max_new_tokens=12, history="appended"),
        policy,
        skills=replace(skills(), max_prompt_tokens=room),
    )
    with pytest.warns(RuntimeWarning, match="chats .* These episodes have no teacher"):
        result = rollout.collect([Numbers().task("valid", 0)], group_size=3, seed=0, step=0)
    assert result.metrics["skills/misfits"] > 0
    for trajectory in result.trajectories:
        [row] = make_rows(trajectory)
        assert (row.teacher_prompt_ids is None) == (len(trajectory.turns) > 1)


def test_a_template_that_hides_completions_is_refused(policy: TransformersPolicy) -> None:
    class Hiding:
        encode = policy.encode

        def render(self, messages: Any) -> str:
            return policy.render([message for message in messages if message["role"] != "assistant"])

    done = Completion((1,), None, "a", "eos")
    with pytest.raises(InvalidOption, match="does not show what the model has written before"):
        AppendedMessages(Hiding()).ids([{"role": "user", "content": "b"}], done)
