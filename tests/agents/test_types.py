import dataclasses
import json
import math
import random
from typing import Any

import pytest

from sdar_agents.rollout.recording import trajectory_from_row, trajectory_row
from sdar_agents.scoring.batch import make_batch
from sdar_agents.types import Completion, Row, Trajectory, Turn, make_rows
from sdar_envs import Task
from sdar_envs.errors import InvalidOption

TASK = Task("alfworld/train/0", "sdar/ALFWorld-v0", "train", "pick_and_place_simple", "put a mug.", {"seed": 3})


def turn(**changes: Any) -> Turn:
    fields = {
        "observation": "a room",
        "messages": ({"role": "user", "content": "go"},),
        "prompt_ids": (5, 6, 7),
        "completion": Completion((8, 9), (-0.5, -1.25), "look", "eos"),
        "action": "look",
        "reward": 0.0,
        "is_well_formed": True,
        "is_action_valid": True,
    }
    return Turn(**(fields | changes))


def trajectory(*turns: Turn, **changes: Any) -> Trajectory:
    fields = {"task": TASK, "seed": 1, "group_id": "g", "episode_id": "e", "success": True, "stop_reason": "terminated"}
    return Trajectory(turns=turns, **(fields | changes))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Completion((1, 2), (-1.0,), "", "eos"), r"must pair with the tokens: got 1, expected 2"),
        (lambda: Completion((1,), (math.nan,), "", "eos"), "finite"),
        (lambda: Completion((1,), None, "", "stopp"), "Did you mean 'stop'"),
        (lambda: Completion((-1,), None, "", "eos"), "holds -1"),
        (lambda: Completion((True,), None, "", "eos"), "holds True"),
        (lambda: turn(reward=math.inf), "reward is inf"),
        (lambda: turn(score=math.nan), "score is nan"),
        (lambda: trajectory(stop_reason="truncated"), "wanted one of terminated, step_limit, token_limit"),
        (lambda: Row(prompt_ids=(), response_ids=(1,)), "prompt_ids is empty"),
        (lambda: Row(prompt_ids=(1,), response_ids=(1,), teacher_prompt_ids=()), "teacher_prompt_ids is empty"),
        (lambda: Row(prompt_ids=(1,), response_ids=(), invalid_penalty=-0.1), "wanted 0 or more"),
        (lambda: Row(prompt_ids=(1,), response_ids=(), given_advantage=math.nan), "given_advantage is nan"),
        (lambda: Row(prompt_ids=(1,), response_ids=(), turn_reward=math.inf), "turn_reward is inf"),
        (lambda: Row(prompt_ids=(1,), response_ids=(), teacher_weight=-1.0), "is negative; wanted 0 or more"),
        (lambda: Row(prompt_ids=(1,), response_ids=(2,), token_weights=(-1.0,)), "is negative; wanted 0 or more"),
        (lambda: Row(prompt_ids=(1,), response_ids=(2,), token_weights=(1.0, 1.0)), "got 2, expected 1"),
        (lambda: Row(prompt_ids=(1,), response_ids=(), more_teacher_prompts=(None, ())), "is empty; wanted token ids"),
        (lambda: Row(prompt_ids=(1,), response_ids=(), more_teacher_prompts=((-1,),)), "holds -1"),
        (lambda: Row(prompt_ids=(1,), response_ids=(2,), answer_start=2), "wanted 0 to 1"),
    ],
)
def test_nonsense_is_refused(make: Any, message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        make()


def test_a_penalty_costs_its_own_row_and_not_the_episode() -> None:
    played = trajectory(turn(is_action_valid=False), turn(is_well_formed=False), turn(reward=10.0))
    rows = make_rows(played, invalid_penalty=0.1)
    assert [row.episode_return for row in rows] == [10.0, 10.0, 10.0]
    assert [row.score for row in rows] == [10.0, 9.9, 10.0]
    assert [row.turn_index for row in rows] == [0, 1, 2]
    assert played.episode_return == 10.0


@pytest.mark.parametrize(
    ("pieces", "start"),
    [
        (["<think>", "so", "</th", "ink>", "go"], 4),
        (["<think>a</think>b", "c"], 1),  # a token with both is the thought's
        (["<think>", "so"], 2),  # it has not ended
        (["<think>x</think>", "<think>", "y"], 3),
        (["go"], 0),
        ([], 0),
    ],
)
def test_a_row_knows_where_its_answer_begins(pieces: list[str], start: int) -> None:
    ids = tuple(range(len(pieces)))
    played = trajectory(turn(completion=Completion(ids, None, "".join(pieces), "eos"), observation="hall", reward=2.0))
    (row,) = make_rows(played, decode=lambda token: pieces[token])
    assert (row.answer_start, row.state, row.turn_reward, row.is_success) == (start, "hall", 2.0, True)
    assert make_rows(played)[0].answer_start is None


def test_a_truncated_response_is_trained_unless_it_is_masked() -> None:
    cut = turn(completion=Completion((8, 9), (-0.5, -1.25), "look", "length"))
    rows = make_rows(trajectory(turn(), cut, success=False, stop_reason="step_limit"))
    assert [row.is_truncated for row in rows] == [False, True]
    assert [row.score for row in rows] == [0.0, 0.0]
    assert make_batch(rows, pad_id=0).mask.tolist() == [[True, True], [True, True]]
    assert make_batch(rows, pad_id=0, mask_truncated=True).mask.tolist() == [[True, True], [False, False]]


def test_the_trained_ids_are_the_sampled_ids_even_where_text_would_give_others() -> None:
    from tokenizers import Tokenizer, models

    pieces = ["h", "e", "l", "o", "he", "ll", "llo", "hello"]
    merges = [("h", "e"), ("l", "l"), ("ll", "o"), ("he", "llo")]
    tokenizer = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges))
    rng = random.Random(0)
    drifting = 0
    for _ in range(200):
        sampled = tuple(rng.randrange(len(pieces)) for _ in range(rng.randint(1, 12)))
        text = "".join(pieces[i] for i in sampled)
        drifting += tuple(tokenizer.encode(text).ids) != sampled
        played = trajectory(turn(completion=Completion(sampled, None, text, "eos")))
        (row,) = make_rows(trajectory_from_row(json.loads(json.dumps(trajectory_row(played)))))
        batch = make_batch([row], pad_id=0)
        start = int(batch.student.prompt_lengths[0])
        assert tuple(batch.student.input_ids[0, start:].tolist()) == sampled
        assert tuple(batch.student.input_ids[0, :start].tolist()) == (5, 6, 7)
    assert drifting > 50


def test_records_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        turn().reward = 1.0  # type: ignore[misc]
