import random

import pytest
import torch
from helpers.tiny_models import random_rows
from hypothesis import given
from hypothesis import strategies as st

from sdar_agents.scoring.batch import Totals, make_batch, pack_by_length, token_weights
from sdar_agents.types import Row
from sdar_envs.errors import InvalidOption

# Rows of 3, 1, 0 and 2 tokens in two episodes: 4 and 2 tokens.
ROWS = [
    Row(prompt_ids=(9, 8), response_ids=(1, 2, 3), group_id="a", episode_id="x", sampler_logprobs=(-1, -2, -3)),
    Row(prompt_ids=(7,), response_ids=(4,), group_id="a", episode_id="x", sampler_logprobs=(-4,)),
    Row(prompt_ids=(6, 5), response_ids=(), group_id="b", episode_id="y", sampler_logprobs=()),
    Row(
        prompt_ids=(4, 3, 2),
        response_ids=(5, 6),
        group_id="b",
        episode_id="y",
        sampler_logprobs=(-5, -6),
        teacher_prompt_ids=(1,) * 5,
    ),
]


def test_prompt_and_response_stand_end_to_end() -> None:
    batch = make_batch(ROWS, pad_id=99)
    assert batch.student.input_ids.tolist() == [
        [9, 8, 1, 2, 3],
        [7, 4, 99, 99, 99],
        [6, 5, 99, 99, 99],
        [4, 3, 2, 5, 6],
    ]
    assert batch.mask.int().tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0]]
    assert batch.sampler_logprobs is not None
    assert batch.sampler_logprobs.tolist() == [[-1, -2, -3], [-4, 0, 0], [0, 0, 0], [-5, -6, 0]]
    assert batch.group_index.tolist() == [0, 0, 1, 1]
    assert batch.episode_index.tolist() == [0, 0, 1, 1]
    assert batch.has_teacher.tolist() == [False, False, False, True]
    assert batch.teacher is not None
    assert batch.teacher.input_ids[3].tolist() == [1, 1, 1, 1, 1, 5, 6]
    assert batch.teacher.input_ids[0].tolist() == [9, 8, 1, 2, 3, 99, 99]
    assert batch.teacher_mask.int().sum() == 2


WEIGHTS = {
    # 6 tokens, 3 rows with tokens, 2 episodes.
    "token-mean": [1 / 6, 1 / 6, 1 / 6, 1 / 6, 1 / 6, 1 / 6],
    "seq-mean-token-sum": [1 / 3, 1 / 3, 1 / 3, 1 / 3, 1 / 3, 1 / 3],
    "seq-mean-token-mean": [1 / 9, 1 / 9, 1 / 9, 1 / 3, 1 / 6, 1 / 6],
    "seq-mean-token-sum-norm": [1 / 30] * 6,
    "episode-mean-token-mean": [1 / 8, 1 / 8, 1 / 8, 1 / 8, 1 / 4, 1 / 4],
}


@pytest.mark.parametrize("mode", WEIGHTS)
def test_weights_by_hand(mode: str) -> None:
    batch = make_batch(ROWS, pad_id=0)
    assert Totals.of(batch) == Totals(tokens=6, rows=3, episodes=2)
    batch = batch.weighed(mode, response_limit=10)  # type: ignore[arg-type]
    assert batch.weights is not None
    torch.testing.assert_close(batch.weights[batch.mask], torch.tensor(WEIGHTS[mode]))
    assert (batch.weights[~batch.mask] == 0).all()


@pytest.mark.parametrize("mode", WEIGHTS)
def test_rows_that_are_distilled_alone_have_weights_of_their_own(mode: str) -> None:
    extra = Row(
        prompt_ids=(1,),
        response_ids=(7, 8, 9),
        group_id="b",
        episode_id="z",
        is_trained=False,
        teacher_prompt_ids=(2,),
        teacher_weight=2.0,
        token_weights=(1.0, 0.0, 0.5),
        sampler_logprobs=None,
    )
    batch = make_batch([*ROWS, extra], pad_id=0).weighed(mode, response_limit=10)  # type: ignore[arg-type]
    # The policy's weights are those without the row, and the row has none.
    assert batch.weights is not None
    torch.testing.assert_close(batch.weights[:4][batch.mask[:4]], torch.tensor(WEIGHTS[mode]))
    assert (batch.weights[4] == 0).all()
    assert (batch.policy_mask == (batch.mask & torch.tensor([1, 1, 1, 1, 0])[:, None].bool())).all()
    # With it there are 9 tokens in 4 rows with tokens and 3 episodes; rows 3 and 4 have a teacher: 5 tokens.
    counts = {"token-mean": (9, 5), "episode-mean-token-mean": (3, 2)}.get(mode, (4, 2))
    assert batch.teacher_scale == counts[0] / counts[1]
    assert batch.distill_weights is not None
    assert (batch.distill_weights[:3] == 0).all()
    per_row = {"seq-mean-token-mean": 3, "episode-mean-token-mean": 3, "seq-mean-token-sum-norm": 10}.get(mode, 1)
    expected = torch.tensor([2.0, 0.0, 1.0]) / counts[0] / per_row
    torch.testing.assert_close(batch.distill_weights[4], expected)
    assert batch.sampler_logprobs is not None
    assert (batch.sampler_logprobs[4] == 0).all()


