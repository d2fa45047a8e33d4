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
from sdar_agents.scoring.logprobs import score, score_rows, view_teacher
from sdar_agents.scoring.model_parts import disable_dropout
from sdar_agents.scoring.options import ScoringOptions
from sdar_agents.scoring.packing import enable_packing
from sdar_agents.types import Row
from sdar_envs.errors import InvalidOption


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
    with pytest.raises(InvalidOption, match="needs a teacher with"):
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
