"""Packed sequences give the scores, gradients and generations of padded ones."""

from dataclasses import replace

import pytest
import torch
from helpers.tiny_models import (
    PAD,
    gradients,
    largest_difference,
    random_rows,
    tiny_model,
)

from sdar_agents.scoring.batch import make_batch
from sdar_agents.scoring.logprobs import score
from sdar_agents.scoring.options import ScoringOptions
from sdar_agents.scoring.packing import enable_packing
from sdar_agents.types import Row

COMMON = tuple(range(1, 31))


@pytest.fixture(scope="module", params=[(), COMMON])
def rows(request: pytest.FixtureRequest) -> list[Row]:
    """Rows whose prompts begin with nothing in common, and all but two of them with 30 tokens."""
    rows = random_rows(9)
    return [replace(row, prompt_ids=(*request.param, *row.prompt_ids)) for row in rows[2:]] + rows[:2]


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


def test_a_common_beginning_is_computed_once(rows: list[Row]) -> None:
    batch = make_batch(rows, pad_id=PAD)
    model = tiny_model()
    enable_packing(model)
    read = []
    model.model.register_forward_pre_hook(lambda *given: read.append(given[-1]["input_ids"].numel()), with_kwargs=True)
    score(model, batch.student, batch.mask, ScoringOptions(packing=True))
    shared = len(COMMON) if rows[0].prompt_ids[: len(COMMON)] == COMMON else 0
    assert read == [int(batch.student.lengths.sum()) - 6 * shared]


def test_a_model_with_packing_generates_what_it_did() -> None:
    prompts = torch.tensor([[0, 0, 5, 6], [1, 2, 3, 4]])
    seen = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    model = tiny_model()
    before = model.generate(prompts, attention_mask=seen, max_new_tokens=6, do_sample=False, pad_token_id=0)
    enable_packing(model)
    after = model.generate(prompts, attention_mask=seen, max_new_tokens=6, do_sample=False, pad_token_id=0)
    assert torch.equal(before, after)
