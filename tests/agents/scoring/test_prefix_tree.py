"""Prefix trees of token sequences, and attention over them: that of each sequence on its own."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from sdar_agents.scoring.prefix_tree import LEAST_SHARED, pack_by_prefix, prefix_tree
from sdar_agents.scoring.tree_attention import tree_attention

SEQUENCES = st.lists(st.lists(st.integers(1, 2), min_size=1, max_size=9), min_size=1, max_size=8)
LEAST = st.sampled_from([None, 1, 2, 4])


def padded(sequences: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, sequences))
    ids = torch.tensor([sequence + [0] * (width - len(sequence)) for sequence in sequences])
    return ids, torch.tensor([len(sequence) for sequence in sequences])


@given(SEQUENCES, LEAST)
def test_each_token_of_each_sequence_is_in_the_tree_at_its_position(sequences: list[list[int]], least: int | None):
    ids, lengths = padded(sequences)
    tree = prefix_tree(ids, lengths, least=least)
    tokens = ids[tree.rows, tree.positions][tree.index].tolist()
    assert tokens == [token for sequence in sequences for token in sequence]
    assert tree.positions[tree.index].tolist() == [i for sequence in sequences for i in range(len(sequence))]
    ends = [(segment.start, segment.end) for segment in tree.segments]
    assert [start for start, _ in ends] == [0, *(end for _, end in ends[:-1])]
    assert ends[-1][1] == len(tree.rows)
    # What a sequence passes through are the segments that its last token is below, or in.
    last = tree.index[lengths.cumsum(0) - 1].tolist()
    for sequence, token in zip(sequences, last, strict=True):
        path = [segment for segment in tree.segments if segment.start <= token < segment.last]
        assert sum(segment.end - segment.start for segment in path) == len(sequence)


def test_what_begins_alike_is_there_once_if_that_saves_enough():
    common = list(range(1, LEAST_SHARED + 1))
    rows = [[*common, 91, 92], [*common, 91, 93, 94], [*common, 95], [96, 97]]
    tree = prefix_tree(*padded(rows))
    # For the token that two of them share after the common beginning, a segment would save one.
    assert len(tree.rows) == LEAST_SHARED + 2 + 3 + 1 + 2
    assert tree.segments[0] == (0, LEAST_SHARED, LEAST_SHARED + 6)
    assert len(prefix_tree(*padded(rows), least=None).rows) == sum(map(len, rows))
    assert len(prefix_tree(*padded([common[:9], common[:9], common[:9]])).rows) == 9
    assert len(prefix_tree(*padded([common[:9], common[:9]])).rows) == 18


@given(SEQUENCES, st.integers(1, 40))
def test_groups_have_each_row_once_and_few_enough_tokens(sequences: list[list[int]], most: int):
    rows = [[5] * LEAST_SHARED + sequence for sequence in sequences]
    groups = pack_by_prefix(*padded(rows), most)
    assert sorted(row for group in groups for row in group) == list(range(len(rows)))
    for group in groups:
        assert len(group) == 1 or len(prefix_tree(*padded([rows[i] for i in group])).rows) <= most


@given(SEQUENCES, LEAST, st.sampled_from([1, 2]))
def test_attention_and_gradients_are_those_of_each_sequence(sequences: list[list[int]], least: int | None, groups: int):
    ids, lengths = padded(sequences)
    tree = prefix_tree(ids, lengths, least=least)
    torch.manual_seed(len(sequences))
    size = len(tree.rows)
    query = torch.randn(1, 4, size, 8, dtype=torch.float64, requires_grad=True)
    key, value = (torch.randn(1, 4 // groups, size, 8, dtype=torch.float64, requires_grad=True) for _ in range(2))
    together = tree_attention(query, key, value, tree.segments, 0.3)[:, :, tree.index]
    alone = []
    for index in tree.index.split(lengths.tolist()):
        parts = [part[:, :, index] for part in (query, key, value)]
        alone.append(scaled_dot_product_attention(*parts, is_causal=True, scale=0.3, enable_gqa=True))
    whole = torch.cat(alone, dim=2)
    torch.testing.assert_close(together, whole, atol=1e-12, rtol=0)
    weights = torch.randn_like(whole)
    found = torch.autograd.grad((together * weights).sum(), (query, key, value))
    wanted = torch.autograd.grad((whole * weights).sum(), (query, key, value))
    for gradient, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(gradient, other, atol=1e-12, rtol=0)
