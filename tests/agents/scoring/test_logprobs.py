import dataclasses
import random
from typing import Any

import pytest
import torch
from helpers.tiny_models import (
    PAD,
    VOCABULARY,
    gradients,
    largest_difference,
    lookup_model,
    random_ids,
    random_rows,
    tiny_model,
)
from torch import Tensor

from sdar_agents.scoring.batch import make_batch
from sdar_agents.scoring.head import TeacherView, head_scores
from sdar_agents.scoring.logprobs import score, score_rows, view_teacher
from sdar_agents.scoring.model_parts import disable_dropout
from sdar_agents.scoring.options import ScoringOptions
from sdar_agents.scoring.packing import enable_packing, is_packing_enabled
from sdar_agents.scoring.prefix_groups import prefix_groups, score_prefix_groups
from sdar_agents.types import Row
from sdar_envs.errors import InvalidOption

DIVERGENCES = ("rkl_full", "fkl_full", "jsd_full", "rkl_topk")


def by_hand(model: Any, row: Row, temperature: float = 1.0, prompt: tuple[int, ...] | None = None) -> Tensor:
    """Log-probs of a row's response, the row alone: the logits at the token before each response token."""
    prompt = prompt or row.prompt_ids
    logits = model(torch.tensor([prompt + row.response_ids])).logits[0] / temperature
    logprobs = logits.log_softmax(dim=-1)
    return torch.stack([logprobs[len(prompt) + j - 1, y] for j, y in enumerate(row.response_ids)])


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return random_rows(9)


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@torch.no_grad()
def test_every_column_is_the_token_that_it_says(rows: list[Row], packing: bool, temperature: float) -> None:
    model = tiny_model()
    expected = [by_hand(model, row, temperature) if row.response_ids else torch.zeros(0) for row in rows]
    batch = make_batch(rows, pad_id=PAD)
    if packing:
        enable_packing(model)
    logprobs = score(
        model, batch.student, batch.mask, ScoringOptions(packing=packing, temperature=temperature)
    ).logprobs
    for i, values in enumerate(expected):
        torch.testing.assert_close(logprobs[i, : len(values)], values, atol=1e-5, rtol=0)
        assert (logprobs[i, len(values) :] == 0).all()


@pytest.mark.filterwarnings("ignore:.*checkpointing:FutureWarning")
def test_packed_gradients_are_the_padded_ones_also_with_checkpointing(rows: list[Row]) -> None:
    batch = make_batch(rows, pad_id=PAD)
    model = tiny_model()
    score(model, batch.student, batch.mask).logprobs.sum().backward()
    padded = gradients(model)
    enable_packing(model)
    score(model, batch.student, batch.mask, ScoringOptions(packing=True)).logprobs.sum().backward()
    assert largest_difference(padded, gradients(model)) < 1e-4
    model.train()
    model.gradient_checkpointing_enable()
    score(model, batch.student, batch.mask, ScoringOptions(packing=True)).logprobs.sum().backward()
    assert largest_difference(padded, gradients(model)) < 1e-4


def test_a_model_with_packing_generates_what_it_did() -> None:
    prompts = torch.tensor([[0, 0, 5, 6], [1, 2, 3, 4]])
    seen = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    model = tiny_model()
    before = model.generate(prompts, attention_mask=seen, max_new_tokens=6, do_sample=False, pad_token_id=0)
    enable_packing(model)
    after = model.generate(prompts, attention_mask=seen, max_new_tokens=6, do_sample=False, pad_token_id=0)
    assert torch.equal(before, after)


@torch.no_grad()
def test_neither_padding_nor_company_changes_a_row(rows: list[Row]) -> None:
    model = tiny_model()
    alone = make_batch(rows[:1], pad_id=PAD)
    expected = score(model, alone.student, alone.mask).logprobs
    padded = dataclasses.replace(
        alone.student, input_ids=torch.cat([alone.student.input_ids, torch.full((1, 17), 7)], dim=1)
    )
    torch.testing.assert_close(score(model, padded, alone.mask).logprobs, expected, atol=1e-5, rtol=0)
    together = make_batch(rows, pad_id=PAD)
    for max_tokens in (1, 40, 10_000):
        logprobs = score_rows(model, together.student, together.mask, max_tokens=max_tokens).logprobs
        torch.testing.assert_close(logprobs[:1, : expected.shape[1]], expected, atol=1e-5, rtol=0)


