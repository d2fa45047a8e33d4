"""Scoring options: temperature, entropies, divergences, packing, memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from sdar_agents.settings.checks import check_settings, setting

__all__ = ["CHUNK_ELEMENTS", "DEFAULT_OPTIONS", "TOP_K_DIVERGENCES", "Divergence", "ScoringOptions"]

Divergence = Literal["rkl_full", "fkl_full", "jsd_full", "rkl_topk", "fkl_topk", "jsd_topk", "fkl_renormalised"]
"""Of student p and teacher q: KL(p||q), KL(q||p), Jensen-Shannon; the same over k tokens and one rest (`_topk`);
KL(q||p) over k tokens, both renormalised on them. See `ScoringOptions.top_of`."""

TOP_K_DIVERGENCES = frozenset({"rkl_topk", "fkl_topk", "jsd_topk", "fkl_renormalised"})

CHUNK_ELEMENTS = 1 << 25
"""Logits that exist at a time: 128 MiB in float32. A pass over the head holds about three such buffers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringOptions:
    """Scoring options: what is computed of each token, at which temperature, in which layout.

    One object from the learner down to the language-model head. A method adds what its loss needs by
    `Algorithm.scoring_options`.

    Attributes:
        temperature: divides the logits, the teacher's too; the one that the tokens were sampled at.
        entropies: compute the entropy of each full distribution too, `-sum_v p_v log p_v`.
        divergence: compute this divergence between the model and a teacher too; None for none.
        top_k: for `_topk`: k tokens one by one and all others as one; for `fkl_renormalised`: k tokens alone.
        top_of: whose likeliest tokens they are.
        packing: run sequences end to end instead of padded, on a CPU with common prefixes once; needs
            `enable_packing(model)`.
        chunk_elements: how many logits may exist at a time; decides memory, not the result.
        head_dtype: of the product of hidden states and head; None is autocast's, else the model's.

    Raises:
        InvalidOption: an option has a wrong type or is out of range.
    """

    temperature: float = setting(1.0, above=0)
    entropies: bool = False
    divergence: Divergence | None = None
    top_k: int = setting(64, low=1)
    top_of: Literal["student", "teacher"] = "student"
    packing: bool = False
    chunk_elements: int = setting(CHUNK_ELEMENTS, low=1)
    head_dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        check_settings(self)


DEFAULT_OPTIONS = ScoringOptions()
"""Log-probabilities alone, at temperature 1."""
