import dataclasses
import json
import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdar_agents.scoring.batch import make_batch
from sdar_agents.types import Completion, Row, Trajectory, Turn, make_rows
from sdar_envs import Task
from sdar_envs.errors import CorruptData, InvalidOption

TASK = Task("alfworld/train/0", "sdar/ALFWorld-v0", "train", "pick_and_place_simple", "put a mug.", {"seed": 3})
IDS = st.lists(st.integers(0, 200_000), max_size=6).map(tuple)


def turn(**changes: Any) -> Turn:
    fields = {
        "observation": "a room",
        "messages": ({"role": "user", "content": "go"},),
        "prompt_ids": (5, 6, 7),
        "completion": Completion((8, 9), (-0.5, -1.25), "look", "eos"),
        "action": "look",
        "reward": 0.0,
        "is_action_valid": True,
    }
    return Turn(**(fields | changes))


def trajectory(*turns: Turn, **changes: Any) -> Trajectory:
    fields = {"task": TASK, "seed": 1, "group_id": "g", "episode_id": "e", "success": True, "end_reason": "terminated"}
    return Trajectory(turns=turns, **(fields | changes))


@st.composite
def trajectories(draw: st.DrawFn) -> Trajectory:
    turns = []
    for _ in range(draw(st.integers(0, 3))):
        ids = draw(IDS)
        logprobs = draw(st.none() | st.lists(st.floats(-50, 0), min_size=len(ids), max_size=len(ids)).map(tuple))
        turns.append(
            turn(
                observation=draw(st.text()),
                prompt_ids=draw(IDS),
                completion=Completion(ids, logprobs, draw(st.text()), draw(st.sampled_from(["eos", "stop", "length"]))),
                reward=draw(st.floats(-1, 10)),
                is_action_valid=draw(st.booleans()),
                teacher_prompt_ids=draw(st.none() | IDS),
                skill_ids=draw(st.lists(st.text(), max_size=2).map(tuple)),
            )
        )
    return trajectory(*turns, end_reason=draw(st.sampled_from(["terminated", "truncated", "overlong"])))


@settings(deadline=None)
@given(trajectories())
def test_a_trajectory_survives_json(original: Trajectory) -> None:
    line = json.dumps(original.to_json(), allow_nan=False)
    assert Trajectory.from_json(json.loads(line)) == original


@pytest.mark.parametrize(
    "break_it",
    [
        lambda fields: fields.pop("seed"),
        lambda fields: fields.update(extra=1),
        lambda fields: fields.update(turns=3),
        lambda fields: fields.update(end_reason="won"),
        lambda fields: fields["turns"][0]["completion"].update(logprobs=[-1.0]),
        lambda fields: fields["turns"][0].update(prompt_ids=["5"]),
        lambda fields: fields.update(turns=[None]),
    ],
)
def test_what_is_no_trajectory_is_refused(break_it: Any) -> None:
    fields = trajectory(turn()).to_json()
    break_it(fields)
    with pytest.raises(CorruptData, match="this is not a trajectory"):
        Trajectory.from_json(fields)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Completion((1, 2), (-1.0,), "", "eos"), r"must pair with the tokens: got 1, expected 2"),
        (lambda: Completion((1,), (math.nan,), "", "eos"), "finite"),
        (lambda: Completion((1,), None, "", "stopp"), "Did you mean 'stop'"),
        (lambda: Completion((-1,), None, "", "eos"), "holds -1"),
        (lambda: Completion((True,), None, "", "eos"), "holds True"),
        (lambda: turn(reward=math.inf), "reward is inf"),
        (lambda: Row(prompt_ids=(), response_ids=(1,)), "prompt_ids is empty"),
        (lambda: Row(prompt_ids=(1,), response_ids=(1,), teacher_prompt_ids=()), "teacher_prompt_ids is empty"),
        (lambda: Row(prompt_ids=(1,), response_ids=(), invalid_penalty=-0.1), "wanted 0 or more"),
    ],
)
def test_nonsense_is_refused(make: Any, message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        make()


def test_a_penalty_costs_its_own_row_and_not_the_episode() -> None:
    played = trajectory(turn(), turn(is_action_valid=False), turn(reward=10.0))
    rows = make_rows(played, invalid_penalty=0.1)
    assert [row.episode_return for row in rows] == [10.0, 10.0, 10.0]
    assert [row.score for row in rows] == [10.0, 9.9, 10.0]
    assert [row.turn_index for row in rows] == [0, 1, 2]
    assert played.episode_return == 10.0


def test_truncation_of_episode_and_of_response_is_told_apart() -> None:
    cut = turn(completion=Completion((8, 9), (-0.5, -1.25), "look", "length"))
    rows = make_rows(trajectory(turn(), cut, success=False, end_reason="truncated"))
    assert [row.is_episode_truncated for row in rows] == [True, True]
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
        (row,) = make_rows(Trajectory.from_json(json.loads(json.dumps(played.to_json()))))
        batch = make_batch([row], pad_id=0)
        start = int(batch.student.prompt_lengths[0])
        assert tuple(batch.student.input_ids[0, start:].tolist()) == sampled
        assert tuple(batch.student.input_ids[0, :start].tolist()) == (5, 6, 7)
    assert drifting > 50


def test_records_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        turn().reward = 1.0  # type: ignore[misc]