def test_the_loss_of_a_lookup_table_is_known_in_closed_form() -> None:
    # After token i, token i + 1 has logit log 9 and the seven others 0: probability 9/16, or 1/16 for another.
    table = torch.zeros(8, 8)
    table[torch.arange(8), (torch.arange(8) + 1) % 8] = torch.log(torch.tensor(9.0))
    model = lookup_model(table)
    # 5 -> 6 (expected), 6 -> 6 (not), 6 -> 7 (expected); the prompt's own 1 -> 5 is not trained.
    batch = make_batch(
        [Row(prompt_ids=(1, 5), response_ids=(6, 6, 7)), Row(prompt_ids=(2,), response_ids=(3,))], pad_id=0
    )
    logprobs = score(model, batch.student, batch.mask).logprobs
    hit, miss = 9 / 16, 1 / 16
    expected = torch.tensor([[hit, miss, hit], [hit, 1.0, 1.0]]).log()
    torch.testing.assert_close(logprobs.detach(), expected, atol=1e-6, rtol=0)
    logprobs.sum().backward()
    used = model.lm_head.weight.grad.abs().sum(dim=0) > 1e-9
    assert used.nonzero()[:, 0].tolist() == [2, 5, 6]


@torch.no_grad()
def test_without_a_skill_the_teacher_is_the_student() -> None:
    rng = random.Random(3)
    rows = []
    for _ in range(6):
        prompt = random_ids(rng, 1, 30)
        rows.append(Row(prompt_ids=prompt, response_ids=random_ids(rng, 1, 9), teacher_prompt_ids=prompt))
    # A longer teacher prompt in the batch, so that student and teacher are padded to different widths.
    rows.append(Row(prompt_ids=(1,), response_ids=(2, 3), teacher_prompt_ids=random_ids(rng, 60, 60)))
    batch = make_batch(rows, pad_id=PAD)
    assert batch.teacher is not None
    model = tiny_model()
    gap = score(model, batch.teacher, batch.mask).logprobs - score(model, batch.student, batch.mask).logprobs
    assert gap[:-1].abs().max() < 1e-5
    assert gap[-1].abs().max() > 1e-2
    torch.testing.assert_close(torch.sigmoid(5 * gap[:-1]), torch.full_like(gap[:-1], 0.5), atol=2e-5, rtol=0)
    expected = by_hand(model, rows[-1], prompt=rows[-1].teacher_prompt_ids)
    torch.testing.assert_close(score(model, batch.teacher, batch.mask).logprobs[-1, :2], expected, atol=1e-5, rtol=0)


def test_dropout_never_touches_a_score(rows: list[Row]) -> None:
    batch = make_batch(rows, pad_id=PAD)
    model = tiny_model(attention_dropout=0.5).train()
    with torch.no_grad():
        old = score(model, batch.student, batch.mask).logprobs
        assert torch.equal(old, score(model, batch.student, batch.mask).logprobs)
    assert all(module.training for module in model.modules())
    with pytest.raises(InvalidOption, match="call disable_dropout"):
        score(model, batch.student, batch.mask)
    disable_dropout(model)
    new = score(model, batch.student, batch.mask).logprobs
    assert torch.equal(torch.exp(new - old), torch.ones_like(old))


@torch.no_grad()
def test_scores_are_those_of_the_sampler_at_its_temperature() -> None:
    model = tiny_model()
    torch.manual_seed(1)
    prompt, draws = (3, 1, 4), 4096
    out = model.generate(
        torch.tensor([prompt] * draws),
        attention_mask=torch.ones(draws, 3, dtype=torch.long),
        do_sample=True,
        temperature=0.7,
        top_k=0,
        top_p=1.0,
        max_new_tokens=1,
        output_scores=True,
        return_dict_in_generate=True,
        pad_token_id=0,
        eos_token_id=None,
    )
    sampled = out.sequences[:, 3]
    every = make_batch([Row(prompt_ids=prompt, response_ids=(y,)) for y in range(VOCABULARY)], pad_id=PAD)
    logprobs = score(model, every.student, every.mask, ScoringOptions(temperature=0.7)).logprobs[:, 0]
    torch.testing.assert_close(out.scores[0][0].log_softmax(-1), logprobs, atol=1e-5, rtol=0)
    counts = sampled.bincount(minlength=VOCABULARY).double()
    expected = logprobs.double().exp() * draws
    kept = expected >= 5
    statistic = float(((counts - expected)[kept] ** 2 / expected[kept]).sum())
    degrees = int(kept.sum())
    assert abs(statistic - degrees) < 4 * (2 * degrees) ** 0.5
    wrong = (
        score(model, every.student, every.mask, ScoringOptions(temperature=1.0)).logprobs[:, 0].double().exp() * draws
    )
    assert float(((counts - wrong)[kept] ** 2 / wrong[kept]).sum()) > 5 * degrees


