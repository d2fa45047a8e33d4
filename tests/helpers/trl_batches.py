"""Batches of this package's rows in the form of TRL's GRPOTrainer, for comparisons of losses."""

from __future__ import annotations

from typing import Any

import torch
from helpers.tiny_models import PAD

from sdar_agents.scoring.batch import Batch

AGGREGATIONS = {
    "bnpo": "token-mean",
    "dapo": "token-mean",
    "grpo": "seq-mean-token-mean",
    "luspo": "seq-mean-token-sum",
    "dr_grpo": "seq-mean-token-sum-norm",
}
"""TRL's `loss_type` -> the aggregation of this package."""


def trl_inputs(batch: Batch, rows: list[Any]) -> dict[str, torch.Tensor]:
    """The batch as TRL wants it: prompts padded on the left, completions on the right."""
    width = max(len(row.prompt_ids) for row in rows)
    prompts = torch.full((len(rows), width), PAD)
    seen = torch.zeros(len(rows), width, dtype=torch.long)
    completions = torch.full(batch.mask.shape, PAD)
    for i, row in enumerate(rows):
        prompts[i, width - len(row.prompt_ids) :] = torch.tensor(row.prompt_ids)
        seen[i, width - len(row.prompt_ids) :] = 1
        completions[i, : len(row.response_ids)] = torch.tensor(row.response_ids)
    assert batch.advantages is not None
    return {
        "prompt_ids": prompts,
        "prompt_mask": seen,
        "completion_ids": completions,
        "completion_mask": batch.mask.long(),
        "advantages": batch.advantages,
        "old_per_token_logps": batch.old_logprobs,
        "ref_per_token_logps": batch.ref_logprobs,
        "num_items_in_batch": batch.mask.sum(),
    }
