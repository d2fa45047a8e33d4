"""A shared prompt prefix that is encoded once gives the scores of rows that are encoded whole."""

import random

import pytest
import torch
from helpers.tiny_models import (
    PAD,
    random_ids,
    tiny_model,
)

from sdar_agents.scoring.batch import make_batch
from sdar_agents.scoring.logprobs import score_rows
from sdar_agents.scoring.options import ScoringOptions
from sdar_agents.scoring.packing import enable_packing, is_packing_enabled
from sdar_agents.scoring.shared_prefixes import prefix_groups, score_shared_prefixes
from sdar_agents.types import Row


class TestSharedPrefixes:
    """A beginning that is read once gives the scores of rows that are read whole."""

    def rows(self, common: int) -> list[Row]:
        rng = random.Random(3)
        starts = [random_ids(rng, common, common) for _ in range(3)]
        return [
            Row((*starts[i % 3], *random_ids(rng, 1, 12)), random_ids(rng, 0 if i == 5 else 1, 6), None, f"g{i % 3}")
            for i in range(12)
        ]

    @pytest.mark.parametrize("max_tokens", [1, 200, 10_000])
    @pytest.mark.parametrize("common", [1, 63, 64, 90])
    @pytest.mark.parametrize("temperature", [1.0, 0.7])
    def test_scores_are_those_of_whole_rows(self, common: int, max_tokens: int, temperature: float) -> None:
        model = tiny_model()
        batch = make_batch(self.rows(common), pad_id=PAD)
        mask = batch.mask.clone()
        mask[7] = False
        options = ScoringOptions(temperature=temperature)
        whole = score_rows(model, batch.student, mask, options, max_tokens=10_000).logprobs
        shared = score_shared_prefixes(model, batch.student, mask, options, max_tokens=max_tokens)
        assert torch.equal(shared != 0, mask)
        torch.testing.assert_close(shared, whole, atol=1e-5, rtol=0)

    @pytest.mark.parametrize("max_tokens", [1, 10_000])
    def test_a_cache_of_keys_gives_them_too(self, max_tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """The way of accelerators, on the CPU."""
        model = tiny_model()
        batch = make_batch(self.rows(90), pad_id=PAD)
        whole = score_rows(model, batch.student, batch.mask, max_tokens=10_000).logprobs
        monkeypatch.setattr("sdar_agents.scoring.shared_prefixes.can_pack_trees", lambda _: False)
        alone = score_shared_prefixes(model, batch.student, batch.mask, max_tokens=max_tokens)
        assert torch.equal(alone, score_rows(model, batch.student, batch.mask, max_tokens=max_tokens).logprobs)
        monkeypatch.setattr("sdar_agents.scoring.shared_prefixes.can_cache_prefix", lambda _: True)
        read = []
        model.model.register_forward_pre_hook(
            lambda _, args, kwargs: read.append(kwargs["input_ids"].numel()), with_kwargs=True
        )
        cached = score_shared_prefixes(model, batch.student, batch.mask, max_tokens=max_tokens)
        torch.testing.assert_close(cached, whole, atol=1e-5, rtol=0)
        assert sum(read) <= 3 * 90 + 12 * 18

    def test_the_common_part_is_read_once(self) -> None:
        model = tiny_model()
        batch = make_batch(self.rows(90), pad_id=PAD)
        read = []
        model.model.register_forward_pre_hook(
            lambda _, args, kwargs: read.append(kwargs["input_ids"].numel()), with_kwargs=True
        )
        score_shared_prefixes(model, batch.student, batch.mask, max_tokens=10_000)
        # Three beginnings of 90 tokens, and at most 18 more for each row; 90 for each row would be 1080.
        assert sum(read) <= 3 * 90 + 12 * 18

    def test_a_model_with_windows_reads_whole_rows(self) -> None:
        model = tiny_model(use_sliding_window=True, sliding_window=8, max_window_layers=0)
        batch = make_batch(self.rows(90), pad_id=PAD)
        whole = score_rows(model, batch.student, batch.mask, max_tokens=10_000).logprobs
        shared = score_shared_prefixes(model, batch.student, batch.mask, max_tokens=10_000)
        assert torch.equal(shared, whole)

    @pytest.mark.parametrize("packing", [False, True])
    def test_the_model_gets_its_attention_back(self, packing: bool) -> None:
        model = tiny_model()
        if packing:
            enable_packing(model)
        before = model.config._attn_implementation
        batch = make_batch(self.rows(90), pad_id=PAD)
        score_shared_prefixes(model, batch.student, batch.mask, max_tokens=10_000)
        assert model.config._attn_implementation == before
        assert is_packing_enabled(model) == packing

    def test_under_autocast_it_is_as_near_as_whole_rows(self) -> None:
        model = tiny_model()
        batch = make_batch(self.rows(90), pad_id=PAD)
        exact = score_rows(model, batch.student, batch.mask, max_tokens=10_000).logprobs
        with torch.autocast("cpu", torch.bfloat16):
            whole = score_rows(model, batch.student, batch.mask, max_tokens=10_000).logprobs
            shared = score_shared_prefixes(model, batch.student, batch.mask, max_tokens=10_000)
        assert (shared - exact).abs().max() < 2 * (whole - exact).abs().max()
        assert (shared - exact).abs().max() > 1e-4

    def test_rows_that_share_nothing_may_be_packed(self) -> None:
        model = tiny_model()
        batch = make_batch(self.rows(3), pad_id=PAD)
        padded = score_shared_prefixes(model, batch.student, batch.mask, max_tokens=10_000)
        enable_packing(model)
        read = []
        model.model.register_forward_pre_hook(
            lambda _, args, kwargs: read.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
        )
        ends_to_end = score_shared_prefixes(
            model, batch.student, batch.mask, ScoringOptions(packing=True), max_tokens=10_000
        )
        asked = batch.mask.any(dim=1)
        assert read == [(1, int(batch.student.lengths[asked].sum()))]
        torch.testing.assert_close(ends_to_end, padded, atol=1e-5, rtol=0)

    def test_groups_are_chosen_by_what_they_save(self) -> None:
        def prompt(*parts: tuple[int, int]) -> tuple[int, ...]:
            return tuple(token for token, count in parts for _ in range(count))

        # Two that begin with 70 of one token, three that begin with 10 of it and 90 of another; one alone.
        prompts = [prompt((1, 70), (i, 3)) for i in (2, 3)] + [prompt((1, 10), (9, 90), (i, 2)) for i in (2, 3, 4)]
        batch = make_batch([Row((*ids, 7), (5,)) for ids in (*prompts, (8, 8))], pad_id=PAD)
        saved, groups = prefix_groups(batch.student, torch.arange(6), 64)
        assert [(index.tolist(), length) for index, length in groups] == [([0, 1], 70), ([2, 3, 4], 100)]
        assert saved == 70 + 2 * 100

    def test_equal_prompts_keep_their_last_token(self) -> None:
        model = tiny_model()
        prompt = random_ids(random.Random(1), 80, 80)
        batch = make_batch([Row(prompt, (i + 1, 2), None, "g") for i in range(3)], pad_id=PAD)
        whole = score_rows(model, batch.student, batch.mask, max_tokens=10_000).logprobs
        shared = score_shared_prefixes(model, batch.student, batch.mask, max_tokens=10_000)
        torch.testing.assert_close(shared, whole, atol=1e-5, rtol=0)

    def test_prompts_that_part_one_by_one_are_no_trouble(self) -> None:
        prompts = [(1,) * i + (2, 3) for i in range(64, 400)]
        batch = make_batch([Row(ids, (5,)) for ids in prompts], pad_id=PAD)
        index = torch.arange(len(prompts))
        undivided = prefix_groups(batch.student, index, 64, 0)[1]
        assert [(len(rows), length) for rows, length in undivided] == [(len(prompts), 64)]
        saved, groups = prefix_groups(batch.student, index, 64)
        assert saved > 0
        assert len({int(row) for index, _ in groups for row in index}) == sum(len(index) for index, _ in groups)