@torch.no_grad()
def test_bfloat16_states_are_scored_in_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(64, 32, generator=generator).bfloat16()
    weight = torch.randn(500, 32, generator=generator).bfloat16()
    targets = torch.randint(0, 500, (64,), generator=generator)
    logits = torch.nn.functional.linear(states, weight)
    exact = logits.double().log_softmax(-1).gather(1, targets[:, None])[:, 0]
    low = logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]
    ours = head_scores(states, weight, None, targets).logprobs
    assert ours.dtype == torch.float32
    assert (low.double() - exact).abs().max() > 1e-2
    assert (ours.double() - exact).abs().max() < 2e-3


def double(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("divergence", [None, *DIVERGENCES])
def test_the_backward_pass_is_the_derivative(divergence: Any) -> None:
    teacher = TeacherView(double(5, 4, seed=3), double(7, 4, seed=4), double(7, seed=5))
    targets = torch.tensor([0, 6, 3, 3, 1])

    def scores(states: Tensor, weight: Tensor, bias: Tensor) -> Any:
        out = head_scores(
            states,
            weight,
            bias,
            targets,
            ScoringOptions(temperature=0.8, entropies=True, divergence=divergence, top_k=3, chunk_elements=14),
            teacher=teacher if divergence else None,
        )
        return tuple(part for part in out if part is not None)

    inputs = tuple(double(*shape, seed=i).requires_grad_() for i, shape in enumerate([(5, 4), (7, 4), (7,)]))
    assert torch.autograd.gradcheck(scores, inputs)


def test_divergences_are_what_they_are_called() -> None:
    states, weight = double(6, 4, seed=0), double(9, 4, seed=1)
    teacher = TeacherView(double(6, 4, seed=2).requires_grad_(), double(9, 4, seed=3).requires_grad_())
    p = torch.distributions.Categorical(logits=states @ weight.T)
    q = torch.distributions.Categorical(logits=teacher.states @ teacher.weight.T)
    mixture = torch.distributions.Categorical(probs=(p.probs + q.probs) / 2)
    kl = torch.distributions.kl_divergence
    expected = {"rkl_full": kl(p, q), "fkl_full": kl(q, p), "jsd_full": (kl(p, mixture) + kl(q, mixture)) / 2}

    def ours(kind: Any, **changes: Any) -> Tensor:
        targets = torch.zeros(6, dtype=torch.long)
        out = head_scores(
            states, weight, None, targets, ScoringOptions(divergence=kind, **changes), teacher=teacher
        ).divergences
        assert out is not None
        return out

    for kind, values in expected.items():
        torch.testing.assert_close(ours(kind), values.detach(), atol=1e-12, rtol=0)
        torch.testing.assert_close(ours(kind, chunk_elements=9), values.detach(), atol=1e-12, rtol=0)
    torch.testing.assert_close(ours("rkl_topk", top_k=9), expected["rkl_full"].detach(), atol=1e-12, rtol=0)
    torch.testing.assert_close(ours("rkl_topk", top_k=99), expected["rkl_full"].detach(), atol=1e-12, rtol=0)
    before = torch.zeros(6, dtype=torch.float64)
    for k in range(1, 10):
        # Telling more tokens apart can only show more difference.
        values = ours("rkl_topk", top_k=k)
        assert (values >= before - 1e-12).all()
        before = values
    states.requires_grad_()
    ours("jsd_full").sum().backward()
    assert states.grad is not None
    assert teacher.states.grad is None
    assert teacher.weight.grad is None


@pytest.mark.parametrize("packing", [False, True])
def test_divergence_of_a_model_from_its_teacher_prompt(rows: list[Row], packing: bool) -> None:
    batch = make_batch(rows, pad_id=PAD)
    model = tiny_model()
    expected = torch.zeros(batch.mask.shape)
    with torch.no_grad():
        for i, row in enumerate(rows):
            assert row.teacher_prompt_ids is not None
            student = model(torch.tensor([row.prompt_ids + row.response_ids])).logits[0].log_softmax(-1)
            teacher = model(torch.tensor([row.teacher_prompt_ids + row.response_ids])).logits[0].log_softmax(-1)
            for j in range(len(row.response_ids)):
                p = student[len(row.prompt_ids) + j - 1]
                q = teacher[len(row.teacher_prompt_ids) + j - 1]
                expected[i, j] = (p.exp() * (p - q)).sum()
    if packing:
        enable_packing(model)
    view = view_teacher(model, batch, packing=packing)
    scores = score(
        model, batch.student, batch.mask, ScoringOptions(divergence="rkl_full", packing=packing), teacher=view
    )
    assert scores.divergences is not None
    torch.testing.assert_close(scores.divergences.detach(), expected, atol=1e-5, rtol=0)


def test_chunks_change_neither_scores_nor_gradients(rows: list[Row]) -> None:
    batch = make_batch(rows, pad_id=PAD)
    results = []
    for chunk_elements in (1, 5 * VOCABULARY, 1 << 25):
        model = tiny_model()
        scores = score(model, batch.student, batch.mask, ScoringOptions(entropies=True, chunk_elements=chunk_elements))
        assert scores.entropies is not None
        (scores.logprobs.sum() - scores.entropies.square().sum()).backward()
        results.append((scores, gradients(model)))
    for scores, grads in results[1:]:
        torch.testing.assert_close(scores.logprobs, results[0][0].logprobs, atol=1e-5, rtol=0)
        torch.testing.assert_close(scores.entropies, results[0][0].entropies, atol=1e-5, rtol=0)
        assert largest_difference(grads, results[0][1]) < 1e-3


def test_bfloat16_gradients_do_not_depend_on_the_chunks() -> None:
    states, targets = double(256, 16, seed=0).bfloat16(), torch.arange(256) % 50

    def weight_gradient(chunk_elements: int) -> Tensor:
        weight = double(50, 16, seed=1).bfloat16().requires_grad_()
        head_scores(
            states, weight, None, targets, ScoringOptions(chunk_elements=chunk_elements)
        ).logprobs.sum().backward()
        assert weight.grad is not None
        return weight.grad.double()

    exact = double(50, 16, seed=1).bfloat16().double().requires_grad_()
    head_scores(states.double(), exact, None, targets).logprobs.sum().backward()
    assert exact.grad is not None
    scale = exact.grad.abs().max()
    for chunk_elements in (50 * 256, 50 * 4, 50):
        assert (weight_gradient(chunk_elements) - exact.grad).abs().max() / scale < 0.01


def test_autocast_decides_the_precision_of_the_head(rows: list[Row]) -> None:
    batch = make_batch(rows, pad_id=PAD)
    model = tiny_model()
    full = score(model, batch.student, batch.mask).logprobs
    with torch.autocast("cpu", torch.bfloat16):
        low = score(model, batch.student, batch.mask).logprobs
        mixed = score(model, batch.student, batch.mask, ScoringOptions(head_dtype=torch.float32)).logprobs
    assert low.dtype == torch.float32
    assert 1e-4 < (low - full).abs().max() < 0.3
    assert not torch.equal(low, mixed)
    low.sum().backward()
    assert all(torch.isfinite(grad).all() for grad in gradients(model))


def test_rows_without_a_response_score_nothing_and_break_nothing() -> None:
    model = tiny_model()
    for rows in ([Row(prompt_ids=(1, 2), response_ids=())], random_rows(3)):
        batch = make_batch(rows, pad_id=PAD)
        scores = score(model, batch.student, batch.mask, ScoringOptions(entropies=True))
        assert torch.isfinite(scores.logprobs).all()
        scores.logprobs.sum().backward()
        assert all(torch.isfinite(grad).all() for grad in gradients(model))


def test_tied_heads_collect_the_gradient_of_both_ends(rows: list[Row]) -> None:
    batch = make_batch(rows, pad_id=PAD)
    model = tiny_model(tie_word_embeddings=True)
    score(model, batch.student, batch.mask).logprobs.sum().backward()
    ours = gradients(model)
    sum(by_hand(model, row).sum() for row in rows if row.response_ids).backward()
    assert largest_difference(ours, gradients(model)) < 1e-4


def test_what_cannot_be_scored_is_refused(rows: list[Row]) -> None:
    batch = make_batch(rows, pad_id=PAD)
    model = tiny_model()
    with pytest.raises(InvalidOption, match="call enable_packing"):
        score(model, batch.student, batch.mask, ScoringOptions(packing=True))
    with pytest.raises(InvalidOption, match="temperature is 0"):
        score(model, batch.student, batch.mask, ScoringOptions(temperature=0))
    with pytest.raises(InvalidOption, match="wants a teacher with"):
        score(model, batch.student, batch.mask, ScoringOptions(divergence="rkl_full"))
    with pytest.raises(InvalidOption, match="Did you mean 'rkl_full'"):
        score(model, batch.student, batch.mask, ScoringOptions(divergence="rkl_ful"))  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match="does not belong"):
        score(model, batch.student, torch.ones_like(batch.mask))
    with pytest.raises(InvalidOption, match="no Hugging Face causal language model"):
        score(torch.nn.Linear(2, 2), batch.student, batch.mask)
    model.config.final_logit_softcapping = 30.0
    with pytest.raises(InvalidOption, match="final_logit_softcapping"):
        score(model, batch.student, batch.mask)