def test_parts_of_a_batch_keep_what_their_rows_know() -> None:
    batch = make_batch(random_rows(11), pad_id=0)
    (view,) = batch.more_teachers
    with pytest.raises(InvalidOption, match="further views, which are not scored"):
        view.scored()
    logprobs = torch.randn(batch.mask.shape, generator=torch.Generator().manual_seed(0))
    batch = batch.replace(more_teachers=(type(view)(view.sequences, view.is_there, logprobs),), advantages=logprobs)
    piece = batch.select([7, 2, 4])
    width = piece.mask.shape[1]
    assert torch.equal(piece.more_teachers[0].scored(), logprobs[[7, 2, 4], :width])
    assert torch.equal(piece.part("advantages"), logprobs[[7, 2, 4], :width])
    assert piece.more_teachers[0].is_there.tolist() == view.is_there[[7, 2, 4]].tolist()
    assert batch.answer_mask is not None
    assert piece.answer_mask is not None
    assert torch.equal(piece.answer_mask, batch.answer_mask[[7, 2, 4], :width])
    assert (
        piece.to("cpu").more_teachers[0].sequences.input_ids.shape == piece.more_teachers[0].sequences.input_ids.shape
    )


def test_a_batch_without_tokens_has_weights_of_zero() -> None:
    empty = make_batch([Row(prompt_ids=(1,), response_ids=())] * 2, pad_id=0)
    for mode in WEIGHTS:
        weighed = empty.weighed(mode, response_limit=10)  # type: ignore[arg-type]
        assert weighed.weights is not None
        assert weighed.weights.shape == (2, 0)
    cut = [Row(prompt_ids=(1,), response_ids=(2, 3), is_truncated=True)]
    weights = make_batch(cut, pad_id=0, mask_truncated=True).weighed("seq-mean-token-mean").weights
    assert weights is not None
    assert weights.tolist() == [[0.0, 0.0]]


@given(st.lists(st.integers(1, 30), max_size=20), st.integers(1, 60))
def test_pieces_hold_each_row_once_within_the_limit(lengths: list[int], max_tokens: int) -> None:
    groups = pack_by_length(lengths, max_tokens)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or len(group) * max(lengths[i] for i in group) <= max_tokens


def test_cutting_a_batch_loses_and_doubles_nothing() -> None:
    batch = make_batch(random_rows(11), pad_id=0).weighed("token-mean")
    for pieces in (batch.split(60), batch.minibatches(3, random.Random(0))):
        assert sum(len(piece) for piece in pieces) == 11
        assert sum(float(piece.weights.sum()) for piece in pieces) == pytest.approx(1.0)  # type: ignore[union-attr]
        firsts = [tuple(row.tolist()) for piece in pieces for row in piece.student.input_ids[:, :1]]
        assert sorted(firsts) == sorted(tuple(row.tolist()) for row in batch.student.input_ids[:, :1])
        assert all(piece.totals == batch.totals for piece in pieces)


def test_minibatches_hold_whole_episodes() -> None:
    batch = make_batch(random_rows(12, episode_rows=3), pad_id=0)
    parts = batch.minibatches(3, random.Random(1))
    episodes = [set(part.episode_index.tolist()) for part in parts]
    assert sorted(len(part) for part in parts) == [3, 3, 6]
    assert set.union(*episodes) == {0, 1, 2, 3}
    assert sum(map(len, episodes)) == 4
    with pytest.raises(InvalidOption, match="5 mini-batches of 4 episodes"):
        batch.minibatches(5, random.Random(1))


def test_selected_rows_keep_their_tokens() -> None:
    piece = make_batch(ROWS, pad_id=0).select([3, 1])
    assert piece.student.input_ids.tolist() == [[4, 3, 2, 5, 6], [7, 4, 0, 0, 0]]
    assert piece.mask.int().tolist() == [[1, 1], [1, 0]]
    assert piece.sampler_logprobs is not None
    assert piece.sampler_logprobs.tolist() == [[-5, -6], [-4, 0]]
    assert piece.teacher is not None
    assert piece.teacher.input_ids.shape == (2, 7)


def test_what_does_not_fit_is_refused() -> None:
    batch = make_batch(ROWS, pad_id=0)
    with pytest.raises(InvalidOption, match="no rows"):
        make_batch([], pad_id=0)
    with pytest.raises(InvalidOption, match="1 of 2 rows have no sampler log-probs"):
        make_batch([ROWS[0], Row(prompt_ids=(1,), response_ids=(1,))], pad_id=0)
    with pytest.raises(InvalidOption, match=r"got \(4, 2\), expected \(4, 3\)"):
        batch.replace(old_logprobs=torch.zeros(4, 2))
    with pytest.raises(InvalidOption, match="no row has a teacher"):
        make_batch(ROWS[:2], pad_id=0).replace(teacher_logprobs=torch.zeros(2, 3))
    with pytest.raises(InvalidOption, match="Did you mean 'token-mean'"):
        token_weights(batch.mask, "token_mean", Totals.of(batch))  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match=r"mask must have the shape \(B, L\): got \(4,\)"):
        token_weights(batch.mask[:, 0], "token-mean", Totals.of(batch))
    with pytest.raises(InvalidOption, match=r"episode_index must have the shape \(B,\) = \(4,\): got \(1,\)"):
        token_weights(batch.mask, "episode-mean-token-mean", Totals.of(batch), episode_index=torch.zeros(1).long())
    with pytest.raises(InvalidOption, match=r"needs ref_logprobs in the batch, which has none: call batch.replace"):
        batch.part("ref_logprobs")
    with pytest.raises(InvalidOption, match="needs response_limit"):
        batch.weighed("seq-mean-token-sum-norm")