class TestPrefixGroups:
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
        shared = score_prefix_groups(model, batch.student, mask, options, max_tokens=max_tokens)
        assert torch.equal(shared != 0, mask)
        torch.testing.assert_close(shared, whole, atol=1e-5, rtol=0)

    def test_the_common_part_is_read_once(self) -> None:
        model = tiny_model()
        batch = make_batch(self.rows(90), pad_id=PAD)
        read = []
        model.model.register_forward_pre_hook(
            lambda _, args, kwargs: read.append(kwargs["input_ids"].numel()), with_kwargs=True
        )
        score_prefix_groups(model, batch.student, batch.mask, max_tokens=10_000)
        # Three beginnings of 90 tokens, and at most 18 more for each row; 90 for each row would be 1080.
        assert sum(read) <= 3 * 90 + 12 * 18

    def test_a_model_with_windows_reads_whole_rows(self) -> None:
        model = tiny_model(use_sliding_window=True, sliding_window=8, max_window_layers=0)
        batch = make_batch(self.rows(90), pad_id=PAD)
        whole = score_rows(model, batch.student, batch.mask, max_tokens=10_000).logprobs
        shared = score_prefix_groups(model, batch.student, batch.mask, max_tokens=10_000)
        assert torch.equal(shared, whole)

    @pytest.mark.parametrize("packing", [False, True])
    def test_the_model_gets_its_attention_back(self, packing: bool) -> None:
        model = tiny_model()
        if packing:
            enable_packing(model)
        before = model.config._attn_implementation
        batch = make_batch(self.rows(90), pad_id=PAD)
        score_prefix_groups(model, batch.student, batch.mask, max_tokens=10_000)
        assert model.config._attn_implementation == before
        assert is_packing_enabled(model) == packing

    def test_under_autocast_it_is_as_near_as_whole_rows(self) -> None:
        model = tiny_model()
        batch = make_batch(self.rows(90), pad_id=PAD)
        exact = score_rows(model, batch.student, batch.mask, max_tokens=10_000).logprobs
        with torch.autocast("cpu", torch.bfloat16):
            whole = score_rows(model, batch.student, batch.mask, max_tokens=10_000).logprobs
            shared = score_prefix_groups(model, batch.student, batch.mask, max_tokens=10_000)
        assert (shared - exact).abs().max() < 2 * (whole - exact).abs().max()
        assert (shared - exact).abs().max() > 1e-4

    def test_rows_that_share_nothing_may_be_packed(self) -> None:
        model = tiny_model()
        batch = make_batch(self.rows(3), pad_id=PAD)
        padded = score_prefix_groups(model, batch.student, batch.mask, max_tokens=10_000)
        enable_packing(model)
        read = []
        model.model.register_forward_pre_hook(
            lambda _, args, kwargs: read.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
        )
        ends_to_end = score_prefix_groups(
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
        shared = score_prefix_groups(model, batch.student, batch.mask, max_tokens=10_000)
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


def test_options_are_checked_when_they_are_made() -> None:
    with pytest.raises(InvalidOption, match="top_k is 0; wanted a whole number of at least 1"):
        ScoringOptions(top_k=0)
    with pytest.raises(InvalidOption, match="chunk_elements is 0"):
        ScoringOptions(chunk_elements=0)
    with pytest.raises(InvalidOption, match="temperature is nan"):
        ScoringOptions(temperature=float("nan"))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((5,), (7, 4), (5,)), r"states must have the shape \(N, H\): got \(5,\)"),
        (((5, 4), (4,), (5,)), r"weight must have the shape \(V, H\): got \(4,\)"),
        (((5, 4), (7, 4), (5, 1)), r"targets must have the shape \(N,\): got \(5, 1\)"),
        (((5, 4), (7, 4), (1,)), r"got \(5, 4\), \(7, 4\) and \(1,\)"),
        (((5, 4), (7, 3), (5,)), r"got \(5, 4\), \(7, 3\) and \(5,\)"),
    ],
)
def test_a_head_refuses_states_of_another_shape(shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    states, weight, targets = (torch.zeros(shape) for shape in shapes)
    with pytest.raises(InvalidOption, match=message):
        head_scores(states, weight, None, targets.long())
